//! TOML file -> `Config`, valid by construction.
//!
//! `Config` holds no lock, handle or counter. It is what every edge of the
//! planet may share: only `own` differs, and may come from the environment.
//!
//! The way: text -> sections (`decode`, into the types of `file`) -> `Config`
//! (`convert`). All problems are told, each with its place (`problems`).

mod admin;
mod aws;
mod convert;
mod decode;
mod file;
mod files;
mod health;
mod kubernetes;
pub mod limits;
mod listener;
mod observe;
mod place;
mod problems;
mod read;
mod report;
mod tls;
mod units;
mod written;

pub use units::duration as parse_duration;

pub use admin::{Admin, AdminTls, Credential, Operator};
pub use aws::{Archive, Aws, CredentialSource};
pub use health::{BodyTest, Health, HttpMethod, HttpQuestion, Question};
pub use kubernetes::{ClusterService, Kubernetes, SlicePort};
pub use listener::{
    HttpsRedirect, ListenAddress, Listener, ListenerLimits, Protocol, ProxyProtocol, TrustedProxies,
    UnixAddress,
};
pub use observe::{AccessLog, AccessLogOutput, ClientTraces, Journal, Log, Otlp, Tracing};
pub use place::{ObjectUrl, Place};
pub use problems::Problems;
pub use tls::{ClientAuth, ClientIdentity, ServerCertificate, Tls, TlsPolicy, UpstreamTls};
pub use written::{BYTES_MAX, FromInstance, INSTANCE, Written};

use crate::domain::name::{DnsName, RegionId, ServiceId, Zone};
use crate::domain::policy::Policy;
use problems::Problem;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What every configuration has.
const SECTIONS: &str = "[regions], [[listeners]], [services] and [[routes]]; see config/minimal.toml";

/// How a file is read with the place of each value, and how all its problems are told: scenarios
/// are such files, too.
pub(crate) mod reading {
    pub(crate) use super::decode::{decode, nearest};
    pub(crate) use super::file::{Entries, FromFile, Key, List, Placed, Section};
    pub(crate) use super::problems::Problem;
    pub(crate) use super::read::text;
    pub(crate) use super::units::{Capacity, Text, Whole};
}

/// What the environment, or the command line, adds to the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `--region` or `PROXIMA_REGION`: wins over `edge.region`, so that all edges can share one file. Empty: not set.
    pub region: Option<String>,
    /// `--zone` or `PROXIMA_ZONE`: wins over `edge.zone`. Empty: not set.
    pub zone: Option<String>,
}

/// What a configuration was read from: all that makes it anew, files that it names aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigText {
    /// The file, as problems name it.
    pub file: String,
    pub text: Arc<str>,
    /// `Environment::region`.
    pub region: Option<String>,
    /// `Environment::zone`.
    pub zone: Option<String>,
}

impl ConfigText {
    /// What the core decides by.
    ///
    /// # Errors
    /// Every problem of the text: of another program it may be none of this one's.
    pub fn policy(&self) -> Result<Arc<Policy>, Problems> {
        let environment = Environment { region: self.region.clone(), zone: self.zone.clone() };
        Config::from_text(&self.file, &self.text, &environment).map(|config| config.policy)
    }
}

/// Reads a configuration file.
///
/// Relative paths in it are taken from its folder. The files that it names are
/// not looked at: where a configuration is written, keys often are not.
///
/// # Errors
/// Every problem of the file, in its order.
pub fn load(path: &Path, environment: &Environment) -> Result<Config, Problems> {
    Written::read(path)?.load(environment)
}

/// A right configuration, and what somebody may want to know of it.
#[derive(Debug, Clone)]
pub struct Checked {
    pub config: Config,
    /// What is right, but may not be what was meant.
    pub notes: Option<Problems>,
}

/// The regions that a configuration file has, by name; empty for a file that is not right enough to
/// name them: [`load`] tells why.
pub fn regions_named(path: &Path) -> Vec<String> {
    let Ok(text) = read(path) else { return Vec::new() };
    let Ok(table) = text.parse::<toml::Table>() else { return Vec::new() };
    let regions = table.get("regions").and_then(toml::Value::as_table);
    regions.map(|regions| regions.keys().cloned().collect()).unwrap_or_default()
}

/// What relative paths in a file are taken from.
fn folder(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

fn read(path: &Path) -> Result<String, Problems> {
    read::text(path).map_err(|problem| Problems::new(&path.to_string_lossy(), "", vec![problem]))
}

/// Whether the files that the text names are read too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedFiles {
    Read,
    Leave,
}

/// Relative paths in the text are taken from `folder`.
fn parse(source: ConfigText, folder: &Path, named: NamedFiles) -> Result<Checked, Problems> {
    let (file_name, text) = (source.file.clone(), Arc::clone(&source.text));
    let (file_name, text) = (file_name.as_str(), &*text);
    let mut problems = Vec::new();
    let Some((file, damage)) = decode::decode(text, SECTIONS, &mut problems) else {
        return Err(Problems::new(file_name, text, problems));
    };
    let mut report = report::Report::new(text, damage, problems);
    let config = convert::convert(&file, folder, source, &mut report);
    if named == NamedFiles::Read {
        let found = convert::named_files(&file, folder);
        found.iter().flat_map(files::Named::problems).for_each(|problem| report.add(problem));
    }
    let (errors, notes): (Vec<_>, Vec<_>) = report.into_problems().into_iter().partition(Problem::is_error);
    match (config, errors) {
        (Some(config), errors) if errors.is_empty() => {
            let notes = (!notes.is_empty()).then(|| Problems::new(file_name, text, notes));
            Ok(Checked { config, notes })
        }
        // Notes can wait until the file is right.
        (_, mut problems) => {
            if problems.is_empty() {
                problems.push(Problem::outside("refused without a reason: this is a bug in proxima"));
            }
            Err(Problems::new(file_name, text, problems))
        }
    }
}

/// A whole, consistent configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the core decides by.
    pub policy: Arc<Policy>,
    /// What all of this was read from.
    pub text: ConfigText,
    pub listeners: Vec<Listener>,
    pub tls: Option<Tls>,
    /// `None` with a single region.
    pub peer: Option<Peer>,
    /// Every configured region, the own one among them.
    pub regions: BTreeMap<RegionId, Region>,
    pub probes: Probes,
    pub services: BTreeMap<ServiceId, Service>,
    /// Named limits that routes refer to.
    pub rate_limits: BTreeMap<String, limits::RateLimit>,
    pub names: BTreeMap<DnsName, Name>,
    pub dns: Option<Dns>,
    pub aws: Aws,
    pub resolver: Resolver,
    /// `None`: nothing is asked of a cluster.
    pub kubernetes: Option<Kubernetes>,
    pub admin: Admin,
    /// A file for the audit log's lines; they are in the log anyway.
    pub audit: Option<PathBuf>,
    pub log: Log,
    /// `None`: requests are not logged.
    pub access_log: Option<AccessLog>,
    /// `None`: nothing is journaled.
    pub journal: Option<Journal>,
    /// `None`: journal and audit log stay where they are.
    pub archive: Option<Archive>,
    /// `None`: no trace is begun here; those of clients pass as they are.
    pub tracing: Option<Tracing>,
    pub drain: Drain,
    pub trusted_proxies: TrustedProxies,
    /// All pods of the own region by one name, this one among them; `None`: it is the only one.
    pub siblings: Option<HostPort>,
}

impl Config {
    /// Reads a configuration from text; `file_name` is for problems and relative paths.
    ///
    /// # Errors
    /// Every problem of the text, in its order.
    pub fn from_text(file_name: &str, text: &str, environment: &Environment) -> Result<Self, Problems> {
        let folder = folder(Path::new(file_name)).to_owned();
        Written { name: file_name.to_owned(), folder, text: text.into() }.load(environment)
    }
}

/// The listener for other regions and the identity shown to them (mutual TLS).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub address: SocketAddr,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// PEM roots that sign every region's peer certificate.
    pub ca: PathBuf,
}

/// A region and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Its peer listener. `Some` in every region when there are two or more.
    pub peer: Option<PeerAddress>,
    /// AWS region whose place in the world it has: that of its latency records, and the one that
    /// requests to AWS are signed for unless the environment says another.
    pub place: String,
    /// What DNS gives to users who enter there; `None`: no name leads there, or each says its own.
    pub target: Option<Target>,
    /// Port of `/health/edge` and `/health/gate` at the target, for Route 53's checkers.
    pub health_port: u16,
}

/// What a region's records hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The addresses of its load balancer, in A and AAAA records; not empty.
    Addresses(Vec<IpAddr>),
    /// Its load balancer itself, in alias records.
    Alias(LoadBalancer),
    /// A name that leads there, in CNAME records.
    Cname(DnsName),
}

/// An AWS load balancer, as alias records name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadBalancer {
    pub name: DnsName,
    /// Of the load balancer, not of the record.
    pub zone_id: String,
    /// Whether it has IPv6 addresses, too: then there are AAAA records as well.
    pub ipv6: bool,
}

/// Where a region's peer listener is, and how it is known for the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    pub at: HostPort,
    /// Name that its certificate must carry.
    pub server_name: String,
}

/// A name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    pub host: Host,
    pub port: u16,
}

/// What stands before the port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    Address(IpAddr),
    /// Resolved off the request path.
    Name(DnsName),
}

/// How often and how patiently regions and endpoints are probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probes {
    pub interval: Duration,
    /// Below `interval`.
    pub timeout: Duration,
    /// A connection to a region is replaced at least this often.
    pub fresh_connection: Duration,
    /// Between two probes of a region that another pod of this one measures.
    pub sparse_interval: Duration,
}

/// A service and its endpoints in the own region.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Endpoints of the own region; empty: told by the cluster, or served elsewhere only.
    pub endpoints: Vec<HostPort>,
    /// The Service of the region's cluster whose endpoints they are instead.
    pub kubernetes: Option<ClusterService>,
    /// Zones of endpoints, where they are stated.
    pub zones: BTreeMap<HostPort, Zone>,
    pub protocol: UpstreamProtocol,
    pub health: Health,
    /// `None`: they are reached without TLS, or there are none here.
    pub tls: Option<UpstreamTls>,
    pub connect_timeout: Duration,
    /// To the first byte of the response, and between two reads.
    pub read_timeout: Duration,
    /// HTTP/1 connections to one endpoint, idle ones among them; `None`: any number.
    pub connections_max: Option<NonZeroU32>,
    /// Attempts at one request in all, the first one among them. At least 1.
    pub attempts: u32,
    pub protection: limits::Protection,
}

/// What a service's endpoints speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamProtocol {
    Http1,
    /// HTTP/2 (gRPC): by prior knowledge, over TLS by ALPN.
    Http2,
}

/// A DNS name that Proxima moves users under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub form: Form,
    /// One TTL for every record of every set; alias records have none.
    pub ttl: Duration,
    /// Its hosted zone; `None`: that of `[dns]`.
    pub zone_id: Option<String>,
    /// Regions that this name leads to by another target than the region's own.
    pub targets: BTreeMap<RegionId, Target>,
}

/// How the records of a name are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A latency alias a region, each onto a weighted set of its own.
    Global,
    /// One weighted set.
    Simple,
}

/// Access to Route 53.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    pub mode: DnsMode,
    pub zone_id: String,
    /// Another server that speaks Route 53's API; `None`: AWS.
    pub endpoint: Option<String>,
    /// How often control record and sets are read.
    pub poll: Duration,
    /// How often GetChange is asked while PENDING.
    pub insync_poll: Duration,
    /// Interval of the Route 53 health checks that `bootstrap` creates: 10 s or 30 s.
    pub health_interval: Duration,
    /// Failures in a row that turn such a check: 1..=10.
    pub health_threshold: u8,
    /// What all edges together may ask of the account; each reads at its share. At least 1.
    pub requests_per_second: u32,
    /// Whether a change is looked for at the zone's servers after it is INSYNC.
    pub verify: bool,
    /// Servers of the zones to ask instead of those that Route 53 names.
    pub servers: Vec<SocketAddr>,
}

/// Whether plans are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsMode {
    /// Plan, show, write nothing.
    Observe,
    Act,
}

/// How names are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolver {
    /// Empty: the system's.
    pub nameservers: Vec<SocketAddr>,
    /// Bounds on the time between two look-ups of one name, whatever its TTL says.
    pub ttl_min: Duration,
    pub ttl_max: Duration,
    pub timeout: Duration,
}

/// What SIGTERM does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Not ready but still accepting, for the load balancer to notice.
    pub notice: Duration,
    /// Longest time for what is in flight, after `notice`.
    pub deadline: Duration,
}

impl Default for Probes {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(800),
            fresh_connection: Duration::from_secs(30),
            sparse_interval: Duration::from_secs(30),
        }
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            nameservers: Vec::new(),
            ttl_min: Duration::from_secs(1),
            ttl_max: Duration::from_secs(300),
            timeout: Duration::from_secs(2),
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { notice: Duration::from_secs(5), deadline: Duration::from_secs(20) }
    }
}
