use super::*;
use crate::clock::Clock;
use crate::config::{Config, Environment, ProxyProtocol};
use crate::domain::fleet::{Fleet, Input, Output};
use crate::domain::time::Time;
use crate::metrics::request::RequestMetrics;
use crate::proxy::guards::Guards;
use crate::proxy::settings::{Settings, Tls};
use crate::proxy::{Edge, Wiring};
use arc_swap::ArcSwap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Long enough to tell them apart on a busy machine.
const DEADLINES: Deadlines = Deadlines {
    first_head: Duration::from_millis(300),
    first_head_closing: Duration::from_millis(300),
    handshake: Duration::from_millis(300),
    idle: Duration::from_millis(300),
};

/// A door for everyone, or for the header of a load balancer on this machine.
fn door(kind: ListenerKind, proxied: Proxied, metrics: &RequestMetrics) -> Arc<Door> {
    let trusted = ProxyProtocol { trusted: vec!["127.0.0.0/8".parse().unwrap()] };
    let trusted = (proxied == Proxied::Yes).then_some(&trusted);
    let mut rules = Rules::new(&ListenerLimits::default(), trusted);
    rules.deadlines = DEADLINES;
    Arc::new(Door::new(kind, rules, metrics))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proxied {
    Yes,
    No,
}
const SOON: Duration = Duration::from_secs(10);

const CONFIG: &str = "
[edge]
region = \"home\"
[[listeners]]
name = \"http\"
address = \"127.0.0.1:0\"
[regions.home]
[services.web]
endpoints.home = [\"127.0.0.1:1\"]
[[routes]]
name = \"web\"
service = \"web\"
";

async fn bound() -> Edge {
    let config = Arc::new(Config::from_text("proxima.toml", CONFIG, &Environment::default()).unwrap());
    let (mut snapshot, mut view) = (None, None);
    for output in Fleet::new(Arc::clone(&config.policy), 1).handle(Input::Tick, Time::from_millis(1)) {
        match output {
            Output::Publish(s) => snapshot = Some(s),
            Output::View(v) => view = Some(v),
            Output::Propose(_) | Output::Operated { .. } | Output::Moved(_) => {}
        }
    }
    let wiring = Wiring {
        snapshot: Arc::new(ArcSwap::new(snapshot.unwrap())),
        view: Arc::new(ArcSwap::new(view.unwrap())),
        board: Arc::default(),
        outcomes: mpsc::channel(1).0,
        inputs: mpsc::channel(1).0,
        clock: Clock::start(),
        heartbeat: Arc::default(),
        metrics: Arc::new(RequestMetrics::register(&prometheus::Registry::new()).unwrap()),
        access_log: None,
        spans: None,
    };
    Edge::bind(config, wiring).await.unwrap()
}

/// A server with short deadlines, and a client connected to it by a listener of this kind.
async fn connected(kind: ListenerKind, proxied: Proxied) -> (TcpStream, Arc<Shared>) {
    let edge = bound().await;
    if kind == ListenerKind::Https {
        let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let chain = vec![key.cert.der().clone()];
        let secret = rustls_pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = config.with_single_cert(chain, secret).unwrap();
        let before = edge.shared.settings.load();
        let clients = Some(Arc::new(ServerTls::new(vec![crate::proxy::tls::Entry {
            names: Vec::new(),
            config,
            closed: false,
        }])));
        let tls = Tls { clients, ..Tls::default() };
        let guards = Guards::default();
        let metrics = &edge.shared.wiring.metrics;
        let settings = Settings::new(Arc::clone(&before.config), metrics, guards, tls);
        edge.shared.settings.store(Arc::new(settings));
    }
    let server = Server {
        shared: Arc::clone(&edge.shared),
        pipeline: Arc::clone(&edge.server.pipeline),
        closing: edge.server.closing.clone(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, remote) = listener.accept().await.unwrap();
    let shared = Arc::clone(&edge.shared);
    tokio::spawn(async move {
        let door = door(kind, proxied, &server.shared.wiring.metrics);
        let inside = door.enter(Some(remote.ip())).unwrap();
        server.serve(accepted.into(), Some(remote), door, inside).await;
        drop(edge);
    });
    (client, shared)
}

/// Reads until the server closes; how long that took.
async fn closed_after(client: &mut TcpStream) -> (String, Duration) {
    let (began, mut bytes) = (Instant::now(), Vec::new());
    let read = timeout(SOON, client.read_to_end(&mut bytes)).await.expect("closed");
    // Closing with bytes unread resets the connection.
    let reset = |e: &std::io::Error| e.kind() == std::io::ErrorKind::ConnectionReset;
    assert!(read.as_ref().err().is_none_or(reset), "{read:?}");
    (String::from_utf8_lossy(&bytes).into_owned(), began.elapsed())
}

#[tokio::test]
async fn a_client_that_sends_nothing_or_half_a_head_is_closed() {
    for (bytes, told) in [
        ("", ""),
        ("P", ""),
        ("PRI * HTTP/2.0\r\n", ""),
        ("GET / HTTP/1.1\r\nhost: a\r\n", "HTTP/1.1 408 Request Timeout\r\n"),
    ] {
        let (mut client, shared) = connected(ListenerKind::Http, Proxied::No).await;
        client.write_all(bytes.as_bytes()).await.unwrap();
        let (answer, took) = closed_after(&mut client).await;
        assert!(answer.starts_with(told) && answer.is_empty() == told.is_empty(), "{bytes:?}: {answer}");
        assert!(took >= DEADLINES.first_head / 2, "{bytes:?}: {took:?}");
        timeout(SOON, shared.counter.nothing_left()).await.expect("nothing is left");
    }
}

/// Each byte of the slow head would be in time by itself.
#[tokio::test]
async fn a_head_that_trickles_in_is_closed_all_the_same() {
    let (mut client, _shared) = connected(ListenerKind::Http, Proxied::No).await;
    let began = Instant::now();
    for byte in b"GET / HTTP/1.1\r\nx-header: and so on and so on and so on".iter().cycle() {
        sleep(Duration::from_millis(20)).await;
        if client.write_all(&[*byte]).await.is_err() {
            break;
        }
        assert!(began.elapsed() < SOON, "never closed");
    }
}

#[tokio::test]
async fn a_kept_connection_is_closed_when_no_further_request_comes() {
    let (mut client, _shared) = connected(ListenerKind::Http, Proxied::No).await;
    client.write_all(b"GET /health/edge HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let (answer, took) = closed_after(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(took >= DEADLINES.idle / 2, "{took:?}");
}

#[tokio::test]
async fn a_proxy_header_that_does_not_come_is_closed_and_counted() {
    for kind in [ListenerKind::Http, ListenerKind::Https] {
        let (mut client, shared) = connected(kind, Proxied::Yes).await;
        client.write_all(b"PROXY TCP4 192.0.2.1 ").await.unwrap();
        let (answer, took) = closed_after(&mut client).await;
        assert_eq!(answer, "");
        assert!(took >= DEADLINES.handshake / 2, "{took:?}");
        let [late] = shared.wiring.metrics.connections_refused(kind, ["proxy_late"]);
        assert_eq!(late.get(), 1);
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_closed_and_counted() {
    let (mut client, shared) = connected(ListenerKind::Https, Proxied::No).await;
    // The beginning of a handshake record.
    client.write_all(&[0x16, 3, 1, 2, 0]).await.unwrap();
    assert_eq!(closed_after(&mut client).await.0, "");
    assert_eq!(shared.wiring.metrics.handshake_failures(ListenerKind::Https).get(), 1);
}

#[tokio::test]
async fn an_http2_client_that_asks_nothing_is_closed() {
    let (mut client, shared) = connected(ListenerKind::Http, Proxied::No).await;
    client.write_all(&PREFACE).await.unwrap();
    let (_settings, took) = closed_after(&mut client).await;
    assert!(took >= DEADLINES.idle / 2, "{took:?}");
    timeout(SOON, shared.counter.nothing_left()).await.expect("nothing is left");
}

/// More of them than a task may accept in one turn.
#[tokio::test]
async fn clients_in_the_kernels_queue_are_served_when_the_edge_closes() {
    const CLIENTS: usize = 300;
    let edge = bound().await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = TcpStream::connect(edge.addresses().listeners["http"]).await.unwrap();
        client.write_all(b"GET /health/edge HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        clients.push(client);
    }
    let (_sender, phase) = watch::channel(crate::proxy::Phase::Closing);
    timeout(SOON, edge.serve(phase)).await.expect("ends when nothing is left");
    for mut client in clients {
        let (answer, _) = closed_after(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}
