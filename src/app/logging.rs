//! Logs: readable on a terminal, one JSON object a line elsewhere; always on standard error.

use std::io::IsTerminal;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// What is logged when nobody says otherwise.
///
/// Pingora reports every client that hangs up and every failed handshake as an
/// error: at a hostile edge that is noise without an end. The proxy counts and
/// reports those itself.
const DEFAULT: &str = "info,pingora_core=off,pingora_pool=off,hickory_resolver=error,hickory_net=error";

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("not a log filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error(transparent)]
    Init(#[from] TryInitError),
}

/// Installs the process's logger; records of the `log` crate (Pingora's) come through it too.
///
/// # Errors
/// `Filter` when the filter does not parse, `Init` when there is a logger already.
pub fn start(filter: Option<&str>) -> Result<(), LoggingError> {
    let filter = EnvFilter::try_new(filter.unwrap_or(DEFAULT))?;
    let terminal = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if terminal { lines.boxed() } else { lines.json().flatten_event(true).boxed() };
    tracing_subscriber::registry().with(lines.with_filter(filter)).try_init()?;
    Ok(())
}
