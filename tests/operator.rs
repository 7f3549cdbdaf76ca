//! Operators' commands, by the real binary: three edges, Route 53 as the zone server speaks it, and a
//! front before it that can take it away.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)] // Each test file uses its part.
mod dns_support;
mod run_support;

mod operator {
    mod certificates;
    mod parting;
    pub mod world;
}

use dns_support::front::{Fate, For};
use dns_support::region;
use operator::world::World;
use run_support::eventually;
use std::process::Command;
use std::sync::Arc;

const NAME: &str = "www.example.test";
const TOKEN: &str = "a token of sixteen bytes or more";

#[tokio::test(flavor = "multi_thread")]
async fn operators_drain_and_undrain_and_are_held_to_the_rules() {
    let world = Arc::new(World::start().await);
    let (own, reason) = ("eu-west-1", ["--reason", "bad deploy, ask bob"]);

    // Who is no operator, is told so, and nothing happens.
    world.folder.write("wrong", "not the token of anybody here");
    let wrong = world.folder.path().join("wrong");
    let denied = world.proxima_with(&wrong, &["drain", own, reason[0], reason[1]]);
    assert_eq!(denied.code, Some(1), "{}", denied.error);
    assert!(denied.error.contains("no operator has this token"), "{}", denied.error);
    assert!(world.audited("drain", "denied").is_some());
    let nameless = world.proxima(&["drain", own]);
    assert!(nameless.error.contains("needs a reason"), "{}", nameless.error);
    assert!(world.control().await.operator.drains.is_empty());

    // A drain waits until it is INSYNC, and the users go elsewhere.
    let drained = world.proxima(&["drain", own, reason[0], reason[1]]);
    assert_eq!(drained.code, Some(0), "{}{}", drained.out, drained.error);
    for words in ["in force at http://127.0.0.1:", "by alice", "in the control record, generation 2, INSYNC"]
    {
        assert!(drained.out.contains(words), "{words} in {}", drained.out);
    }
    let said = world.control().await.operator.drains[&region(own)].said.clone();
    assert_eq!((said.reason.as_str(), said.by.as_str()), ("bad deploy, ask bob", "alice"));
    world.until(own, false).await;
    let written = world.audited("drain", "written").unwrap();
    assert_eq!((&written["operator"], &written["generation"]), (&"alice".into(), &2.into()));
    let accepted = world.audited("drain", "accepted").unwrap();
    assert_eq!(accepted["reason"], "bad deploy, ask bob");
    assert!(accepted["from"].as_str().unwrap().starts_with("127.0.0.1:"));
    world.edges[1].until_metric("proxima_operator_acts_total{act=\"drain\",result=\"written\"}", 1.0);
    assert!(!world.audit().iter().any(|line| line.to_string().contains(TOKEN)));
    assert!(!world.edges[1].log().contains(TOKEN));
    let status = world.proxima(&["operator", "status"]);
    assert!(status.out.contains("bad deploy, ask bob"), "{}", status.out);

    // Each edge heeds what one of them was told; the last region is not drained.
    eventually("another edge has read it", || {
        (world.edges[0].snapshot()["services"]["web"]["states"][own] == "draining").then_some(())
    });
    let other = world.proxima(&["drain", "us-east-1", reason[0], reason[1]]);
    assert_eq!(other.code, Some(0), "{}{}", other.out, other.error);
    let last = world.proxima(&["drain", "ap-south-1", reason[0], reason[1]]);
    assert_eq!(last.code, Some(1));
    assert!(last.error.contains("refused: rule `min_live`"), "{}", last.error);
    assert!(world.audited("drain", "refused").unwrap()["why"].as_str().unwrap().contains("min_live"));

    for region in [own, "us-east-1"] {
        let back = world.proxima(&["undrain", region]);
        assert_eq!(back.code, Some(0), "{}{}", back.out, back.error);
    }
    world.until(own, true).await;
    assert!(world.control().await.operator.drains.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_effective_while_route_53_is_down_and_written_when_it_is_back() {
    let world = World::start().await;
    let own = "eu-west-1";
    // Changes are refused from now on, as many as it takes.
    let refused = 4;
    for _ in 0..refused {
        world.front.next(For::Changes, Fate::Refuse("Throttling"));
    }
    let (reached, go) = (Arc::default(), Arc::default());
    world.front.next(For::Changes, Fate::Hold { reached: Arc::clone(&reached), go: Arc::clone(&go) });
    let drained = world.proxima(&["drain", own, "--reason", "fire", "--no-wait"]);
    assert_eq!(drained.code, Some(3), "{}{}", drained.out, drained.error);
    assert!(drained.out.contains("effective at this edge, not yet written"), "{}", drained.out);
    eventually("new requests go elsewhere", || (world.first() != own).then_some(()));
    reached.notified().await;
    assert!(world.control().await.operator.drains.is_empty(), "it is not written");
    let status = world.proxima(&["operator", "status"]);
    assert!(status.out.contains("Throttling"), "the reason is shown: {}", status.out);
    // A later act on the same thing, given while the first one is under way.
    go.notify_one();
    let again = world.proxima(&["drain", own, "--reason", "fire, still"]);
    assert_eq!(again.code, Some(0), "{}{}", again.out, again.error);
    assert_eq!(world.control().await.operator.drains[&region(own)].said.reason, "fire, still");
    assert!(world.front.changes_seen() > refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn freezes_overrides_and_the_way_without_any_edge() {
    let world = World::start().await;
    let config = world.files[1].to_str().unwrap();
    let frozen = world
        .proxima(&["freeze", "--all", "--reason", "release", "--direct", "--config", config, "--as", "bob"]);
    assert_eq!(frozen.code, Some(0), "{}{}", frozen.out, frozen.error);
    assert!(frozen.out.contains("INSYNC"), "{}", frozen.out);
    let freeze = world.control().await.operator.freeze.unwrap();
    assert_eq!((freeze.said.reason.as_str(), freeze.said.by.as_str()), ("release", "bob (direct)"));
    for edge in &world.edges {
        edge.until_metric(&format!("proxima_dns_frozen{{name=\"{NAME}\"}}"), 1.0);
    }
    let drained = world.proxima(&["drain", "eu-west-1", "--reason", "x", "--for", "10m"]);
    assert_eq!(drained.code, Some(0), "{}{}", drained.out, drained.error);
    eventually("the freeze holds it back", || {
        (world.edges[0].snapshot()["names"][NAME]["refusal"] == "frozen").then_some(())
    });
    let refused = world.edges[0].metric(r#"proxima_refusals_total{rule="frozen"}"#);
    assert!(refused.is_some_and(|times| times >= 1.0), "{refused:?}");
    assert!(world.edges[0].log().contains("a DNS change is held back"), "and logged");
    assert_eq!(world.sent_to("eu-west-1").await, ["eu-west-1"]);
    let thawed = world.proxima(&["thaw", "--name", NAME]);
    assert_eq!(thawed.code, Some(0), "{}{}", thawed.out, thawed.error);
    world.until("eu-west-1", false).await;

    let over = world.proxima(&["override", "hold_down", "--for", "30m", "--reason", "we know"]);
    assert_eq!(over.code, Some(0), "{}{}", over.out, over.error);
    assert_eq!(world.control().await.operator.overrides.len(), 1);
    let wrong = world.proxima(&["override", "frozen", "--for", "30m", "--reason", "we know"]);
    assert!(
        wrong.code == Some(1) && wrong.error.contains("no rule that can be overridden"),
        "{}",
        wrong.error
    );
    assert_eq!(world.proxima(&["clear", "hold_down"]).code, Some(0));
    assert!(world.control().await.operator.overrides.is_empty());

    let direct = ["--reason", "x", "--direct", "--config", config];
    for region in ["us-east-1", "ap-south-1"] {
        let said = world.proxima(&[&["drain", region][..], &direct[..]].concat());
        let last = region == "ap-south-1";
        assert_eq!(said.code, Some(i32::from(last)), "{region}: {}{}", said.out, said.error);
        assert_eq!(said.error.contains("refused: rule `min_live`"), last, "{}", said.error);
    }
    let nobody = Command::new(env!("CARGO_BIN_EXE_proxima"))
        .args(["thaw", "--all", "--admin", "http://127.0.0.1:1"])
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8(nobody.stderr).unwrap().contains("--direct if no edge is left"));
}
