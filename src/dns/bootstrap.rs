//! `proxima dns bootstrap`: what the configuration asks for, against what exists.
//!
//! Surveys first and shows; creates only on request, and only when nothing
//! stands in the way. Records are created in one batch a name, with the
//! control record in it: anew at generation 1, or moved on by one generation
//! where the name has one (a region was added).

use super::api::Api;
use super::batch::{BatchError, advance, check_limits, create, create_control};
use super::checks::{CheckSpec, Checks};
use super::control_record::{ControlRecord, control_name};
use super::error::{ApiError, ErrorKind};
use super::layout::{Family, Layout, LayoutError, RecordProblem, Slot, edges, shown};
use super::pace::Backoff;
use super::reader::{ReadError, fetch, parse_control, sort};
use super::wall::wall_clock;
use crate::config::{Config, Dns};
use crate::domain::name::{DnsName, EntryId};
use crate::domain::operator::OperatorState;
use crate::domain::plan::{Fence, Generation};
use crate::domain::weights::{Weight, WeightedSet};
use crate::error_chain::chain;
use aws_sdk_route53::types::{Change, HealthCheck, HealthCheckConfig, ResourceRecordSet};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Attempts at one call that is throttled, or not answered.
const ATTEMPTS_MAX: usize = 10;
/// Caller references tried for one health check: one is used up by each deleted check.
const REFERENCES_MAX: usize = 20;
/// Stands in for the id of a health check that is yet to be created.
const NEW_CHECK: &str = "(new)";

/// Why nothing, or not all, was created.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("there is no [dns] in the configuration")]
    NoDns,
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("{0} things stand in the way; nothing was created")]
    Refused(usize),
    #[error("each of {REFERENCES_MAX} references of the health check {0} is used up")]
    References(String),
}

/// What exists, what is missing, what stands in the way.
#[derive(Debug)]
pub struct Survey {
    dns: Dns,
    checks: BTreeMap<CheckSpec, CheckState>,
    /// The account's checks, those to create among them by a stand-in.
    known: Checks,
    names: Vec<NameSurvey>,
}

#[derive(Debug, PartialEq, Eq)]
enum CheckState {
    Exists(String),
    Differs { id: String, problem: String },
    Missing,
}

#[derive(Debug)]
struct NameSurvey {
    layout: Layout,
    control: Control,
    existing: Vec<String>,
    /// Weighted records before the aliases that target them.
    missing: Vec<(Slot, Option<Weight>)>,
    problems: Vec<RecordProblem>,
}

#[derive(Debug)]
enum Control {
    Missing,
    Exists {
        record: ControlRecord,
        set: Box<ResourceRecordSet>,
    },
    /// It exists and cannot be read; the problem is listed.
    Broken,
}

/// A change that bootstrap submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    pub name: DnsName,
    pub change_id: String,
}

/// Looks at everything that the configuration asks for; changes nothing.
///
/// # Errors
/// When the API fails or the configuration has no layout for a name.
pub async fn survey(api: &Api, config: &Config) -> Result<Survey, BootstrapError> {
    let dns = config.dns.clone().ok_or(BootstrapError::NoDns)?;
    let layouts: Vec<Layout> =
        config.policy.names.keys().map(|name| Layout::of(config, name)).collect::<Result<_, _>>()?;
    let mut specs: BTreeSet<CheckSpec> = layouts.iter().flat_map(Layout::gates).cloned().collect();
    specs.extend(edges(config, &dns, &layouts));

    let mut known = patient(ErrorKind::may_pass, || Checks::read(api)).await?;
    let mut checks = BTreeMap::new();
    for spec in specs {
        let state = match known.find(&spec) {
            None => CheckState::Missing,
            Some(found) => match spec.difference(found, &dns) {
                None => CheckState::Exists(found.id.clone()),
                Some(problem) => CheckState::Differs { id: found.id.clone(), problem },
            },
        };
        if state == CheckState::Missing {
            known.add(stand_in(&spec, &dns)?);
        }
        checks.insert(spec, state);
    }
    let mut names = Vec::new();
    for layout in layouts {
        names.push(NameSurvey::of(api, layout, &known).await?);
    }
    Ok(Survey { dns, checks, known, names })
}

impl NameSurvey {
    async fn of(api: &Api, layout: Layout, known: &Checks) -> Result<Self, BootstrapError> {
        let found = patient(ErrorKind::may_pass, || fetch(api, &layout)).await?;
        let (records, mut problems) = sort(&layout, known, &found.records)?;
        let name = control_name(&layout.name);
        let control = match parse_control(&name, found.control.as_ref()) {
            Ok((record, set)) => Control::Exists { record, set: Box::new(set.clone()) },
            Err(ReadError::NoControl(_)) => Control::Missing,
            Err(error) => {
                problems.push(RecordProblem { record: format!("{name} TXT"), problem: chain(&error) });
                Control::Broken
            }
        };
        let mut missing = Vec::new();
        for (entry, home) in layout.home() {
            // A family without records follows the other one, which may have been moved since.
            let set = layout.families.iter().find_map(|f| found_set(&records, &entry, *f)).unwrap_or(home);
            for family in &layout.families {
                if found_set(&records, &entry, *family).is_none() {
                    missing.extend(set.iter().map(|(region, weight)| {
                        let (entry, region) = (entry.clone(), region.clone());
                        (Slot::Weighted { entry, region, family: *family }, Some(weight))
                    }));
                }
            }
        }
        let aliases = layout.aliases().into_iter().filter(|slot| !records.contains_key(slot));
        missing.extend(aliases.map(|slot| (slot, None)));
        // What is there but differs is a problem, not missing: a CREATE would fail.
        let mut wanted = Vec::new();
        for (slot, weight) in missing {
            let record = shown(&layout.record(&slot, weight, known)?);
            if problems.iter().all(|problem| problem.record != record) {
                wanted.push((slot, weight));
            }
        }
        let existing = records.values().map(described).collect();
        Ok(Self { layout, control, existing, missing: wanted, problems })
    }

    fn is_done(&self) -> bool {
        self.missing.is_empty() && matches!(self.control, Control::Exists { .. })
    }

    /// The one batch for this name.
    fn batch(&self, checks: &Checks) -> Result<Vec<Change>, BootstrapError> {
        let mut changes = match &self.control {
            Control::Exists { record, set } => {
                let next = ControlRecord {
                    fence: Fence {
                        epoch: record.fence.epoch.clone(),
                        generation: record.fence.generation.next(),
                    },
                    writer: None,
                    plan: None,
                    changed_at: Some(wall_clock()),
                    ..record.clone()
                };
                advance(&self.layout, set, &next)?
            }
            Control::Missing | Control::Broken => vec![create_control(&self.layout, &first_control())?],
        };
        for (slot, weight) in &self.missing {
            changes.push(create(self.layout.record(slot, *weight, checks)?)?);
        }
        check_limits(&changes)?;
        Ok(changes)
    }
}

/// Weights of an entry in one family, as found.
fn found_set(
    records: &BTreeMap<Slot, ResourceRecordSet>,
    entry: &EntryId,
    family: Family,
) -> Option<WeightedSet> {
    let weights = records.iter().filter_map(|(slot, record)| match slot {
        Slot::Weighted { entry: e, region, family: f } if e == entry && *f == family => {
            Some((region.clone(), Weight::new(u8::try_from(record.weight?).ok()?)?))
        }
        _ => None,
    });
    WeightedSet::new(weights.collect())
}

fn first_control() -> ControlRecord {
    ControlRecord {
        // Random, so that a zone set up anew is never taken for the old one.
        fence: Fence { epoch: format!("{:016x}", rand::random::<u64>()), generation: Generation::new(1) },
        writer: None,
        plan: None,
        changed_at: None,
        operator: OperatorState::default(),
    }
}

fn stand_in(spec: &CheckSpec, dns: &Dns) -> Result<HealthCheck, ApiError> {
    HealthCheck::builder()
        .id(NEW_CHECK)
        .caller_reference(format!("{}0", spec.reference()))
        .health_check_config(spec.config(dns)?)
        .health_check_version(1)
        .build()
        .map_err(|error| ApiError::unbuilt("CreateHealthCheck", &error))
}

impl Survey {
    /// How many things are there but not as configured.
    pub fn problems(&self) -> usize {
        let differ = self.checks.values().filter(|state| matches!(state, CheckState::Differs { .. })).count();
        differ + self.names.iter().map(|name| name.problems.len()).sum::<usize>()
    }

    /// How many things are missing.
    pub fn missing(&self) -> usize {
        let checks = self.checks.values().filter(|state| **state == CheckState::Missing).count();
        let controls = self.names.iter().filter(|name| matches!(name.control, Control::Missing)).count();
        checks + controls + self.names.iter().map(|name| name.missing.len()).sum::<usize>()
    }

    /// Creates what is missing: the health checks, then one batch a name.
    ///
    /// # Errors
    /// `Refused` when anything stands in the way: then nothing is created. A failure
    /// in the middle leaves what was created; the next run goes on from there.
    pub async fn apply(self, api: &Api) -> Result<Vec<Submitted>, BootstrapError> {
        if self.problems() > 0 {
            return Err(BootstrapError::Refused(self.problems()));
        }
        let mut checks = Checks::default();
        for (spec, state) in &self.checks {
            match (state, self.known.find(spec)) {
                (CheckState::Exists(_), Some(found)) => checks.add(found.clone()),
                _ => checks.add(create_check(api, spec, spec.config(&self.dns)?).await?),
            }
        }
        let mut submitted = Vec::new();
        for name in self.names.iter().filter(|name| !name.is_done()) {
            let changes = name.batch(&checks)?;
            let send = async || api.change(api.turn().await, changes.clone(), "proxima dns bootstrap").await;
            let id = patient(nothing_done, send).await?;
            submitted.push(Submitted { name: name.layout.name.clone(), change_id: id });
        }
        Ok(submitted)
    }
}

async fn create_check(
    api: &Api,
    spec: &CheckSpec,
    config: HealthCheckConfig,
) -> Result<HealthCheck, BootstrapError> {
    for number in 0..REFERENCES_MAX {
        let reference = format!("{}{number}", spec.reference());
        // The same call again finds the check that it made.
        match patient(ErrorKind::may_pass, || api.create_health_check(&reference, config.clone())).await {
            // No live check was found under it, so this reference belongs to a deleted one.
            Err(error) if error.kind == ErrorKind::Exists => {}
            created => return Ok(created?),
        }
    }
    Err(BootstrapError::References(spec.to_string()))
}

/// A batch that may have been carried out is not sent again: it would not fit any more.
fn nothing_done(kind: ErrorKind) -> bool {
    kind == ErrorKind::Throttled
}

/// Repeats a call while it ends in what `passes`.
async fn patient<T, F: Future<Output = Result<T, ApiError>>>(
    passes: fn(ErrorKind) -> bool,
    call: impl Fn() -> F,
) -> Result<T, ApiError> {
    let mut backoff = Backoff::default();
    for _ in 1..ATTEMPTS_MAX {
        match call().await {
            Err(error) if passes(error.kind) => tokio::time::sleep(backoff.pause()).await,
            done => return done,
        }
    }
    call().await
}

fn described(record: &ResourceRecordSet) -> String {
    let values: Vec<&str> = record.resource_records().iter().map(|value| value.value()).collect();
    match (&record.alias_target, record.weight) {
        (Some(target), _) => format!("{} -> {}", shown(record), super::api::plain_name(&target.dns_name)),
        (None, Some(weight)) => format!("{} weight {weight}: {}", shown(record), values.join(" ")),
        (None, None) => format!("{}: {}", shown(record), values.join(" ")),
    }
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "health checks")?;
        for (spec, state) in &self.checks {
            match state {
                CheckState::Exists(id) => writeln!(f, "  exists   {spec} {id}")?,
                CheckState::Differs { id, problem } => {
                    writeln!(f, "  PROBLEM  {spec} {id}: {problem}; delete it or change the configuration")?;
                }
                CheckState::Missing => writeln!(f, "  create   {spec}")?,
            }
        }
        for name in &self.names {
            name.fmt(f, &self.known)?;
        }
        match (self.problems(), self.missing()) {
            (0, 0) => write!(f, "nothing to do"),
            (0, missing) => write!(f, "{missing} to create"),
            (problems, _) => write!(f, "{problems} in the way"),
        }
    }
}

impl NameSurvey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>, checks: &Checks) -> fmt::Result {
        writeln!(f, "{}", self.layout.name)?;
        let control = control_name(&self.layout.name);
        match &self.control {
            Control::Missing => writeln!(f, "  create   {control} TXT, generation 1")?,
            Control::Broken => {}
            Control::Exists { record, .. } => {
                writeln!(f, "  exists   {control} TXT, generation {}", record.fence.generation.get())?;
            }
        }
        for record in &self.existing {
            writeln!(f, "  exists   {record}")?;
        }
        for problem in &self.problems {
            writeln!(f, "  PROBLEM  {problem}")?;
        }
        for (slot, weight) in &self.missing {
            let record = self.layout.record(slot, *weight, checks).map_err(|_| fmt::Error)?;
            writeln!(f, "  create   {}", described(&record))?;
        }
        Ok(())
    }
}
