//! Route tables and requests made of a recipe, and the documented precedence read word by word.

use crate::recipe::Recipe;
use proxima::domain::name::{RouteId, ServiceId};
use proxima::domain::routing::{
    Action, Asked, Conditions, ExactPath, Field, FieldName, FieldValue, HostPattern, Method, Methods, Param,
    ParamTest, PathPattern, PathPrefix, Pattern, Route, Scheme, ValueTest,
};
use std::cmp::Reverse;

const HOSTS: &[&str] = &["a.test", "b.a.test", "c.b.a.test", "*.test", "*.a.test", "*.b.a.test", "*"];
const PIECES: &[&str] = &["/", "/a", "/b", "/ab", "/a1", "/a/b", "//", "/%7e", "/a.b"];
const EXPRESSIONS: &[&str] =
    &["/.*", "/a.*", "/[ab]+", "/a1?/.*", "/a|/b", "/a/b", ".*1", "(?i)/A.*", "/a(/b)?", "/.", "/a\\.b"];
const METHODS: &[&str] = &["GET", "PUT", "POST"];

fn one<'t>(recipe: &mut Recipe<'_>, of: &[&'t str]) -> &'t str {
    of[recipe.below(of.len())]
}

fn path(recipe: &mut Recipe<'_>) -> String {
    (0..=recipe.below(4)).map(|_| one(recipe, PIECES)).collect()
}

fn conditions(recipe: &mut Recipe<'_>) -> Conditions {
    let mut conditions = Conditions::default();
    if recipe.below(3) == 1 {
        let methods = (0..=recipe.below(2)).filter_map(|_| Method::parse(one(recipe, METHODS)));
        conditions.methods = Methods::new(methods.collect());
    }
    if recipe.below(4) == 1 {
        let test = match recipe.below(3) {
            0 => ValueTest::Present,
            1 => ValueTest::Exact(FieldValue::parse("1").unwrap()),
            _ => ValueTest::Regex(Pattern::parse("[0-9]").unwrap()),
        };
        let name = FieldName::parse(one(recipe, &["x-a", "x-b"])).unwrap();
        conditions.headers.push(Field { name, test });
    }
    if recipe.below(4) == 1 {
        let name = one(recipe, &["p", "q"]).to_owned();
        let test = if recipe.below(2) == 0 { ParamTest::Present } else { ParamTest::Exact("1".to_owned()) };
        conditions.query.push(Param { name, test });
    }
    if recipe.below(6) == 1 {
        conditions.scheme = Some(Scheme::Https);
    }
    conditions
}

fn host(text: &str) -> HostPattern {
    match text.strip_prefix('*') {
        Some("") => HostPattern::Any,
        Some(suffix) => HostPattern::Wildcard(suffix.to_owned()),
        None => HostPattern::Exact(text.to_owned()),
    }
}

fn route(recipe: &mut Recipe<'_>, number: usize) -> Option<Route> {
    let mut hosts: Vec<HostPattern> = (0..=recipe.below(3)).map(|_| host(one(recipe, HOSTS))).collect();
    hosts.sort();
    hosts.dedup();
    let path = match recipe.below(4) {
        0 => PathPattern::Exact(ExactPath::parse(&path(recipe))?),
        1 => PathPattern::Regex(Pattern::parse(one(recipe, EXPRESSIONS)).unwrap()),
        _ => PathPattern::Prefix(PathPrefix::parse(&path(recipe))?),
    };
    let action = Action::service(ServiceId::parse("web").unwrap());
    let mut route = Route::new(RouteId::parse(&format!("r{number}")).unwrap(), hosts, path, action);
    route.conditions = conditions(recipe);
    Some(route)
}

/// At most 24 routes.
pub fn table(recipe: &mut Recipe<'_>) -> Vec<Route> {
    (0..recipe.below(25)).filter_map(|number| route(recipe, number)).collect()
}

/// A request that a table may know, or nearly.
#[derive(Debug)]
pub struct Request {
    host: String,
    path: String,
    query: String,
    method: &'static str,
    scheme: Scheme,
    headers: http::HeaderMap,
}

impl Request {
    pub fn of(recipe: &mut Recipe<'_>) -> Self {
        let hosts =
            ["a.test", "b.a.test", "c.b.a.test", "x.c.b.a.test", "x.test", "test", "", ".test", "a.test."];
        let scheme = if recipe.below(2) == 0 { Scheme::Http } else { Scheme::Https };
        let mut headers = http::HeaderMap::new();
        for _ in 0..recipe.below(3) {
            let name = http::HeaderName::from_static(one(recipe, &["x-a", "x-b"]));
            headers.append(name, http::HeaderValue::from_static(one(recipe, &["1", "2", "x"])));
        }
        Self {
            host: one(recipe, &hosts).to_owned(),
            path: if recipe.below(20) == 1 { "*".to_owned() } else { path(recipe) },
            query: one(recipe, &["", "p=1", "q=2&p=1", "%70=%31", "p"]).to_owned(),
            method: one(recipe, METHODS),
            scheme,
            headers,
        }
    }

    pub fn asked(&self) -> Asked<'_> {
        let Self { host, path, query, method, scheme, headers } = self;
        Asked { host, path, scheme: *scheme, method, query, headers }
    }
}

/// The first route by the documented precedence, by looking at each of them: host, path, number of
/// conditions, order of the file.
pub fn first<'r>(routes: &'r [Route], asked: &Asked<'_>) -> Option<&'r Route> {
    let ranks = routes.iter().enumerate().filter(|(_, route)| route.conditions.hold(asked)).flat_map(
        |(index, route)| {
            route.hosts.iter().filter_map(move |host| {
                let rank = (host_rank(host, asked.host)?, path_rank(routes, host, route, asked.path)?);
                Some(((rank, Reverse(route.conditions.count()), index), route))
            })
        },
    );
    ranks.min_by_key(|(rank, _)| *rank).map(|(_, route)| route)
}

/// An exact host, then the longest wildcard, then any.
fn host_rank(pattern: &HostPattern, host: &str) -> Option<(u8, Reverse<usize>)> {
    match pattern {
        HostPattern::Exact(name) => (name == host).then_some((0, Reverse(0))),
        HostPattern::Wildcard(suffix) => {
            let label = host.strip_suffix(suffix.as_str())?;
            (!label.is_empty()).then_some((1, Reverse(suffix.len())))
        }
        HostPattern::Any => Some((2, Reverse(0))),
    }
}

/// An exact path, then expressions by the first place of each at that host, then the longest prefix.
fn path_rank(
    routes: &[Route],
    host: &HostPattern,
    route: &Route,
    path: &str,
) -> Option<(u8, usize, Reverse<usize>)> {
    match &route.path {
        PathPattern::Exact(exact) => (exact.as_str() == path).then_some((0, 0, Reverse(0))),
        PathPattern::Regex(pattern) => {
            let alike = |other: &Route| other.hosts.contains(host) && other.path == route.path;
            let place = routes.iter().position(alike)?;
            pattern.matches(path.as_bytes()).then_some((1, place, Reverse(0)))
        }
        PathPattern::Prefix(prefix) => {
            let text = prefix.as_str();
            let rest = path.strip_prefix(if text == "/" { "" } else { text })?;
            let whole = text == "/" || rest.is_empty() || rest.starts_with('/');
            whole.then_some((2, 0, Reverse(text.len())))
        }
    }
}
