//! `proxima dns` as people run it.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)] // Each test file uses its part.
mod dns_support;

use aws_sdk_route53::types::{ChangeAction, RrType};
use dns_support::front::{Fate, For, Front};
use dns_support::{REGIONS, Server, simple};
use std::path::PathBuf;
use tokio::process::Command;

/// Exit code, standard output, standard error.
async fn proxima(config: &PathBuf, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_proxima"))
        .args(["dns", arguments[0], "--config"])
        .arg(config)
        .args(&arguments[1..])
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env_remove("AWS_SESSION_TOKEN")
        .env_remove("PROXIMA_REGION")
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn written(server: &Server, test: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("dns_cli_{test}.toml"));
    std::fs::write(&path, server.text("eu-west-1", &REGIONS, "mode = \"observe\"")).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bootstrap_shows_then_creates_then_has_nothing_to_do_on_our_zone_server() {
    prepares(Server::zone_server().await.unwrap(), "zone_server").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bootstrap_shows_then_creates_then_has_nothing_to_do_on_ministack() {
    let Some(server) = Server::ministack().await else { return };
    prepares(server, "ministack").await;
}

async fn prepares(server: Server, test: &str) {
    let config = written(&server, test);
    let (code, _, error) = proxima(&config, &["show"]).await;
    assert_eq!(code, Some(1), "nothing to show yet");
    assert!(error.contains("names that cannot be read: 1"), "{error}");

    let (code, shown, error) = proxima(&config, &["bootstrap"]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""));
    for line in [
        "create   http://127.77.0.1:1/health/edge (ap-south-1)",
        "create   http://127.77.0.2:1/health/gate/www.example.test (eu-west-1)",
        "create   _proxima.www.example.test TXT, generation 1",
        "create   eu-west-1.www.example.test A [eu-west-1] weight 100: 127.77.0.2",
        "create   www.example.test A [us-east-1] -> us-east-1.www.example.test",
        "13 to create",
        "nothing was created; add --yes to create it",
    ] {
        assert!(shown.contains(line), "{line} in\n{shown}");
    }
    assert!(server.records().await.is_empty());

    let (code, created, error) = proxima(&config, &["bootstrap", "--yes"]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""), "{created}");
    assert!(
        created.contains("www.example.test: INSYNC after") && created.ends_with("created\n"),
        "{created}"
    );

    let (code, again, _) = proxima(&config, &["bootstrap", "--yes"]).await;
    assert_eq!(code, Some(0));
    assert!(again.ends_with("nothing to do\n") && !again.contains("create "), "{again}");

    let (code, shown, error) = proxima(&config, &["show"]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""));
    for line in ["  generation 1\n", "  writer     bootstrap\n", "  set        us-east-1: us-east-1=100\n"] {
        assert!(shown.contains(line), "{line} in\n{shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bootstrap_asks_again_when_it_is_throttled_or_not_answered_on_our_zone_server() {
    let server = Server::zone_server().await.unwrap();
    let front = Front::before(server.endpoint.as_deref().unwrap()).await;
    let config = written(&server.behind(&front.address.to_string()), "throttled");
    for kind in [For::Checks, For::Listings, For::Progress] {
        front.next(kind, Fate::Refuse("Throttling"));
        front.next(kind, Fate::LoseAnswer);
    }
    front.next(For::Changes, Fate::Refuse("PriorRequestNotComplete"));
    let (code, created, error) = proxima(&config, &["bootstrap", "--yes"]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""), "{created}");
    assert!(created.contains("www.example.test: INSYNC after"), "{created}");
    assert_eq!(server.edge("eu-west-1").await.read().await.state.fence.generation.get(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_in_the_way_is_named_and_nothing_is_created_on_our_zone_server() {
    let server = Server::zone_server().await.unwrap();
    let foreign = simple("us-east-1.www.example.test", RrType::A, "203.0.113.7");
    server.change(vec![(ChangeAction::Create, foreign)]).await;
    let (code, shown, error) = proxima(&written(&server, "foreign"), &["bootstrap", "--yes"]).await;
    assert_eq!(code, Some(1));
    assert!(shown.contains("PROBLEM  us-east-1.www.example.test A: a simple record"), "{shown}");
    assert!(error.starts_with("proxima dns: nothing was created"), "{error}");
    assert_eq!(server.records().await.len(), 1);
}
