//! Services in the own region: endpoints, and what they add up to.

use super::room::OwnRoom;
use super::{
    EndpointAnswer, Fleet, Outcome, OutcomeResult, OutcomeRun, Output, ProbeFailure, Target, Transition,
    watch,
};
use crate::domain::endpoint::Endpoint;
use crate::domain::health::{EjectionReason, Health, HealthPolicy, Room, State, Word};
use crate::domain::limit::outlier::{Observation, outliers, room, slow_start};
use crate::domain::name::{ServiceId, Zone};
use crate::domain::policy::Policy;
use crate::domain::snapshot::{EndpointStatus, ServiceSnapshot, ZoneShare};
use crate::domain::time::Time;
use crate::domain::zones::divide;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One service in the own region.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct OwnService {
    pub(super) endpoints: BTreeMap<SocketAddr, OwnEndpoint>,
    /// Where endpoints are, as far as that is told.
    zones: BTreeMap<SocketAddr, Zone>,
    /// Active side: from the endpoints' probes. Passive side: from outcomes of all of them.
    pub(super) health: Health,
    shown: Option<State>,
    /// When the endpoints were last compared.
    compared: Time,
    /// When time next makes a difference, if nothing happens before.
    due: Time,
    pub(super) room: OwnRoom,
    /// What was last published of it: the same as in the fleet's last snapshot, and written there.
    #[serde(skip)]
    pub(super) published: Option<Arc<ServiceSnapshot>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OwnEndpoint {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) health: Health,
    /// Outcomes since the endpoints were last compared.
    good: u32,
    bad: u32,
    /// Of the good ones.
    latency_sum: Duration,
    start: Start,
}

/// Whether an endpoint starts slowly.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Start {
    /// It was there first, or has started: nobody else could take its part.
    Done,
    /// It joined others, and has not served yet.
    Joined,
    Serving {
        since: Time,
    },
}

impl OwnEndpoint {
    fn new(address: SocketAddr, start: Start) -> Self {
        let endpoint = Arc::new(Endpoint::new(address));
        Self { endpoint, health: Health::default(), good: 0, bad: 0, latency_sum: Duration::ZERO, start }
    }

    /// Hands its share to those who pick: of a return, or of a first start.
    fn share(&mut self, now: Time, policy: &HealthPolicy) {
        if !self.health.state().usable() {
            // As a last resort all are alike.
            self.endpoint.set_share(1.0);
            return;
        }
        let started = match self.start {
            Start::Done => 1.0,
            Start::Joined => {
                self.start = Start::Serving { since: now };
                slow_start(Duration::ZERO, policy.probation)
            }
            Start::Serving { since } => slow_start(now.since(since), policy.probation),
        };
        if started >= 1.0 {
            self.start = Start::Done;
        }
        self.endpoint.set_share(started.min(self.health.share(now, policy)));
    }

    /// Whether time alone may change its state or its share.
    fn is_restless(&self) -> bool {
        !matches!(self.start, Start::Done) || self.health.is_restless()
    }

    /// What was seen since the last call; nothing of one that does not serve.
    fn observe(&mut self) -> Observation {
        let (good, bad) = (std::mem::take(&mut self.good), std::mem::take(&mut self.bad));
        let latency = std::mem::take(&mut self.latency_sum).checked_div(good);
        if self.health.state().usable() { Observation { good, bad, latency } } else { Observation::default() }
    }
}

impl OwnService {
    /// Up while any endpoint is, down when all are known to be, else unknown.
    fn endpoints_word(&self) -> Word {
        let words = || self.endpoints.values().map(|e| e.health.word().0);
        if words().any(|word| word == Word::Up) {
            Word::Up
        } else if !self.endpoints.is_empty() && words().all(|word| word == Word::Down) {
            Word::Down
        } else {
            Word::Unknown
        }
    }

    /// Whether all endpoints that are up say that they are about to end.
    fn endpoints_leave(&self) -> bool {
        let mut up = self.endpoints.values().filter(|e| e.health.word().0 == Word::Up).peekable();
        up.peek().is_some() && up.all(|e| e.health.state() == State::Draining)
    }

    /// Something happened: time makes a difference at once.
    pub(super) fn touch(&mut self) {
        self.due = Time::ZERO;
    }

    /// The active side follows the endpoints at once; they were counted by `fall` and `rise` already.
    fn follow(&mut self, policy: &Policy, now: Time) {
        match (self.endpoints_word(), self.health.word().0) {
            (Word::Up, Word::Unknown) => self.health.probe_succeeded(now, &policy.health),
            (Word::Up, Word::Down) => self.health.declared_up(now, &policy.health),
            (Word::Down, Word::Unknown | Word::Up) => self.health.declared_down(now, &policy.health),
            (Word::Up, Word::Up) | (Word::Down, Word::Down) | (Word::Unknown, _) => {}
        }
        self.health.says_draining(self.endpoints_leave());
    }

    /// How many more endpoints outcomes may eject.
    fn room(&self, policy: &HealthPolicy) -> usize {
        let ejected = self.endpoints.values().filter(|e| e.health.ejected_by_outcomes()).count();
        room(self.endpoints.len(), ejected, &policy.outlier)
    }

    /// Ejects those that do worse than the others, once in a window; by their indices.
    fn compare(&mut self, policy: &HealthPolicy, now: Time) -> BTreeMap<usize, EjectionReason> {
        if now.since(self.compared) < policy.failure_window {
            return BTreeMap::new();
        }
        self.compared = now;
        let room = self.room(policy);
        let observations: Vec<Observation> = self.endpoints.values_mut().map(OwnEndpoint::observe).collect();
        let ejected: BTreeMap<_, _> =
            outliers(&observations, &policy.outlier).into_iter().take(room).collect();
        for (index, endpoint) in self.endpoints.values_mut().enumerate() {
            if ejected.contains_key(&index) {
                endpoint.health.eject(now, policy);
            }
        }
        ejected
    }

    /// Lets time pass and tells changes of state. `false`: time made no difference.
    pub(super) fn advance(
        &mut self,
        id: &ServiceId,
        policy: &Policy,
        now: Time,
        outputs: &mut Vec<Output>,
    ) -> bool {
        if now < self.due {
            return false;
        }
        let before: Vec<State> = self.endpoints.values().map(|e| e.health.state()).collect();
        let ejected = self.compare(&policy.health, now);
        for (index, ((address, endpoint), from)) in self.endpoints.iter_mut().zip(before).enumerate() {
            endpoint.health.advance(now, &policy.health);
            endpoint.share(now, &policy.health);
            let moved = (from, endpoint.health.state());
            tell_endpoint(id, *address, moved, ejected.get(&index).copied(), outputs);
        }
        self.follow(policy, now);
        self.health.advance(now, &policy.health);
        let to = self.health.state();
        let from = self.shown.replace(to).unwrap_or(State::Unknown);
        if from != to {
            let (service, region) = (id.clone(), policy.own.clone());
            outputs.push(Output::Moved(Transition::Service { service, region, from, to }));
        }
        let restless = self.health.is_restless() || self.endpoints.values().any(OwnEndpoint::is_restless);
        self.due = if restless { Time::ZERO } else { self.compared + policy.health.failure_window };
        true
    }

    /// What `/snapshot` shows of the endpoints: the list that was published, while nothing of it changed.
    pub(super) fn statuses(&self) -> Arc<[EndpointStatus]> {
        let same = |(shown, e): (&EndpointStatus, &OwnEndpoint)| {
            Arc::ptr_eq(&shown.endpoint, &e.endpoint) && shown.state == e.health.state()
        };
        if let Some(shown) = self.published.as_ref().map(|last| &last.endpoints)
            && shown.len() == self.endpoints.len()
            && shown.iter().zip(self.endpoints.values()).all(same)
        {
            return Arc::clone(shown);
        }
        let status =
            |e: &OwnEndpoint| EndpointStatus { endpoint: Arc::clone(&e.endpoint), state: e.health.state() };
        self.endpoints.values().map(status).collect()
    }

    /// Those of [`OwnService::serving`] in the order of their zones, and the zones' parts.
    pub(super) fn placed(&self, policy: &Policy) -> (Arc<[Arc<Endpoint>]>, Arc<[ZoneShare]>) {
        let serving = self.serving(&policy.health);
        match &policy.steering.zone {
            Some(own) => divide(own, serving, &self.zones),
            None => (serving, Arc::new([])),
        }
    }

    /// Endpoints to send requests to: the usable ones; when those are none, or fail one and all,
    /// every one that probes do not hold down; without any of those, all.
    fn serving(&self, policy: &HealthPolicy) -> Arc<[Arc<Endpoint>]> {
        // Without zones the own candidate holds them as they come here.
        let before = self.published.as_ref().and_then(|last| last.candidates.own());
        let filtered = |keep: &dyn Fn(&OwnEndpoint) -> bool| -> Arc<[Arc<Endpoint>]> {
            let kept = || self.endpoints.values().filter(|e| keep(e)).map(|e| &e.endpoint);
            match before {
                Some(own) if same(&own.endpoints, kept()) => Arc::clone(&own.endpoints),
                _ => kept().cloned().collect(),
            }
        };
        // When whoever is left fails, too, the fault is not the endpoints', and few must not carry all.
        let serves = |e: &OwnEndpoint| e.health.state().usable();
        if self.endpoints.values().any(|e| serves(e) && !e.health.failing(policy)) {
            return filtered(&serves);
        }
        let not_down = filtered(&|e| e.health.word().0 != Word::Down);
        if !not_down.is_empty() {
            return not_down;
        }
        filtered(&|_| true)
    }
}

/// Whether a list holds these very endpoints.
fn same<'e>(list: &[Arc<Endpoint>], mut these: impl Iterator<Item = &'e Arc<Endpoint>>) -> bool {
    list.iter().all(|known| these.next().is_some_and(|e| Arc::ptr_eq(known, e))) && these.next().is_none()
}

/// `reason`: of an ejection, if it is one.
fn tell_endpoint(
    service: &ServiceId,
    address: SocketAddr,
    (from, to): (State, State),
    reason: Option<EjectionReason>,
    outputs: &mut Vec<Output>,
) {
    if from != to {
        let (service, ejected) = (service.clone(), reason.filter(|_| to == State::Ejected));
        outputs.push(Output::Moved(Transition::Endpoint { service, address, from, to, ejected }));
    }
}

impl Fleet {
    /// Statistics and health of addresses that stay are carried over.
    pub(super) fn resolved(&mut self, target: &Target, addresses: Vec<SocketAddr>) {
        self.dirty = true;
        match target {
            Target::Service(service) => {
                let Some(place) = self.services.place(service) else { return };
                let Some(own) = self.services.at_mut(place) else { return };
                own.touch();
                self.stale.mark(place);
                own.endpoints.retain(|address, _| addresses.contains(address));
                let start = if own.endpoints.is_empty() { Start::Done } else { Start::Joined };
                for address in addresses {
                    own.endpoints.entry(address).or_insert_with(|| OwnEndpoint::new(address, start));
                }
                // As before the first address: nothing is known of it, and nothing is said.
                if own.endpoints.is_empty() {
                    own.health = Health::default();
                }
            }
            Target::Peer(region) => {
                // A region without an address is no news: the last good answer stays.
                if addresses.is_empty() {
                    return;
                }
                let Some(peer) = self.peers.get_mut(region) else { return };
                if peer.resolved(&addresses) {
                    self.regroup();
                }
            }
        }
    }

    pub(super) fn zoned(&mut self, service: &ServiceId, zones: BTreeMap<SocketAddr, Zone>) {
        let Some(place) = self.services.place(service) else { return };
        let Some(own) = self.services.at_mut(place) else { return };
        if own.zones != zones {
            own.zones = zones;
            self.stale.mark(place);
            self.dirty = true;
        }
    }

    pub(super) fn endpoint_probed(
        &mut self,
        (service, address): (&ServiceId, SocketAddr),
        result: Result<EndpointAnswer, ProbeFailure>,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let policy = &self.policy.health;
        let Some(place) = self.services.place(service) else { return };
        let Some(own) = self.services.at_mut(place) else { return };
        let Some(endpoint) = own.endpoints.get_mut(&address) else { return };
        let (from, word) = (endpoint.health.state(), endpoint.health.word());
        match result {
            Ok(answer) => {
                endpoint.health.probe_succeeded(now, policy);
                endpoint.health.says_draining(answer == EndpointAnswer::Draining);
            }
            Err(_) => endpoint.health.probe_failed(now, policy),
        }
        let to = endpoint.health.state();
        if from != to || word != endpoint.health.word() {
            self.dirty |= from != to;
            own.touch();
            self.stale.mark(place);
        }
        tell_endpoint(service, address, (from, to), Some(EjectionReason::Probes), outputs);
    }

    /// The same as each of them by itself, in order.
    pub(super) fn outcomes(&mut self, runs: &[OutcomeRun], now: Time, outputs: &mut Vec<Output>) {
        for run in runs {
            let own = self.services.get_mut(&run.outcome.service);
            let endpoint = own.and_then(|own| own.endpoints.get_mut(&run.outcome.address));
            let own_region = run.outcome.region == self.policy.own;
            if let Some(endpoint) = endpoint.filter(|_| own_region && run.is_success()) {
                endpoint.latency_sum = endpoint.latency_sum.saturating_add(run.latency);
            }
            for _ in 0..run.count {
                self.outcome(&run.outcome, now, outputs);
            }
        }
    }

    fn outcome(&mut self, outcome: &Outcome, now: Time, outputs: &mut Vec<Output>) {
        let policy = &self.policy.health;
        let success = outcome.result == OutcomeResult::Success;
        let Some(place) = self.services.place(&outcome.service) else { return };
        if outcome.region != self.policy.own {
            let Some(peer) = self.peers.get_mut(&outcome.region) else { return };
            if peer.outcome(place, outcome.result, now, policy) {
                self.dirty = true;
            }
            return;
        }
        let Some(own) = self.services.at_mut(place) else { return };
        let mut moved = watch(&mut own.health, |health| health.outcome(success, now, policy));
        let room = if success || own.room(policy) > 0 { Room::Free } else { Room::Full };
        if let Some(endpoint) = own.endpoints.get_mut(&outcome.address) {
            let from = endpoint.health.state();
            // When endpoints fail one and all, who serves is chosen by other rules.
            moved |= endpoint.health.failing(policy);
            let count = if success { &mut endpoint.good } else { &mut endpoint.bad };
            *count = count.saturating_add(1);
            let reason = endpoint.health.outcome_with(room, success, now, policy);
            let to = endpoint.health.state();
            moved |= from != to || room == Room::Full || endpoint.health.failing(policy);
            tell_endpoint(&outcome.service, outcome.address, (from, to), reason, outputs);
            // One that is ejected already may be so for longer now, without a change to be seen.
            if endpoint.is_restless() {
                own.due = Time::ZERO;
            }
        }
        if moved || own.health.is_restless() {
            own.touch();
        }
        if moved {
            self.dirty = true;
            self.stale.mark(place);
        }
    }
}

#[cfg(test)]
mod tests;
