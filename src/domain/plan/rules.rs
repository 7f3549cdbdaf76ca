//! The safety rules: each a small function, asked of every change in the order of [`Refusal::ALL`].
//!
//! A rule answers for itself and knows no other. Which of them operators may set aside is
//! [`Refusal::overridable`].

use super::check::{Check, CheckOutcome, Detail, Refusal};
use super::load::breach;
use super::moves::{Step, Wanted};
use super::{Reason, Situation};
use crate::domain::name::RegionId;
use crate::domain::time::Time;
use crate::domain::votes::{Undecided, Verdict};
use crate::domain::weights::ERROR_MAX;
use std::collections::BTreeSet;
use std::time::Duration;

/// The span of `max_changes_per_hour`.
pub const HOUR: Duration = Duration::from_secs(3600);

/// What the rules are asked about.
pub(super) struct Question<'a> {
    pub(super) situation: &'a Situation<'a>,
    pub(super) wanted: &'a Wanted,
    pub(super) step: &'a Step,
}

/// What a rule answers.
enum Answer {
    Fine,
    NotApplicable,
    Against(Detail),
    /// Against, whatever an operator says.
    Firmly(Detail),
}

use Answer::{Against, Fine, Firmly, NotApplicable};

/// All rules' answers, in their order.
pub(super) fn checks(question: &Question<'_>) -> Vec<Check> {
    let check = |rule: Refusal| {
        let outcome = match answer(rule, question) {
            Fine => CheckOutcome::Passed,
            NotApplicable => CheckOutcome::NotApplicable,
            Against(detail) if question.situation.overridden(rule) => CheckOutcome::Overridden(detail),
            Against(detail) | Firmly(detail) => CheckOutcome::Refused(detail),
        };
        Check { rule, outcome }
    };
    Refusal::ALL.into_iter().map(check).collect()
}

/// The table of rules.
fn answer(rule: Refusal, question: &Question<'_>) -> Answer {
    // What must be known before anything can be called for.
    let asked: fn(&Question<'_>) -> Answer = match rule {
        Refusal::Foreign => return foreign(question),
        Refusal::Disagreement => return undecided(question, Undecided::Disagreement),
        Refusal::NoMajority => return undecided(question, Undecided::NoMajority),
        Refusal::NoEvidence => return undecided(question, Undecided::NoEvidence),
        Refusal::Frozen => frozen,
        Refusal::MinLive => min_live,
        Refusal::NeverEmpty => never_empty,
        Refusal::NeedsOperator => needs_operator,
        Refusal::MaxShift => max_shift,
        Refusal::AboveCapacity => above_capacity,
        Refusal::HoldDown => hold_down,
        Refusal::MaxChangesPerHour => max_changes_per_hour,
        Refusal::UndoesOther => undoes_other,
        Refusal::JustWoke => just_woke,
        Refusal::NotHolder => not_holder,
        Refusal::NotWriter => not_writer,
        Refusal::Unread => unread,
    };
    if question.step.changes.is_empty() { NotApplicable } else { asked(question) }
}

/// The sets that were read are those of the configuration.
fn foreign(question: &Question<'_>) -> Answer {
    let Situation { state, policy, drifted, .. } = question.situation;
    if *drifted > 0 {
        return Against(Detail::Records(*drifted));
    }
    let read: BTreeSet<_> = state.sets.keys().collect();
    let known: BTreeSet<_> = policy.entries.keys().collect();
    let odd = read.symmetric_difference(&known).next();
    odd.map_or(Fine, |entry| Against(Detail::Entry((*entry).clone())))
}

/// Why a region that someone sees down is not moved, where nothing else is.
fn undecided(question: &Question<'_>, why: Undecided) -> Answer {
    let verdicts = question.situation.verdicts.iter();
    let Some((region, _)) = verdicts.clone().find(|(_, verdict)| **verdict == Verdict::Undecided(why)) else {
        return Fine;
    };
    let overridden = why == Undecided::NoEvidence && question.situation.overridden(Refusal::NoEvidence);
    // A change that is called for all the same is not about that region.
    if question.step.changes.is_empty() || overridden {
        Against(Detail::Region(region.clone()))
    } else {
        NotApplicable
    }
}

fn frozen(question: &Question<'_>) -> Answer {
    match &question.situation.operator.freeze {
        Some(freeze) => Against(Detail::Said(freeze.said.reason.clone())),
        None => Fine,
    }
}

/// Enough regions may receive users; one there must be.
fn min_live(question: &Question<'_>) -> Answer {
    let (has, needs) = (question.situation.receiving().len(), question.situation.failover.min_live.max(1));
    match has {
        0 => Firmly(Detail::Fewer { has, needs }),
        _ if has < needs => Against(Detail::Fewer { has, needs }),
        _ => Fine,
    }
}

/// No change takes the last region that may live from an entry. (Where none is left that could receive users, what is
/// called for is to leave them, and `min_live` refuses that.)
fn never_empty(question: &Question<'_>) -> Answer {
    let situation = question.situation;
    let lives = |region: &RegionId| situation.verdict(region) != Verdict::Down;
    let emptied = |(_, change): &(&_, &super::Change)| {
        change.to != change.from && !change.to.iter().any(|(region, _)| lives(region))
    };
    let found = question.step.changes.iter().find(emptied);
    found.map_or(Fine, |(entry, _)| Against(Detail::Entry(entry.clone())))
}

/// Users stay on so many regions, unless an operator says otherwise.
fn needs_operator(question: &Question<'_>) -> Answer {
    let situation = question.situation;
    let needs = situation.failover.require_operator_below;
    if needs <= 1 {
        return NotApplicable;
    }
    let sets = &situation.state.sets;
    let before: BTreeSet<&RegionId> = sets.values().flat_map(|set| set.iter().map(|(r, _)| r)).collect();
    let after = sets.iter().map(|(entry, set)| question.step.changes.get(entry).map_or(set, |c| &c.to));
    let live = |region: &&RegionId| situation.verdict(region) != Verdict::Down;
    let after: BTreeSet<&RegionId> = after.flat_map(|set| set.iter().map(|(r, _)| r)).filter(live).collect();
    if after.len() < needs && after.len() < before.len() {
        Against(Detail::Fewer { has: after.len(), needs })
    } else {
        Fine
    }
}

/// A step of a ramp moves no more of an entry's users than allowed.
fn max_shift(question: &Question<'_>) -> Answer {
    if question.step.reason == Reason::Evacuation {
        return NotApplicable;
    }
    let most = question.situation.failover.max_shift + 2.0 * ERROR_MAX;
    let gained = |change: &super::Change| -> f64 {
        change.to.iter().map(|(r, _)| (change.to.share(r) - change.from.share(r)).max(0.0)).sum()
    };
    let found = question.step.changes.iter().find(|(_, change)| gained(change) > most);
    found.map_or(Fine, |(entry, _)| Against(Detail::Entry(entry.clone())))
}

/// No step sends a region more than it can serve while others have room. Evacuations are bounded by
/// the flow and never refused for it: the users are lost where they are.
fn above_capacity(question: &Question<'_>) -> Answer {
    if question.step.reason == Reason::Evacuation || question.wanted.overload_rps > 0.0 {
        return NotApplicable;
    }
    match breach(question.situation, &question.situation.room.bounds(), &question.step.changes) {
        Some((region, load_rps, capacity_rps)) => {
            Against(Detail::Above { region, load_rps: load_rps.round(), capacity_rps })
        }
        None => Fine,
    }
}

/// Users have followed the last change, and were counted, before the next step of a ramp. Evacuations do not wait.
fn hold_down(question: &Question<'_>) -> Answer {
    if question.step.reason == Reason::Evacuation {
        return NotApplicable;
    }
    question.situation.ramp_held_until().map_or(Fine, |until| Against(Detail::Until(until)))
}

/// An hour sees so many changes. Evacuations count and are not held back: whoever flaps is not brought
/// back again, and nobody is left in a dead region.
fn max_changes_per_hour(question: &Question<'_>) -> Answer {
    if question.step.reason == Reason::Evacuation {
        return NotApplicable;
    }
    let Situation { changes, failover, now, .. } = question.situation;
    let recent: Vec<Time> = changes.iter().copied().filter(|at| now.since(*at) < HOUR).collect();
    let has = recent.len();
    match has.checked_sub(failover.max_changes_per_hour).and_then(|over| recent.get(over)) {
        Some(at) => Against(Detail::TooMany { has, until: *at + HOUR }),
        None => Fine,
    }
}

/// Nothing is given back that another region's plan took away within the hold-down.
fn undoes_other(question: &Question<'_>) -> Answer {
    let situation = question.situation;
    let Some(last) = situation.last else { return Fine };
    if last.writer.as_ref().is_none_or(|writer| writer == situation.own) {
        return Fine;
    }
    let Some(until) = situation.held_until(last.at) else { return Fine };
    let gives_back = question.step.changes.iter().any(|(entry, change)| {
        change.to.iter().any(|(region, _)| {
            change.to.share(region) > change.from.share(region)
                && last.reduced.contains(&(entry.clone(), region.clone()))
        })
    });
    if gives_back { Against(Detail::Until(until)) } else { Fine }
}

/// After a sleep the first inputs are the oldest ones, and words seem to have lasted.
fn just_woke(question: &Question<'_>) -> Answer {
    let situation = question.situation;
    let until = situation.turn.awake_since + situation.failover.view_fresh;
    if situation.now < until { Against(Detail::Until(until)) } else { Fine }
}

/// One pod of a region speaks for it.
fn not_holder(question: &Question<'_>) -> Answer {
    if question.situation.turn.holds { Fine } else { Against(Detail::Plain) }
}

/// Those who stand before this region have had their time. Others stand in for a writer that cannot do what
/// it would; they do not overrule one that is content, or two that see things otherwise would undo each
/// other's steps for ever. Whoever sees a region down does not wait for them to see it, too.
fn not_writer(question: &Question<'_>) -> Answer {
    if let Some(region) = question.situation.content
        && question.step.reason == Reason::Ramp
    {
        return Against(Detail::Content(region.clone()));
    }
    let Situation { turn, failover, now, .. } = question.situation;
    let until = turn.waiting_since.unwrap_or(*now) + failover.writer_patience.saturating_mul(turn.rank);
    if *now < until { Against(Detail::Until(until)) } else { Fine }
}

fn unread(question: &Question<'_>) -> Answer {
    if question.situation.turn.read { Fine } else { Against(Detail::Plain) }
}
