//! When each name last changed, by this edge's own clock as far as it was watching.
//!
//! A control record says when it was written by its writer's wall clock. Hold-down
//! must not rest on that alone: a slow clock makes a change look old at once, a
//! fast one makes it look new at every reading. Pure: time is an argument.

use crate::domain::name::DnsName;
use crate::domain::operator::OperatorState;
use crate::domain::plan::{Fence, NameState};
use crate::domain::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// Two readings of one wall-clock time differ by less on the process's clock.
const CLOCK_JITTER: Duration = Duration::from_secs(1);

/// The last reading of each name.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    names: BTreeMap<DnsName, Last>,
}

#[derive(Debug, Clone)]
struct Last {
    fence: Fence,
    changed_at: Option<Time>,
    operator: OperatorState,
    read_at: Time,
}

impl Seen {
    /// Notes a reading at `now` and sets right when its last change was.
    ///
    /// As claimed at the first reading, but not in the future. Later the same fence keeps its
    /// time, and a change that came since the last reading is not older than that reading.
    pub fn note(&mut self, name: &DnsName, state: &mut NameState, now: Time) {
        let claimed = state.changed_at.map(|at| at.min(now));
        state.changed_at = match self.names.get(name) {
            Some(last) if last.fence == state.fence => last.changed_at,
            Some(last) => claimed.map(|at| at.max(last.read_at)),
            None => claimed,
        };
        if let Some(last) = self.names.get(name) {
            keep_ends(&last.operator, &mut state.operator);
        }
        let last = Last {
            fence: state.fence.clone(),
            changed_at: state.changed_at,
            operator: state.operator.clone(),
            read_at: now,
        };
        self.names.insert(name.clone(), last);
    }
}

/// Ends that are as before but for the jitter of two clocks stay exactly as before: nothing changed.
fn keep_ends(before: &OperatorState, after: &mut OperatorState) {
    let keep = |before: Time, after: &mut Time| {
        if before.since(*after).max(after.since(before)) < CLOCK_JITTER {
            *after = before;
        }
    };
    for (region, drain) in &mut after.drains {
        let before = before.drains.get(region).and_then(|drain| drain.expires_at);
        if let (Some(before), Some(after)) = (before, &mut drain.expires_at) {
            keep(before, after);
        }
    }
    for (rule, over) in &mut after.overrides {
        if let Some(before) = before.overrides.get(rule) {
            keep(before.expires_at, &mut over.expires_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::Generation;

    #[test]
    fn a_wrong_wall_clock_of_a_writer_moves_no_change_past_what_was_seen() {
        let name = DnsName::parse("www.example.test").unwrap();
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
            let mut seen = Seen::default();
            for (what, generation, now, claimed, counts) in case {
                let mut state = NameState {
                    fence: Fence { epoch: "e".to_owned(), generation: Generation::new(*generation) },
                    writer: None,
                    changed_at: *claimed,
                    operator: OperatorState::default(),
                    sets: BTreeMap::new(),
                };
                seen.note(&name, &mut state, *now);
                assert_eq!(state.changed_at, *counts, "{what}");
            }
        }
    }
}
