//! Names: their records as last read, and what is known of each.

use super::agreement::Votes;
use super::operate::Waiting;
use super::{DnsReport, Fleet, Output, Transition};
use crate::domain::drift::Drift;
use crate::domain::name::{DnsName, EntryId, RegionId};
use crate::domain::operator::OperatorState;
use crate::domain::plan::{Check, Demand, Generation, HOUR, LastChange, Loads, NameState, Refusal, Room};
use crate::domain::snapshot::{Gate, Parting};
use crate::domain::time::Time;
use crate::domain::view::Words;
use crate::domain::votes::Verdict;
use crate::domain::weights::WeightedSet;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Most changes of a name that are remembered; `failover.max_changes_per_hour` is at most as many.
const CHANGES_MAX: usize = 1000;

/// A DNS name as this edge knows it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NameRecord {
    pub(super) state: Option<NameState>,
    /// What operators have said: as read, with the acts that wait on top.
    pub(super) operator: OperatorState,
    /// Acts that are not in the control record yet.
    pub(super) waiting: Vec<Waiting>,
    /// Set while users are led away from the own region.
    pub(super) parting: Option<Parting>,
    pub(super) last: Option<LastChange>,
    /// When the records were last read.
    pub(super) read_at: Option<Time>,
    /// Since when users are led as they are: by the control record, since a hand has edited the sets, or since
    /// something else has led them (a drain, a health check that fails).
    pub(super) led_since: Time,
    /// The records were read since demand was last looked at.
    pub(super) just_read: bool,
    /// When they changed in the last hour, as far as is known, oldest first.
    pub(super) changes: Vec<Time>,
    /// Records that something else has changed, as last read.
    pub(super) drift: Vec<Drift>,
    /// Nothing may be proposed before the records were read again.
    pub(super) must_read: bool,
    pub(super) pending: Option<Pending>,
    /// Since when a change has been called for on the present generation.
    pub(super) needed_since: Option<Time>,
    pub(super) refusal: Option<Refusal>,
    pub(super) own_votes: Arc<Words>,
    pub(super) votes: Votes,
    pub(super) verdicts: BTreeMap<RegionId, Verdict>,
    pub(super) gate: Gate,
    /// By the last judgement the records are as they should be, and this edge saw all that it takes to tell.
    pub(super) content: bool,
    pub(super) wanted: Arc<BTreeMap<EntryId, WeightedSet>>,
    /// In which room the last judgement found everyone at home; `None`: what it rested on has changed since.
    #[serde(skip)]
    pub(super) at_rest: Option<Room>,
    pub(super) demand: Demand,
    /// Every rule's last answer, and the loads that it was about; the same allocation while nothing changes.
    pub(super) checks: Arc<[Check]>,
    pub(super) loads: Arc<Loads>,
}

/// A plan that was handed out and has not come back.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) generation: Generation,
    /// As the plan would have them.
    pub(super) sets: BTreeMap<EntryId, WeightedSet>,
    pub(super) until: Time,
}

impl Default for NameRecord {
    fn default() -> Self {
        Self {
            state: None,
            operator: OperatorState::default(),
            waiting: Vec::new(),
            parting: None,
            last: None,
            read_at: None,
            led_since: Time::ZERO,
            just_read: false,
            changes: Vec::new(),
            drift: Vec::new(),
            must_read: true,
            pending: None,
            needed_since: None,
            refusal: None,
            own_votes: Arc::default(),
            votes: Votes::new(),
            verdicts: BTreeMap::new(),
            gate: Gate::Open,
            content: false,
            wanted: Arc::default(),
            at_rest: None,
            demand: Demand::default(),
            checks: Arc::new([]),
            loads: Arc::default(),
        }
    }
}

impl NameRecord {
    /// Regions that an operator drains for this name.
    pub(super) fn drained(&self, now: Time) -> BTreeSet<RegionId> {
        self.operator.drained(now)
    }

    pub(super) fn generation(&self) -> Option<Generation> {
        self.state.as_ref().map(|s| s.fence.generation)
    }

    fn read(&mut self, mut state: NameState, hold_down: Duration, now: Time) {
        self.must_read = false;
        self.at_rest = None;
        let unmoved = self.unmoved(&state);
        self.date(&mut state, unmoved, now);
        self.count(&state, unmoved, hold_down, now);
        let edited = self.state.as_ref().is_some_and(|before| before.sets != state.sets);
        self.led_since =
            if edited { now } else { self.led_since.max(state.changed_at.unwrap_or(Time::ZERO)) };
        self.just_read = true;
        self.drift.clear();
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
        self.read_at = Some(now);
        self.state = Some(state);
        self.forget_written();
    }

    /// Whether nobody was moved since the last reading: nothing was written, or only operators have spoken,
    /// whose acts leave the sets and the time of their last change as they are.
    fn unmoved(&self, state: &NameState) -> bool {
        let Some(before) = &self.state else { return false };
        // There and back is two changes, however fast: the time of the last one tells.
        let spoken = before.fence.epoch == state.fence.epoch
            && before.sets == state.sets
            && before.claim == state.claim;
        before.fence == state.fence || spoken
    }

    /// Sets right when the last change was: its writer says so by its own wall clock, and hold-downs must
    /// not rest on that alone.
    ///
    /// As claimed at the first reading, but not in the future. Later the same sets keep their time, and a
    /// change that came since the last reading is not older than that reading. So a slow clock shortens a
    /// hold-down by at most the time between two readings, and a fast one lengthens it by as much; only an
    /// edge that has just started believes a slow clock.
    fn date(&self, state: &mut NameState, unmoved: bool, now: Time) {
        let claimed = state.changed_at.map(|at| at.min(now));
        state.changed_at = match (&self.state, self.read_at) {
            (Some(before), _) if unmoved => before.changed_at,
            (Some(_), Some(read_at)) => claimed.map(|at| at.max(read_at)),
            _ => claimed,
        };
    }

    /// Counts the changes since the last reading, one a generation.
    ///
    /// Of those before its first reading an edge knows the last one only, and takes it that they came as
    /// fast as ramps may.
    fn count(&mut self, state: &NameState, unmoved: bool, hold_down: Duration, now: Time) {
        let Some(last) = state.changed_at else { return };
        let known = self.state.as_ref().filter(|before| before.fence.epoch == state.fence.epoch);
        let generation = state.fence.generation.get();
        let (new, pace) = match known {
            Some(_) if unmoved => (0, Duration::ZERO),
            Some(before) => (generation.saturating_sub(before.fence.generation.get()), Duration::ZERO),
            None => {
                self.changes.clear();
                (generation, hold_down)
            }
        };
        let new = u32::try_from(new).unwrap_or(u32::MAX).min(CHANGES_MAX as u32);
        self.changes.extend((0..new).rev().map(|n| last.before(pace.saturating_mul(n))));
        self.changes.retain(|at| now.since(*at) < HOUR);
        let surplus = self.changes.len().saturating_sub(CHANGES_MAX);
        self.changes.drain(..surplus);
    }

    /// Nothing is resubmitted as it was: read first, then think again. A later plan may be under way meanwhile.
    fn rejected(&mut self, expires_at: Time) {
        self.pending.take_if(|pending| pending.until <= expires_at);
        self.must_read = true;
    }

    pub(super) fn refuse(&mut self, name: &DnsName, refusal: Option<Refusal>, outputs: &mut Vec<Output>) {
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
                    record.read(*state, self.policy.failover.hold_down, now);
                }
            }
            DnsReport::Drifted { name, records } => {
                if let Some(record) = self.names.get_mut(&name) {
                    record.drift = records;
                    record.at_rest = None;
                }
            }
            DnsReport::Conflict { name, expires_at } | DnsReport::Failed { name, expires_at } => {
                if let Some(record) = self.names.get_mut(&name) {
                    record.rejected(expires_at);
                }
            }
            // The next read shows the new generation; until then the plan stays pending.
            DnsReport::Submitted { .. } | DnsReport::InSync { .. } => return,
            DnsReport::Operated { name, id, generation } => {
                if let Some(record) = self.names.get_mut(&name) {
                    record.act_written(id, generation);
                }
            }
            DnsReport::Witness { region, witness } => {
                if self.policy.regions.contains_key(&region) {
                    self.readings.note(region, witness, now);
                }
            }
        }
        self.planned_at = None;
        self.dirty = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::Fence;

    const HOLD_DOWN: Duration = Duration::from_secs(180);

    fn state(generation: u64, changed_at: Option<Time>) -> NameState {
        let region = RegionId::parse(&format!("r{generation}")).unwrap();
        NameState {
            fence: Fence { epoch: "e".to_owned(), generation: Generation::new(generation) },
            writer: None,
            changed_at,
            claim: changed_at.map(|at| at.since(Time::ZERO)),
            operator: OperatorState::default(),
            sets: BTreeMap::from([(EntryId::parse("all").unwrap(), WeightedSet::only(region))]),
        }
    }

    #[test]
    fn a_wrong_wall_clock_of_a_writer_moves_no_change_past_what_was_seen() {
        let at = Time::from_millis;
        // (case, the generation read, when, the time that its writer claims, the time that counts)
        type Row = (&'static str, u64, Time, Option<Time>, Option<Time>);
        let cases: [&[Row]; 4] = [
            &[
                ("no time after bootstrap", 1, at(1_000), None, None),
                ("a slow writer: not before the last reading", 2, at(2_000), Some(at(10)), Some(at(1_000))),
                ("it ages", 2, at(9_000), Some(at(10)), Some(at(1_000))),
            ],
            &[
                ("the first reading believes", 5, at(5_000), Some(at(1_000)), Some(at(1_000))),
                ("a good clock", 6, at(7_000), Some(at(6_000)), Some(at(6_000))),
            ],
            &[
                ("a fast writer, first reading: now", 5, at(5_000), Some(at(99_000)), Some(at(5_000))),
                ("it stays there", 5, at(6_000), Some(at(99_000)), Some(at(5_000))),
                ("and when time has caught up", 5, at(100_000), Some(at(99_000)), Some(at(5_000))),
            ],
            &[
                ("anything", 1, at(1_000), Some(at(500)), Some(at(500))),
                ("a fast writer, seen later", 2, at(2_000), Some(at(99_000)), Some(at(2_000))),
                ("it stays there", 2, at(3_000), Some(at(99_000)), Some(at(2_000))),
            ],
        ];
        for case in cases {
            let mut record = NameRecord::default();
            for (what, generation, now, claimed, counts) in case {
                record.read(state(*generation, *claimed), HOLD_DOWN, *now);
                assert_eq!(record.state.as_ref().unwrap().changed_at, *counts, "{what}");
            }
        }
    }

    #[test]
    fn an_operators_word_is_no_change_and_there_and_back_are_two() {
        let at = Time::from_millis;
        let mut record = NameRecord::default();
        record.read(state(3, Some(at(500))), HOLD_DOWN, at(1_000));
        let (known, counts) = (record.changes.len(), record.state.as_ref().unwrap().changed_at);
        // The claim is read to be a little later, by a clock that jitters.
        let before = state(3, Some(at(500)));
        let spoken = NameState { sets: before.sets, claim: before.claim, ..state(4, Some(at(501))) };
        record.read(spoken.clone(), HOLD_DOWN, at(9_000));
        assert_eq!((record.changes.len(), record.state.as_ref().unwrap().changed_at), (known, counts));
        let back = |generation: u64, millis: u64| {
            let NameState { fence, changed_at, claim, .. } = state(generation, Some(at(millis)));
            NameState { fence, changed_at, claim, ..spoken.clone() }
        };
        record.read(back(6, 12_000), HOLD_DOWN, at(15_000));
        assert_eq!(record.changes.len(), known + 2);
        assert_eq!(record.state.as_ref().unwrap().changed_at, Some(at(12_000)));
        // Half a second later somebody's edit was put right: two readings apart, nothing else tells.
        record.read(back(7, 12_500), HOLD_DOWN, at(20_000));
        assert_eq!(record.changes.len(), known + 3);
    }

    #[test]
    fn after_a_restart_changes_are_taken_to_have_come_as_fast_as_ramps_may() {
        let now = Time::from_millis(100_000_000);
        let ago = |minutes: u64| now.before(Duration::from_secs(60 * minutes));
        for (what, generation, changed, counted) in [
            ("bootstrap only", 1, None, 0),
            ("two in all", 2, Some(ago(10)), 2),
            ("many, the last one ten minutes ago: one each three minutes before", 500, Some(ago(10)), 17),
            ("the last one is two hours old", 500, Some(ago(120)), 0),
        ] {
            let mut record = NameRecord::default();
            record.read(state(generation, changed), HOLD_DOWN, now);
            assert_eq!(record.changes.len(), counted, "{what}");
            assert!(record.changes.is_sorted(), "{what}");
        }
        // Its own readings count one a generation from then on.
        let mut record = NameRecord::default();
        record.read(state(1, None), HOLD_DOWN, ago(3));
        record.read(state(4, Some(ago(1))), HOLD_DOWN, now);
        assert_eq!(record.changes.len(), 3);
    }
}
