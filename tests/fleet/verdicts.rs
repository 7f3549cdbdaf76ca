//! The verdict table of docs/failover.md, row by row: what one edge of three concludes and does.

use super::edge::{Edge, home, pod, policy, region, web, www};
use Word::{Down, Up};
use proxima::domain::fleet::{DnsReport, EndpointAnswer, Input, Probe, ProbeFailure, Target};
use proxima::domain::health::{State, Word};
use proxima::domain::name::{EntryId, ServiceId};
use proxima::domain::operator::OperatorState;
use proxima::domain::plan::{CheckOutcome, Fence, Generation, NameState, Refusal};
use proxima::domain::snapshot::Gate;
use proxima::domain::time::Time;
use proxima::domain::view::View;
use proxima::domain::votes::{Undecided, Verdict, Witness};
use proxima::domain::weights::WeightedSet;
use std::time::Duration;

const UP: Verdict = Verdict::Up;

fn undecided(why: Undecided) -> Verdict {
    Verdict::Undecided(why)
}

/// What happens each second, as edge `a` is told.
type Second = fn(&mut Edge);

/// A row of the table: the situation, what the checkers say of `c`, the verdict on `c`, whether users are
/// moved, and the rule that is shown.
type Row = (&'static str, Second, Witness, Verdict, bool, Option<&'static str>);

fn c_is_silent(edge: &mut Edge) {
    edge.pods(true);
    edge.silent("c");
    edge.peer_votes("b", 20, Up, &[("a", Up), ("b", Up), ("c", Down)]);
}

fn only_a_misses_c(edge: &mut Edge) {
    edge.pods(true);
    edge.silent("c");
    edge.peer("b", 20, Up, Up);
}

fn c_misses_everyone(edge: &mut Edge) {
    edge.pods(true);
    edge.peer("b", 20, Up, Up);
    edge.peer_votes("c", 80, Up, &[("a", Down), ("b", Down), ("c", Up)]);
}

fn c_says_that_it_is_down(edge: &mut Edge) {
    let votes = [("a", Up), ("b", Up), ("c", Down)];
    edge.pods(true);
    edge.peer_votes("b", 20, Up, &votes);
    edge.peer_votes("c", 80, Down, &votes);
}

fn a_hears_nobody(edge: &mut Edge) {
    edge.pods(true);
    edge.silent("b");
    edge.silent("c");
}

/// b answers, but nobody decides there any more: its view is the same for ever. c is silent.
fn b_repeats_itself(edge: &mut Edge) {
    edge.pods(true);
    edge.silent("c");
    edge.sequence = 1_000;
    edge.peer_votes("b", 20, Up, &[("a", Up), ("b", Up), ("c", Down)]);
}

#[test]
fn each_row_of_the_table_has_its_outcome() {
    use Undecided::{NoEvidence, NoMajority, Split};
    use Witness::{Green, Red, Unknown};
    let rows: &[Row] = &[
        ("all well", Edge::all_well, Unknown, UP, false, None),
        ("all well, red", Edge::all_well, Red, undecided(Split), false, None),
        ("silent to all, unknown", c_is_silent, Unknown, undecided(NoEvidence), false, Some("no_evidence")),
        ("silent to all, green", c_is_silent, Green, Verdict::Isolated, false, None),
        ("silent to all, red", c_is_silent, Red, Verdict::Down, true, None),
        ("its own word", c_says_that_it_is_down, Unknown, Verdict::Down, true, None),
        ("its own word against green", c_says_that_it_is_down, Green, Verdict::Down, true, None),
        ("one edge alone misses it", only_a_misses_c, Unknown, undecided(Split), false, None),
        ("one edge alone misses it, red", only_a_misses_c, Red, undecided(Split), false, None),
        ("it misses everyone", c_misses_everyone, Unknown, UP, false, None),
        ("cut off, red", a_hears_nobody, Red, undecided(NoMajority), false, Some("no_majority")),
        ("stale view, red", b_repeats_itself, Red, undecided(NoMajority), false, Some("no_majority")),
    ];
    for (row, second, witness, verdict, moved, refusal) in rows {
        let mut edge = Edge::steady(policy());
        edge.records(1, home());
        edge.tell(Input::Dns(DnsReport::Witness { region: region("c"), witness: *witness }));
        edge.second(20, second);
        let status = edge.snapshot.as_ref().unwrap().names[&www()].clone();
        assert_eq!(status.verdicts[&region("c")], *verdict, "{row}");
        assert_eq!(!edge.plans.is_empty(), *moved, "{row}: {:?}", edge.plans);
        if !moved {
            assert_eq!(status.refusal, *refusal, "{row}");
        }
        assert!(status.checks.iter().map(|check| check.rule).eq(Refusal::ALL), "{row}: every rule is shown");
    }
}

#[test]
fn a_newer_edge_whose_views_say_more_votes_like_any_other() {
    let mut edge = Edge::steady(policy());
    let view = View::clone(edge.view.as_ref().unwrap());
    let mut json = serde_json::to_value(&view).unwrap();
    json["mood"] = serde_json::json!({ "of": ["tomorrow"] });
    assert_eq!(serde_json::from_value::<View>(json).unwrap(), view);
    // The policy that it decides by is what counts: another one stops every move, until all have it.
    edge.records(1, home());
    edge.policy.failover.max_changes_per_hour += 1;
    edge.second(20, c_says_that_it_is_down);
    assert_eq!(edge.plans, []);
    assert_eq!(edge.snapshot.as_ref().unwrap().names[&www()].refusal, Some("disagreement"));
    edge.policy = policy();
    edge.second(5, c_says_that_it_is_down);
    assert_eq!(edge.plans.len(), 1);
}

/// The records as after an evacuation of entry a to b, changed at a moment that their writer claims.
fn evacuated(edge: &Edge, ahead: Duration) -> NameState {
    let mut sets = home();
    sets.insert(EntryId::parse("a").unwrap(), WeightedSet::only(region("b")));
    NameState {
        fence: Fence { epoch: "e".into(), generation: Generation::new(2) },
        writer: Some(region("b")),
        changed_at: Some(edge.now + ahead),
        claim: Some((edge.now + ahead).since(Time::ZERO)),
        operator: OperatorState::default(),
        sets,
    }
}

#[test]
fn a_writer_whose_clock_is_a_year_ahead_freezes_no_name() {
    let mut short = policy();
    short.failover.hold_down = Duration::from_secs(30);
    let mut edge = Edge::steady(short);
    let year = Duration::from_secs(365 * 86_400);
    let refusal = |edge: &Edge| edge.snapshot.as_ref().unwrap().names[&www()].refusal;
    let read = |edge: &mut Edge| {
        // Each reading says the same moment, far in the future.
        let state = evacuated(edge, year);
        edge.tell(Input::Dns(DnsReport::Read { name: www(), state: Box::new(state) }));
    };
    read(&mut edge);
    edge.second(28, Edge::all_well);
    assert_eq!(refusal(&edge), Some("hold_down"), "it counts from the first reading");
    read(&mut edge);
    edge.second(4, Edge::all_well);
    assert_eq!(edge.plans.len(), 0, "users are counted first, at the next reading");
    read(&mut edge);
    edge.second(1, Edge::all_well);
    assert_eq!(edge.plans.len(), 1, "{:?}", refusal(&edge));
}

#[test]
fn a_writer_whose_clock_is_an_hour_behind_cuts_no_hold_down_that_others_watched() {
    let mut edge = Edge::steady(policy());
    edge.records(1, home());
    edge.second(1, Edge::all_well);
    let mut state = evacuated(&edge, Duration::ZERO);
    state.changed_at = Some(edge.now.before(Duration::from_secs(3600)));
    edge.tell(Input::Dns(DnsReport::Read { name: www(), state: Box::new(state) }));
    edge.second(170, Edge::all_well);
    let status = edge.snapshot.as_ref().unwrap().names[&www()].clone();
    assert_eq!((status.refusal, edge.plans.len()), (Some("hold_down"), 0));
    let held = status.checks.iter().find(|check| check.rule == Refusal::HoldDown).unwrap();
    assert!(matches!(held.outcome, CheckOutcome::Refused(_)));
}

#[test]
fn an_edge_that_has_just_started_concludes_and_writes_nothing() {
    let mut edge = Edge::new(policy());
    edge.records(1, home());
    edge.tell(Input::Dns(DnsReport::Witness { region: region("c"), witness: Witness::Red }));
    edge.second(2, c_is_silent);
    let status = edge.snapshot.as_ref().unwrap().names[&www()].clone();
    assert!(matches!(status.verdicts[&region("c")], Verdict::Undecided(_)), "{:?}", status.verdicts);
    assert_eq!(edge.plans, []);
}

#[test]
fn one_service_of_a_name_that_is_down_is_enough_for_a_vote_against_its_region() {
    let api = ServiceId::parse("api").unwrap();
    let mut both = policy();
    both.services.insert(api.clone());
    both.names.get_mut(&www()).unwrap().services.insert(api.clone());
    let mut edge = Edge::new(both);
    edge.tell(Input::Resolved { target: Target::Service(api.clone()), addresses: vec![pod(3)] });
    let probed = |edge: &mut Edge, result: Result<EndpointAnswer, ProbeFailure>| {
        edge.all_well();
        edge.tell(Input::Probed(Probe::Endpoint { service: api.clone(), address: pod(3), result }));
    };
    let own_vote = |edge: &Edge| edge.view.as_ref().unwrap().votes[&www()][&region("a")];
    edge.second(5, |edge| probed(edge, Ok(EndpointAnswer::Well)));
    assert_eq!(own_vote(&edge), Up);
    edge.second(12, |edge| probed(edge, Err(ProbeFailure::Connect)));
    assert_eq!(own_vote(&edge), Down);
}

#[test]
fn a_drained_region_stays_in_dns_while_nobody_else_says_that_it_is_well() {
    let mut edge = Edge::steady(policy());
    edge.records_with(1, home(), &["a"]);
    let gate = |edge: &Edge| edge.snapshot.as_ref().unwrap().names[&www()].gate;
    edge.second(1, Edge::all_well);
    assert_eq!(gate(&edge), Gate::Closed);
    edge.second(12, a_hears_nobody);
    assert_eq!(gate(&edge), Gate::Open, "that it is well itself is no reason to send its users away");
}

#[test]
fn views_of_any_age_take_no_region_back_that_was_down() {
    let mut edge = Edge::steady(policy());
    let state = |edge: &Edge| edge.snapshot.as_ref().unwrap().services[&web()].states[&region("c")];
    edge.second(10, c_is_silent);
    assert_eq!(state(&edge), State::Ejected);
    for _ in 0..4 {
        // After a silence nobody knows when a view was made.
        edge.peer("c", 80, Up, Up);
        edge.second(6, |edge| edge.pods(true));
    }
    assert_eq!(state(&edge), State::Ejected);
    edge.second(20, Edge::all_well);
    assert_ne!(state(&edge), State::Ejected);
}

#[test]
fn nobody_waits_for_a_region_that_is_down_to_write() {
    let mut second = policy();
    second.own = region("b");
    let mut edge = Edge::new(second);
    edge.tell(Input::Resolved { target: Target::Peer(region("a")), addresses: vec![pod(13)] });
    let a_is = |word: Word| {
        move |edge: &mut Edge| {
            let votes = [("a", word), ("b", Up), ("c", Up)];
            edge.pods(true);
            edge.peer_votes("a", 20, word, &votes);
            edge.peer_votes("c", 80, Up, &votes);
        }
    };
    edge.second(5, a_is(Up));
    edge.records(1, home());
    // It answers, and says that it is down: it would stand first.
    edge.second(12, a_is(Down));
    assert_eq!(edge.plans.len(), 1);
}

#[test]
fn only_who_sees_all_clearly_says_that_it_is_content_with_the_records() {
    let content = |edge: &Edge| edge.view.as_ref().unwrap().content.get(&www()).copied();
    let mut edge = Edge::steady(policy());
    assert_eq!(content(&edge), None, "nothing was read");
    edge.records(7, home());
    edge.second(20, Edge::all_well);
    assert_eq!(content(&edge), Some(Generation::new(7)));
    edge.second(20, |edge| {
        edge.pods(true);
        edge.silent("b");
        edge.silent("c");
    });
    assert_eq!(content(&edge), None, "cut off, it calls for nothing and knows nothing");
    edge.second(20, Edge::all_well);
    edge.second(20, |edge| {
        edge.pods(true);
        let votes = [("a", Word::Up), ("b", Word::Up), ("c", Word::Up)];
        edge.peer_votes("b", 20, Word::Up, &votes);
        edge.silent("c");
    });
    assert_eq!(content(&edge), None, "of c it hears that it is well, and sees otherwise");
    edge.second(20, Edge::all_well);
    assert_eq!(content(&edge), Some(Generation::new(7)));
}
