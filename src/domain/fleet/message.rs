//! What goes into the fleet and what comes out.

use super::OutcomeRun;
use super::shared::{Lease, Shared};
use crate::domain::drift::Drift;
use crate::domain::health::{EjectionReason, State, Word};
use crate::domain::latency::Rtt;
use crate::domain::name::{DnsName, RegionId, ServiceId, Zone};
use crate::domain::operator::{ActRefusal, OperatorAct};
use crate::domain::plan::{Generation, NameState, Plan, Refusal};
use crate::domain::policy::Policy;
use crate::domain::snapshot::Snapshot;
use crate::domain::time::Time;
use crate::domain::view::View;
use crate::domain::votes::{Verdict, Witness};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Input {
    /// Addresses were resolved. None for a service: the configuration has none any more (a look-up
    /// that fails is not told).
    Resolved {
        target: Target,
        addresses: Vec<SocketAddr>,
    },
    /// In which zone addresses of a service are, as far as the configuration says; told before
    /// they are. Replaces what was told of the service.
    Zoned {
        service: ServiceId,
        zones: BTreeMap<SocketAddr, Zone>,
    },
    Probed(Probe),
    /// A round trip to a region that forwarded traffic showed.
    Sample {
        region: RegionId,
        rtt: Rtt,
        source: SampleSource,
    },
    /// What requests of this edge met, in order. Dropped and counted when the channel is full.
    Outcomes(Vec<OutcomeRun>),
    /// Requests a second over the last tick: sent by clients, and served in this region. Of services
    /// that are left out nothing is known; names that are left out count as all that entered.
    Load {
        entered_rps: f64,
        names: BTreeMap<DnsName, f64>,
        served_rps: f64,
        services: BTreeMap<ServiceId, ServiceLoad>,
    },
    /// Whether this pod speaks for its region.
    Lease(Lease),
    /// What the pod that does has measured.
    Shared(Box<Shared>),
    /// This process was asked to end: it finishes what it has and should get nothing new.
    Leaving,
    Dns(DnsReport),
    /// An operator's command; answered by `Output::Operated`.
    Operator(OperatorAct),
    Tick,
    /// A new configuration; what it leaves out is forgotten, the rest is kept. The last one here, since
    /// it is not written: a journal has the text that it is made from.
    #[serde(skip)]
    Configure(Arc<Policy>),
}

/// What addresses belong to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Target {
    /// Pods of a service in the own region.
    Service(ServiceId),
    /// The peer listener of another region.
    Peer(RegionId),
}

/// The result of one probe.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Probe {
    /// A region's peer listener: its view, and the sample of the exchange on a warm connection.
    Region { region: RegionId, result: Result<RegionAnswer, ProbeFailure> },
    /// An endpoint of a service in the own region.
    Endpoint { service: ServiceId, address: SocketAddr, result: Result<EndpointAnswer, ProbeFailure> },
}

/// What an endpoint says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointAnswer {
    Well,
    /// It is well but about to end: it finishes what it has and should get nothing new.
    Draining,
}

/// What a passive sample was taken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SampleSource {
    /// The kernel's smoothed round trip of a connection that requests are forwarded on.
    Tcp,
    /// From a forwarded request to the first byte of its answer. It counts the service's work, so it
    /// says only what the region is not farther than.
    FirstByte,
}

/// What one service of the own region does: requests a second over the last tick.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ServiceLoad {
    /// Sent by clients to this region, wherever they were served.
    pub entered_rps: f64,
    /// That own endpoints were asked for, forwarded ones among them.
    pub served_rps: f64,
    /// Turned away because too many were in flight.
    pub shed_rps: f64,
    /// At own endpoints when it was read.
    pub in_flight: u32,
}

/// A region's good answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RegionAnswer {
    /// `None` when the answer came on a fresh connection and would count set-up.
    pub rtt: Option<Rtt>,
    pub view: Arc<View>,
}

/// Why a probe did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeFailure {
    Connect,
    Tls,
    Timeout,
    /// Connection closed or reset before the answer.
    Closed,
    /// An answer that is not a success status, or not one that was asked for.
    Status,
    /// A header of the answer is missing or another one than was asked for.
    Header,
    /// The body is not as was asked for, or too long to tell.
    Body,
    /// A body that is no view of that region, or too large.
    Malformed,
}

impl ProbeFailure {
    pub const ALL: [Self; 8] = [
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Closed,
        Self::Status,
        Self::Header,
        Self::Body,
        Self::Malformed,
    ];

    /// The failure as metrics and logs spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Status => "status",
            Self::Header => "header",
            Self::Body => "body",
            Self::Malformed => "malformed",
        }
    }
}

/// What a request met at one endpoint of one region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub service: ServiceId,
    pub region: RegionId,
    /// The endpoint's address: a pod (own region) or a peer listener's node.
    pub address: SocketAddr,
    pub result: OutcomeResult,
}

/// The passive signal of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutcomeResult {
    /// A response that is no 502, 503 or 504.
    Success,
    /// Connect error, reset, timeout, or 502, 503, 504.
    Failure,
    /// The peer's typed 503: it is well but has no room or no service.
    Refused,
}

/// What the DNS side reports.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum DnsReport {
    /// A name's control record and sets, as read.
    Read { name: DnsName, state: Box<NameState> },
    /// Records under a name are not what the configuration asks for, weights aside; not empty.
    Drifted { name: DnsName, records: Vec<Drift> },
    /// A plan was accepted by Route 53 and is PENDING.
    Submitted { name: DnsName, generation: Generation },
    /// The change reached all of Route 53's servers.
    InSync { name: DnsName, generation: Generation },
    /// Someone else changed the records first; nothing was written. The expiry tells which plan it is about.
    Conflict { name: DnsName, expires_at: Time },
    /// Not written: the API failed, or the plan expired first. Nothing is known to have changed.
    Failed { name: DnsName, expires_at: Time },
    /// The control record holds an operator's act from this generation on.
    Operated { name: DnsName, id: u64, generation: Generation },
    /// What Route 53's checkers say of a region's `/health/edge`.
    Witness { region: RegionId, witness: Witness },
}

/// Something to do or to tell.
#[derive(Debug, Clone)]
pub enum Output {
    /// A decision changed: requests read this from now on.
    Publish(Arc<Snapshot>),
    /// The view to answer probes with from now on.
    View(Arc<View>),
    /// Submit this, if still valid.
    Propose(Plan),
    /// What became of an operator's act: in force here, or refused.
    Operated { id: u64, result: Result<(), ActRefusal> },
    /// Something changed state: for the log and the metrics.
    Moved(Transition),
}

/// A change worth a log line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transition {
    Service {
        service: ServiceId,
        region: RegionId,
        from: State,
        to: State,
    },
    Endpoint {
        service: ServiceId,
        address: SocketAddr,
        from: State,
        to: State,
        /// `Some`: it is ejected from now on, and why.
        ejected: Option<EjectionReason>,
    },
    Vote {
        name: DnsName,
        region: RegionId,
        from: Word,
        to: Word,
    },
    Verdict {
        name: DnsName,
        region: RegionId,
        from: Option<Verdict>,
        to: Verdict,
    },
    /// A change that the verdicts call for is held back by a rule (`None`: no longer).
    Refused {
        name: DnsName,
        refusal: Option<Refusal>,
    },
    Gate {
        name: DnsName,
        closed: bool,
    },
}

/// One line, for people.
impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { service, region, from, to } => {
                write!(f, "{service} in {region}: {} -> {}", from.as_str(), to.as_str())
            }
            Self::Endpoint { service, address, from, to, ejected } => {
                write!(f, "{service} at {address}: {} -> {}", from.as_str(), to.as_str())?;
                ejected.map_or(Ok(()), |reason| write!(f, " ({})", reason.as_str()))
            }
            Self::Vote { name, region, from, to } => {
                write!(f, "own vote on {region} for {name}: {from:?} -> {to:?}")
            }
            Self::Verdict { name, region, from, to } => {
                let from = from.map_or("none", Verdict::as_str);
                write!(f, "verdict on {region} for {name}: {from} -> {}", to.as_str())
            }
            Self::Refused { name, refusal: Some(rule) } => {
                write!(f, "a change of {name} is held back by {}", rule.as_str())
            }
            Self::Refused { name, refusal: None } => write!(f, "no change of {name} is held back"),
            Self::Gate { name, closed } => {
                write!(f, "the gate of {name} is {}", if *closed { "closed" } else { "open" })
            }
        }
    }
}
