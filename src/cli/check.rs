//! `proxima check`: a configuration file is right, or every problem of it.

use crate::config::{self, Config, Environment};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration file.
    file: PathBuf,
    /// The region that the file is checked for, if not `edge.region`.
    #[arg(long, env = "PROXIMA_REGION")]
    region: Option<String>,
    /// Read the certificates and keys that the file names, too.
    #[arg(long)]
    files: bool,
}

/// Prints one line and succeeds, or prints every problem to standard error and fails.
pub fn run(arguments: &Arguments) -> ExitCode {
    let environment = Environment { region: arguments.region.clone() };
    let load = if arguments.files { config::load_with_files } else { config::load };
    match load(&arguments.file, &environment) {
        Ok(config) => {
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
