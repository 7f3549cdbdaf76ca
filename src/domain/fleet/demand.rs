//! What can be measured of a name's demand and of the regions' room for it, and when.

use super::Fleet;
use super::names::NameRecord;
use super::own::OwnService;
use super::witnesses::Witnesses;
use crate::domain::name::{DnsName, RegionId, ServiceId};
use crate::domain::plan::{Room, calm};
use crate::domain::time::Time;
use crate::domain::view::{CapacitySource, CapacityView, ServiceView};
use crate::domain::votes::{Verdict, Witness};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A service with less than this of all requests bounds nothing: its share is noise.
const SHARE_MIN: f64 = 0.01;

/// What users of a name ask of the regions now.
struct Entering {
    /// Requests a second, of every region that is heard.
    rps: BTreeMap<RegionId, f64>,
    /// Where a health check fails: DNS itself leads users elsewhere.
    left: BTreeSet<RegionId>,
}

/// Requests a second, by region.
type Rates = BTreeMap<RegionId, f64>;

/// What names take of the regions; nothing where there is one name only.
#[derive(Debug, Default)]
pub(super) struct Taken {
    names: BTreeMap<DnsName, Rates>,
    /// By all names.
    all: Rates,
    /// By all that need a service; of services that bound a region.
    by_service: BTreeMap<ServiceId, Rates>,
}

impl Taken {
    /// Counts a name, in place of what was counted of it before.
    fn count(&mut self, name: &DnsName, carried: Rates, services: &[&ServiceId]) {
        let before = self.names.remove(name).unwrap_or_default();
        for service in services {
            replace(self.by_service.entry((*service).clone()).or_default(), &before, &carried);
        }
        replace(&mut self.all, &before, &carried);
        self.names.insert(name.clone(), carried);
    }

    /// What others than a name take of a region, of all or of those that need a service.
    fn by_others(&self, name: &DnsName, region: &RegionId, service: Option<&ServiceId>) -> f64 {
        let sum = service.map_or(Some(&self.all), |service| self.by_service.get(service));
        let of = |rates: Option<&Rates>| rates.and_then(|rates| rates.get(region)).copied().unwrap_or(0.0);
        (of(sum) - of(self.names.get(name))).max(0.0)
    }
}

/// Takes one summand out of a sum, and another in.
fn replace(sum: &mut Rates, before: &Rates, after: &Rates) {
    let signed = before.iter().map(|(region, rps)| (region, -rps));
    for (region, rps) in signed.chain(after.iter().map(|(region, rps)| (region, *rps))) {
        *sum.entry(region.clone()).or_default() += rps;
    }
}

impl Fleet {
    fn entering(&self, name: &DnsName, witnesses: &Witnesses, now: Time) -> Entering {
        // Of a region that is not heard of nothing is known; what it said last may be history.
        let rps = |region: &RegionId| Some((region.clone(), self.asked(region, now)?.of(name)));
        Entering {
            rps: self.policy.regions.keys().filter_map(rps).collect(),
            left: witnesses.of(Witness::Red).cloned().collect(),
        }
    }

    /// What clients ask of a region now; `None`: it is not heard.
    fn asked(&self, region: &RegionId, now: Time) -> Option<Asked<'_>> {
        let (all, names) = match self.peers.get(region) {
            Some(peer) => {
                let view = &peer.fresh(&self.policy, now)?.view;
                (view.entered_rps, &view.entered_by_name)
            }
            None => (self.load.entered_rps, &self.load.names),
        };
        Some(Asked { all, names })
    }

    /// What the names take as they are led now.
    pub(super) fn taken(&self, now: Time) -> Taken {
        let mut taken = Taken::default();
        if self.names.len() > 1 {
            self.names.keys().for_each(|name| self.take(&mut taken, name, now));
        }
        taken
    }

    /// The same after a name was judged.
    pub(super) fn taken_again(&self, taken: &mut Taken, name: &DnsName, now: Time) {
        if self.names.len() > 1 {
            self.take(taken, name, now);
        }
    }

    fn take(&self, taken: &mut Taken, name: &DnsName, now: Time) {
        let (Some(record), Some(policy)) = (self.names.get(name), self.policy.names.get(name)) else {
            return;
        };
        let bounds = |service: &&ServiceId| self.bounds.values().any(|of| of.contains_key(*service));
        let services: Vec<&ServiceId> = policy.services.iter().filter(bounds).collect();
        taken.count(name, record.carried(now), &services);
    }

    /// Measures what each entry sends, when everyone who holds users could tell for so long that all users go where
    /// the sets lead; only when the records were just read: whoever counts on between two readings takes users whom
    /// a new change leads for users of other entries.
    pub(super) fn measure_demand(&mut self, name: &DnsName, witnesses: &Witnesses, now: Time) {
        let entering = self.entering(name, witnesses, now);
        let hold_down = self.policy.failover.hold_down;
        let Some(record) = self.names.get_mut(name) else { return };
        record.demand.entered(&entering.rps, hold_down, now);
        let drained = record.drained(now);
        let counts = |region: &RegionId| {
            entering.rps.contains_key(region) && !entering.left.contains(region) && !drained.contains(region)
        };
        let tells = record.is_measurable(counts);
        // Who has just started takes what it sees first: better than nothing.
        if !tells && record.demand.is_known() {
            record.led_since = now;
        }
        let followed = now.since(record.led_since) >= hold_down;
        if std::mem::take(&mut record.just_read)
            && tells
            && followed
            && let Some(state) = &record.state
        {
            record.demand.measure(&state.sets);
        }
    }

    /// What a name's users send, and what each region can carry: what is configured for the region, and as much
    /// as lets none of the name's services get more than is configured for it there. Other names take their part
    /// of it, of a service those that need it.
    pub(super) fn room_for(&self, name: &DnsName, taken: &Taken) -> Room {
        let (Some(record), Some(policy)) = (self.names.get(name), self.policy.names.get(name)) else {
            return Room::default();
        };
        let mut room = Room { demand: record.demand.current(), ..Room::default() };
        for (region, of) in &self.policy.regions {
            let others = taken.by_others(name, region, None);
            let bounds = self.bounds.get(region);
            let service = |service: &ServiceId| {
                let rps = bounds?.get(service)?;
                Some(rps - taken.by_others(name, region, Some(service)) + others)
            };
            let services = policy.services.iter().filter_map(service);
            let Some(least) = services.chain(of.capacity_rps).reduce(f64::min) else { continue };
            room.capacity.insert(region.clone(), least);
            if others > 0.0 {
                room.others.insert(region.clone(), others);
            }
        }
        room
    }

    /// Looks again at what each service lets a region carry, of all names that need it.
    ///
    /// Demand is counted over all services. So the capacity of one counts by the share that it has of what
    /// users of the names that need it send to that region. Measured capacities bound nothing here: they are of
    /// the moment, edges spill by them within seconds, and users whom DNS had led away would keep them from
    /// being found too small. Of a region that is not heard the last bounds stay.
    pub(super) fn renew_bounds(&mut self, now: Time) {
        let policy = Arc::clone(&self.policy);
        self.bounds.retain(|region, _| policy.regions.contains_key(region));
        for region in policy.regions.keys() {
            let Some(told) = self.bounds_at(region, now) else { continue };
            let bounds = self.bounds.entry(region.clone()).or_default();
            bounds.retain(|service, _| told.contains_key(service));
            for (service, rps) in told {
                calm(bounds.entry(service).or_insert(rps), rps);
            }
        }
    }

    /// What each service lets a region carry; `None`: it is not heard.
    fn bounds_at(&self, region: &RegionId, now: Time) -> Option<BTreeMap<ServiceId, f64>> {
        let asked = self.asked(region, now)?;
        let bound = |(id, entered, capacity): (&ServiceId, f64, Option<CapacityView>)| {
            let configured = capacity.filter(|capacity| capacity.source == CapacitySource::Configured)?;
            let names = self.policy.names.iter().filter(|(_, policy)| policy.services.contains(id));
            let of_names: f64 = names.map(|(name, _)| asked.of(name)).sum();
            let all = of_names.min(asked.all);
            let part = if all > 0.0 { entered / all } else { 0.0 };
            (part >= SHARE_MIN).then(|| (id.clone(), configured.rps / part))
        };
        Some(match self.peers.get(region) {
            Some(peer) if !peer.bounded => BTreeMap::new(),
            Some(peer) => {
                let services = &peer.heard.as_ref()?.view.services;
                let told =
                    |(id, of): (_, &ServiceView)| (id, of.entered_rps, of.load.and_then(|l| l.capacity));
                services.iter().map(told).filter_map(bound).collect()
            }
            None => {
                let own = |(id, own): (_, &OwnService)| (id, own.room.demand(), own.room.capacity());
                self.services.iter().map(own).filter_map(bound).collect()
            }
        })
    }
}

/// What clients ask of a region, in requests a second.
struct Asked<'a> {
    all: f64,
    names: &'a BTreeMap<DnsName, f64>,
}

impl Asked<'_> {
    /// For a name; one that the region says nothing of counts as all.
    fn of(&self, name: &DnsName) -> f64 {
        self.names.get(name).copied().unwrap_or(self.all)
    }
}

impl NameRecord {
    /// What the name's users ask of each region, as the records lead them or a plan that is under way will, whichever
    /// is more: nobody knows yet which it will be.
    fn carried(&self, now: Time) -> Rates {
        let pending =
            self.pending.as_ref().filter(|pending| now < pending.until).map(|pending| &pending.sets);
        let mut carried = Rates::new();
        for sets in self.state.iter().map(|state| &state.sets).chain(pending) {
            for (region, rps) in self.demand.carried(sets) {
                let most = carried.entry(region).or_default();
                *most = most.max(rps);
            }
        }
        carried
    }

    /// Whether everyone who holds users is well and counts them, and no health check leads them elsewhere.
    fn is_measurable(&self, counts: impl Fn(&RegionId) -> bool) -> bool {
        let mut holders = self.state.iter().flat_map(|state| state.sets.values()).flat_map(|set| set.iter());
        holders.all(|(region, _)| self.verdicts.get(region) == Some(&Verdict::Up) && counts(region))
    }
}
