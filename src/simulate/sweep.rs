//! Many seeds on all cores: the first failure by seed, and what was seen.

use super::cast::NoWorld;
use super::coverage::Coverage;
use super::faults::Scenario;
use super::invariants::Violation;
use super::run::{Writes, play};
use super::seams::Seams;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// A seed that broke an invariant.
#[derive(Debug, Clone)]
pub struct Failure {
    pub scenario: Scenario,
    pub violation: Violation,
}

/// What a sweep found.
#[derive(Debug, Default)]
pub struct Swept {
    pub seen: BTreeMap<String, u64>,
    pub coverage: Coverage,
    pub failure: Option<Failure>,
}

impl Swept {
    fn add(&mut self, other: Self) {
        for (what, times) in other.seen {
            *self.seen.entry(what).or_insert(0) += times;
        }
        self.coverage.add(&other.coverage);
        self.failure =
            [self.failure.take(), other.failure].into_iter().flatten().min_by_key(|f| f.scenario.seed);
    }
}

/// Makes the scenario of a seed.
pub type Make<'a> = dyn Fn(u64) -> Result<Scenario, NoWorld> + Sync + 'a;

/// Plays seeds on every core. `counts`: which violations are failures; `played` is told of each seed.
///
/// # Errors
/// When a seed has no world.
pub fn sweep(
    seeds: Range<u64>,
    make: &Make<'_>,
    seams: &dyn Seams,
    counts: &(dyn Fn(&Violation) -> bool + Sync),
    played: &(dyn Fn() + Sync),
) -> Result<Swept, NoWorld> {
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicU64::new(u64::MAX);
    let worker = || {
        let mut swept = Swept::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            // Later seeds than a failed one need not be played; earlier ones are.
            if seed >= seeds.end || seed > failed.load(Ordering::Relaxed) {
                return Ok(swept);
            }
            let scenario = make(seed)?;
            let finished = play(&scenario, seams, Writes { coverage: true, ..Writes::default() });
            for (what, times) in finished.seen {
                *swept.seen.entry(what.to_owned()).or_insert(0) += times;
            }
            if let Some(coverage) = &finished.coverage {
                swept.coverage.add(coverage);
            }
            if let Some(violation) = finished.violation.filter(counts) {
                failed.fetch_min(seed, Ordering::Relaxed);
                swept.failure.get_or_insert(Failure { scenario, violation });
            }
            played();
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all = Swept::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        for handle in workers {
            match handle.join() {
                Ok(swept) => all.add(swept?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(all)
    })
}
