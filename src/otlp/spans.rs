//! Records as spans: one of the server, and one of the client for each attempt. Pure.
//!
//! Names and attributes: OpenTelemetry semantic conventions for HTTP spans (stable since 1.23).
//! What they have no word for stands under `proxima.`. `url.full` of attempts is left out: the
//! record knows no scheme of theirs.

use crate::access_log::{Attempt, AttemptResult, Record};
use crate::domain::trace::{SpanId, TraceParent};
use http::{Method, Version};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// Characters of a client's words that are kept of each attribute.
const WORDS_MAX: usize = 1024;

/// A batch as the collector wants it.
pub(super) fn request(records: &[Arc<Record>], service_name: &str) -> ExportTraceServiceRequest {
    let spans = records.iter().filter_map(|record| spans(record)).flatten().collect();
    let scope = InstrumentationScope {
        name: "proxima".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let mut resource = Attributes::default();
    resource.text("service.name", service_name);
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes: resource.0, ..Resource::default() }),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    }
}

/// The spans of a request; `None`: it is in no trace.
fn spans(record: &Record) -> Option<Vec<Span>> {
    let (own, before) = (record.trace?, record.span?.before);
    let mut spans = vec![server(record, own, before)];
    spans.extend(record.attempts.iter().enumerate().map(|(n, attempt)| client(record, own, attempt, n)));
    Some(spans)
}

fn server(record: &Record, own: TraceParent, before: Option<SpanId>) -> Span {
    let mut attributes = Attributes::default();
    attributes.request(record);
    attributes.text("url.scheme", if record.tls.is_some() { "https" } else { "http" });
    attributes.text("url.path", record.uri.path());
    if let Some(query) = record.uri.query().filter(|_| record.query) {
        attributes.text("url.query", query);
    }
    if let Some(authority) = record.uri.authority() {
        attributes.text("server.address", authority.host());
        if let Some(port) = authority.port_u16() {
            attributes.number("server.port", port.into());
        }
    }
    if let Some(client) = record.client {
        attributes.address("client.address", client);
    }
    if let Some(remote) = record.remote {
        attributes.address("network.peer.address", remote.ip());
        attributes.number("network.peer.port", remote.port().into());
    }
    attributes.text("network.protocol.version", version(record.version));
    if let Some(agent) = &record.user_agent {
        attributes.text("user_agent.original", &String::from_utf8_lossy(agent.as_bytes()));
    }
    if let Some(status) = record.status {
        attributes.number("http.response.status_code", status.into());
    }
    let named = [
        ("proxima.listener", Some(record.listener)),
        ("proxima.route", record.route.as_ref().map(|route| route.as_str())),
        ("proxima.service", record.service.as_ref().map(|service| service.as_str())),
        ("proxima.region", record.region.as_ref().map(|region| region.as_str())),
        ("proxima.cause", record.cause),
    ];
    for (key, value) in named {
        attributes.maybe(key, value);
    }
    // The client's own mistakes are no failure of the server.
    let failed = match record.status {
        Some(status) => (status >= 500).then(|| status.to_string()),
        None => Some(record.cause.unwrap_or("client_left").to_owned()),
    };
    attributes.maybe("error.type", failed.as_deref());
    Span {
        parent_span_id: before.map_or_else(Vec::new, |before| before.to_bytes().to_vec()),
        kind: SpanKind::Server.into(),
        ..span(record, own, own.parent, (Duration::ZERO, record.took), (attributes, failed.is_some()))
    }
}

fn client(record: &Record, own: TraceParent, attempt: &Attempt, n: usize) -> Span {
    let mut attributes = Attributes::default();
    attributes.request(record);
    attributes.address("server.address", attempt.address.ip());
    attributes.number("server.port", attempt.address.port().into());
    attributes.address("network.peer.address", attempt.address.ip());
    attributes.number("network.peer.port", attempt.address.port().into());
    attributes.text("proxima.region", attempt.region.as_str());
    if n > 0 {
        attributes.number("http.request.resend_count", n as i64);
    }
    for (key, took) in
        [("proxima.connect_ms", attempt.connect), ("proxima.first_byte_ms", attempt.first_byte)]
    {
        if let Some(took) = took {
            attributes.put(key, Value::DoubleValue(took.as_secs_f64() * 1000.0));
        }
    }
    let failed = match attempt.result {
        AttemptResult::Answered(status) => {
            attributes.number("http.response.status_code", status.into());
            (status >= 400).then(|| status.to_string())
        }
        AttemptResult::Failed(why) => Some(why.to_owned()),
        AttemptResult::Abandoned => Some("abandoned".to_owned()),
        AttemptResult::Outpaced => Some("outpaced".to_owned()),
    };
    attributes.maybe("error.type", failed.as_deref());
    // As the attempt has told it to the endpoint.
    let id = own.parent.child(own.trace, &attempt.address.to_string());
    Span {
        parent_span_id: own.parent.to_bytes().to_vec(),
        kind: SpanKind::Client.into(),
        ..span(record, own, id, (attempt.began, attempt.took), (attributes, failed.is_some()))
    }
}

/// What both kinds have; `time`: when it began, since the request did, and how long it took.
fn span(
    record: &Record,
    own: TraceParent,
    id: SpanId,
    time: (Duration, Duration),
    told: (Attributes, bool),
) -> Span {
    let epoch = record.began.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = |at: Duration| u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
    let code = if told.1 { StatusCode::Error } else { StatusCode::Unset };
    Span {
        trace_id: own.trace.to_bytes().to_vec(),
        span_id: id.to_bytes().to_vec(),
        flags: u32::from(own.sampled),
        name: known(&record.method).unwrap_or("HTTP").to_owned(),
        start_time_unix_nano: nanos(epoch + time.0),
        end_time_unix_nano: nanos(epoch + time.0 + time.1),
        attributes: told.0.0,
        status: Some(Status { code: code.into(), ..Status::default() }),
        ..Span::default()
    }
}

/// A method of RFC 9110 or 5789; any other one would be a name that clients make up.
fn known(method: &Method) -> Option<&str> {
    let text = method.as_str();
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"]
        .contains(&text)
        .then_some(text)
}

const fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn put(&mut self, key: &str, value: Value) {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }

    fn text(&mut self, key: &str, value: &str) {
        self.put(key, Value::StringValue(value.chars().take(WORDS_MAX).collect()));
    }

    fn maybe(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn number(&mut self, key: &str, value: i64) {
        self.put(key, Value::IntValue(value));
    }

    fn address(&mut self, key: &str, address: IpAddr) {
        self.text(key, &address.to_canonical().to_string());
    }

    fn request(&mut self, record: &Record) {
        self.text("http.request.method", known(&record.method).unwrap_or("_OTHER"));
        if known(&record.method).is_none() {
            self.text("http.request.method_original", record.method.as_str());
        }
    }
}
