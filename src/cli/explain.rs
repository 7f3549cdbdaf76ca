//! `proxima explain`: what becomes of a request, or of a DNS name's users, and by which rule.
//!
//! Three places to ask, one answer: the configuration alone, a running edge, a journal at a moment.

use crate::cli::admin_client::TlsFiles;
use crate::cli::configuration::load_now;
use crate::config::{Environment, Place};
use crate::domain::explain::{Explanation, NameExplanation, Question};
use crate::domain::fleet::Fleet;
use crate::domain::name::{DnsName, RegionId};
use crate::domain::time::Time;
use crate::error_chain::chain;
use crate::journal::{Replay, Span, files, wall_of_text, wall_text};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

mod live;
mod render;
#[cfg(test)]
mod tests;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["config", "live", "journal"]))]
#[command(group = clap::ArgGroup::new("subject").required(true).args(["path", "dns"]))]
pub struct Arguments {
    /// Ask a configuration file: routes, and what would be asked before anything was heard.
    #[arg(long)]
    config: Option<Place>,
    /// Ask a running edge, by its admin listener: http://127.0.0.1:9901.
    #[arg(long)]
    live: Option<String>,
    #[command(flatten)]
    files: TlsFiles,
    /// Ask a journal, at the moment of --at.
    #[arg(long)]
    journal: Option<PathBuf>,
    /// With --journal: when, such as 2026-01-31T12:00:00Z. Default: its end.
    #[arg(long, value_parser = wall_of_text, requires = "journal")]
    at: Option<u64>,
    /// The region whose edge is asked. With --config: instead of `edge.region`.
    #[arg(long, visible_alias = "region", env = "PROXIMA_REGION")]
    from: Option<String>,
    /// Host of the request, as a client would write it.
    #[arg(long, default_value = "")]
    host: String,
    /// Path of the request, with a query if it has one.
    #[arg(long)]
    path: Option<String>,
    #[arg(long, default_value = "GET")]
    method: String,
    #[arg(long, default_value = "https", value_parser = ["http", "https"])]
    scheme: String,
    /// A header of the request, `name: value`; as often as wanted.
    #[arg(long, value_parser = |text: &str| Question::header(text).ok_or("expected `name: value`"))]
    header: Vec<(String, String)>,
    /// Explain the weights of this DNS name instead of a request.
    #[arg(long, value_parser = |text: &str| DnsName::parse(text), conflicts_with_all = ["host", "method", "scheme", "header"])]
    dns: Option<DnsName>,
    /// As JSON, the same as the admin listener's.
    #[arg(long)]
    json: bool,
}

/// Why there is no answer.
type Refused = String;

/// Prints the answer.
pub fn run(arguments: &Arguments) -> ExitCode {
    let told = match (&arguments.dns, &arguments.path) {
        (Some(name), _) => name_text(arguments, name),
        (None, path) => request_text(arguments, path.as_deref().unwrap_or("/")),
    };
    match told {
        Ok(text) => {
            out!("{text}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("proxima: {why}");
            ExitCode::FAILURE
        }
    }
}

fn request_text(arguments: &Arguments, path: &str) -> Result<String, Refused> {
    let mut question = Question::get(arguments.host.clone(), String::new()).with_path(path);
    question.method.clone_from(&arguments.method);
    question.https = arguments.scheme == "https";
    question.headers.clone_from(&arguments.header);
    let told: Explanation = match &arguments.live {
        Some(url) => of_region(
            arguments,
            asked(arguments, url, &live::request_query(&question))?,
            |told: &Explanation| &told.own,
        )?,
        None => with_core(arguments, |fleet, now| fleet.explain(&question, now))?,
    };
    if arguments.json { json(&told) } else { Ok(render::request(&told)) }
}

fn name_text(arguments: &Arguments, name: &DnsName) -> Result<String, Refused> {
    let told: NameExplanation = match &arguments.live {
        Some(url) => of_region(
            arguments,
            asked(arguments, url, &live::name_query(name))?,
            |told: &NameExplanation| &told.own,
        )?,
        None => with_core(arguments, |fleet, now| fleet.explain_name(name, now))?
            .ok_or_else(|| format!("the configuration has no name `{name}`"))?,
    };
    if arguments.json { json(&told) } else { Ok(render::name(&told)) }
}

fn json(told: &impl Serialize) -> Result<String, Refused> {
    serde_json::to_string_pretty(told).map(|text| text + "\n").map_err(|error| error.to_string())
}

fn asked<T: DeserializeOwned>(arguments: &Arguments, url: &str, query: &str) -> Result<T, Refused> {
    let body =
        live::get(url, &arguments.files, query).map_err(|error| format!("{url}: {}", chain(&error)))?;
    serde_json::from_slice(&body).map_err(|error| format!("{url}: not an answer of this version: {error}"))
}

/// An edge answers for its own region only.
fn of_region<T>(arguments: &Arguments, told: T, own: impl Fn(&T) -> &RegionId) -> Result<T, Refused> {
    match &arguments.from {
        Some(from) if own(&told).as_str() != from => {
            Err(format!("that edge is in {}, not in {from}: ask an edge there", own(&told)))
        }
        _ => Ok(told),
    }
}

/// Asks a core: a new one by the configuration, or that of the journal.
fn with_core<T>(arguments: &Arguments, ask: impl Fn(&Fleet, Time) -> T) -> Result<T, Refused> {
    if let Some(place) = &arguments.config {
        let environment = Environment { region: arguments.from.clone(), ..Environment::default() };
        let config = load_now(place, &environment).map_err(|refused| refused.to_string())?;
        let fleet = Fleet::new(Arc::clone(&config.policy), 0);
        return Ok(ask(&fleet, Time::ZERO));
    }
    let Some(path) = &arguments.journal else { return Err("nothing to ask".to_owned()) };
    let files = files(path).map_err(|error| format!("{}: {error}", path.display()))?;
    // Begins at the last file before the moment: each is complete by itself.
    let span = Span { from: arguments.at, until: arguments.at };
    let replay = Replay::run(&files, span, &mut |_| {}).map_err(|error| chain(&error))?;
    let at = arguments.at.unwrap_or_else(|| replay.wall());
    let (fleet, now) = replay.at(at).ok_or_else(|| {
        format!("the journal begins at {}, which is after {}", wall_text(replay.wall()), wall_text(at))
    })?;
    if let Some(from) = arguments.from.as_ref().filter(|from| fleet.policy().own.as_str() != from.as_str()) {
        return Err(format!("that journal is of {}, not of {from}", fleet.policy().own));
    }
    Ok(ask(fleet, now))
}
