//! Who takes which users: demand x distance is least, within the capacities.
//!
//! One algorithm for evacuation, spill and return. What is to be placed are shares of entries, each
//! with the region that is its home; they are sent through a min-cost flow to the regions that may
//! receive. A home costs nothing, any other region its round trip and bias. Whoever holds displaced
//! users of an entry already is defended by the margin, or users would be moved to and fro between two
//! regions that are about as far. Every region computes the same result from the same numbers.

use super::flow::{ArcId, Network};
use super::shift::{Distances, Room, Shares};
use crate::domain::latency::Rtt;
use crate::domain::name::{EntryId, RegionId};
use crate::domain::selection::Margin;
use std::collections::{BTreeMap, BTreeSet};

/// Units of flow in one request a second.
const UNITS: f64 = 1e6;
/// Requests a second that every entry has at least: one whose demand is zero or not known must still be
/// split and placed like the others.
const DEMAND_MIN: f64 = 0.01;
/// Costs in microseconds. Of staying with a region that is neither up nor down: no reason to move, but home is
/// better.
const KEPT: u64 = 1;
/// Of staying with a receiver whose distance is not known (its own edge has restarted, say): the same for as many as
/// are there, but it draws nobody off those who keep some.
const STAY: u64 = 2;
/// Of a region whose distance is not known: beyond the longest that can be measured, 2^32 microseconds.
const UNMEASURED: u64 = 1 << 33;

/// Users to place: a share of an entry's, and their home.
#[derive(Debug, Clone, PartialEq)]
pub struct Part<'a> {
    pub entry: &'a EntryId,
    pub home: &'a RegionId,
    /// 0..=1 of the entry's users.
    pub share: f64,
}

/// Who may take users, how far they are, and how much room they have.
#[derive(Debug, Clone)]
pub struct Receivers<'a> {
    pub regions: BTreeSet<&'a RegionId>,
    pub distances: &'a Distances,
    pub room: &'a Room,
    /// Requests a second of the capacities that are taken by users who stay where they are.
    pub taken: BTreeMap<RegionId, f64>,
    /// Who holds displaced users of an entry already, and how large a share of them.
    pub held: BTreeMap<(EntryId, RegionId), f64>,
    /// Regions that take nobody new but may keep so large a share of an entry.
    pub keepers: BTreeMap<(EntryId, RegionId), f64>,
    pub margin: Margin,
}

/// Where the parts go.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assignment {
    /// Shares of each entry's users, of those that were placed.
    pub shares: BTreeMap<EntryId, Shares>,
    /// Requests a second for which there was no room anywhere.
    pub overload_rps: f64,
    /// Sum of requests a second x seconds of distance, as the flow counts it.
    pub cost: f64,
}

/// An entry's demand as it is counted here, in requests a second.
pub fn demand(room: &Room, entry: &EntryId) -> f64 {
    room.demand.get(entry).copied().unwrap_or(0.0).max(DEMAND_MIN)
}

fn units(rps: f64) -> u64 {
    // Rounds, and ends at the ends of the type.
    (rps * UNITS).round() as u64
}

impl Receivers<'_> {
    /// Requests a second that a region may still take; `None`: without bound.
    fn left(&self, region: &RegionId) -> Option<f64> {
        let bound = self.room.bound(region)?;
        Some((bound - self.taken.get(region).copied().unwrap_or(0.0)).max(0.0))
    }

    /// Cost of one unit from a home to a receiver, in microseconds.
    fn cost(&self, entry: &EntryId, home: &RegionId, to: &RegionId) -> u64 {
        if home == to {
            return 0;
        }
        let holds = self.held.contains_key(&(entry.clone(), to.clone()));
        match self.distances.cost(home, to) {
            Some(rtt) if holds => micros(self.margin.defended(rtt)).max(STAY),
            Some(rtt) => micros(rtt).max(STAY),
            None => UNMEASURED,
        }
    }

    /// The share of an entry's users that a receiver may keep though nobody knows how far it is.
    fn stays(&self, part: &Part<'_>, at: &RegionId) -> Option<f64> {
        if part.home == at || self.distances.cost(part.home, at).is_some() {
            return None;
        }
        self.held.get(&(part.entry.clone(), at.clone())).copied()
    }
}

fn micros(rtt: Rtt) -> u64 {
    u64::try_from(rtt.duration().as_micros()).unwrap_or(UNMEASURED).min(UNMEASURED)
}

/// Places the parts with the receivers.
///
/// Where not all fit, each receiver counts as so much larger, in proportion to its capacity, that they do: a full
/// region that sheds beats an address that answers nobody. Without any receiver or keeper nothing is placed.
pub fn assign(parts: &[Part<'_>], receivers: &Receivers<'_>) -> Assignment {
    let mut parts: Vec<&Part<'_>> = parts.iter().filter(|part| part.share > 0.0).collect();
    parts.sort_by_key(|part| (part.entry, part.home));
    let fitting = placed(&parts, receivers, &BTreeMap::new());
    if fitting.excess == 0 || receivers.regions.is_empty() {
        return fitting.assignment;
    }
    let larger = spread(fitting.excess, receivers);
    let Assignment { overload_rps, cost, .. } = fitting.assignment;
    Assignment { overload_rps, cost, ..placed(&parts, receivers, &larger).assignment }
}

/// What the flow comes to.
struct Placed {
    assignment: Assignment,
    /// Units for which there is no room.
    excess: u64,
}

/// Places the parts as far as there is room, when some receivers have so many units more of it.
fn placed(parts: &[&Part<'_>], receivers: &Receivers<'_>, larger: &BTreeMap<&RegionId, u64>) -> Placed {
    let regions: Vec<&RegionId> = receivers.regions.iter().copied().collect();
    let keepers: Vec<(&(EntryId, RegionId), f64)> = receivers.keepers.iter().map(|(k, s)| (k, *s)).collect();
    // The sink first, then whom users go to, then the parts: of equal ways the search ends in the first.
    let (region_at, keeper_at) = (1, 1 + regions.len());
    let part_at = keeper_at + keepers.len();
    let source = part_at + parts.len();
    let mut network = Network::new(source + 1);
    for (n, region) in regions.iter().enumerate() {
        let left = receivers.left(region).map_or(u64::MAX / 4, units);
        network.add(region_at + n, 0, left + larger.get(*region).copied().unwrap_or(0), 0);
    }
    for (n, ((entry, _), share)) in keepers.iter().enumerate() {
        network.add(keeper_at + n, 0, units(demand(receivers.room, entry) * share), 0);
    }
    let mut ways: Vec<Vec<(&RegionId, ArcId)>> = Vec::with_capacity(parts.len());
    for (n, part) in parts.iter().enumerate() {
        let supply = supply(part, receivers);
        network.add(source, part_at + n, supply, 0);
        let mut way = Vec::with_capacity(regions.len());
        for (r, region) in regions.iter().enumerate() {
            if let Some(share) = receivers.stays(part, region) {
                let kept = units(demand(receivers.room, part.entry) * share).min(supply);
                way.push((*region, network.add(part_at + n, region_at + r, kept, STAY)));
            }
            let cost = receivers.cost(part.entry, part.home, region);
            way.push((*region, network.add(part_at + n, region_at + r, supply, cost)));
        }
        for (k, ((entry, region), _)) in keepers.iter().enumerate() {
            if entry == part.entry {
                way.push((region, network.add(part_at + n, keeper_at + k, supply, KEPT)));
            }
        }
        ways.push(way);
    }
    let sent = network.send(source, 0);
    let mut assignment = read(parts, &ways, &network, receivers);
    assignment.cost = sent.cost as f64 / (UNITS * 1e6);
    let all: u64 = parts.iter().map(|part| supply(part, receivers)).sum();
    Placed { assignment, excess: all - sent.amount }
}

fn supply(part: &Part<'_>, receivers: &Receivers<'_>) -> u64 {
    units(demand(receivers.room, part.entry) * part.share).max(1)
}

/// The shares that the flow says, and how much of what it had no room for is known demand.
fn read(
    parts: &[&Part<'_>],
    ways: &[Vec<(&RegionId, ArcId)>],
    network: &Network,
    receivers: &Receivers<'_>,
) -> Assignment {
    let mut assignment = Assignment::default();
    for (part, way) in parts.iter().zip(ways) {
        let supply = supply(part, receivers);
        let shares = assignment.shares.entry(part.entry.clone()).or_default();
        let mut placed = 0;
        for (region, arc) in way {
            let flow = network.flow(*arc);
            placed += flow;
            if flow > 0 {
                *shares.entry((*region).clone()).or_insert(0.0) += part.share * (flow as f64 / supply as f64);
            }
        }
        if !receivers.regions.is_empty() {
            let rest = (supply - placed) as f64 / supply as f64;
            assignment.overload_rps +=
                receivers.room.demand.get(part.entry).copied().unwrap_or(0.0) * part.share * rest;
        }
    }
    assignment
}

/// Units for all receivers by their capacity, or for all alike when none has any; together no less than `excess`.
fn spread<'a>(excess: u64, receivers: &Receivers<'a>) -> BTreeMap<&'a RegionId, u64> {
    let capacity = |region: &RegionId| receivers.room.capacity.get(region).copied().unwrap_or(0.0).max(0.0);
    let sum: f64 = receivers.regions.iter().map(|region| capacity(region)).sum();
    let part = |region: &RegionId| match sum > 0.0 {
        true => capacity(region) / sum,
        false => 1.0 / receivers.regions.len() as f64,
    };
    receivers
        .regions
        .iter()
        .map(|region| (*region, (excess as f64 * part(region)).ceil() as u64 + 1))
        .collect()
}
