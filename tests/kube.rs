//! Endpoints and rights against a real kube-apiserver, with edges that are processes of the real binary.
//!
//! `make test-kube`: needs `KUBEBUILDER_ASSETS`, a folder with etcd and kube-apiserver. Plain `cargo test` leaves these
//! tests out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run_support;

#[path = "kube/chart.rs"]
mod chart;
#[path = "kube/cluster.rs"]
mod cluster;
#[path = "kube/incluster.rs"]
mod incluster;
#[path = "kube/load.rs"]
mod load;
#[path = "kube/outage.rs"]
mod outage;
#[path = "kube/rights.rs"]
mod rights;
#[path = "kube/way.rs"]
mod way;

use cluster::{Cluster, until};
use run_support::{Edge, Folder, Service, get};
use serde_json::{Value, json};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use tokio::time::Instant;

/// A region whose services are told by the cluster: (id, Service and port, prefix).
pub fn region(kubeconfig: &Path, services: &[(&str, &str, &str)], zone: &str) -> String {
    let mut text = format!(
        r#"
[edge]
region = "here"
zone = "{zone}"
drain_notice = "100ms"
[[listeners]]
name = "http"
address = "127.0.0.1:0"
[regions.here]
[probes]
interval = "200ms"
timeout = "150ms"
[admin]
address = "127.0.0.1:0"
[kubernetes]
kubeconfig = "{}"
"#,
        kubeconfig.display()
    );
    for (id, of, prefix) in services {
        write!(
            text,
            r#"
[services.{id}]
kubernetes = "{of}"
health.path = "/"
[[routes]]
name = "{id}"
path_prefix = "{prefix}"
service = "{id}"
"#
        )
        .unwrap();
    }
    text
}

/// Ports of a slice, the one called `http` among them.
pub fn http(port: u16) -> Value {
    json!([{ "name": "metrics", "port": 9 }, { "name": "http", "port": port, "protocol": "TCP" }])
}

/// An endpoint at loopback; "ready", "leaving" (and serving) or "gone" (not yet taken out).
pub fn at(standing: &str) -> Value {
    let (ready, serving) = (standing == "ready", standing != "gone");
    json!({
        "addresses": ["127.0.0.1"],
        "conditions": { "ready": ready, "serving": serving, "terminating": !ready },
    })
}

/// Where the requests of a service go in the own region.
pub fn used(edge: &Edge, service: &str) -> Vec<String> {
    let snapshot = edge.snapshot();
    let candidates = snapshot["services"][service]["candidates"].as_array().cloned().unwrap_or_default();
    let own = candidates.into_iter().find(|candidate| candidate["place"] == "own");
    let endpoints = own.and_then(|own| own["endpoints"].as_array().cloned()).unwrap_or_default();
    let mut endpoints: Vec<String> = endpoints.iter().map(|at| at.as_str().unwrap().to_owned()).collect();
    endpoints.sort();
    endpoints
}

pub fn sorted(addresses: &[SocketAddr]) -> Vec<String> {
    let mut texts: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    texts.sort();
    texts
}

/// Waits until requests of `service` go to these and no others.
pub fn until_used(edge: &Edge, service: &str, addresses: &[SocketAddr]) {
    let wanted = sorted(addresses);
    until(&format!("{service} is at {wanted:?}"), || (used(edge, service) == wanted).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn endpoints_are_followed_as_they_appear_move_between_slices_terminate_and_go() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.namespace("shop").await;
    let (a, b, six) = (Service::start("a"), Service::start("b"), Service::start_at("[::1]:0", "six"));
    let folder = Folder::new();
    let services =
        [("web", "shop/web:http", "/"), ("number", &*format!("shop/web:{}", b.address.port()), "/n")];
    let edge = Edge::ready(&folder.write("edge.toml", &region(&cluster.admin(), &services, "zone-a")));
    edge.until_metric(r#"proxima_kube_watch_connected{namespace="shop"}"#, 1.0);
    assert_eq!(get(edge.address("http"), "/").status, 503, "the cluster has no endpoint of it");

    cluster.slice("web-a", "web", http(a.address.port()), json!([at("ready")])).await;
    until_used(&edge, "web", &[a.address]);
    assert_eq!(get(edge.address("http"), "/").body, "a");
    assert_eq!(used(&edge, "number"), Vec::<String>::new(), "no slice has this number");
    cluster.slice("other", "other", http(b.address.port()), json!([at("ready")])).await;

    cluster.slice("web-b", "web", http(b.address.port()), json!([at("ready")])).await;
    until_used(&edge, "web", &[a.address, b.address]);
    until_used(&edge, "number", &[b.address]);
    let v6 = json!([{ "addresses": ["::1"], "conditions": { "ready": true } }]);
    cluster.slice("web-six", "web", http(six.address.port()), v6).await;
    until_used(&edge, "web", &[a.address, b.address, six.address]);
    cluster.delete_slice("web-six").await;

    cluster.slice("web-a", "web", http(a.address.port()), json!([at("leaving")])).await;
    until_used(&edge, "web", &[b.address]);
    cluster.slice("web-b", "web", http(b.address.port()), json!([at("gone")])).await;
    until_used(&edge, "web", &[a.address]);
    assert_eq!(get(edge.address("http"), "/").body, "a", "the last one that leaves still serves");
    // The same endpoint in two slices, as it moves from one to the other.
    cluster.slice("web-b", "web", http(a.address.port()), json!([at("ready")])).await;
    cluster.delete_slice("web-a").await;
    until_used(&edge, "web", &[a.address]);
    cluster.delete_slice("web-b").await;
    until_used(&edge, "web", &[]);
    assert_eq!(get(edge.address("http"), "/").status, 503);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn a_reload_follows_other_services_and_namespaces_and_keeps_the_rest() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.namespace("shop").await;
    let (web, cart, fixed) = (Service::start("web"), Service::start("cart"), Service::start("fixed"));
    cluster.slice("web-1", "web", http(web.address.port()), json!([at("ready")])).await;
    cluster.slice("cart-1", "cart", http(cart.address.port()), json!([at("ready")])).await;
    let folder = Folder::new();
    let write = |text: &str| folder.write("edge.toml", text);
    let first = region(&cluster.admin(), &[("web", "shop/web:http", "/")], "zone-a");
    let edge = Edge::ready(&write(&first));
    until_used(&edge, "web", &[web.address]);

    let load = load::Load::of(&edge);
    write(&region(
        &cluster.admin(),
        &[("web", "shop/web:http", "/"), ("cart", "shop/cart:http", "/cart")],
        "zone-a",
    ));
    until_used(&edge, "cart", &[cart.address]);
    let connected = r#"proxima_kube_watch_connected{namespace="other"}"#;
    write(&region(
        &cluster.admin(),
        &[("web", "shop/web:http", "/"), ("cart", "other/cart:http", "/cart")],
        "zone-a",
    ));
    edge_until(&edge, connected, 1.0);
    until_used(&edge, "cart", &[]);
    // Listed instead, and told again.
    write(
        &first
            .replace("kubernetes = \"shop/web:http\"", &format!("endpoints.here = [\"{}\"]", fixed.address)),
    );
    until_used(&edge, "web", &[fixed.address]);
    assert_eq!(edge.metric(connected), None, "a namespace that nobody names is not followed");
    write(&first);
    until_used(&edge, "web", &[web.address]);
    load.without_a_failure();
}

fn edge_until(edge: &Edge, series: &str, value: f64) {
    tokio::task::block_in_place(|| edge.until_metric(series, value));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn zones_and_hints_of_endpoints_decide_where_requests_stay() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.namespace("shop").await;
    let (a, b) = (Service::start("a"), Service::start("b"));
    let placed = |zone: &str, hint: Option<&str>| {
        let mut endpoint = at("ready");
        endpoint["zone"] = zone.into();
        if let Some(hint) = hint {
            endpoint["hints"] = json!({ "forZones": [{ "name": hint }] });
        }
        json!([endpoint])
    };
    cluster.slice("web-a", "web", http(a.address.port()), placed("zone-a", None)).await;
    cluster.slice("web-b", "web", http(b.address.port()), placed("zone-b", None)).await;
    let folder = Folder::new();
    let text = region(&cluster.admin(), &[("web", "shop/web:http", "/")], "zone-a");
    let edge = Edge::ready(&folder.write("edge.toml", &text));
    let stays = |with: &str| {
        until(&format!("requests stay with {with}"), || {
            let answers: Vec<String> = (0..20).map(|_| get(edge.address("http"), "/").body).collect();
            answers.iter().all(|answer| answer == with).then_some(())
        });
    };
    until_used(&edge, "web", &[a.address, b.address]);
    stays("a");
    // Each is meant for the other zone.
    cluster.slice("web-a", "web", http(a.address.port()), placed("zone-a", Some("zone-b"))).await;
    cluster.slice("web-b", "web", http(b.address.port()), placed("zone-b", Some("zone-a"))).await;
    stays("b");
    assert_eq!(
        used(&edge, "web"),
        sorted(&[a.address, b.address]),
        "the other zone is there when it is needed"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn how_fast_a_change_reaches_routing() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.namespace("shop").await;
    let (a, b) = (Service::start("a"), Service::start("b"));
    let folder = Folder::new();
    let text = region(&cluster.admin(), &[("web", "shop/web:http", "/")], "zone-a");
    let edge = Edge::ready(&folder.write("edge.toml", &text));
    cluster.slice("web-1", "web", http(a.address.port()), json!([at("ready")])).await;
    until_used(&edge, "web", &[a.address]);
    let mut took = Vec::new();
    for turn in 0..40 {
        // The core publishes ten times a second at most: a change is measured that comes alone.
        tokio::time::sleep(std::time::Duration::from_millis(120)).await;
        let next = if turn % 2 == 0 { &b } else { &a };
        cluster.slice("web-1", "web", http(next.address.port()), json!([at("ready")])).await;
        let began = Instant::now();
        let wanted = sorted(&[next.address]);
        while used(&edge, "web") != wanted {
            assert!(began.elapsed() < run_support::PATIENCE, "never happened: {wanted:?}");
            tokio::task::yield_now().await;
        }
        took.push(began.elapsed());
    }
    took.sort();
    println!(
        "a change that the API server has answered for reaches routing in {:?} (median), {:?} (most), {} changes",
        took[took.len() / 2],
        took[took.len() - 1],
        took.len()
    );
}
