//! Claims over many generated tables and paths, each found again by its seed.

use super::condition::tests::{exact, field};
use super::*;
use crate::domain::name::ServiceId;

const TABLES: u64 = 400;
const REQUESTS: usize = 60;

/// SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn path(&mut self) -> String {
        let path: String = (0..=self.below(4)).map(|_| self.one(&["/", "/a", "/b", "/ab", "/a1"])).collect();
        path
    }

    fn conditions(&mut self) -> Conditions {
        let mut conditions = Conditions::default();
        if self.below(3) == 0 {
            let methods =
                (0..=self.below(2)).map(|_| Method::parse(self.one(&["GET", "PUT", "POST"])).unwrap());
            conditions.methods = Methods::new(methods.collect());
        }
        if self.below(4) == 0 {
            let test = if self.below(2) == 0 { ValueTest::Present } else { exact(self.one(&["1", "2"])) };
            conditions.headers.push(field(self.one(&["x-a", "x-b"]), test));
        }
        if self.below(4) == 0 {
            let name = self.one(&["p", "q"]).to_owned();
            conditions.query.push(Param { name, test: ParamTest::Exact(self.one(&["1", "2"]).to_owned()) });
        }
        if self.below(6) == 0 {
            conditions.scheme = Some(Scheme::Https);
        }
        conditions
    }

    fn route(&mut self, number: usize) -> Route {
        let hosts = (0..=self.below(2)).map(|_| match self.below(3) {
            0 => HostPattern::Any,
            1 => HostPattern::Wildcard(self.one(&[".test", ".a.test", ".b.a.test"]).to_owned()),
            _ => HostPattern::Exact(self.one(&["a.test", "b.a.test", "c.b.a.test"]).to_owned()),
        });
        let hosts: Vec<_> = hosts.collect();
        let path = match self.below(4) {
            0 => PathPattern::Exact(ExactPath::parse(&self.path()).unwrap()),
            1 => {
                let regex = self.one(&["/.*", "/a.*", "/[ab]+", "/a1?/.*", "/a|/b", "/a/b", ".*1"]);
                PathPattern::Regex(Pattern::parse(regex).unwrap())
            }
            _ => PathPattern::Prefix(PathPrefix::parse(&self.path()).unwrap()),
        };
        let id = RouteId::parse(&format!("r{number}")).unwrap();
        let mut route = Route::new(id, hosts, path, Action::service(ServiceId::parse("web").unwrap()));
        route.conditions = self.conditions();
        route
    }

    fn table(&mut self) -> Vec<Route> {
        (0..self.below(24)).map(|number| self.route(number)).collect()
    }

    fn request(&mut self) -> Request {
        let host =
            self.one(&["a.test", "b.a.test", "c.b.a.test", "x.c.b.a.test", "x.test", "test", "", ".test"]);
        let path = if self.below(20) == 0 { "*".to_owned() } else { self.path() };
        let header =
            |dice: &mut Self| (dice.one(&["x-a", "x-b"]).to_owned(), dice.one(&["1", "2"]).to_owned());
        let headers = (0..self.below(3)).map(|_| header(self)).collect();
        let query = self.one(&["", "p=1", "q=2&p=1", "%70=%31"]).to_owned();
        let scheme = if self.below(2) == 0 { Scheme::Http } else { Scheme::Https };
        Request {
            host: host.to_owned(),
            path,
            method: self.one(&["GET", "PUT", "POST"]),
            query,
            scheme,
            headers,
        }
    }
}

#[derive(Debug)]
struct Request {
    host: String,
    path: String,
    method: &'static str,
    query: String,
    scheme: Scheme,
    headers: Vec<(String, String)>,
}

impl Request {
    fn asked(&self) -> Asked<'_> {
        let Self { host, path, method, query, scheme, headers } = self;
        Asked { host, path, scheme: *scheme, method, query, headers }
    }
}

/// The documented precedence, word by word: every pair that matches gets a rank, the least one wins.
fn naive<'r>(routes: &'r [Route], asked: &Asked<'_>) -> Option<&'r Route> {
    let mut best: Option<([usize; 4], &Route)> = None;
    for (index, route) in routes.iter().enumerate() {
        if !route.conditions.hold(asked) || !route.path.matches(asked.path) {
            continue;
        }
        for host in &route.hosts {
            let host_rank = match host {
                HostPattern::Exact(name) if name == asked.host => 0,
                HostPattern::Wildcard(suffix)
                    if asked.host.ends_with(suffix.as_str()) && asked.host.len() > suffix.len() =>
                {
                    1000 - suffix.len()
                }
                HostPattern::Any => 1000,
                _ => continue,
            };
            let path_rank = match &route.path {
                PathPattern::Exact(_) => 0,
                PathPattern::Regex(pattern) => {
                    let same = |other: &Route| {
                        other.hosts.contains(host) && other.path == PathPattern::Regex(pattern.clone())
                    };
                    1 + routes.iter().position(same).unwrap()
                }
                PathPattern::Prefix(prefix) => 10_000 - prefix.as_str().len(),
            };
            let rank = [host_rank, path_rank, 100 - route.conditions.count(), index];
            if best.is_none_or(|(other, _)| rank < other) {
                best = Some((rank, route));
            }
        }
    }
    best.map(|(_, route)| route)
}

#[test]
fn the_table_finds_what_the_documented_precedence_says() {
    let mut found = 0;
    for seed in 0..TABLES {
        let mut dice = Dice(seed);
        let routes = dice.table();
        let table = RouteTable::new(routes.clone()).unwrap();
        for _ in 0..REQUESTS {
            let request = dice.request();
            let expected = naive(&routes, &request.asked()).map(|route| &route.id);
            let got = table.find(&request.asked()).map(|route| &route.id);
            assert_eq!(got, expected, "seed {seed} {request:?} {routes:#?}");
            found += usize::from(got.is_some());
        }
    }
    assert!(found > 5_000, "only {found} requests had a route: the claim is hollow");
}

#[test]
fn what_is_called_dead_takes_nothing_at_its_host() {
    let mut dead = 0;
    for seed in 0..TABLES {
        let mut dice = Dice(seed);
        let routes = dice.table();
        let table = RouteTable::new(routes.clone()).unwrap();
        let never: Vec<_> = overlaps(&routes).into_iter().filter(|o| o.relation == Relation::Never).collect();
        dead += never.len();
        for _ in 0..REQUESTS {
            let request = dice.request();
            let Some(route) = table.find(&request.asked()) else { continue };
            let at: Vec<_> =
                never.iter().filter(|o| routes[o.loser].id == route.id).map(|o| o.host).collect();
            // A route that is dead at every one of its hosts takes nothing at all.
            let wholly = route.hosts.iter().all(|host| at.contains(&host));
            assert!(!wholly || request.path == "*", "seed {seed} {request:?} {route:?}");
        }
    }
    assert!(dead > 200, "only {dead} dead routes: the claim is hollow");
}

#[test]
fn a_normal_path_is_its_own_normal_path_and_has_no_dots() {
    let pieces = ["/", "a", ".", "%2e", "%2F", "%5c", "%41", "%", "zz", "%25", "..", "\u{e4}", ";", "%e4"];
    for seed in 0..20_000 {
        let mut dice = Dice(seed);
        let path: String = (0..=dice.below(10)).map(|_| dice.one(&pieces)).collect();
        let path = format!("/{path}");
        let Ok(normal) = normal_path(&path) else { continue };
        assert_eq!(normal_path(&normal).as_deref(), Ok(normal.as_ref()), "{path}");
        assert!(normal.starts_with('/'), "{path} {normal}");
        assert!(!normal.split('/').any(|segment| segment == "." || segment == ".."), "{path} {normal}");
        let escaped = |of: &str, escape: &str| of.to_ascii_uppercase().matches(escape).count();
        assert!(escaped(&normal, "%2F") <= escaped(&path, "%2F"), "{path} {normal}");
        assert!(!normal.to_ascii_lowercase().contains("%2e"), "{path} {normal}");
    }
}
