//! What requests and other regions read: the snapshot and the view.

use super::names::NameRecord;
use super::own::OwnService;
use super::peers::RemoteService;
use super::room::{Grants, fine};
use super::witnesses::Witnesses;
use super::{Fleet, Output};
use crate::domain::health::{Health, HealthPolicy, State, Word};
use crate::domain::latency::Rtt;
use crate::domain::name::{RegionId, ServiceId};
use crate::domain::snapshot::{
    Candidate, Candidates, NameStatus, Others, Place, ProbePace, Quality, RegionStatus, RoomStatus,
    ServiceSnapshot, Snapshot, States,
};
use crate::domain::time::Time;
use crate::domain::view::{ServiceView, View, rate};
use crate::domain::votes::Witness;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Shares grow in steps of a twentieth, so that a growing share is not a new decision every time.
const SHARE_STEPS: f64 = 20.0;
/// What is shown beside the decisions is published at least this often while it changes.
const SHOW_EVERY: Duration = Duration::from_secs(5);
/// More different standings than this are not kept for later.
const STANDINGS_MAX: usize = 1024;
/// Shares of other regions are whole numbers of these: a product of the steps in which they grow and
/// those in which they keep to the room there. So one key stands for one share, to the last bit,
/// whatever was kept before.
const SHARES: f64 = 2000.0;

/// What services have in common that stand alike in every region, by how they stand: the state of
/// each region and its share in the steps of [`SHARES`], in the order of the regions.
#[derive(Debug, Default)]
pub(super) struct Standings {
    known: BTreeMap<Vec<There>, Standing>,
    /// Every other region that can be reached, nearest first: the last resort.
    everyone: Option<Others>,
}

/// How a service stands in a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct There {
    state: State,
    /// In the steps of [`SHARES`].
    share: u16,
}

impl Default for There {
    fn default() -> Self {
        Self { state: State::Unknown, share: 0 }
    }
}

impl There {
    pub(super) fn of(remote: &RemoteService, policy: &HealthPolicy, now: Time) -> Self {
        // Of a whole number, but for the noise of a division.
        let share = (share(remote, policy, now) * SHARES + 0.5) as u16;
        Self { state: remote.health.state(), share }
    }
}

#[derive(Debug, Clone)]
struct Standing {
    healthy: Others,
    states: States,
}

/// Services that follow one another and stand alike, by their places.
struct Alike {
    key: Vec<There>,
    places: Vec<usize>,
}

impl Fleet {
    /// Publishes the snapshot if a decision changed, and the view always.
    pub(super) fn publish(&mut self, witnesses: &Witnesses, now: Time, outputs: &mut Vec<Output>) {
        let services = self.renew_services(now);
        let policy = Arc::clone(&self.policy);
        let regions: Vec<(&RegionId, RegionStatus)> =
            policy.regions.keys().map(|r| (r, self.region(r, witnesses.at(r), now))).collect();
        let same = |last: &Snapshot| {
            let show = now.since(last.at) >= SHOW_EVERY;
            let told = regions.iter().map(|(region, status)| (*region, status));
            services == Renewed::No
                && last.own == policy.own
                && Arc::ptr_eq(&last.routes, &policy.routes)
                && last.regions.len() == regions.len()
                && last.regions.iter().zip(told).all(|(last, now)| is_same(last, now, show))
                && last.names.len() == self.names.len()
                && last
                    .names
                    .iter()
                    .zip(&self.names)
                    .all(|(last, now)| last.0 == now.0 && is_shown(now.1, last.1))
                && last.peers.iter().eq(self.peers.iter().map(|(r, peer)| (r, &peer.endpoints)))
        };
        if self.published.as_deref().is_none_or(|last| !same(last)) {
            let snapshot = Arc::new(Snapshot {
                number: self.published.as_ref().map_or(1, |last| last.number.saturating_add(1)),
                at: now,
                own: policy.own.clone(),
                routes: Arc::clone(&policy.routes),
                services: self
                    .services
                    .iter()
                    .filter_map(|(id, own)| Some((id.clone(), Arc::clone(own.published.as_ref()?))))
                    .collect(),
                regions: regions.into_iter().map(|(region, status)| (region.clone(), status)).collect(),
                names: self.names.iter().map(|(name, record)| (name.clone(), status(record))).collect(),
                peers: self.peers.iter().map(|(r, peer)| (r.clone(), Arc::clone(&peer.endpoints))).collect(),
            });
            self.published = Some(Arc::clone(&snapshot));
            outputs.push(Output::Publish(snapshot));
        }
        self.sequence = self.sequence.saturating_add(1);
        let view = self.view(now);
        outputs.push(Output::View(Arc::new(view)));
    }

    /// The order of the regions or where they are reached is another one: nothing stands as it did.
    pub(super) fn regroup(&mut self) {
        self.standings = Standings::default();
        self.stale.mark_all();
    }

    /// Looks again at the services that are stale. Unchanged ones stay the very same allocation.
    fn renew_services(&mut self, now: Time) -> Renewed {
        let mut renewed = Renewed::No;
        for Alike { key, places } in self.stale_alike(now) {
            let Some(first) = places.first() else { continue };
            let standing = self.standing(*first, key, now);
            for place in places {
                let Some(service) = self.service(place, standing.clone(), now) else { continue };
                let Some(own) = self.services.at_mut(place) else { continue };
                if own.published.as_deref() != Some(&service) {
                    own.published = Some(Arc::new(service));
                    renewed = Renewed::Yes;
                }
            }
        }
        renewed
    }

    /// The stale services, in runs of those that stand alike. One region after the other is walked, since what is
    /// known of a thousand services there lies side by side.
    fn stale_alike(&mut self, now: Time) -> Vec<Alike> {
        for peer in self.peers.values_mut() {
            peer.stand(&self.policy.health, now, &mut self.stale);
        }
        let stale = self.stale.take();
        let width = 1 + self.order.len();
        let mut keys = vec![There::default(); stale.len() * width];
        for (key, place) in keys.chunks_exact_mut(width).zip(&stale) {
            key[0].state = self.services.at(*place).map_or(State::Unknown, |service| service.health.state());
        }
        for (nth, peer) in self.order.iter().filter_map(|region| self.peers.get(region)).enumerate() {
            for (key, place) in keys.chunks_exact_mut(width).zip(&stale) {
                key[1 + nth] = peer.standing.get(*place).copied().unwrap_or_default();
            }
        }
        let mut runs: Vec<Alike> = Vec::new();
        for (key, place) in keys.chunks_exact(width).zip(stale) {
            match runs.last_mut() {
                Some(run) if run.key == key => run.places.push(place),
                _ => runs.push(Alike { key: key.to_vec(), places: vec![place] }),
            }
        }
        runs
    }

    fn standing(&mut self, place: usize, key: Vec<There>, now: Time) -> Standing {
        if let Some(known) = self.standings.known.get(&key) {
            return known.clone();
        }
        let standing = Standing { healthy: self.healthy(place, now), states: self.states(place) };
        if self.standings.known.len() >= STANDINGS_MAX {
            self.standings.known.clear();
        }
        self.standings.known.insert(key, standing.clone());
        standing
    }

    fn service(&mut self, place: usize, standing: Standing, now: Time) -> Option<ServiceSnapshot> {
        let Standing { healthy, states } = standing;
        let everyone = self.everyone();
        let own = self.services.at(place)?;
        let (endpoints, zones) = own.placed(&self.policy);
        let candidate = |share: f64| {
            (!endpoints.is_empty()).then(|| Candidate {
                region: self.policy.own.clone(),
                place: Place::Own,
                share,
                endpoints: Arc::clone(&endpoints),
                zones: Arc::clone(&zones),
            })
        };
        let usable = own.health.state().usable();
        let home = stepped(own.health.share(now, &self.policy.health)) * self.home().min(own.room.home());
        let panic = healthy.is_empty() && (!usable || endpoints.is_empty());
        let candidates = if panic {
            // Nothing is healthy: the own region, then every other one by distance.
            Candidates::own_first(candidate(1.0), everyone)
        } else if usable {
            Candidates::own_first(candidate(home), healthy)
        } else if leaving(&own.health) {
            // DNS still leads users to a drained region for a while. It gets no request of its own,
            // but when every peer refuses, being served where it is well beats a 503.
            Candidates::own_last(candidate(0.0), healthy)
        } else {
            Candidates::own_first(None, healthy)
        };
        Some(ServiceSnapshot {
            id: self.ids.get(place)?.clone(),
            candidates,
            panic,
            accepts_forwarded: usable && self.has_room() && own.room.has_room(),
            endpoints: own.statuses(),
            states,
            room: RoomStatus { capacity: own.room.capacity(), home: self.home().min(own.room.home()) },
        })
    }

    fn states(&self, place: usize) -> States {
        let own = self.services.at(place).map_or(State::Unknown, |service| service.health.state());
        let state = |region: &RegionId| match self.peers.get(region) {
            Some(peer) => peer.services.at(place).map_or(State::Unknown, |remote| remote.health.state()),
            None => own,
        };
        self.policy.regions.keys().map(|region| (region.clone(), state(region))).collect()
    }

    /// Other regions that can be reached and where the service is usable, the nearest first.
    fn healthy(&self, place: usize, now: Time) -> Others {
        let candidate = |region: &RegionId| {
            let peer = self.peers.get(region)?;
            let remote = peer.services.at(place).filter(|remote| remote.health.state().usable())?;
            self.other(region, share(remote, &self.policy.health, now))
        };
        self.order.iter().filter_map(candidate).collect()
    }

    fn everyone(&mut self) -> Others {
        if let Some(everyone) = &self.standings.everyone {
            return everyone.clone();
        }
        let everyone: Others = self.order.iter().filter_map(|region| self.other(region, 1.0)).collect();
        self.standings.everyone = Some(everyone.clone());
        everyone
    }

    fn other(&self, region: &RegionId, share: f64) -> Option<Candidate> {
        let endpoints = Arc::clone(&self.peers.get(region)?.endpoints);
        let (region, place, zones) = (region.clone(), Place::Peer, Arc::new([]));
        (!endpoints.is_empty()).then_some(Candidate { region, place, share, endpoints, zones })
    }

    fn region(&self, region: &RegionId, witness: Witness, now: Time) -> RegionStatus {
        let Some(peer) = self.peers.get(region) else {
            let state = self.services.values().map(|service| service.health.state()).max();
            return RegionStatus {
                rtt: None,
                distance: None,
                quality: Quality::default(),
                load: self.load_view(),
                heard: true,
                state: state.unwrap_or(State::Unknown),
                witness,
                pace: ProbePace::Full,
            };
        };
        let spread = peer.latency.measured();
        RegionStatus {
            rtt: peer.latency.median().map(whole_millis),
            distance: self.distance(region).map(whole_millis),
            quality: Quality {
                p99: spread.map(|spread| spread.p99),
                jitter: spread.map(|spread| spread.jitter),
                loss: peer.latency.loss(),
                first_byte: peer.latency.median_first_byte(),
            },
            load: peer.heard.as_ref().map(|heard| heard.view.load).unwrap_or_default(),
            heard: peer.fresh(&self.policy, now).is_some(),
            state: peer.worst,
            witness,
            pace: self.pace(peer, now),
        }
    }

    /// What is said of the own services; the same allocation while nothing of it changes.
    fn spoken_services(&mut self, grants: &Grants) -> Arc<BTreeMap<ServiceId, ServiceView>> {
        let spoken = || {
            let placed = self.services.iter().enumerate();
            placed.filter_map(|(place, (id, own))| Some((id, spoken_service(own, place, grants)?)))
        };
        let mut now = spoken();
        let same = |(id, view): (&ServiceId, &ServiceView)| {
            now.next().is_some_and(|now| now.0 == id && now.1 == *view)
        };
        if !(self.said.iter().all(same) && now.next().is_none()) {
            let said = spoken().map(|(id, view)| (id.clone(), view)).collect();
            self.said = Arc::new(said);
        }
        Arc::clone(&self.said)
    }

    fn view(&mut self, now: Time) -> View {
        let grants = self.grants(now);
        let services = self.spoken_services(&grants);
        let rtts = self.peers.iter().filter_map(|(r, peer)| Some((r.clone(), peer.latency.median()?)));
        View {
            region: self.policy.own.clone(),
            boot: self.boot,
            sequence: self.sequence,
            policy: self.agreement,
            services,
            rtts: Arc::new(rtts.collect()),
            votes: self.spoken_votes(now),
            entered_rps: self.load.entered_rps,
            entered_by_name: self.load.names.iter().map(|(name, rps)| (name.clone(), rate(*rps))).collect(),
            headroom_rps: self.capacity_rps().map(|capacity| (capacity - self.load.served_rps).max(0.0)),
            witnesses: self.readings.said(now),
            draining: self.leaving,
            load: self.load_view(),
            content: self.spoken_content(now),
            spare_rps: grants.spare_of_all,
        }
    }
}

/// What is said of a service; nothing while nothing is known of it.
fn spoken_service(own: &OwnService, place: usize, grants: &Grants) -> Option<ServiceView> {
    let word = own.health.word().0;
    (word != Word::Unknown).then(|| ServiceView {
        word,
        draining: own.health.state() == State::Draining && word == Word::Up,
        load: own.room.view(),
        entered_rps: rate(own.room.demand()),
        asks: own.room.asks().clone(),
        grants: grants.by_service.get(&place).cloned().unwrap_or_default(),
        spare_rps: grants.spare.get(&place).copied(),
    })
}

/// Whether any service is another one than was last published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewed {
    Yes,
    No,
}

fn status(record: &NameRecord) -> NameStatus {
    NameStatus {
        verdicts: record.verdicts.clone(),
        applied: record.state.as_ref().map(|s| s.sets.clone()).unwrap_or_default(),
        wanted: record.wanted.clone(),
        generation: record.generation(),
        refusal: record.refusal.map(|r| r.as_str()),
        drift: record.drift.clone(),
        gate: record.gate,
        operator: record.operator.clone(),
        parting: record.parting,
        unwritten: unwritten_acts(record),
        votes: record.votes.clone(),
        checks: Arc::clone(&record.checks),
        loads: Arc::clone(&record.loads),
    }
}

fn unwritten_acts(record: &NameRecord) -> BTreeSet<u64> {
    record.waiting.iter().map(|waiting| waiting.act.id).collect()
}

/// Whether this is what [`status`] would say.
fn is_shown(record: &NameRecord, status: &NameStatus) -> bool {
    let NameStatus {
        verdicts,
        applied,
        wanted,
        generation,
        refusal,
        drift,
        gate,
        operator,
        unwritten,
        parting,
        votes,
        checks,
        loads,
    } = status;
    let applied_now = record.state.as_ref().map(|state| &state.sets);
    *generation == record.generation()
        && *gate == record.gate
        && *refusal == record.refusal.map(|rule| rule.as_str())
        && *parting == record.parting
        && *verdicts == record.verdicts
        && applied_now.map_or(applied.is_empty(), |sets| sets == applied)
        && *wanted == record.wanted
        && *drift == record.drift
        && *operator == record.operator
        && *unwritten == unwritten_acts(record)
        && *votes == record.votes
        && (Arc::ptr_eq(checks, &record.checks) || *checks == record.checks)
        && (Arc::ptr_eq(loads, &record.loads) || *loads == record.loads)
}

/// Drained by an operator, not by illness.
fn leaving(health: &Health) -> bool {
    health.state() == State::Draining && health.word().0 == Word::Up
}

/// The share of another region: it grows after a return, and keeps to the room there.
fn share(remote: &RemoteService, policy: &HealthPolicy, now: Time) -> f64 {
    let returned = remote.health.share(now, policy);
    (stepped(returned) * fine(remote.room.get(now)) * SHARES).round() / SHARES
}

fn stepped(share: f64) -> f64 {
    (share * SHARE_STEPS).ceil() / SHARE_STEPS
}

/// Shown to the millisecond: finer changes are no decision.
pub(super) fn whole_millis(rtt: Rtt) -> Rtt {
    let millis = (rtt.duration() + Duration::from_micros(500)).as_millis();
    Rtt::millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// Whether a region stands as it did: in all that is a decision, or in all that is shown.
fn is_same(last: (&RegionId, &RegionStatus), now: (&RegionId, &RegionStatus), shown: bool) -> bool {
    let standing = |status: &RegionStatus| {
        (status.rtt, status.distance, status.heard, status.state, status.witness, status.pace)
    };
    last.0 == now.0 && if shown { last.1 == now.1 } else { standing(last.1) == standing(now.1) }
}
