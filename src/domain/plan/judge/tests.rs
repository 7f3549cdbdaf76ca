use super::*;
use crate::domain::latency::Rtt;
use crate::domain::name::{DnsName, EntryId, RegionId, RuleName, ServiceId};
use crate::domain::operator::{Freeze, OperatorState, Override, Said};
use crate::domain::plan::moves::Step;
use crate::domain::plan::{
    Change, Detail, Distances, Fence, Generation, HOUR, LastChange, NameState, Reason, Room, Turn,
};
use crate::domain::policy::{FailoverPolicy, NamePolicy};
use crate::domain::selection::Margin;
use crate::domain::time::Time;
use crate::domain::votes::{Undecided, Verdict};
use crate::domain::weights::WeightedSet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

mod room;

/// Three regions on a line: a -10- b -40- c (a to c: 50).
struct Case {
    home: BTreeMap<EntryId, WeightedSet>,
    verdicts: BTreeMap<RegionId, Verdict>,
    state: NameState,
    failover: FailoverPolicy,
    last: Option<LastChange>,
    changes: Vec<Time>,
    room: Room,
    content: Option<RegionId>,
    turn: Turn,
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
        let now = Time::from_millis(10_000_000);
        Self {
            home: home(),
            verdicts: BTreeMap::from([(region("a"), a), (region("b"), b), (region("c"), c)]),
            state: NameState {
                fence: Fence { epoch: "e".into(), generation: Generation::new(7) },
                writer: Some(region("b")),
                changed_at: None,
                claim: None,
                operator: OperatorState::default(),
                sets: home(),
            },
            failover: FailoverPolicy::default(),
            last: None,
            changes: Vec::new(),
            room: Room::default(),
            content: None,
            turn: Turn {
                rank: 0,
                waiting_since: None,
                awake_since: Time::ZERO,
                holds: true,
                read: true,
                read_at: Some(now),
            },
            a_to_b: Some(10),
            now,
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

    /// Requests a second of each entry, and what each region can serve.
    fn with_room(mut self, demand: [f64; 3], capacity: [f64; 3]) -> Self {
        self.room.demand = ["a", "b", "c"].into_iter().map(entry).zip(demand).collect();
        self.room.capacity = ["a", "b", "c"].into_iter().map(region).zip(capacity).collect();
        self
    }

    fn overriding(mut self, rule: Refusal) -> Self {
        let over =
            Override { said: Said::new("known", "alice"), expires_at: self.now + Duration::from_secs(60) };
        self.state.operator.overrides.insert(RuleName::of(rule), over);
        self
    }

    fn judge(&self) -> Judgement {
        self.situated(judge)
    }

    fn situated<T>(&self, ask: impl FnOnce(&Situation<'_>) -> T) -> T {
        let mut distances = Distances::default();
        for (from, to, ms) in [("a", "b", self.a_to_b), ("a", "c", Some(50)), ("b", "c", Some(40))] {
            if let Some(ms) = ms {
                distances.add(&region(from), &region(to), Rtt::millis(ms));
            }
        }
        ask(&Situation {
            drifted: 0,
            name: &DnsName::parse("www.example.com").unwrap(),
            own: &region("b"),
            policy: &NamePolicy {
                entries: Arc::new(self.home.clone()),
                services: BTreeSet::from([ServiceId::parse("web").unwrap()]),
            },
            failover: &self.failover,
            verdicts: &self.verdicts,
            state: &self.state,
            operator: &self.state.operator,
            last: self.last.as_ref(),
            changes: &self.changes,
            distances: &distances,
            room: &self.room,
            margin: Margin::default(),
            content: self.content.as_ref(),
            turn: self.turn,
            now: self.now,
        })
    }

    /// What a rule says of a step of a ramp that changes one entry's set to this, whoever would propose it.
    fn asked(&self, rule: Refusal, name: &str, to: &[(&str, f64)]) -> CheckOutcome {
        let change = Change { from: self.state.sets[&entry(name)].clone(), to: set(to) };
        let step = Step { changes: BTreeMap::from([(entry(name), change)]), reason: Reason::Ramp };
        let checks = self.situated(|situation| {
            let wanted = wanted(situation);
            checks(&Question { situation, wanted: &wanted, step: &step })
        });
        checks.into_iter().find(|check| check.rule == rule).unwrap().outcome
    }

    fn next(&self) -> Result<Option<Plan>, Refusal> {
        let judgement = self.judge();
        judgement.refusal().map_or(Ok(judgement.plan), Err)
    }

    fn outcome(&self, rule: Refusal) -> CheckOutcome {
        self.judge().checks.into_iter().find(|check| check.rule == rule).unwrap().outcome
    }

    fn planned(&self) -> Plan {
        self.next().unwrap().unwrap()
    }
}

const UP: Verdict = Verdict::Up;
const DOWN: Verdict = Verdict::Down;
const SPLIT: Verdict = Verdict::Undecided(Undecided::Split);

#[test]
fn what_is_never_proposed_is_refused_all_the_same() {
    let case = Case::new(UP, UP, DOWN).with_room([100.0, 100.0, 0.0], [200.0, 150.0, 200.0]);
    let refused = |rule, to| match case.asked(rule, "a", to) {
        CheckOutcome::Refused(detail) => Some(detail),
        _ => None,
    };
    assert_eq!(refused(Refusal::NeverEmpty, &[("c", 1.0)]), Some(Detail::Entry(entry("a"))));
    assert_eq!(refused(Refusal::NeverEmpty, &[("b", 0.1), ("c", 0.9)]), None);
    assert_eq!(refused(Refusal::MaxShift, &[("a", 0.7), ("b", 0.3)]), Some(Detail::Entry(entry("a"))));
    assert_eq!(refused(Refusal::MaxShift, &[("a", 0.75), ("b", 0.25)]), None);
    let above = Detail::Above { region: region("b"), load_rps: 160.0, capacity_rps: 150.0 };
    assert_eq!(refused(Refusal::AboveCapacity, &[("a", 0.4), ("b", 0.6)]), Some(above));
    assert_eq!(refused(Refusal::AboveCapacity, &[("a", 0.5), ("b", 0.5)]), None);
}

#[test]
fn all_well_and_at_home_plans_nothing() {
    assert_eq!(Case::new(UP, UP, UP).next(), Ok(None));
}

#[test]
fn a_confirmed_down_region_is_evacuated_to_the_nearest_in_one_step() {
    let plan = Case::new(DOWN, UP, UP).changed(Duration::ZERO).planned();
    assert_eq!(plan.reason, Reason::Evacuation);
    assert!(plan.changes.keys().eq([&entry("a")]), "{plan:?}");
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
fn users_are_moved_neither_from_nor_to_a_region_whose_distance_is_not_known() {
    for guests in [&[("b", 1.0)] as &[_], &[("b", 0.5), ("c", 0.5)], &[("b", 0.1), ("c", 0.9)]] {
        let mut case = Case::new(DOWN, UP, UP).with_set("a", guests);
        case.a_to_b = None;
        assert_eq!(case.next(), Ok(None), "{guests:?}");
    }
}

#[test]
fn a_region_in_doubt_keeps_its_guests_though_nobody_knows_how_far_the_others_are() {
    let mut case = Case::new(UP, SPLIT, SPLIT).with_set("b", &[("a", 0.5), ("c", 0.5)]);
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
fn an_evacuation_within_a_hold_down_may_give_back_what_this_region_took_and_what_nobody_took() {
    let evacuated_by = |writer: &str, reduced: (&str, &str)| {
        // Half of a's users were led to b, which is down now.
        let mut case =
            Case::new(UP, DOWN, UP).with_set("a", &[("b", 0.5), ("c", 0.5)]).changed(Duration::from_secs(10));
        case.last = Some(LastChange {
            writer: Some(region(writer)),
            at: case.state.changed_at,
            reduced: BTreeSet::from([(entry(reduced.0), region(reduced.1))]),
        });
        case.next().map(|plan| plan.is_some())
    };
    assert_eq!(evacuated_by("c", ("a", "a")), Err(Refusal::UndoesOther));
    assert_eq!(evacuated_by("b", ("a", "a")), Ok(true), "its own plan");
    assert_eq!(evacuated_by("c", ("c", "a")), Ok(true), "of an entry that stays as it is");
    assert_eq!(evacuated_by("c", ("a", "c")), Ok(true), "c lost users and keeps what it has left");
}

#[test]
fn each_region_waits_for_those_before_it_and_for_no_longer() {
    let mut case = Case::new(DOWN, UP, UP);
    for (rank, waited, expected) in [
        (0, 0, Ok(true)),
        (1, 19, Err(Refusal::NotWriter)),
        (1, 20, Ok(true)),
        (2, 39, Err(Refusal::NotWriter)),
        (2, 40, Ok(true)),
    ] {
        case.turn.rank = rank;
        case.turn.waiting_since = Some(case.now.before(Duration::from_secs(waited)));
        assert_eq!(case.next().map(|plan| plan.is_some()), expected, "rank {rank} after {waited} s");
    }
}

#[test]
fn an_override_of_max_shift_makes_a_ramp_one_step() {
    let mut case = Case::new(UP, UP, UP);
    case.state.operator = OperatorState::draining([region("c")]);
    let left = |case: &Case| case.planned().changes[&entry("c")].to.share(&region("c"));
    assert_eq!(left(&case), 0.75);
    assert_eq!(left(&case.overriding(Refusal::MaxShift)), 0.0);
}

#[test]
fn users_of_a_name_with_one_set_stay_at_a_region_in_doubt_and_no_more_come() {
    let thirds = [("a", 1.0), ("b", 1.0), ("c", 1.0)];
    let mut case = Case::new(UP, SPLIT, UP);
    case.home = BTreeMap::from([(entry("all"), set(&thirds))]);
    case.state.sets = case.home.clone();
    assert_eq!(case.next(), Ok(None));
    // It had been left in part: a comes home, and what b lacks goes to its neighbour meanwhile.
    case.state.sets.insert(entry("all"), set(&[("b", 0.2), ("c", 0.8)]));
    let wanted = case.judge().wanted[&entry("all")].clone();
    for (name, share) in [("a", 1.0 / 3.0 + (1.0 / 3.0 - 0.2)), ("b", 0.2), ("c", 1.0 / 3.0)] {
        assert!((wanted.share(&region(name)) - share).abs() < 0.005, "{name}: {wanted:?}");
    }
    case.verdicts.insert(region("a"), DOWN);
    let wanted = case.judge().wanted[&entry("all")].clone();
    assert!((wanted.share(&region("b")) - 0.2).abs() < 0.005, "{wanted:?}");
}

#[test]
fn an_evacuation_gives_a_region_in_doubt_nothing_though_it_has_such_users_already() {
    let case = Case::new(UP, SPLIT, DOWN).with_set("c", &[("b", 0.5), ("c", 0.5)]);
    let to = case.planned().changes[&entry("c")].to.clone();
    assert_eq!((to.share(&region("a")), to.share(&region("b"))), (0.5, 0.5));
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

#[test]
fn every_rule_answers_each_time_and_the_first_that_refuses_is_shown() {
    let mut case = Case::new(DOWN, UP, SPLIT).with_set("b", &[("b", 0.5), ("c", 0.5)]);
    case.failover.min_live = 2;
    case.failover.require_operator_below = 3;
    case.turn.read = false;
    let judgement = case.judge();
    assert!(judgement.checks.iter().map(|check| check.rule).eq(Refusal::ALL));
    let refused: Vec<&str> = judgement
        .checks
        .iter()
        .filter(|check| matches!(check.outcome, CheckOutcome::Refused(_)))
        .map(|check| check.rule.as_str())
        .collect();
    assert_eq!(refused, ["min_live", "needs_operator", "unread"]);
    assert_eq!(judgement.refusal(), Some(Refusal::MinLive));
    assert!(judgement.called_for && judgement.plan.is_none());
    let calm = Case::new(UP, UP, UP).judge();
    assert!(calm.checks.iter().all(|check| !matches!(check.outcome, CheckOutcome::Refused(_))));
}

#[test]
fn an_override_lifts_its_rule_and_no_other() {
    let mut case = Case::new(DOWN, UP, SPLIT);
    case.failover.min_live = 2;
    case.failover.require_operator_below = 3;
    let case = case.overriding(Refusal::MinLive);
    assert_eq!(case.next(), Err(Refusal::NeedsOperator));
    let case = case.overriding(Refusal::NeedsOperator);
    assert_eq!(case.planned().reason, Reason::Evacuation);
    assert_eq!(case.outcome(Refusal::MinLive), CheckOutcome::Overridden(Detail::Fewer { has: 1, needs: 2 }));
    let later = Case { now: case.now + Duration::from_secs(60), ..case };
    assert_eq!(later.next(), Err(Refusal::MinLive), "it has an end");
}

#[test]
fn no_override_empties_a_set_or_passes_a_rule_that_is_not_an_operators_to_set_aside() {
    let all_down = Refusal::ALL.into_iter().fold(Case::new(DOWN, DOWN, DOWN), Case::overriding);
    assert_eq!(all_down.next(), Err(Refusal::MinLive), "one receiver there must be");
    let mut unread = Case::new(DOWN, UP, UP).overriding(Refusal::Unread);
    unread.turn.read = false;
    assert_eq!(unread.next(), Err(Refusal::Unread));
    let frozen = Case::new(DOWN, UP, UP).overriding(Refusal::Frozen);
    let mut frozen = frozen;
    frozen.state.operator.freeze = Some(Freeze { said: Said::new("release", "alice") });
    assert_eq!(frozen.next(), Err(Refusal::Frozen));
}

#[test]
fn an_operators_word_stands_in_for_missing_evidence_and_for_nothing_else() {
    let of = |why| Case::new(Verdict::Undecided(why), UP, UP).overriding(Refusal::NoEvidence);
    let plan = of(Undecided::NoEvidence).planned();
    assert_eq!(plan.reason, Reason::Evacuation);
    assert_eq!(plan.changes[&entry("a")].to, WeightedSet::only(region("b")));
    assert_eq!(of(Undecided::NoMajority).next(), Err(Refusal::NoMajority));
    assert_eq!(of(Undecided::Split).next(), Ok(None));
}

#[test]
fn the_last_regions_are_left_to_an_operator() {
    let mut case = Case::new(DOWN, UP, UP);
    for (below, refused) in [(1, false), (2, false), (3, true)] {
        case.failover.require_operator_below = below;
        assert_eq!(case.next().err() == Some(Refusal::NeedsOperator), refused, "below {below}");
    }
    // Users that go home come to more regions than before, few as they are.
    let mut back = Case::new(UP, UP, SPLIT).with_set("a", &[("b", 1.0)]).with_set("c", &[("b", 1.0)]);
    back.failover.require_operator_below = 3;
    assert!(back.next().unwrap().is_some());
}

#[test]
fn ramps_wait_once_the_hour_is_full_and_evacuations_do_not() {
    let mut case = Case::new(UP, UP, UP).with_set("a", &[("b", 1.0)]);
    case.failover.max_changes_per_hour = 2;
    let ago = |minutes: u64| case.now.before(Duration::from_secs(60 * minutes));
    let (old, first, second) = (ago(61), ago(59), ago(30));
    case.changes = vec![old, first];
    assert!(case.next().unwrap().is_some());
    case.changes = vec![old, first, second];
    assert_eq!(case.next(), Err(Refusal::MaxChangesPerHour));
    let until = first + HOUR;
    let detail = Detail::TooMany { has: 2, until };
    assert_eq!(case.outcome(Refusal::MaxChangesPerHour), CheckOutcome::Refused(detail));
    case.verdicts.insert(region("b"), DOWN);
    assert_eq!(case.planned().reason, Reason::Evacuation);
}

#[test]
fn nobody_overrules_a_writer_that_is_content_but_who_sees_a_region_down_evacuates_it() {
    let mut case = Case::new(UP, UP, UP).with_set("a", &[("b", 1.0)]);
    case.turn = Turn { rank: 1, waiting_since: Some(Time::ZERO), ..case.turn };
    assert!(case.next().unwrap().is_some(), "a writer that would and cannot is stood in for");
    case.content = Some(region("a"));
    assert_eq!(case.next(), Err(Refusal::NotWriter));
    let mut case = Case::new(UP, UP, DOWN);
    case.turn = Turn { rank: 1, waiting_since: Some(Time::ZERO), ..case.turn };
    case.content = Some(region("a"));
    assert_eq!(case.next().unwrap().unwrap().reason, Reason::Evacuation);
}
