//! A whole failover as edges in EKS do it: with a token for their service account, by the rights of deploy/iam/edge.json.

use crate::gate::{CHANGES_THROTTLED, Door};
use crate::planet::{FAR, NAME, NO_CREDENTIALS, Planet, READ_WELL, RENEWED, policy};
use crate::run_support::{Edge, eventually};
use crate::users::Users;
use crate::world::{REGION, SUBJECT};

const THROTTLED: &str = r#"proxima_dns_api_errors_total{kind="throttled"}"#;
const DENIED: &str = r#"proxima_dns_api_errors_total{kind="denied"}"#;
/// Of `failover.max_shift`, of 100.
const STEP_MAX: u8 = 25;

fn until_throttled(edges: &[Edge; 2], more: f64) {
    let all = || edges.iter().map(|edge| edge.metric(THROTTLED).unwrap()).sum::<f64>();
    let before = all();
    eventually("changes are throttled", || (all() >= before + more).then_some(()));
}

#[tokio::test]
async fn users_are_led_away_and_home_again_by_an_edges_rights_alone_while_changes_are_throttled() {
    let Some(planet) = Planet::new().await else { return };
    planet.token(SUBJECT);
    let (sts, route53) = (planet.world.gate(Door::Open), planet.world.gate(Door::Open));
    let edges = [REGION, FAR].map(|own| planet.edge(own, &route53.url(), &sts));
    for edge in &edges {
        edge.until_metric(READ_WELL, 3.0);
    }
    let users = edges.each_ref().map(|edge| Users::of(edge.address("http")));
    assert_eq!(planet.weights(), [0, 100], "home");

    route53.turn(CHANGES_THROTTLED);
    planet.far_is_ill(true);
    until_throttled(&edges, 2.0);
    // Until probes saw it, the ill service's own answers went out to those who asked there.
    let met = users[1].failed();
    assert_eq!(planet.weights(), [0, 100], "a change that was throttled was none");
    route53.turn(Door::Open);
    eventually("users are led away at once", || (planet.weights() == [100, 0]).then_some(()));

    // Before the first step home and, by chance, another: each is asked again, none is skipped.
    route53.turn(CHANGES_THROTTLED);
    planet.far_is_ill(false);
    until_throttled(&edges, 2.0);
    route53.turn(Door::Open);
    let mut home = 0;
    while home < 100 {
        let [away, now] =
            eventually("the next step home", || Some(planet.weights()).filter(|[_, now]| *now != home));
        assert!(now > home && now - home <= STEP_MAX, "from {home} to {now}");
        assert_eq!(away + now, 100);
        home = now;
    }

    assert_eq!([users[0].failed(), users[1].failed()], [0, met], "users who got no answer or a bad one");
    for edge in &edges {
        assert_eq!([DENIED, NO_CREDENTIALS].map(|series| edge.metric(series)), [Some(0.0); 2]);
        assert_eq!(edge.metric(RENEWED), Some(1.0));
        assert!(!edge.log().contains("AccessDenied"), "{}", edge.log());
    }
    let calls = planet.world.calls();
    let denied: Vec<_> = calls.iter().filter(|call| !call.allowed).collect();
    assert!(denied.is_empty(), "{denied:?}");
    for action in ["ChangeResourceRecordSets", "GetChange", "ListResourceRecordSets", "ListHealthChecks"] {
        let used = calls.iter().any(|call| call.action == format!("route53:{action}"));
        assert!(used, "{action} was not judged");
    }
    assert_eq!(planet.imds.knocks(), 0, "the instance was asked");
}

#[tokio::test]
async fn a_region_that_the_policy_does_not_name_keeps_its_users_and_the_edge_says_why() {
    let Some(planet) = Planet::new().await else { return };
    planet.token(SUBJECT);
    let other = policy(&planet.zone).replace(&format!("{FAR}.{NAME}"), &format!("elsewhere.{NAME}"));
    planet.world.allow("edge", &other);
    let sts = planet.world.gate(Door::Open);
    let edges = [REGION, FAR].map(|own| planet.edge(own, &planet.world.url(), &sts));
    for edge in &edges {
        edge.until_metric(READ_WELL, 3.0);
    }
    planet.far_is_ill(true);
    eventually("a change is denied", || {
        edges.iter().find(|edge| edge.metric(DENIED) > Some(0.0) && edge.log().contains("AccessDenied"))
    });
    assert_eq!(planet.weights(), [0, 100]);
}
