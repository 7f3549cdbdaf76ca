//! What is said between the command line and the admin listener, as JSON.

use super::{Account, Progress};
use crate::domain::name::{DnsName, RegionId, RuleName};
use crate::domain::operator::{OperatorAct, Order, Said};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Characters of a reason. The control record holds 4000 in all.
pub const REASON_MAX: usize = 200;
/// The longest that a rule may be set aside by one act.
pub const OVERRIDE_MAX: Duration = Duration::from_secs(24 * 3600);
/// The longest end of a drain; one without an end has none.
const DRAIN_MAX: Duration = Duration::from_secs(30 * 86_400);
/// How long `force` sets `min_live` aside when the drain itself has no end.
const FORCE: Duration = Duration::from_secs(3600);

/// The body of `POST /operator/<act>`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// For `drain` and `undrain`.
    #[serde(default)]
    pub region: Option<RegionId>,
    /// For `override` and `clear`.
    #[serde(default)]
    pub rule: Option<RuleName>,
    /// None: all names that the act can be meant for.
    #[serde(default)]
    pub names: BTreeSet<DnsName>,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub for_seconds: Option<u64>,
    /// For `drain`: against `min_live`.
    #[serde(default)]
    pub force: bool,
}

/// The answer to it, and to `GET /operator/acts/<id>`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answer {
    pub id: String,
    pub act: String,
    pub operator: String,
    pub names: BTreeMap<DnsName, Progress>,
}

impl From<&Account> for Answer {
    fn from(account: &Account) -> Self {
        Self {
            id: format!("{:016x}", account.act.id),
            act: account.act.order.as_str().to_owned(),
            operator: account.act.said.by.clone(),
            names: account.progress.clone(),
        }
    }
}

/// What an act is made of, besides what was asked.
#[derive(Debug)]
pub struct Circumstances<'a> {
    pub id: u64,
    pub by: &'a str,
    /// Since 1970, in whole milliseconds.
    pub wall: Duration,
    /// Every configured name with its regions.
    pub names: &'a BTreeMap<DnsName, BTreeSet<RegionId>>,
}

impl Asked {
    /// The act that is asked for by its name, such as `drain`.
    ///
    /// # Errors
    /// What is missing, too long, or not for this act.
    pub fn into_act(self, kind: &str, around: &Circumstances<'_>) -> Result<OperatorAct<Duration>, String> {
        let lasts = self.for_seconds.map(Duration::from_secs);
        let end = |most: Duration| match lasts {
            Some(lasts) if lasts.is_zero() || lasts > most => {
                Err(format!("it lasts 1 to {} s at most, not {}", most.as_secs(), lasts.as_secs()))
            }
            lasts => Ok(lasts.map(|lasts| around.wall + lasts)),
        };
        let region = || self.region.clone().ok_or("`region` is missing: which one?".to_owned());
        let rule = || self.rule.clone().ok_or("`rule` is missing: which one?".to_owned());
        let order = match kind {
            "drain" => Order::Drain { region: region()?, expires_at: end(DRAIN_MAX)? },
            "undrain" => Order::Undrain { region: region()? },
            "freeze" => Order::Freeze,
            "thaw" => Order::Thaw,
            "override" => {
                let expires_at = end(OVERRIDE_MAX)?;
                let expires_at = expires_at.ok_or("an override needs an end: `for_seconds`, --for")?;
                Order::Override { rule: rule()?, expires_at }
            }
            "clear" => Order::Clear { rule: rule()? },
            other => return Err(format!("there is no act {other:?}")),
        };
        let (is_drain, is_override) =
            (matches!(order, Order::Drain { .. }), matches!(order, Order::Override { .. }));
        let of_region = is_drain || matches!(order, Order::Undrain { .. });
        let of_rule = is_override || matches!(order, Order::Clear { .. });
        for (key, there, fits) in [
            ("region", self.region.is_some(), of_region),
            ("rule", self.rule.is_some(), of_rule),
            ("for_seconds", lasts.is_some(), is_drain || is_override),
            ("force", self.force, is_drain),
        ] {
            if there && !fits {
                return Err(format!("`{key}` is not for {kind}"));
            }
        }
        let reason = self.reason.trim().to_owned();
        if reason.is_empty() && (is_drain || is_override || matches!(order, Order::Freeze)) {
            return Err(format!("{kind} needs a reason: `reason`, --reason"));
        }
        let length = reason.chars().count();
        if length > REASON_MAX || reason.chars().any(char::is_control) {
            return Err(format!("a reason has {REASON_MAX} printable characters at most, this one {length}"));
        }
        let names = self.names(&order, around)?;
        let force = self.force.then(|| around.wall + lasts.unwrap_or(FORCE).min(OVERRIDE_MAX));
        let said = Said { reason, by: around.by.to_owned(), since: Some(around.wall) };
        Ok(OperatorAct { id: around.id, names, order, said, force })
    }

    /// Without any stated: all, of a drain those that the region is one of.
    fn names(
        &self,
        order: &Order<Duration>,
        around: &Circumstances<'_>,
    ) -> Result<BTreeSet<DnsName>, String> {
        if !self.names.is_empty() {
            return Ok(self.names.clone());
        }
        let names: BTreeSet<DnsName> = match order {
            Order::Drain { region, .. } | Order::Undrain { region } => {
                let mine = around.names.iter().filter(|(_, regions)| regions.contains(region));
                mine.map(|(name, _)| name.clone()).collect()
            }
            _ => around.names.keys().cloned().collect(),
        };
        if names.is_empty() {
            return Err(match order.object() {
                Some(object) if matches!(order, Order::Drain { .. } | Order::Undrain { .. }) => {
                    format!("no name of the configuration has the region {object}")
                }
                _ => "there are no [names] in the configuration".to_owned(),
            });
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_does_not_fit_is_named() {
        let (name, region) = (DnsName::parse("www.example.com").unwrap(), RegionId::parse("a").unwrap());
        let names = BTreeMap::from([(name.clone(), BTreeSet::from([region.clone()]))]);
        let around = Circumstances { id: 1, by: "alice", wall: Duration::from_secs(100), names: &names };
        let base = || Asked { reason: "bad deploy".to_owned(), ..Asked::default() };
        let drain = || Asked { region: Some(region.clone()), ..base() };
        let rule = RuleName::parse("min_live").unwrap();
        for (kind, asked, wrong) in [
            ("drain", base(), "`region` is missing"),
            ("drain", Asked { reason: " ".to_owned(), ..drain() }, "needs a reason"),
            ("drain", Asked { reason: "x".repeat(201), ..drain() }, "200 printable"),
            ("drain", Asked { reason: "a\nb".to_owned(), ..drain() }, "200 printable"),
            ("drain", Asked { for_seconds: Some(0), ..drain() }, "1 to 2592000 s"),
            ("drain", Asked { region: Some(RegionId::parse("z").unwrap()), ..base() }, "has the region z"),
            ("undrain", Asked { force: true, ..drain() }, "`force` is not for undrain"),
            ("freeze", drain(), "`region` is not for freeze"),
            ("override", Asked { rule: Some(rule.clone()), ..base() }, "needs an end"),
            ("override", Asked { for_seconds: Some(90_000), ..base() }, "86400 s"),
            ("explode", base(), "no act"),
        ] {
            let problem = asked.into_act(kind, &around).unwrap_err();
            assert!(problem.contains(wrong), "{kind}: {problem}");
        }
        let act = Asked { force: true, ..drain() }.into_act("drain", &around).unwrap();
        assert_eq!(act.names, BTreeSet::from([name]));
        assert_eq!(act.force, Some(Duration::from_secs(3700)));
        let over = Asked { rule: Some(rule.clone()), for_seconds: Some(60), ..base() };
        let expires_at = Duration::from_secs(160);
        assert_eq!(over.into_act("override", &around).unwrap().order, Order::Override { rule, expires_at });
    }
}
