//! Routes: which requests go to which service.

use crate::config::file::{File, RouteSection, Section};
use crate::config::problems::Problem;
use crate::config::report::{Known, Report};
use crate::domain::name::RouteId;
use crate::domain::routing::{HostPattern, PathPrefix, Route, RouteTable};
use std::collections::BTreeMap;
use std::ops::Range;

/// What each pair of host and prefix was claimed by, and where.
type Claims = BTreeMap<(HostPattern, PathPrefix), (String, Range<usize>)>;

pub(super) fn routes(file: &File, services: &Known, report: &mut Report) -> Option<RouteTable> {
    let sections = file.routes.as_deref().unwrap_or_default();
    if sections.is_empty() {
        let right = "[[routes]] with name and service";
        report.missing_section("routes", "no route: every request would be refused", right);
    }
    let mut ids: BTreeMap<RouteId, Range<usize>> = BTreeMap::new();
    let mut claims = Claims::new();
    let mut routes = Vec::new();
    for section in sections {
        let Some(route) = route(section, services, &mut claims, report) else { continue };
        if let Some(placed) = &section.get_ref().name
            && let Some(first) = ids.insert(placed.value.clone(), placed.span.clone())
        {
            let problem = Problem::at(&placed.span, format!("two routes are named `{}`", placed.value));
            let problem = problem.here("again here").also(&first, "first here");
            report.add(problem.right("expected a name of its own for each: problems tell them apart by it"));
        }
        routes.push(route);
    }
    // Its one error, an overlap, was told above, with both places.
    RouteTable::new(routes).ok()
}

fn route(
    section: &Section<RouteSection>,
    services: &Known,
    claims: &mut Claims,
    report: &mut Report,
) -> Option<Route> {
    let (span, route) = (section.span(), section.get_ref());
    let id = report.required(&span, "name", &route.name, "name = \"web\"");
    let service = report.required(&span, "service", &route.service, "service = \"web\"");
    if let Some(placed) = &route.service {
        report.refers(services, placed);
    }
    let root = || PathPrefix::parse("/");
    let prefix = route.path_prefix.as_ref().map(|placed| placed.value.clone()).or_else(root)?;
    let hosts: Vec<(HostPattern, Range<usize>)> = match &route.hosts {
        Some(list) => list.get_ref().iter().map(|p| (p.value.clone(), p.span.clone())).collect(),
        None if report.damaged_at(&span, "hosts") => Vec::new(),
        None => vec![(HostPattern::Any, span.clone())],
    };
    if let Some(list) = &route.hosts
        && list.get_ref().is_empty()
        && !report.damaged_at(&span, "hosts")
    {
        let problem = Problem::at(&list.span(), "a route without hosts matches nothing").here("empty");
        report.add(problem.right("expected a host, or no `hosts` at all for any host"));
    }
    let id = id?;
    for (host, place) in &hosts {
        let key = (host.clone(), prefix.clone());
        if let Some((first, first_place)) = claims.get(&key) {
            let wrong = format!(
                "routes `{first}` and `{id}` both match {} with paths from {}",
                shown(host),
                prefix.as_str()
            );
            let problem = Problem::at(place, wrong).here("again here").also(first_place, "first here");
            report.add(problem.right("expected another host or `path_prefix`: one of them could never win"));
        } else {
            claims.insert(key, (id.to_string(), place.clone()));
        }
    }
    let hosts = hosts.into_iter().map(|(host, _)| host).collect();
    Some(Route { id, hosts, prefix, service: service? })
}

fn shown(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Wildcard(suffix) => format!("*{suffix}"),
        HostPattern::Any => "any host".to_owned(),
    }
}
