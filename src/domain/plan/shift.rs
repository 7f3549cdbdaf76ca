//! The arithmetic of moving users: how far regions are, what they can carry, and how far one step may go.

use super::Change;
use crate::domain::latency::Rtt;
use crate::domain::name::{EntryId, RegionId};
use crate::domain::weights::{TOTAL, WeightedSet, apportioned};
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
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Room {
    pub demand: BTreeMap<EntryId, f64>,
    /// Of all names together.
    pub capacity: BTreeMap<RegionId, f64>,
    /// What of it other names take.
    pub others: BTreeMap<RegionId, f64>,
}

impl Room {
    /// What a region can carry for this name; `None`: without bound.
    pub fn bound(&self, region: &RegionId) -> Option<f64> {
        let others = self.others.get(region).copied().unwrap_or(0.0);
        Some((self.capacity.get(region)? - others).max(0.0))
    }

    /// The same for every region that has one.
    pub fn bounds(&self) -> BTreeMap<RegionId, f64> {
        self.capacity.keys().filter_map(|region| Some((region.clone(), self.bound(region)?))).collect()
    }
}

/// Shares of one entry, 0..=1 in sum 1.
pub type Shares = BTreeMap<RegionId, f64>;

/// From what an entry's set is to what is wanted, in whole points of [`TOTAL`].
#[derive(Debug)]
pub(super) struct Way {
    from: WeightedSet,
    /// What each region gains in the end, and what it loses.
    gains: Shares,
    losses: Shares,
    /// How many points move in all.
    pub(super) length: u32,
}

impl Way {
    pub(super) fn new(from: &WeightedSet, to: &WeightedSet) -> Self {
        let (now, goal) = (from.points(), to.points());
        let more = |these: &BTreeMap<RegionId, u32>, those: &BTreeMap<RegionId, u32>| -> Shares {
            let than = |region: &RegionId| f64::from(those.get(region).copied().unwrap_or(0));
            these
                .iter()
                .map(|(r, p)| (r.clone(), f64::from(*p) - than(r)))
                .filter(|(_, p)| *p > 0.0)
                .collect()
        };
        let gains = more(&goal, &now);
        let length: f64 = gains.values().sum();
        // Of whole numbers.
        Self { from: from.clone(), losses: more(&now, &goal), gains, length: length as u32 }
    }

    /// So many points of it, or all: each region gains and loses its part, less than a point off. The end is exact.
    ///
    /// `None` where that changes nothing.
    pub(super) fn step(&self, points: u32) -> Option<Change> {
        let points = points.min(self.length);
        let mut shares: Shares =
            self.from.points().into_iter().map(|(region, points)| (region, f64::from(points))).collect();
        for (region, points) in apportioned(&self.gains, points) {
            *shares.entry(region.clone()).or_insert(0.0) += f64::from(points);
        }
        for (region, points) in apportioned(&self.losses, points) {
            *shares.entry(region.clone()).or_insert(0.0) -= f64::from(points);
        }
        let to = WeightedSet::from_shares(&shares).filter(|to| *to != self.from)?;
        Some(Change { from: self.from.clone(), to })
    }
}

/// The whole points of [`TOTAL`] in a share of users, rounded down; one at least, so that ramps end.
pub(super) fn points_in(share: f64) -> u32 {
    ((f64::from(TOTAL) * share).floor() as u32).max(1)
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
    fn steps_on_a_way_are_as_long_as_said_and_end_at_the_goal() {
        let goal = set(&[("a", 0.9), ("d", 0.1)]);
        let mut now = set(&[("b", 0.6), ("c", 0.4)]);
        for step in 1..=4 {
            let way = Way::new(&now, &goal);
            assert_eq!(way.length, 200 - 50 * (step - 1));
            now = way.step(points_in(0.25)).unwrap().to;
            let part = f64::from(step) / 4.0;
            for (name, share) in [("a", 0.9 * part), ("b", 0.6 * (1.0 - part)), ("c", 0.4 * (1.0 - part))] {
                assert!((now.share(&region(name)) - share).abs() < 0.0051 * f64::from(step), "{now:?}");
            }
        }
        assert_eq!(now, goal);
        assert_eq!(Way::new(&now, &goal).step(50), None);
    }
}
