//! What can be measured of a name's demand and of the regions' room for it, and when.

use super::Fleet;
use super::moves::NameRecord;
use super::witnesses::Witnesses;
use crate::domain::name::{DnsName, RegionId, ServiceId};
use crate::domain::plan::calm;
use crate::domain::policy::{NamePolicy, RegionPolicy};
use crate::domain::time::Time;
use crate::domain::view::CapacitySource;
use crate::domain::votes::{Verdict, Witness};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A service with less than this of all requests bounds nothing: its share is noise.
const SHARE_MIN: f64 = 0.01;

/// What users ask of the regions now.
pub(super) struct Entering {
    /// Requests a second, of every region that is heard.
    rps: BTreeMap<RegionId, f64>,
    /// Where a health check fails: DNS itself leads users elsewhere.
    left: BTreeSet<RegionId>,
}

impl Fleet {
    pub(super) fn entering(&self, witnesses: &Witnesses, now: Time) -> Entering {
        // Of a region that is not heard of nothing is known; what it said last may be history.
        let entered_at = |region: &RegionId| match self.peers.get(region) {
            Some(peer) => peer.fresh(&self.policy, now).map(|heard| heard.view.entered_rps),
            None => Some(self.load.entered_rps),
        };
        let rps = |region: &RegionId| Some((region.clone(), entered_at(region)?));
        Entering {
            rps: self.policy.regions.keys().filter_map(rps).collect(),
            left: witnesses.of(Witness::Red).cloned().collect(),
        }
    }

    /// Measures what each entry sends, when everyone who holds users could tell for so long that all users go where
    /// the sets lead; only when the records were just read: whoever counts on between two readings takes users whom
    /// a new change leads for users of other entries.
    pub(super) fn measure_demand(&mut self, name: &DnsName, entering: &Entering, now: Time) {
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

    /// What each region can carry for a name, in requests a second; none where no bound is known: what is
    /// configured for the region, and as much as lets none of the name's services get more than is
    /// configured for it there.
    ///
    /// Demand is counted over all services. So the capacity of one counts by the share that it has of what
    /// users send to that region. Measured capacities bound nothing here: they are of the moment, edges
    /// spill by them within seconds, and users whom DNS had led away would keep them from being found
    /// too small. Of a region that is not heard the last bound stays.
    pub(super) fn capacity_for(&mut self, name: &DnsName, now: Time) -> BTreeMap<RegionId, f64> {
        let policy = Arc::clone(&self.policy);
        let Some(name_policy) = policy.names.get(name) else { return BTreeMap::new() };
        let told = |region: &RegionId| Some((region.clone(), self.bound_at(region, name_policy, now)?));
        let told: BTreeMap<RegionId, Option<f64>> = policy.regions.keys().filter_map(told).collect();
        let Some(record) = self.names.get_mut(name) else { return BTreeMap::new() };
        record.bounds.retain(|region, _| policy.regions.contains_key(region));
        for (region, bound) in told {
            match bound {
                Some(rps) => calm(record.bounds.entry(region).or_insert(rps), rps),
                None => _ = record.bounds.remove(&region),
            }
        }
        let least = |(region, of): (&RegionId, &RegionPolicy)| {
            let both = [of.capacity_rps, record.bounds.get(region).copied()];
            Some((region.clone(), both.into_iter().flatten().reduce(f64::min)?))
        };
        policy.regions.iter().filter_map(least).collect()
    }

    /// What a region's services let it carry; the outer `None`: it is not heard.
    fn bound_at(&self, region: &RegionId, name: &NamePolicy, now: Time) -> Option<Option<f64>> {
        let view = match self.peers.get(region) {
            Some(peer) => Some(&peer.fresh(&self.policy, now)?.view),
            None => None,
        };
        let all = view.map_or(self.load.entered_rps, |view| view.entered_rps);
        let bound = |id: &ServiceId| {
            let (entered, capacity) = match view {
                Some(view) => {
                    view.services.get(id).map(|of| (of.entered_rps, of.load.and_then(|l| l.capacity)))?
                }
                None => self.services.get(id).map(|own| (own.room.demand(), own.room.capacity()))?,
            };
            let configured = capacity.filter(|capacity| capacity.source == CapacitySource::Configured)?;
            let part = if all > 0.0 { entered / all } else { 0.0 };
            (part >= SHARE_MIN).then(|| configured.rps / part)
        };
        Some(name.services.iter().filter_map(bound).reduce(f64::min))
    }
}

impl NameRecord {
    /// Whether everyone who holds users is well and counts them, and no health check leads them elsewhere.
    fn is_measurable(&self, counts: impl Fn(&RegionId) -> bool) -> bool {
        let mut holders = self.state.iter().flat_map(|state| state.sets.values()).flat_map(|set| set.iter());
        holders.all(|(region, _)| self.verdicts.get(region) == Some(&Verdict::Up) && counts(region))
    }
}
