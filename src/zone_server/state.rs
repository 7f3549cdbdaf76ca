//! What the API, the DNS side and the checkers share: one store behind one
//! short lock, the clock, and the faults that tests ask for.

use super::places::Places;
use super::refusal::Refusal;
use super::store::Store;
use crate::clock::wall_clock;
use crate::rtt_table::RttTable;
use aws_sdk_route53::primitives::{DateTime, DateTimeFormat};
use rand::rngs::StdRng;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Requests a second for an account, all actions together.
/// Source: developer guide, "Quotas", Route 53 API request limits.
const REQUESTS_A_SECOND: f64 = 5.0;

/// Shared by every task of one server.
pub struct State {
    store: Mutex<Store>,
    draws: Mutex<StdRng>,
    throttle: Option<Mutex<Bucket>>,
    faults: Mutex<Faults>,
    /// The checkers' tasks; they end by themselves at shutdown or when their check is gone.
    pub tasks: Mutex<JoinSet<()>>,
    pub places: Places,
    pub rtts: RttTable,
    pub shutdown: watch::Receiver<bool>,
    /// What 10 seconds of Route 53's check interval take here.
    pub health_interval: Duration,
    started: Instant,
    started_wall: Duration,
}

/// What `State::new` needs.
pub struct Parts {
    pub store: Store,
    pub draws: StdRng,
    pub throttle: bool,
    pub places: Places,
    pub rtts: RttTable,
    pub shutdown: watch::Receiver<bool>,
    pub health_interval: Duration,
}

impl State {
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let started = Instant::now();
        Self {
            store: Mutex::new(parts.store),
            draws: Mutex::new(parts.draws),
            throttle: parts
                .throttle
                .then(|| Mutex::new(Bucket { tokens: REQUESTS_A_SECOND, at: Duration::ZERO })),
            faults: Mutex::new(Faults::default()),
            tasks: Mutex::new(JoinSet::new()),
            places: parts.places,
            rtts: parts.rtts,
            shutdown: parts.shutdown,
            health_interval: parts.health_interval,
            started,
            started_wall: wall_clock(),
        }
    }

    /// Time since the server's start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The store; never hold it across an await.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        locked(&self.store)
    }

    pub fn draws(&self) -> MutexGuard<'_, StdRng> {
        locked(&self.draws)
    }

    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        locked(&self.faults)
    }

    /// Takes one request from the account's allowance.
    ///
    /// # Errors
    /// `Throttling` when the second's five are used up.
    pub fn admit(&self) -> Result<(), Refusal> {
        match &self.throttle {
            Some(bucket) if !locked(bucket).take(self.now()) => Err(Refusal::Throttling),
            _ => Ok(()),
        }
    }

    /// A time since the start as Route 53 writes times.
    #[must_use]
    pub fn timestamp(&self, since_start: Duration) -> String {
        let wall = self.started_wall + since_start;
        let seconds = i64::try_from(wall.as_secs()).unwrap_or(i64::MAX);
        let time = DateTime::from_secs_and_nanos(seconds, wall.subsec_millis() * 1_000_000);
        // Only years beyond 9999 have no such form.
        time.fmt(DateTimeFormat::DateTime).unwrap_or_else(|_| "9999-12-31T23:59:59Z".into())
    }
}

/// Locks even after a panic elsewhere: every critical section here leaves whole values.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A token bucket.
struct Bucket {
    tokens: f64,
    at: Duration,
}

impl Bucket {
    fn take(&mut self, now: Duration) -> bool {
        let earned = now.saturating_sub(self.at).as_secs_f64() * REQUESTS_A_SECOND;
        self.tokens = (self.tokens + earned).min(REQUESTS_A_SECOND);
        self.at = now;
        let admitted = self.tokens >= 1.0;
        if admitted {
            self.tokens -= 1.0;
        }
        admitted
    }
}

/// What may go wrong with the next ChangeResourceRecordSets calls, on request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Refused: 400 Throttling.
    Throttling,
    /// Refused: 400 PriorRequestNotComplete.
    PriorRequestNotComplete,
    /// Refused: 503, nothing changed.
    Unavailable,
    /// Applied, then answered 503: the caller cannot know.
    AppliedThenUnavailable,
    /// Applied, then no answer until the caller gives up (at most a minute).
    AppliedThenSilent,
}

/// Faults still to be served, one kind at a time.
#[derive(Debug, Default)]
pub struct Faults {
    kind: Option<Fault>,
    times: u32,
}

impl Faults {
    /// The next `times` changes meet this fault; replaces what was asked before.
    pub fn ask(&mut self, kind: Fault, times: u32) {
        *self = Self { kind: Some(kind), times };
    }

    /// The fault that this change meets, if any.
    pub fn next(&mut self) -> Option<Fault> {
        self.times = self.times.checked_sub(1)?;
        self.kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_requests_a_second_pass() {
        let mut bucket = Bucket { tokens: REQUESTS_A_SECOND, at: Duration::ZERO };
        let admitted = (0..50).filter(|i| bucket.take(Duration::from_millis(i * 20))).count();
        assert_eq!(admitted, 9, "five at once, then the four that the second earned");
    }

    #[test]
    fn a_fault_is_met_as_often_as_asked() {
        let mut faults = Faults::default();
        assert_eq!(faults.next(), None);
        faults.ask(Fault::Throttling, 2);
        assert_eq!(
            [faults.next(), faults.next(), faults.next()],
            [Some(Fault::Throttling), Some(Fault::Throttling), None]
        );
    }
}
