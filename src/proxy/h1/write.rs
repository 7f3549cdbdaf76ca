//! Heads as bytes: the only place that prints framing.
//!
//! Nothing that frames a message or is for one hop comes out of the header map;
//! it is printed from the arguments. The types make the rest safe: no
//! `HeaderValue`, `Authority` or `Uri` can hold a line end.

use super::Framing;
use bytes::{BufMut, BytesMut};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, request, response};

/// What becomes of the connection after the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse<'a> {
    KeepAlive,
    Close,
    /// Asks for, or agrees to, these protocols.
    Upgrade(&'a HeaderValue),
}

/// What a request says to the next hop alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop<'a> {
    pub reuse: Reuse<'a>,
    /// That we pass trailers on.
    pub te_trailers: bool,
}

/// Room that most heads need: one that fits does not grow on the way.
const HEAD_BYTES: usize = 1024;

/// Appends a request head in HTTP/1.1.
///
/// The target is the path and query of `parts.uri`, `Host` is `authority`.
/// `Framing::Close` has no meaning in a request and is written as no body.
pub fn write_request(
    parts: &request::Parts,
    authority: &Authority,
    framing: Framing,
    hop: Hop<'_>,
    out: &mut BytesMut,
) {
    debug_assert!(framing != Framing::Close, "a request does not end with its connection");
    out.reserve(HEAD_BYTES);
    out.put_slice(parts.method.as_str().as_bytes());
    out.put_slice(b" ");
    target(parts.uri.path_and_query(), out);
    out.put_slice(b" HTTP/1.1\r\nhost: ");
    out.put_slice(authority.as_str().as_bytes());
    out.put_slice(b"\r\n");
    fields(&parts.headers, out);
    self::framing(framing, out);
    let te = if hop.te_trailers { "te, " } else { "" };
    match hop.reuse {
        Reuse::KeepAlive if hop.te_trailers => out.put_slice(b"connection: te\r\n"),
        // The default of HTTP/1.1.
        Reuse::KeepAlive => {}
        Reuse::Close => connection(te, "close", out),
        Reuse::Upgrade(protocols) => {
            connection(te, "upgrade", out);
            line(b"upgrade", protocols.as_bytes(), out);
        }
    }
    if hop.te_trailers {
        out.put_slice(b"te: trailers\r\n");
    }
    out.put_slice(b"\r\n");
}

/// Appends a response head, which says HTTP/1.1 to every client (RFC 9110 section 2.5).
///
/// To HTTP/1.0 a chunked body is written as one that the connection's end ends:
/// the body's writer must be given [`Framing::for_version`] of the same. With
/// `Framing::None`, a `content-length` in the map is written, as HEAD and 304
/// want, unless the status forbids it.
pub fn write_response(
    parts: &response::Parts,
    framing: Framing,
    reuse: Reuse<'_>,
    to: Version,
    out: &mut BytesMut,
) {
    let framing = framing.for_version(to);
    out.reserve(HEAD_BYTES);
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(parts.status.as_str().as_bytes());
    out.put_slice(b" ");
    out.put_slice(parts.status.canonical_reason().unwrap_or("").as_bytes());
    out.put_slice(b"\r\n");
    fields(&parts.headers, out);
    let bodiless = parts.status.is_informational() || parts.status == StatusCode::NO_CONTENT;
    match framing {
        Framing::None if bodiless => {}
        Framing::None => announced(&parts.headers, out),
        _ if bodiless => debug_assert!(false, "{} has no body", parts.status),
        _ => self::framing(framing, out),
    }
    match reuse {
        Reuse::Upgrade(protocols) => {
            connection("", "upgrade", out);
            line(b"upgrade", protocols.as_bytes(), out);
        }
        // Another head follows on the connection in any case.
        _ if parts.status.is_informational() => {}
        Reuse::KeepAlive if framing != Framing::Close => connection("", "keep-alive", out),
        Reuse::KeepAlive | Reuse::Close => connection("", "close", out),
    }
    out.put_slice(b"\r\n");
}

fn target(path_and_query: Option<&PathAndQuery>, out: &mut BytesMut) {
    let path = path_and_query.map_or("/", PathAndQuery::path);
    // A rewritten URI may hold a path without its slash.
    if !path.starts_with('/') && path != "*" {
        out.put_slice(b"/");
    }
    out.put_slice(path.as_bytes());
    if let Some(query) = path_and_query.and_then(PathAndQuery::query) {
        out.put_slice(b"?");
        out.put_slice(query.as_bytes());
    }
}

fn fields(headers: &HeaderMap, out: &mut BytesMut) {
    for (name, value) in headers.iter().filter(|(name, _)| !is_ours(name.as_str())) {
        field(name, value, out);
    }
}

/// What is printed here from something else than the map, or not at all.
fn is_ours(name: &str) -> bool {
    matches!(
        name,
        "content-length"
            | "transfer-encoding"
            | "connection"
            | "keep-alive"
            | "proxy-connection"
            | "upgrade"
            | "http2-settings"
            | "te"
            | "trailer"
            | "host"
            | "expect"
    )
}

pub(super) fn field(name: &HeaderName, value: &HeaderValue, out: &mut BytesMut) {
    line(name.as_str().as_bytes(), value.as_bytes(), out);
}

fn line(name: &[u8], value: &[u8], out: &mut BytesMut) {
    out.reserve(name.len() + value.len() + 4);
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

fn connection(first: &str, second: &str, out: &mut BytesMut) {
    out.put_slice(b"connection: ");
    out.put_slice(first.as_bytes());
    out.put_slice(second.as_bytes());
    out.put_slice(b"\r\n");
}

fn framing(framing: Framing, out: &mut BytesMut) {
    match framing {
        Framing::None | Framing::Close => {}
        Framing::Length(length) => {
            out.put_slice(b"content-length: ");
            decimal(length, out);
            out.put_slice(b"\r\n");
        }
        Framing::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
    }
}

fn decimal(mut number: u64, out: &mut BytesMut) {
    // 2^64 has twenty digits.
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break out.put_slice(&digits[at..]);
        }
    }
}

/// The length of the body that a HEAD or 304 tells of, when it is a single number.
fn announced(headers: &HeaderMap, out: &mut BytesMut) {
    let mut values = headers.get_all(http::header::CONTENT_LENGTH).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return };
    if let Some(length) = super::octets::length(value.as_bytes()) {
        framing(Framing::Length(length), out);
    }
}
