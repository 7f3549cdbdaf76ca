//! From an attempt to a connection, and exchanges on it.
//!
//! Plain HTTP/1 to services is ours, with a pool of our own. HTTP/2 and
//! everything over TLS are connections of Pingora's.

use crate::config::{PeerAddress, UpstreamProtocol};
use crate::domain::snapshot::Place;
use crate::proxy::attempts::{Attempt, Failure};
use crate::proxy::h1::{Framing, Malformed};
use crate::proxy::io::Conn;
use crate::proxy::policy::{Exchange, Timeouts};
use crate::proxy::session::Piece;
use crate::proxy::settings::Settings;
use crate::proxy::tls::PeerIdentity;
use http::{HeaderValue, response};
use pingora::connectors::TransportConnector;
use pingora::connectors::http::v2::Connector;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v2::client::Http2Session;
use pingora::protocols::l4::stream::Stream as TcpIo;
use pingora::upstreams::peer::{ALPN, HttpPeer};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(super) mod h1;
pub(super) mod h2;
mod pool;

/// Idle HTTP/2 connections to a service.
const SERVICE_IDLE: Duration = Duration::from_secs(4);
/// Idle connections to a region; its peer listener keeps them twice as long.
const PEER_IDLE: Duration = Duration::from_secs(30);
/// A silent region is noticed on a connection that has requests in flight.
const PEER_PING: Duration = Duration::from_secs(2);
/// Streams on one HTTP/2 connection; the common limit of servers.
const STREAMS_MAX: usize = 100;
/// Flow control windows that carry 100 MB/s over 40 ms, or 40 MB/s over 100 ms.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// What kind of HTTP/2 connections may be shared; Pingora's own key leaves ALPN and CA out.
#[derive(Debug, Clone, Copy)]
enum Shared {
    Service = 0,
    Peer = 1,
}

impl Shared {
    /// Connections verified by one set of files never serve under another: the generation counts them.
    fn key(self, generation: u64) -> u64 {
        generation << 1 | self as u64
    }
}

/// Whether the request asks to become another protocol (WebSocket).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upgrade {
    Asked,
    No,
}

/// Where an attempt goes, and how long it is waited for.
#[derive(Debug, Clone)]
pub(super) struct Target {
    way: Way,
    connect: Duration,
    /// From the end of the request to the head of the answer.
    pub(super) first_byte: Duration,
    /// Between two pieces of the answer.
    pub(super) between_bytes: Duration,
}

#[derive(Debug, Clone)]
enum Way {
    /// HTTP/1 to a service.
    Plain(SocketAddr),
    /// HTTP/1 over TLS to a region, for one request that may change its protocol.
    Single(Box<HttpPeer>),
    /// HTTP/2, shared by many requests.
    Http2(Box<HttpPeer>),
}

/// The target of an attempt; `None` when the configuration cannot reach the region.
pub(super) fn target(
    attempt: &Attempt,
    exchange: &Exchange,
    settings: &Settings,
    upgrade: Upgrade,
) -> Option<Target> {
    match attempt.place {
        Place::Own => {
            let service = settings.config.services.get(&exchange.service)?;
            Some(own(attempt, service.protocol, &exchange.timeouts))
        }
        Place::Peer => {
            let region = settings.config.regions.get(&attempt.region)?.peer.as_ref()?;
            let identity = settings.peer.as_ref()?;
            Some(forward(attempt, &exchange.timeouts, (region, identity), upgrade, settings.generation))
        }
    }
}

fn own(attempt: &Attempt, protocol: UpstreamProtocol, timeouts: &Timeouts) -> Target {
    let Timeouts { connect, first_byte, between_bytes, .. } = *timeouts;
    let address = attempt.endpoint.endpoint().address();
    let way = match protocol {
        UpstreamProtocol::Http1 => Way::Plain(address),
        UpstreamProtocol::Http2 => {
            let mut peer = HttpPeer::new(address, false, String::new());
            // No file decides about these connections: they outlive reloads.
            http2(&mut peer, Shared::Service.key(0), connect);
            peer.options.idle_timeout = Some(SERVICE_IDLE);
            Way::Http2(Box::new(peer))
        }
    };
    Target { way, connect, first_byte, between_bytes }
}

/// HTTP/2 carries many requests, trailers among them, over one verified
/// connection; an upgrade needs HTTP/1.1.
fn forward(
    attempt: &Attempt,
    timeouts: &Timeouts,
    (region, identity): (&PeerAddress, &PeerIdentity),
    upgrade: Upgrade,
    generation: u64,
) -> Target {
    let address = attempt.endpoint.endpoint().address();
    let mut peer = HttpPeer::new_mtls(address, region.server_name.clone(), identity.certificate.clone());
    peer.options.ca = Some(identity.roots.clone());
    // TCP and TLS take turns across the distance.
    let connect = timeouts.connect * 2;
    let way = match upgrade {
        Upgrade::Asked => {
            peer.options.alpn = ALPN::H1;
            connecting(&mut peer, timeouts.connect);
            Way::Single(Box::new(peer))
        }
        Upgrade::No => {
            http2(&mut peer, Shared::Peer.key(generation), timeouts.connect);
            peer.options.idle_timeout = Some(PEER_IDLE);
            peer.options.h2_ping_interval = Some(PEER_PING);
            Way::Http2(Box::new(peer))
        }
    };
    // The peer gives up on its service first, so that its answer arrives, not our timeout.
    let (first_byte, between_bytes) = (timeouts.first_byte + connect, timeouts.between_bytes + connect);
    Target { way, connect, first_byte, between_bytes }
}

fn connecting(peer: &mut HttpPeer, patience: Duration) {
    peer.options.connection_timeout = Some(patience);
    peer.options.total_connection_timeout = Some(patience * 2);
}

fn http2(peer: &mut HttpPeer, group: u64, patience: Duration) {
    connecting(peer, patience);
    peer.options.set_http_version(2, 2);
    peer.options.max_h2_streams = STREAMS_MAX;
    peer.options.h2_stream_window_size = Some(STREAM_WINDOW_BYTES);
    peer.options.h2_connection_window_size = Some(CONNECTION_WINDOW_BYTES);
    peer.group_key = group;
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
            Self::Connect => Failure::Connect,
            Self::Unprocessed => Failure::Unprocessed,
            Self::Closed => Failure::Closed,
            Self::Timeout => Failure::Timeout,
            Self::Deadline => Failure::Deadline,
            Self::Malformed(_) | Self::Nonsense => Failure::Malformed,
        })
    }
}

/// Where connections to upstreams come from.
pub(super) struct Upstreams {
    pool: pool::Pool,
    http2: Connector,
    tls: TransportConnector,
}

/// A connection that waits for a request.
pub(super) enum Open {
    Http1 {
        conn: Conn,
        /// It has carried a request before.
        reused: bool,
        /// Where it may wait for the next one.
        home: Option<SocketAddr>,
    },
    Http2 {
        session: Box<Http2Session>,
        peer: Box<HttpPeer>,
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
    pub(super) fn new() -> Self {
        Self { pool: pool::Pool::default(), http2: Connector::new(None), tls: TransportConnector::new(None) }
    }

    /// Closes idle connections whose time is up; never returns.
    pub(super) async fn sweep(&self) {
        self.pool.sweep().await;
    }

    /// A kept HTTP/1 connection to the target.
    pub(super) fn kept(&self, target: &Target) -> Option<Open> {
        let Way::Plain(address) = target.way else { return None };
        let conn = self.pool.take(address)?;
        Some(Open::Http1 { conn, reused: true, home: Some(address) })
    }

    /// A connection to the target: a new one if HTTP/1, a stream of a shared one if HTTP/2.
    ///
    /// # Errors
    /// `Connect` or `Local`.
    pub(super) async fn open(&self, target: &Target) -> Result<Open, UpstreamError> {
        match &target.way {
            Way::Plain(address) => {
                let conn = plain(*address, target.connect).await?;
                Ok(Open::Http1 { conn, reused: false, home: Some(*address) })
            }
            Way::Single(peer) => match self.tls.new_stream(peer.as_ref()).await {
                Ok(stream) => Ok(Open::Http1 { conn: Conn::new(stream), reused: false, home: None }),
                Err(e) => Err(unconnected(&e)),
            },
            Way::Http2(peer) => {
                let session = timeout(target.connect, self.stream(peer)).await;
                let (session, reused) = session.map_err(|_| UpstreamError::Connect)??;
                Ok(Open::Http2 { session: Box::new(session), peer: peer.clone(), reused })
            }
        }
    }

    /// A stream of a shared connection, and whether that was there before.
    async fn stream(&self, peer: &HttpPeer) -> Result<(Http2Session, bool), UpstreamError> {
        // One that cannot take a stream any more is no reason to fail.
        if let Ok(Some(session)) = self.http2.reused_http_session(peer).await {
            return Ok((session, true));
        }
        match self.http2.new_http_session::<HttpPeer, ()>(peer).await {
            Ok(HttpSession::H2(session)) => Ok((session, false)),
            Ok(_) => Err(UpstreamError::Connect),
            Err(e) => Err(unconnected(&e)),
        }
    }

    /// Takes back what an exchange has left.
    pub(super) fn finish(&self, upstream: Upstream) {
        match upstream {
            Upstream::H1 { exchange, home } => {
                if let (Some(conn), Some(home)) = (exchange.into_idle(), home) {
                    self.pool.put(home, conn);
                }
            }
            Upstream::H2(exchange) => exchange.finish(&self.http2),
        }
    }
}

async fn plain(address: SocketAddr, patience: Duration) -> Result<Conn, UpstreamError> {
    let tcp = match timeout(patience, TcpStream::connect(address)).await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(e)) if is_local(&e) => return Err(UpstreamError::Local),
        Ok(Err(_)) | Err(_) => return Err(UpstreamError::Connect),
    };
    tcp.set_nodelay(true).map_err(|_| UpstreamError::Connect)?;
    Ok(Conn::new(Box::new(TcpIo::from(tcp))))
}

/// Reasons of this process, not of the other side.
fn is_local(error: &std::io::Error) -> bool {
    // ENFILE and EMFILE have no kind of their own.
    matches!(error.raw_os_error(), Some(23 | 24)) || error.kind() == ErrorKind::AddrNotAvailable
}

fn unconnected(error: &pingora::Error) -> UpstreamError {
    use pingora::ErrorType as E;
    match error.etype() {
        E::BindError | E::SocketError | E::InternalError => UpstreamError::Local,
        _ => UpstreamError::Connect,
    }
}

/// An exchange with an upstream.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the common one: a box would cost each request an allocation"
)]
pub(super) enum Upstream {
    H1 { exchange: h1::Exchange, home: Option<SocketAddr> },
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
