//! `proxima drain|undrain|freeze|thaw|override|clear` and `proxima operator status`.
//!
//! An act goes to an edge's admin listener, which judges it, puts it in force and writes it; this
//! waits and says how far it has come. With `--direct` no edge is asked: the control record is
//! written from here, by the same code.

use crate::cli::admin_client::TlsFiles;
use crate::config;
use crate::domain::name::{DnsName, RegionId, RuleName};
use crate::operators::Progress;
use crate::operators::wire::{Answer, Asked};
use client::{Client, Failure};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, sleep};

mod client;
mod direct;

/// Between two questions after an act.
const ASK: Duration = Duration::from_millis(300);
/// The exit code of an act that was taken and is not everywhere yet.
const NOT_EVERYWHERE: u8 = 3;

#[derive(Debug, clap::Args)]
pub struct Drain {
    /// The region that shall serve nobody.
    region: RegionId,
    /// How long; without it until it is undrained.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    lasts: Option<Duration>,
    /// Against the rule `min_live`, even when it is the last region.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    act: Act,
}

#[derive(Debug, clap::Args)]
pub struct Undrain {
    region: RegionId,
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    act: Act,
}

#[derive(Debug, clap::Args)]
pub struct Freeze {
    #[command(flatten)]
    names: NamesOrAll,
    #[command(flatten)]
    act: Act,
}

#[derive(Debug, clap::Args)]
pub struct Override {
    /// A rule such as `hold_down`; /snapshot shows which one holds a change back.
    rule: RuleName,
    /// How long, a day at most.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    lasts: Duration,
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    act: Act,
}

#[derive(Debug, clap::Args)]
pub struct Clear {
    rule: RuleName,
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    act: Act,
}

#[derive(Debug, clap::Args)]
struct Names {
    /// Only for this DNS name; may be repeated. Without it: for all that it can be meant for.
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<DnsName>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct NamesOrAll {
    /// Only for this DNS name; may be repeated.
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<DnsName>,
    /// For every name of the configuration.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, clap::Args)]
struct Act {
    /// Why, for whoever reads it at three in the morning.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    admin: Admin,
    /// The file that holds the operator's token.
    #[arg(long, env = "PROXIMA_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Return as soon as it is in force at the edge that was asked.
    #[arg(long)]
    no_wait: bool,
    /// The longest wait until it is written and INSYNC.
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = duration)]
    timeout: Duration,
    /// No edge can be reached: write the control record from here. Needs --config and AWS credentials.
    #[arg(long, requires = "config")]
    direct: bool,
    /// The configuration file, for --direct.
    #[arg(long, value_name = "FILE")]
    config: Option<config::Place>,
    /// The region that the file is read for, if not `edge.region`.
    #[arg(long, env = "PROXIMA_REGION")]
    region_of_file: Option<String>,
    /// Who acts, for --direct.
    #[arg(long = "as", env = "USER", value_name = "WHO", default_value = "unknown")]
    by: String,
}

#[derive(Debug, clap::Args)]
struct Admin {
    /// An edge's admin listener.
    #[arg(
        long = "admin",
        env = "PROXIMA_ADMIN",
        value_name = "URL",
        default_value = "http://127.0.0.1:9901"
    )]
    url: String,
    #[command(flatten)]
    files: TlsFiles,
}

#[derive(Debug, clap::Subcommand)]
pub enum Operator {
    /// Show what operators have said, and what of it is not written yet.
    Status(Status),
}

#[derive(Debug, clap::Args)]
pub struct Status {
    #[command(flatten)]
    admin: Admin,
}

fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text).ok_or_else(|| "expected a whole number and a unit, such as 30m".to_owned())
}

pub fn drain(arguments: Drain) -> ExitCode {
    let Drain { region, lasts, force, names, act } = arguments;
    let asked = Asked {
        region: Some(region),
        names: names.names.into_iter().collect(),
        for_seconds: lasts.map(|lasts| lasts.as_secs()),
        force,
        ..Asked::default()
    };
    act.run("drain", asked)
}

pub fn undrain(arguments: Undrain) -> ExitCode {
    let Undrain { region, names, act } = arguments;
    let names = names.names.into_iter().collect();
    act.run("undrain", Asked { region: Some(region), names, ..Asked::default() })
}

/// `freeze` and `thaw`.
pub fn freeze(kind: &'static str, arguments: Freeze) -> ExitCode {
    let Freeze { names, act } = arguments;
    act.run(kind, Asked { names: names.names.into_iter().collect(), ..Asked::default() })
}

pub fn override_rule(arguments: Override) -> ExitCode {
    let Override { rule, lasts, names, act } = arguments;
    let names = names.names.into_iter().collect();
    let for_seconds = Some(lasts.as_secs());
    act.run("override", Asked { rule: Some(rule), names, for_seconds, ..Asked::default() })
}

pub fn clear(arguments: Clear) -> ExitCode {
    let Clear { rule, names, act } = arguments;
    let names = names.names.into_iter().collect();
    act.run("clear", Asked { rule: Some(rule), names, ..Asked::default() })
}

pub fn operator(Operator::Status(Status { admin }): Operator) -> ExitCode {
    block_on("operator status", async {
        let client = Client::of(&admin.url, &admin.files, None).await?;
        outln!("{}", client.get("/operator").await?.trim_end());
        Ok(ExitCode::SUCCESS)
    })
}

/// Exit code 1 and the reason on standard error where it fails.
fn block_on(what: &str, work: impl Future<Output = Result<ExitCode, Failure>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(|error| Failure(error.to_string())).and_then(|runtime| runtime.block_on(work));
    done.unwrap_or_else(|Failure(why)| {
        eprintln!("proxima {what}: {why}");
        ExitCode::FAILURE
    })
}

impl Act {
    fn run(self, kind: &'static str, asked: Asked) -> ExitCode {
        let asked = Asked { reason: self.reason.clone(), ..asked };
        block_on(kind, async {
            if self.direct {
                direct::run(&self, kind, asked).await
            } else {
                self.through_edge(kind, asked).await
            }
        })
    }

    async fn through_edge(&self, kind: &str, asked: Asked) -> Result<ExitCode, Failure> {
        let token = self.token_file.as_ref().map(|path| {
            let read = std::fs::read_to_string(path);
            read.map_err(|error| Failure(format!("{}: {error}", path.display())))
        });
        let client = Client::of(&self.admin.url, &self.admin.files, token.transpose()?).await?;
        let body = serde_json::to_string(&asked).map_err(|error| Failure(error.to_string()))?;
        let mut answer = client.answer("POST", &format!("/operator/{kind}"), body).await?;
        outln!("{kind}: in force at {} as of now, by {}", self.admin.url, answer.operator);
        let deadline = Instant::now() + self.timeout;
        let mut told = BTreeMap::new();
        loop {
            tell(&answer, &mut told);
            if self.no_wait || answer.names.values().all(is_over) {
                return Ok(code(&answer));
            }
            if Instant::now() >= deadline {
                outln!("given up waiting; the edge goes on trying");
                return Ok(ExitCode::from(NOT_EVERYWHERE));
            }
            sleep(ASK).await;
            answer = client.answer("GET", &format!("/operator/acts/{}", answer.id), String::new()).await?;
        }
    }
}

/// Says what is new of each name.
fn tell(answer: &Answer, told: &mut BTreeMap<DnsName, Progress>) {
    for (name, progress) in &answer.names {
        if told.insert(name.clone(), progress.clone()).as_ref() != Some(progress) {
            outln!("{name}: {}", described(progress));
        }
    }
}

fn described(progress: &Progress) -> String {
    match progress {
        Progress::Waiting { why: None } => "effective at this edge, not yet written".to_owned(),
        Progress::Waiting { why: Some(why) } => {
            format!("effective at this edge, not yet written, and lost if it restarts before: {why}")
        }
        Progress::Local { why } => {
            format!("effective at this edge only, for as long as it runs: nothing is written, {why}")
        }
        Progress::Written { generation, in_sync: Some(true) } => {
            format!(
                "in the control record, generation {generation}, INSYNC: every edge follows at its next reading"
            )
        }
        Progress::Written { generation, in_sync: Some(false) } => {
            format!("in the control record, generation {generation}, PENDING")
        }
        Progress::Written { generation, in_sync: None } => {
            format!("in the control record, as of generation {generation}")
        }
        Progress::Superseded => "a later act on the same thing took its place".to_owned(),
    }
}

const fn is_over(progress: &Progress) -> bool {
    match progress {
        Progress::Waiting { .. } => false,
        Progress::Written { in_sync, .. } => !matches!(in_sync, Some(false)),
        Progress::Local { .. } | Progress::Superseded => true,
    }
}

/// Success where everything is everywhere.
fn code(answer: &Answer) -> ExitCode {
    let everywhere = |progress: &Progress| is_over(progress) && !matches!(progress, Progress::Local { .. });
    match answer.names.values().all(everywhere) {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(NOT_EVERYWHERE),
    }
}
