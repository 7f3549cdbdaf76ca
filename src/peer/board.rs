//! What a pod shows to its siblings: how it stands to the lease, and, if it holds it, what it measured. And what
//! they said of their load.

use crate::domain::fleet::{ProbeFailure, SHARED_PROBES_MAX, Shared, SharedAnswer, SharedProbe};
use crate::domain::latency::Rtt;
use crate::domain::name::RegionId;
use crate::domain::time::Time;
use crate::domain::view::View;
use crate::lease::claim::Ruling;
use crate::lease::load::{Ledger, Load, PodLoad, RegionLoad};
use crate::lease::{SiblingWord, Standing};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Written by the probes and the core's task, read by the peer listener. Locks for a moment, never across a wait,
/// and never for a client's request.
#[derive(Debug)]
pub struct Board {
    state: Mutex<State>,
    /// A lock of its own, because views are copied under the other one.
    ledger: Mutex<Ledger>,
}

#[derive(Debug)]
struct State {
    standing: Standing,
    ruling: Ruling,
    regions: BTreeMap<RegionId, Results>,
}

/// The last results of one region.
#[derive(Debug, Default)]
struct Results {
    number: u64,
    last: VecDeque<Noted>,
}

#[derive(Debug)]
struct Noted {
    number: u64,
    at: Time,
    result: Result<SharedAnswer, ProbeFailure>,
}

impl Default for Board {
    fn default() -> Self {
        let state = State { standing: Standing::Seeking, ruling: Ruling::Elect, regions: BTreeMap::new() };
        Self { state: Mutex::new(state), ledger: Mutex::default() }
    }
}

impl Board {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How this pod stands to the lease from now on, and by which word of the Lease.
    pub fn stand(&self, standing: Standing, ruling: Ruling, now: Time) {
        let mut state = self.state();
        (state.standing, state.ruling) = (standing, ruling);
        drop(state);
        self.ledger().stand(standing, now);
    }

    /// Whether this pod speaks for the region without a word of the Lease.
    pub fn elected(&self) -> bool {
        let state = self.state();
        state.standing == Standing::Holding && state.ruling == Ruling::Elect
    }

    /// How many pods the region has, and how long what they say of their load counts.
    pub fn known(&self, pods: usize, patience: Duration) {
        self.ledger().known(pods, patience);
    }

    /// The configuration names no siblings.
    pub fn alone(&self) {
        self.ledger().alone();
    }

    /// What this pod does now; what its region does, as well as this pod knows.
    pub fn measured(&self, own: Load, now: Time) -> RegionLoad {
        let mut ledger = self.ledger();
        ledger.measured(own);
        ledger.region(now)
    }

    /// What this pod tells the holder of its load; `None`: nothing is measured yet.
    pub fn own_load(&self, boot: u64) -> Option<PodLoad> {
        self.ledger().own().map(|load| PodLoad { boot, load })
    }

    /// A sibling tells its load; `false`: it is not believed.
    pub fn hear(&self, pod: PodLoad, now: Time) -> bool {
        self.ledger().hear(pod, now)
    }

    /// The holder tells the region's load; `false`: it is not believed.
    pub fn hear_total(&self, total: RegionLoad, now: Time) -> bool {
        self.ledger().hear_total(total, now)
    }

    /// A probe of a region by this pod ended; the round trip and the view of a good answer.
    pub fn probed(
        &self,
        region: &RegionId,
        result: Result<(Option<Rtt>, &Arc<View>), ProbeFailure>,
        now: Time,
    ) {
        let mut state = self.state();
        let results = state.regions.entry(region.clone()).or_default();
        results.number += 1;
        let result = result.map(|(rtt, view)| {
            // Views are large, and only the last one is of use.
            for Noted { result, .. } in &mut results.last {
                if let Ok(answer) = result {
                    answer.view = None;
                }
            }
            SharedAnswer { rtt, view: Some(Arc::clone(view)) }
        });
        if results.last.len() == SHARED_PROBES_MAX {
            results.last.pop_front();
        }
        let number = results.number;
        results.last.push_back(Noted { number, at: now, result });
    }

    /// A region that is probed no more.
    pub fn forget(&self, region: &RegionId) {
        self.state().regions.remove(region);
    }

    /// What a sibling is told; `view` is the own one.
    pub fn word(&self, view: &View, now: Time) -> SiblingWord {
        let sum = self.ledger().sum(now);
        let state = self.state();
        // A process that was stopped for a while may be asked before it looks at its claim itself.
        let standing = match state.standing {
            Standing::Holding if !state.ruling.permits(now) => Standing::Seeking,
            standing => standing,
        };
        let holds = standing == Standing::Holding;
        let load = sum.filter(|_| holds);
        let shared = holds.then(|| Shared {
            view: view.clone(),
            transit_us: 0,
            regions: state.regions.iter().map(|(region, of)| (region.clone(), of.told(now))).collect(),
        });
        SiblingWord { boot: view.boot, standing, ruled: state.ruling != Ruling::Elect, shared, load }
    }
}

impl Results {
    fn told(&self, now: Time) -> Vec<SharedProbe> {
        let told = self.last.iter().map(|noted| SharedProbe {
            number: noted.number,
            age_us: u64::try_from(now.since(noted.at).as_micros()).unwrap_or(u64::MAX),
            result: noted.result.clone(),
        });
        told.collect()
    }
}
