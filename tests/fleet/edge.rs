//! Region `a`'s fleet, and the words to tell it what happens.

use proxima::domain::fleet::{
    DnsReport, EndpointAnswer, Fleet, Input, Outcome, OutcomeResult, OutcomeRun, Output, Probe, ProbeFailure,
    RegionAnswer, ServiceLoad, Target,
};
use proxima::domain::health::{HealthPolicy, Word};
use proxima::domain::latency::Rtt;
use proxima::domain::name::{DnsName, EntryId, RegionId, ServiceId};
use proxima::domain::operator::OperatorState;
use proxima::domain::plan::{Fence, Generation, NameState, Plan};
use proxima::domain::policy::{FailoverPolicy, NamePolicy, Policy, RegionPolicy, Steering};
use proxima::domain::routing::RouteTable;
use proxima::domain::selection::Margin;
use proxima::domain::snapshot::{Place, Snapshot};
use proxima::domain::time::Time;
use proxima::domain::view::{ServiceView, View, WitnessView};
use proxima::domain::weights::WeightedSet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub fn region(name: &str) -> RegionId {
    RegionId::parse(name).unwrap()
}

pub fn web() -> ServiceId {
    ServiceId::parse("web").unwrap()
}

pub fn www() -> DnsName {
    DnsName::parse("www.example.com").unwrap()
}

pub fn pod(n: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, n], 80))
}

pub fn home() -> BTreeMap<EntryId, WeightedSet> {
    ["a", "b", "c"].iter().map(|n| (EntryId::parse(n).unwrap(), WeightedSet::only(region(n)))).collect()
}

pub fn policy() -> Policy {
    Policy {
        own: region("a"),
        regions: ["a", "b", "c"].iter().map(|n| (region(n), RegionPolicy::default())).collect(),
        services: BTreeSet::from([web()]),
        routes: Arc::new(RouteTable::default()),
        names: BTreeMap::from([(
            www(),
            NamePolicy { entries: Arc::new(home()), services: BTreeSet::from([web()]) },
        )]),
        health: HealthPolicy::default(),
        margin: Margin::default(),
        rtt_window: Duration::from_secs(30),
        failover: FailoverPolicy::default(),
        steering: Steering::default(),
    }
}

/// Region `a`'s fleet, with what it last published.
pub struct Edge {
    pub fleet: Fleet,
    pub policy: Policy,
    pub now: Time,
    pub sequence: u64,
    /// Requests a second that clients send to each peer.
    pub entered: f64,
    /// The same for each name.
    pub entered_by_name: BTreeMap<DnsName, f64>,
    /// What the peers say that they have read at Route 53.
    pub readings: BTreeMap<RegionId, WitnessView>,
    pub snapshot: Option<Arc<Snapshot>>,
    pub view: Option<Arc<View>>,
    pub plans: Vec<Plan>,
}

impl Edge {
    pub fn new(policy: Policy) -> Self {
        let fleet = Fleet::new(Arc::new(policy.clone()), 1);
        let now = Time::from_millis(3_600_000);
        let mut edge = Self {
            fleet,
            policy,
            now,
            sequence: 0,
            entered: 0.0,
            entered_by_name: BTreeMap::new(),
            readings: BTreeMap::new(),
            snapshot: None,
            view: None,
            plans: Vec::new(),
        };
        edge.tell(Input::Resolved { target: Target::Service(web()), addresses: vec![pod(1), pod(2)] });
        for (n, name) in [(11, "b"), (12, "c")] {
            edge.tell(Input::Resolved { target: Target::Peer(region(name)), addresses: vec![pod(n)] });
        }
        edge
    }

    /// All well for five seconds.
    pub fn steady(policy: Policy) -> Self {
        let mut edge = Self::new(policy);
        edge.second(5, |edge| {
            edge.pods(true);
            edge.peer("b", 20, Word::Up, Word::Up);
            edge.peer("c", 80, Word::Up, Word::Up);
        });
        edge
    }

    pub fn tell(&mut self, input: Input) {
        for output in self.fleet.handle(input, self.now) {
            match output {
                Output::Publish(snapshot) => self.snapshot = Some(snapshot),
                Output::View(view) => self.view = Some(view),
                Output::Propose(plan) => self.plans.push(plan),
                Output::Moved(_) | Output::Operated { .. } => {}
            }
        }
    }

    /// Requests a second that clients send here, and that own pods are asked for.
    pub fn load(&mut self, entered_rps: f64, served_rps: f64, services: BTreeMap<ServiceId, ServiceLoad>) {
        self.tell(Input::Load { entered_rps, names: BTreeMap::new(), served_rps, services });
    }

    /// Requests a second that clients send here and that are served here, by what they ask for.
    pub fn load_by_name(&mut self, names: BTreeMap<DnsName, f64>) {
        let all = names.values().sum();
        let load = ServiceLoad { entered_rps: all, served_rps: all, ..ServiceLoad::default() };
        let services = BTreeMap::from([(web(), load)]);
        self.tell(Input::Load { entered_rps: all, names, served_rps: all, services });
    }

    /// Lets `seconds` pass; `each` tells what happens in every one of them.
    pub fn second(&mut self, seconds: u32, each: impl Fn(&mut Self)) {
        for _ in 0..seconds {
            each(self);
            for _ in 0..4 {
                self.now = self.now + Duration::from_millis(250);
                self.tell(Input::Tick);
            }
        }
    }

    pub fn pods(&mut self, well: bool) {
        for n in [1, 2] {
            let result = if well { Ok(EndpointAnswer::Well) } else { Err(ProbeFailure::Connect) };
            self.tell(Input::Probed(Probe::Endpoint { service: web(), address: pod(n), result }));
        }
    }

    /// A region's view: its own service, and what it says of `a`.
    pub fn peer(&mut self, name: &str, rtt: u64, service: Word, of_a: Word) {
        self.peer_votes(name, rtt, service, &[("a", of_a), ("b", Word::Up), ("c", Word::Up)]);
    }

    pub fn peer_votes(&mut self, name: &str, rtt: u64, service: Word, votes: &[(&str, Word)]) {
        // As an edge says it: what is not known is left out.
        let known = (service != Word::Unknown).then_some((web(), ServiceView::of(service)));
        let services = Arc::new(known.into_iter().collect());
        self.sequence += 1;
        let votes: Arc<BTreeMap<_, _>> = Arc::new(votes.iter().map(|(n, word)| (region(n), *word)).collect());
        let view = View {
            sequence: self.sequence,
            services,
            votes: self.policy.names.keys().map(|name| (name.clone(), votes.clone())).collect(),
            entered_rps: self.entered,
            entered_by_name: self.entered_by_name.clone(),
            witnesses: self.readings.clone(),
            ..View::first(region(name), 9, self.policy.agreement_hash())
        };
        let answer = RegionAnswer { rtt: Some(Rtt::millis(rtt)), view: Arc::new(view) };
        self.tell(Input::Probed(Probe::Region { region: region(name), result: Ok(answer) }));
    }

    /// At `name`'s address another region answers.
    pub fn answers(&mut self, name: &str, other: &str) {
        let view = View { region: region(other), ..View::clone(self.view.as_ref().unwrap()) };
        let answer = RegionAnswer { rtt: None, view: Arc::new(view) };
        self.tell(Input::Probed(Probe::Region { region: region(name), result: Ok(answer) }));
    }

    pub fn silent(&mut self, name: &str) {
        let result = Err(ProbeFailure::Timeout);
        self.tell(Input::Probed(Probe::Region { region: region(name), result }));
    }

    pub fn records(&mut self, generation: u64, sets: BTreeMap<EntryId, WeightedSet>) {
        self.records_with(generation, sets, &[]);
    }

    pub fn records_with(&mut self, generation: u64, sets: BTreeMap<EntryId, WeightedSet>, drains: &[&str]) {
        self.records_of(&www(), generation, sets, drains);
    }

    pub fn records_of(
        &mut self,
        name: &DnsName,
        generation: u64,
        sets: BTreeMap<EntryId, WeightedSet>,
        drains: &[&str],
    ) {
        let state = NameState {
            fence: Fence { epoch: "e".into(), generation: Generation::new(generation) },
            writer: None,
            changed_at: None,
            claim: None,
            operator: OperatorState::draining(drains.iter().map(|n| region(n))),
            sets,
        };
        self.tell(Input::Dns(DnsReport::Read { name: name.clone(), state: Box::new(state) }));
    }

    /// The first plan met a conflict.
    pub fn conflict(&mut self) {
        let expires_at = self.plans[0].expires_at;
        self.tell(Input::Dns(DnsReport::Conflict { name: www(), expires_at }));
    }

    pub fn outcome(&mut self, name: &str, address: SocketAddr, result: OutcomeResult) {
        let outcome = Outcome { service: web(), region: region(name), address, result };
        self.tell(Input::Outcomes(vec![OutcomeRun::one(outcome, Duration::ZERO)]));
    }

    /// A second in which everyone is well.
    pub fn all_well(&mut self) {
        self.pods(true);
        self.peer("b", 20, Word::Up, Word::Up);
        self.peer("c", 80, Word::Up, Word::Up);
    }

    /// A second in which the own service is down and everyone says so.
    pub fn own_down(&mut self) {
        self.pods(false);
        self.peer("b", 20, Word::Up, Word::Down);
        self.peer("c", 80, Word::Up, Word::Down);
    }

    pub fn candidates(&self) -> Vec<(String, Place)> {
        let service = &self.snapshot.as_ref().unwrap().services[&web()];
        service.candidates.iter().map(|c| (c.region.to_string(), c.place)).collect()
    }

    pub fn order(&self) -> Vec<String> {
        self.candidates().into_iter().map(|(region, _)| region).collect()
    }
}
