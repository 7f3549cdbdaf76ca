//! Everything that a plan for one name may look at.

use super::shift::{Distances, Room};
use super::{NameState, Refusal};
use crate::domain::name::{DnsName, EntryId, RegionId};
use crate::domain::operator::OperatorState;
use crate::domain::policy::{FailoverPolicy, NamePolicy};
use crate::domain::selection::Margin;
use crate::domain::time::Time;
use crate::domain::votes::{Undecided, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What is known when a plan is asked for.
#[derive(Debug)]
pub struct Situation<'a> {
    pub name: &'a DnsName,
    pub own: &'a RegionId,
    pub policy: &'a NamePolicy,
    pub failover: &'a FailoverPolicy,
    pub verdicts: &'a BTreeMap<RegionId, Verdict>,
    pub state: &'a NameState,
    /// What operators have said, in force here.
    pub operator: &'a OperatorState,
    /// Records of the name that are not as this program writes them, at the last reading.
    pub drifted: usize,
    /// The last change that took something away, if one was seen.
    pub last: Option<&'a LastChange>,
    /// When the name's records changed in the last hour, as far as this edge knows, oldest first.
    pub changes: &'a [Time],
    pub distances: &'a Distances,
    pub room: &'a Room,
    pub margin: Margin,
    /// A live region that stands before this one among the writers and would change nothing.
    pub content: Option<&'a RegionId>,
    pub turn: Turn,
    pub now: Time,
}

/// Where this edge stands among those who may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// How many live regions stand before this one.
    pub rank: u32,
    /// Since when a change has been called for and not been made; `None`: not before now.
    pub waiting_since: Option<Time>,
    /// Since when this edge has run without a pause.
    pub awake_since: Time,
    /// Whether this pod holds its region's lease.
    pub holds: bool,
    /// Whether the records were read since the last plan of this edge failed.
    pub read: bool,
    /// When the records were last read.
    pub read_at: Option<Time>,
}

/// A change of a name's sets, as the difference of two reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastChange {
    pub writer: Option<RegionId>,
    pub at: Option<Time>,
    /// Regions that lost share in some entry.
    pub reduced: BTreeSet<(EntryId, RegionId)>,
}

impl LastChange {
    /// What `after` took away from `before`.
    pub fn between(before: &NameState, after: &NameState) -> Self {
        let reduced = before
            .sets
            .iter()
            .flat_map(|(entry, set)| set.iter().map(move |(region, _)| (entry, set, region)))
            .filter(|(entry, set, region)| {
                after.sets.get(*entry).is_some_and(|now| now.share(region) < set.share(region))
            })
            .map(|(entry, _, region)| (entry.clone(), region.clone()))
            .collect();
        Self { writer: after.writer.clone(), at: after.changed_at, reduced }
    }
}

impl Situation<'_> {
    /// The verdict on a region. Where only evidence is missing, an operator's word may stand in for it.
    pub(super) fn verdict(&self, region: &RegionId) -> Verdict {
        match self.verdicts.get(region).copied() {
            Some(Verdict::Undecided(Undecided::NoEvidence)) if self.overridden(Refusal::NoEvidence) => {
                Verdict::Down
            }
            Some(verdict) => verdict,
            None => Verdict::Undecided(Undecided::Split),
        }
    }

    pub(super) fn is_drained(&self, region: &RegionId) -> bool {
        self.operator.is_drained(region, self.now)
    }

    pub(super) fn overridden(&self, rule: Refusal) -> bool {
        rule.overridable() && self.operator.overridden(rule, self.now)
    }

    /// Regions that may receive users.
    pub(super) fn receiving(&self) -> BTreeSet<&RegionId> {
        let up = |region: &&RegionId| self.verdict(region) == Verdict::Up && !self.is_drained(region);
        self.policy.regions().into_iter().filter(up).collect()
    }

    /// Neither up nor down, nor drained: it keeps what it has and gains nothing.
    pub(super) fn unconfirmed(&self, region: &RegionId) -> bool {
        matches!(self.verdict(region), Verdict::Isolated | Verdict::Undecided(_)) && !self.is_drained(region)
    }

    /// Share of an entry's users whose home the region is.
    pub(super) fn home(&self, entry: &EntryId, region: &RegionId) -> f64 {
        self.policy.entries.get(entry).map_or(0.0, |set| set.share(region))
    }

    /// Until when the last change holds back a step of a ramp: until users have followed it, and the records were
    /// read after that, since demand is measured then.
    pub(super) fn ramp_held_until(&self) -> Option<Time> {
        let until = self.state.changed_at? + self.failover.hold_down;
        let read = self.turn.read_at.is_some_and(|at| until <= at);
        (self.now < until || !read).then_some(until)
    }

    /// Until when a change made at that moment holds others back.
    pub(super) fn held_until(&self, changed_at: Option<Time>) -> Option<Time> {
        let until = changed_at? + self.failover.hold_down;
        (self.now < until).then_some(until)
    }
}
