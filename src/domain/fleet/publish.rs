//! What requests and other regions read: the snapshot and the view.

use super::{Fleet, Output};
use crate::domain::health::{Health, State, Word};
use crate::domain::latency::Rtt;
use crate::domain::name::{RegionId, ServiceId};
use crate::domain::snapshot::{
    Candidate, EndpointStatus, NameStatus, Place, ProbePace, RegionStatus, ServiceSnapshot, Snapshot,
};
use crate::domain::time::Time;
use crate::domain::view::{LoadView, ServiceView, View};
use std::sync::Arc;
use std::time::Duration;

/// Shares grow in steps of a twentieth, so that a growing share is not a new decision every time.
const SHARE_STEPS: f64 = 20.0;

impl Fleet {
    /// Publishes the snapshot if a decision changed, and the view always.
    pub(super) fn publish(&mut self, now: Time, outputs: &mut Vec<Output>) {
        let snapshot = self.snapshot(now);
        if self.published.as_ref().is_none_or(|last| !same_decision(last, &snapshot)) {
            let snapshot = Arc::new(snapshot);
            self.published = Some(Arc::clone(&snapshot));
            outputs.push(Output::Publish(snapshot));
        }
        self.sequence = self.sequence.saturating_add(1);
        outputs.push(Output::View(Arc::new(self.view(now))));
    }

    fn snapshot(&self, now: Time) -> Snapshot {
        let last = self.published.as_ref();
        let services = self
            .services
            .keys()
            .map(|id| {
                let service = self.service(id, now);
                // Unchanged services stay the very same allocation.
                let kept = last.and_then(|l| l.services.get(id)).filter(|before| ***before == service);
                (id.clone(), kept.map_or_else(|| Arc::new(service), Arc::clone))
            })
            .collect();
        Snapshot {
            number: last.map_or(1, |l| l.number.saturating_add(1)),
            at: now,
            own: self.policy.own.clone(),
            routes: Arc::clone(&self.policy.routes),
            services,
            regions: self.policy.regions.keys().map(|r| (r.clone(), self.region(r, now))).collect(),
            names: self
                .names
                .iter()
                .map(|(name, record)| {
                    let status = NameStatus {
                        verdicts: record.verdicts.clone(),
                        applied: record.state.as_ref().map(|s| s.sets.clone()).unwrap_or_default(),
                        wanted: record.wanted.clone(),
                        generation: record.generation(),
                        refusal: record.refusal.map(|r| r.as_str()),
                        drift: record.drift.clone(),
                        gate: record.gate,
                        operator: record.operator.clone(),
                        parting: record.parting,
                        unwritten: record.waiting.iter().map(|waiting| waiting.act.id).collect(),
                        votes: record.votes.clone(),
                        checks: Arc::clone(&record.checks),
                        loads: Arc::clone(&record.loads),
                    };
                    (name.clone(), status)
                })
                .collect(),
            peers: self.peers.iter().map(|(r, peer)| (r.clone(), Arc::clone(&peer.endpoints))).collect(),
        }
    }

    fn service(&self, id: &ServiceId, now: Time) -> ServiceSnapshot {
        let candidates = self.healthy_candidates(id, now);
        let panic = candidates.is_empty();
        let candidates = if panic { self.last_resort(id) } else { candidates };
        let own = self.services.get(id);
        let capacity = self.policy.regions.get(&self.policy.own).and_then(|r| r.capacity_rps);
        let has_room = capacity.is_none_or(|capacity| self.load.served_rps < capacity);
        let states =
            self.policy.regions.keys().map(|region| (region.clone(), self.state(id, region))).collect();
        ServiceSnapshot {
            id: id.clone(),
            candidates,
            panic,
            accepts_forwarded: has_room && own.is_some_and(|s| s.health.state().usable()),
            endpoints: own
                .iter()
                .flat_map(|s| s.endpoints.values())
                .map(|e| EndpointStatus { endpoint: Arc::clone(&e.endpoint), state: e.health.state() })
                .collect(),
            states,
        }
    }

    fn state(&self, service: &ServiceId, region: &RegionId) -> State {
        if *region == self.policy.own {
            return self.services.get(service).map_or(State::Unknown, |s| s.health.state());
        }
        let remote = self.peers.get(region).and_then(|p| p.services.get(service));
        remote.map_or(State::Unknown, |r| r.health.state())
    }

    /// The own region first, then the nearest; only where the service is usable. A drained own
    /// region that is well comes last, with no share.
    fn healthy_candidates(&self, id: &ServiceId, now: Time) -> Vec<Candidate> {
        let policy = &self.policy.health;
        let mut candidates = Vec::new();
        if let Some(own) = self.services.get(id).filter(|s| s.health.state().usable()) {
            let share = own.health.share(now, policy) * self.load.spill.share();
            candidates.push(self.own_candidate(share, own.serving(policy)));
        }
        for region in &self.order {
            let Some(peer) = self.peers.get(region).filter(|p| !p.endpoints.is_empty()) else { continue };
            let Some(remote) = peer.services.get(id).filter(|r| r.health.state().usable()) else { continue };
            candidates.push(Candidate {
                region: region.clone(),
                place: Place::Peer,
                share: stepped(remote.health.share(now, policy) * remote.room.get(now)),
                endpoints: Arc::clone(&peer.endpoints),
            });
        }
        candidates.retain(|c| !c.endpoints.is_empty());
        // DNS still leads users to a drained region for a while. It gets no request of its own, but
        // when every peer refuses, being served where it is well beats a 503.
        if let Some(own) = self.services.get(id).filter(|s| !candidates.is_empty() && leaving(&s.health)) {
            let endpoints = own.serving(policy);
            if !endpoints.is_empty() {
                candidates.push(self.own_candidate(0.0, endpoints));
            }
        }
        candidates
    }

    /// Nothing is healthy: the own region, then every other one by distance.
    fn last_resort(&self, id: &ServiceId) -> Vec<Candidate> {
        let own = self.services.get(id).map(|s| self.own_candidate(1.0, s.serving(&self.policy.health)));
        let others = self.order.iter().filter_map(|region| {
            let endpoints = Arc::clone(&self.peers.get(region)?.endpoints);
            Some(Candidate { region: region.clone(), place: Place::Peer, share: 1.0, endpoints })
        });
        own.into_iter().chain(others).filter(|c| !c.endpoints.is_empty()).collect()
    }

    fn own_candidate(
        &self,
        share: f64,
        endpoints: Arc<[Arc<crate::domain::endpoint::Endpoint>]>,
    ) -> Candidate {
        Candidate { region: self.policy.own.clone(), place: Place::Own, share: stepped(share), endpoints }
    }

    fn region(&self, region: &RegionId, now: Time) -> RegionStatus {
        let state =
            self.policy.services.iter().map(|s| self.state(s, region)).max().unwrap_or(State::Unknown);
        let Some(peer) = self.peers.get(region) else {
            let (rtt, pace, witness) = (None, ProbePace::Full, self.witness(region, now));
            return RegionStatus { rtt, heard: true, state, witness, pace };
        };
        RegionStatus {
            rtt: peer.latency.median().map(whole_millis),
            heard: peer.fresh(&self.policy, now).is_some(),
            state,
            witness: self.witness(region, now),
            pace: self.pace(peer, now),
        }
    }

    fn view(&self, now: Time) -> View {
        let capacity = self.policy.regions.get(&self.policy.own).and_then(|r| r.capacity_rps);
        View {
            region: self.policy.own.clone(),
            boot: self.boot,
            sequence: self.sequence,
            policy: self.agreement,
            services: self
                .services
                .iter()
                .map(|(id, service)| (id.clone(), ServiceView::of(service.health.word().0)))
                .filter(|(_, view)| view.word != Word::Unknown)
                .collect(),
            rtts: self
                .peers
                .iter()
                .filter_map(|(region, peer)| Some((region.clone(), peer.latency.median()?)))
                .collect(),
            votes: self.spoken_votes(now),
            entered_rps: self.load.entered_rps,
            headroom_rps: capacity.map(|capacity| (capacity - self.load.served_rps).max(0.0)),
            witnesses: self.readings.said(now),
            draining: false,
            load: LoadView::default(),
            spare_rps: None,
        }
    }
}

/// Drained by an operator, not by illness.
fn leaving(health: &Health) -> bool {
    health.state() == State::Draining && health.word().0 == Word::Up
}

fn stepped(share: f64) -> f64 {
    (share * SHARE_STEPS).ceil() / SHARE_STEPS
}

/// Shown to the millisecond: finer changes are no decision.
fn whole_millis(rtt: Rtt) -> Rtt {
    let millis = (rtt.duration() + Duration::from_micros(500)).as_millis();
    Rtt::millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// Whether two snapshots say the same, number and moment aside.
fn same_decision(a: &Snapshot, b: &Snapshot) -> bool {
    a.own == b.own
        && Arc::ptr_eq(&a.routes, &b.routes)
        && a.services == b.services
        && a.regions == b.regions
        && a.names == b.names
        && a.peers == b.peers
}
