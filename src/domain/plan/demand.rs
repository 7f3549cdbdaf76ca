//! How many requests a second come through each entry.
//!
//! While every set is at home an entry's users are those of its region. During a shift an edge cannot see
//! which entry a user came through: then the mix is the last steady one, and only its total follows the
//! day. Both are smoothed, and adopted only when they leave a band, so that plans stay calm.

use crate::domain::name::EntryId;
use crate::domain::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// Time constant of the average: a burst of a second must not move users.
const SMOOTHING: Duration = Duration::from_secs(10);
/// The share by which an average must differ from what plans count with before they take it over.
const BAND: f64 = 0.05;

/// What is known of one name's demand, in requests a second.
#[derive(Debug, Clone, Default)]
pub struct Demand {
    /// Averages by entry, while at home.
    average: BTreeMap<EntryId, f64>,
    /// What plans count with: the last steady mix.
    steady: BTreeMap<EntryId, f64>,
    /// Average of all entries together, during a shift.
    total: Option<f64>,
    /// Today's total in proportion to that of the steady mix.
    scale: Option<f64>,
    /// The last measurement.
    at: Option<Time>,
}

impl Demand {
    /// What each entry sends, measured while every set is at home.
    pub fn steady(&mut self, entered: BTreeMap<EntryId, f64>, now: Time) {
        let keep = self.keep(now);
        (self.total, self.scale) = (None, None);
        self.steady.retain(|entry, _| entered.contains_key(entry));
        self.average.retain(|entry, _| entered.contains_key(entry));
        for (entry, rps) in entered {
            let average = self.average.entry(entry.clone()).or_insert(rps);
            *average = mixed(*average, rps, keep);
            adopt(self.steady.entry(entry).or_insert(0.0), *average);
        }
    }

    /// What all entries send together, measured during a shift in which nobody is lost on the way.
    ///
    /// Where the steady mix was never seen (this edge has started since) all entries count alike.
    pub fn shifted<'a>(&mut self, entries: impl Iterator<Item = &'a EntryId>, total: f64, now: Time) {
        let keep = self.keep(now);
        let average = mixed(self.total.unwrap_or(total), total, keep);
        self.total = Some(average);
        let known: f64 = self.steady.values().sum();
        if known > 0.0 {
            adopt(self.scale.get_or_insert(1.0), average / known);
            return;
        }
        let entries: Vec<&EntryId> = entries.collect();
        let each = average / entries.len().max(1) as f64;
        if each > 0.0 {
            self.steady = entries.into_iter().map(|entry| (entry.clone(), each)).collect();
        }
    }

    /// Nothing can be measured now: what is known stays, and the time until the next measurement is no
    /// part of an average.
    pub fn frozen(&mut self) {
        self.at = None;
    }

    /// What plans count with.
    pub fn current(&self) -> BTreeMap<EntryId, f64> {
        let scale = self.scale.unwrap_or(1.0);
        self.steady.iter().map(|(entry, rps)| (entry.clone(), rps * scale)).collect()
    }

    /// How much of an average stays at a measurement now, 0..=1.
    fn keep(&mut self, now: Time) -> f64 {
        let passed = self.at.replace(now).map_or(Duration::ZERO, |at| now.since(at)).as_secs_f64();
        let span = SMOOTHING.as_secs_f64();
        span / (span + passed)
    }
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

    fn at(second: u64) -> Time {
        Time::from_millis(second * 1000)
    }

    #[test]
    fn a_burst_of_a_second_and_small_changes_leave_what_plans_count_with() {
        let mut demand = Demand::default();
        for second in 0..60 {
            demand.steady(entered(100.0, 50.0), at(second));
        }
        demand.steady(entered(140.0, 51.0), at(60));
        assert_eq!(demand.current(), entered(100.0, 50.0));
        for second in 61..200 {
            demand.steady(entered(150.0, 51.0), at(second));
        }
        let current = demand.current();
        assert!(current[&entry("a")] > 142.0 && current[&entry("b")] == 50.0, "{current:?}");
    }

    #[test]
    fn during_a_shift_the_mix_stays_and_follows_the_total_of_the_day() {
        let mut demand = Demand::default();
        demand.steady(entered(100.0, 50.0), at(0));
        demand.frozen();
        assert_eq!(demand.current(), entered(100.0, 50.0), "nothing is measured while users are lost");
        let entries = [entry("a"), entry("b")];
        for second in 10..400 {
            demand.shifted(entries.iter(), 300.0, at(second));
        }
        let current = demand.current();
        assert!((current[&entry("a")] / current[&entry("b")] - 2.0).abs() < 1e-9, "{current:?}");
        assert!((current.values().sum::<f64>() - 300.0).abs() < 15.0, "{current:?}");
        demand.steady(entered(90.0, 60.0), at(500));
        assert!(demand.current()[&entry("a")] < 110.0, "at home it is measured again");
    }

    #[test]
    fn without_a_steady_mix_all_entries_count_alike() {
        let mut demand = Demand::default();
        let entries = [entry("a"), entry("b")];
        demand.shifted(entries.iter(), 300.0, at(0));
        assert_eq!(demand.current(), entered(150.0, 150.0));
    }
}
