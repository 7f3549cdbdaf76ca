//! What the core costs: a request's decision, and an evaluation of the fleet.
//!
//! `cargo bench --bench decide`. Figures are medians of interleaved rounds, as
//! ratios to a peer in the same run: cloning a two-kilobyte request head, which
//! any proxy does at least once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use proxima::domain::endpoint::{Endpoint, pick};
use proxima::domain::fleet::{EndpointAnswer, Fleet, Input, Probe, Target};
use proxima::domain::health::HealthPolicy;
use proxima::domain::latency::Rtt;
use proxima::domain::name::{DnsName, EntryId, RegionId, RouteId, ServiceId};
use proxima::domain::operator::OperatorState;
use proxima::domain::plan::{Distances, Fence, Generation, NameState, Room, Situation, Turn, judge};
use proxima::domain::policy::{FailoverPolicy, NamePolicy, Policy, RegionPolicy, Steering};
use proxima::domain::routing::{
    Action, Asked, ExactPath, HostPattern, PathPattern, PathPrefix, Pattern, RequestHeaders, Route,
    RouteTable, Scheme,
};
use proxima::domain::selection::Margin;
use proxima::domain::time::Time;
use proxima::domain::votes::Verdict;
use proxima::domain::weights::WeightedSet;
use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROUNDS: usize = 21;
const CALLS: u32 = 2_000;

struct Job {
    name: &'static str,
    run: Box<dyn FnMut()>,
    nanos: Vec<f64>,
}

fn job(name: &'static str, run: impl FnMut() + 'static) -> Job {
    Job { name, run: Box::new(run), nanos: Vec::new() }
}

fn head() -> Vec<(String, String)> {
    (0..20).map(|n| (format!("x-header-{n}"), "v".repeat(90))).collect()
}

struct NoHeaders;

impl RequestHeaders for NoHeaders {
    fn any(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        false
    }
}

/// Ten routes a host: an exact path, an expression, and prefixes.
fn routes(hosts: usize) -> RouteTable {
    let service = ServiceId::parse("web").unwrap();
    let route = |host: usize, n: usize| {
        let path = match n {
            0 => PathPattern::Exact(ExactPath::parse("/login").unwrap()),
            1 => PathPattern::Regex(Pattern::parse("/users/[0-9]+").unwrap()),
            _ => PathPattern::Prefix(PathPrefix::parse(&format!("/api/v{n}")).unwrap()),
        };
        let host = HostPattern::Exact(format!("host-{host}.example.com"));
        let id = RouteId::parse(&format!("r-{n}")).unwrap();
        Route::new(id, vec![host], path, Action::service(service.clone()))
    };
    RouteTable::new((0..hosts).flat_map(|h| (0..10).map(move |n| (h, n))).map(|(h, n)| route(h, n)).collect())
        .unwrap()
}

fn find(table: &RouteTable, host: &str, path: &str) -> bool {
    let (host, path) = (black_box(host), black_box(path));
    let asked = Asked { host, path, scheme: Scheme::Http, method: "GET", query: "", headers: &NoHeaders };
    table.find(&asked).is_some()
}

fn fleet(regions: usize, endpoints: u8) -> Fleet {
    let name = |n: usize| RegionId::parse(&format!("region-{n}")).unwrap();
    let web = ServiceId::parse("web").unwrap();
    let policy = Policy {
        own: name(0),
        regions: (0..regions).map(|n| (name(n), RegionPolicy::default())).collect(),
        services: BTreeSet::from([web.clone()]),
        routes: Arc::new(RouteTable::default()),
        names: BTreeMap::new(),
        health: HealthPolicy::default(),
        margin: Margin::default(),
        rtt_window: Duration::from_secs(30),
        failover: FailoverPolicy::default(),
        steering: Steering::default(),
    };
    let mut fleet = Fleet::new(Arc::new(policy), 1);
    let addresses: Vec<SocketAddr> =
        (1..=endpoints).map(|n| SocketAddr::from(([127, 0, 0, n], 80))).collect();
    let target = Target::Service(web.clone());
    fleet.handle(Input::Resolved { target, addresses: addresses.clone() }, Time::ZERO);
    for address in addresses {
        let probe = Probe::Endpoint { service: web.clone(), address, result: Ok(EndpointAnswer::Well) };
        fleet.handle(Input::Probed(probe), Time::ZERO);
    }
    fleet
}

/// Median time to build the table of 1,000 hosts and 10,000 routes, their parsing included: milliseconds.
fn built() -> f64 {
    median_millis(5, || {
        black_box(routes(1_000));
    })
}

/// Median time of a whole judgement of one name: 33 entries over 33 regions of which three are down, with
/// room for hardly more than all users, so that many move on to make room for others: milliseconds.
fn judged() -> f64 {
    const REGIONS: usize = 33;
    let regions: Vec<RegionId> =
        (0..REGIONS).map(|n| RegionId::parse(&format!("region-{n:02}")).unwrap()).collect();
    let home: BTreeMap<EntryId, WeightedSet> =
        regions.iter().map(|r| (EntryId::from(r), WeightedSet::only(r.clone()))).collect();
    let mut draw = 1_u64;
    let mut random = |below: u64| {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (draw >> 33) % below
    };
    let mut distances = Distances::default();
    let mut room = Room::default();
    for from in &regions {
        regions.iter().for_each(|to| distances.add(from, to, Rtt::millis(5 + random(250))));
        room.demand.insert(EntryId::from(from), 500.0 + random(1_000) as f64);
    }
    let each = room.demand.values().sum::<f64>() / (REGIONS - 3) as f64 * 1.02;
    room.capacity = regions.iter().map(|region| (region.clone(), each)).collect();
    let verdict = |n: usize| if n % 11 == 5 { Verdict::Down } else { Verdict::Up };
    let verdicts = regions.iter().enumerate().map(|(n, r)| (r.clone(), verdict(n))).collect();
    let state = NameState {
        fence: Fence { epoch: "e".into(), generation: Generation::new(1) },
        writer: None,
        changed_at: None,
        operator: OperatorState::default(),
        sets: home.clone(),
    };
    let now = Time::from_millis(1_000_000);
    let turn = Turn { rank: 0, waiting_since: None, awake_since: Time::ZERO, read: true, holds: true };
    let (name, failover) = (DnsName::parse("www.example.com").unwrap(), FailoverPolicy::default());
    let policy = NamePolicy { entries: home, services: BTreeSet::new() };
    let situation = Situation {
        name: &name,
        own: &regions[0],
        policy: &policy,
        failover: &failover,
        verdicts: &verdicts,
        state: &state,
        last: None,
        drifted: 0,
        changes: &[],
        distances: &distances,
        room: &room,
        margin: Margin::default(),
        turn,
        now,
    };
    assert!(judge(&situation).plan.is_some());
    median_millis(50, || {
        black_box(judge(&situation));
    })
}

fn median_millis(calls: usize, mut call: impl FnMut()) -> f64 {
    let mut millis: Vec<f64> = (0..calls)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    millis.sort_by(f64::total_cmp);
    millis[millis.len() / 2]
}

fn main() {
    let head = head();
    let table = Arc::new(routes(1_000));
    let (exact, regex, nowhere) = (Arc::clone(&table), Arc::clone(&table), Arc::clone(&table));
    let pods: Vec<Arc<Endpoint>> =
        (1..=100).map(|n| Arc::new(Endpoint::new(SocketAddr::from(([127, 0, 0, n], 80))))).collect();
    let (mut draw, mut millis, mut fleet) = (0u64, 0u64, fleet(14, 100));
    let mut jobs = [
        job("peer: clone a 2 KB request head", move || {
            black_box(head.clone());
        }),
        job("route: 1,000 hosts, 10,000 routes: prefix", move || {
            assert!(find(&table, "host-500.example.com", "/api/v5/items"));
        }),
        job("route: the same, exact path", move || {
            assert!(find(&exact, "host-999.example.com", "/login"));
        }),
        job("route: the same, expression", move || {
            assert!(find(&regex, "host-0.example.com", "/users/4711"));
        }),
        job("route: the same, no route, 12 segments", move || {
            assert!(!find(&nowhere, "a.b.c.d.example.com", "/a/b/c/d/e/f/g/h/i/j/k/l"));
        }),
        job("endpoint: two choices of 100", move || {
            draw = draw.wrapping_add(0x9e37_79b9_7f4a_7c15);
            black_box(pick(&pods, &[], draw, Time::from_millis(1)));
        }),
        job("fleet: evaluate 14 regions, 100 endpoints", move || {
            millis += 250;
            black_box(fleet.handle(Input::Tick, Time::from_millis(millis)));
        }),
    ];
    for _ in 0..ROUNDS {
        for job in &mut jobs {
            let start = Instant::now();
            for _ in 0..CALLS {
                (job.run)();
            }
            job.nanos.push(start.elapsed().as_nanos() as f64 / f64::from(CALLS));
        }
    }
    let medians: Vec<f64> = jobs
        .iter_mut()
        .map(|job| {
            job.nanos.sort_by(f64::total_cmp);
            job.nanos[ROUNDS / 2]
        })
        .collect();
    println!("{:<44} {:>9.1} ms", "route: building the table of 10,000", built());
    println!("{:<44} {:>9.2} ms", "plan: 33 entries over 33 regions, 3 down", judged());
    println!("{:<44} {:>12} {:>10}", "", "ns a call", "x peer");
    for (job, nanos) in jobs.iter().zip(&medians) {
        println!("{:<44} {:>12.0} {:>10.2}", job.name, nanos, nanos / medians[0]);
    }
}
