//! On what grounds a plan stands, and what a snapshot must show by itself.

use super::{Applied, Held, Rule, Truth};
use crate::domain::health::State;
use crate::domain::health::Word;
use crate::domain::name::{EntryId, RegionId};
use crate::domain::plan::{BAND, Plan, Reason};
use crate::domain::snapshot::{Candidate, Place, ServiceSnapshot, Snapshot};
use crate::domain::votes::Verdict;
use crate::domain::weights::WeightedSet;
use std::collections::BTreeSet;

/// Who is evacuated has a majority of all configured voters against it, in the writer's own eyes.
pub(super) fn majority(truth: &Truth<'_>, plan: &Plan, snapshot: Option<&Snapshot>) -> Held {
    let n = truth.cast.regions.len();
    let status = snapshot.and_then(|s| s.names.get(&plan.name));
    let Some(status) = status.filter(|_| n > 2 && plan.reason == Reason::Evacuation) else { return Ok(()) };
    for region in &truth.cast.regions {
        let leaves = |set: &WeightedSet| set.get(region).is_some();
        let evacuated = plan.changes.values().any(|c| leaves(&c.from) && !leaves(&c.to));
        let against = status.votes.values().filter(|words| words.get(region) == Some(&Word::Down)).count();
        truth.require(!evacuated || against > n / 2, Rule::Minority, || {
            format!("{against} of {n} see {region} down, and it is evacuated: {plan:?}")
        })?;
    }
    Ok(())
}

/// Requests a second that an entry's users send when all is well.
fn demand(truth: &Truth<'_>, entry: &EntryId) -> f64 {
    let region = truth.cast.regions.iter().position(|r| r.as_str() == entry.as_str());
    let comes_here = |rtt: &[std::time::Duration]| match region {
        Some(region) => (0..rtt.len()).min_by_key(|r| rtt[*r]) == Some(region),
        None => true,
    };
    truth.cast.users.iter().filter(|u| comes_here(&u.rtt)).map(|u| u.rps).sum()
}

/// No region that gains users gets more than it can serve, by what its writer knows, while other
/// receivers have room for what is too much.
pub(super) fn capacity(truth: &Truth<'_>, plan: &Plan, snapshot: Option<&Snapshot>) -> Held {
    let Some(name) = truth.cast.name(&plan.name) else { return Ok(()) };
    let stored = &truth.store.names[name];
    let status = snapshot.and_then(|s| s.names.get(&plan.name));
    let Some(status) = status.filter(|_| stored.fence == plan.fence) else { return Ok(()) };
    // Users ask for each name alike.
    let part = 1.0 / truth.store.names.len() as f64;
    let sets =
        truth.store.names.iter().enumerate().flat_map(|(n, of)| of.sets.iter().map(move |set| (n, set)));
    let after = |n: usize, entry: &EntryId| plan.changes.get(entry).filter(|_| n == name).map(|c| &c.to);
    let (mut spare, mut over) = (0.0, 0.0);
    let mut whole = 0.0;
    for id in &truth.cast.regions {
        let Some(capacity) = truth.cast.capacity[truth.cast.region(id)] else { return Ok(()) };
        let (mut before, mut then) = (0.0, 0.0);
        for (n, (entry, set)) in sets.clone() {
            let demand = demand(truth, entry) * part;
            before += demand * set.share(id);
            then += demand * after(n, entry).unwrap_or(set).share(id);
        }
        let receives = status.verdicts.get(id) == Some(&Verdict::Up) && !stored.drains.contains(id);
        if then > before + 1e-6 {
            over += (then - capacity.max(before)).max(0.0);
        } else if receives {
            spare += (capacity - then).max(0.0);
        }
        whole += then;
    }
    // Weights are whole points: each entry may be off by one, both ways. And plans count with what was
    // measured until the truth leaves a band.
    let rounding = whole * (0.02 + BAND);
    truth.require(over <= rounding || spare <= rounding, Rule::Capacity, || {
        let counted = &status.loads.demand;
        format!(
            "{over:.0}/s too much for who gains, {spare:.0}/s of room elsewhere, by demands of {counted:?}: {plan:?}"
        )
    })
}

/// No ejected region stands above a healthy one.
pub(super) fn ranked(service: &ServiceSnapshot) -> Result<(), &'static str> {
    let state = |c: &Candidate| service.states.get(&c.region).copied().unwrap_or(State::Unknown);
    let first_ejected = service.candidates.iter().position(|c| state(c) == State::Ejected);
    let healthy = |n: &usize| state(&service.candidates[*n]) == State::Healthy;
    let last_healthy = (0..service.candidates.len()).rfind(healthy);
    match (first_ejected, last_healthy) {
        (Some(ejected), Some(healthy)) if ejected < healthy => Err("an ejected region above a healthy one"),
        _ => Ok(()),
    }
}

/// What a snapshot must show by itself.
pub(super) fn consistent(service: &ServiceSnapshot, own: &RegionId) -> Result<(), &'static str> {
    let state = |region: &RegionId| service.states.get(region).copied().unwrap_or(State::Unknown);
    let first = service.candidates.first().map(|c| &c.region);
    let own_well = state(own).usable() && !service.endpoints.is_empty();
    if own_well && first != Some(own) {
        return Err("the own region is well but not first");
    }
    // A drained own region stays as the last resort, without a share.
    let last = |c: &Candidate| c.place == Place::Own && state(own) == State::Draining && c.share == 0.0;
    if !service.panic && service.candidates.iter().any(|c| !state(&c.region).usable() && !last(c)) {
        return Err("a candidate is not usable and this is no panic");
    }
    if service.candidates.iter().any(|c| c.endpoints.is_empty()) {
        return Err("a candidate without endpoints");
    }
    let regions: BTreeSet<&RegionId> = service.candidates.iter().map(|c| &c.region).collect();
    if regions.len() != service.candidates.len() {
        return Err("a region twice");
    }
    Ok(())
}

/// The share of users that a change sends home.
pub(super) fn gains_of_home(
    truth: &Truth<'_>,
    home: Option<&WeightedSet>,
    (from, to): (&WeightedSet, &WeightedSet),
) -> f64 {
    let gain = |region: &RegionId| {
        let due = home.map_or(0.0, |set| set.share(region));
        (to.share(region).min(due) - from.share(region)).max(0.0)
    };
    truth.cast.regions.iter().map(gain).sum()
}

/// At least `min_live` regions were up when users were moved.
pub(super) fn min_live(truth: &Truth<'_>, applied: &Applied<'_>) -> Held {
    let least = truth.cast.failover().min_live.max(1);
    let waited = truth.now.since(applied.sent.proposed);
    let up = (0..truth.cast.regions.len())
        .filter(|r| !truth.any(applied.name, *r, |t| t.longer_than(truth.voted() + waited, truth.now)))
        .count();
    truth.require(up >= least, Rule::MinLive, || format!("only {up} were up for {:?}", applied.plan))
}

/// The same shares, as far as weights can say them: thirds are 67, 67, 66 or 67, 66, 67.
pub(super) fn is_home(set: &WeightedSet, home: &WeightedSet) -> bool {
    let near = |region: &RegionId| (set.share(region) - home.share(region)).abs() <= 0.01;
    set.iter().map(|(region, _)| region).eq(home.iter().map(|(region, _)| region))
        && set.iter().all(|(region, _)| near(region))
}
