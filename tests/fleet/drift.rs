//! Records that something else has changed: nothing is planned for their name until they are repaired.

use super::edge::{Edge, home, policy, region, www};
use proxima::domain::drift::Drift;
use proxima::domain::fleet::{DnsReport, Input};
use proxima::domain::health::Word;
use proxima::domain::votes::Witness;

#[test]
fn foreign_records_hold_back_an_evacuation_until_they_are_repaired_and_are_shown() {
    let mut edge = Edge::steady(policy());
    edge.records(1, home());
    let foreign = Drift {
        record: "b.www.example.com A [b]".to_owned(),
        expected: "values 203.0.113.20".to_owned(),
        found: "values 203.0.113.7".to_owned(),
    };
    edge.tell(Input::Dns(DnsReport::Drifted { name: www(), records: vec![foreign.clone()] }));
    let dead_c = |edge: &mut Edge| {
        edge.pods(true);
        edge.silent("c");
        edge.peer_votes("b", 20, Word::Up, &[("a", Word::Up), ("b", Word::Up), ("c", Word::Down)]);
    };
    edge.tell(Input::Dns(DnsReport::Witness { region: region("c"), witness: Witness::Red }));
    edge.second(12, dead_c);
    assert_eq!(edge.plans, []);
    let status = edge.snapshot.as_ref().unwrap().names[&www()].clone();
    assert_eq!((status.refusal, status.drift), (Some("foreign"), vec![foreign]));
    edge.records(1, home());
    edge.second(1, dead_c);
    assert!(edge.plans.pop().is_some(), "a good reading ends it");
    assert!(edge.snapshot.as_ref().unwrap().names[&www()].drift.is_empty());
}
