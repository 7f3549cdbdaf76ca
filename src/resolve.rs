//! Names to addresses, off the request path: by TTL, the last good answer kept.
//!
//! Every name of own endpoints and of peer listeners is looked up again when
//! its TTL (bounded by `ttl_min` and `ttl_max`) is over, and the core is told
//! when the addresses of a service or a region changed. A failed look-up takes
//! nothing away, NXDOMAIN and an empty answer included: a half-restarted DNS
//! server says exactly that, and an address that is really gone fails its
//! probes. The library's own cache is off; this is the cache.

use crate::config::{Config, Host, HostPort, Resolver};
use crate::domain::fleet::{Input, Target};
use crate::domain::name::{DnsName, Zone};
use crate::followers::Followers;
use crate::metrics::control::ControlMetrics;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// Most addresses that one service or region may have: more would be probed and carried for nothing.
const ADDRESSES_MAX: usize = 256;

/// The ends that the resolver holds.
pub struct Wiring {
    pub config: watch::Receiver<Arc<Config>>,
    pub inputs: mpsc::Sender<Input>,
    /// Addresses of the pods of the own region.
    pub siblings: watch::Sender<Vec<SocketAddr>>,
    pub metrics: ControlMetrics,
}

/// Why a name has no new answer.
#[derive(Debug, thiserror::Error)]
enum ResolveError {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the answer holds no address")]
    Empty,
    #[error(transparent)]
    Lookup(#[from] NetError),
}

/// Resolves until the configuration's writer is gone.
///
/// # Panics
/// When a look-up task panicked: its panic is passed on, so that the process
/// ends instead of running on with addresses that nobody renews.
pub async fn run(mut wiring: Wiring) {
    let mut followers = Followers::default();
    loop {
        let wanted = wanted(&wiring.config.borrow_and_update());
        let begin = |owner: &Owner, specs| {
            let follower = Follower {
                label: label(owner),
                owner: owner.clone(),
                names: BTreeMap::new(),
                sent: None,
                zoned: BTreeMap::new(),
                inputs: wiring.inputs.clone(),
                siblings: wiring.siblings.clone(),
                metrics: wiring.metrics.clone(),
            };
            follower.run(specs)
        };
        followers.reconcile(wanted, begin, |owner, _| wiring.metrics.resolve_forgotten(&label(owner)));
        tokio::select! {
            changed = wiring.config.changed() => if changed.is_err() { return },
            never = followers.supervise() => match never {},
        }
    }
}

/// What names belong to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    /// Told to the core.
    Core(Target),
    /// The pods of the own region: told to the task of the lease.
    Siblings,
}

/// Services with own endpoints, every other region, and the pods of the own one.
fn wanted(config: &Config) -> BTreeMap<Owner, Spec> {
    // The others' are told by the cluster.
    let services = config.services.iter().filter(|(_, service)| service.kubernetes.is_none());
    let services = services.map(|(id, service)| (Target::Service(id.clone()), service.endpoints.clone()));
    let peers =
        config.regions.iter().filter(|(id, _)| **id != config.policy.own).filter_map(|(id, region)| {
            Some((Target::Peer(id.clone()), vec![region.peer.as_ref()?.at.clone()]))
        });
    let core = services.chain(peers).map(|(target, hosts)| (Owner::Core(target), hosts));
    let all = core.chain(config.siblings.iter().map(|at| (Owner::Siblings, vec![at.clone()])));
    all.map(|(owner, hosts)| {
        let spec = Spec { zones: zones(config, &owner), hosts, resolver: config.resolver.clone() };
        (owner, spec)
    })
    .collect()
}

/// Zones of an owner's endpoints, where they are stated.
fn zones(config: &Config, owner: &Owner) -> BTreeMap<HostPort, Zone> {
    match owner {
        Owner::Core(Target::Service(id)) => {
            config.services.get(id).map(|of| of.zones.clone()).unwrap_or_default()
        }
        Owner::Core(Target::Peer(_)) | Owner::Siblings => BTreeMap::new(),
    }
}

/// An owner as metrics and logs spell it.
fn label(owner: &Owner) -> String {
    match owner {
        Owner::Core(Target::Service(service)) => format!("service/{service}"),
        Owner::Core(Target::Peer(region)) => format!("peer/{region}"),
        Owner::Siblings => "siblings".to_owned(),
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Spec {
    hosts: Vec<HostPort>,
    zones: BTreeMap<HostPort, Zone>,
    resolver: Resolver,
}

/// A name's last good answer and when to ask again.
#[derive(Debug)]
struct Known {
    addresses: Vec<IpAddr>,
    next: Instant,
    /// Failures since the last answer.
    failures: u64,
}

/// Keeps the addresses of one target current.
struct Follower {
    owner: Owner,
    label: String,
    names: BTreeMap<DnsName, Known>,
    /// What the core was told last.
    sent: Option<Vec<SocketAddr>>,
    /// Zones that the core was told last.
    zoned: BTreeMap<SocketAddr, Zone>,
    inputs: mpsc::Sender<Input>,
    siblings: watch::Sender<Vec<SocketAddr>>,
    metrics: ControlMetrics,
}

impl Follower {
    async fn run(mut self, mut specs: watch::Receiver<Spec>) {
        let mut spec = specs.borrow_and_update().clone();
        let mut resolver = None;
        loop {
            if resolver.is_none() && spec.hosts.iter().any(|host| matches!(host.host, Host::Name(_))) {
                resolver = self.resolver(&spec.resolver);
            }
            self.look_up_due(&spec, resolver.as_ref()).await;
            if self.tell(&spec).await.is_err() {
                return;
            }
            let next = self.names.values().map(|known| known.next).min();
            tokio::select! {
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
                changed = specs.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let before = std::mem::replace(&mut spec, specs.borrow_and_update().clone());
                    if before.resolver != spec.resolver {
                        resolver = None;
                        self.names.values_mut().for_each(|known| known.next = Instant::now());
                    }
                }
            }
        }
    }

    fn resolver(&self, settings: &Resolver) -> Option<TokioResolver> {
        make(settings)
            .inspect_err(|error| tracing::error!(owner = self.label, %error, "no resolver can be made"))
            .ok()
    }

    async fn look_up_due(&mut self, spec: &Spec, resolver: Option<&TokioResolver>) {
        let names: BTreeSet<&DnsName> = spec.hosts.iter().filter_map(name).collect();
        self.names.retain(|name, _| names.contains(name));
        for name in names {
            let due = self.names.get(name).is_none_or(|known| known.next <= Instant::now());
            if due {
                let result = match resolver {
                    Some(resolver) => look_up(resolver, name, spec.resolver.timeout).await,
                    None => Err(ResolveError::Empty),
                };
                self.learn(name, result, &spec.resolver);
            }
        }
        let failing = self.names.values().filter(|known| known.failures > 0).count();
        self.metrics.resolve_failing(&self.label, failing);
    }

    fn learn(&mut self, name: &DnsName, result: Result<Answer, ResolveError>, settings: &Resolver) {
        let target = self.label.as_str();
        let now = Instant::now();
        let known = self.names.entry(name.clone()).or_insert_with(|| Known {
            addresses: Vec::new(),
            next: now,
            failures: 0,
        });
        match result {
            Ok(answer) => {
                if known.failures > 0 {
                    tracing::info!(owner = target, %name, failures = known.failures, "name resolves again");
                }
                known.failures = 0;
                known.next = now + answer.ttl.clamp(settings.ttl_min, settings.ttl_max);
                known.addresses = answer.addresses;
            }
            Err(error) => {
                self.metrics.resolve_failed(target);
                if known.failures == 0 {
                    let kept = known.addresses.len();
                    tracing::warn!(owner = target, %name, %error, kept, "name not resolved; the last good answer stays");
                }
                known.failures = known.failures.saturating_add(1);
                known.next =
                    now + settings.ttl_min.saturating_mul(back_off(known.failures)).min(settings.ttl_max);
            }
        }
    }

    /// Tells the core when the addresses changed.
    async fn tell(&mut self, spec: &Spec) -> Result<(), mpsc::error::SendError<Input>> {
        let mut addresses: Vec<SocketAddr> =
            spec.hosts.iter().flat_map(|host| self.addresses(host)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.len() > ADDRESSES_MAX {
            tracing::warn!(
                owner = self.label,
                found = addresses.len(),
                kept = ADDRESSES_MAX,
                "too many addresses"
            );
            addresses.truncate(ADDRESSES_MAX);
        }
        self.tell_zones(spec).await?;
        // Nothing known yet is no news; an empty list in the configuration is: the core leaves the
        // old addresses.
        let unknown = addresses.is_empty() && !spec.hosts.is_empty();
        if unknown || self.sent.as_ref() == Some(&addresses) {
            return Ok(());
        }
        tracing::info!(owner = self.label, ?addresses, "addresses resolved");
        self.sent = Some(addresses.clone());
        match &self.owner {
            Owner::Core(target) => {
                self.inputs.send(Input::Resolved { target: target.clone(), addresses }).await
            }
            Owner::Siblings => {
                self.siblings.send_replace(addresses);
                Ok(())
            }
        }
    }

    /// Tells the core in which zones the addresses of a service are, before it gets the addresses.
    async fn tell_zones(&mut self, spec: &Spec) -> Result<(), mpsc::error::SendError<Input>> {
        let Owner::Core(Target::Service(service)) = &self.owner else { return Ok(()) };
        let zones = spec.zones.iter().flat_map(|(host, zone)| {
            self.addresses(host).into_iter().map(move |address| (address, zone.clone()))
        });
        let zones: BTreeMap<SocketAddr, Zone> = zones.collect();
        if zones == self.zoned {
            return Ok(());
        }
        self.zoned = zones.clone();
        self.inputs.send(Input::Zoned { service: service.clone(), zones }).await
    }

    fn addresses(&self, host: &HostPort) -> Vec<SocketAddr> {
        match &host.host {
            Host::Address(ip) => vec![SocketAddr::new(*ip, host.port)],
            Host::Name(name) => {
                let known = self.names.get(name).map(|known| known.addresses.as_slice()).unwrap_or_default();
                known.iter().map(|ip| SocketAddr::new(*ip, host.port)).collect()
            }
        }
    }
}

fn name(host: &HostPort) -> Option<&DnsName> {
    match &host.host {
        Host::Name(name) => Some(name),
        Host::Address(_) => None,
    }
}

/// Multiples of `ttl_min` to wait after that many failures: 1, 2, 4, up to 8.
fn back_off(failures: u64) -> u32 {
    1 << failures.saturating_sub(1).min(3)
}

struct Answer {
    addresses: Vec<IpAddr>,
    ttl: Duration,
}

/// # Errors
/// `Empty` for an answer without addresses, else what the look-up met.
async fn look_up(
    resolver: &TokioResolver,
    name: &DnsName,
    patience: Duration,
) -> Result<Answer, ResolveError> {
    let found = timeout(patience, resolver.lookup_ip(name.as_str())).await;
    let found = found.map_err(|_| ResolveError::Timeout(patience))??;
    let ttl = found.valid_until().saturating_duration_since(Instant::now().into_std());
    let addresses: Vec<IpAddr> = found.iter().collect();
    if addresses.is_empty() { Err(ResolveError::Empty) } else { Ok(Answer { addresses, ttl }) }
}

/// # Errors
/// When the system's configuration can't be read.
fn make(settings: &Resolver) -> Result<TokioResolver, NetError> {
    let mut builder = if settings.nameservers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = settings.nameservers.iter().map(|address| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            let connections = connections
                .map(|mut connection| {
                    connection.port = address.port();
                    connection
                })
                .to_vec();
            NameServerConfig::new(address.ip(), true, connections)
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options: &mut ResolverOpts = builder.options_mut();
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // Two tries within the patience for the whole.
    options.timeout = settings.timeout / 2;
    options.attempts = 1;
    builder.build()
}
