//! Reloads: a good file replaces what is in force, a bad one changes nothing.

use super::source::{Fingerprint, LoadError, Loaded, Source, Watcher};
use crate::config::Config;
use crate::domain::fleet::Input;
use crate::metrics::control::{ControlMetrics, Reload};
use crate::proxy::{self, Edge};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};

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
    #[error("the core is gone")]
    CoreGone,
}

/// Watches the file and applies what is good of it.
pub(super) struct Reloader {
    source: Source,
    watcher: Watcher,
    applied: Fingerprint,
    config: watch::Sender<Arc<Config>>,
    inputs: mpsc::Sender<Input>,
    edge: Arc<Edge>,
    metrics: ControlMetrics,
    poll: Interval,
}

/// What a reloader tells of a new configuration.
pub(super) struct Told {
    pub(super) config: watch::Sender<Arc<Config>>,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) edge: Arc<Edge>,
    pub(super) metrics: ControlMetrics,
}

impl Reloader {
    pub(super) fn new(source: Source, first: &Loaded, told: Told) -> Self {
        let Told { config, inputs, edge, metrics } = told;
        metrics.config_applied(first.fingerprint.hash(), unix_seconds());
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (watcher, applied) = (Watcher::new(first.fingerprint), first.fingerprint);
        Self { source, watcher, applied, config, inputs, edge, metrics, poll }
    }

    /// Returns when the content differs from what was last tried and has settled.
    pub(super) async fn changed(&mut self) {
        loop {
            self.poll.tick().await;
            let now = self.fingerprint().await;
            if self.watcher.settled(now) {
                return;
            }
        }
    }

    async fn fingerprint(&self) -> Fingerprint {
        let config = self.config.borrow().clone();
        self.source.fingerprint(&config).await
    }

    /// Loads and applies the file as it is now.
    pub(super) async fn reload(&mut self) {
        let now = self.fingerprint().await;
        self.watcher.tried(now);
        let result = if now == self.applied {
            tracing::info!("configuration unchanged");
            Reload::Unchanged
        } else {
            match self.apply().await {
                Ok(()) => {
                    tracing::info!("configuration applied");
                    Reload::Applied
                }
                Err(error) => {
                    let error = super::chain(&error);
                    tracing::error!("configuration refused, the one in force stays: {error}");
                    Reload::Refused
                }
            }
        };
        self.metrics.reloaded(result);
    }

    /// All or nothing: whoever may refuse is asked before anyone is told.
    async fn apply(&mut self) -> Result<(), ReloadError> {
        let Loaded { config, fingerprint } = self.source.load().await?;
        let before = self.config.borrow().clone();
        if let Some(what) = needs_restart(&before, &config) {
            return Err(ReloadError::NeedsRestart { what });
        }
        let room = self.inputs.reserve().await.map_err(|_| ReloadError::CoreGone)?;
        self.edge.apply(&config).await?;
        // The core first: addresses of a service that it does not know would be lost.
        room.send(Input::Configure(Arc::clone(&config.policy)));
        self.config.send_replace(config);
        self.applied = fingerprint;
        self.watcher.tried(fingerprint);
        self.metrics.config_applied(fingerprint.hash(), unix_seconds());
        Ok(())
    }
}

/// What differs that is fixed for the life of the process, the proxy's listeners aside.
fn needs_restart(before: &Config, after: &Config) -> Option<&'static str> {
    if before.policy.own != after.policy.own {
        Some("edge.region")
    } else if before.admin != after.admin {
        Some("admin.address")
    } else {
        None
    }
}

/// The wall clock, for people: when a configuration was applied. Nothing is decided by it.
#[allow(clippy::disallowed_methods)]
fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
