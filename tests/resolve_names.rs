//! The resolver against a real authority: TTLs, bounds, and what a failing server may take away (nothing).
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod zone_server_support;

use aws_sdk_route53::types::{ResourceRecord, ResourceRecordSet, RrType};
use prometheus::Registry;
use proxima::config::{Config, Environment};
use proxima::domain::fleet::{Input, Target};
use proxima::metrics::control::ControlMetrics;
use proxima::resolve;
use proxima::zone_server::{Settings, ZoneServer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use zone_server_support::{Fixture, ZONE, create, delete, fixture, sdk, upsert};

/// Longer than anything here should take, shorter than patience.
const PATIENCE: Duration = Duration::from_secs(10);

fn record(name: &str, ttl: i64, addresses: &[&str]) -> ResourceRecordSet {
    let values = addresses.iter().map(|a| ResourceRecord::builder().value(*a).build().unwrap()).collect();
    ResourceRecordSet::builder()
        .name(format!("{name}.{ZONE}"))
        .r#type(RrType::A)
        .ttl(ttl)
        .set_resource_records(Some(values))
        .build()
        .unwrap()
}

/// A resolver under test, and what it tells the core.
struct Resolving {
    configs: watch::Sender<Arc<Config>>,
    inputs: mpsc::Receiver<Input>,
    /// Addresses of the pods of the own region.
    pods: watch::Receiver<Vec<SocketAddr>>,
    registry: Registry,
}

fn config(server: SocketAddr, resolver: &str, endpoints: &str) -> Arc<Config> {
    let text = format!(
        r#"
        [edge]
        region = "here"
        [[listeners]]
        name = "http"
        address = "127.0.0.1:0"
        [regions.here]
        [services.web]
        endpoints.here = [{endpoints}]
        [[routes]]
        name = "web"
        service = "web"
        [resolver]
        nameservers = ["{server}"]
        timeout = "400ms"
        {resolver}
        "#
    );
    Arc::new(Config::from_text("test.toml", &text, &Environment::default()).unwrap_or_else(|p| panic!("{p}")))
}

impl Resolving {
    fn start(config: Arc<Config>) -> Self {
        let registry = Registry::new();
        let metrics = ControlMetrics::register(&registry).unwrap();
        let (configs, config) = watch::channel(config);
        let (sender, inputs) = mpsc::channel(16);
        let (siblings, pods) = watch::channel(Vec::new());
        tokio::spawn(resolve::run(resolve::Wiring { config, inputs: sender, siblings, metrics }));
        Self { configs, inputs, pods, registry }
    }

    /// The addresses that the core is told next.
    async fn told(&mut self) -> Vec<String> {
        let input = timeout(PATIENCE, self.inputs.recv()).await.expect("nothing was told").unwrap();
        let Input::Resolved { target: Target::Service(service), addresses } = input else {
            panic!("{input:?}");
        };
        assert_eq!(service.as_str(), "web");
        addresses.iter().map(ToString::to_string).collect()
    }

    fn failing(&self) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == "proxima_resolver_failing");
        family.map_or(0.0, |f| f.get_metric().iter().map(|m| m.get_gauge().get_value()).sum())
    }

    async fn until_failing(&self, names: f64) {
        let deadline = Instant::now() + PATIENCE;
        while self.failing() != names {
            assert!(Instant::now() < deadline, "{} names fail", self.failing());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn authority() -> Fixture {
    fixture(|_| {}).await
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_addresses_of_a_service_are_merged_sorted_and_told_once() {
    let zone = authority().await;
    zone.accepted(vec![
        create(record("one", 60, &["127.0.0.3", "127.0.0.2"])),
        create(record("two", 60, &["127.0.0.2"])),
    ])
    .await;
    let endpoints = r#""two.example.test:80", "127.0.0.9:81", "one.example.test:80""#;
    let bounds = "ttl_min = \"50ms\"\nttl_max = \"50ms\"";
    let mut resolving = Resolving::start(config(zone.server.dns_addr(), bounds, endpoints));
    assert_eq!(resolving.told().await, ["127.0.0.2:80", "127.0.0.3:80", "127.0.0.9:81"]);
    // Looked up again and again, but the same answer is no news.
    let more = timeout(Duration::from_millis(400), resolving.inputs.recv()).await;
    assert!(more.is_err(), "{more:?}");
    zone.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_used_for_its_ttl_and_not_much_longer() {
    let zone = authority().await;
    zone.accepted(vec![create(record("web", 2, &["127.0.0.2"]))]).await;
    let bounds = "ttl_min = \"50ms\"\nttl_max = \"60s\"";
    let mut resolving = Resolving::start(config(zone.server.dns_addr(), bounds, r#""web.example.test:80""#));
    assert_eq!(resolving.told().await, ["127.0.0.2:80"]);
    let answered = Instant::now();
    zone.accepted(vec![upsert(record("web", 2, &["127.0.0.3"]))]).await;
    assert_eq!(resolving.told().await, ["127.0.0.3:80"]);
    let took = answered.elapsed();
    assert!((1.8..4.0).contains(&took.as_secs_f64()), "a TTL of 2 s was used for {took:?}");
    zone.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ttl_max_bounds_an_hour_long_ttl() {
    let zone = authority().await;
    zone.accepted(vec![create(record("web", 3600, &["127.0.0.2"]))]).await;
    let bounds = "ttl_min = \"50ms\"\nttl_max = \"200ms\"";
    let mut resolving = Resolving::start(config(zone.server.dns_addr(), bounds, r#""web.example.test:80""#));
    assert_eq!(resolving.told().await, ["127.0.0.2:80"]);
    zone.accepted(vec![upsert(record("web", 3600, &["127.0.0.3"]))]).await;
    assert_eq!(resolving.told().await, ["127.0.0.3:80"]);
    zone.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_server_takes_nothing_away_and_is_asked_again() {
    let zone = authority().await;
    zone.accepted(vec![create(record("web", 1, &["127.0.0.2"]))]).await;
    let bounds = "ttl_min = \"50ms\"\nttl_max = \"200ms\"";
    let dns = zone.server.dns_addr();
    let mut resolving = Resolving::start(config(dns, bounds, r#""web.example.test:80""#));
    assert_eq!(resolving.told().await, ["127.0.0.2:80"]);
    zone.server.shutdown().await;
    resolving.until_failing(1.0).await;
    assert!(resolving.inputs.try_recv().is_err(), "the last good answer stays");

    let settings =
        Settings { zone: Some(ZONE.into()), dns, insync_delay: Duration::ZERO, ..Settings::default() };
    let server = ZoneServer::start(settings).await.unwrap();
    let (client, id) = (sdk(server.api_addr()), server.zone_id().unwrap().to_owned());
    let zone = Fixture { server, client, zone: id };
    zone.accepted(vec![create(record("web", 1, &["127.0.0.4"]))]).await;
    assert_eq!(resolving.told().await, ["127.0.0.4:80"]);
    resolving.until_failing(0.0).await;
    zone.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_gone_keeps_its_last_addresses() {
    let zone = authority().await;
    zone.accepted(vec![create(record("web", 1, &["127.0.0.2"]))]).await;
    let bounds = "ttl_min = \"50ms\"\nttl_max = \"100ms\"";
    let mut resolving = Resolving::start(config(zone.server.dns_addr(), bounds, r#""web.example.test:80""#));
    assert_eq!(resolving.told().await, ["127.0.0.2:80"]);
    zone.accepted(vec![delete(record("web", 1, &["127.0.0.2"]))]).await;
    resolving.until_failing(1.0).await;
    assert!(resolving.inputs.try_recv().is_err(), "NXDOMAIN takes nothing away");
    zone.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_adds_and_removes_endpoints_and_keeps_what_was_known() {
    let zone = authority().await;
    zone.accepted(vec![create(record("web", 60, &["127.0.0.2"]))]).await;
    let bounds = "ttl_min = \"50ms\"\nttl_max = \"60s\"";
    let dns = zone.server.dns_addr();
    let mut resolving = Resolving::start(config(dns, bounds, r#""web.example.test:80""#));
    assert_eq!(resolving.told().await, ["127.0.0.2:80"]);
    zone.server.shutdown().await;
    // The server is dead: what is added by address comes at once, what was known stays.
    resolving.configs.send_replace(config(
        dns,
        bounds,
        r#""web.example.test:80", "new.example.test:80", "127.0.0.7:80""#,
    ));
    assert_eq!(resolving.told().await, ["127.0.0.2:80", "127.0.0.7:80"]);
    resolving.configs.send_replace(config(dns, bounds, r#""127.0.0.7:80""#));
    assert_eq!(resolving.told().await, ["127.0.0.7:80"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pods_of_the_own_region_are_all_addresses_of_their_name_and_the_core_is_not_told() {
    let zone = authority().await;
    zone.accepted(vec![create(record("pods", 60, &["127.0.0.3", "127.0.0.2"]))]).await;
    let text = format!(
        r#"
        [edge]
        region = "here"
        siblings = "pods.example.test:8443"
        [[listeners]]
        name = "http"
        address = "127.0.0.1:0"
        [peer]
        address = "127.0.0.1:0"
        certificate = "peer.pem"
        key = "peer.key"
        ca = "ca.pem"
        [regions.here]
        peer = "peer.here.test:8443"
        [services.web]
        endpoints.here = ["127.0.0.9:80"]
        [[routes]]
        name = "web"
        service = "web"
        [resolver]
        nameservers = ["{}"]
        "#,
        zone.server.dns_addr()
    );
    let config = Config::from_text("test.toml", &text, &Environment::default());
    let mut resolving = Resolving::start(Arc::new(config.unwrap_or_else(|p| panic!("{p}"))));
    let pods = timeout(PATIENCE, resolving.pods.wait_for(|pods| !pods.is_empty())).await.unwrap();
    assert_eq!(pods.unwrap().as_slice(), ["127.0.0.2:8443", "127.0.0.3:8443"].map(|a| a.parse().unwrap()));
    assert_eq!(resolving.told().await, ["127.0.0.9:80"]);
    zone.server.shutdown().await;
}
