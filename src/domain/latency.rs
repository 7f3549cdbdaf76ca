//! Latency: a windowed median for regions, a peak EWMA for endpoints.
//!
//! Regions rank by the median because one slow sample must not re-rank the
//! planet. Endpoints use a peak EWMA (Finagle's `PeakEwma`): a spike is
//! adopted at once and decays, because a slow endpoint should be left now.

use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// A round-trip time in whole microseconds: the same in memory, on the wire and in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "u32", into = "u32")]
pub struct Rtt(Duration);

impl Rtt {
    /// What is below a microsecond is left out.
    pub const fn new(duration: Duration) -> Self {
        let nanos = duration.subsec_micros() * 1_000;
        Self(Duration::new(duration.as_secs(), nanos))
    }

    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl From<u32> for Rtt {
    fn from(micros: u32) -> Self {
        Self(Duration::from_micros(u64::from(micros)))
    }
}

impl From<Rtt> for u32 {
    fn from(rtt: Rtt) -> Self {
        Self::try_from(rtt.0.as_micros()).unwrap_or(Self::MAX)
    }
}

/// The median of the last samples of a region: at most the last `CAPACITY` (31) of them, however
/// long the window, and none older than the window.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct WindowedMedian {
    samples: VecDeque<(Time, Rtt)>,
}

impl WindowedMedian {
    /// An odd number, so that the median is a sample that was seen.
    pub const CAPACITY: usize = 31;

    /// Adds a sample and forgets those older than `window`.
    pub fn add(&mut self, sample: Rtt, now: Time, window: Duration) {
        if self.samples.len() == Self::CAPACITY {
            self.samples.pop_front();
        }
        self.samples.push_back((now, sample));
        while self.samples.front().is_some_and(|(at, _)| now.since(*at) > window) {
            self.samples.pop_front();
        }
    }

    /// When the newest sample came.
    pub fn newest(&self) -> Option<Time> {
        self.samples.back().map(|(at, _)| *at)
    }

    /// The lower median; `None` before the first sample.
    ///
    /// Old samples stay until newer ones come: the last known distance of a
    /// silent region is better than none.
    pub fn median(&self) -> Option<Rtt> {
        let mut sorted: Vec<Rtt> = self.samples.iter().map(|(_, rtt)| *rtt).collect();
        sorted.sort_unstable();
        sorted.get(sorted.len().saturating_sub(1) / 2).copied()
    }
}

/// One step of a peak EWMA, in nanoseconds: a sample above the average is
/// adopted, one below pulls it down with time constant `decay`.
///
/// Source: Finagle `PeakEwma` (Twitter, 2015), as in linkerd2's balancer.
pub fn peak_ewma(average: f64, sample: f64, elapsed: Duration, decay: Duration) -> f64 {
    if sample >= average {
        return sample;
    }
    let keep = (-elapsed.as_secs_f64() / decay.as_secs_f64().max(1e-9)).exp();
    average * keep + sample * (1.0 - keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(30);

    #[test]
    fn one_slow_sample_does_not_move_the_median() {
        let mut latency = WindowedMedian::default();
        for second in 0..5 {
            latency.add(Rtt::millis(20), Time::from_millis(second * 1000), WINDOW);
        }
        latency.add(Rtt::millis(900), Time::from_millis(5000), WINDOW);
        assert_eq!(latency.median(), Some(Rtt::millis(20)));
    }

    #[test]
    fn samples_leave_with_the_window() {
        let mut latency = WindowedMedian::default();
        for second in 0..5 {
            latency.add(Rtt::millis(20), Time::from_millis(second * 1000), WINDOW);
        }
        latency.add(Rtt::millis(80), Time::from_millis(60_000), WINDOW);
        assert_eq!(latency.median(), Some(Rtt::millis(80)));
    }

    #[test]
    fn spike_is_adopted_then_decays() {
        let decay = Duration::from_secs(10);
        let peak = peak_ewma(1.0, 100.0, Duration::from_millis(1), decay);
        assert_eq!(peak, 100.0);
        let later = peak_ewma(peak, 1.0, decay, decay);
        assert!((30.0..45.0).contains(&later), "one time constant leaves about 37 percent: {later}");
    }
}
