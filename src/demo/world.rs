//! Where everything is: regions as blocks of loopback addresses, and the
//! measured round trips between them.
//!
//! Region `i` has the block `127.(10+i).0.0/16`; whoever binds an address of a
//! block is in that place, for the relay (delay) and for the zone server
//! (nearest region). Linux answers on all of `127.0.0.0/8` without set-up.

use crate::rtt_table::{self, RttTable};
use ipnet::{IpNet, Ipv4Net};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Regions by the order in which a growing world gets them: continents first.
///
/// Each region has a single nearest neighbour in a world of any size but the
/// whole table, where two are equally near to us-east-1.
const ORDER: [&str; 14] = [
    "us-east-1",
    "eu-west-2",
    "ap-northeast-1",
    "us-west-2",
    "eu-central-1",
    "ap-south-1",
    "sa-east-1",
    "ap-southeast-2",
    "ap-southeast-1",
    "ca-central-1",
    "eu-west-1",
    "us-west-1",
    "ap-northeast-2",
    "us-east-2",
];

/// Fewest and most regions of a world.
pub const REGIONS_MIN: usize = 4;
pub const REGIONS_MAX: usize = ORDER.len();

/// The zone, and the name in it that users ask for.
pub const ZONE: &str = "example.test";
pub const NAME: &str = "www.example.test";

/// Round trip from somewhere outside every place (Route 53's checkers).
const OUTSIDE_RTT: Duration = Duration::from_millis(20);

/// A region, by its position in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(usize);

impl Region {
    pub const fn index(self) -> usize {
        self.0
    }

    /// `REGIONS_MAX` fits an octet, so nothing is lost.
    fn octet(self) -> u8 {
        10 + u8::try_from(self.0).unwrap_or(u8::MAX - 10)
    }

    fn host(self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.octet(), third, fourth)
    }

    /// The edge, its admin and peer listeners, and the service.
    pub fn machine(self) -> Ipv4Addr {
        self.host(0, 1)
    }

    /// What DNS gives to users: the relay in front of the edge.
    pub fn public(self) -> Ipv4Addr {
        self.host(0, 10)
    }

    /// A user who lives there. Users are numbered from zero.
    pub fn user(self, number: u8) -> Ipv4Addr {
        self.host(1, number.saturating_add(1))
    }

    /// Where the demo's own DNS queries of that place come from.
    pub fn observer(self) -> Ipv4Addr {
        self.host(2, 1)
    }

    /// The relay on the way from this region's edge to another one's peer listener.
    pub fn way_to(self, other: Self) -> Ipv4Addr {
        self.host(200, other.octet())
    }

    fn block(self) -> Ipv4Net {
        // A prefix of 16 is always valid; the fallback is the single address.
        Ipv4Net::new(self.host(0, 0), 16).unwrap_or_else(|_| Ipv4Net::from(self.host(0, 0)))
    }
}

/// The regions of this run, and how far they are from one another.
#[derive(Debug, Clone)]
pub struct World {
    names: Vec<&'static str>,
    rtts: Vec<Vec<Duration>>,
}

/// Why there is no such world.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the measured RTT table is damaged")]
    Table(#[from] rtt_table::Error),
    #[error("the measured RTT table does not hold {0} to {1}")]
    Missing(&'static str, &'static str),
}

impl World {
    /// The first `size` regions of the order, by the table that the binary carries.
    ///
    /// # Errors
    /// The table is damaged or lacks a region; a test reads it, so never in a tested build.
    pub fn new(size: usize) -> Result<Self, Error> {
        let table = RttTable::measured()?;
        let names: Vec<&'static str> = ORDER.into_iter().take(size).collect();
        let rtt = |a: &'static str, b: &'static str| table.rtt(a, b).ok_or(Error::Missing(a, b));
        let rtts = names
            .iter()
            .map(|a| names.iter().map(|b| rtt(a, b)).collect())
            .collect::<Result<Vec<Vec<Duration>>, Error>>()?;
        Ok(Self { names, rtts })
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub fn regions(&self) -> impl DoubleEndedIterator<Item = Region> + use<> {
        (0..self.names.len()).map(Region)
    }

    pub fn name(&self, region: Region) -> &'static str {
        self.names.get(region.0).copied().unwrap_or("?")
    }

    pub fn named(&self, name: &str) -> Option<Region> {
        self.names.iter().position(|n| *n == name).map(Region)
    }

    /// The measured round trip between two regions; zero within one.
    pub fn rtt(&self, a: Region, b: Region) -> Duration {
        self.rtts.get(a.0).and_then(|row| row.get(b.0)).copied().unwrap_or_default()
    }

    pub fn rtt_max(&self) -> Duration {
        self.rtts.iter().flatten().copied().max().unwrap_or_default()
    }

    /// Which region's block holds the address.
    pub fn place(&self, address: IpAddr) -> Option<Region> {
        let IpAddr::V4(address) = address else { return None };
        self.regions().find(|region| region.block().contains(&address))
    }

    /// Which region users enter at the address.
    pub fn entered(&self, address: Ipv4Addr) -> Option<Region> {
        self.regions().find(|region| region.public() == address)
    }

    /// Round trip between whoever has the address and a region.
    pub fn rtt_from(&self, address: IpAddr, to: Region) -> Duration {
        self.place(address).map_or(OUTSIDE_RTT, |from| self.rtt(from, to))
    }

    /// The region nearest to a place among those that `keep` names; of equally near ones, all.
    pub fn nearest(&self, place: Region, keep: impl Fn(Region) -> bool) -> Vec<Region> {
        let near = self.regions().filter(|r| keep(*r)).map(|r| self.rtt(place, r)).min();
        self.regions().filter(|r| keep(*r) && Some(self.rtt(place, *r)) == near).collect()
    }

    /// Address blocks with their region, for the zone server.
    pub fn places(&self) -> Vec<(IpNet, String)> {
        self.regions().map(|r| (IpNet::V4(r.block()), self.name(r).to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_region_lies_in_its_place() {
        let world = World::new(REGIONS_MAX).unwrap();
        for region in world.regions() {
            for address in [
                region.machine(),
                region.public(),
                region.user(0),
                region.user(250),
                region.observer(),
                region.way_to(Region(13)),
            ] {
                assert_eq!(world.place(address.into()), Some(region), "{address}");
            }
            assert_eq!(world.entered(region.public()), Some(region));
        }
        assert_eq!(world.place("127.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn every_region_has_one_nearest_neighbour() {
        for size in REGIONS_MIN..REGIONS_MAX {
            let world = World::new(size).unwrap();
            for region in world.regions() {
                let near = world.nearest(region, |other| other != region);
                let names: Vec<_> = near.iter().map(|r| world.name(*r)).collect();
                assert_eq!(near.len(), 1, "{size} regions, from {}: {names:?}", world.name(region));
            }
        }
    }

    #[test]
    fn a_place_is_nearest_to_its_own_region_until_that_is_gone() {
        let world = World::new(5).unwrap();
        let london = world.named("eu-west-2").unwrap();
        assert_eq!(world.nearest(london, |_| true), vec![london]);
        let next = world.nearest(london, |r| r != london);
        assert_eq!(next, vec![world.named("eu-central-1").unwrap()]);
        assert_eq!(world.rtt_from(london.user(3).into(), next[0]), Duration::from_millis(18));
    }

    #[test]
    fn in_a_small_world_the_nearest_neighbour_leads_by_more_than_the_switch_margin() {
        let margin = crate::domain::selection::Margin::default();
        for size in [4, 5] {
            let world = World::new(size).unwrap();
            for region in world.regions() {
                let mut rtts: Vec<_> =
                    world.regions().filter(|r| *r != region).map(|r| world.rtt(region, r)).collect();
                rtts.sort();
                let lead = rtts[1] - rtts[0];
                assert!(
                    lead > margin.absolute && lead > rtts[1].mul_f64(margin.relative),
                    "{}",
                    world.name(region)
                );
            }
        }
    }
}
