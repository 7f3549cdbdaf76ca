//! What a region says of itself and of the others when it is probed.
//!
//! Probing is the exchange of views. Unknown fields are tolerated, so that a
//! newer edge can be probed by an older one; `peer` bounds the size.

use crate::domain::health::Word;
use crate::domain::latency::Rtt;
use crate::domain::name::{DnsName, RegionId, ServiceId};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

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
    /// Requests a second that clients sent to this region (not forwarded ones).
    pub entered_rps: f64,
    /// Requests a second that the region may still take; `None` without a configured capacity.
    pub headroom_rps: Option<f64>,
}

impl View {
    /// What is said before the first decision: nothing but who speaks.
    pub fn first(region: RegionId, boot: u64, policy: u64) -> Self {
        Self {
            region,
            boot,
            sequence: 0,
            policy,
            services: BTreeMap::new(),
            rtts: BTreeMap::new(),
            votes: BTreeMap::new(),
            entered_rps: 0.0,
            headroom_rps: None,
        }
    }

    /// Field names, own region, and the numbers at their longest.
    const FRAME_BYTES_MAX: usize = 320;

    /// The most bytes that a view over these takes as JSON.
    ///
    /// Votes are over every region for every name; each number and word counts at its longest.
    pub fn bytes_max<'a>(
        names: impl Iterator<Item = &'a DnsName>,
        regions: impl Iterator<Item = &'a RegionId> + Clone,
        services: impl Iterator<Item = &'a ServiceId>,
    ) -> usize {
        let votes: usize = regions.clone().map(|r| r.as_str().len() + r#""":"unknown","#.len()).sum();
        let names: usize = names.map(|n| n.as_str().len() + r#""":{},"#.len() + votes).sum();
        let rtts: usize = regions.map(|r| r.as_str().len() + r#""":4294967295,"#.len()).sum();
        let services: usize = services.map(|s| s.as_str().len() + r#""":{"word":"unknown"},"#.len()).sum();
        Self::FRAME_BYTES_MAX + names + rtts + services
    }
}

/// A service as its own region sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    pub word: Word,
}

/// Refuses views that were seen before: the last answer of each of the last processes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ReplayGuard {
    answers: VecDeque<Answer>,
}

/// The last answer of one process.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Answer {
    boot: u64,
    sequence: u64,
    at: Time,
}

impl ReplayGuard {
    /// Pods of a region that may answer in turn behind its load balancer.
    const BOOTS_MAX: usize = 256;

    /// How the view stands to those seen before; remembers it.
    ///
    /// Whoever answered a while ago with its last view made any newer one since then. So a
    /// newer view is at most as old as that answer is, which must be within `fresh`.
    pub fn admit(&mut self, view: &View, now: Time, fresh: Duration) -> Admission {
        let answer = Answer { boot: view.boot, sequence: view.sequence, at: now };
        if let Some(last) = self.answers.iter_mut().find(|last| last.boot == view.boot) {
            let admission = match view.sequence.cmp(&last.sequence) {
                Ordering::Less => return Admission::Replayed,
                Ordering::Equal => Admission::Repeated,
                Ordering::Greater if now.since(last.at) > fresh => Admission::First,
                Ordering::Greater => Admission::New,
            };
            *last = answer;
            return admission;
        }
        if self.answers.len() == Self::BOOTS_MAX {
            self.answers.pop_front();
        }
        self.answers.push_back(answer);
        Admission::First
    }
}

/// How a view stands to those seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The first one of its process for long: it may be of any age, since a process whose
    /// control task stalls goes on showing its last view.
    First,
    /// Known to be made a short while ago.
    New,
    /// The last one again: its region has had nothing to add.
    Repeated,
    /// Older than one seen before.
    Replayed,
}

/// A view with the moment it came.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Heard {
    pub view: View,
    pub at: Time,
    /// Whether it is known to be made shortly before it came.
    pub recent: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(boot: u64, sequence: u64) -> View {
        View { sequence, ..View::first(RegionId::parse("a").unwrap(), boot, 1) }
    }

    #[test]
    fn a_replayed_or_older_view_is_refused_and_another_pod_is_not() {
        let mut guard = ReplayGuard::default();
        for (second, boot, sequence, expected) in [
            (0, 1, 5, Admission::First),
            (1, 1, 5, Admission::Repeated),
            (2, 1, 4, Admission::Replayed),
            (3, 1, 6, Admission::New),
            // Another pod, or a restart.
            (4, 2, 1, Admission::First),
            (5, 2, 2, Admission::New),
            (6, 1, 7, Admission::New),
            // Silent for long: what it shows now may have been made at any time since.
            (16, 1, 8, Admission::First),
            (17, 1, 9, Admission::New),
        ] {
            let now = Time::from_millis(second * 1000);
            let admission = guard.admit(&view(boot, sequence), now, Duration::from_secs(5));
            assert_eq!(admission, expected, "{boot} {sequence} at {second} s");
        }
    }
}
