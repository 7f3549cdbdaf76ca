//! From an attempt to a connection, and exchanges on it.
//!
//! Connections are kept by where they lead and whom they trust: what one
//! configuration verified never serves under another.

use crate::config::{Service, UpstreamProtocol};
use crate::domain::name::RegionId;
use crate::domain::snapshot::Place;
use crate::metrics::request::Distrust;
use crate::proxy::attempts::{Attempt, Failure};
use crate::proxy::h1::{Framing, Malformed};
use crate::proxy::io::Conn;
use crate::proxy::policy::{Exchange, Timeouts};
use crate::proxy::samples::{RoundTrips, Samples};
use crate::proxy::session::Piece;
use crate::proxy::settings::Settings;
use crate::trust::{Speech, Trust};
use ::h2::client::SendRequest;
use bytes::Bytes;
use connect::{Goal, Key};
use http::{HeaderValue, response};
use shared::{Claim, Manner};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;

mod connect;
pub(super) mod h1;
pub(super) mod h2;
mod pool;
mod seats;
mod shared;

pub(super) use seats::Seat;

/// Interim answers before the final one; more are an attack or a loop.
const INFORMATIONAL_MAX: u32 = 16;
/// HTTP/2 connections to a service: common servers do not like to be pinged.
const SERVICE: Manner = Manner { idle: Duration::from_secs(4), ping: None };
/// HTTP/2 connections to a region, whose peer listener keeps idle ones twice as long. A silent
/// region is noticed on a connection that has requests in flight.
const PEER: Manner = Manner { idle: Duration::from_secs(30), ping: Some(Duration::from_secs(2)) };

/// Whether the request asks to become another protocol (WebSocket).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upgrade {
    Asked,
    No,
}

/// Where an attempt goes, and how long it is waited for.
#[derive(Debug, Clone)]
pub(super) struct Target {
    goal: Goal,
    /// The other region that it is in; `None`: the own one.
    region: Option<RegionId>,
    way: Way,
    /// For TCP.
    dial: Duration,
    /// For everything until a request can be sent.
    connect: Duration,
    /// From the end of the request to the head of the answer.
    pub(super) first_byte: Duration,
    /// Between two pieces of the answer.
    pub(super) between_bytes: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Way {
    /// HTTP/1, kept for the next request; so many connections at most.
    Http1(Option<NonZeroU32>),
    /// HTTP/1, for one request that may change its protocol.
    Single,
    /// HTTP/2, shared by many requests.
    Http2(Manner),
}

/// The target of an attempt; `None` when the configuration cannot reach the region.
pub(super) fn target(
    attempt: &Attempt,
    exchange: &Exchange,
    settings: &Settings,
    upgrade: Upgrade,
) -> Option<Target> {
    let upstreams = &settings.tls.upstreams;
    match attempt.place {
        Place::Own => {
            let service = settings.config.services.get(&exchange.service)?;
            let trust = upstreams.service(&exchange.service);
            // Never without TLS where the configuration asks for it.
            (service.tls.is_some() == trust.is_some())
                .then(|| own(attempt, service, trust.cloned(), &exchange.timeouts))
        }
        Place::Peer => {
            Some(forward(attempt, &exchange.timeouts, upstreams.region(&attempt.region)?, upgrade))
        }
    }
}

fn own(attempt: &Attempt, service: &Service, trust: Option<Arc<Trust>>, timeouts: &Timeouts) -> Target {
    let Timeouts { connect, first_byte, between_bytes, .. } = *timeouts;
    let goal = Goal { address: attempt.endpoint.endpoint().address(), trust };
    let way = match service.protocol {
        UpstreamProtocol::Http1 => Way::Http1(service.connections_max),
        UpstreamProtocol::Http2 => Way::Http2(SERVICE),
    };
    Target { goal, region: None, way, dial: connect, connect, first_byte, between_bytes }
}

/// HTTP/2 carries many requests, trailers among them, over one verified
/// connection; an upgrade needs HTTP/1.1.
fn forward(attempt: &Attempt, timeouts: &Timeouts, trust: &Arc<Trust>, upgrade: Upgrade) -> Target {
    let goal = Goal { address: attempt.endpoint.endpoint().address(), trust: Some(Arc::clone(trust)) };
    // TCP and TLS take turns across the distance.
    let connect = timeouts.connect * 2;
    let way = match upgrade {
        Upgrade::Asked => Way::Single,
        Upgrade::No => Way::Http2(PEER),
    };
    // The peer gives up on its service first, so that its answer arrives, not our timeout.
    let (first_byte, between_bytes) = (timeouts.first_byte + connect, timeouts.between_bytes + connect);
    let region = Some(attempt.region.clone());
    Target { goal, region, way, dial: timeouts.connect, connect, first_byte, between_bytes }
}

/// The head of an answer.
#[derive(Debug)]
pub(super) enum Head {
    /// An interim one; another follows.
    Informational(response::Parts),
    Final {
        parts: response::Parts,
        framing: Framing,
    },
    /// 101: from here on the connection speaks another protocol.
    Switching {
        parts: response::Parts,
        upgrade: Option<HeaderValue>,
    },
}

/// Why an attempt has no (whole) answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UpstreamError {
    /// No connection; nothing was sent.
    Connect,
    /// No connection that could be trusted, or none that trusts this edge; nothing was sent.
    Distrusted(Distrust),
    /// No connection: the endpoint has as many as it may.
    Busy,
    /// No connection for a reason of this process: no descriptors, no address.
    Local,
    /// Sent, but not processed.
    Unprocessed,
    /// The connection ended or broke.
    Closed,
    Timeout,
    /// The time for the whole request is over.
    Deadline,
    /// Not HTTP/1 as it has to be.
    Malformed(Malformed),
    /// HTTP, but not an answer to what was asked.
    Nonsense,
}

impl UpstreamError {
    /// What it says of the attempt; `None`: nothing.
    pub(super) const fn failure(self) -> Option<Failure> {
        Some(match self {
            Self::Local => return None,
            Self::Connect | Self::Distrusted(_) => Failure::Connect,
            Self::Busy => Failure::Busy,
            Self::Unprocessed => Failure::Unprocessed,
            Self::Closed => Failure::Closed,
            Self::Timeout => Failure::Timeout,
            Self::Deadline => Failure::Deadline,
            Self::Malformed(_) | Self::Nonsense => Failure::Malformed,
        })
    }
}

/// Where connections to upstreams come from.
#[derive(Debug)]
pub(super) struct Upstreams {
    pool: pool::Pool,
    shared: shared::Shared,
    seats: seats::Seats,
    samples: Arc<Samples>,
}

/// A connection that waits for a request.
pub(super) enum Open {
    Http1 {
        conn: Conn,
        /// It has carried a request before.
        reused: bool,
        /// Where it may wait for the next one.
        home: Option<Key>,
    },
    Http2 {
        claim: Claim,
        sender: SendRequest<Bytes>,
        encrypted: bool,
        /// The connection carries other requests, or has.
        reused: bool,
    },
}

impl Open {
    /// Whether the connection was made for this request.
    pub(super) const fn is_new(&self) -> bool {
        matches!(self, Self::Http1 { reused: false, .. } | Self::Http2 { reused: false, .. })
    }
}

impl Upstreams {
    pub(super) fn new(samples: Arc<Samples>) -> Self {
        let (pool, shared, seats) = Default::default();
        Self { pool, shared, seats, samples }
    }

    /// Closes idle connections whose time is up; never returns.
    pub(super) async fn sweep(&self) {
        tokio::join!(self.pool.sweep(), self.shared.sweep(), self.seats.sweep());
    }

    /// A kept HTTP/1 connection to the target.
    pub(super) fn kept(&self, target: &Target) -> Option<Open> {
        let Way::Http1(_) = target.way else { return None };
        let home = target.goal.key();
        let conn = self.pool.take(home)?;
        Some(Open::Http1 { conn, reused: true, home: Some(home) })
    }

    /// A connection to the target: a new one if HTTP/1, a stream of a shared one if HTTP/2.
    ///
    /// # Errors
    /// `Connect`, `Distrusted`, `Busy` or `Local`.
    pub(super) async fn open(&self, target: &Target) -> Result<Open, UpstreamError> {
        let Target { goal, region, way, dial, connect, .. } = target;
        match way {
            Way::Http1(most) => {
                let home = goal.key();
                let seat = || self.seats.take(home.address, *most);
                // One that was not good enough to be used makes room at least.
                let seat = seat().or_else(|| {
                    self.pool.take(home).and_then(|old| {
                        drop(old);
                        seat()
                    })
                });
                let seat = seat.ok_or(UpstreamError::Busy)?;
                let stream = timeout(*connect, goal.connect(Speech::Http1, *dial)).await;
                let conn = Conn::counted(stream.map_err(|_| UpstreamError::Connect)??, seat);
                Ok(Open::Http1 { conn, reused: false, home: Some(home) })
            }
            Way::Single => {
                let stream = timeout(*connect, goal.connect(Speech::Http1, *dial)).await;
                let conn = Conn::new(stream.map_err(|_| UpstreamError::Connect)??);
                Ok(Open::Http1 { conn, reused: false, home: None })
            }
            Way::Http2(manner) => {
                let samples = || Arc::clone(&self.samples);
                let watched = region.clone().map(|region| RoundTrips { region, samples: samples() });
                let open = timeout(*connect, self.stream(goal, *dial, *manner, watched)).await;
                open.map_err(|_| UpstreamError::Connect)?
            }
        }
    }

    /// A place on a shared connection.
    async fn stream(
        &self,
        goal: &Goal,
        dial: Duration,
        manner: Manner,
        watched: Option<RoundTrips>,
    ) -> Result<Open, UpstreamError> {
        let (key, encrypted) = (goal.key(), goal.trust.is_some());
        // Ends: a connection that takes no stream any more is not claimed again.
        let making = loop {
            match self.shared.claim(key).await {
                Err(making) => break making,
                Ok(claim) => {
                    if let Some(sender) = claim.ready().await {
                        return Ok(Open::Http2 { claim, sender, encrypted, reused: true });
                    }
                }
            }
        };
        let stream = goal.connect(Speech::Http2, dial).await?;
        let claim = self.shared.begin(key, stream, manner, watched).await?;
        drop(making);
        let sender = claim.ready().await.ok_or(UpstreamError::Connect)?;
        Ok(Open::Http2 { claim, sender, encrypted, reused: false })
    }

    /// Takes back what an exchange has left.
    pub(super) fn finish(&self, upstream: Upstream) {
        match upstream {
            Upstream::H1 { exchange, home } => {
                if let (Some(conn), Some(home)) = (exchange.into_idle(), home) {
                    self.pool.put(home, conn);
                }
            }
            Upstream::H2(exchange) => drop(exchange),
        }
    }
}

/// An exchange with an upstream.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the common one: a box would cost each request an allocation"
)]
pub(super) enum Upstream {
    H1 { exchange: h1::Exchange, home: Option<Key> },
    H2(Box<h2::Exchange>),
}

impl Upstream {
    pub(super) fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        match self {
            Self::H1 { exchange, .. } => exchange.poll_room(context),
            Self::H2(exchange) => exchange.poll_room(context),
        }
    }

    pub(super) fn put(&mut self, piece: Piece) -> Result<(), UpstreamError> {
        match self {
            Self::H1 { exchange, .. } => exchange.put(piece),
            Self::H2(exchange) => exchange.put(piece),
        }
    }

    /// Everything that was put is on its way.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        match self {
            Self::H1 { exchange, .. } => exchange.poll_flush(context),
            Self::H2(exchange) => exchange.poll_room(context),
        }
    }

    /// It was waited for too long: where others share its connection, no more are to.
    pub(super) fn doubt(&self) {
        if let Self::H2(exchange) = self {
            exchange.doubt();
        }
    }

    /// Whether any byte of an answer has come.
    pub(super) fn answered(&self) -> bool {
        match self {
            Self::H1 { exchange, .. } => exchange.answered(),
            Self::H2(exchange) => exchange.answered(),
        }
    }

    pub(super) fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Head, UpstreamError>> {
        match self {
            Self::H1 { exchange, .. } => exchange.poll_head(context),
            Self::H2(exchange) => exchange.poll_head(context),
        }
    }

    pub(super) fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece, UpstreamError>> {
        match self {
            Self::H1 { exchange, .. } => exchange.poll_body(context),
            Self::H2(exchange) => exchange.poll_body(context),
        }
    }
}
