//! The judgement: what the verdicts call for, every rule's answer, and the plan if none refuses.

use super::check::{Check, CheckOutcome, Detail, Refusal};
use super::load::{Loads, Sets};
use super::moves::{next_step, wanted};
use super::rules::{Question, checks};
use super::{Plan, Situation};
use std::sync::Arc;

/// What is to be done about a name now.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The sets that the verdicts call for, before ramps and hold-downs.
    pub wanted: Arc<Sets>,
    /// The next step, if one is called for and no rule refuses.
    pub plan: Option<Plan>,
    /// Whether a change is called for.
    pub called_for: bool,
    /// Every rule's answer, in the order of [`Refusal::ALL`].
    pub checks: Vec<Check>,
    pub loads: Loads,
}

impl Judgement {
    /// The first rule that refuses.
    pub fn refusal(&self) -> Option<Refusal> {
        self.checks.iter().find(|c| matches!(c.outcome, CheckOutcome::Refused(_))).map(|c| c.rule)
    }

    /// Whether the change would overrule a region that is content.
    pub fn overrules(&self) -> bool {
        self.checks.iter().any(|c| matches!(c.outcome, CheckOutcome::Refused(Detail::Content(_))))
    }
}

/// Judges a name.
pub fn judge(situation: &Situation<'_>) -> Judgement {
    let wanted = wanted(situation);
    let step = next_step(situation, &wanted);
    let checks = checks(&Question { situation, wanted: &wanted, step: &step });
    let loads = Loads::of(situation, &step.changes, &wanted.sets, wanted.overload_rps);
    let called_for = !step.changes.is_empty();
    let mut judgement = Judgement { wanted: wanted.sets, plan: None, called_for, checks, loads };
    if called_for && judgement.refusal().is_none() {
        judgement.plan = Some(Plan {
            name: situation.name.clone(),
            fence: situation.state.fence.clone(),
            writer: situation.own.clone(),
            changes: step.changes,
            reason: step.reason,
            expires_at: situation.now + situation.failover.plan_expiry,
        });
    }
    judgement
}

#[cfg(test)]
mod tests;
