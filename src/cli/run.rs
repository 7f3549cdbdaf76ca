//! `proxima run`: the edge itself.

use crate::app::{self, logging};
use crate::config::Environment;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration file; it is read again when it changes and on SIGHUP.
    file: PathBuf,
    /// The region that this edge is in; wins over `edge.region`.
    #[arg(long, env = "PROXIMA_REGION")]
    region: Option<String>,
    /// What is logged, such as `debug` or `info,proxima::probe=trace`.
    #[arg(long, env = "RUST_LOG")]
    log: Option<String>,
}

/// Runs until SIGTERM or SIGINT, which drain; a second one ends at once.
pub fn run(arguments: Arguments) -> ExitCode {
    if let Err(error) = logging::start(arguments.log.as_deref()) {
        eprintln!("proxima: {error}");
        return ExitCode::FAILURE;
    }
    app::run(&arguments.file, Environment { region: arguments.region })
}
