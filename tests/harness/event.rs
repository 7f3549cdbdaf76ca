//! What happens in a run, in order of time.

use super::provider::ApiEvent;
use proxima::domain::time::Time;
use proxima::domain::view::View;
use std::sync::Arc;

/// What is to happen at a moment.
#[derive(Debug)]
pub(super) enum Event {
    /// A fault begins or ends.
    Begin(usize),
    End(usize),
    Audit,
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
    /// A probe reaches another edge.
    AtPeer {
        from: usize,
        boot: u64,
        to: usize,
        sent: Time,
    },
}

#[derive(Debug)]
pub(super) enum Edgewise {
    Probe { to: usize },
    Answered { from: usize, answer: Option<(Arc<View>, Time)>, sent: Time },
    Refused { from: usize },
    Pods,
    Requests,
    Poison,
    Load,
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
