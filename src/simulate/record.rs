//! What users and DNS went through in a run, by place and over time.

use super::cast::Cast;
use super::faults::Scenario;
use super::flow::Piece;
use super::store::Stored;
use crate::domain::name::EntryId;
use crate::domain::plan::{Plan, Reason};
use crate::domain::time::Time;
use crate::domain::weights::WeightedSet;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Points over time in a record, about.
const POINTS: u32 = 240;
/// Latencies are told apart by a twelfth: 1 ms to 2 minutes.
const CLASSES: usize = 144;
const CLASS: f64 = 1.0833;

/// Requests by class of latency, and those that failed.
#[derive(Debug, Clone)]
pub struct Tally {
    pub answered: f64,
    pub failed: f64,
    classes: Vec<f32>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { answered: 0.0, failed: 0.0, classes: vec![0.0; CLASSES] }
    }
}

impl Tally {
    fn add(&mut self, requests: f64, latency: Duration) {
        self.answered += requests;
        let millis = latency.as_secs_f64() * 1000.0;
        let class = (millis.max(1.0).ln() / CLASS.ln()) as usize;
        if let Some(count) = self.classes.get_mut(class.min(CLASSES - 1)) {
            *count += requests as f32;
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.answered += other.answered;
        self.failed += other.failed;
        for (count, more) in self.classes.iter_mut().zip(&other.classes) {
            *count += more;
        }
    }

    /// Share of requests that failed, 0..=1.
    pub fn errors(&self) -> f64 {
        let all = self.answered + self.failed;
        if all > 0.0 { self.failed / all } else { 0.0 }
    }

    /// The latency that a share of the answered requests stays within; to a twelfth.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let all: f64 = self.classes.iter().map(|c| f64::from(*c)).sum();
        let mut seen = 0.0;
        for (class, count) in self.classes.iter().enumerate() {
            seen += f64::from(*count);
            if all > 0.0 && seen >= share * all {
                return Some(Duration::from_secs_f64(CLASS.powi(class as i32 + 1) / 1000.0));
            }
        }
        None
    }
}

/// Who changed a name's sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hand {
    Evacuation(String),
    Ramp(String),
    /// Not Proxima.
    Other,
}

/// A name's sets from a moment on.
#[derive(Debug, Clone)]
pub struct DnsChange {
    pub at: Duration,
    pub name: usize,
    pub by: Hand,
    pub sets: BTreeMap<EntryId, WeightedSet>,
}

/// A run as seen from outside.
#[derive(Debug)]
pub struct Record {
    pub bucket: Duration,
    /// By place, over time.
    pub places: Vec<Vec<Tally>>,
    /// Over time, by region: requests a second that users sent there.
    pub entered: Vec<Vec<f64>>,
    looks: Vec<u32>,
    pub dns: Vec<DnsChange>,
    /// Verdicts down: when, and of which region.
    pub downs: Vec<(Duration, usize)>,
    /// All was at home then, after the last fault.
    pub home_at: Option<Duration>,
    flow: f64,
    cast: Arc<Cast>,
}

/// Writes a record, if one is wanted.
#[derive(Debug)]
pub(super) struct Recorder(Option<Box<Record>>);

impl Recorder {
    pub(super) fn new(scenario: &Scenario, wanted: bool) -> Self {
        let cast = Arc::clone(&scenario.cast);
        let bucket = (scenario.length / POINTS).max(cast.pace.flow);
        Self(wanted.then(|| {
            Box::new(Record {
                bucket: Duration::from_secs(bucket.as_secs().max(1)),
                places: vec![Vec::new(); cast.users.len()],
                entered: Vec::new(),
                looks: Vec::new(),
                dns: Vec::new(),
                downs: Vec::new(),
                home_at: None,
                flow: cast.pace.flow.as_secs_f64(),
                cast,
            })
        }))
    }

    pub(super) fn finish(&mut self) -> Option<Box<Record>> {
        let mut record = self.0.take()?;
        for (regions, looks) in record.entered.iter_mut().zip(&record.looks) {
            regions.iter_mut().for_each(|rps| *rps /= f64::from((*looks).max(1)));
        }
        Some(record)
    }

    pub(super) fn served(&mut self, now: Time, place: usize, (rps, way): (f64, Duration), pieces: &[Piece]) {
        let Some(record) = &mut self.0 else { return };
        let requests = rps * record.flow;
        let index = record.index(now);
        let tallies = &mut record.places[place];
        if tallies.len() <= index {
            tallies.resize_with(index + 1, Tally::default);
        }
        for piece in pieces {
            if piece.answered {
                tallies[index].add(requests * piece.share, way + piece.latency);
            } else {
                tallies[index].failed += requests * piece.share;
            }
        }
    }

    pub(super) fn entered(&mut self, now: Time, regions: &[f64]) {
        let Some(record) = &mut self.0 else { return };
        let index = record.index(now);
        if record.entered.len() <= index {
            record.entered.resize(index + 1, vec![0.0; regions.len()]);
            record.looks.resize(index + 1, 0);
        }
        record.looks[index] += 1;
        for (sum, rps) in record.entered[index].iter_mut().zip(regions) {
            *sum += rps;
        }
    }

    pub(super) fn changed(&mut self, now: Time, name: usize, plan: &Plan, stored: &Stored) {
        let writer = plan.writer.to_string();
        let by = match plan.reason {
            Reason::Evacuation => Hand::Evacuation(writer),
            Reason::Ramp => Hand::Ramp(writer),
        };
        self.dns(now, name, by, stored);
    }

    pub(super) fn edited(&mut self, now: Time, name: usize, stored: &Stored) {
        self.dns(now, name, Hand::Other, stored);
    }

    fn dns(&mut self, now: Time, name: usize, by: Hand, stored: &Stored) {
        let Some(record) = &mut self.0 else { return };
        let at = now.since(Time::ZERO);
        record.dns.push(DnsChange { at, name, by, sets: stored.sets.clone() });
    }

    pub(super) fn down(&mut self, now: Time, region: usize) {
        if let Some(record) = &mut self.0 {
            record.downs.push((now.since(Time::ZERO), region));
        }
    }

    /// All is at home, the first time after the last fault.
    pub(super) fn home(&mut self, now: Duration) {
        if let Some(record) = &mut self.0 {
            record.home_at = Some(now);
        }
    }
}

impl Record {
    fn index(&self, now: Time) -> usize {
        (now.since(Time::ZERO).as_nanos() / self.bucket.as_nanos().max(1)) as usize
    }

    /// One place over the whole run; all places.
    pub fn place(&self, place: usize) -> Tally {
        sum(self.places[place].iter())
    }

    pub fn all(&self) -> Tally {
        sum(self.places.iter().flatten())
    }

    /// All places over time, in `parts` of equal length.
    pub fn over_time(&self, parts: usize) -> Vec<Tally> {
        let len = self.places.iter().map(Vec::len).max().unwrap_or_default();
        let size = len.div_ceil(parts.max(1)).max(1);
        (0..len.div_ceil(size))
            .map(|part| {
                let tallies = self.places.iter().flat_map(|p| p.iter().skip(part * size).take(size));
                sum(tallies)
            })
            .collect()
    }

    /// When the region first had no weight in any set from `since` on.
    pub fn evacuated_at(&self, region: usize, since: Duration) -> Option<Duration> {
        let id = &self.cast.regions[region];
        let mut sets: Vec<BTreeMap<EntryId, WeightedSet>> =
            self.cast.names.iter().map(|n| n.home.clone()).collect();
        let without = |sets: &[BTreeMap<EntryId, WeightedSet>]| {
            sets.iter().flat_map(BTreeMap::values).all(|set| set.get(id).is_none())
        };
        for change in &self.dns {
            if change.at > since && without(&sets) {
                return Some(since);
            }
            sets[change.name].clone_from(&change.sets);
            if change.at >= since && without(&sets) {
                return Some(change.at);
            }
        }
        without(&sets).then_some(since)
    }
}

fn sum<'a>(tallies: impl Iterator<Item = &'a Tally>) -> Tally {
    let mut all = Tally::default();
    tallies.for_each(|tally| all.merge(tally));
    all
}
