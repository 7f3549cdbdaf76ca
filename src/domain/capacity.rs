//! Room: shares that shrink at once when a target refuses and grow back slowly.

use crate::domain::time::Time;
use serde::{Deserialize, Serialize};

/// A share that halves on each refusal and recovers at a bounded rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveShare {
    share: f64,
    at: Time,
}

impl Default for AdaptiveShare {
    fn default() -> Self {
        Self { share: 1.0, at: Time::ZERO }
    }
}

impl AdaptiveShare {
    /// Recovery, in shares a second: from nothing to all in twenty seconds.
    const RECOVERY: f64 = 0.05;
    /// A refused target is still asked a little, or its return would never be seen.
    const MIN: f64 = 0.01;

    /// The share now, 0..=1.
    pub fn get(&self, now: Time) -> f64 {
        (self.share + Self::RECOVERY * now.since(self.at).as_secs_f64()).min(1.0)
    }

    /// The target said that it has no room.
    pub fn refused(&mut self, now: Time) {
        self.share = (self.get(now) / 2.0).max(Self::MIN);
        self.at = now;
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

    /// The share to serve at home for a load and a capacity, both in requests a second.
    pub fn update(&mut self, served_rps: f64, capacity_rps: Option<f64>, now: Time) {
        let step = Self::RATE * now.since(self.at).as_secs_f64().min(1.0);
        let fits = capacity_rps.is_none_or(|capacity| served_rps <= capacity);
        self.share = if fits { (self.share + step).min(1.0) } else { (self.share - step).max(0.0) };
        self.at = now;
    }

    pub fn share(&self) -> f64 {
        self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_halves_and_time_restores() {
        let mut share = AdaptiveShare::default();
        share.refused(Time::from_millis(0));
        assert_eq!(share.get(Time::ZERO), 0.5);
        share.refused(Time::ZERO);
        assert_eq!(share.get(Time::ZERO), 0.25);
        assert_eq!(share.get(Time::from_millis(15_001)), 1.0);
    }

    #[test]
    fn spill_moves_at_a_bounded_rate() {
        let mut spill = Spill::default();
        spill.update(200.0, Some(100.0), Time::from_millis(1000));
        assert!((spill.share() - 0.9).abs() < 1e-9);
        spill.update(50.0, Some(100.0), Time::from_millis(1500));
        assert!((spill.share() - 0.95).abs() < 1e-9);
        spill.update(50.0, None, Time::from_millis(60_000));
        assert_eq!(spill.share(), 1.0);
    }
}
