//! Where credentials come from, and what becomes of users and records when they do not come.

use crate::gate::{Door, THROTTLED};
use crate::planet::{FAR, NO_CREDENTIALS, Planet, READ_WELL, RENEWED, serves};
use crate::run_support::{Edge, eventually, get};
use crate::world::{REGION, SUBJECT, bare};
use std::process::Command;

#[tokio::test]
async fn a_region_is_evacuated_with_the_role_of_the_service_account_while_sts_is_down_again() {
    let Some(planet) = Planet::new().await else { return };
    planet.token(SUBJECT);
    let sts = planet.world.gate(Door::Open);
    let route53 = planet.world.url();
    let edges = [planet.edge(REGION, &route53, &sts), planet.edge(FAR, &route53, &sts)];
    for edge in &edges {
        serves(edge);
        edge.until_metric(READ_WELL, 3.0);
        edge.until_metric("proxima_aws_credentials_expiry_timestamp_seconds", 1.0);
    }
    // What they have is good for an hour: nobody asks, nobody notices.
    sts.turn(Door::Shut);
    let knocks = sts.knocks();
    planet.evacuate();
    assert_eq!(sts.knocks(), knocks, "STS was asked again");
    for edge in &edges {
        serves(edge);
        assert_eq!(edge.metric(RENEWED), Some(1.0));
        assert_eq!(edge.metric(NO_CREDENTIALS), Some(0.0));
    }
}

#[tokio::test]
async fn sts_that_is_down_at_the_start_costs_no_request_and_readings_begin_when_it_is_back() {
    let Some(planet) = Planet::new().await else { return };
    planet.token(SUBJECT);
    let sts = planet.world.gate(Door::Shut);
    let edge = planet.edge(REGION, &planet.world.url(), &sts);
    edge.until_metric(NO_CREDENTIALS, 1.0);
    serves(&edge);
    assert_eq!(get(edge.address("admin"), "/ready").status, 200);
    assert_eq!(edge.metric(READ_WELL), Some(0.0));
    sts.turn(Door::Open);
    edge.until_metric(READ_WELL, 1.0);
    assert!(edge.log().contains("works again"), "{}", edge.log());
}

#[tokio::test]
async fn the_role_is_for_the_service_account_alone_and_a_token_that_was_rotated_is_read_anew() {
    let Some(planet) = Planet::new().await else { return };
    planet.token("system:serviceaccount:default:somebody");
    let sts = planet.world.gate(Door::Open);
    let edge = planet.edge(REGION, &planet.world.url(), &sts);
    edge.until_metric(NO_CREDENTIALS, 1.0);
    eventually("it is told why", || edge.log().contains("AccessDenied").then_some(()));
    assert_eq!(edge.metric(READ_WELL), Some(0.0));
    planet.token(SUBJECT);
    edge.until_metric(READ_WELL, 1.0);
}

#[tokio::test]
async fn throttled_calls_are_asked_again_and_users_see_nothing_of_it() {
    let Some(planet) = Planet::new().await else { return };
    planet.token(SUBJECT);
    let (sts, route53) = (planet.world.gate(Door::Open), planet.world.gate(THROTTLED));
    let edge = planet.edge(REGION, &route53.url(), &sts);
    edge.until_metric(r#"proxima_dns_api_errors_total{kind="throttled"}"#, 2.0);
    serves(&edge);
    route53.turn(Door::Open);
    edge.until_metric(READ_WELL, 1.0);
    assert_eq!(edge.metric(NO_CREDENTIALS), Some(0.0));
}

#[tokio::test]
async fn the_role_of_the_node_is_never_taken_unless_it_is_said() {
    let Some(planet) = Planet::new().await else { return };
    let imds = planet.world.gate(Door::Open);
    let file = planet.config((REGION, "command"), &planet.world.url(), "");
    let start = |said: &str| {
        let mut command = Edge::command(&file, &[]);
        bare(&mut command)
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.url())
            .env("PROXIMA_AWS_CREDENTIALS", said);
        Edge::of(command).bound_all()
    };
    let edge = start("");
    edge.until_metric(NO_CREDENTIALS, 2.0);
    serves(&edge);
    assert_eq!(imds.knocks(), 0, "the instance was asked");
    for word in ["no credentials for AWS", "AWS_ROLE_ARN", r#"credentials = \"node\""#] {
        assert!(edge.log().contains(word), "{word}\n{}", edge.log());
    }
    drop(edge);
    let edge = start("node");
    eventually("the instance is asked", || (imds.knocks() > 0).then_some(()));
    edge.until_metric(RENEWED, 1.0);
    drop(edge);
    // The same for a command, which has nothing else to do.
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxima"));
    let asked = imds.knocks();
    let shown = bare(&mut command)
        .args(["dns", "show", "--config", file.to_str().unwrap()])
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.url())
        .output()
        .unwrap();
    assert_eq!((shown.status.code(), imds.knocks()), (Some(1), asked));
    assert!(String::from_utf8(shown.stderr).unwrap().contains("no credentials for AWS"));
}
