//! One `Fleet` from the outside: what it publishes and proposes for what it is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fleet {
    mod asleep;
    mod combinations;
    mod demand;
    mod drift;
    pub mod edge;
    mod names;
    pub mod verdicts;
    mod view_size;
    mod witnesses;
}
#[path = "fleet/operators.rs"]
mod operators;

use fleet::edge::{Edge, home, pod, policy, region, web, www};
use proxima::domain::fleet::{DnsReport, Input, OutcomeResult, ServiceLoad, Target};
use proxima::domain::health::{State, Word};
use proxima::domain::latency::Rtt;
use proxima::domain::name::{DnsName, EntryId, ServiceId};
use proxima::domain::operator::OperatorState;
use proxima::domain::plan::{Fence, Generation, NameState};
use proxima::domain::policy::{Policy, RegionPolicy};
use proxima::domain::snapshot::{Gate, Place, Snapshot};
use proxima::domain::time::Time;
use proxima::domain::view::CapacitySource;
use proxima::domain::votes::{Undecided, Verdict, Witness};
use proxima::domain::weights::{Weight, WeightedSet};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn the_own_region_serves_first_and_the_nearest_comes_next() {
    let edge = Edge::steady(policy());
    let expected =
        [("a", Place::Own), ("b", Place::Peer), ("c", Place::Peer)].map(|(r, p)| (r.to_owned(), p));
    assert_eq!(edge.candidates(), expected);
}

#[test]
fn a_dead_own_service_is_left_and_comes_back_with_a_small_share() {
    let mut edge = Edge::steady(policy());
    edge.second(4, |edge| edge.pods(false));
    assert_eq!(edge.order(), ["b", "c"]);
    edge.second(3, |edge| edge.pods(true));
    assert_eq!(edge.order(), ["a", "b", "c"]);
    let share = edge.snapshot.as_ref().unwrap().services[&web()].candidates[0].share;
    assert!(share < 0.5, "probation: {share}");
}

#[test]
fn a_few_failed_requests_eject_a_region_here_but_cast_no_vote() {
    let mut edge = Edge::steady(policy());
    for _ in 0..3 {
        edge.outcome("b", pod(11), OutcomeResult::Failure);
    }
    edge.second(1, |edge| edge.peer("b", 20, Word::Up, Word::Up));
    assert_eq!(edge.order(), ["a", "c"]);
    assert_eq!(edge.view.as_ref().unwrap().votes[&www()][&region("b")], Word::Up);
}

#[test]
fn the_last_candidate_is_never_ejected_by_outcomes() {
    let mut edge = Edge::steady(policy());
    edge.second(6, |edge| {
        edge.silent("b");
        edge.silent("c");
    });
    for _ in 0..10 {
        edge.outcome("a", pod(1), OutcomeResult::Failure);
        edge.outcome("a", pod(2), OutcomeResult::Failure);
    }
    edge.second(1, |_| {});
    assert_eq!(edge.order()[0], "a");
    let service = &edge.snapshot.as_ref().unwrap().services[&web()];
    assert_eq!(service.candidates[0].endpoints.len(), 2, "both endpoints stay in use");
}

#[test]
fn a_typed_refusal_shrinks_the_share_without_ejecting() {
    let mut edge = Edge::steady(policy());
    edge.outcome("b", pod(11), OutcomeResult::Refused);
    edge.second(1, |_| {});
    let service = &edge.snapshot.as_ref().unwrap().services[&web()];
    assert_eq!(service.states[&region("b")], State::Healthy);
    assert!((0.4..=0.65).contains(&service.candidates[1].share), "{}", service.candidates[1].share);
}

#[test]
fn a_region_that_died_is_evacuated_once_peers_agree_and_its_health_check_is_red() {
    let mut edge = Edge::steady(policy());
    edge.records(1, home());
    let dead_c = |edge: &mut Edge| {
        edge.pods(true);
        edge.silent("c");
        edge.peer_votes("b", 20, Word::Up, &[("a", Word::Up), ("b", Word::Up), ("c", Word::Down)]);
    };
    edge.second(12, dead_c);
    assert_eq!(edge.plans, [], "silence alone is no evidence");
    edge.tell(Input::Dns(DnsReport::Witness { region: region("c"), witness: Witness::Red }));
    edge.second(1, dead_c);
    let plan = edge.plans.pop().unwrap();
    let c = EntryId::parse("c").unwrap();
    assert_eq!(plan.changes.keys().collect::<Vec<_>>(), [&c]);
    assert_eq!(plan.changes[&c].to.get(&region("c")), None);
    assert_eq!(plan.fence.generation, Generation::new(1));
}

#[test]
fn a_green_witness_keeps_a_region_in_dns_that_peers_cannot_reach() {
    let mut edge = Edge::steady(policy());
    edge.records(1, home());
    edge.tell(Input::Dns(DnsReport::Witness { region: region("c"), witness: Witness::Green }));
    edge.second(20, |edge| {
        edge.pods(true);
        edge.silent("c");
        edge.peer_votes("b", 20, Word::Up, &[("a", Word::Up), ("b", Word::Up), ("c", Word::Down)]);
    });
    assert_eq!(edge.plans, []);
    assert_eq!(edge.order(), ["a", "b"], "but nothing is forwarded there");
}

#[test]
fn an_edge_that_is_cut_off_writes_nothing_and_serves_from_home() {
    let mut edge = Edge::steady(policy());
    edge.records(1, home());
    for name in ["b", "c"] {
        edge.tell(Input::Dns(DnsReport::Witness { region: region(name), witness: Witness::Red }));
    }
    edge.second(20, |edge| {
        edge.pods(true);
        edge.silent("b");
        edge.silent("c");
    });
    assert_eq!(edge.plans, []);
    assert_eq!(edge.order(), ["a"]);
    assert_eq!(edge.snapshot.as_ref().unwrap().names[&www()].refusal, Some("no_majority"));
}

#[test]
fn a_conflict_is_read_again_before_anything_is_proposed() {
    let mut edge = Edge::steady(policy());
    edge.records(1, home());
    edge.second(12, Edge::own_down);
    assert_eq!(edge.plans.len(), 1, "proposed once");
    edge.conflict();
    edge.second(3, Edge::own_down);
    assert_eq!(edge.plans.len(), 1, "not before the records were read");
    edge.records(2, home());
    edge.second(1, Edge::own_down);
    assert_eq!(edge.plans.len(), 2);
    assert_eq!(edge.plans[1].fence.generation, Generation::new(2));
}

#[test]
fn a_conflict_of_an_earlier_plan_lets_nobody_send_the_later_one_twice() {
    let mut edge = Edge::steady(policy());
    edge.records(1, home());
    edge.second(12, Edge::own_down);
    edge.records(2, home());
    edge.second(1, Edge::own_down);
    assert_eq!(edge.plans.len(), 2, "someone else has written, and the first plan is still on its way");
    edge.conflict();
    edge.records(2, home());
    edge.second(2, Edge::own_down);
    assert_eq!(edge.plans.len(), 2, "the second one is on its way");
    edge.tell(Input::Dns(DnsReport::Conflict { name: www(), expires_at: edge.plans[1].expires_at }));
    edge.records(3, home());
    edge.second(2, Edge::own_down);
    assert_eq!(edge.plans.len(), 3);
}

#[test]
fn the_gate_closes_after_the_hold_down_only_while_a_peer_is_well() {
    let mut short = policy();
    short.failover.hold_down = Duration::from_secs(10);
    let mut edge = Edge::steady(short);
    let gate = |edge: &Edge| edge.snapshot.as_ref().unwrap().names[&www()].gate;
    let down_with = |b: Word| {
        move |edge: &mut Edge| {
            edge.pods(false);
            edge.peer_votes("b", 20, b, &[("a", Word::Down), ("b", b)]);
        }
    };
    edge.second(5, down_with(Word::Up));
    assert_eq!(gate(&edge), Gate::Open);
    edge.second(10, down_with(Word::Up));
    assert_eq!(gate(&edge), Gate::Closed);
    edge.second(1, down_with(Word::Down));
    assert_eq!(gate(&edge), Gate::Open, "nobody else is well: stay in DNS");
}

#[test]
fn an_unchanged_world_publishes_nothing_new() {
    let mut edge = Edge::steady(policy());
    let before = edge.snapshot.as_ref().unwrap().number;
    edge.second(20, |edge| {
        edge.pods(true);
        edge.peer("b", 20, Word::Up, Word::Up);
        edge.peer("c", 80, Word::Up, Word::Up);
    });
    assert_eq!(edge.snapshot.as_ref().unwrap().number, before);
}

#[test]
fn endpoint_statistics_survive_a_new_resolution() {
    let mut edge = Edge::steady(policy());
    let endpoint = |edge: &Edge, n: u8| {
        let service = &edge.snapshot.as_ref().unwrap().services[&web()];
        let found = service.endpoints.iter().find(|e| e.endpoint.address() == pod(n)).unwrap();
        Arc::clone(&found.endpoint)
    };
    let before = endpoint(&edge, 1);
    edge.tell(Input::Resolved { target: Target::Service(web()), addresses: vec![pod(1), pod(3)] });
    edge.second(1, |_| {});
    assert!(Arc::ptr_eq(&before, &endpoint(&edge, 1)));
    assert_eq!(endpoint(&edge, 3).in_flight(), 0);
}

#[test]
fn a_view_votes_only_once_a_newer_one_shows_that_its_edge_decides() {
    let mut edge = Edge::new(policy());
    let verdict = |edge: &Edge| edge.snapshot.as_ref().unwrap().names[&www()].verdicts[&region("a")];
    edge.records(1, home());
    let once = |edge: &mut Edge| {
        edge.pods(true);
        edge.peer("b", 20, Word::Up, Word::Up);
    };
    edge.second(1, once);
    assert_eq!(verdict(&edge), Verdict::Undecided(Undecided::NoMajority), "it may be of any age");
    edge.second(1, once);
    assert_eq!(verdict(&edge), Verdict::Up);
}

#[test]
fn an_edge_that_repeats_itself_for_long_is_not_forwarded_to() {
    let mut edge = Edge::steady(policy());
    let same_again = |edge: &mut Edge| {
        edge.pods(true);
        edge.sequence = 100;
        edge.peer("b", 20, Word::Up, Word::Up);
    };
    edge.second(5, same_again);
    assert_eq!(edge.order()[..2], ["a", "b"], "for a while it only has no news");
    edge.second(5, same_again);
    assert!(!edge.order().contains(&"b".to_owned()), "nobody decides there: {:?}", edge.order());
}

#[test]
fn one_set_of_all_regions_is_evacuated_by_what_all_of_them_carry() {
    let all = EntryId::parse("all").unwrap();
    let set = |weights: [u8; 3]| {
        let weights = ["a", "b", "c"].into_iter().zip(weights);
        WeightedSet::new(weights.map(|(n, w)| (region(n), Weight::new(w).unwrap())).collect()).unwrap()
    };
    let mut simple = policy();
    simple.regions = ["a", "b", "c"]
        .iter()
        .map(|n| (region(n), RegionPolicy { capacity_rps: Some(100.0), ..RegionPolicy::default() }))
        .collect();
    simple.names.get_mut(&www()).unwrap().entries = Arc::new(BTreeMap::from([(all.clone(), set([1, 1, 1]))]));
    let mut edge = Edge::steady(simple);
    edge.entered = 90.0;
    edge.load(90.0, 90.0, BTreeMap::new());
    // Long enough for the averages.
    edge.second(60, |edge| {
        edge.records(7, BTreeMap::from([(all.clone(), set([34, 33, 33]))]));
        edge.pods(true);
        edge.peer("b", 20, Word::Up, Word::Up);
        edge.peer("c", 80, Word::Up, Word::Up);
    });
    edge.second(12, |edge| {
        let votes = [("a", Word::Up), ("b", Word::Up), ("c", Word::Down)];
        edge.pods(true);
        edge.peer_votes("b", 20, Word::Up, &votes);
        edge.peer_votes("c", 80, Word::Down, &votes);
    });
    let to = &edge.plans.first().unwrap().changes[&all].to;
    assert!(to.share(&region("a")) > 0.4 && to.share(&region("b")) > 0.4, "neither has room for all: {to:?}");
}

/// A minute at home in which 90 requests a second come to region `a`, all of them for its service, of
/// which `shed` a second are turned away.
fn full(policy: Policy, shed: f64) -> Edge {
    let mut edge = Edge::steady(policy);
    edge.second(60, |edge| {
        edge.records(7, home());
        let load = ServiceLoad {
            entered_rps: 90.0,
            served_rps: 90.0 - shed,
            shed_rps: shed,
            ..ServiceLoad::default()
        };
        let services = BTreeMap::from([(web(), load)]);
        edge.load(90.0, 90.0 - shed, services);
        edge.all_well();
    });
    edge
}

#[test]
fn dns_moves_what_is_above_a_configured_capacity_of_a_service_and_nothing_for_a_measured_one() {
    let mut bounded = policy();
    bounded.steering.capacity_rps.insert(web(), 60.0);
    let edge = full(bounded, 0.0);
    assert!(!edge.plans.is_empty());
    let wanted = &edge.snapshot.as_ref().unwrap().names[&www()].wanted[&EntryId::parse("a").unwrap()];
    assert!((0.63..0.71).contains(&wanted.share(&region("a"))), "only the excess leaves: {wanted:?}");
    let edge = full(policy(), 30.0);
    let told = edge.view.as_ref().unwrap().services[&web()].load.unwrap().capacity.unwrap();
    assert_eq!(told.source, CapacitySource::Measured);
    assert!(edge.plans.is_empty(), "{:?}", edge.plans);
}

#[test]
fn a_service_that_its_region_no_longer_mentions_loses_its_old_up() {
    let mut edge = Edge::steady(policy());
    edge.second(10, |edge| {
        edge.pods(true);
        edge.peer_votes("b", 20, Word::Unknown, &[("a", Word::Up), ("c", Word::Up)]);
        edge.peer("c", 80, Word::Up, Word::Up);
    });
    assert_eq!(edge.order(), ["a", "c"], "it is not forwarded to");
    assert_ne!(edge.view.as_ref().unwrap().votes[&www()][&region("b")], Word::Up);
    edge.second(10, |edge| {
        edge.pods(true);
        edge.peer("b", 20, Word::Up, Word::Up);
        edge.peer("c", 80, Word::Up, Word::Up);
    });
    assert_eq!(edge.order(), ["a", "b", "c"], "and it comes back");
}

#[test]
fn a_drained_own_region_that_is_well_is_the_last_resort_while_there_are_others() {
    let mut edge = Edge::steady(policy());
    edge.records_with(1, home(), &["a"]);
    edge.second(1, Edge::all_well);
    let service = Arc::clone(&edge.snapshot.as_ref().unwrap().services[&web()]);
    assert_eq!(edge.order(), ["b", "c", "a"]);
    let last = service.candidates.last().unwrap();
    assert_eq!((last.place, last.share), (Place::Own, 0.0));
    assert!(!service.accepts_forwarded && !service.panic);
    edge.second(5, |edge| {
        edge.pods(false);
        edge.peer("b", 20, Word::Up, Word::Up);
        edge.peer("c", 80, Word::Up, Word::Up);
    });
    assert_eq!(edge.order(), ["b", "c"], "ill and drained is no resort");
}

#[test]
fn a_service_whose_configuration_has_no_address_any_more_serves_nobody() {
    let mut edge = Edge::steady(policy());
    edge.tell(Input::Configure(Arc::new(policy())));
    edge.tell(Input::Resolved { target: Target::Service(web()), addresses: Vec::new() });
    edge.second(1, Edge::all_well);
    let service = Arc::clone(&edge.snapshot.as_ref().unwrap().services[&web()]);
    assert_eq!(edge.order(), ["b", "c"]);
    assert!(!service.accepts_forwarded && service.endpoints.is_empty());
    let view = Arc::clone(edge.view.as_ref().unwrap());
    assert!(!view.services.contains_key(&web()), "it can't say that it is well: {view:?}");
    assert_eq!(view.votes[&www()][&region("a")], Word::Unknown);
    // A region's address that can't be had is no news.
    edge.tell(Input::Resolved { target: Target::Peer(region("b")), addresses: Vec::new() });
    edge.tell(Input::Resolved { target: Target::Service(web()), addresses: vec![pod(1)] });
    edge.second(3, Edge::all_well);
    assert_eq!(edge.order(), ["a", "b", "c"], "an address is back");
}

#[test]
fn a_plan_that_met_a_conflict_is_held_back_by_name_until_the_records_were_read() {
    let mut edge = Edge::steady(policy());
    edge.records(1, home());
    edge.second(12, Edge::own_down);
    edge.conflict();
    edge.second(1, Edge::own_down);
    assert_eq!(edge.snapshot.as_ref().unwrap().names[&www()].refusal, Some("unread"));
    edge.records(2, home());
    edge.second(1, Edge::own_down);
    assert_eq!(edge.snapshot.as_ref().unwrap().names[&www()].refusal, None);
}

#[test]
fn a_change_that_takes_nothing_away_does_not_let_another_regions_evacuation_be_undone() {
    let mut edge = Edge::steady(policy());
    let written = |edge: &mut Edge, generation: u64, a: &str, drains: &[&str]| {
        let mut sets = home();
        sets.insert(EntryId::parse("a").unwrap(), WeightedSet::only(region(a)));
        let state = NameState {
            fence: Fence { epoch: "e".into(), generation: Generation::new(generation) },
            writer: Some(region("c")),
            changed_at: Some(edge.now),
            claim: Some(edge.now.since(Time::ZERO)),
            operator: OperatorState::draining(drains.iter().map(|n| region(n))),
            sets,
        };
        edge.tell(Input::Dns(DnsReport::Read { name: www(), state: Box::new(state) }));
    };
    written(&mut edge, 1, "a", &[]);
    written(&mut edge, 2, "b", &[]);
    written(&mut edge, 3, "b", &["c"]);
    written(&mut edge, 4, "b", &[]);
    // b is dead: the nearest for entry a is a again, which c has just evacuated.
    edge.second(12, |edge| {
        let votes = [("a", Word::Up), ("b", Word::Down), ("c", Word::Up)];
        edge.pods(true);
        edge.peer_votes("b", 20, Word::Down, &votes);
        edge.peer_votes("c", 80, Word::Up, &votes);
    });
    assert_eq!(edge.snapshot.as_ref().unwrap().names[&www()].refusal, Some("undoes_other"));
    assert_eq!(edge.plans, []);
}

#[test]
fn a_peer_with_another_policy_stops_every_move() {
    let mut edge = Edge::steady(policy());
    edge.records(1, home());
    let mut other = policy();
    other.health.fall += 1;
    edge.policy = other;
    edge.second(15, Edge::own_down);
    assert_eq!(edge.plans, []);
    let name = |edge: &Edge| edge.snapshot.as_ref().unwrap().names[&www()].clone();
    assert_eq!(name(&edge).refusal, Some("disagreement"));
    assert!(name(&edge).verdicts.values().all(|v| *v == Verdict::Undecided(Undecided::Disagreement)));
    edge.policy = policy();
    edge.second(3, Edge::own_down);
    assert_eq!(edge.plans.len(), 1, "they agree again");
}

#[test]
fn a_reload_forgets_what_it_leaves_out_and_keeps_the_rest() {
    let api = ServiceId::parse("api").unwrap();
    let mail = DnsName::parse("mail.example.com").unwrap();
    let mut more = policy();
    more.services.insert(api.clone());
    more.names.insert(mail.clone(), more.names[&www()].clone());
    let mut edge = Edge::steady(more);
    edge.records(5, home());
    edge.second(1, Edge::all_well);
    let before = Arc::clone(edge.snapshot.as_ref().unwrap());
    assert!(before.services.contains_key(&api) && before.names.contains_key(&mail));

    let mut less = policy();
    less.regions.remove(&region("c"));
    let entries = &mut less.names.get_mut(&www()).unwrap().entries;
    Arc::make_mut(entries).remove(&EntryId::parse("c").unwrap());
    edge.policy = less.clone();
    edge.tell(Input::Configure(Arc::new(less)));
    edge.now = edge.now + Duration::from_millis(250);
    edge.tell(Input::Tick);
    let after = Arc::clone(edge.snapshot.as_ref().unwrap());
    assert!(!after.services.contains_key(&api) && !after.names.contains_key(&mail));
    assert!(!after.regions.contains_key(&region("c")) && !after.peers.contains_key(&region("c")));
    assert_eq!(edge.order(), ["a", "b"], "what stays is as well as it was");
    let endpoint = |snapshot: &Snapshot| Arc::clone(&snapshot.services[&web()].endpoints[0].endpoint);
    assert!(Arc::ptr_eq(&endpoint(&before), &endpoint(&after)));
    assert_eq!(after.names[&www()].generation, Some(Generation::new(5)));
    assert_eq!(after.regions[&region("b")].rtt, Some(Rtt::millis(20)));

    // What comes back starts from nothing.
    edge.policy = policy();
    edge.tell(Input::Configure(Arc::new(policy())));
    edge.second(1, |edge| edge.pods(true));
    let back = Arc::clone(edge.snapshot.as_ref().unwrap());
    assert_eq!(back.services[&web()].states[&region("c")], State::Unknown);
    assert_eq!(back.regions[&region("c")].rtt, None);
}

#[test]
fn another_regions_view_at_a_regions_address_is_as_good_as_none() {
    let mut edge = Edge::steady(policy());
    edge.second(5, |edge| {
        edge.pods(true);
        edge.peer("c", 80, Word::Up, Word::Up);
        edge.answers("b", "c");
    });
    assert_eq!(edge.order(), ["a", "c"]);
}
