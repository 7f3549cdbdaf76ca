//! The rules by name, and what each of them has to say of a change.

use crate::domain::name::{EntryId, RegionId};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};

/// The rule that forbids a change now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// The records do not match the configuration: an entry is missing or foreign.
    Foreign,
    /// Views disagree on membership or policy.
    Disagreement,
    /// Fewer fresh votes than a majority of the configured voters.
    NoMajority,
    /// A majority sees a region down, but nothing from the region confirms it.
    NoEvidence,
    /// The control record says freeze.
    Frozen,
    /// Fewer live regions than `min_live`.
    MinLive,
    /// An entry's users would have no region that lives.
    NeverEmpty,
    /// Users would be left on fewer regions than `require_operator_below`.
    NeedsOperator,
    /// A step of a ramp would move more than `max_shift`.
    MaxShift,
    /// A step would send a region more than it can serve while others have room.
    AboveCapacity,
    /// The last change is younger than the hold-down.
    HoldDown,
    /// The last hour has seen `max_changes_per_hour`.
    MaxChangesPerHour,
    /// It would give back what another region's plan took away within the hold-down.
    UndoesOther,
    /// This edge has just started, or did not run for a while: it must look again first.
    JustWoke,
    /// Another pod of the region holds the lease: that one proposes.
    NotHolder,
    /// Another region ranks before this one and is given time to write.
    NotWriter,
    /// The last plan failed or met a conflict: the records must be read again first.
    Unread,
}

impl Refusal {
    /// In the order in which they are asked: the first that refuses is the refusal that is shown.
    pub const ALL: [Self; 17] = [
        Self::Foreign,
        Self::Disagreement,
        Self::NoMajority,
        Self::NoEvidence,
        Self::Frozen,
        Self::MinLive,
        Self::NeverEmpty,
        Self::NeedsOperator,
        Self::MaxShift,
        Self::AboveCapacity,
        Self::HoldDown,
        Self::MaxChangesPerHour,
        Self::UndoesOther,
        Self::JustWoke,
        Self::NotHolder,
        Self::NotWriter,
        Self::Unread,
    ];

    /// Whether an operator may set the rule aside for a while.
    ///
    /// The others say what is not known or whose turn it is; a freeze is thawed; and nobody may empty a set
    /// or write past the fence, foreign records or a reading that is due.
    pub const fn overridable(self) -> bool {
        match self {
            Self::NoEvidence
            | Self::MinLive
            | Self::NeedsOperator
            | Self::MaxShift
            | Self::AboveCapacity
            | Self::HoldDown
            | Self::MaxChangesPerHour
            | Self::UndoesOther => true,
            Self::Foreign
            | Self::Disagreement
            | Self::NoMajority
            | Self::Frozen
            | Self::NeverEmpty
            | Self::JustWoke
            | Self::NotHolder
            | Self::NotWriter
            | Self::Unread => false,
        }
    }

    /// The rule as metrics and logs spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Disagreement => "disagreement",
            Self::NoMajority => "no_majority",
            Self::NoEvidence => "no_evidence",
            Self::Frozen => "frozen",
            Self::MinLive => "min_live",
            Self::NeverEmpty => "never_empty",
            Self::NeedsOperator => "needs_operator",
            Self::MaxShift => "max_shift",
            Self::AboveCapacity => "above_capacity",
            Self::HoldDown => "hold_down",
            Self::MaxChangesPerHour => "max_changes_per_hour",
            Self::UndoesOther => "undoes_other",
            Self::JustWoke => "just_woke",
            Self::NotHolder => "not_holder",
            Self::NotWriter => "not_writer",
            Self::Unread => "unread",
        }
    }
}

/// One rule's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub rule: Refusal,
    pub outcome: CheckOutcome,
}

/// What a rule says of the change that the verdicts call for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum CheckOutcome {
    Passed,
    /// It has no say here: nothing is to be changed, or it does not bind such a change.
    NotApplicable,
    Refused(Detail),
    /// It would refuse, and an operator has set it aside.
    Overridden(Detail),
}

impl CheckOutcome {
    /// The outcome as `explain` and metrics spell it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::NotApplicable => "not_applicable",
            Self::Refused(_) => "refused",
            Self::Overridden(_) => "overridden",
        }
    }

    /// Why it refuses or would.
    pub const fn detail(&self) -> Option<&Detail> {
        match self {
            Self::Refused(detail) | Self::Overridden(detail) => Some(detail),
            Self::Passed | Self::NotApplicable => None,
        }
    }
}

/// The numbers behind a refusal; they change only when the refusal does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Detail {
    /// The name of the rule says it all.
    Plain,
    /// In the operator's words.
    Said(String),
    /// Fewer regions than it takes.
    Fewer {
        has: usize,
        needs: usize,
    },
    Region(RegionId),
    /// The region, which stands before this one, would change nothing.
    Content(RegionId),
    Entry(EntryId),
    /// Records that something else has changed.
    Records(usize),
    /// Refused until then.
    Until(Time),
    /// So many changes already; the next one is allowed then.
    TooMany {
        has: usize,
        until: Time,
    },
    /// Requests a second that a region would get.
    Above {
        region: RegionId,
        load_rps: f64,
        capacity_rps: f64,
    },
}

impl Detail {
    /// The numbers in words, at `now`.
    pub fn text(&self, now: Time) -> String {
        let wait = |until: &Time| format!("{} s to go", until.since(now).as_secs_f64().ceil());
        match self {
            Self::Plain => String::new(),
            Self::Said(reason) => reason.clone(),
            Self::Fewer { has, needs } => format!("{has} of {needs} regions"),
            Self::Region(region) => region.to_string(),
            Self::Content(region) => format!("{region} stands before this region and would change nothing"),
            Self::Entry(entry) => format!("entry {entry}"),
            Self::Records(count) => format!("{count} records are not as written: see `proxima dns plan`"),
            Self::Until(until) => wait(until),
            Self::TooMany { has, until } => format!("{has} changes, {}", wait(until)),
            Self::Above { region, load_rps, capacity_rps } => {
                format!("{region} would get {load_rps:.0} requests a second and can serve {capacity_rps:.0}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_may_override_is_as_documented() {
        let firm: Vec<&str> =
            Refusal::ALL.into_iter().filter(|rule| !rule.overridable()).map(Refusal::as_str).collect();
        let documented = [
            "foreign",
            "disagreement",
            "no_majority",
            "frozen",
            "never_empty",
            "just_woke",
            "not_holder",
            "not_writer",
            "unread",
        ];
        assert_eq!(firm, documented);
    }

    #[test]
    fn numbers_are_told_in_words() {
        let now = Time::from_millis(10_000);
        let until = Time::from_millis(12_500);
        for (detail, text) in [
            (Detail::Fewer { has: 1, needs: 2 }, "1 of 2 regions"),
            (Detail::Until(until), "3 s to go"),
            (Detail::TooMany { has: 12, until }, "12 changes, 3 s to go"),
        ] {
            assert_eq!(detail.text(now), text);
        }
    }
}
