//! What a pod shows to its siblings: how it stands to the lease, and, if it holds it, what it measured.

use crate::domain::fleet::{ProbeFailure, SHARED_PROBES_MAX, Shared, SharedAnswer, SharedProbe};
use crate::domain::latency::Rtt;
use crate::domain::name::RegionId;
use crate::domain::time::Time;
use crate::domain::view::View;
use crate::lease::{SiblingWord, Standing};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Written by the probes, read by the peer listener. One lock for a moment, never across a wait.
#[derive(Debug)]
pub struct Board {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    standing: Standing,
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
        Self { state: Mutex::new(State { standing: Standing::Seeking, regions: BTreeMap::new() }) }
    }
}

impl Board {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How this pod stands to the lease from now on.
    pub fn stand(&self, standing: Standing) {
        self.state().standing = standing;
    }

    /// A probe of a region by this pod ended; the round trip and the view of a good answer.
    pub fn probed(&self, region: &RegionId, result: Result<(Option<Rtt>, &View), ProbeFailure>, now: Time) {
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
            SharedAnswer { rtt, view: Some(Box::new(view.clone())) }
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
        let state = self.state();
        let shared = (state.standing == Standing::Holding).then(|| Shared {
            view: view.clone(),
            transit_us: 0,
            regions: state.regions.iter().map(|(region, of)| (region.clone(), of.told(now))).collect(),
        });
        SiblingWord { boot: view.boot, standing: state.standing, shared }
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
