//! Endpoints that fail: what clients see, and what retries cost.

use crate::origin::{Origin, Way};
use crate::run_support::{Edge, Folder, eventually, single};
use crate::{ALONE, Client, endpoints_of, sum};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::Instant;

const REQUESTS: usize = 3000;
const CLIENTS: usize = 16;

/// Retries that the budget that everybody has pays for: a fifth of the requests, and ten a second for
/// its window of ten seconds and for the time that it all took.
fn budget(began: Instant) -> f64 {
    0.2 * REQUESTS as f64 + 10.0 * (10.0 + began.elapsed().as_secs_f64())
}

/// An edge before these origins, with retries on every kind of fault.
fn edge(folder: &Folder, origins: &[Origin], ejection: &str) -> Edge {
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address.to_string()).collect();
    let text = single(origins[0].address, ejection)
        .replace(
            &format!("endpoints.here = [\"{}\"]", origins[0].address),
            &format!("endpoints.here = {addresses:?}\nattempts = 4"),
        )
        .replace("health.path = \"/\"", "health.path = \"/health\"")
        .replace(
            "path_prefix = \"/\"",
            "path_prefix = \"/\"\ntimeouts = { first_byte = \"300ms\", request = \"8s\" }\nretries = { attempts = 4, on = [\"timeout\", \"500\", \"503\"] }",
        );
    crate::started(&folder.write("proxima.toml", &text), origins.len())
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
        let edge = edge(&folder, &origins, "");
        let began = Instant::now();
        let failed = load(&edge).await;
        eprintln!("{name}: {failed} failed, {} retries", asked(&origins) - REQUESTS);
        assert_eq!(failed, 0, "{name}: {failed} of {REQUESTS} failed");
        let extra = (asked(&origins) - REQUESTS) as f64;
        let retries = sum(&edge, "proxima_retries_total");
        assert_eq!(extra, retries, "{name}: what origins saw and what the metric says");
        assert!(origins[1].asked() > 0 && origins[3].asked() > 0, "{name}: both ill ones were asked");
        assert!(extra <= budget(began), "{name}: {extra} retries");
        // Probes say that they are well; what requests met says otherwise.
        eventually(&format!("{name}: both are ejected"), || (endpoints_of(&edge) == 2).then_some(()));
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
    let began = Instant::now();
    assert_eq!(load(&edge).await, REQUESTS);
    let (asked, retries) = (asked(&origins) as f64, sum(&edge, "proxima_retries_total"));
    let budget = budget(began);
    assert!(asked <= REQUESTS as f64 + budget, "{asked} attempts for {REQUESTS} requests");
    assert!(retries <= budget && retries >= budget / 2.0, "{retries} of {budget} retries");
    assert!(sum(&edge, "proxima_retries_denied_total") >= REQUESTS as f64 / 2.0);
}
