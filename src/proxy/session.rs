//! Whoever asks: one request at a time, whatever HTTP it came by.
//!
//! A session knows how to read a request's body and how to write an answer. It
//! decides nothing about either, except that what is broken never looks whole.

use super::h1::{Framing, Malformed, Mismatch};
use super::io::Conn;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, response};
use std::task::{Context, Poll};
use std::time::Duration;

pub(super) mod h1;
pub(super) mod h2;

/// An unread rest of a request's body that is read away after its answer.
const REST_BYTES: u64 = 64 * 1024;
const REST_PATIENCE: Duration = Duration::from_secs(1);

/// A part of a body, or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Data(Bytes),
    /// `End` follows.
    Trailers(HeaderMap),
    End,
}

/// Why a client gets no (further) answer, or not the one it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientError {
    /// It left, or its connection broke.
    Gone,
    /// Its body breaks the rules.
    Malformed(Malformed),
    /// Its body is larger than its route allows.
    TooLarge,
    /// It sends or reads too slowly.
    Slow,
    /// An answer that is not what its head promised cannot be sent to it.
    Unfaithful,
}

impl From<std::io::Error> for ClientError {
    /// Every error of a client's connection means that it is gone; which one, helps nobody.
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}

impl From<Malformed> for ClientError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Mismatch> for ClientError {
    fn from(_: Mismatch) -> Self {
        Self::Unfaithful
    }
}

/// One request of a client.
#[derive(Debug)]
pub(super) enum Downstream<'c> {
    H1(h1::Request<'c>),
    H2(h2::Request),
}

impl Downstream<'_> {
    /// The next piece of the request's body.
    pub(super) fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece, ClientError>> {
        match self {
            Self::H1(request) => request.poll_body(context),
            Self::H2(request) => request.poll_body(context),
        }
    }

    /// Ready when the client has left while nothing is read from it.
    pub(super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::H1(request) => request.poll_gone(context),
            Self::H2(request) => request.poll_gone(context),
        }
    }

    /// An interim answer.
    pub(super) fn informational(&mut self, parts: &response::Parts) -> Result<(), ClientError> {
        match self {
            Self::H1(request) => {
                request.informational(parts);
                Ok(())
            }
            Self::H2(request) => request.informational(parts),
        }
    }

    /// The head of the answer; `keep`: the connection may serve on after it, if HTTP/1 has a say in it.
    pub(super) fn start(
        &mut self,
        parts: &response::Parts,
        framing: Framing,
        keep: bool,
    ) -> Result<(), ClientError> {
        match self {
            Self::H1(request) => {
                request.start(parts, framing, keep);
                Ok(())
            }
            Self::H2(request) => request.start(parts, framing),
        }
    }

    /// Ready while a piece of the answer may be put.
    pub(super) fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        match self {
            Self::H1(request) => request.poll_room(context),
            Self::H2(request) => request.poll_flush(context),
        }
    }

    /// Takes a piece of the answer's body.
    pub(super) fn put(&mut self, piece: Piece) -> Result<(), ClientError> {
        match self {
            Self::H1(request) => request.put(piece),
            Self::H2(request) => request.put(piece),
        }
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        match self {
            Self::H1(request) => request.poll_flush(context),
            Self::H2(request) => request.poll_flush(context),
        }
    }

    /// Bytes of the answer that have left so far: they tell progress from standstill.
    pub(super) const fn written(&self) -> u64 {
        match self {
            Self::H1(request) => request.written(),
            Self::H2(request) => request.written(),
        }
    }

    /// Whether so little of the body is left that reading it away is cheaper than a new connection.
    pub(super) fn rest_is_short(&self) -> bool {
        match self {
            Self::H1(request) => request.rest_is_short(),
            Self::H2(_) => true,
        }
    }

    /// The connection serves no further request: what is left of this one cannot be told from the next.
    pub(super) const fn close_after(&mut self) {
        match self {
            Self::H1(request) => request.close_after(),
            // Streams end one by one.
            Self::H2(_) => {}
        }
    }

    /// Ends an answer that cannot be completed, so that it does not look whole.
    pub(super) fn abort(&mut self) {
        match self {
            // The connection ends before the answer does.
            Self::H1(_) => {}
            Self::H2(request) => request.abort(),
        }
    }

    /// The 101 that ends HTTP on a connection, and the connection; `None`: HTTP/2 knows none.
    pub(super) fn switch(&mut self, parts: &response::Parts, protocol: &HeaderValue) -> Option<&mut Conn> {
        match self {
            Self::H1(request) => Some(request.switch(parts, protocol)),
            Self::H2(_) => None,
        }
    }

    /// Ends the request; whether its connection may serve another one.
    pub(super) async fn finish(&mut self) -> bool {
        match self {
            Self::H1(request) => request.finish().await,
            Self::H2(request) => {
                request.finish().await;
                true
            }
        }
    }
}
