//! Collects problems while sections are converted, and asks what conversions ask for again and again.

use crate::config::decode::{Damage, nearest};
use crate::config::file::{Key, Placed};
use crate::config::problems::Problem;
use crate::config::units::{Bytes, Whole, spell, spell_bytes};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

/// The problems so far.
pub(super) struct Report {
    problems: Vec<Problem>,
    damage: Damage,
    /// The end of the text: where a missing section could be added.
    end: Range<usize>,
}

/// Names that other parts of the file may refer to.
pub(super) struct Known {
    /// What they are: "region", "service".
    pub(super) kind: &'static str,
    /// The section that defines them.
    pub(super) section: &'static str,
    pub(super) names: BTreeSet<String>,
}

impl Report {
    pub(super) fn new(text: &str, damage: Damage, problems: Vec<Problem>) -> Self {
        let end = text.trim_end().len();
        Self { problems, damage, end: end..end }
    }

    pub(super) fn add(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Whether any key of this name was there but wrong.
    pub(super) fn damaged(&self, key: &str) -> bool {
        self.damage.named(key)
    }

    /// Whether this key of that table was there but wrong.
    pub(super) fn damaged_at(&self, table: &Range<usize>, key: &str) -> bool {
        self.damage.at(table, key)
    }

    /// Whether any key of that table was there but wrong.
    pub(super) fn damaged_inside(&self, table: &Range<usize>) -> bool {
        self.damage.inside(table)
    }

    /// Tells that a section is missing, at the end of the file, where it could be added.
    pub(super) fn missing_section(&mut self, section: &str, why: &str, right: &str) {
        if !self.damage.named(section) {
            let problem = Problem::at(&self.end, why).here("missing");
            self.add(problem.right(format!("expected {right}")));
        }
    }

    /// The value of a key that must be there; `example` is a right line.
    pub(super) fn required<T: Clone>(
        &mut self,
        section: &Range<usize>,
        key: &str,
        value: &Key<T>,
        example: &str,
    ) -> Option<T> {
        self.present(section, key, value.is_some(), example);
        value.as_ref().map(|placed| placed.value.clone())
    }

    /// Tells that a key is missing, unless it is there or was there but wrong.
    pub(super) fn present(&mut self, section: &Range<usize>, key: &str, there: bool, example: &str) {
        if !there && !self.damage.at(section, key) {
            let problem = Problem::at(section, format!("`{key}` is missing")).here("in this table");
            self.add(problem.right(format!("expected a line such as {example}")));
        }
    }

    /// A duration within a range; the default when it is absent or out of range.
    pub(super) fn duration(
        &mut self,
        path: &str,
        value: &Key<Duration>,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        let shown = value.as_ref().map(|placed| spell(placed.value)).unwrap_or_default();
        let right = format!("{} to {}", spell(*range.start()), spell(*range.end()));
        self.within(path, value, range, default, &shown, &right)
    }

    /// A number of bytes within a range; the default when it is absent or out of range.
    pub(super) fn bytes(
        &mut self,
        path: &str,
        value: &Key<Bytes>,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> u64 {
        let value = value.as_ref().map(|p| Placed { value: p.value.0, span: p.span.clone() });
        let shown = value.as_ref().map(|placed| spell_bytes(placed.value)).unwrap_or_default();
        let right = format!("{} to {}", spell_bytes(*range.start()), spell_bytes(*range.end()));
        self.within(path, &value, range, default, &shown, &right)
    }

    /// A whole number within a range; the default when it is absent or out of range.
    pub(super) fn whole(
        &mut self,
        path: &str,
        value: &Key<Whole>,
        range: RangeInclusive<u32>,
        default: u32,
    ) -> u32 {
        let value = value.as_ref().map(|p| Placed { value: p.value.0, span: p.span.clone() });
        self.number(path, &value, range, default)
    }

    /// A number within a range; the default when it is absent or out of range.
    pub(super) fn number<T: PartialOrd + Copy + Display>(
        &mut self,
        path: &str,
        value: &Key<T>,
        range: RangeInclusive<T>,
        default: T,
    ) -> T {
        let shown = value.as_ref().map(|placed| placed.value.to_string()).unwrap_or_default();
        let right = format!("{} to {}", range.start(), range.end());
        self.within(path, value, range, default, &shown, &right)
    }

    fn within<T: PartialOrd + Copy>(
        &mut self,
        path: &str,
        value: &Key<T>,
        range: RangeInclusive<T>,
        default: T,
        shown: &str,
        right: &str,
    ) -> T {
        let Some(placed) = value else { return default };
        if range.contains(&placed.value) {
            return placed.value;
        }
        let problem = Problem::at(&placed.span, format!("`{path}` is out of range")).here(shown);
        self.add(problem.right(format!("expected {right}")));
        default
    }

    /// Whether a name is defined; an unknown one is told with the nearest known one.
    pub(super) fn refers<T: Display>(&mut self, known: &Known, placed: &Placed<T>) -> bool {
        let name = &placed.value.to_string();
        if known.names.contains(name) {
            return true;
        }
        // A wrong definition was told already.
        if !self.damage.named(name) && !self.damage.named(known.section) {
            self.add(known.unknown(name, |wrong| Problem::at(&placed.span, wrong)));
        }
        false
    }
}

impl Known {
    /// The problem that `name` is not defined.
    pub(super) fn unknown(&self, name: &str, problem: impl Fn(String) -> Problem) -> Problem {
        let names = || self.names.iter().map(String::as_str);
        let problem = problem(format!("there is no {} `{name}`", self.kind));
        let problem = match nearest(name, names()) {
            Some(meant) => problem.here(format!("did you mean `{meant}`?")),
            None => problem.here(format!("not in [{}]", self.section)),
        };
        if names().next().is_none() {
            return problem.right(format!("expected a {} that [{}] defines", self.kind, self.section));
        }
        problem.right(format!("expected one of {}", names().collect::<Vec<_>>().join(", ")))
    }
}
