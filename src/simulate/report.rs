//! What a run came to, for people and as JSON, and which expectations it did not meet.

use super::faults::{Expect, Scenario};
use super::record::{Hand, Record, Tally};
use super::run::Finished;
use crate::domain::plan::Refusal;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Parts of a run that errors are told for.
const PARTS: usize = 10;

/// Everything worth telling.
#[derive(Debug, Serialize)]
pub struct Report {
    pub title: String,
    pub seed: u64,
    pub seconds: f64,
    pub faults: Vec<String>,
    pub places: Vec<Row>,
    pub over_time: Vec<Row>,
    pub dns: Vec<DnsRow>,
    pub evacuations: Vec<Evacuation>,
    /// Seconds from the end of the last fault until all was at home.
    pub home_after: Option<f64>,
    /// How often which refusal, and which other event.
    pub refusals: BTreeMap<&'static str, u64>,
    pub events: BTreeMap<&'static str, u64>,
    pub violation: Option<String>,
    pub unmet: Vec<String>,
}

/// What users of a place, or at a time, saw.
#[derive(Debug, Serialize)]
pub struct Row {
    pub of: String,
    pub requests: f64,
    /// Share that failed, 0..=1.
    pub errors: f64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

/// A name's sets from a moment on.
#[derive(Debug, Serialize)]
pub struct DnsRow {
    pub seconds: f64,
    pub name: String,
    pub by: String,
    /// entry -> region -> weight.
    pub sets: BTreeMap<String, BTreeMap<String, u8>>,
}

/// A region that a fault calls to be left.
#[derive(Debug, Serialize)]
pub struct Evacuation {
    pub region: String,
    pub fault_at: f64,
    /// Seconds from the fault to the first edge's verdict, and to the last set without it.
    pub verdict_after: Option<f64>,
    pub evacuated_after: Option<f64>,
}

/// What a run may count, beside refusals.
const EVENTS: [&str; 18] = [
    "evacuations",
    "ramps",
    "proposals",
    "conflicts",
    "refused plans",
    "unanswered batches",
    "lost answers",
    "late writes",
    "expired plans",
    "throttled calls",
    "hand edits",
    "isolated",
    "verdicts down",
    "restarts",
    "panics",
    "gates closed",
    "poisoned requests",
    "overloads",
];

/// Everything that `sees` and `never` may name.
pub(super) fn events() -> Vec<&'static str> {
    Refusal::ALL.iter().map(|r| r.as_str()).chain(EVENTS).collect()
}

impl Row {
    fn new(of: String, tally: &Tally) -> Self {
        let millis = |d: Duration| d.as_secs_f64() * 1000.0;
        Self {
            of,
            requests: tally.answered + tally.failed,
            errors: tally.errors(),
            p50_ms: tally.quantile(0.5).map(millis),
            p99_ms: tally.quantile(0.99).map(millis),
        }
    }
}

impl Report {
    /// `record`: of the same run.
    pub fn new(scenario: &Scenario, finished: &Finished, record: &Record) -> Self {
        let cast = &scenario.cast;
        let parts = record.over_time(PARTS);
        let part = finished.lasted.as_secs_f64() / parts.len().max(1) as f64;
        let over_time = parts.iter().enumerate().map(|(index, tally)| {
            let from = part * index as f64;
            Row::new(format!("{from:.0} s to {:.0} s", from + part), tally)
        });
        let places = cast.users.iter().enumerate();
        let is_refusal = |what: &&str| Refusal::ALL.iter().any(|r| r.as_str() == *what);
        let (refusals, events) =
            finished.seen.iter().map(|(k, v)| (*k, *v)).partition(|(k, _)| is_refusal(k));
        let evacuations = evacuations(scenario, record);
        let home_after = record.home_at.map(|at| at.saturating_sub(scenario.calm_from()).as_secs_f64());
        let mut report = Self {
            title: scenario.title.clone(),
            seed: scenario.seed,
            seconds: finished.lasted.as_secs_f64(),
            faults: scenario.steps.iter().map(|step| step.shown(cast)).collect(),
            places: places
                .map(|(index, users)| Row::new(users.place.clone(), &record.place(index)))
                .collect(),
            over_time: over_time.collect(),
            dns: dns(scenario, record),
            evacuations,
            home_after,
            refusals,
            events,
            violation: finished.violation.as_ref().map(ToString::to_string),
            unmet: Vec::new(),
        };
        report.unmet = report.unmet(&scenario.expect, &record.all());
        report
    }

    /// Whether nothing was violated and all that was expected came out.
    pub fn held(&self) -> bool {
        self.violation.is_none() && self.unmet.is_empty()
    }

    fn unmet(&self, expect: &Expect, all: &Tally) -> Vec<String> {
        let mut unmet = Vec::new();
        let mut require = |holds: bool, text: String| {
            if !holds {
                unmet.push(text);
            }
        };
        let percent = |share: f64| format!("{:.3}%", share * 100.0);
        if let Some(most) = expect.errors_max {
            let errors = all.errors();
            require(errors <= most, format!("errors_max {}: {} failed", percent(most), percent(errors)));
        }
        if let Some(most) = expect.errors_peak_max {
            let worst = self.over_time.iter().max_by(|a, b| a.errors.total_cmp(&b.errors));
            if let Some(worst) = worst {
                let text =
                    format!("errors_peak_max {}: {} in {}", percent(most), percent(worst.errors), worst.of);
                require(worst.errors <= most, text);
            }
        }
        if let Some(most) = expect.p99_max {
            let p99 = all.quantile(0.99).unwrap_or_default();
            require(p99 <= most, format!("p99_max {most:?}: {p99:?}"));
        }
        if let Some(most) = expect.evacuated_within {
            require(!self.evacuations.is_empty(), "evacuated_within: no fault calls for it".to_owned());
            for evacuation in &self.evacuations {
                let after = evacuation.evacuated_after;
                let text = format!("evacuated_within {most:?}: {} after {after:?} s", evacuation.region);
                require(after.is_some_and(|after| after <= most.as_secs_f64()), text);
            }
        }
        if let Some(most) = expect.home_within {
            let text = format!("home_within {most:?}: after {:?} s", self.home_after);
            require(self.home_after.is_some_and(|after| after <= most.as_secs_f64()), text);
        }
        let moves = self.events.get("ramps").copied().unwrap_or_default()
            + self.events.get("evacuations").copied().unwrap_or_default();
        require(!expect.unmoved || moves == 0, format!("unmoved: users were moved {moves} times"));
        let seen = |what: &String| {
            self.refusals.contains_key(what.as_str()) || self.events.contains_key(what.as_str())
        };
        for what in &expect.sees {
            require(seen(what), format!("sees: nothing was seen of {what:?}"));
        }
        for what in &expect.never {
            require(!seen(what), format!("never: {what:?} was seen"));
        }
        unmet
    }
}

fn evacuations(scenario: &Scenario, record: &Record) -> Vec<Evacuation> {
    let mut found: BTreeMap<usize, Duration> = BTreeMap::new();
    for step in &scenario.steps {
        if let Some(region) = step.fault.evacuates() {
            found.entry(region).or_insert(step.at);
        }
    }
    found
        .into_iter()
        .map(|(region, at)| {
            let since = |moment: Duration| moment.saturating_sub(at).as_secs_f64();
            let down = record.downs.iter().find(|(when, of)| *of == region && *when >= at);
            Evacuation {
                region: scenario.cast.regions[region].to_string(),
                fault_at: at.as_secs_f64(),
                verdict_after: down.map(|(when, _)| since(*when)),
                evacuated_after: record.evacuated_at(region, at).map(since),
            }
        })
        .collect()
}

fn dns(scenario: &Scenario, record: &Record) -> Vec<DnsRow> {
    let row = |change: &super::record::DnsChange| DnsRow {
        seconds: change.at.as_secs_f64(),
        name: scenario.cast.names[change.name].name.to_string(),
        by: match &change.by {
            Hand::Evacuation(writer) => format!("{writer}, evacuation"),
            Hand::Ramp(writer) => format!("{writer}, ramp"),
            Hand::Other => "not Proxima".to_owned(),
        },
        sets: change
            .sets
            .iter()
            .map(|(entry, set)| {
                let weights = set.iter().map(|(region, weight)| (region.to_string(), weight.get()));
                (entry.to_string(), weights.collect())
            })
            .collect(),
    };
    record.dns.iter().map(row).collect()
}

/// Changes of DNS that are shown to people; JSON has all.
const DNS_ROWS_MAX: usize = 40;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (seed {}, {:.0} virtual seconds)", self.title, self.seed, self.seconds)?;
        writeln!(f, "\nfaults")?;
        self.faults.iter().try_for_each(|fault| writeln!(f, "  {fault}"))?;
        for (title, rows) in [("users of", &self.places), ("over time", &self.over_time)] {
            writeln!(f, "\n{title:24}  requests   errors       p50       p99")?;
            for row in rows.iter() {
                let ms = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.0} ms"));
                writeln!(
                    f,
                    "  {:22}{:10.0}  {:6.2}%  {:>8}  {:>8}",
                    row.of,
                    row.requests,
                    row.errors * 100.0,
                    ms(row.p50_ms),
                    ms(row.p99_ms)
                )?;
            }
        }
        self.moves(f)?;
        if !self.refusals.is_empty() {
            writeln!(f, "\nrefusals")?;
            self.refusals.iter().try_for_each(|(what, times)| writeln!(f, "  {what:22}{times:10}"))?;
        }
        writeln!(f, "\nevents")?;
        self.events.iter().try_for_each(|(what, times)| writeln!(f, "  {what:22}{times:10}"))?;
        writeln!(f)?;
        match &self.violation {
            Some(violation) => writeln!(f, "VIOLATION  {violation}")?,
            None => writeln!(f, "every invariant held")?,
        }
        self.unmet.iter().try_for_each(|unmet| writeln!(f, "UNMET  {unmet}"))
    }
}

impl Report {
    fn moves(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.evacuations.is_empty() {
            writeln!(f, "\nto be left                verdict after   evacuated after")?;
        }
        for evacuation in &self.evacuations {
            let s = |value: Option<f64>| value.map_or("never".to_owned(), |s| format!("{s:.1} s"));
            let (verdict, evacuated) = (s(evacuation.verdict_after), s(evacuation.evacuated_after));
            writeln!(f, "  {:24}{verdict:>13}  {evacuated:>16}", evacuation.region)?;
        }
        match self.home_after {
            Some(after) => writeln!(f, "all at home {after:.1} s after the last fault")?,
            None => writeln!(f, "not at home at the end")?,
        }
        if !self.dns.is_empty() {
            writeln!(f, "\nDNS")?;
        }
        for row in self.dns.iter().take(DNS_ROWS_MAX) {
            write!(f, "  {:8.1} s  {} by {}:", row.seconds, row.name, row.by)?;
            for (entry, set) in &row.sets {
                let weights: Vec<String> =
                    set.iter().map(|(region, weight)| format!("{region} {weight}")).collect();
                write!(f, "  {entry} = {}", weights.join(" + "))?;
            }
            writeln!(f)?;
        }
        if self.dns.len() > DNS_ROWS_MAX {
            writeln!(f, "  and {} more changes (--report has all)", self.dns.len() - DNS_ROWS_MAX)?;
        }
        Ok(())
    }
}
