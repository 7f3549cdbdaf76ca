//! The pace of requests: one bucket for all of this edge's calls, and back-off.

use rand::Rng;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Requests a second to AWS. Route 53 takes five for the whole account.
/// Source: developer guide, "Quotas", Route 53 API request limits.
const AWS_PER_SECOND: u32 = 5;
/// Requests a second to another server: it has no account to share, but a bound stays.
const OTHER_PER_SECOND: u32 = 20;

/// First and longest pause before a retry.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A bucket of requests, one second deep.
///
/// Generic cell rate algorithm: one moment is all its state.
/// Source: ITU-T I.371, annex A.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    burst: u32,
    /// When the bucket is full again.
    full_at: Mutex<Option<Instant>>,
}

/// Leave for one request. Who must decide after the wait takes it first.
#[derive(Debug)]
pub struct Turn(());

impl Pace {
    /// The pace for AWS (`endpoint` is `None`) or another server.
    pub fn of(endpoint: Option<&str>) -> Self {
        Self::per_second(if endpoint.is_some() { OTHER_PER_SECOND } else { AWS_PER_SECOND })
    }

    /// `requests` a second, at least one.
    pub fn per_second(requests: u32) -> Self {
        let burst = requests.max(1);
        Self { interval: Duration::from_secs(1) / burst, burst, full_at: Mutex::new(None) }
    }

    /// Waits for the next free place.
    pub async fn turn(&self) -> Turn {
        let at = self.reserve(Instant::now());
        sleep_until(at).await;
        Turn(())
    }

    fn reserve(&self, now: Instant) -> Instant {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full = full_at.unwrap_or(now).max(now);
        *full_at = Some(full + self.interval);
        let tolerance = self.interval * (self.burst - 1);
        full.checked_sub(tolerance).map_or(now, |at| at.max(now))
    }
}

/// Growing pauses between attempts at one thing, with full jitter.
///
/// Source: AWS architecture blog, "Exponential backoff and jitter".
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next pause: evenly drawn up to a ceiling that doubles; never none, so that no loop spins.
    pub fn pause(&mut self) -> Duration {
        let ceiling = BACKOFF_MIN.saturating_mul(1 << self.attempts.min(10)).min(BACKOFF_MAX);
        self.attempts = self.attempts.saturating_add(1);
        let drawn = ceiling.mul_f64(rand::rng().random_range(0.0..=1.0));
        drawn.max(BACKOFF_MIN / 4)
    }
}

/// `interval`, a tenth longer or shorter at random: many edges must not poll in step.
pub fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(rand::rng().random_range(0.9..=1.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let (pace, start) = (Pace::per_second(5), Instant::now());
        let waits: Vec<u128> = (0..10).map(|_| (pace.reserve(start) - start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 200, 400, 600, 800, 1000]);
    }

    #[test]
    fn a_pause_earns_a_burst_but_no_more() {
        let (pace, start) = (Pace::per_second(5), Instant::now());
        for _ in 0..5 {
            pace.reserve(start);
        }
        let later = start + Duration::from_secs(60);
        let waits: Vec<u128> = (0..7).map(|_| (pace.reserve(later) - later).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 200, 400]);
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut backoff = Backoff::default();
        for attempt in 0..100 {
            let pause = backoff.pause();
            assert!(pause >= BACKOFF_MIN / 4 && pause <= BACKOFF_MAX, "attempt {attempt}: {pause:?}");
        }
    }
}
