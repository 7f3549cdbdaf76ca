//! The pods of a region share what one of them measures: how much that saves, and what happens when the one
//! that measures dies, or sees something else than the others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code, reason = "shared with tests/fleet.rs, which uses all of it")]
#[path = "fleet/edge.rs"]
mod edge;
mod sharing {
    pub mod pods;
}

use edge::{Edge, home, policy, region, web, www};
use proxima::domain::fleet::{DnsReport, Input, Lease, ProbeFailure, Shared, SharedAnswer, SharedProbe};
use proxima::domain::health::{State, Word};
use proxima::domain::latency::Rtt;
use proxima::domain::snapshot::ProbePace;
use proxima::domain::view::View;
use proxima::domain::votes::Witness;
use sharing::pods::{FRESH, INTERVAL, SPARSE, World};
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Time for an election, and for every pod to have looked once itself.
fn settled() -> World {
    settled_of(5)
}

fn settled_of(pods: u8) -> World {
    let mut world = World::of(pods);
    world.run(15 * SECOND);
    assert_eq!(world.holders(), [1]);
    world
}

#[test]
fn five_pods_probe_the_other_regions_little_more_than_one_does() {
    let mut world = settled();
    assert_eq!(world.at_pace("b", ProbePace::Sparse), [2, 3, 4, 5]);
    world.probes = 0;
    let span = 300 * SECOND;
    world.run(span);
    let seconds = span.as_secs_f64();
    // Regions x (1 / interval + other pods / sparse interval), and the jitter of a tenth.
    let bound = 2.0 * seconds * (1.0 / INTERVAL.as_secs_f64() + 4.0 / SPARSE.as_secs_f64()) * 1.1;
    let each_for_itself = 5.0 * 2.0 * seconds / INTERVAL.as_secs_f64();
    let probes = world.probes as f64;
    assert!(probes <= bound, "{probes} probes, above {bound}");
    assert!(probes < each_for_itself / 4.0, "{probes} probes");
    // And all know as much as the one that measures.
    for (n, pod) in &world.pods {
        let rtts = ["b", "c"].map(|of| pod.rtt(of));
        assert_eq!(rtts, [20, 80].map(|ms| Some(Duration::from_millis(ms))), "pod {n}");
        assert_eq!(pod.view().votes, world.pods[&1].view().votes, "pod {n} speaks for the region");
        assert!(["b", "c"].iter().all(|of| pod.snapshot.as_ref().unwrap().regions[&region(of)].heard));
    }
}

/// The table in docs/probes.md: 300 pods in 33 regions.
#[test]
fn three_hundred_pods_in_33_regions_are_far_from_ten_thousand_probes_a_second() {
    let mut world = settled_of(9);
    world.probes = 0;
    world.run(120 * SECOND);
    // What one region's nine pods send to two others.
    let to_each = world.probes as f64 / 2.0 / 120.0;
    let (regions, others) = (33.0, 32.0);
    // Pauses differ by a tenth.
    assert!((41.0 * 0.9..41.0 * 1.1).contains(&(to_each * others)), "{} by a region", to_each * others);
    let all = to_each * others * regions;
    assert!(all < 10_000.0 / 6.0, "{all} a second");
}

#[test]
fn a_dead_holder_is_replaced_and_nobody_is_blind_meanwhile() {
    let mut world = settled();
    world.kill(1);
    // Its word ages: from then on everybody looks for himself.
    world.run(FRESH + INTERVAL);
    assert_eq!(world.at_pace("b", ProbePace::Full), [2, 3, 4, 5]);
    for _ in 0..6 {
        world.run(INTERVAL);
        assert!(world.states("b").values().all(|state| *state == State::Healthy), "{:?}", world.states("b"));
    }
    // At the latest view_fresh and four intervals after the death; then it is quiet again.
    assert_eq!(world.holders(), [2]);
    assert_eq!(world.at_pace("b", ProbePace::Sparse), [3, 4, 5]);
}

#[test]
fn a_region_that_dies_is_ejected_by_all_pods_as_soon_as_by_the_one_that_measures() {
    let mut world = settled();
    world.dead.insert(region("b"));
    // Three failed probes, each a little late, and one question to the holder.
    world.run(5 * SECOND);
    let states = world.states("b");
    assert!(states.values().all(|state| *state == State::Ejected), "{states:?}");
    world.dead.clear();
    world.run(8 * SECOND);
    let states = world.states("b");
    assert!(states.values().all(|state| *state == State::Probation), "{states:?}");
    world.run(10 * SECOND);
    assert_eq!(world.at_pace("b", ProbePace::Sparse), [2, 3, 4, 5], "each has looked once, and agrees");
}

#[test]
fn a_pod_whose_own_path_is_broken_finds_out_and_goes_by_what_it_sees() {
    let mut world = settled();
    world.cut.insert((3, region("b")));
    world.run(SPARSE + 10 * SECOND);
    let mut expected = [State::Healthy; 5];
    expected[2] = State::Ejected;
    assert_eq!(world.states("b").into_values().collect::<Vec<_>>(), expected);
    assert_eq!(world.at_pace("b", ProbePace::Full), [1, 3]);
    assert_eq!(world.pods[&3].view().votes, world.pods[&1].view().votes, "one pod's path is no vote");
    world.cut.clear();
    world.run(4 * SECOND);
    assert_eq!(world.at_pace("b", ProbePace::Full), [1], "and is back when it works");
}

#[test]
fn a_holder_whose_path_is_broken_does_not_blind_the_others() {
    let mut world = settled();
    world.cut.insert((1, region("b")));
    world.run(6 * SECOND);
    let mut expected = [State::Healthy; 5];
    expected[0] = State::Ejected;
    assert_eq!(world.states("b").into_values().collect::<Vec<_>>(), expected);
    assert_eq!(world.at_pace("c", ProbePace::Full), [1], "only the one region is at issue");
}

/// What a holder of region `a` says: one good probe of `b`, so long ago.
fn word(edge: &Edge, sequence: u64, number: u64, age: Duration) -> Shared {
    let own = edge.view.as_ref().unwrap();
    let view = View { boot: 77, sequence, ..View::clone(own) };
    let of_b = View { region: region("b"), boot: 8, sequence, ..View::clone(own) };
    let age_us = age.as_micros() as u64;
    let answer = SharedAnswer { rtt: Some(Rtt::millis(33)), view: Some(Arc::new(of_b)) };
    let regions = [(region("b"), vec![SharedProbe { number, age_us, result: Ok(answer) }])].into();
    Shared { view, transit_us: 0, regions }
}

fn rtt(edge: &Edge) -> Option<Rtt> {
    edge.snapshot.as_ref().unwrap().regions[&region("b")].rtt
}

/// A pod that follows, with a word of the holder once a second.
fn told(edge: &mut Edge, words: impl IntoIterator<Item = Shared>) {
    for shared in words {
        edge.tell(Input::Shared(Box::new(shared)));
        edge.second(1, |_| ());
    }
}

fn follower() -> Edge {
    let mut edge = Edge::new(policy());
    edge.tell(Input::Lease(Lease { held: false }));
    edge.second(1, |_| ());
    edge
}

#[test]
fn a_word_is_believed_while_it_is_new_and_of_this_region() {
    let pace = |edge: &Edge| edge.snapshot.as_ref().unwrap().regions[&region("b")].pace;
    let well = |edge: &mut Edge| {
        edge.peer("b", 20, Word::Up, Word::Up);
        edge.second(1, |_| ());
    };
    let fresh = |edge: &Edge, n| word(edge, n, n, Duration::ZERO);

    let mut edge = follower();
    let words = [1, 2, 3].map(|n| fresh(&edge, n));
    told(&mut edge, words);
    assert_eq!(
        (rtt(&edge), pace(&edge)),
        (Some(Rtt::millis(33)), ProbePace::Full),
        "it has not looked itself"
    );
    well(&mut edge);
    assert_eq!(pace(&edge), ProbePace::Sparse);
    // The holder's control stands still: its word ages.
    let same = [3, 3, 3, 3, 3, 3].map(|n| fresh(&edge, n));
    told(&mut edge, same);
    assert_eq!(pace(&edge), ProbePace::Full);

    for (what, change) in [
        ("an old measurement", (|shared: &mut Shared| shared.transit_us = 6_000_000) as fn(&mut Shared)),
        ("another region's pod", |shared| shared.view.region = region("c")),
        ("itself", |shared| shared.view.boot = 1),
        ("another region's answer", |shared| {
            let probe = &mut shared.regions.get_mut(&region("b")).unwrap()[0];
            let view = probe.result.as_mut().unwrap().view.as_mut().unwrap();
            Arc::make_mut(view).region = region("c");
        }),
    ] {
        let mut edge = follower();
        let mut words = [1, 2, 3].map(|n| fresh(&edge, n));
        words.iter_mut().for_each(change);
        told(&mut edge, words);
        assert_eq!(rtt(&edge), None, "{what}");
    }
    let mut edge = Edge::new(policy());
    edge.second(1, |_| ());
    let words = [1, 2, 3].map(|n| fresh(&edge, n));
    told(&mut edge, words);
    assert_eq!(rtt(&edge), None, "who holds the lease goes by what it measures");
    // An older word than one before, and a probe that was told before.
    let mut edge = follower();
    let failed = |edge: &Edge, sequence, number| {
        let mut shared = word(edge, sequence, number, Duration::ZERO);
        shared.regions.get_mut(&region("b")).unwrap()[0].result = Err(ProbeFailure::Timeout);
        shared
    };
    let words = [vec![fresh(&edge, 5)], (6..12).map(|number| failed(&edge, 4, number)).collect()].concat();
    told(&mut edge, words);
    let before = edge.view.as_ref().unwrap().rtts.clone();
    let words = vec![failed(&edge, 6, 5); 5];
    told(&mut edge, words);
    assert_eq!(edge.view.as_ref().unwrap().rtts, before);
    assert_ne!(edge.snapshot.as_ref().unwrap().services[&web()].states[&region("b")], State::Ejected);
}

#[test]
fn a_pod_speaks_with_the_holders_votes_while_its_word_is_fresh_and_with_its_own_otherwise() {
    let votes_down = |edge: &Edge, n: u64| {
        let mut shared = word(edge, n, n, Duration::ZERO);
        shared.view.votes = [(www(), Arc::new([(region("c"), Word::Down)].into()))].into();
        shared
    };
    let says = |edge: &Edge| edge.view.as_ref().unwrap().votes[&www()].get(&region("c")).copied();
    let following = || {
        let mut edge = follower();
        let words = [1, 2, 3].map(|n| votes_down(&edge, n));
        told(&mut edge, words);
        assert_eq!(says(&edge), Some(Word::Down));
        edge
    };
    let mut edge = follower();
    let first = votes_down(&edge, 1);
    told(&mut edge, [first]);
    assert_eq!(says(&edge), Some(Word::Unknown), "a first word may be of any age");

    let mut edge = following();
    edge.second(6, |_| ());
    assert_eq!(says(&edge), Some(Word::Unknown), "the holder is silent");

    let mut edge = following();
    edge.tell(Input::Lease(Lease { held: true }));
    edge.second(1, |_| ());
    assert_eq!(says(&edge), Some(Word::Unknown), "it holds the lease itself now");

    let mut edge = following();
    let mut other = votes_down(&edge, 4);
    other.view.policy += 1;
    told(&mut edge, [other]);
    assert_eq!(says(&edge), Some(Word::Unknown), "the holder goes by another policy");
}

#[test]
fn only_the_pod_that_holds_the_lease_proposes_changes_of_the_records() {
    let dead_c = |edge: &mut Edge| {
        edge.pods(true);
        edge.silent("c");
        edge.peer_votes("b", 20, Word::Up, &[("a", Word::Up), ("b", Word::Up), ("c", Word::Down)]);
    };
    let mut edge = Edge::steady(policy());
    edge.tell(Input::Lease(Lease { held: false }));
    edge.records(1, home());
    edge.tell(Input::Dns(DnsReport::Witness { region: region("c"), witness: Witness::Red }));
    edge.second(12, dead_c);
    assert_eq!(edge.plans, []);
    assert_eq!(edge.snapshot.as_ref().unwrap().names[&www()].refusal, Some("not_holder"));
    edge.tell(Input::Lease(Lease { held: true }));
    edge.second(1, dead_c);
    assert_eq!(edge.plans.len(), 1);
}
