//! What a zone's servers shall answer by the records as they are, and whether they do. Pure.
//!
//! An answer that leads to no region of the set is wrong at once. Shares are
//! judged by how far chance reaches: four standard deviations of a draw.

use super::layout::{Kind, Layout};
use crate::config::Target;
use crate::domain::name::{DnsName, EntryId, RegionId};
use crate::domain::weights::WeightedSet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One thing to ask every server, several times where shares count.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    pub name: String,
    pub kind: Kind,
    pub wanted: BTreeMap<RegionId, Wanted>,
    /// Whether each region's share of the answers counts.
    pub shares: bool,
}

/// What a region has in the answers to a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// `None` when it is not known what its load balancer's name leads to.
    pub values: Option<BTreeSet<String>>,
    /// 0..=1.
    pub share: f64,
}

/// What load balancers' names lead to, where that is known.
pub type Resolved = BTreeMap<DnsName, BTreeSet<String>>;

/// All questions about a name with these sets.
pub fn questions(
    layout: &Layout,
    sets: &BTreeMap<EntryId, WeightedSet>,
    resolved: &Resolved,
) -> Vec<Question> {
    let mut questions = Vec::new();
    for kind in &layout.kinds {
        let wanted = |region: &RegionId, share: f64| {
            let values = layout.target(region).map(|target| values(target, *kind, resolved));
            (region.clone(), Wanted { values: values.unwrap_or_default(), share })
        };
        let mut anywhere = BTreeMap::new();
        for (entry, set) in sets {
            let regions: BTreeMap<RegionId, Wanted> =
                set.shares().iter().map(|(region, share)| wanted(region, *share)).collect();
            anywhere.extend(regions.clone());
            let name = layout.set_name(entry);
            questions.push(Question { name, kind: *kind, wanted: regions, shares: set.iter().count() > 1 });
        }
        // The name itself leads to one of the sets: to which depends on where it is asked from.
        if !layout.aliases().is_empty() {
            let name = layout.name.as_str().to_owned();
            questions.push(Question { name, kind: *kind, wanted: anywhere, shares: false });
        }
    }
    questions
}

fn values(target: &Target, kind: Kind, resolved: &Resolved) -> Option<BTreeSet<String>> {
    match target {
        Target::Addresses(addresses) => {
            let of_kind = addresses.iter().filter(|address| address.is_ipv4() == (kind == Kind::A));
            Some(of_kind.map(ToString::to_string).collect())
        }
        Target::Cname(name) => Some(BTreeSet::from([name.as_str().to_owned()])),
        Target::Alias(balancer) => {
            let all = resolved.get(&balancer.name)?;
            let v4 = |text: &&String| text.parse::<std::net::Ipv4Addr>().is_ok() == (kind == Kind::A);
            Some(all.iter().filter(v4).cloned().collect())
        }
    }
}

/// What one server answered to one question.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    pub asked: u32,
    pub regions: BTreeMap<RegionId, u32>,
    /// Answers that lead to no region that has a share.
    pub foreign: BTreeMap<String, u32>,
    /// Answers of a load balancer whose addresses are not known.
    pub unknown: u32,
}

impl Tally {
    /// Counts an answer.
    pub fn count(&mut self, question: &Question, answer: &BTreeSet<String>) {
        self.asked += 1;
        let of = |wanted: &Wanted| {
            wanted.values.as_ref().is_some_and(|values| !answer.is_empty() && answer.is_subset(values))
        };
        if let Some((region, _)) = question.wanted.iter().find(|(_, wanted)| of(wanted)) {
            *self.regions.entry(region.clone()).or_default() += 1;
        } else if !answer.is_empty() && question.wanted.values().any(|wanted| wanted.values.is_none()) {
            self.unknown += 1;
        } else {
            let text = answer.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
            let text = if text.is_empty() { "nothing".to_owned() } else { text };
            *self.foreign.entry(text).or_default() += 1;
        }
    }

    /// What is wrong; nothing when it answers what it shall. Regions in `closed` have an unhealthy
    /// check: Route 53 leaves them out as long as another one is healthy.
    pub fn problems(&self, question: &Question, closed: &BTreeSet<RegionId>) -> Vec<String> {
        let mut problems: Vec<String> =
            self.foreign.iter().map(|(answer, count)| format!("{count} times {answer}")).collect();
        if !question.shares || self.unknown > 0 || self.asked == 0 {
            return problems;
        }
        let open = |region: &RegionId| !closed.contains(region);
        let all_closed = !question.wanted.keys().any(open);
        let counted: Vec<(&RegionId, &Wanted)> =
            question.wanted.iter().filter(|(region, _)| all_closed || open(region)).collect();
        let whole: f64 = counted.iter().map(|(_, wanted)| wanted.share).sum();
        let asked = f64::from(self.asked);
        for (region, wanted) in counted {
            let share = wanted.share / whole;
            let count = self.regions.get(region).copied().unwrap_or_default();
            let reach = 4.0 * (share * (1.0 - share) / asked).sqrt() + 1.0 / asked;
            if (f64::from(count) / asked - share).abs() > reach {
                problems.push(format!(
                    "{region} in {count} of {} answers, want about {:.0} %",
                    self.asked,
                    share * 100.0
                ));
            }
        }
        problems
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let regions = self.regions.iter().map(|(region, count)| format!("{region} {count}"));
        let foreign = self.foreign.iter().map(|(answer, count)| format!("({answer}) {count}"));
        let unknown = (self.unknown > 0).then(|| format!("load balancers {}", self.unknown));
        let parts: Vec<String> = regions.chain(unknown).chain(foreign).collect();
        write!(f, "{} of {}", parts.join(", "), self.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str) -> RegionId {
        RegionId::parse(name).unwrap()
    }

    fn half_and_half() -> Question {
        let wanted = |value: &str| Wanted { values: Some(BTreeSet::from([value.to_owned()])), share: 0.5 };
        Question {
            name: "all.example.test".to_owned(),
            kind: Kind::A,
            wanted: BTreeMap::from([(region("a"), wanted("10.0.0.1")), (region("b"), wanted("10.0.0.2"))]),
            shares: true,
        }
    }

    fn tally(of: &[(&str, u32)]) -> Tally {
        let mut tally = Tally::default();
        for (answer, times) in of {
            let answer = answer.split(' ').filter(|v| !v.is_empty()).map(str::to_owned).collect();
            (0..*times).for_each(|_| tally.count(&half_and_half(), &answer));
        }
        tally
    }

    #[test]
    fn shares_are_judged_by_how_far_chance_reaches_and_strangers_at_once() {
        let none = BTreeSet::new();
        let closed = BTreeSet::from([region("a")]);
        let both = BTreeSet::from([region("a"), region("b")]);
        for (answers, closed, wrong) in [
            (&[("10.0.0.1", 50), ("10.0.0.2", 50)][..], &none, 0),
            (&[("10.0.0.1", 40), ("10.0.0.2", 60)], &none, 0),
            (&[("10.0.0.1", 10), ("10.0.0.2", 90)], &none, 2),
            (&[("10.0.0.2", 100)], &none, 2),
            (&[("10.0.0.2", 100)], &closed, 0),
            (&[("10.0.0.1", 100)], &closed, 1),
            (&[("10.0.0.1", 50), ("10.0.0.2", 50)], &both, 0),
            (&[("10.0.0.1", 50), ("10.0.0.2", 49), ("10.0.0.3", 1)], &none, 1),
            (&[("10.0.0.1 10.0.0.2", 1)], &none, 1),
            (&[("", 1)], &none, 1),
            (&[("10.0.0.1", 1)], &none, 0),
        ] {
            let problems = tally(answers).problems(&half_and_half(), closed);
            assert_eq!(problems.len(), wrong, "{answers:?}, closed {closed:?}: {problems:?}");
        }
    }

    #[test]
    fn a_load_balancer_whose_addresses_are_not_known_may_answer_anything_but_nothing() {
        let mut question = half_and_half();
        question.wanted.values_mut().for_each(|wanted| wanted.values = None);
        let mut tally = Tally::default();
        tally.count(&question, &BTreeSet::from(["198.51.100.1".to_owned()]));
        assert_eq!((tally.unknown, tally.problems(&question, &BTreeSet::new())), (1, Vec::new()));
        tally.count(&question, &BTreeSet::new());
        assert_eq!(tally.problems(&question, &BTreeSet::new()), ["1 times nothing"]);
    }
}
