//! PROXY headers.

use crate::client::{curl, parse, rest};
use crate::support::{Authority, Running, eventually};
use crate::{front, fronted};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

const TRUSTED: &str = "proxy_protocol = true\ntrusted = [\"127.0.0.0/8\"]";
const GET: &str = "GET / HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\n\r\n";

/// Version 2 by its text: command, family and transport, what follows.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x20 | command, family], &length, rest].concat()
}

/// From 203.0.113.7:4711 to 192.0.2.1:443, came through a VPC endpoint.
fn from_client() -> Vec<u8> {
    let addresses = [203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x67, 1, 0xbb];
    v2(1, 0x11, &[&addresses[..], &[0xea, 0, 5, 1], b"vpce"].concat())
}

/// What comes back for these bytes, sent in pieces of this size.
async fn sent(address: SocketAddr, bytes: &[u8], piece: usize) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in bytes.chunks(piece) {
        stream.write_all(piece).await.unwrap();
        if bytes.len() > piece.len() {
            sleep(Duration::from_millis(1)).await;
        }
    }
    rest(&mut stream).await
}

fn refused(edge: &Running, kind: &str, reason: &str) -> f64 {
    edge.metric(&format!("proxima_connections_refused_total{{listener=\"{kind}\",reason=\"{reason}\"}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_is_whom_the_header_names_and_local_is_whoever_connects() {
    let authority = Authority::new();
    let edge = fronted(&authority, TRUSTED).await;
    let address = front(&edge);
    for (header, client) in [
        (from_client(), "203.0.113.7"),
        (b"PROXY TCP4 198.51.100.1 192.0.2.1 4711 443\r\n".to_vec(), "198.51.100.1"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2(0, 0, &[]), "127.0.0.1"),
    ] {
        let bytes = [&header[..], GET.as_bytes()].concat();
        for piece in [bytes.len(), 1, 7] {
            let answer = parse(&sent(address, &bytes, piece).await);
            assert_eq!((answer.status, answer.body.as_str()), (200, client), "{header:?} by {piece}");
        }
    }
    edge.close().await;
}

/// curl writes version 1 before everything else: before TLS, and before HTTP/2.
#[tokio::test(flavor = "multi_thread")]
async fn curl_with_a_header_is_served_on_plain_and_tls_listeners() {
    let authority = Authority::new();
    let roots = authority.roots();
    for (protocol, flags, version) in [
        ("http", &["--http1.1"][..], "1.1"),
        ("http", &["--http2-prior-knowledge"], "2"),
        ("https", &["--http1.1"], "1.1"),
        ("https", &["--http2"], "2"),
    ] {
        let edge = fronted(&authority, &format!("{TRUSTED}\nprotocol = {protocol:?}")).await;
        let to = format!("::127.0.0.1:{}", front(&edge).port());
        let url = format!("{protocol}://www.example.com:{}/", front(&edge).port());
        let arguments = ["--cacert", roots.to_str().unwrap(), "--connect-to", &to, &url];
        let with = [&arguments[..], flags, &["--haproxy-protocol"]].concat();
        let Some(answer) = curl(&with).await else { return };
        let got = (answer.status, answer.version.as_str(), answer.body.as_str());
        assert_eq!(got, (200, version, "127.0.0.1"), "{protocol} {flags:?}: {}", answer.error);
        // Without one it gets no answer.
        let without = curl(&[&arguments[..], flags].concat()).await.unwrap();
        assert_eq!(without.status, 0, "{protocol} {flags:?}");
        assert_eq!(refused(&edge, protocol, "proxy_signature"), 1.0, "{protocol} {flags:?}");
        edge.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_header_is_closed_without_an_answer_and_counted_by_its_reason() {
    let authority = Authority::new();
    let edge = fronted(&authority, TRUSTED).await;
    for (header, reason) in [
        (GET.as_bytes().to_vec(), "proxy_signature"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n".to_vec(), "proxy_line_end"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 70000\r\n".to_vec(), "proxy_address"),
        (v2(7, 0, &[]), "proxy_command"),
        (v2(1, 0x11, &[1, 2, 3]), "proxy_too_short"),
    ] {
        let answer = sent(front(&edge), &[&header[..], GET.as_bytes()].concat(), usize::MAX).await;
        assert_eq!(answer, "", "{reason}");
        eventually(reason, || refused(&edge, "http", reason) == 1.0).await;
    }
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_trusted_is_closed_whatever_he_says() {
    let authority = Authority::new();
    let edge = fronted(&authority, "proxy_protocol = true\ntrusted = [\"192.0.2.0/24\"]").await;
    let bytes = [&from_client()[..], GET.as_bytes()].concat();
    assert_eq!(sent(front(&edge), &bytes, usize::MAX).await, "");
    assert_eq!(refused(&edge, "http", "proxy_untrusted"), 1.0);
    edge.close().await;
}

/// A header on a listener that reads none is a malformed request, not a client's address.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_where_none_is_read_is_not_believed() {
    let authority = Authority::new();
    let edge = fronted(&authority, "").await;
    let bytes = [b"PROXY TCP4 198.51.100.1 192.0.2.1 1 2\r\n", GET.as_bytes()].concat();
    let answer = sent(front(&edge), &bytes, usize::MAX).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    edge.close().await;
}
