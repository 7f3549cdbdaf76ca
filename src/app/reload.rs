//! Reloads: a good file replaces what is in force, a bad one changes nothing.

use super::logging::Logging;
use super::source::{Attempt, Fingerprint, LoadError, Source, Watcher};
use crate::access_log::{AccessLog, OpenError, Output};
use crate::admin::tls::{self, Tls};
use crate::config::Config;
use crate::domain::fleet::Input;
use crate::journal::Texts;
use crate::metrics::control::{ControlMetrics, Reload};
use crate::operators::audit::Audit;
use crate::proxy::{self, Edge};
use crate::trust::TlsError;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

/// How often the file's content is compared.
const POLL: Duration = Duration::from_secs(1);

/// Why a configuration was not applied.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Proxy(#[from] proxy::Error),
    #[error("{what} cannot change while running; restart to apply it")]
    NeedsRestart { what: &'static str },
    #[error("listener `admin`")]
    Admin(#[source] TlsError),
    #[error(transparent)]
    AccessLog(#[from] OpenError),
    #[error("the process ends")]
    Ending,
    #[error("the core is gone")]
    CoreGone,
}

/// Watches the file and applies what is good of it.
pub(super) struct Reloader {
    source: Source,
    watcher: Watcher,
    /// Named by what was last tried, well or not.
    named: Vec<PathBuf>,
    applied: Fingerprint,
    config: watch::Sender<Arc<Config>>,
    inputs: mpsc::Sender<Input>,
    edge: Arc<Edge>,
    admin: watch::Sender<Tls>,
    metrics: ControlMetrics,
    access_log: AccessLog,
    texts: Texts,
    audit: Arc<Audit>,
    logging: Logging,
    poll: Interval,
}

/// What a reloader tells of a new configuration.
pub(super) struct Told {
    pub(super) config: watch::Sender<Arc<Config>>,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) edge: Arc<Edge>,
    /// How the admin listener serves new connections.
    pub(super) admin: watch::Sender<Tls>,
    pub(super) metrics: ControlMetrics,
    pub(super) access_log: AccessLog,
    /// Told before a policy is.
    pub(super) texts: Texts,
    pub(super) audit: Arc<Audit>,
    pub(super) logging: Logging,
}

impl Reloader {
    /// `fingerprint` and `named` are those of the configuration in force.
    pub(super) fn new(source: Source, fingerprint: Fingerprint, named: Vec<PathBuf>, told: Told) -> Self {
        let Told { config, inputs, edge, admin, metrics, access_log, texts, audit, logging } = told;
        metrics.config_applied(fingerprint.hash(), unix_seconds());
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (watcher, applied) = (Watcher::new(fingerprint), fingerprint);
        Self {
            source,
            watcher,
            named,
            applied,
            config,
            inputs,
            edge,
            admin,
            metrics,
            access_log,
            texts,
            audit,
            logging,
            poll,
        }
    }

    /// Reloads when the content has changed and when it is asked to, for ever.
    ///
    /// Dropped in the middle of a reload it leaves the configuration in force.
    pub(super) async fn run(mut self, asked: &Notify) -> Infallible {
        loop {
            tokio::select! {
                () = self.changed() => {}
                () = asked.notified() => self.source.refresh().await,
            }
            self.reload().await;
        }
    }

    /// Returns when the content differs from what was last tried and has settled.
    async fn changed(&mut self) {
        loop {
            self.poll.tick().await;
            let pause = self.config.borrow().aws.config_poll;
            let now = self.source.fingerprint(&self.named, pause).await;
            if self.watcher.settled(now) {
                return;
            }
        }
    }

    /// Loads and applies the file as it is now.
    async fn reload(&mut self) {
        let attempt = self.source.load().await;
        if attempt.fingerprint != self.applied {
            attempt.tell_notes();
        }
        let Attempt { result, fingerprint, named, .. } = attempt;
        self.watcher.tried(fingerprint);
        self.named = named;
        let told = if fingerprint == self.applied {
            tracing::info!("configuration unchanged");
            self.reopen().await;
            Reload::Unchanged
        } else {
            match self.apply(result, fingerprint).await {
                Ok(()) => {
                    tracing::info!("configuration applied");
                    self.source.accepted().await;
                    Reload::Applied
                }
                Err(error) => {
                    let error = super::chain(&error);
                    tracing::error!("configuration refused, the one in force stays: {error}");
                    Reload::Refused
                }
            }
        };
        self.metrics.reloaded(told);
    }

    /// The file of the access log may have been moved away.
    async fn reopen(&self) {
        let config = self.config.borrow().clone();
        match opened(config).await {
            Ok(output) => self.switch(output).await,
            Err(error) => tracing::error!("the access log stays as it is: {}", super::chain(&error)),
        }
    }

    async fn switch(&self, output: Output) {
        let log = self.access_log.clone();
        let switching = spawn_blocking(move || log.switch(output));
        if timeout(POLL, switching).await.is_err() {
            tracing::warn!("the access log lags behind: its new output has to wait");
        }
    }

    /// All or nothing: whoever may refuse is asked before anyone is told.
    async fn apply(
        &mut self,
        loaded: Result<Arc<Config>, LoadError>,
        fingerprint: Fingerprint,
    ) -> Result<(), ReloadError> {
        let config = loaded?;
        let before = self.config.borrow().clone();
        if let Some(what) = needs_restart(&before, &config) {
            return Err(ReloadError::NeedsRestart { what });
        }
        let output = opened(Arc::clone(&config)).await?;
        let admin = tls::read(&config.admin).await.map_err(ReloadError::Admin)?;
        let room = self.inputs.reserve().await.map_err(|_| ReloadError::CoreGone)?;
        self.edge.apply(&config).await?;
        self.texts.tell(&config.policy, &config.text);
        // The core first: addresses of a service that it does not know would be lost.
        room.send(Input::Configure(Arc::clone(&config.policy)));
        self.logging.apply(&config.log);
        self.audit.switch(config.audit.clone()).await;
        self.admin.send_replace(admin);
        self.config.send_replace(config);
        self.switch(output).await;
        self.applied = fingerprint;
        self.metrics.config_applied(fingerprint.hash(), unix_seconds());
        Ok(())
    }
}

async fn opened(config: Arc<Config>) -> Result<Output, ReloadError> {
    let opening = spawn_blocking(move || Output::open(config.access_log.as_ref().map(|log| &log.output)));
    Ok(opening.await.map_err(|_| ReloadError::Ending)??)
}

/// What differs that is fixed for the life of the process, the proxy's listeners aside.
fn needs_restart(before: &Config, after: &Config) -> Option<&'static str> {
    if before.policy.own != after.policy.own {
        Some("edge.region")
    } else if before.admin.address != after.admin.address {
        Some("admin.address")
    } else if before.journal != after.journal {
        Some("journal")
    } else {
        None
    }
}

/// The wall clock, for people: when a configuration was applied. Nothing is decided by it.
#[allow(clippy::disallowed_methods)]
fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
