//! Who plays: regions, services, names and users of a world, the policy that each edge gets, and
//! the pace of everything around the edges. All of it comes from a real configuration.

use crate::config::{self, Config, Environment, Problems};
use crate::domain::health::HealthPolicy;
use crate::domain::name::{DnsName, EntryId, RegionId, ServiceId};
use crate::domain::policy::{FailoverPolicy, Policy};
use crate::domain::weights::WeightedSet;
use crate::rtt_table::RttTable;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// How fast the world around the edges turns.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    pub probe: Duration,
    pub probe_timeout: Duration,
    /// Between two rounds of requests whose outcomes an edge is told.
    pub requests: Duration,
    /// Between two requests that fail though every probe is fine.
    pub poison: Duration,
    /// Between two looks at where users are.
    pub flow: Duration,
    pub dns_poll: Duration,
    pub api_timeout: Duration,
    /// One call to the DNS API, in milliseconds, from and to; and while it is slow.
    pub api_ms: (u64, u64),
    pub api_slow_ms: (u64, u64),
    /// From a change to all of Route 53's servers, in milliseconds, from and to.
    pub insync_ms: (u64, u64),
    /// Health checkers: interval x threshold.
    pub witness_lag: Duration,
    pub audit: Duration,
    /// Greatest error of a region's wall clock.
    pub skew: Duration,
    /// A control task is woken this late at most.
    pub wake_late: Duration,
}

impl Pace {
    /// A real fleet is slower (hold-downs of minutes); the proportions are kept, so that a seed is short.
    pub fn fast() -> Self {
        Self {
            probe: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(800),
            requests: Duration::from_millis(500),
            poison: Duration::from_millis(200),
            flow: Duration::from_secs(1),
            dns_poll: Duration::from_millis(1500),
            api_timeout: Duration::from_millis(1500),
            api_ms: (20, 150),
            api_slow_ms: (200, 2_800),
            insync_ms: (500, 4_000),
            witness_lag: Duration::from_secs(3),
            audit: Duration::from_millis(500),
            skew: Duration::from_millis(150),
            wake_late: Duration::from_millis(200),
        }
    }

    /// What a configuration says, and what Route 53 takes.
    fn real(config: &Config) -> Self {
        let dns = config.dns.as_ref();
        let checks =
            dns.map_or(Duration::from_secs(30), |dns| dns.health_interval * u32::from(dns.health_threshold));
        Self {
            probe: config.probes.interval,
            probe_timeout: config.probes.timeout,
            dns_poll: dns.map_or(Duration::from_secs(10), |dns| dns.poll),
            api_timeout: Duration::from_secs(5),
            api_ms: (40, 400),
            api_slow_ms: (1_000, 9_000),
            insync_ms: (5_000, 45_000),
            witness_lag: checks,
            audit: Duration::from_secs(1),
            ..Self::fast()
        }
    }
}

/// A DNS name of the world.
#[derive(Debug, Clone)]
pub struct NameCast {
    pub name: DnsName,
    /// Indices of the services that it needs.
    pub services: Vec<usize>,
    pub home: BTreeMap<EntryId, WeightedSet>,
    /// How long resolvers keep an answer.
    pub ttl: Duration,
}

/// People in one place.
#[derive(Debug, Clone)]
pub struct Users {
    pub place: String,
    /// Requests a second, on average.
    pub rps: f64,
    /// By how much the busiest hour of a day is above it (and the quietest below), 0..=1.
    pub swing: f64,
    /// Round trip to each region.
    pub rtt: Vec<Duration>,
}

/// A service: how patiently an edge tries it.
#[derive(Debug, Clone)]
pub struct ServiceCast {
    pub id: ServiceId,
    pub attempts: usize,
    pub connect_timeout: Duration,
    /// Regions that have endpoints of it, by index.
    pub regions: Vec<bool>,
}

/// Everyone, by index.
#[derive(Debug, Clone)]
pub struct Cast {
    pub regions: Vec<RegionId>,
    pub services: Vec<ServiceCast>,
    pub names: Vec<NameCast>,
    /// Edge processes of a region, behind one load balancer.
    pub processes: usize,
    /// One of them holds the region's lease: the first that runs. Else each speaks for the region.
    pub leased: bool,
    /// Endpoints of each service in a region that has it.
    pub endpoints: usize,
    /// What each region's edges decide by; only `own` differs, and what a file makes differ.
    pub policies: Vec<Policy>,
    /// Requests a second that a region serves in truth; `None`: any number.
    pub capacity: Vec<Option<f64>>,
    pub users: Vec<Users>,
    /// Round trips between regions while nothing slows them.
    pub rtt: Vec<Vec<Duration>>,
    pub pace: Pace,
    /// Neither room nor distances change in the run: only health is a reason to move users.
    pub steady: bool,
}

/// Why no world could be made.
#[derive(Debug, thiserror::Error)]
pub enum NoWorld {
    #[error("{0}")]
    Config(Box<Problems>),
    #[error("{0}")]
    Lacks(String),
}

/// From a user to the load balancer of a region in the same place.
const LAST_MILE: Duration = Duration::from_millis(10);
/// Requests a second of each region's users, where neither a scenario nor a capacity says another number.
const USERS_RPS: f64 = 100.0;

impl Cast {
    /// Reads a configuration once for each of its regions; certificates and keys that it names are not looked at.
    ///
    /// # Errors
    /// Its problems, or what it lacks for a world.
    pub fn load(path: &Path) -> Result<Self, NoWorld> {
        let problems = |problems| NoWorld::Config(Box::new(problems));
        let first = config::regions_named(path);
        let own = Environment { region: first.first().cloned(), ..Environment::default() };
        let config = config::load(path, &own).map_err(problems)?;
        let mut configs = Vec::new();
        for region in config.policy.regions.keys() {
            let own = Environment { region: Some(region.as_str().to_owned()), ..Environment::default() };
            configs.push(config::load(path, &own).map_err(problems)?);
        }
        Self::of(&configs)
    }

    /// `configs`: one a region, in the order of the regions' names.
    ///
    /// # Errors
    /// What the configuration lacks for a world.
    pub fn of(configs: &[Config]) -> Result<Self, NoWorld> {
        let lacks = |what: &str| Err(NoWorld::Lacks(what.to_owned()));
        let Some(config) = configs.first() else { return lacks("the configuration has no region") };
        if config.names.is_empty() {
            return lacks("the configuration has no [names]: there are no users to steer");
        }
        let regions: Vec<RegionId> = config.policy.regions.keys().cloned().collect();
        let services: Vec<ServiceCast> = config
            .services
            .iter()
            .map(|(id, service)| ServiceCast {
                id: id.clone(),
                attempts: service.attempts.max(1) as usize,
                connect_timeout: service.connect_timeout,
                regions: configs
                    .iter()
                    .map(|own| own.services.get(id).is_some_and(|s| !s.endpoints.is_empty()))
                    .collect(),
            })
            .collect();
        let index = |id: &ServiceId| services.iter().position(|s| s.id == *id);
        let names = config
            .policy
            .names
            .iter()
            .map(|(name, policy)| NameCast {
                name: name.clone(),
                services: policy.services.iter().filter_map(index).collect(),
                home: BTreeMap::clone(&policy.entries),
                ttl: config.names.get(name).map_or(Duration::from_secs(60), |n| n.ttl),
            })
            .collect();
        let places: Vec<String> = config.regions.values().map(|r| r.place.clone()).collect();
        let capacity: Vec<Option<f64>> = config.policy.regions.values().map(|r| r.capacity_rps).collect();
        let rtt = distances(&places)?;
        let users = users(&places, &capacity, &rtt);
        Ok(Self {
            services,
            names,
            processes: 1,
            leased: false,
            endpoints: 2,
            policies: configs.iter().map(|config| (*config.policy).clone()).collect(),
            steady: capacity.iter().all(Option::is_none),
            capacity,
            users,
            rtt,
            pace: Pace::real(config),
            regions,
        })
    }

    pub fn failover(&self) -> &FailoverPolicy {
        &self.policies[0].failover
    }

    pub fn health(&self) -> &HealthPolicy {
        &self.policies[0].health
    }

    /// Edge processes of all regions.
    pub fn edges(&self) -> usize {
        self.regions.len() * self.processes
    }

    /// The region of an edge process.
    pub fn region_of(&self, edge: usize) -> usize {
        edge / self.processes
    }

    /// The edge processes of a region.
    pub fn edges_of(&self, region: usize) -> std::ops::Range<usize> {
        region * self.processes..(region + 1) * self.processes
    }

    /// The index of a region; one that the world does not have counts as none of its regions.
    pub fn region(&self, id: &RegionId) -> usize {
        self.regions.iter().position(|r| r == id).unwrap_or(usize::MAX)
    }

    /// The index of a name.
    pub fn name(&self, name: &DnsName) -> Option<usize> {
        self.names.iter().position(|n| n.name == *name)
    }

    /// An endpoint of a service in a region.
    pub fn pod(&self, region: usize, service: usize, endpoint: usize) -> SocketAddr {
        SocketAddr::from(([10, region as u8, service as u8, endpoint as u8], 80))
    }

    /// Which endpoint that is.
    pub fn endpoint(&self, address: SocketAddr) -> Option<usize> {
        match address {
            SocketAddr::V4(v4) => Some(usize::from(v4.ip().octets()[3])).filter(|e| *e < self.endpoints),
            SocketAddr::V6(_) => None,
        }
    }

    /// The peer listener of a region.
    pub fn peer(&self, region: usize) -> SocketAddr {
        SocketAddr::from(([10, region as u8, 255, 1], 8443))
    }

    /// The round trip from one place to each region.
    ///
    /// # Errors
    /// When the place is not in the measured table.
    pub fn rtt_from(&self, place: &str, places: &[String]) -> Result<Vec<Duration>, NoWorld> {
        let table = table()?;
        places.iter().map(|to| between(&table, place, to).map(|rtt| rtt + LAST_MILE)).collect()
    }
}

fn table() -> Result<RttTable, NoWorld> {
    RttTable::measured().map_err(|error| NoWorld::Lacks(error.to_string()))
}

fn between(table: &RttTable, from: &str, to: &str) -> Result<Duration, NoWorld> {
    if from == to {
        return Ok(Duration::ZERO);
    }
    table.rtt(from, to).ok_or_else(|| {
        let known = table.regions().join(", ");
        NoWorld::Lacks(format!(
            "no measured distance from {from} to {to}: a region's `place` must be one of {known}"
        ))
    })
}

/// Between edges that answer from the same place.
const NEAR: Duration = Duration::from_millis(2);

fn distances(places: &[String]) -> Result<Vec<Vec<Duration>>, NoWorld> {
    let table = table()?;
    places
        .iter()
        .map(|from| places.iter().map(|to| Ok(between(&table, from, to)?.max(NEAR))).collect())
        .collect()
}

fn users(places: &[String], capacity: &[Option<f64>], rtt: &[Vec<Duration>]) -> Vec<Users> {
    places
        .iter()
        .zip(capacity)
        .enumerate()
        .map(|(own, (place, capacity))| Users {
            place: place.clone(),
            rps: capacity.map_or(USERS_RPS, |capacity| capacity / 2.0),
            swing: 0.0,
            rtt: rtt[own]
                .iter()
                .enumerate()
                .map(|(to, rtt)| if to == own { LAST_MILE } else { *rtt + LAST_MILE })
                .collect(),
        })
        .collect()
}
