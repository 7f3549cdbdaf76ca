//! Metrics of the DNS side: weights, changes, conflicts, time to INSYNC.
//!
//! The labels `name` and `entry` come from the configuration, so they are closed sets.

use crate::domain::name::{DnsName, EntryId, RegionId};
use crate::domain::plan::Generation;
use crate::domain::policy::NamePolicy;
use crate::domain::weights::WeightedSet;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// From 50 ms (the embedded world) past the minute in which Route 53 usually gets there.
const INSYNC_SECONDS: [f64; 13] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];

/// How a read ends.
const READ_RESULTS: [&str; 2] = ["good", "failed"];
/// How a plan ends.
pub const CHANGE_RESULTS: [&str; 5] = ["accepted", "settled", "conflict", "expired", "failed"];
/// How a call fails.
pub const ERROR_KINDS: [&str; 9] = [
    "throttled",
    "conflict",
    "unanswered",
    "denied",
    "credentials",
    "missing",
    "exists",
    "unsupported",
    "refused",
];

const PER_WEIGHT: [&str; 3] = ["name", "entry", "region"];

/// Handles of every metric of the DNS side; clones share them.
#[derive(Debug, Clone)]
pub struct DnsMetrics {
    applied: IntGaugeVec,
    generation: GaugeVec,
    frozen: IntGaugeVec,
    read_at: GaugeVec,
    drift: IntGaugeVec,
    answers: Answers,
    reads: IntCounterVec,
    changes: IntCounterVec,
    planned: IntCounter,
    insync: Histogram,
    api_errors: IntCounterVec,
}

/// What the zone's servers answer after a change.
#[derive(Debug, Clone)]
struct Answers {
    matching: IntGaugeVec,
    seconds: Histogram,
}

impl Answers {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let matching = Opts::new(
            "proxima_dns_answers_match",
            "1 when the zone's servers answered what was written when last asked (dns.verify), else 0.",
        );
        let seconds = HistogramOpts::new(
            "proxima_dns_answers_seconds",
            "Time from an accepted change to answers by it from all of the zone's servers (dns.verify).",
        );
        Ok(Self {
            matching: add(registry, IntGaugeVec::new(matching, &["name"]))?,
            seconds: add(registry, Histogram::with_opts(seconds.buckets(INSYNC_SECONDS.to_vec())))?,
        })
    }
}

fn add<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    metric: Result<C, prometheus::Error>,
) -> Result<C, prometheus::Error> {
    let metric = metric?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

impl DnsMetrics {
    /// Everything with a closed set of results starts at zero, so that a rate sees the first one.
    ///
    /// # Errors
    /// When a metric of such a name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauges =
            |name, help, labels: &[&str]| add(registry, IntGaugeVec::new(Opts::new(name, help), labels));
        let floats =
            |name, help, labels: &[&str]| add(registry, GaugeVec::new(Opts::new(name, help), labels));
        let counts =
            |name, help, labels: &[&str]| add(registry, IntCounterVec::new(Opts::new(name, help), labels));
        let insync = HistogramOpts::new(
            "proxima_dns_insync_seconds",
            "Time from an accepted change to its presence on all of Route 53's servers.",
        );
        let metrics = Self {
            applied: gauges(
                "proxima_dns_weight_applied",
                "Weight in the records as last read.",
                &PER_WEIGHT,
            )?,
            generation: floats(
                "proxima_dns_generation",
                "Generation of the control record as last read.",
                &["name"],
            )?,
            frozen: gauges("proxima_dns_frozen", "1 while the control record holds a freeze.", &["name"])?,
            read_at: floats(
                "proxima_dns_last_read_timestamp_seconds",
                "When a name's records were last read well, since 1970.",
                &["name"],
            )?,
            drift: gauges(
                "proxima_dns_drift_records",
                "Records of a name that are not what the configuration asks for, weights aside.",
                &["name"],
            )?,
            answers: Answers::register(registry)?,
            reads: counts("proxima_dns_reads_total", "Reads of a name's records, by result.", &["result"])?,
            changes: counts(
                "proxima_dns_changes_total",
                "Plans handed to the writer, by result.",
                &["result"],
            )?,
            planned: add(
                registry,
                IntCounter::new(
                    "proxima_dns_plans_observed_total",
                    "Plans that were shown and not written, because dns.mode is observe.",
                ),
            )?,
            insync: add(registry, Histogram::with_opts(insync.buckets(INSYNC_SECONDS.to_vec())))?,
            api_errors: counts(
                "proxima_dns_api_errors_total",
                "Failed calls to Route 53, by kind.",
                &["kind"],
            )?,
        };
        for result in READ_RESULTS {
            metrics.reads.with_label_values(&[result]);
        }
        for result in CHANGE_RESULTS {
            metrics.changes.with_label_values(&[result]);
        }
        for kind in ERROR_KINDS {
            metrics.api_errors.with_label_values(&[kind]);
        }
        Ok(metrics)
    }

    /// The weights as read; a region without a record is at 0.
    pub fn applied(&self, name: &DnsName, policy: &NamePolicy, sets: &BTreeMap<EntryId, WeightedSet>) {
        show(&self.applied, name, policy, sets);
    }

    /// Forgets a name's weights; `policy` is the one that they were shown by.
    pub fn forget(&self, name: &DnsName, policy: &NamePolicy) {
        for (entry, region) in pairs(policy) {
            let labels = [name.as_str(), entry.as_str(), region.as_str()];
            drop(self.applied.remove_label_values(&labels)); // Fails when it was never shown: nothing to forget.
        }
        let label = [name.as_str()];
        drop(self.generation.remove_label_values(&label));
        drop(self.frozen.remove_label_values(&label));
        drop(self.read_at.remove_label_values(&label));
        drop(self.drift.remove_label_values(&label));
        drop(self.answers.matching.remove_label_values(&label));
    }

    /// A name was read well, at `wall` since 1970.
    pub fn read(&self, name: &DnsName, generation: Generation, frozen: bool, wall: Duration) {
        let label = [name.as_str()];
        self.reads.with_label_values(&["good"]).inc();
        self.read_at.with_label_values(&label).set(wall.as_secs_f64());
        self.frozen.with_label_values(&label).set(i64::from(frozen));
        // Exact up to 2^53 changes.
        self.generation.with_label_values(&label).set(generation.get() as f64);
    }

    /// So many records of a name are not what the configuration asks for.
    pub fn drifted(&self, name: &DnsName, records: usize) {
        let records = i64::try_from(records).unwrap_or(i64::MAX);
        self.drift.with_label_values(&[name.as_str()]).set(records);
    }

    /// Whether the zone's servers answer what was written.
    pub fn answers_match(&self, name: &DnsName, matched: bool) {
        self.answers.matching.with_label_values(&[name.as_str()]).set(i64::from(matched));
    }

    /// All servers answered by a change this long after it was accepted.
    pub fn answered(&self, after: Duration) {
        self.answers.seconds.observe(after.as_secs_f64());
    }

    /// A read failed, at the API or by what it found.
    pub fn read_failed(&self) {
        self.reads.with_label_values(&["failed"]).inc();
    }

    /// A plan came to its end; `result` is a closed set of the writer.
    pub fn changed(&self, result: &'static str) {
        self.changes.with_label_values(&[result]).inc();
    }

    /// A plan was shown in observe mode.
    pub fn observed(&self) {
        self.planned.inc();
    }

    /// A change was INSYNC this long after it was accepted.
    pub fn in_sync(&self, after: Duration) {
        self.insync.observe(after.as_secs_f64());
    }

    /// A call failed; `kind` is a closed set of the API's errors.
    pub fn api_failed(&self, kind: &'static str) {
        self.api_errors.with_label_values(&[kind]).inc();
    }
}

fn show(gauge: &IntGaugeVec, name: &DnsName, policy: &NamePolicy, sets: &BTreeMap<EntryId, WeightedSet>) {
    for (entry, region) in pairs(policy) {
        let weight = sets.get(entry).and_then(|set| set.get(region)).map_or(0, |w| i64::from(w.get()));
        gauge.with_label_values(&[name.as_str(), entry.as_str(), region.as_str()]).set(weight);
    }
}

fn pairs(policy: &NamePolicy) -> impl Iterator<Item = (&EntryId, &RegionId)> {
    let regions = policy.regions();
    policy
        .entries
        .keys()
        .flat_map(move |entry| regions.clone().into_iter().map(move |region| (entry, region)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::{Encoder, TextEncoder};

    #[test]
    fn a_region_that_left_a_set_is_shown_at_zero_and_a_forgotten_name_not_at_all() {
        let registry = Registry::new();
        let metrics = DnsMetrics::register(&registry).unwrap();
        let name = DnsName::parse("www.example.com").unwrap();
        let region = |text| RegionId::parse(text).unwrap();
        let entries: BTreeMap<EntryId, WeightedSet> =
            ["a", "b"].iter().map(|r| (EntryId::parse(r).unwrap(), WeightedSet::only(region(r)))).collect();
        let policy = NamePolicy { entries: entries.clone().into(), services: Default::default() };
        metrics.applied(&name, &policy, &entries);
        let moved = BTreeMap::from([(EntryId::parse("a").unwrap(), WeightedSet::only(region("b")))]);
        metrics.applied(&name, &policy, &moved);
        let text = |registry: &Registry| {
            let mut text = Vec::new();
            TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
            String::from_utf8(text).unwrap()
        };
        let shown = text(&registry);
        for line in [
            r#"proxima_dns_weight_applied{entry="a",name="www.example.com",region="a"} 0"#,
            r#"proxima_dns_weight_applied{entry="a",name="www.example.com",region="b"} 100"#,
        ] {
            assert!(shown.contains(line), "{line} in\n{shown}");
        }
        metrics.forget(&name, &policy);
        assert!(!text(&registry).contains("www.example.com"));
    }
}
