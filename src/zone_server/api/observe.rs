//! For observers and tests, beside Route 53's API: history, health, faults.

use super::{Answered, Call, Document};
use crate::zone_server::history::millis;
use crate::zone_server::refusal::Refusal;
use crate::zone_server::state::{Fault, State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Serialize)]
struct Health {
    now_ms: u64,
    checks: Vec<CheckHealth>,
}

#[derive(Serialize)]
struct CheckHealth {
    id: String,
    caller_reference: String,
    endpoint: String,
    healthy: bool,
    /// Since the server's start; null while it never changed.
    last_transition_ms: Option<u64>,
    /// What each checker last saw, by region.
    seen: Vec<(String, Option<String>)>,
}

#[derive(Deserialize)]
struct AskedFault {
    kind: Fault,
    times: u32,
}

/// `GET history`, `GET health`, `POST faults` (`{"kind": "...", "times": n}`).
pub fn dispatch(state: &Arc<State>, call: &Call, path: &[&str]) -> Answered {
    match (call.method.as_str(), path) {
        ("GET", ["history"]) => {
            let history = state.store().history().clone();
            Document::json(&history)
        }
        ("GET", ["health"]) => Document::json(&health(state)),
        ("POST", ["faults"]) => {
            let asked: AskedFault = serde_json::from_slice(&call.body)
                .map_err(|error| Refusal::InvalidInput(format!("not a fault: {error}")))?;
            state.faults().ask(asked.kind, asked.times);
            Document::json(&serde_json::json!({ "asked": true }))
        }
        _ => Err(Refusal::UnknownOperation),
    }
}

fn health(state: &State) -> Health {
    use crate::zone_server::health::Outcome::{Failure, Success};
    let store = state.store();
    let checks = store
        .checks()
        .map(|check| CheckHealth {
            id: check.id.clone(),
            caller_reference: check.caller_reference.clone(),
            endpoint: format!("{}:{}{}", check.config.at(), check.config.port, check.config.path),
            healthy: check.healthy(),
            last_transition_ms: check.last_transition().map(millis),
            seen: check
                .checkers()
                .iter()
                .map(|checker| {
                    let said = checker.last().map(|(_, Success(said) | Failure(said))| said.clone());
                    (checker.region.clone(), said)
                })
                .collect(),
        })
        .collect();
    Health { now_ms: millis(state.now()), checks }
}
