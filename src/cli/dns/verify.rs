//! `verify`: what the zone's servers answer, against what the records say.

use super::connect;
use crate::clock::Clock;
use crate::config::Config;
use crate::dns::answers::Question;
use crate::dns::api::Api;
use crate::dns::checks::Checks;
use crate::dns::layout::Layout;
use crate::dns::reader::read;
use crate::dns::verify::{prepare, servers, tally};
use crate::dns::witness;
use crate::domain::name::{DnsName, RegionId};
use crate::domain::votes::Witness;
use crate::error_chain::chain;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;

/// What is asked for.
pub(super) struct Asked<'a> {
    pub(super) names: &'a [DnsName],
    pub(super) servers: &'a [SocketAddr],
    pub(super) queries: u32,
    pub(super) json: bool,
}

/// Exit code 0 when every server answers what is wanted, else 1.
pub(super) async fn verify(config: &Config, asked: Asked<'_>) -> Result<ExitCode, Box<dyn Error>> {
    let api = connect(config).await?;
    let checks = Checks::read(&api).await?;
    let mut failed = 0;
    let mut document = Vec::new();
    let wanted = config.policy.names.keys();
    for name in wanted.filter(|name| asked.names.is_empty() || asked.names.contains(name)) {
        match one(config, &api, &checks, name, &asked).await {
            Ok((wrong, answers)) => {
                failed += wrong;
                document.push(answers);
            }
            Err(error) => {
                failed += 1;
                let problem = chain(error.as_ref());
                if !asked.json {
                    outln!("{name}\n  PROBLEM   {problem}");
                }
                document.push(json!({"name": name, "problem": problem}));
            }
        }
    }
    if asked.json {
        let document = json!({"matches": failed == 0, "mismatches": failed, "names": document});
        outln!("{}", serde_json::to_string_pretty(&document)?);
    }
    if failed > 0 { Err(format!("mismatches: {failed}").into()) } else { Ok(ExitCode::SUCCESS) }
}

/// Mismatches of one name, and all of its answers as JSON.
async fn one(
    config: &Config,
    api: &Api,
    checks: &Checks,
    name: &DnsName,
    asked: &Asked<'_>,
) -> Result<(usize, Value), Box<dyn Error>> {
    let layout = Layout::of(config, name)?;
    let reading = read(api, &layout, checks, &Clock::start()).await?;
    let stated = config.dns.as_ref().map(|dns| dns.servers.as_slice()).unwrap_or_default();
    let stated = if asked.servers.is_empty() { stated } else { asked.servers };
    let servers = servers(api, &layout.zone_id, stated).await?;
    let questions = prepare(&layout, &reading.state.sets).await;
    let mut closed = BTreeSet::new();
    for gate in layout.gates() {
        // A server without checkers closes nothing.
        if let Ok(Witness::Red) = witness::ask(api, checks, gate).await {
            closed.insert(gate.region.clone());
        }
    }
    let generation = reading.state.fence.generation.get();
    if !asked.json {
        outln!("{name} in zone {}, generation {generation}", layout.zone_id);
        for region in &closed {
            outln!("  the health check of {region} is unhealthy: it is left out of answers");
        }
    }
    let (mut wrong, mut answers) = (0, Vec::new());
    for server in servers {
        if !asked.json {
            outln!("  {server}");
        }
        for question in &questions {
            let answer = answer(server, question, &closed, asked).await;
            wrong += usize::from(answer["matches"] != true);
            answers.push(answer);
        }
    }
    let document = json!({"name": name, "zone_id": layout.zone_id, "generation": generation,
                          "unhealthy": closed, "answers": answers});
    Ok((wrong, document))
}

async fn answer(
    server: SocketAddr,
    question: &Question,
    closed: &BTreeSet<RegionId>,
    asked: &Asked<'_>,
) -> Value {
    let what = format!("{} {}", question.name, question.kind.rr_type());
    let want: Vec<String> = question
        .wanted
        .iter()
        .map(|(region, wanted)| match question.shares {
            true => format!("{region} {:.0} %", wanted.share * 100.0),
            false => region.to_string(),
        })
        .collect();
    let want = want.join(if question.shares { ", " } else { " or " });
    let (got, problems) = match tally(server, question, asked.queries).await {
        Ok(tally) => (tally.to_string(), tally.problems(question, closed)),
        Err(error) => ("no answer".to_owned(), vec![error]),
    };
    if !asked.json {
        let state = if problems.is_empty() { "ok      " } else { "MISMATCH" };
        outln!("    {state}  {what}: {got}; want {want}");
        for problem in &problems {
            outln!("              {problem}");
        }
    }
    json!({"server": server, "question": what, "answers": got, "wanted": want,
           "matches": problems.is_empty(), "problems": problems})
}
