//! Several names that share the room of their regions.

use super::edge::{Edge, home, policy, region, web, www};
use proxima::domain::fleet::{DnsReport, Input};
use proxima::domain::health::Word;
use proxima::domain::name::{DnsName, EntryId, RegionId};
use proxima::domain::plan::Plan;
use proxima::domain::policy::{NamePolicy, Policy};
use proxima::domain::votes::Witness;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn api() -> DnsName {
    DnsName::parse("api.example.com").unwrap()
}

/// What clients send to every region: 90 requests a second for `www`, 30 for `api`.
fn asked() -> BTreeMap<DnsName, f64> {
    BTreeMap::from([(www(), 90.0), (api(), 30.0)])
}

fn two_names() -> Policy {
    let mut policy = policy();
    let name = NamePolicy { entries: Arc::new(home()), services: BTreeSet::from([web()]) };
    policy.names.insert(api(), name);
    policy
}

/// Region `a` can carry so much of both names.
fn region_bounds(rps: f64) -> Policy {
    let mut policy = two_names();
    policy.regions.get_mut(&region("a")).unwrap().capacity_rps = Some(rps);
    policy
}

/// The service that both need can carry so much there.
fn service_bounds(rps: f64) -> Policy {
    let mut policy = two_names();
    policy.steering.capacity_rps.insert(web(), rps);
    policy
}

/// A second of it; `c` is dead or well.
fn second(edge: &mut Edge, c_is_well: bool) {
    edge.pods(true);
    edge.load_by_name(asked());
    edge.entered = asked().values().sum();
    edge.entered_by_name = asked();
    let word = if c_is_well { Word::Up } else { Word::Down };
    edge.peer_votes("b", 20, Word::Up, &[("a", Word::Up), ("b", Word::Up), ("c", word)]);
    match c_is_well {
        true => edge.peer("c", 80, Word::Up, Word::Up),
        false => edge.silent("c"),
    }
}

/// What `c`'s death makes of a minute at home.
fn plans_when_c_dies(policy: Policy) -> BTreeMap<DnsName, Plan> {
    let names: Vec<DnsName> = policy.names.keys().cloned().collect();
    let mut edge = Edge::steady(policy);
    edge.second(60, |edge| {
        names.iter().for_each(|name| edge.records_of(name, 1, home(), &[]));
        second(edge, true);
    });
    assert_eq!(edge.plans, []);
    edge.second(12, |edge| second(edge, false));
    edge.tell(Input::Dns(DnsReport::Witness { region: region("c"), witness: Witness::Red }));
    edge.second(1, |edge| second(edge, false));
    edge.plans.drain(..).map(|plan| (plan.name.clone(), plan)).collect()
}

fn share_of_c(plans: &BTreeMap<DnsName, Plan>, name: &DnsName, to: &str) -> f64 {
    let to: RegionId = region(to);
    plans[name].changes[&EntryId::parse("c").unwrap()].to.share(&to)
}

#[test]
fn names_that_are_moved_at_once_share_the_room_of_the_region_that_takes_them() {
    // Both have 120 at home in `a`, and as many come from `c`: there is room for 225. `b` is farther.
    for (bound, policy) in [("region", region_bounds(225.0)), ("service", service_bounds(225.0))] {
        let plans = plans_when_c_dies(policy);
        // `api` comes first and takes 30 of the 105 that are left; 75 are left for 90 of `www`. What plans count with
        // is up to a twentieth off.
        assert_eq!(share_of_c(&plans, &api(), "a"), 1.0, "{bound}");
        let (near, far) = (share_of_c(&plans, &www(), "a"), share_of_c(&plans, &www(), "b"));
        let part = (near - 75.0 / 90.0).abs() < 0.13 && near < 0.97;
        assert!(part && (near + far - 1.0).abs() < 1e-9, "{bound}: {near} {far}");
    }
}

#[test]
fn each_name_is_moved_with_its_own_users_only() {
    // 240 in all. Were the users of both counted for each, 120 of each name would be moved, and none of them fit.
    let plans = plans_when_c_dies(region_bounds(245.0));
    for name in [www(), api()] {
        assert_eq!(share_of_c(&plans, &name, "a"), 1.0, "{name}");
    }
}
