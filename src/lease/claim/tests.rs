//! Pods that contend for one record, in virtual time: first by hand, then at random.

use super::*;

mod model;

const LASTS: Duration = Duration::from_secs(15);

fn at(seconds: u64) -> Time {
    Time::from_millis(seconds * 1000)
}

fn holder(pod: u8) -> Holder {
    Holder { address: SocketAddr::from(([10, 0, 0, pod], 8443)), boot: pod.into() }
}

fn claim(pod: u8) -> Claim {
    let mut claim = Claim::new(pod.into(), LASTS);
    claim.at(holder(pod).address);
    claim
}

fn found(version: &str, pod: u8) -> Answer {
    Answer::Found { version: version.to_owned(), named: Named::Pod(holder(pod)), lasts: Some(LASTS) }
}

fn written(version: &str) -> Answer {
    Answer::Written { version: version.to_owned() }
}

/// One turn at one moment, with these answers; what was asked.
fn turn(claim: &mut Claim, seconds: u64, answers: &[Answer]) -> Vec<Ask> {
    elected_turn(claim, seconds, answers, false)
}

fn elected_turn(claim: &mut Claim, seconds: u64, answers: &[Answer], elected: bool) -> Vec<Ask> {
    claim.begin();
    let mut asked = Vec::new();
    for answer in answers {
        let ask = claim.ask(at(seconds)).unwrap_or_else(|| panic!("no request for {answer:?}"));
        claim.answered(&ask, at(seconds), answer.clone(), elected, at(seconds));
        asked.push(ask);
    }
    assert_eq!(claim.ask(at(seconds)), None, "after {asked:?}");
    asked
}

fn replace(version: &str, pod: u8) -> Ask {
    Ask::Replace { version: version.to_owned(), term: Term { holder: holder(pod), lasts: LASTS } }
}

#[test]
fn an_identity_is_read_as_it_is_written_and_a_stranger_s_is_none() {
    for pod in [holder(1), Holder { address: "[2001:db8::1]:8443".parse().unwrap(), boot: u64::MAX }] {
        assert_eq!(Named::parse(Some(&pod.to_string())), Named::Pod(pod));
    }
    assert_eq!(holder(7).to_string(), "10.0.0.7:8443_0000000000000007");
    assert_eq!((Named::parse(None), Named::parse(Some(""))), (Named::Nobody, Named::Nobody));
    for text in ["kube-controller-1_8f3c", "10.0.0.7:8443", "10.0.0.7_07", "10.0.0.7:8443_x", "_"] {
        assert_eq!(Named::parse(Some(text)), Named::Stranger, "{text:?}");
    }
}

#[test]
fn the_first_pod_creates_the_record_and_renews_it_by_one_request_a_turn() {
    let mut pod = claim(1);
    assert_eq!(pod.ruling(at(0)), Ruling::Wait);
    let create = Ask::Create(Term { holder: holder(1), lasts: LASTS });
    assert_eq!(turn(&mut pod, 0, &[Answer::Absent, written("5")]), [Ask::Look, create]);
    assert_eq!(pod.ruling(at(2)), Ruling::Hold { until: at(10) });
    assert_eq!(turn(&mut pod, 2, &[written("6")]), [replace("5", 1)]);
    assert_eq!(pod.ruling(at(4)), Ruling::Hold { until: at(12) });
}

#[test]
fn a_hold_counts_from_when_the_request_was_sent_and_ends_before_others_may_take_the_lease() {
    let (mut pod, mut other) = (claim(1), claim(2));
    let look = pod.ask(at(0)).unwrap();
    pod.answered(&look, at(0), Answer::Absent, false, at(0));
    let create = pod.ask(at(0)).unwrap();
    // The answer took four seconds.
    pod.answered(&create, at(0), written("1"), false, at(4));
    assert_eq!(pod.ruling(at(9)), Ruling::Hold { until: at(10) });
    assert_eq!(pod.ruling(at(10)), Ruling::Wait, "it looks at the clock, whatever it was told");
    turn(&mut other, 0, &[found("1", 1)]);
    assert_eq!(other.ruling(at(14)), Ruling::Follow(holder(1)));
    assert_eq!(turn(&mut other, 14, &[found("1", 1)]), [Ask::Look]);
    assert_eq!(turn(&mut other, 15, &[found("1", 1), written("2")]), [Ask::Look, replace("1", 2)]);
    assert_eq!(other.ruling(at(15)), Ruling::Hold { until: at(25) });
    // It finds out by its next write.
    assert_eq!(turn(&mut pod, 16, &[Answer::Conflict, found("2", 2)]), [replace("1", 1), Ask::Look]);
    assert_eq!(pod.ruling(at(16)), Ruling::Follow(holder(2)));
}

#[test]
fn a_process_that_was_stopped_holds_nothing_when_it_wakes() {
    let mut pod = claim(1);
    turn(&mut pod, 0, &[Answer::Absent, written("1")]);
    // Stopped in the middle of a renewal that is answered when it wakes, after others took the lease and gave it back.
    pod.begin();
    let renew = pod.ask(at(2)).unwrap();
    assert_eq!(pod.ruling(at(60)), Ruling::Wait);
    pod.answered(&renew, at(2), written("2"), false, at(60));
    assert_eq!(pod.ruling(at(60)), Ruling::Wait, "that write is as old as its request");
}

#[test]
fn a_record_that_changes_is_alive_and_only_local_time_tells_that_it_does_not() {
    let mut pod = claim(2);
    for (second, version) in [(0, "1"), (14, "2"), (28, "3")] {
        assert_eq!(turn(&mut pod, second, &[found(version, 1)]), [Ask::Look], "second {second}");
        assert_eq!(pod.ruling(at(second)), Ruling::Follow(holder(1)));
    }
    // An older version, of a server that lags behind, is a change like any other.
    assert_eq!(turn(&mut pod, 42, &[found("2", 1)]), [Ask::Look]);
    assert_eq!(turn(&mut pod, 57, &[found("2", 1), Answer::Conflict, found("9", 3)]).len(), 3);
    assert_eq!(pod.ruling(at(57)), Ruling::Follow(holder(3)));
}

#[test]
fn a_holder_s_own_word_on_how_long_it_lasts_counts_up_to_a_bound() {
    for (lasts, free_after) in [(Some(20), 20), (None, 15), (Some(86_400), 300)] {
        let lasts = lasts.map(Duration::from_secs);
        let found = |version: &str| Answer::Found {
            version: version.to_owned(),
            named: Named::Pod(holder(1)),
            lasts,
        };
        let mut pod = claim(2);
        assert_eq!(turn(&mut pod, 0, &[found("1")]), [Ask::Look]);
        assert_eq!(turn(&mut pod, free_after - 1, &[found("1")]), [Ask::Look]);
        assert_eq!(turn(&mut pod, free_after, &[found("1"), written("2")]).len(), 2, "{lasts:?}");
    }
}

#[test]
fn a_lease_that_was_given_back_is_taken_at_the_next_look() {
    let (mut pod, mut other) = (claim(1), claim(2));
    turn(&mut pod, 0, &[Answer::Absent, written("1")]);
    pod.leave();
    assert_eq!(pod.ruling(at(1)), Ruling::Wait, "it stops before it says so");
    assert_eq!(turn(&mut pod, 1, &[written("2")]), [Ask::Release { version: "1".to_owned() }]);
    let free = |version: &str| Answer::Found {
        version: version.to_owned(),
        named: Named::Nobody,
        lasts: Some(LASTS),
    };
    assert_eq!(turn(&mut other, 1, &[free("2"), written("3")]), [Ask::Look, replace("2", 2)]);
    // It follows the other one until it ends, and takes nothing any more.
    assert_eq!(turn(&mut pod, 3, &[found("3", 2)]), [Ask::Look]);
    assert_eq!(pod.ruling(at(3)), Ruling::Follow(holder(2)));
    assert_eq!(turn(&mut pod, 40, &[found("3", 2)]), [Ask::Look]);
}

#[test]
fn a_write_whose_answer_was_lost_is_found_and_costs_no_hold() {
    let mut pod = claim(1);
    turn(&mut pod, 0, &[Answer::Absent, written("1")]);
    assert_eq!(turn(&mut pod, 2, &[Answer::Failed]), [replace("1", 1)]);
    let asked = turn(&mut pod, 4, &[Answer::Conflict, found("2", 1), written("3")]);
    assert_eq!(asked, [replace("1", 1), Ask::Look, replace("2", 1)]);
    assert_eq!(pod.ruling(at(13)), Ruling::Hold { until: at(14) });
}

#[test]
fn a_record_that_is_deleted_is_written_anew_by_its_holder_and_by_others_after_its_time() {
    let (mut pod, mut other) = (claim(1), claim(2));
    turn(&mut pod, 0, &[Answer::Absent, written("1")]);
    turn(&mut other, 1, &[found("1", 1)]);
    assert_eq!(turn(&mut other, 12, &[Answer::Absent]), [Ask::Look]);
    assert_eq!(turn(&mut other, 26, &[Answer::Absent]), [Ask::Look]);
    assert_eq!(turn(&mut pod, 2, &[Answer::Absent, written("9")]).len(), 2);
    assert_eq!(pod.ruling(at(3)), Ruling::Hold { until: at(12) });
    assert_eq!(turn(&mut other, 27, &[Answer::Absent, written("10")]).len(), 2);
}

#[test]
fn an_api_that_is_away_for_as_long_as_the_lease_lasts_leaves_it_to_the_siblings() {
    let (mut first, mut second) = (claim(1), claim(2));
    turn(&mut first, 0, &[Answer::Absent, written("1")]);
    turn(&mut second, 0, &[found("1", 1)]);
    for pod in [&mut first, &mut second] {
        turn(pod, 2, &[Answer::Failed]);
        turn(pod, 12, &[Answer::Failed]);
    }
    assert_eq!((first.ruling(at(16)), second.ruling(at(16))), (Ruling::Wait, Ruling::Wait));
    assert_eq!((first.ruling(at(17)), second.ruling(at(17))), (Ruling::Elect, Ruling::Elect));
    // The siblings elect the second. The API is back, and still names the first.
    assert_eq!(turn(&mut first, 40, &[found("1", 1)]), [Ask::Look]);
    assert_eq!(first.ruling(at(40)), Ruling::Elect, "nobody holds the Lease yet");
    assert_eq!(elected_turn(&mut second, 41, &[found("1", 1), written("2")], true).len(), 2);
    assert_eq!(second.ruling(at(42)), Ruling::Hold { until: at(51) });
    assert_eq!(turn(&mut first, 43, &[found("2", 2)]), [Ask::Look]);
    assert_eq!(first.ruling(at(43)), Ruling::Follow(holder(2)));
}

#[test]
fn after_an_outage_others_wait_for_whoever_was_elected() {
    for (answer, ask) in [
        (found("1", 3), replace("1", 1)),
        (Answer::Absent, Ask::Create(Term { holder: holder(1), lasts: LASTS })),
    ] {
        let mut pod = claim(1);
        turn(&mut pod, 0, &[Answer::Failed]);
        assert_eq!(pod.ruling(at(15)), Ruling::Elect);
        assert_eq!(turn(&mut pod, 30, std::slice::from_ref(&answer)), [Ask::Look]);
        assert_eq!(turn(&mut pod, 44, std::slice::from_ref(&answer)), [Ask::Look]);
        assert_eq!(pod.ruling(at(44)), Ruling::Elect);
        // That one is not to be heard of, nor anyone else.
        assert_eq!(turn(&mut pod, 45, &[answer, written("2")])[1], ask);
        assert_eq!(pod.ruling(at(45)), Ruling::Hold { until: at(55) });
    }
}

#[test]
fn a_pod_that_siblings_could_not_find_claims_nothing() {
    let mut pod = Claim::new(1, LASTS);
    assert_eq!(turn(&mut pod, 0, &[Answer::Absent]), [Ask::Look]);
    pod.at(holder(1).address);
    assert_eq!(turn(&mut pod, 2, &[Answer::Absent, written("1")]).len(), 2);
}

#[test]
fn four_tries_to_renew_fit_into_a_hold_however_long_the_lease_lasts() {
    for seconds in [3, 15, 300] {
        let lasts = Duration::from_secs(seconds);
        let pod = Claim::new(1, lasts);
        // Each of them answered at the last moment, and jittered by a tenth.
        assert!(pod.retry().mul_f64(1.1) * 4 < lasts * 2 / 3, "{lasts:?}");
    }
}
