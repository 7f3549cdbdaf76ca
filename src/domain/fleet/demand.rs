//! What can be measured of a name's demand and of the regions' room for it, and when.

use super::Fleet;
use super::moves::NameRecord;
use crate::domain::name::{DnsName, RegionId, ServiceId};
use crate::domain::plan::calm;
use crate::domain::policy::{NamePolicy, Policy, RegionPolicy};
use crate::domain::time::Time;
use crate::domain::view::{CapacitySource, CapacityView, LoadView};
use crate::domain::votes::{Verdict, Witness};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A service with less than this of all requests bounds nothing: its share is noise.
const SHARE_MIN: f64 = 0.01;

impl Fleet {
    /// Measures what each entry sends, as long as everyone who holds users can tell.
    pub(super) fn measure_demand(&mut self, name: &DnsName, now: Time) {
        let policy = Arc::clone(&self.policy);
        // Of a region that is not heard of nothing is known; what it said last may be history.
        let entered_at = |region: &RegionId| match self.peers.get(region) {
            Some(peer) => peer.fresh(&policy, now).map(|heard| heard.view.entered_rps),
            None => Some(self.load.entered_rps),
        };
        let entered: BTreeMap<RegionId, f64> =
            policy.regions.keys().filter_map(|region| Some((region.clone(), entered_at(region)?))).collect();
        // Where a health check fails DNS itself leads users elsewhere.
        let left = |region: &&RegionId| self.witness(region, now) == Witness::Red;
        let left: Vec<&RegionId> = policy.regions.keys().filter(left).collect();
        let Some(record) = self.names.get_mut(name) else { return };
        let hold_down = policy.failover.hold_down;
        record.demand.entered(&entered, hold_down, now);
        // Users must have followed the last change.
        if now.since(record.sets_since) < hold_down {
            return;
        }
        let counts = |region: &RegionId| entered.contains_key(region) && !left.contains(&region);
        if record.is_measurable(counts)
            && let Some(state) = &record.state
        {
            record.demand.measure(&state.sets);
        }
    }

    /// What each region can carry for a name, in requests a second; none where no bound is known: what is
    /// configured for the region, and as much as lets none of the name's services get more than it can
    /// serve there.
    ///
    /// A service's own bound, configured or measured, says how much of it can be served; demand is
    /// counted over all of them. So it counts by the share that the service has of all requests. One that
    /// was measured must have stood for a hold-down: a few bad seconds move nobody. Of a region that is
    /// not heard the last bound stays.
    pub(super) fn capacity_for(&mut self, name: &DnsName, now: Time) -> BTreeMap<RegionId, f64> {
        let policy = Arc::clone(&self.policy);
        let Some(name_policy) = policy.names.get(name) else { return BTreeMap::new() };
        let told = self.loads(&policy, name_policy, now);
        let all: f64 = told.values().map(|told| told.rps).sum();
        let part = |id| {
            let rps: f64 = told.values().filter_map(|told| told.services.get(id)).map(|load| load.rps).sum();
            (id, if all > 0.0 { rps / all } else { 0.0 })
        };
        let parts: Vec<_> = name_policy.services.iter().map(part).filter(|(_, p)| *p >= SHARE_MIN).collect();
        let bound = |told: &Told| {
            let bound = |(id, part): &(&ServiceId, f64)| {
                let capacity = told.services.get(*id)?.capacity?;
                Some(CapacityView { rps: capacity.rps / part, ..capacity })
            };
            parts.iter().filter_map(bound).reduce(|a, b| if b.rps < a.rps { b } else { a })
        };
        let Some(record) = self.names.get_mut(name) else { return BTreeMap::new() };
        record.bounds.retain(|region, _| policy.regions.contains_key(region));
        for (region, told) in &told {
            match bound(told) {
                Some(CapacityView { rps, source }) => {
                    let bound =
                        record.bounds.entry(region.clone()).or_insert(Bound { rps, since: now, source });
                    calm(&mut bound.rps, rps);
                    bound.source = source;
                }
                None => _ = record.bounds.remove(region),
            }
        }
        let hold_down = policy.failover.hold_down;
        let least = |(region, of): (&RegionId, &RegionPolicy)| {
            let stands = |bound: &&Bound| {
                bound.source == CapacitySource::Configured || now.since(bound.since) >= hold_down
            };
            let both = [of.capacity_rps, record.bounds.get(region).filter(stands).map(|bound| bound.rps)];
            Some((region.clone(), both.into_iter().flatten().reduce(f64::min)?))
        };
        policy.regions.iter().filter_map(least).collect()
    }

    /// What regions that are heard say of their load.
    fn loads(&self, policy: &Policy, name: &NamePolicy, now: Time) -> BTreeMap<RegionId, Told> {
        let told = |region: &RegionId| match self.peers.get(region) {
            Some(peer) => {
                let view = &peer.fresh(policy, now)?.view;
                let load = |id: &ServiceId| Some((id.clone(), view.services.get(id)?.load?));
                Some(Told { rps: view.load.rps, services: name.services.iter().filter_map(load).collect() })
            }
            None => {
                let load = |id: &ServiceId| Some((id.clone(), self.services.get(id)?.room.view()?));
                let services = name.services.iter().filter_map(load).collect();
                Some(Told { rps: self.load.served_rps, services })
            }
        };
        policy.regions.keys().filter_map(|region| Some((region.clone(), told(region)?))).collect()
    }
}

/// What a region can carry of a name, as far as its services go.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Bound {
    /// Requests a second.
    rps: f64,
    /// Since when there has been one.
    since: Time,
    source: CapacitySource,
}

/// A region's load by its own word.
struct Told {
    /// Of all services, in requests a second.
    rps: f64,
    services: BTreeMap<ServiceId, LoadView>,
}

impl NameRecord {
    /// Whether everyone who holds users is well and counts them.
    fn is_measurable(&self, counts: impl Fn(&RegionId) -> bool) -> bool {
        let mut holders = self.state.iter().flat_map(|state| state.sets.values()).flat_map(|set| set.iter());
        holders.all(|(region, _)| self.verdicts.get(region) == Some(&Verdict::Up) && counts(region))
    }
}
