//! The end of an edge: nothing that was sent fails, and it ends as soon as nothing is left.

use crate::client::{get, one_answer, rest};
use crate::origin::{Origin, Reply, ok};
use crate::support::{Authority, Plan, Running, SOON, eventually, start};
use proxima::proxy::Phase;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: www.example.com\r\n\r\n";

/// An edge before an origin that takes its time.
async fn slow(authority: &Authority, pause: Duration) -> (Running, Origin) {
    let edge = start(&Plan::default(), authority).await;
    let reply = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone";
    let origin = Origin::start(move |_, _| Reply::Slow(pause, reply.to_owned())).await;
    edge.route(&[("home", &[origin.address])]);
    (edge, origin)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_draining_it_still_accepts_and_answers_but_keeps_no_connection() {
    let authority = Authority::new();
    let edge = start(&Plan::default(), &authority).await;
    let origin = Origin::start(|_, _| ok("fine")).await;
    edge.route(&[("home", &[origin.address])]);
    let mut kept = TcpStream::connect(edge.http()).await.unwrap();
    kept.write_all(REQUEST).await.unwrap();
    assert_eq!(one_answer(&mut kept).await.header("connection"), Some("keep-alive"));
    edge.phase.send_replace(Phase::Draining);
    // The phase reaches the edge's own task a moment later.
    eventually("draining is seen", || {
        let mut stream = std::net::TcpStream::connect(edge.http()).unwrap();
        std::io::Write::write_all(&mut stream, b"GET /health/edge HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut bytes = [0; 4096];
        let n = std::io::Read::read(&mut stream, &mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..n]).to_ascii_lowercase().contains("connection: close")
    })
    .await;
    kept.write_all(REQUEST).await.unwrap();
    assert_eq!(one_answer(&mut kept).await.header("connection"), Some("close"));
    assert_eq!(rest(&mut kept).await, "");
    assert_eq!(get(edge.http(), "/", "").await.status, 200, "new connections are welcome");
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_go_at_once_and_requests_in_flight_are_finished() {
    let authority = Authority::new();
    let (edge, origin) = slow(&authority, Duration::from_millis(700)).await;
    let mut busy = TcpStream::connect(edge.http()).await.unwrap();
    busy.write_all(REQUEST).await.unwrap();
    eventually("the request arrives", || origin.seen().len() == 1).await;
    let mut idle = TcpStream::connect(edge.http()).await.unwrap();
    idle.write_all(b"GET /health/edge HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert_eq!(one_answer(&mut idle).await.status, 200);
    let address = edge.http();
    edge.phase.send_replace(Phase::Closing);
    let began = Instant::now();
    assert_eq!(rest(&mut idle).await, "");
    assert!(began.elapsed() < Duration::from_millis(500), "idle closed after {:?}", began.elapsed());
    assert!(!edge.served.is_finished());
    let answer = one_answer(&mut busy).await;
    assert_eq!((answer.body.as_str(), answer.header("connection")), ("done", Some("close")));
    timeout(SOON, edge.served).await.expect("ends when nothing is left").unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "the listener is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_with_nothing_open_ends_at_once() {
    let authority = Authority::new();
    let edge = start(&Plan::default(), &authority).await;
    let began = Instant::now();
    edge.close().await;
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_clients_are_told_and_their_streams_are_finished() {
    let authority = Authority::new();
    let (edge, origin) = slow(&authority, Duration::from_millis(500)).await;
    let stream = TcpStream::connect(edge.http()).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = || http::Request::get("http://www.example.com/").body(()).unwrap();
    let mut answers = Vec::new();
    for _ in 0..10 {
        client = client.ready().await.unwrap();
        answers.push(client.send_request(request(), true).unwrap().0);
    }
    eventually("the requests arrive", || origin.seen().len() == 10).await;
    edge.phase.send_replace(Phase::Closing);
    for answer in answers {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.into_body().data().await.unwrap().unwrap(), "done");
    }
    // GOAWAY without an error: the connection ends well, though the client holds on to it.
    timeout(SOON, connection).await.expect("the connection ends").unwrap().unwrap();
    drop(client);
    timeout(SOON, edge.served).await.expect("ends when nothing is left").unwrap();
}

/// Clients that obey `connection: close` and GOAWAY, under load, lose nothing.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_when_an_edge_under_load_drains() {
    let authority = Authority::new();
    let (edge, _origin) = slow(&authority, Duration::from_millis(5)).await;
    let address = edge.http();
    let (stop, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = Vec::new();
    for _ in 0..8 {
        let (stop, good) = (Arc::clone(&stop), Arc::clone(&good));
        clients.push(tokio::spawn(async move {
            let mut stream: Option<TcpStream> = None;
            while !stop.load(Ordering::SeqCst) {
                let mut open = match stream.take() {
                    Some(open) => open,
                    None => TcpStream::connect(address).await.unwrap(),
                };
                open.write_all(REQUEST).await.unwrap();
                let answer = one_answer(&mut open).await;
                assert_eq!((answer.status, answer.body.as_str()), (200, "done"));
                good.fetch_add(1, Ordering::SeqCst);
                if answer.header("connection") == Some("keep-alive") {
                    stream = Some(open);
                }
            }
        }));
    }
    let reached = async |count: usize| {
        eventually("requests go on", || good.load(Ordering::SeqCst) >= count).await;
    };
    reached(200).await;
    edge.phase.send_replace(Phase::Draining);
    let so_far = good.load(Ordering::SeqCst);
    reached(so_far + 200).await;
    // The load balancer has noticed: nobody comes any more.
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    edge.phase.send_replace(Phase::Closing);
    timeout(SOON, edge.served).await.expect("ends when nothing is left").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_just_connected_may_still_ask_when_the_edge_closes() {
    let authority = Authority::new();
    let edge = start(&Plan::default(), &authority).await;
    let origin = Origin::start(|_, _| ok("fine")).await;
    edge.route(&[("home", &[origin.address])]);
    let mut client = TcpStream::connect(edge.http()).await.unwrap();
    eventually("the connection is accepted", || edge.edge.activity().connections == 1).await;
    edge.phase.send_replace(Phase::Closing);
    // The listener is gone: whatever closes at that moment has been closed.
    // Until then nobody is answered who begins to connect.
    let refused = async {
        let moment = Duration::from_millis(20);
        while !matches!(timeout(moment, TcpStream::connect(edge.http())).await, Ok(Err(_))) {}
    };
    timeout(SOON, refused).await.expect("the listener ends");
    client.write_all(REQUEST).await.unwrap();
    let answer = one_answer(&mut client).await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    timeout(SOON, edge.served).await.expect("ends when nothing is left").unwrap();
}
