//! Bugs at the seams between a `Fleet` and its world, each of which a rule must find.

use proxima::domain::health::{State, Word};
use proxima::domain::name::RegionId;
use proxima::domain::plan::{Change, Plan, Reason};
use proxima::domain::policy::Policy;
use proxima::domain::snapshot::{Gate, Snapshot};
use proxima::domain::view::View;
use proxima::domain::votes::{Verdict, Witness};
use proxima::domain::weights::WeightedSet;
use proxima::simulate::{Rule, Seams, Violation};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Batches overwrite, as UPSERT would.
pub struct BlindStore;
impl Seams for BlindStore {
    fn fenced(&self) -> bool {
        false
    }
}

/// The DNS side keeps conflicts to itself and sends the batch again as it was.
pub struct ConflictsRetried;
impl Seams for ConflictsRetried {
    fn heeds_conflicts(&self) -> bool {
        false
    }
}

/// Old views come again with new numbers.
pub struct StaleViewsLookFresh;
impl Seams for StaleViewsLookFresh {
    fn replays_views(&self) -> bool {
        true
    }
}

/// Every edge has forgotten the hold-down.
pub struct NoHoldDown;
impl Seams for NoHoldDown {
    fn policy(&self, policy: &mut Policy) {
        policy.failover.hold_down = Duration::ZERO;
    }
}

/// Every edge has forgotten how many changes an hour may see.
pub struct NoHourlyLimit;
impl Seams for NoHourlyLimit {
    fn policy(&self, policy: &mut Policy) {
        policy.failover.max_changes_per_hour = 1000;
    }
}

/// Every edge takes one live region for enough.
pub struct NoMinLive;
impl Seams for NoMinLive {
    fn policy(&self, policy: &mut Policy) {
        policy.failover.min_live = 0;
    }
}

/// The health check of the second region says red, whatever it sees.
pub struct WitnessStuckRed;
impl Seams for WitnessStuckRed {
    fn witness(&self, region: usize, truth: Witness) -> Witness {
        if region == 1 { Witness::Red } else { truth }
    }
}

/// Failed requests of its own users make a region call itself down.
pub struct PassiveOutcomesVote;
impl Seams for PassiveOutcomesVote {
    fn view(&self, view: Arc<View>, snapshot: Option<&Snapshot>) -> Arc<View> {
        let ejected = |service: &_| {
            let status = snapshot.and_then(|s| s.services.get(service));
            status.and_then(|s| s.states.get(&view.region)) == Some(&State::Ejected)
        };
        if !view.services.keys().any(ejected) {
            return view;
        }
        let mut leaking = View::clone(&view);
        for (_, service) in Arc::make_mut(&mut leaking.services).iter_mut().filter(|(id, _)| ejected(id)) {
            service.word = Word::Down;
        }
        for votes in leaking.votes.values_mut() {
            Arc::make_mut(votes).insert(view.region.clone(), Word::Down);
        }
        Arc::new(leaking)
    }
}

/// Ramps jump: users go to the last region of a step all at once.
pub struct RampsJump;
impl Seams for RampsJump {
    fn plan(&self, plan: &mut Plan, _snapshot: Option<&Snapshot>) -> bool {
        for change in plan.changes.values_mut().filter(|_| plan.reason == Reason::Ramp) {
            let gains = |region: &_| change.to.share(region) > change.from.share(region);
            let gaining = change.to.iter().map(|(region, _)| region).find(|r| gains(r)).cloned();
            if let Some(region) = gaining {
                *change = Change { from: change.from.clone(), to: WeightedSet::only(region) };
            }
        }
        true
    }
}

/// Evacuations send users to a region that the writer itself holds for down, when there are two.
pub struct EvacuatesIntoDead;
impl Seams for EvacuatesIntoDead {
    fn plan(&self, plan: &mut Plan, snapshot: Option<&Snapshot>) -> bool {
        let Some(verdicts) = snapshot.and_then(|s| s.names.get(&plan.name)).map(|n| &n.verdicts) else {
            return true;
        };
        let down = |region: &RegionId| verdicts.get(region) == Some(&Verdict::Down);
        for change in plan.changes.values_mut() {
            let other = verdicts.keys().find(|r| down(r) && change.from.get(r).is_none());
            if let Some(region) = other {
                change.to = WeightedSet::only(region.clone());
            }
        }
        true
    }
}

/// With any plan, what regions of `verdict` hold of foreign users goes to another region that is up.
fn guests_moved(plan: &mut Plan, snapshot: Option<&Snapshot>, from: impl Fn(Verdict) -> bool) {
    let Some(status) = snapshot.and_then(|s| s.names.get(&plan.name)) else { return };
    let is = |region: &RegionId, of: &dyn Fn(Verdict) -> bool| {
        status.verdicts.get(region).is_some_and(|verdict| of(*verdict))
    };
    for (entry, set) in &status.applied {
        let guest = |region: &RegionId| region.as_str() != entry.as_str() && set.get(region).is_some();
        let at_home = set.iter().any(|(region, _)| region.as_str() == entry.as_str());
        if at_home || !status.verdicts.keys().any(|region| guest(region) && is(region, &from)) {
            continue;
        }
        let other = |region: &&RegionId| {
            region.as_str() != entry.as_str()
                && set.get(region).is_none()
                && is(region, &|verdict| verdict == Verdict::Up)
        };
        if let Some(region) = status.verdicts.keys().find(other) {
            let change = Change { from: set.clone(), to: WeightedSet::only(region.clone()) };
            plan.changes.insert(entry.clone(), change);
        }
    }
}

/// Regions that are neither up nor down lose the users that they took from others.
pub struct GuestsLeaveUnconfirmed;
impl Seams for GuestsLeaveUnconfirmed {
    fn plan(&self, plan: &mut Plan, snapshot: Option<&Snapshot>) -> bool {
        guests_moved(plan, snapshot, |verdict| !matches!(verdict, Verdict::Up | Verdict::Down));
        true
    }
}

/// Displaced users are moved on from regions that are well, wherever that is.
pub struct GuestsMoveOn;
impl Seams for GuestsMoveOn {
    fn plan(&self, plan: &mut Plan, snapshot: Option<&Snapshot>) -> bool {
        if plan.reason == Reason::Ramp {
            guests_moved(plan, snapshot, |verdict| verdict == Verdict::Up);
            // As one step of a ramp, lest another rule finds it first.
            for change in plan.changes.values_mut() {
                let mut shares: BTreeMap<_, _> =
                    change.from.shares().into_iter().map(|(region, share)| (region, share * 0.8)).collect();
                for (region, share) in change.to.shares() {
                    *shares.entry(region).or_insert(0.0) += share * 0.2;
                }
                change.to = WeightedSet::from_shares(&shares).unwrap_or_else(|| change.from.clone());
            }
        }
        true
    }
}

/// Sets are sent to a region that is down, when one was there before.
pub struct SetsLoseTheLiving;
impl Seams for SetsLoseTheLiving {
    fn plan(&self, plan: &mut Plan, snapshot: Option<&Snapshot>) -> bool {
        let verdicts = snapshot.and_then(|s| s.names.get(&plan.name)).map(|n| &n.verdicts);
        let down = |region: &RegionId| verdicts.and_then(|v| v.get(region)) == Some(&Verdict::Down);
        for change in plan.changes.values_mut() {
            let dead = change.from.iter().map(|(region, _)| region).find(|region| down(region)).cloned();
            if let Some(region) = dead {
                change.to = WeightedSet::only(region);
            }
        }
        true
    }
}

/// No plan ever leaves an edge.
pub struct NeverWrites;
impl Seams for NeverWrites {
    fn plan(&self, _plan: &mut Plan, _snapshot: Option<&Snapshot>) -> bool {
        false
    }
}

/// Plans are sent however late.
pub struct ExpiryForgotten;
impl Seams for ExpiryForgotten {
    fn heeds_expiry(&self) -> bool {
        false
    }
}

/// Candidates that are ejected come first.
pub struct EjectedFirst;
impl Seams for EjectedFirst {
    fn snapshot(&self, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        let mut changed = Snapshot::clone(&snapshot);
        for service in changed.services.values_mut() {
            let ejected =
                |(region, state): (&RegionId, &State)| (*state == State::Ejected).then(|| region.clone());
            let Some(region) = service.states.iter().find_map(ejected) else { continue };
            let Some(endpoints) = changed.peers.get(&region) else { continue };
            let mut wrong = proxima::domain::snapshot::ServiceSnapshot::clone(service);
            let Some(mut first) = wrong.candidates.first().cloned() else { continue };
            (first.region, first.endpoints) = (region.clone(), Arc::clone(endpoints));
            let others = wrong.candidates.iter().filter(|c| c.region != region).cloned();
            wrong.candidates = std::iter::once(first).chain(others).collect();
            *service = Arc::new(wrong);
        }
        Arc::new(changed)
    }
}

/// Gates feed on themselves: one that another region has closed shuts this one.
pub struct GatesLatch(pub std::sync::Mutex<std::collections::BTreeSet<RegionId>>);
impl Seams for GatesLatch {
    fn snapshot(&self, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        let mut latched = self.0.lock().unwrap();
        if snapshot.names.values().any(|status| status.gate == Gate::Closed) {
            latched.insert(snapshot.own.clone());
        }
        if !latched.contains(&snapshot.own) {
            return snapshot;
        }
        let mut changed = Snapshot::clone(&snapshot);
        changed.names.values_mut().for_each(|status| status.gate = Gate::Closed);
        Arc::new(changed)
    }
}

/// Displaced users all go to one region, whatever room it has.
pub struct RoomForgotten;
impl Seams for RoomForgotten {
    fn plan(&self, plan: &mut Plan, snapshot: Option<&Snapshot>) -> bool {
        let verdicts = snapshot.and_then(|s| s.names.get(&plan.name)).map(|n| &n.verdicts);
        let up = |v: &&BTreeMap<RegionId, Verdict>| {
            v.iter().find(|(_, v)| **v == Verdict::Up).map(|(r, _)| r.clone())
        };
        if plan.reason == Reason::Evacuation
            && let Some(region) = verdicts.as_ref().and_then(up)
        {
            plan.changes.values_mut().for_each(|change| change.to = WeightedSet::only(region.clone()));
        }
        true
    }
}

/// Whoever is evacuated takes the regions along that nobody can reach.
pub struct UnreachedEvacuated;
impl Seams for UnreachedEvacuated {
    fn plan(&self, plan: &mut Plan, snapshot: Option<&Snapshot>) -> bool {
        let Some(status) = snapshot.and_then(|s| s.names.get(&plan.name)) else { return true };
        if plan.reason != Reason::Evacuation {
            return true;
        }
        let is = |wanted: Verdict| status.verdicts.iter().filter(move |(_, v)| **v == wanted).map(|(r, _)| r);
        let Some(up) = is(Verdict::Up).next() else { return true };
        let well = status.verdicts.iter().filter(|(_, v)| matches!(v, Verdict::Undecided(_))).map(|(r, _)| r);
        for region in well {
            for (entry, set) in status.applied.iter().filter(|(_, set)| set.get(region).is_some()) {
                let change = Change { from: set.clone(), to: WeightedSet::only(up.clone()) };
                plan.changes.insert(entry.clone(), change);
            }
        }
        true
    }
}

/// Another bug, while the invariant that would tell is blind.
pub struct Unseen<B> {
    pub bug: B,
    pub blind: Rule,
}
impl<B: Seams> Seams for Unseen<B> {
    fn plan(&self, plan: &mut Plan, snapshot: Option<&Snapshot>) -> bool {
        self.bug.plan(plan, snapshot)
    }

    fn policy(&self, policy: &mut Policy) {
        self.bug.policy(policy);
    }

    fn tells(&self, violation: &Violation) -> bool {
        violation.rule != self.blind
    }
}
