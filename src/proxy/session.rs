//! Whoever asks: one request at a time, whatever HTTP it came by.
//!
//! A session knows how to read a request's body and how to write an answer. It
//! decides nothing about either, except that what is broken never looks whole.

use super::h1::{Malformed, Mismatch};
use bytes::Bytes;
use http::HeaderMap;

pub(super) mod h1;

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
