//! The composition root of `proxima run`: the only file that names every adapter.
//!
//! Everything is bound before anything starts, so that a port in use is one
//! clear line and an exit, not half an edge. Then one loop: signals, the
//! watched file, and the tasks, none of which may end before the process does.

use crate::access_log::{self, AccessLog, Output};
use crate::admin;
use crate::archive;
use crate::clock::{Clock, Heartbeat};
use crate::config::{Config, Environment, ListenAddress};
use crate::control;
use crate::dns;
use crate::domain::fleet::{Fleet, Input, OutcomeRun};
use crate::domain::snapshot::Snapshot;
use crate::domain::view::View;
use crate::error_chain::chain;
use crate::inquiry::Inquiries;
use crate::journal::{self, Journal, Texts};
use crate::metrics::control::ControlMetrics;
use crate::metrics::dns::DnsMetrics;
use crate::metrics::journal::JournalMetrics;
use crate::metrics::kube::KubeMetrics;
use crate::metrics::lease::LeaseMetrics;
use crate::metrics::request::RequestMetrics;
use crate::metrics::snapshot::SnapshotCollector;
use crate::operators::Desk;
use crate::operators::audit::Audit;
use crate::otlp::{self, Exporter};
use crate::peer::Board;
use crate::probe;
use crate::proxy::{self, Edge, Phase};
use crate::trust::TlsError;
use arc_swap::ArcSwap;
use prometheus::Registry;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::{Notify, mpsc, watch};

mod cloud;
mod drain;
mod last_good;
mod region;
mod reload;
mod remote;
mod signals;
mod source;
mod tasks;

pub mod logging;

use cloud::Cloud;
use logging::Logging;
use reload::{Reloader, Told};
pub use remote::place as place_of;
use signals::{Asked, Signals};
pub use source::ConfigFrom;
use source::{Attempt, LoadError, Source};
use tasks::Tasks;

/// Inputs that may wait for the core; senders wait when it is full.
const INPUTS: usize = 1024;
/// Outcomes that may wait for the core; more are dropped and counted.
const OUTCOMES: usize = 4096;
/// Plans that may wait for the DNS side; more are dropped and proposed again.
const PLANS: usize = 16;
/// What blocking calls (files) get to end with the process.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(1);

/// Why the process could not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("configuration refused")]
    Configuration(#[from] LoadError),
    #[error(transparent)]
    Proxy(#[from] proxy::Error),
    #[error("listener `admin` cannot listen on {address}")]
    Admin { address: SocketAddr, source: io::Error },
    #[error("listener `admin`")]
    AdminTls(#[source] TlsError),
    #[error("metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
    #[error(transparent)]
    AccessLog(#[from] access_log::StartError),
    #[error(transparent)]
    AccessLogOutput(#[from] access_log::OpenError),
    #[error("the journal has no thread")]
    Journal(#[source] io::Error),
    #[error("signals cannot be received")]
    Signals(#[source] io::Error),
}

/// Runs an edge with a configuration until a signal or a fault ends it.
///
/// Success when it was drained; failure when it could not start, when a task
/// broke, or when a second signal cut the drain short.
pub fn run(from: ConfigFrom, environment: Environment, logging: Logging) -> ExitCode {
    let runtime = match runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime");
            return ExitCode::FAILURE;
        }
    };
    let (code, last) = runtime.block_on(async {
        match App::start((from, environment), logging).await {
            Ok((app, reloader, last)) => (app.run(reloader).await, Some(last)),
            Err(error) => {
                tracing::error!("cannot start: {}", chain(&error));
                (ExitCode::FAILURE, None)
            }
        }
    });
    let access_log = last.map(|(Writers { access_log, journal }, archive)| {
        if let Some(journal) = journal {
            journal.join(RUNTIME_PATIENCE);
        }
        if code == ExitCode::SUCCESS {
            runtime.block_on(archive::finish(&archive));
        }
        access_log
    });
    runtime.shutdown_timeout(RUNTIME_PATIENCE);
    if let Some(access_log) = access_log {
        access_log.join(RUNTIME_PATIENCE);
    }
    code
}

/// Threads that write until what they write for is gone.
struct Writers {
    access_log: access_log::Writer,
    journal: Option<journal::Writer>,
}

/// What is done when all tasks have ended.
type Last = (Writers, archive::Wiring);

/// A running edge.
struct App {
    edge: Arc<Edge>,
    tasks: Tasks,
    signals: Signals,
    config: watch::Receiver<Arc<Config>>,
    phase: watch::Sender<Phase>,
    draining: watch::Sender<bool>,
    /// To the core.
    inputs: mpsc::Sender<Input>,
    /// Told to send its last ones at the end.
    spans: Exporter,
}

/// What adapters share, before any of them runs.
struct Parts {
    clock: Clock,
    registry: Registry,
    snapshot: Arc<ArcSwap<Snapshot>>,
    view: Arc<ArcSwap<View>>,
    board: Arc<Board>,
    heartbeat: Arc<Heartbeat>,
    boot: u64,
    control_metrics: ControlMetrics,
    request_metrics: Arc<RequestMetrics>,
    access_log: AccessLog,
    spans: (Exporter, otlp::Queue),
    journal: Option<Journal>,
    texts: Texts,
    dns_metrics: Arc<DnsMetrics>,
    kube_metrics: KubeMetrics,
    lease_metrics: LeaseMetrics,
    cloud: Cloud,
    audit: Arc<Audit>,
}

impl Parts {
    fn new(config: &Config) -> Result<(Self, Writers), StartError> {
        let policy = &config.policy;
        let registry = Registry::new();
        let clock = Clock::start();
        let boot = rand::random();
        let first = View::first(policy.own.clone(), boot, policy.agreement_hash());
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::empty(policy.own.clone())));
        let heartbeat = Arc::new(Heartbeat::default());
        SnapshotCollector::register(&registry, Arc::clone(&snapshot), Arc::clone(&heartbeat), clock)?;
        let (access_log, writer) = AccessLog::start(&registry)?;
        let texts = Texts::default();
        texts.tell(policy, &config.text);
        let (journal, journal_writer) = match &config.journal {
            None => (None, None),
            Some(wanted) => {
                let metrics = JournalMetrics::register(&registry)?;
                let own = policy.own.clone();
                let process = journal::Process { clock, own, boot, texts: texts.clone(), metrics };
                let (journal, writer) = Journal::start(wanted, process).map_err(StartError::Journal)?;
                (Some(journal), Some(writer))
            }
        };
        let parts = Self {
            clock,
            snapshot,
            view: Arc::new(ArcSwap::from_pointee(first)),
            board: Arc::default(),
            heartbeat,
            boot,
            control_metrics: ControlMetrics::register(&registry)?,
            request_metrics: Arc::new(RequestMetrics::register(&registry)?),
            dns_metrics: Arc::new(DnsMetrics::register(&registry)?),
            kube_metrics: KubeMetrics::register(&registry)?,
            lease_metrics: LeaseMetrics::register(&registry)?,
            cloud: Cloud::register(&registry)?,
            access_log,
            audit: Arc::new(Audit::register(&registry)?),
            spans: Exporter::new(&registry)?,
            journal,
            texts,
            registry,
        };
        Ok((parts, Writers { access_log: writer, journal: journal_writer }))
    }
}

impl App {
    /// Binds everything, then starts everything.
    async fn start(
        (from, environment): (ConfigFrom, Environment),
        mut logging: Logging,
    ) -> Result<(Self, Reloader, Last), StartError> {
        // Before anything takes time: a signal from now on is not lost.
        let signals = Signals::new().map_err(StartError::Signals)?;
        let source = Source::open(from, environment).await?;
        let attempt = source.first().await;
        if let Ok(config) = &attempt.result {
            logging.apply(&config.log);
        }
        attempt.tell_notes();
        let Attempt { result, fingerprint, named, .. } = attempt;
        let config = result?;
        let (parts, writers) = Parts::new(&config)?;
        source.register(&parts.registry)?;
        parts.audit.switch(config.audit.clone()).await;
        parts.access_log.switch(Output::open(config.access_log.as_ref().map(|log| &log.output))?);
        let (outcome_sender, outcomes) = mpsc::channel(OUTCOMES);
        let (input_sender, inputs) = mpsc::channel(INPUTS);
        let wiring = proxy::Wiring {
            snapshot: Arc::clone(&parts.snapshot),
            view: Arc::clone(&parts.view),
            board: Arc::clone(&parts.board),
            outcomes: outcome_sender,
            inputs: input_sender.clone(),
            clock: parts.clock,
            heartbeat: Arc::clone(&parts.heartbeat),
            metrics: Arc::clone(&parts.request_metrics),
            access_log: Some(parts.access_log.clone()),
            spans: Some(parts.spans.0.clone()),
        };
        let edge = Arc::new(Edge::bind(Arc::clone(&config), wiring).await?);
        let address = config.admin.address;
        let admin = TcpListener::bind(address).await;
        let admin = admin.map_err(|source| StartError::Admin { address, source })?;
        let tls = admin::tls::read(&config.admin).await.map_err(StartError::AdminTls)?;
        let (tls_sender, tls) = watch::channel(tls);
        let listeners = bound(&config, &edge, &admin)?;

        let (config_sender, config) = watch::channel(config);
        let (phase, _) = watch::channel(Phase::Serving);
        let (draining, _) = watch::channel(false);
        let told = Told {
            config: config_sender,
            inputs: input_sender.clone(),
            edge: Arc::clone(&edge),
            admin: tls_sender,
            metrics: parts.control_metrics.clone(),
            access_log: parts.access_log.clone(),
            texts: parts.texts.clone(),
            audit: Arc::clone(&parts.audit),
            logging,
        };
        source.accepted().await;
        let reloader = Reloader::new(source, fingerprint, named, told);
        let spans = parts.spans.0.clone();
        let mut app = Self {
            edge,
            tasks: Tasks::default(),
            signals,
            config,
            phase,
            draining,
            inputs: input_sender.clone(),
            spans,
        };
        let archive = parts.cloud.archive(app.config.clone(), &parts.audit);
        app.tasks.spawn("archive", archive::run(archive.clone()));
        app.spawn(parts, Channels { inputs, input_sender, outcomes }, (admin, tls), listeners);
        Ok((app, reloader, (writers, archive)))
    }

    fn spawn(
        &mut self,
        parts: Parts,
        channels: Channels,
        (admin, tls): (TcpListener, watch::Receiver<admin::tls::Tls>),
        listeners: Arc<[admin::Bound]>,
    ) {
        let Channels { inputs, input_sender, outcomes } = channels;
        let ruling = self.spawn_region(&parts, &input_sender);
        let (plan_sender, plans) = mpsc::channel(PLANS);
        let (published_sender, published) = watch::channel(0);
        let load = Arc::clone(&parts.request_metrics);
        let fleet = Fleet::new(Arc::clone(&self.config.borrow().policy), parts.boot);
        let (inquiries, asked) = Inquiries::new();
        let desk = Arc::new(Desk::new(parts.clock, input_sender.clone(), parts.audit));
        let control = control::Wiring {
            clock: parts.clock,
            inputs,
            outcomes,
            plans: plan_sender,
            snapshot: Arc::clone(&parts.snapshot),
            view: Arc::clone(&parts.view),
            published: published_sender,
            load: Arc::new(move |snapshot| totals(&load, snapshot)),
            board: Arc::clone(&parts.board),
            ruling,
            heartbeat: Arc::clone(&parts.heartbeat),
            desk: Arc::clone(&desk),
            metrics: parts.control_metrics.clone(),
            inquiries: asked,
            journal: parts.journal,
        };
        let probes = probe::Wiring {
            config: self.config.clone(),
            snapshot: Arc::clone(&parts.snapshot),
            published,
            inputs: input_sender.clone(),
            metrics: parts.control_metrics.clone(),
            board: Arc::clone(&parts.board),
            clock: parts.clock,
        };
        let operators = admin::Wiring {
            clock: parts.clock,
            heartbeat: parts.heartbeat,
            snapshot: Arc::clone(&parts.snapshot),
            view: parts.view,
            registry: parts.registry,
            listeners,
            inquiries,
            config: self.config.clone(),
            desk: Arc::clone(&desk),
            moves: parts.request_metrics.moves.clone(),
            draining: self.draining.subscribe(),
        };
        let (config, shutdown) = (self.config.clone(), self.draining.subscribe());
        self.tasks.spawn("control", control::run(fleet, control));
        self.tasks.spawn("spans", otlp::run(parts.spans.1, self.config.clone()));
        self.tasks.spawn("probe", probe::run(probes));
        let links = dns::Links {
            config,
            plans,
            inputs: input_sender,
            clock: parts.clock,
            metrics: parts.dns_metrics,
            snapshot: parts.snapshot,
            desk,
            sessions: parts.cloud.sessions,
            shutdown,
        };
        self.tasks.spawn(DNS, dns::serve(links));
        self.tasks.spawn("admin", admin::run(admin, operators, tls));
        let (edge, phase) = (Arc::clone(&self.edge), self.phase.subscribe());
        self.tasks.spawn(PROXY, async move { edge.serve(phase).await });
    }

    /// Serves until a signal or a fault.
    async fn run(mut self, reloader: Reloader) -> ExitCode {
        let asked = Notify::new();
        // Beside signals and tasks, never before them: a file on a mount that hangs, or a core
        // that is overrun, may hold a reload up for ever.
        let mut reloads = pin!(reloader.run(&asked));
        loop {
            tokio::select! {
                ended = self.tasks.ended() => {
                    tracing::error!(task = ended.name, how = %ended.how, "a vital task ended");
                    return ExitCode::FAILURE;
                }
                signal = self.signals.next() => match signal {
                    Asked::Stop(signal) => {
                        tracing::info!(signal, "draining");
                        let code = self.drain().await;
                        if code == ExitCode::SUCCESS {
                            self.spans.flush(FLUSH).await;
                        }
                        return code;
                    }
                    Asked::Reload => {
                        tracing::info!("asked to reload");
                        // One that comes during a reload is remembered: the file may have changed since.
                        asked.notify_one();
                    }
                },
                never = &mut reloads => match never {},
            }
        }
    }
}

/// What this pod and its services have done since the start.
fn totals(metrics: &RequestMetrics, snapshot: &Snapshot) -> control::Totals {
    let services = snapshot.services.keys().map(|id| (id.clone(), metrics.service_totals(id)));
    control::Totals {
        entered: metrics.entered_total(),
        names: snapshot.names.keys().map(|name| (name.clone(), metrics.entered_for(name).get())).collect(),
        served: metrics.served_total(),
        services: services.collect(),
    }
}

/// For the last spans, after everything else is done.
const FLUSH: Duration = Duration::from_secs(1);
/// The task that answers requests; it ends by itself when it is drained.
const PROXY: &str = "proxy";
/// The task that writes records; it ends by itself when it is told to.
const DNS: &str = "dns";

struct Channels {
    inputs: mpsc::Receiver<Input>,
    input_sender: mpsc::Sender<Input>,
    outcomes: mpsc::Receiver<OutcomeRun>,
}

/// Every bound listener. The proxy has logged its own.
///
/// # Errors
/// When the admin socket does not tell its address.
fn bound(config: &Config, edge: &Edge, admin: &TcpListener) -> Result<Arc<[admin::Bound]>, StartError> {
    let addresses = edge.addresses();
    let mut listeners: Vec<admin::Bound> = config
        .listeners
        .iter()
        .filter_map(|listener| {
            let protocol = match listener.protocol {
                crate::config::Protocol::Http => "http",
                crate::config::Protocol::Https => "https",
            };
            let address = match &listener.address {
                ListenAddress::Tcp(_) => addresses.listeners.get(&listener.name)?.to_string(),
                unix @ ListenAddress::Unix(_) => unix.to_string(),
            };
            Some(admin::Bound { name: listener.name.clone(), address, protocol })
        })
        .collect();
    let peer = addresses.peer.map(|address| ("peer", address));
    let address = config.admin.address;
    let admin = admin.local_addr().map_err(|source| StartError::Admin { address, source })?;
    tracing::info!(listener = "admin", address = %admin, "listening");
    for (name, address) in peer.into_iter().chain([("admin", admin)]) {
        listeners.push(admin::Bound { name: name.to_owned(), address: address.to_string(), protocol: name });
    }
    Ok(listeners.into())
}
