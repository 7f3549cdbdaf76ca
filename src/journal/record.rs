//! What a journal holds: a head, and then records, each a turn of the core or a word about the journal.

use crate::config::ConfigText;
use crate::domain::fleet::{Output, Transition};
use crate::domain::hash::fnv1a_of;
use crate::domain::name::RegionId;
use crate::domain::operator::ActRefusal;
use crate::domain::plan::Plan;
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Counts changes of what is written. Another number is not read.
pub(super) const FORMAT: u16 = 5;

/// The beginning of every file: all that a replay needs to begin there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Version of the program that wrote the file.
    pub program: String,
    pub own: RegionId,
    /// The random number of the process's start.
    pub boot: u64,
    /// Counts the files of the process, from 1.
    pub file: u64,
    /// Turns between the file before and this one that are in neither.
    pub lost: u64,
    /// The state below is that of this moment, on the core's clock.
    pub at: Time,
    /// The same moment: nanoseconds since the beginning of 1970.
    pub wall: u64,
    pub configuration: Configuration,
    pub state: State,
}

/// What a policy is made from, and by what it is known to be the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    pub text: ConfigText,
    /// `Policy::agreement_hash`.
    pub agreement: u64,
    /// `Policy::whole_hash`.
    pub whole: u64,
}

/// Where the core stands at the beginning of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// The process starts: nothing is known.
    Fresh,
    /// A `SavedFleet`, written.
    Saved(Vec<u8>),
}

/// What follows the head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    Turn(Turn),
    /// The process ended in order; nothing follows.
    End,
}

/// One input and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    pub at: Time,
    pub input: TurnInput,
    pub outputs: Vec<Shown>,
}

/// An input as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum TurnInput {
    /// An `Input`, written.
    Plain(Vec<u8>),
    /// `Input::Configure`.
    Configured(Configuration),
}

/// An output as it is compared: what tells any difference, without the bulk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shown {
    /// A snapshot, by the hash of all that it says; routes are the configuration's.
    Snapshot(u64),
    /// A view, by the hash of all that it says.
    View(u64),
    Plan(Plan),
    Moved(Transition),
    /// What became of an operator's act.
    Operated {
        id: u64,
        result: Result<(), ActRefusal>,
    },
}

impl Shown {
    /// # Errors
    /// When the output cannot be written, which no output that the core makes is.
    pub fn of(output: &Output) -> Result<Self, postcard::Error> {
        Ok(match output {
            Output::Publish(snapshot) => Self::Snapshot(hashed(snapshot)?),
            Output::View(view) => Self::View(hashed(view)?),
            Output::Propose(plan) => Self::Plan(plan.clone()),
            Output::Operated { id, result } => Self::Operated { id: *id, result: result.clone() },
            Output::Moved(transition) => Self::Moved(transition.clone()),
        })
    }
}

fn hashed(value: &impl Serialize) -> Result<u64, postcard::Error> {
    Ok(fnv1a_of(&postcard::to_stdvec(value)?))
}

impl Head {
    /// Nanoseconds since the beginning of 1970, of a moment on the core's clock.
    pub fn wall_of(&self, at: Time) -> u64 {
        let (later, earlier) = (nanos(at.since(self.at)), nanos(self.at.since(at)));
        self.wall.saturating_add(later).saturating_sub(earlier)
    }

    /// The moment on the core's clock, of nanoseconds since the beginning of 1970.
    pub fn moment_of(&self, wall: u64) -> Time {
        let later = Duration::from_nanos(wall.saturating_sub(self.wall));
        (self.at + later).before(Duration::from_nanos(self.wall.saturating_sub(wall)))
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
