//! The chunked coding (RFC 9112 section 7.1), read strictly and written plainly.
//!
//! Chunk extensions are read over and dropped: no hop understands them, and
//! readers that disagree on where one ends are how a second request gets in.

use super::fields::said_by_edges;
use super::scan::{Scan, field, line};
use super::{Limits, Malformed};
use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::ops::Range;

const SIZE_DIGITS_MAX: u32 = 16;
/// Far above any body, far below where an addition could overflow.
const SIZE_MAX: u64 = 1 << 62;
/// Bytes of one chunk's extensions.
const EXTENSION_BYTES_MAX: u32 = 256;
/// Framing that a body may spend besides what its data pays for.
const OVERHEAD_BYTES_SPARE: u64 = 16 * 1024;
/// Framing per byte of data: chunks of one byte spend 5.
const OVERHEAD_PER_BYTE: u64 = 8;

/// The end of a chunked body without trailers.
pub const LAST: &[u8] = b"0\r\n\r\n";

/// What becomes of trailers that may not be merged into a message's fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forbidden {
    /// From clients: the message is malformed.
    Refused,
    /// From upstreams.
    Dropped,
}

/// What the next octet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size { digits: u32 },
    Extension { bytes: u32 },
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
    Done,
}

/// Reads a chunked body that comes bit by bit.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// Of the current chunk; its size while that is read.
    left: u64,
    data: u64,
    overhead: u64,
    scan: Scan,
    trailers: HeaderMap,
    limits: Limits,
    forbidden: Forbidden,
}

/// What one step found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Body, where it lies in the caller's buffer; its end is the count consumed.
    Data(Range<usize>),
    /// All that can be read without more bytes has been.
    NeedMore,
    /// The body is complete; what follows belongs to the next message.
    Done,
}

impl Decoder {
    pub fn new(limits: Limits, forbidden: Forbidden) -> Self {
        Self {
            state: State::Size { digits: 0 },
            left: 0,
            data: 0,
            overhead: 0,
            scan: Scan::trailers(),
            trailers: HeaderMap::new(),
            limits,
            forbidden,
        }
    }

    /// How many bytes of `buf` are read, and what they hold.
    ///
    /// The caller drops the consumed bytes before the next step, and keeps the
    /// others at its front.
    ///
    /// # Errors
    /// `Chunk`, `BareLf`, `BareCr`, `Control`, `Trailer` and what a scan refuses.
    pub fn step(&mut self, buf: &[u8]) -> Result<(usize, Step), Malformed> {
        let mut at = 0;
        loop {
            match self.state {
                State::Done => return Ok((at, Step::Done)),
                State::Trailers => return self.trailer_section(buf, at),
                State::Data => {
                    let there = buf.len() - at;
                    let length = usize::try_from(self.left).map_or(there, |left| left.min(there));
                    if length == 0 {
                        return Ok((at, Step::NeedMore));
                    }
                    self.left -= length as u64;
                    self.data = self.data.saturating_add(length as u64);
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok((at + length, Step::Data(at..at + length)));
                }
                _ => {
                    let Some(octet) = buf.get(at) else { return Ok((at, Step::NeedMore)) };
                    self.framing_octet(*octet)?;
                    at += 1;
                }
            }
        }
    }

    fn framing_octet(&mut self, octet: u8) -> Result<(), Malformed> {
        self.overhead += 1;
        if self.overhead > self.data.saturating_mul(OVERHEAD_PER_BYTE).saturating_add(OVERHEAD_BYTES_SPARE) {
            return Err(Malformed::Chunk);
        }
        self.state = match (self.state, octet) {
            (State::Size { digits }, _) if octet.is_ascii_hexdigit() => {
                let digit = u64::from((octet as char).to_digit(16).unwrap_or(0));
                // Any size that has room for another digit is below 2^60.
                if digits == SIZE_DIGITS_MAX || self.left > SIZE_MAX >> 4 {
                    return Err(Malformed::Chunk);
                }
                self.left = self.left << 4 | digit;
                if self.left > SIZE_MAX {
                    return Err(Malformed::Chunk);
                }
                State::Size { digits: digits + 1 }
            }
            (State::Size { digits: 1.. }, b';') => State::Extension { bytes: 1 },
            (State::Size { digits: 1.. } | State::Extension { .. }, b'\r') => State::SizeLf,
            (State::Extension { bytes: EXTENSION_BYTES_MAX }, _) => return Err(Malformed::Chunk),
            (State::Extension { bytes }, b'\t' | b' '..=b'~' | 0x80..) => {
                State::Extension { bytes: bytes + 1 }
            }
            (State::SizeLf, b'\n') if self.left == 0 => State::Trailers,
            (State::SizeLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { digits: 0 },
            (State::SizeLf | State::DataLf, _) => return Err(Malformed::BareCr),
            (State::Size { .. } | State::Extension { .. }, b'\n') => return Err(Malformed::BareLf),
            _ => return Err(Malformed::Chunk),
        };
        Ok(())
    }

    fn trailer_section(&mut self, buf: &[u8], at: usize) -> Result<(usize, Step), Malformed> {
        let section = &buf[at..];
        let Some(end) = self.scan.feed(section, &self.limits)? else {
            return Ok((at, Step::NeedMore));
        };
        let mut from = 0;
        while let Some((text, next)) = line(&section[..end], from) {
            let (name, value) = field(text)?;
            let name = HeaderName::from_bytes(name).map_err(|_| Malformed::NameSyntax)?;
            from = next;
            if is_forbidden(name.as_str()) {
                match self.forbidden {
                    Forbidden::Refused => return Err(Malformed::Trailer),
                    Forbidden::Dropped => continue,
                }
            }
            let value = HeaderValue::from_bytes(value).map_err(|_| Malformed::ValueSyntax)?;
            self.trailers.try_append(name, value).map_err(|_| Malformed::Trailer)?;
        }
        self.state = State::Done;
        Ok((at + end, Step::Done))
    }

    /// The trailers, once, when there were any.
    pub fn trailers(&mut self) -> Option<HeaderMap> {
        let trailers = std::mem::take(&mut self.trailers);
        (!trailers.is_empty()).then_some(trailers)
    }

    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }
}

/// Trailers without those that no recipient may take for headers, or that say something of a connection
/// (RFC 9110 section 6.5.1): what the writer of chunks leaves out, for who writes none.
#[must_use]
pub fn passable(mut trailers: HeaderMap) -> HeaderMap {
    while let Some(name) = trailers.keys().find(|name| is_forbidden(name.as_str())).cloned() {
        trailers.remove(name);
    }
    trailers
}

/// Fields that decide framing, routing, trust or content, which come too late
/// in a trailer (RFC 9110 section 6.5.1).
fn is_forbidden(name: &str) -> bool {
    said_by_edges(name)
        || said_by_edges(&name.replace('_', "-"))
        || matches!(
            name,
            "content-length"
                | "transfer-encoding"
                | "host"
                | "connection"
                | "keep-alive"
                | "proxy-connection"
                | "te"
                | "trailer"
                | "upgrade"
                | "authorization"
                | "proxy-authorization"
                | "cookie"
                | "set-cookie"
                | "cache-control"
                | "content-encoding"
                | "content-type"
                | "content-range"
                | "expect"
                | "via"
                | "x-request-id"
        )
}

/// What goes before and after the data of one chunk, to send both without a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrap {
    digits: [u8; 18],
    length: usize,
}

impl Wrap {
    /// Around no data at all.
    pub const NONE: Self = Self { digits: [0; 18], length: 0 };

    /// Around a chunk of `length` bytes; nothing when there are none, since a
    /// chunk of none ends the body.
    pub fn chunk(length: usize) -> Self {
        if length == 0 {
            return Self::NONE;
        }
        let mut wrap = Self::NONE;
        let digits = (usize::BITS - length.leading_zeros()).div_ceil(4) as usize;
        for (at, digit) in wrap.digits[..digits].iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[length >> (4 * (digits - 1 - at)) & 0xf];
        }
        wrap.digits[digits..digits + 2].copy_from_slice(b"\r\n");
        wrap.length = digits + 2;
        wrap
    }

    pub fn before(&self) -> &[u8] {
        &self.digits[..self.length]
    }

    pub const fn after(&self) -> &'static [u8] {
        if self.length == 0 { b"" } else { b"\r\n" }
    }
}

/// Ends a chunked body with `trailers`.
pub fn last(trailers: &HeaderMap, out: &mut BytesMut) {
    out.put_slice(b"0\r\n");
    for (name, value) in trailers.iter().filter(|(name, _)| !is_forbidden(name.as_str())) {
        super::write::field(name, value, out);
    }
    out.put_slice(b"\r\n");
}
