//! Ends of drains and overrides, the same at every reading.
//!
//! The control record says them by the wall clock, and turning one clock into the other jitters. Pure.
//! When a name last changed is the core's to judge: `NameState::changed_at` is what its writer claims.

use crate::domain::name::DnsName;
use crate::domain::operator::OperatorState;
use crate::domain::plan::NameState;
use crate::domain::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// Two readings of one wall-clock time differ by less on the process's clock.
const CLOCK_JITTER: Duration = Duration::from_secs(1);

/// What operators had said of each name at its last reading.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    names: BTreeMap<DnsName, OperatorState>,
}

impl Seen {
    /// Notes a reading and keeps the ends of the one before.
    pub fn note(&mut self, name: &DnsName, state: &mut NameState) {
        if let Some(last) = self.names.get(name) {
            keep_ends(last, &mut state.operator);
        }
        self.names.insert(name.clone(), state.operator.clone());
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
                operator,
                sets: BTreeMap::new(),
            };
            seen.note(&name, &mut state);
            let end = state.operator.drains[&region].expires_at;
            assert_eq!(end, Some(Time::from_millis(counts)), "{what}");
        }
    }
}
