//! What users see of faults, by a running process: services that fail or are asked too much,
//! certificates that are swapped, and its end under HTTP/2 and WebSockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run_support;

#[path = "run_faults/drain.rs"]
mod drain;
#[path = "run_faults/gate.rs"]
mod gate;
#[path = "run_faults/handshakes.rs"]
mod handshakes;
#[path = "run_faults/origin.rs"]
mod origin;
#[path = "run_faults/outage.rs"]
mod outage;
#[path = "run_faults/outliers.rs"]
mod outliers;

use run_support::client::Client;
use run_support::{Edge, eventually, get};
use std::path::Path;

/// One of these tests at a time: they measure shares of what this machine can do.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Starts an edge, and waits until so many endpoints of `web` are known to be well.
fn started(file: &Path, endpoints: usize) -> Edge {
    let edge = Edge::ready(file);
    eventually("the endpoints are known to be well", || (endpoints_of(&edge) == endpoints).then_some(()));
    edge
}

/// Endpoints of `web` that requests may go to.
fn endpoints_of(edge: &Edge) -> usize {
    let snapshot = edge.snapshot();
    let own = &snapshot["services"]["web"]["candidates"][0];
    own["endpoints"].as_array().map_or(0, Vec::len)
}

/// The sum of a metric over all its labels.
fn sum(edge: &Edge, name: &str) -> f64 {
    let text = get(edge.address("admin"), "/metrics").body;
    let mine = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|l| l.starts_with(['{', ' '])));
    mine.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}
