//! A client's HTTP/2 connection, and the requests on its streams.
//!
//! Each stream is a task of its own. Credit for a body is given back only after
//! its bytes were passed on, so a slow upstream slows its client and nothing
//! piles up between them. WebSocket over HTTP/2 (RFC 8441) is not offered.

use super::{ClientError, Piece, REST_BYTES, REST_PATIENCE};
use crate::proxy::h1::target::{check_authority, check_path, reconciled};
use crate::proxy::h1::{Framing, Limits, Malformed, RequestHead, passes_for_another};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Response, Version, header, request, response};
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use tokio::time::timeout;

/// One request on a stream, from its head to the end of its answer.
#[derive(Debug)]
pub(in super::super) struct Request {
    /// `None`: the whole body was read.
    body: Option<RecvStream>,
    data_read: bool,
    /// Bytes that were handed on and not given back to the client's window yet.
    in_hand: usize,
    waits: bool,
    /// The head of the answer was sent.
    answered: bool,
    respond: SendResponse<Bytes>,
    /// `Some` between the head of the answer and its end.
    send: Option<SendStream<Bytes>>,
    /// Of the answer, waiting for the client's window.
    pending: Bytes,
    written: u64,
}

/// What the head of a stream asks for.
///
/// The same rules as for HTTP/1, where they mean something here: what goes on
/// may go on as HTTP/1.
///
/// # Errors
/// Why the stream has to be refused.
pub(in super::super) fn head(
    mut parts: request::Parts,
    body: &RecvStream,
    (scheme, limits): (&Scheme, &Limits),
) -> Result<RequestHead, Malformed> {
    if parts.method == Method::CONNECT {
        return Err(Malformed::Connect);
    }
    if parts.uri.path_and_query().is_some_and(|target| target.as_str().len() > limits.target_bytes) {
        return Err(Malformed::TargetTooLong);
    }
    check_path(parts.uri.path().as_bytes())?;
    authority(&mut parts, scheme)?;
    let framing = framing(&parts.headers, body.is_end_stream())?;
    if parts.method == Method::TRACE && framing != Framing::None {
        return Err(Malformed::Method);
    }
    let headers = &mut parts.headers;
    let te_trailers = headers.get(header::TE).is_some_and(|te| te == "trailers");
    let expects_continue = match headers.get(header::EXPECT) {
        None => false,
        Some(expected) if expected.as_bytes().eq_ignore_ascii_case(b"100-continue") => true,
        Some(_) => return Err(Malformed::Expectation),
    };
    join_cookies(headers)?;
    if headers.len() > limits.headers {
        return Err(Malformed::TooManyHeaders);
    }
    let gone: Vec<_> = headers.keys().filter(|name| passes_for_another(name.as_str())).cloned().collect();
    let hop = [header::HOST, header::TE, header::EXPECT, header::CONTENT_LENGTH, header::TRAILER];
    for name in hop.into_iter().chain(gone) {
        headers.remove(name);
    }
    Ok(RequestHead { parts, framing, persistent: true, expects_continue, upgrade: None, te_trailers })
}

/// One authority, whichever of the two fields it came by (RFC 9113 section 8.3.1).
fn authority(parts: &mut request::Parts, scheme: &Scheme) -> Result<(), Malformed> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next().cloned();
    if hosts.next().is_some() {
        return Err(Malformed::ManyHosts);
    }
    match (parts.uri.authority(), host) {
        (None, None) => Err(Malformed::NoHost),
        (Some(authority), None) => check_authority(authority.as_str().as_bytes()).map(|_| ()),
        (Some(authority), Some(host)) => reconciled(authority.as_str().as_bytes(), host.as_bytes(), scheme),
        (None, Some(host)) => {
            check_authority(host.as_bytes())?;
            let mut uri = std::mem::take(&mut parts.uri).into_parts();
            uri.authority = Some(host.as_bytes().try_into().map_err(|_| Malformed::Host)?);
            uri.scheme = Some(scheme.clone());
            parts.uri = http::Uri::from_parts(uri).map_err(|_| Malformed::Target)?;
            Ok(())
        }
    }
}

/// That the length is kept, the h2 crate sees to.
fn framing(headers: &HeaderMap, ended: bool) -> Result<Framing, Malformed> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(Malformed::LengthMany);
    }
    let digits = |value: &HeaderValue| {
        let text = value.to_str().ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?;
        text.parse().ok()
    };
    let length = length.map(|value| digits(value).ok_or(Malformed::LengthSyntax)).transpose()?;
    Ok(match (length, ended) {
        (Some(length), false) => Framing::Length(length),
        (Some(_), true) => Framing::Length(0),
        (None, false) => Framing::Chunked,
        (None, true) => Framing::None,
    })
}

/// HTTP/1 knows one `Cookie` line; HTTP/2 may split it (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) -> Result<(), Malformed> {
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1 {
        let whole = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).map_err(|_| Malformed::ValueSyntax)?;
        headers.insert(header::COOKIE, whole);
    }
    Ok(())
}

impl Request {
    pub(in super::super) fn new(head: &RequestHead, body: RecvStream, respond: SendResponse<Bytes>) -> Self {
        let empty = head.framing == Framing::None;
        Self {
            body: (!empty).then_some(body),
            data_read: false,
            in_hand: 0,
            waits: head.expects_continue && !empty,
            answered: false,
            respond,
            send: None,
            pending: Bytes::new(),
            written: 0,
        }
    }

    /// The next piece of the body.
    pub(in super::super) fn poll_body(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Piece, ClientError>> {
        if std::mem::take(&mut self.waits) && self.send.is_none() {
            let mut go_on = Response::new(());
            *go_on.status_mut() = http::StatusCode::CONTINUE;
            self.respond.send_informational(go_on)?;
        }
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(Piece::End)) };
        // The piece before this one has been passed on.
        body.flow_control().release_capacity(std::mem::take(&mut self.in_hand))?;
        while !self.data_read {
            match ready!(body.poll_data(context)).transpose()? {
                Some(data) if data.is_empty() => {}
                Some(data) => {
                    self.in_hand = data.len();
                    return Poll::Ready(Ok(Piece::Data(data)));
                }
                None => self.data_read = true,
            }
        }
        let trailers = ready!(body.poll_trailers(context))?;
        self.body = None;
        Poll::Ready(Ok(trailers.map_or(Piece::End, Piece::Trailers)))
    }

    /// Ready when the client has given the stream up.
    pub(in super::super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let reset = match &mut self.send {
            None => self.respond.poll_reset(context),
            Some(send) => send.poll_reset(context),
        };
        reset.map(|_| ())
    }

    /// An interim answer.
    pub(in super::super) fn informational(&mut self, parts: &response::Parts) -> Result<(), ClientError> {
        if parts.status == http::StatusCode::CONTINUE {
            self.waits = false;
        }
        Ok(self.respond.send_informational(Response::from_parts(parts.clone(), ()))?)
    }

    /// The head of the answer.
    pub(in super::super) fn start(
        &mut self,
        parts: &response::Parts,
        framing: Framing,
    ) -> Result<(), ClientError> {
        let mut parts = parts.clone();
        parts.version = Version::HTTP_2;
        if let Framing::Length(length) = framing {
            parts.headers.insert(header::CONTENT_LENGTH, length.into());
        }
        let ends = matches!(framing, Framing::None | Framing::Length(0));
        let send = self.respond.send_response(Response::from_parts(parts, ()), ends)?;
        self.send = (!ends).then_some(send);
        self.answered = true;
        Ok(())
    }

    /// Ready when everything that was put has left for the client's window.
    pub(in super::super) fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ClientError>> {
        while let Some(send) = self.send.as_mut().filter(|_| !self.pending.is_empty()) {
            send.reserve_capacity(self.pending.len());
            let Some(capacity) = ready!(send.poll_capacity(context)) else {
                return Poll::Ready(Err(ClientError::Gone));
            };
            let part = self.pending.split_to(capacity?.min(self.pending.len()));
            self.written = self.written.wrapping_add(part.len() as u64);
            send.send_data(part, false)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes a piece of the answer's body, after [`Request::poll_flush`].
    pub(in super::super) fn put(&mut self, piece: Piece) -> Result<(), ClientError> {
        let Some(send) = &mut self.send else { return Ok(()) };
        match piece {
            Piece::Data(data) => {
                self.pending = data;
                return Ok(());
            }
            Piece::Trailers(trailers) => send.send_trailers(trailers)?,
            Piece::End => send.send_data(Bytes::new(), true)?,
        }
        self.send = None;
        Ok(())
    }

    pub(in super::super) const fn written(&self) -> u64 {
        self.written
    }

    /// Reads the short rest of a body away: there are clients that lose an answer when their stream is
    /// reset after it, whatever the reason says (RFC 9113 section 8.1).
    pub(in super::super) async fn finish(&mut self) {
        if !self.answered || self.send.is_some() || self.waits || self.body.is_none() {
            return;
        }
        let reading = async {
            let mut read = 0;
            while read < REST_BYTES {
                match poll_fn(|context| self.poll_body(context)).await {
                    Ok(Piece::Data(data)) => read += data.len() as u64,
                    Ok(Piece::Trailers(_)) => {}
                    Ok(Piece::End) | Err(_) => return,
                }
            }
        };
        if timeout(REST_PATIENCE, reading).await.is_err() {
            tracing::trace!("a client still sends what nobody reads");
        }
    }

    /// Ends an answer that cannot be completed, so that it does not look whole.
    pub(in super::super) fn abort(&mut self) {
        match &mut self.send {
            Some(send) => send.send_reset(Reason::INTERNAL_ERROR),
            None => self.respond.send_reset(Reason::INTERNAL_ERROR),
        }
    }
}

impl From<h2::Error> for ClientError {
    /// Whatever broke the stream, nothing can be told to its client any more.
    fn from(_: h2::Error) -> Self {
        Self::Gone
    }
}
