//! What can be measured of a name's demand, and when.

use super::Fleet;
use super::moves::NameRecord;
use crate::domain::name::{DnsName, EntryId, RegionId};
use crate::domain::policy::{NamePolicy, Policy};
use crate::domain::time::Time;
use crate::domain::votes::Verdict;
use crate::domain::weights::WeightedSet;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Fleet {
    /// Measures what each entry sends while every set is at home, and what regions get while they are
    /// not, as long as everyone who holds users can tell.
    pub(super) fn measure_demand(&mut self, name: &DnsName, now: Time) {
        let policy = Arc::clone(&self.policy);
        let Some(name_policy) = policy.names.get(name) else { return };
        // Of a region that is not heard of nothing is known; what it said last may be history.
        let entered_at = |region: &RegionId| match self.peers.get(region) {
            Some(peer) => peer.fresh(&policy, now).map(|heard| heard.view.entered_rps),
            None => Some(self.load.entered_rps),
        };
        let everywhere = || policy.regions.keys().map(&entered_at);
        let entered = |entry: &EntryId| {
            match policy.regions.keys().find(|region| region.as_str() == entry.as_str()) {
                Some(region) => entered_at(region),
                // An entry of all regions: the simple form.
                None => everywhere().sum(),
            }
        };
        let entered: Vec<(EntryId, Option<f64>)> =
            name_policy.entries.keys().map(|entry| (entry.clone(), entered(entry))).collect();
        let regions: BTreeMap<RegionId, f64> =
            policy.regions.keys().filter_map(|region| Some((region.clone(), entered_at(region)?))).collect();
        let Some(record) = self.names.get_mut(name) else { return };
        match record.measurable(name_policy, &policy, &regions, now) {
            Measurable::Entries => record.demand.steady(entered, now),
            Measurable::Regions => {
                if let Some(state) = &record.state {
                    record.demand.shifted(&state.sets, &regions, now);
                }
            }
            Measurable::Nothing => record.demand.frozen(),
        }
    }
}

/// What can be measured of a name's demand.
enum Measurable {
    Entries,
    Regions,
    Nothing,
}

impl NameRecord {
    fn measurable(
        &self,
        name: &NamePolicy,
        policy: &Policy,
        told: &BTreeMap<RegionId, f64>,
        now: Time,
    ) -> Measurable {
        let Some(state) = &self.state else { return Measurable::Nothing };
        // Users must have followed the last change.
        if now.since(self.sets_since) < policy.failover.hold_down {
            return Measurable::Nothing;
        }
        let agrees = |(entry, home): (&EntryId, &WeightedSet)| {
            state.sets.get(entry).is_some_and(|set| home.agrees(set))
        };
        if state.sets.len() == name.entries.len() && name.entries.iter().all(agrees) {
            let lost = self.verdicts.values().any(|verdict| *verdict == Verdict::Down);
            return if lost { Measurable::Nothing } else { Measurable::Entries };
        }
        // Everyone who holds users must count them.
        let mut holders = state.sets.values().flat_map(|set| set.iter().map(|(region, _)| region));
        let counts =
            |region: &RegionId| self.verdicts.get(region) == Some(&Verdict::Up) && told.contains_key(region);
        if holders.all(counts) { Measurable::Regions } else { Measurable::Nothing }
    }
}
