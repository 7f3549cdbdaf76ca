//! Which region: own first while it is well, then the nearest; a margin keeps the order calm.

use crate::domain::latency::Rtt;
use crate::domain::name::RegionId;
use std::collections::BTreeMap;
use std::time::Duration;

/// How much nearer a region must be to overtake another: both must be exceeded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margin {
    /// Share of the current distance, 0..1.
    pub relative: f64,
    pub absolute: Duration,
}

impl Default for Margin {
    fn default() -> Self {
        Self { relative: 0.1, absolute: Duration::from_millis(3) }
    }
}

impl Margin {
    /// The distance that a challenger must be below to overtake one that holds its place at `held`.
    pub fn defended(self, held: Rtt) -> Rtt {
        let held = held.duration();
        Rtt::new(held.saturating_sub(held.mul_f64(self.relative.clamp(0.0, 1.0)).max(self.absolute)))
    }

    fn overtakes(self, challenger: Rtt, holder: Rtt) -> bool {
        challenger < self.defended(holder)
    }
}

/// The regions of `rtts`, nearest first, changing `previous` only where the margin is exceeded.
///
/// Regions without a sample come last, by name. Each exchange puts a strictly
/// nearer region first, so the pass ends.
pub fn rank(previous: &[RegionId], rtts: &BTreeMap<RegionId, Option<Rtt>>, margin: Margin) -> Vec<RegionId> {
    let distance = |region: &RegionId| rtts.get(region).copied().flatten();
    let mut order: Vec<RegionId> = previous.iter().filter(|r| rtts.contains_key(*r)).cloned().collect();
    let mut new: Vec<&RegionId> = rtts.keys().filter(|r| !order.contains(r)).collect();
    new.sort_by_key(|region| (distance(region).is_none(), distance(region)));
    for region in new {
        let place = order.iter().position(|other| match (distance(region), distance(other)) {
            (Some(own), Some(theirs)) => own < theirs,
            (Some(_), None) => true,
            (None, _) => false,
        });
        order.insert(place.unwrap_or(order.len()), region.clone());
    }
    let overtakes = |a: &RegionId, b: &RegionId| match (distance(a), distance(b)) {
        (Some(challenger), Some(holder)) => margin.overtakes(challenger, holder),
        (Some(_), None) => true,
        (None, _) => false,
    };
    let mut changed = true;
    while changed {
        changed = false;
        for i in 1..order.len() {
            if overtakes(&order[i], &order[i - 1]) {
                order.swap(i, i - 1);
                changed = true;
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtts(of: &[(&str, Option<u64>)]) -> BTreeMap<RegionId, Option<Rtt>> {
        of.iter().map(|(n, ms)| (RegionId::parse(n).unwrap(), ms.map(Rtt::millis))).collect()
    }

    fn names(order: &[RegionId]) -> Vec<&str> {
        order.iter().map(RegionId::as_str).collect()
    }

    #[test]
    fn nearest_first_and_unknown_last() {
        let order = rank(&[], &rtts(&[("a", Some(80)), ("b", None), ("c", Some(10))]), Margin::default());
        assert_eq!(names(&order), ["c", "a", "b"]);
    }

    #[test]
    fn a_small_gain_does_not_change_the_order_and_a_large_one_does() {
        let first = rank(&[], &rtts(&[("a", Some(50)), ("b", Some(60))]), Margin::default());
        let near = rank(&first, &rtts(&[("a", Some(50)), ("b", Some(47))]), Margin::default());
        assert_eq!(names(&near), ["a", "b"]);
        let far = rank(&first, &rtts(&[("a", Some(50)), ("b", Some(30))]), Margin::default());
        assert_eq!(names(&far), ["b", "a"]);
    }

    #[test]
    fn a_region_that_leaves_the_configuration_leaves_the_order() {
        let first = rank(&[], &rtts(&[("a", Some(50)), ("b", Some(60))]), Margin::default());
        assert_eq!(names(&rank(&first, &rtts(&[("b", Some(60))]), Margin::default())), ["b"]);
    }
}
