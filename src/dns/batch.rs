//! One fenced batch: the control record moves on, and with it each changed entry, or nothing does.
//!
//! DELETE with everything as read, then CREATE: Route 53 refuses a DELETE that
//! does not match and a CREATE of what exists, so a late writer, a concurrent
//! one and a hand edit of a changed entry all fail the batch. UPSERT would overwrite silently.
//! Pure: no call, no clock.

use super::checks::Checks;
use super::control_record::{ControlError, ControlRecord, control_name};
use super::layout::{Layout, LayoutError, Slot};
use super::reader::Reading;
use crate::domain::name::EntryId;
use crate::domain::plan::{Fence, Plan};
use crate::domain::weights::{Weight, WeightedSet};
use aws_sdk_route53::error::BuildError;
use aws_sdk_route53::types::{Change, ChangeAction, ResourceRecord, ResourceRecordSet, RrType};
use std::time::Duration;

/// ResourceRecord elements, and characters of all values, in one batch.
/// Source: developer guide, "Quotas", maximums on ChangeResourceRecordSets requests.
const RECORDS_MAX: usize = 1000;
const CHARACTERS_MAX: usize = 32_000;
/// TTL of the control record in seconds: nobody resolves it, people look at it.
const CONTROL_TTL: i64 = 60;

/// Why there is no batch for a plan.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The records are not those that the plan was made for.
    #[error("{entry}: the plan is for {planned}, the records hold {found}")]
    Stale { entry: EntryId, planned: String, found: String },
    #[error(
        "{records} records with {characters} characters; Route 53 takes {RECORDS_MAX} with {CHARACTERS_MAX}"
    )]
    TooLarge { records: usize, characters: usize },
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("the next control record")]
    Control(#[from] ControlError),
    #[error("a change cannot be built")]
    Build(#[from] BuildError),
}

/// The changes that carry out `plan` on exactly what was read.
///
/// # Errors
/// `Stale` when a set is not as the plan expects it; `TooLarge` beyond Route 53's limits.
pub fn fenced(
    layout: &Layout,
    checks: &Checks,
    reading: &Reading,
    plan: &Plan,
    changed_at: Duration,
) -> Result<Vec<Change>, BatchError> {
    let mut operator = reading.control.operator.clone();
    operator.prune(changed_at);
    let next = ControlRecord {
        fence: Fence { epoch: plan.fence.epoch.clone(), generation: plan.fence.generation.next() },
        writer: Some(plan.writer.clone()),
        plan: Some(plan.hash()),
        changed_at: Some(changed_at),
        operator,
    };
    let mut changes = advance(layout, &reading.control_set, &next)?;
    for (entry, change) in &plan.changes {
        let found = reading.state.sets.get(entry);
        if found != Some(&change.from) {
            return Err(BatchError::Stale {
                entry: entry.clone(),
                planned: weights(&change.from),
                found: found.map_or_else(|| "nothing".to_owned(), weights),
            });
        }
        changes.extend(set_changes(layout, checks, reading, entry, change.from.clone(), &change.to)?);
    }
    check_limits(&changes)?;
    Ok(changes)
}

/// The control record, deleted as read and created anew.
///
/// # Errors
/// When `next` has no text that fits.
pub fn advance(
    layout: &Layout,
    as_read: &ResourceRecordSet,
    next: &ControlRecord,
) -> Result<Vec<Change>, BatchError> {
    Ok(vec![delete(as_read.clone())?, create_control(layout, next)?])
}

/// # Errors
/// When the control record has no text that fits.
pub fn create_control(layout: &Layout, control: &ControlRecord) -> Result<Change, BatchError> {
    let set = ResourceRecordSet::builder()
        .name(control_name(&layout.name))
        .r#type(RrType::Txt)
        .ttl(CONTROL_TTL)
        .resource_records(ResourceRecord::builder().value(control.render()?).build()?)
        .build()?;
    change(ChangeAction::Create, set)
}

/// # Errors
/// When the SDK wants a field that is not here.
pub fn create(record: ResourceRecordSet) -> Result<Change, BatchError> {
    change(ChangeAction::Create, record)
}

/// With everything as read: Route 53 refuses it when it is not so any more.
///
/// # Errors
/// When the SDK wants a field that is not here.
pub fn delete(as_read: ResourceRecordSet) -> Result<Change, BatchError> {
    change(ChangeAction::Delete, as_read)
}

fn change(action: ChangeAction, set: ResourceRecordSet) -> Result<Change, BatchError> {
    Ok(Change::builder().action(action).resource_record_set(set).build()?)
}

/// Deletes and creates of one entry: every record of it, those that keep their weight too.
///
/// Only what is deleted as read is guarded: a hand edit of any record of the entry fails the batch.
fn set_changes(
    layout: &Layout,
    checks: &Checks,
    reading: &Reading,
    entry: &EntryId,
    from: WeightedSet,
    to: &WeightedSet,
) -> Result<Vec<Change>, BatchError> {
    let mut changes = Vec::new();
    let gone = from.iter().filter(|(region, _)| to.get(region).is_none());
    let regions = to.iter().map(|(region, weight)| (region, Some(weight)));
    for (region, weight) in gone.map(|(region, _)| (region, None)).chain(regions) {
        for kind in &layout.kinds {
            let slot = Slot::Weighted { entry: entry.clone(), region: region.clone(), kind: *kind };
            if let Some(as_read) = reading.records.get(&slot) {
                changes.push(delete(as_read.clone())?);
            }
            if let Some(weight) = weight {
                let record = layout.record(&slot, Some(weight), checks)?;
                changes.push(change(ChangeAction::Create, record)?);
            }
        }
    }
    Ok(changes)
}

/// # Errors
/// `TooLarge`: Route 53 would refuse the batch, and half of it is no plan.
pub fn check_limits(changes: &[Change]) -> Result<(), BatchError> {
    let (mut records, mut characters) = (0, 0);
    for set in changes.iter().filter_map(|change| change.resource_record_set.as_ref()) {
        // An alias counts as one.
        records += set.resource_records().len().max(1);
        characters += set.resource_records().iter().map(|r| r.value.chars().count()).sum::<usize>();
    }
    if records > RECORDS_MAX || characters > CHARACTERS_MAX {
        return Err(BatchError::TooLarge { records, characters });
    }
    Ok(())
}

/// A set for people: `eu-west-1=75 us-east-1=25`.
pub fn weights(set: &WeightedSet) -> String {
    let parts = set.iter().map(|(region, weight): (_, Weight)| format!("{region}={}", weight.get()));
    parts.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn txt(values: usize, characters: usize) -> Change {
        let value = ResourceRecord::builder().value("x".repeat(characters)).build().unwrap();
        let set = ResourceRecordSet::builder()
            .name("x.example.com")
            .r#type(RrType::Txt)
            .ttl(60)
            .set_resource_records(Some(vec![value; values]));
        change(ChangeAction::Create, set.build().unwrap()).unwrap()
    }

    #[test]
    fn a_batch_beyond_the_limits_is_refused_before_it_is_sent() {
        for (changes, fits) in [
            (vec![txt(1, 1); 1000], true),
            (vec![txt(1, 1); 1001], false),
            (vec![txt(500, 1), txt(501, 1)], false),
            (vec![txt(1, 32_000)], true),
            (vec![txt(1, 32_001)], false),
            (vec![txt(1, 16_000), txt(1, 16_001)], false),
        ] {
            let result = check_limits(&changes);
            assert_eq!(result.is_ok(), fits, "{} changes: {result:?}", changes.len());
        }
    }
}
