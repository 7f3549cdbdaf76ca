//! What happened to the weighted sets, for observers: not part of Route 53.

use super::record::{Content, RecordSet, Routing};
use super::rules::{Records, group};
use serde::Serialize;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Changes kept; older ones are dropped and counted.
const CHANGES_MAX: usize = 10_000;

/// One record of a weighted set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    pub set_identifier: String,
    pub weight: u8,
    /// Values, or the alias target.
    pub values: Vec<String>,
}

/// A weighted set that one change touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SetChange {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub before: Vec<Member>,
    pub after: Vec<Member>,
}

/// One accepted change that touched a weighted set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Since the server's start, when the API accepted it.
    pub at_ms: u64,
    /// Since the server's start, when DNS answers by it.
    pub insync_at_ms: u64,
    pub change_id: String,
    pub sets: Vec<SetChange>,
}

/// The changes of weighted sets since the start.
#[derive(Debug, Clone, Default, Serialize)]
pub struct History {
    changes: VecDeque<Entry>,
    /// Times that a set with records lost all of them.
    sets_ever_empty: u64,
    /// Older changes that are no longer in `changes`.
    dropped: u64,
}

/// When and under which id a change was accepted.
#[derive(Debug, Clone, Copy)]
pub struct Accepted<'a> {
    pub change_id: &'a str,
    pub at: Duration,
    pub insync_at: Duration,
}

impl History {
    /// Notes what an accepted change did to weighted sets, if anything.
    pub fn note(&mut self, accepted: Accepted<'_>, before: &Records, after: &Records) {
        let touched: BTreeSet<_> = before
            .iter()
            .filter(|(key, record)| after.get(key) != Some(record))
            .chain(after.iter().filter(|(key, record)| before.get(key) != Some(record)))
            .filter(|(_, record)| matches!(record.routing, Routing::Weighted(_)))
            .map(|(key, _)| (&key.name, key.kind))
            .collect();
        let sets: Vec<SetChange> = touched
            .into_iter()
            .map(|(name, kind)| SetChange {
                name: name.to_string(),
                kind: kind.as_str(),
                before: group(before, name, kind).filter_map(member).collect(),
                after: group(after, name, kind).filter_map(member).collect(),
            })
            .collect();
        if sets.is_empty() {
            return;
        }
        self.sets_ever_empty += sets.iter().filter(|set| set.after.is_empty()).count() as u64;
        if self.changes.len() == CHANGES_MAX {
            self.changes.pop_front();
            self.dropped += 1;
        }
        self.changes.push_back(Entry {
            at_ms: millis(accepted.at),
            insync_at_ms: millis(accepted.insync_at),
            change_id: accepted.change_id.to_owned(),
            sets,
        });
    }
}

fn member(record: &RecordSet) -> Option<Member> {
    let Routing::Weighted(weight) = record.routing else { return None };
    let values = match &record.content {
        Content::Values { values, .. } => values.clone(),
        Content::Alias(target) => vec![target.name.to_string()],
    };
    Some(Member { set_identifier: record.key.set_identifier.clone().unwrap_or_default(), weight, values })
}

/// Whole milliseconds; saturates after half a billion years.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
