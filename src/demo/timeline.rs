//! Plain lines on standard output, each with its time.

use super::event::Weights;
use super::ledger::{Failure, Latency, Request};
use super::world::{Region, World};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;
use tokio::time::Instant;

/// Writes lines as they happen.
#[derive(Debug)]
pub struct Timeline {
    started: Instant,
    /// Whoever read has gone: the run goes on without words.
    gone: bool,
}

impl Timeline {
    pub fn new(started: Instant) -> Self {
        Self { started, gone: false }
    }

    /// A line without a time.
    pub fn plain(&mut self, text: &str) {
        if self.gone {
            return;
        }
        let mut out = std::io::stdout().lock();
        self.gone = writeln!(out, "{text}").and_then(|()| out.flush()).is_err();
    }

    /// A line of now.
    pub fn say(&mut self, text: &str) {
        self.at(self.started.elapsed(), text);
    }

    /// A line of another moment.
    pub fn at(&mut self, at: Duration, text: &str) {
        self.plain(&format!("{:>6.1}s  {text}", at.as_secs_f64()));
    }

    /// The head of a phase.
    pub fn phase(&mut self, name: &str, what: &str) {
        self.plain("");
        self.say(&format!("== {name}: {what}"));
    }
}

/// One second of requests in a line: how many, how fast, and who is not at home.
pub fn second(world: &World, requests: &[Request]) -> String {
    let mut away: BTreeMap<(Region, Option<Region>, Option<Region>), usize> = BTreeMap::new();
    let mut failures: BTreeMap<Failure, usize> = BTreeMap::new();
    for request in requests {
        if let Some(failure) = request.failure {
            *failures.entry(failure).or_insert(0) += 1;
        }
        let home = Some(request.place);
        if request.entered != home || request.served != home {
            *away.entry((request.place, request.entered, request.served)).or_insert(0) += 1;
        }
    }
    let failed: usize = failures.values().sum();
    let mut line = format!("   {:>4} requests  {failed:>3} failed", requests.len());
    if let Some(Latency { p50, p99 }) = super::ledger::latency(requests) {
        // Writing to a String cannot fail.
        let numbers = write!(line, "  p50 {:>4} ms  p99 {:>4} ms", p50.as_millis(), p99.as_millis());
        debug_assert!(numbers.is_ok());
    }
    if away.is_empty() {
        line.push_str("  all enter and are served at home");
        return line;
    }
    let name = |region: Option<Region>| region.map_or("nobody", |r| world.name(r));
    let mut parts = Vec::new();
    for ((place, entered, served), count) in away {
        let from = world.name(place);
        parts.push(match (entered, served) {
            (Some(e), Some(s)) if e == s => format!("{count} of {from} enter {}", world.name(e)),
            (Some(e), Some(s)) if e == place => {
                format!("{count} of {from} forwarded to {}", world.name(s))
            }
            (entered, Some(s)) => {
                format!("{count} of {from} enter {}, forwarded to {}", name(entered), world.name(s))
            }
            (entered, None) => format!("{count} of {from} at {} without answer", name(entered)),
        });
    }
    format!("{line}  {}", parts.join("; "))
}

/// Weights of a set, such as `eu-west-1 66, us-east-1 34`.
pub fn weights(world: &World, weights: &Weights) -> String {
    let parts: Vec<String> =
        weights.iter().map(|(region, weight)| format!("{} {weight}", world.name(*region))).collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_names_only_who_is_not_at_home() {
        let world = World::new(4).unwrap();
        let r: Vec<Region> = world.regions().collect();
        let request = |entered, served, failure| Request {
            sent: Duration::ZERO,
            done: Duration::from_millis(40),
            place: r[0],
            entered: Some(entered),
            served,
            failure,
        };
        let home = request(r[0], Some(r[0]), None);
        assert_eq!(
            second(&world, &[home]).trim(),
            "1 requests    0 failed  p50   40 ms  p99   40 ms  all enter and are served at home"
        );
        let line = second(
            &world,
            &[
                home,
                request(r[0], Some(r[3]), None),
                request(r[3], Some(r[3]), None),
                request(r[0], None, Some(Failure::Timeout)),
            ],
        );
        assert!(line.contains("4 requests    1 failed"), "{line}");
        assert!(line.contains("1 of us-east-1 forwarded to us-west-2"), "{line}");
        assert!(line.contains("1 of us-east-1 enter us-west-2"), "{line}");
        assert!(line.contains("1 of us-east-1 at us-east-1 without answer"), "{line}");
    }
}
