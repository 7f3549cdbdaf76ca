//! Traces through a running process, and their spans in a collector that speaks OTLP over HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod run_support;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;
use run_support::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// Heads and bodies.
type Seen = Mutex<Vec<(String, Vec<u8>)>>;

/// A server that keeps each request, head and body, and answers 200 with nothing.
struct Recorder {
    address: SocketAddr,
    seen: Arc<Seen>,
}

impl Recorder {
    fn start() -> Self {
        let listener = TcpListener::bind((loopback(), 0)).unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let kept = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = Arc::clone(&kept);
                // A client that leaves ends its thread: that is its right.
                thread::spawn(move || record(stream, &kept));
            }
        });
        Self { address, seen }
    }

    /// The heads of requests for a path.
    fn heads(&self, path: &str) -> Vec<String> {
        let asked = format!(" {path} ");
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|(head, _)| head).filter(|head| head.contains(&asked)).cloned().collect()
    }

    /// As a collector: all spans so far.
    fn spans(&self) -> Vec<Span> {
        let seen = self.seen.lock().unwrap();
        let posts = seen.iter().filter(|(head, _)| head.starts_with("POST /v1/traces HTTP/1.1\r\n"));
        let decoded = posts.map(|(head, body)| {
            assert!(head.to_lowercase().contains("content-type: application/x-protobuf"), "{head}");
            ExportTraceServiceRequest::decode(body.as_slice()).unwrap()
        });
        let scopes = decoded.flat_map(|request| request.resource_spans).flat_map(|of| {
            let service = of.resource.unwrap().attributes;
            assert_eq!(service[0].key, "service.name");
            of.scope_spans
        });
        scopes.flat_map(|scope| scope.spans).collect()
    }
}

fn record(stream: TcpStream, kept: &Seen) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            (reader.read_line(&mut head).ok()? > 0).then_some(())?;
        }
        let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        kept.lock().ok()?.push((head, body));
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()?;
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// One GET with further header lines; its status.
fn ask(edge: &Edge, path: &str, more: &str) -> u16 {
    let mut stream = TcpStream::connect(edge.address("http")).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: www.example.com\r\n{more}Connection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

fn told() -> String {
    format!("traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: vendor=word\r\n")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn value(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn otlp(collector: SocketAddr, more: &str) -> String {
    format!("[tracing]\nsample = 1.0\n[tracing.otlp]\nendpoint = \"http://{collector}\"\n{more}\n")
}

#[test]
fn a_request_and_each_of_its_attempts_is_a_span_of_the_clients_trace() {
    let (folder, origin, collector) = (Folder::new(), Recorder::start(), Recorder::start());
    let dead = TcpListener::bind((loopback(), 0)).unwrap().local_addr().unwrap();
    // Probes must not find the dead one before a request does.
    let config = single(origin.address, &otlp(collector.address, "batch_delay = \"100ms\""))
        .replace(&format!("[\"{}\"]", origin.address), &format!("[\"{}\", \"{dead}\"]", origin.address))
        .replace("timeout = \"150ms\"", "timeout = \"150ms\"\nfall = 20");
    let edge = Edge::ready(&folder.write("proxima.toml", &config));
    // All of them alike: an endpoint that has failed once is not asked again for long.
    let server = eventually("a request took two attempts", || {
        ask(&edge, "/traced", &told());
        let spans = collector.spans();
        spans.iter().find_map(|server| {
            let children = spans.iter().filter(|span| span.parent_span_id == server.span_id);
            (children.count() == 2 && value(server, "url.path") == "/traced").then(|| server.clone())
        })
    });
    assert_eq!((hex(&server.trace_id), hex(&server.parent_span_id)), (TRACE.to_owned(), PARENT.to_owned()));
    assert_eq!((server.kind(), server.name.as_str()), (SpanKind::Server, "GET"));
    assert_eq!(server.status.as_ref().unwrap().code(), StatusCode::Unset);
    for (key, text) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("url.scheme", "http"),
        ("server.address", "www.example.com"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("proxima.route", "web"),
        ("proxima.service", "web"),
        ("proxima.region", "here"),
    ] {
        assert_eq!(value(&server, key), text, "{key}: {server:?}");
    }
    let mut attempts: Vec<Span> =
        collector.spans().into_iter().filter(|span| span.parent_span_id == server.span_id).collect();
    attempts.sort_by_key(|span| span.start_time_unix_nano);
    let [failed, answered] = attempts.as_slice() else { panic!("{attempts:?}") };
    assert_eq!(
        (value(failed, "error.type"), value(failed, "server.port")),
        ("connect".to_owned(), dead.port().to_string())
    );
    assert_eq!(failed.status.as_ref().unwrap().code(), StatusCode::Error);
    assert_eq!(value(answered, "http.response.status_code"), "200");
    assert_eq!(value(answered, "http.request.resend_count"), "1");
    for attempt in &attempts {
        assert_eq!((hex(&attempt.trace_id).as_str(), attempt.kind()), (TRACE, SpanKind::Client));
        assert!(attempt.start_time_unix_nano >= server.start_time_unix_nano, "{attempt:?}");
        assert!(attempt.end_time_unix_nano <= server.end_time_unix_nano + 1_000_000, "{attempt:?}");
    }
    // The service hangs its own spans under the attempt that reached it.
    let expected = format!("00-{TRACE}-{}-01", hex(&answered.span_id));
    let heads = origin.heads("/traced");
    let head = heads.iter().find(|head| header(head, "traceparent") == Some(&expected));
    assert_eq!(header(head.unwrap(), "tracestate"), Some("vendor=word"), "{heads:?}");
    edge.until_metric(r#"proxima_spans_total{result="sent"}"#, 3.0);
}

#[test]
fn a_trace_begins_where_there_is_none_by_the_share_in_force_and_what_is_not_sampled_is_not_exported() {
    let (folder, origin, collector) = (Folder::new(), Recorder::start(), Recorder::start());
    let all = single(origin.address, &otlp(collector.address, "batch_delay = \"100ms\""));
    let none = all.replace("sample = 1.0", "sample = 0.0\nclients = \"restart\"");
    let edge = Edge::ready(&folder.write("proxima.toml", &none));
    eventually("it is served", || (ask(&edge, "/", "") == 200).then_some(()));
    let parent = |path: &str| header(&origin.heads(path)[0], "traceparent").unwrap().to_owned();
    ask(&edge, "/none", "tracestate: a=1\r\n");
    assert!(parent("/none").ends_with("-00"), "{}", parent("/none"));
    assert_eq!(header(&origin.heads("/none")[0], "tracestate"), None, "words about no trace");
    // Who is not believed begins anew, too.
    ask(&edge, "/restarted", &told());
    assert!(!parent("/restarted").contains(TRACE) && parent("/restarted").ends_with("-00"));

    folder.write("proxima.toml", &all);
    edge.until_metric(r#"proxima_reloads_total{result="applied"}"#, 1.0);
    ask(&edge, "/all", "traceparent: 00-nonsense-01\r\n");
    assert!(parent("/all").ends_with("-01"), "{}", parent("/all"));
    ask(&edge, "/kept", &told());
    assert!(parent("/kept").contains(TRACE) && !parent("/kept").contains(PARENT), "{}", parent("/kept"));
    let spans = eventually("both are exported", || {
        Some(collector.spans())
            .filter(|spans| spans.iter().filter(|s| s.kind() == SpanKind::Server).count() >= 2)
    });
    let begun = spans.iter().find(|span| value(span, "url.path") == "/all").unwrap();
    assert!(begun.parent_span_id.is_empty() && parent("/all").contains(&hex(&begun.trace_id)), "{begun:?}");
    let paths: Vec<String> = spans.iter().map(|span| value(span, "url.path")).collect();
    assert!(!paths.contains(&"/none".to_owned()) && !paths.contains(&"/restarted".to_owned()), "{paths:?}");
}

#[test]
fn a_collector_that_stands_still_costs_spans_and_never_a_request_nor_the_exit() {
    let (folder, origin) = (Folder::new(), Recorder::start());
    // Connections wait in its backlog, and nothing is ever answered.
    let silent = TcpListener::bind((loopback(), 0)).unwrap();
    let more = otlp(silent.local_addr().unwrap(), "batch_max = 1\ntimeout = \"60s\"");
    let mut edge = Edge::ready(&folder.write("proxima.toml", &single(origin.address, &more)));
    eventually("it is served", || (ask(&edge, "/", "") == 200).then_some(()));
    let mut longest = Duration::ZERO;
    let dropped = r#"proxima_spans_total{result="dropped"}"#;
    for n in 0..2500 {
        let began = Instant::now();
        assert_eq!(ask(&edge, "/traced", ""), 200, "request {n}");
        longest = longest.max(began.elapsed());
    }
    assert!(edge.metric(dropped).unwrap() > 0.0, "the queue is bounded");
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    edge.signal("TERM");
    assert_eq!(edge.ended().code(), Some(0));
    assert!(edge.log().contains("the last spans were not sent"), "{}", edge.log());
}

#[test]
fn the_end_of_the_process_loses_no_span_and_a_dead_collector_is_told_once() {
    let (folder, origin, collector) = (Folder::new(), Recorder::start(), Recorder::start());
    let dead = TcpListener::bind((loopback(), 0)).unwrap().local_addr().unwrap();
    let config = |collector, more: &str| single(origin.address, &otlp(collector, more));
    let file = folder.write("proxima.toml", &config(dead, "batch_max = 1"));
    let mut edge = Edge::ready(&file);
    eventually("it is served", || (ask(&edge, "/", "") == 200).then_some(()));
    for _ in 0..5 {
        ask(&edge, "/lost", "");
    }
    edge.until_metric(r#"proxima_spans_total{result="failed"}"#, 10.0);
    assert_eq!(edge.log().matches("spans are lost").count(), 1, "{}", edge.log());

    folder.write("proxima.toml", &config(collector.address, "batch_delay = \"60s\""));
    edge.until_metric(r#"proxima_reloads_total{result="applied"}"#, 1.0);
    ask(&edge, "/last", "");
    edge.signal("TERM");
    assert_eq!(edge.ended().code(), Some(0));
    let paths: Vec<String> = collector.spans().iter().map(|span| value(span, "url.path")).collect();
    assert!(paths.contains(&"/last".to_owned()), "{paths:?}");
    assert!(edge.log().contains("spans are taken again"), "{}", edge.log());
}
