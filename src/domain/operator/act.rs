//! What an operator asks for. Acts are commands, not states: applied to whatever is there, in their
//! order, and twice is as once.

use super::{Drain, Freeze, OperatorState, Override, Said};
use crate::domain::name::{DnsName, RegionId, RuleName};
use crate::domain::plan::Refusal;
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One command for some names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorAct<T = Time> {
    /// Random; tells it from others.
    pub id: u64,
    pub names: BTreeSet<DnsName>,
    pub order: Order<T>,
    pub said: Said,
    /// `Some`: `min_live` shall not stand against it until then.
    pub force: Option<T>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order<T = Time> {
    /// `expires_at`: `None` until it is undrained.
    Drain {
        region: RegionId,
        expires_at: Option<T>,
    },
    Undrain {
        region: RegionId,
    },
    Freeze,
    Thaw,
    Override {
        rule: RuleName,
        expires_at: T,
    },
    Clear {
        rule: RuleName,
    },
}

impl<T> Order<T> {
    /// The command as metrics, logs and the command line spell it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Drain { .. } => "drain",
            Self::Undrain { .. } => "undrain",
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
            Self::Override { .. } => "override",
            Self::Clear { .. } => "clear",
        }
    }

    /// The region or the rule that it is about.
    pub fn object(&self) -> Option<&str> {
        match self {
            Self::Drain { region, .. } | Self::Undrain { region } => Some(region.as_str()),
            Self::Override { rule, .. } | Self::Clear { rule } => Some(rule.as_str()),
            Self::Freeze | Self::Thaw => None,
        }
    }

    /// Whether it leaves nothing of what `earlier` did: the later word of two on one thing.
    pub fn supersedes<U>(&self, earlier: &Order<U>) -> bool {
        let kind = |is_drain: bool, is_freeze: bool| (is_drain, is_freeze);
        let of = |name: &str| kind(name.ends_with("drain"), matches!(name, "freeze" | "thaw"));
        of(self.as_str()) == of(earlier.as_str()) && self.object() == earlier.object()
    }
}

impl<T: Copy> OperatorAct<T> {
    /// The same with other moments.
    pub fn map<U>(&self, to: impl Fn(T) -> U) -> OperatorAct<U> {
        let order = match &self.order {
            Order::Drain { region, expires_at } => {
                Order::Drain { region: region.clone(), expires_at: expires_at.map(&to) }
            }
            Order::Undrain { region } => Order::Undrain { region: region.clone() },
            Order::Freeze => Order::Freeze,
            Order::Thaw => Order::Thaw,
            Order::Override { rule, expires_at } => {
                Order::Override { rule: rule.clone(), expires_at: to(*expires_at) }
            }
            Order::Clear { rule } => Order::Clear { rule: rule.clone() },
        };
        let force = self.force.map(&to);
        OperatorAct { id: self.id, names: self.names.clone(), order, said: self.said.clone(), force }
    }
}

impl<T: Copy> OperatorState<T> {
    /// Carries out a command.
    pub fn apply(&mut self, act: &OperatorAct<T>) {
        let said = act.said.clone();
        match &act.order {
            Order::Drain { region, expires_at } => {
                self.drains.insert(region.clone(), Drain { said, expires_at: *expires_at });
            }
            Order::Undrain { region } => drop(self.drains.remove(region)),
            Order::Freeze => self.freeze = Some(Freeze { said }),
            Order::Thaw => self.freeze = None,
            Order::Override { rule, expires_at } => {
                self.overrides.insert(rule.clone(), Override { said, expires_at: *expires_at });
            }
            Order::Clear { rule } => drop(self.overrides.remove(rule)),
        }
        if let Some(expires_at) = act.force {
            let over = Override { said: act.said.clone(), expires_at };
            self.overrides.insert(RuleName::of(Refusal::MinLive), over);
        }
    }
}

/// Why an act is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ActRefusal {
    #[error("there is no name {0} in the configuration")]
    UnknownName(DnsName),
    #[error("region {region} is not one of {name}")]
    UnknownRegion { name: DnsName, region: RegionId },
    #[error("{0} is no rule that can be overridden")]
    UnknownRule(RuleName),
    #[error(
        "rule `min_live`: {name} would be left with {left} region(s) that are up and not drained, {wanted} at \
         least are wanted; --force overrides the rule"
    )]
    TooFewLeft { name: DnsName, left: usize, wanted: usize },
    #[error("too many acts on {0} wait to be written")]
    TooMany(DnsName),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(order: Order) -> OperatorAct {
        let said = Said::new("bad deploy", "alice");
        OperatorAct { id: 1, names: BTreeSet::new(), order, said, force: None }
    }

    #[test]
    fn twice_is_as_once_and_the_later_word_on_one_thing_stands() {
        let region = |name: &str| RegionId::parse(name).unwrap();
        let rule = RuleName::of(Refusal::HoldDown);
        let at = Time::from_millis(5);
        let drain = |name: &str| Order::Drain { region: region(name), expires_at: None };
        let undrain = |name: &str| Order::Undrain { region: region(name) };
        let over = Order::Override { rule: rule.clone(), expires_at: at };
        for (order, inverse) in
            [(drain("a"), undrain("a")), (Order::Freeze, Order::Thaw), (over, Order::Clear { rule })]
        {
            let mut state = OperatorState::default();
            state.apply(&act(order.clone()));
            let once = state.clone();
            assert_ne!(once, OperatorState::default(), "{order:?}");
            state.apply(&act(order.clone()));
            assert_eq!(state, once, "{order:?}");
            state.apply(&act(inverse.clone()));
            assert_eq!(state, OperatorState::default(), "{inverse:?}");
            assert!(inverse.supersedes(&order) && order.supersedes(&inverse));
        }
        assert!(!undrain("b").supersedes(&drain("a")) && !Order::<Time>::Thaw.supersedes(&drain("a")));
    }
}
