//! What plans count with.

use super::edge::{Edge, home, policy, region, www};
use proxima::domain::health::Word;
use proxima::domain::name::EntryId;
use proxima::domain::weights::WeightedSet;
use std::collections::BTreeMap;

/// A second in which clients send so much to `a`, `b` and `c`.
fn entering(edge: &mut Edge, [a, b, c]: [f64; 3]) {
    edge.load(a, a, BTreeMap::new());
    edge.pods(true);
    for (name, rps) in [("b", b), ("c", c)] {
        edge.entered = rps;
        edge.peer(name, 20, Word::Up, Word::Up);
    }
}

/// Region `a`'s edge after a minute at home.
fn at_home() -> Edge {
    let mut edge = Edge::steady(policy());
    edge.second(60, |edge| {
        edge.records(7, home());
        entering(edge, [90.0, 90.0, 90.0]);
    });
    assert!(counts_ninety(&edge));
    edge
}

/// Plans count with what is at most a twentieth off.
fn counts_ninety(edge: &Edge) -> bool {
    let demand = &edge.snapshot.as_ref().unwrap().names[&www()].loads.demand;
    (85.0..=95.0).contains(&demand[&EntryId::parse("a").unwrap()])
}

#[test]
fn an_edge_that_cannot_read_the_records_does_not_learn_demand_by_old_ones() {
    let mut edge = at_home();
    // Users of `a` are led to the others, and it is not told for four minutes.
    edge.second(45, |edge| entering(edge, [90.0, 90.0, 90.0]));
    edge.second(240, |edge| entering(edge, [0.0, 135.0, 135.0]));
    let away = BTreeMap::from([(region("b"), 0.5), (region("c"), 0.5)]);
    let sets = home().into_iter().map(|(entry, set)| match entry.as_str() {
        "a" => (entry, WeightedSet::from_shares(&away).unwrap()),
        _ => (entry, set),
    });
    edge.records(8, sets.collect());
    entering(&mut edge, [0.0, 135.0, 135.0]);
    assert!(counts_ninety(&edge), "they have not gone to sleep");
}

#[test]
fn users_whom_a_drain_leads_away_before_the_records_do_are_not_taken_for_others() {
    let mut edge = at_home();
    let gate_of_b_is_closed = [180.0, 0.0, 90.0];
    edge.second(200, |edge| {
        edge.records_with(8, home(), &["b"]);
        entering(edge, gate_of_b_is_closed);
    });
    assert!(counts_ninety(&edge), "while it is drained");
    edge.second(60, |edge| {
        edge.records(9, home());
        entering(edge, gate_of_b_is_closed);
    });
    assert!(counts_ninety(&edge), "until they are back");
}
