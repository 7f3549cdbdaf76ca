//! One connection: protocol detection, TLS, and the loop over its requests.
//!
//! Every wait for the other side has a deadline of ours. A connection that
//! waits for a request is closed as soon as the edge closes; one in a request
//! finishes it.

use crate::access_log::Tls;
use crate::config::ListenerLimits;
use crate::metrics::request::{ListenerKind, Message};
use crate::proxy::Shared;
use crate::proxy::door::{self, Door, Inside, Refusal};
use crate::proxy::errors::{self, Style};
use crate::proxy::h1::Scan;
use crate::proxy::headers;
use crate::proxy::io::{Conn, Timer};
use crate::proxy::pipeline::Pipeline;
use crate::proxy::session::Downstream;
use crate::proxy::session::h1::{self as session, Closed, Next, Patience, Request};
use crate::proxy::tls::{Handshaken, ServerTls};
use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, Response, StatusCode, Uri, response};
use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::stream::Stream as TcpIo;
use pingora::protocols::{ALPN, Ssl, Stream};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::debug;

mod http2;

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
    /// The client's, as the PROXY header tells it where one is read.
    pub(super) remote: SocketAddr,
    pub(super) tls: Option<Arc<Tls>>,
    deadlines: Deadlines,
    certificate: Option<Shown>,
}

impl Connection {
    fn scheme(&self) -> Scheme {
        if self.kind == ListenerKind::Http { Scheme::HTTP } else { Scheme::HTTPS }
    }

    /// Whether a request is for a host of another certificate than the one shown here: whom that one
    /// asks for a certificate of theirs could otherwise come in by this one. RFC 9110, section 15.5.20.
    pub(super) fn misdirects(&self, uri: &Uri) -> bool {
        let (Some(shown), Some(host)) = (&self.certificate, uri.host()) else { return false };
        shown.by.entry(host) != shown.entry
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
    /// Serves a connection to its end.
    pub(super) async fn serve(&self, tcp: TcpStream, socket: SocketAddr, door: &Door, inside: Inside) {
        let kind = door.kind;
        let _guard = self.shared.connection(kind);
        let mut arrived = Arrived { tcp, remote: socket, inside };
        if let Err(e) = arrived.tcp.set_nodelay(true) {
            debug!(remote = %socket, error = %e, "the connection ended at once");
            return;
        }
        if door.reads_header() && !Box::pin(self.header(door, &mut arrived)).await {
            return;
        }
        let Arrived { tcp, remote, inside: _inside } = arrived;
        let Some(begun) = self.begin(tcp, remote, door).await else { return };
        let Begun { stream, version, tls, certificate } = begun;
        let connection = Arc::new(Connection { kind, remote, tls, deadlines: door.deadlines, certificate });
        match version {
            // What an idle connection costs is the size of this future.
            Version::Http1 => self.http1(stream, &connection).await,
            Version::Http2 => Box::pin(self.http2(stream, &connection)).await,
        }
    }

    /// Takes the PROXY header and believes it; `false`: the connection is not to be served.
    async fn header(&self, door: &Door, arrived: &mut Arrived) -> bool {
        let socket = arrived.remote;
        let read = tokio::select! {
            biased;
            read = timeout(door.deadlines.handshake, door::header(&mut arrived.tcp)) => read,
            () = self.closed(door.deadlines.first_head_closing) => return false,
        };
        let refusal = match read {
            Ok(Ok(Ok(header))) => {
                arrived.remote = header.addresses.map_or(socket, |addresses| addresses.source);
                if let Some(endpoint) = header.facts.vpc_endpoint {
                    debug!(remote = %arrived.remote, endpoint, "a client came through a VPC endpoint");
                }
                match arrived.inside.name(arrived.remote.ip()) {
                    Ok(()) => return true,
                    Err(refusal) => refusal,
                }
            }
            Ok(Ok(Err(malformed))) => Refusal::Malformed(malformed),
            Ok(Err(error)) => {
                // Load balancers look whether the port is open.
                debug!(%socket, %error, "left before a PROXY header was whole");
                return false;
            }
            Err(_) => Refusal::Late,
        };
        door.refuse(refusal);
        debug!(%socket, ?refusal, "refused");
        false
    }

    /// The stream to speak HTTP on; `None`: the client left or was too slow.
    async fn begin(&self, tcp: TcpStream, remote: SocketAddr, door: &Door) -> Option<Begun> {
        match door.kind {
            ListenerKind::Http => {
                let version = self.sniff(&tcp, &door.deadlines).await?;
                Some(Begun { stream: Box::new(TcpIo::from(tcp)), version, tls: None, certificate: None })
            }
            ListenerKind::Https => {
                let server = self.shared.settings.load().tls.clients.clone()?;
                Box::pin(self.handshake(client(server, tcp), remote, door)).await
            }
            ListenerKind::Peer => {
                let acceptor = self.shared.settings.load().tls.peers.clone()?;
                Box::pin(self.handshake(peer(acceptor, tcp), remote, door)).await
            }
        }
    }

    /// A handshake in time.
    async fn handshake(
        &self,
        handshake: impl Future<Output = Result<Begun, String>>,
        remote: SocketAddr,
        door: &Door,
    ) -> Option<Begun> {
        let error = match timeout(door.deadlines.handshake, handshake).await {
            Ok(Ok(begun)) => return Some(begun),
            Ok(Err(error)) => error,
            Err(_) => "timed out".to_owned(),
        };
        self.shared.wiring.metrics.handshake_failures(door.kind).inc();
        debug!(%remote, error, "TLS handshake failed");
        None
    }

    /// Waits for the first bytes and tells HTTP/2 by prior knowledge from HTTP/1.
    async fn sniff(&self, tcp: &TcpStream, deadlines: &Deadlines) -> Option<Version> {
        tokio::select! {
            biased;
            version = timeout(deadlines.first_head, sniff(tcp)) => version.ok().flatten(),
            () = self.closed(deadlines.first_head_closing) => None,
        }
    }

    /// The loop over the requests of an HTTP/1 connection.
    async fn http1(&self, stream: Stream, connection: &Connection) {
        let Deadlines { first_head, first_head_closing, idle, .. } = connection.deadlines;
        let scheme = connection.scheme();
        let (mut conn, mut timer) = (Conn::new(stream), Timer::default());
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
            match session::next(&mut conn, &mut scan, &scheme, patience, &mut timer, &mut closed).await {
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
                    debug!(remote = %connection.remote, reason = malformed.as_str(), "a malformed request");
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
    tcp: TcpStream,
    remote: SocketAddr,
    inside: Inside,
}

/// A connection on which HTTP can be spoken.
struct Begun {
    stream: Stream,
    version: Version,
    tls: Option<Arc<Tls>>,
    certificate: Option<Shown>,
}

/// The certificate that a client was shown.
#[derive(Debug)]
struct Shown {
    by: Arc<ServerTls>,
    entry: usize,
}

/// A client's handshake.
async fn client(server: Arc<ServerTls>, tcp: TcpStream) -> Result<Begun, String> {
    let Handshaken { stream, entry, http2, tls } =
        server.accept(TcpIo::from(tcp)).await.map_err(|e| e.to_string())?;
    let version = if http2 { Version::Http2 } else { Version::Http1 };
    let certificate = Some(Shown { by: server, entry });
    Ok(Begun { stream: Box::new(stream), version, tls: Some(Arc::new(tls)), certificate })
}

/// The handshake of another region.
async fn peer(acceptor: Arc<Acceptor>, tcp: TcpStream) -> Result<Begun, String> {
    let stream = acceptor.tls_handshake(TcpIo::from(tcp)).await.map_err(|e| e.to_string())?;
    let http2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
    let version = if http2 { Version::Http2 } else { Version::Http1 };
    let tls = stream.get_ssl_digest().map(|digest| {
        let (version, cipher) = (digest.version.to_string(), digest.cipher.to_string());
        Arc::new(Tls {
            version,
            cipher,
            alpn: http2.then(|| "h2".to_owned()),
            server_name: None,
            client_subject: None,
        })
    });
    Ok(Begun { stream: Box::new(stream), version, tls, certificate: None })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// Looks at the first bytes without taking them; `None`: the client left.
///
/// Reading the whole preface at once would wait forever on a request shorter
/// than it.
async fn sniff(tcp: &TcpStream) -> Option<Version> {
    let mut bytes = [0; PREFACE.len()];
    let mut pause = Duration::from_millis(1);
    loop {
        let n = tcp.peek(&mut bytes).await.ok().filter(|n| *n > 0)?;
        if bytes[..n] != PREFACE[..n] {
            return Some(Version::Http1);
        }
        if n == PREFACE.len() {
            return Some(Version::Http2);
        }
        // Peeking returns at once while anything is there: give the rest time to come.
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests;
