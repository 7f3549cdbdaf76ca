//! What a route does with a request that it takes.
//!
//! Source of redirects: RFC 9110, 15.4.

use super::fields::{FieldValue, HeaderChanges};
use super::path::{PathPrefix, PathProblem, normal_path};
use super::pattern::Pattern;
use crate::domain::name::ServiceId;
use std::borrow::Cow;

/// How a client reached a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// What a route does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Forward(Forward),
    Redirect(Redirect),
    Respond(Respond),
}

impl Action {
    /// Everything to one service, nothing changed.
    pub fn service(service: ServiceId) -> Self {
        let to = Backends::Service(service);
        Self::Forward(Forward { to, rewrite: Rewrite::default(), request_headers: HeaderChanges::default() })
    }
}

/// Sends the request to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    pub to: Backends,
    pub rewrite: Rewrite,
    pub request_headers: HeaderChanges,
}

/// Which service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backends {
    Service(ServiceId),
    Split(Split),
}

impl Backends {
    /// The service for one request; `random` is uniform and used for nothing else.
    pub fn pick(&self, random: u64) -> &ServiceId {
        match self {
            Self::Service(service) => service,
            Self::Split(split) => split.pick(random),
        }
    }
}

/// Shares of several services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Each service with the sum of the weights up to and with it; the last is also in `last`.
    sums: Vec<(ServiceId, u64)>,
    last: ServiceId,
    total: u64,
}

impl Split {
    /// `None` when all weights are zero. A service of weight 0 gets nothing.
    pub fn new(weights: Vec<(ServiceId, u32)>) -> Option<Self> {
        let mut total = 0;
        let mut sums = Vec::new();
        for (service, weight) in weights.into_iter().filter(|(_, weight)| *weight > 0) {
            total += u64::from(weight);
            sums.push((service, total));
        }
        let last = sums.last()?.0.clone();
        Some(Self { sums, last, total })
    }

    /// The service for a uniform random number.
    pub fn pick(&self, random: u64) -> &ServiceId {
        // The high half of the product is uniform below `total`; a remainder would favour the first ones.
        let point = ((u128::from(random) * u128::from(self.total)) >> 64) as u64;
        let at = self.sums.partition_point(|(_, sum)| *sum <= point);
        self.sums.get(at).map_or(&self.last, |(service, _)| service)
    }

    /// Each service with its share of the requests; together 1.
    pub fn shares(&self) -> Vec<(ServiceId, f64)> {
        let before = std::iter::once(0).chain(self.sums.iter().map(|(_, sum)| *sum));
        let share = |((service, sum), before): (&(ServiceId, u64), u64)| {
            (service.clone(), (sum - before) as f64 / self.total as f64)
        };
        self.sums.iter().zip(before).map(share).collect()
    }

    pub fn services(&self) -> impl Iterator<Item = &ServiceId> {
        self.sums.iter().map(|(service, _)| service)
    }
}

/// What a service gets to see instead of the path and host that the client asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewrite {
    pub path: PathChange,
    pub host: HostChange,
}

/// Another path; the query stays what it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PathChange {
    #[default]
    Keep,
    /// This path, whatever was asked for.
    Whole(String),
    /// The prefix of the route, replaced; what follows it stays. `/` drops it.
    Prefix { from: PathPrefix, to: PathPrefix },
    /// The expression of the route, its groups in the replacement as `$1` and `${name}`.
    Regex { pattern: Pattern, replacement: String },
}

impl PathChange {
    /// The new path, in its normal form; borrowed when it is the old one. `*` is never changed.
    ///
    /// # Errors
    /// When a replacement and what the client wrote make no path with a normal form.
    pub fn apply<'p>(&self, path: &'p str) -> Result<Cow<'p, str>, PathProblem> {
        if path == "*" {
            return Ok(Cow::Borrowed(path));
        }
        let changed = match self {
            Self::Keep => return Ok(Cow::Borrowed(path)),
            Self::Whole(whole) => Cow::Owned(whole.clone()),
            Self::Prefix { from, to } => match (from.rest(path), to.as_str()) {
                (None, _) => Cow::Borrowed(path),
                (Some(""), to) => Cow::Owned(to.to_owned()),
                (Some(rest), "/") => Cow::Borrowed(rest),
                (Some(rest), to) => Cow::Owned(format!("{to}{rest}")),
            },
            Self::Regex { pattern, replacement } => Cow::Owned(pattern.replaced(path, replacement)),
        };
        match changed {
            Cow::Borrowed(same) => normal_path(same),
            Cow::Owned(new) => Ok(Cow::Owned(normal_path(&new)?.into_owned())),
        }
    }
}

/// Another host for the service to see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HostChange {
    #[default]
    Keep,
    /// This one, perhaps with a port.
    Fixed(String),
    /// Whatever the endpoint that gets the request is known as.
    Upstream,
}

/// Sends the client elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    pub status: RedirectStatus,
    /// What of the location differs from what was asked for; `None`: nothing.
    pub scheme: Option<Scheme>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub path: PathChange,
    pub keep_query: bool,
}

/// How a redirect is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectStatus {
    /// 301, 302, 303: clients go on with GET.
    MovedPermanently,
    Found,
    SeeOther,
    /// 307, 308: clients go on with the same method and body.
    Temporary,
    Permanent,
}

impl RedirectStatus {
    /// `None` for a status that does not redirect.
    pub const fn from_code(code: u32) -> Option<Self> {
        match code {
            301 => Some(Self::MovedPermanently),
            302 => Some(Self::Found),
            303 => Some(Self::SeeOther),
            307 => Some(Self::Temporary),
            308 => Some(Self::Permanent),
            _ => None,
        }
    }

    pub const fn code(self) -> u16 {
        match self {
            Self::MovedPermanently => 301,
            Self::Found => 302,
            Self::SeeOther => 303,
            Self::Temporary => 307,
            Self::Permanent => 308,
        }
    }
}

/// What was asked for, as a location can be made of it.
#[derive(Debug, Clone, Copy)]
pub struct RedirectFrom<'a> {
    pub scheme: Scheme,
    /// As the client wrote it, without the port; empty when it named none.
    pub host: &'a str,
    pub port: Option<u16>,
    /// In its normal form.
    pub path: &'a str,
    pub query: &'a str,
}

impl Redirect {
    /// Where the client is sent to: a whole URL, or a path when no host is known.
    ///
    /// The port that was asked for stays only with its host and scheme; a default one is left out.
    ///
    /// # Errors
    /// Those of [`PathChange::apply`].
    pub fn location(&self, from: RedirectFrom<'_>) -> Result<String, PathProblem> {
        let scheme = self.scheme.unwrap_or(from.scheme);
        let path = self.path.apply(from.path)?;
        let path = if path == "*" { "/" } else { path.as_ref() };
        let host = self.host.as_deref().unwrap_or(from.host);
        let mut location = String::with_capacity(64);
        if host.is_empty() {
            // `//x` alone would be another host.
            location.push('/');
            location.push_str(path.trim_start_matches('/'));
        } else {
            location.push_str(scheme.as_str());
            location.push_str("://");
            location.push_str(host);
            let stays = self.host.is_none() && scheme == from.scheme;
            let port = self.port.or_else(|| from.port.filter(|_| stays));
            if let Some(port) = port.filter(|port| *port != scheme.port()) {
                location.push_str(&format!(":{port}"));
            }
            location.push_str(path);
        }
        if self.keep_query && !from.query.is_empty() {
            location.push('?');
            location.push_str(from.query);
        }
        Ok(location)
    }
}

/// Answers the client itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Respond {
    /// 200 to 599.
    pub status: u16,
    pub text: String,
    pub content_type: FieldValue,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> ServiceId {
        ServiceId::parse(name).unwrap()
    }

    fn prefix(text: &str) -> PathPrefix {
        PathPrefix::parse(text).unwrap()
    }

    #[test]
    fn a_split_gives_each_service_its_share() {
        let weights = vec![(service("a"), 90), (service("none"), 0), (service("b"), 10)];
        let split = Split::new(weights).unwrap();
        let draws = 10_000u64;
        let to_b = (0..draws).filter(|n| split.pick(n * (u64::MAX / draws)).as_str() == "b").count();
        assert!((995..=1005).contains(&to_b), "{to_b} of {draws}");
        assert_eq!(split.pick(0).as_str(), "a");
        assert_eq!(split.pick(u64::MAX).as_str(), "b");
        assert_eq!(split.services().count(), 2, "a weight of 0 gets nothing");
        assert_eq!(Split::new(vec![(service("a"), 0)]), None);
        let huge = Split::new(vec![(service("a"), u32::MAX), (service("b"), u32::MAX)]).unwrap();
        assert_eq!(huge.pick(u64::MAX / 2 + 1).as_str(), "b");
    }

    #[test]
    fn a_path_is_changed_as_the_route_says() {
        let from_to = |from: &str, to: &str| PathChange::Prefix { from: prefix(from), to: prefix(to) };
        let regex = |pattern: &str, replacement: &str| PathChange::Regex {
            pattern: Pattern::parse(pattern).unwrap(),
            replacement: replacement.to_owned(),
        };
        for (change, path, changed) in [
            (PathChange::Keep, "/a", Ok("/a")),
            (PathChange::Whole("/x".to_owned()), "/a/b", Ok("/x")),
            (from_to("/api", "/v2"), "/api/x", Ok("/v2/x")),
            (from_to("/api", "/v2"), "/api", Ok("/v2")),
            (from_to("/api", "/v2"), "/api/", Ok("/v2/")),
            (from_to("/api", "/"), "/api/x", Ok("/x")),
            (from_to("/api", "/"), "/api", Ok("/")),
            (from_to("/", "/v2"), "/x", Ok("/v2/x")),
            (from_to("/", "/v2"), "/", Ok("/v2/")),
            (from_to("/", "/v2"), "*", Ok("*")),
            (from_to("/other", "/v2"), "/api", Ok("/api")),
            (regex("/u/([0-9]+)/(.*)", "/users/$1"), "/u/7/a", Ok("/users/7")),
            (regex("/u/(.*)", "/users/$1"), "/u/a%2Fb", Ok("/users/a%2Fb")),
            (regex("/u/(.*)", "$1"), "/u/a", Err(PathProblem::Relative)),
            // A client cannot make dot segments out of pieces.
            (regex("/u(.*)", "/.$1"), "/u/x", Ok("/x")),
            (regex("/u(.*)", "/.$1"), "/u.", Err(PathProblem::AboveRoot)),
        ] {
            assert_eq!(change.apply(path).as_deref(), changed.as_ref().map(|p| *p), "{change:?} {path}");
        }
    }

    #[test]
    fn a_location_keeps_what_the_redirect_does_not_name() {
        let from =
            RedirectFrom { scheme: Scheme::Http, host: "a.test", port: Some(8080), path: "/x", query: "q=1" };
        let keep = Redirect {
            status: RedirectStatus::Permanent,
            scheme: None,
            host: None,
            port: None,
            path: PathChange::Keep,
            keep_query: true,
        };
        let path = |change| Redirect { path: change, ..keep.clone() };
        let nameless = RedirectFrom { host: "", path: "//evil.test/x", ..from };
        for (redirect, from, location) in [
            (Redirect { scheme: Some(Scheme::Https), ..keep.clone() }, from, "https://a.test/x?q=1"),
            (Redirect { scheme: Some(Scheme::Http), ..keep.clone() }, from, "http://a.test:8080/x?q=1"),
            (Redirect { host: Some("b.test".to_owned()), ..keep.clone() }, from, "http://b.test/x?q=1"),
            (Redirect { port: Some(80), ..keep.clone() }, from, "http://a.test/x?q=1"),
            (Redirect { port: Some(81), ..keep.clone() }, from, "http://a.test:81/x?q=1"),
            (
                Redirect { keep_query: false, ..path(PathChange::Whole("/y".into())) },
                from,
                "http://a.test:8080/y",
            ),
            (
                path(PathChange::Prefix { from: prefix("/"), to: prefix("/new") }),
                from,
                "http://a.test:8080/new/x?q=1",
            ),
            (keep.clone(), nameless, "/evil.test/x?q=1"),
        ] {
            assert_eq!(redirect.location(from).as_deref(), Ok(location), "{redirect:?}");
        }
    }

    #[test]
    fn a_redirect_status_is_its_code() {
        for code in 300..400u16 {
            let status = RedirectStatus::from_code(u32::from(code));
            assert_eq!(status.is_some(), [301, 302, 303, 307, 308].contains(&code), "{code}");
            assert!(status.is_none_or(|status| status.code() == code), "{code}");
        }
    }
}
