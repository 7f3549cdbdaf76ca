//! The arithmetic of moving users: who takes a displaced share, and how far one step may go.

use crate::domain::latency::Rtt;
use crate::domain::name::{EntryId, RegionId};
use crate::domain::selection::Margin;
use crate::domain::weights::{TOTAL, WeightedSet};
use std::collections::{BTreeMap, BTreeSet};

/// Measured round trips between regions, taken from all views.
#[derive(Debug, Clone, Default)]
pub struct Distances(BTreeMap<(RegionId, RegionId), Rtt>);

impl Distances {
    /// Adds what `from` measured to `to`. A distance heard from both ends keeps each end's own.
    pub fn add(&mut self, from: &RegionId, to: &RegionId, rtt: Rtt) {
        self.0.insert((from.clone(), to.clone()), rtt);
    }

    /// Distance by either end's measurement.
    fn between(&self, a: &RegionId, b: &RegionId) -> Option<Rtt> {
        self.0.get(&(a.clone(), b.clone())).or_else(|| self.0.get(&(b.clone(), a.clone()))).copied()
    }
}

/// Demand of the entries and room of the regions, in requests a second.
///
/// An entry without known demand counts as zero; a region without a capacity has no bound.
#[derive(Debug, Clone, Default)]
pub struct Room {
    pub demand: BTreeMap<EntryId, f64>,
    pub capacity: BTreeMap<RegionId, f64>,
}

/// What each region already carries while displaced shares are handed out.
struct Fill<'a> {
    room: &'a Room,
    carried: BTreeMap<&'a RegionId, f64>,
}

impl Fill<'_> {
    fn left(&self, region: &RegionId) -> f64 {
        match self.room.capacity.get(region) {
            Some(capacity) => (capacity - self.carried.get(region).copied().unwrap_or(0.0)).max(0.0),
            None => f64::INFINITY,
        }
    }
}

/// Shares of one entry, 0..=1 in sum 1.
pub type Shares = BTreeMap<RegionId, f64>;

/// Who may take displaced users, in which order, and how many.
#[derive(Debug, Clone)]
pub struct Receivers<'a> {
    pub regions: BTreeSet<&'a RegionId>,
    pub distances: &'a Distances,
    pub room: &'a Room,
    /// Who holds displaced users of an entry already: the margin defends it, or users would be
    /// moved to and fro between two regions that are about as far.
    pub held: BTreeSet<(EntryId, RegionId)>,
    pub margin: Margin,
}

impl<'a> Receivers<'a> {
    /// Nearest to `from` first; unmeasured ones last, by name. One that holds users stays first as
    /// long as its distance is unknown (its own edge has restarted, say): that is no reason to move.
    fn nearest(&self, entry: &EntryId, from: &RegionId) -> Vec<&'a RegionId> {
        let mut order: Vec<&RegionId> = self.regions.iter().copied().collect();
        order.sort_by_cached_key(|to| {
            let holds = self.held.contains(&(entry.clone(), (*to).clone()));
            let rtt = self.distances.between(from, to);
            (rtt.is_none() && !holds, rtt.map(|rtt| if holds { self.margin.defended(rtt) } else { rtt }))
        });
        order
    }
}

/// For each entry, the shares after those in `leaving` gave theirs to `receivers`:
/// the nearest first, each up to its capacity; what fits nowhere is spread by capacity
/// (a full region that sheds beats an address that answers nobody).
///
/// Entries are served in name order, so every region computes the same result.
pub fn displace(
    sets: &BTreeMap<EntryId, Shares>,
    leaving: impl Fn(&EntryId, &RegionId) -> f64,
    receivers: &Receivers<'_>,
) -> BTreeMap<EntryId, Shares> {
    let room = receivers.room;
    let mut after: BTreeMap<EntryId, Shares> = sets.clone();
    let mut displaced: Vec<(&EntryId, &RegionId, f64)> = Vec::new();
    for (entry, shares) in sets {
        for (region, share) in shares {
            let goes = leaving(entry, region).min(*share);
            if goes > 0.0 {
                displaced.push((entry, region, goes));
                if let Some(left) = after.get_mut(entry).and_then(|s| s.get_mut(region)) {
                    *left -= goes;
                }
            }
        }
    }
    let mut fill = Fill { room, carried: BTreeMap::new() };
    for (entry, shares) in &after {
        let demand = room.demand.get(entry).copied().unwrap_or(0.0);
        for receiver in &receivers.regions {
            let carried = shares.get(*receiver).copied().unwrap_or(0.0) * demand;
            *fill.carried.entry(receiver).or_insert(0.0) += carried;
        }
    }
    for (entry, region, share) in displaced {
        let demand = room.demand.get(entry).copied().unwrap_or(0.0);
        let to = after.entry(entry.clone()).or_default();
        let mut rest = share;
        for receiver in receivers.nearest(entry, region) {
            let fits = if demand > 0.0 { fill.left(receiver) / demand } else { f64::INFINITY };
            let takes = rest.min(fits);
            if takes > 0.0 {
                *to.entry(receiver.clone()).or_insert(0.0) += takes;
                *fill.carried.entry(receiver).or_insert(0.0) += takes * demand;
                rest -= takes;
            }
        }
        let bounded: f64 = receivers.regions.iter().filter_map(|r| room.capacity.get(*r)).sum();
        if rest > 1e-9 && bounded > 0.0 {
            for receiver in &receivers.regions {
                let part = room.capacity.get(*receiver).copied().unwrap_or(0.0) / bounded;
                *to.entry((*receiver).clone()).or_insert(0.0) += rest * part;
            }
        }
    }
    after
}

/// One step from `from` toward `to` that moves at most `max_shift` (0..=1) of the users.
///
/// Counted in whole points of `TOTAL`, at least one, so that ramps end. Losers
/// give in name order and gainers take in name order; both ends are exact.
pub fn step(from: &WeightedSet, to: &WeightedSet, max_shift: f64) -> Option<WeightedSet> {
    let points = |set: &WeightedSet| -> BTreeMap<RegionId, i32> {
        WeightedSet::from_shares(&set.shares())
            .map(|s| s.iter().map(|(r, w)| (r.clone(), i32::from(w.get()))).collect())
            .unwrap_or_default()
    };
    let (mut now, goal) = (points(from), points(to));
    let budget = ((f64::from(TOTAL) * max_shift).floor() as i32).max(1);
    let mut gains = budget;
    let mut given = 0;
    for (region, want) in &goal {
        let have = now.entry(region.clone()).or_insert(0);
        let takes = (want - *have).clamp(0, gains);
        *have += takes;
        gains -= takes;
        given += takes;
    }
    for (region, have) in &mut now {
        let gives = (*have - goal.get(region).copied().unwrap_or(0)).clamp(0, given);
        *have -= gives;
        given -= gives;
    }
    let shares = now.into_iter().map(|(region, points)| (region, f64::from(points))).collect();
    WeightedSet::from_shares(&shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str) -> RegionId {
        RegionId::parse(name).unwrap()
    }

    fn set(of: &[(&str, f64)]) -> WeightedSet {
        WeightedSet::from_shares(&of.iter().map(|(n, s)| (region(n), *s)).collect()).unwrap()
    }

    fn distances() -> Distances {
        let mut distances = Distances::default();
        for (a, b, ms) in [("a", "b", 10), ("a", "c", 50), ("b", "c", 40)] {
            distances.add(&region(a), &region(b), Rtt::millis(ms));
        }
        distances
    }

    fn displaced(room: &Room) -> Shares {
        let entry = EntryId::parse("a").unwrap();
        let sets = BTreeMap::from([(entry.clone(), Shares::from([(region("a"), 1.0)]))]);
        let (b, c) = (region("b"), region("c"));
        displace(
            &sets,
            |_, r| f64::from(u8::from(r.as_str() == "a")),
            &Receivers {
                regions: BTreeSet::from([&b, &c]),
                distances: &distances(),
                room,
                held: BTreeSet::new(),
                margin: Margin::default(),
            },
        )
        .remove(&entry)
        .unwrap()
    }

    #[test]
    fn a_displaced_share_goes_to_the_nearest() {
        let shares = displaced(&Room::default());
        assert_eq!(WeightedSet::from_shares(&shares).unwrap(), set(&[("b", 1.0)]));
    }

    #[test]
    fn what_does_not_fit_goes_on_to_the_next() {
        let room = Room {
            demand: BTreeMap::from([(EntryId::parse("a").unwrap(), 100.0)]),
            capacity: BTreeMap::from([(region("b"), 30.0)]),
        };
        assert_eq!(WeightedSet::from_shares(&displaced(&room)).unwrap(), set(&[("b", 0.3), ("c", 0.7)]));
    }

    #[test]
    fn when_nothing_fits_everyone_is_still_sent_somewhere() {
        let room = Room {
            demand: BTreeMap::from([(EntryId::parse("a").unwrap(), 100.0)]),
            capacity: BTreeMap::from([(region("b"), 10.0), (region("c"), 30.0)]),
        };
        let shares = displaced(&room);
        assert!((shares.values().sum::<f64>() - 1.0).abs() < 1e-6, "{shares:?}");
        assert!(shares[&region("c")] > shares[&region("b")]);
    }

    #[test]
    fn a_ramp_never_moves_more_than_max_shift_and_ends_at_the_goal() {
        let goal = set(&[("a", 1.0)]);
        let mut now = set(&[("b", 0.6), ("c", 0.4)]);
        let mut steps = 0;
        while now != goal {
            let next = step(&now, &goal, 0.25).unwrap();
            let gained = next.share(&region("a")) - now.share(&region("a"));
            assert!(gained > 0.0 && gained <= 0.25 + 1e-9, "step {steps}: {gained}");
            now = next;
            steps += 1;
        }
        assert_eq!(steps, 4);
    }
}
