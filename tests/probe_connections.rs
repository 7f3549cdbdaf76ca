//! Probes against servers that misbehave: what is retried, what counts, and what ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "probe_connections/kinds.rs"]
mod kinds;
mod run_support;

use arc_swap::ArcSwap;
use prometheus::Registry;
use proxima::clock::Clock;
use proxima::config::{Config, Environment};
use proxima::domain::endpoint::Endpoint;
use proxima::domain::fleet::{EndpointAnswer, Input, Probe, ProbeFailure, RegionAnswer};
use proxima::domain::health::State;
use proxima::domain::name::{RegionId, ServiceId};
use proxima::domain::snapshot::{Candidates, EndpointStatus, RoomStatus, ServiceSnapshot, Snapshot, States};
use proxima::metrics::control::ControlMetrics;
use proxima::peer::VIEW_BYTES_MAX;
use proxima::probe;
use run_support::authority::Authority;
use run_support::nginx::Nginx;
use run_support::{Folder, PATIENCE};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// How a server answers the n-th request of a connection; `None`: never.
type Script = Arc<dyn Fn(usize) -> Option<String> + Send + Sync>;

/// A server, and how often it was connected to and asked.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

fn view(region: &str) -> String {
    let view = serde_json::json!({
        "region": region, "boot": 1, "sequence": 1, "policy": 1, "services": {}, "rtts": {},
        "votes": {}, "entered_rps": 0.0, "headroom_rps": null,
        "of_a_newer_edge": "tolerated",
    });
    view.to_string()
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

impl Server {
    /// `closes`: hangs up after each answer without having said so.
    async fn start(tls: Option<TlsAcceptor>, closes: bool, script: Script) -> Self {
        Self::listen("127.0.0.1:0", tls, closes, script).await.unwrap()
    }

    /// `None`: there is no such address on this machine.
    async fn listen(at: &str, tls: Option<TlsAcceptor>, closes: bool, script: Script) -> Option<Self> {
        let listener = TcpListener::bind(at).await.ok()?;
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let server = Self { address, connections: connections.clone(), requests: requests.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (tls, script, requests) = (tls.clone(), script.clone(), requests.clone());
                tokio::spawn(async move {
                    match tls {
                        None => converse(stream, closes, script, requests).await,
                        // A probe that ends the handshake is not this server's trouble.
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => converse(stream, closes, script, requests).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Some(server)
    }
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    closes: bool,
    script: Script,
    requests: Arc<AtomicUsize>,
) -> Option<()> {
    for number in 0.. {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        requests.fetch_add(1, Ordering::SeqCst);
        let Some(text) = script(number) else {
            return std::future::pending().await;
        };
        stream.write_all(text.as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
        if closes {
            return stream.shutdown().await.ok();
        }
    }
    None
}

/// Probes under test: regions `here` and `there`, service `web`.
struct Probing {
    inputs: mpsc::Receiver<Input>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    published: watch::Sender<u64>,
    config: watch::Sender<Arc<Config>>,
    folder: Folder,
    tls: TlsAcceptor,
}

impl Probing {
    fn new(protocol: &str, fresh_connection: &str) -> Self {
        Self::with(protocol, fresh_connection, "")
    }

    /// The same, with more to say of the service.
    fn with(protocol: &str, fresh_connection: &str, service: &str) -> Self {
        let folder = Folder::new();
        Authority::new().sign(&folder, "peer", "peer.there.test");
        let health = if service.contains("health") { "" } else { "health.path = \"/healthz\"" };
        let text = format!(
            r#"
[edge]
region = "here"
[[listeners]]
name = "http"
address = "127.0.0.1:0"
[peer]
address = "127.0.0.1:0"
certificate = "peer.pem"
key = "peer.key"
ca = "peer-ca.pem"
[regions.here]
peer = "127.0.0.1:8442"
server_name = "peer.here.test"
[regions.there]
peer = "127.0.0.1:8443"
server_name = "peer.there.test"
[probes]
interval = "100ms"
timeout = "90ms"
fresh_connection = "{fresh_connection}"
[services.web]
endpoints.here = ["127.0.0.1:80"]
protocol = "{protocol}"
{health}
{service}
[[routes]]
name = "web"
service = "web"
"#
        );
        let file = folder.write("proxima.toml", &text);
        let config = Config::from_text(&file.to_string_lossy(), &text, &Environment::default());
        let tls = acceptor(&folder);
        let (config_sender, config) = watch::channel(Arc::new(config.unwrap_or_else(|p| panic!("{p}"))));
        let (published, receiver) = watch::channel(0);
        let (sender, inputs) = mpsc::channel(64);
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::empty(RegionId::parse("here").unwrap())));
        tokio::spawn(probe::run(probe::Wiring {
            config,
            snapshot: Arc::clone(&snapshot),
            published: receiver,
            inputs: sender,
            metrics: ControlMetrics::register(&Registry::new()).unwrap(),
            board: Arc::default(),
            clock: Clock::start(),
        }));
        Self { inputs, snapshot, published, config: config_sender, folder, tls }
    }

    /// Publishes a snapshot with these addresses of `there` and of `web` at home.
    fn publish(&self, there: &[SocketAddr], web: &[SocketAddr]) {
        let endpoint = |address: &SocketAddr| Arc::new(Endpoint::new(*address));
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        snapshot.number += 1;
        snapshot.peers =
            BTreeMap::from([(RegionId::parse("there").unwrap(), there.iter().map(endpoint).collect())]);
        let id = ServiceId::parse("web").unwrap();
        let service = ServiceSnapshot {
            id: id.clone(),
            candidates: Candidates::default(),
            panic: true,
            accepts_forwarded: false,
            endpoints: web
                .iter()
                .map(|address| EndpointStatus { endpoint: endpoint(address), state: State::Unknown })
                .collect(),
            states: States::default(),
            room: RoomStatus::default(),
        };
        snapshot.services = BTreeMap::from([(id, Arc::new(service))]);
        let number = snapshot.number;
        self.snapshot.store(Arc::new(snapshot));
        self.published.send_replace(number);
    }

    async fn next(&mut self) -> Probe {
        match timeout(PATIENCE, self.inputs.recv()).await.expect("no probe was reported").unwrap() {
            Input::Probed(probe) => probe,
            other => panic!("{other:?}"),
        }
    }

    async fn region(&mut self) -> Result<RegionAnswer, ProbeFailure> {
        match self.next().await {
            Probe::Region { region, result } => {
                assert_eq!(region.as_str(), "there");
                result
            }
            other => panic!("{other:?}"),
        }
    }

    async fn endpoint(&mut self) -> Result<EndpointAnswer, ProbeFailure> {
        match self.next().await {
            Probe::Endpoint { result, .. } => result,
            other => panic!("{other:?}"),
        }
    }
}

fn acceptor(folder: &Folder) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(folder.path().join("peer.pem")).unwrap();
    let chain = chain.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(folder.path().join("peer.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn always(text: String) -> Script {
    Arc::new(move |_| Some(text.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_warm_exchanges_are_samples_of_the_distance_and_one_connection_is_kept() {
    let mut probing = Probing::new("http1", "30s");
    let server =
        Server::start(Some(probing.tls.clone()), false, always(answer("200 OK", &view("there")))).await;
    probing.publish(&[server.address], &[]);
    let first = probing.region().await.unwrap();
    assert_eq!((first.rtt, first.view.region.as_str()), (None, "there"));
    for _ in 0..5 {
        assert!(probing.region().await.unwrap().rtt.is_some());
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_was_closed_is_retried_before_it_counts() {
    let mut probing = Probing::new("http1", "30s");
    let server =
        Server::start(Some(probing.tls.clone()), true, always(answer("200 OK", &view("there")))).await;
    probing.publish(&[server.address], &[]);
    for _ in 0..6 {
        let answer = probing.region().await.expect("an idle close is no failure");
        assert_eq!(answer.rtt, None, "every connection is fresh");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_good_view_of_that_region_is_a_failure_of_its_kind() {
    let large = answer("200 OK", &" ".repeat(VIEW_BYTES_MAX + 1));
    for (what, script, failure) in [
        ("not JSON", always(answer("200 OK", "hello")), ProbeFailure::Malformed),
        ("too large", always(large), ProbeFailure::Malformed),
        ("an error status", always(answer("503 No", &view("there"))), ProbeFailure::Status),
        ("silence", Arc::new(|_| None) as Script, ProbeFailure::Timeout),
        ("not HTTP", always("hello\r\n\r\n".to_owned()), ProbeFailure::Closed),
    ] {
        let mut probing = Probing::new("http1", "30s");
        let server = Server::start(Some(probing.tls.clone()), false, script).await;
        probing.publish(&[server.address], &[]);
        for _ in 0..2 {
            assert_eq!(probing.region().await.unwrap_err(), failure, "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_on_a_kept_connection_counts_at_once_and_the_next_probe_connects_anew() {
    let mut probing = Probing::new("http1", "30s");
    let script: Script = Arc::new(|number| (number < 3).then(|| answer("200 OK", &view("there"))));
    let server = Server::start(Some(probing.tls.clone()), false, script).await;
    probing.publish(&[server.address], &[]);
    let mut results = Vec::new();
    for _ in 0..5 {
        results.push(probing.region().await.map(drop));
    }
    assert_eq!(results, [Ok(()), Ok(()), Ok(()), Err(ProbeFailure::Timeout), Ok(())]);
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_no_tls_is_a_tls_failure_and_a_closed_port_a_connect_failure() {
    let mut probing = Probing::new("http1", "30s");
    let server = Server::start(None, false, always(answer("400 Bad", ""))).await;
    probing.publish(&[server.address], &[]);
    // It waits for the end of a head that never comes, or answers with what is no TLS.
    let failure = probing.region().await.unwrap_err();
    assert!(matches!(failure, ProbeFailure::Tls | ProbeFailure::Timeout), "{failure:?}");

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let mut probing = Probing::new("http1", "30s");
    probing.publish(&[address], &[]);
    assert_eq!(probing.region().await.unwrap_err(), ProbeFailure::Connect);
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_connections_take_the_addresses_in_turn() {
    let mut probing = Probing::new("http1", "250ms");
    let script = always(answer("200 OK", &view("there")));
    let one = Server::start(Some(probing.tls.clone()), false, Arc::clone(&script)).await;
    let two = Server::start(Some(probing.tls.clone()), false, script).await;
    probing.publish(&[one.address, two.address], &[]);
    let connections = |server: &Server| server.connections.load(Ordering::SeqCst);
    let mut probes = 0;
    while connections(&one) < 3 || connections(&two) < 3 {
        probing.region().await.unwrap();
        probes += 1;
        assert!(probes < 100, "{} and {}", connections(&one), connections(&two));
    }
    assert!(connections(&one).abs_diff(connections(&two)) <= 1);
    assert!(probes > connections(&one) + connections(&two), "connections are kept for a while");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_well_by_its_status_and_is_left_alone_once_it_is_gone() {
    let mut probing = Probing::new("http1", "30s");
    let good = Server::start(None, false, always(answer("204 No Content", ""))).await;
    probing.publish(&[], &[good.address]);
    for _ in 0..3 {
        assert_eq!(probing.endpoint().await, Ok(EndpointAnswer::Well));
    }
    let ill = Server::start(None, false, always(answer("500 No", ""))).await;
    probing.publish(&[], &[ill.address]);
    while probing.endpoint().await.is_ok() {}
    let asked = good.requests.load(Ordering::SeqCst);
    for _ in 0..5 {
        assert_eq!(probing.endpoint().await, Err(ProbeFailure::Status));
    }
    assert_eq!(good.requests.load(Ordering::SeqCst), asked, "what left the snapshot is probed no more");
    probing.publish(&[], &[]);
    let quiet = async { while timeout(Duration::from_millis(400), probing.inputs.recv()).await.is_ok() {} };
    timeout(PATIENCE, quiet).await.expect("no target, no probe");
}

/// What the service needs for its endpoints to be asked over TLS, as the server of `Probing` does it.
const TLS: &str = "tls = { ca = \"peer-ca.pem\", server_name = \"peer.there.test\" }";

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_behind_tls_is_asked_over_it_and_believed_by_its_own_roots_only() {
    let script = always(answer("204 No Content", ""));
    for (what, tls, service, expected) in [
        ("as it is configured", true, TLS.to_owned(), Ok(EndpointAnswer::Well)),
        ("another name", true, TLS.replace("there", "elsewhere"), Err(ProbeFailure::Tls)),
        ("no TLS where it is asked for", false, TLS.to_owned(), Err(ProbeFailure::Timeout)),
        ("TLS where it is not", true, String::new(), Err(ProbeFailure::Closed)),
    ] {
        let mut probing = Probing::with("http1", "30s", &service);
        let acceptor = tls.then(|| probing.tls.clone());
        let server = Server::start(acceptor, false, Arc::clone(&script)).await;
        probing.publish(&[], &[server.address]);
        for _ in 0..2 {
            assert_eq!(probing.endpoint().await, expected, "{what}");
        }
        let asked = server.requests.load(Ordering::SeqCst);
        assert_eq!(asked > 0, expected.is_ok(), "{what}: nothing is said to whom it is not for");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_a_probe_s_connection_unless_the_roots_are_others() {
    let mut probing = Probing::with("http1", "30s", TLS);
    let script = always(answer("204 No Content", ""));
    let server = Server::start(Some(probing.tls.clone()), false, script).await;
    probing.publish(&[], &[server.address]);
    let config = probing.config.borrow().clone();
    for _ in 0..3 {
        assert_eq!(probing.endpoint().await, Ok(EndpointAnswer::Well));
        probing.config.send_replace(Arc::clone(&config));
    }
    assert_eq!(probing.endpoint().await, Ok(EndpointAnswer::Well));
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    let strangers = Folder::new();
    Authority::new().sign(&strangers, "peer", "peer.there.test");
    std::fs::copy(strangers.path().join("peer-ca.pem"), probing.folder.path().join("peer-ca.pem")).unwrap();
    probing.config.send_replace(config);
    let distrusted = async { while probing.endpoint().await != Err(ProbeFailure::Tls) {} };
    timeout(PATIENCE, distrusted).await.expect("the kept connection is not used on");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_endpoint_is_asked_by_prior_knowledge_and_over_tls() {
    for (listen, service) in [("http2", ""), ("ssl http2", TLS)] {
        let mut probing = Probing::with("http2", "30s", service);
        let server =
            "ssl_certificate peer.pem; ssl_certificate_key peer.key; location = /healthz { return 200; }";
        let Some(nginx) = Nginx::start(&probing.folder, listen, server) else { return };
        probing.publish(&[], &[nginx.address]);
        let well = async {
            let mut good = 0;
            while good < 3 {
                good = if probing.endpoint().await.is_ok() { good + 1 } else { 0 };
            }
        };
        timeout(PATIENCE, well).await.unwrap_or_else(|_| panic!("nginx answers by {listen}"));
    }
}
