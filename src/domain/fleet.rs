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
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

mod agreement;
mod demand;
mod explain;
mod message;
mod moves;
mod operate;
mod outcomes;
mod own;
mod part;
mod peers;
mod publish;
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

use moves::NameRecord;
use own::OwnService;
use peers::Peer;
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
    services: BTreeMap<ServiceId, OwnService>,
    names: BTreeMap<DnsName, NameRecord>,
    /// Other regions, nearest first, kept calm by the margin.
    order: Vec<RegionId>,
    load: Load,
    /// Whether this pod speaks for its region, and what the one that does says.
    sharing: Sharing,
    readings: Readings,
    /// Something was noted since the last evaluation.
    dirty: bool,
    evaluated_at: Option<Time>,
    /// Since when evaluations have come without a pause.
    awake_since: Time,
    published: Option<Arc<Snapshot>>,
}

/// Requests a second through this region, and the share of its own users that it can serve.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Load {
    entered_rps: f64,
    served_rps: f64,
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
            services: BTreeMap::new(),
            names: BTreeMap::new(),
            order: Vec::new(),
            load: Load::default(),
            sharing: Sharing::default(),
            readings: Readings::default(),
            dirty: true,
            evaluated_at: None,
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
            Input::Sample { region, rtt, source } => self.sampled(&region, rtt, source, now),
            Input::Load { entered_rps, served_rps, .. } => self.loaded(entered_rps, served_rps, now),
            Input::Lease(lease) => self.leased(lease),
            Input::Shared(shared) => self.told(*shared, now),
            Input::Zoned { .. } | Input::Leaving => {}
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
        self.services.retain(|service, _| policy.services.contains(service));
        for service in &policy.services {
            self.services.entry(service.clone()).or_default();
        }
        for peer in self.peers.values_mut() {
            peer.configure(&policy.services);
        }
        self.names.retain(|name, _| policy.names.contains_key(name));
        for name in policy.names.keys() {
            self.names.entry(name.clone()).or_default();
        }
        self.policy = policy;
        self.dirty = true;
    }

    fn loaded(&mut self, entered_rps: f64, served_rps: f64, now: Time) {
        let capacity = self.policy.regions.get(&self.policy.own).and_then(|r| r.capacity_rps);
        self.load.entered_rps = entered_rps;
        self.load.served_rps = served_rps;
        self.load.spill.update(served_rps, capacity, now);
    }

    fn evaluate(&mut self, now: Time, outputs: &mut Vec<Output>) {
        if self.evaluated_at.is_none_or(|at| now.since(at) > SLEPT) {
            self.awake_since = now;
        }
        self.evaluated_at = Some(now);
        self.dirty = false;
        self.mark_drains(now);
        for (id, service) in &mut self.services {
            service.advance(id, &self.policy, now, outputs);
        }
        for (region, peer) in &mut self.peers {
            peer.advance(region, &self.policy, now, outputs);
        }
        self.rank();
        self.agree(now, outputs);
        self.plan(now, outputs);
        self.part(now);
        self.publish(now, outputs);
    }

    /// A region is drained for a service when every name that needs the service drains it.
    fn mark_drains(&mut self, now: Time) {
        let own = self.policy.own.clone();
        for service in self.policy.services.clone() {
            let mut drained: Option<BTreeSet<RegionId>> = None;
            for (name, policy) in &self.policy.names {
                if !policy.services.contains(&service) {
                    continue;
                }
                let drains = self.names.get(name).map(|record| record.drained(now)).unwrap_or_default();
                drained = Some(match drained {
                    Some(before) => before.intersection(&drains).cloned().collect(),
                    None => drains,
                });
            }
            let drained = drained.unwrap_or_default();
            if let Some(own_service) = self.services.get_mut(&service) {
                own_service.health.set_draining(drained.contains(&own));
            }
            for (region, peer) in &mut self.peers {
                if let Some(remote) = peer.services.get_mut(&service) {
                    remote.health.set_draining(drained.contains(region));
                }
            }
        }
    }
}

/// Runs a change on a health and tells whether its state moved.
fn watch(health: &mut Health, change: impl FnOnce(&mut Health)) -> bool {
    let before = health.state();
    change(health);
    health.state() != before
}
