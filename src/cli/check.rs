//! `proxima check`: a configuration file is right, or every problem of it.

use super::configuration::{Folder, Refused, find_now};
use crate::config::{Checked, Config, Environment, NamedFiles, Place};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration: a file, or s3://BUCKET/KEY.
    file: Place,
    #[command(flatten)]
    folder: Folder,
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
    let found = find_now(&arguments.file, &arguments.folder.config_dir, &environment);
    let found = match found {
        Ok(found) => found,
        Err(refused) => return failed(&arguments.file, &refused),
    };
    match found.written.check(&found.environment, named) {
        Ok(Checked { config, notes }) => {
            if notes.is_some_and(|notes| notes.to_stderr().is_err()) {
                return ExitCode::FAILURE;
            }
            let version = found.version.map(|version| format!(", {version}")).unwrap_or_default();
            outln!("{}: ok ({}{version})", arguments.file, summary(&config));
            ExitCode::SUCCESS
        }
        Err(problems) => failed(&arguments.file, &Refused::Wrong(problems)),
    }
}

fn failed(place: &Place, refused: &Refused) -> ExitCode {
    // When standard error is gone, the exit code still tells.
    if let (true, Refused::Wrong(problems)) = (refused.show(), refused) {
        eprintln!("{place}: {}", counted(problems.count(), "problem"));
    }
    ExitCode::FAILURE
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
