//! What an operator asked for, as the core reads it. Made by `config`, replaced whole on reload.

use crate::domain::hash::fnv1a;
use crate::domain::health::HealthPolicy;
use crate::domain::name::{DnsName, EntryId, RegionId, ServiceId, Zone};
use crate::domain::routing::RouteTable;
use crate::domain::selection::Margin;
use crate::domain::weights::WeightedSet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Everything that `Fleet` decides by.
#[derive(Debug, Clone)]
pub struct Policy {
    pub own: RegionId,
    /// All configured regions, the own one among them.
    pub regions: BTreeMap<RegionId, RegionPolicy>,
    pub services: BTreeSet<ServiceId>,
    pub routes: Arc<RouteTable>,
    pub names: BTreeMap<DnsName, NamePolicy>,
    pub health: HealthPolicy,
    pub margin: Margin,
    /// Samples older than this leave a region's median.
    pub rtt_window: Duration,
    pub failover: FailoverPolicy,
    pub steering: Steering,
}

/// What shapes the own region's edges only: it may differ between regions.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Steering {
    /// Requests a second of a service that the own region can serve, where that is configured.
    pub capacity_rps: BTreeMap<ServiceId, f64>,
    /// Where this edge is; `None`: zones play no part.
    pub zone: Option<Zone>,
}

/// A region as the core knows it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RegionPolicy {
    /// Requests a second that the region can serve; `None`: no bound known.
    pub capacity_rps: Option<f64>,
    /// Added to its distance where regions are ranked: the larger, the later its turn.
    pub bias: Duration,
}

/// A DNS name and the weighted sets below it.
#[derive(Debug, Clone, PartialEq)]
pub struct NamePolicy {
    /// Each entry's set when all is well. Global form: an entry a region, that
    /// region alone. Simple form: one entry `all` with every region.
    pub entries: Arc<BTreeMap<EntryId, WeightedSet>>,
    /// Services that a region must serve to be up for this name.
    pub services: BTreeSet<ServiceId>,
}

impl NamePolicy {
    /// Every region that any entry of the name uses when all is well.
    pub fn regions(&self) -> BTreeSet<&RegionId> {
        self.entries.values().flat_map(|set| set.iter().map(|(region, _)| region)).collect()
    }
}

/// When users may be moved, and how fast.
#[derive(Debug, Clone, PartialEq)]
pub struct FailoverPolicy {
    /// How long a region must be seen down before this edge votes so.
    pub down_after: Duration,
    /// A view older than this has no vote.
    pub view_fresh: Duration,
    /// Regions that must be up for a name before anyone is moved away from another.
    pub min_live: usize,
    /// Users of a name may be moved to fewer regions than this only with an operator's override. 1: never asked.
    pub require_operator_below: usize,
    /// Share of an entry's users, 0..=1, that one ramp step may move.
    pub max_shift: f64,
    /// Pause after any change before a ramp step. At least TTL + time to INSYNC.
    pub hold_down: Duration,
    /// Changes of a name's records within an hour after which ramps wait; evacuations do not.
    pub max_changes_per_hour: usize,
    /// How long a plan may wait for its submission.
    pub plan_expiry: Duration,
    /// How long each next-ranked writer waits for the one before it.
    pub writer_patience: Duration,
    /// How long the connections of users that DNS has led away are closed over, one after the other.
    pub close_over: Duration,
}

impl Default for FailoverPolicy {
    fn default() -> Self {
        Self {
            down_after: Duration::from_secs(5),
            view_fresh: Duration::from_secs(5),
            min_live: 1,
            require_operator_below: 1,
            max_shift: 0.25,
            hold_down: Duration::from_secs(180),
            max_changes_per_hour: 20,
            plan_expiry: Duration::from_secs(30),
            writer_patience: Duration::from_secs(20),
            close_over: Duration::from_secs(300),
        }
    }
}

impl Policy {
    /// A region by itself, which serves nothing.
    pub fn alone(own: RegionId) -> Self {
        Self {
            regions: BTreeMap::from([(own.clone(), RegionPolicy::default())]),
            own,
            services: BTreeSet::new(),
            routes: Arc::default(),
            names: BTreeMap::new(),
            health: HealthPolicy::default(),
            margin: Margin::default(),
            rtt_window: Duration::from_secs(30),
            failover: FailoverPolicy::default(),
            steering: Steering::default(),
        }
    }

    /// A number that is equal for two policies exactly when they are the same in everything.
    pub fn whole_hash(&self) -> u64 {
        fnv1a(&format!("{self:?}"))
    }

    /// A number that is equal in two regions exactly when they would move users by the same
    /// membership and rules; it travels in views.
    ///
    /// Left out is what differs by design or only shapes what one edge measures and does itself:
    /// `own`, `routes`, the list of services (those that names need are in `names`), `rtt_window`, `steering`,
    /// `failover.close_over`.
    pub fn agreement_hash(&self) -> u64 {
        let Self { regions, names, failover, health, margin, .. } = self;
        let failover = FailoverPolicy { close_over: Duration::ZERO, ..failover.clone() };
        fnv1a(&format!("{regions:?}|{names:?}|{failover:?}|{health:?}|{margin:?}"))
    }
}
