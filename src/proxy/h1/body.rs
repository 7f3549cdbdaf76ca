//! Bodies: pieces out of bytes, and bytes out of pieces, by one framing.
//!
//! Both know whether the body is complete. A body that is not must never look
//! complete to the other side, so neither can be ended early without an error.

use super::chunked::{Decoder, Forbidden, LAST, Step, Wrap, last};
use super::{Framing, Limits, Malformed};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;
use thiserror::Error;

/// What the buffer gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    /// Never empty; shares the buffer's memory.
    Data(Bytes),
    /// Never empty; `Done` follows.
    Trailers(HeaderMap),
    /// Nothing more of this body will come.
    Done,
    NeedMore,
}

/// The peer ended its side in the middle of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the connection ended before the body did")]
pub struct Truncated;

#[derive(Debug)]
enum Reading {
    Length(u64),
    // A decoder holds a map; most bodies have a length.
    Chunked(Box<Decoder>),
    Close,
    Done,
}

/// Reads one body from the bytes after its head.
#[derive(Debug)]
pub struct BodyReader {
    reading: Reading,
    received: u64,
    bytes_max: u64,
}

impl BodyReader {
    /// Of a request: forbidden trailers refuse it.
    pub fn of_request(framing: Framing, limits: &Limits) -> Self {
        Self::new(framing, limits, Forbidden::Refused)
    }

    /// Of a response: forbidden trailers are dropped.
    pub fn of_response(framing: Framing, limits: &Limits) -> Self {
        Self::new(framing, limits, Forbidden::Dropped)
    }

    fn new(framing: Framing, limits: &Limits, forbidden: Forbidden) -> Self {
        let reading = match framing {
            Framing::None | Framing::Length(0) => Reading::Done,
            Framing::Length(length) => Reading::Length(length),
            Framing::Chunked => Reading::Chunked(Box::new(Decoder::new(*limits, forbidden))),
            Framing::Close => Reading::Close,
        };
        Self { reading, received: 0, bytes_max: u64::MAX }
    }

    /// Refuses data past `bytes_max`; a `Length` past it is refused at the first step.
    pub fn limit(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    /// The next piece, taken off the front of `input`.
    ///
    /// After `Done` nothing is taken: what is left is the next message's.
    ///
    /// # Errors
    /// `BodyTooLong` past the limit, and what a chunked body can be.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Got, Malformed> {
        let data = match &mut self.reading {
            Reading::Done => return Ok(Got::Done),
            Reading::Close => input.split(),
            Reading::Length(left) => {
                if self.received.saturating_add(*left) > self.bytes_max {
                    return Err(Malformed::BodyTooLong);
                }
                let taken = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left -= taken as u64;
                if *left == 0 {
                    self.reading = Reading::Done;
                }
                input.split_to(taken)
            }
            Reading::Chunked(decoder) => {
                let (consumed, step) = decoder.step(input)?;
                match step {
                    Step::Data(range) => {
                        input.advance(range.start);
                        input.split_to(range.len())
                    }
                    Step::NeedMore => {
                        input.advance(consumed);
                        return Ok(Got::NeedMore);
                    }
                    Step::Done => {
                        input.advance(consumed);
                        let trailers = decoder.trailers();
                        self.reading = Reading::Done;
                        return Ok(trailers.map_or(Got::Done, Got::Trailers));
                    }
                }
            }
        };
        if data.is_empty() {
            return Ok(Got::NeedMore);
        }
        self.received = self.received.saturating_add(data.len() as u64);
        if self.received > self.bytes_max {
            return Err(Malformed::BodyTooLong);
        }
        Ok(Got::Data(data.freeze()))
    }

    /// The peer sends nothing more: ends a body that the connection's end ends.
    ///
    /// # Errors
    /// When more had to come. What came must then not be passed on as complete.
    pub fn eof(&mut self) -> Result<(), Truncated> {
        match self.reading {
            Reading::Done => Ok(()),
            Reading::Close => {
                self.reading = Reading::Done;
                Ok(())
            }
            Reading::Length(_) | Reading::Chunked(_) => Err(Truncated),
        }
    }

    pub const fn is_done(&self) -> bool {
        matches!(self.reading, Reading::Done)
    }

    /// Bytes of data so far.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Bytes of data still to come, when that is known.
    pub const fn remaining(&self) -> Option<u64> {
        match self.reading {
            Reading::Done => Some(0),
            Reading::Length(left) => Some(left),
            Reading::Chunked(_) | Reading::Close => None,
        }
    }
}

/// What was to be written does not fit the framing that the head announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Mismatch {
    #[error("more body than announced")]
    TooMuch,
    #[error("less body than announced")]
    TooLittle,
    #[error("body after its end")]
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Length(u64),
    Chunked,
    Close,
    Ended,
}

/// Writes one body after its head.
///
/// When it is dropped before `end`, or `end` fails, the connection must be
/// closed: the other side then sees that the message is not complete.
#[derive(Debug)]
pub struct BodyWriter {
    writing: Writing,
}

impl BodyWriter {
    /// For the framing that was written with the head.
    pub const fn new(framing: Framing) -> Self {
        let writing = match framing {
            Framing::None => Writing::Length(0),
            Framing::Length(length) => Writing::Length(length),
            Framing::Chunked => Writing::Chunked,
            Framing::Close => Writing::Close,
        };
        Self { writing }
    }

    /// What to send around a piece of `length` bytes.
    ///
    /// # Errors
    /// `TooMuch` and `Ended`; the piece must then not be sent.
    pub fn wrap(&mut self, length: usize) -> Result<Wrap, Mismatch> {
        match &mut self.writing {
            Writing::Length(left) => {
                *left = left.checked_sub(length as u64).ok_or(Mismatch::TooMuch)?;
                Ok(Wrap::NONE)
            }
            Writing::Chunked => Ok(Wrap::chunk(length)),
            Writing::Close => Ok(Wrap::NONE),
            Writing::Ended => Err(Mismatch::Ended),
        }
    }

    /// Appends a piece to `out`.
    ///
    /// # Errors
    /// As [`BodyWriter::wrap`]; `out` is then as it was.
    pub fn put(&mut self, piece: &[u8], out: &mut BytesMut) -> Result<(), Mismatch> {
        let wrap = self.wrap(piece.len())?;
        out.reserve(wrap.before().len() + piece.len() + wrap.after().len());
        out.put_slice(wrap.before());
        out.put_slice(piece);
        out.put_slice(wrap.after());
        Ok(())
    }

    /// Ends the body; trailers are dropped where the framing has no place for them.
    ///
    /// # Errors
    /// `TooLittle` and `Ended`; nothing is appended then.
    pub fn end(&mut self, trailers: Option<&HeaderMap>, out: &mut BytesMut) -> Result<(), Mismatch> {
        match (self.writing, trailers) {
            (Writing::Ended, _) => return Err(Mismatch::Ended),
            (Writing::Length(1..), _) => return Err(Mismatch::TooLittle),
            (Writing::Length(0) | Writing::Close, _) => {}
            (Writing::Chunked, None) => out.put_slice(LAST),
            (Writing::Chunked, Some(trailers)) => last(trailers, out),
        }
        self.writing = Writing::Ended;
        Ok(())
    }

    /// Whether the whole body has been written.
    pub const fn is_ended(&self) -> bool {
        matches!(self.writing, Writing::Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(framing: Framing) -> BodyReader {
        BodyReader::of_request(framing, &Limits::REQUEST)
    }

    #[test]
    fn a_body_over_its_limit_is_refused_and_one_at_it_is_not() {
        let rows: &[(Framing, &str)] = &[
            (Framing::Length(5), "hello"),
            (Framing::Chunked, "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
            (Framing::Close, "hello"),
        ];
        for (framing, wire) in rows {
            for (bytes_max, fits) in [(5, true), (4, false)] {
                let (mut body, mut input) = (reader(*framing), BytesMut::from(wire.as_bytes()));
                body.limit(bytes_max);
                let end = loop {
                    match body.next(&mut input) {
                        Ok(Got::Data(_)) => {}
                        other => break other,
                    }
                };
                assert_eq!(end == Err(Malformed::BodyTooLong), !fits, "{framing:?} {bytes_max} {end:?}");
            }
        }
    }

    #[test]
    fn an_end_in_the_middle_is_no_end() {
        let rows = [
            (Framing::None, "", Ok(())),
            (Framing::Length(5), "hello", Ok(())),
            (Framing::Length(5), "hell", Err(Truncated)),
            (Framing::Chunked, "5\r\nhello\r\n0\r\n", Err(Truncated)),
            (Framing::Chunked, "0\r\n\r\n", Ok(())),
            (Framing::Close, "hello", Ok(())),
        ];
        for (framing, wire, expected) in rows {
            let (mut body, mut input) = (reader(framing), BytesMut::from(wire.as_bytes()));
            while let Ok(Got::Data(_)) = body.next(&mut input) {}
            assert_eq!(body.eof(), expected, "{framing:?} {wire:?}");
        }
    }

    #[test]
    fn a_writer_holds_to_what_was_announced() {
        let mut out = BytesMut::new();
        let mut body = BodyWriter::new(Framing::Length(3));
        assert_eq!(body.put(b"abcd", &mut out), Err(Mismatch::TooMuch));
        assert_eq!(body.put(b"ab", &mut out), Ok(()));
        assert_eq!(body.end(None, &mut out), Err(Mismatch::TooLittle));
        assert_eq!(body.put(b"c", &mut out), Ok(()));
        assert_eq!(body.end(None, &mut out), Ok(()));
        assert_eq!(body.put(b"", &mut out), Err(Mismatch::Ended));
        assert_eq!(&out[..], b"abc");
        assert_eq!(BodyWriter::new(Framing::None).put(b"x", &mut out), Err(Mismatch::TooMuch));
    }

    #[test]
    fn a_chunk_head_is_its_length_in_hexadecimal() {
        for (length, head) in [(1, "1\r\n"), (16, "10\r\n"), (0xabcde, "abcde\r\n"), (0, "")] {
            assert_eq!(Wrap::chunk(length).before(), head.as_bytes(), "{length}");
        }
        assert_eq!(Wrap::chunk(usize::MAX).before(), format!("{:x}\r\n", usize::MAX).as_bytes());
    }
}
