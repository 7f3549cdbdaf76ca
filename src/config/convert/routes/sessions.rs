//! Services whose session cookies would overwrite each other.
//!
//! A cookie of ours is for all paths of a host, and each service writes it in its own hand. Where
//! one host leads to two services with one name for it, every change between them costs a
//! session its endpoint. Only equal hosts are compared.

use super::shown;
use crate::config::Service;
use crate::config::limits::AffinityBy;
use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::domain::name::ServiceId;
use crate::domain::routing::{Action, Backends, HostPattern, Route};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// `places`: of each route's hosts. A pair of services is told once.
pub(super) fn tell(
    routes: &[Route],
    places: &[Vec<Range<usize>>],
    services: &BTreeMap<ServiceId, Service>,
    report: &mut Report,
) {
    let mut seen: BTreeMap<(&HostPattern, &str), (&ServiceId, &Route, &Range<usize>)> = BTreeMap::new();
    let mut told = BTreeSet::new();
    for (route, places) in routes.iter().zip(places) {
        let cookies: Vec<_> = backends(route).into_iter().filter_map(|id| cookie(id, services)).collect();
        for (host, place) in route.hosts.iter().zip(places) {
            for (service, name) in &cookies {
                let (first, by, before) = *seen.entry((host, name)).or_insert((service, route, place));
                if first != *service && told.insert((first, *service)) {
                    let wrong = format!(
                        "services `{first}` and `{service}` overwrite each other's cookie `{name}` at {}",
                        shown(host)
                    );
                    let problem = Problem::at(place, wrong).here(format!("route `{}`", route.id));
                    let problem = if by.id == route.id {
                        problem
                    } else {
                        problem.also(before, format!("route `{}`", by.id))
                    };
                    let right = format!("expected another `cookie` in [services.{service}.affinity]");
                    report.add(problem.right(right));
                }
            }
        }
    }
}

fn backends(route: &Route) -> Vec<&ServiceId> {
    match &route.action {
        Action::Forward(forward) => match &forward.to {
            Backends::Service(service) => vec![service],
            Backends::Split(split) => split.services().collect(),
        },
        Action::Redirect(_) | Action::Respond(_) => Vec::new(),
    }
}

/// The service and the cookie that it keeps its sessions by.
fn cookie<'r, 's>(
    id: &'r ServiceId,
    services: &'s BTreeMap<ServiceId, Service>,
) -> Option<(&'r ServiceId, &'s str)> {
    match &services.get(id)?.protection.affinity.as_ref()?.by {
        AffinityBy::Cookie { name, .. } => Some((id, name)),
        AffinityBy::Client | AffinityBy::Header(_) => None,
    }
}
