//! Requests in flight: a bound that sheds load before latency collapses.
//!
//! A bound is fixed, or adaptive (`adaptive` says how it moves). Either way a
//! request is admitted or refused at once; nothing waits here, because a queue in
//! front of an overloaded service only makes its answers late.
//!
//! Priorities are shares of the bound: `Critical` may use all of it, the lower
//! classes the first part only, so they are shed first. Shares of *in-flight
//! requests of all classes*: the lower class needs no knowledge of the higher one.

mod adaptive;
#[cfg(test)]
mod tests;

pub use adaptive::AdaptivePolicy;

use crate::domain::limit::histogram::Histogram;
use crate::domain::time::Time;
use adaptive::{Adaptive, Window};
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::Duration;

/// How dear a request is; the lower classes are shed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    Sheddable,
    #[default]
    Normal,
    Critical,
}

impl Priority {
    pub const ALL: [Self; 3] = [Self::Sheddable, Self::Normal, Self::Critical];

    /// The class of that spelling; see [`Priority::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }

    /// The class as metrics, other regions and the file spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sheddable => "sheddable",
            Self::Normal => "normal",
            Self::Critical => "critical",
        }
    }
}

/// A bound, and what the lower classes may use of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConcurrencyPolicy {
    pub bound: Bound,
    /// Share of the bound, 0..=1, up to which normal requests are admitted.
    pub normal_share: f64,
    /// Share of the bound, 0..=1, up to which sheddable requests are admitted.
    pub sheddable_share: f64,
}

impl ConcurrencyPolicy {
    pub const NORMAL_SHARE: f64 = 0.9;
    pub const SHEDDABLE_SHARE: f64 = 0.5;

    /// A fixed bound with the usual shares.
    pub const fn fixed(limit: u32) -> Self {
        let (normal_share, sheddable_share) = (Self::NORMAL_SHARE, Self::SHEDDABLE_SHARE);
        Self { bound: Bound::Fixed(limit), normal_share, sheddable_share }
    }

    /// An adaptive bound with the usual shares.
    pub const fn adaptive(policy: AdaptivePolicy) -> Self {
        let (normal_share, sheddable_share) = (Self::NORMAL_SHARE, Self::SHEDDABLE_SHARE);
        Self { bound: Bound::Adaptive(policy), normal_share, sheddable_share }
    }
}

/// How many requests may be in flight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    Fixed(u32),
    Adaptive(AdaptivePolicy),
}

/// What a request says of the load of whoever served it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// An answer of its own: its latency counts.
    Answered,
    /// A timeout, a refused connection, a 503 or 429: too much, however fast it was said.
    Overloaded,
    /// The client left before there was an answer. One that waited long says what a timeout says;
    /// one that left soon says nothing.
    Left,
    /// Says nothing: the fault was our own, or the client's.
    Unknown,
}

/// Too many are in flight for this class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shed {
    /// The bound for the class at that moment.
    pub limit: u32,
}

/// The bound of one route or service.
#[derive(Debug)]
pub struct Limiter {
    policy: ConcurrencyPolicy,
    in_flight: AtomicU32,
    /// The present bound, whole.
    limit: AtomicU32,
    learning: Option<Learning>,
}

/// What an adaptive bound is learned from: the present window, and the state that it will change.
#[derive(Debug)]
struct Learning {
    policy: AdaptivePolicy,
    latencies: Histogram,
    answered: AtomicU32,
    overloaded: AtomicU32,
    /// Most in flight in this window.
    peak: AtomicU32,
    began: AtomicU64,
    /// Counts windows: a request belongs to the one that it was admitted in.
    number: AtomicU32,
    /// When this window may be closed at the soonest: nanoseconds.
    closes: AtomicU64,
    /// A client that leaves after so many nanoseconds has waited too long.
    long: AtomicU64,
    /// Whoever sets it closes the window; others go on.
    closing: AtomicBool,
    state: adaptive::Cells,
}

impl Limiter {
    /// `random` spreads the probes of many edges over time.
    pub fn new(policy: ConcurrencyPolicy, random: u64, now: Time) -> Self {
        let (limit, learning) = match policy.bound {
            Bound::Fixed(limit) => (limit, None),
            Bound::Adaptive(adaptive) => {
                let state = Adaptive::new(&adaptive, random, now);
                (state.limit(), Some(Learning::new(adaptive, &state, now)))
            }
        };
        Self { policy, in_flight: AtomicU32::new(0), limit: AtomicU32::new(limit), learning }
    }

    /// Admits a request, or says that it must be shed.
    ///
    /// # Errors
    /// `Shed` when the share of its class is in use.
    pub fn try_acquire(self: &Arc<Self>, priority: Priority, now: Time) -> Result<Permit, Shed> {
        let limit = self.limit_of(priority);
        let admitted = |count: u32| (count < limit).then(|| count.saturating_add(1));
        let before = self.in_flight.fetch_update(Relaxed, Relaxed, admitted);
        let Ok(before) = before else {
            // What is shed is traffic, too: it is not light.
            if let Some(learning) = &self.learning {
                learning.peak.fetch_max(self.limit(), Relaxed);
            }
            return Err(Shed { limit });
        };
        let window = self.learning.as_ref().map_or(0, |learning| {
            learning.peak.fetch_max(before + 1, Relaxed);
            learning.number.load(Relaxed)
        });
        Ok(Permit { limiter: Some(Arc::clone(self)), began: now, window })
    }

    /// The bound for requests of a class, now. At least 1 unless its share is 0.
    pub fn limit_of(&self, priority: Priority) -> u32 {
        let limit = self.limit.load(Relaxed);
        let share = match priority {
            Priority::Critical => return limit,
            Priority::Normal => self.policy.normal_share,
            Priority::Sheddable => self.policy.sheddable_share,
        };
        (f64::from(limit) * share).ceil() as u32
    }

    /// The present bound.
    pub fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    fn released(&self, permit: &Permit, served: Served, now: Time) {
        let Some(learning) = &self.learning else { return };
        // Requests of an earlier window met another bound.
        if permit.window == learning.number.load(Relaxed) {
            match served {
                Served::Answered => {
                    learning.latencies.record(now.since(permit.began));
                    learning.answered.fetch_add(1, Relaxed);
                }
                Served::Left if now.since(permit.began).as_nanos() as u64 <= learning.long.load(Relaxed) => {}
                Served::Overloaded | Served::Left => {
                    learning.overloaded.fetch_add(1, Relaxed);
                }
                Served::Unknown => {}
            }
        }
        if now.as_nanos() >= learning.closes.load(Relaxed)
            && let Some(limit) = learning.close(self.in_flight(), now)
        {
            self.limit.store(limit, Relaxed);
        }
    }
}

impl Learning {
    fn new(policy: AdaptivePolicy, state: &Adaptive, now: Time) -> Self {
        Self {
            policy,
            latencies: Histogram::default(),
            answered: AtomicU32::new(0),
            overloaded: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            began: AtomicU64::new(now.as_nanos()),
            number: AtomicU32::new(1),
            closes: AtomicU64::new((now + state.window_min(&policy)).as_nanos()),
            long: AtomicU64::new(state.long(&policy)),
            closing: AtomicBool::new(false),
            state: adaptive::Cells::new(state),
        }
    }

    /// Ends the window, if it has enough to say or has lasted too long; the new bound.
    ///
    /// One thread at a time; whoever comes meanwhile goes on with the old bound.
    fn close(&self, in_flight: u32, now: Time) -> Option<u32> {
        if self.closing.swap(true, AcqRel) {
            return None;
        }
        let state = self.state.load();
        let began = Time::from_nanos(self.began.load(Relaxed));
        let (answered, overloaded) = (self.answered.load(Relaxed), self.overloaded.load(Relaxed));
        let lasted = now.since(began);
        let enough = answered.saturating_add(overloaded) >= state.samples_wanted();
        let limit = (enough || lasted >= adaptive::WINDOW_MAX).then(|| {
            let window = Window {
                median: self.latencies.quantile(0.5, 1),
                answered,
                overloaded,
                peak: self.peak.load(Relaxed),
                lasted,
            };
            let next = state.after(&window, &self.policy, now);
            self.state.store(&next);
            self.latencies.clear();
            self.answered.store(0, Relaxed);
            self.overloaded.store(0, Relaxed);
            self.peak.store(in_flight, Relaxed);
            self.began.store(now.as_nanos(), Relaxed);
            self.closes.store((now + next.window_min(&self.policy)).as_nanos(), Relaxed);
            self.long.store(next.long(&self.policy), Relaxed);
            self.number.fetch_add(1, Relaxed);
            next.limit()
        });
        self.closing.store(false, Release);
        limit
    }
}

/// One request in flight; dropping it ends the count.
#[derive(Debug)]
#[must_use = "dropping it ends the request's count"]
pub struct Permit {
    limiter: Option<Arc<Limiter>>,
    began: Time,
    window: u32,
}

impl Permit {
    /// So much of the request's time was its client's, who had not sent all of it: no latency.
    pub fn leave_out(&mut self, upload: Duration) {
        self.began = self.began + upload;
    }

    /// Ends the count and tells how the request went. Dropped without it: unknown.
    pub fn release(mut self, served: Served, now: Time) {
        if let Some(limiter) = self.limiter.take() {
            limiter.in_flight.fetch_sub(1, Relaxed);
            limiter.released(&self, served, now);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(limiter) = self.limiter.take() {
            limiter.in_flight.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod threads {
    use super::*;

    #[test]
    fn threads_never_hold_more_than_the_bound() {
        let limiter = Arc::new(Limiter::new(ConcurrencyPolicy::fixed(8), 0, Time::ZERO));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let held: Vec<_> = (0..4)
                            .map_while(|_| limiter.try_acquire(Priority::Critical, Time::ZERO).ok())
                            .collect();
                        assert!(limiter.in_flight() <= 8);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!(limiter.in_flight(), 0);
    }
}
