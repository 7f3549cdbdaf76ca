//! Two readings side by side: ends that stay the same, and weights that somebody edited.
//!
//! The control record says them by the wall clock, and turning one clock into the other jitters. Pure.
//! When a name last changed is the core's to judge: `NameState::changed_at` is what its writer claims.

use super::batch::weights;
use crate::domain::name::{DnsName, EntryId};
use crate::domain::operator::OperatorState;
use crate::domain::plan::{Fence, NameState};
use crate::domain::time::Time;
use crate::domain::weights::WeightedSet;
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
    operator: OperatorState,
    sets: BTreeMap<EntryId, WeightedSet>,
}

impl Seen {
    /// Notes a reading and keeps the ends of the one before.
    ///
    /// Returns what has changed under the same fence: nobody who keeps to the fence did that.
    pub fn note(&mut self, name: &DnsName, state: &mut NameState) -> Vec<String> {
        if let Some(last) = self.names.get(name) {
            keep_ends(&last.operator, &mut state.operator);
        }
        let last =
            Last { fence: state.fence.clone(), operator: state.operator.clone(), sets: state.sets.clone() };
        let before = self.names.insert(name.clone(), last);
        before.filter(|before| before.fence == state.fence).map_or_else(Vec::new, |before| {
            let edited = state.sets.iter().filter_map(|(entry, set)| {
                let was = before.sets.get(entry).filter(|was| *was != set)?;
                Some(format!("{entry}: {} -> {}", weights(was), weights(set)))
            });
            edited.collect()
        })
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
    use crate::domain::name::RegionId;
    use crate::domain::operator::Drain;
    use crate::domain::plan::{Fence, Generation};

    #[test]
    fn an_end_stays_where_it_was_read_first_unless_somebody_moves_it() {
        let (name, region) = (DnsName::parse("www.example.test").unwrap(), RegionId::parse("a").unwrap());
        let mut seen = Seen::default();
        for (what, read, counts) in [
            ("first", 5_000, 5_000),
            ("jitter", 5_003, 5_000),
            ("jitter back", 4_998, 5_000),
            ("moved", 9_000, 9_000),
        ] {
            let drain = Drain { expires_at: Some(Time::from_millis(read)), ..Drain::default() };
            let operator =
                OperatorState { drains: [(region.clone(), drain)].into(), ..OperatorState::default() };
            let mut state = NameState {
                fence: Fence { epoch: "e".to_owned(), generation: Generation::new(1) },
                writer: None,
                changed_at: None,
                claim: None,
                operator,
                sets: BTreeMap::new(),
            };
            seen.note(&name, &mut state);
            let end = state.operator.drains[&region].expires_at;
            assert_eq!(end, Some(Time::from_millis(counts)), "{what}");
        }
    }
}
