//! Operators' acts: in force here from the moment they are taken, whether or not they are in the
//! control record yet.
//!
//! What is written comes back with the readings; until then an act is applied on top of each of them.

use super::names::NameRecord;
use super::{Fleet, Output};
use crate::domain::name::{DnsName, RegionId};
use crate::domain::operator::{ActRefusal, OperatorAct, OperatorState, Order};
use crate::domain::plan::{Generation, Refusal};
use crate::domain::time::Time;
use crate::domain::votes::Verdict;
use serde::{Deserialize, Serialize};

/// Acts on one name that may wait to be written. More are refused.
const WAITING_MAX: usize = 64;

/// An act that the control record, as last read, does not hold yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) act: OperatorAct,
    /// The generation that holds it, once written.
    written: Option<Generation>,
}

impl Fleet {
    /// Takes an act whole, for each of its names, or refuses it.
    pub(super) fn operate(&mut self, act: &OperatorAct, now: Time, outputs: &mut Vec<Output>) {
        let result = self.judge(act, now);
        if result.is_ok() {
            for name in &act.names {
                if let Some(record) = self.names.get_mut(name) {
                    record.waiting.retain(|earlier| !act.order.supersedes(&earlier.act.order));
                    record.waiting.push(Waiting { act: act.clone(), written: None });
                    record.overlay();
                }
            }
            self.planned_at = None;
            self.dirty = true;
        }
        outputs.push(Output::Operated { id: act.id, result });
    }

    fn judge(&self, act: &OperatorAct, now: Time) -> Result<(), ActRefusal> {
        if let Order::Override { rule, .. } = &act.order
            && !Refusal::ALL.iter().any(|known| known.as_str() == rule.as_str() && known.overridable())
        {
            return Err(ActRefusal::UnknownRule(rule.clone()));
        }
        for name in &act.names {
            let unknown = || ActRefusal::UnknownName(name.clone());
            let policy = self.policy.names.get(name).ok_or_else(unknown)?;
            let record = self.names.get(name).ok_or_else(unknown)?;
            // A drain may outlive its region in the configuration, and must not meet it when it returns.
            let known = |region: &RegionId| match &act.order {
                Order::Undrain { .. } if record.operator.drains.contains_key(region) => true,
                _ => policy.regions().contains(region),
            };
            if let Order::Drain { region, .. } | Order::Undrain { region } = &act.order
                && !known(region)
            {
                return Err(ActRefusal::UnknownRegion { name: name.clone(), region: region.clone() });
            }
            if let Order::Drain { region, .. } = &act.order
                && act.force.is_none()
            {
                self.enough_left(name, record, region, now)?;
            }
            if record.waiting.len() >= WAITING_MAX {
                return Err(ActRefusal::TooMany(name.clone()));
            }
        }
        Ok(())
    }

    /// Whether enough regions are up and not drained without this one.
    fn enough_left(
        &self,
        name: &DnsName,
        record: &NameRecord,
        region: &RegionId,
        now: Time,
    ) -> Result<(), ActRefusal> {
        let Some(policy) = self.policy.names.get(name) else { return Ok(()) };
        if record.operator.is_drained(region, now) {
            return Ok(());
        }
        let up = |other: &&RegionId| {
            *other != region
                && record.verdicts.get(*other) == Some(&Verdict::Up)
                && !record.operator.is_drained(other, now)
        };
        let left = policy.regions().into_iter().filter(up).count();
        let wanted = match record.operator.overridden(Refusal::MinLive, now) {
            true => 1,
            false => self.policy.failover.min_live.max(1),
        };
        if left >= wanted { Ok(()) } else { Err(ActRefusal::TooFewLeft { name: name.clone(), left, wanted }) }
    }
}

impl NameRecord {
    /// Puts what is not in the control record yet on top of what was read.
    pub(super) fn overlay(&mut self) {
        let read = self.state.as_ref().map(|state| state.operator.clone());
        self.operator = read.unwrap_or_default();
        for waiting in &self.waiting {
            self.operator.apply(&waiting.act);
        }
    }

    /// The control record holds an act from this generation on.
    pub(super) fn act_written(&mut self, id: u64, generation: Generation) {
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.act.id == id) {
            waiting.written = Some(generation);
        }
        self.forget_written();
    }

    /// Acts that the reading holds need no help any more.
    pub(super) fn forget_written(&mut self) {
        let read = self.generation();
        self.waiting.retain(|waiting| waiting.written.is_none_or(|written| read < Some(written)));
        self.overlay();
    }

    /// What plans go by. A freeze holds while either the record or an operator here says so: what is
    /// thawed only here is still frozen for the other writers.
    pub(super) fn operator_for_plans(&self) -> OperatorState {
        let read = self.state.as_ref().and_then(|state| state.operator.freeze.clone());
        let freeze = self.operator.freeze.clone().or(read);
        OperatorState { freeze, ..self.operator.clone() }
    }
}
