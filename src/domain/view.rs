//! What a region says of itself and of the others when it is probed.
//!
//! Probing is the exchange of views. Unknown fields are tolerated, so that a
//! newer edge can be probed by an older one; `peer` bounds the size.

use crate::domain::health::Word;
use crate::domain::latency::Rtt;
use crate::domain::name::{DnsName, RegionId, ServiceId};
use crate::domain::plan::Generation;
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

/// One region's view of the world, at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct View {
    pub region: RegionId,
    /// Random number of this process's start; with `sequence` it refuses replays.
    pub boot: u64,
    pub sequence: u64,
    /// Hash of membership and policy: only equal ones decide together.
    pub policy: u64,
    pub services: BTreeMap<ServiceId, ServiceView>,
    pub rtts: BTreeMap<RegionId, Rtt>,
    pub votes: BTreeMap<DnsName, BTreeMap<RegionId, Word>>,
    /// Last generation of each name's control record that was read.
    pub generations: BTreeMap<DnsName, Generation>,
    /// Requests a second that clients sent to this region (not forwarded ones).
    pub entered_rps: f64,
    /// Requests a second that the region may still take; `None` without a configured capacity.
    pub headroom_rps: Option<f64>,
}

/// A service as its own region sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    pub word: Word,
}

/// Refuses views that were seen before: the last sequence of each of the last boots.
#[derive(Debug, Clone, Default)]
pub struct ReplayGuard {
    boots: VecDeque<(u64, u64)>,
}

impl ReplayGuard {
    /// Pods of a region that may answer in turn behind its load balancer.
    const BOOTS_MAX: usize = 256;

    /// How the view stands to those seen before; remembers it.
    pub fn admit(&mut self, view: &View) -> Admission {
        if let Some((_, last)) = self.boots.iter_mut().find(|(boot, _)| *boot == view.boot) {
            let admission = match view.sequence.cmp(last) {
                Ordering::Less => Admission::Replayed,
                Ordering::Equal => Admission::Repeated,
                Ordering::Greater => Admission::New,
            };
            *last = view.sequence.max(*last);
            return admission;
        }
        if self.boots.len() == Self::BOOTS_MAX {
            self.boots.pop_front();
        }
        self.boots.push_back((view.boot, view.sequence));
        Admission::First
    }
}

/// How a view stands to those seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The first one of its process: it may be of any age.
    First,
    /// Newer than one seen before, so made since then.
    New,
    /// The last one again: its region has had nothing to add.
    Repeated,
    /// Older than one seen before.
    Replayed,
}

/// A view with the moment it came.
#[derive(Debug, Clone)]
pub struct Heard {
    pub view: View,
    pub at: Time,
    /// Whether it is known to be made shortly before it came: a process whose control task
    /// stalls goes on showing its last view, and whoever asks for the first time can't tell.
    pub recent: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(boot: u64, sequence: u64) -> View {
        View {
            region: RegionId::parse("a").unwrap(),
            boot,
            sequence,
            policy: 1,
            services: BTreeMap::new(),
            rtts: BTreeMap::new(),
            votes: BTreeMap::new(),
            generations: BTreeMap::new(),
            entered_rps: 0.0,
            headroom_rps: None,
        }
    }

    #[test]
    fn a_replayed_or_older_view_is_refused_and_another_pod_is_not() {
        let mut guard = ReplayGuard::default();
        for (boot, sequence, expected) in [
            (1, 5, Admission::First),
            (1, 5, Admission::Repeated),
            (1, 4, Admission::Replayed),
            (1, 6, Admission::New),
            // Another pod, or a restart.
            (2, 1, Admission::First),
            (2, 2, Admission::New),
        ] {
            assert_eq!(guard.admit(&view(boot, sequence)), expected, "{boot} {sequence}");
        }
    }
}
