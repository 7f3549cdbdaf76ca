//! Metrics of the control side: probes, transitions, refusals, reloads, resolving.
//!
//! What the snapshot already says (states, votes, weights) is not counted here
//! a second time: `metrics::snapshot` reads it when it is scraped.

use crate::domain::fleet::{ProbeFailure, Transition};
use crate::domain::health::EjectionReason;
use crate::domain::name::{RegionId, ServiceId};
use crate::lease::load::RegionLoad;
use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};
use std::time::Duration;

/// Upper bounds in seconds of everything that crosses the planet or stays in a zone: 0.25 ms to 2 s.
const RTT_BUCKETS: [f64; 13] =
    [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 2.0];

/// Handles shared by control, probes, resolver and app; a clone is the same counters.
#[derive(Debug, Clone)]
pub struct ControlMetrics {
    probing: ProbeMetrics,
    load: LoadMetrics,
    config: ConfigMetrics,
    transitions: IntCounterVec,
    ejections: IntCounterVec,
    refusals: IntCounterVec,
    plans_proposed: IntCounter,
    plans_dropped: IntCounter,
    outcomes: IntCounter,
    turn: Histogram,
}

/// How an attempt to reload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    Applied,
    /// The file is wrong, or can't be applied to what runs; what runs stays.
    Refused,
    /// Asked for, but nothing differs.
    Unchanged,
}

impl Reload {
    const ALL: [Self; 3] = [Self::Applied, Self::Refused, Self::Unchanged];

    /// The result as the metric spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Refused => "refused",
            Self::Unchanged => "unchanged",
        }
    }
}

impl ControlMetrics {
    /// Makes every metric of the control side and registers it.
    ///
    /// # Errors
    /// `prometheus::Error` when a name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            probing: ProbeMetrics::register(registry)?,
            load: LoadMetrics::register(registry)?,
            config: ConfigMetrics::register(registry)?,
            transitions: counters(
                registry,
                "proxima_transitions_total",
                "Changes of state, vote, verdict, refusal or gate, by kind.",
                &["kind"],
            )?,
            ejections: counters(
                registry,
                "proxima_endpoint_ejections_total",
                "Endpoints of the own region that were ejected, by why.",
                &["service", "reason"],
            )?,
            refusals: counters(
                registry,
                "proxima_refusals_total",
                "Times that a rule began to hold back a DNS change, by rule.",
                &["rule"],
            )?,
            plans_proposed: add(
                registry,
                IntCounter::new("proxima_plans_proposed_total", "Plans handed to the DNS side.")?,
            )?,
            plans_dropped: add(
                registry,
                IntCounter::new(
                    "proxima_plans_dropped_total",
                    "Plans dropped because the DNS side was busy; they are proposed again later.",
                )?,
            )?,
            outcomes: add(
                registry,
                IntCounter::new("proxima_outcomes_total", "Outcomes of requests that reached the core.")?,
            )?,
            turn: add(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "proxima_control_turn_seconds",
                        "Time that the core takes for one input.",
                    )
                    .buckets(vec![0.00001, 0.0001, 0.001, 0.01, 0.1, 1.0]),
                )?,
            )?,
        };
        // Series that alerts look at exist from the start: a counter that appears with its first
        // event has no increase that a rate could see.
        for reload in Reload::ALL {
            metrics.config.reloads.with_label_values(&[reload.as_str()]);
        }
        for rule in crate::domain::plan::Refusal::ALL {
            metrics.refusals.with_label_values(&[rule.as_str()]);
        }
        let build = IntGaugeVec::new(
            Opts::new("proxima_build_info", "1, with the version of the binary."),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        add(registry, build)?;
        Ok(metrics)
    }

    /// A probe of a region ended; `rtt` where the exchange was on a warm connection.
    pub fn region_probed(&self, region: &RegionId, result: Result<Option<Duration>, ProbeFailure>) {
        let label = match result {
            Ok(rtt) => {
                if let Some(rtt) = rtt {
                    self.probing.rtt.with_label_values(&[region.as_str()]).observe(rtt.as_secs_f64());
                }
                "success"
            }
            Err(failure) => failure.as_str(),
        };
        self.probing.regions.with_label_values(&[region.as_str(), label]).inc();
    }

    /// A fresh probe connection to a region stands.
    pub fn connection_set_up(&self, region: &RegionId, took: Duration) {
        self.probing.setup.with_label_values(&[region.as_str()]).observe(took.as_secs_f64());
    }

    /// A probe of an endpoint ended.
    pub fn endpoint_probed(&self, service: &ServiceId, result: Result<(), ProbeFailure>) {
        let label = result.map_or_else(ProbeFailure::as_str, |()| "success");
        self.probing.endpoints.with_label_values(&[service.as_str(), label]).inc();
    }

    /// A sibling was asked who speaks for the region.
    pub fn sibling_asked(&self, result: Result<(), ProbeFailure>) {
        let label = result.map_or_else(ProbeFailure::as_str, |()| "success");
        self.probing.siblings.with_label_values(&[label]).inc();
    }

    /// Whether this pod speaks for its region.
    pub fn lease_held(&self, held: bool) {
        self.probing.lease.set(i64::from(held));
    }

    /// What the pods of the region do together.
    pub fn region_loaded(&self, region: &RegionLoad) {
        self.load.pods.set(i64::try_from(region.pods).unwrap_or(i64::MAX));
        self.load.entered.set(region.load.entered_rps);
        self.load.served.set(region.load.served_rps);
    }

    /// How many regions and endpoints are probed.
    pub fn probe_targets(&self, count: usize) {
        self.probing.targets.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The core changed its mind about something.
    pub fn moved(&self, transition: &Transition) {
        let kind = match transition {
            Transition::Service { .. } => "service",
            Transition::Endpoint { service, ejected, .. } => {
                self.endpoint_moved(service, *ejected);
                "endpoint"
            }
            Transition::Vote { .. } => "vote",
            Transition::Verdict { .. } => "verdict",
            Transition::Refused { refusal, .. } => {
                if let Some(rule) = refusal {
                    self.refusals.with_label_values(&[rule.as_str()]).inc();
                }
                "refusal"
            }
            Transition::Gate { .. } => "gate",
        };
        self.transitions.with_label_values(&[kind]).inc();
    }

    fn endpoint_moved(&self, service: &ServiceId, ejected: Option<EjectionReason>) {
        // All of them exist from the first sign of life of the service.
        for reason in EjectionReason::ALL {
            let count = self.ejections.with_label_values(&[service.as_str(), reason.as_str()]);
            count.inc_by(u64::from(ejected == Some(reason)));
        }
    }

    /// A plan went to the DNS side, or found it busy.
    pub fn proposed(&self, taken: bool) {
        if taken { self.plans_proposed.inc() } else { self.plans_dropped.inc() }
    }

    /// Outcomes that were read off the channel.
    pub fn outcomes_read(&self, count: usize) {
        self.outcomes.inc_by(count as u64);
    }

    /// One input was handled.
    pub fn turned(&self, took: Duration) {
        self.turn.observe(took.as_secs_f64());
    }

    /// A reload ended.
    pub fn reloaded(&self, result: Reload) {
        self.config.reloads.with_label_values(&[result.as_str()]).inc();
    }

    /// A configuration is in force since `unix_seconds`.
    pub fn config_applied(&self, hash: [u8; 32], unix_seconds: f64) {
        // 48 bits pass through the float of the exposition format unharmed.
        let short = hash.iter().take(6).fold(0i64, |number, byte| (number << 8) | i64::from(*byte));
        self.config.config_hash.set(short);
        self.config.config_time.with_label_values::<&str>(&[]).set(unix_seconds);
    }

    /// A look-up failed; `target` names a service or region of the configuration.
    pub fn resolve_failed(&self, target: &str) {
        self.config.resolver_failures.with_label_values(&[target]).inc();
    }

    /// How many names of a target fail now.
    pub fn resolve_failing(&self, target: &str, names: usize) {
        self.config
            .resolver_failing
            .with_label_values(&[target])
            .set(i64::try_from(names).unwrap_or(i64::MAX));
    }

    /// Forgets the series of a target that left the configuration.
    pub fn resolve_forgotten(&self, target: &str) {
        // An error only says that no series was made yet.
        drop(self.config.resolver_failing.remove_label_values(&[target]));
    }
}

/// What the prober counts.
#[derive(Debug, Clone)]
struct ProbeMetrics {
    rtt: HistogramVec,
    setup: HistogramVec,
    regions: IntCounterVec,
    endpoints: IntCounterVec,
    siblings: IntCounterVec,
    lease: IntGauge,
    targets: IntGauge,
}

impl ProbeMetrics {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            rtt: histograms(
                registry,
                "proxima_probe_rtt_seconds",
                "Round trip of one probe of a region on a warm connection, to the response head.",
                &["region"],
            )?,
            setup: histograms(
                registry,
                "proxima_probe_setup_seconds",
                "Time to set up a fresh probe connection to a region: TCP and TLS.",
                &["region"],
            )?,
            regions: counters(
                registry,
                "proxima_probes_total",
                "Probes of a region by result: success, or why it failed.",
                &["region", "result"],
            )?,
            endpoints: counters(
                registry,
                "proxima_endpoint_probes_total",
                "Probes of the own region's endpoints by service and result.",
                &["service", "result"],
            )?,
            siblings: counters(
                registry,
                "proxima_sibling_probes_total",
                "Questions to other pods of the own region by result: success, or why it failed.",
                &["result"],
            )?,
            lease: add(
                registry,
                IntGauge::new(
                    "proxima_lease_held",
                    "1 while this pod speaks for its region: probes the others at full pace, proposes DNS changes.",
                )?,
            )?,
            targets: add(
                registry,
                IntGauge::new("proxima_probe_targets", "Regions and endpoints that are probed now.")?,
            )?,
        })
    }
}

/// What the own region does, all its pods together.
#[derive(Debug, Clone)]
struct LoadMetrics {
    pods: IntGauge,
    entered: Gauge,
    served: Gauge,
}

impl LoadMetrics {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let rate = |name, help| add(registry, Gauge::new(name, help)?);
        Ok(Self {
            pods: add(
                registry,
                IntGauge::new(
                    "proxima_region_load_pods",
                    "Pods of the own region whose load is in the region's, as this pod knows it.",
                )?,
            )?,
            entered: rate(
                "proxima_region_entered_rps",
                "Requests a second that clients send to all pods of the own region, as this pod knows it.",
            )?,
            served: rate(
                "proxima_region_served_rps",
                "Requests a second that all pods of the own region ask its endpoints for, as this pod knows it.",
            )?,
        })
    }
}

/// What the configuration and the names in it are at.
#[derive(Debug, Clone)]
struct ConfigMetrics {
    reloads: IntCounterVec,
    config_hash: IntGauge,
    config_time: GaugeVec,
    resolver_failures: IntCounterVec,
    resolver_failing: IntGaugeVec,
}

impl ConfigMetrics {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            reloads: counters(
                registry,
                "proxima_reloads_total",
                "Reloads of the configuration by result: applied, refused or unchanged.",
                &["result"],
            )?,
            config_hash: add(
                registry,
                IntGauge::new(
                    "proxima_config_hash",
                    "First 48 bits of the SHA-256 of the configuration in force, its certificates included.",
                )?,
            )?,
            config_time: add(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "proxima_config_applied_timestamp_seconds",
                        "When the configuration in force was applied, in seconds since 1970.",
                    ),
                    &[],
                )?,
            )?,
            resolver_failures: counters(
                registry,
                "proxima_resolver_failures_total",
                "Look-ups that failed (the last good answer stays), by what the name belongs to.",
                &["target"],
            )?,
            resolver_failing: add(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "proxima_resolver_failing",
                        "Names whose last look-up failed, by what they belong to.",
                    ),
                    &["target"],
                )?,
            )?,
        })
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> Result<C, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    add(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<HistogramVec, prometheus::Error> {
    let options = HistogramOpts::new(name, help).buckets(RTT_BUCKETS.to_vec());
    add(registry, HistogramVec::new(options, labels)?)
}
