//! What the core costs: a request's decision, and an evaluation of the fleet.
//!
//! `cargo bench --bench decide`. Figures are medians of interleaved rounds, as
//! ratios to a peer in the same run: cloning a two-kilobyte request head, which
//! any proxy does at least once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use proxima::domain::endpoint::{Endpoint, pick};
use proxima::domain::fleet::{EndpointAnswer, Fleet, Input, Output, Probe, RegionAnswer, Target};
use proxima::domain::health::{HealthPolicy, Word};
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
use proxima::domain::view::{ServiceView, View};
use proxima::domain::votes::Verdict;
use proxima::domain::weights::WeightedSet;
use proxima::proxy::attempts::{Attempts, Budget};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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

fn name(n: usize) -> RegionId {
    RegionId::parse(&format!("region-{n}")).unwrap()
}

fn service(n: usize) -> ServiceId {
    ServiceId::parse(&format!("service-{n}")).unwrap()
}

fn policy(regions: usize, services: usize, routes: Arc<RouteTable>) -> Policy {
    let www = DnsName::parse("www.example.com").unwrap();
    let entries = (0..regions).map(|n| (EntryId::from(&name(n)), WeightedSet::only(name(n))));
    Policy {
        own: name(0),
        regions: (0..regions).map(|n| (name(n), RegionPolicy::default())).collect(),
        services: (0..services).map(service).collect(),
        routes,
        names: BTreeMap::from([(www, named(entries.collect()))]),
        health: HealthPolicy::default(),
        margin: Margin::default(),
        rtt_window: Duration::from_secs(30),
        failover: FailoverPolicy::default(),
        steering: Steering::default(),
    }
}

fn named(entries: BTreeMap<EntryId, WeightedSet>) -> NamePolicy {
    NamePolicy { entries: Arc::new(entries), services: BTreeSet::from([service(0)]) }
}

/// A fleet whose regions have been heard, with so many endpoints of each service.
struct World {
    fleet: Fleet,
    policy: Policy,
    now: Time,
    sequence: u64,
}

impl World {
    fn new(regions: usize, services: usize, endpoints: u8, routes: Arc<RouteTable>) -> Self {
        let policy = policy(regions, services, routes);
        let fleet = Fleet::new(Arc::new(policy.clone()), 1);
        let mut world = Self { fleet, policy, now: Time::from_millis(1), sequence: 0 };
        for n in 1..regions {
            let addresses = vec![SocketAddr::from(([127, 1, 0, u8::try_from(n).unwrap()], 443))];
            world.tell(Input::Resolved { target: Target::Peer(name(n)), addresses });
        }
        for n in 0..services {
            let addresses: Vec<SocketAddr> =
                (1..=endpoints).map(|e| SocketAddr::from(([127, 0, 0, e], 80))).collect();
            world.tell(Input::Resolved { target: Target::Service(service(n)), addresses: addresses.clone() });
            for address in addresses {
                let result = Ok(EndpointAnswer::Well);
                world.tell(Input::Probed(Probe::Endpoint { service: service(n), address, result }));
            }
        }
        for _ in 0..3 {
            for n in 1..regions {
                let probe = world.probe(n, Word::Up);
                world.tell(probe);
            }
            world.evaluate();
        }
        world
    }

    fn tell(&mut self, input: Input) -> Vec<Output> {
        self.fleet.handle(input, self.now)
    }

    /// Lets the time for an evaluation pass, and evaluates.
    fn evaluate(&mut self) -> Vec<Output> {
        self.now = self.now + Duration::from_millis(250);
        self.tell(Input::Tick)
    }

    /// A region's answer, in which all of its services are in one state.
    fn probe(&mut self, region: usize, word: Word) -> Input {
        self.sequence += 1;
        let services = self.policy.services.iter().map(|id| (id.clone(), ServiceView::of(word)));
        let votes = self.policy.regions.keys().map(|id| (id.clone(), Word::Up));
        let votes = Arc::new(votes.collect());
        let view = View {
            sequence: self.sequence,
            services: Arc::new(services.collect()),
            rtts: Arc::new(self.policy.regions.keys().map(|id| (id.clone(), Rtt::millis(20))).collect()),
            votes: self.policy.names.keys().map(|id| (id.clone(), Arc::clone(&votes))).collect(),
            ..View::first(name(region), 9, self.policy.agreement_hash())
        };
        let rtt = Some(Rtt::millis(10 + region as u64));
        let result = Ok(RegionAnswer { rtt, view: Arc::new(view) });
        Input::Probed(Probe::Region { region: name(region), result })
    }
}

/// Median of some runs, in microseconds; `make` is not counted.
fn median_micros<T>(runs: usize, mut make: impl FnMut() -> T, mut run: impl FnMut(T)) -> f64 {
    let mut micros: Vec<f64> = (0..runs)
        .map(|_| {
            let made = make();
            let start = Instant::now();
            run(made);
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    micros.sort_by(f64::total_cmp);
    micros[micros.len() / 2]
}

/// What the core promises, each beside its bound; `false` where one is broken.
fn promises() -> bool {
    let world = RefCell::new(World::new(33, 100, 3, Arc::default()));
    let mut turn = 0;
    let probe = median_micros(
        2_000,
        || {
            turn += 1;
            world.borrow_mut().probe(1 + turn % 32, Word::Up)
        },
        // Between two evaluations, of which there are at most ten a second.
        |input| drop(black_box(world.borrow_mut().tell(input))),
    );
    let whole = median_micros(
        1_000,
        || {
            let mut world = world.borrow_mut();
            world.now = world.now + Duration::from_millis(250);
            turn += 1;
            world.probe(1 + turn % 32, Word::Up)
        },
        |input| drop(black_box(world.borrow_mut().tell(input))),
    );
    let large = RefCell::new(World::new(33, 1_000, 3, Arc::new(routes(1_000))));
    let mut word = Word::Up;
    let change = median_micros(
        101,
        || {
            let mut world = large.borrow_mut();
            // Back-off would keep the region away: an hour later nothing is held against it.
            world.now = world.now + Duration::from_secs(3_600);
            for n in 1..33 {
                let probe = world.probe(n, if n == 7 { word } else { Word::Up });
                world.tell(probe);
            }
            world.evaluate();
            world.evaluate();
            word = if word == Word::Up { Word::Down } else { Word::Up };
            for _ in 0..2 {
                let probe = world.probe(7, word);
                world.tell(probe);
            }
            world.now = world.now + Duration::from_millis(250);
        },
        |()| {
            let outputs = large.borrow_mut().tell(Input::Tick);
            let published = outputs.iter().any(|output| matches!(output, Output::Publish(_)));
            assert!(published, "a region's change is a decision");
            black_box(outputs);
        },
    );
    let configure = median_micros(
        21,
        || Arc::new(policy(33, 1_000, Arc::new(routes(1_000)))),
        |policy| {
            let mut world = large.borrow_mut();
            world.tell(Input::Configure(policy));
            black_box(world.evaluate());
        },
    );
    println!("{:<58} {:>10} {:>10}", "", "measured", "bound");
    let rows = [
        ("a probe: 33 regions, 100 services (us)", probe, 20.0),
        ("the same with the evaluation that is due (us)", whole, 1_000.0),
        ("a region's change: 10,000 routes, 1,000 services (us)", change, 1_000.0),
        ("a whole new configuration of that size (us)", configure, 50_000.0),
        ("a candidate and an endpoint of 33 regions (ns)", candidates(), 200.0),
        ("a plan: 33 entries over 33 regions, 3 down (ms)", judged(), 10.0),
    ];
    for (what, measured, bound) in rows {
        let verdict = if measured <= bound { "" } else { "  BROKEN" };
        println!("{what:<58} {measured:>10.1} {bound:>10.0}{verdict}");
    }
    rows.iter().all(|(_, measured, bound)| measured <= bound)
}

/// Time to choose where a request goes. It allocates nothing: turns and tried endpoints are kept in place.
fn candidates() -> f64 {
    let mut world = World::new(33, 1, 100, Arc::default());
    // Another region is no more: a decision, so that there is a snapshot to be had.
    let probe = world.probe(32, Word::Down);
    world.tell(probe);
    let snapshot = world.evaluate().into_iter().find_map(|output| match output {
        Output::Publish(snapshot) => Some(snapshot),
        _ => None,
    });
    let service = Arc::clone(&snapshot.unwrap().services[&service(0)]);
    let mut draw = 0u64;
    let mut choose = || {
        draw = draw.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut attempts = Attempts::all(Arc::clone(&service), Budget::new(3, true), None, draw);
        drop(black_box(attempts.next(draw, Time::from_millis(1))));
    };
    choose();
    let start = Instant::now();
    const CHOICES: u32 = 200_000;
    (0..CHOICES).for_each(|_| choose());
    start.elapsed().as_nanos() as f64 / f64::from(CHOICES)
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
        claim: None,
        operator: OperatorState::default(),
        sets: home.clone(),
    };
    let now = Time::from_millis(1_000_000);
    let turn = Turn {
        rank: 0,
        waiting_since: None,
        awake_since: Time::ZERO,
        read: true,
        read_at: Some(now),
        holds: true,
    };
    let (name, failover) = (DnsName::parse("www.example.com").unwrap(), FailoverPolicy::default());
    let policy = NamePolicy { entries: Arc::new(home), services: BTreeSet::new() };
    let situation = Situation {
        name: &name,
        own: &regions[0],
        policy: &policy,
        failover: &failover,
        verdicts: &verdicts,
        state: &state,
        operator: &state.operator,
        last: None,
        drifted: 0,
        changes: &[],
        distances: &distances,
        room: &room,
        margin: Margin::default(),
        content: None,
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
    let (mut draw, mut world) = (0u64, World::new(14, 1, 100, Arc::default()));
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
            black_box(world.evaluate());
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
    println!("{:<44} {:>12} {:>10}", "", "ns a call", "x peer");
    for (job, nanos) in jobs.iter().zip(&medians) {
        println!("{:<44} {:>12.0} {:>10.2}", job.name, nanos, nanos / medians[0]);
    }
    if !promises() {
        std::process::exit(1);
    }
}
