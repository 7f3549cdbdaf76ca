//! When a second attempt at a slow request is worth its load.
//!
//! A request that has no first byte by the time that 95 percent of the others
//! have theirs is sent to another endpoint as well, and the first answer wins.
//! Source: Dean and Barroso, "The Tail at Scale" (2013), hedged requests.
//!
//! Three bounds: idempotent requests only (both attempts may take effect); the
//! delay follows the service, within limits; and hedges are paid from a
//! budget, because in an overload everything is slow, and hedging it would be
//! the end of it.

use crate::domain::limit::budget::{Budget, BudgetPolicy};
use crate::domain::limit::histogram::Histogram;
use crate::domain::time::Time;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How often the delay is computed anew.
const REFRESH: Duration = Duration::from_secs(1);
/// The delay is not yet known.
const UNKNOWN: u64 = u64::MAX;
/// How long a request pays for hedges.
const WINDOW: Duration = Duration::from_secs(10);

/// The rules of hedging a service.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HedgePolicy {
    /// Which quantile of the time to the first byte is the delay, 0..1.
    pub quantile: f64,
    pub delay_min: Duration,
    pub delay_max: Duration,
    /// Share of requests that may be hedged, 0..=1.
    pub share: f64,
    /// Recent samples below which nothing is hedged.
    pub samples_min: u32,
}

impl Default for HedgePolicy {
    fn default() -> Self {
        Self {
            quantile: 0.95,
            delay_min: Duration::from_millis(1),
            delay_max: Duration::from_secs(10),
            // Just above what the quantile lets through.
            share: 0.1,
            samples_min: 100,
        }
    }
}

/// Whether a request may take effect twice without harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeatable {
    /// An idempotent method (RFC 9110 section 9.2.2), and a body that can be sent again.
    Yes,
    No,
}

/// The hedging of one service.
#[derive(Debug)]
pub struct Hedge {
    policy: HedgePolicy,
    latency: Histogram,
    budget: Budget,
    /// Nanoseconds, or `UNKNOWN`.
    delay: AtomicU64,
    refreshed: AtomicU64,
}

impl Hedge {
    pub fn new(policy: HedgePolicy) -> Self {
        let budget = BudgetPolicy { ratio: policy.share, min_per_second: 0.0, window: WINDOW };
        Self {
            policy,
            latency: Histogram::default(),
            budget: Budget::new(budget),
            delay: AtomicU64::new(UNKNOWN),
            refreshed: AtomicU64::new(0),
        }
    }

    /// A request begins: when to hedge it, counted from its being sent. `None`: not at all.
    pub fn begin(&self, repeatable: Repeatable, now: Time) -> Option<Duration> {
        self.budget.deposit(now);
        self.refresh(now);
        match (repeatable, self.delay.load(Relaxed)) {
            (Repeatable::No, _) | (_, UNKNOWN) => None,
            (Repeatable::Yes, delay) => Some(Duration::from_nanos(delay)),
        }
    }

    /// The delay of a request is over without a first byte: whether it is hedged.
    ///
    /// Asked when the time has come, not before: a request that answers in time
    /// costs the budget nothing.
    pub fn try_hedge(&self, now: Time) -> bool {
        self.budget.try_withdraw(now)
    }

    /// Time from sending an attempt to its first byte.
    ///
    /// For the loser of a hedge: the time until it was cancelled. Left out, the
    /// slow ones would be missing, and the delay would creep down.
    pub fn record(&self, first_byte: Duration) {
        self.latency.record(first_byte);
    }

    /// The present delay; `None` while too little is known.
    pub fn delay(&self) -> Option<Duration> {
        Some(self.delay.load(Relaxed)).filter(|delay| *delay != UNKNOWN).map(Duration::from_nanos)
    }

    fn refresh(&self, now: Time) {
        let before = self.refreshed.load(Relaxed);
        if now.since(Time::from_nanos(before)) < REFRESH {
            return;
        }
        // One thread does it; the others go on with the last delay.
        if self.refreshed.compare_exchange(before, now.as_nanos(), Relaxed, Relaxed).is_err() {
            return;
        }
        let quantile = self.latency.quantile(self.policy.quantile, self.policy.samples_min);
        let delay = quantile.map_or(UNKNOWN, |quantile| {
            let delay = quantile.min(self.policy.delay_max).max(self.policy.delay_min);
            u64::try_from(delay.as_nanos()).unwrap_or(UNKNOWN)
        });
        self.delay.store(delay, Relaxed);
        self.latency.decay();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service whose requests take 1..=100 ms, one after the other.
    fn warm() -> Hedge {
        let hedge = Hedge::new(HedgePolicy::default());
        for n in 0..1000u64 {
            hedge.record(Duration::from_millis(n % 100 + 1));
        }
        hedge
    }

    #[test]
    fn the_delay_is_the_95th_percentile() {
        let delay = warm().begin(Repeatable::Yes, Time::from_millis(1000)).unwrap();
        assert!((93..=98).contains(&delay.as_millis()), "{delay:?}");
    }

    #[test]
    fn nothing_is_hedged_that_may_take_effect_twice_or_is_hardly_known() {
        assert_eq!(warm().begin(Repeatable::No, Time::from_millis(1000)), None);
        let hedge = Hedge::new(HedgePolicy::default());
        for _ in 0..99 {
            hedge.record(Duration::from_millis(5));
        }
        assert_eq!(hedge.begin(Repeatable::Yes, Time::from_millis(1000)), None);
    }

    #[test]
    fn the_delay_stays_within_its_bounds() {
        let policy = HedgePolicy {
            delay_min: Duration::from_millis(20),
            delay_max: Duration::from_millis(50),
            ..HedgePolicy::default()
        };
        for (millis, expected) in [(1, 20), (900, 50)] {
            let hedge = Hedge::new(policy);
            (0..200).for_each(|_| hedge.record(Duration::from_millis(millis)));
            let delay = hedge.begin(Repeatable::Yes, Time::from_millis(1000));
            assert_eq!(delay, Some(Duration::from_millis(expected)));
        }
    }

    #[test]
    fn the_delay_follows_a_service_that_gets_slower() {
        let hedge = warm();
        for second in 1..=30u64 {
            let now = Time::from_millis(second * 1000);
            hedge.begin(Repeatable::Yes, now);
            (0..100).for_each(|_| hedge.record(Duration::from_millis(400)));
        }
        hedge.begin(Repeatable::Yes, Time::from_millis(31_000));
        assert!(hedge.delay().unwrap() > Duration::from_millis(370), "{:?}", hedge.delay());
    }

    #[test]
    fn when_everything_is_slow_only_the_share_is_hedged() {
        let hedge = warm();
        let mut hedged = 0;
        for n in 0..10_000u64 {
            let now = Time::from_millis(1000 + n);
            hedge.begin(Repeatable::Yes, now);
            hedged += u32::from(hedge.try_hedge(now));
        }
        assert!((990..=1000).contains(&hedged), "{hedged} of 10000");
    }
}
