//! Explanations as data: what happens to a request or a DNS name here and now, and by which rule.
//!
//! Made by the core from what it knows (`Fleet::explain`, `Fleet::explain_name`), so that the command
//! line, the admin listener and a replayed journal cannot tell three stories.

use crate::domain::health::{Ground, State, Word};
use crate::domain::latency::Rtt;
use crate::domain::name::{DnsName, EntryId, RegionId, ServiceId};
use crate::domain::operator::OperatorState;
use crate::domain::routing::{RequestHeaders, RouteMatch};
use crate::domain::snapshot::{Place, ServiceSnapshot};
use crate::domain::view::CapacityView;
use crate::domain::votes::Witness;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A request to explain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    pub host: String,
    /// Without the query.
    pub path: String,
    pub query: String,
    pub method: String,
    pub https: bool,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Question {
    /// A GET over TLS without headers.
    pub fn get(host: String, path: String) -> Self {
        Self { host, path, query: String::new(), method: "GET".to_owned(), https: true, headers: Vec::new() }
    }

    /// The same for another path, which may have a query.
    #[must_use]
    pub fn with_path(self, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self { path: path.to_owned(), query: query.to_owned(), ..self }
    }

    /// A header out of `name: value`; `None` when it is none.
    pub fn header(text: &str) -> Option<(String, String)> {
        let (name, value) = text.split_once(':')?;
        let right = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
        right.then(|| (name.to_ascii_lowercase(), value.trim().to_owned()))
    }
}

/// Headers as a list.
pub(crate) struct Listed<'a>(pub(crate) &'a [(String, String)]);

impl RequestHeaders for Listed<'_> {
    fn any(&self, name: &str, passes: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.0.iter().any(|(known, value)| known == name && passes(value.as_bytes()))
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The region whose edge is asked.
    pub own: RegionId,
    pub question: Question,
    /// The path as routes compare it.
    pub path: Option<String>,
    /// Why the path has no such form.
    pub problem: Option<String>,
    pub route: RouteMatch,
    /// What the route does, such as `forwards` or `answers 404`; empty without a route.
    pub action: String,
    /// Services that the route leads to, with the share of its requests.
    pub services: Vec<ServiceExplanation>,
    /// The rule that decided in the end.
    pub rule: Rule,
}

/// Where requests for a service go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceExplanation {
    pub service: ServiceId,
    /// Of the route's requests, 0..=1.
    pub share: f64,
    pub rule: Rule,
    /// All configured regions: candidates in the order in which they are tried, then the others.
    pub regions: Vec<RegionExplanation>,
}

/// One region as a place for requests of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegionExplanation {
    pub region: RegionId,
    pub own: bool,
    /// Its turn, from 1; `None`: it is no candidate.
    pub turn: Option<usize>,
    /// Of requests, 0..=1, that it takes when its turn comes; the rest come to it after all others.
    pub share: Option<f64>,
    /// Of requests, 0..=1, that try it first.
    pub first: f64,
    pub state: State,
    pub ground: Ground,
    /// What probes alone say; votes are made of it.
    pub word: Word,
    pub rtt_ms: Option<f64>,
    /// By which regions are ranked: the distance, or the place in the order where there is none.
    pub score_ms: Option<f64>,
    pub rank: Option<usize>,
    pub sample_age_ms: Option<u64>,
    /// Of what the region last said of itself.
    pub view_age_ms: Option<u64>,
    /// Of the region, as configured.
    pub capacity_rps: Option<f64>,
    pub headroom_rps: Option<f64>,
    /// Of the service there, by the region's own word.
    pub service_capacity: Option<CapacityView>,
    /// Requests a second of the service that this region asks it to take.
    pub asked_rps: Option<f64>,
    /// What it grants of these.
    pub granted_rps: Option<f64>,
    /// Endpoints that requests may be sent to.
    pub endpoints: usize,
    /// By each DNS name that needs the service: voter -> word.
    pub votes: BTreeMap<DnsName, BTreeMap<RegionId, Word>>,
    /// Why it is no candidate.
    pub left_out: Option<LeftOut>,
}

/// Why a region is no candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOut {
    /// Its state forbids it.
    State,
    /// No address of it is known.
    NoAddress,
    /// Nothing was decided yet.
    Undecided,
}

/// The rule that decides where a request goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The path has no normal form: 400.
    BadPath,
    /// No route takes it: 404.
    NoRoute,
    /// The route answers itself.
    RouteAnswers,
    /// The own region is well and has room.
    OwnRegionFirst,
    /// The own region is well; a share of the requests goes on, since it is full or comes back slowly.
    OwnRegionShare,
    /// The own region is not usable: the nearest that is.
    NearestHealthy,
    /// Like `NearestHealthy`; another one is nearer, but not by the margin.
    HeldByMargin,
    /// No region is healthy: the own one first, then the nearest.
    LastResort,
    /// No address of the service is known anywhere: 503.
    Nowhere,
    /// Nothing was heard yet: what the configuration alone says.
    ConfigurationOnly,
}

impl Rule {
    /// The rule as headers and logs spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadPath => "bad_path",
            Self::NoRoute => "no_route",
            Self::RouteAnswers => "route_answers",
            Self::OwnRegionFirst => "own_region_first",
            Self::OwnRegionShare => "own_region_share",
            Self::NearestHealthy => "nearest_healthy",
            Self::HeldByMargin => "held_by_margin",
            Self::LastResort => "last_resort",
            Self::Nowhere => "nowhere",
            Self::ConfigurationOnly => "configuration_only",
        }
    }

    /// The rule in words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::BadPath => "the path may be read in several ways, or is none: answered with 400",
            Self::NoRoute => "no route takes it: answered with 404",
            Self::RouteAnswers => "the route answers itself",
            Self::OwnRegionFirst => "the own region is well and has room: it comes first",
            Self::OwnRegionShare => {
                "the own region is well but takes only a share: it is full, or comes back slowly"
            }
            Self::NearestHealthy => "the own region cannot be used: the nearest healthy one comes first",
            Self::HeldByMargin => {
                "the own region cannot be used; another region is nearer, but not by the margin that changes the order"
            }
            Self::LastResort => "no region is healthy: the own one as a last resort, then by distance",
            Self::Nowhere => "no address of the service is known: answered with 503",
            Self::ConfigurationOnly => "nothing was heard yet: the own region first where it has endpoints",
        }
    }
}

/// The rule by which requests for a service go where they go; `distance`: by which a region is ranked.
pub fn rule_of(decided: &ServiceSnapshot, distance: &dyn Fn(&RegionId) -> Option<Rtt>) -> Rule {
    let Some(first) = decided.candidates.first() else { return Rule::Nowhere };
    if decided.panic {
        return Rule::LastResort;
    }
    if first.place == Place::Own {
        return if first.share < 1.0 { Rule::OwnRegionShare } else { Rule::OwnRegionFirst };
    }
    let nearer = decided.candidates.iter().any(|other| {
        let both = distance(&other.region).zip(distance(&first.region));
        other.place == Place::Peer && both.is_some_and(|(other, first)| other < first)
    });
    if nearer { Rule::HeldByMargin } else { Rule::NearestHealthy }
}

/// What is decided of a DNS name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NameExplanation {
    pub name: DnsName,
    pub own: RegionId,
    /// Of the control record; `None`: it was not read.
    pub generation: Option<u64>,
    pub writer: Option<RegionId>,
    /// How long ago it was changed.
    pub changed_ms: Option<u64>,
    /// Regions that stand before this one as writers.
    pub writers_before: u32,
    pub entries: Vec<EntryExplanation>,
    pub regions: Vec<VerdictExplanation>,
    /// Every rule that would have to let a change pass now, and whether it does.
    pub checks: Vec<RuleCheck>,
    /// The rule that holds a change back.
    pub refusal: Option<String>,
    pub gate_closed: bool,
    /// What operators have said; moments are on the core's clock.
    pub operator: OperatorState,
}

/// Weights of one entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntryExplanation {
    pub entry: EntryId,
    pub applied: BTreeMap<RegionId, u8>,
    pub wanted: BTreeMap<RegionId, u8>,
    pub home: BTreeMap<RegionId, u8>,
}

/// What is held of one region for a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerdictExplanation {
    pub region: RegionId,
    pub verdict: String,
    /// Voter -> word; whoever is not here has no fresh vote.
    pub votes: BTreeMap<RegionId, Word>,
    /// Votes that a majority needs.
    pub majority: usize,
    /// Evidence: the region's own word, and Route 53's checkers of its `/health/edge`.
    pub target: Word,
    pub witness: Witness,
    pub drained: bool,
}

/// One rule, asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCheck {
    pub rule: String,
    /// `passed`, `refused`, `overridden` or `not_applicable`.
    pub outcome: String,
    /// The numbers behind it; empty where there are none.
    pub detail: String,
}
