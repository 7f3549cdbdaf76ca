//! What routes say of the way of their requests: time, size, attempts, and who may ask.

use crate::client::{get, raw};
use crate::origin::{Origin, Reply, answer, ok};
use crate::support::{Authority, Plan, Running, SOON, start_with};
use proxima::config::{Config, Environment};
use proxima::domain::fleet::OutcomeResult;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

const ROUTES: &str = r#"
[[routes]]
name = "hasty"
hosts = ["www.example.com"]
path_prefix = "/hasty"
service = "web"
timeouts = { first_byte = "500ms" }

[[routes]]
name = "patient"
hosts = ["www.example.com"]
path_prefix = "/patient"
service = "web"
timeouts = { first_byte = "500ms", request = "10s" }
retries = { attempts = 3, on = ["timeout", "503"] }

[[routes]]
name = "short"
hosts = ["www.example.com"]
path_prefix = "/short"
service = "web"
timeouts = { request = "400ms" }
retries = { attempts = 10, on = ["timeout", "503"] }

[[routes]]
name = "bounded"
hosts = ["www.example.com"]
path_prefix = "/bounded"
service = "web"
timeouts = { request = "1s" }

[[routes]]
name = "talk"
hosts = ["www.example.com"]
path_prefix = "/talk"
service = "web"
timeouts = { upgrade_idle = "1s" }

[[routes]]
name = "stream"
hosts = ["www.example.com"]
path_prefix = "/stream"
service = "web"
timeouts = { between_bytes = "150ms" }

[[routes]]
name = "small"
hosts = ["www.example.com"]
path_prefix = "/small"
service = "web"
max_body = "10B"

[[routes]]
name = "inside"
hosts = ["www.example.com"]
path_prefix = "/inside"
service = "web"
allow = ["10.0.0.0/8", "127.0.0.1"]

[[routes]]
name = "outside"
hosts = ["www.example.com"]
path_prefix = "/outside"
service = "web"
deny = ["127.0.0.0/8"]
"#;

async fn edge(authority: &Authority) -> Running {
    let text = Plan::default().toml(authority) + ROUTES;
    let config = Config::from_text("proxima.toml", &text, &Environment::default());
    start_with(Arc::new(config.unwrap_or_else(|problems| panic!("{problems}")))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_is_tried_again_where_the_route_says_so_and_nowhere_else() {
    let edge = edge(&Authority::new()).await;
    let silent = Origin::start(|_, _| Reply::Silence).await;
    let well = Origin::start(|_, _| ok("well")).await;
    let (mut late, retries) = (0, "proxima_retries_total{reason=\"timeout\",service=\"web\"}");
    // Which of the two is asked first is drawn: endpoints that are new each time, until both were.
    for _ in 0..64 {
        edge.route(&[("home", &[silent.address, well.address])]);
        assert_eq!(get(edge.http(), "/patient", "").await.body, "well");
        edge.route(&[("home", &[silent.address, well.address])]);
        match get(edge.http(), "/hasty", "").await.status {
            200 => {}
            504 => late += 1,
            other => panic!("{other}"),
        }
        if late > 0 && edge.metric(retries) > 0.0 {
            break;
        }
    }
    assert!(late > 0 && edge.metric(retries) > 0.0, "{late} late");
    // Not idempotent: whatever the route says.
    edge.route(&[("home", &[silent.address])]);
    let post =
        "POST /patient HTTP/1.1\r\nhost: www.example.com\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let asked = silent.seen().len();
    assert!(raw(edge.http(), post).await.starts_with("HTTP/1.1 504 "));
    assert_eq!(silent.seen().len(), asked + 1);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_the_route_names_is_tried_again_and_the_last_answer_is_the_client_s() {
    let edge = edge(&Authority::new()).await;
    let ill = Origin::start(|_, _| answer("503 Service Unavailable", "", "ill")).await;
    let well = Origin::start(|_, _| ok("well")).await;
    edge.route(&[("home", &[ill.address, well.address])]);
    for _ in 0..8 {
        assert_eq!(get(edge.http(), "/patient", "").await.status, 200);
    }
    assert!(!ill.seen().is_empty());
    edge.route(&[("home", &[ill.address])]);
    let last = get(edge.http(), "/patient", "").await;
    assert_eq!((last.status, last.body.as_str()), (503, "ill"));
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_for_the_whole_request_ends_it_before_and_after_the_head() {
    let edge = edge(&Authority::new()).await;
    let silent = Origin::start(|_, _| Reply::Silence).await;
    edge.route(&[("home", &[silent.address])]);
    let began = Instant::now();
    let late = get(edge.http(), "/short", "").await;
    assert_eq!(late.status, 504, "{}", late.body);
    assert!(began.elapsed() >= Duration::from_millis(400) && began.elapsed() < SOON);
    // The head comes, the body never ends: the answer must not look whole.
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    let stuck = Origin::start(move |_, _| Reply::Send(half.to_owned())).await;
    edge.route(&[("home", &[stuck.address])]);
    for path in ["/short", "/stream"] {
        let ask = format!("GET {path} HTTP/1.1\r\nhost: www.example.com\r\n\r\n");
        let text = tokio::time::timeout(SOON, raw(edge.http(), &ask)).await.expect(path);
        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("half"), "{path}: {text}");
    }
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_bound_is_413_told_beforehand_or_counted() {
    let edge = edge(&Authority::new()).await;
    let origin = Origin::start(|_, _| ok("taken")).await;
    edge.route(&[("home", &[origin.address])]);
    let ask = |head: &str, body: &str| {
        format!("POST /small HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\n{head}\r\n\r\n{body}")
    };
    for (what, text, expected) in [
        ("told, small", ask("content-length: 10", "0123456789"), "200"),
        ("told, large", ask("content-length: 11", "0123456789a"), "413"),
        ("told, not sent yet", ask("content-length: 11\r\nexpect: 100-continue", ""), "413"),
        ("counted, small", ask("transfer-encoding: chunked", "a\r\n0123456789\r\n0\r\n\r\n"), "200"),
        (
            "counted, large",
            ask("transfer-encoding: chunked", "6\r\n012345\r\n6\r\n012345\r\n0\r\n\r\n"),
            "413",
        ),
    ] {
        let got = raw(edge.http(), &text).await;
        assert!(got.starts_with(&format!("HTTP/1.1 {expected} ")), "{what}: {got}");
    }
    let whole = origin.seen().iter().filter(|seen| seen.body.contains("012345012345")).count();
    assert_eq!(whole, 0, "no service gets more than its route allows");
    assert_eq!(edge.metric("proxima_requests_rejected_total{reason=\"body_too_large\"}"), 3.0);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_ask_gets_403_and_no_service_is_asked() {
    let edge = edge(&Authority::new()).await;
    let origin = Origin::start(|_, _| ok("in")).await;
    edge.route(&[("home", &[origin.address])]);
    assert_eq!(get(edge.http(), "/inside", "").await.status, 200);
    // What a client claims of its address is no address.
    assert_eq!(get(edge.http(), "/outside", "x-forwarded-for: 192.0.2.1\r\n").await.status, 403);
    assert_eq!(origin.seen().len(), 1);
    assert_eq!(edge.metric("proxima_requests_rejected_total{reason=\"denied\"}"), 1.0);
    edge.close().await;
}

/// An origin that answers at once and then sends without end.
async fn endless() -> Origin {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n";
    Origin::start(move |_, _| Reply::Send(head.to_owned() + &"x".repeat(20_000_000))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_in_time_says_nothing_of_the_service() {
    let mut edge = edge(&Authority::new()).await;
    let origin = endless().await;
    edge.route(&[("home", &[origin.address])]);
    let mut client = tokio::net::TcpStream::connect(edge.http()).await.unwrap();
    client.write_all(b"GET /bounded HTTP/1.1\r\nhost: www.example.com\r\n\r\n").await.unwrap();
    assert_eq!(edge.outcome().await, ("home".to_owned(), OutcomeResult::Success));
    assert_eq!(edge.metric("proxima_answers_cut_total{reason=\"deadline\",service=\"web\"}"), 1.0);
    drop(client);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_send_in_time_gets_408_and_the_service_no_blame() {
    let mut edge = edge(&Authority::new()).await;
    let origin = Origin::start(|_, _| ok("all of it")).await;
    edge.route(&[("home", &[origin.address])]);
    let part = "POST /bounded HTTP/1.1\r\nhost: www.example.com\r\ncontent-length: 9\r\n\r\npart";
    assert!(raw(edge.http(), part).await.starts_with("HTTP/1.1 408 "));
    assert!(edge.no_outcome());
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_conversation_that_the_client_has_not_finished_is_no_failure_of_the_service() {
    let mut edge = edge(&Authority::new()).await;
    // The head and a piece, while the request is not whole; then it waits for more.
    let origin =
        crate::origin::early("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nwell\r\n").await;
    edge.route(&[("home", &[origin])]);
    let part = "POST /stream HTTP/1.1\r\nhost: www.example.com\r\ncontent-length: 9\r\n\r\npart";
    let answer = raw(edge.http(), part).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    assert_eq!(edge.outcome().await, ("home".to_owned(), OutcomeResult::Success));
    assert_eq!(edge.metric("proxima_answers_cut_total{reason=\"client_slow\",service=\"web\"}"), 1.0);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_ends_when_both_sides_are_silent_for_as_long_as_the_route_says() {
    let edge = edge(&Authority::new()).await;
    let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let origin = Origin::start(move |_, _| Reply::Echo(head.to_owned())).await;
    edge.route(&[("home", &[origin.address])]);
    let mut client = tokio::net::TcpStream::connect(edge.http()).await.unwrap();
    let ask =
        "GET /talk HTTP/1.1\r\nhost: www.example.com\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    client.write_all(ask.as_bytes()).await.unwrap();
    client.write_all(b"still here;").await.unwrap();
    let mut read = String::new();
    tokio::time::timeout(SOON, client.read_to_string(&mut read)).await.expect("the silence ends it").unwrap();
    assert!(read.starts_with("HTTP/1.1 101 ") && read.ends_with("still here;"), "{read}");
    edge.close().await;
}
