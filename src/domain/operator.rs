//! The operator's word: what is frozen, drained or overridden for a DNS name, by whom and why.
//!
//! One shape for both clocks. In the core moments are [`Time`]; in the control record they
//! are wall clock, as a `Duration` since 1970. [`OperatorState::map`] turns one into the other.

use crate::domain::name::{RegionId, RuleName};
use crate::domain::plan::Refusal;
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

mod act;

pub use act::{ActRefusal, OperatorAct, Order};

/// Why something holds, and who said so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// In the operator's words; empty only where somebody edited the record by hand.
    pub reason: String,
    /// Name of the token or subject of the certificate; empty as above.
    pub by: String,
    /// Wall clock, since 1970, in whole milliseconds: for people, nothing is decided by it.
    pub since: Option<Duration>,
}

impl Said {
    pub fn new(reason: &str, by: &str) -> Self {
        Self { reason: reason.to_owned(), by: by.to_owned(), since: None }
    }
}

/// Nothing of the name may be changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    pub said: Said,
}

/// A region shall serve nobody of the name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain<T = Time> {
    pub said: Said,
    /// `None`: until it is undrained.
    pub expires_at: Option<T>,
}

/// A safety rule does not hold for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override<T = Time> {
    pub said: Said,
    pub expires_at: T,
}

/// All that operators have said of one DNS name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorState<T = Time> {
    pub freeze: Option<Freeze>,
    pub drains: BTreeMap<RegionId, Drain<T>>,
    /// By the name of the rule. Names that this build does not know are kept and have no effect.
    pub overrides: BTreeMap<RuleName, Override<T>>,
}

impl<T> Default for OperatorState<T> {
    fn default() -> Self {
        Self { freeze: None, drains: BTreeMap::new(), overrides: BTreeMap::new() }
    }
}

impl<T: Copy + PartialOrd> OperatorState<T> {
    pub fn is_frozen(&self) -> bool {
        self.freeze.is_some()
    }

    /// Whether the region is drained at `now`.
    pub fn is_drained(&self, region: &RegionId, now: T) -> bool {
        self.drains.get(region).is_some_and(|drain| drain.holds(now))
    }

    /// Regions that are drained at `now`.
    pub fn drained(&self, now: T) -> BTreeSet<RegionId> {
        let drained = self.drains.iter().filter(|(_, drain)| drain.holds(now));
        drained.map(|(region, _)| region.clone()).collect()
    }

    /// Whether an operator has set the rule aside at `now`.
    pub fn overridden(&self, rule: Refusal, now: T) -> bool {
        let found = self.overrides.iter().find(|(name, _)| name.as_str() == rule.as_str());
        found.is_some_and(|(_, over)| now < over.expires_at)
    }

    /// Leaves out what holds no longer at `now`.
    pub fn prune(&mut self, now: T) {
        self.drains.retain(|_, drain| drain.holds(now));
        self.overrides.retain(|_, over| now < over.expires_at);
    }

    /// The same with other moments.
    pub fn map<U>(&self, to: impl Fn(T) -> U) -> OperatorState<U> {
        let drain =
            |drain: &Drain<T>| Drain { said: drain.said.clone(), expires_at: drain.expires_at.map(&to) };
        let over = |over: &Override<T>| Override { said: over.said.clone(), expires_at: to(over.expires_at) };
        OperatorState {
            freeze: self.freeze.clone(),
            drains: self.drains.iter().map(|(region, d)| (region.clone(), drain(d))).collect(),
            overrides: self.overrides.iter().map(|(rule, o)| (rule.clone(), over(o))).collect(),
        }
    }
}

impl OperatorState {
    /// Drains without a reason or an end: what a hand edit of the control record can say.
    pub fn draining(regions: impl IntoIterator<Item = RegionId>) -> Self {
        let drains = regions.into_iter().map(|region| (region, Drain::default())).collect();
        Self { drains, ..Self::default() }
    }
}

impl<T: Copy + PartialOrd> Drain<T> {
    fn holds(&self, now: T) -> bool {
        self.expires_at.is_none_or(|at| now < at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drains_and_overrides_end_by_themselves() {
        let at = Time::from_millis;
        let (a, b) = (RegionId::parse("a").unwrap(), RegionId::parse("b").unwrap());
        let said = Said::new("bad deploy", "alice");
        let mut state = OperatorState {
            freeze: None,
            drains: BTreeMap::from([
                (a.clone(), Drain { said: said.clone(), expires_at: Some(at(10)) }),
                (b.clone(), Drain { said: said.clone(), expires_at: None }),
            ]),
            overrides: BTreeMap::from([(
                RuleName::of(Refusal::MinLive),
                Override { said, expires_at: at(20) },
            )]),
        };
        assert!(state.is_drained(&a, at(9)) && !state.is_drained(&a, at(10)));
        assert!(state.overridden(Refusal::MinLive, at(19)) && !state.overridden(Refusal::MinLive, at(20)));
        assert!(!state.overridden(Refusal::HoldDown, at(0)));
        assert_eq!(state.drained(at(15)), BTreeSet::from([b.clone()]));
        state.prune(at(20));
        assert_eq!((state.drains.keys().collect::<Vec<_>>(), state.overrides.len()), (vec![&b], 0));
    }
}
