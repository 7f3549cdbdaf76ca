//! Other regions: what their probes say, how far they are, whether they have room.

use super::shared::SharedPeer;
use super::{Fleet, OutcomeResult, Output, ProbeFailure, RegionAnswer, SampleSource, Transition, watch};
use crate::domain::capacity::AdaptiveShare;
use crate::domain::endpoint::Endpoint;
use crate::domain::health::{Health, HealthPolicy, State, Word};
use crate::domain::latency::{Rtt, WindowedMedian};
use crate::domain::name::{RegionId, ServiceId};
use crate::domain::policy::Policy;
use crate::domain::selection::rank;
use crate::domain::time::Time;
use crate::domain::view::{Admission, Heard, ReplayGuard};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// Another region as this edge knows it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Peer {
    /// Nodes of its peer listener.
    pub(super) endpoints: Arc<[Arc<Endpoint>]>,
    pub(super) latency: WindowedMedian,
    pub(super) heard: Option<Heard>,
    pub(super) guard: ReplayGuard,
    pub(super) shared: SharedPeer,
    pub(super) services: BTreeMap<ServiceId, RemoteService>,
}

/// A service in another region.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct RemoteService {
    pub(super) health: Health,
    /// Shrinks when the region refuses forwarded requests.
    pub(super) room: AdaptiveShare,
    shown: Option<State>,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            endpoints: Arc::new([]),
            latency: WindowedMedian::default(),
            heard: None,
            guard: ReplayGuard::default(),
            shared: SharedPeer::default(),
            services: BTreeMap::new(),
        }
    }
}

impl Peer {
    pub(super) fn configure(&mut self, services: &BTreeSet<ServiceId>) {
        self.services.retain(|service, _| services.contains(service));
        for service in services {
            self.services.entry(service.clone()).or_default();
        }
    }

    pub(super) fn resolved(&mut self, addresses: &[SocketAddr]) {
        let known: BTreeMap<SocketAddr, &Arc<Endpoint>> =
            self.endpoints.iter().map(|e| (e.address(), e)).collect();
        let endpoints: Vec<Arc<Endpoint>> = addresses
            .iter()
            .map(|a| known.get(a).map_or_else(|| Arc::new(Endpoint::new(*a)), |e| Arc::clone(e)))
            .collect();
        self.endpoints = endpoints.into();
    }

    /// The last view, when it is fresh enough to vote.
    pub(super) fn fresh(&self, policy: &Policy, now: Time) -> Option<&Heard> {
        self.heard.as_ref().filter(|heard| heard.recent && now.since(heard.at) <= policy.failover.view_fresh)
    }

    /// Returns whether any state moved.
    pub(super) fn answered(&mut self, answer: RegionAnswer, policy: &Policy, now: Time) -> bool {
        if let Some(rtt) = answer.rtt {
            self.latency.add(rtt, now, policy.rtt_window);
        }
        match self.guard.admit(&answer.view, now, policy.failover.view_fresh) {
            Admission::Replayed => return self.failed(policy, now),
            // Asked twice before it had news: alive, but nothing to learn. For long: it answers, but
            // nobody there decides any more, and what it says of its services may be history.
            Admission::Repeated => {
                let old = |heard: &Heard| now.since(heard.at) > policy.failover.view_fresh;
                if self.heard.as_ref().is_some_and(old) {
                    return self.failed(policy, now);
                }
            }
            Admission::First => {
                if self.fresh(policy, now).is_none() {
                    self.heard = Some(Heard { view: *answer.view, at: now, recent: false });
                }
            }
            // A later one is known already: views come by two ways.
            Admission::New if self.heard.as_ref().is_some_and(|heard| heard.recent && heard.at > now) => {}
            Admission::New => self.heard = Some(Heard { view: *answer.view, at: now, recent: true }),
        }
        let mut moved = false;
        let Some(heard) = &self.heard else { return false };
        for (id, service) in &mut self.services {
            let word = heard.view.services.get(id).map_or(Word::Unknown, |s| s.word);
            // A view of any age is better than none, but no ground to take anyone back.
            let believed = heard.recent || service.health.word().0 != Word::Down;
            let said_up = service.health.word().0 == Word::Up;
            moved |= watch(&mut service.health, |health| match word {
                Word::Up if believed => health.probe_succeeded(now, &policy.health),
                Word::Down => health.declared_down(now, &policy.health),
                // It decides, and can no longer say that the service is well: an old "up" must not
                // vote for ever.
                Word::Unknown if said_up && heard.recent => health.probe_failed(now, &policy.health),
                Word::Up | Word::Unknown => {}
            });
        }
        moved
    }

    pub(super) fn failed(&mut self, policy: &Policy, now: Time) -> bool {
        let mut moved = false;
        for service in self.services.values_mut() {
            moved |= watch(&mut service.health, |health| health.probe_failed(now, &policy.health));
        }
        moved
    }

    /// Returns whether any state moved.
    pub(super) fn outcome(
        &mut self,
        service: &ServiceId,
        result: OutcomeResult,
        now: Time,
        policy: &HealthPolicy,
    ) -> bool {
        let Some(remote) = self.services.get_mut(service) else { return false };
        match result {
            OutcomeResult::Success => watch(&mut remote.health, |h| h.outcome(true, now, policy)),
            OutcomeResult::Failure => watch(&mut remote.health, |h| h.outcome(false, now, policy)),
            // It answers, so it is not ill; it has no room.
            OutcomeResult::Refused => {
                remote.room.refused(now);
                true
            }
        }
    }

    /// Lets time pass and tells changes of state.
    pub(super) fn advance(
        &mut self,
        region: &RegionId,
        policy: &Policy,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        for (service, remote) in &mut self.services {
            remote.health.advance(now, &policy.health);
            let to = remote.health.state();
            let from = remote.shown.replace(to).unwrap_or(State::Unknown);
            if from != to {
                let (service, region) = (service.clone(), region.clone());
                outputs.push(Output::Moved(Transition::Service { service, region, from, to }));
            }
        }
    }
}

impl Fleet {
    pub(super) fn region_probed(
        &mut self,
        region: &RegionId,
        result: Result<RegionAnswer, ProbeFailure>,
        now: Time,
    ) {
        let policy = Arc::clone(&self.policy);
        let Some(peer) = self.peers.get_mut(region) else { return };
        let well = matches!(&result, Ok(answer) if answer.view.region == *region);
        peer.shared.probed(well, now);
        let moved = match result {
            Ok(answer) if answer.view.region == *region => peer.answered(answer, &policy, now),
            // Someone else answers at that address: as good as nobody.
            Ok(_) | Err(_) => peer.failed(&policy, now),
        };
        self.dirty |= moved;
    }

    /// A round trip that forwarded traffic showed. The first byte counts the service's work: for show only.
    pub(super) fn sampled(&mut self, region: &RegionId, rtt: Rtt, source: SampleSource, now: Time) {
        let window = self.policy.rtt_window;
        if let Some(peer) = self.peers.get_mut(region).filter(|_| source == SampleSource::Tcp) {
            peer.latency.add(rtt, now, window);
        }
    }

    pub(super) fn rank(&mut self) {
        let rtts = self.peers.iter().map(|(region, peer)| (region.clone(), peer.latency.median())).collect();
        self.order = rank(&self.order, &rtts, self.policy.margin);
    }
}
