//! Routes in the way of each other: what can never match, and what only the order of the file decides.
//!
//! What is called `Never` is certain. Not everything that never matches is found: two routes
//! that only together take all that a third one asks for go unseen, and so do expressions that
//! are equal but written differently.

use super::table::{Groups, grouped};
use super::{HostPattern, PathPattern, Route};
use std::collections::BTreeMap;

/// Each route is compared with so many before it in its group: reloads of large files stay quick.
const COMPARED_MAX: usize = 128;
/// Of the overlaps of a route that still takes something, so many are told.
const TOLD_MAX: usize = 8;

/// Two routes in the way of each other at one host pattern, as indices into the routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Overlap<'r> {
    pub loser: usize,
    pub winner: usize,
    pub host: &'r HostPattern,
    pub relation: Relation,
}

/// How two routes are in the way of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Relation {
    /// The winner takes all that the loser asks for at this host.
    Never,
    /// Both match some requests; the winner takes those because it comes first in the file.
    Order,
    /// As `Order`, unless the two expressions have no path in common.
    PerhapsOrder,
}

/// All overlaps, by loser; of the winners that leave a loser nothing, one, and of others `TOLD_MAX`.
pub fn overlaps(routes: &[Route]) -> Vec<Overlap<'_>> {
    let mut found = Vec::new();
    for (host, groups) in grouped(routes) {
        let search = Search { routes, host, groups: &groups };
        let mut here: Vec<_> = search.pairs().filter_map(|pair| search.judged(pair)).collect();
        here.sort();
        for of_loser in here.chunk_by(|one, other| one.loser == other.loser) {
            // `Never` says it all.
            match of_loser.iter().find(|overlap| overlap.relation == Relation::Never) {
                Some(never) => found.push(*never),
                None => found.extend(of_loser.iter().take(TOLD_MAX)),
            }
        }
    }
    found.sort();
    found
}

struct Search<'r, 's> {
    routes: &'r [Route],
    host: &'r HostPattern,
    groups: &'s Groups<'r>,
}

/// Two routes that may be in the way of each other, by their indices.
#[derive(Debug, Clone, Copy)]
struct Pair {
    loser: usize,
    winner: usize,
    why: Why,
}

#[derive(Debug, Clone, Copy)]
enum Why {
    /// Same host, same path.
    Group,
    /// The winner is an expression that takes everything from some start on.
    Covered,
    /// Different expressions.
    Expressions,
}

impl<'r> Search<'r, '_> {
    /// What is worth comparing: three times [`COMPARED_MAX`] pairs for each route at most.
    fn pairs(&self) -> impl Iterator<Item = Pair> {
        self.same().chain(self.covered()).chain(self.expressions())
    }

    fn same(&self) -> impl Iterator<Item = Pair> {
        self.groups.all().flat_map(|group| {
            group.iter().enumerate().flat_map(move |(at, loser)| {
                let winners = group.iter().take(at.min(COMPARED_MAX));
                winners.map(|winner| Pair { loser: *loser, winner: *winner, why: Why::Group })
            })
        })
    }

    fn covered(&self) -> impl Iterator<Item = Pair> {
        let mut covering: BTreeMap<&str, Vec<(usize, &[usize])>> = BTreeMap::new();
        for (place, (pattern, winners)) in self.groups.regexes.iter().enumerate() {
            if let Some(start) = pattern.covers_from() {
                covering.entry(start).or_default().push((place, winners));
            }
        }
        let regexes = self.groups.regexes.iter().enumerate();
        let regexes = regexes.map(|(place, (pattern, group))| (place, pattern.literal_start(), group));
        // Prefixes come after all expressions.
        let prefixes = self.groups.prefixes.iter().map(|(prefix, group)| (usize::MAX, *prefix, group));
        regexes.chain(prefixes).flat_map(move |(place, text, losers)| {
            let starts = (0..=text.len()).filter_map(|end| covering.get(text.get(..end)?));
            let before = starts.flatten().filter(|(other, _)| *other < place);
            let winners: Vec<usize> =
                before.flat_map(|(_, winners)| *winners).copied().take(COMPARED_MAX).collect();
            losers.iter().flat_map(move |loser| {
                winners.clone().into_iter().map(|winner| Pair { loser: *loser, winner, why: Why::Covered })
            })
        })
    }

    fn expressions(&self) -> impl Iterator<Item = Pair> {
        let regexes = &self.groups.regexes;
        regexes.iter().enumerate().flat_map(move |(place, (_, losers))| {
            let before = regexes.iter().take(place.min(COMPARED_MAX));
            before.filter_map(|(_, winners)| {
                let (loser, winner) = (*losers.first()?, *winners.first()?);
                Some(Pair { loser, winner, why: Why::Expressions })
            })
        })
    }

    fn judged(&self, pair: Pair) -> Option<Overlap<'r>> {
        let (loser, winner) = self.routes.get(pair.loser).zip(self.routes.get(pair.winner))?;
        let (own, other) = (&loser.conditions, &winner.conditions);
        let relation = match pair.why {
            Why::Group | Why::Covered if own.imply(other) => Relation::Never,
            Why::Group if own.count() == other.count() && own.meet(other) => Relation::Order,
            Why::Expressions if may_share_a_path(loser, winner) && own.meet(other) => Relation::PerhapsOrder,
            Why::Group | Why::Covered | Why::Expressions => return None,
        };
        Some(Overlap { loser: pair.loser, winner: pair.winner, host: self.host, relation })
    }
}

/// Whether two expressions may match one path, and not as they should: the special before the general.
fn may_share_a_path(loser: &Route, winner: &Route) -> bool {
    let (PathPattern::Regex(pattern), PathPattern::Regex(other)) = (&loser.path, &winner.path) else {
        return false;
    };
    let (start, before) = (pattern.literal_start(), other.literal_start());
    let apart = !before.starts_with(start) && !start.starts_with(before);
    // The other way round is `Never`.
    let special = pattern.covers_from().is_some_and(|from| before.starts_with(from));
    !apart && !special
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::{COMPARED_MAX, Search, grouped};
    use crate::domain::name::ServiceId;

    fn route(id: &str, path: &str, methods: &[&str]) -> Route {
        let path = match path.split_at(1) {
            ("=", path) => PathPattern::Exact(ExactPath::parse(path).unwrap()),
            ("~", path) => PathPattern::Regex(Pattern::parse(path).unwrap()),
            _ => PathPattern::Prefix(PathPrefix::parse(path).unwrap()),
        };
        let service = Action::service(ServiceId::parse("web").unwrap());
        let mut route = Route::new(RouteId::parse(id).unwrap(), vec![HostPattern::Any], path, service);
        route.conditions.methods = Methods::new(methods.iter().map(|m| Method::parse(m).unwrap()).collect());
        route
    }

    #[test]
    fn what_can_never_match_and_what_only_the_order_decides_is_found() {
        use Relation::{Never, Order, PerhapsOrder};
        // (path, methods) of two routes in the order of the file; what is said of which loser.
        for (one, two, said) in [
            (("/a", &[][..]), ("/a/", &[][..]), Some((1, Never))),
            (("/a", &[]), ("/b", &[]), None),
            (("/a", &[]), ("/a/b", &[]), None),
            (("=/a", &[]), ("/a", &[]), None),
            (("=/a", &[]), ("=/%61", &[]), Some((1, Never))),
            (("/a", &[]), ("/a", &["GET"]), None),
            (("/a", &["GET"]), ("/a", &["GET"]), Some((1, Never))),
            (("/a", &["GET", "PUT"]), ("/a", &["PUT"]), Some((1, Never))),
            (("/a", &["GET"]), ("/a", &["GET", "PUT"]), Some((1, Order))),
            (("/a", &["GET"]), ("/a", &["PUT"]), None),
            (("~/.*", &[]), ("/a", &[]), Some((1, Never))),
            (("/a", &[]), ("~/.*", &[]), Some((0, Never))),
            (("~/.*", &["GET"]), ("/a", &[]), None),
            (("~/.*", &["GET"]), ("/a", &["GET"]), Some((1, Never))),
            (("~/a.*", &[]), ("/a/b", &[]), Some((1, Never))),
            (("~/a/.*", &[]), ("/a", &[]), None),
            (("~/.*", &[]), ("=/a", &[]), None),
            (("~/.*", &[]), ("~/a[0-9]", &[]), Some((1, Never))),
            (("~/a[0-9]", &[]), ("~/.*", &[]), None),
            (("~/a[0-9]", &[]), ("~/a[0-5]", &[]), Some((1, PerhapsOrder))),
            (("~/a[0-9]", &[]), ("~/b[0-9]", &[]), None),
            (("~/a[0-9]", &["GET"]), ("~/a[0-5]", &["PUT"]), None),
            (("~/a[0-9]", &[]), ("~/a[0-9]", &[]), Some((1, Never))),
        ] {
            let routes = [route("one", one.0, one.1), route("two", two.0, two.1)];
            let found = overlaps(&routes);
            let found: Vec<_> = found.iter().map(|overlap| (overlap.loser, overlap.relation)).collect();
            assert_eq!(found, said.into_iter().collect::<Vec<_>>(), "{one:?} {two:?}");
        }
    }

    #[test]
    fn routes_of_different_hosts_are_not_in_the_way() {
        let mut two = route("two", "/", &[]);
        two.hosts = vec![HostPattern::Exact("a.test".to_owned())];
        assert_eq!(overlaps(&[route("one", "/", &[]), two]), []);
    }

    /// The work is the number of pairs that are compared: it may not grow with the square of the routes.
    #[test]
    fn ten_thousand_routes_are_compared_in_bounded_work_whatever_they_are() {
        const ROUTES: usize = 10_000;
        type Path = fn(usize) -> String;
        let kinds: [(&str, Path, usize); 5] = [
            ("all alike", |_| "/".to_owned(), 9_999),
            ("all different", |n| format!("/p{n}"), 0),
            ("expressions that may meet", |n| format!("~/[a-z]+{n}"), 8 * 9_999),
            ("each covers all after it", |n| format!("~/{}.*", "a".repeat(n % 400)), 9_999),
            (
                "half of them cover the others",
                |n| format!("{}/{}", ["~", ""][n % 2], [".*", "x"][n % 2]),
                9_999,
            ),
        ];
        for (name, path, most) in kinds {
            let routes: Vec<Route> = (0..ROUTES).map(|n| route(&format!("r{n}"), &path(n), &[])).collect();
            let groups = grouped(&routes);
            let pairs = |(host, groups)| Search { routes: &routes, host, groups }.pairs().count();
            let compared: usize = groups.iter().map(|(host, groups)| pairs((*host, groups))).sum();
            assert!(compared <= 3 * COMPARED_MAX * ROUTES, "{name}: {compared} pairs");
            let found = overlaps(&routes).len();
            assert!(found <= most, "{name}: {found} overlaps");
        }
    }

    #[test]
    fn a_dead_route_is_told_once_a_host() {
        let hosts = || vec![HostPattern::Any, HostPattern::Exact("a.test".to_owned())];
        let routes = ["one", "two", "three"].map(|id| Route { hosts: hosts(), ..route(id, "/", &[]) });
        let found: Vec<_> = overlaps(&routes).iter().map(|o| (o.loser, o.winner, o.relation)).collect();
        let never = Relation::Never;
        assert_eq!(found, [(1, 0, never), (1, 0, never), (2, 0, never), (2, 0, never)]);
    }
}
