//! What regions are predicted to carry: demand by entry, over sets.

use super::assign::demand;
use super::moves::Wanted;
use super::{Change, Situation};
use crate::domain::name::{EntryId, RegionId};
use crate::domain::weights::{ERROR_MAX, WeightedSet};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Requests a second as a plan sees them, to a tenth.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Loads {
    /// Of each entry.
    pub demand: BTreeMap<EntryId, f64>,
    pub regions: BTreeMap<RegionId, RegionLoad>,
    /// For which there is no room anywhere.
    pub overload_rps: f64,
}

/// One region's load, in requests a second.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RegionLoad {
    /// Of all names together; `None`: no bound known.
    pub capacity_rps: Option<f64>,
    /// What of it other names take.
    pub others_rps: f64,
    /// With the sets as they are.
    pub now_rps: f64,
    /// After the next step.
    pub next_rps: f64,
    /// In the end.
    pub wanted_rps: f64,
}

pub(super) type Sets = BTreeMap<EntryId, WeightedSet>;

/// What every region carries under these sets, when each entry sends so much.
pub(super) fn carried(rps: impl Fn(&EntryId) -> f64, sets: &Sets) -> BTreeMap<RegionId, f64> {
    let mut carried = BTreeMap::new();
    for (entry, set) in sets {
        let rps = rps(entry);
        for (region, share) in set.each_share() {
            match carried.get_mut(region) {
                Some(load) => *load += rps * share,
                None => _ = carried.insert(region.clone(), rps * share),
            }
        }
    }
    carried
}

/// The sets once the changes are made.
pub(super) fn changed(sets: &Sets, changes: &BTreeMap<EntryId, Change>) -> Sets {
    let to = changes.iter().map(|(entry, change)| (entry.clone(), change.to.clone()));
    sets.iter().map(|(entry, set)| (entry.clone(), set.clone())).chain(to).collect()
}

/// What each region may be sent on the way to what is wanted: what it can serve, or, where not all users have
/// room anywhere, what it gets in the end.
pub(super) fn bounds(situation: &Situation<'_>, wanted: &Wanted) -> BTreeMap<RegionId, f64> {
    let mut bounds = situation.room.bounds();
    if wanted.overload_rps > 0.0 {
        for (region, load) in carried(|entry| demand(situation.room, entry), &wanted.sets) {
            bounds.entry(region).and_modify(|bound| *bound = bound.max(load));
        }
    }
    bounds
}

/// The first region that changes would send more than its bound, and more than now.
///
/// What rounding to weights may add is not counted: of each entry there three parts, for what it has now (someone else
/// may have written it), for what is wanted in the end, and for the step.
pub(super) fn breach(
    situation: &Situation<'_>,
    bounds: &BTreeMap<RegionId, f64>,
    changes: &BTreeMap<EntryId, Change>,
) -> Option<(RegionId, f64, f64)> {
    let room = situation.room;
    let before = carried(|entry| demand(room, entry), &situation.state.sets);
    let sets = changed(&situation.state.sets, changes);
    let after = carried(|entry| demand(room, entry), &sets);
    let rounding = |region: &RegionId| -> f64 {
        let here = sets.iter().filter(|(_, set)| set.get(region).is_some());
        here.map(|(entry, _)| demand(room, entry) * 3.0 * ERROR_MAX).sum()
    };
    after.into_iter().find_map(|(region, load)| {
        let bound = *bounds.get(&region)?;
        let slack = rounding(&region);
        let grows = load > before.get(&region).copied().unwrap_or(0.0) + slack;
        (load > bound + slack && grows).then_some((region, load, bound))
    })
}

impl Loads {
    pub(super) fn of(
        situation: &Situation<'_>,
        changes: &BTreeMap<EntryId, Change>,
        wanted: &Sets,
        overload_rps: f64,
    ) -> Self {
        let room = situation.room;
        let sets = &situation.state.sets;
        let loads = |sets: &Sets| tenths(carried(|entry| demand(room, entry), sets));
        let now = loads(sets);
        // Most of the time nothing is to be changed.
        let next = (!changes.is_empty()).then(|| loads(&changed(sets, changes)));
        let end = (wanted != sets).then(|| loads(wanted));
        let of = |loads: &Option<BTreeMap<RegionId, f64>>, region: &RegionId| {
            loads.as_ref().unwrap_or(&now).get(region).copied().unwrap_or(0.0)
        };
        let load = |region: &RegionId| RegionLoad {
            capacity_rps: room.capacity.get(region).copied(),
            others_rps: tenth(room.others.get(region).copied().unwrap_or(0.0)),
            now_rps: of(&None, region),
            next_rps: of(&next, region),
            wanted_rps: of(&end, region),
        };
        let regions = situation.policy.regions();
        Self {
            demand: tenths(room.demand.clone()),
            regions: regions.into_iter().map(|region| (region.clone(), load(region))).collect(),
            overload_rps: tenth(overload_rps),
        }
    }
}

fn tenth(rps: f64) -> f64 {
    (rps * 10.0).round() / 10.0
}

fn tenths<K: Ord>(rates: BTreeMap<K, f64>) -> BTreeMap<K, f64> {
    rates.into_iter().map(|(key, rps)| (key, tenth(rps))).collect()
}
