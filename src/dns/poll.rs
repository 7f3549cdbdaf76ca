//! The two loops that read: names, and witnesses. A failure leaves the last good state with the core.

use super::checks::CheckSpec;
use super::error::ErrorKind;
use super::pace::{Rank, jittered};
use super::provider::Provider;
use super::reader::ReadError;
use super::trouble::Troubles;
use super::witness;
use crate::domain::drift::Drift;
use crate::domain::fleet::{DnsReport, Input};
use crate::domain::health::State;
use crate::domain::name::RegionId;
use crate::domain::snapshot::Snapshot;
use crate::domain::votes::Witness;
use crate::error_chain::chain;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
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
            let conflicts = provider.conflicts.load(Ordering::Acquire);
            let read = provider.read(layout).await;
            if conflicts != provider.conflicts.load(Ordering::Acquire) {
                // What was read may be what a plan of this edge found changed: it is read again, at once.
                continue;
            }
            match read {
                Ok(reading) => {
                    troubles.working(&what);
                    let read = DnsReport::Read { name: layout.name.clone(), state: Box::new(reading.state) };
                    if inputs.send(Input::Dns(read)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    // A check may have been made anew, under another id.
                    doubt |= matches!(error, ReadError::Records(_) | ReadError::Layout(_));
                    if let ReadError::Records(problems) = &error {
                        let records = problems.iter().map(Drift::from).collect();
                        let drifted = DnsReport::Drifted { name: layout.name.clone(), records };
                        if inputs.send(Input::Dns(drifted)).await.is_err() {
                            return;
                        }
                    }
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

/// Asks at each poll for the witnesses of regions in doubt, and of one other by turns, until the core is gone.
pub async fn witnesses(
    provider: Arc<Provider>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    inputs: mpsc::Sender<Input>,
) {
    let mut troubles = Troubles::default();
    let mut misses: BTreeMap<RegionId, u32> = BTreeMap::new();
    let api = provider.api.ranked(Rank::Witness);
    for turn in 0_usize.. {
        sleep(jittered(provider.dns.poll)).await;
        let doubted = snapshot.load_full();
        for edge in due(provider.edges(), &doubted, turn) {
            let what = format!("witness of {}", edge.region);
            let checks = provider.checks();
            let answer = witness::ask(&api, &checks, edge).await;
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

/// Whose witness to ask for now: of `n` edges each would else ask for `n - 1` at every poll, all on one account.
fn due<'a>(edges: &'a [CheckSpec], snapshot: &Snapshot, turn: usize) -> Vec<&'a CheckSpec> {
    let well = |edge: &&CheckSpec| {
        snapshot.regions.get(&edge.region).is_some_and(|region| {
            region.heard && region.state == State::Healthy && region.witness == Witness::Green
        })
    };
    let (calm, mut due): (Vec<&CheckSpec>, Vec<&CheckSpec>) = edges.iter().partition(well);
    due.extend(calm.get(turn % calm.len().max(1)));
    due
}

fn report<E: std::error::Error>(troubles: &mut Troubles, what: &str, error: Option<&E>) {
    match error {
        Some(error) => troubles.failing(what, chain(error)),
        None => troubles.working(what),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::checks::{Host, Purpose};
    use crate::domain::snapshot::{ProbePace, Quality, RegionStatus};
    use crate::domain::view::LoadView;

    #[test]
    fn whoever_is_in_doubt_is_asked_for_at_once_and_the_others_by_turns() {
        let id = |name: &str| RegionId::parse(name).unwrap();
        let edge = |name: &str| CheckSpec {
            zone_id: "Z1".to_owned(),
            region: id(name),
            purpose: Purpose::Edge,
            host: Host::Address("203.0.113.1".parse().unwrap()),
            port: 80,
            interval_s: 10,
        };
        let edges = ["a", "b", "c", "d"].map(edge);
        let mut snapshot = Snapshot::empty(id("own"));
        let asked = |snapshot: &Snapshot, turn| {
            due(&edges, snapshot, turn).into_iter().map(|e| e.region.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(asked(&snapshot, 0), ["a", "b", "c", "d"], "nothing is known yet");
        let well = RegionStatus {
            rtt: None,
            distance: None,
            quality: Quality::default(),
            load: LoadView::default(),
            heard: true,
            state: State::Healthy,
            witness: Witness::Green,
            pace: ProbePace::Full,
        };
        for name in ["a", "b", "c", "d"] {
            snapshot.regions.insert(id(name), well.clone());
        }
        let rounds: Vec<Vec<String>> = (0..5).map(|turn| asked(&snapshot, turn)).collect();
        assert_eq!(rounds, [["a"], ["b"], ["c"], ["d"], ["a"]]);
        for ill in [
            RegionStatus { heard: false, ..well.clone() },
            RegionStatus { state: State::Ejected, ..well.clone() },
            RegionStatus { witness: Witness::Red, ..well.clone() },
        ] {
            snapshot.regions.insert(id("c"), ill.clone());
            assert_eq!(asked(&snapshot, 0), ["c", "a"], "{ill:?}");
        }
    }
}
