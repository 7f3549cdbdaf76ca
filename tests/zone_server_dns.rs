//! The zone server's DNS, through a real client: over UDP and TCP, from the
//! addresses of places, with real health checks against real listeners.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod zone_server_support;

use aws_sdk_route53::types::{HealthCheckConfig, HealthCheckType, ResourceRecordSet, RrType};
use hickory_resolver::config::ProtocolConfig;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use zone_server_support::*;

/// An HTTP endpoint that answers every request with the status it is told; 0: never.
struct Endpoint {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    requests: Arc<std::sync::Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Endpoint {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let status = Arc::new(AtomicU16::new(200));
        let requests = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (told, seen) = (Arc::clone(&status), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            let mut held = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let status = told.load(Ordering::SeqCst);
                if status == 0 {
                    held.push(stream);
                    continue;
                }
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    let mut buffer = [0_u8; 1024];
                    let read = stream.read(&mut buffer).await.unwrap_or(0);
                    seen.lock().unwrap().push(String::from_utf8_lossy(&buffer[..read]).into_owned());
                    let answer =
                        format!("HTTP/1.1 {status} Told\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                    drop(stream.write_all(answer.as_bytes()).await);
                });
            }
        });
        Self { address, status, requests, task }
    }

    fn tell(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn check_config(endpoint: SocketAddr, path: &str) -> HealthCheckConfig {
    HealthCheckConfig::builder()
        .ip_address(endpoint.ip().to_string())
        .port(endpoint.port().into())
        .r#type(HealthCheckType::Http)
        .resource_path(path)
        .fully_qualified_domain_name("www.example.test")
        .request_interval(10)
        .failure_threshold(2)
        .build()
        .unwrap()
}

async fn create_check(fixture: &Fixture, reference: &str, config: HealthCheckConfig) -> String {
    let made = fixture
        .client
        .create_health_check()
        .caller_reference(reference)
        .health_check_config(config)
        .send()
        .await
        .unwrap();
    made.health_check.unwrap().id
}

/// Whether the server holds the check for healthy.
async fn healthy(fixture: &Fixture, id: &str) -> bool {
    let health = fixture.observe("GET", "/zone-server/health", "").await;
    let check = health["checks"].as_array().unwrap().iter().find(|check| check["id"] == id).unwrap().clone();
    check["healthy"].as_bool().unwrap()
}

fn checked(mut set: ResourceRecordSet, check: &str) -> ResourceRecordSet {
    set.health_check_id = Some(check.to_owned());
    set
}

async fn counts(fixture: &Fixture, name: &str, queries: u32) -> BTreeMap<String, u32> {
    let resolver = fixture.resolver("127.0.0.1", ProtocolConfig::Udp);
    let mut counts = BTreeMap::new();
    for _ in 0..queries {
        let answer = resolver.lookup_ip(format!("{name}.{ZONE}.")).await.unwrap();
        *counts.entry(answer.iter().next().unwrap().to_string()).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_over_many_queries_match_the_weights() {
    let fixture = fixture(|_| {}).await;
    fixture
        .accepted(vec![
            create(weighted("set", "10.0.0.1", 10)),
            create(weighted("set", "10.0.0.2", 30)),
            create(weighted("set", "10.0.0.3", 60)),
            create(weighted("set", "10.0.0.4", 0)),
        ])
        .await;
    let queries = 4000;
    let counts = counts(&fixture, "set", queries).await;
    for (address, share) in [("10.0.0.1", 0.1), ("10.0.0.2", 0.3), ("10.0.0.3", 0.6)] {
        let got = f64::from(counts[address]) / f64::from(queries);
        // Five standard deviations of the widest share: chance fails this once in millions of seeds.
        assert!((got - share).abs() < 0.04, "{address}: {got} instead of {share}");
    }
    assert!(!counts.contains_key("10.0.0.4"), "zero weight beside positive ones");
    fixture.server.shutdown().await;
}

#[tokio::test]
async fn every_type_answers_over_udp_and_tcp_in_any_case() {
    let fixture = fixture(|_| {}).await;
    let long = format!("\"{}\"", "x".repeat(250));
    let texts: Vec<String> = (0..8).map(|i| format!("\"{i}\" {long}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    fixture
        .accepted(vec![
            create(simple("www", RrType::A, &["10.0.0.1", "10.0.0.2"])),
            create(simple("www", RrType::Aaaa, &["2001:db8::1"])),
            create(simple("www", RrType::Txt, &["\"two\" \"strings\""])),
            create(simple("alias", RrType::Cname, &["www.example.test"])),
            create(simple("big", RrType::Txt, &texts)),
        ])
        .await;
    for protocol in [ProtocolConfig::Udp, ProtocolConfig::Tcp] {
        let resolver = fixture.resolver("127.0.0.1", protocol.clone());
        let ask = async |name: &str, kind: RecordType| {
            let lookup = resolver.lookup(name, kind).await.unwrap();
            let mut data: Vec<String> =
                lookup.answers().iter().map(|record| record.data.to_string()).collect();
            data.sort();
            (data, lookup.answers()[0].ttl)
        };
        assert_eq!(
            ask("WwW.Example.TEST.", RecordType::A).await,
            (vec!["10.0.0.1".into(), "10.0.0.2".into()], 60)
        );
        assert_eq!(ask("www.example.test.", RecordType::AAAA).await.0, ["2001:db8::1"]);
        assert_eq!(ask("www.example.test.", RecordType::TXT).await.0.len(), 1);
        assert_eq!(ask("alias.example.test.", RecordType::CNAME).await.0, ["www.example.test."]);
        assert_eq!(
            ask("alias.example.test.", RecordType::A).await.0,
            ["10.0.0.1", "10.0.0.2", "www.example.test."]
        );
        assert_eq!(
            ask("example.test.", RecordType::NS).await.0,
            ["ns-1.example.test.", "ns-2.example.test."]
        );
        assert_eq!(ask("example.test.", RecordType::SOA).await.1, 900);
    }
    // More than a UDP answer holds: truncated there, so the client asks over TCP.
    let tcp = fixture.resolver("127.0.0.1", ProtocolConfig::Tcp);
    assert_eq!(tcp.lookup("big.example.test.", RecordType::TXT).await.unwrap().answers().len(), 8);
    fixture.server.shutdown().await;
}

#[tokio::test]
async fn absent_names_and_absent_types_are_told_apart_with_the_soa() {
    let fixture = fixture(|_| {}).await;
    fixture.accepted(vec![create(simple("www", RrType::A, &["10.0.0.1"]))]).await;
    let resolver = fixture.resolver("127.0.0.1", ProtocolConfig::Udp);
    for (name, kind, want) in [
        ("www.example.test.", RecordType::TXT, ResponseCode::NoError),
        ("www.example.test.", RecordType::MX, ResponseCode::NoError),
        ("no.example.test.", RecordType::A, ResponseCode::NXDomain),
    ] {
        let error = resolver.lookup(name, kind).await.unwrap_err();
        let NetError::Dns(DnsError::NoRecordsFound(none)) = error else { panic!("{name}: {error}") };
        assert_eq!(none.response_code, want, "{name} {kind}");
        assert_eq!(none.negative_ttl, Some(900), "{name} {kind}");
    }
    let error = resolver.lookup("www.elsewhere.test.", RecordType::A).await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("refused"), "{error}");
    fixture.server.shutdown().await;
}

/// The global form over three regions, one checked record each.
async fn global_form(fixture: &Fixture) -> BTreeMap<&'static str, (Endpoint, String)> {
    let mut regions = BTreeMap::new();
    let mut batch = Vec::new();
    let mut entries = Vec::new();
    for (index, region) in ["ap-south-1", "eu-west-1", "us-east-1"].into_iter().enumerate() {
        let endpoint = Endpoint::start().await;
        let check = create_check(fixture, region, check_config(endpoint.address, "/health/gate")).await;
        let set = format!("{region}.www");
        batch.push(create(checked(weighted(&set, &format!("10.0.0.{}", index + 1), 100), &check)));
        entries.push(create(entry("www", region, &set, &fixture.zone)));
        regions.insert(region, (endpoint, check));
    }
    batch.extend(entries);
    fixture.accepted(batch).await;
    regions
}

const AP: &str = "10.0.0.1";
const EU: &str = "10.0.0.2";
const US: &str = "10.0.0.3";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_enter_their_nearest_healthy_region_and_move_when_its_check_fails() {
    let fixture = fixture(|settings| {
        settings.places =
            [("127.1.0.0/16", "eu-west-2"), ("127.2.0.0/16", "us-east-2"), ("127.3.0.0/16", "ap-south-1")]
                .map(|(block, region)| (block.parse().unwrap(), region.to_owned()))
                .to_vec();
    })
    .await;
    let regions = global_form(&fixture).await;
    let enters = async |source: &str| fixture.address(source, "www.example.test").await.to_string();
    assert_eq!(enters("127.1.0.9").await, EU);
    assert_eq!(enters("127.2.0.9").await, US);
    assert_eq!(enters("127.3.0.9").await, AP);
    let ttl = fixture.resolver("127.1.0.9", ProtocolConfig::Udp);
    let ttl = ttl.lookup("www.example.test.", RecordType::A).await.unwrap().answers()[0].ttl;
    assert_eq!(ttl, 20, "an alias takes its target's TTL");

    let (eu, eu_check) = &regions["eu-west-1"];
    eu.tell(503);
    eventually("the check of eu-west-1 fails", || async { !healthy(&fixture, eu_check).await }).await;
    assert_eq!(enters("127.1.0.9").await, US, "the next nearest of eu-west-2");
    assert_eq!(enters("127.3.0.9").await, AP, "others stay");

    let (us, us_check) = &regions["us-east-1"];
    us.tell(0);
    eventually("the check of a silent endpoint fails", || async { !healthy(&fixture, us_check).await }).await;
    assert_eq!(enters("127.1.0.9").await, AP);

    regions["ap-south-1"].0.tell(500);
    let ap_check = &regions["ap-south-1"].1;
    eventually("all checks fail", || async { !healthy(&fixture, ap_check).await }).await;
    assert_eq!(enters("127.1.0.9").await, EU, "none healthy: all count as healthy");

    eu.tell(200);
    us.tell(302);
    eventually("eu-west-1 is back", || async { healthy(&fixture, eu_check).await }).await;
    eventually("us-east-1 is back", || async { healthy(&fixture, us_check).await }).await;
    assert_eq!(enters("127.2.0.9").await, US);
    fixture.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weighted_set_leaves_out_failed_records_and_uses_zero_weights_last() {
    let fixture = fixture(|_| {}).await;
    let (one, two) = (Endpoint::start().await, Endpoint::start().await);
    let first = create_check(&fixture, "one", check_config(one.address, "/")).await;
    let second = create_check(&fixture, "two", check_config(two.address, "/")).await;
    fixture
        .accepted(vec![
            create(checked(weighted("set", "10.0.0.1", 100), &first)),
            create(checked(weighted("set", "10.0.0.2", 100), &second)),
            create(weighted("set", "10.0.0.3", 0)),
        ])
        .await;
    one.tell(503);
    eventually("the first fails", || async { !healthy(&fixture, &first).await }).await;
    assert_eq!(counts(&fixture, "set", 50).await, BTreeMap::from([("10.0.0.2".into(), 50)]));
    two.tell(503);
    eventually("the second fails", || async { !healthy(&fixture, &second).await }).await;
    assert_eq!(counts(&fixture, "set", 50).await, BTreeMap::from([("10.0.0.3".into(), 50)]));
    fixture.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_speak_as_route_53_does_and_are_created_once() {
    let fixture = fixture(|_| {}).await;
    let client = &fixture.client;
    let endpoint = Endpoint::start().await;
    let config = check_config(endpoint.address, "/health/edge");
    let id = create_check(&fixture, "same", config.clone()).await;
    assert_eq!(
        create_check(&fixture, "same", config.clone()).await,
        id,
        "the same call finds the same check"
    );
    let other = check_config(endpoint.address, "/else");
    let conflict = client
        .create_health_check()
        .caller_reference("same")
        .health_check_config(other)
        .send()
        .await
        .unwrap_err();
    assert!(conflict.as_service_error().unwrap().is_health_check_already_exists());

    let statuses = async || -> Vec<String> {
        let got = client.get_health_check_status().health_check_id(&id).send().await.unwrap();
        let seen = got.health_check_observations;
        seen.into_iter().filter_map(|seen| seen.status_report?.status).collect()
    };
    eventually("all three checkers looked", || async { statuses().await.len() == 3 }).await;
    assert!(statuses().await.iter().all(|status| status == "Success: HTTP Status Code 200, Told"));
    let request = endpoint.requests.lock().unwrap()[0].clone();
    assert!(request.starts_with("GET /health/edge HTTP/1.1\r\nHost: www.example.test\r\n"), "{request}");
    endpoint.tell(503);
    eventually("all say 503", || async {
        statuses().await.iter().all(|status| status == "Failure: HTTP Status Code 503, Told")
    })
    .await;

    let listed = client.list_health_checks().send().await.unwrap();
    assert_eq!(listed.health_checks.len(), 1);
    let got = client.get_health_check().health_check_id(&id).send().await.unwrap().health_check.unwrap();
    let got = got.health_check_config.unwrap();
    assert_eq!((got.request_interval, got.failure_threshold), (Some(10), Some(2)));
    client.delete_health_check().health_check_id(&id).send().await.unwrap();
    let gone = client.get_health_check_status().health_check_id(&id).send().await.unwrap_err();
    assert!(gone.as_service_error().unwrap().is_no_such_health_check());
    fixture.server.shutdown().await;
}

#[tokio::test]
async fn check_configurations_are_held_to_route_53s_ranges() {
    let fixture = fixture(|_| {}).await;
    let base = check_config("127.0.0.1:1".parse().unwrap(), "/");
    type Row = (&'static str, fn(&mut HealthCheckConfig));
    let rows: [Row; 5] = [
        ("interval 15", |config| config.request_interval = Some(15)),
        ("threshold 0", |config| config.failure_threshold = Some(0)),
        ("threshold 11", |config| config.failure_threshold = Some(11)),
        ("neither address nor name", |config| {
            config.ip_address = None;
            config.fully_qualified_domain_name = None;
        }),
        ("a path with a line break", |config| config.resource_path = Some("/\r\nX: y".into())),
    ];
    for (rule, adjust) in rows {
        let mut config = base.clone();
        adjust(&mut config);
        let asked = fixture.client.create_health_check().caller_reference(rule).health_check_config(config);
        let error = asked.send().await.expect_err(rule);
        assert!(error.as_service_error().unwrap().is_invalid_input(), "{rule}: {}", said(&error));
    }
    fixture.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_by_name_looks_at_the_load_balancer_and_follows_its_settings() {
    let endpoint = Endpoint::start().await;
    let fixture = fixture(|settings| {
        let (name, zone_id) = ("lb.elb.example.net".to_owned(), "ZLB".to_owned());
        let addresses = vec![endpoint.address.ip()];
        settings.load_balancers = vec![proxima::zone_server::LoadBalancer { name, zone_id, addresses }];
    })
    .await;
    let mut config = check_config(endpoint.address, "/");
    config.ip_address = None;
    config.fully_qualified_domain_name = Some("lb.elb.example.net".to_owned());
    let id = create_check(&fixture, "by name", config).await;
    endpoint.tell(503);
    eventually("it fails", || async { !healthy(&fixture, &id).await }).await;
    let update = fixture.client.update_health_check().health_check_id(&id).inverted(true);
    let updated = update.send().await.unwrap().health_check.unwrap();
    assert_eq!(updated.health_check_version, 2);
    assert_eq!(
        updated.health_check_config.unwrap().fully_qualified_domain_name(),
        Some("lb.elb.example.net")
    );
    assert!(healthy(&fixture, &id).await, "its failure is health");
    let update = fixture.client.update_health_check().health_check_id(&id).ip_address("127.0.0.1");
    assert!(update.send().await.is_err(), "an address cannot be added");
    fixture.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inverted_check_fails_while_its_endpoint_is_well() {
    let fixture = fixture(|_| {}).await;
    let endpoint = Endpoint::start().await;
    let mut config = check_config(endpoint.address, "/");
    config.inverted = Some(true);
    let id = create_check(&fixture, "inverted", config).await;
    assert!(!healthy(&fixture, &id).await);
    endpoint.tell(503);
    eventually("its failure is health", || async { healthy(&fixture, &id).await }).await;
    fixture.server.shutdown().await;
}

#[tokio::test]
async fn shutdown_frees_the_ports_even_with_a_client_connected() {
    let fixture = fixture(|_| {}).await;
    let (api, dns) = (fixture.server.api_addr(), fixture.server.dns_addr());
    let _held = tokio::net::TcpStream::connect(api).await.unwrap();
    let _asking = tokio::net::TcpStream::connect(dns).await.unwrap();
    tokio::time::timeout(Duration::from_secs(8), fixture.server.shutdown()).await.expect("ends in time");
    assert!(tokio::net::TcpStream::connect(api).await.is_err());
    assert!(tokio::net::UdpSocket::bind(dns).await.is_ok());
}
