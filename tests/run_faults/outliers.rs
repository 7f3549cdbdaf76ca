//! Endpoints that do worse than the others, and how endpoints come to their share.

use crate::origin::{Origin, Way};
use crate::run_support::{Edge, Folder, eventually, single};
use crate::{ALONE, Client, endpoints_of, started, sum};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

const CLIENTS: usize = 16;
/// Compared every second; no rule that looks at one endpoint alone ejects.
const COMPARED: &str = "[ejection]\nfailure_window = \"1s\"\noutlier_volume = 20\nejection = \"1m\"\n\
                        consecutive_failures = 1000\nfailure_share = 1.0\nfailure_volume = 1000000\n";
/// Sessions go where their hash leads. The balancer keeps away from who is slow or fails, and would hide it.
const HASHED: &str = "[services.web.affinity]\nby = \"header:x-user\"\n";

fn text(origins: &[Origin], more: &str) -> String {
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address.to_string()).collect();
    single(origins[0].address, more)
        .replace(
            &format!("endpoints.here = [\"{}\"]", origins[0].address),
            &format!("endpoints.here = {addresses:?}"),
        )
        .replace("health.path = \"/\"", "health.path = \"/health\"")
}

async fn start(ways: impl IntoIterator<Item = Way>) -> Vec<Origin> {
    let mut origins = Vec::new();
    for way in ways {
        origins.push(Origin::start(way).await);
    }
    origins
}

/// Asks so many times, each time as another user; how many were not answered well.
async fn load(edge: &Edge, requests: usize) -> usize {
    let at = edge.address("http");
    let (begun, failed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (begun, failed) = (Arc::clone(&begun), Arc::clone(&failed));
            tokio::spawn(async move {
                let mut client = Client::default();
                loop {
                    let number = begun.fetch_add(1, Ordering::SeqCst);
                    if number >= requests {
                        return;
                    }
                    if client.ask_as(at, "/", &format!("user-{number}")).await.ok() != Some(200) {
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

fn ejections(edge: &Edge, reason: &str) -> f64 {
    let series = format!("proxima_endpoint_ejections_total{{reason=\"{reason}\",service=\"web\"}}");
    edge.metric(&series).unwrap_or_default()
}

/// Goes on asking until one endpoint is ejected for a reason.
async fn until_ejected(edge: &Edge, reason: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while ejections(edge, reason) < 1.0 {
        assert!(Instant::now() < deadline, "nobody is ejected for {reason}");
        load(edge, 200).await;
    }
}

fn slow(millis: u64) -> Way {
    Way::Gate(Arc::new(Semaphore::new(1000)), Duration::from_millis(millis))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_four_that_is_slow_is_ejected_by_its_latency() {
    let _alone = ALONE.lock().await;
    let origins = start([slow(5), slow(5), slow(250), slow(5)]).await;
    let folder = Folder::new();
    let file = folder.write("proxima.toml", &text(&origins, &[COMPARED, HASHED].concat()));
    let edge = started(&file, 4);
    until_ejected(&edge, "latency").await;
    eventually("it is left out", || (endpoints_of(&edge) == 3).then_some(()));
    let before = origins[2].asked();
    assert_eq!(load(&edge, 400).await, 0);
    assert_eq!(origins[2].asked(), before, "who is ejected is not asked");
    assert_eq!(sum(&edge, "proxima_endpoint_ejections_total"), 1.0);
    // Its sessions are elsewhere for as long as that lasts.
    assert!(sum(&edge, "proxima_sessions_moved_total") > 20.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_four_that_fails_a_share_of_its_requests_is_ejected_by_its_success_rate() {
    let _alone = ALONE.lock().await;
    let origins = start([Way::Well, Way::Sometimes(503, 4), Way::Well, Way::Well]).await;
    let folder = Folder::new();
    let file = folder.write("proxima.toml", &text(&origins, &[COMPARED, HASHED].concat()));
    let edge = started(&file, 4);
    until_ejected(&edge, "success_rate").await;
    eventually("it is left out", || (endpoints_of(&edge) == 3).then_some(()));
    let before = origins[1].asked();
    assert_eq!(load(&edge, 400).await, 0, "no request fails any more");
    assert_eq!(origins[1].asked(), before);
    assert_eq!(sum(&edge, "proxima_endpoint_ejections_total"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_the_share_is_ejected_though_more_are_ill() {
    let _alone = ALONE.lock().await;
    let ill = || Way::Status(503);
    let origins = start([ill(), ill(), Way::Well, ill(), ill(), ill()]).await;
    let folder = Folder::new();
    let rules = "[ejection]\nejection = \"1m\"\nejected_max = 0.5\n";
    let edge = started(&folder.write("proxima.toml", &text(&origins, &[rules, HASHED].concat())), 6);
    for _ in 0..20 {
        load(&edge, 50).await;
        assert!(sum(&edge, "proxima_endpoint_ejections_total") <= 3.0);
    }
    eventually("half of them are ejected", || {
        (edge.metric("proxima_service_endpoints{service=\"web\",state=\"ejected\"}")? == 3.0).then_some(())
    });
    // Whichever rule was the first: a run of failures, or their share.
    assert_eq!(sum(&edge, "proxima_endpoint_ejections_total"), 3.0);
}

/// What each origin gets of a batch of requests, as a part of what the others get in the mean.
async fn part_of(edge: &Edge, origins: &[Origin], one: usize) -> f64 {
    let before: Vec<usize> = origins.iter().map(Origin::asked).collect();
    assert_eq!(load(edge, 400).await, 0);
    let got: Vec<usize> =
        origins.iter().zip(&before).map(|(origin, before)| origin.asked() - before).collect();
    let others = got.iter().sum::<usize>() - got[one];
    got[one] as f64 * (got.len() - 1) as f64 / others as f64
}

async fn until_it_has_its_part(edge: &Edge, origins: &[Origin], one: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while part_of(edge, origins, one).await < 0.75 {
        assert!(Instant::now() < deadline, "it never gets as much as the others");
    }
}

/// Grown from a tenth over this time.
const SLOW_START: &str = "[ejection]\nprobation = \"10s\"\noutlier_latency = 0.0\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_returns_gets_little_at_first_and_its_part_in_the_end() {
    let _alone = ALONE.lock().await;
    let sick = Arc::new(AtomicBool::new(false));
    let origins = start([Way::Well, Way::Well, Way::Well, Way::Sick(Arc::clone(&sick))]).await;
    let folder = Folder::new();
    let edge = started(&folder.write("proxima.toml", &text(&origins, SLOW_START)), 4);
    // Its latency is known: nothing but its share keeps requests from it later.
    until_it_has_its_part(&edge, &origins, 3).await;
    sick.store(true, Ordering::SeqCst);
    eventually("its probes eject it", || (endpoints_of(&edge) == 3).then_some(()));
    assert_eq!(ejections(&edge, "probes"), 1.0);
    assert_eq!(part_of(&edge, &origins, 3).await, 0.0);
    sick.store(false, Ordering::SeqCst);
    eventually("it returns", || (endpoints_of(&edge) == 4).then_some(()));
    let first = part_of(&edge, &origins, 3).await;
    assert!(first < 0.6, "{first} of what the others get, at once");
    until_it_has_its_part(&edge, &origins, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_joins_others_is_not_run_over() {
    let _alone = ALONE.lock().await;
    let origins = start([slow(5), slow(5), slow(5), slow(5)]).await;
    let folder = Folder::new();
    let edge = started(&folder.write("proxima.toml", &text(&origins[..3], SLOW_START)), 3);
    assert_eq!(load(&edge, 400).await, 0);
    folder.write("proxima.toml", &text(&origins, SLOW_START));
    eventually("it joins", || (endpoints_of(&edge) == 4).then_some(()));
    // Without samples it is the cheapest of all: without its share it would get every draw.
    let first = part_of(&edge, &origins, 3).await;
    assert!(first < 0.6, "{first} of what the others get, at once");
    until_it_has_its_part(&edge, &origins, 3).await;
}
