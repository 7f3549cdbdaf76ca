//! What the pods of one region share: the one that holds the lease probes the other regions at full
//! pace; the others take its results as if they were their own, and look themselves only now and then.
//!
//! It decides whether the holder's word is good enough to go by, and so how often this pod looks itself.
//! It refuses to know who holds the lease and why ([`crate::lease`]). Ages are compared, never clocks:
//! two pods need not agree on the time.

use super::names::NameRecord;
use super::peers::Peer;
use super::{Fleet, ProbeFailure, RegionAnswer};
use crate::domain::latency::Rtt;
use crate::domain::name::{DnsName, RegionId};
use crate::domain::policy::Policy;
use crate::domain::snapshot::ProbePace;
use crate::domain::time::Time;
use crate::domain::view::{Admission, Heard, ReplayGuard, View, Words};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Results of one region that a holder tells: as many as it makes between two questions, and what is
/// needed when a few questions were lost.
pub const SHARED_PROBES_MAX: usize = 8;

/// Whether this pod speaks for its region.
///
/// Not a mutual exclusion: for a while two pods may hold it, or none. What must not happen twice, a
/// change of the records, is fenced where it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// It probes the other regions at full pace, and may propose changes of the records.
    pub held: bool,
}

/// What the holder of the lease measured, as it told it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shared {
    /// The holder's own view: who speaks, and how it votes.
    pub view: View,
    /// How long question and answer took together: by so much all may be older than it says. Microseconds.
    #[serde(default)]
    pub transit_us: u64,
    /// Of each region the last results, the oldest first.
    pub regions: BTreeMap<RegionId, Vec<SharedProbe>>,
}

/// One result of the holder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SharedProbe {
    /// Counts the holder's probes of the region.
    pub number: u64,
    /// How long before the answer to this pod it came. Microseconds.
    pub age_us: u64,
    pub result: Result<SharedAnswer, ProbeFailure>,
}

/// A region's good answer to the holder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SharedAnswer {
    pub rtt: Option<Rtt>,
    /// Only with the last good answer.
    pub view: Option<Arc<View>>,
}

/// Who speaks for the region, as this pod knows it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sharing {
    pub(super) lease: Lease,
    guard: ReplayGuard,
    /// The holder's last word.
    word: Option<Heard>,
}

impl Default for Sharing {
    /// A pod without siblings.
    fn default() -> Self {
        Self { lease: Lease { held: true }, guard: ReplayGuard::default(), word: None }
    }
}

impl Sharing {
    /// The holder's last word, if another pod holds the lease and said it a short while ago.
    fn word(&self, fresh: Duration, now: Time) -> Option<&View> {
        let word = self.word.as_ref().filter(|word| word.recent && now.since(word.at) <= fresh);
        word.filter(|_| !self.lease.held).map(|word| &*word.view)
    }
}

/// What the holder said of one region, beside what this pod saw itself.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct SharedPeer {
    guard: ReplayGuard,
    /// Boot number of the holder, and the number of its last probe that was taken.
    taken: Option<(u64, u64)>,
    holder: Option<Seen>,
    own: Option<Seen>,
}

/// What the last probes of one prober said.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Seen {
    well: bool,
    /// When it began to be so.
    since: Time,
    at: Time,
}

impl Seen {
    fn next(before: Option<Self>, well: bool, at: Time) -> Self {
        let since = before.filter(|before| before.well == well).map_or(at, |before| before.since);
        Self { well, since, at }
    }
}

impl SharedPeer {
    /// This pod probed the region itself.
    pub(super) fn probed(&mut self, well: bool, now: Time) {
        self.own = Some(Seen::next(self.own, well, now));
    }

    /// Whether this pod's own path to the region is another than the holder's: it looked since the
    /// holder's word last changed, and found otherwise.
    fn differs(&self) -> bool {
        self.holder
            .zip(self.own)
            .is_some_and(|(holder, own)| own.well != holder.well && own.at >= holder.since)
    }

    /// Full, unless a recent word of the holder was confirmed by an own look since it last changed.
    fn pace(&self, fresh: Duration, now: Time) -> ProbePace {
        let Some((holder, own)) = self.holder.zip(self.own) else { return ProbePace::Full };
        let confirmed = own.well == holder.well && own.at >= holder.since;
        if confirmed && now.since(holder.at) <= fresh { ProbePace::Sparse } else { ProbePace::Full }
    }
}

impl Peer {
    /// Takes the results that are new; returns whether any state moved.
    fn told(
        &mut self,
        (boot, probes): (u64, Vec<SharedProbe>),
        transit: Duration,
        (policy, now): (&Policy, Time),
    ) -> bool {
        let mut moved = false;
        let last = self.shared.taken.filter(|(of, _)| *of == boot).map(|(_, number)| number);
        let news = probes.into_iter().filter(|probe| last.is_none_or(|last| probe.number > last));
        for probe in news.take(SHARED_PROBES_MAX) {
            let age = Duration::from_micros(probe.age_us).saturating_add(transit);
            self.shared.taken = Some((boot, probe.number));
            // What is older than a view may be says nothing of now.
            if age > policy.failover.view_fresh {
                continue;
            }
            let at = now.before(age);
            self.shared.holder = Some(Seen::next(self.shared.holder, probe.result.is_ok(), at));
            if !self.shared.differs() {
                moved |= self.take(probe.result, policy, at);
            }
        }
        moved
    }

    fn take(&mut self, result: Result<SharedAnswer, ProbeFailure>, policy: &Policy, at: Time) -> bool {
        self.latency.answered(result.is_ok(), at, policy.rtt_window);
        match result {
            Err(_) => self.failed(policy, at),
            Ok(SharedAnswer { rtt, view: Some(view) }) => {
                // Own looks and the holder's come in another order than the views were made in.
                std::mem::swap(&mut self.guard, &mut self.shared.guard);
                let moved = self.answered(RegionAnswer { rtt, view }, policy, at);
                std::mem::swap(&mut self.guard, &mut self.shared.guard);
                moved
            }
            Ok(SharedAnswer { rtt, view: None }) => {
                if let Some(rtt) = rtt {
                    self.latency.probed(rtt, at, policy.rtt_window);
                }
                false
            }
        }
    }
}

impl Fleet {
    pub(super) fn leased(&mut self, lease: Lease) {
        self.dirty |= self.sharing.lease != lease;
        self.sharing.lease = lease;
    }

    /// Takes what the holder measured; nothing of a stranger, of the past, or of this pod itself.
    pub(super) fn told(&mut self, shared: Shared, now: Time) {
        let policy = Arc::clone(&self.policy);
        let Shared { view, transit_us, regions } = shared;
        let transit = Duration::from_micros(transit_us);
        if view.region != policy.own || view.boot == self.boot || self.sharing.lease.held {
            return;
        }
        let (boot, at, view) = (view.boot, now.before(transit), Arc::new(view));
        match self.sharing.guard.admit(&view, at, policy.failover.view_fresh) {
            Admission::Replayed => return,
            // It has nothing to add itself; its probes may.
            Admission::Repeated => {}
            admission @ (Admission::First | Admission::New) => {
                self.sharing.word = Some(Heard { view, at, recent: admission == Admission::New });
            }
        }
        for (region, mut probes) in regions {
            let Some(peer) = self.peers.get_mut(&region) else { continue };
            // Someone else answers at that address: as good as nobody.
            for probe in &mut probes {
                let view = probe.result.as_ref().ok().and_then(|answer| answer.view.as_ref());
                if view.is_some_and(|view| view.region != region) {
                    probe.result = Err(ProbeFailure::Malformed);
                }
            }
            let median = peer.latency.median();
            self.dirty |= peer.told((boot, probes), transit, (&policy, now));
            self.unranked |= peer.latency.median() != median;
        }
    }

    /// How often this pod probes another region itself.
    pub(super) fn pace(&self, peer: &Peer, now: Time) -> ProbePace {
        let fresh = self.policy.failover.view_fresh;
        match self.sharing.word(fresh, now) {
            None => ProbePace::Full,
            Some(_) => peer.shared.pace(fresh, now),
        }
    }

    /// The holder's last view, while it is fresh and goes by the same policy as this pod.
    pub(super) fn holder_word(&self, now: Time) -> Option<&View> {
        let word = self.sharing.word(self.policy.failover.view_fresh, now);
        word.filter(|view| view.policy == self.agreement)
    }

    /// How this pod answers for its region: by the votes of the holder while its word is fresh.
    pub(super) fn spoken_votes(&self, now: Time) -> BTreeMap<DnsName, Arc<Words>> {
        match self.holder_word(now) {
            Some(view) => view.votes.clone(),
            None => {
                let own =
                    |(name, record): (&DnsName, &NameRecord)| (name.clone(), Arc::clone(&record.own_votes));
                self.names.iter().map(own).collect()
            }
        }
    }
}
