//! Sparse weighted sets: who gets which share of an entry's users.
//!
//! A region at weight 0 has no record. Route 53 uses zero-weight records when
//! every positive one is unhealthy, which would spray users over drained
//! regions; and reads all-zero as "everyone, equally".

use crate::domain::name::RegionId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroU8;

/// A positive record weight, 1..=255. Source: Route 53 developer guide, "Weighted routing".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Weight(NonZeroU8);

impl Weight {
    /// `None` for zero: a region at zero has no record.
    pub fn new(weight: u8) -> Option<Self> {
        NonZeroU8::new(weight).map(Self)
    }

    pub const fn get(self) -> u8 {
        self.0.get()
    }
}

/// The records of one entry: never empty, never a zero.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<RegionId, Weight>")]
pub struct WeightedSet(BTreeMap<RegionId, Weight>);

/// A set without a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a weighted set has no record")]
pub struct NoRecord;

impl TryFrom<BTreeMap<RegionId, Weight>> for WeightedSet {
    type Error = NoRecord;

    fn try_from(weights: BTreeMap<RegionId, Weight>) -> Result<Self, NoRecord> {
        Self::new(weights).ok_or(NoRecord)
    }
}

/// In so many parts Proxima counts the users of a set. It writes hundredths where all parts are even,
/// so that whole sets and whole percents stand at 100 in all, and two-hundredths else.
pub const TOTAL: u32 = 200;

/// A written share differs from the share that was meant by less than this.
pub const ERROR_MAX: f64 = 1.0 / TOTAL as f64;

impl WeightedSet {
    /// `None` when no region is given.
    pub fn new(weights: BTreeMap<RegionId, Weight>) -> Option<Self> {
        (!weights.is_empty()).then_some(Self(weights))
    }

    /// Everyone to one region.
    pub fn only(region: RegionId) -> Self {
        let whole = Weight(NonZeroU8::MIN.saturating_add(TOTAL as u8 / 2 - 1));
        Self(BTreeMap::from([(region, whole)]))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&RegionId, Weight)> {
        self.0.iter().map(|(region, weight)| (region, *weight))
    }

    pub fn get(&self, region: &RegionId) -> Option<Weight> {
        self.0.get(region).copied()
    }

    /// Share of users a region gets, 0..=1.
    pub fn share(&self, region: &RegionId) -> f64 {
        let total: u32 = self.0.values().map(|w| u32::from(w.get())).sum();
        self.get(region).map_or(0.0, |w| f64::from(w.get()) / f64::from(total.max(1)))
    }

    /// Each region's share; they add up to 1.
    pub fn each_share(&self) -> impl Iterator<Item = (&RegionId, f64)> {
        let total: u32 = self.0.values().map(|w| u32::from(w.get())).sum();
        self.0.iter().map(move |(region, w)| (region, f64::from(w.get()) / f64::from(total.max(1))))
    }

    /// The set as shares that add up to 1.
    pub fn shares(&self) -> BTreeMap<RegionId, f64> {
        self.each_share().map(|(region, share)| (region.clone(), share)).collect()
    }

    /// Whether both have the same regions, each with the same share but for a hundredth at most:
    /// 1, 1, 1 says the same as 34, 33, 33.
    pub fn agrees(&self, other: &Self) -> bool {
        let near = |region: &RegionId| (self.share(region) - other.share(region)).abs() < 2.0 * ERROR_MAX;
        self.0.keys().eq(other.0.keys()) && self.0.keys().all(near)
    }

    /// The shares in whole parts of `TOTAL`; a region whose share is under a part may be left out.
    pub fn points(&self) -> BTreeMap<RegionId, u32> {
        let shares = self.shares();
        let points = apportioned(&shares, TOTAL);
        points.into_iter().filter(|(_, p)| *p > 0).map(|(r, p)| (r.clone(), p)).collect()
    }

    /// Rounds shares to weights, by largest remainder: each is off by less than [`ERROR_MAX`].
    ///
    /// A positive share never rounds to nothing unless it is under a part of `TOTAL`. `None` when no share
    /// is positive.
    pub fn from_shares(shares: &BTreeMap<RegionId, f64>) -> Option<Self> {
        let points = apportioned(shares, TOTAL);
        let whole = if points.values().all(|points| points % 2 == 0) { 2 } else { 1 };
        let weight = |points: u32| Weight::new(u8::try_from(points / whole).ok()?);
        Self::new(points.into_iter().filter_map(|(r, points)| Some((r.clone(), weight(points)?))).collect())
    }
}

/// Positive shares in whole parts that add up to `total`, each less than one part off, by largest remainder; none when
/// no share is positive.
pub(super) fn apportioned(shares: &BTreeMap<RegionId, f64>, total: u32) -> BTreeMap<&RegionId, u32> {
    let sum: f64 = shares.values().filter(|s| **s > 0.0).sum();
    if sum <= 0.0 || !sum.is_finite() {
        return BTreeMap::new();
    }
    // What is whole but for the noise of sums is whole.
    let exact = |share: f64| (share / sum * f64::from(total) * 1e6).round() / 1e6;
    let mut points: BTreeMap<&RegionId, u32> =
        shares.iter().filter(|(_, s)| **s > 0.0).map(|(r, s)| (r, exact(*s).floor() as u32)).collect();
    let mut by_remainder: Vec<&RegionId> = points.keys().copied().collect();
    let remainder = |region: &RegionId| exact(shares[region]).fract();
    // Ties fall to the first name: the order of the keys, kept by the stable sort.
    by_remainder.sort_by(|a, b| remainder(b).total_cmp(&remainder(a)));
    let missing = total.saturating_sub(points.values().sum()) as usize;
    for region in by_remainder.into_iter().cycle().take(missing) {
        *points.entry(region).or_insert(0) += 1;
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str) -> RegionId {
        RegionId::parse(name).unwrap()
    }

    fn shares(of: &[(&str, f64)]) -> BTreeMap<RegionId, f64> {
        of.iter().map(|(name, share)| (region(name), *share)).collect()
    }

    #[test]
    fn no_shares_is_no_set() {
        assert_eq!(WeightedSet::from_shares(&shares(&[])), None);
        assert_eq!(WeightedSet::from_shares(&shares(&[("a", 0.0)])), None);
        assert_eq!(WeightedSet::new(BTreeMap::new()), None);
    }

    #[test]
    fn a_written_share_is_off_by_less_than_the_stated_error() {
        let mut seed = 7_u64;
        for regions in [1, 2, 3, 5, 33, 199] {
            for _ in 0..200 {
                let mut draw = || {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (seed >> 33) as f64 / f64::from(1_u32 << 31)
                };
                let asked: BTreeMap<RegionId, f64> =
                    (0..regions).map(|n| (region(&format!("r{n}")), draw())).collect();
                let sum: f64 = asked.values().sum();
                let set = WeightedSet::from_shares(&asked).unwrap();
                for (region, share) in &asked {
                    let error = (share / sum - set.share(region)).abs();
                    assert!(error < ERROR_MAX, "{region} of {regions}: {error}");
                }
            }
        }
    }

    #[test]
    fn whole_percents_are_written_in_hundredths_and_the_rest_in_halves_of_them() {
        for (asked, written) in [
            (&[("a", 3.0)][..], &[("a", 100)][..]),
            (&[("a", 0.3), ("b", 0.7)], &[("a", 30), ("b", 70)]),
            (&[("a", 0.005), ("b", 0.995)], &[("a", 1), ("b", 199)]),
            (&[("a", 1.0), ("b", 1.0), ("c", 1.0)], &[("a", 67), ("b", 67), ("c", 66)]),
        ] {
            let set = WeightedSet::from_shares(&shares(asked)).unwrap();
            let weights: Vec<_> = set.iter().map(|(r, w)| (r.as_str(), w.get())).collect();
            assert_eq!(weights, written, "{asked:?}");
        }
    }

    #[test]
    fn sets_agree_by_shares_not_by_weights() {
        let of = |weights: &[(&str, u8)]| {
            WeightedSet::new(weights.iter().map(|(n, w)| (region(n), Weight::new(*w).unwrap())).collect())
                .unwrap()
        };
        assert!(of(&[("a", 1), ("b", 1), ("c", 1)]).agrees(&of(&[("a", 34), ("b", 33), ("c", 33)])));
        assert!(!of(&[("a", 1), ("b", 1)]).agrees(&of(&[("a", 51), ("b", 49)])));
        assert!(!of(&[("a", 199), ("b", 1)]).agrees(&of(&[("a", 100)])), "a record too many");
        assert!(!of(&[("a", 1), ("b", 1)]).agrees(&of(&[("a", 1)])));
    }

    #[test]
    fn a_region_without_share_has_no_record() {
        let set = WeightedSet::from_shares(&shares(&[("a", 1.0), ("b", 0.0)])).unwrap();
        assert_eq!(set, WeightedSet::only(region("a")));
        assert_eq!(set.get(&region("b")), None);
    }
}
