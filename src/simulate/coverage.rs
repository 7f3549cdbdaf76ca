//! Which transitions met which faults and refusals, so that a sweep can tell what it has not tried.

use super::cast::Cast;
use super::faults::Fault;
use crate::domain::fleet::Transition;
use crate::domain::health::{State, Word};
use crate::domain::name::DnsName;
use crate::domain::plan::{Check, CheckOutcome, Refusal};
use crate::domain::snapshot::Snapshot;
use crate::domain::votes::{Undecided, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How often each (fault, transition, refusal) was seen: while the fault was active, an edge's state
/// made the transition, and after it that rule refused a change of the name, maybe with others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    cells: Vec<u32>,
}

/// What a state may become.
pub const TRANSITIONS: [&str; 17] = [
    "service healthy",
    "service probation",
    "service ejected",
    "service draining",
    "service unknown",
    "vote up",
    "vote down",
    "vote unknown",
    "verdict up",
    "verdict down",
    "verdict isolated",
    "verdict split",
    "verdict no_majority",
    "verdict disagreement",
    "verdict no_evidence",
    "gate closed",
    "gate open",
];

/// And one for nothing refused, which is the first.
fn refusals() -> usize {
    Refusal::ALL.len() + 1
}

/// The name of a refusal's column.
fn refusal_name(column: usize) -> &'static str {
    match column {
        0 => "none",
        nth => Refusal::ALL.get(nth - 1).map_or("", |r| r.as_str()),
    }
}

/// The columns of the rules that refuse.
fn columns(checks: &[Check]) -> Vec<usize> {
    let refuses = |check: &&Check| matches!(check.outcome, CheckOutcome::Refused(_));
    let column = |check: &Check| Refusal::ALL.iter().position(|rule| *rule == check.rule).map(|nth| nth + 1);
    checks.iter().filter(refuses).filter_map(column).collect()
}

/// The row of a transition, and the name that it is about, if it is about one.
fn row(transition: &Transition) -> Option<(usize, Option<&DnsName>)> {
    Some(match transition {
        Transition::Service { to, .. } => (
            match to {
                State::Healthy => 0,
                State::Probation => 1,
                State::Ejected => 2,
                State::Draining => 3,
                State::Unknown => 4,
            },
            None,
        ),
        Transition::Vote { name, to, .. } => (
            match to {
                Word::Up => 5,
                Word::Down => 6,
                Word::Unknown => 7,
            },
            Some(name),
        ),
        Transition::Verdict { name, to, .. } => (
            match to {
                Verdict::Up => 8,
                Verdict::Down => 9,
                Verdict::Isolated => 10,
                Verdict::Undecided(Undecided::Split) => 11,
                Verdict::Undecided(Undecided::NoMajority) => 12,
                Verdict::Undecided(Undecided::Disagreement) => 13,
                Verdict::Undecided(Undecided::NoEvidence) => 14,
                #[allow(unreachable_patterns, reason = "of one region, which no generated world has")]
                Verdict::Undecided(_) => return None,
            },
            Some(name),
        ),
        Transition::Gate { name, closed } => (if *closed { 15 } else { 16 }, Some(name)),
        _ => return None,
    })
}

/// One combination of fault, transition and refusal, by its place among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell(usize);

/// How many combinations there are, the impossible ones among them.
pub(super) fn cells() -> usize {
    Fault::KINDS.len() * TRANSITIONS.len() * refusals()
}

impl Cell {
    pub(super) const fn at(place: usize) -> Self {
        Self(place)
    }

    fn of(fault: usize, row: usize, column: usize) -> Self {
        Self((fault * TRANSITIONS.len() + row) * refusals() + column)
    }

    pub const fn place(self) -> usize {
        self.0
    }

    pub fn fault(self) -> &'static str {
        Fault::KINDS.get(self.0 / (TRANSITIONS.len() * refusals())).copied().unwrap_or_default()
    }

    pub fn transition(self) -> &'static str {
        TRANSITIONS[self.0 / refusals() % TRANSITIONS.len()]
    }

    /// `none`: nothing was refused.
    pub fn refusal(self) -> &'static str {
        refusal_name(self.0 % refusals())
    }
}

/// A combination, and how often it was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Gap {
    pub cell: Cell,
    pub hits: u32,
}

impl Coverage {
    pub(super) fn new() -> Self {
        Self { cells: vec![0; cells()] }
    }

    /// `snapshot`: what the edge published after the transition.
    pub(super) fn note(
        &mut self,
        cast: &Cast,
        transition: &Transition,
        faults: impl Iterator<Item = usize>,
        snapshot: Option<&Snapshot>,
    ) {
        let Some((row, name)) = row(transition) else { return };
        let name = name.or_else(|| cast.names.first().map(|first| &first.name));
        let status = name.and_then(|name| snapshot?.names.get(name));
        let refused = status.map(|status| columns(&status.checks)).unwrap_or_default();
        let refused = if refused.is_empty() { vec![0] } else { refused };
        for fault in faults {
            for column in &refused {
                if let Some(hits) = self.cells.get_mut(Cell::of(fault, row, *column).place()) {
                    *hits = hits.saturating_add(1);
                }
            }
        }
    }

    pub fn add(&mut self, other: &Self) {
        if self.cells.is_empty() {
            self.cells.clone_from(&other.cells);
            return;
        }
        for (hits, more) in self.cells.iter_mut().zip(&other.cells) {
            *hits = hits.saturating_add(*more);
        }
    }

    /// Each possible cell with fewer than `least` hits, and how many cells are possible.
    pub fn gaps(&self, least: u32) -> (Vec<Gap>, usize) {
        let all = (0..cells()).map(Cell::at);
        let possible: Vec<Cell> =
            all.filter(|cell| impossible(cell.transition(), cell.refusal()).is_none()).collect();
        let hits = |cell: Cell| self.cells.get(cell.place()).copied().unwrap_or_default();
        let gaps = possible.iter().map(|cell| Gap { cell: *cell, hits: hits(*cell) });
        (gaps.filter(|gap| gap.hits < least).collect(), possible.len())
    }

    /// What was seen though it was taken for impossible, and why it was.
    pub fn contradictions(&self) -> Vec<(Gap, &'static str)> {
        let hits = self.cells.iter().enumerate().filter(|(_, hits)| **hits > 0);
        let gap = |(place, hits): (usize, &u32)| {
            let cell = Cell::at(place);
            Some((Gap { cell, hits: *hits }, impossible(cell.transition(), cell.refusal())?))
        };
        hits.filter_map(gap).collect()
    }

    /// Hits by transition and refusal, whatever the fault.
    pub fn pairs(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        let mut pairs = BTreeMap::new();
        for (place, hits) in self.cells.iter().enumerate() {
            let cell = Cell::at(place);
            *pairs.entry((cell.transition(), cell.refusal())).or_insert(0) += u64::from(*hits);
        }
        pairs
    }
}

/// Why a refusal cannot stand right after a transition in a world of three regions or more;
/// `None`: it can. That a fault is active beside forbids nothing, since faults overlap.
fn impossible(transition: &str, refusal: &str) -> Option<&'static str> {
    match (transition, refusal) {
        (_, "never_empty" | "max_shift" | "above_capacity") => {
            Some("what is proposed keeps to it, and the rule is asked all the same")
        }
        ("service unknown", "unread") => Some(
            "what ends a drain here is that the records were read, which is all that this rule waits for",
        ),
        ("verdict no_majority", refusal) if !matches!(refusal, "none" | "foreign" | "no_majority") => {
            Some("all regions are undecided then: nothing is called for, and this rule is not asked")
        }
        ("verdict disagreement", refusal) if !matches!(refusal, "none" | "foreign" | "disagreement") => {
            Some("all regions are undecided then: nothing is called for, and this rule is not asked")
        }
        (
            "verdict up" | "verdict down" | "verdict isolated" | "verdict split" | "verdict no_evidence",
            "no_majority" | "disagreement",
        ) => Some("a verdict about the region shows that there is a majority, and that it agrees"),
        _ => None,
    }
}
