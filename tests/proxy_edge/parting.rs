//! Users whom DNS leads to another region are let go, connection by connection.

use crate::client::{one_answer, rest};
use crate::origin::{Origin, ok};
use crate::support::{Authority, Plan, Running, SOON, start};
use proxima::domain::name::DnsName;
use proxima::domain::snapshot::{Gate, NameStatus, Parting, Snapshot};
use proxima::domain::time::Time;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: www.example.com\r\n\r\n";
const ONCE: &[u8] = b"GET / HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\n\r\n";
const OTHER: &[u8] = b"GET / HTTP/1.1\r\nhost: other.example.com\r\n\r\n";

/// From here on this share of the name's connections is to be closed.
fn part(edge: &Running, closing: f64) {
    let mut snapshot = Snapshot::clone(&edge.snapshot.load());
    let parting = Parting { since: Time::ZERO, moved_since: Some(Time::ZERO), closing };
    let status = NameStatus { parting: Some(parting), ..NameStatus::unknown(Gate::Open) };
    snapshot.names.insert(DnsName::parse("www.example.com").unwrap(), status);
    let stays = NameStatus::unknown(Gate::Open);
    snapshot.names.insert(DnsName::parse("other.example.com").unwrap(), stays);
    edge.snapshot.store(Arc::new(snapshot));
}

fn closed(edge: &Running, kind: &str) -> f64 {
    let families = edge.registry.gather();
    let family = families.iter().find(|family| family.name() == "proxima_connections_moved_total").unwrap();
    let mine = family.get_metric().iter().find(|metric| metric.get_label()[0].value() == kind);
    mine.unwrap().get_counter().get_value()
}

#[tokio::test(flavor = "multi_thread")]
async fn http1_goes_with_its_next_answer_http2_by_goaway_and_other_names_stay() {
    let authority = Authority::new();
    let edge = start(&Plan::default(), &authority).await;
    let origin = Origin::start(|_, _| ok("fine")).await;
    edge.route(&[("home", &[origin.address])]);
    let mut kept = TcpStream::connect(edge.http()).await.unwrap();
    let mut other = TcpStream::connect(edge.http()).await.unwrap();
    let stream = TcpStream::connect(edge.http()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = http::Request::get("http://www.example.com/").body(()).unwrap();
    assert_eq!(client.send_request(request, true).unwrap().0.await.unwrap().status(), 200);

    part(&edge, 0.0);
    kept.write_all(REQUEST).await.unwrap();
    assert_eq!(one_answer(&mut kept).await.header("connection"), Some("keep-alive"), "not yet");
    part(&edge, 1.0);
    // Nobody asks anything on it: it is told all the same.
    timeout(SOON, connection).await.expect("GOAWAY ends the connection").unwrap().unwrap();
    let deadline = Instant::now() + SOON;
    while closed(&edge, "http2") < 1.0 {
        assert!(Instant::now() < deadline, "it is counted");
        tokio::task::yield_now().await;
    }
    kept.write_all(REQUEST).await.unwrap();
    let answer = one_answer(&mut kept).await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "answered, then closed");
    assert_eq!(rest(&mut kept).await, "");
    assert_eq!(closed(&edge, "http1"), 1.0);
    // A health check closes by itself: it is nobody who is let go.
    let mut once = TcpStream::connect(edge.http()).await.unwrap();
    once.write_all(ONCE).await.unwrap();
    assert_eq!(one_answer(&mut once).await.header("connection"), Some("close"));
    assert_eq!(closed(&edge, "http1"), 1.0);
    for _ in 0..2 {
        other.write_all(OTHER).await.unwrap();
        assert_eq!(one_answer(&mut other).await.header("connection"), Some("keep-alive"));
    }
    drop((client, other));
    edge.close().await;
}
