//! What single values of the file look like: one rule a type, told in words when it is broken.

use crate::config::file::FromFile;
use crate::config::{DnsMode, Form, Host, HostPort, Protocol, TlsPolicy, UpstreamProtocol};
use crate::domain::limit::concurrency::Priority;
use crate::domain::name::{DnsName, RegionId, RouteId, ServiceId, Zone};
use crate::domain::routing::{
    AmbiguousPaths, ClientCertificate, ExactPath, FieldName, FieldValue, HostPattern, Method, PathPrefix,
    Scheme,
};
use http::uri::PathAndQuery;
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A whole number, exact; its range is checked where it is used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole(pub(crate) u32);

/// Requests a second, above zero.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capacity(pub(crate) f64);

/// A short name that logs may carry.
#[derive(Debug, Clone)]
pub(super) struct Label(pub(super) String);

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Permissions of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileMode(pub(super) u32);

#[derive(Debug, Clone)]
pub(super) struct FilePath(pub(super) PathBuf);

/// Any text; what it must be is checked where it is used.
#[derive(Debug, Clone)]
pub(crate) struct Text(pub(crate) String);

/// A path with places for groups of an expression; which groups there are is checked where it is used.
#[derive(Debug, Clone)]
pub(super) struct Replacement(pub(super) String);

/// The path of a request.
#[derive(Debug, Clone)]
pub(super) struct UrlPath(pub(super) String);

/// A hosted zone's id, as Route 53 spells it without `/hostedzone/`.
#[derive(Debug, Clone)]
pub(super) struct ZoneId(pub(super) String);

/// Scheme, host and port of an HTTP server.
#[derive(Debug, Clone)]
pub(super) struct ServerUrl(pub(super) String);

/// A number of bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes(pub(super) u64);

/// What a route may ask to be tried again after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryOn {
    Timeout,
    Status(u16),
}

/// Whether a concurrency bound moves.
#[derive(Debug, Clone, Copy)]
pub(super) enum BoundKind {
    Fixed,
    Adaptive,
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientAuthKind {
    Off,
    Optional,
    Required,
}

/// Whose requests a rate limit counts together; a header's name in lower case.
#[derive(Debug, Clone)]
pub(super) enum KeySource {
    Client,
    Route,
    Header(String),
}

/// How requests of one session are known; a header's name in lower case.
#[derive(Debug, Clone)]
pub(super) enum SessionSource {
    Cookie,
    Client,
    Header(String),
}

#[derive(Debug, Clone)]
pub(super) struct CookieName(pub(super) String);

/// A file's rule of one kind of value: its words, and how it is read from a string.
macro_rules! from_text {
    ($($type:ty, $rule:expr, $read:expr;)*) => {
        $(
            impl FromFile for $type {
                const RULE: &'static str = $rule;

                fn from_text(text: &str) -> Option<Self> {
                    let read: fn(&str) -> Option<Self> = $read;
                    read(text)
                }
            }
        )*
    };
}

const LABEL: &str = "a name of 1 to 63 lower-case letters, digits and hyphens, such as \"eu-west-1\"";

from_text! {
    Duration, r#"a duration: a whole number and a unit, such as "250ms", "5s", "3m" or "1h""#, duration;
    SocketAddr, r#"an IP address and a port, such as "0.0.0.0:8080" or "[::]:8080""#, |text| text.parse().ok();
    IpAddr, r#"an IP address, such as "203.0.113.10""#, |text| text.parse().ok();
    HostPort, r#"a name or an IP address, and a port, such as "web.example.net:8080" or "[::1]:8080""#, host_port;
    RegionId, LABEL, |text| RegionId::parse(text).ok();
    ServiceId, LABEL, |text| ServiceId::parse(text).ok();
    RouteId, LABEL, |text| RouteId::parse(text).ok();
    Zone, LABEL, |text| Zone::parse(text).ok();
    Label, LABEL, |text| RouteId::parse(text).ok().map(|_| Self(text.to_owned()));
    DnsName, r#"a DNS name, such as "www.example.com""#, |text| DnsName::parse(text).ok();
    Protocol, r#""http" or "https""#, |text| match text {
        "http" => Some(Self::Http),
        "https" => Some(Self::Https),
        _ => None,
    };
    UpstreamProtocol, r#""http1" or "http2""#, |text| match text {
        "http1" => Some(Self::Http1),
        "http2" => Some(Self::Http2),
        _ => None,
    };
    Form, r#""global" or "simple""#, |text| match text {
        "global" => Some(Self::Global),
        "simple" => Some(Self::Simple),
        _ => None,
    };
    DnsMode, r#""observe" or "act""#, |text| match text {
        "observe" => Some(Self::Observe),
        "act" => Some(Self::Act),
        _ => None,
    };
    TlsPolicy, r#""modern" (TLS 1.3) or "intermediate" (TLS 1.2 and 1.3)"#, |text| match text {
        "modern" => Some(Self::Modern),
        "intermediate" => Some(Self::Intermediate),
        _ => None,
    };
    ClientAuthKind, r#""off", "optional" or "required""#, |text| match text {
        "off" => Some(Self::Off),
        "optional" => Some(Self::Optional),
        "required" => Some(Self::Required),
        _ => None,
    };
    BoundKind, r#""fixed" or "adaptive""#, |text| match text {
        "fixed" => Some(Self::Fixed),
        "adaptive" => Some(Self::Adaptive),
        _ => None,
    };
    KeySource, r#""client", "route", or the name of a header, such as "header:x-api-key""#, |text| match text {
        "client" => Some(Self::Client),
        "route" => Some(Self::Route),
        _ => header_name(text).map(Self::Header),
    };
    SessionSource, r#""cookie", "client", or the name of a header, such as "header:x-user""#, |text| match text {
        "cookie" => Some(Self::Cookie),
        "client" => Some(Self::Client),
        _ => header_name(text).map(Self::Header),
    };
    CookieName, r#"the name of a cookie, such as "proxima_session""#, |text| {
        // RFC 6265, 4.1.1: a token, as the name of a header is.
        header_name(&format!("header:{text}")).map(|_| Self(text.to_owned()))
    };
    HostPattern, r#"a host name without a port, such as "www.example.com", or "*.example.com""#, host_pattern;
    PathPrefix, "the start of a path: it begins with \"/\" and has no \"?\", \"#\" or space, and does not climb above \"/\"", PathPrefix::parse;
    ExactPath, "a path: it begins with \"/\" and has no \"?\", \"#\" or space, and does not climb above \"/\"", ExactPath::parse;
    Scheme, r#""http" or "https""#, |text| match text {
        "http" => Some(Self::Http),
        "https" => Some(Self::Https),
        _ => None,
    };
    Method, r#"a method in upper case, such as "GET""#, Method::parse;
    FieldName, "the name of a header, such as \"x-canary\", but none of a connection or of framing, not \
                Host, not X-Request-Id, and none that begins with X-Proxima-", FieldName::parse;
    FieldValue, "the value of a header: visible ASCII, and blanks inside", FieldValue::parse;
    Text, "a text in quotes", |text| Some(Self(text.to_owned()));
    Replacement, r#"a path that begins with "/" and may hold groups, such as "/users/$1" or "/${name}""#, |text| {
        let right = text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && !b"?#\\".contains(&b));
        right.then(|| Self(text.to_owned()))
    };
    FilePath, r#"the path of a file, such as "tls/server.pem""#, |text| {
        (!text.is_empty() && !text.contains('\0')).then(|| Self(PathBuf::from(text)))
    };
    FileMode, r#"permissions in octal digits, such as "0660""#, |text| {
        let right = (3..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        u32::from_str_radix(text, 8).ok().filter(|mode| right && *mode <= 0o777).map(Self)
    };
    UrlPath, r#"a path that begins with "/", special characters percent-encoded, such as "/healthz""#, |text| {
        let right = text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        // What no request can be made of would be told at the first probe, every second.
        let right = right && text.parse::<PathAndQuery>().is_ok();
        right.then(|| Self(text.to_owned()))
    };
    ZoneId, r#"the id of a hosted zone without "/hostedzone/", such as "Z0000000000000EXAMPLE""#, |text| {
        let right = (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        right.then(|| Self(text.to_owned()))
    };
    IpNet, r#"a network or an address, such as "10.0.0.0/8", "2001:db8::/32" or "203.0.113.7""#, |text| {
        text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
    };
    Bytes, r#"a number of bytes with its unit, such as "64KiB", "10MiB" or "1GiB""#, bytes;
    Priority, r#""critical", "normal" or "sheddable""#, |text| {
        Self::ALL.into_iter().find(|priority| priority.as_str() == text)
    };
    RetryOn, r#""timeout" or a status from 500 to 599 such as "503""#, |text| match text {
        "timeout" => Some(Self::Timeout),
        _ => text.parse().ok().filter(|status| (500..=599).contains(status)).map(Self::Status),
    };
    ServerUrl, r#"scheme, host and port of a server, such as "http://127.0.0.1:4580""#, server_url;
}

impl FromFile for f64 {
    const RULE: &'static str = "a number, such as 0.25";

    fn from_number(number: f64) -> Option<Self> {
        number.is_finite().then_some(number)
    }
}

impl FromFile for ClientCertificate {
    const RULE: &'static str = r#""required""#;

    fn from_text(text: &str) -> Option<Self> {
        (text == "required").then_some(Self::Required)
    }
}

impl FromFile for AmbiguousPaths {
    const RULE: &'static str = r#""pass" or "refuse""#;

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "pass" => Some(Self::Pass),
            "refuse" => Some(Self::Refuse),
            _ => None,
        }
    }
}

impl FromFile for bool {
    const RULE: &'static str = "true or false";

    fn from_bool(bool: bool) -> Option<Self> {
        Some(bool)
    }
}

impl FromFile for Whole {
    const RULE: &'static str = "a whole number, such as 3";

    fn from_number(number: f64) -> Option<Self> {
        let whole = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
        whole.then_some(Self(number as u32))
    }
}

impl FromFile for Capacity {
    const RULE: &'static str = "requests a second, above 0, such as 5000";

    fn from_number(number: f64) -> Option<Self> {
        (number.is_finite() && number > 0.0).then_some(Self(number))
    }
}

/// Units and their milliseconds, largest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
/// For what lasts longer than any process should wait; read, not written.
const DAY: (&str, u64) = ("d", 86_400_000);

/// A duration as the file spells it, such as `250ms` or `30m`.
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, millis) = UNITS.iter().chain([&DAY]).find(|(name, _)| *name == unit)?;
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(*millis)?))
}

const BYTE_UNITS: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

fn bytes(text: &str) -> Option<Bytes> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, bytes) = BYTE_UNITS.iter().find(|(name, _)| *name == unit)?;
    Some(Bytes(number.parse::<u64>().ok()?.checked_mul(*bytes)?))
}

/// A number of bytes as the file would spell it, in the largest unit that is exact.
pub(super) fn spell_bytes(bytes: u64) -> String {
    let exact = BYTE_UNITS.iter().rev().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    let (name, unit) = exact.copied().unwrap_or(("B", 1));
    format!("{}{name}", bytes / unit)
}

/// A duration as the file would spell it, in the largest unit that is exact.
pub(crate) fn spell(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let exact = UNITS.iter().find(|(_, unit)| millis.is_multiple_of(u128::from(*unit)));
    let (name, unit) = exact.copied().unwrap_or(("ms", 1));
    format!("{}{name}", millis / u128::from(unit))
}

fn host_port(text: &str) -> Option<HostPort> {
    let (host, port) = text.rsplit_once(':')?;
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse::<u16>().ok().filter(|port| digits && *port > 0)?;
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return Some(HostPort { host: Host::Address(inner.parse::<Ipv6Addr>().ok()?.into()), port });
    }
    match host.parse::<std::net::Ipv4Addr>() {
        Ok(address) => Some(HostPort { host: Host::Address(address.into()), port }),
        // A name that ends in a number is a mistyped address: RFC 1123, 2.1.
        Err(_) => {
            let name = DnsName::parse(host).ok()?;
            let last = name.as_str().rsplit('.').next().unwrap_or_default();
            let number = last.bytes().all(|b| b.is_ascii_digit());
            (!number).then_some(HostPort { host: Host::Name(name), port })
        }
    }
}

fn host_pattern(text: &str) -> Option<HostPattern> {
    match text.strip_prefix("*.") {
        Some(rest) => Some(HostPattern::Wildcard(format!(".{}", DnsName::parse(rest).ok()?))),
        None => Some(HostPattern::Exact(DnsName::parse(text).ok()?.as_str().to_owned())),
    }
}

fn header_name(text: &str) -> Option<String> {
    let name: http::HeaderName = text.strip_prefix("header:")?.parse().ok()?;
    Some(name.as_str().to_owned())
}

fn server_url(text: &str) -> Option<ServerUrl> {
    let uri: http::Uri = text.parse().ok()?;
    let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    let bare = uri.path() == "/" && uri.query().is_none() && !text.contains(['@', '#']);
    let host = uri.host().is_some_and(|host| !host.is_empty());
    // `Uri` takes any digits for a port.
    let portless = uri.authority().is_some_and(|authority| authority.as_str() == authority.host());
    let port = portless || uri.port_u16().is_some_and(|port| port > 0);
    (scheme && bare && host && port).then(|| ServerUrl(text.trim_end_matches('/').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        for (text, millis) in [
            ("250ms", Some(250)),
            ("5s", Some(5000)),
            ("3m", Some(180_000)),
            ("1h", Some(3_600_000)),
            ("365d", Some(31_536_000_000)),
            ("0s", Some(0)),
            ("5", None),
            ("s", None),
            ("", None),
            ("-5s", None),
            ("+5s", None),
            ("1.5s", None),
            ("5 s", None),
            ("1m30s", None),
            ("5S", None),
            ("5µs", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(duration(text), millis.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn a_spelled_duration_reads_back() {
        for text in ["0s", "1ms", "1500ms", "90s", "3m", "24h"] {
            assert_eq!(spell(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_has_a_port() {
        for (text, right) in [
            ("web.default.svc.cluster.local:8080", true),
            ("10.0.0.2:53", true),
            ("[::1]:8080", true),
            ("web:1", true),
            ("web", false),
            ("web:0", false),
            ("web:65536", false),
            ("web:+80", false),
            ("web:", false),
            (":80", false),
            ("::1:80", false),
            ("[10.0.0.2]:80", false),
            ("10.0.0.300:80", false),
            ("http://web:80", false),
        ] {
            assert_eq!(host_port(text).is_some(), right, "{text:?}");
        }
    }

    #[test]
    fn a_host_pattern_is_a_name_or_a_star_before_one() {
        let exact = |host: &str| Some(HostPattern::Exact(host.to_owned()));
        for (text, pattern) in [
            ("WWW.Example.com", exact("www.example.com")),
            ("*.example.com", Some(HostPattern::Wildcard(".example.com".to_owned()))),
            ("*", None),
            ("*example.com", None),
            ("a.*.com", None),
            ("www.example.com:80", None),
            ("", None),
        ] {
            assert_eq!(host_pattern(text), pattern, "{text:?}");
        }
    }

    #[test]
    fn a_path_is_one_that_a_request_can_have() {
        for (text, right) in [
            ("/", true),
            ("/healthz?deep=1", true),
            ("/a%3Cb", true),
            ("/a<b", false),
            ("/a b", false),
            ("/a#b", false),
            ("healthz", false),
            ("", false),
        ] {
            assert_eq!(UrlPath::from_text(text).is_some(), right, "{text:?}");
        }
    }

    #[test]
    fn a_server_is_scheme_host_and_port_only() {
        for (text, right) in [
            ("http://127.0.0.1:4580", true),
            ("https://route53.example.net/", true),
            ("127.0.0.1:4580", false),
            ("ftp://x", false),
            ("http://x/path", false),
            ("http://user@x", false),
            ("http://x?y", false),
            ("http://[::1]:4580", true),
            ("http://[::1]", true),
            ("http://127.0.0.1:99999", false),
            ("http://127.0.0.1:0", false),
            ("http://127.0.0.1:", false),
            ("http://127.0.0.1:x", false),
        ] {
            assert_eq!(server_url(text).is_some(), right, "{text:?}");
        }
    }
}
