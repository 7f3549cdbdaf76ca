//! When DNS has led users away from the own region, those who stay connected are let go at a pace.
//!
//! Who keeps a connection open asks DNS nothing. Closing all of them at once would be a herd at the
//! next region's door, so a growing share of them is closed, and each reconnects by DNS.

use super::Fleet;
use super::names::NameRecord;
use crate::domain::name::RegionId;
use crate::domain::policy::{FailoverPolicy, NamePolicy};
use crate::domain::snapshot::Parting;
use crate::domain::time::Time;
use crate::domain::votes::Verdict;

/// The share of connections to close grows in steps, so that it is not a new decision every time.
const STEPS: f64 = 50.0;

impl Fleet {
    pub(super) fn part(&mut self, now: Time) {
        let (own, failover) = (&self.policy.own, &self.policy.failover);
        for (name, policy) in &self.policy.names {
            if let Some(record) = self.names.get_mut(name) {
                record.part(own, (policy, failover), now);
            }
        }
    }
}

impl NameRecord {
    /// Notes since when the own region is to be left, and since when no weight leads there.
    fn part(&mut self, own: &RegionId, (policy, failover): (&NamePolicy, &FailoverPolicy), now: Time) {
        let ill = self.verdicts.get(own) == Some(&Verdict::Down);
        if !policy.regions().contains(own) || !(ill || self.operator.is_drained(own, now)) {
            self.parting = None;
            return;
        }
        let before = self.parting;
        let without = |sets: &std::collections::BTreeMap<_, crate::domain::weights::WeightedSet>| {
            !sets.is_empty() && sets.values().all(|set| set.get(own).is_none())
        };
        let moved = self.state.as_ref().is_some_and(|state| without(&state.sets));
        let moved_since = moved.then(|| before.and_then(|parting| parting.moved_since).unwrap_or(now));
        let closing = moved_since.map_or(0.0, |since| share(failover, since, now));
        let since = before.map_or(now, |parting| parting.since);
        self.parting = Some(Parting { since, moved_since, closing });
    }
}

/// The share of connections to have closed by `now`, 0..=1.
///
/// The first of them only when DNS leads nobody here any more: `hold_down` is at least the TTL and
/// the time to INSYNC (`config` sees to it).
fn share(failover: &FailoverPolicy, moved_since: Time, now: Time) -> f64 {
    let begin = moved_since + failover.hold_down;
    if now < begin {
        return 0.0;
    }
    let gone = now.since(begin).as_secs_f64() / failover.close_over.as_secs_f64().max(f64::MIN_POSITIVE);
    ((gone.min(1.0) * STEPS).floor() / STEPS).max(1.0 / STEPS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn nobody_is_cut_before_dns_has_led_away_and_then_the_share_grows_evenly_to_all() {
        let failover = FailoverPolicy {
            hold_down: Duration::from_secs(180),
            close_over: Duration::from_secs(300),
            ..FailoverPolicy::default()
        };
        let moved = Time::from_millis(1_000_000);
        for (seconds, closed) in
            [(0, 0.0), (179, 0.0), (180, 0.02), (210, 0.1), (330, 0.5), (480, 1.0), (9_000, 1.0)]
        {
            let share = share(&failover, moved, moved + Duration::from_secs(seconds));
            assert_eq!(share, closed, "after {seconds} s");
        }
        let at_once = FailoverPolicy { close_over: Duration::ZERO, ..failover };
        assert_eq!(share(&at_once, moved, moved + Duration::from_secs(181)), 1.0);
    }
}
