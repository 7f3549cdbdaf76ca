//! Request heads: from scanned bytes to what is asked, in one reading.

use super::fields::{Fields, Repeats, Single};
use super::octets::is_token;
use super::scan::{RawHead, line};
use super::target::resolved;
use super::{Framing, Limits, Malformed};
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, Version};

/// No registered method is longer than 17 octets (IANA method registry).
const METHOD_BYTES_MAX: usize = 32;

/// A request as it is understood here, and nothing else of it.
#[derive(Debug)]
pub struct RequestHead {
    /// The target in origin form with the authority from `Host`, and the
    /// end-to-end headers. Framing, `Host`, `Expect` and everything that is for
    /// this hop alone has been taken out.
    pub parts: Parts,
    pub framing: Framing,
    /// Whether the client will send another request on the connection.
    pub persistent: bool,
    /// Whether the client waits for 100 before it sends the body.
    pub expects_continue: bool,
    /// The protocols the client would switch to.
    pub upgrade: Option<HeaderValue>,
    /// Whether the client reads trailers.
    pub te_trailers: bool,
}

/// The request that `head` is.
///
/// `scheme` is the connection's: a target of another one is refused.
///
/// # Errors
/// Every [`Malformed`] that a head can be; the request must not be carried out
/// and the connection must be closed.
pub fn request(head: &RawHead, limits: &Limits, scheme: &Scheme) -> Result<RequestHead, Malformed> {
    let bytes = head.bytes();
    let (first, from) = line(bytes, 0).ok_or(Malformed::StartLine)?;
    let (method, target, version) = request_line(first)?;
    if target.len() > limits.target_bytes {
        return Err(Malformed::TargetTooLong);
    }
    let mut fields = Fields::parse(head, from)?;
    let framing = fields.framing(version, Repeats::Refused)?.unwrap_or(Framing::None);
    fields.options.check()?;
    let uri = resolved(&method, bytes.slice_ref(target), &fields.host, version, scheme)?;
    // RFC 9110 section 9.3.8: it would be echoed, and no client means it.
    if method == Method::TRACE && framing != Framing::None {
        return Err(Malformed::Method);
    }
    let has_body = !matches!(framing, Framing::None | Framing::Length(0));
    let expects_continue = expectation(&fields.expect, version)? && has_body;
    fields.strip_nominated();

    let upgrade = if version == Version::HTTP_11 && !has_body { fields.upgrade() } else { None };
    let persistent = fields.options.persistent(version);
    let te_trailers = fields.te_trailers && version == Version::HTTP_11;
    let mut parts = Request::new(()).into_parts().0;
    (parts.method, parts.uri, parts.version, parts.headers) = (method, uri, version, fields.map);
    Ok(RequestHead { parts, framing, persistent, expects_continue, upgrade, te_trailers })
}

/// Exactly `method SP target SP version`.
fn request_line(text: &[u8]) -> Result<(Method, &[u8], Version), Malformed> {
    let mut words = text.split(|octet| *octet == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Malformed::StartLine);
    };
    if method.is_empty() || target.is_empty() {
        return Err(Malformed::StartLine);
    }
    let version = self::version(version)?;
    if method.len() > METHOD_BYTES_MAX || !is_token(method) {
        return Err(Malformed::Method);
    }
    Ok((Method::from_bytes(method).map_err(|_| Malformed::Method)?, target, version))
}

/// `HTTP/1.0` or `HTTP/1.1`, exactly.
///
/// # Errors
/// `Version` for another version that is well-formed, else `StartLine`.
pub(super) fn version(text: &[u8]) -> Result<Version, Malformed> {
    match text {
        b"HTTP/1.1" => Ok(Version::HTTP_11),
        b"HTTP/1.0" => Ok(Version::HTTP_10),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Malformed::Version),
        _ => Err(Malformed::StartLine),
    }
}

/// Whether 100 is awaited. In HTTP/1.0 it can't be (RFC 9110 section 10.1.1).
fn expectation(expect: &Single, version: Version) -> Result<bool, Malformed> {
    match expect {
        Single::Never => Ok(false),
        _ if version < Version::HTTP_11 => Ok(false),
        Single::Once(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
        _ => Err(Malformed::Expectation),
    }
}
