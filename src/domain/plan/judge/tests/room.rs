//! What regions can carry.

use super::*;

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
fn a_step_that_overloads_a_region_on_the_way_waits_for_those_that_make_room() {
    // a is full: half of its users, and guests from c. A quarter of a's would come home for an eighth that leaves.
    let case = Case::new(UP, UP, UP)
        .with_set("a", &[("a", 0.5), ("b", 0.5)])
        .with_set("c", &[("a", 1.0)])
        .with_room([100.0, 10.0, 50.0], [100.0, 100.0, 100.0]);
    let judgement = case.judge();
    assert!(judgement.plan.unwrap().changes.keys().eq([&entry("c")]));
    assert_eq!(judgement.loads.regions[&region("a")].next_rps, 87.5);
    // Whoever sets the rule aside has all of it at once.
    let at_once = case.overriding(Refusal::AboveCapacity).planned();
    assert!(at_once.changes.keys().eq([&entry("a"), &entry("c")]), "{at_once:?}");
    // With nobody to make room, but a little left, the step is smaller.
    let small = Case::new(UP, UP, UP)
        .with_set("a", &[("a", 0.5), ("b", 0.5)])
        .with_set("c", &[("a", 0.5), ("c", 0.5)])
        .with_room([100.0, 10.0, 80.0], [104.0, 110.0, 46.0]);
    let judgement = small.judge();
    assert!(judgement.plan.is_some(), "{judgement:?}");
    for (region, load) in &judgement.loads.regions {
        assert!(load.next_rps <= load.capacity_rps.unwrap() + 1.0, "{region}: {judgement:?}");
    }
}

#[test]
fn a_step_that_cannot_but_overload_a_region_is_refused_by_name() {
    // Every region is full to the brim, and guests of a and c would have to change places.
    let case = Case::new(UP, SPLIT, UP)
        .with_set("a", &[("a", 0.5), ("c", 0.5)])
        .with_set("c", &[("a", 0.8), ("c", 0.2)])
        .with_room([100.0, 0.0, 40.0], [82.1, 100.0, 58.1]);
    assert_eq!(case.next(), Err(Refusal::AboveCapacity));
    let CheckOutcome::Refused(Detail::Above { region: full, load_rps, .. }) =
        case.outcome(Refusal::AboveCapacity)
    else {
        panic!("{:?}", case.judge());
    };
    assert_eq!((full, load_rps), (region("a"), 97.0));
    assert!(case.overriding(Refusal::AboveCapacity).next().unwrap().is_some());
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
