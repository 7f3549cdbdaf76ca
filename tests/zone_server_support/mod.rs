//! A zone server on free loopback ports, with the real AWS SDK and a real DNS
//! client in front of it.
#![allow(dead_code)] // Each test file uses its part.

#[path = "../dns_support/ministack.rs"]
pub mod ministack;
pub mod rules;

use aws_sdk_route53::Client;
use aws_sdk_route53::config::retry::RetryConfig;
use aws_sdk_route53::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_route53::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_route53::operation::change_resource_record_sets::ChangeResourceRecordSetsError;
use aws_sdk_route53::types::{
    AliasTarget, Change, ChangeAction, ChangeBatch, ChangeInfo, ResourceRecord, ResourceRecordSet,
    ResourceRecordSetRegion, RrType,
};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use proxima::zone_server::{Running, Settings, ZoneServer};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const ZONE: &str = "example.test";

/// A server with one zone, and a client of it.
pub struct Fixture {
    pub server: Running,
    pub client: Client,
    pub zone: String,
}

/// Changes reach DNS at once and checks run every 100 ms, unless `adjust` says otherwise.
pub async fn fixture(adjust: impl FnOnce(&mut Settings)) -> Fixture {
    let mut settings = Settings {
        zone: Some(ZONE.into()),
        insync_delay: Duration::ZERO,
        health_interval: Duration::from_millis(100),
        ..Settings::default()
    };
    adjust(&mut settings);
    let server = ZoneServer::start(settings).await.unwrap();
    let client = sdk(server.api_addr());
    let zone = server.zone_id().unwrap().to_owned();
    Fixture { server, client, zone }
}

/// The real SDK, without retries: a test sees every answer.
pub fn sdk(api: SocketAddr) -> Client {
    let config = aws_sdk_route53::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(format!("http://{api}"))
        .credentials_provider(Credentials::new("AKIATEST", "secret", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

/// Sends a batch to any Route 53.
pub async fn send(
    client: &Client,
    zone: &str,
    changes: Vec<Change>,
) -> Result<ChangeInfo, SdkError<ChangeResourceRecordSetsError>> {
    let batch = ChangeBatch::builder().set_changes(Some(changes)).build().unwrap();
    let sent = client.change_resource_record_sets().hosted_zone_id(zone).change_batch(batch);
    sent.send().await.map(|output| output.change_info.unwrap())
}

impl Fixture {
    /// Sends a batch.
    pub async fn change(
        &self,
        changes: Vec<Change>,
    ) -> Result<ChangeInfo, SdkError<ChangeResourceRecordSetsError>> {
        send(&self.client, &self.zone, changes).await
    }

    /// Sends a batch that must pass.
    pub async fn accepted(&self, changes: Vec<Change>) -> ChangeInfo {
        match self.change(changes).await {
            Ok(info) => info,
            Err(error) => panic!("refused: {}", said(&error)),
        }
    }

    /// All record sets of the zone, page by page.
    pub async fn listed(&self) -> Vec<ResourceRecordSet> {
        let output = self.client.list_resource_record_sets().hosted_zone_id(&self.zone).send().await.unwrap();
        assert!(!output.is_truncated);
        output.resource_record_sets
    }

    /// A resolver without a cache that asks from `source`.
    pub fn resolver(&self, source: &str, protocol: ProtocolConfig) -> TokioResolver {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = self.server.dns_addr().port();
        connection.bind_addr = Some(SocketAddr::new(source.parse().unwrap(), 0));
        let server = NameServerConfig::new(self.server.dns_addr().ip(), true, vec![connection]);
        let mut options = ResolverOpts::default();
        options.cache_size = 0;
        options.timeout = Duration::from_secs(5);
        options.attempts = 1;
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .unwrap()
    }

    /// The first A record that `source` gets for `name`, over UDP.
    pub async fn address(&self, source: &str, name: &str) -> IpAddr {
        let resolver = self.resolver(source, ProtocolConfig::Udp);
        resolver.lookup_ip(format!("{name}.")).await.unwrap().iter().next().unwrap()
    }

    /// A call beside Route 53's API, over a plain connection; returns the JSON of its body.
    pub async fn observe(&self, method: &str, path: &str, body: &str) -> serde_json::Value {
        let (status, answer) = self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(&answer).unwrap()
    }

    /// Sends bytes to the API; returns the status and the body.
    pub async fn raw(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.server.api_addr()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

/// What a refusal says: its code and message.
pub fn said<E: ProvideErrorMetadata + std::fmt::Debug, R: std::fmt::Debug>(error: &SdkError<E, R>) -> String {
    match error.as_service_error() {
        Some(refusal) => {
            format!("{}: {}", refusal.code().unwrap_or_default(), refusal.message().unwrap_or_default())
        }
        None => format!("{error:?}"),
    }
}

pub fn change(action: ChangeAction, set: ResourceRecordSet) -> Change {
    Change::builder().action(action).resource_record_set(set).build().unwrap()
}

pub fn create(set: ResourceRecordSet) -> Change {
    change(ChangeAction::Create, set)
}

pub fn delete(set: ResourceRecordSet) -> Change {
    change(ChangeAction::Delete, set)
}

pub fn upsert(set: ResourceRecordSet) -> Change {
    change(ChangeAction::Upsert, set)
}

/// A simple record set below the zone with a TTL of 60.
pub fn simple(name: &str, kind: RrType, values: &[&str]) -> ResourceRecordSet {
    let records =
        values.iter().map(|value| ResourceRecord::builder().value(*value).build().unwrap()).collect();
    ResourceRecordSet::builder()
        .name(format!("{name}.{ZONE}"))
        .r#type(kind)
        .ttl(60)
        .set_resource_records(Some(records))
        .build()
        .unwrap()
}

/// A weighted A record with a TTL of 20 whose identifier is its address.
pub fn weighted(name: &str, address: &str, weight: i64) -> ResourceRecordSet {
    let mut set = simple(name, RrType::A, &[address]);
    set.ttl = Some(20);
    set.weight = Some(weight);
    set.set_identifier = Some(address.into());
    set
}

/// A latency alias that evaluates its target.
pub fn entry(name: &str, region: &str, target: &str, zone: &str) -> ResourceRecordSet {
    let alias = AliasTarget::builder()
        .hosted_zone_id(zone)
        .dns_name(format!("{target}.{ZONE}"))
        .evaluate_target_health(true)
        .build()
        .unwrap();
    ResourceRecordSet::builder()
        .name(format!("{name}.{ZONE}"))
        .r#type(RrType::A)
        .set_identifier(region)
        .region(ResourceRecordSetRegion::from(region))
        .alias_target(alias)
        .build()
        .unwrap()
}

/// Polls until `done`, for at most ten seconds.
pub async fn eventually<F: Future<Output = bool>>(claim: &str, mut done: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !done().await {
        assert!(tokio::time::Instant::now() < deadline, "not within 10 s: {claim}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
