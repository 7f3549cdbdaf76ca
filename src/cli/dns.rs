//! `proxima dns`: the Route 53 records of the configured names.

use super::configuration::load_now;
use crate::aws::Sessions;
use crate::clock::Clock;
use crate::config::{Config, Environment, Place};
use crate::dns::api::Api;
use crate::dns::apply::Operation;
use crate::dns::checks::Checks;
use crate::dns::layout::Layout;
use crate::dns::show::show;
use crate::domain::name::{DnsName, RegionId};
use crate::error_chain::chain;
use crate::metrics::aws::AwsMetrics;
use crate::metrics::dns::DnsMetrics;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

pub(super) mod change;
mod verify;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show how the records differ from the configuration: exit 0 without changes, 2 with, 1 on an error.
    Plan {
        #[command(flatten)]
        file: File,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make the records what the configuration asks for, weights as they are; shows only, without --yes.
    Apply {
        #[command(flatten)]
        file: File,
        #[command(flatten)]
        consent: Consent,
    },
    /// Show what the configuration asks for and what exists; create what is missing with --yes.
    Bootstrap {
        #[command(flatten)]
        file: File,
        #[command(flatten)]
        consent: Consent,
    },
    /// Take charge of records that somebody else made, as they are; shows what `apply` would change.
    Adopt {
        #[command(flatten)]
        file: File,
        #[command(flatten)]
        consent: Consent,
    },
    /// Delete all records that Proxima has charge of; shows only, without --yes.
    Remove {
        #[command(flatten)]
        file: File,
        #[command(flatten)]
        consent: Consent,
        /// Leave a plain record that sends everybody to this region.
        #[arg(long, value_name = "REGION")]
        keep_serving: Option<String>,
    },
    /// Ask the zone's servers and compare: exit 0 when all answer what is wanted.
    Verify {
        #[command(flatten)]
        file: File,
        /// Servers to ask, instead of those that Route 53 names; repeatable.
        #[arg(long = "server", value_name = "IP:PORT")]
        servers: Vec<SocketAddr>,
        /// Questions for each weighted set, to see the shares.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        queries: u32,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show each name's control record and weights.
    Show {
        #[command(flatten)]
        file: File,
        /// Also say whether this change is INSYNC; its id is in the writer's log.
        #[arg(long, value_name = "ID")]
        change: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct File {
    /// The configuration: a file, or s3://BUCKET/KEY.
    #[arg(long = "config", value_name = "FILE", default_value = "proxima.toml")]
    path: Place,
    /// The region that the file is read for, if not `edge.region`.
    #[arg(long, env = "PROXIMA_REGION")]
    region: Option<String>,
    /// Only this name; repeatable. Default: all of the file.
    #[arg(long = "name", value_name = "NAME", value_parser = parse_name)]
    names: Vec<DnsName>,
}

#[derive(Debug, clap::Args)]
struct Consent {
    /// Do it.
    #[arg(long)]
    yes: bool,
    /// Only if what is to be done is still what `proxima dns plan` showed under this id.
    #[arg(long, value_name = "ID")]
    plan: Option<String>,
}

/// A failure that was shown already, or one to show.
type Failure = Option<Box<dyn Error>>;

/// Exit code of the command; 1 with what is wrong on standard error.
pub fn run(arguments: Arguments) -> ExitCode {
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Some(error.into()))
        .and_then(|runtime| runtime.block_on(dispatch(arguments.command)));
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            if let Some(error) = failure {
                eprintln!("proxima dns: {}", chain(error.as_ref()));
            }
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Plan { file, json } => change::plan(&load(&file)?, &file.names, json).await,
        Command::Apply { file, consent } => {
            change::carry_out(&load(&file)?, &file.names, Operation::Apply, &consent).await
        }
        Command::Bootstrap { file, consent } => {
            change::carry_out(&load(&file)?, &file.names, Operation::Bootstrap, &consent).await
        }
        Command::Adopt { file, consent } => {
            change::carry_out(&load(&file)?, &file.names, Operation::Adopt, &consent).await
        }
        Command::Remove { file, consent, keep_serving } => {
            let keep = keep_serving.map(|text| RegionId::parse(&text)).transpose();
            let keep = keep.map_err(|error| -> Failure { Some(error.into()) })?;
            change::carry_out(&load(&file)?, &file.names, Operation::Remove { keep }, &consent).await
        }
        Command::Verify { file, servers, queries, json } => {
            let asked = verify::Asked { names: &file.names, servers: &servers, queries, json };
            verify::verify(&load(&file)?, asked).await
        }
        Command::Show { file, change } => show_names(&load(&file)?, &file.names, change.as_deref()).await,
    }
    .map_err(Some)
}

fn parse_name(text: &str) -> Result<DnsName, String> {
    DnsName::parse(text).map_err(|error| error.to_string())
}

fn load(file: &File) -> Result<Config, Failure> {
    let environment = Environment { region: file.region.clone(), ..Environment::default() };
    load_now(&file.path, &environment).map_err(|refused| {
        let shown = refused.show();
        (!shown).then(|| -> Box<dyn Error> { "standard error is gone".into() })
    })
}

pub(super) async fn connect(config: &Config) -> Result<Api, Box<dyn Error>> {
    let dns = config.dns.as_ref().ok_or("there is no [dns] in the configuration")?;
    let registry = prometheus::Registry::new();
    let session = Sessions::new(AwsMetrics::register(&registry)?).of(config).await;
    session.choice().map_err(Clone::clone)?;
    Ok(Api::connect(dns, &session, Arc::new(DnsMetrics::register(&registry)?)))
}

async fn show_names(
    config: &Config,
    only: &[DnsName],
    change: Option<&str>,
) -> Result<ExitCode, Box<dyn Error>> {
    let api = connect(config).await?;
    let (checks, clock) = (Checks::read(&api).await?, Clock::start());
    let mut failed = 0;
    for name in config.policy.names.keys().filter(|name| only.is_empty() || only.contains(name)) {
        match show(&api, &Layout::of(config, name)?, &checks, &clock).await {
            Ok(text) => out!("{text}"),
            Err(error) => {
                failed += 1;
                outln!("{name}\n  PROBLEM    {}", chain(&error));
            }
        }
    }
    if let Some(id) = change {
        let state = if api.in_sync(id).await? { "INSYNC" } else { "PENDING" };
        outln!("change {id}: {state}");
    }
    if failed > 0 {
        return Err(format!("names that cannot be read: {failed}").into());
    }
    Ok(ExitCode::SUCCESS)
}
