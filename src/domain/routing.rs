//! Which route: by host, then by the longest path prefix.
//!
//! Precedence: an exact host before a wildcard (longer suffix first) before
//! "any host"; within a host the longest prefix wins. A prefix matches whole
//! path segments: `/api` matches `/api` and `/api/x`, not `/apiary`.

use crate::domain::name::{RouteId, ServiceId};
use std::collections::BTreeMap;

/// A host that a route answers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// `www.example.com`, lower case, without a port.
    Exact(String),
    /// `*.example.com`: one or more labels before the suffix `.example.com`.
    Wildcard(String),
    Any,
}

/// A path prefix; starts with `/` and ends with `/` only when it is the root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathPrefix(String);

impl PathPrefix {
    /// `None` when the text does not begin with `/` or holds `?`, `#` or a space.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = text.starts_with('/') && !text.contains(['?', '#', ' ']);
        let trimmed = text.trim_end_matches('/');
        valid.then(|| Self(if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() }))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn matches(&self, path: &str) -> bool {
        self.0 == "/"
            || path.strip_prefix(self.0.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// One line of the routing table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub id: RouteId,
    pub hosts: Vec<HostPattern>,
    pub prefix: PathPrefix,
    pub service: ServiceId,
}

/// All routes, indexed by host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
    exact: BTreeMap<String, Vec<usize>>,
    /// By suffix, longest first.
    wildcard: Vec<(String, Vec<usize>)>,
    any: Vec<usize>,
}

/// Two routes that match the same host and prefix: the later one could never win.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("routes {first} and {second} match the same host and path prefix")]
pub struct Overlap {
    pub first: RouteId,
    pub second: RouteId,
}

impl RouteTable {
    /// # Errors
    /// `Overlap` when two routes match the same host pattern and prefix.
    pub fn new(routes: Vec<Route>) -> Result<Self, Overlap> {
        let mut table = Self { routes, ..Self::default() };
        let mut seen: BTreeMap<(HostPattern, PathPrefix), RouteId> = BTreeMap::new();
        let mut wildcard: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, route) in table.routes.iter().enumerate() {
            for host in &route.hosts {
                let key = (host.clone(), route.prefix.clone());
                if let Some(first) = seen.insert(key, route.id.clone()) {
                    return Err(Overlap { first, second: route.id.clone() });
                }
                match host {
                    HostPattern::Exact(name) => table.exact.entry(name.clone()).or_default().push(index),
                    HostPattern::Wildcard(suffix) => wildcard.entry(suffix.clone()).or_default().push(index),
                    HostPattern::Any => table.any.push(index),
                }
            }
        }
        let routes = &table.routes;
        let by_length = |indices: &mut Vec<usize>| {
            indices.sort_by_key(|i| std::cmp::Reverse(routes.get(*i).map_or(0, |r| r.prefix.0.len())));
        };
        table.exact.values_mut().for_each(by_length);
        by_length(&mut table.any);
        table.wildcard = wildcard.into_iter().collect();
        table.wildcard.iter_mut().for_each(|(_, indices)| by_length(indices));
        table.wildcard.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        Ok(table)
    }

    /// The route for a host (lower case, without a port) and a path (without the query).
    pub fn find(&self, host: &str, path: &str) -> Option<&Route> {
        let first = |indices: &[usize]| {
            indices.iter().filter_map(|i| self.routes.get(*i)).find(|r| r.prefix.matches(path))
        };
        self.exact
            .get(host)
            .and_then(|indices| first(indices))
            .or_else(|| {
                self.wildcard
                    .iter()
                    .filter(|(suffix, _)| host.len() > suffix.len() && host.ends_with(suffix.as_str()))
                    .find_map(|(_, indices)| first(indices))
            })
            .or_else(|| first(&self.any))
    }

    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(id: &str, host: HostPattern, prefix: &str) -> Route {
        Route {
            id: RouteId::parse(id).unwrap(),
            hosts: vec![host],
            prefix: PathPrefix::parse(prefix).unwrap(),
            service: ServiceId::parse("web").unwrap(),
        }
    }

    #[test]
    fn the_most_specific_host_then_the_longest_prefix_wins() {
        let exact = |h: &str| HostPattern::Exact(h.into());
        let wild = |h: &str| HostPattern::Wildcard(h.into());
        let table = RouteTable::new(vec![
            route("any", HostPattern::Any, "/"),
            route("exact", exact("www.example.com"), "/"),
            route("exact-api", exact("www.example.com"), "/api/"),
            route("wild", wild(".example.com"), "/"),
            route("wild-deep", wild(".deep.example.com"), "/"),
            route("only-x", exact("x.example.com"), "/x"),
        ])
        .unwrap();
        for (host, path, expected) in [
            ("www.example.com", "/", "exact"),
            ("www.example.com", "/api", "exact-api"),
            ("www.example.com", "/api/v1", "exact-api"),
            ("www.example.com", "/apiary", "exact"),
            ("a.example.com", "/api", "wild"),
            ("a.deep.example.com", "/", "wild-deep"),
            ("example.com", "/", "any"),
            ("x.example.com", "/x/1", "only-x"),
            ("x.example.com", "/y", "wild"),
            ("", "/", "any"),
        ] {
            let found = table.find(host, path).map(|r| r.id.as_str().to_owned());
            assert_eq!(found.as_deref(), Some(expected), "{host} {path}");
        }
    }

    #[test]
    fn a_route_that_could_never_win_is_an_error() {
        let overlap = RouteTable::new(vec![
            route("one", HostPattern::Any, "/api"),
            route("two", HostPattern::Any, "/api/"),
        ]);
        assert!(overlap.is_err());
    }
}
