//! The zone as Route 53 keeps it: one control record a name, batches that
//! compare and swap and are applied whole or not at all.

use super::cast::Cast;
use crate::domain::name::{EntryId, RegionId};
use crate::domain::plan::{Fence, Generation, Plan};
use crate::domain::time::Time;
use crate::domain::weights::WeightedSet;
use std::collections::{BTreeMap, BTreeSet};

/// One name's records.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub fence: Fence,
    pub writer: Option<RegionId>,
    /// `Plan::hash` of the last change.
    pub plan_hash: Option<u64>,
    /// What the writer's wall clock said when it sent the last change.
    pub stamp: Option<Time>,
    pub frozen: bool,
    pub drains: BTreeSet<RegionId>,
    pub sets: BTreeMap<EntryId, WeightedSet>,
}

/// When a plan was made, by the world's clock, and when it was sent, by its writer's.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub proposed: Time,
    /// The writer's wall clock when it was sent.
    pub stamp: Time,
}

/// How Route 53 answers a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Applied,
    Conflict,
}

/// All names.
#[derive(Debug)]
pub struct Store {
    pub names: Vec<Stored>,
    /// What Route 53's servers answer by, by name; a change shows there some time after it was taken.
    pub(super) published: Vec<BTreeMap<EntryId, WeightedSet>>,
    /// By name: changes taken, and the last one that is published.
    changes: Vec<(u64, u64)>,
    /// Whether batches are conditional. Only seams say no.
    fenced: bool,
}

impl Store {
    pub fn new(cast: &Cast, fenced: bool) -> Self {
        let bootstrapped = |home: &BTreeMap<EntryId, WeightedSet>| Stored {
            fence: Fence { epoch: "1f0c".to_owned(), generation: Generation::new(1) },
            writer: None,
            plan_hash: None,
            stamp: None,
            frozen: false,
            drains: BTreeSet::new(),
            sets: home.clone(),
        };
        Self {
            names: cast.names.iter().map(|n| bootstrapped(&n.home)).collect(),
            published: cast.names.iter().map(|n| n.home.clone()).collect(),
            changes: vec![(0, 0); cast.names.len()],
            fenced,
        }
    }

    /// Counts a change of a name's sets; the number to publish it by.
    pub(super) fn changed(&mut self, name: usize) -> u64 {
        self.changes[name].0 += 1;
        self.changes[name].0
    }

    /// The servers answer by this change from now on, unless they know a later one.
    pub(super) fn publish(&mut self, name: usize, change: u64, sets: &BTreeMap<EntryId, WeightedSet>) {
        if change > self.changes[name].1 {
            self.changes[name].1 = change;
            self.published[name].clone_from(sets);
        }
    }

    /// DELETE what was read, CREATE what shall be: all of it or nothing.
    pub fn submit(&mut self, name: usize, plan: &Plan, sent: Sent) -> Answer {
        let stored = &mut self.names[name];
        let matches = stored.fence == plan.fence
            && plan.changes.iter().all(|(entry, change)| stored.sets.get(entry) == Some(&change.from));
        if self.fenced && !matches {
            return Answer::Conflict;
        }
        stored.fence.generation = plan.fence.generation.next();
        stored.writer = Some(plan.writer.clone());
        stored.plan_hash = Some(plan.hash());
        stored.stamp = Some(sent.stamp);
        for (entry, change) in &plan.changes {
            stored.sets.insert(entry.clone(), change.to.clone());
        }
        Answer::Applied
    }

    /// An operator's edit through the control record.
    pub fn operate(&mut self, name: usize, edit: impl FnOnce(&mut Stored)) {
        let stored = &mut self.names[name];
        stored.fence.generation = stored.fence.generation.next();
        edit(stored);
    }
}
