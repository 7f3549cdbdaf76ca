//! What happens to a request's and an answer's heads, and what the edge answers itself.

use crate::client::{curl, get, parse, post, raw};
use crate::origin::{Nginx, Origin, answer, ok};
use crate::support::{Authority, Plan, service, start, start_with};
use proxima::config::{Config, Environment};
use proxima::domain::fleet::OutcomeResult;
use proxima::domain::name::DnsName;
use proxima::domain::snapshot::Gate;
use proxima::domain::snapshot::Snapshot;
use std::sync::Arc;
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_reaches_the_service_with_what_the_connection_says_of_the_client() {
    let authority = Authority::new();
    let mut edge = start(&Plan::default(), &authority).await;
    let origin = Origin::start(|_, _| ok("hello")).await;
    edge.route(&[("home", &[origin.address])]);
    let claims = "x-forwarded-for: 10.1.1.1\r\nx-forwarded-proto: https\r\nforwarded: for=10.1.1.1\r\n\
                  x-real-ip: 10.1.1.1\r\nx-proxima-forwarded-by: away\r\nx-proxima-service: other\r\n\
                  x-request-id: abc-1\r\nkeep-alive: timeout=5\r\nte: trailers\r\nx-other: kept\r\n";
    let answer = get(edge.http(), "/a?b=c", claims).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
    assert_eq!(answer.header("x-request-id"), Some("abc-1"));
    let seen = &origin.seen()[0];
    assert!(seen.head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{}", seen.head);
    for (name, value) in [
        ("host", Some("www.example.com")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("www.example.com")),
        ("forwarded", Some("for=127.0.0.1;proto=http;host=\"www.example.com\"")),
        ("x-request-id", Some("abc-1")),
        ("via", Some("1.1 proxima")),
        ("x-other", Some("kept")),
        ("x-real-ip", None),
        ("x-proxima-forwarded-by", None),
        ("x-proxima-service", None),
        ("keep-alive", None),
        ("te", Some("trailers")),
    ] {
        assert_eq!(seen.header(name), value, "{name}\n{}", seen.head);
    }
    assert_eq!(edge.outcome().await, ("home".to_owned(), OutcomeResult::Success));
    assert_eq!((edge.metrics.entered_total(), edge.metrics.served_total()), (1, 1));
    let line = "proxima_requests_total{class=\"2xx\",region=\"home\",service=\"web\"}";
    assert_eq!(edge.metric(line), 1.0);
    assert_eq!(edge.metric("proxima_request_duration_seconds_count{service=\"web\"}"), 1.0);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_loses_internal_and_hop_by_hop_headers() {
    let authority = Authority::new();
    let edge = start(&Plan::default(), &authority).await;
    let headers = "x-proxima-refused: no_room\r\nx-proxima-secret: 1\r\nkeep-alive: timeout=9\r\n\
                   connection: x-mine\r\nx-mine: 1\r\nx-kept: 1\r\n";
    // From a service it is no typed 503: only a peer can say that.
    let origin = Origin::start(move |_, _| answer("503 Service Unavailable", headers, "down")).await;
    edge.route(&[("home", &[origin.address])]);
    let answer = get(edge.http(), "/", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "down"));
    assert_eq!(origin.seen().len(), 1);
    for name in ["x-proxima-refused", "x-proxima-secret", "keep-alive", "x-mine"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.header("x-kept"), Some("1"));
    assert_eq!(answer.header("x-request-id").map(str::len), Some(32));
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_s_own_errors_pass_untouched_and_count_as_failures() {
    let authority = Authority::new();
    let mut edge = start(&Plan::default(), &authority).await;
    let origin = Origin::start(|seen, _| {
        let status = seen.head.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
        answer(&format!("{status} Whatever"), "", "mine")
    })
    .await;
    edge.route(&[("home", &[origin.address])]);
    for (status, result) in [
        (500, OutcomeResult::Success),
        (404, OutcomeResult::Success),
        (502, OutcomeResult::Failure),
        (503, OutcomeResult::Failure),
        (504, OutcomeResult::Failure),
    ] {
        let answer = get(edge.http(), &format!("/{status}"), "").await;
        assert_eq!((answer.status, answer.body.as_str()), (status, "mine"));
        assert_eq!(edge.outcome().await, ("home".to_owned(), result), "{status}");
    }
    assert_eq!(origin.seen().len(), 5, "none was retried");
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_is_404_and_no_place_to_go_503() {
    let authority = Authority::new();
    let edge = start(&Plan::default(), &authority).await;
    let unknown = "GET / HTTP/1.1\r\nhost: unknown.example.org\r\nconnection: close\r\n\r\n";
    let answer = parse(&raw(edge.http(), unknown).await);
    assert_eq!((answer.status, answer.header("content-type")), (404, Some("text/plain; charset=utf-8")));
    let id = answer.header("x-request-id").unwrap();
    assert!(answer.body.contains(id), "{}", answer.body);
    assert_eq!(edge.metric("proxima_requests_unrouted_total"), 1.0);
    edge.route(&[]);
    assert_eq!(get(edge.http(), "/", "").await.status, 503);
    let line = "proxima_requests_total{class=\"5xx\",region=\"none\",service=\"web\"}";
    assert_eq!(edge.metric(line), 1.0);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_answered_on_the_data_listeners_for_any_host() {
    let authority = Authority::new();
    let edge = start(&Plan::default(), &authority).await;
    let ask = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: 192.0.2.9\r\nconnection: close\r\n\r\n");
        let address = edge.http();
        async move { parse(&raw(address, &request).await).status }
    };
    assert_eq!(ask("/health/edge").await, 200);
    assert_eq!(ask("/health/gate").await, 200);
    assert_eq!(ask("/health/gate/www.example.com").await, 200, "not known yet: stay in DNS");
    let mut fleet_names = Snapshot::clone(&edge.snapshot.load());
    let status = proxima::domain::snapshot::NameStatus::unknown(Gate::Closed);
    fleet_names.names.insert(DnsName::parse("www.example.com").unwrap(), status);
    edge.snapshot.store(Arc::new(fleet_names));
    assert_eq!(ask("/health/gate").await, 503);
    assert_eq!(ask("/health/gate/www.example.com").await, 503);
    assert_eq!(ask("/health/edge").await, 200, "never touched by verdicts");
    assert_eq!(edge.metrics.entered_total(), 0, "checks are no demand");
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_breaks_the_rules_of_http_is_400_and_no_outcome() {
    let authority = Authority::new();
    let mut edge = start(&Plan::default(), &authority).await;
    let origin = Origin::start(|_, _| ok("never")).await;
    edge.route(&[("home", &[origin.address])]);
    for bytes in [
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: www.example.com\r\ncontent-length: x\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: www.example.com\r\nconnection: x-forwarded-for\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        assert_eq!(parse(&raw(edge.http(), bytes).await).status, 400, "{bytes:?}");
    }
    assert!(origin.seen().is_empty());
    assert!(edge.no_outcome());
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn head_has_no_body_and_a_client_s_post_arrives_whole() {
    let authority = Authority::new();
    let edge = start(&Plan::default(), &authority).await;
    let origin = Origin::start(|seen, _| ok(&seen.body.len().to_string())).await;
    edge.route(&[("home", &[origin.address])]);
    let body = "0123456789".repeat(30_000);
    assert_eq!(post(edge.http(), &body).await.body, "300000");
    let head = "HEAD /health/edge HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = parse(&raw(edge.http(), head).await);
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_ne!(answer.header("content-length"), Some("0"));
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_is_fronted_with_large_answers_and_uploads() {
    let Some(nginx) = Nginx::start().await else { return };
    let authority = Authority::new();
    let edge = start(&Plan::default(), &authority).await;
    edge.route(&[("home", &[nginx.address])]);
    let url = |path: &str| format!("http://{}{path}", edge.http());
    for arguments in [vec!["--http1.1"], vec!["--http2-prior-knowledge"]] {
        let with = |more: &[&str]| {
            [arguments.as_slice(), more].concat().iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()
        };
        let run = async |more: &[&str]| {
            let all = with(more);
            curl(&all.iter().map(String::as_str).collect::<Vec<_>>()).await
        };
        let Some(large) = run(&[&url("/large")]).await else { return };
        assert_eq!((large.status, large.body.len()), (200, 3_000_000), "{arguments:?} {}", large.error);
        let file = nginx_body(&authority);
        let upload = run(&["--data-binary", &format!("@{file}"), &url("/upload")]).await.unwrap();
        assert_eq!((upload.status, upload.body.as_str()), (200, "2000000\n"), "{arguments:?}");
        let echo = run(&["-H", "x-request-id: id-7", &url("/echo")]).await.unwrap();
        assert_eq!(echo.body, format!("GET {} http id-7\n", edge.http()), "{arguments:?}");
    }
    assert!(edge.edge.activity().requests == 0);
    assert!(edge.config.services.contains_key(&service("web")));
    edge.close().await;
}

fn nginx_body(authority: &Authority) -> String {
    let file = authority.folder.join("upload");
    std::fs::write(&file, "y".repeat(2_000_000)).unwrap();
    file.to_string_lossy().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_edge_is_told_in_words_that_its_client_can_read() {
    let edge = start(&Plan::default(), &Authority::new()).await;
    // No region can serve: the snapshot knows of none.
    let text = get(edge.http(), "/", "").await;
    assert_eq!((text.status, text.header("content-type")), (503, Some("text/plain; charset=utf-8")));
    let id = text.header("x-request-id").unwrap();
    assert_eq!(text.body, format!("503: no region can serve this now\nrequest id: {id}\n"));
    let json = get(edge.http(), "/", "accept: application/json\r\n").await;
    let read: serde_json::Value = serde_json::from_str(&json.body).unwrap();
    assert_eq!((json.status, &read["status"]), (503, &serde_json::json!(503)));
    assert_eq!(read["request_id"].as_str(), json.header("x-request-id"));

    let stream = TcpStream::connect(edge.http()).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = http::Request::post("http://www.example.com/echo.Echo/Say")
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers");
    let (answer, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.body().is_end_stream()), (200, true), "trailers only");
    assert_eq!(answer.headers()["grpc-status"], "14");
    assert_eq!(answer.headers()["content-type"], "application/grpc");
    drop((client, answer));
    driver.await.unwrap().unwrap();
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_says_who_the_client_is_and_its_words_go_on() {
    let authority = Authority::new();
    let trusting = "[edge]\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let text = Plan::default().toml(&authority).replacen("[edge]\n", trusting, 1);
    let config = Config::from_text("proxima.toml", &text, &Environment::default()).unwrap();
    let edge = start_with(config.into()).await.unwrap();
    let origin = Origin::start(|_, _| ok("hello")).await;
    edge.route(&[("home", &[origin.address])]);
    get(edge.http(), "/", "x-forwarded-for: 1.2.3.4, 192.0.2.1\r\nx-forwarded-proto: https\r\n").await;
    let seen = &origin.seen()[0];
    for (name, value) in [
        ("x-forwarded-for", "1.2.3.4, 192.0.2.1, 127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=192.0.2.1;proto=https;host=\"www.example.com\""),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}\n{}", seen.head);
    }
    edge.close().await;
}
