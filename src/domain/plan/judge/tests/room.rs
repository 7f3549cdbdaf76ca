//! What regions can carry.

use super::*;
use crate::domain::weights::ERROR_MAX;

#[test]
fn users_leave_a_drained_region_even_where_nobody_has_room_for_them() {
    let mut case = Case::new(UP, UP, UP).with_room([90.0, 90.0, 90.0], [100.0, 100.0, 100.0]);
    case.state.operator = OperatorState::draining([region("c")]);
    assert!(case.judge().loads.overload_rps > 0.0);
    assert_eq!(case.outcome(Refusal::AboveCapacity), CheckOutcome::NotApplicable);
    assert!(case.planned().changes.contains_key(&entry("c")));
}

#[test]
fn an_overloaded_region_spills_the_excess_of_its_own_users_to_the_next() {
    let case = Case::new(UP, UP, UP).with_room([150.0, 80.0, 10.0], [100.0, 100.0, 100.0]);
    let judgement = case.judge();
    // b has room for 20 of 150; the other 30 go on to c.
    let wanted = &judgement.wanted[&entry("a")];
    for (name, share) in [("a", 100.0 / 150.0), ("b", 20.0 / 150.0), ("c", 30.0 / 150.0)] {
        assert!((wanted.share(&region(name)) - share).abs() < 0.005, "{name}: {wanted:?}");
    }
    assert_eq!(judgement.wanted[&entry("b")], WeightedSet::only(region("b")));
    assert_eq!(judgement.plan.unwrap().reason, Reason::Ramp);
    assert_eq!(judgement.loads.overload_rps, 0.0);
    let a = judgement.loads.regions[&region("a")];
    assert_eq!((a.capacity_rps, a.now_rps), (Some(100.0), 150.0));
    assert!(a.next_rps < 150.0 && (a.wanted_rps - 100.0).abs() <= 0.8, "{a:?}");
    let fits = Case::new(UP, UP, UP).with_room([100.0, 80.0, 10.0], [100.0, 100.0, 100.0]);
    assert_eq!(fits.next(), Ok(None));
}

#[test]
fn what_fits_nowhere_is_spread_by_capacity_and_told() {
    let case = Case::new(DOWN, UP, UP).with_room([200.0, 40.0, 40.0], [100.0, 50.0, 150.0]);
    let judgement = case.judge();
    let to = &judgement.plan.as_ref().unwrap().changes[&entry("a")].to;
    // 10 and 110 fit; of the other 80 a quarter goes to b.
    assert!((to.share(&region("b")) - 30.0 / 200.0).abs() < 0.005, "{to:?}");
    assert_eq!(judgement.loads.overload_rps, 80.0);
    assert_eq!(case.outcome(Refusal::AboveCapacity), CheckOutcome::NotApplicable);
}

#[test]
fn where_single_steps_would_overload_a_region_all_entries_go_the_same_part_of_their_ways() {
    // Every region is full: a's users are with b, b's with a and c, and half of c's with a. A quarter of c's would come
    // home for an eighth of b's that leave.
    let case = Case::new(UP, UP, UP)
        .with_set("a", &[("b", 1.0)])
        .with_set("b", &[("a", 0.5), ("c", 0.5)])
        .with_set("c", &[("a", 0.5), ("c", 0.5)])
        .with_room([100.0, 100.0, 100.0], [100.0, 100.0, 100.0]);
    let judgement = case.judge();
    assert_eq!(case.outcome(Refusal::AboveCapacity), CheckOutcome::Passed);
    let changes = judgement.plan.unwrap().changes;
    for (name, at_home) in [("a", 0.25), ("b", 0.25), ("c", 0.625)] {
        assert_eq!(changes[&entry(name)].to.share(&region(name)), at_home, "{name}: {changes:?}");
    }
    for load in judgement.loads.regions.values() {
        assert!(load.next_rps <= 101.5, "{load:?}");
    }
    // Whoever sets the rule aside has each step at its full length.
    let at_once = case.overriding(Refusal::AboveCapacity).planned();
    assert_eq!(at_once.changes[&entry("c")].to, set(&[("a", 0.25), ("c", 0.75)]));
}

#[test]
fn a_ramp_ends_in_as_many_steps_as_its_longest_way_takes_and_never_above_capacity() {
    let mut seed = 7_u64;
    let mut full = 0;
    for world in 0..2_000 {
        let mut draw = |least: f64, most: f64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            least + (most - least) * (seed >> 33) as f64 / f64::from(1_u32 << 31)
        };
        let demand = [0, 1, 2].map(|_| draw(1.0, 200.0));
        // Of all rooms, some have hardly more than what is needed.
        let capacity = demand.map(|rps| rps * (1.0 + draw(0.0, 0.2).powi(3)));
        let mut case = Case::new(UP, if world % 3 == 0 { SPLIT } else { UP }, UP).with_room(demand, capacity);
        for name in ["a", "b", "c"] {
            let shares = ["a", "b", "c"].map(|to| (to, draw(0.0, 1.0).powi(2)));
            case.state.sets.insert(entry(name), set(&shares));
        }
        case.failover.max_shift = draw(0.02, 0.6);
        let wanted = case.judge().wanted;
        let longest = wanted.iter().map(|(entry, to)| -> f64 {
            let from = &case.state.sets[entry];
            to.each_share().map(|(region, share)| (share - from.share(region)).max(0.0)).sum()
        });
        let steps = (longest.fold(0.0, f64::max) / (case.failover.max_shift - ERROR_MAX)).ceil() as usize + 2;
        for step in 0.. {
            let judgement = case.judge();
            let outcome = case.outcome(Refusal::AboveCapacity);
            assert!(!matches!(outcome, CheckOutcome::Refused(_)), "world {world}: {outcome:?}");
            full += usize::from(judgement.loads.regions.values().any(|l| Some(l.next_rps) >= l.capacity_rps));
            let Some(plan) = judgement.plan else { break };
            assert!(step < steps, "world {world} takes more than {steps} steps: {plan:?}");
            for (entry, change) in plan.changes {
                case.state.sets.insert(entry, change.to);
            }
        }
    }
    assert!(full > 500, "{full} states with a region that is full: the worlds are too easy");
}

#[test]
fn where_there_is_no_room_for_all_no_step_sends_a_region_much_more_than_it_gets_in_the_end() {
    // c is down and its users are spread. Those of a and b have changed places: each step that leads some of them
    // home and no others away would send one region 25/s more.
    let mut case = Case::new(UP, UP, DOWN)
        .with_set("a", &[("b", 1.0)])
        .with_set("b", &[("a", 0.5), ("b", 0.5)])
        .with_set("c", &[("a", 1.0)])
        .with_room([100.0, 100.0, 100.0], [100.0, 100.0, 100.0]);
    case.failover.max_shift = 0.25;
    let judgement = case.judge();
    assert!(judgement.plan.is_some(), "it goes on all the same");
    for name in ["a", "b"] {
        let load = judgement.loads.regions[&region(name)];
        assert!((load.wanted_rps - 150.0).abs() < 2.0, "{name}: {load:?}");
        assert!(load.next_rps < 155.0, "{name}: {load:?}");
    }
}
