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
    /// The zone that this edge is in; wins over `edge.zone`.
    #[arg(long, env = "PROXIMA_ZONE")]
    zone: Option<String>,
    /// What is logged, such as `debug` or `info,proxima::probe=trace`; wins over `log.filter` of the file.
    #[arg(long, env = "RUST_LOG")]
    log: Option<String>,
}

/// Runs until SIGTERM or SIGINT, which drain; a second one ends at once.
pub fn run(arguments: Arguments) -> ExitCode {
    match logging::start(arguments.log.as_deref().filter(|filter| !filter.is_empty())) {
        Ok(logging) => {
            let environment = Environment { region: arguments.region, zone: arguments.zone };
            app::run(&arguments.file, environment, logging)
        }
        Err(error) => {
            eprintln!("proxima: {error}");
            ExitCode::FAILURE
        }
    }
}
