//! `proxima run`: the edge itself.

use super::configuration::Folder;
use crate::app::{self, ConfigFrom, logging};
use crate::config::{Environment, Place};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration: a file, or s3://BUCKET/KEY. It is read again when it changes and on SIGHUP.
    file: Place,
    #[command(flatten)]
    folder: Folder,
    /// Where the last good configuration from s3:// is kept, to start with when the bucket is away.
    #[arg(long, env = "PROXIMA_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
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
            let from = ConfigFrom {
                place: arguments.file,
                folder: arguments.folder.config_dir,
                state: arguments.state_dir,
            };
            app::run(from, environment, logging)
        }
        Err(error) => {
            eprintln!("proxima: {error}");
            ExitCode::FAILURE
        }
    }
}
