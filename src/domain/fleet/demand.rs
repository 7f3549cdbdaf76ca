//! What can be measured of a name's demand, and when.

use super::Fleet;
use super::moves::NameRecord;
use crate::domain::name::{DnsName, EntryId, RegionId};
use crate::domain::policy::{NamePolicy, Policy};
use crate::domain::time::Time;
use crate::domain::votes::Verdict;
use crate::domain::weights::WeightedSet;
use std::sync::Arc;

impl Fleet {
    /// Measures what each entry sends while every set is at home, and what all send together while they
    /// are not, as long as everyone who holds users can tell.
    pub(super) fn measure_demand(&mut self, name: &DnsName, now: Time) {
        let policy = Arc::clone(&self.policy);
        let Some(name_policy) = policy.names.get(name) else { return };
        let entered_at = |peer: &super::Peer| peer.heard.as_ref().map_or(0.0, |h| h.view.entered_rps);
        let elsewhere: f64 = self.peers.values().map(entered_at).sum();
        let total = self.load.entered_rps + elsewhere;
        let entered = |entry: &EntryId| {
            let peer = self.peers.iter().find(|(region, _)| region.as_str() == entry.as_str());
            match peer {
                Some((_, peer)) => entered_at(peer),
                None if entry.as_str() == policy.own.as_str() => self.load.entered_rps,
                // An entry of all regions: the simple form.
                None => total,
            }
        };
        let entered = || name_policy.entries.keys().map(|entry| (entry.clone(), entered(entry))).collect();
        let told = |region: &RegionId| {
            let peer = self.peers.get(region);
            peer.is_none_or(|peer| peer.fresh(&policy, now).is_some())
        };
        let Some(record) = self.names.get_mut(name) else { return };
        match record.measurable(name_policy, &policy, told, now) {
            Measurable::Entries => record.demand.steady(entered(), now),
            Measurable::Total => record.demand.shifted(name_policy.entries.keys(), total, now),
            Measurable::Nothing => record.demand.frozen(),
        }
    }
}

/// What can be measured of a name's demand.
enum Measurable {
    Entries,
    Total,
    Nothing,
}

impl NameRecord {
    fn measurable(
        &self,
        name: &NamePolicy,
        policy: &Policy,
        told: impl Fn(&RegionId) -> bool,
        now: Time,
    ) -> Measurable {
        let Some(state) = &self.state else { return Measurable::Nothing };
        let agrees = |(entry, home): (&EntryId, &WeightedSet)| {
            state.sets.get(entry).is_some_and(|set| home.agrees(set))
        };
        if state.sets.len() == name.entries.len() && name.entries.iter().all(agrees) {
            let lost = self.verdicts.values().any(|verdict| *verdict == Verdict::Down);
            return if lost { Measurable::Nothing } else { Measurable::Entries };
        }
        // Users must have followed the last change, and everyone who holds some must count them.
        let settled = state.changed_at.is_none_or(|at| now.since(at) >= policy.failover.hold_down);
        let mut holders = state.sets.values().flat_map(|set| set.iter().map(|(region, _)| region));
        let counts = |region: &RegionId| self.verdicts.get(region) == Some(&Verdict::Up) && told(region);
        if settled && holders.all(counts) { Measurable::Total } else { Measurable::Nothing }
    }
}
