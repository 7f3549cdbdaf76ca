//! How an adaptive bound moves: a gradient against the latency without a queue.
//!
//! Source: the gradient of Netflix concurrency-limits (`GradientLimit`) and of
//! Envoy's adaptive concurrency filter: `limit x clamp(tolerance x base / median) + sqrt(limit)`.
//!
//! Which base? `Gradient2` takes a long average of the latency: under an overload
//! that lasts, the average learns the overload, and the bound creeps up
//! until the queue is back. A windowed minimum (BBR, Vegas) takes the fastest
//! request for all: where cheap and dear requests mix, it shrinks
//! for no reason. Envoy compares the same quantile of both, and measures its base
//! by going down to three requests for a while, which costs most of the goodput.
//! Here, too, base and present are medians, but the base is measured
//! by *descending*: the bound is halved, window by window, as long as that makes the median
//! clearly lower, that is as long as a queue is left to be drained. It costs a few
//! windows below capacity, once in `probe` and at most a twentieth of the time,
//! and needs no measurement at all while traffic is light.
//!
//! Latency says nothing when a service refuses fast, or when clients leave before
//! they are answered: a window with a tenth of overload answers (timeouts, 503, clients that
//! waited for long and left) shrinks the bound, too, the more the greater their share.
//!
//! Pure: `Adaptive` is a value, `after` is its only step. `Cells` holds it between steps.

use crate::domain::time::Time;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A window that has not got its samples by then is closed without.
pub(super) const WINDOW_MAX: Duration = Duration::from_secs(5);
/// Samples that make a median: in a window of steady operation, and in a step of a descent.
const SAMPLES: u32 = 50;
const SAMPLES_DESCENT: u32 = 100;
/// The first answers of a window are the fast ones: it lasts so many medians, that slow ones count, too.
const MEDIANS: f64 = 4.0;
const MEDIANS_DESCENT: f64 = 8.0;
/// Fewer make none, however long the window was.
const SAMPLES_LEAST: u32 = 5;
/// The first window of all lasts so many usual ones.
const FIRST_WINDOWS: f64 = 5.0;
/// A lower bound made the median clearly lower: a queue was there.
const QUEUE_DRAINED: f64 = 0.85;
/// The most that one window takes away, before smoothing.
const GRADIENT_MIN: f64 = 0.5;
/// Part of the way to the computed bound that one window goes. Source: `Gradient2` (0.2).
const SMOOTHING: f64 = 0.2;
/// Share of overload answers in a window that shrinks the bound.
const OVERLOAD_SHARE: f64 = 0.1;
/// What such a window leaves of the bound at most; half of its share of overload answers is taken
/// away. Source: DCTCP (RFC 8257 section 3.3), so that a bound far too high comes down soon.
const BACK_OFF: f64 = 0.9;
/// Windows in a row that shrink the bound by much, after which the base is doubted.
const DOUBT: u32 = 10;
const DOUBTFUL: f64 = 0.75;
/// How fast the base follows a median of light traffic upwards.
const BASE_RISE: f64 = 0.1;
/// A descent may take a twentieth of the time.
const DESCENT_PART: u32 = 20;

/// Where an adaptive bound may go, and how it gets there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptivePolicy {
    pub min: u32,
    pub max: u32,
    /// The bound before anything is known.
    pub initial: u32,
    /// How much above the base the median may be before the bound shrinks. Above 1.
    pub tolerance: f64,
    /// Shortest time between two changes.
    pub window: Duration,
    /// Time between two measurements of the base while traffic is at the bound.
    pub probe: Duration,
}

impl Default for AdaptivePolicy {
    /// Source: tolerance of `Gradient2`; window of Envoy; half of Envoy's 60 s between measurements,
    /// since one costs less here.
    fn default() -> Self {
        Self {
            min: 4,
            max: 1000,
            initial: 100,
            tolerance: 1.5,
            window: Duration::from_millis(100),
            probe: Duration::from_secs(30),
        }
    }
}

/// What a window of requests showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    pub(super) median: Option<Duration>,
    pub(super) answered: u32,
    pub(super) overloaded: u32,
    pub(super) peak: u32,
    pub(super) lasted: Duration,
}

/// The state of a bound between two windows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Adaptive {
    limit: f64,
    /// Median without a queue, in nanoseconds; 0: not known.
    base: f64,
    /// Windows in a row with a gradient that is doubtful.
    doubtful: u32,
    /// When the base is measured again.
    probe_at: Time,
    descent: Option<Descent>,
}

/// A measurement of the base.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Descent {
    began: Time,
    /// The bound before.
    from: f64,
    /// The median one step before, in nanoseconds.
    before: f64,
}

impl Adaptive {
    pub(super) fn new(policy: &AdaptivePolicy, random: u64, now: Time) -> Self {
        // Up to a whole `probe` later than the first need: edges that started together drift apart.
        let spread = policy.probe.mul_f64((random >> 11) as f64 / (1u64 << 53) as f64);
        let limit = f64::from(policy.initial.clamp(policy.min, policy.max));
        Self { limit, base: 0.0, doubtful: 0, probe_at: now + policy.probe + spread, descent: None }
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit as u32
    }

    pub(super) fn samples_wanted(&self) -> u32 {
        if self.descent.is_some() { SAMPLES_DESCENT } else { SAMPLES }
    }

    /// How long a client may wait, in nanoseconds, for its leaving to say nothing.
    pub(super) fn long(&self, policy: &AdaptivePolicy) -> u64 {
        let base = if self.base > 0.0 { self.base } else { nanos(policy.window) };
        (policy.tolerance * base) as u64
    }

    /// The shortest that the next window may be.
    pub(super) fn window_min(&self, policy: &AdaptivePolicy) -> Duration {
        let medians = match self.descent {
            Some(descent) => MEDIANS_DESCENT * descent.before,
            // A queue that still fills tells nothing of how deep it gets.
            None if self.base <= 0.0 => FIRST_WINDOWS * nanos(policy.window),
            None => MEDIANS * self.base,
        };
        // A step of a descent ends as soon as it knows.
        let least = if self.descent.is_some() { Duration::ZERO } else { policy.window };
        Duration::from_nanos(medians as u64).clamp(least, WINDOW_MAX)
    }

    /// The state after a window.
    pub(super) fn after(mut self, window: &Window, policy: &AdaptivePolicy, now: Time) -> Self {
        let seen = window.answered.saturating_add(window.overloaded);
        let overload = f64::from(window.overloaded) >= OVERLOAD_SHARE * f64::from(seen.max(1));
        let median = window.median.filter(|_| window.answered >= SAMPLES_LEAST).map(nanos);
        if overload && window.overloaded > 0 {
            // Whatever was being measured is not to be had now.
            if let Some(descent) = self.descent.take() {
                self.limit = self.limit.max(descent.from / 2.0);
                self.probe_at = now + policy.probe;
            }
            let share = f64::from(window.overloaded) / f64::from(seen.max(1));
            self.limit *= BACK_OFF.min(1.0 - share / 2.0);
        } else if let Some(descent) = self.descent {
            self.descend(descent, median, policy, now);
        } else if let Some(median) = median {
            self.steady(median, window, policy, now);
        }
        self.limit = self.limit.clamp(f64::from(policy.min), f64::from(policy.max));
        self
    }

    /// A window of usual operation.
    fn steady(&mut self, median: f64, window: &Window, policy: &AdaptivePolicy, now: Time) {
        if f64::from(window.peak) < self.limit / 2.0 {
            // Light traffic is a measurement of the base for nothing, and no reason to move the bound.
            let slower = self.base > 0.0 && median > self.base;
            self.base = if slower { self.base + BASE_RISE * (median - self.base) } else { median };
            self.doubtful = 0;
            self.probe_at = self.probe_at.max(now + policy.window);
            return;
        }
        if self.base <= 0.0 || now >= self.probe_at || self.doubtful >= DOUBT {
            self.descent = Some(Descent { began: now, from: self.limit, before: median });
            self.limit /= 2.0;
            return;
        }
        let gradient = (policy.tolerance * self.base / median.max(1.0)).clamp(GRADIENT_MIN, 1.0);
        self.doubtful = if gradient < DOUBTFUL { self.doubtful + 1 } else { 0 };
        let next = self.limit * gradient + self.limit.sqrt();
        self.limit += SMOOTHING * (next - self.limit);
    }

    /// One step of a measurement: down again while it drains a queue, else back up.
    fn descend(&mut self, descent: Descent, median: Option<f64>, policy: &AdaptivePolicy, now: Time) {
        let drained = median.is_some_and(|median| median < QUEUE_DRAINED * descent.before);
        if let Some(median) = median.filter(|_| drained && self.limit > f64::from(policy.min)) {
            self.descent = Some(Descent { before: median, ..descent });
            self.limit /= 2.0;
            return;
        }
        if let Some(median) = median {
            // Two medians that hardly differ: together they are less of a chance.
            self.base = f64::midpoint(median, descent.before.min(median / QUEUE_DRAINED));
        }
        // At twice this bound the queue was just gone, at four times there was one: full throughput
        // lies between.
        self.limit = descent.from.min(4.0 * self.limit);
        self.doubtful = 0;
        self.descent = None;
        self.probe_at = now + policy.probe.max(now.since(descent.began) * DESCENT_PART);
    }
}

fn nanos(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

/// An [`Adaptive`] that threads hand to one another; only one at a time touches it.
#[derive(Debug)]
pub(super) struct Cells([AtomicU64; 8]);

impl Cells {
    pub(super) fn new(state: &Adaptive) -> Self {
        let cells = Self(Default::default());
        cells.store(state);
        cells
    }

    pub(super) fn store(&self, state: &Adaptive) {
        let descent = state.descent.unwrap_or(Descent { began: Time::ZERO, from: 0.0, before: 0.0 });
        let words = [
            state.limit.to_bits(),
            state.base.to_bits(),
            u64::from(state.doubtful),
            state.probe_at.as_nanos(),
            u64::from(state.descent.is_some()),
            descent.began.as_nanos(),
            descent.from.to_bits(),
            descent.before.to_bits(),
        ];
        for (cell, word) in self.0.iter().zip(words) {
            cell.store(word, Relaxed);
        }
    }

    pub(super) fn load(&self) -> Adaptive {
        let [limit, base, doubtful, probe_at, descending, began, from, before] =
            std::array::from_fn(|index| self.0.get(index).map_or(0, |cell| cell.load(Relaxed)));
        let descent = Descent {
            began: Time::from_nanos(began),
            from: f64::from_bits(from),
            before: f64::from_bits(before),
        };
        Adaptive {
            limit: f64::from_bits(limit),
            base: f64::from_bits(base),
            doubtful: doubtful as u32,
            probe_at: Time::from_nanos(probe_at),
            descent: (descending == 1).then_some(descent),
        }
    }
}
