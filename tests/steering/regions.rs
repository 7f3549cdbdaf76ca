//! Several fleets that hear each other every second, and requests that go where their snapshots say.

use proxima::domain::fleet::{
    EndpointAnswer, Fleet, Input, Output, Probe, ProbeFailure, RegionAnswer, ServiceLoad, Target,
};
use proxima::domain::health::HealthPolicy;
use proxima::domain::latency::Rtt;
use proxima::domain::name::{RegionId, ServiceId};
use proxima::domain::policy::{FailoverPolicy, Policy, RegionPolicy, Steering};
use proxima::domain::routing::RouteTable;
use proxima::domain::selection::Margin;
use proxima::domain::snapshot::{Place, ServiceSnapshot, Snapshot};
use proxima::domain::time::Time;
use proxima::domain::view::View;
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

/// A region of the world: its edge, and what goes on there.
pub struct Edge {
    pub name: RegionId,
    pub fleet: Fleet,
    pub snapshot: Option<Arc<Snapshot>>,
    pub view: Option<Arc<View>>,
    /// Requests a second of its own users.
    pub entered: f64,
    /// What its endpoints answer to probes; `None`: nothing.
    pub pods: Option<EndpointAnswer>,
    /// Requests a second that its endpoints can take; the rest is turned away.
    pub limit: f64,
    /// Requests a second at its endpoints in the last second, those turned away too.
    pub asked: f64,
    /// Of these, requests a second of other regions' users.
    pub foreign: f64,
}

pub struct World {
    pub now: Time,
    pub places: Vec<Edge>,
}

/// The regions' policy: `capacities` in requests a second, 0 for none.
pub fn policy(own: &str, capacities: &[(&str, f64)]) -> Policy {
    let regions = capacities.iter().map(|(name, capacity)| {
        let capacity_rps = (*capacity > 0.0).then_some(*capacity);
        (region(name), RegionPolicy { capacity_rps, ..RegionPolicy::default() })
    });
    Policy {
        own: region(own),
        regions: regions.collect(),
        services: BTreeSet::from([web()]),
        routes: Arc::new(RouteTable::default()),
        names: BTreeMap::new(),
        health: HealthPolicy::default(),
        margin: Margin::default(),
        rtt_window: Duration::from_secs(30),
        failover: FailoverPolicy::default(),
        steering: Steering::default(),
    }
}

impl World {
    /// Regions with these capacities and demands; each is 10 ms further than the one before it.
    pub fn new(regions: &[(&str, f64, f64)]) -> Self {
        let capacities: Vec<_> = regions.iter().map(|(name, capacity, _)| (*name, *capacity)).collect();
        Self::with(regions, |own| policy(own, &capacities))
    }

    pub fn with(regions: &[(&str, f64, f64)], policy: impl Fn(&str) -> Policy) -> Self {
        let now = Time::from_millis(3_600_000);
        let place = |(index, (name, _, entered)): (usize, &(&str, f64, f64))| {
            let mut place = Edge {
                name: region(name),
                fleet: Fleet::new(Arc::new(policy(name)), index as u64 + 1),
                snapshot: None,
                view: None,
                entered: *entered,
                pods: Some(EndpointAnswer::Well),
                limit: f64::INFINITY,
                asked: 0.0,
                foreign: 0.0,
            };
            place.tell(Input::Resolved { target: Target::Service(web()), addresses: vec![pod()] }, now);
            for (other, (peer, _, _)) in regions.iter().enumerate().filter(|(other, _)| *other != index) {
                let address = SocketAddr::from(([127, 0, 1, other as u8], 443));
                let target = Target::Peer(region(peer));
                place.tell(Input::Resolved { target, addresses: vec![address] }, now);
            }
            place
        };
        Self { now, places: regions.iter().enumerate().map(place).collect() }
    }

    /// Lets seconds pass; calls `each` after every one.
    pub fn run(&mut self, seconds: u32, mut each: impl FnMut(&Self)) {
        for _ in 0..seconds {
            self.exchange();
            self.serve();
            for _ in 0..4 {
                self.now = self.now + Duration::from_millis(250);
                let now = self.now;
                self.places.iter_mut().for_each(|place| place.tell(Input::Tick, now));
            }
            each(self);
        }
    }

    fn exchange(&mut self) {
        let views: Vec<Option<Arc<View>>> = self.places.iter().map(|place| place.view.clone()).collect();
        let now = self.now;
        for (index, place) in self.places.iter_mut().enumerate() {
            let result = place.pods.ok_or(ProbeFailure::Connect);
            place.tell(Input::Probed(Probe::Endpoint { service: web(), address: pod(), result }), now);
            for (other, view) in views.iter().enumerate().filter(|(other, _)| *other != index) {
                let Some(view) = view else { continue };
                let rtt = Some(Rtt::millis(10 * (other as u64 + 1)));
                let answer = RegionAnswer { rtt, view: Arc::clone(view) };
                let probe = Probe::Region { region: view.region.clone(), result: Ok(answer) };
                place.tell(Input::Probed(probe), now);
            }
        }
    }

    /// A second of requests, each taken where its share says.
    fn serve(&mut self) {
        let mut asked: BTreeMap<RegionId, (f64, f64)> = BTreeMap::new();
        for place in &self.places {
            let Some(service) = place.web() else { continue };
            let mut left = place.entered;
            for candidate in service.candidates.iter() {
                let taken = left * candidate.share;
                left -= taken;
                let of = asked.entry(candidate.region.clone()).or_default();
                of.0 += taken;
                of.1 += if candidate.place == Place::Peer { taken } else { 0.0 };
            }
            // Those not taken come after all others: to the first one.
            if let Some(first) = service.candidates.first() {
                asked.entry(first.region.clone()).or_default().0 += left;
            }
        }
        for place in &mut self.places {
            let (all, foreign) = asked.get(&place.name).copied().unwrap_or_default();
            place.asked = all;
            place.foreign = foreign;
            let served_rps = all.min(place.limit);
            let load = ServiceLoad {
                entered_rps: place.entered,
                served_rps,
                shed_rps: all - served_rps,
                in_flight: served_rps as u32 / 10,
            };
            let services = BTreeMap::from([(web(), load)]);
            let now = self.now;
            place.tell(
                Input::Load { entered_rps: place.entered, names: BTreeMap::new(), served_rps, services },
                now,
            );
        }
    }

    pub fn place(&mut self, name: &str) -> &mut Edge {
        self.places.iter_mut().find(|place| place.name.as_str() == name).unwrap()
    }

    pub fn tell(&mut self, name: &str, input: Input) {
        let now = self.now;
        self.place(name).tell(input, now);
    }

    /// Requests a second at each region's endpoints, rounded.
    pub fn asked(&self) -> Vec<u32> {
        self.places.iter().map(|place| place.asked.round() as u32).collect()
    }
}

impl Edge {
    pub fn tell(&mut self, input: Input, now: Time) {
        for output in self.fleet.handle(input, now) {
            match output {
                Output::Publish(snapshot) => self.snapshot = Some(snapshot),
                Output::View(view) => self.view = Some(view),
                Output::Propose(_) | Output::Moved(_) | Output::Operated { .. } => {}
            }
        }
    }

    pub fn web(&self) -> Option<&ServiceSnapshot> {
        self.snapshot.as_ref()?.services.get(&web()).map(Arc::as_ref)
    }

    /// Regions in the order in which requests try them.
    pub fn order(&self) -> Vec<&str> {
        self.web().unwrap().candidates.iter().map(|candidate| candidate.region.as_str()).collect()
    }
}

fn pod() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 80))
}
