//! A scenario file: what happens when to the world of a configuration, and what must come out.
//! Problems are told as those of a configuration are: all of them, each with its place.

use super::cast::{Cast, NoWorld, Users};
use super::faults::{Expect, Scenario};
use crate::config::Problems;
use crate::config::reading::{
    Capacity, Entries, FromFile, Key, List, Placed, Problem, Section, Text, Whole, decode, nearest, text,
};
use crate::domain::name::RegionId;
use serde::Deserialize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

mod steps;

/// A share, as in "0.5%".
#[derive(Debug, Clone, Copy)]
struct Percent(f64);

impl FromFile for Percent {
    const RULE: &'static str = r#"a share of at least 0%, such as "0.5%""#;

    fn from_text(text: &str) -> Option<Self> {
        let number: f64 = text.strip_suffix('%')?.trim_end().parse().ok()?;
        (number.is_finite() && number >= 0.0).then_some(Self(number))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: Key<Text>,
    seed: Key<Whole>,
    length: Key<Duration>,
    edges: Key<Whole>,
    loss: Key<Percent>,
    users: Option<Vec<Section<UsersSection>>>,
    capacity: Option<Entries<RegionId, Placed<Capacity>>>,
    faults: Option<Vec<Section<steps::FaultSection>>>,
    expect: Option<Section<ExpectSection>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UsersSection {
    place: Key<Text>,
    rps: Key<Capacity>,
    swing: Key<Percent>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectSection {
    errors_max: Key<Percent>,
    errors_peak_max: Key<Percent>,
    p99_max: Key<Duration>,
    evacuated_within: Key<Duration>,
    home_within: Key<Duration>,
    unmoved: Key<bool>,
    sees: List<Text>,
    never: List<Text>,
}

/// A run is at least so long unless stated.
const LENGTH: Duration = Duration::from_secs(600);
/// What every scenario has.
const SECTIONS: &str = "[[faults]], [[users]] or [expect]; see config/scenarios/region-loss.toml";

/// Reads a scenario for a world.
///
/// # Errors
/// Every problem of the file, or a place that is not in the table of distances.
pub fn load(path: &Path, cast: Cast) -> Result<Scenario, NoWorld> {
    let file_name = path.to_string_lossy();
    let failed = |text: &str, problems| NoWorld::Config(Box::new(Problems::new(&file_name, text, problems)));
    let text = text(path).map_err(|problem| failed("", vec![problem]))?;
    let mut problems = Vec::new();
    let Some((file, _)) = decode::<File>(&text, SECTIONS, &mut problems) else {
        return Err(failed(&text, problems));
    };
    let scenario = scenario(&file, cast, &mut problems)?;
    if problems.is_empty() { Ok(scenario) } else { Err(failed(&text, problems)) }
}

fn scenario(file: &File, mut cast: Cast, problems: &mut Vec<Problem>) -> Result<Scenario, NoWorld> {
    cast.processes = whole(&file.edges, 1..=8, 1, problems) as usize;
    people(file, &mut cast, problems)?;
    for (region, capacity) in file.capacity.iter().flat_map(|entries| &entries.0) {
        match cast.regions.iter().position(|r| *r == region.value) {
            Some(index) => cast.capacity[index] = Some(capacity.value.0),
            None => {
                problems.push(unknown("region", region.value.as_str(), &region.span, names(&cast.regions)))
            }
        }
    }
    let length = file.length.as_ref().map_or(LENGTH, |length| length.value);
    let steps = steps::steps(file.faults.iter().flatten(), &cast, length, problems);
    cast.steady &= file.capacity.is_none() && steps.iter().all(|step| !steps::moves_room(&step.fault));
    let expect = file.expect.as_ref().map(|section| expect(section.get_ref(), problems)).unwrap_or_default();
    let loss = file.loss.as_ref().map_or(0.0, |loss| loss.value.0);
    Ok(Scenario {
        title: file.title.as_ref().map(|title| title.value.0.clone()).unwrap_or_default(),
        seed: u64::from(whole(&file.seed, 0..=u32::MAX, 1, problems)),
        cast: Arc::new(cast),
        background_loss: loss.min(100.0) as u64,
        length,
        steps,
        expect,
    })
}

fn whole(
    key: &Key<Whole>,
    range: std::ops::RangeInclusive<u32>,
    default: u32,
    problems: &mut Vec<Problem>,
) -> u32 {
    let Some(placed) = key else { return default };
    if !range.contains(&placed.value.0) {
        let right = format!("expected {} to {}", range.start(), range.end());
        problems.push(Problem::at(&placed.span, format!("{} is out of range", placed.value.0)).right(right));
        return default;
    }
    placed.value.0
}

/// Users by place replace those of the regions.
fn people(file: &File, cast: &mut Cast, problems: &mut Vec<Problem>) -> Result<(), NoWorld> {
    let Some(sections) = &file.users else { return Ok(()) };
    let places: Vec<String> = cast.users.iter().map(|u| u.place.clone()).collect();
    let mut users = Vec::new();
    for section in sections {
        let of = section.get_ref();
        let (Some(place), Some(rps)) = (&of.place, &of.rps) else {
            let right = "expected `place = \"eu-west-1\"` and `rps = 500`";
            problems.push(Problem::at(&section.span(), "users without a place or a rate").right(right));
            continue;
        };
        let rtt = match cast.rtt_from(&place.value.0, &places) {
            Ok(rtt) => rtt,
            Err(NoWorld::Lacks(what)) => {
                problems.push(Problem::at(&place.span, what));
                continue;
            }
            Err(other) => return Err(other),
        };
        let swing = of.swing.as_ref().map_or(0.0, |swing| (swing.value.0 / 100.0).min(1.0));
        users.push(Users { place: place.value.0.clone(), rps: rps.value.0, swing, rtt });
    }
    if users.is_empty() && problems.is_empty() {
        problems
            .push(Problem::outside("no users").right("expected a table begun by [[users]], or none at all"));
    }
    cast.users = users;
    Ok(())
}

fn expect(of: &ExpectSection, problems: &mut Vec<Problem>) -> Expect {
    let share = |key: &Key<Percent>| key.as_ref().map(|placed| placed.value.0 / 100.0);
    let span = |key: &Key<Duration>| key.as_ref().map(|placed| placed.value);
    let mut events = |list: &List<Text>| {
        let mut found = Vec::new();
        for placed in list.iter().flat_map(|list| list.get_ref()) {
            let known = super::report::events();
            if known.contains(&placed.value.0.as_str()) {
                found.push(placed.value.0.clone());
            } else {
                let known: Vec<String> = known.into_iter().map(str::to_owned).collect();
                problems.push(unknown("event", &placed.value.0, &placed.span, known));
            }
        }
        found
    };
    let (sees, never) = (events(&of.sees), events(&of.never));
    Expect {
        errors_max: share(&of.errors_max),
        errors_peak_max: share(&of.errors_peak_max),
        p99_max: span(&of.p99_max),
        evacuated_within: span(&of.evacuated_within),
        home_within: span(&of.home_within),
        unmoved: of.unmoved.as_ref().is_some_and(|placed| placed.value),
        sees,
        never,
    }
}

/// The names of the world's regions.
fn names(regions: &[RegionId]) -> Vec<String> {
    regions.iter().map(ToString::to_string).collect()
}

/// A name that the world does not have, and what it has.
fn unknown(kind: &str, text: &str, span: &std::ops::Range<usize>, known: Vec<String>) -> Problem {
    let problem = Problem::at(span, format!("there is no {kind} {text:?}"));
    let problem = match nearest(text, known.iter().map(String::as_str)) {
        Some(meant) => problem.here(format!("did you mean {meant:?}?")),
        None => problem.here("not known here"),
    };
    problem.right(format!("expected one of {}", known.join(", ")))
}
