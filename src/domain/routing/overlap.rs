//! Routes in the way of each other: what can never match, and what only the order of the file decides.
//!
//! What is called `Never` is certain. Not everything that never matches is found: two routes
//! that only together take all that a third one asks for go unseen, and so do expressions that
//! are equal but written differently.

use super::table::{Groups, grouped};
use super::{HostPattern, Route};

/// Each route is compared with so many before it in its group: reloads of large files stay quick.
const COMPARED_MAX: usize = 128;

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

/// All overlaps, by loser; of the winners that leave a loser nothing, one.
pub fn overlaps(routes: &[Route]) -> Vec<Overlap<'_>> {
    let mut found = Vec::new();
    for (host, groups) in grouped(routes) {
        let search = Search { routes, host, groups: &groups };
        let mut here = search.within_groups();
        here.extend(search.covered());
        here.extend(search.expressions());
        here.sort();
        // `Never` says it all.
        let dead =
            |loser| here.iter().find(|o: &&Overlap<'_>| o.loser == loser && o.relation == Relation::Never);
        found.extend(here.iter().filter(|o| dead(o.loser).is_none_or(|first| first == *o)));
    }
    found.sort();
    found
}

struct Search<'r, 's> {
    routes: &'r [Route],
    host: &'r HostPattern,
    groups: &'s Groups<'r>,
}

impl<'r> Search<'r, '_> {
    /// Routes with the same host and path.
    fn within_groups(&self) -> Vec<Overlap<'r>> {
        let mut found = Vec::new();
        for group in self.groups.all() {
            for (at, loser) in group.iter().enumerate() {
                for winner in group.iter().take(at.min(COMPARED_MAX)) {
                    found.extend(self.compared(*loser, *winner));
                }
            }
        }
        found
    }

    fn compared(&self, loser: usize, winner: usize) -> Option<Overlap<'r>> {
        let (own, other) = (&self.routes.get(loser)?.conditions, &self.routes.get(winner)?.conditions);
        if own.imply(other) {
            return Some(self.overlap(loser, winner, Relation::Never));
        }
        let tied = own.count() == other.count() && own.meet(other);
        tied.then(|| self.overlap(loser, winner, Relation::Order))
    }

    /// Routes behind an expression that takes everything from some start on.
    fn covered(&self) -> Vec<Overlap<'r>> {
        let mut found = Vec::new();
        for (place, (pattern, winners)) in self.groups.regexes.iter().enumerate() {
            let Some(start) = pattern.covers_from() else { continue };
            let later = self.groups.regexes.iter().skip(place + 1);
            let later = later.filter(|(pattern, _)| pattern.literal_start().starts_with(start));
            let prefixes = self.groups.prefixes.iter().filter(|(prefix, _)| prefix.starts_with(start));
            let losers = later.map(|(_, group)| group).chain(prefixes.map(|(_, group)| group));
            for loser in losers.flatten() {
                let takes_all = |winner: &&usize| self.implies(*loser, **winner);
                if let Some(winner) = winners.iter().take(COMPARED_MAX).find(takes_all) {
                    found.push(self.overlap(*loser, *winner, Relation::Never));
                }
            }
        }
        found
    }

    /// Different expressions that may match the same path.
    fn expressions(&self) -> Vec<Overlap<'r>> {
        let mut found = Vec::new();
        for (place, (pattern, losers)) in self.groups.regexes.iter().enumerate() {
            let start = pattern.literal_start();
            for (other, winners) in self.groups.regexes.iter().take(place.min(COMPARED_MAX)) {
                let before = other.literal_start();
                let apart = !before.starts_with(start) && !start.starts_with(before);
                // The special before the general is how it should be; the other way round is `Never`.
                let special = pattern.covers_from().is_some_and(|from| before.starts_with(from));
                if apart || special {
                    continue;
                }
                let pair = losers.first().zip(winners.first());
                found.extend(pair.and_then(|(loser, winner)| self.perhaps(*loser, *winner)));
            }
        }
        found
    }

    fn perhaps(&self, loser: usize, winner: usize) -> Option<Overlap<'r>> {
        let (own, other) = (&self.routes.get(loser)?.conditions, &self.routes.get(winner)?.conditions);
        own.meet(other).then(|| self.overlap(loser, winner, Relation::PerhapsOrder))
    }

    fn implies(&self, loser: usize, winner: usize) -> bool {
        let pair = self.routes.get(loser).zip(self.routes.get(winner));
        pair.is_some_and(|(loser, winner)| loser.conditions.imply(&winner.conditions))
    }

    fn overlap(&self, loser: usize, winner: usize, relation: Relation) -> Overlap<'r> {
        Overlap { loser, winner, host: self.host, relation }
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
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

    #[test]
    fn a_dead_route_is_told_once_a_host() {
        let hosts = || vec![HostPattern::Any, HostPattern::Exact("a.test".to_owned())];
        let routes = ["one", "two", "three"].map(|id| Route { hosts: hosts(), ..route(id, "/", &[]) });
        let found: Vec<_> = overlaps(&routes).iter().map(|o| (o.loser, o.winner, o.relation)).collect();
        let never = Relation::Never;
        assert_eq!(found, [(1, 0, never), (1, 0, never), (2, 0, never), (2, 0, never)]);
    }
}
