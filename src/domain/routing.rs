//! Which route takes a request, and what it does with it: all as data.
//!
//! It refuses to know transports and HTTP types: requests come in as [`Asked`],
//! and what is to be done goes out as an [`Action`].
//!
//! # Precedence
//! Of all routes that match a request, the first by these rules takes it, each
//! rule deciding only what the ones before it left open:
//!
//! 1. **Host**: an exact one, then wildcards (longest first), then routes for any host.
//! 2. **Path**: an exact one, then regular expressions in the order of the file, then
//!    the longest prefix. Equal expressions count as one, at its first place.
//! 3. **Conditions**: more of them first. `scheme` and `methods` count one each, every
//!    header and every query parameter counts one.
//! 4. **Order of the file**: earlier first.
//!
//! A host whose routes all refuse a request **falls through** to the wildcards and to
//! any host. So a route for everyone (a health page, a challenge of a certificate
//! authority) is written once and reaches every host, and a new route of one host
//! never hides those. A host that is to serve nothing else says so with a last route
//! of its own, `path_prefix = "/"` with an answer of 404.
//!
//! Hosts and paths are compared in their normal form: see [`normal_path`]. A prefix
//! matches whole segments: `/api` matches `/api` and `/api/x`, not `/apiary`. A regular
//! expression matches the whole path or nothing.

use crate::domain::name::RouteId;

pub use action::{Action, Backends, Forward, HostChange, PathChange, RedirectFrom, Rewrite, Scheme, Split};
pub use action::{Redirect, RedirectStatus, Respond};
pub use condition::{Asked, Conditions, Field, Method, Methods, Param, ParamTest, RequestHeaders, ValueTest};
pub use explain::{Miss, RouteMatch, RouteMiss};
pub use fields::{FieldName, FieldValue, HeaderChanges, INTERNAL_PREFIX};
pub use overlap::{Overlap, Relation, overlaps};
pub use path::{AmbiguousPaths, ExactPath, PathPattern, PathPrefix, PathProblem, normal_path};
pub use pattern::{Pattern, PatternProblem};
pub use policy::{Access, ClientCertificate, Retries, RouteHedging, RoutePolicy, RouteTimeouts};
pub use table::{RouteTable, TooManyPatterns};

mod action;
mod condition;
mod explain;
mod fields;
mod lookup;
mod overlap;
mod path;
mod pattern;
mod policy;
mod table;

#[cfg(test)]
mod properties;

/// `www.example.com.:8443` -> `www.example.com` and 8443; brackets of an IPv6 address stay.
pub fn host_of(authority: &str) -> (&str, Option<u16>) {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, port.parse().ok()),
        _ => (authority, None),
    };
    (host.strip_suffix('.').unwrap_or(host), port)
}

/// A host that a route answers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// `www.example.com`, lower case, without a port.
    Exact(String),
    /// `*.example.com`: one or more labels before the suffix `.example.com`.
    Wildcard(String),
    Any,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub id: RouteId,
    pub hosts: Vec<HostPattern>,
    pub path: PathPattern,
    pub conditions: Conditions,
    pub action: Action,
    /// Of every answer that the route leads to, the edge's own among them.
    pub response_headers: HeaderChanges,
    pub policy: RoutePolicy,
}

impl Route {
    /// A route without conditions or changes.
    pub fn new(id: RouteId, hosts: Vec<HostPattern>, path: PathPattern, action: Action) -> Self {
        Self {
            id,
            hosts,
            path,
            conditions: Conditions::default(),
            action,
            response_headers: HeaderChanges::default(),
            policy: RoutePolicy::default(),
        }
    }
}
