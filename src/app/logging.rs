//! Logs: readable on a terminal, one JSON object a line elsewhere; always on standard error.
//!
//! What is logged follows the configuration, and changes with it. What the command
//! line or `RUST_LOG` says wins for the life of the process: whoever looks for
//! something must not lose it to a reload.

use crate::config::Log;
use std::io::IsTerminal;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("not a log filter: {0}")]
    Filter(#[from] ParseError),
    #[error(transparent)]
    Init(#[from] TryInitError),
}

/// The process's logger, whose filter may change.
#[derive(Debug)]
pub struct Logging {
    handle: Handle<EnvFilter, Registry>,
    /// By whoever started the process; the configuration has no say then.
    fixed: bool,
    /// What the configuration said last.
    filter: String,
}

/// Installs the process's logger; records of the `log` crate (Pingora's) come through it too.
///
/// # Errors
/// `Filter` when the filter does not parse, `Init` when there is a logger already.
pub fn start(filter: Option<&str>) -> Result<Logging, LoggingError> {
    let default = Log::default().filter;
    let fixed = filter.is_some();
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(filter.unwrap_or(&default))?);
    let terminal = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if terminal { lines.boxed() } else { lines.json().flatten_event(true).boxed() };
    tracing_subscriber::registry().with(lines.with_filter(filter)).try_init()?;
    Ok(Logging { handle, fixed, filter: default })
}

impl Logging {
    /// Logs by the configuration's filter from here on, unless whoever started the process chose one.
    pub(super) fn apply(&mut self, log: &Log) {
        if log.filter == self.filter {
            return;
        }
        self.filter.clone_from(&log.filter);
        if self.fixed {
            tracing::info!(filter = log.filter, "the log filter of --log or RUST_LOG stays");
            return;
        }
        let changed = EnvFilter::try_new(&log.filter).map_err(|error| error.to_string());
        match changed.and_then(|filter| self.handle.reload(filter).map_err(|error| error.to_string())) {
            Ok(()) => {
                log::set_max_level(level());
                tracing::info!(filter = log.filter, "the log filter has changed");
            }
            Err(error) => tracing::error!(error, "the log filter stays as it is"),
        }
    }
}

/// The level that records of the `log` crate are taken from: it keeps one of its own.
fn level() -> log::LevelFilter {
    use tracing::level_filters::LevelFilter as Of;
    match Of::current() {
        Of::OFF => log::LevelFilter::Off,
        Of::ERROR => log::LevelFilter::Error,
        Of::WARN => log::LevelFilter::Warn,
        Of::INFO => log::LevelFilter::Info,
        Of::DEBUG => log::LevelFilter::Debug,
        _ => log::LevelFilter::Trace,
    }
}
