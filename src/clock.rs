//! The process's clock: turns tokio's monotonic time into the core's plain number.

use crate::domain::time::Time;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Started once in `app` and copied to every adapter, so that all agree on the origin.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// The origin lies 30 days back, so that moments before the start have their true distance up to
    /// there: changes of the records are read with their age, and `failover.hold_down`, the longest
    /// span that such an age is compared with, is at most 7 days.
    const HEAD_START: Duration = Duration::from_secs(30 * 86_400);

    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Since the start.
    pub fn uptime(&self) -> Duration {
        self.origin.elapsed()
    }

    pub fn now(&self) -> Time {
        Time::ZERO + Self::HEAD_START + self.uptime()
    }
}

/// When the control task last handled an input: the sign of life of what stands behind the snapshot.
#[derive(Debug, Default)]
pub struct Heartbeat(AtomicU64);

impl Heartbeat {
    pub fn beat(&self, now: Time) {
        self.0.store(now.as_nanos(), Relaxed);
    }

    /// How long ago that was.
    pub fn idle(&self, now: Time) -> Duration {
        now.since(Time::from_nanos(self.0.load(Relaxed)))
    }
}

/// The wall clock, since 1970, in whole milliseconds as control records hold it; zero for a clock before that.
///
/// Regions share no monotonic clock: what one writes and another reads, or people do, is dated by it.
#[allow(clippy::disallowed_methods)]
pub fn wall_clock() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_days_before_the_start_has_its_true_age() {
        let clock = Clock::start();
        for age in [Duration::from_secs(7200), Duration::from_secs(8 * 86_400)] {
            let now = clock.now();
            assert_eq!(now.since(now.before(age)), age);
        }
    }
}
