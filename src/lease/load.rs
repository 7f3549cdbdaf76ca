//! The ledger of a region's load: what its pods do together, as well as this one knows it.
//!
//! Capacities are a region's, and a region has many pods. Each tells the holder of the lease what it does
//! itself; the holder adds up, and tells the sum to all. So pods of one region decide by one number.
//!
//! Pure: moments and numbers are arguments.
//!
//! # The rule
//! - The holder: its own load and that of everyone who told theirs within `failover.view_fresh`. One that has
//!   only begun to hold the lease has not heard all: until then a former holder's sum while it is fresh, else
//!   those who were heard stand for the silent ones.
//! - Who follows: the holder's sum while it is fresh.
//! - Everyone else: its own load, times the pods that are known.
//! - Without siblings: its own load.

use super::Standing;
use crate::domain::fleet::ServiceLoad;
use crate::domain::name::{DnsName, ServiceId};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Pods whose load is remembered; what more would say is not heard. Four times as many as have an address here.
const PODS_MAX: usize = 1024;
/// Largest believable rate in requests a second: more is a fault that would hide all others.
const RATE_MAX: f64 = 1e9;

/// Requests a second, of a pod or of a region.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Sent by clients.
    pub entered_rps: f64,
    /// The same for each name.
    #[serde(default)]
    pub names: BTreeMap<DnsName, f64>,
    /// That own endpoints were asked for.
    pub served_rps: f64,
    pub services: BTreeMap<ServiceId, ServiceLoad>,
}

/// What a pod tells the holder of the lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodLoad {
    /// Random number of its start, as in its view.
    pub boot: u64,
    pub load: Load,
}

/// What the pods of a region do together.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RegionLoad {
    /// Pods that it was measured at.
    pub pods: usize,
    pub load: Load,
}

/// The load of the pods of a region.
#[derive(Debug)]
pub struct Ledger {
    /// `None`: not measured yet.
    own: Option<Load>,
    standing: Standing,
    /// Since when this pod holds the lease, if it does.
    held: Option<Time>,
    /// Pods of the region by their addresses, this one among them; `None`: it is alone.
    pods: Option<usize>,
    /// How long what others say counts.
    patience: Duration,
    /// By boot number.
    told: BTreeMap<u64, (Time, Load)>,
    /// What a holder told last.
    total: Option<(Time, RegionLoad)>,
}

impl Default for Ledger {
    /// That of a pod without siblings.
    fn default() -> Self {
        Self {
            own: None,
            standing: Standing::Seeking,
            held: None,
            pods: None,
            patience: Duration::ZERO,
            told: BTreeMap::new(),
            total: None,
        }
    }
}

impl Ledger {
    /// What this pod does now.
    pub fn measured(&mut self, load: Load) {
        self.own = Some(load);
    }

    /// How this pod stands to the lease from now on.
    pub fn stand(&mut self, standing: Standing, now: Time) {
        self.held = (standing == Standing::Holding).then(|| self.held.unwrap_or(now));
        self.standing = standing;
    }

    /// How many pods of the region have an address, this one among them or not yet, and how long what they
    /// say counts.
    pub fn known(&mut self, pods: usize, patience: Duration) {
        self.pods = Some(pods.max(1));
        self.patience = patience;
    }

    /// There are no siblings: nobody else's word counts any more.
    pub fn alone(&mut self) {
        *self = Self { own: self.own.take(), ..Self::default() };
    }

    /// A sibling tells what it does; `false`: it is not believed.
    pub fn hear(&mut self, pod: PodLoad, now: Time) -> bool {
        let patience = self.patience;
        self.told.retain(|_, (at, _)| now.since(*at) <= patience);
        let room = self.told.len() < PODS_MAX || self.told.contains_key(&pod.boot);
        let believed = self.pods.is_some() && room && pod.load.is_sane();
        if believed {
            self.told.insert(pod.boot, (now, pod.load));
        }
        believed
    }

    /// The holder that is followed tells the sum; `false`: it is not believed.
    pub fn hear_total(&mut self, total: RegionLoad, now: Time) -> bool {
        let believed = total.load.is_sane();
        if believed {
            self.total = Some((now, total));
        }
        believed
    }

    /// What this pod tells the holder; `None`: nothing is measured yet.
    pub fn own(&self) -> Option<Load> {
        self.own.as_ref().map(Load::busy)
    }

    /// What this pod tells those who follow it; `None`: it holds no lease, or has measured nothing yet.
    pub fn sum(&self, now: Time) -> Option<RegionLoad> {
        let holds = self.standing == Standing::Holding && self.own.is_some();
        holds.then(|| self.region(now)).map(|sum| RegionLoad { load: sum.load.busy(), ..sum })
    }

    /// The region's load, with every service that this pod measures.
    pub fn region(&self, now: Time) -> RegionLoad {
        let Some(own) = &self.own else { return RegionLoad::default() };
        let mut region = match self.pods {
            None => RegionLoad { pods: 1, load: own.clone() },
            Some(pods) if self.standing == Standing::Holding => self.added_up(own, pods, now),
            Some(pods) => self.total(now).cloned().unwrap_or_else(|| {
                let stands_for = f64::from(u32::try_from(pods).unwrap_or(u32::MAX));
                RegionLoad { pods: 1, load: own.times(stands_for) }
            }),
        };
        // Those that nobody asks for are measured, too.
        own.services.keys().for_each(|id| {
            region.load.services.entry(id.clone()).or_default();
        });
        region
    }

    fn added_up(&self, own: &Load, pods: usize, now: Time) -> RegionLoad {
        let fresh = self.told.values().filter(|(at, _)| now.since(*at) <= self.patience);
        let mut sum = RegionLoad { pods: 1, load: own.clone() };
        for (_, load) in fresh {
            sum.pods += 1;
            sum.load.add(load);
        }
        // Whoever is silent for longer than this is gone, or cannot be heard at all.
        let young = self.held.is_some_and(|held| now.since(held) <= self.patience);
        if sum.pods >= pods || !young {
            return sum;
        }
        if let Some(total) = self.total(now) {
            return total.clone();
        }
        let load = sum.load.times(pods as f64 / sum.pods as f64);
        RegionLoad { load, ..sum }
    }

    /// What a holder said a short while ago.
    fn total(&self, now: Time) -> Option<&RegionLoad> {
        let total = self.total.as_ref().filter(|(at, _)| now.since(*at) <= self.patience);
        total.map(|(_, total)| total)
    }
}

impl Load {
    fn is_sane(&self) -> bool {
        let services = self.services.values().flat_map(|of| [of.entered_rps, of.served_rps, of.shed_rps]);
        let names = self.names.values().copied();
        services
            .chain(names)
            .chain([self.entered_rps, self.served_rps])
            .all(|rps| (0.0..=RATE_MAX).contains(&rps))
    }

    /// The same without the services that nobody asks for: they need not be told.
    fn busy(&self) -> Self {
        let services = self.services.iter().filter(|(_, load)| **load != ServiceLoad::default());
        let services = services.map(|(id, load)| (id.clone(), *load)).collect();
        Self { services, names: self.names.clone(), ..*self }
    }

    fn add(&mut self, other: &Self) {
        self.entered_rps += other.entered_rps;
        self.served_rps += other.served_rps;
        for (name, rps) in &other.names {
            *self.names.entry(name.clone()).or_default() += rps;
        }
        for (id, load) in &other.services {
            let sum = self.services.entry(id.clone()).or_default();
            sum.entered_rps += load.entered_rps;
            sum.served_rps += load.served_rps;
            sum.shed_rps += load.shed_rps;
            sum.in_flight = sum.in_flight.saturating_add(load.in_flight);
        }
    }

    fn times(&self, factor: f64) -> Self {
        let service = |load: &ServiceLoad| ServiceLoad {
            entered_rps: load.entered_rps * factor,
            served_rps: load.served_rps * factor,
            shed_rps: load.shed_rps * factor,
            // Saturates.
            in_flight: (f64::from(load.in_flight) * factor) as u32,
        };
        Self {
            entered_rps: self.entered_rps * factor,
            names: self.names.iter().map(|(name, rps)| (name.clone(), rps * factor)).collect(),
            served_rps: self.served_rps * factor,
            services: self.services.iter().map(|(id, load)| (id.clone(), service(load))).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
