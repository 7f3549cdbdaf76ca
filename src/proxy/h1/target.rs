//! Request targets and authorities: which resource is meant, said once.
//!
//! `check_path`, `check_authority` and `reconciled` hold for HTTP/2 as well,
//! whose `:path` and `:authority` are the same words. Sources: RFC 9112 section
//! 3.2, RFC 9110 sections 4.2.4 and 7.2, RFC 3986.

use super::Malformed;
use super::fields::Single;
use bytes::Bytes;
use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{Method, Uri, Version};
use std::net::Ipv6Addr;
use std::str::FromStr;

/// RFC 1035: what a name in the DNS may be long, plus a trailing dot.
const HOST_BYTES_MAX: usize = 254;

/// A checked authority, cut in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort<'a> {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub host: &'a [u8],
    pub port: Option<u16>,
}

/// The resource that a request is for, in origin form plus authority.
///
/// HTTP/1.0 without `Host` gives a URI of a path alone.
///
/// # Errors
/// `NoHost`, `ManyHosts`, `Host`, `Target`, `Scheme`, `HostConflict`, `Connect`.
pub(super) fn resolved(
    method: &Method,
    target: Bytes,
    host: &Single,
    version: Version,
    scheme: &Scheme,
) -> Result<Uri, Malformed> {
    let host = match host {
        Single::Once(host) => Some(host),
        Single::Never if version < Version::HTTP_11 => None,
        Single::Never => return Err(Malformed::NoHost),
        Single::Equal(_) | Single::Differing => return Err(Malformed::ManyHosts),
    };
    if let Some(host) = host {
        check_authority(host)?;
    }
    if *method == Method::CONNECT {
        return Err(Malformed::Connect);
    }
    let path = match &target[..] {
        [b'/', ..] => target,
        b"*" if *method == Method::OPTIONS => target,
        _ => absolute(method, &target, host.ok_or(Malformed::NoHost), scheme)?,
    };
    check_path(&path)?;
    uri(path, host.cloned(), scheme)
}

fn uri(path: Bytes, host: Option<Bytes>, scheme: &Scheme) -> Result<Uri, Malformed> {
    let mut parts = Parts::default();
    parts.path_and_query = Some(PathAndQuery::from_maybe_shared(path).map_err(|_| Malformed::Target)?);
    if let Some(host) = host {
        parts.scheme = Some(scheme.clone());
        parts.authority = Some(Authority::from_maybe_shared(host).map_err(|_| Malformed::Host)?);
    }
    Uri::from_parts(parts).map_err(|_| Malformed::Target)
}

/// The path of an absolute-form target whose authority is the `Host`.
///
/// RFC 9112 section 3.2.2 lets the target win over a `Host` that differs; a
/// service behind that reads the other one would then see another resource.
fn absolute(
    method: &Method,
    target: &Bytes,
    host: Result<&Bytes, Malformed>,
    scheme: &Scheme,
) -> Result<Bytes, Malformed> {
    let colon = target.windows(3).position(|w| w == b"://").ok_or(Malformed::Target)?;
    let said = &target[..colon];
    if !said.iter().all(u8::is_ascii_alphanumeric) || said.is_empty() {
        return Err(Malformed::Target);
    }
    if !said.eq_ignore_ascii_case(scheme.as_str().as_bytes()) {
        return Err(Malformed::Scheme);
    }
    let rest = target.slice(colon + 3..);
    let end = rest.iter().position(|octet| matches!(octet, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let authority = &rest[..end];
    check_authority(authority)?;
    reconciled(authority, host?, scheme)?;
    let path = rest.slice(end..);
    Ok(match &path[..] {
        [b'/', ..] => path,
        // RFC 9112 section 3.2.4: the server as a whole is meant.
        [] if *method == Method::OPTIONS => Bytes::from_static(b"*"),
        _ => Bytes::from([b"/", &path[..]].concat()),
    })
}

/// That `path` (with its query) holds what a target may, and can be read in one way.
///
/// Dot segments, `//` and encoded slashes pass: routes compare normalised paths.
/// Percent signs are checked in the path only, since queries are the service's own.
///
/// # Errors
/// `Target`.
pub fn check_path(path: &[u8]) -> Result<(), Malformed> {
    let plain = |octet: &u8| !matches!(octet, 0..=b' ' | b'#' | b'\\' | 0x7f..);
    if path.is_empty() || !path.iter().all(plain) {
        return Err(Malformed::Target);
    }
    let query = path.iter().position(|octet| *octet == b'?').unwrap_or(path.len());
    let path = &path[..query];
    for at in path.iter().enumerate().filter(|(_, octet)| **octet == b'%').map(|(at, _)| at) {
        match path.get(at + 1..at + 3) {
            Some(b"00") | None => return Err(Malformed::Target),
            Some(digits) if !digits.iter().all(u8::is_ascii_hexdigit) => return Err(Malformed::Target),
            Some(_) => {}
        }
    }
    Ok(())
}

/// An authority as host and port.
///
/// Stricter than RFC 3986: letters, digits and `-._~` in names, no userinfo, no
/// empty or zero port. What no real host has is room for two readings.
///
/// # Errors
/// `Host`.
pub fn check_authority(text: &[u8]) -> Result<HostPort<'_>, Malformed> {
    let (host, rest) = if text.first() == Some(&b'[') {
        let close = text.iter().position(|octet| *octet == b']').ok_or(Malformed::Host)?;
        let address = std::str::from_utf8(&text[1..close]).map_err(|_| Malformed::Host)?;
        Ipv6Addr::from_str(address).map_err(|_| Malformed::Host)?;
        text.split_at(close + 1)
    } else {
        let end = text.iter().position(|octet| *octet == b':').unwrap_or(text.len());
        let (host, rest) = text.split_at(end);
        let plain = |octet: &u8| octet.is_ascii_alphanumeric() || b"-._~".contains(octet);
        if !host.iter().all(plain) {
            return Err(Malformed::Host);
        }
        (host, rest)
    };
    if host.is_empty() || host.len() > HOST_BYTES_MAX {
        return Err(Malformed::Host);
    }
    let port = match rest {
        [] => None,
        [b':', digits @ ..] if (1..=5).contains(&digits.len()) => Some(port(digits)?),
        _ => return Err(Malformed::Host),
    };
    Ok(HostPort { host, port })
}

fn port(digits: &[u8]) -> Result<u16, Malformed> {
    let number = super::octets::length(digits).and_then(|number| u16::try_from(number).ok());
    number.filter(|number| *number > 0).ok_or(Malformed::Host)
}

/// That two checked authorities are the same one under `scheme`.
///
/// Case does not count, nor does the scheme's default port.
///
/// # Errors
/// `HostConflict`; `Host` when one is malformed.
pub fn reconciled(one: &[u8], other: &[u8], scheme: &Scheme) -> Result<(), Malformed> {
    let default = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let (one, other) = (check_authority(one)?, check_authority(other)?);
    let same = one.host.eq_ignore_ascii_case(other.host)
        && one.port.unwrap_or(default) == other.port.unwrap_or(default);
    if same { Ok(()) } else { Err(Malformed::HostConflict) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_name_or_address_and_a_port() {
        type Read = Option<(&'static str, Option<u16>)>;
        let rows: &[(&str, Read)] = &[
            ("a", Some(("a", None))),
            ("a.example:80", Some(("a.example", Some(80)))),
            ("my_service:00080", Some(("my_service", Some(80)))),
            ("127.0.0.1:65535", Some(("127.0.0.1", Some(65535)))),
            ("[::1]", Some(("[::1]", None))),
            ("[2001:db8::1]:8443", Some(("[2001:db8::1]", Some(8443)))),
            ("", None),
            (":80", None),
            ("a:", None),
            ("a:0", None),
            ("a:65536", None),
            ("a:000080", None),
            ("a:80:80", None),
            ("a:+80", None),
            ("::1", None),
            ("[::1", None),
            ("[::1]80", None),
            ("[::1]x", None),
            ("[fe80::1%25eth0]", None),
            ("[v1.x]", None),
            ("[]", None),
            ("a@b", None),
            ("a,b", None),
            ("a b", None),
            ("a/b", None),
            ("a%41", None),
            ("a?b", None),
            ("\u{e4}.example", None),
        ];
        for (text, expected) in rows {
            let read = check_authority(text.as_bytes()).ok();
            let expected = expected.map(|(host, port)| HostPort { host: host.as_bytes(), port });
            assert_eq!(read, expected, "{text:?}");
        }
        assert!(check_authority("a".repeat(254).as_bytes()).is_ok());
        assert!(check_authority("a".repeat(255).as_bytes()).is_err());
    }

    #[test]
    fn authorities_are_the_same_but_for_case_and_default_port() {
        let (http, https) = (Scheme::HTTP, Scheme::HTTPS);
        let rows: &[(&str, &str, &Scheme, Result<(), Malformed>)] = &[
            ("a", "A", &http, Ok(())),
            ("a", "a:80", &http, Ok(())),
            ("a:443", "a", &https, Ok(())),
            ("a", "a:443", &http, Err(Malformed::HostConflict)),
            ("a", "a:80", &https, Err(Malformed::HostConflict)),
            ("a", "b", &http, Err(Malformed::HostConflict)),
            ("a", "a.", &http, Err(Malformed::HostConflict)),
            ("a", "u@a", &http, Err(Malformed::Host)),
        ];
        for (one, other, scheme, expected) in rows {
            assert_eq!(reconciled(one.as_bytes(), other.as_bytes(), scheme), *expected, "{one} {other}");
            assert_eq!(reconciled(other.as_bytes(), one.as_bytes(), scheme), *expected, "{other} {one}");
        }
    }
}
