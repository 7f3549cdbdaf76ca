//! The fleet: the one owner of latency, health, votes and plans.
//!
//! `handle(input, now) -> outputs`; no clock, no I/O, no lock. The control task
//! runs it in production; tests run many of them in virtual time.
//!
//! Inputs only note what happened. Decisions are taken together, in
//! `evaluate`, at once when something changed and at most ten times a second.

use crate::domain::capacity::Spill;
use crate::domain::health::Health;
use crate::domain::name::{DnsName, RegionId, ServiceId};
use crate::domain::policy::Policy;
use crate::domain::snapshot::Snapshot;
use crate::domain::time::Time;
use crate::domain::view::ServiceView;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

mod agreement;
mod by_service;
mod demand;
mod explain;
mod message;
mod names;
mod operate;
mod outcomes;
mod own;
mod part;
mod peers;
mod plans;
mod publish;
mod room;
mod saved;
mod shared;
mod witnesses;

pub use message::{
    DnsReport, EndpointAnswer, Input, Outcome, OutcomeResult, Output, Probe, ProbeFailure, RegionAnswer,
    SampleSource, ServiceLoad, Target, Transition,
};

pub use outcomes::{OutcomeRun, add_outcome};
pub use saved::{OtherPolicy, SavedFleet};
pub use shared::{Lease, SHARED_PROBES_MAX, Shared, SharedAnswer, SharedProbe};

use by_service::{ByService, Stale};
use names::NameRecord;
use own::OwnService;
use peers::Peer;
use publish::Standings;
use shared::Sharing;
use witnesses::Readings;

/// Shortest time between two evaluations: snapshots are published at most ten times a second.
const EVALUATE_MIN: Duration = Duration::from_millis(100);
/// Longest time between two evaluations: shares grow, votes age and views are renewed with time.
const EVALUATE_MAX: Duration = Duration::from_millis(250);
/// A longer pause between two evaluations is no lateness any more: the process was stopped or
/// starved, and what it knows is as old as the pause.
const SLEPT: Duration = Duration::from_secs(1);

/// The state machine.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fleet {
    #[serde(serialize_with = "saved::write_own", deserialize_with = "saved::read_own")]
    policy: Arc<Policy>,
    /// `policy.agreement_hash()`.
    agreement: u64,
    boot: u64,
    sequence: u64,
    /// Every region but the own one.
    peers: BTreeMap<RegionId, Peer>,
    /// Services in the order in which every list of them is.
    ids: Arc<[ServiceId]>,
    services: ByService<OwnService>,
    names: BTreeMap<DnsName, NameRecord>,
    /// Other regions, nearest first, kept calm by the margin.
    order: Vec<RegionId>,
    load: Load,
    /// Whether this pod speaks for its region, and what the one that does says.
    sharing: Sharing,
    readings: Readings,
    /// Requests a second that services let each region carry, of all names that need them.
    bounds: BTreeMap<RegionId, BTreeMap<ServiceId, f64>>,
    /// Drains as they were last marked; `None`: they must be marked anew.
    drains: Option<BTreeMap<DnsName, BTreeSet<RegionId>>>,
    /// A distance changed since the regions were last ranked.
    unranked: bool,
    stale: Stale,
    /// Not written: lists that are made again, the same, when they are missing.
    #[serde(skip)]
    standings: Standings,
    /// What the last view said of services.
    #[serde(skip)]
    said: Arc<BTreeMap<ServiceId, ServiceView>>,
    /// This process was asked to end.
    leaving: bool,
    /// Something was noted since the last evaluation.
    dirty: bool,
    evaluated_at: Option<Time>,
    /// When plans were last thought of; `None`: they must be with the next evaluation.
    planned_at: Option<Time>,
    /// Since when evaluations have come without a pause.
    awake_since: Time,
    published: Option<Arc<Snapshot>>,
}

/// Requests a second through this region, and the share of its own users that it can serve.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Load {
    entered_rps: f64,
    names: BTreeMap<DnsName, f64>,
    served_rps: f64,
    shed_rps: f64,
    in_flight: u32,
    spill: Spill,
}

impl Fleet {
    /// `boot`: a random number, so that a restarted process is told from its past.
    pub fn new(policy: Arc<Policy>, boot: u64) -> Self {
        let mut fleet = Self {
            agreement: policy.agreement_hash(),
            policy: Arc::clone(&policy),
            boot,
            sequence: 0,
            peers: BTreeMap::new(),
            ids: Arc::new([]),
            services: ByService::default(),
            names: BTreeMap::new(),
            order: Vec::new(),
            load: Load::default(),
            sharing: Sharing::default(),
            readings: Readings::default(),
            bounds: BTreeMap::new(),
            drains: None,
            unranked: true,
            stale: Stale::default(),
            standings: Standings::default(),
            said: Arc::default(),
            leaving: false,
            dirty: true,
            evaluated_at: None,
            planned_at: None,
            awake_since: Time::ZERO,
            published: None,
        };
        fleet.configure(policy);
        fleet
    }

    /// What it decides by.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Notes what happened and, when it is time, decides.
    pub fn handle(&mut self, input: Input, now: Time) -> Vec<Output> {
        let mut outputs = Vec::new();
        match input {
            Input::Configure(policy) => self.configure(policy),
            Input::Resolved { target, addresses } => self.resolved(&target, addresses),
            Input::Probed(Probe::Region { region, result }) => self.region_probed(&region, result, now),
            Input::Probed(Probe::Endpoint { service, address, result }) => {
                self.endpoint_probed((&service, address), result, now, &mut outputs);
            }
            Input::Outcomes(runs) => self.outcomes(&runs, now, &mut outputs),
            Input::Zoned { service, zones } => self.zoned(&service, zones),
            Input::Sample { region, rtt, source } => self.sampled(&region, (rtt, source), now),
            Input::Load { entered_rps, names, served_rps, services } => {
                self.load.names = names;
                self.loaded((entered_rps, served_rps), &services, now);
            }
            Input::Lease(lease) => self.leased(lease),
            Input::Shared(shared) => self.told(*shared, now),
            Input::Leaving => {
                self.leaving = true;
                self.dirty = true;
            }
            Input::Dns(report) => self.dns_reported(report, now),
            Input::Operator(act) => self.operate(&act, now, &mut outputs),
            Input::Tick => {}
        }
        if self.deadline().is_none_or(|at| now >= at) {
            self.evaluate(now, &mut outputs);
        }
        outputs
    }

    /// When `handle` wants a `Tick` at the latest; `None`: at once.
    pub fn deadline(&self) -> Option<Time> {
        let pause = if self.dirty { EVALUATE_MIN } else { EVALUATE_MAX };
        self.evaluated_at.map(|at| at + pause)
    }

    fn configure(&mut self, policy: Arc<Policy>) {
        self.agreement = policy.agreement_hash();
        let own = policy.own.clone();
        self.peers.retain(|region, _| policy.regions.contains_key(region) && *region != own);
        for region in policy.regions.keys().filter(|r| **r != own) {
            self.peers.entry(region.clone()).or_default();
        }
        self.readings.retain(|region| policy.regions.contains_key(region));
        self.ids = policy.services.iter().cloned().collect();
        self.services.configure(&self.ids);
        for (id, service) in self.services.iter_mut() {
            service.room.configure(policy.steering.capacity_rps.get(id).copied());
            service.touch();
        }
        for peer in self.peers.values_mut() {
            peer.configure(&self.ids);
        }
        self.names.retain(|name, _| policy.names.contains_key(name));
        self.names.values_mut().for_each(|record| record.at_rest = None);
        for name in policy.names.keys() {
            self.names.entry(name.clone()).or_default();
        }
        self.policy = policy;
        self.drains = None;
        self.unranked = true;
        self.stale = Stale::all(self.ids.len());
        self.standings = Standings::default();
        self.planned_at = None;
        self.dirty = true;
    }

    fn evaluate(&mut self, now: Time, outputs: &mut Vec<Output>) {
        if self.evaluated_at.is_none_or(|at| now.since(at) > SLEPT) {
            self.awake_since = now;
        }
        self.evaluated_at = Some(now);
        self.dirty = false;
        self.mark_drains(now);
        for (place, (id, service)) in self.services.iter_mut().enumerate() {
            if service.advance(id, &self.policy, now, outputs) {
                self.stale.mark(place);
            }
        }
        for (region, peer) in &mut self.peers {
            peer.advance(region, &self.policy, now, outputs);
        }
        self.rank();
        self.share_room(now);
        let witnesses = self.witnesses(now);
        let moved = outputs.len();
        self.agree(&witnesses, now, outputs);
        // Loads, distances and the others' turns change slowly; verdicts, records and operators' words do not wait.
        let rested = self.planned_at.is_none_or(|at| now.since(at) >= EVALUATE_MAX);
        if rested || outputs.len() > moved {
            self.planned_at = Some(now);
            self.plan(&witnesses, now, outputs);
        }
        self.part(now);
        self.publish(&witnesses, now, outputs);
    }

    /// A region is drained for a service when every name that needs the service drains it.
    fn mark_drains(&mut self, now: Time) {
        let drained = |(name, record): (&DnsName, &NameRecord)| {
            let regions = record.drained(now);
            (!regions.is_empty()).then(|| (name.clone(), regions))
        };
        let drains: BTreeMap<_, _> = self.names.iter().filter_map(drained).collect();
        if self.drains.as_ref() == Some(&drains) {
            return;
        }
        let mut drained: BTreeMap<&ServiceId, BTreeSet<RegionId>> = BTreeMap::new();
        for (name, policy) in &self.policy.names {
            let of_name = drains.get(name).cloned().unwrap_or_default();
            for service in &policy.services {
                drained
                    .entry(service)
                    .and_modify(|regions| regions.retain(|region| of_name.contains(region)))
                    .or_insert_with(|| of_name.clone());
            }
        }
        let is = |service: &ServiceId, region: &RegionId| {
            drained.get(service).is_some_and(|regions| regions.contains(region))
        };
        for (id, service) in self.services.iter_mut() {
            service.health.set_draining(is(id, &self.policy.own));
            service.touch();
        }
        for (region, peer) in &mut self.peers {
            for (id, remote) in peer.services.iter_mut() {
                remote.health.set_draining(is(id, region));
            }
            peer.mark_all();
        }
        self.stale.mark_all();
        self.drains = Some(drains);
    }
}

/// Runs a change on a health and tells whether its state moved.
fn watch(health: &mut Health, change: impl FnOnce(&mut Health)) -> bool {
    let before = health.state();
    change(health);
    health.state() != before
}
