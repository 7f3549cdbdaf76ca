//! What a request reads: one `Snapshot`, published whole, never changed.

use crate::domain::drift::Drift;
use crate::domain::endpoint::Endpoint;
use crate::domain::health::State;
use crate::domain::latency::Rtt;
use crate::domain::name::{DnsName, EntryId, RegionId, ServiceId, Zone};
use crate::domain::operator::OperatorState;
use crate::domain::plan::{Check, Generation, Loads, Refusal};
use crate::domain::routing::RouteTable;
use crate::domain::time::Time;
use crate::domain::view::{CapacityView, LoadView, Words};
use crate::domain::votes::{Verdict, Witness};
use crate::domain::weights::WeightedSet;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

mod candidates;

pub use candidates::{Candidates, Others, States};

/// An edge whose control task has not stirred for so long says nothing of its services any more: twenty
/// times the longest pause between two of its looks.
pub const DECIDES: Duration = Duration::from_secs(5);

/// All that the request path needs, and what `/snapshot` and metrics show.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Snapshot {
    /// Counts publications, from 1; 0 before the first.
    pub number: u64,
    pub at: Time,
    pub own: RegionId,
    /// Not written: they are the configuration's.
    #[serde(skip)]
    pub routes: Arc<RouteTable>,
    pub services: BTreeMap<ServiceId, Arc<ServiceSnapshot>>,
    pub regions: BTreeMap<RegionId, RegionStatus>,
    pub names: BTreeMap<DnsName, NameStatus>,
    /// Peer listener addresses of every other region: what to probe and where to forward.
    pub peers: BTreeMap<RegionId, Arc<[Arc<Endpoint>]>>,
}

impl Snapshot {
    /// The empty world before the first decision: no route matches.
    pub fn empty(own: RegionId) -> Self {
        Self {
            number: 0,
            at: Time::ZERO,
            own,
            routes: Arc::default(),
            services: BTreeMap::new(),
            regions: BTreeMap::new(),
            names: BTreeMap::new(),
            peers: BTreeMap::new(),
        }
    }

    /// What `/health/gate/<name>` answers; without a name, `/health/gate`: closed when every name's is.
    ///
    /// Open for a name that is not known (yet): a booting edge must not take its region out of DNS. Open as
    /// well when nobody has decided anything for longer than [`DECIDES`]: what closed it may be long over.
    /// `idle`: since when that is.
    pub fn gate(&self, name: Option<&str>, idle: Duration) -> Gate {
        if idle > DECIDES {
            return Gate::Open;
        }
        let closed = match name {
            Some(name) => {
                let known = DnsName::parse(name).ok().and_then(|name| self.names.get(&name));
                known.is_some_and(|status| status.gate == Gate::Closed)
            }
            None => !self.names.is_empty() && self.names.values().all(|name| name.gate == Gate::Closed),
        };
        if closed { Gate::Closed } else { Gate::Open }
    }
}

/// Where requests for one service may go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceSnapshot {
    pub id: ServiceId,
    /// In the order to try. Never empty while any endpoint is known.
    pub candidates: Candidates,
    /// No region is healthy: candidates are a last resort.
    pub panic: bool,
    /// Whether this region serves forwarded requests for it now.
    pub accepts_forwarded: bool,
    /// Every known endpoint in the own region, for probes and display.
    pub endpoints: Arc<[EndpointStatus]>,
    /// State of the service in each region.
    pub states: States,
    /// What it does here, and what it may do.
    pub room: RoomStatus,
}

/// One place to send a request to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    pub region: RegionId,
    pub place: Place,
    /// Share of requests to take when its turn comes, 0..=1; below 1 in probation or spill, 0 in a
    /// drained own region. Those not taken come after all others.
    pub share: f64,
    /// Pods of the service (own region) or nodes of the peer listener (another region).
    pub endpoints: Arc<[Arc<Endpoint>]>,
    /// How requests are divided among the zones of the endpoints; empty: zones play no part.
    pub zones: Arc<[ZoneShare]>,
}

impl Candidate {
    /// Whether it takes all of its turns.
    pub fn is_whole(&self) -> bool {
        self.share >= 1.0
    }
}

/// The endpoints of one zone and their part of the requests. Those of a candidate follow one another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ZoneShare {
    /// `None`: of endpoints whose zone is not known.
    pub zone: Option<Zone>,
    /// Where the zone's endpoints end among the candidate's; they begin where the one before ends.
    pub end: usize,
    /// Part of the requests that goes to this zone or one before it, 0..=1; 1 for the last.
    pub up_to: f64,
}

/// Room of a service in the own region. Nothing of it is a decision: it is shown as it was when one
/// was published, and at least every few seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RoomStatus {
    pub capacity: Option<CapacityView>,
    /// Share of the own users that is served here as far as capacity goes, 0..=1.
    pub home: f64,
}

/// Whether a candidate is served here or forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Place {
    Own,
    Peer,
}

/// An endpoint with its state, for probes and display.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointStatus {
    pub endpoint: Arc<Endpoint>,
    pub state: State,
}

/// A region as this edge sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegionStatus {
    pub rtt: Option<Rtt>,
    /// By which it is ranked: the round trip with the region's bias.
    pub distance: Option<Rtt>,
    /// How the way there is beside its median.
    pub quality: Quality,
    /// What it does, by its own word.
    pub load: LoadView,
    /// Whether its last view is fresh.
    pub heard: bool,
    /// Worst state of any service there.
    pub state: State,
    pub witness: Witness,
    pub pace: ProbePace,
}

/// How often this pod probes a region itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbePace {
    /// At every `probes.interval`.
    Full,
    /// At every `probes.sparse_interval`: the pod that holds the lease tells what it measures.
    Sparse,
}

impl ProbePace {
    /// The pace as pages spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Sparse => "sparse",
        }
    }
}

/// How a way is. Not a decision by itself: shown as it was when one was published, and at least
/// every few seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Quality {
    pub p99: Option<Rtt>,
    pub jitter: Option<Rtt>,
    /// Share of the last probes that got no answer, 0..=1.
    pub loss: f64,
    /// Median time to the first byte of forwarded requests: it counts the service's work, and bounds the distance.
    pub first_byte: Option<Rtt>,
}

/// A DNS name as this edge sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NameStatus {
    pub verdicts: BTreeMap<RegionId, Verdict>,
    /// Weights last read.
    pub applied: BTreeMap<EntryId, WeightedSet>,
    /// Weights that the current verdicts call for, before ramps and hold-downs.
    pub wanted: Arc<BTreeMap<EntryId, WeightedSet>>,
    pub generation: Option<Generation>,
    /// The rule that holds back a change now, if any.
    #[serde(deserialize_with = "rule_name")]
    pub refusal: Option<RuleText>,
    /// Records that something else has changed, weights aside: nothing is planned until they are repaired.
    pub drift: Vec<Drift>,
    pub gate: Gate,
    /// What operators have said, in force here.
    pub operator: OperatorState,
    /// Acts of it that the control record does not hold yet.
    pub unwritten: BTreeSet<u64>,
    /// Set while users are led away from the own region.
    pub parting: Option<Parting>,
    /// Fresh votes: voter -> target -> word.
    pub votes: BTreeMap<RegionId, Arc<Words>>,
    /// Every rule's answer to the change that is called for, in the order in which they are asked.
    pub checks: Arc<[Check]>,
    /// Requests a second that regions carry now, after the next step and in the end, as plans count them.
    pub loads: Arc<Loads>,
}

impl NameStatus {
    /// A name of which nothing is known but its gate.
    pub fn unknown(gate: Gate) -> Self {
        Self {
            verdicts: BTreeMap::new(),
            applied: BTreeMap::new(),
            wanted: Arc::default(),
            generation: None,
            refusal: None,
            gate,
            operator: OperatorState::default(),
            unwritten: BTreeSet::new(),
            drift: Vec::new(),
            parting: None,
            votes: BTreeMap::new(),
            checks: Arc::new([]),
            loads: Arc::default(),
        }
    }
}

/// How far a name's users have left the own region: drained, or down by verdict.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Parting {
    pub since: Time,
    /// Since when no weight leads here; `None`: some does.
    pub moved_since: Option<Time>,
    /// Share of their connections that is to be closed by now, 0..=1.
    pub closing: f64,
}

/// A rule as metrics and logs spell it. (By its own name: serde takes a bare `&str` to be borrowed.)
type RuleText = &'static str;

/// The rule of this name; a name that this build does not know is an error.
fn rule_name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<RuleText>, D::Error> {
    let Some(name) = Option::<String>::deserialize(from)? else { return Ok(None) };
    let rule = Refusal::ALL.into_iter().find(|rule| rule.as_str() == name);
    rule.map(|rule| Some(rule.as_str())).ok_or_else(|| D::Error::custom("no rule of this build"))
}

/// What `/health/gate` answers for a name: the health check attached to this region's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gate {
    /// 200, the answer whenever in doubt.
    Open,
    /// 503: the own service is down (or drained) and enough peers are well.
    Closed,
}
