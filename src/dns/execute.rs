//! Plans: shown in observe mode, written in act mode, then followed to INSYNC.

use super::batch::weights;
use super::pace::Rank;
use super::provider::Provider;
use super::verify;
use super::writer::Written;
use crate::config::DnsMode;
use crate::domain::fleet::{DnsReport, Input};
use crate::domain::name::DnsName;
use crate::domain::plan::{Generation, Plan};
use crate::error_chain::chain;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// Longest time that a change is followed; Route 53 usually needs a minute at most.
/// Source: developer guide, "How long does it take for changes to propagate".
const INSYNC_MAX: Duration = Duration::from_secs(600);

/// A change that is PENDING.
#[derive(Debug)]
pub struct Pending {
    pub name: DnsName,
    pub generation: Generation,
    /// `None`: the answer that would have named it was lost.
    pub change_id: Option<String>,
    pub accepted: Instant,
}

/// Carries out or shows one plan and tells the core; the change to follow, if there is one.
pub async fn execute(provider: Arc<Provider>, plan: Plan, inputs: mpsc::Sender<Input>) -> Option<Pending> {
    let (name, expires_at) = (plan.name.clone(), plan.expires_at);
    let what = shown(&plan);
    if provider.dns.mode == DnsMode::Observe {
        provider.api.metrics().observed();
        info!(%name, "dns.mode is observe; would write {what}");
        return None;
    }
    let mut pending = None;
    let written = provider.submit(&plan).await;
    let accepted = Instant::now();
    let report = match written {
        Written::Accepted { generation, change_id } => {
            info!(%name, generation = generation.get(), change_id, "written: {what}");
            pending = Some((generation, Some(change_id)));
            DnsReport::Submitted { name, generation }
        }
        Written::Settled { generation } => {
            info!(%name, generation = generation.get(), "written, found after its answer was lost: {what}");
            pending = Some((generation, None));
            DnsReport::Submitted { name, generation }
        }
        Written::Conflict(why) => {
            warn!(%name, "conflict, nothing written: {why}");
            provider.conflicts.fetch_add(1, Ordering::AcqRel);
            DnsReport::Conflict { name, expires_at }
        }
        Written::Expired(why) => {
            warn!(%name, "the plan expired before it could be written: {why}");
            DnsReport::Failed { name, expires_at }
        }
        Written::Gone(why) | Written::Failed(why) => {
            warn!(%name, "not written: {why}");
            DnsReport::Failed { name, expires_at }
        }
    };
    // The core waits for a reading after each of these; failures wait for the next poll.
    if !matches!(report, DnsReport::Failed { .. }) {
        provider.nudge.notify_one();
    }
    // The core is gone only when the process ends; then nobody needs the rest.
    inputs.send(Input::Dns(report)).await.ok()?;
    let (generation, change_id) = pending?;
    Some(Pending { name: plan.name, generation, change_id, accepted })
}

/// Asks for the change until it is INSYNC, and then what the servers answer, and says so.
pub async fn follow(provider: Arc<Provider>, pending: Pending, inputs: mpsc::Sender<Input>) {
    let Pending { name, generation, change_id, accepted } = pending;
    let Some(change_id) = change_id else {
        // Nobody can ask whether it is INSYNC; what the servers answer tells more.
        if provider.dns.verify {
            verify::follow(&provider, &name, generation, (accepted, None)).await;
        }
        return;
    };
    let api = provider.api.ranked(Rank::Write);
    while accepted.elapsed() < INSYNC_MAX {
        sleep(provider.dns.insync_poll).await;
        match api.in_sync(&change_id).await {
            Ok(false) => {}
            Ok(true) => {
                let after = accepted.elapsed();
                provider.api.metrics().in_sync(after);
                info!(%name, generation = generation.get(), after_ms = after.as_millis(), "INSYNC");
                let report = DnsReport::InSync { name: name.clone(), generation };
                if inputs.send(Input::Dns(report)).await.is_err() {
                    info!("the core ended first; nobody is told of INSYNC");
                } else if provider.dns.verify {
                    verify::follow(&provider, &name, generation, (accepted, Some(after))).await;
                }
                return;
            }
            Err(error) if error.kind.may_pass() => {}
            Err(error) => {
                warn!(%name, change_id, "no longer followed to INSYNC: {}", chain(&error));
                return;
            }
        }
    }
    warn!(%name, change_id, "not INSYNC after {} s", INSYNC_MAX.as_secs());
}

fn shown(plan: &Plan) -> String {
    let parts = plan
        .changes
        .iter()
        .map(|(entry, change)| format!("{entry}: {} -> {}", weights(&change.from), weights(&change.to)));
    parts.collect::<Vec<_>>().join("; ")
}
