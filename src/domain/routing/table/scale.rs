//! The work of a look-up does not grow with the number of routes, counted and not timed.

use super::*;
use crate::domain::name::{RouteId, ServiceId};
use crate::domain::routing::{Action, ExactPath, PathPrefix};

/// What a table of this many hosts and routes a host has to compare for a request.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Work {
    /// Texts of hosts and paths.
    texts: usize,
    /// Sets of expressions that are run.
    sets: usize,
    /// Routes whose conditions may be asked.
    routes: usize,
}

fn host(n: usize) -> HostPattern {
    if n % 4 == 3 {
        HostPattern::Wildcard(format!(".wild-{n}.example.com"))
    } else {
        HostPattern::Exact(format!("host-{n}.example.com"))
    }
}

fn table(hosts: usize, paths: usize) -> RouteTable {
    let web = ServiceId::parse("web").unwrap();
    let route = |h: usize, n: usize| {
        let path = match n % 5 {
            0 => PathPattern::Exact(ExactPath::parse(&format!("/login/{n}")).unwrap()),
            1 if n < 10 => PathPattern::Regex(Pattern::parse(&format!("/users-{n}/[0-9]+")).unwrap()),
            _ => PathPattern::Prefix(PathPrefix::parse(&format!("/api/v{n}")).unwrap()),
        };
        let id = RouteId::parse(&format!("r-{h}-{n}")).unwrap();
        Route::new(id, vec![host(h)], path, Action::service(web.clone()))
    };
    RouteTable::new(
        (0..hosts).flat_map(|h| (0..paths).map(move |n| (h, n))).map(|(h, n)| route(h, n)).collect(),
    )
    .unwrap()
}

/// Entries that are compared with a key until it is found, or known to be absent.
fn texts<V>(lookup: &Lookup<V>, key: &str) -> usize {
    let found = lookup.probed(key).position(|(known, _)| **known == *key);
    found.map_or_else(|| lookup.probed(key).count(), |at| at + 1)
}

/// Of a request that no route's conditions take: everything is tried.
fn work(table: &RouteTable, host: &str, path: &str) -> Work {
    let mut work = Work { texts: texts(&table.exact, host), ..Work::default() };
    for suffix in suffixes(host) {
        work.texts += texts(&table.wildcard, suffix);
    }
    for of in table.hosts(host) {
        work.texts += texts(&of.exact, path);
        for prefix in prefixes(path, of.prefixes.longest()) {
            work.texts += texts(&of.prefixes, prefix);
        }
        work.sets += usize::from(of.regexes.is_some());
    }
    work.routes = table.candidates(host, path).count();
    work
}

/// The sum and the worst over requests for every host and path of a table, and for unknown ones.
fn all(hosts: usize, paths: usize) -> (f64, Work) {
    let table = table(hosts, paths);
    assert_eq!(table.routes().len(), hosts * paths);
    let (mut sum, mut count, mut worst) = (0, 0_usize, Work::default());
    for h in 0..hosts {
        for name in
            [format!("host-{h}.example.com"), format!("x.wild-{h}.example.com"), format!("other-{h}.test")]
        {
            for n in (0..paths).step_by(paths.div_ceil(50)) {
                for path in [format!("/login/{n}"), format!("/api/v{n}/items/7"), format!("/other/{n}/x/y")] {
                    let one = work(&table, &name, &path);
                    sum += one.texts;
                    count += 1;
                    worst.texts = worst.texts.max(one.texts);
                    worst.sets = worst.sets.max(one.sets);
                    worst.routes = worst.routes.max(one.routes);
                }
            }
        }
    }
    (sum as f64 / count as f64, worst)
}

#[test]
fn a_look_up_compares_as_much_among_ten_thousand_routes_as_among_ten() {
    let (few, least) = all(1, 10);
    for (hosts, paths) in [(1_000, 10), (1, 10_000), (100, 100)] {
        let (mean, worst) = all(hosts, paths);
        let what = format!(
            "{hosts} hosts of {paths} routes: {mean:.1} texts, at worst {worst:?}; of ten: {few:.1}, {least:?}"
        );
        // A look-up is one text or two; runs in a table that is half full are short.
        assert!(mean <= few + 4.0, "{what}");
        assert!(worst.texts <= 60, "{what}");
        assert!(worst.sets <= 1 && worst.routes <= 1, "{what}");
    }
}
