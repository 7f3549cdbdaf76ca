//! `proxima doctor`: says what there is and what is missing, and changes nothing.

use crate::gate::Door;
use crate::planet::{NAME, Planet};
use crate::world::{REGION, SUBJECT, bare};
use serde_json::Value;
use std::process::Command;

/// All that this configuration needs.
const ALL: [&str; 7] = [
    "route53:GetHostedZone",
    "route53:ListResourceRecordSets",
    "route53:GetChange",
    "route53:ListHealthChecks",
    "route53:GetHealthCheckStatus",
    "route53:ChangeResourceRecordSets",
    "s3:PutObject",
];

struct Told {
    code: Option<i32>,
    text: String,
}

impl Told {
    fn finding(&self, what: &str) -> Value {
        let json: Value =
            serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text));
        let findings = json["findings"].as_array().unwrap().clone();
        let found = findings.into_iter().find(|finding| finding["what"].as_str().unwrap().starts_with(what));
        found.unwrap_or_else(|| panic!("no {what} in {}", self.text))
    }
}

/// With the token that the planet has.
fn doctor(planet: &Planet, sts: &str, arguments: &[&str]) -> Told {
    let more = "[audit]\noutput = \"audit.log\"\n[archive]\ns3 = \"s3://proxima-archive/a\"";
    let file = planet.config((REGION, "doctor"), &planet.world.url(), more);
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxima"));
    let done = bare(&mut command)
        .args(["doctor", "--config", file.to_str().unwrap()])
        .args(arguments)
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", planet.folder.path().join("token"))
        .env("AWS_ROLE_ARN", &planet.role)
        .env("AWS_ENDPOINT_URL_STS", sts)
        .env("AWS_ENDPOINT_URL_S3", planet.world.url())
        .output()
        .unwrap();
    Told { code: done.status.code(), text: String::from_utf8(done.stdout).unwrap() }
}

fn policy(actions: &[&str]) -> String {
    serde_json::json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": actions, "Resource": "*" },
    ] })
    .to_string()
}

#[tokio::test]
async fn it_says_what_is_there_and_what_is_missing_and_changes_nothing() {
    let Some(planet) = Planet::new().await else { return };
    planet.token(SUBJECT);
    let before = planet.records();
    let bucket = "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                  <LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>";
    assert_eq!(planet.world.signed("s3", ("PUT", "/proxima-archive"), &[], bucket.as_bytes()).status, 200);
    planet.world.allow("edge", &policy(&ALL));
    let url = planet.world.url();
    let well = doctor(&planet, &url, &[]);
    assert_eq!(well.code, Some(0), "{}", well.text);
    for word in ["web_identity, found", "assumed-role/edge", &format!("ChangeResourceRecordSets {NAME}")] {
        assert!(well.text.contains(word), "{word} in\n{}", well.text);
    }
    assert!(!well.text.contains("FAILED"), "{}", well.text);

    for lost in ALL {
        let left: Vec<&str> = ALL.into_iter().filter(|action| *action != lost).collect();
        planet.world.allow("edge", &policy(&left));
        let told = doctor(&planet, &url, &["--json"]);
        let action = lost.split_once(':').unwrap().1;
        let finding = told.finding(action);
        if action == "GetHealthCheckStatus" {
            // This stand-in does not carry it.
            continue;
        }
        assert_eq!(finding["state"], "failed", "{lost}: {finding}");
        assert!(finding["todo"].as_str().unwrap().contains("deploy/iam"), "{lost}: {finding}");
        // A zone's own name is only asked for to say more.
        assert_eq!(told.code, Some(if action == "GetHostedZone" { 0 } else { 1 }), "{lost}: {}", told.text);
    }
    assert_eq!(planet.records(), before, "the doctor changed records");
    let listed = planet.world.signed("s3", ("GET", "/proxima-archive"), &[], b"").text;
    assert!(!listed.contains("<Key>"), "the doctor stored something: {listed}");
}

#[tokio::test]
async fn it_tells_no_credentials_from_a_foreign_token_and_both_from_an_sts_that_is_away() {
    let Some(planet) = Planet::new().await else { return };
    planet.token("system:serviceaccount:default:somebody");
    let gate = planet.world.gate(Door::Open);
    let told = doctor(&planet, &gate.url(), &["--json"]);
    assert_eq!(told.code, Some(1));
    let identity = told.finding("identity");
    assert!(identity["found"].as_str().unwrap().contains("AccessDenied"), "{identity}");
    assert!(identity["todo"].as_str().unwrap().contains("(sub)"), "{identity}");

    gate.turn(Door::Shut);
    let told = doctor(&planet, &gate.url(), &["--json"]);
    assert_eq!((told.code, told.finding("identity")["state"].as_str()), (Some(1), Some("failed")));

    let mut command = Command::new(env!("CARGO_BIN_EXE_proxima"));
    let file = planet.config((REGION, "doctor"), &planet.world.url(), "");
    let done = bare(&mut command).args(["doctor", "--config", file.to_str().unwrap()]).output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(text.contains("service account") && text.contains("credentials = \"node\""), "{text}");
}
