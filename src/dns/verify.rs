//! Asks a zone's servers whether they answer by the records as they are.

use super::answers::{Question, Resolved, Tally, questions};
use super::api::Api;
use super::ask::ask;
use super::error::ApiError;
use super::layout::Layout;
use super::provider::Provider;
use crate::config::Target;
use crate::domain::name::{DnsName, EntryId};
use crate::domain::plan::Generation;
use crate::domain::weights::WeightedSet;
use crate::error_chain::chain;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::lookup_host;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// Source: RFC 1035, section 4.2.
const DNS_PORT: u16 = 53;
/// Between two questions to one server: a hundred a second at most.
const PAUSE: Duration = Duration::from_millis(10);
/// Questions for each weighted set in the background.
const QUERIES: u32 = 100;
/// Between two rounds, and how long a change is looked for at all.
const ROUND: Duration = Duration::from_secs(2);
const ANSWERED_MAX: Duration = Duration::from_secs(600);

/// Why servers cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("none of the zone's servers has an address: {0}")]
    NoServers(String),
}

/// The servers of a zone, by their addresses: those that are stated, else those that Route 53 names.
///
/// # Errors
/// When Route 53 does not tell, or no name of theirs has an address.
pub async fn servers(
    api: &Api,
    zone_id: &str,
    stated: &[SocketAddr],
) -> Result<Vec<SocketAddr>, VerifyError> {
    if !stated.is_empty() {
        return Ok(stated.to_vec());
    }
    let names = api.in_zone(zone_id).zone().await?.servers;
    let mut servers = Vec::new();
    for name in &names {
        let addresses: Vec<SocketAddr> = match lookup_host((name.as_str(), DNS_PORT)).await {
            Ok(addresses) => addresses.collect(),
            Err(error) => {
                warn!("server {name} of zone {zone_id} has no address: {error}");
                continue;
            }
        };
        let v4 = addresses.iter().find(|address| address.is_ipv4());
        servers.extend(v4.or(addresses.first()));
    }
    if servers.is_empty() { Err(VerifyError::NoServers(names.join(" "))) } else { Ok(servers) }
}

/// What to ask about a name; names of load balancers are looked up.
pub async fn prepare(layout: &Layout, sets: &BTreeMap<EntryId, WeightedSet>) -> Vec<Question> {
    let regions: BTreeSet<_> = sets.values().flat_map(|set| set.iter().map(|(region, _)| region)).collect();
    let mut resolved = Resolved::new();
    for target in regions.into_iter().filter_map(|region| layout.target(region)) {
        let Target::Alias(balancer) = target else { continue };
        // Not known is not wrong: its answers are then only counted.
        if let Ok(addresses) = lookup_host((balancer.name.as_str(), DNS_PORT)).await {
            let addresses = addresses.map(|address| address.ip().to_string()).collect();
            resolved.insert(balancer.name.clone(), addresses);
        }
    }
    questions(layout, sets, &resolved)
}

/// Asks one server one question, `queries` times where shares count.
///
/// # Errors
/// What the server has against it, as text.
pub async fn tally(server: SocketAddr, question: &Question, queries: u32) -> Result<Tally, String> {
    let mut tally = Tally::default();
    for _ in 0..if question.shares { queries } else { 1 } {
        let answer = ask(server, &question.name, question.kind).await.map_err(|error| chain(&error))?;
        tally.count(question, &answer);
        sleep(PAUSE).await;
    }
    Ok(tally)
}

/// Asks until all servers answer by the change, and says how long that took.
///
/// `accepted`: when Route 53 took the change; `in_sync`: how long until it was INSYNC, if that was told.
pub async fn follow(
    provider: &Provider,
    name: &DnsName,
    generation: Generation,
    (accepted, in_sync): (Instant, Option<Duration>),
) {
    let Some(layout) = provider.layout(name) else { return };
    let metrics = provider.api.metrics();
    let mut last = "the records cannot be read".to_owned();
    while accepted.elapsed() < ANSWERED_MAX {
        match round(provider, layout, generation).await {
            Ok(Round::All(servers)) => {
                let after = accepted.elapsed();
                metrics.answers_match(name, true);
                metrics.answered(after);
                let in_sync =
                    in_sync.map_or("unknown".to_owned(), |after| format!("{:.1} s", after.as_secs_f64()));
                info!(
                    %name,
                    generation = generation.get(),
                    "moved: INSYNC after {in_sync}, all {servers} servers answer the new weights after {:.1} s",
                    after.as_secs_f64()
                );
                return;
            }
            Ok(Round::Superseded) => return,
            Err(why) => {
                metrics.answers_match(name, false);
                last = why;
            }
        }
        sleep(ROUND).await;
    }
    warn!(%name, "written, but not answered after {} s: {last}", ANSWERED_MAX.as_secs());
}

enum Round {
    /// So many servers, all as they shall.
    All(usize),
    /// Another change has come since.
    Superseded,
}

async fn round(provider: &Provider, layout: &Layout, generation: Generation) -> Result<Round, String> {
    let reading = provider.read(layout).await.map_err(|error| chain(&error))?;
    if reading.state.fence.generation != generation {
        return Ok(Round::Superseded);
    }
    let stated = &provider.dns.servers;
    let servers = servers(&provider.api, &layout.zone_id, stated).await.map_err(|error| chain(&error))?;
    let questions = prepare(layout, &reading.state.sets).await;
    for server in &servers {
        for question in &questions {
            let tally = tally(*server, question, QUERIES).await?;
            // Which checks are closed is not asked: a share that is not there is no proof of an old answer.
            if let Some((answer, _)) = tally.foreign.first_key_value() {
                return Err(format!("{server} answers {answer} for {}", question.name));
            }
        }
    }
    Ok(Round::All(servers.len()))
}
