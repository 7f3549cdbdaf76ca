//! What happens in a run, in order of time.

use super::provider::ApiEvent;
use crate::domain::name::EntryId;
use crate::domain::time::Time;
use crate::domain::view::View;
use crate::domain::weights::WeightedSet;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is to happen at a moment.
#[derive(Debug)]
pub(super) enum Event {
    /// A fault begins, changes or ends.
    Begin(usize),
    Beat(usize),
    End(usize),
    Audit,
    /// Users send what they send.
    Flow,
    /// A change has reached all of Route 53's servers: a name's sets, and the count of its changes.
    Propagated {
        name: usize,
        change: u64,
        sets: Arc<BTreeMap<EntryId, WeightedSet>>,
    },
    /// Something of one process; ignored when that process is gone.
    Of {
        edge: usize,
        boot: u64,
        what: Edgewise,
    },
    /// A request of the DNS side reaches the API, whatever became of its sender.
    AtApi {
        edge: usize,
        boot: u64,
        what: ApiEvent,
    },
    /// A probe reaches another region.
    AtPeer {
        from: usize,
        boot: u64,
        to: usize,
        sent: Time,
    },
}

/// `to` and `from` are regions.
#[derive(Debug)]
pub(super) enum Edgewise {
    Probe { to: usize },
    Answered { from: usize, answer: Option<(Arc<View>, Time)>, sent: Time },
    Refused { from: usize },
    Pods,
    Requests,
    Poison,
    Dns(ApiEvent),
}

/// An event with its time; events of one moment happen in the order they were scheduled in.
#[derive(Debug)]
pub(super) struct Scheduled {
    pub(super) at: Time,
    pub(super) number: u64,
    pub(super) event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
