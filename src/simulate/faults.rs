//! A scenario is data: who plays, a list of timed faults, and what must hold. It is read from a file
//! or made from a seed, printed for people, and cut down to what still shows a failure.

use super::cast::Cast;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

/// What may go wrong; regions, services and names by index. Shares are in percent.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Silent, and the processes are gone.
    RegionLost {
        region: usize,
    },
    /// Nothing gets in or out: peers, users, API. No reset. Processes live on inside.
    RegionSilent {
        region: usize,
    },
    /// Every endpoint of the service fails; the edge lives.
    ServiceDown {
        region: usize,
        service: usize,
    },
    /// A bad rollout: every endpoint of the service fails everywhere but in one region.
    ServiceLeft {
        service: usize,
        only: usize,
    },
    /// One endpoint fails.
    EndpointDown {
        region: usize,
        service: usize,
        endpoint: usize,
    },
    /// The edge processes are gone, their hosts answer with a reset; new ones start at the end.
    EdgeStopped {
        region: usize,
    },
    /// The control tasks do not run; everything else in the edges does.
    ControlStalled {
        region: usize,
    },
    /// The edge processes of a region are replaced one after the other, each down for `every`.
    RollingRestart {
        region: usize,
        every: Duration,
    },
    /// One direction between two regions' edges.
    Cut {
        from: usize,
        to: usize,
    },
    /// Both directions between one region's edges and all others; users and API are fine.
    Isolated {
        region: usize,
    },
    /// Two groups of edges: the regions whose bits are set in `side`, and the rest.
    Split {
        side: u64,
    },
    /// Share of messages lost between all edges.
    Lossy {
        percent: u64,
    },
    /// Extra delay between two regions, each way.
    SlowLink {
        a: usize,
        b: usize,
        by: Duration,
    },
    /// A share of the service's requests fails and all are slower, while probes pass.
    Gray {
        region: usize,
        service: usize,
        percent: u64,
        by: Duration,
    },
    /// The service dies and comes back, each for `every`.
    Flapping {
        region: usize,
        service: usize,
        every: Duration,
    },
    /// Requests of one region's edges to a service fail while every probe is fine.
    Poison {
        from: usize,
        toward: usize,
        service: usize,
    },
    /// The users of a place send that share of what they send otherwise.
    Surge {
        place: usize,
        percent: u64,
    },
    /// A region serves that share of its capacity.
    CapacityLoss {
        region: usize,
        percent: u64,
    },
    /// Route 53's checkers see a region fail and work in turn, each for `every`; users are fine.
    ChecksFlap {
        region: usize,
        every: Duration,
    },
    /// Health checks fail wherever load is above capacity.
    ChecksUnderLoad,
    /// The API does not tell the state of a region's health check.
    WitnessBlind {
        region: usize,
    },
    /// One region can't reach the DNS API.
    ApiDown {
        region: usize,
    },
    ApiOutage,
    /// The DNS API takes seconds each way: late writers, old reads.
    ApiSlow,
    /// That share of calls to the API is answered with `Throttling`.
    ApiThrottled {
        percent: u64,
    },
    /// Changes are applied but their answers are lost.
    AnswersLost {
        region: usize,
    },
    /// Changes that a region sends hang in the network for `by` before they arrive.
    DelayedWriter {
        region: usize,
        by: Duration,
    },
    /// Another program sends an entry's users to one region, past the control record, every `every`.
    TwoWriters {
        name: usize,
        entry: usize,
        to: usize,
        every: Duration,
    },
    /// Someone does so once, by hand.
    HandEdit {
        name: usize,
        entry: usize,
        to: usize,
    },
    /// Someone deletes an entry's records; at the end they are there as at home.
    EntryLost {
        name: usize,
        entry: usize,
    },
    /// An operator drains a region for a name.
    Drain {
        name: usize,
        region: usize,
    },
    /// An operator freezes a name.
    Freeze {
        name: usize,
    },
    /// A region's wall clock is ahead by so much.
    ClockSkew {
        region: usize,
        by: Duration,
    },
    /// A region's edges get another policy than the others (twice the hold-down).
    BadPush {
        region: usize,
    },
}

impl Fault {
    /// Every kind, as scenario files spell it.
    pub const KINDS: [&str; 34] = [
        "region-lost",
        "region-silent",
        "service-down",
        "service-left",
        "endpoint-down",
        "edge-stopped",
        "control-stalled",
        "rolling-restart",
        "cut",
        "isolated",
        "split",
        "lossy",
        "slow-link",
        "gray",
        "flapping",
        "poison",
        "surge",
        "capacity-loss",
        "checks-flap",
        "checks-under-load",
        "witness-blind",
        "api-down",
        "api-outage",
        "api-slow",
        "api-throttled",
        "answers-lost",
        "delayed-writer",
        "two-writers",
        "hand-edit",
        "entry-lost",
        "drain",
        "freeze",
        "clock-skew",
        "bad-push",
    ];

    /// Its place in [`Fault::KINDS`].
    pub fn kind(&self) -> usize {
        match self {
            Self::RegionLost { .. } => 0,
            Self::RegionSilent { .. } => 1,
            Self::ServiceDown { .. } => 2,
            Self::ServiceLeft { .. } => 3,
            Self::EndpointDown { .. } => 4,
            Self::EdgeStopped { .. } => 5,
            Self::ControlStalled { .. } => 6,
            Self::RollingRestart { .. } => 7,
            Self::Cut { .. } => 8,
            Self::Isolated { .. } => 9,
            Self::Split { .. } => 10,
            Self::Lossy { .. } => 11,
            Self::SlowLink { .. } => 12,
            Self::Gray { .. } => 13,
            Self::Flapping { .. } => 14,
            Self::Poison { .. } => 15,
            Self::Surge { .. } => 16,
            Self::CapacityLoss { .. } => 17,
            Self::ChecksFlap { .. } => 18,
            Self::ChecksUnderLoad => 19,
            Self::WitnessBlind { .. } => 20,
            Self::ApiDown { .. } => 21,
            Self::ApiOutage => 22,
            Self::ApiSlow => 23,
            Self::ApiThrottled { .. } => 24,
            Self::AnswersLost { .. } => 25,
            Self::DelayedWriter { .. } => 26,
            Self::TwoWriters { .. } => 27,
            Self::HandEdit { .. } => 28,
            Self::EntryLost { .. } => 29,
            Self::Drain { .. } => 30,
            Self::Freeze { .. } => 31,
            Self::ClockSkew { .. } => 32,
            Self::BadPush { .. } => 33,
        }
    }

    /// How often it changes while it lasts.
    pub fn beat(&self) -> Option<Duration> {
        match self {
            Self::RollingRestart { every, .. }
            | Self::Flapping { every, .. }
            | Self::ChecksFlap { every, .. }
            | Self::TwoWriters { every, .. } => Some(*every),
            _ => None,
        }
    }

    /// The region whose users it calls to be moved, if it is such a fault.
    pub fn evacuates(&self) -> Option<usize> {
        match self {
            Self::RegionLost { region }
            | Self::RegionSilent { region }
            | Self::ServiceDown { region, .. }
            | Self::Drain { region, .. } => Some(*region),
            _ => None,
        }
    }

    /// What it does, for people.
    pub fn shown(&self, cast: &Cast) -> String {
        let r = |region: &usize| cast.regions.get(*region).map_or("?", |r| r.as_str());
        let s = |service: &usize| cast.services.get(*service).map_or("?", |s| s.id.as_str());
        let n = |name: &usize| cast.names.get(*name).map_or("?", |n| n.name.as_str());
        let e = |name: &usize, entry: &usize| {
            let home = cast.names.get(*name).map(|n| &n.home);
            home.and_then(|home| home.keys().nth(*entry)).map_or("?", |e| e.as_str())
        };
        match self {
            Self::RegionLost { region } => format!("{} is lost, then starts anew", r(region)),
            Self::RegionSilent { region } => format!("{} goes silent", r(region)),
            Self::ServiceDown { region, service } => format!("{} dies in {}", s(service), r(region)),
            Self::ServiceLeft { service, only } => {
                format!("{} dies everywhere but in {}", s(service), r(only))
            }
            Self::EndpointDown { region, service, endpoint } => {
                format!("endpoint {endpoint} of {} dies in {}", s(service), r(region))
            }
            Self::EdgeStopped { region } => format!("the edges of {} stop, then start anew", r(region)),
            Self::ControlStalled { region } => format!("the control tasks of {} stall", r(region)),
            Self::RollingRestart { region, every } => {
                format!("the edges of {} restart one by one, {every:?} each", r(region))
            }
            Self::Cut { from, to } => format!("{} can't reach {} (one way)", r(from), r(to)),
            Self::Isolated { region } => format!("the edges of {} are cut off from all others", r(region)),
            Self::Split { side } => {
                let side: Vec<_> = one_side(*side, cast).collect();
                format!("the edges of {} are split from the rest", side.join(" and "))
            }
            Self::Lossy { percent } => format!("{percent}% of messages between edges are lost"),
            Self::SlowLink { a, b, by } => format!("{} and {} are {by:?} slower each way", r(a), r(b)),
            Self::Gray { region, service, percent, by } => {
                format!("{} fails {percent}% and is {by:?} slower in {}", s(service), r(region))
            }
            Self::Flapping { region, service, every } => {
                format!("{} in {} dies and comes back every {every:?}", s(service), r(region))
            }
            Self::Poison { from, toward, service } => {
                format!("requests for {} by {} fail in {}", s(service), r(from), r(toward))
            }
            Self::Surge { place, percent } => {
                let place = cast.users.get(*place).map_or("?", |u| u.place.as_str());
                format!("users of {place} send {percent}% of the usual")
            }
            Self::CapacityLoss { region, percent } => format!("{} has {percent}% of its capacity", r(region)),
            Self::ChecksFlap { region, every } => {
                format!("the health checks of {} flap every {every:?}", r(region))
            }
            Self::ChecksUnderLoad => "health checks fail under load".to_owned(),
            Self::WitnessBlind { region } => format!("the health check of {} can't be read", r(region)),
            Self::ApiDown { region } => format!("{} can't reach the DNS API", r(region)),
            Self::ApiOutage => "the DNS API is down".to_owned(),
            Self::ApiSlow => "the DNS API takes seconds".to_owned(),
            Self::ApiThrottled { percent } => format!("the DNS API throttles {percent}% of calls"),
            Self::AnswersLost { region } => format!("answers to changes by {} are lost", r(region)),
            Self::DelayedWriter { region, by } => format!("changes by {} arrive {by:?} late", r(region)),
            Self::TwoWriters { name, entry, to, every } => {
                let (name, entry) = (n(name), e(name, entry));
                format!("another program sends entry {entry} of {name} to {} every {every:?}", r(to))
            }
            Self::HandEdit { name, entry, to } => {
                format!("entry {} of {} is sent to {} by hand", e(name, entry), n(name), r(to))
            }
            Self::EntryLost { name, entry } => {
                format!("the records of entry {} of {} are deleted by hand", e(name, entry), n(name))
            }
            Self::Drain { name, region } => format!("{} is drained for {}", r(region), n(name)),
            Self::Freeze { name } => format!("{} is frozen", n(name)),
            Self::ClockSkew { region, by } => format!("the wall clock of {} is {by:?} ahead", r(region)),
            Self::BadPush { region } => format!("{} gets another policy", r(region)),
        }
    }
}

/// Names of the regions whose bits are set.
fn one_side(side: u64, cast: &Cast) -> impl Iterator<Item = &str> {
    cast.regions.iter().enumerate().filter(move |(i, _)| side & (1 << i) != 0).map(|(_, r)| r.as_str())
}

/// One fault with its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub at: Duration,
    pub lasts: Duration,
    pub fault: Fault,
}

impl Step {
    pub fn shown(&self, cast: &Cast) -> String {
        let (from, to) = (self.at.as_secs_f64(), (self.at + self.lasts).as_secs_f64());
        format!("{from:8.3} s to {to:8.3} s  {}", self.fault.shown(cast))
    }
}

/// What the scenario says must come out, beside the invariants.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expect {
    /// Share of all requests that may fail, 0..=1.
    pub errors_max: Option<f64>,
    /// Share of requests that may fail in any tenth of the run, 0..=1.
    pub errors_peak_max: Option<f64>,
    /// The 99th percentile of all latencies.
    pub p99_max: Option<Duration>,
    /// Regions that faults call to be left have no weight after so long.
    pub evacuated_within: Option<Duration>,
    /// All sets are at home so long after the last fault.
    pub home_within: Option<Duration>,
    /// No set is ever changed by Proxima.
    pub unmoved: bool,
    /// Refusals and events that must be seen.
    pub sees: Vec<String>,
    /// And those that must not.
    pub never: Vec<String>,
}

/// Everything that a run depends on.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub title: String,
    pub seed: u64,
    pub cast: Arc<Cast>,
    /// Messages lost between edges at all times, in percent.
    pub background_loss: u64,
    /// The run lasts at least so long.
    pub length: Duration,
    pub steps: Vec<Step>,
    pub expect: Expect,
}

impl Scenario {
    /// When the last fault is over.
    pub fn calm_from(&self) -> Duration {
        self.steps.iter().map(|s| s.at + s.lasts).max().unwrap_or_default()
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, cast, background_loss, .. } = self;
        let failover = cast.failover();
        let mut text = String::new();
        for (region, capacity) in cast.regions.iter().zip(&cast.capacity) {
            match capacity {
                Some(capacity) => write!(text, " {region} ({capacity:.0}/s)")?,
                None => write!(text, " {region}")?,
            }
        }
        writeln!(
            f,
            "seed {seed}:{text}; {} edge(s) a region, {} service(s) with {} endpoint(s), {} name(s) with {} \
             entries, min_live {}, max_shift {}, background loss {background_loss}%",
            cast.processes,
            cast.services.len(),
            cast.endpoints,
            cast.names.len(),
            cast.names.first().map_or(0, |n| n.home.len()),
            failover.min_live,
            failover.max_shift,
        )?;
        for step in &self.steps {
            writeln!(f, "  {}", step.shown(cast))?;
        }
        Ok(())
    }
}
