//! How many requests a second come through each entry.
//!
//! While every set is at home an entry's users are those of its region. During a shift an edge cannot see
//! which entry a user came through, only what each region gets and in which shares the entries lead
//! there. Then the last mix is bent, as little as it takes, until it explains what the regions get
//! (Richardson 1972 and Lucy 1974, as used for mixtures). It is smoothed, and adopted only when it leaves
//! a band, so that plans stay calm.

use crate::domain::name::{EntryId, RegionId};
use crate::domain::time::Time;
use crate::domain::weights::WeightedSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Time constant of the average: a burst of a second must not move users.
const SMOOTHING: Duration = Duration::from_secs(10);
/// The share by which an average must differ from what plans count with before they take it over.
const BAND: f64 = 0.05;
/// Rounds of bending a mix at each measurement.
const ROUNDS: usize = 8;
/// The share of an even part that an entry counts with at least while a mix is bent: nothing stays nothing.
const DORMANT: f64 = 0.01;

/// What is known of one name's demand, in requests a second.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Demand {
    /// Averages by entry.
    average: BTreeMap<EntryId, f64>,
    /// What plans count with.
    counted: BTreeMap<EntryId, f64>,
    /// The last measurement.
    at: Option<Time>,
}

impl Demand {
    /// What each entry sends, measured while every set is at home; `None`: unknown, it stays as it was.
    pub fn steady(&mut self, entered: Vec<(EntryId, Option<f64>)>, now: Time) {
        let keep = self.keep(now);
        let known = |entry: &EntryId| entered.iter().any(|(known, _)| known == entry);
        self.counted.retain(|entry, _| known(entry));
        self.average.retain(|entry, _| known(entry));
        for (entry, rps) in entered {
            let Some(rps) = rps else { continue };
            let average = self.average.entry(entry.clone()).or_insert(rps);
            *average = mixed(*average, rps, keep);
            adopt(self.counted.entry(entry).or_insert(0.0), *average);
        }
    }

    /// What the regions get during a shift in which nobody is lost on the way.
    ///
    /// Where no mix was ever seen (this edge has started since) all entries count alike at first.
    pub fn shifted(
        &mut self,
        sets: &BTreeMap<EntryId, WeightedSet>,
        entered: &BTreeMap<RegionId, f64>,
        now: Time,
    ) {
        let keep = self.keep(now);
        let total: f64 = entered.values().sum();
        let each = total / sets.len().max(1) as f64;
        let known = self.average.values().any(|rps| *rps > 0.0);
        // One that sends nothing may have begun to.
        let least = if known { each * DORMANT } else { each };
        let mix = sets.keys().map(|e| (e, self.average.get(e).copied().unwrap_or(0.0).max(least))).collect();
        for (entry, rps) in explained(mix, sets, entered) {
            let average = self.average.entry(entry.clone()).or_insert(rps);
            *average = if known { mixed(*average, rps, keep) } else { rps };
            adopt(self.counted.entry(entry.clone()).or_insert(0.0), *average);
        }
    }

    /// Nothing can be measured now: what is known stays, and the time until the next measurement is no
    /// part of an average.
    pub fn frozen(&mut self) {
        self.at = None;
    }

    /// What plans count with.
    pub fn current(&self) -> BTreeMap<EntryId, f64> {
        self.counted.clone()
    }

    /// How much of an average stays at a measurement now, 0..=1.
    fn keep(&mut self, now: Time) -> f64 {
        let passed = self.at.replace(now).map_or(Duration::ZERO, |at| now.since(at)).as_secs_f64();
        let span = SMOOTHING.as_secs_f64();
        span / (span + passed)
    }
}

/// The mix, bent until it explains what the regions get: each entry grows as its regions get more than
/// the mix says.
fn explained<'a>(
    mut mix: BTreeMap<&'a EntryId, f64>,
    sets: &'a BTreeMap<EntryId, WeightedSet>,
    entered: &BTreeMap<RegionId, f64>,
) -> BTreeMap<&'a EntryId, f64> {
    let shares: BTreeMap<&EntryId, BTreeMap<RegionId, f64>> =
        sets.iter().map(|(e, s)| (e, s.shares())).collect();
    for _ in 0..ROUNDS {
        let mut said: BTreeMap<&RegionId, f64> = BTreeMap::new();
        for (entry, shares) in &shares {
            for (region, share) in shares {
                *said.entry(region).or_insert(0.0) += mix.get(entry).copied().unwrap_or(0.0) * share;
            }
        }
        let growth = |region: &RegionId| {
            let said = said.get(region).copied().unwrap_or(0.0);
            if said > 0.0 { entered.get(region).copied().unwrap_or(0.0) / said } else { 0.0 }
        };
        for (entry, rps) in &mut mix {
            let Some(shares) = shares.get(entry) else { continue };
            let grows: f64 = shares.iter().map(|(region, share)| share * growth(region)).sum();
            *rps *= grows;
        }
    }
    mix
}

fn mixed(average: f64, sample: f64, keep: f64) -> f64 {
    average * keep + sample * (1.0 - keep)
}

/// Takes an average over where it is outside the band.
fn adopt(counted: &mut f64, average: f64) {
    if (average - *counted).abs() > *counted * BAND {
        *counted = average;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> EntryId {
        EntryId::parse(name).unwrap()
    }

    fn entered(a: f64, b: f64) -> BTreeMap<EntryId, f64> {
        BTreeMap::from([(entry("a"), a), (entry("b"), b)])
    }

    fn measured(a: f64, b: f64) -> Vec<(EntryId, Option<f64>)> {
        vec![(entry("a"), Some(a)), (entry("b"), Some(b))]
    }

    fn at(second: u64) -> Time {
        Time::from_millis(second * 1000)
    }

    #[test]
    fn a_burst_of_a_second_and_small_changes_leave_what_plans_count_with() {
        let mut demand = Demand::default();
        for second in 0..60 {
            demand.steady(measured(100.0, 50.0), at(second));
        }
        demand.steady(measured(140.0, 51.0), at(60));
        assert_eq!(demand.current(), entered(100.0, 50.0));
        for second in 61..200 {
            demand.steady(measured(150.0, 51.0), at(second));
        }
        let current = demand.current();
        assert!(current[&entry("a")] > 142.0 && current[&entry("b")] == 50.0, "{current:?}");
    }

    fn sets(of_a: &[(&str, f64)]) -> BTreeMap<EntryId, WeightedSet> {
        let region = |name: &str| RegionId::parse(name).unwrap();
        let a = of_a.iter().map(|(name, share)| (region(name), *share)).collect();
        BTreeMap::from([
            (entry("a"), WeightedSet::from_shares(&a).unwrap()),
            (entry("b"), WeightedSet::only(region("b"))),
        ])
    }

    fn gets(a: f64, b: f64) -> BTreeMap<RegionId, f64> {
        BTreeMap::from([("a", a), ("b", b)].map(|(name, rps)| (RegionId::parse(name).unwrap(), rps)))
    }

    #[test]
    fn during_a_shift_the_mix_follows_the_day_as_far_as_regions_show_it() {
        let mut demand = Demand::default();
        demand.steady(measured(100.0, 50.0), at(0));
        demand.frozen();
        assert_eq!(demand.current(), entered(100.0, 50.0), "nothing is measured while users are lost");
        // All of a's users are in b: only the total shows, and the mix stays.
        for second in 10..400 {
            demand.shifted(&sets(&[("b", 1.0)]), &gets(0.0, 300.0), at(second));
        }
        let current = demand.current();
        assert!((current[&entry("a")] / current[&entry("b")] - 2.0).abs() < 0.1, "{current:?}");
        assert!((current.values().sum::<f64>() - 300.0).abs() < 16.0, "{current:?}");
        // Half of them are at home again, and show that the mix was wrong: a has 60, not 200.
        for second in 400..900 {
            demand.shifted(&sets(&[("a", 0.5), ("b", 0.5)]), &gets(30.0, 270.0), at(second));
        }
        let current = demand.current();
        assert!((current[&entry("a")] - 60.0).abs() < 5.0, "{current:?}");
        demand.steady(vec![(entry("a"), Some(10.0)), (entry("b"), None)], at(910));
        assert!(demand.current()[&entry("b")] > 220.0, "nothing new is known of it");
    }

    #[test]
    fn without_any_mix_all_entries_count_alike_at_first() {
        let mut demand = Demand::default();
        demand.shifted(&sets(&[("b", 1.0)]), &gets(0.0, 300.0), at(0));
        assert_eq!(demand.current(), entered(150.0, 150.0));
    }
}
