//! Names: the records as last read, and when this edge may propose a change of them.

use super::agreement::Votes;
use super::{DnsReport, Fleet, Output, Transition};
use crate::domain::health::Word;
use crate::domain::name::{DnsName, EntryId, RegionId};
use crate::domain::plan::{
    Distances, Generation, LastChange, NameState, Plan, Refusal, Room, Situation, next, wanted,
};
use crate::domain::snapshot::Gate;
use crate::domain::time::Time;
use crate::domain::votes::Verdict;
use crate::domain::weights::WeightedSet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A DNS name as this edge knows it.
#[derive(Debug)]
pub(super) struct NameRecord {
    pub(super) state: Option<NameState>,
    last: Option<LastChange>,
    /// Nothing may be proposed before the records were read again.
    must_read: bool,
    pending: Option<Pending>,
    /// Since when a change has been called for on the present generation.
    needed_since: Option<Time>,
    pub(super) refusal: Option<Refusal>,
    pub(super) own_votes: BTreeMap<RegionId, Word>,
    pub(super) votes: Votes,
    pub(super) verdicts: BTreeMap<RegionId, Verdict>,
    pub(super) gate: Gate,
    pub(super) wanted: BTreeMap<EntryId, WeightedSet>,
    /// Requests a second by entry while all sets were at home; frozen during a shift.
    demand: BTreeMap<EntryId, f64>,
}

/// A plan that was handed out and has not come back.
#[derive(Debug)]
struct Pending {
    generation: Generation,
    until: Time,
}

impl Default for NameRecord {
    fn default() -> Self {
        Self {
            state: None,
            last: None,
            must_read: true,
            pending: None,
            needed_since: None,
            refusal: None,
            own_votes: BTreeMap::new(),
            votes: Votes::new(),
            verdicts: BTreeMap::new(),
            gate: Gate::Open,
            wanted: BTreeMap::new(),
            demand: BTreeMap::new(),
        }
    }
}

impl NameRecord {
    /// Regions that an operator drains for this name.
    pub(super) fn drained(&self, now: Time) -> BTreeSet<RegionId> {
        self.state.as_ref().map(|s| s.operator.drained(now)).unwrap_or_default()
    }

    pub(super) fn generation(&self) -> Option<Generation> {
        self.state.as_ref().map(|s| s.fence.generation)
    }

    fn read(&mut self, state: NameState) {
        self.must_read = false;
        if let Some(before) = &self.state
            && before.fence != state.fence
        {
            let change = LastChange::between(before, &state);
            // A drain or a freeze takes nothing away: what was taken before must still not be undone.
            if !change.reduced.is_empty() {
                self.last = Some(change);
            }
            self.needed_since = None;
        }
        if self.pending.as_ref().is_some_and(|p| state.fence.generation >= p.generation) {
            self.pending = None;
        }
        self.state = Some(state);
    }

    /// Nothing is resubmitted as it was: read first, then think again.
    fn rejected(&mut self) {
        self.pending = None;
        self.must_read = true;
    }

    fn refuse(&mut self, name: &DnsName, refusal: Option<Refusal>, outputs: &mut Vec<Output>) {
        if self.refusal != refusal {
            self.refusal = refusal;
            outputs.push(Output::Moved(Transition::Refused { name: name.clone(), refusal }));
        }
    }
}

impl Fleet {
    pub(super) fn dns_reported(&mut self, report: DnsReport, now: Time) {
        match report {
            DnsReport::Read { name, state } => {
                if let Some(record) = self.names.get_mut(&name) {
                    record.read(state);
                }
            }
            DnsReport::Conflict { name } | DnsReport::Failed { name } => {
                if let Some(record) = self.names.get_mut(&name) {
                    record.rejected();
                }
            }
            // The next read shows the new generation; until then the plan stays pending.
            DnsReport::Submitted { .. } | DnsReport::InSync { .. } => return,
            DnsReport::Witness { region, witness } => {
                if self.policy.regions.contains_key(&region) {
                    self.readings.note(region, witness, now);
                }
            }
        }
        self.dirty = true;
    }

    /// Proposes what the rules allow now, and names the rule where they do not.
    pub(super) fn plan(&mut self, now: Time, outputs: &mut Vec<Output>) {
        let policy = Arc::clone(&self.policy);
        let distances = self.distances();
        for (name, name_policy) in &policy.names {
            self.measure_demand(name);
            let rank = self.writer_rank(name, now);
            let Some(record) = self.names.get_mut(name) else { continue };
            let Some(state) = record.state.clone() else { continue };
            let room = Room {
                demand: record.demand.clone(),
                capacity: policy
                    .regions
                    .iter()
                    .filter_map(|(region, p)| Some((region.clone(), p.capacity_rps?)))
                    .collect(),
            };
            let situation = Situation {
                name,
                own: &policy.own,
                policy: name_policy,
                failover: &policy.failover,
                verdicts: &record.verdicts,
                state: &state,
                last: record.last.as_ref(),
                distances: &distances,
                room: &room,
                margin: policy.margin,
                now,
            };
            record.wanted = wanted(&situation);
            // After a sleep the first inputs are the oldest ones, and words seem to have lasted.
            let next = match next(&situation, &record.wanted) {
                Ok(Some(_)) if now.since(self.awake_since) < policy.failover.view_fresh => {
                    Err(Refusal::JustWoke)
                }
                next => next,
            };
            match next {
                Ok(None) => {
                    record.needed_since = None;
                    record.refuse(name, None, outputs);
                }
                Err(refusal) => {
                    record.needed_since = None;
                    record.refuse(name, Some(refusal), outputs);
                }
                Ok(Some(plan)) => {
                    let since = *record.needed_since.get_or_insert(now);
                    let turn = since + policy.failover.writer_patience.saturating_mul(rank);
                    if now < turn {
                        record.refuse(name, Some(Refusal::NotWriter), outputs);
                    } else {
                        record.propose(name, plan, now, outputs);
                    }
                }
            }
        }
    }

    /// How many live regions stand before this one in the order of writers.
    fn writer_rank(&self, name: &DnsName, now: Time) -> u32 {
        let Some(record) = self.names.get(name) else { return 0 };
        let live = |region: &RegionId, peer: &super::Peer| {
            peer.fresh(&self.policy, now).is_some() && record.verdicts.get(region) != Some(&Verdict::Down)
        };
        let before = self.peers.iter().filter(|(r, p)| **r < self.policy.own && live(r, p)).count();
        u32::try_from(before).unwrap_or(u32::MAX)
    }

    fn distances(&self) -> Distances {
        let mut distances = Distances::default();
        for (region, peer) in &self.peers {
            if let Some(rtt) = peer.latency.median() {
                distances.add(&self.policy.own, region, rtt);
            }
            // A silent region's last view still tells where it lies.
            for (other, rtt) in peer.heard.iter().flat_map(|h| &h.view.rtts) {
                distances.add(region, other, *rtt);
            }
        }
        distances
    }

    /// Notes what each entry sends while every set is at home; an edge cannot see
    /// during a shift which entry a user came through.
    fn measure_demand(&mut self, name: &DnsName) {
        let Some(policy) = self.policy.names.get(name) else { return };
        let Some(record) = self.names.get_mut(name) else { return };
        let at_home = |state: &NameState| {
            state.sets.keys().eq(policy.entries.keys())
                && state
                    .sets
                    .iter()
                    .all(|(entry, set)| policy.entries.get(entry).is_some_and(|h| h.agrees(set)))
        };
        if !record.state.as_ref().is_some_and(at_home)
            || record.verdicts.values().any(|v| *v == Verdict::Down)
        {
            return;
        }
        let entered_at = |peer: &super::Peer| peer.heard.as_ref().map_or(0.0, |h| h.view.entered_rps);
        let elsewhere: f64 = self.peers.values().map(entered_at).sum();
        let total = self.load.entered_rps + elsewhere;
        for entry in policy.entries.keys() {
            let peer = self.peers.iter().find(|(region, _)| region.as_str() == entry.as_str());
            let entered = match peer {
                Some((_, peer)) => entered_at(peer),
                None if entry.as_str() == self.policy.own.as_str() => self.load.entered_rps,
                // An entry of all regions: the simple form.
                None => total,
            };
            record.demand.insert(entry.clone(), entered);
        }
    }
}

impl NameRecord {
    fn propose(&mut self, name: &DnsName, plan: Plan, now: Time, outputs: &mut Vec<Output>) {
        if self.must_read {
            self.refuse(name, Some(Refusal::Unread), outputs);
            return;
        }
        self.refuse(name, None, outputs);
        if self.pending.as_ref().is_some_and(|p| now < p.until) {
            return;
        }
        self.pending = Some(Pending { generation: plan.fence.generation.next(), until: plan.expires_at });
        outputs.push(Output::Propose(plan));
    }
}
