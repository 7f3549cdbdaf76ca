//! The header section of a head: what concerns this hop, and what goes on.
//!
//! Fields that only this hop may act on (framing, connection, `Host`, `Expect`,
//! upgrades) are taken out here, so that what is left can be passed on as it is.

use super::octets::{elements, is_token};
use super::scan::{RawHead, field, line};
use super::{Framing, Malformed};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Version};

/// Names that one `Connection` header may nominate. Pingora's bound.
const NOMINATED_MAX: usize = 10;
/// A field line is rarely shorter; sizes the map once.
const LINE_BYTES_GUESS: usize = 32;
/// Fields that an edge adds to a request.
const ADDED_GUESS: usize = 8;

/// A field of which one line is meant to be there.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Single {
    #[default]
    Never,
    Once(Bytes),
    /// More lines, each octet for octet the same.
    Equal(Bytes),
    Differing,
}

impl Single {
    fn add(&mut self, value: Bytes) {
        *self = match std::mem::take(self) {
            Self::Never => Self::Once(value),
            Self::Once(first) | Self::Equal(first) if first == value => Self::Equal(first),
            _ => Self::Differing,
        };
    }
}

/// All `Transfer-Encoding` lines read as one list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encoding {
    #[default]
    Absent,
    Chunked,
    /// Something that is not `chunked` came, and nothing after a `chunked`.
    Unknown,
    /// An empty element, or something after `chunked`.
    Disordered,
}

impl Encoding {
    fn add(self, value: &[u8]) -> Self {
        elements(value).fold(self, |so_far, coding| match so_far {
            _ if coding.is_empty() => Self::Disordered,
            Self::Chunked | Self::Disordered => Self::Disordered,
            Self::Absent if coding.eq_ignore_ascii_case(b"chunked") => Self::Chunked,
            Self::Absent | Self::Unknown => Self::Unknown,
        })
    }

    /// Whether the body is chunked.
    ///
    /// # Errors
    /// Any other coding, any other order, and any coding at all in HTTP/1.0.
    pub fn chunked(self, version: Version) -> Result<bool, Malformed> {
        match self {
            Self::Absent => Ok(false),
            _ if version < Version::HTTP_11 => Err(Malformed::EncodingIn10),
            Self::Chunked => Ok(true),
            Self::Unknown => Err(Malformed::EncodingUnknown),
            Self::Disordered => Err(Malformed::EncodingNotLast),
        }
    }
}

/// All `Connection` lines.
#[derive(Debug, Default)]
pub struct Options {
    pub close: bool,
    pub keep_alive: bool,
    pub upgrade: bool,
    nominated: Vec<HeaderName>,
    count: usize,
    malformed: bool,
}

impl Options {
    fn add(&mut self, value: &[u8]) {
        for option in elements(value) {
            self.count += 1;
            match option {
                b"" => {}
                _ if option.eq_ignore_ascii_case(b"close") => self.close = true,
                _ if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                _ if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
                // Never kept, nominated or not.
                _ if option.eq_ignore_ascii_case(b"te") => {}
                _ => match HeaderName::from_bytes(option) {
                    Ok(name) if self.nominated.len() < NOMINATED_MAX => self.nominated.push(name),
                    Ok(_) => {}
                    Err(_) => self.malformed = true,
                },
            }
        }
    }

    /// Whether a client's nominations may be followed.
    ///
    /// # Errors
    /// `Nominated` when it would remove what later hops decide by, names too
    /// many, or is no list of tokens.
    pub fn check(&self) -> Result<(), Malformed> {
        let refused = self.malformed
            || self.count > NOMINATED_MAX
            || self.nominated.iter().any(|name| end_to_end(name.as_str()));
        if refused { Err(Malformed::Nominated) } else { Ok(()) }
    }

    /// Whether the connection may carry another message after this one.
    pub fn persistent(&self, version: Version) -> bool {
        !self.close && (version >= Version::HTTP_11 || self.keep_alive)
    }
}

/// A header section, sorted.
#[derive(Debug, Default)]
pub struct Fields {
    /// What goes on, in the order it came.
    pub map: HeaderMap,
    pub host: Single,
    pub length: Single,
    pub encoding: Encoding,
    pub options: Options,
    pub expect: Single,
    pub te_trailers: bool,
    upgrade: Single,
}

impl Fields {
    /// The fields of `head` from the line that begins at `from` on.
    ///
    /// # Errors
    /// `NameSyntax` and `ValueSyntax`.
    pub fn parse(head: &RawHead, from: usize) -> Result<Self, Malformed> {
        let head = head.bytes();
        let lines_guess = (head.len() - from.min(head.len())) / LINE_BYTES_GUESS;
        // Room for what is added on the way, too: a map that grows moves everything.
        let map = HeaderMap::with_capacity(lines_guess + ADDED_GUESS);
        let mut fields = Self { map, ..Self::default() };
        let mut at = from;
        while let Some((text, next)) = line(head, at) {
            let (name, value) = field(text)?;
            let name = HeaderName::from_bytes(name).map_err(|_| Malformed::NameSyntax)?;
            // The head was scanned, so a subslice of it is never out of it.
            fields.add(name, head.slice_ref(value))?;
            at = next;
        }
        Ok(fields)
    }

    fn add(&mut self, name: HeaderName, value: Bytes) -> Result<(), Malformed> {
        match name.as_str() {
            "host" => self.host.add(value),
            "content-length" => self.length.add(value),
            "transfer-encoding" => self.encoding = self.encoding.add(&value),
            "connection" => self.options.add(&value),
            "expect" => self.expect.add(value),
            "upgrade" => self.upgrade.add(value),
            "te" => self.te_trailers |= elements(&value).any(|t| t.eq_ignore_ascii_case(b"trailers")),
            "keep-alive" | "proxy-connection" | "trailer" | "http2-settings" => {}
            text if passes_for_another(text) => {}
            _ => {
                let value = HeaderValue::from_maybe_shared(value).map_err(|_| Malformed::ValueSyntax)?;
                self.map.try_append(name, value).map_err(|_| Malformed::TooManyHeaders)?;
            }
        }
        Ok(())
    }

    /// Removes what `Connection` nominated, save what no hop may remove.
    pub fn strip_nominated(&mut self) {
        for name in &self.options.nominated {
            if !end_to_end(name.as_str()) {
                self.map.remove(name);
            }
        }
    }

    /// The one protocol switch asked for or agreed to, if it may be carried on.
    ///
    /// An upgrade may always be ignored (RFC 9110 section 7.8), so a doubtful one
    /// is. HTTP/2 is never reached this way: nothing behind may speak it on a
    /// connection that is read here as HTTP/1.
    pub fn upgrade(&self) -> Option<HeaderValue> {
        let Single::Once(value) = &self.upgrade else { return None };
        let carried = |protocol: &[u8]| {
            let name = protocol.split(|octet| *octet == b'/').next().unwrap_or(protocol);
            is_token(name) && ![&b"h2c"[..], b"h2", b"http"].iter().any(|h| name.eq_ignore_ascii_case(h))
        };
        if !self.options.upgrade || !elements(value).all(carried) {
            return None;
        }
        HeaderValue::from_maybe_shared(value.clone()).ok()
    }

    /// The length that was sent, when no more than one was.
    ///
    /// # Errors
    /// `LengthAndEncoding`, `LengthMany`, `LengthSyntax`.
    pub fn length(&self, repeats: Repeats) -> Result<Option<u64>, Malformed> {
        let text = match (&self.length, repeats) {
            (Single::Never, _) => return Ok(None),
            _ if self.encoding != Encoding::Absent => return Err(Malformed::LengthAndEncoding),
            (Single::Once(text), _) | (Single::Equal(text), Repeats::Collapsed) => text,
            (Single::Equal(_) | Single::Differing, _) => return Err(Malformed::LengthMany),
        };
        super::octets::length(text).map(Some).ok_or(Malformed::LengthSyntax)
    }

    /// The framing that the fields alone tell, or `None` when they tell none.
    ///
    /// # Errors
    /// As [`Fields::length`] and [`Encoding::chunked`].
    pub fn framing(&self, version: Version, repeats: Repeats) -> Result<Option<Framing>, Malformed> {
        let length = self.length(repeats)?;
        if self.encoding.chunked(version)? {
            return Ok(Some(Framing::Chunked));
        }
        Ok(length.map(Framing::Length))
    }
}

/// What several equal `Content-Length` lines are taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    Refused,
    Collapsed,
}

/// Fields that decide what a message means beyond this hop.
///
/// A client that could have them removed by nominating them in `Connection`
/// would reach a service without what an edge or an application decides by.
fn end_to_end(name: &str) -> bool {
    said_by_edges(name)
        || matches!(
            name,
            "host"
                | "content-length"
                | "transfer-encoding"
                | "via"
                | "x-request-id"
                | "authorization"
                | "cookie"
                | "cache-control"
                | "content-type"
                | "content-encoding"
                | "content-range"
                | "range"
                | "expect"
                | "max-forwards"
                | "set-cookie"
        )
}

/// Fields by which edges tell services and each other of a client.
pub fn said_by_edges(name: &str) -> bool {
    name == "forwarded"
        || name == "x-real-ip"
        || name.starts_with("x-forwarded-")
        || name.starts_with("x-proxima-")
}

/// A name with `_` that a CGI-like service reads as one it trusts.
pub fn passes_for_another(name: &str) -> bool {
    if !name.contains('_') {
        return false;
    }
    let name = name.replace('_', "-");
    said_by_edges(&name) || matches!(name.as_str(), "content-length" | "transfer-encoding" | "host")
}
