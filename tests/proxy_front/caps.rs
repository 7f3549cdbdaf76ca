//! Caps on open connections.

use crate::client::{one_answer, rest};
use crate::support::{Authority, Running, eventually};
use crate::{front, fronted};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

const GET: &str = "GET / HTTP/1.1\r\nhost: www.example.com\r\n\r\n";

fn refused(edge: &Running, reason: &str) -> f64 {
    edge.metric(&format!("proxima_connections_refused_total{{listener=\"http\",reason=\"{reason}\"}}"))
}

/// A connection that was served once, and stays open.
async fn kept(edge: &Running, header: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(front(edge)).await.unwrap();
    // Closed at once, it may be reset before everything is written.
    stream.write_all(format!("{header}{GET}").as_bytes()).await.ok()?;
    let mut byte = [0];
    match stream.peek(&mut byte).await {
        Ok(1) => {
            assert_eq!(one_answer(&mut stream).await.status, 200);
            Some(stream)
        }
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_closed_at_once_and_the_others_go_on() {
    let authority = Authority::new();
    let edge = fronted(&authority, "max_connections = 2").await;
    let mut first = kept(&edge, "").await.unwrap();
    let second = kept(&edge, "").await.unwrap();
    assert!(kept(&edge, "").await.is_none());
    assert_eq!(refused(&edge, "full"), 1.0);
    first.write_all(GET.as_bytes()).await.unwrap();
    assert_eq!(one_answer(&mut first).await.status, 200);
    // The cap is the listener's own.
    assert_eq!(crate::client::get(edge.http(), "/", "").await.status, 200);
    drop(second);
    eventually("a place is free", || edge.edge.activity().connections == 1).await;
    assert!(kept(&edge, "").await.is_some());
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_holds_its_share_and_others_are_not_kept_out() {
    let authority = Authority::new();
    let lines = "max_connections_per_client = 1\nproxy_protocol = true\ntrusted = [\"127.0.0.1\"]";
    let edge = fronted(&authority, lines).await;
    let client = |address: &str| {
        let family = if address.contains(':') { "TCP6" } else { "TCP4" };
        let to = if address.contains(':') { "::1" } else { "192.0.2.1" };
        format!("PROXY {family} {address} {to} 4711 80\r\n")
    };
    let one = kept(&edge, &client("203.0.113.1")).await.unwrap();
    let _other = kept(&edge, &client("203.0.113.2")).await.unwrap();
    let _six = kept(&edge, &client("2001:db8::1")).await.unwrap();
    assert!(kept(&edge, &client("203.0.113.1")).await.is_none());
    assert!(kept(&edge, &client("2001:db8::2")).await.is_none(), "of the same /64");
    assert_eq!(refused(&edge, "client_full"), 2.0);
    drop(one);
    eventually("a place is free", || edge.edge.activity().connections == 2).await;
    assert!(kept(&edge, &client("203.0.113.1")).await.is_some());
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_waits_as_long_as_it_says() {
    let authority = Authority::new();
    let edge = fronted(&authority, "head_timeout = \"200ms\"\nidle_timeout = \"600ms\"").await;
    let began = Instant::now();
    let mut silent = TcpStream::connect(front(&edge)).await.unwrap();
    assert_eq!(rest(&mut silent).await, "");
    assert!(began.elapsed() >= Duration::from_millis(190), "{:?}", began.elapsed());
    let mut idle = kept(&edge, "").await.unwrap();
    let began = Instant::now();
    assert_eq!(rest(&mut idle).await, "");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(8), "{took:?}");
    edge.close().await;
}
