//! A service that is asked five times what it can do.

use crate::origin::{Origin, Way};
use crate::run_support::{Folder, single};
use crate::{ALONE, Client};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

const PLACES: usize = 10;
const SERVICE: Duration = Duration::from_millis(50);
/// A client does not wait longer.
const PATIENCE: Duration = Duration::from_millis(500);
/// Each asks once in `PATIENCE`: together five times ten places for 50 ms.
const CLIENTS: usize = 500;

/// How long the load lasts before anything is counted.
const SETTLE: Duration = Duration::from_millis(2500);

const CLASSES: &str = r#"
[[routes]]
name = "dear"
path_prefix = "/dear"
service = "web"
priority = "critical"
[[routes]]
name = "cheap"
path_prefix = "/cheap"
service = "web"
priority = "sheddable"
"#;
/// A tenth of the requests is critical: half of what the origin can do.
const PATHS: [&str; 10] = ["/dear", "/", "/", "/", "/", "/cheap", "/cheap", "/cheap", "/cheap", "/cheap"];

/// Requests that are answered well in time, and all that were begun, by class: critical, normal, sheddable.
#[derive(Default)]
struct Counts([[AtomicUsize; 2]; 3]);

impl Counts {
    fn now(&self) -> [[usize; 2]; 3] {
        std::array::from_fn(|class| std::array::from_fn(|what| self.0[class][what].load(Ordering::SeqCst)))
    }
}

/// Answers a second of as many clients as there are places, one request after the other: what it can do.
async fn capacity(at: SocketAddr) -> f64 {
    let (served, began) = (Arc::<AtomicUsize>::default(), Instant::now());
    let end = began + Duration::from_millis(1500);
    let clients: Vec<_> = (0..PLACES)
        .map(|_| {
            let served = Arc::clone(&served);
            tokio::spawn(async move {
                let mut client = Client::default();
                while Instant::now() < end {
                    assert_eq!(client.ask(at, "/").await.unwrap(), 200);
                    served.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    served.load(Ordering::SeqCst) as f64 / began.elapsed().as_secs_f64()
}

/// Five times the capacity by clients that never slow down: for a while to settle, then what is counted.
///
/// Goodput as a share of `capacity`, and the share of each class that is answered well.
async fn overloaded(at: SocketAddr, capacity: f64, settle: Duration) -> (f64, [f64; 3]) {
    let counts: Arc<Counts> = Arc::default();
    let start = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let counts = Arc::clone(&counts);
            let mut ticks = interval_at(start + PATIENCE.mul_f64(number as f64 / CLIENTS as f64), PATIENCE);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            tokio::spawn(async move {
                let path = PATHS[number % PATHS.len()];
                let class = ["/dear", "/", "/cheap"].iter().position(|of| *of == path).unwrap();
                let mut client = Client::default();
                loop {
                    ticks.tick().await;
                    counts.0[class][1].fetch_add(1, Ordering::SeqCst);
                    match timeout(PATIENCE, client.ask(at, path)).await {
                        Ok(Ok(200)) => drop(counts.0[class][0].fetch_add(1, Ordering::SeqCst)),
                        Ok(Ok(503)) => {}
                        // Late or broken: it leaves.
                        _ => client = Client::default(),
                    }
                }
            })
        })
        .collect();
    // The time of a measurement, not a wait for something.
    sleep(settle).await;
    let (before, began) = (counts.now(), Instant::now());
    sleep(Duration::from_millis(3500)).await;
    let (after, lasted) = (counts.now(), began.elapsed().as_secs_f64());
    for client in clients {
        client.abort();
    }
    let more = |class: usize, what: usize| (after[class][what] - before[class][what]) as f64;
    let good: f64 = (0..3).map(|class| more(class, 0)).sum();
    let offered: f64 = (0..3).map(|class| more(class, 1)).sum::<f64>() / lasted;
    assert!(offered > 4.0 * capacity, "only {offered} a second were offered, to {capacity}");
    (good / lasted / capacity, std::array::from_fn(|class| more(class, 0) / more(class, 1)))
}

/// Goodput, what each class got, and the bound at the end.
async fn measured(concurrency: &str, settle: Duration) -> (f64, [f64; 3], Option<f64>) {
    let origin = Origin::start(Way::Gate(Arc::new(Semaphore::new(PLACES)), SERVICE)).await;
    let folder = Folder::new();
    let text = single(origin.address, CLASSES)
        .replace("health.path = \"/\"", &format!("health.path = \"/health\"\n{concurrency}"));
    let edge = crate::started(&folder.write("proxima.toml", &text), 1);
    let at = edge.address("http");
    let capacity = capacity(at).await;
    let (goodput, classes) = overloaded(at, capacity, settle).await;
    let bound = edge.metric("proxima_concurrency_limit{service=\"web\"}");
    eprintln!("{capacity:.0} a second; goodput {goodput:.3}, classes {classes:.3?}, bound {bound:?}");
    (goodput, classes, bound)
}

#[tokio::test(flavor = "multi_thread")]
async fn goodput_stays_above_90_percent_of_what_a_service_can_do_at_five_times_the_load() {
    let _alone = ALONE.lock().await;
    let (goodput, [critical, normal, sheddable], bound) =
        measured("concurrency = { max = 200, initial = 50 }", SETTLE).await;
    assert!(goodput >= 0.9, "{goodput} of the capacity");
    // It began at five times the places. (A measurement of the base may be on: no lower end.)
    let bound = bound.unwrap();
    assert!(bound <= PLACES as f64 * 3.0, "a bound of {bound}");
    // Critical ones suffer least, sheddable ones most.
    assert!(critical > 1.5 * normal && normal > sheddable, "{critical} {normal} {sheddable}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_bound_the_same_load_leaves_little_goodput() {
    let _alone = ALONE.lock().await;
    let (goodput, ..) = measured("", SETTLE).await;
    assert!(goodput < 0.5, "{goodput}: no collapse, so the other test proves nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_far_too_high_at_first_comes_down_though_clients_leave_before_their_answers() {
    let _alone = ALONE.lock().await;
    let (goodput, ..) = measured("concurrency = { max = 400, initial = 200 }", 3 * SETTLE).await;
    assert!(goodput >= 0.9, "{goodput} of the capacity");
}
