//! Endpoints that do worse than the others of their service.
//!
//! Failures in a row and the share of failures eject an endpoint by itself
//! ([`health`](crate::domain::health)); here endpoints are compared, which needs no number that fits
//! all services: one that fails one request in five among those that fail one in a thousand, one that takes
//! three times as long as the usual one.
//!
//! Source: Envoy's outlier detection, `success_rate` (mean less k standard deviations).
//! Unlike there the mean and the deviation are of the *others*: with all in
//! it, one dead endpoint of three is never further than 1.9 deviations from a mean that
//! it has pulled down itself. Latency is held against the median of the others, which
//! one slow endpoint cannot move.
//!
//! How many may be ejected at once is bounded: when most are "bad", the cause is not
//! theirs, and the rest could not carry the load.

use crate::domain::health::EjectionReason as Reason;
use std::time::Duration;

/// Fewer endpoints with enough requests are no company to be compared with.
const COMPANY: usize = 3;
/// A success rate this near to that of the others is not worse, however alike they are.
const RATE_MARGIN: f64 = 0.05;
/// So many standard errors below the others may be chance.
const CHANCE: f64 = 3.0;
/// A latency this near to that of the others is not worse, however many times as long it is.
const LATENCY_MARGIN: Duration = Duration::from_millis(10);

/// When an endpoint is an outlier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutlierPolicy {
    /// Success rate below mean - so many standard deviations of the others. 0: not looked at.
    pub success_rate_deviations: f64,
    /// Mean latency above so many times the median of the others. 0: not looked at.
    pub latency_factor: f64,
    /// Requests in the window that an endpoint must have had to be compared.
    pub volume: u32,
    /// Share of a service's endpoints, 0..=1, that may be ejected by outcomes at once.
    pub ejected_max: f64,
}

impl Default for OutlierPolicy {
    fn default() -> Self {
        // 1.9 is Envoy's; a half as `ejected_max` leaves who can carry the load for a while.
        Self { success_rate_deviations: 1.9, latency_factor: 3.0, volume: 50, ejected_max: 0.5 }
    }
}

/// What the requests to one endpoint met in a window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Observation {
    pub good: u32,
    pub bad: u32,
    /// Mean latency of the good ones.
    pub latency: Option<Duration>,
}

impl Observation {
    fn volume(&self) -> u32 {
        self.good.saturating_add(self.bad)
    }

    fn rate(&self) -> f64 {
        f64::from(self.good) / f64::from(self.volume().max(1))
    }
}

/// How many more of `total` endpoints may be ejected by outcomes while `ejected` are.
///
/// One at least where there are two, or the smallest services could eject none;
/// never all.
pub fn room(total: usize, ejected: usize, policy: &OutlierPolicy) -> usize {
    let share = (total as f64 * policy.ejected_max) as usize;
    let least = usize::from(policy.ejected_max > 0.0);
    share.max(least).min(total.saturating_sub(1)).saturating_sub(ejected)
}

/// The outliers among endpoints that serve, by their index, the worst first.
///
/// Failing ones come before slow ones. The caller ejects as many as there is [`room`] for.
pub fn outliers(observations: &[Observation], policy: &OutlierPolicy) -> Vec<(usize, Reason)> {
    let compared: Vec<(usize, &Observation)> =
        observations.iter().enumerate().filter(|(_, o)| o.volume() >= policy.volume.max(1)).collect();
    if compared.len() < COMPANY {
        return Vec::new();
    }
    let mut found: Vec<(Reason, f64, usize)> = Vec::new();
    for (index, one) in &compared {
        let others = || compared.iter().filter(|(other, _)| other != index).map(|(_, o)| *o);
        if let Some(badness) = fails(one, others(), policy) {
            found.push((Reason::SuccessRate, badness, *index));
        } else if let Some(badness) = lags(one, others(), policy) {
            found.push((Reason::Latency, badness, *index));
        }
    }
    let rank = |reason: Reason| reason == Reason::Latency;
    found.sort_by(|a, b| rank(a.0).cmp(&rank(b.0)).then(b.1.total_cmp(&a.1)).then(a.2.cmp(&b.2)));
    found.into_iter().map(|(reason, _, index)| (index, reason)).collect()
}

/// How far its success rate is below that of the others, if that is too far.
fn fails<'a>(
    one: &Observation,
    others: impl Iterator<Item = &'a Observation>,
    policy: &OutlierPolicy,
) -> Option<f64> {
    if policy.success_rate_deviations <= 0.0 {
        return None;
    }
    let rates: Vec<f64> = others.map(Observation::rate).collect();
    let count = rates.len() as f64;
    let mean = rates.iter().fold(0.0, |sum, rate| sum + rate) / count;
    let variance = rates.iter().fold(0.0, |sum, rate| sum + (rate - mean).powi(2)) / count;
    // What chance alone does to so few requests: the standard error of a share.
    let chance = CHANCE * (mean * (1.0 - mean) / f64::from(one.volume().max(1))).max(0.0).sqrt();
    let allowed = (policy.success_rate_deviations * variance.sqrt()).max(RATE_MARGIN).max(chance);
    let below = mean - one.rate();
    (below > allowed).then_some(below)
}

/// How many times the median of the others its latency is, if that is too many.
fn lags<'a>(
    one: &Observation,
    others: impl Iterator<Item = &'a Observation>,
    policy: &OutlierPolicy,
) -> Option<f64> {
    let latency = one.latency.filter(|_| policy.latency_factor > 0.0)?;
    let mut latencies: Vec<Duration> = others.filter_map(|other| other.latency).collect();
    latencies.sort_unstable();
    let median = *latencies.get(latencies.len().checked_sub(1)? / 2)?;
    let times = latency.as_secs_f64() / median.as_secs_f64().max(1e-9);
    (times > policy.latency_factor && latency > median + LATENCY_MARGIN).then_some(times)
}

/// The share of its requests that an endpoint gets which began to serve `since` ago: from a
/// tenth to all over `ramp`. Source: Envoy's slow start, linear, `min_weight_percent` 10.
pub fn slow_start(since: Duration, ramp: Duration) -> f64 {
    (0.1 + 0.9 * since.as_secs_f64() / ramp.as_secs_f64().max(1e-9)).clamp(0.1, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(good: u32, bad: u32, millis: u64) -> Observation {
        Observation { good, bad, latency: (good > 0).then_some(Duration::from_millis(millis)) }
    }

    fn found(observations: &[Observation]) -> Vec<(usize, Reason)> {
        outliers(observations, &OutlierPolicy::default())
    }

    #[test]
    fn who_is_told_from_the_others() {
        let well = seen(100, 0, 20);
        let rate = |index| vec![(index, Reason::SuccessRate)];
        let slow = |index| vec![(index, Reason::Latency)];
        for (name, observations, expected) in [
            ("all well", vec![well; 5], vec![]),
            ("one of three dead", vec![well, seen(0, 100, 0), well], rate(1)),
            ("one in five fails", vec![well, well, seen(80, 20, 20), well], rate(2)),
            ("one in fifty fails", vec![well, well, seen(98, 2, 20), well], vec![]),
            ("all fail a lot", vec![seen(60, 40, 20), seen(55, 45, 20), seen(65, 35, 20)], vec![]),
            ("too little seen of it", vec![well, well, well, seen(0, 49, 0)], vec![]),
            ("two cannot tell who is right", vec![well, seen(0, 100, 0)], vec![]),
            ("one is slow", vec![well, well, seen(100, 0, 200), well], slow(2)),
            ("twice as slow is no outlier", vec![well, well, seen(100, 0, 40), well], vec![]),
            (
                "many times next to nothing",
                vec![seen(100, 0, 1), seen(100, 0, 1), seen(100, 0, 8), seen(100, 0, 1)],
                vec![],
            ),
        ] {
            assert_eq!(found(&observations), expected, "{name}");
        }
    }

    #[test]
    fn the_worst_comes_first_and_failing_before_slow() {
        let well = seen(100, 0, 20);
        let mut all = vec![well; 20];
        all[3] = seen(100, 0, 900);
        all[5] = seen(50, 50, 20);
        all[7] = seen(10, 90, 20);
        let order: Vec<usize> = found(&all).into_iter().map(|(index, _)| index).collect();
        assert_eq!(order, [7, 5, 3]);
    }

    #[test]
    fn a_rule_that_is_off_finds_nothing() {
        let all = [seen(100, 0, 20), seen(0, 100, 0), seen(100, 0, 20), seen(100, 0, 900)];
        let off = OutlierPolicy { success_rate_deviations: 0.0, latency_factor: 0.0, ..Default::default() };
        assert_eq!(outliers(&all, &off), []);
    }

    #[test]
    fn never_all_and_never_more_than_the_share_are_ejected() {
        let policy = |ejected_max| OutlierPolicy { ejected_max, ..Default::default() };
        for (total, ejected, share, expected) in [
            (10, 0, 0.5, 5),
            (10, 3, 0.5, 2),
            (10, 7, 0.5, 0),
            (3, 0, 0.1, 1),
            (2, 1, 0.9, 0),
            (1, 0, 1.0, 0),
            (0, 0, 1.0, 0),
            (10, 0, 1.0, 9),
            (10, 0, 0.0, 0),
        ] {
            let left = room(total, ejected, &policy(share));
            assert_eq!(left, expected, "{ejected} of {total} ejected, share {share}");
        }
    }

    #[test]
    fn a_newcomers_share_grows_from_a_tenth_to_all() {
        let ramp = Duration::from_secs(20);
        assert_eq!(slow_start(Duration::ZERO, ramp), 0.1);
        assert!((0.54..0.56).contains(&slow_start(ramp / 2, ramp)));
        assert_eq!(slow_start(ramp * 2, ramp), 1.0);
        assert_eq!(slow_start(Duration::ZERO, Duration::ZERO), 0.1);
    }
}
