//! The two loops that read: names, and witnesses. A failure leaves the last good state with the core.

use super::error::ErrorKind;
use super::pace::jittered;
use super::provider::Provider;
use super::reader::ReadError;
use super::trouble::Troubles;
use super::witness;
use crate::domain::fleet::{DnsReport, Input};
use crate::domain::name::RegionId;
use crate::domain::votes::Witness;
use crate::error_chain::chain;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// Shortest time between two listings of all health checks: they change at bootstrap only.
const CHECKS_PAUSE: Duration = Duration::from_secs(5);
/// Throttled answers in a row after which a witness is no longer believed.
const WITNESS_MISSES_MAX: u32 = 3;

/// Reads every name at each poll, until the core is gone.
pub async fn names(provider: Arc<Provider>, inputs: mpsc::Sender<Input>) {
    let mut troubles = Troubles::default();
    let mut checks_read: Option<Instant> = None;
    let mut doubt = true;
    loop {
        let due = checks_read.is_none_or(|at| at.elapsed() >= CHECKS_PAUSE);
        if due && (doubt || provider.lacks_checks()) {
            checks_read = Some(Instant::now());
            report(&mut troubles, "health checks", provider.refresh_checks().await.err().as_ref());
        }
        doubt = false;
        for layout in provider.layouts() {
            let what = format!("records of {}", layout.name);
            match provider.read(layout).await {
                Ok(reading) => {
                    troubles.working(&what);
                    let read = DnsReport::Read { name: layout.name.clone(), state: reading.state };
                    if inputs.send(Input::Dns(read)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    // A check may have been made anew, under another id.
                    doubt |= matches!(error, ReadError::Records(_) | ReadError::Layout(_));
                    report(&mut troubles, &what, Some(&error));
                }
            }
        }
        tokio::select! {
            () = sleep(jittered(provider.dns.poll)) => {}
            () = provider.nudge.notified() => {}
        }
    }
}

/// Asks for every other region's witness at each poll, until the core is gone.
pub async fn witnesses(provider: Arc<Provider>, inputs: mpsc::Sender<Input>) {
    let mut troubles = Troubles::default();
    let mut misses: BTreeMap<RegionId, u32> = BTreeMap::new();
    loop {
        sleep(jittered(provider.dns.poll)).await;
        for edge in provider.edges() {
            let what = format!("witness of {}", edge.region);
            let checks = provider.checks();
            let answer = witness::ask(&provider.api, &checks, edge).await;
            if answer.as_ref().is_err_and(|error| error.kind == ErrorKind::Missing) {
                // Deleted, perhaps to be made anew under another id: the next poll of the names looks.
                provider.forget(checks.id(edge));
            }
            report(&mut troubles, &what, answer.as_ref().err());
            let missed = misses.entry(edge.region.clone()).or_default();
            let witness = match answer {
                Ok(witness) => {
                    *missed = 0;
                    witness
                }
                Err(error) => {
                    *missed = missed.saturating_add(1);
                    if error.kind == ErrorKind::Throttled && *missed < WITNESS_MISSES_MAX {
                        continue;
                    }
                    Witness::Unknown
                }
            };
            let report = DnsReport::Witness { region: edge.region.clone(), witness };
            if inputs.send(Input::Dns(report)).await.is_err() {
                return;
            }
        }
    }
}

fn report<E: std::error::Error>(troubles: &mut Troubles, what: &str, error: Option<&E>) {
    match error {
        Some(error) => troubles.failing(what, chain(error)),
        None => troubles.working(what),
    };
}
