//! How many requests a second come through each entry.
//!
//! An edge cannot see which entry a user came through, only what each region gets and in which shares
//! the entries lead there. So the last mix is bent, as little as it takes, until it explains what the
//! regions get (Richardson 1972 and Lucy 1974, as used for mixtures). While every entry leads to a
//! region of its own that is what this region gets, exactly. What plans count with is renewed only
//! when it leaves a band, so that they stay calm.

use super::load::carried;
use crate::domain::name::{EntryId, RegionId};
use crate::domain::time::Time;
use crate::domain::weights::WeightedSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest time constant of an average: a burst of a second must not move users.
const SMOOTHING_MAX: Duration = Duration::from_secs(10);
/// Time constants of the average in one hold-down. Users follow a change for about three quarters of it; in the
/// rest of it the average forgets what was before (a fiftieth is left after four).
const SMOOTHINGS: u32 = 16;
/// The share by which a mix must differ from what plans count with before they take it over.
pub const BAND: f64 = 0.05;
/// Rounds of bending a mix at each measurement.
const ROUNDS: usize = 8;
/// The share of an even part that an entry counts with at least while a mix is bent: nothing stays nothing.
const DORMANT: f64 = 0.01;

/// What is known of one name's demand, in requests a second.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Demand {
    /// What each region gets: averages since it was last not heard.
    entered: BTreeMap<RegionId, f64>,
    /// When they were last renewed.
    at: Option<Time>,
    /// By entry, what last explained what the regions get.
    mix: BTreeMap<EntryId, f64>,
    /// What plans count with.
    counted: BTreeMap<EntryId, f64>,
}

impl Demand {
    /// What clients send to the regions now; whoever is missing is not heard, and what it said before is history.
    pub fn entered(&mut self, entered: &BTreeMap<RegionId, f64>, hold_down: Duration, now: Time) {
        let span = SMOOTHING_MAX.min(hold_down / SMOOTHINGS).as_secs_f64();
        let passed = self.at.replace(now).map_or(Duration::ZERO, |at| now.since(at)).as_secs_f64();
        let keep = if span > 0.0 { span / (span + passed) } else { 0.0 };
        self.entered.retain(|region, _| entered.contains_key(region));
        for (region, rps) in entered {
            let average = self.entered.entry(region.clone()).or_insert(*rps);
            *average = *average * keep + rps * (1.0 - keep);
        }
    }

    /// Which mix explains what the regions get, when users are where the sets lead and nobody is lost on the way.
    ///
    /// Where no mix was ever seen (this edge has started since) all entries count alike at first.
    pub fn measure(&mut self, sets: &BTreeMap<EntryId, WeightedSet>) {
        let total: f64 = self.entered.values().sum();
        let each = total / sets.len().max(1) as f64;
        let known = self.mix.values().any(|rps| *rps > 0.0);
        // One that sends nothing may have begun to.
        let least = if known { each * DORMANT } else { each };
        let mix = sets.keys().map(|e| (e, self.mix.get(e).copied().unwrap_or(0.0).max(least))).collect();
        let mix = explained(mix, sets, &self.entered);
        self.mix = mix.into_iter().map(|(entry, rps)| (entry.clone(), rps)).collect();
        self.counted.retain(|entry, _| self.mix.contains_key(entry));
        for (entry, rps) in &self.mix {
            calm(self.counted.entry(entry.clone()).or_insert(*rps), *rps);
        }
    }

    /// Whether anything was measured.
    pub fn is_known(&self) -> bool {
        !self.counted.is_empty()
    }

    /// What every region carries by what plans count with, under these sets.
    pub fn carried(&self, sets: &BTreeMap<EntryId, WeightedSet>) -> BTreeMap<RegionId, f64> {
        carried(|entry| self.counted.get(entry).copied().unwrap_or(0.0), sets)
    }

    /// What plans count with.
    pub fn current(&self) -> BTreeMap<EntryId, f64> {
        self.counted.clone()
    }
}

/// Takes over what was measured where it has left the band.
pub fn calm(counted: &mut f64, measured: f64) {
    if (measured - *counted).abs() > *counted * BAND {
        *counted = measured;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> EntryId {
        EntryId::parse(name).unwrap()
    }

    fn counts(a: f64, b: f64) -> BTreeMap<EntryId, f64> {
        BTreeMap::from([(entry("a"), a), (entry("b"), b)])
    }

    fn gets(a: f64, b: f64) -> BTreeMap<RegionId, f64> {
        BTreeMap::from([("a", a), ("b", b)].map(|(name, rps)| (RegionId::parse(name).unwrap(), rps)))
    }

    /// Users of `a` go where this says; those of `b` are at home.
    fn sets(of_a: &[(&str, f64)]) -> BTreeMap<EntryId, WeightedSet> {
        let region = |name: &str| RegionId::parse(name).unwrap();
        let a = of_a.iter().map(|(name, share)| (region(name), *share)).collect();
        BTreeMap::from([
            (entry("a"), WeightedSet::from_shares(&a).unwrap()),
            (entry("b"), WeightedSet::only(region("b"))),
        ])
    }

    const HOLD_DOWN: Duration = Duration::from_secs(160);

    /// The same for some seconds.
    fn look(
        demand: &mut Demand,
        sets: &BTreeMap<EntryId, WeightedSet>,
        gets: &BTreeMap<RegionId, f64>,
        seconds: std::ops::Range<u64>,
    ) {
        for second in seconds {
            demand.entered(gets, HOLD_DOWN, Time::from_millis(second * 1000));
            demand.measure(sets);
        }
    }

    #[test]
    fn a_burst_of_a_second_and_small_changes_leave_what_plans_count_with() {
        let (mut demand, home) = (Demand::default(), sets(&[("a", 1.0)]));
        look(&mut demand, &home, &gets(100.0, 50.0), 0..60);
        look(&mut demand, &home, &gets(140.0, 51.0), 60..61);
        assert_eq!(demand.current(), counts(100.0, 50.0));
        look(&mut demand, &home, &gets(150.0, 51.0), 61..200);
        let current = demand.current();
        assert!(current[&entry("a")] > 142.0 && current[&entry("b")] == 50.0, "{current:?}");
    }

    #[test]
    fn during_a_shift_the_mix_follows_the_day_as_far_as_regions_show_it() {
        let mut demand = Demand::default();
        look(&mut demand, &sets(&[("a", 1.0)]), &gets(100.0, 50.0), 0..10);
        // All of a's users are in b: only the total shows, and the mix stays.
        look(&mut demand, &sets(&[("b", 1.0)]), &gets(0.0, 300.0), 100..400);
        let current = demand.current();
        assert!((current[&entry("a")] / current[&entry("b")] - 2.0).abs() < 0.1, "{current:?}");
        assert!((current.values().sum::<f64>() - 300.0).abs() < 16.0, "{current:?}");
        // Half of them are at home again, and show that the mix was wrong: a has 60, not 200.
        look(&mut demand, &sets(&[("a", 0.5), ("b", 0.5)]), &gets(30.0, 270.0), 400..600);
        let current = demand.current();
        assert!((current[&entry("a")] - 60.0).abs() < 5.0, "{current:?}");
    }

    #[test]
    fn one_look_after_a_hold_down_shows_what_was_wrong() {
        let (mut demand, home) = (Demand::default(), sets(&[("a", 1.0)]));
        look(&mut demand, &home, &gets(100.0, 50.0), 0..10);
        // Users of a that DNS itself has led elsewhere, and their return: nothing is measured meanwhile.
        for second in 10..90 {
            demand.entered(&gets(60.0, 90.0), HOLD_DOWN, Time::from_millis(second * 1000));
        }
        assert_eq!(demand.current(), counts(100.0, 50.0));
        look(&mut demand, &home, &gets(60.0, 90.0), 90..91);
        let current = demand.current();
        assert!((current[&entry("a")] - 60.0).abs() < 1.0 && (current[&entry("b")] - 90.0).abs() < 1.0);
    }

    #[test]
    fn who_was_not_heard_is_measured_anew() {
        let (mut demand, home) = (Demand::default(), sets(&[("a", 1.0)]));
        look(&mut demand, &home, &gets(100.0, 50.0), 0..10);
        let mut silent = gets(100.0, 50.0);
        silent.remove(&RegionId::parse("b").unwrap());
        demand.entered(&silent, HOLD_DOWN, Time::from_millis(10_000));
        look(&mut demand, &home, &gets(100.0, 200.0), 11..12);
        assert_eq!(demand.current()[&entry("b")], 200.0);
    }

    #[test]
    fn without_any_mix_all_entries_count_alike_at_first() {
        let mut demand = Demand::default();
        look(&mut demand, &sets(&[("b", 1.0)]), &gets(0.0, 300.0), 0..1);
        assert_eq!(demand.current(), counts(150.0, 150.0));
    }

    #[test]
    fn one_entry_of_all_regions_sends_what_all_of_them_get() {
        let region = |name: &str| RegionId::parse(name).unwrap();
        let both = BTreeMap::from([(region("a"), 0.7), (region("b"), 0.3)]);
        let sets = BTreeMap::from([(entry("all"), WeightedSet::from_shares(&both).unwrap())]);
        let mut demand = Demand::default();
        look(&mut demand, &sets, &gets(60.0, 40.0), 0..1);
        let current = demand.current();
        assert!((current[&entry("all")] - 100.0).abs() < 1e-9, "{current:?}");
    }
}
