use super::*;

fn at(seconds: u64) -> Time {
    Time::from_millis(seconds * 1000)
}

fn healthy(policy: &HealthPolicy) -> Health {
    let mut health = Health::default();
    health.probe_succeeded(at(0), policy);
    health
}

#[test]
fn the_first_good_probe_makes_it_healthy_and_fall_bad_ones_eject_it() {
    let policy = HealthPolicy::default();
    let mut health = Health::default();
    assert_eq!(health.state(), State::Unknown);
    health.probe_succeeded(at(0), &policy);
    assert_eq!(health.state(), State::Healthy);
    for n in 1..policy.fall {
        health.probe_failed(at(u64::from(n)), &policy);
        assert_eq!(health.state(), State::Healthy);
    }
    health.probe_failed(at(5), &policy);
    assert_eq!(health.state(), State::Ejected);
    assert_eq!(health.word(), (Word::Down, at(5)));
}

#[test]
fn it_returns_through_probation_with_a_growing_share() {
    let policy = HealthPolicy::default();
    let mut health = healthy(&policy);
    health.declared_down(at(1), &policy);
    for _ in 0..policy.rise {
        health.probe_succeeded(at(2), &policy);
    }
    assert_eq!(health.state(), State::Probation);
    assert!(health.share(at(2), &policy) <= 0.11);
    assert!(health.share(at(12), &policy) > 0.5);
    health.advance(at(2) + policy.probation, &policy);
    assert_eq!(health.state(), State::Healthy);
}

#[test]
fn failed_requests_in_a_row_eject_without_touching_the_word() {
    let policy = HealthPolicy::default();
    let mut health = healthy(&policy);
    for _ in 0..policy.consecutive_failures {
        health.outcome(false, at(1), &policy);
    }
    assert_eq!(health.state(), State::Ejected);
    assert_eq!(health.word().0, Word::Up);
}

#[test]
fn a_share_of_failures_ejects_only_with_enough_volume() {
    let policy = HealthPolicy::default();
    let mut health = healthy(&policy);
    for n in 0..policy.failure_volume - 1 {
        health.outcome(n % 2 == 0, at(1), &policy);
    }
    assert_eq!(health.state(), State::Healthy);
    health.outcome(false, at(1), &policy);
    assert_eq!(health.state(), State::Ejected);
}

#[test]
fn a_few_failures_among_many_requests_do_not_end_a_probation() {
    let policy = HealthPolicy::default();
    let mut health = healthy(&policy);
    // Failures of before the return count no more.
    for n in 0..10 {
        health.outcome(n % 2 == 0, at(0), &policy);
    }
    health.declared_down(at(0), &policy);
    health.declared_up(at(0), &policy);
    for n in 1..=2000u32 {
        let now = at(0) + Duration::from_millis(10) * n;
        health.outcome(n % 200 != 100, now, &policy);
        assert_ne!(health.state(), State::Ejected, "request {n}");
    }
    assert_eq!(health.state(), State::Healthy);
}

#[test]
fn a_probation_does_not_run_down_while_outcomes_hold_it_ejected() {
    let policy = HealthPolicy { ejection: Duration::from_secs(60), ..HealthPolicy::default() };
    let mut health = healthy(&policy);
    for _ in 0..policy.consecutive_failures {
        health.outcome(false, at(0), &policy);
    }
    health.declared_down(at(1), &policy);
    health.declared_up(at(2), &policy);
    health.advance(at(2) + policy.probation, &policy);
    assert_eq!(health.state(), State::Ejected);
    health.advance(at(60), &policy);
    assert_eq!(health.state(), State::Probation);
    (0..2).for_each(|_| health.outcome(false, at(60), &policy));
    health.advance(at(179), &policy);
    assert_eq!(health.state(), State::Ejected, "the record was not cleared: the back-off doubled");
    health.advance(at(180), &policy);
    assert_eq!(health.state(), State::Probation);
}

#[test]
fn each_relapse_doubles_the_ejection() {
    let policy = HealthPolicy::default();
    let mut health = healthy(&policy);
    for _ in 0..policy.consecutive_failures {
        health.outcome(false, at(0), &policy);
    }
    health.advance(at(0) + policy.ejection, &policy);
    assert_eq!(health.state(), State::Probation);
    health.outcome(false, at(10), &policy);
    assert_eq!(health.state(), State::Probation, "one failure may be bad luck");
    health.outcome(false, at(10), &policy);
    health.advance(at(29), &policy);
    assert_eq!(health.state(), State::Ejected);
    health.advance(at(30), &policy);
    health.advance(at(30) + policy.probation, &policy);
    assert_eq!(health.state(), State::Healthy, "a full probation clears the record");
}

/// Down for `down` seconds and up for `up`, again and again; for how long it was away each time.
fn away_each_time(down: u64, up: u64, policy: &HealthPolicy) -> Vec<u64> {
    let mut health = healthy(policy);
    let (mut away, mut second) = (Vec::new(), 100);
    for _ in 0..8 {
        let mut usable = 0;
        health.declared_down(at(second), policy);
        for n in 0..down + up {
            if n >= down {
                health.probe_succeeded(at(second + n), policy);
            }
            health.advance(at(second + n), policy);
            usable += u64::from(health.state().usable());
        }
        away.push(down + up - usable);
        second += down + up;
    }
    away
}

#[test]
fn each_return_of_a_target_that_flaps_waits_longer_up_to_a_maximum() {
    let policy = HealthPolicy { ejection_max: Duration::from_secs(40), ..HealthPolicy::default() };
    assert_eq!(away_each_time(5, 60, &policy), [6, 10, 20, 40, 40, 40, 40, 40]);
}

#[test]
fn a_quiet_time_forgives_falls() {
    let policy = HealthPolicy::default();
    let quiet = (policy.probation * QUIET).as_secs();
    assert_eq!(away_each_time(5, quiet + 10, &policy), [6; 8]);
}

#[test]
fn a_target_that_is_kept_away_says_what_it_is_all_the_same() {
    let policy = HealthPolicy::default();
    let mut health = healthy(&policy);
    for second in [10, 12] {
        health.declared_down(at(second), &policy);
        health.declared_up(at(second + 1), &policy);
    }
    assert_eq!((health.state(), health.word().0), (State::Ejected, Word::Up));
}

#[test]
fn who_says_that_it_ends_gets_nothing_new_and_is_not_down() {
    let policy = HealthPolicy::default();
    let mut health = healthy(&policy);
    health.says_draining(true);
    assert_eq!((health.state(), health.word().0), (State::Draining, Word::Up));
    health.says_draining(false);
    assert_eq!(health.state(), State::Healthy);
    health.says_draining(true);
    health.declared_down(at(1), &policy);
    assert_eq!(health.state(), State::Ejected, "it has ended");
}
