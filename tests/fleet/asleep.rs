//! A process that did not run for a while: what it knows is as old as the pause.

use super::edge::{Edge, home, policy, region, www};
use proxima::domain::fleet::Input;
use proxima::domain::health::Word;
use proxima::domain::snapshot::Gate;
use std::time::Duration;

#[test]
fn an_edge_that_did_not_run_for_a_while_looks_again_before_it_plans() {
    let mut edge = Edge::steady(policy());
    edge.records(1, home());
    let of_c = |edge: &mut Edge, word: Word| {
        let votes = [("a", Word::Up), ("b", Word::Up), ("c", word)];
        edge.pods(true);
        edge.peer_votes("b", 20, Word::Up, &votes);
        edge.peer_votes("c", 80, word, &votes);
    };
    // Its process is stopped; meanwhile c fails and comes back, but the oldest news comes first.
    edge.now = edge.now + Duration::from_secs(60);
    of_c(&mut edge, Word::Down);
    of_c(&mut edge, Word::Down);
    edge.second(1, |_| {});
    assert_eq!(edge.snapshot.as_ref().unwrap().names[&www()].refusal, Some("just_woke"));
    edge.second(10, |edge| of_c(edge, Word::Up));
    assert_eq!(edge.plans, []);
}

#[test]
fn an_edge_that_was_stopped_speaks_against_nobody_by_what_it_saw_before() {
    let mut edge = Edge::steady(policy());
    let vote = |edge: &Edge, of: &str| edge.view.as_ref().unwrap().votes[&www()][&region(of)];
    edge.second(10, |edge| {
        edge.pods(false);
        edge.peer("b", 20, Word::Down, Word::Down);
        edge.peer("c", 80, Word::Up, Word::Up);
    });
    assert_eq!((vote(&edge, "a"), vote(&edge, "b")), (Word::Down, Word::Down));
    assert_eq!(edge.snapshot.as_ref().unwrap().gate(None, Duration::ZERO), Gate::Open, "not for long enough");
    // While its process is stopped all of that may be over. Its peers would take an old word for new evidence.
    edge.now = edge.now + Duration::from_secs(600);
    edge.tell(Input::Tick);
    assert_eq!((vote(&edge, "a"), vote(&edge, "b")), (Word::Unknown, Word::Unknown));
    assert_eq!(edge.snapshot.as_ref().unwrap().gate(None, Duration::ZERO), Gate::Open);
    edge.second(10, |edge| {
        edge.pods(false);
        edge.peer("b", 20, Word::Up, Word::Down);
        edge.peer("c", 80, Word::Up, Word::Up);
    });
    assert_eq!((vote(&edge, "a"), vote(&edge, "b")), (Word::Down, Word::Up), "it has looked again");
}
