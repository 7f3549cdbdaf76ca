//! What is told of a request, and how it is spelled.

use crate::domain::name::{RegionId, RouteId, ServiceId};
use crate::domain::trace::{SpanId, TraceParent};
use http::{HeaderValue, Method, Uri, Version};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Characters of a client's words that are kept of each field.
const WORDS_MAX: usize = 1024;

/// One request, from its head to the end of its answer.
#[derive(Debug, Clone)]
pub struct Record {
    /// When the head had arrived.
    pub began: SystemTime,
    pub listener: &'static str,
    /// As far as trusted proxies tell; `None`: nobody knows its address.
    pub client: Option<IpAddr>,
    /// Where the connection came from; `None`: by a Unix socket.
    pub remote: Option<SocketAddr>,
    pub tls: Option<Arc<Tls>>,
    /// What a PROXY header said beyond addresses.
    pub proxied: Option<Arc<Proxied>>,
    pub method: Method,
    pub uri: Uri,
    /// Whether the query is told: it may hold what nobody should read.
    pub query: bool,
    pub version: Version,
    pub user_agent: Option<HeaderValue>,
    pub request_id: Option<HeaderValue>,
    /// Of the W3C trace that the request belongs to.
    pub trace: Option<TraceParent>,
    /// `Some`: the trace names a span of this edge, which is exported.
    pub span: Option<Span>,
    pub route: Option<RouteId>,
    pub service: Option<ServiceId>,
    /// Whose answer the client got; `None`: this edge's own.
    pub region: Option<RegionId>,
    pub attempts: Vec<Attempt>,
    /// Why the answer is not (wholly) an upstream's, in a word; `None`: it is.
    pub cause: Option<&'static str>,
    /// `None`: the client left before it got an answer.
    pub status: Option<u16>,
    /// Bytes of the request's body that were read.
    pub received: u64,
    /// Bytes of the answer that were sent, its head included where HTTP/1 counts it.
    pub sent: u64,
    pub took: Duration,
}

/// The span of a request; its id stands in [`Record::trace`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// `None`: the trace began here.
    pub before: Option<SpanId>,
}

/// One try to have the request answered.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub region: RegionId,
    pub address: SocketAddr,
    /// Since the request began.
    pub began: Duration,
    /// Until a connection was there; `None`: a kept one was used, or none came about.
    pub connect: Option<Duration>,
    /// From its begin to the head of its answer, if one came.
    pub first_byte: Option<Duration>,
    /// From its begin to the end of its answer, or to its failure.
    pub took: Duration,
    pub result: AttemptResult,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptResult {
    /// With this status.
    Answered(u16),
    Failed(&'static str),
    /// The client did not wait for it.
    Abandoned,
    /// Another one, made because this one was slow, was the first to answer.
    Outpaced,
}

/// What was agreed on in a TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    pub version: String,
    pub cipher: String,
    /// The protocol that was chosen (ALPN).
    pub alpn: Option<String>,
    /// The name that the client asked for.
    pub server_name: Option<String>,
    /// Of the client's own certificate, which was verified.
    pub client_subject: Option<String>,
}

/// A load balancer's word on a client's connection (PROXY protocol, version 2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxied {
    /// The VPC endpoint that the client came through (AWS PrivateLink).
    pub vpc_endpoint: Option<Box<str>>,
    /// The name that the client asked for.
    pub authority: Option<Box<str>>,
    pub unique_id: Option<Box<[u8]>>,
    /// `Some`: the client came to the balancer by TLS.
    pub tls: Option<ProxiedTls>,
}

/// What the balancer agreed on with the client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxiedTls {
    pub version: Option<Box<str>>,
    pub cipher: Option<Box<str>>,
    /// Of the client's certificate, where the balancer verified one.
    pub common_name: Option<Box<str>>,
}

/// A record as an object of JSON.
pub(super) struct Line<'a>(pub(super) &'a Record);

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Record { began, listener, client, remote, tls, method, uri, .. } = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &time(*began))?;
        map.serialize_entry("listener", listener)?;
        map.serialize_entry("client", client)?;
        match remote {
            Some(remote) => map.serialize_entry("remote", remote)?,
            None => map.serialize_entry("remote", "unix")?,
        }
        if let Some(proxied) = &self.0.proxied {
            proxied.entries(&mut map)?;
        }
        if let Some(tls) = tls {
            map.serialize_entry("tls", &tls.version)?;
            map.serialize_entry("cipher", &tls.cipher)?;
            if let Some(alpn) = &tls.alpn {
                map.serialize_entry("alpn", short(alpn))?;
            }
            if let Some(name) = &tls.server_name {
                map.serialize_entry("sni", short(name))?;
            }
            if let Some(subject) = &tls.client_subject {
                map.serialize_entry("client_certificate", short(subject))?;
            }
        }
        map.serialize_entry("method", method.as_str())?;
        map.serialize_entry("host", short(uri.authority().map_or("", |a| a.as_str())))?;
        map.serialize_entry("path", short(uri.path()))?;
        if let Some(query) = uri.query().filter(|_| self.0.query) {
            map.serialize_entry("query", short(query))?;
        }
        map.serialize_entry("protocol", protocol(self.0.version))?;
        if let Some(agent) = &self.0.user_agent {
            map.serialize_entry("user_agent", short(&text(agent)))?;
        }
        self.rest(map)
    }
}

impl Line<'_> {
    fn rest<M: SerializeMap>(&self, mut map: M) -> Result<M::Ok, M::Error> {
        let record = self.0;
        if let Some(id) = &record.request_id {
            map.serialize_entry("request_id", &text(id))?;
        }
        if let Some(trace) = &record.trace {
            map.serialize_entry("trace_id", &trace.trace.to_string())?;
            map.serialize_entry("sampled", &trace.sampled)?;
        }
        map.serialize_entry("route", &record.route.as_ref().map(RouteId::as_str))?;
        map.serialize_entry("service", &record.service.as_ref().map(ServiceId::as_str))?;
        map.serialize_entry("region", &record.region.as_ref().map(RegionId::as_str))?;
        map.serialize_entry("attempts", &Attempts(&record.attempts))?;
        if let Some(cause) = record.cause {
            map.serialize_entry("cause", cause)?;
        }
        map.serialize_entry("status", &record.status)?;
        map.serialize_entry("bytes_received", &record.received)?;
        map.serialize_entry("bytes_sent", &record.sent)?;
        map.serialize_entry("duration_ms", &millis(record.took))?;
        map.end()
    }
}

impl Proxied {
    fn entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let tls = self.tls.as_ref();
        for (name, word) in [
            ("vpc_endpoint", self.vpc_endpoint.as_deref()),
            ("proxy_authority", self.authority.as_deref()),
            ("proxy_tls", tls.map(|tls| tls.version.as_deref().unwrap_or("unknown"))),
            ("proxy_cipher", tls.and_then(|tls| tls.cipher.as_deref())),
            ("proxy_client_certificate", tls.and_then(|tls| tls.common_name.as_deref())),
        ] {
            if let Some(word) = word {
                map.serialize_entry(name, short(word))?;
            }
        }
        if let Some(id) = &self.unique_id {
            // Octets of any kind.
            let hex: String = id.iter().map(|octet| format!("{octet:02x}")).collect();
            map.serialize_entry("proxy_unique_id", &hex)?;
        }
        Ok(())
    }
}

struct Attempts<'a>(&'a [Attempt]);

impl Serialize for Attempts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(OneAttempt))
    }
}

struct OneAttempt<'a>(&'a Attempt);

impl Serialize for OneAttempt<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("region", self.0.region.as_str())?;
        map.serialize_entry("endpoint", &self.0.address)?;
        match self.0.result {
            AttemptResult::Answered(status) => map.serialize_entry("status", &status)?,
            AttemptResult::Failed(why) => map.serialize_entry("failed", why)?,
            AttemptResult::Abandoned => map.serialize_entry("failed", "abandoned")?,
            AttemptResult::Outpaced => map.serialize_entry("failed", "outpaced")?,
        }
        map.serialize_entry("began_ms", &millis(self.0.began))?;
        if let Some(connect) = self.0.connect {
            map.serialize_entry("connect_ms", &millis(connect))?;
        }
        if let Some(first_byte) = self.0.first_byte {
            map.serialize_entry("first_byte_ms", &millis(first_byte))?;
        }
        map.serialize_entry("total_ms", &millis(self.0.took))?;
        map.end()
    }
}

/// Milliseconds to the microsecond.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// `2026-11-24T10:20:30.123Z`; empty for a time that no calendar knows.
fn time(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    let cut = at.replace_nanosecond(at.nanosecond() / 1_000_000 * 1_000_000).unwrap_or(at);
    cut.format(&Rfc3339).unwrap_or_default()
}

const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

/// Octets beyond ASCII are replaced: a line is always text.
fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

fn short(text: &str) -> &str {
    match text.char_indices().nth(WORDS_MAX) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// The wall clock, for people who read a log. Nothing is decided by it.
#[allow(clippy::disallowed_methods)]
pub fn wall_clock() -> SystemTime {
    let now = SystemTime::now();
    if now < UNIX_EPOCH { UNIX_EPOCH } else { now }
}
