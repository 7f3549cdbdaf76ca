//! Who plays: regions, services and names of a scenario, the policy that each
//! edge gets, and the pace of everything around the edges.

use super::faults::{Fault, Form, Scenario};
use proxima::domain::health::HealthPolicy;
use proxima::domain::name::{DnsName, EntryId, RegionId, ServiceId};
use proxima::domain::policy::{FailoverPolicy, NamePolicy, Policy, RegionPolicy, Steering};
use proxima::domain::routing::RouteTable;
use proxima::domain::selection::Margin;
use proxima::domain::weights::{Weight, WeightedSet};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub const REGIONS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
pub const SERVICES: [&str; 2] = ["web", "api"];
pub const NAMES: [&str; 2] = ["www.example.com", "api.example.com"];
/// Indices of the services that each name needs.
const NEEDS: [&[usize]; 2] = [&[0], &[0, 1]];

/// How fast the world around the edges turns. A real fleet is slower (hold-downs of minutes);
/// the proportions are kept, so that a seed is short.
pub mod pace {
    use std::time::Duration;

    pub const PROBE: Duration = Duration::from_secs(1);
    pub const PROBE_TIMEOUT: Duration = Duration::from_millis(800);
    /// Between two rounds of requests at each edge.
    pub const REQUESTS: Duration = Duration::from_millis(500);
    pub const POISON: Duration = Duration::from_millis(200);
    pub const DNS_POLL: Duration = Duration::from_millis(1500);
    pub const API_TIMEOUT: Duration = Duration::from_millis(1500);
    /// Health checkers: interval x threshold.
    pub const WITNESS_LAG: Duration = Duration::from_secs(3);
    pub const AUDIT: Duration = Duration::from_millis(500);
    /// Greatest error of a region's wall clock.
    pub const SKEW: Duration = Duration::from_millis(150);
    /// A control task is woken this late at most.
    pub const WAKE_LATE: Duration = Duration::from_millis(200);
}

/// A DNS name of the scenario.
#[derive(Debug)]
pub struct NameCast {
    pub name: DnsName,
    /// Indices of the services that it needs.
    pub services: Vec<usize>,
    pub home: BTreeMap<EntryId, WeightedSet>,
}

/// The names of everyone, by index.
#[derive(Debug)]
pub struct Cast {
    pub regions: Vec<RegionId>,
    pub services: Vec<ServiceId>,
    pub names: Vec<NameCast>,
    pub endpoints: usize,
    pub failover: FailoverPolicy,
    pub health: HealthPolicy,
    capacity_rps: Option<f64>,
    /// Neither room nor distances change in the run: only health is a reason to move users.
    pub steady: bool,
    routes: Arc<RouteTable>,
}

impl Cast {
    pub fn new(scenario: &Scenario) -> Self {
        let regions: Vec<RegionId> =
            REGIONS[..scenario.regions].iter().map(|n| RegionId::parse(n).unwrap()).collect();
        let names = NAMES[..scenario.names]
            .iter()
            .zip(NEEDS)
            .map(|(name, needs)| NameCast {
                name: DnsName::parse(name).unwrap(),
                services: needs.iter().copied().filter(|s| *s < scenario.services).collect(),
                home: home(scenario.form, &regions),
            })
            .collect();
        Self {
            services: SERVICES[..scenario.services].iter().map(|n| ServiceId::parse(n).unwrap()).collect(),
            names,
            endpoints: scenario.endpoints,
            failover: FailoverPolicy {
                down_after: Duration::from_secs(2),
                view_fresh: Duration::from_secs(3),
                min_live: scenario.min_live,
                max_shift: f64::from(scenario.max_shift_points) / 100.0,
                hold_down: Duration::from_secs(8),
                plan_expiry: Duration::from_secs(4),
                writer_patience: Duration::from_secs(3),
                require_operator_below: 1,
                max_changes_per_hour: 1000,
                ..FailoverPolicy::default()
            },
            health: HealthPolicy {
                fall: 2,
                rise: 2,
                failure_window: Duration::from_secs(3),
                ejection: Duration::from_secs(1),
                ejection_max: Duration::from_secs(8),
                probation: Duration::from_secs(3),
                ..HealthPolicy::default()
            },
            capacity_rps: scenario.capacity_rps.map(f64::from),
            steady: scenario.capacity_rps.is_none()
                && !scenario.steps.iter().any(|step| matches!(step.fault, Fault::Slow { .. })),
            routes: Arc::default(),
            regions,
        }
    }

    pub fn region(&self, id: &RegionId) -> usize {
        self.regions.iter().position(|r| r == id).unwrap()
    }

    pub fn name(&self, name: &DnsName) -> usize {
        self.names.iter().position(|n| n.name == *name).unwrap()
    }

    pub fn policy(&self, own: usize) -> Policy {
        Policy {
            own: self.regions[own].clone(),
            regions: self
                .regions
                .iter()
                .map(|r| {
                    (r.clone(), RegionPolicy { capacity_rps: self.capacity_rps, ..RegionPolicy::default() })
                })
                .collect(),
            services: self.services.iter().cloned().collect(),
            routes: Arc::clone(&self.routes),
            names: self
                .names
                .iter()
                .map(|n| {
                    let services: BTreeSet<_> =
                        n.services.iter().map(|s| self.services[*s].clone()).collect();
                    (n.name.clone(), NamePolicy { entries: n.home.clone(), services })
                })
                .collect(),
            health: self.health.clone(),
            margin: Margin::default(),
            rtt_window: Duration::from_secs(10),
            failover: self.failover.clone(),
            steering: Steering::default(),
        }
    }

    /// Pod `endpoint` of a service in a region.
    pub fn pod(&self, region: usize, service: usize, endpoint: usize) -> SocketAddr {
        SocketAddr::from(([10, region as u8, service as u8, endpoint as u8], 80))
    }

    /// The peer listener of a region.
    pub fn peer(&self, region: usize) -> SocketAddr {
        SocketAddr::from(([10, region as u8, 255, 1], 8443))
    }
}

fn home(form: Form, regions: &[RegionId]) -> BTreeMap<EntryId, WeightedSet> {
    match form {
        Form::Global => regions.iter().map(|r| (EntryId::from(r), WeightedSet::only(r.clone()))).collect(),
        Form::Simple => {
            let each = regions.iter().map(|r| (r.clone(), Weight::new(1).unwrap())).collect();
            BTreeMap::from([(EntryId::parse("all").unwrap(), WeightedSet::new(each).unwrap())])
        }
    }
}
