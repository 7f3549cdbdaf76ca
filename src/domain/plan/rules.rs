//! The rules: what the verdicts call for, and whether one step of it may be taken now.

use super::shift::{Distances, Receivers, Room, Shares, displace, step};
use super::{Change, NameState, Plan, Reason, Refusal};
use crate::domain::name::{DnsName, EntryId, RegionId};
use crate::domain::policy::{FailoverPolicy, NamePolicy};
use crate::domain::selection::Margin;
use crate::domain::time::Time;
use crate::domain::votes::{Undecided, Verdict};
use crate::domain::weights::{TOTAL, WeightedSet};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that a plan for one name may look at.
#[derive(Debug)]
pub struct Situation<'a> {
    pub name: &'a DnsName,
    pub own: &'a RegionId,
    pub policy: &'a NamePolicy,
    pub failover: &'a FailoverPolicy,
    pub verdicts: &'a BTreeMap<RegionId, Verdict>,
    pub state: &'a NameState,
    /// The last change that took something away, if one was seen.
    pub last: Option<&'a LastChange>,
    pub distances: &'a Distances,
    pub room: &'a Room,
    pub margin: Margin,
    pub now: Time,
}

/// A change of a name's sets, as the difference of two reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastChange {
    pub writer: Option<RegionId>,
    pub at: Option<Time>,
    /// Regions that lost share in some entry.
    pub reduced: BTreeSet<(EntryId, RegionId)>,
}

impl LastChange {
    /// What `after` took away from `before`.
    pub fn between(before: &NameState, after: &NameState) -> Self {
        let reduced = before
            .sets
            .iter()
            .flat_map(|(entry, set)| set.iter().map(move |(region, _)| (entry, set, region)))
            .filter(|(entry, set, region)| {
                after.sets.get(*entry).is_some_and(|now| now.share(region) < set.share(region))
            })
            .map(|(entry, _, region)| (entry.clone(), region.clone()))
            .collect();
        Self { writer: after.writer.clone(), at: after.changed_at, reduced }
    }
}

impl Situation<'_> {
    fn verdict(&self, region: &RegionId) -> Verdict {
        self.verdicts.get(region).copied().unwrap_or(Verdict::Undecided(Undecided::Split))
    }

    fn is_drained(&self, region: &RegionId) -> bool {
        self.state.operator.is_drained(region, self.now)
    }

    fn overridden(&self, rule: Refusal) -> bool {
        self.state.operator.overridden(rule, self.now)
    }

    /// Regions that may receive users.
    fn receivers(&self) -> Receivers<'_> {
        let up = |region: &&RegionId| self.verdict(region) == Verdict::Up && !self.is_drained(region);
        let mut held = BTreeSet::new();
        for (entry, set) in &self.state.sets {
            let home = |region: &RegionId| self.policy.entries.get(entry).map_or(0.0, |s| s.share(region));
            // Less than a point is rounding.
            let displaced = |region: &RegionId| set.share(region) - home(region) >= 1.0 / f64::from(TOTAL);
            let regions = set.iter().map(|(region, _)| region).filter(|region| displaced(region));
            held.extend(regions.map(|region| (entry.clone(), region.clone())));
        }
        Receivers {
            regions: self.policy.regions().into_iter().filter(up).collect(),
            distances: self.distances,
            room: self.room,
            held,
            margin: self.margin,
        }
    }

    fn current(&self) -> BTreeMap<EntryId, Shares> {
        self.state.sets.iter().map(|(entry, set)| (entry.clone(), set.shares())).collect()
    }

    /// Whether a change is younger than the hold-down.
    fn young(&self, changed_at: Option<Time>) -> bool {
        changed_at.is_some_and(|at| self.now.since(at) < self.failover.hold_down)
    }
}

/// The sets that the verdicts call for, before ramps and hold-downs.
///
/// A region that is neither confirmed up nor confirmed down gains nothing and keeps what it has,
/// users of other entries too; those go home when home is well, and nowhere else. Without any
/// receiver everything stays as it is.
pub fn wanted(situation: &Situation<'_>) -> BTreeMap<EntryId, WeightedSet> {
    let receivers = situation.receivers();
    if receivers.regions.is_empty() {
        return situation.state.sets.clone();
    }
    let home: BTreeMap<EntryId, Shares> =
        situation.policy.entries.iter().map(|(entry, set)| (entry.clone(), set.shares())).collect();
    let leaving = |entry: &EntryId, region: &RegionId| {
        let whole = home.get(entry).and_then(|s| s.get(region)).copied().unwrap_or(0.0);
        let has = situation.state.sets.get(entry).map_or(0.0, |set| set.share(region));
        let keeps = match situation.verdict(region) {
            Verdict::Down => 0.0,
            _ if situation.is_drained(region) => 0.0,
            Verdict::Up => whole,
            Verdict::Isolated | Verdict::Undecided(_) => has.min(whole),
        };
        whole - keeps
    };
    let mut after = displace(&home, leaving, &receivers);
    for (entry, to) in &mut after {
        if let (Some(now), Some(home)) = (situation.state.sets.get(entry), home.get(entry)) {
            keep_unconfirmed(situation, now, home, to);
        }
    }
    after.into_iter().filter_map(|(e, shares)| Some((e, WeightedSet::from_shares(&shares)?))).collect()
}

/// Gives a region that is not confirmed down back what it holds now beyond its own share at home:
/// from what others would gain, unless they gain their own users.
fn keep_unconfirmed(situation: &Situation<'_>, now: &WeightedSet, home: &Shares, to: &mut Shares) {
    let unconfirmed = |region: &RegionId| {
        matches!(situation.verdict(region), Verdict::Isolated | Verdict::Undecided(_))
            && !situation.is_drained(region)
    };
    for (region, _) in now.iter().filter(|(region, _)| unconfirmed(region)) {
        let lost = now.share(region) - to.get(region).copied().unwrap_or(0.0);
        let mut rest = lost;
        for (other, share) in to.iter_mut().filter(|(other, _)| *other != region) {
            let due = now.share(other).max(home.get(other).copied().unwrap_or(0.0));
            let back = (*share - due).clamp(0.0, rest.max(0.0));
            *share -= back;
            rest -= back;
        }
        if lost > rest {
            *to.entry(region.clone()).or_insert(0.0) += lost - rest;
        }
    }
}

/// The next plan for a name; `None` when its sets are as `wanted` of the same situation says.
///
/// # Errors
/// The rule that forbids a change that the verdicts call for.
pub fn next(
    situation: &Situation<'_>,
    wanted: &BTreeMap<EntryId, WeightedSet>,
) -> Result<Option<Plan>, Refusal> {
    let Situation { state, policy, failover, .. } = situation;
    if !state.sets.keys().eq(policy.entries.keys()) {
        return Err(Refusal::Foreign);
    }
    let evacuated = evacuation(situation);
    let (changes, reason) = match evacuated {
        Some(changes) => (changes, Reason::Evacuation),
        None => (ramp(situation, wanted), Reason::Ramp),
    };
    if changes.is_empty() {
        return unconfirmed(situation).map_or(Ok(None), Err);
    }
    if state.operator.is_frozen() {
        return Err(Refusal::Frozen);
    }
    let live = situation.receivers().regions.len();
    if live < failover.min_live.max(1) && (live == 0 || !situation.overridden(Refusal::MinLive)) {
        return Err(Refusal::MinLive);
    }
    if reason == Reason::Ramp && situation.young(state.changed_at) && !situation.overridden(Refusal::HoldDown)
    {
        return Err(Refusal::HoldDown);
    }
    if undoes_other(situation, &changes) && !situation.overridden(Refusal::UndoesOther) {
        return Err(Refusal::UndoesOther);
    }
    Ok(Some(Plan {
        name: situation.name.clone(),
        fence: state.fence.clone(),
        writer: situation.own.clone(),
        changes,
        reason,
        expires_at: situation.now + failover.plan_expiry,
    }))
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
    let leaving = |entry: &EntryId, region: &RegionId| match sets.get(entry) {
        Some(set) if down(region) => set.share(region),
        _ => 0.0,
    };
    let after = displace(&situation.current(), leaving, &situation.receivers());
    let mut changes = BTreeMap::new();
    for (entry, from) in sets {
        if !from.iter().any(|(region, _)| down(region)) {
            continue;
        }
        // Without receivers the shares are lost and the set would be empty: keep it, `min_live` refuses.
        let to = after.get(entry).and_then(WeightedSet::from_shares).unwrap_or_else(|| from.clone());
        changes.insert(entry.clone(), Change { from: from.clone(), to });
    }
    Some(changes)
}

/// One bounded step of every entry that is not as wanted.
fn ramp(situation: &Situation<'_>, wanted: &BTreeMap<EntryId, WeightedSet>) -> BTreeMap<EntryId, Change> {
    let mut changes = BTreeMap::new();
    for (entry, to) in wanted {
        let Some(from) = situation.state.sets.get(entry) else { continue };
        let Some(same) = WeightedSet::from_shares(&from.shares()) else { continue };
        if same == *to {
            continue;
        }
        if let Some(next) = step(from, to, situation.failover.max_shift) {
            changes.insert(entry.clone(), Change { from: from.clone(), to: next });
        }
    }
    changes
}

/// Whether a change gives back what another region's plan took away within the hold-down.
fn undoes_other(situation: &Situation<'_>, changes: &BTreeMap<EntryId, Change>) -> bool {
    let Some(last) = situation.last else { return false };
    let by_other = last.writer.as_ref().is_some_and(|writer| writer != situation.own);
    by_other
        && situation.young(last.at)
        && changes.iter().any(|(entry, change)| {
            change.to.iter().any(|(region, _)| {
                change.to.share(region) > change.from.share(region)
                    && last.reduced.contains(&(entry.clone(), region.clone()))
            })
        })
}

/// Why a region that someone sees down is not moved: the refusal to show when nothing changes.
fn unconfirmed(situation: &Situation<'_>) -> Option<Refusal> {
    situation.verdicts.values().find_map(|verdict| match verdict {
        Verdict::Undecided(Undecided::Disagreement) => Some(Refusal::Disagreement),
        Verdict::Undecided(Undecided::NoMajority) => Some(Refusal::NoMajority),
        Verdict::Undecided(Undecided::NoEvidence) => Some(Refusal::NoEvidence),
        Verdict::Up
        | Verdict::Down
        | Verdict::Isolated
        | Verdict::Undecided(Undecided::SingleRegion | Undecided::Split) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::latency::Rtt;
    use crate::domain::name::ServiceId;
    use crate::domain::operator::{Freeze, OperatorState, Said};
    use crate::domain::plan::{Fence, Generation};
    use std::time::Duration;

    /// Three regions on a line: a -10- b -40- c (a to c: 50).
    struct Case {
        verdicts: BTreeMap<RegionId, Verdict>,
        state: NameState,
        failover: FailoverPolicy,
        last: Option<LastChange>,
        a_to_b: Option<u64>,
        now: Time,
    }

    fn region(name: &str) -> RegionId {
        RegionId::parse(name).unwrap()
    }

    fn entry(name: &str) -> EntryId {
        EntryId::parse(name).unwrap()
    }

    fn set(of: &[(&str, f64)]) -> WeightedSet {
        WeightedSet::from_shares(&of.iter().map(|(n, s)| (region(n), *s)).collect()).unwrap()
    }

    fn home() -> BTreeMap<EntryId, WeightedSet> {
        ["a", "b", "c"].iter().map(|n| (entry(n), WeightedSet::only(region(n)))).collect()
    }

    impl Case {
        fn new(a: Verdict, b: Verdict, c: Verdict) -> Self {
            Self {
                verdicts: BTreeMap::from([(region("a"), a), (region("b"), b), (region("c"), c)]),
                state: NameState {
                    fence: Fence { epoch: "e".into(), generation: Generation::new(7) },
                    writer: Some(region("b")),
                    changed_at: None,
                    operator: OperatorState::default(),
                    sets: home(),
                },
                failover: FailoverPolicy::default(),
                last: None,
                a_to_b: Some(10),
                now: Time::from_millis(10_000_000),
            }
        }

        fn with_set(mut self, name: &str, of: &[(&str, f64)]) -> Self {
            self.state.sets.insert(entry(name), set(of));
            self
        }

        fn changed(mut self, ago: Duration) -> Self {
            self.state.changed_at = Some(self.now.before(ago));
            self
        }

        fn next(&self) -> Result<Option<Plan>, Refusal> {
            let mut distances = Distances::default();
            for (from, to, ms) in [("a", "b", self.a_to_b), ("a", "c", Some(50)), ("b", "c", Some(40))] {
                if let Some(ms) = ms {
                    distances.add(&region(from), &region(to), Rtt::millis(ms));
                }
            }
            let situation = Situation {
                name: &DnsName::parse("www.example.com").unwrap(),
                own: &region("b"),
                policy: &NamePolicy {
                    entries: home(),
                    services: BTreeSet::from([ServiceId::parse("web").unwrap()]),
                },
                failover: &self.failover,
                verdicts: &self.verdicts,
                state: &self.state,
                last: self.last.as_ref(),
                distances: &distances,
                room: &Room::default(),
                margin: Margin::default(),
                now: self.now,
            };
            next(&situation, &wanted(&situation))
        }

        fn planned(&self) -> Plan {
            self.next().unwrap().unwrap()
        }
    }

    const UP: Verdict = Verdict::Up;
    const DOWN: Verdict = Verdict::Down;
    const SPLIT: Verdict = Verdict::Undecided(Undecided::Split);

    #[test]
    fn all_well_and_at_home_plans_nothing() {
        assert_eq!(Case::new(UP, UP, UP).next(), Ok(None));
    }

    #[test]
    fn a_confirmed_down_region_is_evacuated_to_the_nearest_in_one_step() {
        let plan = Case::new(DOWN, UP, UP).changed(Duration::ZERO).planned();
        assert_eq!(plan.reason, Reason::Evacuation);
        assert_eq!(plan.changes.keys().collect::<Vec<_>>(), [&entry("a")]);
        assert_eq!(plan.changes[&entry("a")].to, WeightedSet::only(region("b")));
    }

    #[test]
    fn recovery_is_a_ramp_of_max_shift_after_the_hold_down() {
        let case = Case::new(UP, UP, UP).with_set("a", &[("b", 1.0)]);
        let plan = case.planned();
        assert_eq!(plan.reason, Reason::Ramp);
        assert_eq!(plan.changes[&entry("a")].to, set(&[("a", 0.25), ("b", 0.75)]));
        let young = case.changed(Duration::from_secs(179));
        assert_eq!(young.next(), Err(Refusal::HoldDown));
    }

    #[test]
    fn an_undecided_region_keeps_what_it_has_and_gains_nothing() {
        let kept = Case::new(SPLIT, UP, UP).with_set("a", &[("a", 0.5), ("b", 0.5)]);
        assert_eq!(kept.next(), Ok(None));
        let isolated = Case::new(Verdict::Isolated, UP, UP);
        assert_eq!(isolated.next(), Ok(None), "a partition among edges leaves DNS alone");
    }

    #[test]
    fn a_region_that_is_not_confirmed_down_keeps_displaced_users_unless_they_go_home() {
        const NO_EVIDENCE: Verdict = Verdict::Undecided(Undecided::NoEvidence);
        for b in [SPLIT, Verdict::Isolated, NO_EVIDENCE] {
            let away = Case::new(DOWN, b, UP).with_set("a", &[("b", 1.0)]);
            assert!(matches!(away.next(), Ok(None) | Err(Refusal::NoEvidence)), "{b:?}: {:?}", away.next());
            let part = Case::new(DOWN, b, UP).with_set("a", &[("b", 0.4), ("c", 0.6)]);
            assert!(matches!(part.next(), Ok(None) | Err(Refusal::NoEvidence)), "{b:?}: {:?}", part.next());
            let home = Case::new(UP, b, UP).with_set("a", &[("b", 1.0)]).planned();
            assert_eq!(home.changes[&entry("a")].to, set(&[("a", 0.25), ("b", 0.75)]), "{b:?}");
        }
        let mut drained = Case::new(DOWN, SPLIT, UP).with_set("a", &[("b", 1.0)]);
        drained.state.operator = OperatorState::draining([region("b")]);
        assert_eq!(drained.planned().changes[&entry("a")].to, set(&[("b", 0.75), ("c", 0.25)]));
    }

    #[test]
    fn displaced_users_are_not_moved_between_regions_that_are_about_as_far() {
        // c is 50 away; b has to be nearer by a tenth to take what c holds, and the other way round.
        for (a_to_b, holder, moves) in [
            (49, "c", false),
            (46, "c", false),
            (44, "c", true),
            (51, "b", false),
            (55, "b", false),
            (56, "b", true),
        ] {
            let mut case = Case::new(DOWN, UP, UP).with_set("a", &[(holder, 1.0)]);
            case.a_to_b = Some(a_to_b);
            assert_eq!(case.next().unwrap().is_some(), moves, "b at {a_to_b}, {holder} holds them");
        }
    }

    #[test]
    fn users_are_not_moved_from_a_region_whose_distance_is_not_known() {
        let mut case = Case::new(DOWN, UP, UP).with_set("a", &[("b", 1.0)]);
        case.a_to_b = None;
        assert_eq!(case.next(), Ok(None));
    }

    #[test]
    fn no_set_is_emptied_when_every_region_is_down() {
        assert_eq!(Case::new(DOWN, DOWN, DOWN).next(), Err(Refusal::MinLive));
    }

    #[test]
    fn too_few_live_regions_stop_an_evacuation() {
        let mut case = Case::new(DOWN, UP, SPLIT);
        case.failover.min_live = 2;
        assert_eq!(case.next(), Err(Refusal::MinLive));
    }

    #[test]
    fn a_freeze_stops_everything() {
        let mut case = Case::new(DOWN, UP, UP);
        case.state.operator.freeze = Some(Freeze { said: Said::new("release", "alice") });
        assert_eq!(case.next(), Err(Refusal::Frozen));
    }

    #[test]
    fn a_drained_region_is_left_by_ramp() {
        let mut case = Case::new(UP, UP, UP);
        case.state.operator = OperatorState::draining([region("c")]);
        let plan = case.planned();
        assert_eq!(plan.reason, Reason::Ramp);
        assert_eq!(plan.changes[&entry("c")].to, set(&[("c", 0.75), ("b", 0.25)]));
    }

    #[test]
    fn what_another_region_took_away_is_not_given_back_within_the_hold_down() {
        // c evacuated a to b; now b is seen down, and the nearest to b would be a again.
        let mut case = Case::new(UP, DOWN, UP).with_set("a", &[("b", 1.0)]).changed(Duration::from_secs(10));
        case.state.writer = Some(region("c"));
        case.last = Some(LastChange {
            writer: Some(region("c")),
            at: case.state.changed_at,
            reduced: BTreeSet::from([(entry("a"), region("a"))]),
        });
        assert_eq!(case.next(), Err(Refusal::UndoesOther));
        let old = Some(case.now.before(case.failover.hold_down));
        case.last.as_mut().unwrap().at = old;
        assert!(case.next().unwrap().is_some());
    }

    #[test]
    fn foreign_records_stop_everything() {
        let mut case = Case::new(DOWN, UP, UP);
        case.state.sets.remove(&entry("c"));
        assert_eq!(case.next(), Err(Refusal::Foreign));
    }

    #[test]
    fn what_holds_a_verdict_back_is_named() {
        for (verdict, refusal) in [
            (Undecided::NoMajority, Refusal::NoMajority),
            (Undecided::Disagreement, Refusal::Disagreement),
            (Undecided::NoEvidence, Refusal::NoEvidence),
        ] {
            assert_eq!(Case::new(Verdict::Undecided(verdict), UP, UP).next(), Err(refusal));
        }
    }
}
