//! What the verdicts call for, and the next step of it.

use super::assign::{Part, Receivers, assign, demand};
use super::load::{Sets, bounds, breach};
use super::shift::{Shares, Way, points_in};
use super::{Change, Reason, Refusal, Situation};
use crate::domain::name::{EntryId, RegionId};
use crate::domain::votes::Verdict;
use crate::domain::weights::{ERROR_MAX, WeightedSet};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Less of an entry's users than this is rounding.
const ROUNDING: f64 = 2.0 * ERROR_MAX;

/// The sets that the verdicts call for, before ramps and hold-downs.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    pub sets: Arc<Sets>,
    /// Requests a second for which no region has room.
    pub overload_rps: f64,
}

/// The next step: what would be changed now, if no rule forbids it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub(super) changes: BTreeMap<EntryId, Change>,
    pub(super) reason: Reason,
}

/// The sets that the verdicts call for.
///
/// Users whose home is up are at home as far as it has room; the excess, and users of regions that are
/// down or drained, are where the flow puts them. A region that is neither confirmed up nor confirmed
/// down gains nothing and keeps what it has, users of other entries too; those go home when home is
/// well, and nowhere else. Without any receiver everything stays as it is.
pub fn wanted(situation: &Situation<'_>) -> Wanted {
    let receivers = receivers(situation);
    if receivers.regions.is_empty() {
        return Wanted { sets: Arc::new(situation.state.sets.clone()), overload_rps: 0.0 };
    }
    if let Some(sets) = all_at_home(situation, &receivers) {
        return Wanted { sets, overload_rps: 0.0 };
    }
    let mut kept: BTreeMap<&EntryId, Shares> = BTreeMap::new();
    let mut parts = Vec::new();
    for (entry, home) in &*situation.policy.entries {
        for (region, _) in home.iter() {
            let whole = home.share(region);
            let keeps = if situation.unconfirmed(region) {
                situation.state.sets.get(entry).map_or(0.0, |set| set.share(region)).min(whole)
            } else {
                0.0
            };
            if keeps > 0.0 {
                kept.entry(entry).or_default().insert(region.clone(), keeps);
            }
            parts.push(Part { entry, home: region, share: whole - keeps });
        }
    }
    let assignment = assign(&parts, &receivers);
    let mut sets = Sets::new();
    for entry in situation.policy.entries.keys() {
        let mut shares = kept.remove(entry).unwrap_or_default();
        for (region, share) in assignment.shares.get(entry).into_iter().flatten() {
            *shares.entry(region.clone()).or_insert(0.0) += share;
        }
        if let Some(set) = WeightedSet::from_shares(&shares) {
            sets.insert(entry.clone(), set);
        }
    }
    Wanted { sets: Arc::new(sets), overload_rps: assignment.overload_rps }
}

/// Everyone at home, where every home is well and has room: nothing is nearer.
fn all_at_home(situation: &Situation<'_>, receivers: &Receivers<'_>) -> Option<Arc<Sets>> {
    let mut load: BTreeMap<&RegionId, f64> = BTreeMap::new();
    for (entry, home) in &*situation.policy.entries {
        for (region, _) in home.iter() {
            if !receivers.regions.contains(region) {
                return None;
            }
            *load.entry(region).or_insert(0.0) += demand(situation.room, entry) * home.share(region);
        }
    }
    let fits =
        |(region, load): (&&RegionId, &f64)| situation.room.bound(region).is_none_or(|bound| *load <= bound);
    load.iter().all(fits).then(|| Arc::clone(&situation.policy.entries))
}

/// Who may take users when everything is placed anew.
fn receivers<'a>(situation: &'a Situation<'_>) -> Receivers<'a> {
    let mut receivers = Receivers {
        regions: situation.receiving(),
        distances: situation.distances,
        room: situation.room,
        taken: BTreeMap::new(),
        held: Default::default(),
        keepers: BTreeMap::new(),
        margin: situation.margin,
    };
    for (entry, set) in &situation.state.sets {
        for (region, _) in set.iter() {
            let guests = set.share(region) - situation.home(entry, region);
            if guests < ROUNDING {
                continue;
            }
            let key = (entry.clone(), region.clone());
            if situation.unconfirmed(region) {
                receivers.keepers.insert(key, guests);
            } else {
                receivers.held.insert(key, guests);
            }
        }
    }
    receivers
}

/// The next step; no change when the sets are as wanted.
pub(super) fn next_step(situation: &Situation<'_>, wanted: &Wanted) -> Step {
    match evacuation(situation) {
        Some(changes) => Step { changes, reason: Reason::Evacuation },
        None => Step { changes: ramp(situation, wanted), reason: Reason::Ramp },
    }
}

/// Confirmed-down regions lose all their users in one step; nothing else moves.
///
/// `None` when no confirmed-down region holds users.
fn evacuation(situation: &Situation<'_>) -> Option<BTreeMap<EntryId, Change>> {
    let down = |region: &RegionId| situation.verdict(region) == Verdict::Down;
    let sets = &situation.state.sets;
    if !sets.values().any(|set| set.iter().any(|(region, _)| down(region))) {
        return None;
    }
    let mut receivers = receivers(situation);
    receivers.keepers.clear();
    let mut parts = Vec::new();
    let mut staying: BTreeMap<&EntryId, Shares> = BTreeMap::new();
    for (entry, set) in sets {
        let mut stays = set.shares();
        let displaced: Vec<(RegionId, f64)> = stays.extract_if(.., |region, _| down(region)).collect();
        for (region, share) in &stays {
            let rps = demand(situation.room, entry) * share;
            *receivers.taken.entry(region.clone()).or_insert(0.0) += rps;
        }
        staying.insert(entry, stays);
        for (region, share) in displaced {
            parts.extend(homes(situation, entry, set, &region, share));
        }
    }
    let assignment = assign(&parts, &receivers);
    let mut changes = BTreeMap::new();
    for (entry, mut shares) in staying {
        let Some(from) = sets.get(entry).filter(|set| set.iter().any(|(region, _)| down(region))) else {
            continue;
        };
        for (region, share) in assignment.shares.get(entry).into_iter().flatten() {
            *shares.entry(region.clone()).or_insert(0.0) += share;
        }
        // Without receivers the users stay where they are, and `min_live` refuses.
        let placed = !receivers.regions.is_empty();
        let to = WeightedSet::from_shares(&shares).filter(|_| placed).unwrap_or_else(|| from.clone());
        changes.insert(entry.clone(), Change { from: from.clone(), to });
    }
    Some(changes)
}

/// The homes of the users that a region holds of an entry: its own first; the rest are guests of the
/// regions that lack users now, in proportion to what each of them lacks.
fn homes<'a>(
    situation: &'a Situation<'_>,
    entry: &'a EntryId,
    set: &WeightedSet,
    region: &RegionId,
    share: f64,
) -> Vec<Part<'a>> {
    let Some(home) = situation.policy.entries.get(entry) else { return Vec::new() };
    let own = share.min(home.share(region));
    let lacks = |other: &RegionId| (home.share(other) - set.share(other)).max(0.0);
    let lacking: f64 = home.iter().map(|(other, _)| lacks(other)).sum();
    let guests = share - own;
    home.iter()
        .map(|(other, _)| {
            let mine = if other == region { own } else { 0.0 };
            let theirs = if lacking > 0.0 { guests * lacks(other) / lacking } else { 0.0 };
            Part { entry, home: other, share: mine + theirs }
        })
        .filter(|part| part.share > 0.0)
        .collect()
}

/// One bounded step of every entry that is not as wanted: each as far as `max_shift` lets it.
///
/// Where that would send a region more than it can serve on the way, though the end does not, all entries go the same
/// part of their ways instead. What lies between a state and one that fits never asks more of a region than the
/// greater of the two: such a step fits, but for rounding, and the last entry arrives no later.
fn ramp(situation: &Situation<'_>, wanted: &Wanted) -> BTreeMap<EntryId, Change> {
    let most = if situation.overridden(Refusal::MaxShift) { 1.0 } else { situation.failover.max_shift };
    let most = points_in(most);
    let ways = ways(situation, wanted);
    let own = stepped(&ways, |_| most);
    let fits = || breach(situation, &bounds(situation, wanted), &own).is_none();
    if situation.overridden(Refusal::AboveCapacity) || fits() {
        return own;
    }
    let longest = ways.values().map(|way| way.length).fold(most, u32::max);
    stepped(&ways, |way| way.length * most / longest)
}

/// The way of every entry that is not as wanted.
fn ways<'a>(situation: &Situation<'_>, wanted: &'a Wanted) -> BTreeMap<&'a EntryId, Way> {
    let way = |(entry, to)| {
        let from = situation.state.sets.get(entry).filter(|from| !from.agrees(to))?;
        Some((entry, Way::new(from, to)))
    };
    wanted.sets.iter().filter_map(way).collect()
}

/// What a step of so many points on each way changes.
fn stepped(ways: &BTreeMap<&EntryId, Way>, points: impl Fn(&Way) -> u32) -> BTreeMap<EntryId, Change> {
    let step = |(entry, way): (&&EntryId, &Way)| Some(((*entry).clone(), way.step(points(way))?));
    ways.iter().filter_map(step).collect()
}
