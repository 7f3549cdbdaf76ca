//! Listeners on Unix sockets: curl and raw bytes through them.

use crate::client::{Answer, curl, parse};
use crate::origin::{Origin, ok};
use crate::started;
use crate::support::{Authority, Running, SOON};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// An edge at a socket in the authority's folder; its origin tells what it hears of the client.
async fn at_socket(authority: &Authority, lines: &str, edge: &str) -> (Running, PathBuf) {
    let path = authority.folder.join("edge.sock");
    let edge = started(authority, &format!("address = \"unix:{}\"\n{lines}", path.display()), edge).await;
    let edge = edge.unwrap();
    let origin = Origin::start(|seen, _| {
        let heard = |name| seen.header(name).unwrap_or("none").to_owned();
        ok(&format!("{} {}", heard("x-forwarded-for"), heard("forwarded")))
    });
    edge.route(&[("home", &[origin.await.address])]);
    (edge, path)
}

async fn ask(socket: &Path, scheme: &str, flags: &[&str]) -> Option<Answer> {
    let url = format!("{scheme}://www.example.com/");
    curl(&[&["--unix-socket", socket.to_str().unwrap(), &url], flags].concat()).await
}

/// What comes back for these bytes.
async fn sent(socket: &Path, bytes: &[u8]) -> Answer {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = String::new();
    // Closed with bytes unread, it may be reset.
    drop(timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap());
    parse(&answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_is_served_by_each_protocol_and_no_address_is_made_up_for_it() {
    for (scheme, flags, version) in [
        ("http", &["--http1.1"][..], "1.1"),
        ("http", &["--http2-prior-knowledge"], "2"),
        ("https", &["--http1.1"], "1.1"),
        ("https", &["--http2"], "2"),
    ] {
        let authority = Authority::new();
        // Networks are of addresses: none has a client without one in it.
        let everyone = "trusted_proxies = [\"0.0.0.0/0\", \"::/0\"]";
        let lines = format!("protocol = {scheme:?}\nmode = \"0600\"");
        let (edge, path) = at_socket(&authority, &lines, everyone).await;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let roots = authority.roots();
        let claim = ["--cacert", roots.to_str().unwrap(), "--header", "x-forwarded-for: 192.0.2.7"];
        let Some(answer) = ask(&path, scheme, &[flags, &claim].concat()).await else { return };
        assert_eq!((answer.status, answer.version.as_str()), (200, version), "{}", answer.error);
        let heard = format!("none for=unknown;proto={scheme};host=\"www.example.com\"");
        assert_eq!(answer.body, heard, "{scheme} {flags:?}");
        edge.close().await;
        assert!(!path.exists(), "the socket goes with its listener");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_behind_a_socket_says_who_the_client_is_where_it_is_trusted() {
    let authority = Authority::new();
    let (edge, path) = at_socket(&authority, "", "trusted_proxies = [\"unix:\", \"10.0.0.0/8\"]").await;
    for (words, heard) in [
        (&["x-forwarded-for: 192.0.2.7"][..], "192.0.2.7 for=192.0.2.7;proto=http"),
        (
            &["x-forwarded-for: 1.2.3.4, 192.0.2.7, 10.0.0.9"],
            "1.2.3.4, 192.0.2.7, 10.0.0.9 for=192.0.2.7;proto=http",
        ),
        (&["x-forwarded-for: 192.0.2.7", "x-forwarded-proto: https"], "192.0.2.7 for=192.0.2.7;proto=https"),
        (&[], "none for=unknown;proto=http"),
    ] {
        let flags: Vec<&str> = words.iter().flat_map(|word| ["--header", *word]).collect();
        let Some(answer) = ask(&path, "http", &flags).await else { return };
        assert_eq!(answer.body, format!("{heard};host=\"www.example.com\""), "{words:?}");
    }
    edge.close().await;
}

const LINE: &str = "PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n";

/// Takes connections at a socket and passes each on with a PROXY header before it.
async fn balancer(folder: &Path, to: &Path) -> PathBuf {
    let (path, to) = (folder.join("balancer.sock"), to.to_owned());
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let mut to = UnixStream::connect(&to).await.unwrap();
            to.write_all(LINE.as_bytes()).await.unwrap();
            tokio::spawn(async move { drop(tokio::io::copy_bidirectional(&mut from, &mut to).await) });
        }
    });
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_names_the_client_on_plain_and_tls_sockets() {
    for (scheme, flags) in [
        ("http", &["--http1.1"][..]),
        ("http", &["--http2-prior-knowledge"]),
        ("https", &["--http1.1"]),
        ("https", &["--http2"]),
    ] {
        let authority = Authority::new();
        let lines = format!("protocol = {scheme:?}\nproxy_protocol = true\nmax_connections_per_client = 1");
        let (edge, path) = at_socket(&authority, &lines, "").await;
        let before = balancer(&authority.folder, &path).await;
        let roots = authority.roots();
        let flags = [flags, &["--cacert", roots.to_str().unwrap()]].concat();
        let Some(answer) = ask(&before, scheme, &flags).await else { return };
        let heard = format!("203.0.113.7 for=203.0.113.7;proto={scheme};host=\"www.example.com\"");
        assert_eq!((answer.status, answer.body), (200, heard), "{scheme} {flags:?}: {}", answer.error);
        assert_eq!(ask(&path, scheme, &flags).await.unwrap().status, 0, "without a header: no answer");
        edge.close().await;
    }
}

/// Bytes of a request that come with the header are not lost, and LOCAL has no address here either.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_with_a_header_is_read_and_shares_are_by_whom_it_names() {
    let authority = Authority::new();
    let lines = "proxy_protocol = true\nmax_connections_per_client = 1";
    let (edge, path) = at_socket(&authority, lines, "").await;
    let get = "GET / HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\n\r\n";
    assert!(sent(&path, format!("{LINE}{get}").as_bytes()).await.body.starts_with("203.0.113.7 "));
    let local = sent(&path, format!("PROXY UNKNOWN\r\n{get}").as_bytes()).await;
    assert!(local.body.starts_with("none for=unknown;"), "{local:?}");
    let held = {
        let mut held = UnixStream::connect(&path).await.unwrap();
        held.write_all(LINE.as_bytes()).await.unwrap();
        let open = get.replace("close", "keep-alive");
        held.write_all(open.as_bytes()).await.unwrap();
        held.read_exact(&mut [0; 12]).await.unwrap();
        held
    };
    assert_eq!(sent(&path, format!("{LINE}{get}").as_bytes()).await.status, 0, "its share is taken");
    let other = LINE.replace("203.0.113.7", "203.0.113.8");
    assert_eq!(sent(&path, format!("{other}{get}").as_bytes()).await.status, 200);
    drop(held);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_cannot_be_had_is_an_error_with_its_place() {
    let authority = Authority::new();
    let (edge, path) = at_socket(&authority, "", "").await;
    let told = async |path: &Path| {
        let refused = started(&authority, &format!("address = \"unix:{}\"", path.display()), "").await;
        let error = refused.err().expect("refused");
        format!("{error}: {}", std::error::Error::source(&error).unwrap())
    };
    let living = told(&path).await;
    let place = format!("listener `front` cannot listen on unix:{}: ", path.display());
    assert!(living.starts_with(&format!("{place}another process listens there")), "{living}");
    assert_eq!(sent(&path, b"GET /health/edge HTTP/1.0\r\n\r\n").await.status, 200, "and it still does");
    let nowhere = authority.folder.join("no/such/edge.sock");
    assert!(told(&nowhere).await.contains("there is no folder "), "{}", told(&nowhere).await);
    let file = authority.roots();
    assert!(told(&file).await.ends_with("there is a file that is no socket"), "{}", told(&file).await);
    assert!(file.exists());
    edge.close().await;
}
