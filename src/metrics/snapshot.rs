//! Metrics read off the snapshot when they are scraped.
//!
//! Made anew each time: a region or name that left the configuration leaves no
//! stale series behind, and no gauge can disagree with what requests obey.

use crate::clock::{Clock, Heartbeat};
use crate::domain::health::{State, Word};
use crate::domain::name::DnsName;
use crate::domain::plan::Refusal;
use crate::domain::snapshot::{Gate, NameStatus, ProbePace, Snapshot};
use crate::domain::votes::{Undecided, Verdict, Witness};
use arc_swap::ArcSwap;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts, Registry};
use std::sync::Arc;

const VERDICTS: [Verdict; 8] = [
    Verdict::Up,
    Verdict::Down,
    Verdict::Isolated,
    Verdict::Undecided(Undecided::SingleRegion),
    Verdict::Undecided(Undecided::NoMajority),
    Verdict::Undecided(Undecided::Disagreement),
    Verdict::Undecided(Undecided::Split),
    Verdict::Undecided(Undecided::NoEvidence),
];

/// What is read; the number is the place in `FAMILIES`.
#[derive(Debug, Clone, Copy)]
enum Family {
    SnapshotNumber,
    SnapshotAge,
    ControlIdle,
    RegionRtt,
    RegionRttP99,
    RegionJitter,
    RegionLoss,
    RegionFirstByte,
    RegionLoad,
    RegionShed,
    RegionHeard,
    RegionState,
    RegionWitness,
    RegionSparse,
    ServiceState,
    ServiceEndpoints,
    ServicePanic,
    ServiceCapacity,
    ServiceHome,
    CandidateShare,
    ZoneShare,
    Vote,
    Verdict,
    GateClosed,
    Refused,
    WeightWanted,
}

/// Name, help and labels of each `Family`, in its order.
const FAMILIES: [(&str, &str, &[&str]); 26] = [
    ("proxima_snapshot_number", "Decisions published since the start.", &[]),
    (
        "proxima_snapshot_age_seconds",
        "Time since the last decision was published; it grows while nothing changes.",
        &[],
    ),
    (
        "proxima_control_idle_seconds",
        "Time since the core last handled an input; more than a second or two is a stall.",
        &[],
    ),
    ("proxima_region_rtt_seconds", "Median round trip to a region over the probe window.", &["region"]),
    (
        "proxima_region_rtt_p99_seconds",
        "99th percentile of the round trips to a region over the probe window.",
        &["region"],
    ),
    (
        "proxima_region_rtt_jitter_seconds",
        "Mean difference between successive round trips of probes to a region.",
        &["region"],
    ),
    (
        "proxima_region_probe_loss_ratio",
        "Share of the last probes of a region that got no answer.",
        &["region"],
    ),
    (
        "proxima_region_first_byte_seconds",
        "Median time to the first byte of requests that were forwarded to a region.",
        &["region"],
    ),
    ("proxima_region_load_rps", "Requests a second at a region's endpoints, by its own word.", &["region"]),
    ("proxima_region_shed_rps", "Requests a second that a region turned away, by its own word.", &["region"]),
    ("proxima_region_heard", "1 while a region's last view is fresh.", &["region"]),
    (
        "proxima_region_state",
        "1 for the state of a region as a whole (the worst of its services).",
        &["region", "state"],
    ),
    (
        "proxima_region_witness",
        "What Route 53's checkers say of a region's edge: 1 green, -1 red, 0 unknown.",
        &["region"],
    ),
    (
        "proxima_region_probed_sparsely",
        "1 while another pod of the own region measures a region for this one.",
        &["region"],
    ),
    ("proxima_service_state", "1 for the state of a service in a region.", &["service", "region", "state"]),
    (
        "proxima_service_endpoints",
        "Endpoints of a service in the own region by state.",
        &["service", "state"],
    ),
    (
        "proxima_service_panic",
        "1 while no region is healthy for a service and candidates are a last resort.",
        &["service"],
    ),
    (
        "proxima_service_capacity_rps",
        "Requests a second of a service that the own region can serve, and how that is known.",
        &["service", "source"],
    ),
    (
        "proxima_service_home_ratio",
        "Share of the own users of a service that fits into the own region.",
        &["service"],
    ),
    (
        "proxima_candidate_share_ratio",
        "Share of requests that a candidate takes when its turn comes.",
        &["service", "region"],
    ),
    (
        "proxima_zone_share_ratio",
        "Share of the requests to own endpoints that goes to a zone (unknown: to endpoints without one).",
        &["service", "zone"],
    ),
    (
        "proxima_vote",
        "Fresh votes on a region for a DNS name: 1 up, -1 down, 0 unknown.",
        &["name", "voter", "region"],
    ),
    ("proxima_verdict", "1 for the verdict on a region for a DNS name.", &["name", "region", "verdict"]),
    ("proxima_gate_closed", "1 while the gate of a DNS name asks Route 53 to leave this region.", &["name"]),
    ("proxima_refused", "1 while a rule holds back a change of a DNS name.", &["name", "rule"]),
    (
        "proxima_dns_weight_wanted",
        "Weights that the verdicts call for, before ramps and hold-downs.",
        &["name", "entry", "region"],
    ),
];

/// Reads the snapshot for `/metrics`.
pub struct SnapshotCollector {
    snapshot: Arc<ArcSwap<Snapshot>>,
    heartbeat: Arc<Heartbeat>,
    clock: Clock,
    /// Made once, empty: they hold the descriptions.
    templates: Vec<GaugeVec>,
}

impl SnapshotCollector {
    /// Makes the collector and registers it.
    ///
    /// # Errors
    /// `prometheus::Error` when a name is registered already.
    pub fn register(
        registry: &Registry,
        snapshot: Arc<ArcSwap<Snapshot>>,
        heartbeat: Arc<Heartbeat>,
        clock: Clock,
    ) -> Result<(), prometheus::Error> {
        let templates = families()?;
        registry.register(Box::new(Self { snapshot, heartbeat, clock, templates }))
    }
}

fn families() -> Result<Vec<GaugeVec>, prometheus::Error> {
    FAMILIES.iter().map(|(name, help, labels)| GaugeVec::new(Opts::new(*name, *help), labels)).collect()
}

impl Collector for SnapshotCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.templates.iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // The same constants made `templates`, so this has worked before.
        let Ok(gauges) = families() else { return Vec::new() };
        let now = self.clock.now();
        let snapshot = self.snapshot.load();
        let fill = Fill { gauges: &gauges };
        fill.set(Family::SnapshotNumber, &[], snapshot.number as f64);
        if snapshot.number > 0 {
            fill.set(Family::SnapshotAge, &[], now.since(snapshot.at).as_secs_f64());
        }
        fill.set(Family::ControlIdle, &[], self.heartbeat.idle(now).as_secs_f64());
        fill.regions(&snapshot);
        fill.services(&snapshot);
        for (name, status) in &snapshot.names {
            fill.name(name, status);
        }
        gauges.iter().flat_map(Collector::collect).collect()
    }
}

struct Fill<'a> {
    gauges: &'a [GaugeVec],
}

impl Fill<'_> {
    fn set(&self, family: Family, labels: &[&str], value: f64) {
        if let Some(gauge) = self.gauges.get(family as usize) {
            gauge.with_label_values(labels).set(value);
        }
    }

    fn flag(&self, family: Family, labels: &[&str], on: bool) {
        self.set(family, labels, f64::from(u8::from(on)));
    }

    fn regions(&self, snapshot: &Snapshot) {
        for (region, status) in &snapshot.regions {
            let region = region.as_str();
            if let Some(rtt) = status.rtt {
                self.set(Family::RegionRtt, &[region], rtt.duration().as_secs_f64());
            }
            let quality = &status.quality;
            for (family, rtt) in [
                (Family::RegionRttP99, quality.p99),
                (Family::RegionJitter, quality.jitter),
                (Family::RegionFirstByte, quality.first_byte),
            ] {
                if let Some(rtt) = rtt {
                    self.set(family, &[region], rtt.duration().as_secs_f64());
                }
            }
            self.set(Family::RegionLoss, &[region], quality.loss);
            self.set(Family::RegionLoad, &[region], status.load.rps);
            self.set(Family::RegionShed, &[region], status.load.shed_rps);
            self.flag(Family::RegionHeard, &[region], status.heard);
            for state in State::ALL {
                self.flag(Family::RegionState, &[region, state.as_str()], state == status.state);
            }
            let witness = match status.witness {
                Witness::Green => 1.0,
                Witness::Unknown => 0.0,
                Witness::Red => -1.0,
            };
            self.set(Family::RegionWitness, &[region], witness);
            self.flag(Family::RegionSparse, &[region], status.pace == ProbePace::Sparse);
        }
    }

    fn services(&self, snapshot: &Snapshot) {
        for (id, service) in &snapshot.services {
            let id = id.as_str();
            for (region, now) in service.states.iter() {
                for state in State::ALL {
                    self.flag(Family::ServiceState, &[id, region.as_str(), state.as_str()], state == *now);
                }
            }
            for state in State::ALL {
                let count = service.endpoints.iter().filter(|e| e.state == state).count();
                self.set(Family::ServiceEndpoints, &[id, state.as_str()], count as f64);
            }
            self.flag(Family::ServicePanic, &[id], service.panic);
            if let Some(capacity) = service.room.capacity {
                self.set(Family::ServiceCapacity, &[id, capacity.source.as_str()], capacity.rps);
            }
            self.set(Family::ServiceHome, &[id], service.room.home);
            for candidate in service.candidates.iter() {
                self.set(Family::CandidateShare, &[id, candidate.region.as_str()], candidate.share);
                let mut before = 0.0;
                for share in candidate.zones.iter() {
                    let zone = share.zone.as_ref().map_or("unknown", |zone| zone.as_str());
                    self.set(Family::ZoneShare, &[id, zone], share.up_to - before);
                    before = share.up_to;
                }
            }
        }
    }

    fn name(&self, name: &DnsName, status: &NameStatus) {
        let name = name.as_str();
        for (voter, votes) in &status.votes {
            for (region, word) in &**votes {
                let value = match word {
                    Word::Up => 1.0,
                    Word::Unknown => 0.0,
                    Word::Down => -1.0,
                };
                self.set(Family::Vote, &[name, voter.as_str(), region.as_str()], value);
            }
        }
        for (region, now) in &status.verdicts {
            for verdict in VERDICTS {
                self.flag(Family::Verdict, &[name, region.as_str(), verdict.as_str()], verdict == *now);
            }
        }
        self.flag(Family::GateClosed, &[name], status.gate == Gate::Closed);
        for rule in Refusal::ALL {
            self.flag(Family::Refused, &[name, rule.as_str()], status.refusal == Some(rule.as_str()));
        }
        self.wanted(name, status);
    }

    /// Every region, though sets are sparse: a line in a graph must fall to zero, not end.
    fn wanted(&self, name: &str, status: &NameStatus) {
        for (entry, set) in &*status.wanted {
            for region in status.verdicts.keys() {
                let weight = set.get(region).map_or(0, |weight| weight.get());
                let labels = [name, entry.as_str(), region.as_str()];
                self.set(Family::WeightWanted, &labels, f64::from(weight));
            }
        }
    }
}
