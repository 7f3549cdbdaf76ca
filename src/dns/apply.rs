//! Carries out a survey: bootstrap, apply, adopt, remove. For operators; edges never do this.
//!
//! Every change of a name is one batch with its control record in it, so that it does exactly
//! what was shown or, when the records have changed since, nothing. Health checks are created
//! before the records that carry them, and deleted after those that did.

use super::api::Api;
use super::batch::{BatchError, advance, check_limits, create, create_control, delete};
use super::checks::{CheckSpec, Checks, Purpose};
use super::control_record::ControlRecord;
use super::diff::Step;
use super::error::{ApiError, ErrorKind};
use super::layout::{LayoutError, shown};
use super::pace::{Backoff, Rank};
use super::reader::{ReadError, read_control};
use super::survey::{ATTEMPTS_MAX, CheckState, Looked, Survey, patient};
use super::wall::wall_clock;
use crate::domain::hash::fnv1a;
use crate::domain::name::{DnsName, RegionId};
use crate::domain::operator::OperatorState;
use crate::domain::plan::{Fence, Generation};
use crate::error_chain::chain;
use aws_sdk_route53::types::{Change, HealthCheck, HealthCheckConfig};
use std::collections::BTreeSet;

/// Caller references tried for one health check: one is used up by each deleted check.
const REFERENCES_MAX: usize = 20;

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Create what is missing, and nothing else.
    Bootstrap,
    /// Make the records what the configuration asks for, weights as they are.
    Apply,
    /// Take charge of the records as they are.
    Adopt,
    /// Delete all that the control record has charge of; then everybody is sent to `keep`, if anywhere.
    Remove { keep: Option<RegionId> },
}

/// Why a name was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("{0}")]
    Refused(String),
    #[error("the records have changed since they were shown, nothing was written: {0}")]
    Changed(String),
    #[error("each of {REFERENCES_MAX} references of the health check {0} is used up")]
    References(String),
}

/// A change that was submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    pub name: DnsName,
    pub zone_id: String,
    /// `None` when it was found applied after its answer was lost.
    pub change_id: Option<String>,
}

/// What came of an operation.
#[derive(Debug, Default)]
pub struct Outcome {
    pub submitted: Vec<Submitted>,
    /// Names of which nothing was changed, and why.
    pub failed: Vec<(DnsName, String)>,
    /// Ids of health checks that no record carries any more; to be deleted once all is INSYNC.
    pub obsolete: BTreeSet<String>,
}

impl Survey {
    /// Why the operation cannot be carried out for a name; `None` when it can.
    pub fn refusal(&self, looked: &Looked, operation: &Operation) -> Option<String> {
        let no_control = "there is no control record: `proxima dns bootstrap` creates what is missing, \
                          `proxima dns adopt` takes charge of records that exist";
        match (operation, &looked.control) {
            (Operation::Bootstrap, _) => {
                let in_the_way = |step: &Step| match step {
                    Step::Create(_) => None,
                    Step::Delete(record) => Some(shown(record)),
                    Step::Replace { found, .. } => Some(shown(found)),
                };
                let records = looked.diff.steps.iter().filter_map(in_the_way);
                let checks = looked
                    .layout
                    .gates()
                    .filter(|gate| matches!(self.checks.get(gate), Some(CheckState::Differs { .. })));
                let all: Vec<String> = records.chain(checks.map(ToString::to_string)).collect();
                (!all.is_empty()).then(|| format!("{} in the way: {}", all.len(), all.join(", ")))
            }
            (Operation::Apply, None) => Some(no_control.to_owned()),
            (Operation::Remove { .. }, None) => {
                Some("there is no control record, so nothing here is Proxima's to remove".to_owned())
            }
            (Operation::Adopt, Some(_)) => Some("it has a control record: nothing to adopt".to_owned()),
            (Operation::Remove { keep: Some(region) }, _) if looked.layout.target(region).is_none() => {
                Some(format!("it does not lead to region '{region}'"))
            }
            _ => None,
        }
    }

    /// Carries out the operation, name by name: one that fails stops no other.
    ///
    /// # Errors
    /// When a health check cannot be created or changed: then no record was touched.
    pub async fn carry_out(&self, api: &Api, operation: &Operation) -> Result<Outcome, ApplyError> {
        let api = api.ranked(Rank::Write);
        let mut outcome = Outcome::default();
        let mut ready = Vec::new();
        for name in &self.names {
            let refusal = match &name.result {
                Err(problem) => Some(problem.clone()),
                Ok(looked) => self.refusal(looked, operation),
            };
            match (refusal, &name.result) {
                (None, Ok(looked)) => ready.push(looked),
                (why, _) => outcome.failed.push((name.name.clone(), why.unwrap_or_default())),
            }
        }
        let checks = match operation {
            Operation::Bootstrap | Operation::Apply => self.prepare_checks(&api, &ready, operation).await?,
            Operation::Adopt | Operation::Remove { .. } => self.known.clone(),
        };
        for looked in &ready {
            match self.one(&api, looked, operation, &checks).await {
                Ok(None) => {}
                Ok(Some(submitted)) => {
                    outcome.submitted.push(submitted);
                    outcome.obsolete.extend(self.obsolete(looked, operation));
                }
                Err(error) => outcome.failed.push((looked.layout.name.clone(), chain(&error))),
            }
        }
        if matches!(operation, Operation::Remove { .. }) && self.whole && outcome.failed.is_empty() {
            let edges = self.checks.iter().filter(|(spec, _)| spec.purpose == Purpose::Edge);
            outcome.obsolete.extend(edges.filter_map(|(spec, state)| {
                (*state != CheckState::Missing).then(|| self.known.id(spec)).flatten().map(str::to_owned)
            }));
        }
        Ok(outcome)
    }

    /// The checks that ready names and their regions need, made and mended.
    async fn prepare_checks(
        &self,
        api: &Api,
        ready: &[&Looked],
        operation: &Operation,
    ) -> Result<Checks, ApplyError> {
        let mut checks = Checks::default();
        for (spec, state) in &self.checks {
            let wanted = match spec.purpose {
                Purpose::Edge => ready.iter().any(|looked| looked.layout.target(&spec.region).is_some()),
                Purpose::Gate(_) => ready.iter().any(|looked| looked.layout.gates().any(|gate| gate == spec)),
            };
            if !wanted {
                continue;
            }
            match (state, self.known.find(spec)) {
                (CheckState::Missing, _) | (_, None) => {
                    checks.add(create_check(api, spec, spec.config(&self.dns)?).await?);
                }
                (CheckState::Exists(_), Some(found)) => checks.add(found.clone()),
                (CheckState::Differs { id, difference }, Some(found)) => {
                    if difference.mendable() && *operation == Operation::Apply {
                        let config = spec.config(&self.dns)?;
                        let mend = || api.update_health_check(id, config.clone());
                        patient(ErrorKind::may_pass, mend).await?;
                    }
                    checks.add(found.clone());
                }
            }
        }
        Ok(checks)
    }

    /// Submits the one batch of a name; `None` when there is nothing to do.
    async fn one(
        &self,
        api: &Api,
        looked: &Looked,
        operation: &Operation,
        checks: &Checks,
    ) -> Result<Option<Submitted>, ApplyError> {
        let layout = &looked.layout;
        let (gone, mut new) = match operation {
            Operation::Adopt => Default::default(),
            Operation::Remove { keep } => {
                let serving = keep.as_ref().map(|region| layout.serving(region)).transpose()?;
                let mut gone = looked.owned.clone();
                gone.sort_by_key(|record| record.region.is_none());
                (gone, serving.unwrap_or_default())
            }
            Operation::Bootstrap | Operation::Apply => looked.diff.changes(),
        };
        if gone.is_empty() && new.is_empty() && (looked.control.is_some() || *operation == Operation::Apply) {
            return Ok(None);
        }
        // Stand-ins become the checks that were created.
        for record in new.iter_mut().filter(|record| record.health_check_id.is_some()) {
            let region = record.set_identifier.as_deref().and_then(|set| layout.has_region(set));
            let gate = region.and_then(|region| layout.gate(region));
            let id = gate.and_then(|gate| checks.id(gate));
            let missing = || LayoutError::NoCheck(shown(record));
            record.health_check_id = Some(id.ok_or_else(missing)?.to_owned());
        }
        let next = match (operation, &looked.control) {
            (Operation::Remove { .. }, _) => None,
            (_, Some((record, _))) => Some(moved_on(record, &format!("{gone:?}{new:?}"))),
            (_, None) => Some(first_control()),
        };
        let mut changes: Vec<Change> = match (&looked.control, &next) {
            (Some((_, set)), Some(next)) => advance(layout, set, next)?,
            (Some((_, set)), None) => vec![delete(set.clone())?],
            (None, Some(next)) => vec![create_control(layout, next)?],
            (None, None) => Vec::new(),
        };
        for record in gone {
            changes.push(delete(record)?);
        }
        for record in new {
            changes.push(create(record)?);
        }
        check_limits(&changes)?;
        let change_id = self.submit(api, looked, changes, next.as_ref()).await?;
        Ok(Some(Submitted { name: layout.name.clone(), zone_id: layout.zone_id.clone(), change_id }))
    }

    /// Sends the batch until it is known to be applied or not; its id, if there was an answer.
    async fn submit(
        &self,
        api: &Api,
        looked: &Looked,
        changes: Vec<Change>,
        next: Option<&ControlRecord>,
    ) -> Result<Option<String>, ApplyError> {
        let zone = api.in_zone(&looked.layout.zone_id);
        let before = looked.control.as_ref().map(|(record, _)| mark(record));
        let after = next.map(mark);
        let mut backoff = Backoff::default();
        let mut last = None;
        for _ in 0..ATTEMPTS_MAX {
            let error = match zone.change(zone.turn().await, changes.clone(), "proxima dns").await {
                Ok(id) => return Ok(Some(id)),
                Err(error) => error,
            };
            if matches!(error.kind, ErrorKind::Unanswered | ErrorKind::Conflict) {
                let now = match read_control(api, &looked.layout).await {
                    Ok(record) => Some(Some(mark(&record))),
                    Err(ReadError::NoControl(_)) => Some(None),
                    // No word either: the batch may be sent again, it fits once at most.
                    Err(ReadError::Api(error)) if error.kind.may_pass() => None,
                    Err(error) => return Err(error.into()),
                };
                match now {
                    Some(now) if now == after && now != before => return Ok(None),
                    Some(now) if now != before || error.kind == ErrorKind::Conflict => {
                        return Err(ApplyError::Changed(error.detail));
                    }
                    _ => {}
                }
            } else if error.kind != ErrorKind::Throttled {
                return Err(error.into());
            }
            last = Some(error);
            tokio::time::sleep(backoff.pause()).await;
        }
        let gone = "no attempt was answered; look at the zone before anything else".to_owned();
        Err(last.map_or(ApplyError::Refused(gone), ApplyError::Api))
    }

    /// Checks made for records of this name that its records carry no more.
    fn obsolete(&self, looked: &Looked, operation: &Operation) -> BTreeSet<String> {
        let carried = looked.owned.iter().filter_map(|record| record.health_check_id.as_deref());
        let removed = matches!(operation, Operation::Remove { .. });
        let kept: BTreeSet<&str> = match operation {
            Operation::Adopt => return BTreeSet::new(),
            _ if removed => BTreeSet::new(),
            _ => looked.layout.gates().filter_map(|gate| self.known.id(gate)).collect(),
        };
        let own = looked.layout.gates().filter(|_| removed).filter_map(|gate| match self.checks.get(gate) {
            Some(CheckState::Exists(id) | CheckState::Differs { id, .. }) => Some(id.as_str()),
            _ => None,
        });
        carried
            .chain(own)
            .filter(|id| self.known.gate_by_id(id).is_some())
            .filter(|id| !kept.contains(id) && !looked.used_elsewhere.contains(*id))
            .map(str::to_owned)
            .collect()
    }
}

/// What tells one control record from another.
fn mark(record: &ControlRecord) -> (Fence, Option<u64>) {
    (record.fence.clone(), record.plan)
}

/// The next control record after an operator's change.
fn moved_on(record: &ControlRecord, what: &str) -> ControlRecord {
    ControlRecord {
        fence: Fence { epoch: record.fence.epoch.clone(), generation: record.fence.generation.next() },
        writer: None,
        // Random as well: the same change by another operator is not this one.
        plan: Some(fnv1a(&format!("{what}{:x}", rand::random::<u64>()))),
        changed_at: Some(wall_clock()),
        ..record.clone()
    }
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

async fn create_check(
    api: &Api,
    spec: &CheckSpec,
    config: HealthCheckConfig,
) -> Result<HealthCheck, ApplyError> {
    for number in 0..REFERENCES_MAX {
        let reference = format!("{}{number}", spec.reference());
        // The same call again finds the check that it made.
        match patient(ErrorKind::may_pass, || api.create_health_check(&reference, config.clone())).await {
            // No live check was found under it, so this reference belongs to a deleted one.
            Err(error) if error.kind == ErrorKind::Exists => {}
            created => return Ok(created?),
        }
    }
    Err(ApplyError::References(spec.to_string()))
}

/// Deletes health checks that no record carries any more.
///
/// # Errors
/// Of the first that cannot be deleted; one that is gone already is no error.
pub async fn delete_checks(api: &Api, ids: &BTreeSet<String>) -> Result<(), ApiError> {
    for id in ids {
        match patient(ErrorKind::may_pass, || api.delete_health_check(id)).await {
            Err(error) if error.kind == ErrorKind::Missing => {}
            done => done?,
        }
    }
    Ok(())
}
