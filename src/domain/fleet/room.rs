//! Room among regions: what leaves this one, who is asked to take it, and what others may send here.
//!
//! Whoever has more than it can serve asks the next region for the rest, by a number in its view; that
//! region divides what it has left among all who ask, and says so in its own. Until an answer is
//! heard, an equal part of what nobody asked for counts. What fits nowhere is served at home.

use super::peers::Peer;
use super::{Fleet, ServiceLoad};
use crate::domain::capacity::{MeasuredCapacity, Spill, fair, headroom};
use crate::domain::health::{Health, HealthPolicy};
use crate::domain::name::{RegionId, ServiceId};
use crate::domain::time::Time;
use crate::domain::view::{CapacitySource, CapacityView, LoadView, ServiceView, rate};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Less than this, in requests a second, is nothing to be shared.
const EXCESS_MIN: f64 = 0.05;
/// Shares that follow rates move in steps of a hundredth: finer ones are no decision.
const STEPS: f64 = 100.0;

/// A share in the steps in which it is obeyed: rounded down, so that nobody gets more than there is room for.
pub(super) fn fine(share: f64) -> f64 {
    (share * STEPS + 1e-6).floor() / STEPS
}

/// What a service of the own region does, and how much of it stays.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct OwnRoom {
    load: Option<ServiceLoad>,
    configured_rps: Option<f64>,
    measured: MeasuredCapacity,
    spill: Spill,
    /// Something of it leaves, so that the others' limits count.
    sharing: bool,
    asks: BTreeMap<RegionId, f64>,
}

impl OwnRoom {
    pub(super) fn configure(&mut self, rps: Option<f64>) {
        self.configured_rps = rps;
    }

    fn update(&mut self, load: Option<ServiceLoad>, now: Time) {
        if let Some(load) = load {
            self.measured.update(load.served_rps, load.shed_rps, now);
            self.spill.update(load.entered_rps, self.capacity().map(|capacity| capacity.rps), now);
        }
        self.load = load;
    }

    /// What is configured counts; what was measured only where nothing is.
    pub(super) fn capacity(&self) -> Option<CapacityView> {
        let of = |rps: f64, source| CapacityView { rps: rate(rps), source };
        let measured = || self.measured.rps().map(|rps| of(rps, CapacitySource::Measured));
        self.configured_rps.map(|rps| of(rps, CapacitySource::Configured)).or_else(measured)
    }

    /// Share of the own users that is served here as far as the service's capacity goes, 0..=1.
    pub(super) fn home(&self) -> f64 {
        fine(self.spill.share())
    }

    /// Whether it serves less than it could.
    pub(super) fn has_room(&self) -> bool {
        let served = self.load.map_or(0.0, |load| load.served_rps);
        self.capacity().is_none_or(|capacity| served < capacity.rps)
    }

    /// Requests a second that own users ask for.
    pub(super) fn demand(&self) -> f64 {
        self.load.map_or(0.0, |load| load.entered_rps)
    }

    /// What it may take of others; `None`: no bound is known.
    fn headroom(&self) -> Option<f64> {
        self.capacity().map(|capacity| headroom(capacity.rps, self.demand()))
    }

    pub(super) fn view(&self) -> Option<LoadView> {
        self.load.map(|load| LoadView {
            rps: rate(load.served_rps),
            in_flight: load.in_flight,
            shed_rps: rate(load.shed_rps),
            capacity: self.capacity(),
        })
    }

    pub(super) fn asks(&self) -> &BTreeMap<RegionId, f64> {
        &self.asks
    }
}

/// What others may send here, by the service's place.
#[derive(Debug, Default)]
pub(super) struct Grants {
    pub(super) by_service: BTreeMap<usize, BTreeMap<RegionId, f64>>,
    /// Of services with a bound of their own: for each region that asks for nothing.
    pub(super) spare: BTreeMap<usize, f64>,
    /// The same over all services.
    pub(super) spare_of_all: Option<f64>,
}

impl Fleet {
    pub(super) fn loaded(
        &mut self,
        (entered_rps, served_rps): (f64, f64),
        services: &BTreeMap<ServiceId, ServiceLoad>,
        now: Time,
    ) {
        let before = fine(self.load.spill.share());
        self.load.spill.update(entered_rps, self.capacity_rps(), now);
        let had_room = self.has_room();
        self.load.entered_rps = entered_rps;
        self.load.served_rps = served_rps;
        if before != fine(self.load.spill.share()) || had_room != self.has_room() {
            self.stale.mark_all();
        }
        // Both are in the order of names: walked side by side.
        let mut told = services.iter().peekable();
        for (place, (id, service)) in self.services.iter_mut().enumerate() {
            while told.next_if(|(other, _)| *other < id).is_some() {}
            let load = told.next_if(|(other, _)| *other == id).map(|(_, load)| *load);
            let room = |room: &OwnRoom| (room.home(), room.has_room(), room.capacity());
            let before = room(&service.room);
            service.room.update(load, now);
            if before != room(&service.room) {
                self.stale.mark(place);
            }
        }
        self.load.shed_rps = services.values().map(|load| load.shed_rps).sum();
        let in_flight = services.values().fold(0, |sum: u32, load| sum.saturating_add(load.in_flight));
        self.load.in_flight = in_flight;
    }

    pub(super) fn capacity_rps(&self) -> Option<f64> {
        self.policy.regions.get(&self.policy.own).and_then(|region| region.capacity_rps)
    }

    /// Whether the region serves less than it could.
    pub(super) fn has_room(&self) -> bool {
        self.capacity_rps().is_none_or(|capacity| self.load.served_rps < capacity)
    }

    /// Share of its own users that the region serves itself as far as its capacity goes, 0..=1.
    pub(super) fn home(&self) -> f64 {
        fine(self.load.spill.share())
    }

    /// Hands out what leaves: to the nearest regions first, and to each no more than it grants.
    pub(super) fn share_room(&mut self, now: Time) {
        let (home, policy) = (self.home(), &self.policy.health);
        for peer in self.peers.values_mut() {
            peer.spare_left = peer.fresh(&self.policy, now).and_then(|heard| heard.view.spare_rps);
        }
        for (place, (id, service)) in self.services.iter_mut().enumerate() {
            let demand = service.room.demand();
            // Most have nothing to share, and there are thousands of them.
            if demand <= EXCESS_MIN && !service.room.sharing {
                continue;
            }
            let excess = demand * (1.0 - stays(&service.health, &service.room, home, now, policy));
            let room = &mut service.room;
            if excess <= EXCESS_MIN && !room.sharing {
                continue;
            }
            room.sharing = excess > EXCESS_MIN;
            room.asks.clear();
            let mut left = if room.sharing { excess } else { 0.0 };
            for region in &self.order {
                let Some(peer) = self.peers.get_mut(region).filter(|peer| peer.takes(place)) else {
                    continue;
                };
                let bound = peer.bound((place, id), &self.policy.own, now, &self.policy);
                let most = match bound {
                    Some(bound) if left > EXCESS_MIN => {
                        if room.asks.len() < ServiceView::ASKS_MAX {
                            room.asks.insert(region.clone(), rate(left));
                        }
                        (bound.rps / left).clamp(0.0, 1.0)
                    }
                    _ => 1.0,
                };
                let taken = peer.limit((place, most), left, now, &self.policy.health);
                left -= taken;
                if bound.is_some_and(|bound| bound.of_spare) {
                    peer.spare_left = peer.spare_left.map(|spare| (spare - taken).max(0.0));
                }
            }
        }
    }

    /// Divides what is left here among those who ask; the largest of them are named, the others have
    /// the spare, like those who ask for nothing.
    pub(super) fn grants(&self, now: Time) -> Grants {
        let room = self.capacity_rps().map(|capacity| headroom(capacity, self.load.entered_rps));
        let mut asks: BTreeMap<usize, Vec<(&RegionId, f64)>> = BTreeMap::new();
        for (region, peer) in self.peers.iter().filter(|(_, p)| p.fresh(&self.policy, now).is_some()) {
            for (place, rps) in &peer.asks {
                asks.entry(*place).or_default().push((region, *rps));
            }
        }
        let mut by_region: BTreeMap<&RegionId, f64> = BTreeMap::new();
        let mut given: BTreeMap<usize, Vec<(&RegionId, f64)>> = BTreeMap::new();
        for (place, mut asked) in asks {
            let Some(service) = self.services.at(place) else { continue };
            let own = service.room.headroom();
            // What does not serve holds nothing back from what does.
            if !service.health.state().usable() || (own.is_none() && room.is_none()) {
                continue;
            }
            asked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
            let wants: Vec<f64> = asked.iter().map(|(_, rps)| *rps).collect();
            let gets = own.map_or_else(|| wants.clone(), |own| fair(own, &wants));
            let gets = asked.iter().zip(gets).take(ServiceView::GRANTS_MAX);
            let gets: Vec<_> = gets.map(|((region, _), rps)| (*region, rps)).collect();
            for (region, rps) in &gets {
                *by_region.entry(region).or_default() += rps;
            }
            given.insert(place, gets);
        }
        self.fitted(room, &by_region, given)
    }

    /// Grants that fit into the region's own room, and what is spare beside them.
    fn fitted(
        &self,
        room: Option<f64>,
        by_region: &BTreeMap<&RegionId, f64>,
        given: BTreeMap<usize, Vec<(&RegionId, f64)>>,
    ) -> Grants {
        let peers = self.peers.len();
        let totals: Vec<f64> = by_region.values().copied().collect();
        let fits = room.map(|room| fair(room, &totals));
        let fit = |region: &RegionId| {
            let place = by_region.keys().position(|other| *other == region);
            let fits = fits.as_ref().zip(place).map(|(fits, place)| fits[place] / totals[place].max(1e-9));
            fits.unwrap_or(1.0)
        };
        let part = |left: f64, among: usize| rate(left.max(0.0) / among.max(1) as f64);
        let promised: f64 = fits.iter().flatten().sum();
        // Whoever is named for one service may use the spare for another.
        let spare_of_all = room.map(|room| part(room - promised, peers));
        let mut grants = Grants { spare_of_all, ..Grants::default() };
        for (place, service) in self.services.values().enumerate() {
            let gets = given.get(&place).map(Vec::as_slice).unwrap_or_default();
            if let Some(own) = service.room.headroom() {
                let taken: f64 = gets.iter().map(|(_, rps)| rps).sum();
                grants.spare.insert(place, part(own - taken, peers.saturating_sub(gets.len())));
            }
            if !gets.is_empty() {
                let gets = gets.iter().map(|(region, rps)| ((*region).clone(), rate(rps * fit(region))));
                grants.by_service.insert(place, gets.collect());
            }
        }
        grants
    }

    pub(super) fn load_view(&self) -> LoadView {
        let configured = |rps: f64| CapacityView { rps: rate(rps), source: CapacitySource::Configured };
        LoadView {
            rps: rate(self.load.served_rps),
            in_flight: self.load.in_flight,
            shed_rps: rate(self.load.shed_rps),
            capacity: self.capacity_rps().map(configured),
        }
    }
}

/// The share of its own users that a service is to serve here now.
fn stays(health: &Health, room: &OwnRoom, home: f64, now: Time, policy: &HealthPolicy) -> f64 {
    health.share(now, policy) * home.min(room.home())
}

/// Requests a second that another region lets this one send.
#[derive(Debug, Clone, Copy)]
struct Bound {
    rps: f64,
    /// Of what it keeps for whoever is not named.
    of_spare: bool,
}

impl Peer {
    /// Whether requests for a service can be sent there at all.
    fn takes(&self, place: usize) -> bool {
        let usable = self.services.at(place).is_some_and(|remote| remote.health.state().usable());
        usable && !self.endpoints.is_empty()
    }

    /// What it lets this region send for a service; `None`: it tells no bound.
    fn bound(
        &self,
        (place, id): (usize, &ServiceId),
        own: &RegionId,
        now: Time,
        policy: &crate::domain::policy::Policy,
    ) -> Option<Bound> {
        debug_assert_eq!(self.services.place(id), Some(place));
        let view = self.fresh(policy, now)?.view.services.get(id)?;
        let spare = match (view.spare_rps, self.spare_left) {
            (Some(service), Some(all)) => Some(service.min(all)),
            (service, all) => service.or(all),
        };
        let granted = view.grants.get(own).map(|rps| Bound { rps: *rps, of_spare: false });
        granted.or_else(|| spare.map(|rps| Bound { rps, of_spare: true }))
    }

    /// Sets how much of what comes by it may take; returns how much of `left` that is.
    fn limit(&mut self, (place, most): (usize, f64), left: f64, now: Time, policy: &HealthPolicy) -> f64 {
        let Some(remote) = self.services.at_mut(place) else { return 0.0 };
        let before = fine(remote.room.get(now));
        remote.room.limit(most, now);
        let after = remote.room.get(now);
        let takes = left * after * remote.health.share(now, policy);
        let restless = remote.room.is_restless(now);
        // It may have come to rest again when it is looked at next.
        remote.moving |= restless;
        if before != fine(after) {
            self.mark(place);
        }
        if restless || before != fine(after) {
            self.touch();
        }
        takes
    }
}
