//! The API server is killed, hangs, forgets, or is not there yet.

use crate::cluster::{Cluster, Signal, until};
use crate::load::Load;
use crate::run_support::authority::Authority;
use crate::run_support::{Edge, Folder, Service, get, loopback};
use crate::way::Way;
use crate::{at, http, region, until_used, used};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::sleep;

const CONNECTED: &str = r#"proxima_kube_watch_connected{namespace="shop"}"#;
const AWAY: &str = r#"proxima_kube_watch_away_seconds{namespace="shop"}"#;

fn failures(reason: &str) -> String {
    format!(r#"proxima_kube_watch_failures_total{{namespace="shop",reason="{reason}"}}"#)
}

/// How long the API is away: some seconds, or `PROXIMA_KUBE_AWAY` of them.
fn away() -> Duration {
    let stated = std::env::var("PROXIMA_KUBE_AWAY").ok().map(|text| text.parse().unwrap());
    Duration::from_secs(stated.unwrap_or(5))
}

fn until_metric(edge: &Edge, series: &str, right: impl Fn(f64) -> bool) {
    until(&format!("{series} is as it should be\n{}", edge.log()), || {
        edge.metric(series).filter(|v| right(*v))
    });
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn the_api_server_killed_costs_no_request_and_is_followed_after_it_is_back() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.namespace("shop").await;
    let (a, b) = (Service::start("a"), Service::start("b"));
    cluster.slice("web-1", "web", http(a.address.port()), json!([at("ready")])).await;
    let folder = Folder::new();
    let text = region(&cluster.admin(), &[("web", "shop/web:http", "/")], "zone-a");
    let edge = Edge::ready(&folder.write("edge.toml", &text));
    until_used(&edge, "web", &[a.address]);

    let load = Load::of(&edge);
    cluster.signal_api(&Signal::Kill);
    until_metric(&edge, CONNECTED, |connected| connected == 0.0);
    sleep(away()).await;
    let ready = get(edge.address("admin"), "/ready").status;
    assert_eq!((ready, used(&edge, "web")), (200, vec![a.address.to_string()]), "nothing has changed here");
    until_metric(&edge, AWAY, |seconds| seconds >= 3.0);

    cluster.start_api().await;
    cluster.slice("web-1", "web", http(b.address.port()), json!([at("ready")])).await;
    // Within the longest pause, and what the server needs until it serves what it has definitions of.
    let began = tokio::time::Instant::now();
    while used(&edge, "web") != [b.address.to_string()] {
        assert!(began.elapsed() < Duration::from_secs(40), "not followed:\n{}", edge.log());
        sleep(Duration::from_millis(50)).await;
    }
    until_metric(&edge, CONNECTED, |connected| connected == 1.0);
    until_metric(&edge, AWAY, |seconds| seconds == 0.0);
    let count = load.without_a_failure();
    println!(
        "the API server was away for {:?}: none of {count} requests failed; followed {:?} after it was back",
        away(),
        began.elapsed()
    );
    let told = edge.log().matches("the last good ones stay").count();
    assert!((1..=3).contains(&told), "told {told} times:\n{}", edge.log());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn an_edge_that_starts_while_the_api_is_away_forwards_and_says_what_it_waits_for() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.namespace("shop").await;
    let (a, b) = (Service::start("web in a"), Service::start("web in b"));
    // Both regions have a cluster of their own; that of `a` hangs: it takes connections and says nothing.
    let Some(hangs) = Cluster::start().await else { return };
    hangs.namespace("shop").await;
    hangs.slice("web-1", "web", http(a.address.port()), json!([at("ready")])).await;
    hangs.signal_api(&Signal::Stop);
    cluster.slice("web-1", "web", http(b.address.port()), json!([at("ready")])).await;
    let folder = Folder::new();
    let authority = Authority::new();
    let peers = [loopback(), loopback()];
    let edge = |own: &str, address, kubeconfig: &Path| {
        authority.sign(&folder, own, &format!("peer.{own}.test"));
        let text = region(kubeconfig, &[("web", "shop/web:http", "/")], "zone-a");
        let regions = format!(
            r#"
[peer]
address = "{address}:8443"
certificate = "{own}.pem"
key = "{own}.key"
ca = "{own}-ca.pem"
[regions.a]
peer = "{}:8443"
server_name = "peer.a.test"
[regions.b]
peer = "{}:8443"
server_name = "peer.b.test"
"#,
            peers[0], peers[1]
        );
        let text = text.replace("region = \"here\"", &format!("region = \"{own}\""));
        folder.write(&format!("{own}.toml"), &text.replace("[regions.here]\n", &regions))
    };
    let far = Edge::ready(&edge("b", peers[1], &cluster.admin()));
    until_used(&far, "web", &[b.address]);
    let near = Edge::ready(&edge("a", peers[0], &hangs.admin()));
    until("the other region serves", || (get(near.address("http"), "/").body == "web in b").then_some(()));
    assert_eq!(near.metric(CONNECTED), Some(0.0));
    until("it says what it waits for", || {
        near.log().contains("waiting for the Kubernetes API").then_some(())
    });

    let load = Load::of(&near);
    hangs.signal_api(&Signal::Continue);
    until("its own endpoints serve", || (get(near.address("http"), "/").body == "web in a").then_some(()));
    load.without_a_failure();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn a_version_that_the_server_no_longer_has_is_listed_again_without_a_gap() {
    // Without its cache the server asks etcd, which remembers only what was not compacted.
    let Some(cluster) = Cluster::start_with(&["--watch-cache=false"]).await else { return };
    cluster.namespace("shop").await;
    let (a, b) = (Service::start("a"), Service::start("b"));
    cluster.slice("web-1", "web", http(a.address.port()), json!([at("ready")])).await;
    let folder = Folder::new();
    let text = region(&cluster.admin(), &[("web", "shop/web:http", "/")], "zone-a");
    let edge = Edge::ready(&folder.write("edge.toml", &text));
    until_used(&edge, "web", &[a.address]);
    let load = Load::of(&edge);
    // Others change, and what was before is forgotten; this watch has heard of nothing.
    cluster.namespace("elsewhere").await;
    cluster.namespace("somewhere").await;
    cluster.compact();
    // The watch ends by its own time, and the next one would go on from a version that is gone.
    let began = tokio::time::Instant::now();
    while edge.metric(&failures("expired")).unwrap_or_default() < 1.0 {
        assert!(began.elapsed() < Duration::from_secs(100), "never expired:\n{}", edge.log());
        sleep(Duration::from_millis(200)).await;
    }
    until_metric(&edge, CONNECTED, |connected| connected == 1.0);
    cluster.slice("web-1", "web", http(b.address.port()), json!([at("ready")])).await;
    until_used(&edge, "web", &[b.address]);
    load.without_a_failure();
}

/// A kubeconfig that leads over a way of its own.
async fn over(cluster: &Cluster, folder: &Folder, late: Duration) -> (Way, PathBuf) {
    let text = std::fs::read_to_string(cluster.admin()).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    let server = &mut config["clusters"][0]["cluster"]["server"];
    let address = server.as_str().unwrap().trim_start_matches("https://").parse().unwrap();
    let way = Way::to(address, late).await;
    *server = json!(format!("https://{}", way.address));
    (way, folder.write("way.json", &config.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn what_changes_and_is_forgotten_while_the_way_is_cut_is_found_on_every_page() {
    let Some(cluster) = Cluster::start_with(&["--watch-cache=false"]).await else { return };
    cluster.namespace("shop").await;
    let (a, b, c) = (Service::start("a"), Service::start("b"), Service::start("c"));
    // A page has a hundred slices: the last ones are on the second.
    for n in 0..120 {
        cluster.slice(&format!("web-{n:03}"), "web", http(a.address.port()), json!([at("ready")])).await;
    }
    cluster.slice("web-120", "web", http(b.address.port()), json!([at("ready")])).await;
    let folder = Folder::new();
    let (way, kubeconfig) = over(&cluster, &folder, Duration::ZERO).await;
    let text = region(&kubeconfig, &[("web", "shop/web:http", "/")], "zone-a");
    let edge = Edge::ready(&folder.write("edge.toml", &text));
    until_used(&edge, "web", &[a.address, b.address]);
    let load = Load::of(&edge);
    way.cut();
    until_metric(&edge, CONNECTED, |connected| connected == 0.0);
    cluster.slice("web-120", "web", http(c.address.port()), json!([at("ready")])).await;
    cluster.delete_slice("web-000").await;
    cluster.compact();
    way.mend();
    until_used(&edge, "web", &[a.address, c.address]);
    until_metric(&edge, CONNECTED, |connected| connected == 1.0);
    load.without_a_failure();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn a_slow_server_is_waited_for_and_followed() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.namespace("shop").await;
    let (a, b) = (Service::start("a"), Service::start("b"));
    cluster.slice("web-1", "web", http(a.address.port()), json!([at("ready")])).await;
    let folder = Folder::new();
    let (_way, kubeconfig) = over(&cluster, &folder, Duration::from_millis(700)).await;
    let text = region(&kubeconfig, &[("web", "shop/web:http", "/")], "zone-a");
    let edge = Edge::ready(&folder.write("edge.toml", &text));
    until_used(&edge, "web", &[a.address]);
    let load = Load::of(&edge);
    until_metric(&edge, CONNECTED, |connected| connected == 1.0);
    cluster.slice("web-1", "web", http(b.address.port()), json!([at("ready")])).await;
    until_used(&edge, "web", &[b.address]);
    assert_eq!(edge.metric(CONNECTED), Some(1.0));
    for reason in ["timeout", "unreachable"] {
        assert_eq!(edge.metric(&failures(reason)).unwrap_or_default(), 0.0, "{reason}:\n{}", edge.log());
    }
    load.without_a_failure();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn a_server_that_falls_silent_is_noticed_by_the_watch_that_does_not_end() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.namespace("shop").await;
    let (a, b) = (Service::start("a"), Service::start("b"));
    cluster.slice("web-1", "web", http(a.address.port()), json!([at("ready")])).await;
    let folder = Folder::new();
    let text = region(&cluster.admin(), &[("web", "shop/web:http", "/")], "zone-a");
    let edge = Edge::ready(&folder.write("edge.toml", &text));
    until_used(&edge, "web", &[a.address]);
    let load = Load::of(&edge);
    // Its connections stand, and nothing comes.
    cluster.signal_api(&Signal::Stop);
    let began = tokio::time::Instant::now();
    while edge.metric(&failures("timeout")).unwrap_or_default() < 1.0 {
        assert!(began.elapsed() < Duration::from_secs(100), "never noticed:\n{}", edge.log());
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!((edge.metric(CONNECTED), used(&edge, "web")), (Some(0.0), vec![a.address.to_string()]));
    cluster.signal_api(&Signal::Continue);
    cluster.slice("web-1", "web", http(b.address.port()), json!([at("ready")])).await;
    until_used(&edge, "web", &[b.address]);
    load.without_a_failure();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn a_kubeconfig_that_comes_later_is_found() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.namespace("shop").await;
    let a = Service::start("a");
    cluster.slice("web-1", "web", http(a.address.port()), json!([at("ready")])).await;
    let folder = Folder::new();
    let later = folder.path().join("later.json");
    let edge =
        Edge::ready(&folder.write("edge.toml", &region(&later, &[("web", "shop/web:http", "/")], "zone-a")));
    until_metric(&edge, &failures("settings"), |count| count >= 1.0);
    assert!(edge.log().contains("later.json"), "it names the file:\n{}", edge.log());
    // First one for a server that is not there, then the right one.
    let text = std::fs::read_to_string(cluster.admin()).unwrap();
    let nowhere = json!(format!("https://{}:6443", loopback()));
    let mut wrong: serde_json::Value = serde_json::from_str(&text).unwrap();
    wrong["clusters"][0]["cluster"]["server"] = nowhere;
    folder.write("later.json", &wrong.to_string());
    until_metric(&edge, &failures("unreachable"), |count| count >= 1.0);
    folder.write("edge.toml", &region(&cluster.admin(), &[("web", "shop/web:http", "/")], "zone-a"));
    until_used(&edge, "web", &[a.address]);
}
