//! Regions that probe one another over mutual TLS, as processes of the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run_support;

use run_support::authority::Authority;
use run_support::*;
use std::net::Ipv4Addr;
use std::path::PathBuf;

const NAMES: [&str; 2] = ["a", "b"];

/// Two regions, of which only `b` has the service's endpoints.
struct World {
    folder: Folder,
    authority: Authority,
    peers: [Ipv4Addr; 2],
    service: Service,
}

impl World {
    fn new() -> Self {
        let folder = Folder::new();
        let authority = Authority::new();
        for name in NAMES {
            authority.sign(&folder, name, &format!("peer.{name}.test"));
        }
        Self { folder, authority, peers: [loopback(), loopback()], service: Service::start("web in b") }
    }

    fn file(&self, own: &str) -> PathBuf {
        let at = NAMES.iter().position(|name| *name == own).unwrap();
        let [a, b] = self.peers;
        let text = format!(
            r#"
[edge]
region = "{own}"
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
[ejection]
probation = "200ms"
[admin]
address = "127.0.0.1:0"
{web}
"#,
            address = self.peers[at],
            web = served("web", "b", self.service.address, "/"),
        );
        self.folder.write(&format!("{own}.toml"), &text)
    }

    fn edge(&self, own: &str) -> Edge {
        Edge::ready(&self.file(own))
    }
}

fn until_state(edge: &Edge, region: &str, state: &str) {
    edge.until_metric(
        &format!(r#"proxima_service_state{{region="{region}",service="web",state="{state}"}}"#),
        1.0,
    );
}

#[test]
fn regions_hear_one_another_measure_the_distance_and_forward() {
    let world = World::new();
    let (a, b) = (world.edge("a"), world.edge("b"));
    until_state(&a, "b", "healthy");
    a.until_metric(r#"proxima_region_heard{region="b"}"#, 1.0);
    b.until_metric(r#"proxima_region_heard{region="a"}"#, 1.0);
    // Warm exchanges are samples of the distance; set-up is a sample of its own.
    a.until_metric(r#"proxima_probe_rtt_seconds_count{region="b"}"#, 3.0);
    let setups = a.metric(r#"proxima_probe_setup_seconds_count{region="b"}"#).unwrap();
    let samples = a.metric(r#"proxima_probe_rtt_seconds_count{region="b"}"#).unwrap();
    assert!(setups >= 1.0 && setups < samples, "{setups} connections for {samples} samples");
    let rtt = a.metric(r#"proxima_region_rtt_seconds{region="b"}"#).unwrap();
    assert!((0.0..0.1).contains(&rtt), "{rtt} s on this machine");
    assert_eq!(a.snapshot()["view"]["votes"], serde_json::json!({}), "no name, no vote");
    let answer = get(a.address("http"), "/");
    assert_eq!((answer.status, answer.body.as_str()), (200, "web in b"), "forwarded");
}

#[test]
fn a_region_that_dies_is_ejected_and_is_back_when_it_answers() {
    let world = World::new();
    let a = world.edge("a");
    let b = world.edge("b");
    until_state(&a, "b", "healthy");
    drop(b);
    until_state(&a, "b", "ejected");
    a.until_metric(r#"proxima_probes_total{region="b",result="connect"}"#, 1.0);
    let _b = world.edge("b");
    until_state(&a, "b", "healthy");
    assert_eq!(get(a.address("http"), "/").body, "web in b");
}

#[test]
fn a_region_with_a_strangers_certificate_is_not_heard() {
    let world = World::new();
    Authority::new().sign(&world.folder, "b", "peer.b.test");
    let (a, b) = (world.edge("a"), world.edge("b"));
    a.until_metric(r#"proxima_probes_total{region="b",result="tls"}"#, 3.0);
    b.until_metric(r#"proxima_probes_total{region="a",result="tls"}"#, 3.0);
    assert_eq!(a.metric(r#"proxima_region_heard{region="b"}"#), Some(0.0));
}

#[test]
fn a_certificate_for_another_region_is_not_believed() {
    let world = World::new();
    world.authority.sign(&world.folder, "b", "peer.c.test");
    let (a, _b) = (world.edge("a"), world.edge("b"));
    a.until_metric(r#"proxima_probes_total{region="b",result="tls"}"#, 3.0);
    assert_eq!(a.metric(r#"proxima_region_heard{region="b"}"#), Some(0.0));
}

#[test]
fn renewed_certificates_are_taken_up_without_a_change_of_the_file() {
    let world = World::new();
    let edges = NAMES.map(|name| world.edge(name));
    until_state(&edges[0], "b", "healthy");
    let renewed = Authority::new();
    for name in NAMES {
        renewed.sign(&world.folder, name, &format!("peer.{name}.test"));
    }
    for (edge, other) in edges.iter().zip(["b", "a"]) {
        edge.until_metric(r#"proxima_reloads_total{result="applied"}"#, 1.0);
        let good = format!(r#"proxima_probes_total{{region="{other}",result="success"}}"#);
        let before = edge.metric(&good).unwrap_or(0.0);
        edge.until_metric(&good, before + 5.0);
    }
    until_state(&edges[0], "b", "healthy");
}
