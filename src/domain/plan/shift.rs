//! The arithmetic of moving users: how far regions are, what they can carry, and how far one step may go.

use crate::domain::latency::Rtt;
use crate::domain::name::{EntryId, RegionId};
use crate::domain::weights::{TOTAL, WeightedSet};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Measured round trips between regions, taken from all views, and the bias of each region.
#[derive(Debug, Clone, Default)]
pub struct Distances {
    rtts: BTreeMap<RegionId, Arc<BTreeMap<RegionId, Rtt>>>,
    bias: BTreeMap<RegionId, Duration>,
}

impl Distances {
    /// Adds what `from` measured to `to`. A distance known from both ends keeps each end's own.
    pub fn add(&mut self, from: &RegionId, to: &RegionId, rtt: Rtt) {
        Arc::make_mut(self.rtts.entry(from.clone()).or_default()).insert(to.clone(), rtt);
    }

    /// Takes all that `from` measured, as it is in its view.
    pub fn all_of(&mut self, from: &RegionId, rtts: &Arc<BTreeMap<RegionId, Rtt>>) {
        self.rtts.insert(from.clone(), Arc::clone(rtts));
    }

    /// Makes every way to `to` count as so much longer.
    pub fn bias(&mut self, to: &RegionId, by: Duration) {
        self.bias.insert(to.clone(), by);
    }

    /// Distance as plans count it: by either end's measurement, with the bias of the receiver.
    pub fn cost(&self, from: &RegionId, to: &RegionId) -> Option<Rtt> {
        let measured = |a: &RegionId, b: &RegionId| self.rtts.get(a)?.get(b).copied();
        let rtt = measured(from, to).or_else(|| measured(to, from))?;
        let bias = self.bias.get(to).copied().unwrap_or_default();
        Some(Rtt::new(rtt.duration().saturating_add(bias)))
    }
}

/// Demand of the entries and room of the regions, in requests a second.
///
/// An entry without known demand counts as next to nothing; a region without a capacity has no bound.
#[derive(Debug, Clone, Default)]
pub struct Room {
    pub demand: BTreeMap<EntryId, f64>,
    pub capacity: BTreeMap<RegionId, f64>,
}

/// Shares of one entry, 0..=1 in sum 1.
pub type Shares = BTreeMap<RegionId, f64>;

/// One step from `from` toward `to` that moves at most `max_shift` (0..=1) of the users.
///
/// Counted in whole points of `TOTAL`, at least one, so that ramps end. Losers
/// give in name order and gainers take in name order; both ends are exact.
pub fn step(from: &WeightedSet, to: &WeightedSet, max_shift: f64) -> Option<WeightedSet> {
    let (mut now, goal) = (from.points(), to.points());
    let budget = ((f64::from(TOTAL) * max_shift).floor() as i32).max(1);
    let mut gains = budget;
    let mut given = 0;
    for (region, want) in &goal {
        let have = now.entry(region.clone()).or_insert(0);
        let takes = (want - *have).clamp(0, gains);
        *have += takes;
        gains -= takes;
        given += takes;
    }
    for (region, have) in &mut now {
        let gives = (*have - goal.get(region).copied().unwrap_or(0)).clamp(0, given);
        *have -= gives;
        given -= gives;
    }
    let shares = now.into_iter().map(|(region, points)| (region, f64::from(points))).collect();
    WeightedSet::from_shares(&shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str) -> RegionId {
        RegionId::parse(name).unwrap()
    }

    fn set(of: &[(&str, f64)]) -> WeightedSet {
        WeightedSet::from_shares(&of.iter().map(|(n, s)| (region(n), *s)).collect()).unwrap()
    }

    #[test]
    fn a_ramp_never_moves_more_than_max_shift_and_ends_at_the_goal() {
        let goal = set(&[("a", 1.0)]);
        let mut now = set(&[("b", 0.6), ("c", 0.4)]);
        let mut steps = 0;
        while now != goal {
            let next = step(&now, &goal, 0.25).unwrap();
            let gained = next.share(&region("a")) - now.share(&region("a"));
            assert!(gained > 0.0 && gained <= 0.25 + 1e-9, "step {steps}: {gained}");
            now = next;
            steps += 1;
        }
        assert_eq!(steps, 4);
    }
}
