//! Latency: a windowed median and its spread for regions, a peak EWMA for endpoints.
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

/// The last samples of the way to a region: probes, round trips that forwarded traffic showed, and
/// probes without an answer. At most the last `CAPACITY` (31) of each, however long the window, and
/// none older than the window.
///
/// Passive samples weigh as probes do, but at most half as many of them as there are probes: traffic
/// shows the nodes that carry it, at the moments when it flows, and a way that nobody uses has none at
/// all. Ranked by them, a region that is used would be judged by other evidence than one that is not.
///
/// A first byte took the way and the service's work, so it is no distance, but no way is longer than
/// it: where half of the first bytes of forwarded requests come sooner than the median, they bound it.
/// Source: a request and its answer are one round trip at least, so the medians are ordered, too.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LatencyWindow {
    probes: Samples,
    passive: Samples,
    first_bytes: Samples,
    /// Whether each of the last probes was answered.
    answers: VecDeque<(Time, bool)>,
    spread: Option<Spread>,
}

type Samples = VecDeque<(Time, Rtt)>;

/// What the samples of a window say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// The lower median, bounded by first bytes: one slow sample must not re-rank the planet.
    pub p50: Rtt,
    /// By the nearest rank: of fewer than a hundred samples, the slowest one.
    pub p99: Rtt,
    /// Mean difference between successive probes. Source: the D of RFC 3550 section 6.4.1, as a
    /// mean over the window instead of a running average, so that it forgets with the window.
    /// Passive samples are left out: the kernel has smoothed them.
    pub jitter: Rtt,
}

impl LatencyWindow {
    /// An odd number, so that the median of probes is a sample that was seen.
    pub const CAPACITY: usize = 31;

    /// A probe on a connection that was there already.
    pub fn probed(&mut self, sample: Rtt, now: Time, window: Duration) {
        push(&mut self.probes, sample, now, window);
        self.renew(now, window);
    }

    /// When the newest sample of the way came.
    pub fn newest(&self) -> Option<Time> {
        let newest = |samples: &Samples| samples.back().map(|(at, _)| *at);
        newest(&self.probes).max(newest(&self.passive))
    }

    /// The kernel's round trip of a connection that carries requests.
    pub fn carried(&mut self, sample: Rtt, now: Time, window: Duration) {
        push(&mut self.passive, sample, now, window);
        self.renew(now, window);
    }

    /// How long a forwarded request took to its first byte: shown, and a bound of the distance.
    pub fn first_byte(&mut self, sample: Rtt, now: Time, window: Duration) {
        push(&mut self.first_bytes, sample, now, window);
        self.renew(now, window);
    }

    /// Whether a probe was answered at all.
    pub fn answered(&mut self, answered: bool, now: Time, window: Duration) {
        push(&mut self.answers, answered, now, window);
        self.renew(now, window);
    }

    /// The lower median, or that of the first bytes if it is less; `None` before the first probe.
    ///
    /// Old samples stay until newer ones come: the last known distance of a
    /// silent region is better than none.
    pub fn median(&self) -> Option<Rtt> {
        self.spread.map(|spread| spread.p50)
    }

    /// `None` before the first probe.
    pub fn measured(&self) -> Option<Spread> {
        self.spread
    }

    /// Median time to the first byte of forwarded requests.
    pub fn median_first_byte(&self) -> Option<Rtt> {
        let mut sorted: Vec<Rtt> = self.first_bytes.iter().map(|(_, rtt)| *rtt).collect();
        sorted.sort_unstable();
        at_rank(&sorted, 0.5)
    }

    /// Share of the last probes that got no answer, 0..=1.
    pub fn loss(&self) -> f64 {
        let lost = self.answers.iter().filter(|(_, answered)| !answered).count();
        lost as f64 / self.answers.len().max(1) as f64
    }

    /// Traffic that has ended says nothing of now; the last probes stay.
    fn renew(&mut self, now: Time, window: Duration) {
        prune(&mut self.passive, now, window);
        prune(&mut self.first_bytes, now, window);
        self.spread = self.spread();
    }

    fn spread(&self) -> Option<Spread> {
        let passive = self.passive.iter().rev().take(self.probes.len() / 2);
        let mut sorted: Vec<Rtt> = self.probes.iter().chain(passive).map(|(_, rtt)| *rtt).collect();
        sorted.sort_unstable();
        let steps = self.probes.iter().zip(self.probes.iter().skip(1));
        let moved: Duration = steps.map(|((_, a), (_, b))| a.0.abs_diff(b.0)).sum();
        let jitter = moved / u32::try_from(self.probes.len().saturating_sub(1).max(1)).unwrap_or(u32::MAX);
        let p50 = at_rank(&sorted, 0.5)?;
        let p50 = self.bound().map_or(p50, |bound| p50.min(bound));
        Some(Spread { p50, p99: at_rank(&sorted, 0.99)?, jitter: Rtt::new(jitter) })
    }

    /// What no way is longer than: a few requests do not tell it, but half as many as there are probes.
    fn bound(&self) -> Option<Rtt> {
        let enough = self.first_bytes.len() >= self.probes.len().div_ceil(2);
        self.median_first_byte().filter(|_| enough)
    }
}

/// Adds a sample and forgets those older than `window`.
fn push<T>(samples: &mut VecDeque<(Time, T)>, sample: T, now: Time, window: Duration) {
    if samples.len() == LatencyWindow::CAPACITY {
        samples.pop_front();
    }
    samples.push_back((now, sample));
    prune(samples, now, window);
}

fn prune<T>(samples: &mut VecDeque<(Time, T)>, now: Time, window: Duration) {
    while samples.front().is_some_and(|(at, _)| now.since(*at) > window) {
        samples.pop_front();
    }
}

/// The smallest of the sorted samples that is at least as large as such a share of them.
fn at_rank(sorted: &[Rtt], share: f64) -> Option<Rtt> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
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
        let mut latency = LatencyWindow::default();
        for second in 0..5 {
            latency.probed(Rtt::millis(20), Time::from_millis(second * 1000), WINDOW);
        }
        latency.probed(Rtt::millis(900), Time::from_millis(5000), WINDOW);
        assert_eq!(latency.median(), Some(Rtt::millis(20)));
    }

    #[test]
    fn samples_leave_with_the_window() {
        let mut latency = LatencyWindow::default();
        for second in 0..5 {
            latency.probed(Rtt::millis(20), Time::from_millis(second * 1000), WINDOW);
        }
        latency.probed(Rtt::millis(80), Time::from_millis(60_000), WINDOW);
        assert_eq!(latency.median(), Some(Rtt::millis(80)));
    }

    #[test]
    fn what_forwarded_traffic_shows_weighs_as_probes_do_and_never_more_than_half_of_them() {
        let mut latency = LatencyWindow::default();
        latency.carried(Rtt::millis(90), Time::ZERO, WINDOW);
        assert_eq!(latency.median(), None, "a way is not known by its traffic alone");
        for second in 0..10 {
            latency.probed(Rtt::millis(20), Time::from_millis(second * 1000), WINDOW);
        }
        for millis in 0..31 {
            latency.carried(Rtt::millis(90), Time::from_millis(9_000 + millis), WINDOW);
        }
        assert_eq!(latency.median(), Some(Rtt::millis(20)), "thirty against ten do not outvote them");
        for millis in 0..4 {
            latency.probed(Rtt::millis(80), Time::from_millis(9_500 + millis), WINDOW);
        }
        assert_eq!(latency.median(), Some(Rtt::millis(80)), "with a few probes that agree they do");
    }

    #[test]
    fn traffic_that_has_ended_says_nothing_of_the_way_as_it_is_now() {
        let mut latency = LatencyWindow::default();
        for second in 0..30 {
            let now = Time::from_millis(second * 1000);
            latency.probed(Rtt::millis(10 + second % 3), now, WINDOW);
            latency.carried(Rtt::millis(10 + second % 2), now, WINDOW);
            latency.first_byte(Rtt::millis(50), now, WINDOW);
        }
        for second in 30..61 {
            latency.probed(Rtt::millis(200 + second % 5), Time::from_millis(second * 1000), WINDOW);
        }
        assert!(latency.median() >= Some(Rtt::millis(200)), "{:?}", latency.measured());
        assert_eq!(latency.median_first_byte(), None);
    }

    #[test]
    fn no_way_is_longer_than_half_of_the_first_bytes_took() {
        let mut latency = LatencyWindow::default();
        latency.first_byte(Rtt::millis(30), Time::ZERO, WINDOW);
        assert_eq!(latency.median(), None, "a way is not known by its traffic alone");
        for second in 0..11 {
            latency.probed(Rtt::millis(80), Time::from_millis(second * 1000), WINDOW);
        }
        for millis in 0..4 {
            latency.first_byte(Rtt::millis(30), Time::from_millis(10_000 + millis), WINDOW);
        }
        assert_eq!(latency.median(), Some(Rtt::millis(80)), "five requests of eleven probes");
        latency.first_byte(Rtt::millis(500), Time::from_millis(10_100), WINDOW);
        assert_eq!(latency.median(), Some(Rtt::millis(30)), "six, most of them sooner than the probes");
        for millis in 0..6 {
            latency.first_byte(Rtt::millis(500), Time::from_millis(10_200 + millis), WINDOW);
        }
        assert_eq!(latency.median(), Some(Rtt::millis(80)), "a slow service says nothing of the way");
    }

    #[test]
    fn the_spread_of_a_window_is_told_with_what_was_lost() {
        let mut latency = LatencyWindow::default();
        for (second, millis) in [20, 24, 20, 24, 100].into_iter().enumerate() {
            let now = Time::from_millis(second as u64 * 1000);
            latency.probed(Rtt::millis(millis), now, WINDOW);
            latency.answered(second != 2, now, WINDOW);
            latency.first_byte(Rtt::millis(500), now, WINDOW);
        }
        let spread = Spread { p50: Rtt::millis(24), p99: Rtt::millis(100), jitter: Rtt::millis(22) };
        assert_eq!((latency.measured(), latency.loss()), (Some(spread), 0.2));
        assert_eq!(latency.median_first_byte(), Some(Rtt::millis(500)));
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
