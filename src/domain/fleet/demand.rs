//! What can be measured of a name's demand and of the regions' room for it, and when.

use super::Fleet;
use super::moves::NameRecord;
use super::witnesses::Witnesses;
use crate::domain::name::{DnsName, RegionId, ServiceId};
use crate::domain::plan::{Room, calm};
use crate::domain::policy::NamePolicy;
use crate::domain::time::Time;
use crate::domain::view::CapacitySource;
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

/// What each name takes of each region, in requests a second; nothing where there is one name only.
#[derive(Debug, Default)]
pub(super) struct Taken {
    names: BTreeMap<DnsName, BTreeMap<RegionId, f64>>,
}

impl Taken {
    /// The same after a name was judged.
    pub(super) fn again(&mut self, name: &DnsName, record: &NameRecord, now: Time) {
        if let Some(taken) = self.names.get_mut(name) {
            *taken = record.carried(now);
        }
    }

    /// What others than a name take of a region, of those that are meant.
    fn by_others(&self, name: &DnsName, region: &RegionId, meant: impl Fn(&DnsName) -> bool) -> f64 {
        let others = self.names.iter().filter(|(other, _)| *other != name && meant(other));
        others.filter_map(|(_, taken)| taken.get(region)).sum()
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
        if self.names.len() < 2 {
            return Taken::default();
        }
        let taken = self.names.iter().map(|(name, record)| (name.clone(), record.carried(now)));
        Taken { names: taken.collect() }
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
    ///
    /// Demand is counted over all services. So the capacity of one counts by the share that it has of what
    /// users of the names that need it send to that region. Measured capacities bound nothing here: they are of
    /// the moment, edges spill by them within seconds, and users whom DNS had led away would keep them from
    /// being found too small. Of a region that is not heard the last bound stays.
    pub(super) fn room_for(&mut self, name: &DnsName, taken: &Taken, now: Time) -> Room {
        let policy = Arc::clone(&self.policy);
        let Some(name_policy) = policy.names.get(name) else { return Room::default() };
        let told = |region: &RegionId| Some((region.clone(), self.bounds_at(region, name_policy, now)?));
        let told: Vec<(RegionId, BTreeMap<ServiceId, f64>)> =
            policy.regions.keys().filter_map(told).collect();
        let Some(record) = self.names.get_mut(name) else { return Room::default() };
        record.bounds.retain(|region, _| policy.regions.contains_key(region));
        for (region, told) in told {
            let bounds = record.bounds.entry(region).or_default();
            bounds.retain(|service, _| told.contains_key(service));
            for (service, rps) in told {
                calm(bounds.entry(service).or_insert(rps), rps);
            }
        }
        let mut room = Room { demand: record.demand.current(), ..Room::default() };
        for (region, of) in &policy.regions {
            let others = taken.by_others(name, region, |_| true);
            let service = |(service, rps): (&ServiceId, &f64)| {
                let needs =
                    |other: &DnsName| policy.names.get(other).is_some_and(|of| of.services.contains(service));
                rps - taken.by_others(name, region, needs) + others
            };
            let services = record.bounds.get(region).into_iter().flatten().map(service);
            let Some(least) = services.chain(of.capacity_rps).reduce(f64::min) else { continue };
            room.capacity.insert(region.clone(), least);
            if others > 0.0 {
                room.others.insert(region.clone(), others);
            }
        }
        room
    }

    /// What each of a name's services lets a region carry, of all names that need it; `None`: it is not heard.
    fn bounds_at(&self, region: &RegionId, name: &NamePolicy, now: Time) -> Option<BTreeMap<ServiceId, f64>> {
        let asked = self.asked(region, now)?;
        let view = self.peers.get(region).and_then(|peer| Some(&peer.heard.as_ref()?.view));
        let bound = |id: &ServiceId| {
            let (entered, capacity) = match view {
                Some(view) => {
                    view.services.get(id).map(|of| (of.entered_rps, of.load.and_then(|l| l.capacity)))?
                }
                None => self.services.get(id).map(|own| (own.room.demand(), own.room.capacity()))?,
            };
            let configured = capacity.filter(|capacity| capacity.source == CapacitySource::Configured)?;
            let names = self.policy.names.iter().filter(|(_, policy)| policy.services.contains(id));
            let of_names: f64 = names.map(|(name, _)| asked.of(name)).sum();
            let all = of_names.min(asked.all);
            let part = if all > 0.0 { entered / all } else { 0.0 };
            (part >= SHARE_MIN).then(|| (id.clone(), configured.rps / part))
        };
        Some(name.services.iter().filter_map(bound).collect())
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
    fn carried(&self, now: Time) -> BTreeMap<RegionId, f64> {
        let pending =
            self.pending.as_ref().filter(|pending| now < pending.until).map(|pending| &pending.sets);
        let mut carried = BTreeMap::new();
        for sets in self.state.iter().map(|state| &state.sets).chain(pending) {
            for (region, rps) in self.demand.carried(sets) {
                let most: &mut f64 = carried.entry(region).or_default();
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
