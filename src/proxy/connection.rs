//! One connection: protocol detection, TLS, and the loop over its requests.
//!
//! Every wait for the other side has a deadline of ours. A connection that
//! waits for a request is closed as soon as the edge closes; one in a request
//! finishes it.

use crate::access_log::{Proxied, ProxiedTls, Tls};
use crate::config::ListenerLimits;
use crate::metrics::request::{ListenerKind, Message};
use crate::proxy::Shared;
use crate::proxy::door::{self, Door, Inside, Refusal, Rules};
use crate::proxy::errors::{self, Style};
use crate::proxy::h1::Scan;
use crate::proxy::headers;
use crate::proxy::io::{Conn, Timer};
use crate::proxy::pipeline::Pipeline;
use crate::proxy::policy::Proof;
use crate::proxy::proxy_protocol::Facts;
use crate::proxy::session::Downstream;
use crate::proxy::session::h1::{self as session, Closed, Next, Patience, Request};
use crate::proxy::tls::{Handshaken, PeerHandshaken, PeerTls, ServerTls};
use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, Response, StatusCode, Uri, response};
use pingora::protocols::l4::stream::Stream as Socket;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::debug;

mod frames;
mod http2;
mod meter;

pub(super) use frames::Cut;

/// How every HTTP/2 connection begins. Source: RFC 9113 section 3.4.
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long the other side is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// From a connection to the end of its first request's head.
    first_head: Duration,
    /// The same once the edge closes: a client that has just connected is about to send.
    first_head_closing: Duration,
    /// For a PROXY header, and for a TLS handshake.
    handshake: Duration,
    /// Between an answer and the end of the next request's head.
    idle: Duration,
}

impl Deadlines {
    pub(super) const fn new(limits: &ListenerLimits) -> Self {
        Self {
            first_head: limits.head_timeout,
            first_head_closing: Duration::from_secs(1),
            handshake: limits.handshake_timeout,
            idle: limits.idle_timeout,
        }
    }
}

/// Facts about a connection, for its requests.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) kind: ListenerKind,
    /// The client's, as the PROXY header tells it where one is read; `None`: a Unix socket has none.
    pub(super) remote: Option<SocketAddr>,
    pub(super) tls: Option<Arc<Tls>>,
    /// What a PROXY header says besides.
    pub(super) proxied: Option<Arc<Proxied>>,
    pub(super) door: Arc<Door>,
    /// Those of the door when it came in.
    pub(super) rules: Arc<Rules>,
    certificate: Option<Shown>,
    /// It comes from a pod of the own region, by its certificate.
    pub(super) sibling: bool,
    /// Drawn once, 0..1: which of many connections it is, when they are closed one after the other.
    pub(super) lot: f64,
}

impl Connection {
    fn scheme(&self) -> Scheme {
        if self.kind == ListenerKind::Http { Scheme::HTTP } else { Scheme::HTTPS }
    }

    /// Whether the client came by TLS, to this edge or to the load balancer that speaks for it.
    pub(super) fn is_secure(&self) -> bool {
        let balancer = || self.proxied.as_ref().is_some_and(|proxied| proxied.tls.is_some());
        self.kind != ListenerKind::Http || balancer()
    }

    /// Whether a request is for a host of another certificate than the one shown here, or for one that now
    /// wants a certificate of the client which was not asked for here: whoever has to show theirs could
    /// otherwise come in by another door. RFC 9110, section 15.5.20: it may ask again on a new connection.
    pub(super) fn misdirects(&self, uri: &Uri, now: Option<&ServerTls>) -> bool {
        let Some(shown) = &self.certificate else { return false };
        // HTTP/1.0 may leave it out: the default certificate's then.
        let host = uri.host().unwrap_or_default();
        shown.by.entry(host) != shown.entry || self.proof(uri, now) == Proof::Owed
    }

    /// Whether the client has proven who it is, as far as the host asks for it.
    pub(super) fn proof(&self, uri: &Uri, now: Option<&ServerTls>) -> Proof {
        if self.certificate.as_ref().is_some_and(|shown| shown.proven) {
            return Proof::Shown;
        }
        match now {
            Some(tls) if tls.is_closed(uri.host().unwrap_or_default()) => Proof::Owed,
            _ => Proof::None,
        }
    }
}

/// Serves connections; one for all listeners, so that they share one pool of upstream connections.
pub(super) struct Server {
    pub(super) shared: Arc<Shared>,
    pub(super) pipeline: Arc<Pipeline>,
    /// True once idle connections have to go.
    pub(super) closing: watch::Receiver<bool>,
}

impl Server {
    /// Serves a connection to its end; `remote`: `None` for a Unix socket.
    pub(super) async fn serve(
        &self,
        socket: Socket,
        remote: Option<SocketAddr>,
        door: Arc<Door>,
        inside: Inside,
    ) {
        let kind = door.kind;
        let _guard = self.shared.connection(kind);
        let rules = Arc::clone(&inside.rules);
        let mut arrived = Arrived { socket, remote, proxied: None, inside };
        if let Err(e) = arrived.socket.set_nodelay() {
            debug!(?remote, error = %e, "the connection ended at once");
            return;
        }
        if rules.reads_header() && !Box::pin(self.header(&door, &mut arrived)).await {
            return;
        }
        let Arrived { socket, remote, proxied, inside: _inside } = arrived;
        let Some(begun) = self.begin(socket, remote, (kind, &rules.deadlines)).await else { return };
        let Begun { conn, version, tls, certificate, sibling } = begun;
        let lot = rand::random();
        let connection =
            Arc::new(Connection { kind, remote, tls, proxied, door, rules, certificate, sibling, lot });
        match version {
            // What an idle connection costs is the size of this future.
            Version::Http1 => self.http1(conn, &connection).await,
            Version::Http2 => Box::pin(self.http2(conn, &connection)).await,
        }
    }

    /// Takes the PROXY header and believes it; `false`: the connection is not to be served.
    async fn header(&self, door: &Door, arrived: &mut Arrived) -> bool {
        let socket = arrived.remote;
        let deadlines = arrived.inside.rules.deadlines;
        let read = tokio::select! {
            biased;
            read = timeout(deadlines.handshake, door::header(&mut arrived.socket)) => read,
            () = self.closed(deadlines.first_head_closing) => return false,
        };
        let refusal = match read {
            Ok(Ok(Ok(header))) => {
                arrived.remote = header.addresses.map(|addresses| addresses.source).or(socket);
                arrived.proxied = proxied(header.facts).map(Arc::new);
                match arrived.inside.name(arrived.remote.map(|remote| remote.ip())) {
                    Ok(()) => return true,
                    Err(refusal) => refusal,
                }
            }
            Ok(Ok(Err(malformed))) => Refusal::Malformed(malformed),
            Ok(Err(error)) => {
                // Load balancers look whether the port is open.
                debug!(?socket, %error, "left before a PROXY header was whole");
                return false;
            }
            Err(_) => Refusal::Late,
        };
        door.refuse(refusal);
        debug!(?socket, ?refusal, "refused");
        false
    }

    /// The stream to speak HTTP on; `None`: the client left or was too slow.
    async fn begin(
        &self,
        socket: Socket,
        remote: Option<SocketAddr>,
        (kind, deadlines): (ListenerKind, &Deadlines),
    ) -> Option<Begun> {
        match kind {
            ListenerKind::Http => {
                let mut conn = Conn::new(Box::new(socket));
                let version = self.sniff(&mut conn, deadlines).await?;
                Some(Begun { conn, version, tls: None, certificate: None, sibling: false })
            }
            ListenerKind::Https => {
                let server = self.shared.settings.load().tls.clients.clone()?;
                Box::pin(self.handshake(client(server, socket), remote, (kind, deadlines))).await
            }
            ListenerKind::Peer => {
                let server = self.shared.settings.load().tls.peers.clone()?;
                Box::pin(self.handshake(peer(server, socket), remote, (kind, deadlines))).await
            }
        }
    }

    /// A handshake in time.
    async fn handshake(
        &self,
        handshake: impl Future<Output = Result<Begun, String>>,
        remote: Option<SocketAddr>,
        (kind, deadlines): (ListenerKind, &Deadlines),
    ) -> Option<Begun> {
        let error = match timeout(deadlines.handshake, handshake).await {
            Ok(Ok(begun)) => return Some(begun),
            Ok(Err(error)) => error,
            Err(_) => "timed out".to_owned(),
        };
        self.shared.wiring.metrics.handshake_failures(kind).inc();
        debug!(?remote, error, "TLS handshake failed");
        None
    }

    /// Waits for the first bytes and tells HTTP/2 by prior knowledge from HTTP/1.
    async fn sniff(&self, conn: &mut Conn, deadlines: &Deadlines) -> Option<Version> {
        tokio::select! {
            biased;
            version = timeout(deadlines.first_head, sniff(conn)) => version.ok().flatten(),
            () = self.closed(deadlines.first_head_closing) => None,
        }
    }

    /// The loop over the requests of an HTTP/1 connection.
    async fn http1(&self, mut conn: Conn, connection: &Connection) {
        let Deadlines { first_head, first_head_closing, idle, .. } = connection.rules.deadlines;
        let scheme = connection.scheme();
        let rules = (&scheme, &connection.rules.bounds.head);
        let mut timer = Timer::default();
        let mut scan = Scan::requests();
        let closing = self.closing.clone();
        let mut closed: Option<Closed> = Some(Box::pin(until_closed(closing)));
        let mut patience = Patience {
            first: first_head,
            head: first_head,
            closing: first_head_closing,
            closing_head: first_head_closing,
        };
        let refused = loop {
            match session::next(&mut conn, &mut scan, rules, patience, &mut timer, &mut closed).await {
                Next::Head(head) => {
                    let down = Downstream::H1(Request::new(&mut conn, &head));
                    if !Box::pin(self.pipeline.serve(connection, down, *head, &mut timer)).await {
                        break None;
                    }
                    conn.release();
                    patience = Patience { first: idle, closing: Duration::ZERO, ..patience };
                }
                Next::Malformed(malformed) => {
                    self.shared.malformed(Message::Request, malformed);
                    debug!(remote = ?connection.remote, reason = malformed.as_str(), "a malformed request");
                    break Some(malformed.status());
                }
                Next::Slow => break Some(StatusCode::REQUEST_TIMEOUT),
                Next::End => return,
            }
        };
        if let Some(status) = refused {
            let (parts, body) = refusal(status);
            session::refuse(&mut conn, &parts, &body);
        }
        Box::pin(conn.linger()).await;
    }

    /// Returns `grace` after the edge began to close.
    async fn closed(&self, grace: Duration) {
        until_closed(self.closing.clone()).await;
        sleep(grace).await;
    }
}

/// The answer to what was no request: nobody knows what its sender can read.
fn refusal(status: StatusCode) -> (response::Parts, Bytes) {
    let id = headers::request_id(&HeaderMap::new(), rand::random());
    let told = errors::tell(status, "the request breaks the rules of HTTP", &id, Style::Text);
    let mut parts = Response::new(()).into_parts().0;
    parts.status = told.status;
    parts.headers.extend(told.headers);
    (parts, told.body.into())
}

/// Ready once the edge closes; an error is a dropped sender, which is closing, too.
async fn until_closed(mut closing: watch::Receiver<bool>) {
    if closing.wait_for(|closing| *closing).await.is_err() {
        debug!("closing without a word");
    }
}

/// A connection of which only the socket is known, or what a PROXY header says.
struct Arrived {
    socket: Socket,
    remote: Option<SocketAddr>,
    proxied: Option<Arc<Proxied>>,
    inside: Inside,
}

/// A connection on which HTTP can be spoken.
struct Begun {
    conn: Conn,
    version: Version,
    tls: Option<Arc<Tls>>,
    certificate: Option<Shown>,
    sibling: bool,
}

/// The certificate that a client was shown.
#[derive(Debug)]
struct Shown {
    by: Arc<ServerTls>,
    entry: usize,
    /// The client has shown one, too.
    proven: bool,
}

/// A client's handshake.
async fn client(server: Arc<ServerTls>, socket: Socket) -> Result<Begun, String> {
    let handshaken = server.accept(socket).await.map_err(|e| e.to_string())?;
    let Handshaken { stream, entry, http2, proven, tls } = handshaken;
    let version = if http2 { Version::Http2 } else { Version::Http1 };
    let certificate = Some(Shown { by: server, entry, proven });
    let conn = Conn::new(Box::new(stream));
    Ok(Begun { conn, version, tls: Some(Arc::new(tls)), certificate, sibling: false })
}

/// The handshake of another region, or of another pod of this one.
async fn peer(server: Arc<PeerTls>, socket: Socket) -> Result<Begun, String> {
    let handshaken = server.accept(socket).await.map_err(|e| e.to_string())?;
    let PeerHandshaken { stream, http2, sibling, tls } = handshaken;
    let version = if http2 { Version::Http2 } else { Version::Http1 };
    let conn = Conn::new(Box::new(stream));
    Ok(Begun { conn, version, tls: Some(Arc::new(tls)), certificate: None, sibling })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// Reads the first bytes, as many as it takes to tell; `None`: the client left.
///
/// Waiting for the whole preface would take forever on a request shorter than it.
async fn sniff(conn: &mut Conn) -> Option<Version> {
    loop {
        poll_fn(|context| conn.poll_first(context)).await.ok().filter(|n| *n > 0)?;
        let n = conn.input.len().min(PREFACE.len());
        if conn.input[..n] != PREFACE[..n] {
            return Some(Version::Http1);
        }
        if n == PREFACE.len() {
            return Some(Version::Http2);
        }
    }
}

/// What of a PROXY header is told of a connection; `None`: nothing.
fn proxied(facts: Facts) -> Option<Proxied> {
    let Facts { authority, unique_id, vpc_endpoint, tls, .. } = facts;
    let tls = tls.map(|facts| ProxiedTls {
        version: facts.version,
        cipher: facts.cipher,
        common_name: facts.common_name.filter(|_| facts.verified),
    });
    let proxied = Proxied { vpc_endpoint, authority, unique_id, tls };
    (proxied != Proxied::default()).then_some(proxied)
}

#[cfg(test)]
mod tests;
