//! `proxima dns`: the Route 53 records of the configured names.

use crate::clock::Clock;
use crate::config::{self, Config, Environment};
use crate::dns::access::Access;
use crate::dns::api::Api;
use crate::dns::bootstrap::{Submitted, survey};
use crate::dns::checks::Checks;
use crate::dns::layout::Layout;
use crate::dns::show::show;
use crate::error_chain::chain;
use crate::metrics::dns::DnsMetrics;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Longest time that bootstrap waits for INSYNC.
const INSYNC_MAX: Duration = Duration::from_secs(180);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show what the configuration asks for and what exists; create what is missing with --yes.
    Bootstrap {
        #[command(flatten)]
        file: File,
        /// Create it.
        #[arg(long)]
        yes: bool,
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
    /// The configuration file.
    #[arg(long = "config", value_name = "FILE", default_value = "proxima.toml")]
    path: PathBuf,
    /// The region that the file is read for, if not `edge.region`.
    #[arg(long, env = "PROXIMA_REGION")]
    region: Option<String>,
}

/// A failure that was shown already, or one to show.
type Failure = Option<Box<dyn Error>>;

/// Exit code 0, or 1 with what is wrong on standard error.
pub fn run(arguments: Arguments) -> ExitCode {
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Some(error.into()))
        .and_then(|runtime| runtime.block_on(dispatch(arguments.command)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(error) = failure {
                eprintln!("proxima dns: {}", chain(error.as_ref()));
            }
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Bootstrap { file, yes } => bootstrap(&load(&file)?, yes).await,
        Command::Show { file, change } => show_names(&load(&file)?, change.as_deref()).await,
    }
    .map_err(Some)
}

fn load(file: &File) -> Result<Config, Failure> {
    let environment = Environment { region: file.region.clone(), ..Environment::default() };
    config::load(&file.path, &environment).map_err(|problems| {
        problems.to_stderr().err().map(|error| -> Box<dyn Error> { format!("{error:?}").into() })
    })
}

async fn connect(config: &Config) -> Result<Api, Box<dyn Error>> {
    let dns = config.dns.as_ref().ok_or("there is no [dns] in the configuration")?;
    let own = &config.policy.own;
    let place = config.regions.get(own).map_or(own.as_str(), |region| region.place.as_str());
    let metrics = Arc::new(DnsMetrics::register(&prometheus::Registry::new())?);
    Ok(Api::connect(dns, place, Access::Chain, metrics).await)
}

async fn bootstrap(config: &Config, yes: bool) -> Result<(), Box<dyn Error>> {
    let api = connect(config).await?;
    let survey = survey(&api, config).await?;
    println!("{survey}");
    if survey.problems() > 0 {
        return Err("nothing was created: what the configuration asks for differs from what exists".into());
    }
    if survey.missing() == 0 {
        return Ok(());
    }
    if !yes {
        println!("nothing was created; add --yes to create it");
        return Ok(());
    }
    for Submitted { name, change_id } in survey.apply(&api).await? {
        println!("{name}: submitted, change {change_id}");
        println!("{name}: {}", in_sync(&api, &change_id).await?);
    }
    println!("created");
    Ok(())
}

async fn in_sync(api: &Api, change_id: &str) -> Result<String, Box<dyn Error>> {
    let start = Instant::now();
    let mut last = "still PENDING".to_owned();
    while start.elapsed() < INSYNC_MAX {
        match api.in_sync(change_id).await {
            Ok(true) => return Ok(format!("INSYNC after {:.1} s", start.elapsed().as_secs_f64())),
            Ok(false) => "still PENDING".clone_into(&mut last),
            // The change was accepted; only the question failed, and it can be asked again.
            Err(error) if error.kind.may_pass() => last = format!("no word of INSYNC ({error})"),
            Err(error) => return Err(error.into()),
        }
        sleep(Duration::from_secs(1)).await;
    }
    Ok(format!("{last} after {} s", INSYNC_MAX.as_secs()))
}

async fn show_names(config: &Config, change: Option<&str>) -> Result<(), Box<dyn Error>> {
    let api = connect(config).await?;
    let (checks, clock) = (Checks::read(&api).await?, Clock::start());
    let mut failed = 0;
    for name in config.policy.names.keys() {
        match show(&api, &Layout::of(config, name)?, &checks, &clock).await {
            Ok(text) => print!("{text}"),
            Err(error) => {
                failed += 1;
                println!("{name}\n  PROBLEM    {}", chain(&error));
            }
        }
    }
    if let Some(id) = change {
        let state = if api.in_sync(id).await? { "INSYNC" } else { "PENDING" };
        println!("change {id}: {state}");
    }
    if failed > 0 { Err(format!("names that cannot be read: {failed}").into()) } else { Ok(()) }
}
