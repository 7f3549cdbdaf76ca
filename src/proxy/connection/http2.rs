//! The loop over the streams of an HTTP/2 connection.

use super::frames::Cut;
use super::meter::{Meter, Seen};
use super::{Connection, Deadlines, Server, refusal, until_closed};
use crate::metrics::moves::Kind;
use crate::metrics::request::{ListenerKind, Message};
use crate::proxy::door::Bounds;
use crate::proxy::io::{Conn, Timer};
use crate::proxy::pipeline::Pipeline;
use crate::proxy::session::{Downstream, h2 as session};
use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::{Request, Response, StatusCode};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

/// Flow control windows that carry an upload of 10 MB/s over 100 ms a stream.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// A region's connection is that of many clients: uploads that a service does not take must not stop the others.
const PEER_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
/// What h2 lets wait in small frames, each counted as 256 bytes, before it takes them for a flood.
const FRAME_BUDGET_BYTES: usize = 16 * 1024 * 1024;
const PEER_FRAME_BUDGET_BYTES: usize = 64 * 1024 * 1024;
/// Clients of another region may all leave at once, and its connection must not end with them.
const PEER_STREAMS_RESET: u32 = 1_000_000;
/// Bytes of an answer that wait in a stream for its window.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// Resets by the client of streams that were not taken up yet; more of them end the connection (CVE-2023-44487).
const RESETS_MAX: usize = 20;
/// Resets of ours because the client broke a rule, in a connection's whole life (CVE-2025-8671). Proxies keep
/// theirs for days, and a stream above `max_streams` counts here, too.
const FAULTS_MAX: usize = 128;
/// Streams that were reset and are still known, and for how long: what is on its way to them, when an upload is
/// answered before it has come, breaks no rule. A window of 1 MiB takes eight seconds at 1 Mbit/s.
const KNOWN_MAX: usize = 1024;
const KNOWN: Duration = Duration::from_secs(10);
/// Requests that break the rules before the connection is ended.
const MALFORMED_MAX: u32 = 32;
/// For the last word to a client whose connection is ended.
const FAREWELL: Duration = Duration::from_secs(1);

fn options(kind: ListenerKind, bounds: &Bounds) -> Builder {
    let mut options = Builder::new();
    let (window, budget) = match kind {
        ListenerKind::Peer => (PEER_WINDOW_BYTES, PEER_FRAME_BUDGET_BYTES),
        ListenerKind::Http | ListenerKind::Https => (CONNECTION_WINDOW_BYTES, FRAME_BUDGET_BYTES),
    };
    options
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(window)
        .data_frame_budget(budget)
        .max_header_list_size(u32::try_from(bounds.head.head_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(bounds.max_streams)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_concurrent_reset_streams(KNOWN_MAX)
        .reset_stream_duration(KNOWN)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(Some(FAULTS_MAX));
    options
}

type Connected = h2::server::Connection<Meter, Bytes>;

/// Why no further stream comes.
enum Stop {
    /// The client asks for too much.
    Cut(Cut),
    Broken(h2::Error),
    End,
}

type Asked = (Request<RecvStream>, SendResponse<Bytes>);

fn poll_asked(conn: &mut Connected, seen: &Seen, context: &mut Context<'_>) -> Poll<Result<Asked, Stop>> {
    let accepted = conn.poll_accept(context);
    if let Some(cut) = seen.cut() {
        return Poll::Ready(Err(Stop::Cut(cut)));
    }
    accepted.map(|accepted| accepted.ok_or(Stop::End)?.map_err(Stop::Broken))
}

/// Which bound of the h2 crate a connection broke at; `None`: its client has left.
fn cut_of(error: &h2::Error) -> Option<Cut> {
    if !error.is_library() {
        return None;
    }
    let calm = error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
    Some(if calm { Cut::Calm } else { Cut::Protocol })
}

/// When a connection without streams has to go.
struct Idle {
    until: Instant,
    /// The client was told that it has to go.
    closing: bool,
    deadlines: Deadlines,
}

impl Idle {
    const fn patience(&self) -> Duration {
        if self.closing { self.deadlines.first_head_closing } else { self.deadlines.idle }
    }

    /// Something has come to its end at this time.
    fn since(&mut self, at: Instant) {
        self.until = at + self.patience();
    }
}

impl Server {
    /// Serves streams until the client leaves, asks nothing for long, or the edge closes.
    ///
    /// When it closes, the client is told by GOAWAY, and what it has asked is answered.
    pub(super) async fn http2(&self, conn: Conn, connection: &Arc<Connection>) {
        let (rules, remote) = (&connection.rules, connection.remote);
        let (stream, begun) = conn.into_parts();
        let given_up = match connection.kind {
            ListenerKind::Peer => PEER_STREAMS_RESET,
            ListenerKind::Http | ListenerKind::Https => rules.bounds.max_streams,
        };
        let meter = Meter::new(stream, begun, given_up);
        let seen = meter.seen();
        let handshake = options(connection.kind, &rules.bounds).handshake(meter);
        let mut conn = match timeout(rules.deadlines.first_head, handshake).await {
            Ok(Ok(conn)) => conn,
            Ok(Err(error)) => return debug!(?remote, %error, "no HTTP/2"),
            Err(_) => return debug!(?remote, "HTTP/2 did not begin in time"),
        };
        let mut streams = JoinSet::new();
        if let Some(cut) = self.streams(&mut conn, &seen, connection, &mut streams).await {
            connection.door.cut(cut);
            debug!(?remote, reason = cut.as_str(), "an HTTP/2 connection is ended");
            conn.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            if let Ok(Err(error)) = timeout(FAREWELL, poll_fn(|context| conn.poll_closed(context))).await {
                debug!(?remote, %error, "it could not be told");
            }
        }
        drop(conn);
        // Streams of a broken connection notice it themselves and tell what they have learned.
        while streams.join_next().await.is_some() {}
    }

    /// The loop over the streams; `Some`: the connection is to be ended.
    async fn streams(
        &self,
        conn: &mut Connected,
        seen: &Seen,
        connection: &Arc<Connection>,
        streams: &mut JoinSet<()>,
    ) -> Option<Cut> {
        let deadlines = connection.rules.deadlines;
        let mut closed = std::pin::pin!(until_closed(self.closing.clone()));
        let mut malformed = 0;
        let mut leaving: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = None;
        let mut idle = Idle { until: Instant::now() + deadlines.idle, closing: false, deadlines };
        loop {
            tokio::select! {
                biased;
                () = &mut closed, if !idle.closing => {
                    idle.closing = true;
                    conn.graceful_shutdown();
                    idle.since(Instant::now());
                }
                () = poll_fn(|context| poll_leaving(&mut leaving, context)), if !idle.closing => {
                    self.shared.wiring.metrics.moves.closed(Kind::Http2);
                    idle.closing = true;
                    conn.graceful_shutdown();
                    idle.since(Instant::now());
                }
                asked = poll_fn(|context| poll_asked(conn, seen, context)) => match asked {
                    Ok((request, respond)) => {
                        if leaving.is_none() {
                            leaving = self.left(connection, &request);
                        }
                        malformed += u32::from(!self.stream(request, respond, connection, streams));
                        if malformed > MALFORMED_MAX {
                            return Some(Cut::Malformed);
                        }
                    }
                    Err(Stop::Cut(cut)) => return Some(cut),
                    Err(Stop::Broken(error)) => {
                        debug!(remote = ?connection.remote, %error, "an HTTP/2 connection broke");
                        if let Some(cut) = cut_of(&error) {
                            connection.door.cut(cut);
                        }
                        return None;
                    }
                    Err(Stop::End) => return None,
                },
                Some(_) = streams.join_next() => idle.since(Instant::now()),
                () = sleep_until(idle.until), if streams.is_empty() => {
                    // The client may still read what its streams have left behind.
                    idle.since(seen.data_sent());
                    if idle.until > Instant::now() {
                        continue;
                    }
                    if idle.closing {
                        return None;
                    }
                    // As at the end of the edge: a request may be on its way.
                    idle.closing = true;
                    conn.graceful_shutdown();
                    idle.since(Instant::now());
                }
            }
        }
    }

    /// Ready when the connection is to go because its users are led to another region; which those
    /// are, its first request tells.
    fn left(
        &self,
        connection: &Connection,
        request: &Request<RecvStream>,
    ) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        if connection.kind == ListenerKind::Peer {
            return None;
        }
        let host = request.uri().host()?.to_owned();
        let (shared, lot) = (Arc::clone(&self.shared), connection.lot);
        Some(Box::pin(async move { shared.leaving.closed(&host, lot).await }))
    }

    /// Takes up a stream; `false`: it breaks the rules, and was told so.
    fn stream(
        &self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        connection: &Arc<Connection>,
        streams: &mut JoinSet<()>,
    ) -> bool {
        let (parts, body) = request.into_parts();
        match session::head(parts, &body, (&connection.scheme(), &connection.rules.bounds.head)) {
            Ok(head) => {
                let (pipeline, connection) = (Arc::clone(&self.pipeline), Arc::clone(connection));
                streams.spawn(async move {
                    let down = Downstream::H2(session::Request::new(&head, body, respond));
                    Pipeline::serve(&pipeline, &connection, down, head, &mut Timer::default()).await;
                });
                true
            }
            Err(malformed) => {
                self.shared.malformed(Message::Request, malformed);
                debug!(remote = ?connection.remote, reason = malformed.as_str(), "a malformed request");
                if let Err(error) = refuse(&mut respond, malformed.status()) {
                    debug!(%error, "it could not be told");
                }
                false
            }
        }
    }
}

fn poll_leaving(
    leaving: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    context: &mut Context<'_>,
) -> Poll<()> {
    leaving.as_mut().map_or(Poll::Pending, |leaving| leaving.as_mut().poll(context))
}

fn refuse(respond: &mut SendResponse<Bytes>, status: StatusCode) -> Result<(), h2::Error> {
    let (parts, body) = refusal(status);
    respond.send_response(Response::from_parts(parts, ()), false)?.send_data(body, true)
}
