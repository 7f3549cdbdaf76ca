//! `proxima demo`, and the processes that it starts.

use crate::demo::settings::{Pace, Wish};
use crate::demo::world::{REGIONS_MAX, REGIONS_MIN};
use crate::demo::{self, service};
use crate::error_chain::chain;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// What a shell gives for a process that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Regions of the world.
    #[arg(long, default_value_t = 5, value_parser = regions)]
    regions: usize,
    /// Decides which regions die, when users ask, and how Route 53 draws.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A minute for everything, or the edges' default settings: five minutes for the two deaths.
    #[arg(long, value_enum, default_value_t)]
    pace: Pace,
    /// Start the world, break nothing, and stay up until Ctrl-C.
    #[arg(long, conflicts_with = "report")]
    hold: bool,
    /// Write what was seen to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

fn regions(text: &str) -> Result<usize, String> {
    let range = REGIONS_MIN..=REGIONS_MAX;
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("a number from {REGIONS_MIN} to {REGIONS_MAX} is wanted"))
}

/// Exit code 0 when every expectation held, 130 after Ctrl-C, else 1.
pub fn run(arguments: Arguments) -> ExitCode {
    let hold = arguments.hold;
    let Arguments { regions, seed, pace, report, .. } = arguments;
    let wish = Wish { regions, seed, pace, hold, report };
    let outcome = runtime().and_then(|runtime| runtime.block_on(until_interrupted(wish)));
    match outcome {
        Ok(Some(true)) => ExitCode::SUCCESS,
        Ok(Some(false)) => ExitCode::FAILURE,
        Ok(None) => {
            eprintln!("\nproxima demo: interrupted; what it started has ended");
            // Ctrl-C is how a held world ends.
            if hold { ExitCode::SUCCESS } else { ExitCode::from(INTERRUPTED) }
        }
        Err(error) => fail("proxima demo", error.as_ref()),
    }
}

/// `None` when a signal came first; then every child is killed as the run is dropped.
async fn until_interrupted(wish: Wish) -> Result<Option<bool>, Box<dyn Error>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let run = Box::pin(demo::run(wish));
    tokio::select! {
        outcome = run => Ok(Some(outcome?)),
        _ = interrupt.recv() => Ok(None),
        _ = terminate.recv() => Ok(None),
        _ = hangup.recv() => Ok(None),
    }
}

#[derive(Debug, clap::Args)]
pub struct ChildArguments {
    #[command(subcommand)]
    child: Child,
}

#[derive(Debug, clap::Subcommand)]
enum Child {
    /// A region's edge: `proxima run`.
    Edge(super::run::Arguments),
    /// A region's service.
    Service(service::Settings),
}

/// A process of the demo: ends when its standard input does, so that none is left behind.
pub fn run_child(arguments: ChildArguments) -> ExitCode {
    std::thread::spawn(|| {
        // An error is an end as well.
        let ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(i32::from(ended.is_err()));
    });
    match arguments.child {
        Child::Edge(arguments) => super::run::run(arguments),
        Child::Service(settings) => {
            let served = runtime().and_then(|runtime| Ok(runtime.block_on(service::serve(settings))?));
            match served {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail("proxima demo-child service", error.as_ref()),
            }
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Box<dyn Error>> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// The error with its causes.
fn fail(who: &str, error: &dyn Error) -> ExitCode {
    eprintln!("{who}: {}", chain(error));
    ExitCode::FAILURE
}
