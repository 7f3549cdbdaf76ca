//! Regions and how each is reached.

use super::duplicates;
use super::targets::{self, Stated};
use crate::config::file::{File, Placed, RegionSection, Section};
use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::config::{Host, PeerAddress, Region};
use crate::domain::name::RegionId;
use crate::domain::policy::RegionPolicy;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::time::Duration;

/// Port of the health paths that Route 53's checkers use unless stated.
const HEALTH_PORT: u32 = 80;
/// Further than any region is.
const BIAS_MAX: Duration = Duration::from_secs(10);

pub(super) fn regions(
    file: &File,
    several: bool,
    report: &mut Report,
) -> (BTreeMap<RegionId, Region>, BTreeMap<RegionId, RegionPolicy>) {
    let entries = file.regions.as_ref().map(|entries| entries.0.as_slice()).unwrap_or_default();
    if entries.is_empty() {
        let right = "a table such as [regions.eu-west-1] for each region, the own one among them";
        report.missing_section("regions", "no region", right);
    }
    duplicates("region", entries, report);
    shared(entries, report);
    let mut regions = BTreeMap::new();
    let mut policies = BTreeMap::new();
    for (id, section) in entries {
        let capacity_rps = section.get_ref().capacity.as_ref().map(|placed| placed.value.0);
        let path = format!("regions.{}.bias", id.value);
        let bias = report.duration(&path, &section.get_ref().bias, Duration::ZERO..=BIAS_MAX, Duration::ZERO);
        policies.insert(id.value.clone(), RegionPolicy { capacity_rps, bias });
        regions.insert(id.value.clone(), region(&id.value, section, several, report));
    }
    (regions, policies)
}

fn region(id: &RegionId, section: &Section<RegionSection>, several: bool, report: &mut Report) -> Region {
    let (span, region) = (section.span(), section.get_ref());
    if several {
        let example = format!("peer = \"peer.{id}.example.net:8443\"");
        report.present(&span, "peer", region.peer.is_some(), &example);
    }
    let port = report.whole(
        &format!("regions.{id}.health_port"),
        &region.health_port,
        1..=u32::from(u16::MAX),
        HEALTH_PORT,
    );
    Region {
        peer: peer_address(&span, region, report),
        place: region.place.as_ref().map_or_else(|| id.as_str().to_owned(), |placed| placed.value.0.clone()),
        target: targets::target(&span, &Stated::of_region(region), report),
        health_port: u16::try_from(port).unwrap_or(u16::MAX),
    }
}

/// Where the region's peer listener is, and the name that its certificate must carry.
fn peer_address(span: &Range<usize>, region: &RegionSection, report: &mut Report) -> Option<PeerAddress> {
    let Some(peer) = &region.peer else {
        if let Some(name) = &region.server_name
            && !report.damaged_at(span, "peer")
        {
            let problem = Problem::at(&name.span, "`server_name` without `peer`").here("a name for what?");
            report.add(problem.right("expected `peer`, the address that answers by this name"));
        }
        return None;
    };
    let server_name = match (&region.server_name, &peer.value.host) {
        (Some(name), _) => name.value.as_str().to_owned(),
        (None, Host::Name(name)) => name.as_str().to_owned(),
        (None, Host::Address(_)) => {
            if !report.damaged_at(span, "server_name") {
                let problem =
                    Problem::at(&peer.span, "`peer` is an address, so `server_name` must be stated");
                let right = "expected `server_name`, the DNS name that the peer's certificate carries";
                report.add(problem.here("no name to check the certificate by").right(right));
            }
            return None;
        }
    };
    Some(PeerAddress { at: peer.value.clone(), server_name })
}

/// Two regions behind one address are one region, most likely a line copied and not changed.
fn shared(entries: &[(Placed<RegionId>, Section<RegionSection>)], report: &mut Report) {
    let peers = entries.iter().filter_map(|(id, section)| {
        let peer = section.get_ref().peer.as_ref()?;
        let host = match &peer.value.host {
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.to_string(),
        };
        Some((&id.value, format!("{host}:{}", peer.value.port), &peer.span))
    });
    unique(peers, "peer", report);
    let addresses = entries.iter().flat_map(|(id, section)| {
        let list = section.get_ref().addresses.iter().flat_map(|list| list.get_ref());
        list.map(move |placed| (&id.value, placed.value, &placed.span))
    });
    unique(addresses, "address", report);
    let balancers = entries.iter().filter_map(|(id, section)| {
        let name = section.get_ref().alias.as_ref()?.get_ref().name.as_ref()?;
        Some((&id.value, name.value.to_string(), &name.span))
    });
    unique(balancers, "load balancer", report);
}

fn unique<'a, T: Ord + Display>(
    values: impl Iterator<Item = (&'a RegionId, T, &'a Range<usize>)>,
    what: &str,
    report: &mut Report,
) {
    let mut seen: BTreeMap<T, (&RegionId, &Range<usize>)> = BTreeMap::new();
    for (id, value, span) in values {
        if let Some((first, first_span)) = seen.get(&value) {
            let problem = Problem::at(span, format!("the {what} {value} is listed twice"));
            let problem = problem.here(format!("of `{id}`")).also(first_span, format!("of `{first}`"));
            report.add(problem.right(format!("expected each {what} once, in one region")));
        } else {
            seen.insert(value, (id, span));
        }
    }
}
