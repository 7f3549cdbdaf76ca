//! All routes, found by hash instead of one by one.
//!
//! A host is one look-up, and one for each of its labels where wildcards are; within it an
//! exact path is one look-up, all expressions are one automaton, and a prefix is one look-up for
//! each segment of the path. Nothing is allocated but by expressions.

use super::condition::Asked;
use super::lookup::Lookup;
use super::path::{AmbiguousPaths, PathProblem, normal_path};
use super::pattern::Pattern;
use super::{HostPattern, PathPattern, Route};
use regex::bytes::{RegexSet, RegexSetBuilder};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes that all expressions of one host may take once compiled: a thousand usual ones.
///
/// It bounds the time of the worst path for the worst expressions, whose automaton cannot be kept
/// and is run state by state: 500 such as `/.*a[ab]{20}` take 0.65 s for a path of 8 KiB. With 16 MiB it
/// were 4.5 s. Usual expressions take less than a millisecond at either size.
const COMPILED_BYTES_MAX: usize = 1024 * 1024;

/// Indices of the routes with one host and one path, in the order to try.
type Leaf = Box<[u32]>;

/// All routes, indexed; it never changes.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
    exact: Lookup<HostRoutes>,
    /// By suffix, which begins with a dot.
    wildcard: Lookup<HostRoutes>,
    any: HostRoutes,
    paths: AmbiguousPaths,
}

/// The routes of one host pattern.
#[derive(Debug, Clone, Default)]
struct HostRoutes {
    exact: Lookup<Leaf>,
    regexes: Option<Regexes>,
    prefixes: Lookup<Leaf>,
}

/// Expressions in the order of the file, and the routes of each.
#[derive(Debug, Clone)]
struct Regexes {
    set: RegexSet,
    leaves: Box<[Leaf]>,
}

/// The path expressions of one host would take too much memory together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path expressions of one host take more than {COMPILED_BYTES_MAX} bytes once compiled")]
pub struct TooManyPatterns {
    pub host: HostPattern,
}

impl RouteTable {
    /// # Errors
    /// `TooManyPatterns`: the path expressions of one host are too large together.
    pub fn new(routes: Vec<Route>) -> Result<Self, TooManyPatterns> {
        let (mut exact, mut wildcard, mut any) = (Vec::new(), Vec::new(), HostRoutes::default());
        for (host, groups) in grouped(&routes) {
            let indexed = groups.indexed().ok_or_else(|| TooManyPatterns { host: host.clone() })?;
            match host {
                HostPattern::Exact(name) => exact.push((name.as_str().into(), indexed)),
                HostPattern::Wildcard(suffix) => wildcard.push((suffix.as_str().into(), indexed)),
                HostPattern::Any => any = indexed,
            }
        }
        let (exact, wildcard) = (Lookup::new(exact), Lookup::new(wildcard));
        let routes = routes.into_iter().map(Arc::new).collect();
        Ok(Self { routes, exact, wildcard, any, paths: AmbiguousPaths::default() })
    }

    /// The same routes, with another rule for paths that may be read in several ways.
    #[must_use]
    pub fn with_paths(self, paths: AmbiguousPaths) -> Self {
        Self { paths, ..self }
    }

    /// The normal form of a request's path, as routes compare it.
    ///
    /// # Errors
    /// Those of [`normal_path`], and `Ambiguous` where such paths are refused.
    pub fn normal<'p>(&self, path: &'p str) -> Result<Cow<'p, str>, PathProblem> {
        let normal = normal_path(path)?;
        self.paths.check(&normal)?;
        Ok(normal)
    }

    /// The route that takes a request.
    pub fn find(&self, asked: &Asked<'_>) -> Option<&Arc<Route>> {
        self.candidates(asked.host, asked.path).find(|route| route.conditions.hold(asked))
    }

    /// The routes whose host and path are those of a request, in the order to try.
    pub(super) fn candidates<'t>(&'t self, host: &str, path: &str) -> impl Iterator<Item = &'t Arc<Route>> {
        let indices = self.hosts(host).flat_map(|of| of.leaves(path)).flatten();
        indices.filter_map(|index| self.routes.get(*index as usize))
    }

    fn hosts<'t>(&'t self, host: &str) -> impl Iterator<Item = &'t HostRoutes> {
        let wildcards = suffixes(host).filter_map(|suffix| self.wildcard.get(suffix));
        self.exact.get(host).into_iter().chain(wildcards).chain([&self.any])
    }

    /// In the order of the file.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }
}

impl PartialEq for RouteTable {
    fn eq(&self, other: &Self) -> bool {
        self.routes == other.routes && self.paths == other.paths
    }
}

impl Eq for RouteTable {}

impl HostRoutes {
    /// The routes of each pattern that matches a path, in the order to try.
    fn leaves<'t>(&'t self, path: &str) -> impl Iterator<Item = &'t Leaf> {
        let prefixes = prefixes(path, self.prefixes.longest());
        let prefixes = prefixes.filter_map(|prefix| self.prefixes.get(prefix));
        // Expressions are asked only when no exact path took the request.
        let regexes = self.regexes.iter().flat_map(|regexes| regexes.matching(path));
        self.exact.get(path).into_iter().chain(regexes).chain(prefixes)
    }
}

impl Regexes {
    fn matching(&self, path: &str) -> impl Iterator<Item = &Leaf> {
        self.set.matches(path.as_bytes()).into_iter().filter_map(|at| self.leaves.get(at))
    }
}

/// What wildcards may be named: a wildcard stands for a label at least, so no suffix is the whole host.
fn suffixes(host: &str) -> impl Iterator<Item = &str> {
    host.match_indices('.').filter(|(at, _)| *at > 0).filter_map(|(at, _)| host.get(at..))
}

/// Everything that a prefix of `path` can be, longest first, the root last; none above `longest` bytes.
fn prefixes(path: &str, longest: usize) -> impl Iterator<Item = &str> {
    let bytes = path.as_bytes();
    let slash_before = move |end: usize| bytes.get(..end)?.iter().rposition(|b| *b == b'/');
    let first = if path.len() <= longest { Some(path.len()) } else { slash_before(longest + 1) };
    std::iter::successors(first.filter(|end| *end > 0), move |end| slash_before(*end).filter(|end| *end > 0))
        .filter_map(move |end| path.get(..end))
        .filter(|prefix| *prefix != "/")
        .chain(["/"])
}

/// Routes of one host pattern by path, as indices into the routes, best first.
#[derive(Debug, Default)]
pub(super) struct Groups<'r> {
    pub(super) exact: BTreeMap<&'r str, Vec<usize>>,
    /// In the order in which each is seen first.
    pub(super) regexes: Vec<(&'r Pattern, Vec<usize>)>,
    pub(super) prefixes: BTreeMap<&'r str, Vec<usize>>,
}

/// The precedence within a host, as groups.
pub(super) fn grouped(routes: &[Route]) -> BTreeMap<&HostPattern, Groups<'_>> {
    let mut hosts: BTreeMap<&HostPattern, Groups<'_>> = BTreeMap::new();
    let mut places: BTreeMap<(&HostPattern, &str), usize> = BTreeMap::new();
    for (index, route) in routes.iter().enumerate() {
        for host in &route.hosts {
            let groups = hosts.entry(host).or_default();
            let group = match &route.path {
                PathPattern::Exact(path) => groups.exact.entry(path.as_str()).or_default(),
                PathPattern::Prefix(prefix) => groups.prefixes.entry(prefix.as_str()).or_default(),
                PathPattern::Regex(pattern) => {
                    let place = *places.entry((host, pattern.as_str())).or_insert(groups.regexes.len());
                    if place == groups.regexes.len() {
                        groups.regexes.push((pattern, Vec::new()));
                    }
                    let Some((_, group)) = groups.regexes.get_mut(place) else { continue };
                    group
                }
            };
            // The same host twice is told by whoever reads the file.
            if group.last() != Some(&index) {
                group.push(index);
            }
        }
    }
    let conditions = |index: &usize| routes.get(*index).map_or(0, |route| route.conditions.count());
    for groups in hosts.values_mut() {
        // Stable: what is equal stays in the order of the file.
        groups.all_mut().for_each(|group| group.sort_by_key(|index| Reverse(conditions(index))));
    }
    hosts
}

impl<'r> Groups<'r> {
    pub(super) fn all(&self) -> impl Iterator<Item = &Vec<usize>> {
        let regexes = self.regexes.iter().map(|(_, group)| group);
        self.exact.values().chain(regexes).chain(self.prefixes.values())
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Vec<usize>> {
        let regexes = self.regexes.iter_mut().map(|(_, group)| group);
        self.exact.values_mut().chain(regexes).chain(self.prefixes.values_mut())
    }

    /// `None`: the expressions are too large together.
    fn indexed(&self) -> Option<HostRoutes> {
        let by_text = |groups: &BTreeMap<&'r str, Vec<usize>>| {
            Lookup::new(groups.iter().map(|(text, group)| (Box::from(*text), leaf(group))).collect())
        };
        let regexes = match self.regexes.as_slice() {
            [] => None,
            regexes => {
                let mut builder = RegexSetBuilder::new(regexes.iter().map(|(pattern, _)| pattern.anchored()));
                let set = builder.unicode(false).size_limit(COMPILED_BYTES_MAX).build().ok()?;
                Some(Regexes { set, leaves: regexes.iter().map(|(_, group)| leaf(group)).collect() })
            }
        };
        Some(HostRoutes { exact: by_text(&self.exact), regexes, prefixes: by_text(&self.prefixes) })
    }
}

fn leaf(group: &[usize]) -> Leaf {
    // More than u32::MAX routes do not fit a file of bounded size.
    group.iter().filter_map(|index| u32::try_from(*index).ok()).collect()
}

#[cfg(test)]
mod scale;

#[cfg(test)]
mod tests {
    use super::super::condition::tests::{exact, field};
    use super::super::*;
    use super::prefixes;
    use crate::domain::name::ServiceId;

    fn route(id: &str, host: &str, path: &str) -> Route {
        let host = match host.strip_prefix('*') {
            Some("") => HostPattern::Any,
            Some(suffix) => HostPattern::Wildcard(suffix.to_owned()),
            None => HostPattern::Exact(host.to_owned()),
        };
        let path = match path.split_at(1) {
            ("=", path) => PathPattern::Exact(ExactPath::parse(path).unwrap()),
            ("~", path) => PathPattern::Regex(Pattern::parse(path).unwrap()),
            _ => PathPattern::Prefix(PathPrefix::parse(path).unwrap()),
        };
        let service = Action::service(ServiceId::parse("web").unwrap());
        Route::new(RouteId::parse(id).unwrap(), vec![host], path, service)
    }

    fn with(mut route: Route, change: impl FnOnce(&mut Conditions)) -> Route {
        change(&mut route.conditions);
        route
    }

    fn methods(names: &[&str]) -> Option<Methods> {
        Methods::new(names.iter().map(|name| Method::parse(name).unwrap()).collect())
    }

    fn found(table: &RouteTable, host: &str, path: &str, method: &str, headers: &[(&str, &str)]) -> String {
        let headers: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let asked = Asked { host, path, scheme: Scheme::Http, method, query: "", headers: &headers };
        table.find(&asked).map_or("none".to_owned(), |route| route.id.to_string())
    }

    #[test]
    fn the_most_specific_host_comes_first_and_falls_through() {
        let table = RouteTable::new(vec![
            route("any", "*", "/"),
            route("exact", "www.example.com", "/"),
            route("exact-api", "www.example.com", "/api/"),
            route("wild", "*.example.com", "/"),
            route("wild-deep", "*.deep.example.com", "/"),
            route("only-x", "x.example.com", "/x"),
            with(route("only-put", "put.example.com", "/"), |c| c.methods = methods(&["PUT"])),
        ])
        .unwrap();
        for (host, path, expected) in [
            ("www.example.com", "/", "exact"),
            ("www.example.com", "/api", "exact-api"),
            ("www.example.com", "/api/v1", "exact-api"),
            ("www.example.com", "/apiary", "exact"),
            ("a.example.com", "/api", "wild"),
            ("a.b.example.com", "/api", "wild"),
            ("a.deep.example.com", "/", "wild-deep"),
            ("deep.example.com", "/", "wild"),
            ("example.com", "/", "any"),
            (".example.com", "/", "any"),
            ("x.example.com", "/x/1", "only-x"),
            ("x.example.com", "/y", "wild"),
            ("put.example.com", "/y", "wild"),
            ("", "/", "any"),
            ("", "*", "any"),
        ] {
            assert_eq!(found(&table, host, path, "GET", &[]), expected, "{host} {path}");
        }
    }

    #[test]
    fn exact_then_expressions_by_file_then_the_longest_prefix() {
        let table = RouteTable::new(vec![
            route("root", "a.test", "/"),
            route("users", "a.test", "/users"),
            route("digits", "a.test", "~/users/[0-9]+"),
            route("words", "a.test", "~/users/\\w+"),
            route("me", "a.test", "=/users/me"),
            route("deep", "a.test", "/users/7/deep"),
        ])
        .unwrap();
        for (path, expected) in [
            ("/users/me", "me"),
            ("/users/7", "digits"),
            ("/users/ann", "words"),
            ("/users/7/deep/x", "deep"),
            ("/users/7/x", "users"),
            ("/users/", "users"),
            ("/usersx", "root"),
            ("/users//x", "users"),
        ] {
            assert_eq!(found(&table, "a.test", path, "GET", &[]), expected, "{path}");
        }
        assert_eq!(found(&table, "b.test", "/", "GET", &[]), "none");
    }

    #[test]
    fn more_conditions_come_first_then_the_order_of_the_file() {
        let canary = |c: &mut Conditions| c.headers = vec![field("x-canary", exact("1"))];
        let table = RouteTable::new(vec![
            route("plain", "*", "/"),
            with(route("get", "*", "/"), |c| c.methods = methods(&["GET"])),
            with(route("canary", "*", "/"), canary),
            with(route("both", "*", "/"), |c| {
                canary(c);
                c.methods = methods(&["PUT", "POST"]);
            }),
            // The same expression, further down: it counts as the first one.
            route("first-x", "*", "~/x.*"),
            route("y", "*", "~/xy"),
            with(route("second-x", "*", "~/x.*"), canary),
        ])
        .unwrap();
        for (path, method, header, expected) in [
            ("/", "DELETE", "0", "plain"),
            ("/", "GET", "0", "get"),
            ("/", "GET", "1", "get"),
            ("/", "DELETE", "1", "canary"),
            ("/", "POST", "1", "both"),
            ("/xy", "GET", "0", "first-x"),
            ("/xy", "GET", "1", "second-x"),
        ] {
            assert_eq!(found(&table, "", path, method, &[("x-canary", header)]), expected, "{path} {method}");
        }
    }

    #[test]
    fn prefixes_are_tried_from_the_longest_to_the_root() {
        for (path, longest, expected) in [
            ("/a/b/c", 99, vec!["/a/b/c", "/a/b", "/a", "/"]),
            ("/a/b/c", 4, vec!["/a/b", "/a", "/"]),
            ("/a/b/c", 3, vec!["/a", "/"]),
            ("/a/b/c", 0, vec!["/"]),
            ("/abc", 2, vec!["/"]),
            ("/", 9, vec!["/"]),
            ("*", 9, vec!["*", "/"]),
        ] {
            assert_eq!(prefixes(path, longest).collect::<Vec<_>>(), expected, "{path} {longest}");
        }
    }

    #[test]
    fn expressions_of_one_host_that_are_huge_together_are_refused() {
        let many =
            (0..300).map(|n| route(&format!("r{n}"), "a.test", &format!("~/{n}/[a-c]{{2000}}"))).collect();
        let host = HostPattern::Exact("a.test".to_owned());
        assert_eq!(RouteTable::new(many), Err(TooManyPatterns { host }));
        let usual = |n| route(&format!("r{n}"), "a.test", &format!("~/api/v{n}/users/[0-9]+/x.*"));
        assert!(RouteTable::new((0..1000).map(usual).collect()).is_ok());
    }
}
