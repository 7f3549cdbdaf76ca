//! Services and their endpoints.

use super::{duplicates, health, kubernetes, limits, upstream_tls};
use crate::config::file::{EndpointEntry, File, Section, ServiceSection};
use crate::config::problems::Problem;
use crate::config::report::{Known, Report};
use crate::config::{HostPort, INSTANCE, Probes, Service, UpstreamProtocol};
use crate::domain::name::{RegionId, ServiceId, Zone};
use crate::domain::policy::Steering;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Three: the second endpoint of the own region and the next region still get a chance.
const ATTEMPTS: u32 = 3;
/// There are no more ports than that.
const CONNECTIONS_MAX: u32 = 65_535;

/// `own` decides whose endpoints are kept; without it none are.
pub(super) fn services(
    file: &File,
    (folder, probes): (&Path, &Probes),
    own: Option<&RegionId>,
    regions: &Known,
    report: &mut Report,
) -> BTreeMap<ServiceId, Service> {
    let entries = file.services.as_ref().map(|entries| entries.0.as_slice()).unwrap_or_default();
    if entries.is_empty() {
        let right = "a table such as [services.web] with endpoints";
        report.missing_section("services", "no service: nothing could be served", right);
    }
    duplicates("service", entries, report);
    let convert = |(id, section): &(_, Section<ServiceSection>)| {
        let id: &crate::config::file::Placed<ServiceId> = id;
        (id.value.clone(), service((&id.value, section), file, (folder, probes), own, regions, report))
    };
    entries.iter().map(convert).collect()
}

fn service(
    (id, section): (&ServiceId, &Section<ServiceSection>),
    file: &File,
    (folder, probes): (&Path, &Probes),
    own: Option<&RegionId>,
    regions: &Known,
    report: &mut Report,
) -> Service {
    let service = section.get_ref();
    let path = |key: &str| format!("services.{id}.{key}");
    let range = Duration::from_millis(1)..=Duration::from_secs(60);
    let connect_timeout =
        report.duration(&path("connect_timeout"), &service.connect_timeout, range, CONNECT_TIMEOUT);
    let range = Duration::from_millis(1)..=Duration::from_secs(3600);
    let read_timeout = report.duration(&path("read_timeout"), &service.read_timeout, range, READ_TIMEOUT);
    let attempts = report.whole(&path("attempts"), &service.attempts, 1..=10, ATTEMPTS);
    capacities(section, regions, report);
    Service {
        endpoints: endpoints(id, section, own, regions, report),
        kubernetes: kubernetes::service(id, section, file, report),
        zones: zones(section, own),
        tls: upstream_tls::tls(id, service, own, folder, report),
        protocol: service.protocol.as_ref().map_or(UpstreamProtocol::Http1, |placed| placed.value),
        health: health::health(id, service, probes, report),
        connect_timeout,
        read_timeout,
        connections_max: connections_max(id, service, report),
        attempts,
        protection: limits::protection(id, service, folder, report),
    }
}

fn connections_max(id: &ServiceId, service: &ServiceSection, report: &mut Report) -> Option<NonZeroU32> {
    let stated = service.max_connections_per_endpoint.as_ref()?;
    if service.protocol.as_ref().is_some_and(|placed| placed.value == UpstreamProtocol::Http2) {
        let wrong = "requests share HTTP/2 connections: their number is not bounded";
        let right =
            "expected `protocol = \"http1\"`, or [services.X.concurrency] to bound requests in flight";
        report.add(Problem::at(&stated.span, wrong).here("has no effect").right(right));
    }
    let path = format!("services.{id}.max_connections_per_endpoint");
    let range = 1..=CONNECTIONS_MAX;
    NonZeroU32::new(report.whole(&path, &service.max_connections_per_endpoint, range, CONNECTIONS_MAX))
}

fn endpoints(
    id: &ServiceId,
    section: &Section<ServiceSection>,
    own: Option<&RegionId>,
    regions: &Known,
    report: &mut Report,
) -> Vec<HostPort> {
    let entries = section.get_ref().endpoints.iter().flat_map(|entries| &entries.get_ref().0);
    let mut kept = Vec::new();
    let mut served = false;
    for (region, list) in entries {
        report.refers(regions, region);
        served |= !list.get_ref().is_empty();
        let mut seen = BTreeSet::new();
        for endpoint in list.get_ref() {
            if !seen.insert(&endpoint.at.value) {
                let wrong = format!("service `{id}` lists an endpoint twice in `{}`", region.value);
                let problem = Problem::at(&endpoint.at.span, wrong).here("again here");
                report.add(problem.right("expected each endpoint once"));
            }
        }
        if Some(&region.value) == own {
            kept.extend(list.get_ref().iter().map(|endpoint| endpoint.at.value.clone()));
        }
    }
    served |= section.get_ref().kubernetes.is_some();
    let damaged = report.damaged_at(&section.span(), "endpoints")
        || report.damaged_at(&section.span(), "kubernetes")
        || section.get_ref().endpoints.as_ref().is_some_and(|table| report.damaged_inside(&table.span()));
    if !served && !damaged {
        let problem = Problem::at(&section.span(), format!("service `{id}` is served nowhere"));
        let right = "expected endpoints in one region at least, such as \
                     endpoints.eu-west-1 = [\"web.example.net:8080\"], or kubernetes = \"shop/web:http\"";
        report.add(problem.here("no endpoint in any region").right(right));
    }
    kept
}

/// Zones of the own region's endpoints.
fn zones(section: &Section<ServiceSection>, own: Option<&RegionId>) -> BTreeMap<HostPort, Zone> {
    let entries = section.get_ref().endpoints.iter().flat_map(|entries| &entries.get_ref().0);
    let own = entries.filter(|(region, _)| Some(&region.value) == own);
    let zone =
        |endpoint: &EndpointEntry| Some((endpoint.at.value.clone(), endpoint.zone.as_ref()?.value.clone()));
    own.flat_map(|(_, list)| list.get_ref().iter().filter_map(zone)).collect()
}

fn capacities(section: &Section<ServiceSection>, regions: &Known, report: &mut Report) {
    for (region, _) in section.get_ref().capacity.iter().flat_map(|entries| &entries.get_ref().0) {
        report.refers(regions, region);
    }
}

/// What the own region's edges steer by: where they are, and what its services can serve.
pub(super) fn steering(
    file: &File,
    zone: Option<&str>,
    own: Option<&RegionId>,
    report: &mut Report,
) -> Steering {
    let services = file.services.as_ref().map(|entries| entries.0.as_slice()).unwrap_or_default();
    let capacity = |(id, section): &(_, Section<ServiceSection>)| {
        let id: &crate::config::file::Placed<ServiceId> = id;
        let entries = section.get_ref().capacity.iter().flat_map(|entries| &entries.get_ref().0);
        let own = entries.into_iter().find(|(region, _)| Some(&region.value) == own)?;
        Some((id.value.clone(), own.1.value.0))
    };
    let stated = file.edge.as_ref().and_then(|edge| edge.get_ref().zone.as_ref());
    // Still there, it was not told: zones play no part.
    let stated = stated.filter(|placed| placed.value.as_str() != INSTANCE);
    let zone = match zone.filter(|text| !text.is_empty()) {
        Some(INSTANCE) => None,
        None => stated.map(|placed| placed.value.clone()),
        Some(text) => Zone::parse(text)
            .inspect_err(|error| {
                let problem = Problem::outside(format!("--zone or PROXIMA_ZONE: {error}"));
                report.add(problem.right("expected the zone of this edge, such as eu-west-1a"));
            })
            .ok(),
    };
    Steering { capacity_rps: services.iter().filter_map(capacity).collect(), zone }
}
