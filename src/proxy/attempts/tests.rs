use super::*;
use crate::domain::endpoint::Endpoint;
use crate::domain::hash::HashKey;
use crate::domain::name::ServiceId;
use crate::domain::snapshot::{RoomStatus, States};
use std::net::SocketAddr;

/// Candidates named `a`, `b`, ...: the first one is the own region.
fn service(candidates: &[(f64, u8)]) -> Arc<ServiceSnapshot> {
    let candidate = |(index, (share, endpoints)): (usize, &(f64, u8))| {
        let subnet = u8::try_from(index).unwrap();
        let endpoints = (1..=*endpoints)
            .map(|n| Arc::new(Endpoint::new(SocketAddr::from(([127, 0, subnet, n], 80)))))
            .collect();
        Candidate {
            region: RegionId::parse(&char::from(b'a' + subnet).to_string()).unwrap(),
            place: if index == 0 { Place::Own } else { Place::Peer },
            share: *share,
            endpoints,
            zones: Arc::new([]),
        }
    };
    Arc::new(ServiceSnapshot {
        id: ServiceId::parse("web").unwrap(),
        candidates: candidates.iter().enumerate().map(candidate).collect(),
        panic: false,
        accepts_forwarded: true,
        endpoints: Arc::new([]),
        states: States::default(),
        room: RoomStatus::default(),
    })
}

fn budget(attempts: u32) -> Budget {
    Budget::new(attempts, true)
}

/// Regions tried when every attempt fails in the same way.
fn walk(mut attempts: Attempts, failure: Failure) -> String {
    let mut regions = String::new();
    while let Some(attempt) = attempts.next(u64::MAX / 3, Time::ZERO) {
        regions.push_str(attempt.region.as_str());
        if attempts.failed(failure, Body::Replayable) == Verdict::GiveUp {
            break;
        }
    }
    regions
}

#[test]
fn a_budget_of_two_or_more_reaches_another_region_when_all_own_endpoints_are_dead() {
    for (attempts, candidates, expected) in [
        (1, vec![(1.0, 5), (1.0, 1)], "a"),
        (2, vec![(1.0, 5), (1.0, 1)], "ab"),
        (3, vec![(1.0, 5), (1.0, 1)], "aab"),
        (4, vec![(1.0, 5), (1.0, 5)], "aabb"),
        (4, vec![(1.0, 5), (1.0, 5), (1.0, 5)], "aabc"),
        (9, vec![(1.0, 5), (1.0, 5), (1.0, 5)], "aabbccccc"),
        (3, vec![(1.0, 1), (1.0, 1)], "ab"),
        (9, vec![(1.0, 3)], "aaa"),
        (3, vec![], ""),
    ] {
        let walked = walk(Attempts::all(service(&candidates), budget(attempts), None, 0), Failure::Connect);
        assert_eq!(walked, expected, "{attempts} attempts at {candidates:?}");
    }
}

#[test]
fn a_refusal_leaves_the_region_at_once() {
    let walked =
        walk(Attempts::all(service(&[(1.0, 5), (1.0, 5), (1.0, 5)]), budget(9), None, 0), Failure::Refused);
    assert_eq!(walked, "abc");
}

#[test]
fn the_last_attempt_is_the_own_regions_while_it_waits_behind_others() {
    let candidates = [(0.0, 2), (1.0, 5), (1.0, 5), (1.0, 5), (1.0, 5)];
    for (attempts, expected) in [(1, "b"), (2, "ba"), (3, "bca"), (9, "bcdea")] {
        let walked = walk(Attempts::all(service(&candidates), budget(attempts), None, 0), Failure::Refused);
        assert_eq!(walked, expected, "{attempts} attempts");
    }
}

#[test]
fn no_endpoint_is_tried_twice() {
    let mut attempts = Attempts::all(service(&[(1.0, 4)]), budget(9), None, 0);
    let mut seen = std::collections::BTreeSet::new();
    while let Some(attempt) = attempts.next(seen.len() as u64 * 77, Time::ZERO) {
        assert!(seen.insert(attempt.endpoint.endpoint().address()));
    }
    assert_eq!(seen.len(), 4);
}

#[test]
fn what_may_be_tried_again() {
    let retry = |reason| Verdict::Retry(reason);
    for (failure, idempotent, other) in [
        (Failure::Connect, retry(RetryReason::Connect), retry(RetryReason::Connect)),
        (Failure::Busy, retry(RetryReason::Busy), retry(RetryReason::Busy)),
        (Failure::Unprocessed, retry(RetryReason::Unprocessed), retry(RetryReason::Unprocessed)),
        (Failure::Refused, retry(RetryReason::Refused), retry(RetryReason::Refused)),
        (Failure::Closed, retry(RetryReason::Closed), Verdict::GiveUp),
        (Failure::Timeout, Verdict::GiveUp, Verdict::GiveUp),
        (Failure::Malformed, Verdict::GiveUp, Verdict::GiveUp),
        (Failure::Late, Verdict::GiveUp, Verdict::GiveUp),
    ] {
        for (is_idempotent, expected) in [(true, idempotent), (false, other)] {
            let of = Budget::new(3, is_idempotent);
            let attempts = || Attempts::all(service(&[(1.0, 2)]), of.clone(), None, 0);
            let what = format!("{failure:?}, idempotent: {is_idempotent}");
            assert_eq!(attempts().failed(failure, Body::Replayable), expected, "{what}");
            assert_eq!(attempts().failed(failure, Body::Consumed), Verdict::GiveUp, "{what}, consumed");
        }
    }
}

#[test]
fn a_route_may_have_idempotent_requests_tried_again_after_timeouts_and_statuses() {
    for (idempotent, after_timeout) in
        [(true, Verdict::Retry(RetryReason::Timeout)), (false, Verdict::GiveUp)]
    {
        let of = Budget { on_timeout: true, on_status: vec![503], ..Budget::new(2, idempotent) };
        let mut attempts = Attempts::all(service(&[(1.0, 2)]), of, None, 0);
        attempts.next(0, Time::ZERO).unwrap();
        assert_eq!(attempts.rejects(503, Body::Replayable), idempotent);
        assert!(!attempts.rejects(502, Body::Replayable), "not named");
        assert!(!attempts.rejects(503, Body::Consumed));
        assert_eq!(attempts.failed(Failure::Timeout, Body::Replayable), after_timeout);
        attempts.next(0, Time::ZERO).unwrap();
        assert!(!attempts.rejects(503, Body::Replayable), "none is left: the answer is the client's");
    }
}

#[test]
fn a_share_is_the_part_of_requests_and_the_rest_goes_to_the_next() {
    let of = service(&[(0.25, 1), (1.0, 1)]);
    let first = |random: u64| {
        let mut attempts = Attempts::all(Arc::clone(&of), budget(3), None, random);
        attempts.next(0, Time::ZERO).unwrap().region.as_str().to_owned()
    };
    let own = (0..10_000u64).filter(|random| first(random.wrapping_mul(0x1234_5678_9abc)) == "a").count();
    assert!((2300..2700).contains(&own), "{own} of 10000");
}

#[test]
fn a_candidate_that_was_not_drawn_is_still_the_last_resort() {
    for random in 0..100 {
        let walked =
            walk(Attempts::all(service(&[(0.0, 1), (1.0, 1)]), budget(3), None, random), Failure::Connect);
        assert_eq!(walked, "ba");
    }
    assert_eq!(walk(Attempts::all(service(&[(0.0, 1)]), budget(3), None, 1), Failure::Connect), "a");
}

#[test]
fn a_forwarded_request_stays_in_the_own_region() {
    let walked = walk(Attempts::own(service(&[(0.1, 3), (1.0, 3)]), budget(9), None), Failure::Connect);
    assert_eq!(walked, "aaa");
}

#[test]
fn an_attempt_counts_in_flight_until_it_is_dropped() {
    let of = service(&[(1.0, 1)]);
    let mut attempts = Attempts::all(Arc::clone(&of), budget(3), None, 0);
    let attempt = attempts.next(0, Time::ZERO).unwrap();
    assert_eq!(of.candidates[0].endpoints[0].in_flight(), 1);
    drop(attempt);
    assert_eq!(of.candidates[0].endpoints[0].in_flight(), 0);
}

/// Sessions of a thousand clients that a region has served before, of which so many go there first.
fn stay(candidates: &[(f64, u8)], region: usize) -> usize {
    let service = service(candidates);
    let affinity = Affinity::new(HashKey::new(1, 2), "web");
    let at = &service.candidates[region];
    let token = affinity.token(&at.region, at.endpoints[0].address());
    let first = |client: u64| {
        let sticky = Sticky::returning(affinity, token, client.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let begin = |random| {
            let mut attempts = Attempts::all(Arc::clone(&service), budget(3), Some(&sticky), random);
            attempts.next(random, Time::ZERO).map(|attempt| attempt.region)
        };
        let (once, again) = (begin(client), begin(client + 7));
        assert_eq!(once, again, "a session does not wander");
        once == Some(at.region.clone())
    };
    (0..1000).filter(|client| first(*client)).count()
}

#[test]
fn sessions_stay_as_far_as_the_share_of_their_place_goes() {
    assert_eq!(stay(&[(1.0, 1), (1.0, 1)], 0), 1000);
    assert_eq!(stay(&[(1.0, 1), (1.0, 1)], 1), 1000, "another region's sessions are led there");
    let some = stay(&[(0.7, 1), (1.0, 1)], 0);
    assert!((650..750).contains(&some), "{some}");
    assert_eq!(stay(&[(0.0, 1), (1.0, 1)], 0), 0, "a drained region keeps no session");
    let few = stay(&[(1.0, 1), (0.01, 1)], 1);
    assert!(few < 30, "nor does one that refuses: {few}");
}
