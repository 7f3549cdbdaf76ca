//! Response heads: from scanned bytes to an answer to one method.
//!
//! The peer is a service, but a service that repeats what a client sent it is
//! no more to be trusted with framing than the client.

use super::fields::{Fields, Repeats};
use super::request::version;
use super::scan::{RawHead, line};
use super::{Framing, Malformed};
use http::header::CONTENT_LENGTH;
use http::response::Parts;
use http::{HeaderValue, Method, Response, StatusCode, Version};

/// An answer as it is understood here.
#[derive(Debug)]
pub struct ResponseHead {
    /// Status and end-to-end headers. `content-length` is left only where it
    /// tells of a body that does not follow (HEAD, 304).
    pub parts: Parts,
    pub framing: Framing,
    /// Whether the connection may carry another exchange after this one.
    pub persistent: bool,
    /// What a 101 switches to.
    pub upgrade: Option<HeaderValue>,
}

/// The answer to `method` that `head` is.
///
/// A 1xx has no body and is followed by another head, except 101.
///
/// # Errors
/// `StartLine`, `Version`, `Status`, and what header sections can be.
pub fn response(head: &RawHead, method: &Method) -> Result<ResponseHead, Malformed> {
    let (first, from) = line(head.bytes(), 0).ok_or(Malformed::StartLine)?;
    let (version, status) = status_line(first)?;
    let mut fields = Fields::parse(head, from)?;
    fields.strip_nominated();
    let said = fields.framing(version, Repeats::Collapsed)?;
    let (framing, orderly) = framing(status, method, said);
    if framing == Framing::None && !status.is_informational() && status != StatusCode::NO_CONTENT {
        if let Some(Framing::Length(length)) = said {
            fields.map.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
    }
    let upgrade = fields.upgrade().filter(|_| status == StatusCode::SWITCHING_PROTOCOLS);
    let persistent = orderly && fields.options.persistent(version);
    let mut parts = Response::new(()).into_parts().0;
    (parts.status, parts.version, parts.headers) = (status, version, fields.map);
    Ok(ResponseHead { parts, framing, persistent, upgrade })
}

/// RFC 9112 section 6.3, and whether the connection's next octet is a head's.
fn framing(status: StatusCode, method: &Method, said: Option<Framing>) -> (Framing, bool) {
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        // A peer that announces a body here may send it.
        return (Framing::None, matches!(said, None | Some(Framing::Length(0))));
    }
    if *method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        return (Framing::None, true);
    }
    match said {
        Some(framing) => (framing, true),
        // RFC 9110 section 15.3.6: it has no content, but a peer may yet send some.
        None if status == StatusCode::RESET_CONTENT => (Framing::Length(0), false),
        None => (Framing::Close, false),
    }
}

/// `version SP 3DIGIT SP reason`; the last space may be missing, as it often is.
fn status_line(text: &[u8]) -> Result<(Version, StatusCode), Malformed> {
    let mut words = text.splitn(3, |octet| *octet == b' ');
    let (Some(version), Some(code)) = (words.next(), words.next()) else {
        return Err(Malformed::StartLine);
    };
    let version = self::version(version)?;
    if !matches!(code, [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9']) {
        return Err(Malformed::Status);
    }
    Ok((version, StatusCode::from_bytes(code).map_err(|_| Malformed::Status)?))
}
