//! Room: how much of its users' load a region serves itself, what it may still take, and who
//! may send how much of that. Shares that must not jump move at a bounded rate.
//!
//! Everything is counted by *demand*: what the region's own users ask for, wherever it is served.
//! What a region may take does not depend on what it has been sent, and what it sends away does not
//! depend on who took it; so two regions near their limits come to rest instead of sloshing.

use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A share that halves on each refusal, shrinks at once to what is allowed, and grows at a bounded rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveShare {
    share: f64,
    /// What is allowed.
    most: f64,
    at: Time,
    /// The last refusal that counted.
    refused_at: Option<Time>,
}

impl Default for AdaptiveShare {
    fn default() -> Self {
        Self { share: 1.0, most: 1.0, at: Time::ZERO, refused_at: None }
    }
}

impl AdaptiveShare {
    /// Growth, in shares a second: from nothing to all in twenty seconds.
    const GROWTH: f64 = 0.05;
    /// A refused target is still asked a little, or its return would never be seen.
    const MIN: f64 = 0.01;
    /// Refusals within so long of one that counted are of the same moment: those that were on their way.
    const ROUND: Duration = Duration::from_secs(1);

    /// The share now, 0..=1.
    pub fn get(&self, now: Time) -> f64 {
        (self.share + Self::GROWTH * now.since(self.at).as_secs_f64()).min(self.most)
    }

    /// The target said that it has no room.
    pub fn refused(&mut self, now: Time) {
        if self.refused_at.is_some_and(|at| now.since(at) < Self::ROUND) {
            return;
        }
        self.refused_at = Some(now);
        self.share = (self.get(now) / 2.0).max(Self::MIN);
        self.at = now;
    }

    /// No more than `most`, 0..=1, from now on.
    pub fn limit(&mut self, most: f64, now: Time) {
        self.share = self.get(now).min(most);
        self.most = most;
        self.at = now;
    }

    /// Whether it grows with time.
    pub fn is_restless(&self, now: Time) -> bool {
        self.get(now) < self.most
    }
}

/// The share of its own users that a region serves itself: falls and rises at a bounded rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spill {
    share: f64,
    at: Time,
}

impl Default for Spill {
    fn default() -> Self {
        Self { share: 1.0, at: Time::ZERO }
    }
}

impl Spill {
    /// Greatest change of the share a second, so that spill can't slosh between regions.
    const RATE: f64 = 0.1;
    /// A share that is as near as this to what fits stays: rates are never quite the same twice.
    const CALM: f64 = 0.02;

    /// Moves toward the share that fits: only the excess leaves. Both in requests a second.
    pub fn update(&mut self, demand_rps: f64, capacity_rps: Option<f64>, now: Time) {
        let step = Self::RATE * now.since(self.at).as_secs_f64().min(1.0);
        self.at = now;
        let fits = capacity_rps.filter(|capacity| demand_rps > *capacity);
        let target = fits.map_or(1.0, |capacity| (capacity / demand_rps).clamp(0.0, 1.0));
        let missing = target - self.share;
        if missing.abs() > Self::CALM || target == 1.0 {
            self.share = (self.share + missing.clamp(-step, step)).clamp(0.0, 1.0);
        }
    }

    pub fn share(&self) -> f64 {
        self.share
    }
}

/// What can be served, learnt from what was served while requests were turned away.
///
/// One odd second teaches nothing: requests must be turned away without a pause, and the most that
/// was served in such a stretch is what counts.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct MeasuredCapacity {
    rps: Option<f64>,
    at: Time,
    /// When requests were last turned away.
    shed_at: Time,
    full: Option<Full>,
}

/// A stretch in which requests are turned away all the time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Full {
    since: Time,
    /// The most that was served in it, in requests a second.
    most: f64,
}

impl MeasuredCapacity {
    /// Share of the requests that must be turned away: less is jitter at a bound, not a full service.
    const SHED_MIN: f64 = 0.01;
    /// How long a stretch is that teaches.
    const STRETCH: Duration = Duration::from_secs(5);
    /// Part of the way to a new measurement that the estimate goes.
    const FOLLOW: f64 = 0.5;
    /// Growth a second while it is used to the full and nothing is turned away: that is how more
    /// room is found, ten times as much in eighty seconds.
    const GROWTH: f64 = 0.03;
    /// Share of the estimate that counts as full use.
    const USED: f64 = 0.8;
    /// An estimate is forgotten when nothing was turned away for so long.
    const FORGET: Duration = Duration::from_secs(600);
    /// Least estimate in requests a second, so that something is tried.
    const MIN: f64 = 1.0;

    /// Takes in what was served and turned away, in requests a second.
    pub fn update(&mut self, served_rps: f64, shed_rps: f64, now: Time) {
        let seconds = now.since(self.at).as_secs_f64().min(1.0);
        self.at = now;
        if shed_rps > Self::SHED_MIN * (served_rps + shed_rps) {
            self.shed_at = now;
            let full = self.full.get_or_insert(Full { since: now, most: served_rps });
            full.most = full.most.max(served_rps);
            if now.since(full.since) >= Self::STRETCH {
                let before = self.rps.unwrap_or(full.most);
                self.rps = Some((before + Self::FOLLOW * (full.most - before)).max(Self::MIN));
                self.full = None;
            }
            return;
        }
        self.full = None;
        if now.since(self.shed_at) > Self::FORGET {
            self.rps = None;
        } else if let Some(rps) = &mut self.rps
            && served_rps >= Self::USED * *rps
        {
            *rps += *rps * Self::GROWTH * seconds;
        }
    }

    /// Requests a second; `None`: nothing was turned away for long.
    pub fn rps(&self) -> Option<f64> {
        self.rps
    }
}

/// Share of a capacity that is given away to others: what is measured a second late needs a margin.
const GIVEN: f64 = 0.95;

/// Requests a second that others may send, beside what the own users ask for.
pub fn headroom(capacity_rps: f64, demand_rps: f64) -> f64 {
    (capacity_rps * GIVEN - demand_rps).max(0.0)
}

/// Divides `room` among `asks`: nobody gets more than was asked for, and nobody could get more without
/// someone with less getting less.
///
/// Source: Bertsekas and Gallager, "Data Networks" (1992), section 6.5.2, max-min fairness on one link.
pub fn fair(room: f64, asks: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..asks.len()).collect();
    order.sort_by(|a, b| asks[*a].total_cmp(&asks[*b]).then(a.cmp(b)));
    let mut given = vec![0.0; asks.len()];
    let mut left = room.max(0.0);
    for (place, index) in order.iter().enumerate() {
        let even = left / (asks.len() - place) as f64;
        given[*index] = asks[*index].max(0.0).min(even);
        left -= given[*index];
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_halves_and_time_restores() {
        let mut share = AdaptiveShare::default();
        // A hundred were on their way when the target filled up.
        (0..100).for_each(|millis| share.refused(Time::from_millis(millis)));
        assert_eq!(share.get(Time::ZERO), 0.5);
        share.refused(Time::from_millis(1000));
        assert_eq!(share.get(Time::from_millis(1000)), 0.275, "half of what had grown again");
        assert_eq!(share.get(Time::from_millis(16_001)), 1.0);
    }

    #[test]
    fn a_limit_holds_at_once_and_is_lifted_slowly() {
        let mut share = AdaptiveShare::default();
        share.limit(0.2, Time::from_millis(1000));
        assert_eq!(share.get(Time::from_millis(60_000)), 0.2);
        share.limit(1.0, Time::from_millis(60_000));
        assert!((share.get(Time::from_millis(64_000)) - 0.4).abs() < 1e-9);
    }

    #[test]
    fn only_the_excess_leaves_and_at_a_bounded_rate() {
        let mut spill = Spill::default();
        let mut shares = Vec::new();
        for second in 1..=10 {
            spill.update(200.0, Some(160.0), Time::from_millis(second * 1000));
            shares.push((spill.share() * 100.0).round());
        }
        assert_eq!(shares[..3], [90.0, 80.0, 80.0]);
        assert!(shares.iter().all(|share| *share >= 80.0), "{shares:?}");
        spill.update(201.0, Some(160.0), Time::from_millis(11_000));
        assert_eq!((spill.share() * 100.0).round(), 80.0, "a little more or less is nothing");
        spill.update(50.0, None, Time::from_millis(60_000));
        spill.update(50.0, None, Time::from_millis(61_000));
        assert_eq!(spill.share(), 1.0);
    }

    #[test]
    fn neither_an_odd_second_nor_a_few_requests_of_many_teach_a_capacity() {
        let mut capacity = MeasuredCapacity::default();
        for n in 0..60 {
            // A burst at night every ten seconds; then a little jitter at a bound.
            let (served, shed) = if n % 10 == 0 { (2.0, 1.0) } else { (2.0, 0.0) };
            capacity.update(served, shed, Time::from_millis(n * 1000));
        }
        for n in 60..90 {
            capacity.update(1000.0, 5.0, Time::from_millis(n * 1000));
        }
        assert_eq!(capacity.rps(), None);
        // What counts is the most that was served, not the moment in which it ends.
        for (n, served) in (90..).zip([400.0, 410.0, 400.0, 390.0, 400.0, 20.0]) {
            capacity.update(served, 90.0, Time::from_millis(n * 1000));
        }
        assert_eq!(capacity.rps(), Some(410.0));
    }

    #[test]
    fn a_capacity_is_learnt_while_requests_are_shed_grows_while_it_is_used_and_is_forgotten() {
        let mut capacity = MeasuredCapacity::default();
        let second = |n: u64| Time::from_millis(n * 1000);
        capacity.update(500.0, 0.0, second(1));
        assert_eq!(capacity.rps(), None, "who sheds nothing tells no capacity");
        for n in 2..30 {
            capacity.update(300.0, 40.0, second(n));
        }
        assert_eq!(capacity.rps(), Some(300.0));
        capacity.update(100.0, 0.0, second(30));
        assert_eq!(capacity.rps(), Some(300.0), "a quiet second is no growth");
        capacity.update(290.0, 0.0, second(31));
        assert_eq!(capacity.rps(), Some(309.0));
        for n in 32..1000 {
            capacity.update(100.0, 0.0, second(n));
        }
        assert_eq!(capacity.rps(), None);
    }

    #[test]
    fn room_is_divided_max_min_fair() {
        for (room, asks, given) in [
            (100.0, vec![10.0, 80.0, 90.0], vec![10.0, 45.0, 45.0]),
            (100.0, vec![20.0, 30.0], vec![20.0, 30.0]),
            (0.0, vec![20.0, 30.0], vec![0.0, 0.0]),
            (90.0, vec![100.0, 100.0, 100.0], vec![30.0, 30.0, 30.0]),
            (10.0, vec![], vec![]),
        ] {
            assert_eq!(fair(room, &asks), given, "{room} among {asks:?}");
        }
    }
}
