//! One exchange on an HTTP/2 connection: to another region, or to a service.
//!
//! Connections and their streams are Pingora's; what is sent and read is ours.
//! Interim answers do not come through: its session keeps them to itself.

use super::super::session::Piece;
use super::{Head, UpstreamError};
use crate::proxy::h1::Framing;
use bytes::Bytes;
use h2::{Reason, SendStream};
use http::{HeaderMap, request, response};
use pingora::connectors::http::v2::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::v2::client::Http2Session;
use pingora::upstreams::peer::{HttpPeer, Peer};
use std::task::{Context, Poll, ready};

/// A request on its way and its answer.
pub(in super::super) struct Exchange {
    session: Http2Session,
    peer: Box<HttpPeer>,
    /// `None`: the request is whole.
    send: Option<SendStream<Bytes>>,
    /// Of the body, waiting for the other side's window.
    pending: Option<Bytes>,
    head_read: bool,
    data_read: bool,
    answer_whole: bool,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Exchange").field("head_read", &self.head_read).finish_non_exhaustive()
    }
}

impl Exchange {
    /// Sends the head; `framing` tells whether a body follows.
    ///
    /// # Errors
    /// The head cannot be said in HTTP/2, or the connection is gone.
    pub(in super::super) fn begin(
        mut session: Http2Session,
        peer: Box<HttpPeer>,
        parts: request::Parts,
        framing: Framing,
    ) -> Result<Self, UpstreamError> {
        let end = matches!(framing, Framing::None | Framing::Length(0));
        let head = Box::new(RequestHeader::from(parts));
        session.write_request_header(head, end).map_err(|e| failed(&e))?;
        // With the head the request may be whole: nothing is sent on the stream then.
        let send = session.take_request_body_writer().filter(|_| !end);
        Ok(Self {
            session,
            peer,
            send,
            pending: None,
            head_read: false,
            data_read: false,
            answer_whole: false,
        })
    }

    /// Ready when another piece may be put.
    pub(in super::super) fn poll_room(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), UpstreamError>> {
        while let (Some(send), Some(pending)) = (&mut self.send, &mut self.pending) {
            send.reserve_capacity(pending.len());
            let Some(capacity) = ready!(send.poll_capacity(context)) else {
                return Poll::Ready(Err(UpstreamError::Closed));
            };
            let capacity = capacity.map_err(|e| of_h2(&e))?.min(pending.len());
            let part = pending.split_to(capacity);
            send.send_data(part, false).map_err(|e| of_h2(&e))?;
            if pending.is_empty() {
                self.pending = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes a piece of the request's body, after [`Exchange::poll_room`].
    pub(in super::super) fn put(&mut self, piece: Piece) -> Result<(), UpstreamError> {
        let Some(send) = &mut self.send else { return Ok(()) };
        match piece {
            Piece::Data(data) => self.pending = Some(data),
            Piece::Trailers(trailers) => {
                send.send_trailers(trailers).map_err(|e| of_h2(&e))?;
                self.send = None;
            }
            Piece::End => {
                send.send_data(Bytes::new(), true).map_err(|e| of_h2(&e))?;
                self.send = None;
            }
        }
        Ok(())
    }

    /// Whether the head of an answer has come.
    pub(in super::super) const fn answered(&self) -> bool {
        self.head_read
    }

    /// The head of the answer.
    pub(in super::super) fn poll_head(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Head, UpstreamError>> {
        if self.head_read {
            return Poll::Ready(Err(UpstreamError::Local));
        }
        let read = ready!(self.session.poll_read_response_header(context));
        self.head_read = true;
        read.map_err(|e| of_h2(&e))?;
        let Some(head) = self.session.response_header() else {
            return Poll::Ready(Err(UpstreamError::Local));
        };
        let mut parts = response::Response::new(()).into_parts().0;
        parts.status = head.status;
        parts.headers = head.headers.clone();
        let length = parts.headers.get(http::header::CONTENT_LENGTH);
        let framing = match length.and_then(|value| value.to_str().ok()?.parse().ok()) {
            Some(length) => Framing::Length(length),
            None if self.session.response_finished() => Framing::Length(0),
            None => Framing::Chunked,
        };
        Poll::Ready(Ok(Head::Final { parts, framing }))
    }

    /// The next piece of the answer's body.
    pub(in super::super) fn poll_body(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Piece, UpstreamError>> {
        if self.answer_whole {
            return Poll::Ready(Ok(Piece::End));
        }
        while !self.data_read {
            match ready!(self.session.poll_read_response_body(context)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => return Poll::Ready(Ok(Piece::Data(data))),
                Some(Err(e)) => return Poll::Ready(Err(of_h2(&e))),
                None => self.data_read = true,
            }
        }
        let trailers = ready!(self.poll_trailers(context))?;
        self.answer_whole = true;
        Poll::Ready(Ok(trailers.map_or(Piece::End, Piece::Trailers)))
    }

    /// Reading trailers keeps no state of its own, so asking anew is asking on.
    fn poll_trailers(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, UpstreamError>> {
        let reading = std::pin::pin!(self.session.read_trailers());
        reading.poll(context).map_err(|e| failed(&e))
    }

    /// Gives the stream back, if both directions are whole.
    pub(in super::super) fn finish(self, connector: &Connector) {
        if self.answer_whole && self.send.is_none() {
            let idle = self.peer.idle_timeout();
            connector.release_http_session(self.session, self.peer.as_ref(), idle);
        }
    }
}

/// What Pingora's error says of the attempt.
pub(super) fn failed(error: &pingora::Error) -> UpstreamError {
    use pingora::ErrorType as E;
    match error.etype() {
        E::ReadTimedout | E::WriteTimedout => UpstreamError::Timeout,
        E::InvalidHTTPHeader | E::InvalidH2 | E::H2Downgrade => UpstreamError::Nonsense,
        _ => error.root_cause().downcast_ref().map_or(UpstreamError::Closed, of_h2),
    }
}

/// RFC 9113 section 8.7: a refused stream was not processed.
///
/// A graceful GOAWAY says the same of later streams, but the error of a stream
/// that was processed when the connection then broke looks alike: it counts as closed.
fn of_h2(error: &h2::Error) -> UpstreamError {
    match error.reason() {
        Some(Reason::REFUSED_STREAM) if error.is_reset() && error.is_remote() => UpstreamError::Unprocessed,
        Some(Reason::PROTOCOL_ERROR) if error.is_library() => UpstreamError::Nonsense,
        _ => UpstreamError::Closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora::{Error, ErrorType};

    #[test]
    fn an_upstream_s_errors_say_what_may_be_tried_again() {
        for (etype, expected) in [
            (ErrorType::ConnectionClosed, UpstreamError::Closed),
            (ErrorType::ReadError, UpstreamError::Closed),
            (ErrorType::WriteError, UpstreamError::Closed),
            (ErrorType::H2Error, UpstreamError::Closed),
            (ErrorType::ReadTimedout, UpstreamError::Timeout),
            (ErrorType::WriteTimedout, UpstreamError::Timeout),
            (ErrorType::InvalidHTTPHeader, UpstreamError::Nonsense),
        ] {
            assert_eq!(failed(&Error::new_up(etype.clone())), expected, "{etype:?}");
        }
    }

    #[test]
    fn only_the_other_side_s_word_makes_a_stream_unprocessed() {
        // An error made here is a local one.
        let refused: h2::Error = Reason::REFUSED_STREAM.into();
        let error = Error::because(ErrorType::H2Error, "reading the head", refused).into_up();
        assert_eq!(failed(&error), UpstreamError::Closed);
    }
}
