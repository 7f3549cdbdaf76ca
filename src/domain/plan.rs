//! The plan: which weights to write next for one DNS name, or the rule that forbids it.
//!
//! Pure: (verdicts, distances, capacities, demand, current sets, policy) ->
//! plan. Evacuation of a confirmed-down region is one step; everything else is
//! a ramp, bounded by `max_shift` and the hold-down. `judge` asks every rule, so that
//! whoever looks sees what each of them says.

use crate::domain::hash::fnv1a;
use crate::domain::name::{DnsName, EntryId, RegionId};
use crate::domain::operator::OperatorState;
use crate::domain::time::Time;
use crate::domain::weights::WeightedSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

mod assign;
mod check;
mod demand;
mod flow;
mod judge;
mod load;
mod moves;
mod rules;
mod shift;
mod situation;

pub use assign::{Assignment, Part, Receivers, assign};
pub use check::{Check, CheckOutcome, Detail, Refusal};
pub use demand::{BAND, Demand, calm};
pub use flow::{ArcId, Network, Sent};
pub use judge::{Judgement, judge};
pub use load::{Loads, RegionLoad};
pub use moves::Wanted;
pub use rules::HOUR;
pub use shift::{Distances, Room};
pub use situation::{LastChange, Situation, Turn};

/// Counts the changes of a name's control record since bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(u64);

impl Generation {
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// What a change is conditional on: the control record as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// Random text of the bootstrap; another one means that the zone was set up anew.
    pub epoch: String,
    pub generation: Generation,
}

/// A name's records and control record, read in fence order (control first).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NameState {
    pub fence: Fence,
    /// Who wrote last; `None` after bootstrap.
    pub writer: Option<RegionId>,
    /// When it was last changed, as its writer claims, on this process's clock; `None`: never since bootstrap.
    /// Writers' clocks may be wrong: the core believes it only as far as its own readings allow.
    pub changed_at: Option<Time>,
    /// The same as it is written, since the Unix epoch: equal at every reading, whatever this process's clock does.
    pub claim: Option<Duration>,
    /// What operators have said.
    pub operator: OperatorState,
    pub sets: BTreeMap<EntryId, WeightedSet>,
}

/// A change of weights to submit as one fenced batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub name: DnsName,
    pub fence: Fence,
    pub writer: RegionId,
    /// Only the entries that change, whole sets.
    pub changes: BTreeMap<EntryId, Change>,
    pub reason: Reason,
    /// Not to be submitted after this moment.
    pub expires_at: Time,
}

/// One entry's set as it was read, and as it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub from: WeightedSet,
    pub to: WeightedSet,
}

impl Plan {
    /// A number that tells this plan from another; it is written with the change,
    /// so that a lost answer can be settled by reading.
    pub fn hash(&self) -> u64 {
        fnv1a(&format!("{}|{:?}|{}|{:?}", self.name, self.fence, self.writer, self.changes))
    }
}

/// Why a plan moves users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// A confirmed-down region loses its users in one step.
    Evacuation,
    /// One bounded step toward the wanted weights.
    Ramp,
}
