//! The proxy: listeners, and requests on their way to services.
//!
//! ```text
//! accept -> door (caps, PROXY) -> connection (TLS, HTTP version, deadlines) -> session -> pipeline -> upstream
//!                                                                                |          |           |
//!                                                                               h1   policy, attempts,  h1
//!                                                                                    headers (pure)
//! ```
//!
//! `policy`, `attempts` and `headers` compute what happens to a request as
//! data; `pipeline` carries it out over sessions, and knows neither sockets nor
//! the version of HTTP. `h1` is all there is of HTTP/1: one reader and one writer
//! for both sides, pure. HTTP/2 is the h2 crate's, TLS is rustls', the streams under
//! both are Pingora's.

use crate::access_log::AccessLog;
use crate::clock::{Clock, Heartbeat};
use crate::config::{Config, ListenAddress, Listener, Protocol};
use crate::domain::fleet::{Input, OutcomeRun};
use crate::domain::hash::HashKey;
use crate::domain::snapshot::Snapshot;
use crate::domain::view::View;
use crate::metrics::request::{ListenerKind, Message, RequestMetrics};
use crate::otlp::Exporter;
use crate::peer::Board;
use crate::proxy::h1::Malformed;
use crate::trust::Trusts;
use arc_swap::ArcSwap;
use prometheus::IntCounter;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

mod activity;
pub mod attempts;
mod connection;
mod door;
mod errors;
mod guards;
pub mod h1;
mod headers;
mod io;
mod listen;
mod pace;
mod parting;
mod pipeline;
mod policy;
mod progress;
pub mod proxy_protocol;
mod samples;
mod session;
mod settings;
mod tls;
mod trace;
mod trail;
mod trust;
mod upstream;

pub use crate::trust::{TlsError, Unreachable};
pub use activity::Activity;

/// What the proxy shares with the other adapters.
#[derive(Debug, Clone)]
pub struct Wiring {
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The own view, answered to probes.
    pub view: Arc<ArcSwap<View>>,
    /// What the region's other pods are told.
    pub board: Arc<Board>,
    /// Full: outcomes are dropped and counted.
    pub outcomes: mpsc::Sender<OutcomeRun>,
    /// Takes samples of round trips. Full: they are dropped and counted.
    pub inputs: mpsc::Sender<Input>,
    pub clock: Clock,
    /// Of whoever publishes snapshots.
    pub heartbeat: Arc<Heartbeat>,
    pub metrics: Arc<RequestMetrics>,
    /// `None`: requests are never logged, whatever the configuration says.
    pub access_log: Option<AccessLog>,
    /// `None`: spans are never exported, whatever the configuration says.
    pub spans: Option<Exporter>,
}

/// How far the end of the process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Serving,
    /// Still accepting, but connections are not kept alive: load balancers are looking away.
    Draining,
    /// No new connections; idle ones go at once, others when their requests end.
    Closing,
}

/// Why the proxy cannot start or take a new configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listener `{listener}` cannot listen on {address}")]
    Bind { listener: String, address: ListenAddress, source: std::io::Error },
    #[error("listener `{listener}`")]
    Tls { listener: String, source: TlsError },
    #[error("TLS to {}", .0.of)]
    Trust(#[source] Unreachable),
    #[error("the affinity secret {path} cannot be read")]
    Secret { path: PathBuf, source: std::io::Error },
    #[error("the affinity secret {path} is shorter than 16 bytes")]
    ShortSecret { path: PathBuf },
    #[error("listener `{listener}` is `https`, but there is no [tls] section")]
    NoCertificate { listener: String },
    #[error("{what} cannot change while running; restart to apply it")]
    NeedsRestart { what: String },
}

/// Where the listeners really listen: ports that were asked for as 0 are known here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses {
    /// By listener name.
    pub listeners: BTreeMap<String, SocketAddr>,
    /// Paths of Unix sockets, by listener name.
    pub sockets: BTreeMap<String, PathBuf>,
    pub peer: Option<SocketAddr>,
}

/// The running proxy.
pub struct Edge {
    server: Arc<connection::Server>,
    shared: Arc<Shared>,
    addresses: Addresses,
    /// Taken by [`Edge::serve`], so that they close when it has ended.
    bound: Mutex<Vec<Bound>>,
    /// Of the listeners, in their order, and of the peer listener.
    doors: Vec<Arc<door::Door>>,
    closing: watch::Sender<bool>,
    tickets: Arc<dyn rustls::server::ProducesTickets>,
}

/// A listener that is bound but does not accept yet.
struct Bound {
    name: String,
    door: Arc<door::Door>,
    listener: listen::Listening,
}

/// What connections and requests read.
struct Shared {
    wiring: Wiring,
    settings: ArcSwap<settings::Settings>,
    draining: AtomicBool,
    counter: Arc<activity::Counter>,
    malformed: Malformations,
    parting: parting::Parting,
    samples: Arc<samples::Samples>,
}

/// Counts of malformed messages, by reason.
struct Malformations {
    requests: [IntCounter; Malformed::ALL.len()],
    answers: [IntCounter; Malformed::ALL.len()],
}

impl Malformations {
    fn new(metrics: &RequestMetrics) -> Self {
        let reasons = Malformed::ALL.map(Malformed::as_str);
        Self {
            requests: metrics.malformed(Message::Request, reasons),
            answers: metrics.malformed(Message::Answer, reasons),
        }
    }
}

impl Shared {
    fn draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    fn malformed(&self, message: Message, reason: Malformed) {
        let counts = match message {
            Message::Request => &self.malformed.requests,
            Message::Answer => &self.malformed.answers,
        };
        if let Some(count) = counts.get(reason as usize) {
            count.inc();
        }
    }

    fn request(&self) -> activity::Guard {
        self.counter.request(self.wiring.metrics.in_flight.clone())
    }

    fn connection(&self, kind: ListenerKind) -> activity::Guard {
        self.counter.connection(self.wiring.metrics.connections(kind).clone())
    }
}

/// What an applied configuration brings besides itself.
struct Loaded {
    tls: settings::Tls,
    secrets: guards::Secrets,
}

impl Edge {
    /// Reads the certificates and binds every listener; nothing is accepted yet.
    ///
    /// # Errors
    /// `Error::Tls`, `Error::NoCertificate` or `Error::Bind`, with the listener and the reason.
    pub async fn bind(config: Arc<Config>, wiring: Wiring) -> Result<Self, Error> {
        let tickets = tls::ticketer().map_err(|source| Error::Tls { listener: "*".to_owned(), source })?;
        let Loaded { tls, secrets } = load(&config, &tickets, &Trusts::default()).await?;
        let (bound, addresses) = listen::bind(&config, &wiring.metrics).await?;
        let guards = guards::Guards::new(
            &config,
            &secrets,
            &guards::Guards::default(),
            &wiring.metrics,
            rand::random(),
            wiring.clock.now(),
        );
        let settings = settings::Settings::new(Arc::clone(&config), &wiring.metrics, guards, tls);
        let shared = Arc::new(Shared {
            malformed: Malformations::new(&wiring.metrics),
            samples: Arc::new(samples::Samples::new(wiring.inputs.clone(), Arc::clone(&wiring.metrics))),
            parting: parting::Parting::new(&config, &wiring.metrics),
            wiring,
            settings: ArcSwap::from_pointee(settings),
            draining: AtomicBool::new(false),
            counter: Arc::default(),
        });
        let (closing, closed) = watch::channel(false);
        let server = connection::Server {
            shared: Arc::clone(&shared),
            pipeline: Arc::new(pipeline::Pipeline {
                shared: Arc::clone(&shared),
                upstreams: upstream::Upstreams::new(Arc::clone(&shared.samples)),
            }),
            closing: closed,
        };
        let doors = bound.iter().map(|bound| Arc::clone(&bound.door)).collect();
        let (server, bound) = (Arc::new(server), Mutex::new(bound));
        Ok(Self { server, shared, addresses, bound, doors, closing, tickets })
    }

    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Open connections and requests in flight.
    pub fn activity(&self) -> Activity {
        self.shared.counter.activity()
    }

    /// Accepts and serves until the phase is `Closing` (or its sender is gone) and nothing is left.
    ///
    /// Dropping the future stops accepting; what is open then ends by itself.
    /// A second call finds nothing to accept from.
    pub async fn serve(&self, mut phase: watch::Receiver<Phase>) {
        let bound = match self.bound.lock() {
            Ok(mut bound) => std::mem::take(&mut *bound),
            Err(poisoned) => std::mem::take(&mut *poisoned.into_inner()),
        };
        let mut accepting = listen::accept(bound, &self.server);
        let mut sweeping = JoinSet::new();
        let pipeline = Arc::clone(&self.server.pipeline);
        sweeping.spawn(async move { pipeline.upstreams.sweep().await });
        let shared = Arc::clone(&self.shared);
        sweeping.spawn(async move {
            let (snapshot, moves) =
                (Arc::clone(&shared.wiring.snapshot), shared.wiring.metrics.moves.clone());
            shared.parting.follow(snapshot, moves).await;
        });
        loop {
            let now = *phase.borrow_and_update();
            if now >= Phase::Draining {
                self.shared.draining.store(true, Relaxed);
            }
            if now == Phase::Closing || phase.changed().await.is_err() {
                break;
            }
        }
        self.shared.draining.store(true, Relaxed);
        self.closing.send_replace(true);
        while accepting.join_next().await.is_some() {}
        self.shared.counter.nothing_left().await;
    }

    /// Takes a new configuration: services, regions, certificates and keys, and what listeners ask of
    /// connections, for those that come from now on. All or nothing.
    ///
    /// # Errors
    /// `Error::Tls` when a file is unusable, `Error::NeedsRestart` when there are other
    /// listeners. The old configuration then goes on.
    pub async fn apply(&self, config: &Arc<Config>) -> Result<(), Error> {
        let before = self.shared.settings.load_full();
        if let Some(what) = listen::difference(&before.config, config) {
            return Err(Error::NeedsRestart { what });
        }
        let Loaded { tls, secrets } = load(config, &self.tickets, &before.tls.upstreams).await?;
        let metrics = &self.shared.wiring.metrics;
        let now = self.shared.wiring.clock.now();
        let guards = guards::Guards::new(config, &secrets, &before.guards, metrics, rand::random(), now);
        let settings = settings::Settings::new(Arc::clone(config), metrics, guards, tls);
        self.shared.parting.apply(config, &self.shared.wiring.metrics);
        metrics.forget_routes(&before.handles, &settings.handles);
        self.shared.settings.store(Arc::new(settings));
        listen::change(&self.doors, config);
        Ok(())
    }
}

/// Reads the files of a configuration; upstreams that are trusted as in `before` keep what that has.
async fn load(
    config: &Config,
    tickets: &Arc<dyn rustls::server::ProducesTickets>,
    before: &Trusts,
) -> Result<Loaded, Error> {
    let https = |l: &&Listener| l.protocol == Protocol::Https;
    let clients = match (config.listeners.iter().find(https), &config.tls) {
        (None, _) => None,
        (Some(listener), None) => return Err(Error::NoCertificate { listener: listener.name.clone() }),
        (Some(listener), Some(files)) => {
            let server = tls::server(files, tickets).await;
            Some(server.map_err(|source| Error::Tls { listener: listener.name.clone(), source })?)
        }
    };
    let peers = match &config.peer {
        None => None,
        Some(files) => {
            let own = config.regions.get(&config.policy.own).and_then(|region| region.peer.as_ref());
            let loaded = tls::peer(files, own.map(|own| own.server_name.as_str())).await;
            Some(loaded.map_err(|source| Error::Tls { listener: listen::PEER.to_owned(), source })?)
        }
    };
    let upstreams = Trusts::load(config, before).await.map_err(Error::Trust)?;
    let tls = settings::Tls { clients: clients.map(Arc::new), peers: peers.map(Arc::new), upstreams };
    Ok(Loaded { tls, secrets: secrets(config).await? })
}

/// The secrets that cookies of sessions are made with.
async fn secrets(config: &Config) -> Result<guards::Secrets, Error> {
    let mut secrets = guards::Secrets::new();
    for (id, service) in &config.services {
        let Some(path) = service.protection.affinity.as_ref().and_then(|rule| rule.secret.as_ref()) else {
            continue;
        };
        let read = tokio::fs::read(path).await;
        let bytes = read.map_err(|source| Error::Secret { path: path.clone(), source })?;
        let key = HashKey::from_secret(&bytes).ok_or_else(|| Error::ShortSecret { path: path.clone() })?;
        secrets.insert(id.clone(), key);
    }
    Ok(secrets)
}
