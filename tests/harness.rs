//! Many `Fleet`s in one virtual world, against seeded faults: what must hold
//! holds after every step, the same seed gives the same run, and planted bugs are found.
//!
//! - `PROXIMA_SEEDS=n` runs that many in place of 2,000, from `PROXIMA_FIRST_SEED` on.
//! - `proxima simulate --seed n --log` runs one and prints what happened.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness {
    pub mod planted;
}

use harness::planted::{
    BlindStore, ConflictsRetried, EjectedFirst, EvacuatesIntoDead, ExpiryForgotten, GatesLatch,
    GuestsLeaveUnconfirmed, GuestsMoveOn, NeverWrites, NoHoldDown, NoHourlyLimit, NoMinLive,
    PassiveOutcomesVote, RampsJump, RoomForgotten, SetsLoseTheLiving, StaleViewsLookFresh,
    UnreachedEvacuated, Unseen, WitnessStuckRed,
};
use proxima::simulate::{
    Cell, Coverage, Failure, Fault, Honest, Rule, Scenario, Seams, Swept, Violation, Writes, aimed_seed,
    play, shortest, shrink, sweep,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

fn swept(seeds: Range<u64>, seams: &dyn Seams, counts: impl Fn(&Violation) -> bool + Sync) -> Swept {
    sweep(seeds, &Scenario::generate, seams, &counts, &|| ()).unwrap()
}

fn generated(seed: u64) -> Scenario {
    Scenario::generate(seed).unwrap()
}

fn told(Failure { scenario, violation }: &Failure, seams: &dyn Seams) -> String {
    let again = format!("proxima simulate --seed {} --log", scenario.seed);
    shortest(scenario, violation, seams, &again)
}

#[test]
fn every_invariant_holds_over_two_thousand_seeds() {
    let (first, count) = (number("PROXIMA_FIRST_SEED", 0), number("PROXIMA_SEEDS", 2_000));
    let Swept { seen, failure, .. } = swept(first..first + count, &Honest, |_| true);
    println!("{count} seeds saw {seen:#?}");
    if let Some(failure) = failure {
        panic!("{}", told(&failure, &Honest));
    }
    // A sweep in which nothing happens proves nothing.
    let idle = |what: &&&str| seen.get(**what).is_none_or(|times| *times < 20);
    let missing: Vec<_> = EVENTS.iter().filter(idle).collect();
    assert!(count < 2_000 || missing.is_empty(), "hardly any {missing:?} in {seen:?}");
}

/// What every sweep must have seen.
const EVENTS: [&str; 24] = [
    "evacuations",
    "ramps",
    "conflicts",
    "unanswered batches",
    "lost answers",
    "late writes",
    "expired plans",
    "throttled calls",
    "hand edits",
    "isolated",
    "restarts",
    "panics",
    "gates closed",
    "hold_down",
    "min_live",
    "no_majority",
    "no_evidence",
    "disagreement",
    "not_writer",
    "undoes_other",
    "frozen",
    "foreign",
    "just_woke",
    "unread",
];

#[test]
fn every_world_has_three_regions_or_more_ten_minutes_and_faults_that_overlap() {
    let mut kinds = [false; Fault::KINDS.len()];
    for seed in 0..1_000 {
        let scenario = generated(seed);
        assert!((3..=6).contains(&scenario.cast.regions.len()), "seed {seed}");
        assert!(scenario.length >= Duration::from_secs(600), "seed {seed}");
        let steps = &scenario.steps;
        let overlap = steps.iter().enumerate().any(|(i, a)| {
            let within = |b: &proxima::simulate::Step| b.at >= a.at && b.at < a.at + a.lasts;
            steps.iter().enumerate().any(|(j, b)| i != j && within(b))
        });
        assert!(overlap, "seed {seed}: {scenario}");
        steps.iter().for_each(|step| kinds[step.fault.kind()] = true);
    }
    let never: Vec<_> = Fault::KINDS.iter().zip(kinds).filter(|(_, drawn)| !drawn).collect();
    assert!(never.is_empty(), "{never:?}");
}

#[test]
fn the_same_seed_gives_the_same_log() {
    for seed in 0..6 {
        let scenario = generated(seed);
        let writes = Writes { log: true, ..Writes::default() };
        let logs = [(); 2].map(|()| play(&scenario, &Honest, writes).log);
        assert!(!logs[0].is_empty() && logs[0] == logs[1], "seed {seed}");
    }
}

/// What random worlds hardly meet is met by aiming at it: every transition with every refusal, within a
/// few worlds, each under another fault.
#[test]
fn worlds_aimed_at_a_transition_and_a_refusal_meet_them() {
    const WORLDS: usize = 12;
    // Seven rounds of each: every one may meet what it is aimed at.
    const PLAYED: Duration = Duration::from_secs(180);
    let mut pairs: BTreeMap<_, Vec<Cell>> = BTreeMap::new();
    for gap in Coverage::default().gaps(1).0 {
        pairs.entry((gap.cell.transition(), gap.cell.refusal())).or_default().push(gap.cell);
    }
    let mut met = Coverage::default();
    for nth in 0..WORLDS {
        let aim = |(place, cells): (usize, &Vec<Cell>)| cells[(place + nth) % cells.len()];
        let cells: Vec<Cell> = pairs.values().enumerate().map(aim).collect();
        let make = |nth: u64| {
            let mut scenario = Scenario::generate(aimed_seed(cells[nth as usize], 0))?;
            scenario.steps.retain(|step| step.at < PLAYED);
            scenario.length = PLAYED;
            Ok(scenario)
        };
        let swept = sweep(0..cells.len() as u64, &make, &Honest, &|_| true, &|| ()).unwrap();
        if let Some(failure) = swept.failure {
            panic!("{}", told(&failure, &Honest));
        }
        met.add(&swept.coverage);
        let hits = met.pairs();
        pairs.retain(|pair, _| hits.get(pair).is_none_or(|hits| *hits == 0));
    }
    assert!(pairs.is_empty(), "not met in {WORLDS} worlds each: {:?}", pairs.keys());
    assert_eq!(met.contradictions(), []);
}

/// The bug is found within so many seeds, by the rule, and is the bug's doing.
fn found(seams: &dyn Seams, rule: Rule) {
    const SEEDS: u64 = 1_000;
    let Swept { failure, .. } = swept(0..SEEDS, seams, |v| v.rule == rule);
    let failure = failure.unwrap_or_else(|| panic!("not found in {SEEDS} seeds"));
    println!("seed {}: {}", failure.scenario.seed, failure.violation);
    let honest = play(&failure.scenario, &Honest, Writes::default()).violation;
    assert_eq!(honest, None, "not the bug's doing");
}

macro_rules! planted {
    ($($name:ident: $bug:expr => $rule:ident;)*) => {
        $(
            #[test]
            fn $name() {
                found(&$bug, Rule::$rule);
            }
        )*
    };
}

planted! {
    finds_a_store_that_does_not_compare_before_it_swaps: BlindStore => Fence;
    finds_a_dns_side_that_keeps_conflicts_to_itself: ConflictsRetried => Resubmitted;
    finds_a_dns_side_that_forgets_when_plans_expire: ExpiryForgotten => Expired;
    finds_old_views_that_look_new: StaleViewsLookFresh => CutOffWriter;
    finds_a_fleet_without_hold_down: NoHoldDown => HoldDown;
    finds_a_fleet_without_min_live: NoMinLive => MinLive;
    finds_a_fleet_that_has_forgotten_how_many_changes_an_hour_may_see: NoHourlyLimit => MaxChanges;
    finds_a_witness_that_is_stuck_at_red: WitnessStuckRed => AwayFromWell;
    finds_an_edge_whose_failed_requests_vote: PassiveOutcomesVote => AwayFromWell;
    finds_a_ramp_that_jumps: RampsJump => MaxShift;
    finds_an_evacuation_into_a_dead_region: EvacuatesIntoDead => IntoDead;
    finds_an_evacuation_into_a_full_region: RoomForgotten => Capacity;
    finds_an_evacuation_that_a_minority_asked_for: UnreachedEvacuated => Minority;
    finds_guests_that_leave_a_region_which_is_not_confirmed_down:
        GuestsLeaveUnconfirmed => AwayFromUnconfirmed;
    finds_guests_that_are_moved_on_from_a_region_that_is_well: GuestsMoveOn => AwayFromWell;
    finds_a_set_that_loses_its_last_living_region: SetsLoseTheLiving => EmptySet;
    finds_a_fleet_that_never_writes: NeverWrites => NotEvacuated;
    finds_an_ejected_region_above_a_healthy_one: EjectedFirst => Ranked;
    finds_a_gate_that_latches: GatesLatch(std::sync::Mutex::default()) => GateLatched;
}

/// A bug in an invariant: the rule that should tell is blind. What found the bug does not any more,
/// which is how a checker that has gone blind is noticed.
#[test]
fn a_blind_invariant_is_noticed() {
    let Swept { failure, .. } = swept(0..1_000, &RampsJump, |v| v.rule == Rule::MaxShift);
    let seen = failure.expect("found when nobody is blind").scenario;
    let blind = Unseen { bug: RampsJump, blind: Rule::MaxShift };
    assert_eq!(play(&seen, &blind, Writes::default()).violation, None);
}

#[test]
fn a_failure_is_cut_down_to_fewer_faults_that_fail_by_the_same_rule() {
    let Swept { failure, .. } = swept(0..1_000, &NeverWrites, |v| v.rule == Rule::NotEvacuated);
    let Failure { scenario, violation } = failure.unwrap();
    let shrunk = shrink(&scenario, &violation, &NeverWrites);
    assert_eq!(shrunk.violation.rule, violation.rule);
    assert!(shrunk.scenario.steps.len() < scenario.steps.len(), "{}", shrunk.scenario);
}
