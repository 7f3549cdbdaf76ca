//! What the first edge tells the region that serves a request: its priority, and who the client is.

use crate::client::get;
use crate::origin::{Origin, Reply, ok};
use crate::protection::{BOUND, CLASSES, edge};
use crate::support::{Authority, Plan, Running, eventually, start_with};
use proxima::config::{Config, Environment};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// An edge of the region `away` whose service `web` has more to it.
async fn away(authority: &Authority, service: &str) -> Running {
    let text = Plan { own: "away", ..Plan::default() }.toml(authority);
    let text = text.replacen("[services.other]", &format!("{service}\n[services.other]"), 1);
    start_with(Arc::new(Config::from_text("away.toml", &text, &Environment::default()).unwrap()))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_request_keeps_the_priority_of_its_route_and_no_client_can_claim_one() {
    let authority = Authority::new();
    let home = edge(&authority, "", CLASSES).await;
    let away = away(&authority, BOUND).await;
    let slow = Origin::start(|_, _| Reply::Silence).await;
    home.route(&[("away", &[away.peer()])]);
    away.route(&[("away", &[slow.address])]);
    let at = home.http();
    let hold = |path: &'static str| tokio::spawn(async move { get(at, path, "").await });
    // Two sheddable ones may be in flight there, five of both lower classes, ten in all.
    let mut held: Vec<_> = (0..2).map(|_| hold("/cheap")).collect();
    eventually("two are in flight", || slow.seen().len() == 2).await;
    let claim = "x-proxima-priority: critical\r\n";
    assert_eq!(get(at, "/cheap", claim).await.status, 503);
    held.extend((0..3).map(|_| hold("/")));
    eventually("five are in flight", || slow.seen().len() == 5).await;
    assert_eq!(get(at, "/", claim).await.status, 503);
    held.extend((0..5).map(|_| hold("/dear")));
    eventually("ten are in flight", || slow.seen().len() == 10).await;
    assert_eq!(get(at, "/dear", "").await.status, 503);
    for class in ["sheddable", "normal", "critical"] {
        let shed = format!("proxima_requests_shed_total{{priority=\"{class}\",service=\"web\"}}");
        assert_eq!((away.metric(&shed), home.metric(&shed)), (1.0, 0.0), "{class}");
    }
    let inner = |head: &str| head.to_ascii_lowercase().contains("x-proxima-");
    assert!(slow.seen().iter().all(|seen| !inner(&seen.head)), "what edges tell each other ends there");
    held.iter().for_each(tokio::task::JoinHandle::abort);
    home.close().await;
    away.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_behind_a_trusted_proxy_have_endpoints_of_their_own_in_the_other_region_too() {
    let authority = Authority::new();
    let by_client = "[services.web.affinity]\nby = \"client\"\n";
    let text = Plan::default().toml(&authority);
    let text = text.replacen("[edge]\n", "[edge]\ntrusted_proxies = [\"127.0.0.0/8\"]\n", 1);
    let text = text.replacen("[services.other]", &format!("{by_client}\n[services.other]"), 1);
    let home =
        start_with(Arc::new(Config::from_text("home.toml", &text, &Environment::default()).unwrap())).await;
    let home = home.unwrap();
    let away = away(&authority, by_client).await;
    let mut origins = Vec::new();
    for name in ["a", "b", "c", "d"] {
        origins.push(Origin::start(move |_, _| ok(name)).await);
    }
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    home.route(&[("away", &[away.peer()])]);
    away.route(&[("away", &addresses)]);
    let mut places = BTreeMap::new();
    for last in 1..=20 {
        // Through two proxies: the last word of the list is one of theirs.
        let told =
            format!("x-forwarded-for: 198.51.100.{last}, 127.0.0.9\r\nx-proxima-client: 203.0.113.1\r\n");
        let place = get(home.http(), "/", &told).await.body;
        assert_eq!(get(home.http(), "/", &told).await.body, place, "client {last}");
        places.insert(last, place);
    }
    let used: BTreeSet<_> = places.values().collect();
    assert!(used.len() >= 3, "20 clients at {used:?}");
    let seen: Vec<_> = origins.iter().flat_map(Origin::seen).collect();
    assert!(seen.iter().all(|seen| seen.header("x-proxima-client").is_none()));
    assert!(seen.iter().all(|seen| seen.header("x-forwarded-for").unwrap().starts_with("198.51.100.")));
    home.close().await;
    away.close().await;
}
