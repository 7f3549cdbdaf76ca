//! Endpoints that fail: what clients see, and what retries cost.

use crate::origin::{Origin, Way};
use crate::run_support::{Edge, Folder, single};
use crate::{ALONE, Client, sum};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const REQUESTS: usize = 3000;
const CLIENTS: usize = 16;
/// The configured budget: a part of the requests, and a floor for the window, which is longer than the test.
const RATIO: f64 = 0.2;
const FLOOR: f64 = 60.0;

/// An edge before these origins, with retries on every kind of fault.
fn edge(folder: &Folder, origins: &[Origin], ejection: &str) -> Edge {
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address.to_string()).collect();
    let text = single(origins[0].address, ejection)
        .replace(
            &format!("endpoints.here = [\"{}\"]", origins[0].address),
            &format!("endpoints.here = {addresses:?}\nattempts = 4"),
        )
        .replace("health_path = \"/\"", "health_path = \"/health\"\nretry_budget = { ratio = 0.2, min_per_second = 1.0, window = \"60s\" }")
        .replace(
            "path_prefix = \"/\"",
            "path_prefix = \"/\"\ntimeouts = { first_byte = \"300ms\", request = \"8s\" }\nretries = { attempts = 4, on = [\"timeout\", \"500\", \"503\"] }",
        );
    let edge = Edge::ready(&folder.write("proxima.toml", &text));
    crate::run_support::eventually("every endpoint is known", || {
        let snapshot = edge.snapshot();
        let known = snapshot["services"]["web"]["candidates"][0]["endpoints"].as_array()?.len();
        (known == origins.len()).then_some(())
    });
    edge
}

/// Asks `REQUESTS` times; how many were not answered well.
async fn load(edge: &Edge) -> usize {
    let at = edge.address("http");
    let (begun, failed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (begun, failed) = (Arc::clone(&begun), Arc::clone(&failed));
            tokio::spawn(async move {
                let mut client = Client::default();
                while begun.fetch_add(1, Ordering::SeqCst) < REQUESTS {
                    if client.ask(at, "/").await.ok() != Some(200) {
                        failed.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    failed.load(Ordering::SeqCst)
}

fn asked(origins: &[Origin]) -> usize {
    origins.iter().map(Origin::asked).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_fails_at_half_of_its_endpoints_fails_no_idempotent_request() {
    let _alone = ALONE.lock().await;
    for (one, other) in [(Way::Status(500), Way::Reset), (Way::Status(503), Way::Hang)] {
        let name = format!("{one:?} and {other:?}");
        let mut origins = Vec::new();
        for way in [Way::Well, one, Way::Well, other] {
            origins.push(Origin::start(way).await);
        }
        let folder = Folder::new();
        // Back soon, and ill again: more than one ejection is seen.
        let edge = edge(&folder, &origins, "[ejection]\nejection = \"1s\"");
        let failed = load(&edge).await;
        assert_eq!(failed, 0, "{name}: {failed} of {REQUESTS} failed");
        let extra = (asked(&origins) - REQUESTS) as f64;
        let retries = sum(&edge, "proxima_retries_total");
        assert_eq!(extra, retries, "{name}: what origins saw and what the metric says");
        assert!(origins[1].asked() > 0 && origins[3].asked() > 0, "{name}: both ill ones were asked");
        assert!(extra <= RATIO * REQUESTS as f64 + FLOOR, "{name}: {extra} retries");
        // Without ejection each request meets an ill endpoint every other time.
        assert!(extra <= 0.1 * REQUESTS as f64, "{name}: {extra} retries in spite of ejection");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_all_endpoints_is_not_multiplied_by_retries() {
    let _alone = ALONE.lock().await;
    let mut origins = Vec::new();
    for _ in 0..4 {
        origins.push(Origin::start(Way::Status(503)).await);
    }
    let folder = Folder::new();
    // Nobody is ejected: every request finds endpoints to try.
    let never = "[ejection]\nconsecutive_failures = 1000\nfailure_share = 1.0\nfailure_volume = 1000000\noutlier_volume = 1000000";
    let edge = edge(&folder, &origins, never);
    assert_eq!(load(&edge).await, REQUESTS);
    let (asked, retries) = (asked(&origins) as f64, sum(&edge, "proxima_retries_total"));
    let budget = RATIO * REQUESTS as f64 + FLOOR;
    assert!(asked <= REQUESTS as f64 + budget, "{asked} attempts for {REQUESTS} requests");
    assert!(retries <= budget && retries >= budget / 2.0, "{retries} of {budget} retries");
    assert!(sum(&edge, "proxima_retries_denied_total") >= REQUESTS as f64 / 2.0);
}
