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

    /// Whether the view is new; remembers it.
    pub fn admit(&mut self, view: &View) -> bool {
        if let Some((_, last)) = self.boots.iter_mut().find(|(boot, _)| *boot == view.boot) {
            let fresh = view.sequence > *last;
            *last = view.sequence.max(*last);
            return fresh;
        }
        if self.boots.len() == Self::BOOTS_MAX {
            self.boots.pop_front();
        }
        self.boots.push_back((view.boot, view.sequence));
        true
    }
}

/// A view with the moment it came.
#[derive(Debug, Clone)]
pub struct Heard {
    pub view: View,
    pub at: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn view(boot: u64, sequence: u64) -> View {
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
        assert!(guard.admit(&view(1, 5)));
        assert!(!guard.admit(&view(1, 5)), "replay");
        assert!(!guard.admit(&view(1, 4)), "older");
        assert!(guard.admit(&view(1, 6)));
        assert!(guard.admit(&view(2, 1)), "another pod, or a restart");
    }
}
