//! The end of a run: what was seen, and whether it is what was promised.

use super::faults::{Fault, Kind, Marks};
use super::ledger::{Ledger, Request, Sums};
use super::scene::Scene;
use super::settings::{Pace, Setting};
use super::world::{Region, World};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The share of users that must enter and be served in the nearest healthy region.
const NEAREST_SHARE_MIN: f64 = 0.99;
/// DNS is looked at ten times a second, and a busy machine may be a little late.
const SLACK: Duration = Duration::from_millis(250);
/// From a verdict to the change of DNS that it calls for.
const PROMPT: Duration = Duration::from_secs(5);
/// From a fault under traffic until an edge sends requests elsewhere, by what they meet.
const SWITCH: Duration = Duration::from_secs(1);

/// A part of the run, by when its requests were sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    pub name: &'static str,
    pub from: Duration,
    pub until: Duration,
}

pub const STEADY: &str = "steady";
pub const SERVICE_DEATH: &str = "service-death";
pub const SERVICE_RETURN: &str = "service-return";
pub const REGION_DEATH: &str = "region-death";
pub const REGION_RETURN: &str = "region-return";
pub const HOME: &str = "home";

/// Everything that a run has seen.
pub struct Seen<'a> {
    pub world: &'a World,
    pub seed: u64,
    pub pace: Pace,
    pub settings: &'a [Setting],
    pub ledger: &'a Ledger,
    pub scene: &'a Scene,
    pub phases: &'a [Phase],
    pub faults: &'a [Fault],
}

/// One promise, and what was seen of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    pub what: &'static str,
    pub held: bool,
    pub seen: String,
}

/// The file that `--report` writes. Durations are in milliseconds, `null` where one does not apply.
#[derive(Debug, Serialize)]
pub struct Report {
    pub ok: bool,
    pub seed: u64,
    pub settings: BTreeMap<String, Setting>,
    pub phases: Vec<PhaseReport>,
    pub faults: Vec<FaultReport>,
    pub dns: DnsReport,
}

#[derive(Debug, Serialize)]
pub struct PhaseReport {
    pub name: &'static str,
    pub requests: usize,
    pub failed: usize,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub entered: BTreeMap<&'static str, usize>,
    pub served_by: BTreeMap<&'static str, usize>,
    pub nearest_healthy_share: Option<f64>,
}

/// Moments since the fault.
#[derive(Debug, Serialize)]
pub struct FaultReport {
    pub name: &'static str,
    pub ejected_ms: Option<u64>,
    pub first_rerouted_ms: Option<u64>,
    pub verdict_ms: Option<u64>,
    pub dns_submitted_ms: Option<u64>,
    pub moved_by_health_check_ms: Option<u64>,
    pub moved_by_weights_ms: Option<u64>,
    pub last_failed_ms: Option<u64>,
}

/// States of weighted sets that were seen, and how many of them were empty.
#[derive(Debug, Serialize)]
pub struct DnsReport {
    pub states: u64,
    pub empty_sets: u64,
}

impl Seen<'_> {
    pub fn report(&self) -> Report {
        Report {
            ok: self.expectations().iter().all(|e| e.held),
            seed: self.seed,
            settings: self.settings.iter().map(|s| (s.key.clone(), s.clone())).collect(),
            phases: self.phases.iter().map(|phase| self.phase(phase)).collect(),
            faults: self.faults.iter().map(fault).collect(),
            dns: DnsReport { states: self.scene.states, empty_sets: self.scene.empty_sets() },
        }
    }

    fn phase(&self, phase: &Phase) -> PhaseReport {
        let sums = self.sums(phase);
        let ms = |duration: Duration| (duration.as_secs_f64() * 10_000.0).round() / 10.0;
        let named = |all: &BTreeMap<Region, usize>| -> BTreeMap<&'static str, usize> {
            all.iter().map(|(region, count)| (self.world.name(*region), *count)).collect()
        };
        PhaseReport {
            name: phase.name,
            requests: sums.requests,
            failed: sums.failed,
            p50_ms: sums.latency.map(|l| ms(l.p50)),
            p99_ms: sums.latency.map(|l| ms(l.p99)),
            entered: named(&sums.entered),
            served_by: named(&sums.served),
            nearest_healthy_share: sums.nearest_healthy_share,
        }
    }

    fn sums(&self, phase: &Phase) -> Sums {
        self.ledger.sums(self.ledger.sent(phase.from, phase.until))
    }

    /// Each promise of the demo, judged by what was seen.
    pub fn expectations(&self) -> Vec<Expectation> {
        let mut all = vec![
            self.nearest(STEADY, "steady: 99 % of users enter and are served in the nearest healthy region"),
            self.service_death(),
        ];
        all.extend(self.region_death());
        all.push(self.nobody_else());
        all.push(self.switched());
        all.push(self.moved());
        all.push(self.prompt());
        all.push(Expectation {
            what: "no set was ever empty",
            held: self.scene.states > 0 && self.scene.empty_sets() == 0,
            seen: format!("{} states, {} empty", self.scene.states, self.scene.empty_sets()),
        });
        if self.pace == Pace::Minute {
            all.push(self.home());
            all.push(self.nearest(
                HOME,
                "home: 99 % of users enter and are served in the nearest healthy region again",
            ));
        }
        all
    }

    fn nearest(&self, name: &str, what: &'static str) -> Expectation {
        let phase = self.phases.iter().find(|p| p.name == name);
        let sums = phase.map(|phase| self.sums(phase));
        let share = sums.as_ref().and_then(|s| s.nearest_healthy_share);
        let requests = sums.map_or(0, |s| s.requests);
        Expectation {
            what,
            held: share.is_some_and(|share| share >= NEAREST_SHARE_MIN),
            seen: match share {
                Some(share) => format!("{:.2} % of {requests} requests", share * 100.0),
                None => "no request was seen".to_owned(),
            },
        }
    }

    fn fault(&self, kind: Kind) -> Option<&Fault> {
        self.faults.iter().find(|fault| fault.kind == kind)
    }

    /// Failed requests between the begin of a fault and that of the next.
    fn failed_in(&self, kind: Kind) -> Vec<&Request> {
        let Some(fault) = self.fault(kind) else { return Vec::new() };
        let next = self.faults.iter().map(|f| f.began).find(|began| *began > fault.began);
        self.ledger
            .failed_after(fault.began)
            .filter(|request| next.is_none_or(|next| request.done < next))
            .collect()
    }

    fn service_death(&self) -> Expectation {
        let failed = self.failed_in(Kind::Service);
        let fault = self.fault(Kind::Service);
        let rerouted = fault.is_some_and(|f| f.marks.first_rerouted.is_some());
        let cut = fault.map_or(0, |f| f.answers_cut);
        Expectation {
            what: "service death mid-response with a living edge: no request fails",
            held: failed.is_empty() && rerouted && cut > 0,
            seen: match failed.first() {
                None if cut == 0 => "0 failed, but no answer had begun when it was killed".to_owned(),
                None if rerouted => format!("0 failed, {cut} cut short, others served them"),
                None => "0 failed, but none was seen to be served elsewhere".to_owned(),
                Some(first) => format!("{} failed, the first: {}", failed.len(), self.show(first)),
            },
        }
    }

    fn region_death(&self) -> [Expectation; 2] {
        let failed = self.failed_in(Kind::Region);
        let ttl = self.pace.ttl();
        let fault = self.fault(Kind::Region);
        let dead = fault.map(|f| f.region);
        let others: Vec<&&Request> = failed.iter().filter(|r| r.entered != dead).collect();
        let only = Expectation {
            what: "region death: only users holding a dead address fail",
            held: fault.is_some() && others.is_empty(),
            seen: match others.first() {
                None => format!("{} failed, all at the dead address", failed.len()),
                Some(first) => format!("{} elsewhere, the first: {}", others.len(), self.show(first)),
            },
        };
        let detected = fault.and_then(Fault::detected);
        let last = fault.and_then(|f| f.marks.last_failed);
        let bound = detected.map(|detected| detected + ttl + SLACK);
        let time = Expectation {
            what: "region death: none fails later than detection + TTL",
            held: bound.is_some_and(|bound| last.is_none_or(|last| last <= bound)),
            seen: match (last, detected) {
                (last, Some(detected)) => format!(
                    "the last was sent after {}; detection {} + TTL {} + slack {}",
                    last.map_or_else(|| "- (none failed)".to_owned(), millis),
                    millis(detected),
                    millis(ttl),
                    millis(SLACK)
                ),
                (_, None) => "DNS was not seen to move".to_owned(),
            },
        };
        [only, time]
    }

    fn nobody_else(&self) -> Expectation {
        let first = self.faults.iter().map(|fault| fault.began).min();
        let early = |request: &&Request| first.is_none_or(|first| request.done < first);
        let failed: Vec<&Request> = self.ledger.failed_after(Duration::ZERO).filter(early).collect();
        Expectation {
            what: "before the faults nobody fails",
            held: failed.is_empty(),
            seen: match failed.first() {
                None => "0 failed".to_owned(),
                Some(first) => format!("{} failed, the first: {}", failed.len(), self.show(first)),
            },
        }
    }

    fn switched(&self) -> Expectation {
        let after = self.fault(Kind::Service).and_then(|f| f.marks.first_rerouted);
        Expectation {
            what: "service death: its edge sends requests elsewhere within 1 s, by what they meet",
            held: after.is_some_and(|after| after <= SWITCH),
            seen: after.map_or_else(|| "never".to_owned(), |after| format!("after {}", millis(after))),
        }
    }

    fn prompt(&self) -> Expectation {
        let took = |fault: &Fault| Some(fault.marks.dns_submitted?.saturating_sub(fault.marks.verdict?));
        let all: Vec<Option<Duration>> = self.faults.iter().map(took).collect();
        let show = |took: &Option<Duration>| took.map_or_else(|| "never".to_owned(), millis);
        Expectation {
            what: "a verdict is followed by the change of DNS within 5 s",
            held: !all.is_empty() && all.iter().all(|took| took.is_some_and(|took| took <= PROMPT)),
            seen: format!("after {}", all.iter().map(show).collect::<Vec<_>>().join(" and ")),
        }
    }

    fn moved(&self) -> Expectation {
        let moved = |marks: &Marks| {
            marks.verdict.is_some() && marks.dns_submitted.is_some() && marks.moved_by_weights.is_some()
        };
        let when = |fault: &Fault| fault.marks.moved_by_weights.map_or_else(|| "never".to_owned(), millis);
        Expectation {
            what: "each death moves the weights",
            held: self.faults.len() == 2 && self.faults.iter().all(|f| moved(&f.marks)),
            seen: format!("after {}", self.faults.iter().map(when).collect::<Vec<_>>().join(" and ")),
        }
    }

    fn home(&self) -> Expectation {
        let away = self.scene.away();
        Expectation {
            what: "in the end the weights are home and every edge sees every region up",
            held: self.scene.weights_home() && away.is_empty(),
            seen: if away.is_empty() { "yes".to_owned() } else { away.join("; ") },
        }
    }

    fn show(&self, request: &Request) -> String {
        let name = |region: Option<Region>| region.map_or("nowhere", |r| self.world.name(r));
        let failure = request.failure.map_or_else(String::new, |failure| failure.to_string());
        format!(
            "at {:.1} s, from {} to {}: {failure}",
            request.sent.as_secs_f64(),
            self.world.name(request.place),
            name(request.entered)
        )
    }
}

fn fault(fault: &Fault) -> FaultReport {
    let ms = |mark: Option<Duration>| mark.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    let marks = &fault.marks;
    FaultReport {
        name: match fault.kind {
            Kind::Service => SERVICE_DEATH,
            Kind::Region => REGION_DEATH,
        },
        ejected_ms: ms(marks.ejected),
        first_rerouted_ms: ms(marks.first_rerouted),
        verdict_ms: ms(marks.verdict),
        dns_submitted_ms: ms(marks.dns_submitted),
        moved_by_health_check_ms: ms(marks.moved_by_health_check),
        moved_by_weights_ms: ms(marks.moved_by_weights),
        last_failed_ms: ms(marks.last_failed),
    }
}

fn millis(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

/// One moment of a fault.
type Mark = fn(&FaultReport) -> Option<u64>;

/// The tables at the end, as lines.
pub fn summary(report: &Report, expectations: &[Expectation]) -> Vec<String> {
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.1}"));
    let mark = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |v| v.to_string());
    let mut lines = vec![format!(
        "{:<16}{:>9}{:>8}{:>10}{:>10}{:>18}",
        "phase", "requests", "failed", "p50 ms", "p99 ms", "nearest healthy"
    )];
    for phase in &report.phases {
        let share =
            phase.nearest_healthy_share.map_or_else(|| "-".to_owned(), |s| format!("{:.2} %", s * 100.0));
        lines.push(format!(
            "{:<16}{:>9}{:>8}{:>10}{:>10}{share:>18}",
            phase.name,
            phase.requests,
            phase.failed,
            ms(phase.p50_ms),
            ms(phase.p99_ms)
        ));
    }
    lines.push(String::new());
    lines.push(format!(
        "{:<26}{}",
        "ms after the fault",
        report.faults.iter().map(|f| format!("{:>16}", f.name)).collect::<String>()
    ));
    let rows: [(&str, Mark); 7] = [
        ("ejected", |f| f.ejected_ms),
        ("first rerouted", |f| f.first_rerouted_ms),
        ("verdict", |f| f.verdict_ms),
        ("DNS change submitted", |f| f.dns_submitted_ms),
        ("moved by health check", |f| f.moved_by_health_check_ms),
        ("moved by weights", |f| f.moved_by_weights_ms),
        ("last failed request sent", |f| f.last_failed_ms),
    ];
    for (name, value) in rows {
        let cells: String = report.faults.iter().map(|f| format!("{:>16}", mark(value(f)))).collect();
        lines.push(format!("{name:<26}{cells}"));
    }
    lines.push(String::new());
    for Expectation { what, held, seen } in expectations {
        lines.push(format!("{} {what}: {seen}", if *held { "  held " } else { "BROKEN " }));
    }
    lines
}

#[cfg(test)]
mod tests;
