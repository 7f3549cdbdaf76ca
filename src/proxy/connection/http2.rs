//! The loop over the streams of an HTTP/2 connection.

use super::{Connection, Server, refusal, until_closed};
use crate::metrics::request::Message;
use crate::proxy::io::Timer;
use crate::proxy::pipeline::Pipeline;
use crate::proxy::session::{Downstream, h2 as session};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response, StatusCode};
use pingora::protocols::Stream;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options, handshake};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

/// Flow control windows that carry an upload of 10 MB/s over 100 ms a stream.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Bytes of an answer that wait in a stream for its window.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// Bytes of a head, decoded; as for HTTP/1.
const HEAD_BYTES: u32 = 32 * 1024;
/// Resets by the client of streams that were not taken up yet, and of ours because it broke a rule;
/// more of them end the connection (CVE-2023-44487, CVE-2025-8671).
const RESETS_MAX: usize = 20;
/// Streams that were reset and are still known, and for how long: what is on its way to them, when an upload is
/// answered before it has come, breaks no rule. A window of 1 MiB takes eight seconds at 1 Mbit/s.
const KNOWN_MAX: usize = 1024;
const KNOWN: Duration = Duration::from_secs(10);
/// Requests that break the rules before the connection is ended.
const MALFORMED_MAX: u32 = 32;

fn options() -> H2Options {
    let mut options = default_h2_options();
    options
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEAD_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_concurrent_reset_streams(KNOWN_MAX)
        .reset_stream_duration(KNOWN)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(Some(RESETS_MAX));
    options
}

impl Server {
    /// Serves streams until the client leaves, asks nothing for long, or the edge closes.
    ///
    /// When it closes, the client is told by GOAWAY, and what it has asked is answered.
    pub(super) async fn http2(&self, stream: Stream, connection: &Arc<Connection>) {
        let begun = timeout(connection.deadlines.first_head, handshake(stream, Some(options()))).await;
        let mut conn = match begun {
            Ok(Ok(conn)) => conn,
            Ok(Err(error)) => return debug!(remote = %connection.remote, %error, "no HTTP/2"),
            Err(_) => return debug!(remote = %connection.remote, "HTTP/2 did not begin in time"),
        };
        let mut streams = JoinSet::new();
        let mut closed = std::pin::pin!(until_closed(self.closing.clone()));
        let (mut closing, mut malformed) = (false, 0);
        let mut idle_until = Instant::now() + connection.deadlines.idle;
        loop {
            tokio::select! {
                biased;
                () = &mut closed, if !closing => {
                    closing = true;
                    conn.graceful_shutdown();
                    idle_until = Instant::now() + connection.deadlines.first_head_closing;
                }
                accepted = conn.accept() => match accepted {
                    Some(Ok((request, respond))) => {
                        malformed += u32::from(!self.stream(request, respond, connection, &mut streams));
                        if malformed > MALFORMED_MAX {
                            conn.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                        }
                    }
                    Some(Err(error)) => {
                        debug!(remote = %connection.remote, %error, "an HTTP/2 connection broke");
                        break;
                    }
                    None => break,
                },
                Some(_) = streams.join_next() => {
                    let patience =
                        if closing { connection.deadlines.first_head_closing } else { connection.deadlines.idle };
                    idle_until = Instant::now() + patience;
                }
                () = sleep_until(idle_until), if streams.is_empty() => {
                    if closing {
                        break;
                    }
                    // As at the end of the edge: a request may be on its way.
                    closing = true;
                    conn.graceful_shutdown();
                    idle_until = Instant::now() + connection.deadlines.first_head_closing;
                }
            }
        }
        // Streams of a broken connection notice it themselves and tell what they have learned.
        while streams.join_next().await.is_some() {}
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
        match session::head(parts, &body, &connection.scheme()) {
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
                debug!(remote = %connection.remote, reason = malformed.as_str(), "a malformed request");
                if let Err(error) = refuse(&mut respond, malformed.status()) {
                    debug!(%error, "it could not be told");
                }
                false
            }
        }
    }
}

fn refuse(respond: &mut SendResponse<Bytes>, status: StatusCode) -> Result<(), h2::Error> {
    let (parts, body) = refusal(status);
    respond.send_response(Response::from_parts(parts, ()), false)?.send_data(body, true)
}
