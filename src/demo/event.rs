//! What is seen during a run: by users, in DNS answers, from the edges, at the zone server.

use super::ledger::Request;
use super::world::Region;
use std::collections::BTreeMap;
use std::time::Duration;

/// Weights of one set, by region.
pub type Weights = BTreeMap<Region, u8>;

/// What one edge shows of the others and of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// State of the service by region, in the edge's words.
    pub states: BTreeMap<Region, String>,
    pub verdicts: BTreeMap<Region, String>,
    /// Whether its own region is its first candidate, with its full share.
    pub serves_at_home: bool,
}

/// A change of weighted sets that the zone server accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub submitted_at: Duration,
    /// By entry: before and after.
    pub sets: BTreeMap<Region, (Weights, Weights)>,
}

/// One thing seen. Times are since the demo's start.
#[derive(Debug, Clone)]
pub enum Event {
    Request(Request),
    /// A direct look at a service, past every relay, found it changed.
    Truth {
        at: Duration,
        region: Region,
        answers: bool,
    },
    /// Regions that a user of the place gets from DNS now.
    Name {
        at: Duration,
        place: Region,
        regions: Vec<Region>,
    },
    /// Regions that an entry's own set gives now.
    Set {
        at: Duration,
        entry: Region,
        regions: Vec<Region>,
    },
    /// An edge shows something new; `None`: it does not answer.
    Edge {
        at: Duration,
        region: Region,
        reading: Option<Reading>,
    },
    Changed(Change),
    /// How often the zone server saw a set lose its last record.
    SetsEverEmpty(u64),
}
