//! Where requests go when regions are near their limits, drain, flap or come back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod steering {
    pub mod regions;
}

use proxima::domain::endpoint::pick_by_zone;
use proxima::domain::fleet::{
    EndpointAnswer, Input, Outcome, OutcomeResult, OutcomeRun, Probe, RegionAnswer, SampleSource,
    ServiceLoad, Target,
};
use proxima::domain::health::{State, Word};
use proxima::domain::latency::Rtt;
use proxima::domain::name::{ServiceId, Zone};
use proxima::domain::view::{CapacitySource, ServiceView, View};
use proxima::proxy::attempts::{Attempts, Body, Budget, Failure};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use steering::regions::{World, policy, region, web};

#[test]
fn only_what_does_not_fit_leaves_and_only_as_much_as_fits_elsewhere() {
    let mut world = World::new(&[("a", 100.0, 130.0), ("b", 100.0, 80.0), ("c", 100.0, 20.0)]);
    world.run(40, |_| {});
    // b has 95 - 80 to give, and c takes the rest; shares are whole hundredths.
    assert_eq!(world.asked(), [99, 95, 36]);
}

#[test]
fn two_regions_near_their_limits_come_to_rest() {
    let mut world = World::new(&[("a", 100.0, 120.0), ("b", 100.0, 97.0), ("c", 100.0, 94.0)]);
    let mut seen = Vec::new();
    world.run(120, |world| seen.push(world.asked()));
    let rest = &seen[40..];
    assert!(rest.iter().all(|asked| *asked == rest[0]), "{rest:?}");
    // b gives nothing, c one; what fits nowhere is served at home.
    assert_eq!(rest[0], [119, 97, 95]);
    let steps = seen.windows(2).map(|pair| pair[0][0].abs_diff(pair[1][0])).max();
    assert!(steps <= Some(13), "a share moves by no more than a tenth a second: {steps:?}");
}

#[test]
fn what_a_region_has_left_is_divided_among_those_who_ask_and_never_given_twice() {
    let mut world =
        World::new(&[("a", 100.0, 200.0), ("b", 100.0, 110.0), ("c", 100.0, 150.0), ("d", 100.0, 35.0)]);
    let mut most = 0.0f64;
    let mut second = 0;
    world.run(60, |world| {
        second += 1;
        if second > 3 {
            most = most.max(world.places[3].asked);
        }
    });
    assert!(most <= 97.0, "d was asked for {most} at a time");
    // d has 60 to give: all that b asks for, and the same to the others.
    let grants = &world.places[3].view.as_ref().unwrap().services[&web()].grants;
    let grants = ["a", "b", "c"].map(|name| grants[&region(name)]);
    assert!((grants.iter().sum::<f64>() - 60.0).abs() < 0.2, "{grants:?}");
    assert!(grants[1] >= 9.0 && (grants[0] - grants[2]).abs() <= 1.0, "{grants:?}");
    let spare = world.places[3].view.as_ref().unwrap().spare_rps.unwrap();
    assert!(spare < 0.2, "nothing is left for whoever does not ask: {spare}");
    // Who is not heard of any more asks for nothing: the others have its part.
    for _ in 0..8 {
        world.places[0].view = None;
        world.run(1, |_| {});
    }
    let grants = &world.places[3].view.as_ref().unwrap().services[&web()].grants;
    assert!(!grants.contains_key(&region("a")) && grants[&region("c")] > 40.0, "{grants:?}");
}

#[test]
fn a_region_or_service_that_serves_all_that_it_can_takes_nothing_of_others() {
    let regions = [("a", 100.0, 0.0), ("b", 0.0, 0.0)];
    let by_service = |own: &str| {
        let mut policy = policy(own, &[("a", 0.0), ("b", 0.0)]);
        policy.steering.capacity_rps.insert(web(), 100.0);
        policy
    };
    for (what, mut world) in
        [("region", World::new(&regions)), ("service", World::with(&regions, by_service))]
    {
        world.run(5, |_| {});
        for (served_rps, accepts) in [(99.0, true), (100.0, false), (99.0, true)] {
            let load = ServiceLoad { entered_rps: 0.0, served_rps, shed_rps: 0.0, in_flight: 10 };
            let services = BTreeMap::from([(web(), load)]);
            world.tell("a", Input::Load { entered_rps: 0.0, names: BTreeMap::new(), served_rps, services });
            world.now = world.now + Duration::from_secs(1);
            world.tell("a", Input::Tick);
            assert_eq!(world.places[0].web().unwrap().accepts_forwarded, accepts, "{what} at {served_rps}");
        }
    }
}

#[test]
fn views_name_no_more_asks_and_grants_than_they_have_room_for() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let of = |first: (f64, f64), others: (f64, f64)| {
        let place = |(n, name): (usize, &&'static str)| {
            let (capacity, entered) = if n == 0 { first } else { others };
            (*name, capacity, entered)
        };
        let mut world = World::new(&names.iter().enumerate().map(place).collect::<Vec<_>>());
        world.run(20, |_| {});
        world.places[0].view.as_ref().unwrap().services[&web()].clone()
    };
    assert_eq!(of((1000.0, 0.0), (10.0, 50.0)).grants.len(), ServiceView::GRANTS_MAX);
    assert_eq!(of((100.0, 900.0), (20.0, 0.0)).asks.len(), ServiceView::ASKS_MAX);
}

#[test]
fn those_with_small_excesses_get_room_when_many_ask_for_much() {
    let names: Vec<String> = (0..12).map(|n| format!("r{n:02}")).collect();
    let demand = |n: usize| {
        if n == 11 {
            35.0
        } else if n == 10 {
            103.0
        } else {
            200.0
        }
    };
    let regions: Vec<_> =
        names.iter().enumerate().map(|(n, name)| (name.as_str(), 100.0, demand(n))).collect();
    let mut world = World::new(&regions);
    world.run(40, |_| {});
    let last = world.places.last().unwrap();
    assert!(last.asked <= 97.0, "{}", last.asked);
    let small = world.places[10].web().unwrap();
    let sent: f64 = small.candidates.iter().filter(|c| c.region == region("r11")).map(|c| c.share).sum();
    assert!(sent > 0.1, "one that asks for three of sixty gets something: {sent}");
}

#[test]
fn a_region_that_cannot_take_anything_is_not_asked_before_one_that_can() {
    let regions = [("a", 100.0, 160.0), ("b", 100.0, 0.0), ("c", 100.0, 0.0), ("d", 100.0, 0.0)];
    let mut world = World::new(&[&regions[..], &[("e", 100.0, 0.0), ("f", 100.0, 20.0)]].concat());
    world.run(5, |_| {});
    for dead in ["b", "c", "d", "e"] {
        world.place(dead).pods = None;
    }
    world.run(40, |_| {});
    assert_eq!(world.asked(), [99, 0, 0, 0, 0, 81], "the four nearest are dead, the fifth has room for all");
    let view = world.places[0].view.as_ref().unwrap();
    assert_eq!(view.services[&web()].asks.keys().map(|r| r.as_str()).collect::<Vec<_>>(), ["f"]);
}

#[test]
fn what_is_granted_for_one_service_is_not_spare_for_another() {
    let api = ServiceId::parse("api").unwrap();
    let mut policy = policy("b", &[("a", 100.0), ("b", 100.0), ("c", 100.0)]);
    policy.services.insert(api.clone());
    let agreement = policy.agreement_hash();
    let mut place = World::with(&[("b", 100.0, 10.0)], |_| policy.clone());
    let pod = SocketAddr::from(([127, 0, 0, 2], 80));
    place.tell("b", Input::Resolved { target: Target::Service(api.clone()), addresses: vec![pod] });
    let well = Probe::Endpoint { service: api.clone(), address: pod, result: Ok(EndpointAnswer::Well) };
    place.tell("b", Input::Probed(well));
    place.run(2, |_| {});
    for second in 1..4 {
        for (name, asks) in [("a", 60.0), ("c", 0.0)] {
            let mut view = View::first(region(name), 7, agreement);
            view.sequence = second;
            for service in [&api, &web()] {
                let mut said = ServiceView::of(Word::Up);
                if asks > 0.0 {
                    said.asks.insert(region("b"), asks);
                }
                Arc::make_mut(&mut view.services).insert(service.clone(), said);
            }
            let answer = RegionAnswer { rtt: Some(Rtt::millis(10)), view: Arc::new(view) };
            place.tell("b", Input::Probed(Probe::Region { region: region(name), result: Ok(answer) }));
        }
        place.run(1, |_| {});
    }
    let view = place.places[0].view.as_ref().unwrap();
    let granted: f64 = view.services.values().flat_map(|service| service.grants.values()).sum();
    let most = granted + 2.0 * view.spare_rps.unwrap();
    assert!(granted > 80.0 && most <= 85.1, "{granted} and what two regions may add, of 85: {most}");
}

#[test]
fn a_share_that_has_grown_again_is_whole() {
    let mut world = World::new(&[("a", 0.0, 100.0), ("b", 0.0, 10.0)]);
    world.place("a").pods = None;
    world.run(12, |_| {});
    let address = SocketAddr::from(([127, 0, 1, 1], 443));
    let outcome = Outcome { service: web(), region: region("b"), address, result: OutcomeResult::Refused };
    world.tell("a", Input::Outcomes(vec![OutcomeRun { outcome, count: 50, latency: Duration::ZERO }]));
    let share = |world: &World| {
        let candidates = &world.places[0].web().unwrap().candidates;
        candidates.iter().find(|c| c.region == region("b")).unwrap().share
    };
    world.run(1, |_| {});
    assert!((0.45..0.6).contains(&share(&world)), "refusals of one moment halve it once: {}", share(&world));
    world.run(10, |_| {});
    assert_eq!(share(&world), 1.0);
}

#[test]
fn a_region_that_dies_sends_all_of_its_users_on_at_once_and_within_what_is_granted() {
    let mut world = World::new(&[("a", 100.0, 60.0), ("b", 100.0, 50.0), ("c", 100.0, 20.0)]);
    world.run(10, |_| {});
    world.place("a").pods = None;
    world.run(4, |_| {});
    assert_eq!(world.asked()[0], 0);
    assert_eq!(world.asked()[1] + world.asked()[2], 130, "nobody is left out");
    world.run(20, |_| {});
    assert_eq!(world.asked(), [0, 95, 35]);
}

#[test]
fn a_region_that_comes_back_gets_a_growing_share_from_everywhere() {
    let mut world = World::new(&[("a", 0.0, 100.0), ("b", 0.0, 10.0)]);
    world.run(5, |_| {});
    world.place("a").pods = None;
    world.run(8, |_| {});
    assert_eq!(world.asked(), [0, 110]);
    world.place("a").pods = Some(EndpointAnswer::Well);
    let mut asked = Vec::new();
    world.run(25, |world| asked.push(world.asked()[0]));
    let began = asked.iter().position(|asked| *asked > 0).unwrap();
    assert!(asked[began] <= 20, "no herd: {asked:?}");
    assert!(asked[began..].windows(2).all(|pair| pair[1] >= pair[0] && pair[1] - pair[0] <= 11), "{asked:?}");
    assert_eq!(asked.last(), Some(&100));
}

#[test]
fn a_capacity_is_measured_where_none_is_configured_and_told_to_the_others() {
    let mut world = World::new(&[("a", 0.0, 150.0), ("b", 0.0, 10.0)]);
    world.place("a").limit = 100.0;
    let mut shed = Vec::new();
    world.run(60, |world| shed.push((world.places[0].asked - 100.0).max(0.0)));
    assert_eq!(shed[0], 50.0);
    // It grows by three hundredths a second until something is shed again: that is how room is found.
    assert!(shed[20..].iter().all(|shed| *shed < 20.0), "{shed:?}");
    let load = world.places[0].view.as_ref().unwrap().services[&web()].load.unwrap();
    let capacity = load.capacity.unwrap();
    assert_eq!(capacity.source, CapacitySource::Measured);
    assert!((90.0..120.0).contains(&capacity.rps), "{capacity:?}");
    let seen = world.places[1].snapshot.as_ref().unwrap().regions[&region("a")].load;
    assert!(seen.rps > 80.0, "{seen:?}");
}

#[test]
fn the_capacity_of_one_service_bounds_that_service() {
    let mut world = World::with(&[("a", 0.0, 80.0), ("b", 0.0, 10.0)], |own| {
        let mut policy = policy(own, &[("a", 0.0), ("b", 0.0)]);
        policy.steering.capacity_rps.insert(web(), 50.0);
        policy
    });
    world.run(30, |_| {});
    let [a, b] = world.asked()[..] else { panic!() };
    assert!((50..=52).contains(&a) && a + b == 90, "{:?}", world.asked());
}

#[test]
fn endpoints_that_say_that_they_drain_get_nothing_new_and_nobody_calls_them_down() {
    let mut world = World::new(&[("a", 0.0, 50.0), ("b", 0.0, 10.0)]);
    world.run(5, |_| {});
    world.place("a").pods = Some(EndpointAnswer::Draining);
    world.run(3, |_| {});
    assert_eq!(world.asked(), [0, 60]);
    assert_eq!(world.places[0].order(), ["b", "a"], "the own region is still there when all others refuse");
    assert_eq!(world.places[1].order(), ["b"]);
    assert_eq!(world.places[1].web().unwrap().states[&region("a")], State::Draining);
    let said = &world.places[0].view.as_ref().unwrap().services[&web()];
    assert!(said.draining && said.word == proxima::domain::health::Word::Up);
    world.place("a").pods = Some(EndpointAnswer::Well);
    world.run(3, |_| {});
    assert_eq!(world.asked(), [50, 10]);
}

#[test]
fn an_edge_that_ends_is_left_by_the_others_once_every_answer_says_so() {
    let mut world = World::new(&[("a", 0.0, 50.0), ("b", 0.0, 10.0)]);
    world.run(5, |_| {});
    world.tell("a", Input::Leaving);
    world.run(2, |_| {});
    assert_eq!(world.places[1].order(), ["b", "a"], "one of many nodes that ends is not its region");
    world.run(3, |_| {});
    assert_eq!(world.places[1].order(), ["b"]);
    assert_eq!(world.asked()[0], 50, "it finishes what its own users send");
}

#[test]
fn a_bias_makes_a_region_count_as_further() {
    let mut world = World::with(&[("a", 0.0, 1.0), ("b", 0.0, 1.0), ("c", 0.0, 1.0)], |own| {
        let mut policy = policy(own, &[("a", 0.0), ("b", 0.0), ("c", 0.0)]);
        policy.regions.get_mut(&region("b")).unwrap().bias = Duration::from_millis(50);
        policy
    });
    world.run(5, |_| {});
    assert_eq!(world.places[0].order(), ["a", "c", "b"], "20 ms and 50 ms are more than 30 ms");
    assert_eq!(
        world.places[0].snapshot.as_ref().unwrap().regions[&region("b")].rtt,
        Some(Rtt::millis(20)),
        "what is shown is what was measured"
    );
}

#[test]
fn answers_of_forwarded_requests_bound_how_far_a_region_is() {
    let mut world = World::new(&[("a", 0.0, 1.0), ("b", 0.0, 1.0), ("c", 0.0, 1.0)]);
    world.run(5, |_| {});
    assert_eq!(world.places[0].order(), ["a", "b", "c"], "20 ms and 30 ms");
    for _ in 0..10 {
        let (rtt, source) = (Rtt::millis(5), SampleSource::FirstByte);
        world.tell("a", Input::Sample { region: region("c"), rtt, source });
    }
    world.run(1, |_| {});
    assert_eq!(world.places[0].order(), ["a", "c", "b"], "what answers within 5 ms is no 30 ms away");
}

#[test]
fn forwarded_traffic_shows_how_far_a_region_is_and_slow_answers_do_not() {
    let mut world = World::new(&[("a", 0.0, 1.0), ("b", 0.0, 1.0), ("c", 0.0, 1.0)]);
    world.run(5, |_| {});
    assert_eq!(world.places[0].order(), ["a", "b", "c"]);
    for _ in 0..40 {
        let (rtt, source) = (Rtt::millis(900), SampleSource::FirstByte);
        world.tell("a", Input::Sample { region: region("b"), rtt, source });
    }
    world.run(1, |_| {});
    assert_eq!(world.places[0].order(), ["a", "b", "c"]);
    let far = |world: &mut World| {
        for _ in 0..4 {
            let (rtt, source) = (Rtt::millis(80), SampleSource::Tcp);
            world.tell("a", Input::Sample { region: region("b"), rtt, source });
        }
    };
    // As many as there were probes: what traffic shows weighs as much, and no more.
    for _ in 0..8 {
        far(&mut world);
        world.run(1, |_| {});
    }
    assert_eq!(world.places[0].order(), ["a", "b", "c"], "the lower median is still a probe's");
    let quality = world.places[0].snapshot.as_ref().unwrap().regions[&region("b")].quality;
    assert_eq!(quality.p99, Some(Rtt::millis(80)));
    assert_eq!(quality.first_byte, Some(Rtt::millis(900)));
}

#[test]
fn requests_stay_in_the_edge_s_zone_as_far_as_it_can_carry_them() {
    let mut world = World::with(&[("a", 0.0, 10.0)], |own| {
        let mut policy = policy(own, &[("a", 0.0)]);
        policy.steering.zone = Some(Zone::parse("near").unwrap());
        policy
    });
    let address = |n: u8| SocketAddr::from(([10, 0, 0, n], 80));
    // One of four is near, where half of the edges are.
    let zone = |n: u8| Zone::parse(if n == 3 { "near" } else { "far" }).unwrap();
    let zones = (0..4).map(|n| (address(n), zone(n))).collect();
    world.tell("a", Input::Zoned { service: web(), zones });
    let addresses = (0..4).map(address).collect();
    world.tell("a", Input::Resolved { target: Target::Service(web()), addresses });
    for n in 0..4 {
        let result = Ok(EndpointAnswer::Well);
        world.tell("a", Input::Probed(Probe::Endpoint { service: web(), address: address(n), result }));
    }
    world.run(30, |_| {});
    let candidates = &world.places[0].web().unwrap().candidates;
    let near = |tried: &[SocketAddr]| {
        let drawn = (0..10_000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let picked = drawn.map(|random| pick_by_zone(&candidates[0], tried, random, world.now).unwrap());
        picked.filter(|endpoint| endpoint.address() == address(3)).count()
    };
    assert!((4_800..5_200).contains(&near(&[])), "{}", near(&[]));
    assert_eq!(near(&[address(3)]), 0, "one that was tried is left, zone or not");
}

#[test]
fn choosing_where_a_request_goes_allocates_nothing() {
    let names: Vec<String> = (0..33).map(|n| format!("r{n:02}")).collect();
    let regions: Vec<_> = names.iter().map(|name| (name.as_str(), 0.0, 1.0)).collect();
    let mut world = World::new(&regions);
    world.run(5, |_| {});
    let snapshot = world.places[0].snapshot.clone().unwrap();
    let service = &snapshot.services[&web()];
    assert_eq!(service.candidates.len(), 33);
    let mut tried = 0;
    let info = allocation_counter::measure(|| {
        for random in 0..1_000u64 {
            let mut attempts = Attempts::all(Arc::clone(service), Budget::new(3, true), None, random);
            while let Some(attempt) = attempts.next(random, world.now) {
                tried += 1;
                drop(attempt);
                attempts.failed(Failure::Connect, Body::Replayable);
            }
        }
    });
    assert_eq!((tried, info.count_total), (3_000, 0));
}
