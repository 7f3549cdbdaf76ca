//! Reads a name: the control record first, then the sets.
//!
//! In this order a change that falls between makes the fence too old, and a
//! plan made from such a reading is refused by Route 53; the other way round it
//! would pass. What does not match the configuration is an error that names the
//! record; nothing is guessed, and foreign names are not looked at.

use super::api::{Api, plain_name};
use super::checks::Checks;
use super::control_record::{ControlError, ControlRecord, control_name};
use super::error::ApiError;
use super::layout::{Layout, LayoutError, RecordProblem, Slot, content, difference, shown};
use crate::clock::Clock;
use crate::clock::wall_clock;
use crate::domain::name::{EntryId, RegionId};
use crate::domain::plan::NameState;
use crate::domain::time::Time;
use crate::domain::weights::{Weight, WeightedSet};
use aws_sdk_route53::types::{ResourceRecordSet, RrType};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often a reading is repeated when a change fell into it.
const TORN_MAX: usize = 3;

/// Why a name could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(
        "there is no control record {0}; run `proxima dns bootstrap` (or `adopt` for records of somebody else)"
    )]
    NoControl(String),
    #[error("control record {name}")]
    Control {
        name: String,
        #[source]
        source: ControlError,
    },
    #[error("control record {0} has more than one value")]
    ManyControls(String),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Records(Vec<RecordProblem>),
    #[error("the records changed during each of {TORN_MAX} readings")]
    Torn,
}

/// A name's records as they are, for a batch that changes exactly these.
#[derive(Debug, Clone)]
pub struct Reading {
    pub state: NameState,
    pub control: ControlRecord,
    /// The control record set itself, to delete as read.
    pub control_set: ResourceRecordSet,
    pub records: BTreeMap<Slot, ResourceRecordSet>,
}

/// The moment of a reading, on both clocks: the control record carries wall clock.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub now: Time,
    /// Since 1970.
    pub wall: Duration,
}

impl Moment {
    pub fn of(clock: &Clock) -> Self {
        Self { now: clock.now(), wall: wall_clock() }
    }

    /// A wall-clock time on the process's clock.
    pub fn process_time(&self, at: Duration) -> Time {
        self.now.before(self.wall.saturating_sub(at)) + at.saturating_sub(self.wall)
    }
}

/// A name's records, unjudged.
#[derive(Debug, Clone)]
pub struct Found {
    pub control: Option<ResourceRecordSet>,
    /// The name's own record sets and those below it.
    pub records: Vec<ResourceRecordSet>,
}

/// Reads control record and sets; once more when they changed in between.
///
/// # Errors
/// What the API, the control record or any record of the name has against it.
pub async fn read(api: &Api, layout: &Layout, checks: &Checks, clock: &Clock) -> Result<Reading, ReadError> {
    for _ in 0..TORN_MAX {
        let found = fetch(api, layout).await?;
        let before = found.control.as_ref().map(|set| &set.resource_records);
        let name = control_name(&layout.name);
        let after = found.records.iter().find(|set| is_control(set, &name)).map(|set| &set.resource_records);
        if before == after {
            return interpret(layout, checks, &found, Moment::of(clock));
        }
    }
    Err(ReadError::Torn)
}

/// Reads without judging.
///
/// # Errors
/// Those of the API.
pub async fn fetch(api: &Api, layout: &Layout) -> Result<Found, ApiError> {
    let api = api.in_zone(&layout.zone_id);
    let control = api.record(&control_name(&layout.name), RrType::Txt).await?;
    let records = api.subtree(layout.name.as_str()).await?;
    Ok(Found { control, records })
}

/// What the control record says, and the record set that holds it.
///
/// # Errors
/// `NoControl`, `ManyControls`, or `Control` with what cannot be parsed.
pub async fn read_control(api: &Api, layout: &Layout) -> Result<ControlRecord, ReadError> {
    let name = control_name(&layout.name);
    let set = api.in_zone(&layout.zone_id).record(&name, RrType::Txt).await?;
    Ok(parse_control(&name, set.as_ref())?.0)
}

/// # Errors
/// As [`read_control`].
pub fn parse_control<'a>(
    name: &str,
    set: Option<&'a ResourceRecordSet>,
) -> Result<(ControlRecord, &'a ResourceRecordSet), ReadError> {
    let set = set.ok_or_else(|| ReadError::NoControl(name.to_owned()))?;
    let [value] = set.resource_records() else { return Err(ReadError::ManyControls(name.to_owned())) };
    let control = ControlRecord::parse(value.value())
        .map_err(|source| ReadError::Control { name: name.to_owned(), source })?;
    Ok((control, set))
}

/// The pure half of reading: found records against the configuration.
///
/// # Errors
/// Every record that does not match, or the control record.
pub fn interpret(
    layout: &Layout,
    checks: &Checks,
    found: &Found,
    moment: Moment,
) -> Result<Reading, ReadError> {
    let (control, control_set) = parse_control(&control_name(&layout.name), found.control.as_ref())?;
    let (records, mut problems) = sort(layout, checks, &found.records)?;
    for alias in layout.aliases() {
        let missing = missing(layout, &alias);
        // One that is there but differs has been named already.
        if !records.contains_key(&alias) && problems.iter().all(|p| p.record != missing.record) {
            problems.push(missing);
        }
    }
    let sets = sets(layout, &records, &mut problems);
    if !problems.is_empty() {
        return Err(ReadError::Records(problems));
    }
    let state = NameState {
        fence: control.fence.clone(),
        writer: control.writer.clone(),
        // The future counts as now.
        changed_at: control.changed_at.map(|at| moment.process_time(at).min(moment.now)),
        claim: control.changed_at,
        operator: control.operator.map(|at| moment.process_time(at)),
        sets,
    };
    Ok(Reading { state, control, control_set: control_set.clone(), records })
}

/// Records by their place, and the problems of those that have none or differ.
///
/// # Errors
/// `Layout` when the wanted form of a record cannot be told: a health check is missing.
pub fn sort(
    layout: &Layout,
    checks: &Checks,
    found: &[ResourceRecordSet],
) -> Result<(BTreeMap<Slot, ResourceRecordSet>, Vec<RecordProblem>), LayoutError> {
    let mut records = BTreeMap::new();
    let mut problems = Vec::new();
    for record in found {
        let slot = match layout.slot(record) {
            None => continue,
            Some(Err(problem)) => {
                problems.push(problem);
                continue;
            }
            Some(Ok(slot)) => slot,
        };
        let weight = record.weight.and_then(|weight| u8::try_from(weight).ok()).and_then(Weight::new);
        if weight.is_none() && matches!(slot, Slot::Weighted { .. }) {
            let weight = record.weight.map_or_else(|| "none".to_owned(), |weight| weight.to_string());
            let problem = format!("weight {weight}, want 1 to 255; a region at zero has no record");
            problems.push(RecordProblem {
                record: shown(record),
                problem,
                expected: "weight 1 to 255".to_owned(),
                found: content(record),
            });
            continue;
        }
        match difference(record, &layout.record(&slot, weight, checks)?) {
            Some(problem) => problems.push(problem),
            None => {
                records.insert(slot, record.clone());
            }
        }
    }
    Ok((records, problems))
}

/// The weighted sets; every entry must have one, alike in both families.
fn sets(
    layout: &Layout,
    records: &BTreeMap<Slot, ResourceRecordSet>,
    problems: &mut Vec<RecordProblem>,
) -> BTreeMap<EntryId, WeightedSet> {
    let mut sets = BTreeMap::new();
    for entry in layout.entries() {
        let mut by_kind = layout.kinds.iter().map(|kind| {
            let weights: BTreeMap<RegionId, Weight> = records
                .iter()
                .filter_map(|(slot, record)| match slot {
                    Slot::Weighted { entry: e, region, kind: k } if e == entry && k == kind => {
                        let weight = record.weight.and_then(|w| u8::try_from(w).ok()).and_then(Weight::new);
                        Some((region.clone(), weight?))
                    }
                    _ => None,
                })
                .collect();
            WeightedSet::new(weights)
        });
        let first = by_kind.next().flatten();
        let alike = by_kind.all(|other| other == first);
        let problem = match (first, alike) {
            (Some(set), true) => {
                sets.insert(entry.clone(), set);
                continue;
            }
            (_, false) => "the weights of A and AAAA differ",
            (None, true) => "the set has no record that matches the configuration",
        };
        problems.push(RecordProblem {
            record: layout.set_name(entry),
            problem: problem.to_owned(),
            expected: "a weighted set".to_owned(),
            found: problem.to_owned(),
        });
    }
    sets
}

fn missing(layout: &Layout, slot: &Slot) -> RecordProblem {
    let (entry, kind) = match slot {
        Slot::Alias { entry, kind } | Slot::Weighted { entry, kind, .. } => (entry, kind),
    };
    RecordProblem {
        record: format!("{} {} [{entry}]", layout.name, kind.rr_type()),
        problem: "the latency alias is missing".to_owned(),
        expected: format!("a latency alias -> {}", layout.set_name(entry)),
        found: "nothing".to_owned(),
    }
}

fn is_control(set: &ResourceRecordSet, name: &str) -> bool {
    set.r#type == RrType::Txt && plain_name(&set.name) == name && set.set_identifier.is_none()
}
