//! `proxima check`: a configuration file is right, or every problem of it.

use crate::config::{self, Checked, Config, Environment, NamedFiles};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration file.
    file: PathBuf,
    /// The region that the file is checked for, if not `edge.region`.
    #[arg(long, env = "PROXIMA_REGION")]
    region: Option<String>,
    /// The zone to check for; wins over `edge.zone`.
    #[arg(long, env = "PROXIMA_ZONE")]
    zone: Option<String>,
    /// Read the certificates and keys that the file names, too.
    #[arg(long)]
    files: bool,
}

/// Prints one line and succeeds, or prints every problem to standard error and fails.
///
/// What is right but may not be what was meant goes to standard error and fails nothing.
pub fn run(arguments: &Arguments) -> ExitCode {
    let environment = Environment { region: arguments.region.clone(), zone: arguments.zone.clone() };
    let named = if arguments.files { NamedFiles::Read } else { NamedFiles::Leave };
    match config::check(&arguments.file, &environment, named) {
        Ok(Checked { config, notes }) => {
            if notes.is_some_and(|notes| notes.to_stderr().is_err()) {
                return ExitCode::FAILURE;
            }
            println!("{}: ok ({})", arguments.file.display(), summary(&config));
            ExitCode::SUCCESS
        }
        Err(problems) => {
            if problems.to_stderr().is_err() {
                // Standard error is gone; the exit code still tells.
                return ExitCode::FAILURE;
            }
            eprintln!("{}: {}", arguments.file.display(), counted(problems.count(), "problem"));
            ExitCode::FAILURE
        }
    }
}

fn summary(config: &Config) -> String {
    [
        counted(config.regions.len(), "region"),
        counted(config.services.len(), "service"),
        counted(config.policy.routes.routes().len(), "route"),
        counted(config.names.len(), "name"),
    ]
    .join(", ")
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
