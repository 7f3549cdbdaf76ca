//! Many `Fleet`s in one virtual world, against seeded faults: what must hold
//! holds after every step, the same seed gives the same run, and planted bugs are found.
//!
//! - `PROXIMA_SEED=n` runs one seed and prints what happened (test `one_seed`).
//! - `PROXIMA_SEEDS=n` runs that many in place of 2,000, from `PROXIMA_FIRST_SEED` on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness {
    pub mod cast;
    pub mod edge;
    pub mod event;
    pub mod fabric;
    pub mod faults;
    pub mod invariants;
    pub mod noise;
    pub mod planted;
    pub mod provider;
    pub mod runner;
    pub mod shrink;
    pub mod store;
    pub mod world;
}

use harness::faults::Scenario;
use harness::invariants::{Rule, Violation};
use harness::planted::{
    BlindStore, ConflictsRetried, EvacuatesIntoDead, GuestsLeaveUnconfirmed, GuestsMoveOn, Honest,
    NeverWrites, NoHoldDown, NoMinLive, PassiveOutcomesVote, RampsJump, Seams, SetsLoseTheLiving,
    StaleViewsLookFresh, WitnessStuckRed,
};
use harness::runner::{Logging, play};
use harness::shrink::{report, shrink};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// Plays seeds from `first` on, on every core; what was seen, and the first failure that counts, by seed.
fn sweep(
    first: u64,
    count: u64,
    seams: &dyn Seams,
    counts: impl Fn(&Violation) -> bool + Sync,
) -> (BTreeMap<&'static str, u64>, Option<(Scenario, Violation)>) {
    let next = AtomicU64::new(first);
    let failed = AtomicU64::new(u64::MAX);
    let worker = || {
        let mut seen: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut worst: Option<(Scenario, Violation)> = None;
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            // Later seeds than a failed one need not be played; earlier ones are.
            if seed >= first + count || seed > failed.load(Ordering::Relaxed) {
                return (seen, worst);
            }
            let scenario = Scenario::generate(seed);
            let finished = play(&scenario, seams, Logging::Off);
            for (what, times) in finished.seen {
                *seen.entry(what).or_insert(0) += times;
            }
            if let Some(violation) = finished.violation.filter(&counts) {
                failed.fetch_min(seed, Ordering::Relaxed);
                worst.get_or_insert((scenario, violation));
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut seen: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut worst: Option<(Scenario, Violation)> = None;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        for handle in workers {
            let (theirs, failure) = handle.join().unwrap();
            for (what, times) in theirs {
                *seen.entry(what).or_insert(0) += times;
            }
            worst = [worst.take(), failure].into_iter().flatten().min_by_key(|(s, _)| s.seed);
        }
    });
    (seen, worst)
}

#[test]
fn every_invariant_holds_over_two_thousand_seeds() {
    let count = number("PROXIMA_SEEDS", 2_000);
    let (seen, failure) = sweep(number("PROXIMA_FIRST_SEED", 0), count, &Honest, |_| true);
    println!("{count} seeds saw {seen:#?}");
    if let Some((scenario, violation)) = failure {
        panic!("{}", report(&scenario, &violation, &Honest));
    }
    // A sweep in which nothing happens proves nothing.
    let idle = |what: &&&str| seen.get(**what).is_none_or(|times| *times < 5);
    let missing: Vec<_> = EVENTS.iter().filter(idle).collect();
    assert!(count < 2_000 || missing.is_empty(), "hardly any {missing:?} in {seen:?}");
}

/// What every sweep must have seen.
const EVENTS: [&str; 17] = [
    "evacuations",
    "ramps",
    "conflicts",
    "unanswered batches",
    "lost answers",
    "late writes",
    "expired plans",
    "isolated",
    "restarts",
    "panics",
    "gates closed",
    "hold_down",
    "min_live",
    "no_majority",
    "not_writer",
    "undoes_other",
    "frozen",
];

#[test]
fn one_seed() {
    let Ok(seed) = std::env::var("PROXIMA_SEED") else { return };
    let scenario = Scenario::generate(seed.parse().expect("PROXIMA_SEED is a number"));
    println!("{scenario}");
    let finished = play(&scenario, &Honest, Logging::On);
    match finished.violation {
        Some(violation) => panic!("{}", report(&scenario, &violation, &Honest)),
        None => println!("{}seed {seed} holds, and saw {:?}", finished.log, finished.seen),
    }
}

#[test]
fn the_same_seed_gives_the_same_log() {
    for seed in 0..20 {
        let scenario = Scenario::generate(seed);
        let logs = [(); 2].map(|()| play(&scenario, &Honest, Logging::On).log);
        assert!(!logs[0].is_empty() && logs[0] == logs[1], "seed {seed}");
    }
}

/// The bug is found within so many seeds, by the rule, and the plan is cut down.
fn found(seams: &dyn Seams, rule: Rule, seeds: u64) {
    let (_, failure) = sweep(0, seeds, seams, |v| v.rule == rule);
    let (scenario, violation) = failure.unwrap_or_else(|| panic!("not found in {seeds} seeds"));
    println!("{}", report(&scenario, &violation, seams));
    let shrunk = shrink(&scenario, &violation, seams);
    assert_eq!(shrunk.violation.rule, violation.rule);
    assert!(shrunk.scenario.steps.len() <= scenario.steps.len());
    assert!(play(&shrunk.scenario, &Honest, Logging::Off).violation.is_none(), "not the bug's doing");
}

#[test]
fn finds_a_store_that_does_not_compare_before_it_swaps() {
    found(&BlindStore, Rule::Fence, 500);
}

#[test]
fn finds_a_dns_side_that_keeps_conflicts_to_itself() {
    found(&ConflictsRetried, Rule::Resubmitted, 500);
}

#[test]
fn finds_old_views_that_look_new() {
    found(&StaleViewsLookFresh, Rule::CutOffWriter, 500);
}

#[test]
fn finds_a_fleet_without_hold_down() {
    found(&NoHoldDown, Rule::HoldDown, 500);
}

#[test]
fn finds_a_fleet_without_min_live() {
    found(&NoMinLive, Rule::MinLive, 500);
}

#[test]
fn finds_a_witness_that_is_stuck_at_red() {
    found(&WitnessStuckRed, Rule::AwayFromWell, 500);
}

#[test]
fn finds_an_edge_whose_failed_requests_vote() {
    found(&PassiveOutcomesVote, Rule::AwayFromWell, 500);
}

#[test]
fn finds_a_ramp_that_jumps() {
    found(&RampsJump, Rule::MaxShift, 500);
}

#[test]
fn finds_an_evacuation_into_a_dead_region() {
    found(&EvacuatesIntoDead, Rule::IntoDead, 500);
}

#[test]
fn finds_guests_that_leave_a_region_which_is_not_confirmed_down() {
    found(&GuestsLeaveUnconfirmed, Rule::AwayFromUnconfirmed, 500);
}

#[test]
fn finds_guests_that_are_moved_on_from_a_region_that_is_well() {
    found(&GuestsMoveOn, Rule::AwayFromWell, 500);
}

#[test]
fn finds_a_set_that_loses_its_last_living_region() {
    found(&SetsLoseTheLiving, Rule::EmptySet, 500);
}

#[test]
fn finds_a_fleet_that_never_writes() {
    found(&NeverWrites, Rule::NotEvacuated, 500);
}
