//! What happens to a request, computed as data.
//!
//! Input: the head of a request, where it came from, the snapshot, a random
//! number. Output: an answer of our own, or an [`Exchange`] with upstreams. It
//! refuses to know connections, transports, clocks and random sources, so every
//! rule here is tested without a socket.

use crate::config::Service;
use crate::domain::limit::concurrency::Priority;
use crate::domain::limit::hedge::Repeatable;
use crate::domain::name::ServiceId;
use crate::domain::routing::{Route, RouteTimeouts, normal_path};
use crate::domain::snapshot::{Gate, Place, Snapshot};
use crate::domain::time::Time;
use crate::metrics::request::{RefusalReason, RejectReason};
use crate::peer;
use crate::proxy::attempts::{Attempt, Attempts, Budget, Failure};
use crate::proxy::guards::Guards;
use crate::proxy::headers::{self, ClientFacts, Handover, HeaderEdits, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use explained::Explained;
pub use own::{rejected, unproxied};
pub use routed::{Target, TargetHost};
pub use sticky::{SessionRule, Sticky};

mod explained;
mod own;
mod routed;
mod sticky;

use own::{asked, error, refused, too_early, unavailable};

/// Answers 200 while this process serves: the witness of Route 53's checkers.
const HEALTH_EDGE: &str = "/health/edge";
/// Answers 503 while users should be sent elsewhere; `/health/gate/<name>` for one name.
const HEALTH_GATE: &str = "/health/gate";

/// What is below it is for health checks.
const HEALTH: &str = "/health/";
/// Where an authority looks for proof of a name by plain HTTP. Source: RFC 8555, section 8.3.
const ACME: &str = "/.well-known/acme-challenge/";

/// People leave pages open; whoever has vanished without a word is let go after this.
const UPGRADE_IDLE: Duration = Duration::from_secs(3600);

/// The head of a request.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    pub method: &'a Method,
    pub version: Version,
    /// `Host` or `:authority` as it was sent, port and all; empty when absent.
    pub authority: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// Without the question mark; empty when there is none.
    pub query: &'a str,
    /// Of the body, where it is told beforehand.
    pub length: Option<u64>,
    pub proof: Proof,
    /// It came from one of `edge.trusted_proxies`.
    pub trusted: bool,
    pub headers: &'a HeaderMap,
    /// `X-Forwarded-For` as it goes on, where trusted proxies have said one.
    pub forwarded_for: Option<&'a str>,
}

/// Whether a client has proven who it is, by a certificate (mutual TLS).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    Shown,
    None,
    /// None, though the certificate of the host it asks for lets in nobody without.
    Owed,
}

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Client {
        /// `None`: it came by a Unix socket, and nobody has said whose request it is.
        address: Option<IpAddr>,
        scheme: Scheme,
    },
    /// Another region, over mutual TLS.
    Peer,
}

/// What the decision may read besides the request.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    pub snapshot: &'a Snapshot,
    pub services: &'a BTreeMap<ServiceId, Service>,
    pub guards: &'a Guards,
    pub now: Time,
    /// For how long nobody has decided anything.
    pub idle: Duration,
}

/// Random numbers, drawn by the caller.
#[derive(Debug, Clone, Copy)]
pub struct Random {
    pub routing: u64,
    /// Of its own: the shares of a split must not follow those of candidates.
    pub split: u64,
    pub id: u128,
}

/// What happens to a request.
#[derive(Debug)]
pub enum Decision {
    Respond(OwnAnswer),
    Proxy(Box<Exchange>),
}

/// An answer of this edge itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnAnswer {
    pub status: StatusCode,
    pub content: Content,
    /// Beyond the content's own headers and the request id, and instead of those of the same name.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub request_id: HeaderValue,
    pub cause: Cause,
    /// The one that took the request, if any did.
    pub route: Option<Arc<Route>>,
}

/// What an own answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// What happened, to be told as whoever asked can read it; see [`crate::proxy::errors`].
    Error(Box<str>),
    /// Plain text, unless the answer's headers say otherwise.
    Text(Box<str>),
    /// The region's view as JSON.
    View,
    /// What this pod tells the others of its region, as JSON; a POST first tells it something.
    Sibling,
}

/// Why this edge answers itself; for the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Health checks and probes.
    Asked,
    /// The client broke off or broke the rules, or this edge failed.
    Broken,
    Unrouted,
    /// A route that redirects or answers.
    Routed,
    /// It came without TLS, and its listener sends it to TLS.
    Insecure,
    /// The route's rules forbid it.
    Rejected(RejectReason),
    /// A request from another region that is not served here.
    Refused(RefusalReason),
    /// No upstream answered for the service.
    Unavailable(ServiceId),
}

/// A request on its way to upstreams.
#[derive(Debug)]
pub struct Exchange {
    pub service: ServiceId,
    /// `None`: forwarded by a peer, which carried its route out.
    pub route: Option<Arc<Route>>,
    pub request_id: HeaderValue,
    /// What is asked for upstream instead of the client's own words.
    pub target: Target,
    /// The same for every attempt; see [`Exchange::forward_edits`].
    pub edits: HeaderEdits,
    /// For the head of the answer, after everything else is done to it.
    pub response_edits: HeaderEdits,
    pub attempts: Attempts,
    pub timeouts: Timeouts,
    /// Bytes of the request's body; `None`: any.
    pub max_body: Option<u64>,
    pub priority: Priority,
    /// Whether it may be sent a second time while it is slow.
    pub hedging: Repeatable,
    /// `Some`: sessions of the service stay where they are.
    pub sticky: Option<Sticky>,
    /// `Some`: the client may know why, and wants to.
    pub explained: Option<Explained>,
    origin: Origin,
    idempotent: bool,
    own: crate::domain::name::RegionId,
}

/// How long each part of an exchange may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    /// From the end of the request to the head of the answer, of each attempt.
    pub first_byte: Duration,
    /// Between two pieces of the answer.
    pub between_bytes: Duration,
    /// How long both sides of an upgraded connection may be silent.
    pub upgrade_idle: Duration,
    /// From the head of the request to the end of the answer; `None`: any.
    pub request: Option<Duration>,
}

impl Timeouts {
    fn new(service: &Service, route: RouteTimeouts) -> Self {
        Self {
            connect: route.connect.unwrap_or(service.connect_timeout),
            first_byte: route.first_byte.unwrap_or(service.read_timeout),
            between_bytes: route.between_bytes.unwrap_or(service.read_timeout),
            upgrade_idle: route.upgrade_idle.unwrap_or(UPGRADE_IDLE),
            request: route.request,
        }
    }
}

/// Decides what happens to a request.
pub fn decide(head: RequestHead<'_>, origin: Origin, world: World<'_>, random: Random) -> Decision {
    let request_id = headers::request_id(head.headers, random.id);
    let decision = match origin {
        Origin::Client { address, scheme } => health(&head, &world, &request_id).map_or_else(
            || {
                let client = ClientFacts {
                    address,
                    scheme,
                    authority: head.authority,
                    forwarded_for: head.forwarded_for,
                };
                routed::decide(head, client, world, &request_id, random)
            },
            |answer| Err(answer.into()),
        ),
        Origin::Peer => forwarded(head, world, &request_id),
    };
    let mut decision = decision
        .map_or_else(|answer| Decision::Respond(*answer), |exchange| Decision::Proxy(Box::new(exchange)));
    if origin != Origin::Peer {
        explained::explain(&mut decision, &head, &world);
    }
    decision
}

/// Sends a request to the same place over TLS; `None`: it has to be answered as it is.
///
/// Who checks this edge's health, or whose certificate is being made, may know no TLS here: those
/// paths are left alone.
pub fn to_https(head: &http::request::Parts, port: u16, id: &HeaderValue) -> Option<OwnAnswer> {
    let exempt = |path: &str| path.starts_with(HEALTH) || path.starts_with(ACME);
    // As routes see it: a path that only begins so is not left alone.
    if normal_path(head.uri.path()).is_ok_and(|path| exempt(&path)) {
        return None;
    }
    let location = head.uri.host().zip(head.uri.path_and_query()).and_then(|(host, target)| {
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        // `*` is no place.
        let target = Some(target.as_str()).filter(|target| target.starts_with('/'))?;
        HeaderValue::try_from(format!("https://{host}{port}{target}")).ok()
    });
    let Some(location) = location else {
        return Some(error(StatusCode::BAD_REQUEST, "this is answered over TLS only", id, Cause::Broken));
    };
    // Other methods must not become GET on the way: RFC 9110, section 15.4.9.
    let status =
        if reads(&head.method) { StatusCode::MOVED_PERMANENTLY } else { StatusCode::PERMANENT_REDIRECT };
    Some(OwnAnswer {
        status,
        content: Content::Text("see the location\n".into()),
        headers: vec![(header::LOCATION, location)],
        request_id: id.clone(),
        cause: Cause::Insecure,
        route: None,
    })
}

/// Health checks are answered before routing, whatever the host says.
fn health(head: &RequestHead<'_>, world: &World<'_>, id: &HeaderValue) -> Option<OwnAnswer> {
    let answer = if head.path == HEALTH_EDGE {
        (StatusCode::OK, "serving")
    } else {
        let name = head.path.strip_prefix(HEALTH_GATE)?;
        let name = if name.is_empty() { None } else { Some(name.strip_prefix('/')?) };
        gate(world.snapshot.gate(name, world.idle))
    };
    let (status, text) = if reads(head.method) { answer } else { METHOD_NOT_ALLOWED };
    Some(asked(status, text, id))
}

const METHOD_NOT_ALLOWED: (StatusCode, &str) = (StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");

fn reads(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

fn gate(gate: Gate) -> (StatusCode, &'static str) {
    match gate {
        Gate::Open => (StatusCode::OK, "open"),
        Gate::Closed => (StatusCode::SERVICE_UNAVAILABLE, "closed"),
    }
}

/// A peer's request: its probe, or a forwarded one, served by own endpoints or refused.
///
/// The headers come first: a client may well ask for a path that is the probe's.
fn forwarded(head: RequestHead<'_>, world: World<'_>, id: &HeaderValue) -> Result<Exchange, Box<OwnAnswer>> {
    let Some(Handover { service, priority, client, .. }) = Handover::read(head.headers) else {
        return Err(probe(&head, id).into());
    };
    let found = world.services.get(&service).zip(world.snapshot.services.get(&service));
    let Some((config, of)) = found else {
        return Err(refused(RefusalReason::NoService, id).into());
    };
    if !of.accepts_forwarded {
        let usable = of.states.get(&world.snapshot.own).is_some_and(|state| state.usable());
        let reason = if usable { RefusalReason::NoRoom } else { RefusalReason::NoService };
        return Err(refused(reason, id).into());
    }
    let budget = Budget::new(config.attempts, head.method.is_idempotent());
    let rule = world.guards.service(&service).and_then(|guards| guards.sessions.as_ref());
    let sticky = rule.map(|rule| rule.of(head, client, headers::came_by_tls(head.headers)));
    Ok(Exchange {
        edits: headers::request_edits(head.headers, None, head.version, id),
        service,
        route: None,
        request_id: id.clone(),
        target: Target::default(),
        response_edits: HeaderEdits::default(),
        attempts: Attempts::own(Arc::clone(of), budget, sticky.as_ref()),
        sticky,
        // The edge that the client came to minds the route's.
        timeouts: Timeouts::new(config, RouteTimeouts::default()),
        max_body: None,
        priority,
        // What its route says of it stayed behind.
        hedging: Repeatable::No,
        origin: Origin::Peer,
        explained: None,
        idempotent: head.method.is_idempotent(),
        own: world.snapshot.own.clone(),
    })
}

fn probe(head: &RequestHead<'_>, id: &HeaderValue) -> OwnAnswer {
    let content = match head.path {
        peer::VIEW_PATH => Some(Content::View),
        peer::SIBLING_PATH => Some(Content::Sibling),
        _ => None,
    };
    let Some(content) = content else {
        let text = "the peer listener takes probes and forwarded requests";
        return error(StatusCode::BAD_REQUEST, text, id, Cause::Refused(RefusalReason::Malformed));
    };
    let tells = content == Content::Sibling && *head.method == Method::POST;
    if !reads(head.method) && !tells {
        let (status, text) = METHOD_NOT_ALLOWED;
        return asked(status, text, id);
    }
    OwnAnswer {
        status: StatusCode::OK,
        content,
        headers: Vec::new(),
        request_id: id.clone(),
        cause: Cause::Asked,
        route: None,
    }
}

impl OwnAnswer {
    /// The same, to a request that this route took.
    fn of(self, route: &Arc<Route>) -> Self {
        Self { route: Some(Arc::clone(route)), ..self }
    }
}

impl Cause {
    /// The cause in a word, for logs; `failure`: of the last attempt.
    pub fn as_str(&self, failure: Option<Failure>) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Broken => "broken",
            Self::Unrouted => "unrouted",
            Self::Routed => "routed",
            Self::Insecure => "insecure",
            Self::Rejected(reason) => reason.as_str(),
            Self::Refused(reason) => reason.as_str(),
            Self::Unavailable(_) => failure.map_or("nowhere", Failure::as_str),
        }
    }
}

impl Exchange {
    pub fn is_forwarded(&self) -> bool {
        self.origin == Origin::Peer
    }

    /// What an attempt adds to [`Exchange::edits`].
    pub fn forward_edits(&self, attempt: &Attempt) -> Option<HeaderEdits> {
        let client = match self.origin {
            Origin::Client { address, .. } => address,
            Origin::Peer => None,
        };
        let (by, service, priority) = (self.own.clone(), self.service.clone(), self.priority);
        (attempt.place == Place::Peer).then(|| Handover { by, service, priority, client }.edits())
    }

    /// The answer when too many requests are in flight here; a peer tries elsewhere.
    pub fn shed(&self) -> OwnAnswer {
        if self.is_forwarded() {
            return refused(RefusalReason::NoRoom, &self.request_id);
        }
        let mut answer = rejected(RejectReason::Overloaded, &self.request_id);
        answer.headers.push((header::RETRY_AFTER, HeaderValue::from_static("1")));
        answer
    }

    /// The answer when no attempt is left; `None`: there was nowhere to send the request to.
    ///
    /// A peer that forwarded gets the typed 503 whenever another region may
    /// safely try: nothing was processed, or the request is idempotent and no
    /// byte of an answer came. All own endpoints dead is "no service here".
    pub fn give_up(&self, failure: Option<Failure>) -> OwnAnswer {
        if failure == Some(Failure::Busy) {
            return self.shed();
        }
        let elsewhere = match failure {
            None | Some(Failure::Connect | Failure::Unprocessed | Failure::Refused | Failure::Busy) => true,
            Some(Failure::Closed) => self.idempotent,
            Some(
                Failure::Timeout | Failure::Deadline | Failure::Status | Failure::Malformed | Failure::Late,
            ) => false,
        };
        if self.is_forwarded() && elsewhere {
            return refused(RefusalReason::NoService, &self.request_id);
        }
        let (status, text) = match failure {
            None | Some(Failure::Refused) => return unavailable(&self.service, &self.request_id),
            Some(Failure::Timeout | Failure::Deadline) => {
                (StatusCode::GATEWAY_TIMEOUT, "the service did not answer in time")
            }
            Some(_) => (StatusCode::BAD_GATEWAY, "the service did not answer"),
        };
        error(status, text, &self.request_id, Cause::Unavailable(self.service.clone()))
    }
}

#[cfg(test)]
mod tests;
