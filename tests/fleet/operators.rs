//! What operators say, before and after it is in the control record.

use super::fleet::edge::{Edge, home, policy, region, www};
use proxima::domain::fleet::{DnsReport, Input, Output};
use proxima::domain::health::{State, Word};
use proxima::domain::name::{EntryId, RuleName};
use proxima::domain::operator::{ActRefusal, Freeze, OperatorAct, OperatorState, Order, Said};
use proxima::domain::plan::{Fence, Generation, NameState, Refusal};
use proxima::domain::snapshot::{Gate, Place};
use proxima::domain::time::Time;
use proxima::domain::weights::WeightedSet;
use std::collections::BTreeSet;
use std::time::Duration;

fn drain(name: &str) -> Order {
    Order::Drain { region: region(name), expires_at: None }
}

fn act(id: u64, order: Order, force: Option<Time>) -> OperatorAct {
    OperatorAct { id, names: BTreeSet::from([www()]), order, said: Said::new("bad deploy", "alice"), force }
}

/// What the fleet answers.
fn operate(edge: &mut Edge, act: OperatorAct) -> Result<(), ActRefusal> {
    let outputs = edge.fleet.handle(Input::Operator(act), edge.now);
    let answer = outputs.into_iter().find_map(|output| match output {
        Output::Operated { result, .. } => Some(result),
        _ => None,
    });
    edge.second(1, Edge::all_well);
    answer.expect("every act is answered at once")
}

fn read(edge: &mut Edge, generation: u64, operator: OperatorState) {
    let fence = Fence { epoch: "e".into(), generation: Generation::new(generation) };
    let state = NameState { fence, writer: None, changed_at: None, claim: None, operator, sets: home() };
    edge.tell(Input::Dns(DnsReport::Read { name: www(), state: Box::new(state) }));
}

fn own_state(edge: &Edge) -> State {
    edge.snapshot.as_ref().unwrap().services[&super::web()].states[&region("a")]
}

#[test]
fn a_drain_is_in_force_at_once_and_no_reading_of_an_older_record_takes_it_back() {
    let mut edge = Edge::steady(policy());
    edge.records(1, home());
    assert_eq!(operate(&mut edge, act(1, drain("a"), None)), Ok(()));
    assert_eq!(own_state(&edge), State::Draining);
    assert_eq!(edge.candidates()[0], ("b".to_owned(), Place::Peer), "new requests go elsewhere");
    let status = |edge: &Edge| edge.snapshot.as_ref().unwrap().names[&www()].clone();
    assert_eq!(status(&edge).gate, Gate::Closed);
    assert_eq!(status(&edge).unwritten, BTreeSet::from([1]));
    // The API comes back, and what it holds is from before.
    read(&mut edge, 2, OperatorState::default());
    edge.second(1, Edge::all_well);
    assert_eq!(own_state(&edge), State::Draining);
    // Now it is written; a reading that began before shows the generation before.
    let report = DnsReport::Operated { name: www(), id: 1, generation: Generation::new(3) };
    edge.tell(Input::Dns(report));
    read(&mut edge, 2, OperatorState::default());
    edge.second(1, Edge::all_well);
    assert_eq!(own_state(&edge), State::Draining);
    read(&mut edge, 3, OperatorState::draining([region("a")]));
    edge.second(1, Edge::all_well);
    assert_eq!((own_state(&edge), status(&edge).unwritten), (State::Draining, BTreeSet::new()));
    // From here on the record is the word: undrained by another edge.
    read(&mut edge, 4, OperatorState::default());
    edge.second(1, Edge::all_well);
    assert_eq!(own_state(&edge), State::Healthy);
}

#[test]
fn the_last_regions_are_drained_by_force_only_and_the_rule_is_named() {
    let mut edge = Edge::steady(policy());
    edge.records(1, home());
    assert_eq!(operate(&mut edge, act(1, drain("a"), None)), Ok(()));
    assert_eq!(operate(&mut edge, act(2, drain("b"), None)), Ok(()));
    let refused = operate(&mut edge, act(3, drain("c"), None));
    assert_eq!(refused, Err(ActRefusal::TooFewLeft { name: www(), left: 0, wanted: 1 }));
    assert!(refused.unwrap_err().to_string().contains("`min_live`"));
    let until = edge.now + Duration::from_secs(60);
    assert_eq!(operate(&mut edge, act(4, drain("c"), Some(until))), Ok(()));
    let operator = edge.snapshot.as_ref().unwrap().names[&www()].operator.clone();
    assert!(operator.overridden(Refusal::MinLive, edge.now) && operator.drains.len() == 3);
    assert_eq!(edge.plans.iter().filter(|plan| plan.changes.is_empty()).count(), 0);
}

#[test]
fn a_region_that_is_not_up_does_not_count_as_left() {
    let mut edge = Edge::steady(policy());
    edge.records(1, home());
    edge.second(12, |edge| {
        edge.pods(true);
        edge.peer("b", 20, Word::Down, Word::Up);
        edge.silent("c");
    });
    let answer = edge.fleet.handle(Input::Operator(act(1, drain("a"), None)), edge.now);
    let refused = Err(ActRefusal::TooFewLeft { name: www(), left: 0, wanted: 1 });
    assert!(
        answer.iter().any(|o| matches!(o, Output::Operated { result, .. } if *result == refused)),
        "{answer:?}"
    );
}

#[test]
fn a_freeze_stops_proposals_at_once_and_a_thaw_only_when_it_is_written() {
    let mut edge = Edge::steady(policy());
    edge.records(1, home());
    assert_eq!(operate(&mut edge, act(1, Order::Freeze, None)), Ok(()));
    assert_eq!(operate(&mut edge, act(2, drain("c"), None)), Ok(()));
    edge.second(30, Edge::all_well);
    let refusal = |edge: &Edge| edge.snapshot.as_ref().unwrap().names[&www()].refusal;
    assert_eq!((edge.plans.len(), refusal(&edge)), (0, Some("frozen")));
    // Written; then thawed here while the record still says freeze.
    let frozen = || OperatorState {
        freeze: Some(Freeze { said: Said::new("bad deploy", "alice") }),
        ..OperatorState::draining([region("c")])
    };
    for id in [1, 2] {
        let generation = Generation::new(2);
        edge.tell(Input::Dns(DnsReport::Operated { name: www(), id, generation }));
    }
    read(&mut edge, 2, frozen());
    assert_eq!(operate(&mut edge, act(3, Order::Thaw, None)), Ok(()));
    edge.second(30, Edge::all_well);
    assert_eq!((edge.plans.len(), refusal(&edge)), (0, Some("frozen")), "other writers still obey it");
    read(&mut edge, 3, OperatorState { freeze: None, ..frozen() });
    edge.second(30, Edge::all_well);
    assert_eq!(edge.plans.len(), 1);
}

#[test]
fn an_override_sets_a_rule_aside_for_its_time_and_only_rules_that_may_be() {
    let mut edge = Edge::steady(policy());
    let over = |rule: &str, edge: &Edge| Order::Override {
        rule: RuleName::parse(rule).unwrap(),
        expires_at: edge.now + Duration::from_secs(60),
    };
    for rule in ["frozen", "no_majority", "no_such_rule"] {
        let order = over(rule, &edge);
        let refused = Err(ActRefusal::UnknownRule(RuleName::parse(rule).unwrap()));
        assert_eq!(operate(&mut edge, act(1, order, None)), refused, "{rule}");
    }
    let young = |edge: &mut Edge, generation: u64| {
        let fence = Fence { epoch: "e".into(), generation: Generation::new(generation) };
        let operator = OperatorState::draining([region("c")]);
        let changed_at = Some(edge.now);
        let claim = Some(edge.now.since(Time::ZERO));
        let state = NameState { fence, writer: None, changed_at, claim, operator, sets: home() };
        edge.tell(Input::Dns(DnsReport::Read { name: www(), state: Box::new(state) }));
    };
    young(&mut edge, 1);
    edge.second(10, Edge::all_well);
    assert_eq!(edge.plans.len(), 0, "the hold-down holds");
    let order = over("hold_down", &edge);
    assert_eq!(operate(&mut edge, act(2, order, None)), Ok(()));
    edge.second(5, Edge::all_well);
    assert_eq!(edge.plans.len(), 1);
    edge.second(60, Edge::all_well);
    edge.plans.clear();
    young(&mut edge, 2);
    edge.second(10, Edge::all_well);
    assert_eq!(edge.plans.len(), 0, "it has ended");
}

#[test]
fn connections_are_let_go_after_dns_has_led_away_and_not_when_only_this_edge_drains() {
    let mut edge = Edge::steady(policy());
    edge.records(1, home());
    let parting = |edge: &Edge| edge.snapshot.as_ref().unwrap().names[&www()].parting;
    assert_eq!(operate(&mut edge, act(1, drain("a"), None)), Ok(()));
    edge.second(600, Edge::all_well);
    let left = parting(&edge).unwrap();
    assert_eq!((left.moved_since, left.closing), (None, 0.0), "the weights still lead here");
    let mut sets = home();
    sets.insert(EntryId::parse("a").unwrap(), WeightedSet::only(region("b")));
    edge.records_with(2, sets, &["a"]);
    edge.second(170, Edge::all_well);
    assert_eq!(parting(&edge).unwrap().closing, 0.0, "users may not have asked DNS again");
    edge.second(160, Edge::all_well);
    let half = parting(&edge).unwrap().closing;
    assert!((0.4..0.6).contains(&half), "{half}");
    edge.second(170, Edge::all_well);
    assert_eq!(parting(&edge).unwrap().closing, 1.0);
    edge.records(3, home());
    edge.tell(Input::Operator(act(2, Order::Undrain { region: region("a") }, None)));
    edge.second(1, Edge::all_well);
    assert_eq!(parting(&edge), None);
}

#[test]
fn a_drain_is_taken_back_though_its_region_has_left_the_configuration() {
    let mut edge = Edge::steady(policy());
    read(&mut edge, 1, OperatorState::draining([region("gone")]));
    edge.second(1, Edge::all_well);
    let undrain = |name: &str| Order::Undrain { region: region(name) };
    assert_eq!(operate(&mut edge, act(1, undrain("gone"), None)), Ok(()));
    let unknown = ActRefusal::UnknownRegion { name: www(), region: region("never") };
    assert_eq!(operate(&mut edge, act(2, undrain("never"), None)), Err(unknown));
}
