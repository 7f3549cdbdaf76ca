//! One exchange on an HTTP/2 connection: to another region, or to a service.

use super::super::session::Piece;
use super::shared::Claim;
use super::{Head, INFORMATIONAL_MAX, UpstreamError};
use crate::proxy::h1::{Framing, passable};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request, StatusCode, Version, request, response};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A request on its way and its answer.
#[derive(Debug)]
pub(in super::super) struct Exchange {
    /// Its place on the connection.
    claim: Claim,
    /// `None`: the request is whole.
    send: Option<SendStream<Bytes>>,
    /// Of the body, waiting for the other side's window.
    pending: Option<Bytes>,
    answer: Answer,
    /// What was asked for: it says whether the answer has a body.
    method: Method,
    informational: u32,
    data_read: bool,
}

/// How far the answer has come.
#[derive(Debug)]
enum Answer {
    Awaited(ResponseFuture),
    Body(RecvStream),
    Whole,
}

impl Exchange {
    /// Sends the head; `framing` tells whether a body follows.
    ///
    /// # Errors
    /// The connection is gone, so that nothing was sent, or the head cannot be said in HTTP/2.
    pub(in super::super) fn begin(
        claim: Claim,
        mut sender: SendRequest<Bytes>,
        mut parts: request::Parts,
        framing: Framing,
    ) -> Result<Self, UpstreamError> {
        let end = matches!(framing, Framing::None | Framing::Length(0));
        parts.version = Version::HTTP_2;
        let method = parts.method.clone();
        let sent = sender.send_request(Request::from_parts(parts, ()), end);
        let (answer, send) = sent.map_err(|e| unsent(&e))?;
        Ok(Self {
            claim,
            // With the head the request may be whole: nothing is sent on the stream then.
            send: (!end).then_some(send),
            pending: None,
            answer: Answer::Awaited(answer),
            method,
            informational: 0,
            data_read: false,
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
                send.send_trailers(passable(trailers)).map_err(|e| of_h2(&e))?;
                self.send = None;
            }
            Piece::End => {
                send.send_data(Bytes::new(), true).map_err(|e| of_h2(&e))?;
                self.send = None;
            }
        }
        Ok(())
    }

    /// It was waited for too long.
    pub(in super::super) fn doubt(&self) {
        self.claim.doubt();
    }

    /// Whether the head of an answer has come.
    pub(in super::super) const fn answered(&self) -> bool {
        !matches!(self.answer, Answer::Awaited(_))
    }

    /// The next head of the answer.
    pub(in super::super) fn poll_head(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Head, UpstreamError>> {
        let Answer::Awaited(answer) = &mut self.answer else {
            return Poll::Ready(Err(UpstreamError::Local));
        };
        if let Poll::Ready(Some(interim)) = answer.poll_informational(context) {
            let parts = interim.map_err(|e| of_h2(&e))?.into_parts().0;
            self.informational += 1;
            // RFC 9113 section 8.6: there is no 101.
            let wrong = parts.status == StatusCode::SWITCHING_PROTOCOLS;
            if wrong || self.informational > INFORMATIONAL_MAX {
                return Poll::Ready(Err(UpstreamError::Nonsense));
            }
            return Poll::Ready(Ok(Head::Informational(parts)));
        }
        let (mut parts, body) = match ready!(Pin::new(answer).poll(context)) {
            Ok(answer) => answer.into_parts(),
            Err(e) => return Poll::Ready(Err(of_h2(&e))),
        };
        let framing = framing(&mut parts, &self.method, body.is_end_stream())?;
        self.claim.head();
        self.answer = Answer::Body(body);
        Poll::Ready(Ok(Head::Final { parts, framing }))
    }

    /// The next piece of the answer's body.
    pub(in super::super) fn poll_body(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Piece, UpstreamError>> {
        let body = match &mut self.answer {
            Answer::Awaited(_) => return Poll::Ready(Err(UpstreamError::Local)),
            Answer::Whole => return Poll::Ready(Ok(Piece::End)),
            Answer::Body(body) => body,
        };
        while !self.data_read {
            match ready!(body.poll_data(context)) {
                Some(Ok(data)) => {
                    let given_back = body.flow_control().release_capacity(data.len());
                    given_back.map_err(|e| of_h2(&e))?;
                    if !data.is_empty() {
                        return Poll::Ready(Ok(Piece::Data(data)));
                    }
                }
                Some(Err(e)) => return Poll::Ready(Err(of_h2(&e))),
                None => self.data_read = true,
            }
        }
        let trailers = match ready!(body.poll_trailers(context)) {
            // The answer is whole: it only takes no more of the request (RFC 9113 section 8.1).
            Err(e) if e.is_remote() && e.reason() == Some(Reason::NO_ERROR) => None,
            trailers => trailers.map_err(|e| of_h2(&e))?,
        };
        self.answer = Answer::Whole;
        Poll::Ready(Ok(trailers.map_or(Piece::End, Piece::Trailers)))
    }
}

/// How the end of an answer's body is known, by one length at most (RFC 9110 section 8.6); `ended`: with the head.
///
/// An answer to HEAD, and 204 and 304, have no body, whatever length they tell and whenever their
/// stream ends (RFC 9110 sections 9.3.2, 15.3.5 and 15.4.5).
fn framing(parts: &mut response::Parts, method: &Method, ended: bool) -> Result<Framing, UpstreamError> {
    let mut lengths = parts.headers.get_all(CONTENT_LENGTH).iter();
    let first = lengths.next().cloned();
    if !lengths.all(|other| Some(other) == first.as_ref()) {
        return Err(UpstreamError::Nonsense);
    }
    let digits = |value: &HeaderValue| {
        let text = value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        text.and_then(|text| text.parse().ok()).ok_or(UpstreamError::Nonsense)
    };
    let length: Option<u64> = first.as_ref().map(digits).transpose()?;
    if parts.status == StatusCode::NO_CONTENT {
        parts.headers.remove(CONTENT_LENGTH);
        return Ok(Framing::None);
    }
    if let Some(first) = first {
        parts.headers.insert(CONTENT_LENGTH, first);
    }
    if *method == Method::HEAD || parts.status == StatusCode::NOT_MODIFIED {
        return Ok(Framing::None);
    }
    Ok(match length {
        Some(length) => Framing::Length(length),
        None if ended => Framing::Length(0),
        None => Framing::Chunked,
    })
}

/// What an error says of a request that was not sent.
fn unsent(error: &h2::Error) -> UpstreamError {
    if error.is_io() || error.is_go_away() || error.is_reset() {
        UpstreamError::Unprocessed
    } else {
        UpstreamError::Nonsense
    }
}

/// RFC 9113 section 8.7: a refused stream was not processed, nor was one above the last that a GOAWAY
/// names. h2 tells that error to those streams only; the others go on, or break with the connection.
fn of_h2(error: &h2::Error) -> UpstreamError {
    match error.reason() {
        Some(Reason::REFUSED_STREAM) if error.is_reset() && error.is_remote() => UpstreamError::Unprocessed,
        _ if error.is_go_away() && error.is_remote() => UpstreamError::Unprocessed,
        Some(Reason::PROTOCOL_ERROR) if error.is_library() => UpstreamError::Nonsense,
        _ => UpstreamError::Closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_body_by_its_method_or_status_has_none_whatever_its_length_and_end_say() {
        let of = |method: &Method, status: u16, length: Option<&'static str>, ended| {
            let mut parts = http::Response::new(()).into_parts().0;
            parts.status = StatusCode::from_u16(status).unwrap();
            parts.headers.extend(length.map(|text| (CONTENT_LENGTH, HeaderValue::from_static(text))));
            let framing = framing(&mut parts, method, ended);
            (framing, parts.headers.get(CONTENT_LENGTH).map(|value| value.to_str().unwrap().to_owned()))
        };
        let (get, head) = (&Method::GET, &Method::HEAD);
        for ended in [true, false] {
            for (method, status) in
                [(head, 200), (head, 404), (head, 304), (get, 304), (head, 204), (get, 204)]
            {
                for length in [None, Some("5")] {
                    // What 204 says of a length is wrong anyway.
                    let kept = length.filter(|_| status != 204).map(str::to_owned);
                    let row = format!("{method} {status} {length:?} {ended}");
                    assert_eq!(of(method, status, length, ended), (Ok(Framing::None), kept), "{row}");
                }
            }
        }
        assert_eq!(of(get, 200, None, true).0, Ok(Framing::Length(0)));
        assert_eq!(of(get, 200, None, false).0, Ok(Framing::Chunked));
        assert_eq!(of(get, 200, Some("5"), false).0, Ok(Framing::Length(5)));
        assert_eq!(of(get, 200, Some("+5"), false).0, Err(UpstreamError::Nonsense));
    }

    #[test]
    fn only_the_other_side_s_word_makes_a_stream_unprocessed() {
        // An error made here is a local one.
        assert_eq!(of_h2(&Reason::REFUSED_STREAM.into()), UpstreamError::Closed);
    }
}
