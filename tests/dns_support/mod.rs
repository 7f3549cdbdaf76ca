//! Servers that speak Route 53's API, and a name on them, for the provider's suite.

pub mod front;
mod ministack;

use aws_sdk_route53::Client;
use aws_sdk_route53::config::Credentials;
use aws_sdk_route53::types::{Change, ChangeAction, ChangeBatch, ResourceRecord, ResourceRecordSet, RrType};
use ministack::Ministack;
use proxima::aws::{Session, Sessions};
use proxima::clock::Clock;
use proxima::config::{Aws, Config, Environment};
use proxima::dns::access::connect;
use proxima::dns::api::Api;
use proxima::dns::apply::{Operation, Outcome};
use proxima::dns::checks::Checks;
use proxima::dns::layout::Layout;
use proxima::dns::pace::Pace;
use proxima::dns::reader::{Reading, read};
use proxima::dns::survey::{Survey, survey};
use proxima::dns::writer::{Writer, Written};
use proxima::domain::name::{DnsName, EntryId, RegionId};
use proxima::domain::plan::{Change as SetChange, Plan, Reason};
use proxima::domain::weights::{Weight, WeightedSet};
use proxima::metrics::aws::AwsMetrics;
use proxima::metrics::dns::DnsMetrics;
use proxima::zone_server::{LoadBalancer, Running, Settings, ZoneServer};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A server, its zone, and a name of its own in it.
pub struct Server {
    pub kind: &'static str,
    /// `None`: AWS.
    pub endpoint: Option<String>,
    pub zone_id: String,
    /// The name under test.
    pub name: DnsName,
    /// Of the regions, in their order; several of one region with blanks between.
    pub addresses: Vec<String>,
    /// Lines of the name's section that say its form.
    pub form: &'static str,
    /// Where Route 53's checkers knock.
    pub health_port: u16,
    pub session: Session,
    /// Where its DNS is, if it has any.
    pub dns: Option<SocketAddr>,
    _process: Option<Process>,
}

/// What ends with the server.
enum Process {
    ZoneServer(#[allow(dead_code)] Running),
    Ministack(#[allow(dead_code)] Ministack),
}

/// Stands for the zone that is yet to be created.
const NO_ZONE: &str = "Z0000000000000EXAMPLE";
const GLOBAL: &str = "form = \"global\"";
/// Load balancers that our zone server knows: name, zone, address.
pub const BALANCERS: [(&str, &str, &str); 3] = [
    ("lb-ap.elb.example.net", "ZLBAP", "127.78.0.1"),
    ("lb-eu.elb.example.net", "ZLBEU", "127.78.0.2"),
    ("lb-us.elb.example.net", "ZLBUS", "127.78.0.3"),
];
/// Regions of every test; also AWS regions, as latency records want.
pub const REGIONS: [&str; 3] = ["ap-south-1", "eu-west-1", "us-east-1"];

impl Server {
    /// Our own zone server, in this process.
    pub async fn zone_server() -> Option<Self> {
        let settings = Settings {
            zone: Some("example.test".to_owned()),
            load_balancers: BALANCERS
                .iter()
                .map(|(name, zone_id, address)| LoadBalancer {
                    name: (*name).to_owned(),
                    zone_id: (*zone_id).to_owned(),
                    addresses: vec![address.parse().unwrap(), "fd00:78::1".parse().unwrap()],
                })
                .collect(),
            insync_delay: Duration::from_millis(50),
            health_interval: Duration::from_millis(100),
            ..Settings::default()
        };
        let running = ZoneServer::start(settings).await.unwrap();
        let (endpoint, zone_id) = (running.api_addr(), running.zone_id().unwrap().to_owned());
        let dns = Some(running.dns_addr());
        let process = Process::ZoneServer(running);
        Some(Self { dns, ..Self::local("zone server", &endpoint.to_string(), zone_id, process).await })
    }

    /// The ministack that `make test` installs, with signatures checked.
    pub async fn ministack() -> Option<Self> {
        let process = Ministack::start(&[("AUTH", "true")]).await?;
        let endpoint = process.address.to_string();
        let mut server =
            Self::local("ministack", &endpoint, NO_ZONE.to_owned(), Process::Ministack(process)).await;
        let created =
            server.client().await.create_hosted_zone().name("example.test").caller_reference("suite");
        let zone = created.send().await.unwrap().hosted_zone.unwrap();
        zone.id.trim_start_matches("/hostedzone/").clone_into(&mut server.zone_id);
        Some(server)
    }

    /// A real zone that `PROXIMA_ROUTE53_ZONE` names; `PROXIMA_ROUTE53_ADDRESSES` holds three
    /// public addresses, because Route 53 takes no health checks of reserved ones.
    pub async fn real() -> Option<Self> {
        let Ok(zone_id) = std::env::var("PROXIMA_ROUTE53_ZONE") else {
            eprintln!("SKIPPED: PROXIMA_ROUTE53_ZONE names no zone");
            return None;
        };
        let addresses = std::env::var("PROXIMA_ROUTE53_ADDRESSES").expect("three addresses, with commas");
        let metrics = AwsMetrics::register(&prometheus::Registry::new()).unwrap();
        let mut server = Self {
            kind: "Route 53",
            endpoint: None,
            name: DnsName::parse("placeholder.test").unwrap(),
            addresses: addresses.split(',').map(str::to_owned).collect(),
            form: GLOBAL,
            health_port: 80,
            session: Sessions::new(metrics).at(&Aws::default(), "us-east-1").await,
            dns: None,
            zone_id,
            _process: None,
        };
        let zone = server.client().await.get_hosted_zone().id(&server.zone_id).send().await.unwrap();
        let zone = zone.hosted_zone.unwrap().name;
        server.name = DnsName::parse(&format!("proxima-test-{:08x}.{zone}", rand::random::<u32>())).unwrap();
        Some(server)
    }

    async fn local(kind: &'static str, endpoint: &str, zone_id: String, process: Process) -> Self {
        Self {
            kind,
            endpoint: Some(format!("http://{endpoint}")),
            zone_id,
            name: DnsName::parse("www.example.test").unwrap(),
            addresses: (1..=3).map(|n| format!("127.77.0.{n}")).collect(),
            form: GLOBAL,
            // Nobody listens there.
            health_port: 1,
            // The credentials that ministack's root account has unless told otherwise.
            session: Session::fixed(Credentials::new("test", "test", None, None, "suite"), "us-east-1").await,
            dns: None,
            _process: Some(process),
        }
    }

    /// The configuration of the edge in `own`, with all that the suite does not care about left out.
    pub fn config(&self, own: &str) -> Config {
        self.config_with(own, &REGIONS, "mode = \"act\"")
    }

    /// `dns`: further lines of `[dns]`.
    pub fn config_with(&self, own: &str, regions: &[&str], dns: &str) -> Config {
        let text = self.text(own, regions, dns);
        let environment = Environment::default();
        Config::from_text("suite.toml", &text, &environment).unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// The same as a file's text.
    pub fn text(&self, own: &str, regions: &[&str], dns: &str) -> String {
        let endpoints: String =
            regions.iter().map(|region| format!("endpoints.{region} = [\"127.0.0.1:8081\"]\n")).collect();
        let mut text = format!(
            r#"
            [edge]
            region = "{own}"
            [[listeners]]
            name = "http"
            address = "127.0.0.1:8080"
            [peer]
            address = "127.0.0.1:8443"
            certificate = "peer.pem"
            key = "peer.key"
            ca = "ca.pem"
            [services.web]
            {endpoints}
            [[routes]]
            name = "web"
            service = "web"
            [names."{}"]
            {form}
            services = ["web"]
            {ttl}
            [dns]
            zone_id = "{}"
            poll = "1s"
            insync_poll = "100ms"
            {dns}
            "#,
            self.name,
            self.zone_id,
            form = self.form,
            ttl = if self.form.contains("ttl") { "" } else { "ttl = \"60s\"" },
        );
        if let Some(endpoint) = &self.endpoint {
            text.push_str(&format!("endpoint = \"{endpoint}\"\n"));
        }
        for (number, (region, address)) in REGIONS.iter().zip(&self.addresses).enumerate() {
            if regions.contains(region) {
                let addresses: Vec<&str> = address.split(' ').collect();
                text.push_str(&format!(
                    "[regions.{region}]\npeer = \"127.0.0.1:{}\"\nserver_name = \"{region}.test\"\n\
                     addresses = {addresses:?}\nhealth_port = {}\n",
                    8443 + number,
                    self.health_port
                ));
            }
        }
        text
    }

    /// The same server behind another address.
    pub fn behind(&self, endpoint: &str) -> Self {
        Self {
            kind: self.kind,
            endpoint: Some(format!("http://{endpoint}")),
            zone_id: self.zone_id.clone(),
            name: self.name.clone(),
            addresses: self.addresses.clone(),
            form: self.form,
            health_port: self.health_port,
            session: self.session.clone(),
            dns: self.dns,
            _process: None,
        }
    }

    /// The bare SDK: what someone else would write with.
    pub async fn client(&self) -> Client {
        let dns = self.config("eu-west-1").dns.unwrap();
        connect(&dns, &self.session)
    }

    pub async fn api(&self) -> Api {
        let dns = self.config("eu-west-1").dns.unwrap();
        let metrics = DnsMetrics::register(&prometheus::Registry::new()).unwrap();
        let api = Api::connect(&dns, &self.session, Arc::new(metrics));
        // A server of our own has no account to share with others.
        if self.endpoint.is_some() { api.paced(Pace::per_second(10_000)) } else { api }
    }

    /// What the configuration asks for against what exists.
    pub async fn survey(&self) -> Survey {
        survey(&self.api().await, &self.config("eu-west-1"), &[]).await.unwrap()
    }

    pub async fn carry_out(&self, operation: Operation) -> Outcome {
        self.survey().await.carry_out(&self.api().await, &operation).await.unwrap()
    }

    /// Creates what the configuration asks for.
    pub async fn bootstrap(&self) {
        let outcome = self.carry_out(Operation::Bootstrap).await;
        assert!(outcome.failed.is_empty(), "{outcome:?}");
    }

    /// Takes charge of what is there, and brings it into form.
    pub async fn bootstrap_after_adoption(&self) {
        for operation in [Operation::Adopt, Operation::Apply] {
            let outcome = self.carry_out(operation).await;
            assert!(outcome.failed.is_empty(), "{outcome:?}");
        }
    }

    /// An edge's way to the name.
    pub async fn edge(&self, own: &str) -> Edge {
        let (api, config) = (self.api().await, self.config(own));
        Edge {
            region: region(own),
            layout: Layout::of(&config, &self.name).unwrap(),
            checks: Checks::read(&api).await.unwrap(),
            api,
            clock: Clock::start(),
        }
    }

    /// Everything under the name, sorted by name, type and set identifier.
    pub async fn records(&self) -> Vec<ResourceRecordSet> {
        let mut records = self.api().await.subtree(self.name.as_str()).await.unwrap();
        records.sort_by_key(|r| (r.name.clone(), r.r#type.as_str().to_owned(), r.set_identifier.clone()));
        records
    }

    /// The weighted record of a region in an entry's set.
    pub async fn weighted(&self, entry: &str, region: &str) -> ResourceRecordSet {
        let name = format!("{entry}.{}.", self.name);
        let records = self.records().await;
        let found = records.into_iter().find(|r| r.name == name && r.set_identifier() == Some(region));
        found.unwrap_or_else(|| panic!("no {name} [{region}]"))
    }

    /// A batch by someone else.
    pub async fn change(&self, changes: Vec<(ChangeAction, ResourceRecordSet)>) {
        let changes = changes
            .into_iter()
            .map(|(action, set)| Change::builder().action(action).resource_record_set(set).build().unwrap());
        let batch = ChangeBatch::builder().set_changes(Some(changes.collect())).build().unwrap();
        let client = self.client().await;
        let request = client.change_resource_record_sets().hosted_zone_id(&self.zone_id).change_batch(batch);
        request.send().await.unwrap();
    }
}

/// One edge's way to the name under test.
pub struct Edge {
    pub region: RegionId,
    pub api: Api,
    pub layout: Layout,
    pub checks: Checks,
    pub clock: Clock,
}

impl Edge {
    pub async fn read(&self) -> Reading {
        read(&self.api, &self.layout, &self.checks, &self.clock).await.unwrap()
    }

    pub async fn submit(&self, plan: &Plan) -> Written {
        let Self { api, layout, checks, clock, .. } = self;
        Writer { api, layout, checks, clock }.submit(plan).await
    }

    /// A plan for one entry on what was read, valid for 20 s.
    pub fn plan(&self, reading: &Reading, entry: &str, weights: &[(&str, u8)]) -> Plan {
        let entry = EntryId::parse(entry).unwrap();
        let from = reading.state.sets[&entry].clone();
        Plan {
            name: self.layout.name.clone(),
            fence: reading.state.fence.clone(),
            writer: self.region.clone(),
            changes: BTreeMap::from([(entry, SetChange { from, to: set(weights) })]),
            reason: Reason::Ramp,
            expires_at: self.clock.now() + Duration::from_secs(20),
        }
    }
}

pub fn region(name: &str) -> RegionId {
    RegionId::parse(name).unwrap()
}

pub fn set(weights: &[(&str, u8)]) -> WeightedSet {
    let weights = weights.iter().map(|(name, weight)| (region(name), Weight::new(*weight).unwrap()));
    WeightedSet::new(weights.collect()).unwrap()
}

/// A simple record set.
pub fn simple(name: &str, kind: RrType, value: &str) -> ResourceRecordSet {
    let value = ResourceRecord::builder().value(value).build().unwrap();
    ResourceRecordSet::builder().name(name).r#type(kind).ttl(60).resource_records(value).build().unwrap()
}
