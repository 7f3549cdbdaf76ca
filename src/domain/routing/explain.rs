//! Why a route takes a request, and why others do not: what `find` does, told.

use super::{Asked, HostPattern, PathPattern, Route, RouteTable};
use crate::domain::name::RouteId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Routes that are told besides the one that takes the request.
const OTHERS_MAX: usize = 12;

/// Which route takes a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteMatch {
    pub route: Option<RouteId>,
    /// What of the route took it, such as `host www.example.com, prefix /api, 2 conditions`.
    pub by: Option<String>,
    /// In the order in which they would be tried, a dozen at most.
    pub others: Vec<RouteMiss>,
    /// Routes that are not told: there are too many of them.
    pub untold: usize,
}

/// A route that came near.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteMiss {
    pub route: RouteId,
    pub why: Miss,
    /// The condition, host or path that does not hold.
    pub detail: String,
}

/// Why a route that came near did not take the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Miss {
    /// Host and path are right, and it stands before the one that took it: a condition does not hold.
    Condition,
    /// It would take it, but another one comes first.
    Later,
    /// The path is right, the host is not.
    Host,
    /// The host is right, the path is not.
    Path,
}

impl RouteTable {
    /// Which route takes a request, and which came near.
    pub fn explain(&self, asked: &Asked<'_>) -> (Option<&Arc<Route>>, RouteMatch) {
        let found = self.find(asked);
        let mut others: Vec<RouteMiss> = Vec::new();
        for route in self.candidates(asked.host, asked.path) {
            // By several of its hosts it may stand here more than once.
            let told = others.iter().any(|other| other.route == route.id);
            if told || found.is_some_and(|found| Arc::ptr_eq(found, route)) {
                continue;
            }
            let (why, detail) = match route.conditions.broken_by(asked) {
                Some(broken) => (Miss::Condition, broken),
                None => (Miss::Later, conditions(route)),
            };
            others.push(RouteMiss { route: route.id.clone(), why, detail });
        }
        // Only where nothing took it is it asked what else was meant.
        if found.is_none() {
            others.extend(self.routes().iter().filter_map(|route| near(route, asked)));
        }
        let untold = others.len().saturating_sub(OTHERS_MAX);
        others.truncate(OTHERS_MAX);
        let by = found.map(|route| took(route, asked));
        (found, RouteMatch { route: found.map(|route| route.id.clone()), by, others, untold })
    }
}

fn near(route: &Route, asked: &Asked<'_>) -> Option<RouteMiss> {
    let host = route.hosts.iter().any(|host| host_matches(host, asked.host));
    let path = path_matches(&route.path, asked.path);
    let (why, detail) = match (host, path) {
        (true, false) => (Miss::Path, path_text(&route.path)),
        (false, true) => {
            let hosts: Vec<String> = route.hosts.iter().map(host_text).collect();
            (Miss::Host, hosts.join(", "))
        }
        _ => return None,
    };
    Some(RouteMiss { route: route.id.clone(), why, detail })
}

fn took(route: &Route, asked: &Asked<'_>) -> String {
    let host = route.hosts.iter().filter(|host| host_matches(host, asked.host)).map(host_text).next();
    let host = host.unwrap_or_else(|| "any host".to_owned());
    format!("{host}, {}, {}", path_text(&route.path), conditions(route))
}

fn conditions(route: &Route) -> String {
    match route.conditions.count() {
        0 => "no conditions".to_owned(),
        1 => "1 condition".to_owned(),
        count => format!("{count} conditions"),
    }
}

fn host_matches(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Exact(name) => name == host,
        HostPattern::Wildcard(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        HostPattern::Any => true,
    }
}

fn host_text(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(name) => format!("host {name}"),
        HostPattern::Wildcard(suffix) => format!("host *{suffix}"),
        HostPattern::Any => "any host".to_owned(),
    }
}

fn path_matches(pattern: &PathPattern, path: &str) -> bool {
    match pattern {
        PathPattern::Exact(exact) => exact.as_str() == path,
        PathPattern::Prefix(prefix) => prefix.rest(path).is_some(),
        PathPattern::Regex(pattern) => pattern.matches(path.as_bytes()),
    }
}

fn path_text(pattern: &PathPattern) -> String {
    match pattern {
        PathPattern::Exact(path) => format!("path {}", path.as_str()),
        PathPattern::Prefix(prefix) => format!("prefix {}", prefix.as_str()),
        PathPattern::Regex(pattern) => format!("expression {}", pattern.as_str()),
    }
}
