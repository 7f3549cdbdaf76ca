//! The assignment of users to regions against a solver of linear programs, over random instances.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use microlp::{ComparisonOp, OptimizationDirection, Problem};
use proxima::domain::latency::Rtt;
use proxima::domain::name::{EntryId, RegionId};
use proxima::domain::plan::{Assignment, Distances, Part, Receivers, Room, assign};
use proxima::domain::selection::Margin;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::time::Duration;

/// A world in which users are to be placed.
struct Instance {
    regions: Vec<RegionId>,
    receivers: Vec<RegionId>,
    entries: Vec<EntryId>,
    distances: Distances,
    /// In milliseconds, with the bias of the receiver.
    costs: BTreeMap<(RegionId, RegionId), f64>,
    room: Room,
    /// (entry, home, share).
    parts: Vec<(EntryId, RegionId, f64)>,
}

fn region(n: usize) -> RegionId {
    RegionId::parse(&format!("r{n:02}")).unwrap()
}

impl Instance {
    /// Up to 12 regions on a map, an entry each or one with all of them.
    fn random(random: &mut StdRng) -> Self {
        let count = random.random_range(2..=12);
        let regions: Vec<RegionId> = (0..count).map(region).collect();
        let receivers: Vec<RegionId> = regions.iter().filter(|_| random.random_bool(0.75)).cloned().collect();
        let mut distances = Distances::default();
        let mut costs = BTreeMap::new();
        for to in &regions {
            let bias = if random.random_bool(0.2) { random.random_range(1..30) } else { 0 };
            distances.bias(to, Duration::from_millis(bias));
            for from in regions.iter().filter(|from| *from != to) {
                let rtt = random.random_range(1..300);
                distances.add(from, to, Rtt::millis(rtt));
                costs.insert((from.clone(), to.clone()), (rtt + bias) as f64);
            }
        }
        let simple = random.random_bool(0.3);
        let entries: Vec<EntryId> = if simple {
            vec![EntryId::parse("all").unwrap()]
        } else {
            regions.iter().map(EntryId::from).collect()
        };
        let mut room = Room::default();
        for entry in &entries {
            room.demand.insert(entry.clone(), f64::from(random.random_range(1..1000)));
        }
        let all: f64 = room.demand.values().sum();
        for region in &regions {
            if random.random_bool(0.8) {
                let share = random.random_range(0.2..2.5) / count as f64;
                room.capacity.insert(region.clone(), (all * share).ceil());
            }
        }
        let parts = if simple {
            let part = |region: &RegionId| (entries[0].clone(), region.clone(), 1.0 / count as f64);
            regions.iter().map(part).collect()
        } else {
            entries
                .iter()
                .cloned()
                .zip(regions.iter().cloned())
                .map(|(entry, home)| (entry, home, 1.0))
                .collect()
        };
        Self { regions, receivers, entries, distances, costs, room, parts }
    }

    fn assign(&self, backwards: bool) -> Assignment {
        let mut parts: Vec<Part<'_>> =
            self.parts.iter().map(|(entry, home, share)| Part { entry, home, share: *share }).collect();
        if backwards {
            parts.reverse();
        }
        assign(
            &parts,
            &Receivers {
                regions: self.receivers.iter().collect(),
                distances: &self.distances,
                room: &self.room,
                taken: BTreeMap::new(),
                held: BTreeMap::new(),
                keepers: BTreeMap::new(),
                margin: Margin::default(),
            },
        )
    }

    fn demand(&self, part: &(EntryId, RegionId, f64)) -> f64 {
        self.room.demand[&part.0] * part.2
    }

    /// What can be placed at most, by capacities alone: everyone may go everywhere.
    fn placeable(&self) -> f64 {
        let all: f64 = self.parts.iter().map(|part| self.demand(part)).sum();
        let bounded =
            self.receivers.iter().map(|r| self.room.capacity.get(r).copied().unwrap_or(f64::INFINITY));
        all.min(bounded.sum())
    }

    /// The least cost of what there is room for, by linear programming, in requests a second x seconds.
    fn least(&self) -> f64 {
        self.least_of(&self.room.capacity, self.placeable())
    }

    /// The least cost of placing everyone, when receivers are so much larger, in proportion, that all fit.
    fn least_of_all(&self) -> f64 {
        let all: f64 = self.parts.iter().map(|part| self.demand(part)).sum();
        let factor = (all / self.placeable()).max(1.0);
        let larger = self.room.capacity.iter().map(|(region, rps)| (region.clone(), rps * factor));
        self.least_of(&larger.collect(), all)
    }

    /// What an assignment's shares cost.
    fn cost(&self, shares: &BTreeMap<EntryId, BTreeMap<RegionId, f64>>) -> f64 {
        let cost = |(entry, home, _): &(EntryId, RegionId, f64)| -> f64 {
            let each = shares[entry].iter().map(|(to, share)| {
                let millis = self.costs.get(&(home.clone(), to.clone())).copied().unwrap_or(0.0);
                share * self.room.demand[entry] * millis / 1000.0
            });
            each.sum()
        };
        self.parts.iter().map(cost).sum()
    }

    fn least_of(&self, capacity: &BTreeMap<RegionId, f64>, placed: f64) -> f64 {
        let mut problem = Problem::new(OptimizationDirection::Minimize);
        let mut by_receiver: BTreeMap<&RegionId, Vec<_>> = BTreeMap::new();
        let mut all = Vec::new();
        for part in &self.parts {
            let mut own = Vec::new();
            for to in &self.receivers {
                let cost = self.costs.get(&(part.1.clone(), to.clone())).copied().unwrap_or(0.0);
                let variable = problem.add_var(cost / 1000.0, (0.0, f64::INFINITY));
                own.push((variable, 1.0));
                all.push((variable, 1.0));
                by_receiver.entry(to).or_default().push((variable, 1.0));
            }
            problem.add_constraint(&own[..], ComparisonOp::Le, self.demand(part));
        }
        for (to, variables) in by_receiver {
            if let Some(capacity) = capacity.get(to) {
                problem.add_constraint(&variables[..], ComparisonOp::Le, *capacity);
            }
        }
        problem.add_constraint(&all[..], ComparisonOp::Ge, placed - 1e-6);
        problem.solve().unwrap().solution().unwrap().objective()
    }
}

#[test]
fn the_total_of_demand_and_distance_is_least_over_hundreds_of_worlds() {
    let mut full = 0;
    for seed in 0..500 {
        let instance = Instance::random(&mut StdRng::seed_from_u64(seed));
        if instance.receivers.is_empty() {
            continue;
        }
        let assignment = instance.assign(false);
        let least = instance.least();
        let tolerance = 1e-3 + least * 1e-6;
        assert!((assignment.cost - least).abs() < tolerance, "seed {seed}: {} and {least}", assignment.cost);
        let all: f64 = instance.parts.iter().map(|part| instance.demand(part)).sum();
        let overload = all - instance.placeable();
        assert!(
            (assignment.overload_rps - overload).abs() < 1e-3,
            "seed {seed}: {}",
            assignment.overload_rps
        );
        full += usize::from(overload > 0.0);
    }
    assert!((20..400).contains(&full), "worlds with and without room: {full} are full");
}

#[test]
fn where_there_is_no_room_for_all_each_region_gets_its_part_of_the_excess_and_distance_is_least() {
    let mut full = 0;
    for seed in 0..500 {
        let instance = Instance::random(&mut StdRng::seed_from_u64(seed));
        // Of the simple form's one entry nobody can tell from the shares who went where.
        if instance.receivers.is_empty() || instance.entries.len() < instance.parts.len() {
            continue;
        }
        let assignment = instance.assign(false);
        let (cost, least) = (instance.cost(&assignment.shares), instance.least_of_all());
        assert!((cost - least).abs() < 1e-3 + least * 1e-5, "seed {seed}: {cost} and {least}");
        full += usize::from(assignment.overload_rps > 0.0);
    }
    assert!(full > 50, "{full} are full");
}

#[test]
fn nobody_is_lost_and_no_region_gets_more_than_it_can_serve_where_there_is_room() {
    for seed in 0..500 {
        let instance = Instance::random(&mut StdRng::seed_from_u64(seed));
        if instance.receivers.is_empty() {
            continue;
        }
        let assignment = instance.assign(false);
        let mut load: BTreeMap<&RegionId, f64> = BTreeMap::new();
        for entry in &instance.entries {
            let shares = &assignment.shares[entry];
            assert!((shares.values().sum::<f64>() - 1.0).abs() < 1e-6, "seed {seed}: {shares:?}");
            for (region, share) in shares {
                assert!(instance.receivers.contains(region), "seed {seed}: {region} takes nobody");
                *load.entry(region).or_default() += share * instance.room.demand[entry];
            }
        }
        for region in &instance.regions {
            let (Some(load), Some(capacity)) = (load.get(region), instance.room.capacity.get(region)) else {
                continue;
            };
            let fits = assignment.overload_rps > 0.0 || *load <= capacity + 1e-3;
            assert!(fits, "seed {seed}: {region} gets {load} of {capacity}");
        }
    }
}

#[test]
fn the_order_of_what_is_asked_changes_nothing() {
    for seed in 0..200 {
        let instance = Instance::random(&mut StdRng::seed_from_u64(seed));
        assert_eq!(instance.assign(false), instance.assign(true), "seed {seed}");
    }
}
