//! Three pods of a region that find one another by the name of a headless service and share what one of them
//! measures, as processes of the real binary.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run_support;
mod zone_server_support;

use aws_sdk_route53::types::RrType;
use run_support::authority::Authority;
use run_support::{Edge, Folder, Service, eventually, loopback, served};
use std::net::{Ipv4Addr, SocketAddr};
use zone_server_support::{Fixture, create, fixture, simple};

struct World {
    folder: Folder,
    zone: Fixture,
    pods: Vec<Ipv4Addr>,
    far: Ipv4Addr,
    service: Service,
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
        Self { folder, zone, pods, far: loopback(), service: Service::start("web in b") }
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
{web}
"#,
            a = self.pods[0],
            b = self.far,
            web = served("web", "b", self.service.address, "/"),
        );
        Edge::ready(&self.folder.write(&format!("{own}-{address}.toml"), &text))
    }
}

const HELD: &str = "proxima_lease_held";
const SPARSE: &str = r#"proxima_region_probed_sparsely{region="b"}"#;
const PROBES: &str = r#"proxima_probes_total{region="b",result="success"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_a_region_find_one_another_and_one_measures_for_all() {
    let world = World::new().await;
    let _far = world.edge("b", world.far);
    let mut pods: Vec<Edge> = world.pods.iter().map(|address| world.edge("a", *address)).collect();
    // The first one that lived holds it, or the first address where they met at once.
    let held = |pods: &[Edge]| -> Vec<usize> {
        let holds = |n: &usize| pods[*n].metric(HELD) == Some(1.0);
        (0..pods.len()).filter(holds).collect()
    };
    let sparse = |pods: &[Edge]| pods.iter().filter(|pod| pod.metric(SPARSE) == Some(1.0)).count();
    let settled = |pods: &[Edge], followers: usize| {
        eventually("one holds the lease, the others follow it", || {
            let held = held(pods);
            (held.len() == 1 && sparse(pods) == followers).then(|| held[0])
        })
    };
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
