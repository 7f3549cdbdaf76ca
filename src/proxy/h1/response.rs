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
    if framing == Framing::None
        && !status.is_informational()
        && status != StatusCode::NO_CONTENT
        && let Some(Framing::Length(length)) = said
    {
        fields.map.insert(CONTENT_LENGTH, HeaderValue::from(length));
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

#[cfg(test)]
mod tests {
    use super::super::{Limits, Scan};
    use super::*;
    use bytes::BytesMut;

    fn read(text: &str, method: &Method) -> Result<ResponseHead, Malformed> {
        let mut input = BytesMut::from(text.as_bytes());
        let raw = Scan::responses().take(&mut input, &Limits::RESPONSE)?;
        response(&raw.expect("a whole head"), method)
    }

    #[test]
    fn framing_follows_status_method_and_fields() {
        let (get, head) = (Method::GET, Method::HEAD);
        let rows: &[(&str, &Method, Framing, bool)] = &[
            ("HTTP/1.1 200 OK\r\nContent-Length: 5", &get, Framing::Length(5), true),
            ("HTTP/1.1 200\r\nContent-Length: 5", &get, Framing::Length(5), true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5", &get, Framing::Length(5), true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close", &get, Framing::Length(5), false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", &get, Framing::Chunked, true),
            ("HTTP/1.1 200 OK", &get, Framing::Close, false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5", &get, Framing::Length(5), false),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive",
                &get,
                Framing::Length(5),
                true,
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5", &head, Framing::None, true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", &head, Framing::None, true),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5", &get, Framing::None, true),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 0", &get, Framing::None, true),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 5", &get, Framing::None, false),
            ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked", &get, Framing::None, false),
            ("HTTP/1.1 205 Reset Content", &get, Framing::Length(0), false),
            ("HTTP/1.1 100 Continue", &get, Framing::None, true),
        ];
        for (text, method, framing, persistent) in rows {
            let head = read(&format!("{text}\r\n\r\n"), method).expect(text);
            assert_eq!((head.framing, head.persistent), (*framing, *persistent), "{method} {text}");
        }
    }

    #[test]
    fn an_answer_that_frames_in_two_ways_is_refused() {
        let rows: &[(&str, Malformed)] = &[
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6", Malformed::LengthMany),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5", Malformed::LengthSyntax),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
                Malformed::LengthAndEncoding,
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip", Malformed::EncodingUnknown),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip", Malformed::EncodingNotLast),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked", Malformed::EncodingIn10),
            ("HTTP/2.0 200 OK", Malformed::Version),
            ("HTTP/1.1 99 X", Malformed::Status),
            ("HTTP/1.1 600 X", Malformed::Status),
            ("HTTP/1.1 20x X", Malformed::Status),
            ("HTTP/1.1  200 X", Malformed::Status),
            ("HTTP/1.1", Malformed::StartLine),
            ("ICY 200 OK", Malformed::StartLine),
            ("HTTP/1.1 200 OK\nX: y", Malformed::BareLf),
            ("HTTP/1.1 200 OK\r\nX: y\r\n z", Malformed::Folded),
        ];
        for (text, expected) in rows {
            let read = read(&format!("{text}\r\n\r\n"), &Method::GET).map(|head| head.framing);
            assert_eq!(read, Err(*expected), "{text}");
        }
    }

    #[test]
    fn an_origin_may_not_have_framing_removed_by_nominating_it() {
        let text = "HTTP/1.1 200 OK\r\nConnection: content-length, x\r\nContent-Length: 5\r\nX: y\r\n\r\n";
        let head = read(text, &Method::GET).expect("good");
        assert_eq!(head.framing, Framing::Length(5));
        assert!(head.parts.headers.is_empty());
    }
}
