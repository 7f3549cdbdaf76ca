//! Limits of a listener on what a client may send, and on how slowly.

use crate::client::{Answer, curl, parse, rest};
use crate::origin::{Origin, answer, ok};
use crate::support::{Authority, Running, SOON, eventually};
use crate::{front, fronted, started};
use bytes::Bytes;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

const VERSIONS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

async fn ask(at: SocketAddr, path: &str, flags: &[&str]) -> Option<Answer> {
    let (to, url) = (format!("::{at}"), format!("http://www.example.com:{}{path}", at.port()));
    curl(&[&["--connect-to", &to, "--header", "expect:", &url], flags].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_larger_than_its_listener_allows_is_refused_and_the_next_listener_takes_it() {
    let authority = Authority::new();
    let lines = "max_head = \"2KiB\"\nmax_uri = \"1KiB\"\nmax_headers = 12\nmax_body = \"1KiB\"";
    let edge = fronted(&authority, lines).await;
    let (path, value, body) =
        (format!("/{}", "p".repeat(1100)), format!("x: {}", "v".repeat(2100)), "b".repeat(1025));
    let many: Vec<String> = (0..12).map(|n| format!("x-{n}: v")).collect();
    let many: Vec<&str> = many.iter().flat_map(|line| ["--header", line]).collect();
    for version in VERSIONS {
        for (what, path, flags, status) in [
            ("fits", "/", &["--data", "b"][..], 200),
            ("a long target", &path, &[], 414),
            ("a large head", "/", &["--header", &value], 431),
            ("many header lines", "/", &many, 431),
            ("a large body", "/", &["--data", &body], 413),
            (
                "a large body of no told length",
                "/",
                &["--header", "transfer-encoding: chunked", "--data", &body],
                413,
            ),
        ] {
            let flags = [&[version], flags].concat();
            let Some(answer) = ask(front(&edge), path, &flags).await else { return };
            assert_eq!(answer.status, status, "{version} {what}: {}", answer.error);
            assert_eq!(ask(edge.http(), path, &flags).await.unwrap().status, 200, "{version} {what}");
        }
    }
    assert_eq!(edge.metric("proxima_requests_rejected_total{reason=\"body_too_large\"}"), 4.0);
    edge.close().await;
}

/// The route allows more than the listener, and less: the smaller bound holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_route_does_not_widen_what_its_listener_allows() {
    let authority = Authority::new();
    for (listener, route, status) in [("1KiB", "1MiB", 413), ("1MiB", "1KiB", 413), ("1MiB", "1MiB", 200)] {
        let front_lines = format!("address = \"127.0.0.1:0\"\nmax_body = {listener:?}");
        let tail = format!("max_body = {route:?}\n");
        let text = crate::support::Plan::default().toml(&authority);
        let text =
            text.replace("[tls]\n", &format!("[[listeners]]\nname = \"front\"\n{front_lines}\n[tls]\n"));
        let text = text.replace("service = \"web\"\n", &format!("service = \"web\"\n{tail}"));
        let config = proxima::config::Config::from_text("proxima.toml", &text, &Default::default()).unwrap();
        let edge = crate::start_with(std::sync::Arc::new(config)).await.unwrap();
        let origin = Origin::start(|_, _| ok("served")).await;
        edge.route(&[("home", &[origin.address])]);
        let body = "b".repeat(2000);
        let Some(answer) = ask(front(&edge), "/", &["--data", &body]).await else { return };
        assert_eq!(answer.status, status, "{listener} {route}");
        edge.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_how_many_streams_it_may_open() {
    let authority = Authority::new();
    let edge = fronted(&authority, "max_streams = 3").await;
    for (at, most) in [(front(&edge), 3), (edge.http(), 100)] {
        let stream = TcpStream::connect(at).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let driving = tokio::spawn(connection);
        eventually("settings have come", || client.current_max_send_streams() == most).await;
        drop(client);
        driving.await.unwrap().unwrap();
    }
    edge.close().await;
}

const TRICKLE: &str =
    "POST / HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\ncontent-length: 30\r\n\r\n";

/// Sends a byte of a body every now and then; the answer, and when it came.
async fn trickled(at: SocketAddr) -> (Answer, Duration) {
    let (mut stream, began) = (TcpStream::connect(at).await.unwrap(), Instant::now());
    let (mut from, mut to) = stream.split();
    to.write_all(TRICKLE.as_bytes()).await.unwrap();
    let sending = async {
        for _ in 0..30 {
            sleep(Duration::from_millis(50)).await;
            if to.write_all(b"b").await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let mut bytes = Vec::new();
    tokio::select! {
        () = sending => {}
        read = timeout(SOON, from.read_to_end(&mut bytes)) => drop(read.expect("an answer")),
    }
    (parse(&String::from_utf8_lossy(&bytes)), began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_sending_or_trickles_is_cut_and_who_keeps_the_rate_is_not() {
    let authority = Authority::new();
    let pause = Duration::from_millis(400);
    for (rate, status) in [("0B", 200), ("10B", 200), ("1KiB", 408)] {
        let edge = fronted(&authority, &format!("client_timeout = \"400ms\"\nmin_rate = {rate:?}")).await;
        let (answer, took) = trickled(front(&edge)).await;
        assert_eq!(answer.status, status, "{rate}");
        // A byte every 50 ms is no pause.
        assert!(took >= if status == 200 { pause * 3 } else { pause }, "{rate}: {took:?}");
        let began = Instant::now();
        let mut silent = TcpStream::connect(front(&edge)).await.unwrap();
        silent.write_all(TRICKLE.as_bytes()).await.unwrap();
        assert_eq!(parse(&rest(&mut silent).await).status, 408, "{rate}");
        assert!(began.elapsed() >= pause, "{:?}", began.elapsed());
        edge.close().await;
    }
}

/// The same by HTTP/2; a call of gRPC may say little for long, but not nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_trickles_is_cut_and_a_call_of_grpc_is_not() {
    let authority = Authority::new();
    let edge = fronted(&authority, "client_timeout = \"400ms\"\nmin_rate = \"1KiB\"").await;
    for (kind, silent, status) in
        [("text/plain", false, 408), ("application/grpc", false, 200), ("text/plain", true, 408)]
    {
        let stream = TcpStream::connect(front(&edge)).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        let driving = tokio::spawn(connection);
        let request = http::Request::post("http://www.example.com/").header("content-type", kind);
        let (answer, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
        let sending = tokio::spawn(async move {
            for _ in 0..20 {
                sleep(Duration::from_millis(50)).await;
                if !silent && body.send_data(Bytes::from_static(b"b"), false).is_err() {
                    return;
                }
            }
            drop(body.send_data(Bytes::new(), true));
        });
        let answer = timeout(SOON, answer).await.unwrap().unwrap();
        assert_eq!(answer.status().as_u16(), status, "{kind} {silent}");
        sending.await.unwrap();
        drop((client, answer));
        driving.abort();
    }
    edge.close().await;
}

/// Its requests end, and with them the connection and what waits in it.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_his_answer_is_cut() {
    let authority = Authority::new();
    let lines = "address = \"127.0.0.1:0\"\nclient_timeout = \"400ms\"\nidle_timeout = \"400ms\"";
    let edge = started(&authority, lines, "").await.unwrap();
    let large = "x".repeat(32 * 1024 * 1024);
    let origin = Origin::start(move |_, _| answer("200 OK", "", &large)).await;
    edge.route(&[("home", &[origin.address])]);
    let began = Instant::now();
    let mut one = TcpStream::connect(front(&edge)).await.unwrap();
    one.write_all(b"GET / HTTP/1.1\r\nhost: www.example.com\r\n\r\n").await.unwrap();
    let two = TcpStream::connect(front(&edge)).await.unwrap();
    let (mut client, connection) = h2::client::handshake(two).await.unwrap();
    let driving = tokio::spawn(connection);
    let request = http::Request::get("http://www.example.com/").body(()).unwrap();
    // Its window is never opened again.
    let (answering, _) = client.send_request(request, true).unwrap();
    let _held = timeout(SOON, answering).await.unwrap().unwrap();
    eventually("both are in flight", || edge.edge.activity().requests == 2).await;
    eventually("neither is", || edge.edge.activity().requests == 0).await;
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    drop(client);
    driving.abort();
    eventually("nothing is left", || edge.edge.activity().connections == 0).await;
    edge.close().await;
}

/// An origin that says a word, nothing for a second, and another word, as events come.
async fn events() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.read_buf(&mut Vec::with_capacity(4096)).await.unwrap();
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: 1\n\n";
                stream.write_all(head.as_bytes()).await.unwrap();
                sleep(Duration::from_millis(1200)).await;
                stream.write_all(b"data: 2\n\n").await.unwrap();
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_origin_is_silent_is_not_the_client_s_fault() {
    let authority = Authority::new();
    let lines = "client_timeout = \"200ms\"\nmin_rate = \"1MiB\"\nidle_timeout = \"200ms\"";
    let edge: Running = fronted(&authority, lines).await;
    edge.route(&[("home", &[events().await])]);
    for version in VERSIONS {
        let Some(answer) = ask(front(&edge), "/", &[version]).await else { return };
        let got = (answer.status, answer.body.as_str());
        assert_eq!(got, (200, "data: 1\n\ndata: 2\n\n"), "{version}: {}", answer.error);
    }
    edge.close().await;
}
