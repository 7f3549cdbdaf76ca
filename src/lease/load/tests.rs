//! Pods that add their load up, in virtual time.

use super::*;
use crate::lease::Holder;
use std::net::SocketAddr;

const PATIENCE: Duration = Duration::from_secs(5);

fn at(seconds: u64) -> Time {
    Time::from_millis(seconds * 1000)
}

fn service(name: &str) -> ServiceId {
    ServiceId::parse(name).unwrap()
}

/// All of it for `web`; nobody asks for `api`.
fn load(rps: f64) -> Load {
    let web = ServiceLoad { entered_rps: rps, served_rps: rps, shed_rps: rps / 10.0, in_flight: 4 };
    let services = [(service("web"), web), (service("api"), ServiceLoad::default())].into();
    let names = [(DnsName::parse("www.example.com").unwrap(), rps)].into();
    Load { entered_rps: rps, names, served_rps: rps, services }
}

fn pod(boot: u64, rps: f64) -> PodLoad {
    PodLoad { boot, load: load(rps) }
}

/// One of nine pods that does ten requests a second.
fn one_of_nine() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.known(9, PATIENCE);
    ledger.measured(load(10.0));
    ledger
}

fn holder() -> Ledger {
    let mut ledger = one_of_nine();
    ledger.stand(Standing::Holding, at(0));
    ledger
}

fn follower() -> Ledger {
    let mut ledger = one_of_nine();
    let address = SocketAddr::from(([10, 0, 0, 1], 8443));
    ledger.stand(Standing::Following(Holder { address, boot: 1 }), at(0));
    ledger
}

/// Pods that were counted, and the rate of all requests.
fn counted(ledger: &Ledger, now: Time) -> (usize, f64) {
    let region = ledger.region(now);
    (region.pods, region.load.entered_rps)
}

#[test]
fn a_pod_without_siblings_is_its_region() {
    let mut ledger = Ledger::default();
    assert_eq!(ledger.region(at(0)), RegionLoad::default(), "nothing is measured yet");
    ledger.measured(load(10.0));
    assert_eq!(ledger.region(at(0)), RegionLoad { pods: 1, load: load(10.0) });
    assert!(!ledger.hear(pod(2, 10.0), at(0)), "who is not looked for is not believed");
}

#[test]
fn the_holder_adds_up_what_its_followers_do_and_all_of_them_know_the_sum() {
    let mut holder = holder();
    for boot in 2..=9 {
        assert!(holder.hear(pod(boot, 20.0), at(1)));
    }
    let region = holder.region(at(2));
    assert_eq!((region.pods, region.load.entered_rps, region.load.served_rps), (9, 170.0, 170.0));
    let web = region.load.services[&service("web")];
    assert_eq!((web.entered_rps, web.served_rps, web.shed_rps, web.in_flight), (170.0, 170.0, 17.0, 36));
    let told = holder.sum(at(2)).unwrap();
    assert!(!told.load.services.contains_key(&service("api")), "what nobody asks for is not told");
    let mut follower = follower();
    assert_eq!(follower.sum(at(2)), None, "only a holder adds up");
    assert!(follower.hear_total(told, at(2)));
    assert_eq!(follower.region(at(3)), region, "and yet each service has its number");
}

#[test]
fn a_pod_that_tells_twice_counts_once_and_one_that_is_silent_counts_no_more() {
    let mut holder = holder();
    for second in 6..=10 {
        holder.hear(pod(2, 20.0), at(second));
    }
    holder.hear(pod(3, 30.0), at(6));
    assert_eq!(counted(&holder, at(11)), (3, 60.0));
    assert_eq!(counted(&holder, at(12)), (2, 30.0));
}

#[test]
fn without_a_holder_s_word_each_pod_takes_itself_for_one_of_many_alike() {
    let mut pod = follower();
    assert_eq!(counted(&pod, at(0)), (1, 90.0));
    assert_eq!(pod.region(at(0)).load.services[&service("web")].in_flight, 36);
    pod.hear_total(RegionLoad { pods: 9, load: load(120.0) }, at(1));
    assert_eq!(counted(&pod, at(6)), (9, 120.0));
    assert_eq!(counted(&pod, at(7)), (1, 90.0));
    pod.stand(Standing::Seeking, at(7));
    assert_eq!(counted(&pod, at(7)), (1, 90.0));
}

#[test]
fn a_new_holder_does_not_take_those_it_has_not_heard_yet_for_idle() {
    let mut holder = holder();
    holder.hear(pod(2, 20.0), at(1));
    assert_eq!(counted(&holder, at(1)), (2, 135.0), "two stand for nine");
    assert_eq!(counted(&holder, at(6)), (2, 30.0), "who says nothing for so long is gone");
    for boot in 2..=9 {
        holder.hear(pod(boot, 20.0), at(6));
    }
    holder.stand(Standing::Holding, at(6));
    holder.known(10, PATIENCE);
    assert_eq!(counted(&holder, at(6)), (9, 170.0), "to say again that it holds the lease makes it no newer");
}

#[test]
fn a_new_holder_goes_by_the_former_one_s_sum_while_that_is_fresh() {
    let mut pod = follower();
    pod.hear_total(RegionLoad { pods: 9, load: load(120.0) }, at(10));
    pod.stand(Standing::Holding, at(11));
    pod.hear(self::pod(2, 20.0), at(12));
    assert_eq!(counted(&pod, at(12)), (9, 120.0));
    for boot in 2..=9 {
        pod.hear(self::pod(boot, 20.0), at(13));
    }
    assert_eq!(counted(&pod, at(13)), (9, 170.0));
}

#[test]
fn nobody_else_s_word_outlives_the_siblings() {
    let mut pod = holder();
    pod.hear(self::pod(2, 20.0), at(1));
    pod.hear_total(RegionLoad { pods: 9, load: load(120.0) }, at(1));
    pod.alone();
    assert_eq!(counted(&pod, at(1)), (1, 10.0));
}

#[test]
fn what_cannot_be_is_not_believed_and_a_flood_of_pods_takes_no_more_room() {
    let mut holder = holder();
    for rps in [-1.0, f64::NAN, f64::INFINITY, 1e10] {
        assert!(!holder.hear(pod(2, rps), at(1)), "{rps}");
        assert!(!holder.hear_total(RegionLoad { pods: 2, load: load(rps) }, at(1)), "{rps}");
        let mut hidden = load(1.0);
        hidden.services.insert(service("web"), ServiceLoad { shed_rps: rps, ..ServiceLoad::default() });
        assert!(!holder.hear(PodLoad { boot: 2, load: hidden }, at(1)), "{rps}");
    }
    let heard = (0..5000).filter(|boot| holder.hear(pod(*boot, 1.0), at(1))).count();
    assert_eq!((heard, holder.told.len()), (PODS_MAX, PODS_MAX));
    assert!(holder.hear(pod(1, 2.0), at(2)), "who is known may go on");
    assert!(holder.hear(pod(6000, 1.0), at(8)), "and there is room when others have gone");
}

#[test]
fn the_word_of_any_number_of_services_is_no_longer_than_their_view() {
    let worst = ServiceLoad {
        entered_rps: 1.0 / 3.0,
        served_rps: 1e9 / 7.0,
        shed_rps: 1e-300 / 7.0,
        in_flight: u32::MAX,
    };
    let word = |services: usize| {
        let services = (0..services).map(|n| (service(&format!("s{n:04}")), worst)).collect();
        serde_json::to_string(&Load { services, ..Load::default() }).unwrap().len()
    };
    assert!(word(1001) - word(1) <= 200 * 1000);
}
