//! Outcomes in runs: many requests as few records, which mean the same as each of them in order.

use super::{Outcome, OutcomeResult};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Outcomes that say the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeRun {
    pub outcome: Outcome,
    /// How many. At least 1.
    pub count: u16,
    /// The sum of their times to the head of the answer; nothing unless they succeeded.
    pub latency: Duration,
}

impl OutcomeRun {
    /// A single outcome; `latency`: to the head of the answer.
    pub const fn one(outcome: Outcome, latency: Duration) -> Self {
        Self { outcome, count: 1, latency }
    }

    pub(super) fn is_success(&self) -> bool {
        self.outcome.result == OutcomeResult::Success
    }
}

/// How far back a run is looked for that an outcome can join: a bound on the work for each of them.
const LOOK_BACK: usize = 64;

/// Adds an outcome to those before it.
///
/// Successes of one (service, region) may change places: no decision hangs on which endpoint was
/// the first to do well. Nothing passes a failure or a refusal of the same (service, region): there,
/// the order is what ejects.
pub fn add_outcome(runs: &mut Vec<OutcomeRun>, new: OutcomeRun) {
    let same_place = |run: &&mut OutcomeRun| {
        run.outcome.service == new.outcome.service && run.outcome.region == new.outcome.region
    };
    for run in runs.iter_mut().rev().take(LOOK_BACK).filter(same_place) {
        if run.outcome == new.outcome
            && let Some(count) = run.count.checked_add(new.count)
        {
            run.count = count;
            run.latency = run.latency.saturating_add(new.latency);
            return;
        }
        if !(run.is_success() && new.is_success()) {
            break;
        }
    }
    runs.push(new);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::name::{RegionId, ServiceId};
    use OutcomeResult::{Failure, Success};

    fn outcome(service: &str, endpoint: u8, result: OutcomeResult) -> OutcomeRun {
        let outcome = Outcome {
            service: ServiceId::parse(service).unwrap(),
            region: RegionId::parse("here").unwrap(),
            address: ([10, 0, 0, endpoint], 80).into(),
            result,
        };
        OutcomeRun::one(outcome, Duration::from_millis(u64::from(endpoint)))
    }

    #[test]
    fn successes_join_whatever_lies_between_but_nothing_passes_a_failure() {
        let mut runs = Vec::new();
        for (service, endpoint, result) in [
            ("web", 1, Success),
            ("web", 2, Success),
            ("web", 1, Success),
            ("web", 1, Failure),
            ("web", 1, Success),
            ("api", 1, Success),
            ("web", 1, Success),
            ("web", 2, Failure),
            ("web", 1, Failure),
            ("web", 1, Failure),
        ] {
            add_outcome(&mut runs, outcome(service, endpoint, result));
        }
        let shown: Vec<_> = runs
            .iter()
            .map(|OutcomeRun { outcome: o, count, .. }| {
                format!("{} {} {:?} {count}", o.service, o.address.ip(), o.result)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "web 10.0.0.1 Success 2",
                "web 10.0.0.2 Success 1",
                "web 10.0.0.1 Failure 1",
                "web 10.0.0.1 Success 2",
                "api 10.0.0.1 Success 1",
                "web 10.0.0.2 Failure 1",
                "web 10.0.0.1 Failure 2",
            ]
        );
        assert_eq!(runs[0].latency, Duration::from_millis(2));
    }

    #[test]
    fn a_run_that_is_full_begins_another() {
        let mut runs = vec![OutcomeRun { count: u16::MAX, ..outcome("web", 1, Success) }];
        add_outcome(&mut runs, outcome("web", 1, Success));
        assert_eq!(runs.iter().map(|r| r.count).collect::<Vec<_>>(), [u16::MAX, 1]);
    }
}
