//! Zones within a region: requests stay in the edge's own zone while that can carry them.
//!
//! Source: Envoy, "Zone aware routing". Of the requests of an edge, min(1, the zone's share of the
//! endpoints / its share of the edges) stay in its own zone; the rest goes to the zones with more
//! endpoints than edges, in proportion to what they have too many. So every endpoint gets about
//! as much as any other, and no more crosses zones than must.
//!
//! How the edges are spread is not known here: they are taken to be spread evenly over the zones that
//! have endpoints, and the own one.

use crate::domain::endpoint::Endpoint;
use crate::domain::name::Zone;
use crate::domain::snapshot::ZoneShare;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Endpoints in the order of their zones, the own one first, and each zone's part of the requests.
///
/// As they were, without zones, when none of them is in a zone that is known.
pub fn divide(
    own: &Zone,
    endpoints: Arc<[Arc<Endpoint>]>,
    zones: &BTreeMap<SocketAddr, Zone>,
) -> (Arc<[Arc<Endpoint>]>, Arc<[ZoneShare]>) {
    let mut by_zone: BTreeMap<(bool, Option<&Zone>), Vec<&Arc<Endpoint>>> = BTreeMap::new();
    for endpoint in endpoints.iter() {
        let zone = zones.get(&endpoint.address());
        by_zone.entry((zone != Some(own), zone)).or_default().push(endpoint);
    }
    if by_zone.keys().all(|(_, zone)| zone.is_none()) {
        return (endpoints, Arc::new([]));
    }
    let counts: Vec<(Option<&Zone>, usize)> =
        by_zone.iter().map(|((_, zone), list)| (*zone, list.len())).collect();
    let (mut end, mut up_to) = (0, 0.0);
    let mut shares: Vec<ZoneShare> = Vec::new();
    for ((zone, count), part) in counts.iter().zip(parts(own, &counts)) {
        end += count;
        up_to += part;
        shares.push(ZoneShare { zone: zone.cloned(), end, up_to });
    }
    // Sums of parts may fall short of all by a rounding.
    if let Some(last) = shares.last_mut() {
        last.up_to = 1.0;
    }
    (by_zone.into_values().flatten().cloned().collect(), shares.into())
}

/// Each zone's part of the requests, for so many endpoints in each.
fn parts(own: &Zone, counts: &[(Option<&Zone>, usize)]) -> Vec<f64> {
    let all: usize = counts.iter().map(|(_, count)| count).sum();
    let named = counts.iter().filter(|(zone, _)| zone.is_some()).count();
    let with_own = named + usize::from(counts.iter().all(|(zone, _)| *zone != Some(own)));
    let edges = 1.0 / with_own.max(1) as f64;
    let share = |count: usize| count as f64 / all.max(1) as f64;
    let here = counts.iter().find(|(zone, _)| *zone == Some(own)).map_or(0, |(_, count)| *count);
    let stay = (share(here) / edges).min(1.0);
    let residual = |(zone, count): &(Option<&Zone>, usize)| match zone {
        Some(zone) if *zone == own => 0.0,
        Some(_) => (share(*count) - edges).max(0.0),
        // No edge is known to be there.
        None => share(*count),
    };
    let residuals: f64 = counts.iter().map(residual).sum();
    counts
        .iter()
        .map(|counted| match counted.0 {
            Some(zone) if zone == own => stay,
            _ if residuals > 0.0 => (1.0 - stay) * residual(counted) / residuals,
            _ => 0.0,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> Zone {
        Zone::parse(name).unwrap()
    }

    fn shares(own: &str, counts: &[(&str, usize)]) -> Vec<(String, usize, f64)> {
        let (mut endpoints, mut zones) = (Vec::new(), BTreeMap::new());
        for (name, count) in counts {
            for _ in 0..*count {
                let n = u8::try_from(endpoints.len() + 1).unwrap();
                let address = SocketAddr::from(([10, 0, 0, n], 80));
                endpoints.push(Arc::new(Endpoint::new(address)));
                if *name != "-" {
                    zones.insert(address, zone(name));
                }
            }
        }
        let (placed, shares) = divide(&zone(own), endpoints.into(), &zones);
        let mut begin = 0;
        for share in shares.iter() {
            for endpoint in &placed[begin..share.end] {
                assert_eq!(zones.get(&endpoint.address()), share.zone.as_ref());
            }
            begin = share.end;
        }
        let name = |share: &ZoneShare| share.zone.as_ref().map_or("-".to_owned(), Zone::to_string);
        let round = |share: f64| (share * 1000.0).round() / 1000.0;
        shares.iter().map(|share| (name(share), share.end, round(share.up_to))).collect()
    }

    #[test]
    fn the_own_zone_keeps_what_it_can_carry_and_the_rest_goes_where_there_is_more() {
        let row = |name: &str, end, up_to| (name.to_owned(), end, up_to);
        for (own, counts, expected) in [
            ("a", vec![("a", 2), ("b", 2)], vec![row("a", 2, 1.0), row("b", 4, 1.0)]),
            ("a", vec![("a", 1), ("b", 3)], vec![row("a", 1, 0.5), row("b", 4, 1.0)]),
            ("b", vec![("a", 1), ("b", 3)], vec![row("b", 3, 1.0), row("a", 4, 1.0)]),
            // Envoy's second case: what leaves is divided by what the others have too many.
            (
                "a",
                vec![("a", 1), ("b", 4), ("c", 5)],
                vec![row("a", 1, 0.3), row("b", 5, 0.5), row("c", 10, 1.0)],
            ),
            ("z", vec![("a", 2), ("b", 4)], vec![row("a", 2, 0.0), row("b", 6, 1.0)]),
            ("a", vec![("a", 1), ("-", 1)], vec![row("a", 1, 0.5), row("-", 2, 1.0)]),
            ("a", vec![("-", 3)], vec![]),
        ] {
            assert_eq!(shares(own, &counts), expected, "{counts:?} from {own}");
        }
    }

    #[test]
    fn with_edges_spread_evenly_every_endpoint_gets_as_much_as_any_other() {
        let counts = [("a", 1), ("b", 2), ("c", 6)];
        let mut got = BTreeMap::new();
        for own in ["a", "b", "c"] {
            let mut before = 0.0;
            for (name, _, up_to) in shares(own, &counts) {
                *got.entry(name).or_insert(0.0) += (up_to - before) / 3.0;
                before = up_to;
            }
        }
        for (name, count) in counts {
            let even = f64::from(u8::try_from(count).unwrap()) / 9.0;
            assert!((got[name] - even).abs() < 0.002, "{got:?}");
        }
    }
}
