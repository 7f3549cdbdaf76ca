//! When a request is tried again, and when never.

use crate::client::{get, parse, post, raw};
use crate::origin::{Origin, Refusing, Reply, http2, ok};
use crate::support::{Authority, Plan, eventually, start};
use proxima::domain::fleet::OutcomeResult;
use std::sync::atomic::Ordering;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const FAILURE: OutcomeResult = OutcomeResult::Failure;
const SUCCESS: OutcomeResult = OutcomeResult::Success;

fn home(result: OutcomeResult) -> (String, OutcomeResult) {
    ("home".to_owned(), result)
}

/// Replies to the first request as told, to later ones well.
fn first(reply: Reply) -> impl Fn(&crate::origin::Seen, usize) -> Reply + Send + Sync + 'static {
    move |_, before| if before == 0 { reply.clone() } else { ok("second") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_is_retried_on_another_endpoint_for_any_method() {
    let authority = Authority::new();
    let mut edge = start(&Plan::default(), &authority).await;
    let (dead, origin) = (Refusing::new(), Origin::start(|seen, _| ok(&seen.body)).await);
    edge.route(&[("home", &[dead.address]), ("home", &[origin.address])]);
    let answer = post(edge.http(), "payload").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "payload"));
    assert_eq!(edge.outcome().await, home(FAILURE));
    assert_eq!(edge.outcome().await, home(SUCCESS));
    assert_eq!(edge.metric("proxima_retries_total{reason=\"connect\",service=\"web\"}"), 1.0);
    assert_eq!(edge.metric("proxima_attempts_total{service=\"web\"}"), 2.0);
    let errors = "proxima_upstream_connect_errors_total{region=\"home\",service=\"web\"}";
    assert_eq!(edge.metric(errors), 1.0);
    assert_eq!(edge.metrics.served_total(), 1, "one request, however many attempts");
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotent_request_is_retried_until_the_head_of_an_answer_is_whole() {
    for reply in [Reply::Reset, Reply::Close, Reply::SendAndClose("HTTP/1.1 200 OK\r\ncontent-le".to_owned())]
    {
        let authority = Authority::new();
        let mut edge = start(&Plan::default(), &authority).await;
        let origin = Origin::start(first(reply.clone())).await;
        // Two candidates, so that the same origin is there for the second attempt.
        edge.route(&[("home", &[origin.address]), ("home", &[origin.address])]);
        let answer = get(edge.http(), "/", "").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "second"), "{reply:?}");
        assert_eq!(edge.outcome().await, home(FAILURE), "{reply:?}");
        assert_eq!(edge.outcome().await, home(SUCCESS), "{reply:?}");
        assert_eq!(edge.metric("proxima_retries_total{reason=\"closed\",service=\"web\"}"), 1.0);
        edge.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_is_retried_with_its_whole_body() {
    let authority = Authority::new();
    let edge = start(&Plan::default(), &authority).await;
    let origin = Origin::start(first(Reply::Reset)).await;
    edge.route(&[("home", &[origin.address]), ("home", &[origin.address])]);
    let body = "z".repeat(20_000);
    let request = format!(
        "PUT / HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\ncontent-length: 20000\r\n\r\n{body}"
    );
    assert_eq!(parse(&raw(edge.http(), &request).await).status, 200);
    assert_eq!(origin.seen()[1].body, body);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_outgrew_the_buffer_is_not_retried() {
    let authority = Authority::new();
    let edge = start(&Plan::default(), &authority).await;
    let origin = Origin::start(first(Reply::Reset)).await;
    edge.route(&[("home", &[origin.address]), ("home", &[origin.address])]);
    let request = format!(
        "PUT / HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\ncontent-length: 200000\r\n\r\n{}",
        "z".repeat(200_000)
    );
    assert_eq!(parse(&raw(edge.http(), &request).await).status, 502);
    assert_eq!(origin.seen().len(), 1);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_was_sent_is_never_sent_again() {
    let authority = Authority::new();
    let mut edge = start(&Plan::default(), &authority).await;
    let origin = Origin::start(first(Reply::Reset)).await;
    edge.route(&[("home", &[origin.address]), ("home", &[origin.address])]);
    let answer = post(edge.http(), "once").await;
    assert_eq!(answer.status, 502);
    assert!(answer.body.contains(answer.header("x-request-id").unwrap()), "{}", answer.body);
    assert_eq!(origin.seen().len(), 1);
    assert_eq!(edge.outcome().await, home(FAILURE));
    assert!(edge.no_outcome());
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_not_retried_and_not_completed() {
    let authority = Authority::new();
    let mut edge = start(&Plan::default(), &authority).await;
    let part = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_owned();
    let origin = Origin::start(first(Reply::SendAndClose(part))).await;
    edge.route(&[("home", &[origin.address]), ("home", &[origin.address])]);
    let answer = get(edge.http(), "/", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "half"), "closed where it broke");
    assert_eq!(origin.seen().len(), 1);
    assert_eq!(edge.outcome().await, home(FAILURE));
    assert!(edge.no_outcome(), "one attempt, one outcome");
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_is_504_and_not_retried() {
    let authority = Authority::new();
    let mut edge = start(&Plan { read_timeout: "200ms", ..Plan::default() }, &authority).await;
    let origin = Origin::start(first(Reply::Silence)).await;
    edge.route(&[("home", &[origin.address]), ("home", &[origin.address])]);
    assert_eq!(get(edge.http(), "/", "").await.status, 504);
    assert_eq!(origin.seen().len(), 1);
    assert_eq!(edge.outcome().await, home(FAILURE));
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_http_is_502() {
    let authority = Authority::new();
    let edge = start(&Plan::default(), &authority).await;
    let origin = Origin::start(first(Reply::SendAndClose("garbage\r\n\r\n".to_owned()))).await;
    edge.route(&[("home", &[origin.address]), ("home", &[origin.address])]);
    assert_eq!(get(edge.http(), "/", "").await.status, 502);
    assert_eq!(origin.seen().len(), 1);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_end_with_the_budget() {
    let authority = Authority::new();
    let mut edge = start(&Plan { attempts: 3, ..Plan::default() }, &authority).await;
    let dead: Vec<_> = (0..5).map(|_| Refusing::new()).collect();
    let addresses: Vec<_> = dead.iter().map(|d| d.address).collect();
    edge.route(&[("home", &addresses)]);
    assert_eq!(get(edge.http(), "/", "").await.status, 502);
    for _ in 0..3 {
        assert_eq!(edge.outcome().await, home(FAILURE));
    }
    assert!(edge.no_outcome());
    assert_eq!(edge.metric("proxima_retries_total{reason=\"connect\",service=\"web\"}"), 2.0);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_no_outcome() {
    let authority = Authority::new();
    let mut edge = start(&Plan::default(), &authority).await;
    let origin = Origin::start(first(Reply::Silence)).await;
    edge.route(&[("home", &[origin.address])]);
    let mut client = TcpStream::connect(edge.http()).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: www.example.com\r\n\r\n").await.unwrap();
    eventually("the request arrives", || origin.seen().len() == 1).await;
    assert_eq!(edge.edge.activity().requests, 1);
    drop(client);
    eventually("the request ends", || edge.edge.activity().requests == 0).await;
    assert!(edge.no_outcome());
    let line = "proxima_requests_total{class=\"none\",region=\"none\",service=\"web\"}";
    assert_eq!(edge.metric(line), 1.0);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_that_nobody_takes_are_dropped_and_counted() {
    let authority = Authority::new();
    let edge = start(&Plan::default(), &authority).await;
    let origin = Origin::start(|_, _| ok("fine")).await;
    edge.route(&[("home", &[origin.address])]);
    // The channel of these tests holds 64.
    for _ in 0..66 {
        assert_eq!(get(edge.http(), "/", "").await.status, 200);
    }
    eventually("drops are counted", || edge.metric("proxima_outcomes_dropped_total") == 2.0).await;
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_the_origin_refused_is_retried_for_any_method() {
    let authority = Authority::new();
    let mut edge = start(&Plan { protocol: "http2", ..Plan::default() }, &authority).await;
    let (origin, streams) = http2(true).await;
    edge.route(&[("home", &[origin]), ("home", &[origin])]);
    assert_eq!(post(edge.http(), "once").await.status, 200);
    assert_eq!(streams.load(Ordering::SeqCst), 2);
    assert_eq!(edge.outcome().await, home(FAILURE));
    assert_eq!(edge.outcome().await, home(SUCCESS));
    assert_eq!(edge.metric("proxima_retries_total{reason=\"unprocessed\",service=\"web\"}"), 1.0);
    edge.close().await;
}
