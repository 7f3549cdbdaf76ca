//! Other regions: what their probes say, how far they are, whether they have room.

use super::by_service::{ByService, Stale};
use super::publish::There;
use super::shared::SharedPeer;
use super::{Fleet, OutcomeResult, Output, ProbeFailure, RegionAnswer, SampleSource, Transition, watch};
use crate::domain::capacity::AdaptiveShare;
use crate::domain::endpoint::Endpoint;
use crate::domain::health::{Health, HealthPolicy, State, Word};
use crate::domain::latency::{LatencyWindow, Rtt};
use crate::domain::name::{RegionId, ServiceId};
use crate::domain::policy::Policy;
use crate::domain::selection::rank;
use crate::domain::time::Time;
use crate::domain::view::{Admission, Heard, ReplayGuard, ServiceView};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Another region as this edge knows it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Peer {
    /// Nodes of its peer listener.
    pub(super) endpoints: Arc<[Arc<Endpoint>]>,
    pub(super) latency: LatencyWindow,
    pub(super) heard: Option<Heard>,
    pub(super) guard: ReplayGuard,
    pub(super) shared: SharedPeer,
    pub(super) services: ByService<RemoteService>,
    /// How each stands there, by its place, and of which that may be otherwise by now. Not written: both are made again.
    #[serde(skip)]
    pub(super) standing: Vec<There>,
    #[serde(skip)]
    stale: Stale,
    /// Whether any service tells a capacity that was configured. Not written: its view tells it again.
    #[serde(skip)]
    pub(super) bounded: bool,
    /// Worst state of any service there.
    pub(super) worst: State,
    /// Something moved, or time may move it.
    restless: bool,
    /// Views in a row whose process said that it is about to end.
    leaving: u32,
    /// What it asks this region for, in requests a second, by the service's place.
    pub(super) asks: Vec<(usize, f64)>,
    /// What is left of its spare room while an evaluation hands it out.
    pub(super) spare_left: Option<f64>,
}

/// A service in another region.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct RemoteService {
    pub(super) health: Health,
    /// Shrinks when the region refuses forwarded requests.
    pub(super) room: AdaptiveShare,
    shown: Option<State>,
    /// Time moved its share when it was last looked at: the end of that is to be published, too.
    pub(super) moving: bool,
}

impl RemoteService {
    /// Whether time alone may change its state or its share.
    fn is_restless(&self, now: Time) -> bool {
        self.health.is_restless() || self.room.is_restless(now)
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            endpoints: Arc::new([]),
            latency: LatencyWindow::default(),
            heard: None,
            guard: ReplayGuard::default(),
            shared: SharedPeer::default(),
            services: ByService::default(),
            standing: Vec::new(),
            stale: Stale::default(),
            bounded: false,
            worst: State::Unknown,
            restless: true,
            leaving: 0,
            asks: Vec::new(),
            spare_left: None,
        }
    }
}

impl Peer {
    pub(super) fn configure(&mut self, services: &Arc<[ServiceId]>) {
        self.services.configure(services);
        self.standing.clear();
        self.bounded = self.tells_bounds();
        // Places are others now; the next view tells them again.
        self.asks.clear();
        self.touch();
    }

    /// Brings back what was not written.
    pub(super) fn resume(&mut self, services: &Arc<[ServiceId]>) {
        self.services.resume(services);
        self.bounded = self.tells_bounds();
    }

    fn tells_bounds(&self) -> bool {
        let mut said = self.heard.iter().flat_map(|heard| heard.view.services.values());
        said.any(ServiceView::is_bounded)
    }

    /// Looks again at what is stale; marks services that stand otherwise than they did.
    pub(super) fn stand(&mut self, policy: &HealthPolicy, now: Time, marked: &mut Stale) {
        if self.standing.len() != self.services.len() {
            self.standing = vec![There::default(); self.services.len()];
            self.stale = Stale::all(self.services.len());
        }
        for place in self.stale.take() {
            let there = self.services.at(place).map(|remote| There::of(remote, policy, now));
            if let (Some(before), Some(there)) = (self.standing.get_mut(place), there)
                && *before != there
            {
                *before = there;
                marked.mark(place);
            }
        }
        debug_assert!(
            self.standing
                .iter()
                .zip(self.services.values())
                .all(|(known, r)| *known == There::of(r, policy, now)),
            "a service stands otherwise, unmarked"
        );
    }

    /// Something of it moved: it is looked at when next evaluated.
    pub(super) fn touch(&mut self) {
        self.restless = true;
    }

    /// All of it may be otherwise.
    pub(super) fn mark_all(&mut self) {
        self.stale.mark_all();
        self.touch();
    }

    /// A service may stand otherwise now.
    pub(super) fn mark(&mut self, place: usize) {
        self.stale.mark(place);
    }

    /// Whether these are others than before.
    pub(super) fn resolved(&mut self, addresses: &[SocketAddr]) -> bool {
        if self.endpoints.iter().map(|e| e.address()).eq(addresses.iter().copied()) {
            return false;
        }
        let known: BTreeMap<SocketAddr, &Arc<Endpoint>> =
            self.endpoints.iter().map(|e| (e.address(), e)).collect();
        let endpoints: Vec<Arc<Endpoint>> = addresses
            .iter()
            .map(|a| known.get(a).map_or_else(|| Arc::new(Endpoint::new(*a)), |e| Arc::clone(e)))
            .collect();
        self.endpoints = endpoints.into();
        true
    }

    /// The last view, when it is fresh enough to vote.
    pub(super) fn fresh(&self, policy: &Policy, now: Time) -> Option<&Heard> {
        self.heard.as_ref().filter(|heard| heard.recent && now.since(heard.at) <= policy.failover.view_fresh)
    }

    /// Returns whether any state moved.
    pub(super) fn answered(&mut self, answer: RegionAnswer, policy: &Policy, now: Time) -> bool {
        if let Some(rtt) = answer.rtt {
            self.latency.probed(rtt, now, policy.rtt_window);
        }
        let leaving = if answer.view.draining { self.leaving.saturating_add(1) } else { 0 };
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
                self.leaving = leaving;
                if self.fresh(policy, now).is_none() {
                    self.heard = Some(Heard { view: answer.view, at: now, recent: false });
                }
            }
            // A later one is known already: views come by two ways.
            Admission::New if self.heard.as_ref().is_some_and(|heard| heard.recent && heard.at > now) => {}
            Admission::New => {
                self.leaving = leaving;
                self.heard = Some(Heard { view: answer.view, at: now, recent: true });
            }
        }
        self.believe(policy, now)
    }

    /// Takes what the last view says of services; returns whether any state moved.
    fn believe(&mut self, policy: &Policy, now: Time) -> bool {
        let Some(heard) = &self.heard else { return false };
        // One node of many that ends is no end of its region: the next answer is another node's.
        let leaves = self.leaving >= policy.health.fall;
        let mut moved = false;
        self.asks.clear();
        self.bounded = false;
        // Both are in the order of names: walked side by side.
        let mut said = heard.view.services.iter().peekable();
        for (place, (id, service)) in self.services.iter_mut().enumerate() {
            while said.next_if(|(other, _)| *other < id).is_some() {}
            let view = said.next_if(|(other, _)| *other == id).map(|(_, view)| view);
            let word = view.map_or(Word::Unknown, |view| view.word);
            if let Some(rps) = view.and_then(|view| view.asks.get(&policy.own)) {
                self.asks.push((place, *rps));
            }
            self.bounded |= view.is_some_and(ServiceView::is_bounded);
            let draining = leaves || view.is_some_and(|view| view.draining);
            // A view of any age is better than none, but no ground to take anyone back.
            let believed = heard.recent || service.health.word().0 != Word::Down;
            let said_up = service.health.word().0 == Word::Up;
            let changed = watch(&mut service.health, |health| {
                match word {
                    Word::Up if believed => health.probe_succeeded(now, &policy.health),
                    Word::Down => health.declared_down(now, &policy.health),
                    // It decides, and can no longer say that the service is well: an old "up" must
                    // not vote for ever.
                    Word::Unknown if said_up && heard.recent => health.probe_failed(now, &policy.health),
                    Word::Up | Word::Unknown => {}
                }
                health.says_draining(draining);
            });
            if changed {
                self.stale.mark(place);
                moved = true;
            }
            self.restless |= changed || service.health.is_restless();
        }
        moved
    }

    pub(super) fn failed(&mut self, policy: &Policy, now: Time) -> bool {
        let mut moved = false;
        for (place, (_, service)) in self.services.iter_mut().enumerate() {
            if watch(&mut service.health, |health| health.probe_failed(now, &policy.health)) {
                self.stale.mark(place);
                moved = true;
            }
        }
        self.restless |= moved;
        moved
    }

    /// Returns whether any state moved.
    pub(super) fn outcome(
        &mut self,
        place: usize,
        result: OutcomeResult,
        now: Time,
        policy: &HealthPolicy,
    ) -> bool {
        let Some(remote) = self.services.at_mut(place) else { return false };
        let moved = match result {
            OutcomeResult::Success => watch(&mut remote.health, |h| h.outcome(true, now, policy)),
            OutcomeResult::Failure => watch(&mut remote.health, |h| h.outcome(false, now, policy)),
            // It answers, so it is not ill; it has no room.
            OutcomeResult::Refused => {
                remote.room.refused(now);
                true
            }
        };
        // One that is ejected already may be so for longer now, without a change to be seen.
        self.restless |= moved || remote.health.is_restless();
        if moved {
            self.stale.mark(place);
        }
        moved
    }

    /// Lets time pass and tells changes of state.
    pub(super) fn advance(
        &mut self,
        region: &RegionId,
        policy: &Policy,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        if !std::mem::take(&mut self.restless) {
            return;
        }
        self.worst = State::Unknown;
        for (place, (service, remote)) in self.services.iter_mut().enumerate() {
            let restless = remote.is_restless(now);
            remote.health.advance(now, &policy.health);
            let to = remote.health.state();
            let from = remote.shown.replace(to).unwrap_or(State::Unknown);
            if from != to {
                let (service, region) = (service.clone(), region.clone());
                outputs.push(Output::Moved(Transition::Service { service, region, from, to }));
            }
            if restless || remote.moving || from != to {
                self.stale.mark(place);
            }
            remote.moving = remote.is_restless(now);
            self.restless |= remote.moving;
            self.worst = self.worst.max(to);
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
        let (median, window) = (peer.latency.median(), policy.rtt_window);
        peer.latency.answered(result.is_ok(), now, window);
        let moved = match result {
            Ok(answer) if answer.view.region == *region => peer.answered(answer, &policy, now),
            // Someone else answers at that address: as good as nobody.
            Ok(_) | Err(_) => peer.failed(&policy, now),
        };
        self.unranked |= peer.latency.median() != median;
        self.dirty |= moved;
    }

    /// What forwarded traffic shows of the way to a region.
    pub(super) fn sampled(&mut self, region: &RegionId, (rtt, source): (Rtt, SampleSource), now: Time) {
        let Some(peer) = self.peers.get_mut(region) else { return };
        let (median, window) = (peer.latency.median(), self.policy.rtt_window);
        match source {
            SampleSource::Tcp => peer.latency.carried(rtt, now, window),
            SampleSource::FirstByte => peer.latency.first_byte(rtt, now, window),
        }
        self.unranked |= peer.latency.median() != median;
    }

    /// By which another region is ranked: its round trip with the bias that was configured.
    pub(super) fn distance(&self, region: &RegionId) -> Option<Rtt> {
        let bias = self.policy.regions.get(region).map(|policy| policy.bias);
        let rtt = self.peers.get(region)?.latency.median()?;
        Some(Rtt::new(rtt.duration() + bias.unwrap_or_default()))
    }

    /// Renews the order of the regions: by their distance and the bias that was configured.
    pub(super) fn rank(&mut self) {
        if !std::mem::take(&mut self.unranked) {
            return;
        }
        let distances = self.peers.keys().map(|region| (region.clone(), self.distance(region)));
        let order = rank(&self.order, &distances.collect(), self.policy.margin);
        if order != self.order {
            self.order = order;
            self.regroup();
        }
    }
}
