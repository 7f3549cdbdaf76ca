//! `plan`, `apply`, `bootstrap`, `adopt` and `remove`: show, then do what was shown.

use super::{Consent, connect};
use crate::config::Config;
use crate::dns::api::Api;
use crate::dns::apply::{Operation, Outcome, Submitted, delete_checks};
use crate::dns::survey::{Survey, survey};
use crate::domain::name::DnsName;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Longest time that INSYNC is waited for.
const INSYNC_MAX: Duration = Duration::from_secs(180);
/// Exit code of a plan with changes.
const CHANGES: u8 = 2;

/// Shows the plan; 0 when there is nothing to do, 2 when there is.
pub(super) async fn plan(config: &Config, only: &[DnsName], json: bool) -> Result<ExitCode, Box<dyn Error>> {
    let survey = survey(&connect(config).await?, config, only).await?;
    if json {
        outln!("{}", serde_json::to_string_pretty(&survey.json())?);
    } else {
        outln!("{survey}");
    }
    match survey.problems().len() {
        0 if survey.counts().none() => Ok(ExitCode::SUCCESS),
        0 => Ok(ExitCode::from(CHANGES)),
        count => Err(format!("names with a problem: {count}").into()),
    }
}

/// Shows what is to be done and, with consent, does it.
pub(super) async fn carry_out(
    config: &Config,
    only: &[DnsName],
    operation: Operation,
    consent: &Consent,
) -> Result<ExitCode, Box<dyn Error>> {
    let api = connect(config).await?;
    let survey = survey(&api, config, only).await?;
    let idle = present(&survey, &operation);
    if let Some(wanted) = consent.plan.as_ref().filter(|wanted| **wanted != survey.id()) {
        let now = survey.id();
        return Err(
            format!("the plan is {now} now, not {wanted}: look at it again; nothing was written").into()
        );
    }
    if !consent.yes {
        if !idle {
            outln!("nothing was written; add --yes to do it");
        }
        return refused(&survey, &operation);
    }
    let outcome = survey.carry_out(&api, &operation).await?;
    let done = follow(&api, &outcome).await?;
    if !outcome.obsolete.is_empty() && done {
        delete_checks(&api, &outcome.obsolete).await?;
        outln!("health checks deleted: {}", outcome.obsolete.len());
    }
    for (name, why) in &outcome.failed {
        outln!("{name}: nothing was written: {why}");
    }
    match outcome.failed.len() {
        0 => {
            outln!("{}", end(&operation, &outcome));
            Ok(ExitCode::SUCCESS)
        }
        count => Err(format!("names left as they were: {count}").into()),
    }
}

/// Prints what would be done; whether that is nothing.
fn present(survey: &Survey, operation: &Operation) -> bool {
    let Operation::Remove { keep } = operation else {
        outln!("{survey}");
        return survey.counts().none() && survey.problems().is_empty();
    };
    let mut records = 0;
    for name in &survey.names {
        match &name.result {
            Err(problem) => outln!("{}\n  PROBLEM  {problem}", name.name),
            Ok(looked) => {
                out!("{}", looked.removal(keep.as_ref()));
                records += looked.owned.len() + usize::from(looked.control.is_some());
            }
        }
    }
    outln!("plan {}: {records} records to delete", survey.id());
    records == 0
}

/// Failure when something could not be done even with consent.
fn refused(survey: &Survey, operation: &Operation) -> Result<ExitCode, Box<dyn Error>> {
    let mut count = survey.problems().len();
    for looked in survey.names.iter().filter_map(|name| name.result.as_ref().ok()) {
        if let Some(why) = survey.refusal(looked, operation) {
            outln!("{}: {why}", looked.layout.name);
            count += 1;
        }
    }
    if count > 0 {
        Err(format!("names that would be left as they are: {count}").into())
    } else {
        Ok(ExitCode::SUCCESS)
    }
}

fn end(operation: &Operation, outcome: &Outcome) -> &'static str {
    match operation {
        _ if outcome.submitted.is_empty() => "nothing to do",
        Operation::Bootstrap => "created",
        Operation::Apply => "applied",
        Operation::Adopt => "adopted; `proxima dns apply` makes the records what the configuration asks for",
        Operation::Remove { keep: None } => "removed: these names have no records any more",
        Operation::Remove { keep: Some(_) } => "removed: a plain record serves each name",
    }
}

/// Waits for INSYNC of everything; whether it came.
async fn follow(api: &Api, outcome: &Outcome) -> Result<bool, Box<dyn Error>> {
    let mut all = true;
    for Submitted { name, change_id, .. } in &outcome.submitted {
        let Some(id) = change_id else {
            outln!("{name}: applied, found by reading after its answer was lost; INSYNC is not known");
            all = false;
            continue;
        };
        outln!("{name}: submitted, change {id}");
        let (said, done) = in_sync(api, id).await?;
        outln!("{name}: {said}");
        all &= done;
    }
    Ok(all)
}

pub(in crate::cli) async fn in_sync(api: &Api, change_id: &str) -> Result<(String, bool), Box<dyn Error>> {
    let start = Instant::now();
    let mut last = "still PENDING".to_owned();
    while start.elapsed() < INSYNC_MAX {
        match api.in_sync(change_id).await {
            Ok(true) => return Ok((format!("INSYNC after {:.1} s", start.elapsed().as_secs_f64()), true)),
            Ok(false) => "still PENDING".clone_into(&mut last),
            // The change was accepted; only the question failed, and it can be asked again.
            Err(error) if error.kind.may_pass() => last = format!("no word of INSYNC ({error})"),
            Err(error) => return Err(error.into()),
        }
        sleep(Duration::from_secs(1)).await;
    }
    Ok((format!("{last} after {} s", INSYNC_MAX.as_secs()), false))
}
