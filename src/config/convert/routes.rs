//! Routes: which requests go where, and what happens to them on the way.

mod action;
mod guarded;
pub(super) mod matching;
mod overlaps;
pub(super) mod policy;
mod sessions;

use crate::config::Service;
use crate::config::file::{File, RouteSection, Section};
use crate::config::problems::Problem;
use crate::config::report::{Known, Report};
use crate::domain::name::{RouteId, ServiceId};
use crate::domain::routing::{AmbiguousPaths, HostPattern, PathPattern, Pattern, Route, RouteTable};
use std::collections::BTreeMap;
use std::ops::Range;

/// A route and where its hosts stand in the file, one place for each.
struct Written {
    route: Route,
    places: Vec<Range<usize>>,
}

pub(super) fn routes(
    file: &File,
    services: (&BTreeMap<ServiceId, Service>, &Known),
    limits: &Known,
    report: &mut Report,
) -> Option<RouteTable> {
    let (services, known) = services;
    let sections = file.routes.as_deref().unwrap_or_default();
    if sections.is_empty() {
        let right = "[[routes]] with name and service";
        report.missing_section("routes", "no route: every request would be refused", right);
    }
    let mut ids: BTreeMap<RouteId, Range<usize>> = BTreeMap::new();
    let (mut routes, mut places) = (Vec::new(), Vec::new());
    for section in sections {
        let Some(written) = route(section, known, limits, report) else { continue };
        if let Some(placed) = &section.get_ref().name
            && let Some(first) = ids.insert(placed.value.clone(), placed.span.clone())
        {
            let problem = Problem::at(&placed.span, format!("two routes are named `{}`", placed.value));
            let problem = problem.here("again here").also(&first, "first here");
            report.add(problem.right("expected a name of its own for each: problems tell them apart by it"));
        }
        routes.push(written.route);
        places.push(written.places);
    }
    overlaps::tell(&routes, &places, report);
    sessions::tell(&routes, &places, services, report);
    let expressions: Vec<(Vec<HostPattern>, Range<usize>)> = routes
        .iter()
        .zip(&places)
        .filter(|(route, _)| matches!(route.path, PathPattern::Regex(_)))
        .filter_map(|(route, places)| Some((route.hosts.clone(), places.first()?.clone())))
        .collect();
    let stated = file.edge.as_ref().and_then(|edge| edge.get_ref().ambiguous_paths.as_ref());
    if stated.is_none() {
        guarded::tell(&routes, &places, report);
    }
    let ambiguous = stated.map_or_else(AmbiguousPaths::default, |placed| placed.value);
    match RouteTable::new(routes) {
        Ok(table) => Some(table.with_paths(ambiguous)),
        Err(error) => {
            let place = expressions.into_iter().find(|(hosts, _)| hosts.contains(&error.host));
            let place = place.map_or(0..0, |(_, place)| place);
            let problem = Problem::at(&place, error.to_string()).here(shown(&error.host));
            report.add(problem.right("expected fewer or shorter expressions; prefixes cost next to nothing"));
            None
        }
    }
}

fn route(
    section: &Section<RouteSection>,
    services: &Known,
    limits: &Known,
    report: &mut Report,
) -> Option<Written> {
    let (span, route) = (section.span(), section.get_ref());
    let id = report.required(&span, "name", &route.name, "name = \"web\"");
    let hosts = hosts(section, report);
    let path = matching::path(section, report);
    let conditions = matching::conditions(section, report);
    let action = action::action(section, path.as_ref(), services, report);
    let response_headers = action::changes(route.response_headers.as_ref(), report);
    let (hosts, places) = hosts.into_iter().unzip();
    let route = Route {
        id: id?,
        hosts,
        path: path?,
        conditions,
        action: action?,
        response_headers,
        policy: policy::policy(section, limits, report),
    };
    Some(Written { route, places })
}

fn hosts(section: &Section<RouteSection>, report: &mut Report) -> Vec<(HostPattern, Range<usize>)> {
    let (span, route) = (section.span(), section.get_ref());
    let damaged = report.damaged_at(&span, "hosts");
    let Some(list) = &route.hosts else {
        return if damaged { Vec::new() } else { vec![(HostPattern::Any, span)] };
    };
    if list.get_ref().is_empty() && !damaged {
        let problem = Problem::at(&list.span(), "a route without hosts matches nothing").here("empty");
        report.add(problem.right("expected a host, or no `hosts` at all for any host"));
    }
    let mut hosts: Vec<(HostPattern, Range<usize>)> = Vec::new();
    for placed in list.get_ref() {
        if let Some((host, first)) = hosts.iter().find(|(host, _)| *host == placed.value) {
            let problem = Problem::at(&placed.span, format!("a route names {} twice", shown(host)));
            let problem = problem.here("again here").also(first, "first here");
            report.add(problem.right("expected each host once"));
            continue;
        }
        hosts.push((placed.value.clone(), placed.span.clone()));
    }
    hosts
}

/// The expression, or the problem with it.
pub(super) fn pattern(text: &str, place: &Range<usize>, report: &mut Report) -> Option<Pattern> {
    let problem = match Pattern::parse(text) {
        Ok(pattern) => return Some(pattern),
        Err(problem) => problem,
    };
    let told = Problem::at(place, "not a regular expression that can be used").here(problem.to_string());
    report.add(told.right("expected one such as \"/users/[0-9]+\"; see https://docs.rs/regex/#syntax"));
    None
}

fn shown(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Wildcard(suffix) => format!("*{suffix}"),
        HostPattern::Any => "any host".to_owned(),
    }
}
