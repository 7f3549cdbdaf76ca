//! Three pods of a region that find one another by the name of a headless service and share what one of them
//! measures, as processes of the real binary.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run_support;
mod zone_server_support;

use aws_sdk_route53::types::RrType;
use run_support::authority::Authority;
use run_support::{Edge, Folder, Service, eventually, get, loopback, served};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use zone_server_support::{Fixture, create, fixture, simple};

struct World {
    folder: Folder,
    zone: Fixture,
    pods: Vec<Ipv4Addr>,
    far: Ipv4Addr,
    service: Service,
    /// Of the region with many pods.
    near: Service,
}

impl World {
    async fn new() -> Self {
        let (folder, authority) = (Folder::new(), Authority::new());
        for name in ["a", "b"] {
            authority.sign(&folder, name, &format!("peer.{name}.test"));
        }
        let zone = fixture(|_| {}).await;
        let pods: Vec<Ipv4Addr> = (0..3).map(|_| loopback()).collect();
        let addresses: Vec<String> = pods.iter().map(Ipv4Addr::to_string).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        zone.accepted(vec![create(simple("pods", RrType::A, &addresses))]).await;
        let (service, near) = (Service::start("web in b"), Service::start("near in a"));
        Self { folder, zone, pods, far: loopback(), service, near }
    }

    fn edge(&self, own: &str, address: Ipv4Addr) -> Edge {
        let dns: SocketAddr = self.zone.server.dns_addr();
        let siblings = if own == "a" { "siblings = \"pods.example.test:8443\"" } else { "" };
        let text = format!(
            r#"
[edge]
region = "{own}"
{siblings}
drain_notice = "100ms"
[[listeners]]
name = "http"
address = "127.0.0.1:0"
[peer]
address = "{address}:8443"
certificate = "{own}.pem"
key = "{own}.key"
ca = "{own}-ca.pem"
[regions.a]
peer = "{a}:8443"
server_name = "peer.a.test"
[regions.b]
peer = "{b}:8443"
server_name = "peer.b.test"
[probes]
interval = "150ms"
timeout = "120ms"
[failover]
view_fresh = "1s"
[resolver]
nameservers = ["{dns}"]
[admin]
address = "127.0.0.1:0"
{near}
[services.near.capacity]
a = {CAPACITY}
{web}
"#,
            a = self.pods[0],
            b = self.far,
            near = served("near", "a", self.near.address, "/near"),
            web = served("web", "b", self.service.address, "/"),
        );
        Edge::ready(&self.folder.write(&format!("{own}-{address}.toml"), &text))
    }
}

const HELD: &str = "proxima_lease_held";
const SPARSE: &str = r#"proxima_region_probed_sparsely{region="b"}"#;
const PROBES: &str = r#"proxima_probes_total{region="b",result="success"}"#;

/// Waits until one pod holds the lease and as many others follow it; which one holds it.
///
/// The first one that lived holds it, or the first address where they met at once.
fn settled(pods: &[Edge], followers: usize) -> usize {
    eventually("one holds the lease, the others follow it", || {
        let held: Vec<usize> = (0..pods.len()).filter(|n| pods[*n].metric(HELD) == Some(1.0)).collect();
        let sparse = pods.iter().filter(|pod| pod.metric(SPARSE) == Some(1.0)).count();
        (held.len() == 1 && sparse == followers).then(|| held[0])
    })
}

/// What the region serves, in requests a second: more than one pod is sent, less than three are.
const CAPACITY: f64 = 60.0;
/// After each request of a pod's users: so one pod gets forty a second, at most.
const PAUSE: Duration = Duration::from_millis(25);

/// Users of one pod, until they are dropped.
struct Users {
    gone: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Users {
    #[allow(clippy::disallowed_methods)] // The pace of users is real time.
    fn of(pod: &Edge) -> Self {
        let (address, gone) = (pod.address("http"), Arc::new(AtomicBool::new(false)));
        let left = Arc::clone(&gone);
        let thread = thread::spawn(move || {
            while !left.load(Ordering::SeqCst) {
                // What becomes of a request when its pod dies is not the question here.
                get(address, "/near");
                thread::sleep(PAUSE);
            }
        });
        Self { gone, thread: Some(thread) }
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

const COUNTED: &str = "proxima_region_load_pods";
const ENTERED: &str = "proxima_region_entered_rps";
const HOME: &str = r#"proxima_service_home_ratio{service="near"}"#;

/// Waits until each pod knows that the region, not itself, has more than it can serve.
fn all_know_the_total(pods: &[Edge]) {
    for pod in pods {
        eventually("a pod knows what all pods of its region do together, and acts by it", || {
            let counted = pod.metric(COUNTED) == Some(pods.len() as f64);
            let above = pod.metric(ENTERED)? > CAPACITY;
            let spills = pod.metric(HOME)? < 1.0;
            let full = pod.snapshot()["services"]["near"]["accepts_forwarded"] == false;
            (counted && above && spills && full).then_some(())
        });
        let entered = pod.metric(ENTERED).unwrap();
        assert!(entered <= 130.0, "{entered} requests a second, of three pods with forty at most");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_a_region_add_their_load_up_and_compare_the_sum_with_its_capacity() {
    let world = World::new().await;
    let _far = world.edge("b", world.far);
    let mut pods: Vec<Edge> = world.pods.iter().map(|address| world.edge("a", *address)).collect();
    let holder = settled(&pods, 2);
    let mut users: Vec<Users> = pods.iter().map(Users::of).collect();
    all_know_the_total(&pods);
    let taken = r#"proxima_sibling_loads_total{result="taken"}"#;
    assert!(pods[holder].metric(taken).unwrap() > 0.0);
    // Those of one pod are fewer than the region can serve; those of two are not.
    drop((pods.remove(holder), users.remove(holder)));
    settled(&pods, 1);
    all_know_the_total(&pods);
    users.clear();
    for pod in &pods {
        eventually("traffic that has ended is counted no more", || {
            (pod.metric(ENTERED)? < 1.0 && pod.metric(HOME)? == 1.0).then_some(())
        });
    }
    world.zone.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_a_region_find_one_another_and_one_measures_for_all() {
    let world = World::new().await;
    let _far = world.edge("b", world.far);
    let mut pods: Vec<Edge> = world.pods.iter().map(|address| world.edge("a", *address)).collect();
    let holder = settled(&pods, 2);
    let probes = |pod: &Edge| pod.metric(PROBES).unwrap_or(0.0);
    let before: Vec<f64> = pods.iter().map(probes).collect();
    eventually("the holder goes on probing", || {
        (probes(&pods[holder]) >= before[holder] + 20.0).then_some(())
    });
    for (n, pod) in pods.iter().enumerate().filter(|(n, _)| *n != holder) {
        // A probe or two for each word of the holder that a busy machine was late with.
        let made = probes(pod) - before[n];
        assert!(made <= 8.0, "{made} probes of a pod that follows, while the holder made 20");
        assert_eq!(pod.metric(r#"proxima_region_heard{region="b"}"#), Some(1.0));
        assert!(pod.snapshot()["view"]["rtts"]["b"].is_number(), "it knows the distance");
    }
    drop(pods.remove(holder));
    settled(&pods, 1);
    for pod in &pods {
        let healthy = r#"proxima_service_state{region="b",service="web",state="healthy"}"#;
        assert_eq!(pod.metric(healthy), Some(1.0), "nobody was blind");
    }
    world.zone.server.shutdown().await;
}
