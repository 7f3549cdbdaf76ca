//! From a failing scenario to the shortest list of faults that still fails by the same rule.

use super::faults::{Scenario, Step};
use super::invariants::{Rule, Violation};
use super::run::{Writes, play};
use super::seams::Seams;
use std::time::Duration;

/// A failure that was cut down.
#[derive(Debug)]
pub struct Shrunk {
    pub scenario: Scenario,
    pub violation: Violation,
    /// Runs that it took.
    pub runs: usize,
}

/// Runs that one shrink may take.
const RUNS_MAX: usize = 150;

/// Delta debugging (Zeller, Hildebrandt 2002) over the steps, then over their lengths.
pub fn shrink(scenario: &Scenario, violation: &Violation, seams: &dyn Seams) -> Shrunk {
    let mut best = Shrunk { scenario: scenario.clone(), violation: violation.clone(), runs: 0 };
    let rule = violation.rule;
    loop {
        let before = (best.scenario.steps.clone(), best.scenario.background_loss);
        drop_steps(&mut best, rule, seams);
        shorten(&mut best, rule, seams);
        calm_links(&mut best, rule, seams);
        if (&best.scenario.steps, best.scenario.background_loss) == (&before.0, before.1)
            || best.runs >= RUNS_MAX
        {
            return best;
        }
    }
}

/// Whether the scenario still fails by the rule; then it is the best one.
fn fails(best: &mut Shrunk, with: Scenario, rule: Rule, seams: &dyn Seams) -> bool {
    if best.runs >= RUNS_MAX {
        return false;
    }
    best.runs += 1;
    match play(&with, seams, Writes::default()).violation {
        Some(violation) if violation.rule == rule => {
            best.scenario = with;
            best.violation = violation;
            true
        }
        _ => false,
    }
}

fn with_steps(scenario: &Scenario, steps: Vec<Step>) -> Scenario {
    Scenario { steps, ..scenario.clone() }
}

/// Leaves out ever smaller runs of steps, until no single one can go.
fn drop_steps(best: &mut Shrunk, rule: Rule, seams: &dyn Seams) {
    let mut chunk = best.scenario.steps.len();
    while chunk > 0 {
        let mut at = 0;
        while at < best.scenario.steps.len() {
            let mut steps = best.scenario.steps.clone();
            steps.drain(at..(at + chunk).min(steps.len()));
            let fewer = with_steps(&best.scenario, steps);
            if !fails(best, fewer, rule, seams) {
                at += chunk;
            }
        }
        chunk /= 2;
    }
}

/// Halves how long each step lasts while that still fails.
fn shorten(best: &mut Shrunk, rule: Rule, seams: &dyn Seams) {
    for index in 0..best.scenario.steps.len() {
        loop {
            let mut steps = best.scenario.steps.clone();
            if steps[index].lasts < Duration::from_millis(500) {
                break;
            }
            steps[index].lasts /= 2;
            let shorter = with_steps(&best.scenario, steps);
            if !fails(best, shorter, rule, seams) {
                break;
            }
        }
    }
}

/// Does without the messages lost at all times, if it can.
fn calm_links(best: &mut Shrunk, rule: Rule, seams: &dyn Seams) {
    if best.scenario.background_loss > 0 {
        let calm = Scenario { background_loss: 0, ..best.scenario.clone() };
        fails(best, calm, rule, seams);
    }
}

/// What a person needs to see: the seed, the rule, the shortest plan, the last things that happened.
/// `again`: the command that repeats it.
pub fn report(scenario: &Scenario, violation: &Violation, seams: &dyn Seams, again: &str) -> String {
    let shrunk = shrink(scenario, violation, seams);
    let log = play(&shrunk.scenario, seams, Writes { log: true, ..Writes::default() }).log;
    let told: Vec<&str> = log.lines().filter(|l| !l.contains(" view ") && !l.contains(" publish ")).collect();
    let (had, has) = (scenario.steps.len(), shrunk.scenario.steps.len());
    let mut text = format!("seed {} breaks an invariant: {violation}\n", scenario.seed);
    text += &format!("the shortest plan that still does ({has} of {had} steps, {} runs):\n", shrunk.runs);
    text += &shrunk.scenario.to_string();
    text += &format!("there: {}\nthe last of what happened there:\n", shrunk.violation);
    for line in &told[told.len().saturating_sub(40)..] {
        text += &format!("  {line}\n");
    }
    text + "again: " + again + "\n"
}
