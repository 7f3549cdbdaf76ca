//! The plan: which weights to write next for one DNS name, or the rule that forbids it.
//!
//! Pure: (verdicts, distances, capacities, demand, current sets, policy) ->
//! plan. Evacuation of a confirmed-down region is one step; everything else is
//! a ramp, bounded by `max_shift` and the hold-down.

use crate::domain::hash::fnv1a;
use crate::domain::name::{DnsName, EntryId, RegionId};
use crate::domain::operator::OperatorState;
use crate::domain::time::Time;
use crate::domain::weights::WeightedSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod rules;
mod shift;

pub use rules::{LastChange, Situation, next, wanted};
pub use shift::{Distances, Room};

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// Random text of the bootstrap; another one means that the zone was set up anew.
    pub epoch: String,
    pub generation: Generation,
}

/// A name's records and control record, read in fence order (control first).
#[derive(Debug, Clone, PartialEq)]
pub struct NameState {
    pub fence: Fence,
    /// Who wrote last; `None` after bootstrap.
    pub writer: Option<RegionId>,
    /// When it was last changed, on this process's clock; `None`: never since bootstrap.
    pub changed_at: Option<Time>,
    /// What operators have said.
    pub operator: OperatorState,
    pub sets: BTreeMap<EntryId, WeightedSet>,
}

/// A change of weights to submit as one fenced batch.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A confirmed-down region loses its users in one step.
    Evacuation,
    /// One bounded step toward the wanted weights.
    Ramp,
}

/// The rule that forbids a change now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The control record says freeze.
    Frozen,
    /// Fewer live regions than `min_live`.
    MinLive,
    /// The last change is younger than the hold-down.
    HoldDown,
    /// It would give back what another region's plan took away within the hold-down.
    UndoesOther,
    /// Fewer fresh votes than a majority of the configured voters.
    NoMajority,
    /// Views disagree on membership or policy.
    Disagreement,
    /// A majority sees a region down, but nothing from the region confirms it.
    NoEvidence,
    /// Another region ranks before this one and is given time to write.
    NotWriter,
    /// The records do not match the configuration: an entry is missing or foreign.
    Foreign,
    /// This edge has just started, or did not run for a while: it must look again first.
    JustWoke,
    /// The last plan failed or met a conflict: the records must be read again first.
    Unread,
}

impl Refusal {
    pub const ALL: [Self; 11] = [
        Self::Frozen,
        Self::MinLive,
        Self::HoldDown,
        Self::UndoesOther,
        Self::NoMajority,
        Self::Disagreement,
        Self::NoEvidence,
        Self::NotWriter,
        Self::Foreign,
        Self::JustWoke,
        Self::Unread,
    ];

    /// Whether an operator may set the rule aside for a while. The others say what is not known
    /// or whose turn it is; a freeze is thawed.
    pub const fn overridable(self) -> bool {
        matches!(self, Self::MinLive | Self::HoldDown | Self::UndoesOther)
    }

    /// The rule as metrics and logs spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::MinLive => "min_live",
            Self::HoldDown => "hold_down",
            Self::UndoesOther => "undoes_other",
            Self::NoMajority => "no_majority",
            Self::Disagreement => "disagreement",
            Self::NoEvidence => "no_evidence",
            Self::NotWriter => "not_writer",
            Self::Foreign => "foreign",
            Self::JustWoke => "just_woke",
            Self::Unread => "unread",
        }
    }
}
