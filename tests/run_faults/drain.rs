//! The end of a process: HTTP/2 under load, and upgraded connections.

use crate::handshakes;
use crate::origin::{Origin, Way};
use crate::run_support::authority::Authority;
use crate::run_support::client::until_goaway;
use crate::run_support::{Edge, Folder, eventually, get, single};
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const CLIENTS: usize = 64;
const SOON: Duration = Duration::from_secs(10);

/// Connects again and again until nobody listens.
async fn client(at: SocketAddr, tls: Option<TlsConnector>, served: Arc<AtomicUsize>) -> Result<(), String> {
    let stop = AtomicBool::new(false);
    while let Ok(stream) = TcpStream::connect(at).await {
        let ended = match &tls {
            None => until_goaway(stream, &served, &stop).await,
            Some(tls) => {
                let name = ServerName::try_from("www.example.com").unwrap();
                let stream = tls.connect(name, stream).await.map_err(|error| error.to_string())?;
                until_goaway(stream, &served, &stop).await
            }
        };
        ended.map_err(|error| format!("{error:?}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_the_middle_of_http2_load_fails_no_request() {
    let _alone = crate::ALONE.lock().await;
    for secure in [false, true] {
        let (folder, authority, origin) = (Folder::new(), Authority::new(), Origin::start(Way::Well).await);
        authority.sign(&folder, "server", "www.example.com");
        let mut edge =
            crate::started(&folder.write("proxima.toml", &handshakes::https(&folder, origin.address)), 1);
        let at = edge.address(if secure { "https" } else { "http" });
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let tls = handshakes::client(&folder.path().join("server-ca.pem"), &versions, &["h2"]);
        let served: Arc<AtomicUsize> = Arc::default();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| tokio::spawn(client(at, secure.then(|| tls.clone()), Arc::clone(&served))))
            .collect();
        eventually("requests are served", || (served.load(Ordering::SeqCst) >= CLIENTS * 10).then_some(()));
        edge.signal("TERM");
        assert_eq!(edge.ended().code(), Some(0));
        let mut failed = Vec::new();
        for client in clients {
            failed.extend(timeout(SOON, client).await.expect("clients end").unwrap().err());
        }
        assert!(failed.is_empty(), "secure {secure}: {failed:?} of {served:?}");
    }
}

/// A WebSocket's connection, as far as a proxy sees it.
async fn upgraded(at: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let request = "GET /chat HTTP/1.1\r\nHost: www.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(SOON, stream.read_u8()).await.expect("a head").unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    stream
}

async fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"ping").await.unwrap();
    let mut bytes = [0; 4];
    timeout(SOON, stream.read_exact(&mut bytes)).await.expect("an echo").unwrap();
    assert_eq!(&bytes, b"ping");
}

/// Drains an edge with an upgraded connection until its listeners are closed.
async fn draining(folder: &Folder, deadline: &str) -> (Edge, TcpStream) {
    let origin = Origin::start(Way::Echo).await;
    let text = single(origin.address, "")
        .replace("health.path = \"/\"", "health.path = \"/health\"")
        .replace("drain_deadline = \"10s\"", &format!("drain_deadline = {deadline:?}"));
    let edge = crate::started(&folder.write("proxima.toml", &text), 1);
    let mut stream = upgraded(edge.address("http")).await;
    echoes(&mut stream).await;
    edge.signal("TERM");
    let http = edge.address("http");
    eventually("the listeners close after the notice", || {
        std::net::TcpStream::connect(http).is_err().then_some(())
    });
    (edge, stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_goes_on_in_a_drain_which_ends_with_it() {
    let folder = Folder::new();
    let (mut edge, mut stream) = draining(&folder, "60s").await;
    echoes(&mut stream).await;
    assert_eq!(get(edge.address("admin"), "/ready").status, 503);
    assert!(edge.running(), "a connection is left");
    drop(stream);
    // Sooner than the deadline, which is longer than `ended` waits.
    assert_eq!(edge.ended().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_is_cut_at_the_deadline_of_a_drain() {
    let folder = Folder::new();
    let (mut edge, mut stream) = draining(&folder, "1s").await;
    assert_eq!(edge.ended().code(), Some(0));
    let left = timeout(SOON, stream.read(&mut [0; 8])).await.expect("the connection ends");
    assert!(matches!(left, Ok(0) | Err(_)), "{left:?}");
    assert!(edge.log().contains("cut off"), "{}", edge.log());
}
