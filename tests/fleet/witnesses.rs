//! Evidence from Route 53's checkers, read by whichever edge.

use super::edge::{Edge, home, policy, region};
use proxima::domain::fleet::{DnsReport, Input};
use proxima::domain::health::Word;
use proxima::domain::view::WitnessView;
use proxima::domain::votes::Witness;

/// `b` sees `c` down, too, and says what it has read of it.
fn silent_c(edge: &mut Edge) {
    edge.pods(true);
    edge.peer_votes("b", 20, Word::Up, &[("a", Word::Up), ("b", Word::Up), ("c", Word::Down)]);
    edge.silent("c");
}

fn reads(edge: &mut Edge, witness: Witness, age_ms: u32) {
    edge.readings = [(region("c"), WitnessView { witness, age_ms })].into();
}

fn edge() -> Edge {
    let mut edge = Edge::steady(policy());
    edge.records(1, home());
    edge.second(12, silent_c);
    assert_eq!(edge.plans, [], "no evidence yet");
    edge
}

#[test]
fn what_another_edge_has_read_is_evidence_at_once() {
    let mut edge = edge();
    reads(&mut edge, Witness::Red, 900);
    edge.second(1, silent_c);
    assert_eq!(edge.plans.len(), 1);
}

#[test]
fn an_old_reading_is_none() {
    let mut edge = edge();
    reads(&mut edge, Witness::Red, 61_000);
    edge.second(3, silent_c);
    assert_eq!(edge.plans, []);
}

#[test]
fn the_newest_reading_counts_whoever_made_it() {
    let mut edge = edge();
    edge.tell(Input::Dns(DnsReport::Witness { region: region("c"), witness: Witness::Green }));
    edge.second(5, silent_c);
    reads(&mut edge, Witness::Red, 20_000);
    edge.second(1, silent_c);
    assert_eq!(edge.plans, [], "the own one is newer");
    reads(&mut edge, Witness::Red, 0);
    edge.second(1, silent_c);
    assert_eq!(edge.plans.len(), 1);
}

#[test]
fn an_edge_that_cannot_read_says_nothing_and_takes_the_word_of_others() {
    let mut edge = edge();
    edge.tell(Input::Dns(DnsReport::Witness { region: region("c"), witness: Witness::Unknown }));
    reads(&mut edge, Witness::Red, 5_000);
    edge.second(1, silent_c);
    assert_eq!(edge.plans.len(), 1);
    let view = edge.view.unwrap();
    assert!(view.witnesses.is_empty(), "{:?}", view.witnesses);
}

#[test]
fn only_own_readings_are_said_on_with_their_age() {
    let mut edge = edge();
    reads(&mut edge, Witness::Red, 5_000);
    edge.tell(Input::Dns(DnsReport::Witness { region: region("b"), witness: Witness::Green }));
    edge.second(3, silent_c);
    let view = edge.view.unwrap();
    let said: Vec<_> = view.witnesses.iter().map(|(r, said)| (r.as_str(), said.witness)).collect();
    assert_eq!(said, [("b", Witness::Green)]);
    assert!((2_900..=3_100).contains(&view.witnesses[&region("b")].age_ms), "{:?}", view.witnesses);
}
