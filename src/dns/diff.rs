//! What the configuration asks for under a name, against what was found there.
//!
//! Owned are the name itself and its entries' sets; a set of an entry that the
//! configuration does not name any more is owned by the alias that leads to it.
//! Weights are no layout: those that were found stay. Pure.

use super::api::plain_name;
use super::checks::Checks;
use super::layout::{Kind, Layout, LayoutError, Property, Slot, differences};
use crate::domain::name::EntryId;
use crate::domain::weights::{Weight, WeightedSet};
use aws_sdk_route53::types::ResourceRecordSet;
use std::collections::{BTreeMap, BTreeSet};

/// One record that is not as it shall be.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Create(ResourceRecordSet),
    Delete(ResourceRecordSet),
    Replace { found: ResourceRecordSet, wanted: ResourceRecordSet, properties: Vec<Property> },
}

/// A name's records, sorted by what is to be done with them.
#[derive(Debug, Clone, Default)]
pub struct Diff {
    pub kept: Vec<ResourceRecordSet>,
    pub steps: Vec<Step>,
}

/// What tells one record from another: name, type, set identifier.
type Key = (String, Kind, Option<String>);

fn key(record: &ResourceRecordSet) -> Option<Key> {
    Some((plain_name(&record.name), Kind::of(&record.r#type)?, record.set_identifier.clone()))
}

impl Diff {
    /// The difference; `checks` holds a stand-in for each health check that is yet to be created.
    ///
    /// # Errors
    /// When the wanted form of a record cannot be told.
    pub fn of(layout: &Layout, checks: &Checks, found: &[ResourceRecordSet]) -> Result<Self, LayoutError> {
        let mut wanted = BTreeMap::new();
        for (slot, weight) in slots(layout, found) {
            let record = layout.record(&slot, weight, checks)?;
            if let Some(key) = key(&record) {
                wanted.insert(key, record);
            }
        }
        let mut diff = Self::default();
        for record in owned(layout, found) {
            match key(record).and_then(|key| wanted.remove(&key)) {
                None => diff.steps.push(Step::Delete(record.clone())),
                Some(wanted) => {
                    let properties = differences(record, &wanted);
                    if properties.is_empty() {
                        diff.kept.push(record.clone());
                    } else {
                        diff.steps.push(Step::Replace { found: record.clone(), wanted, properties });
                    }
                }
            }
        }
        diff.steps.extend(wanted.into_values().map(Step::Create));
        Ok(diff)
    }

    /// Records to delete as they were read, and records to create, each in an order that leaves no
    /// alias without its target.
    pub fn changes(&self) -> (Vec<ResourceRecordSet>, Vec<ResourceRecordSet>) {
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        for step in &self.steps {
            match step {
                Step::Create(record) => new.push(record.clone()),
                Step::Delete(record) => gone.push(record.clone()),
                Step::Replace { found, wanted, .. } => {
                    gone.push(found.clone());
                    new.push(wanted.clone());
                }
            }
        }
        gone.sort_by_key(|record| record.region.is_none());
        new.sort_by_key(|record| record.region.is_some());
        (gone, new)
    }
}

/// The records among `found` that Proxima has charge of.
pub fn owned<'a>(layout: &Layout, found: &'a [ResourceRecordSet]) -> Vec<&'a ResourceRecordSet> {
    let name = layout.name.as_str();
    let mut sets: BTreeSet<String> = layout.entries().map(|entry| layout.set_name(entry)).collect();
    sets.insert(name.to_owned());
    let mut left: BTreeSet<String> = BTreeSet::new();
    for record in found.iter().filter(|record| plain_name(&record.name) == name) {
        let (Some(target), Some(set)) = (&record.alias_target, &record.set_identifier) else { continue };
        let leads = plain_name(&target.dns_name);
        let zone = target.hosted_zone_id.trim_start_matches("/hostedzone/");
        if zone == layout.zone_id && leads == format!("{set}.{name}") {
            left.insert(leads);
        }
    }
    let ours = |record: &&ResourceRecordSet| {
        let at = plain_name(&record.name);
        Kind::of(&record.r#type).is_some()
            && (sets.contains(&at) || (left.contains(&at) && record.weight.is_some()))
    };
    found.iter().filter(ours).collect()
}

/// Every place of the layout, weighted ones with their weights: as found, else those of home.
fn slots(layout: &Layout, found: &[ResourceRecordSet]) -> Vec<(Slot, Option<Weight>)> {
    let mut slots = Vec::new();
    for (entry, home) in layout.home() {
        // One kind leads: where A and AAAA differ, users of both go where those of A do.
        // Those of a kind that is not in use any more tell the weights, too.
        let mut kinds = layout.kinds.iter().chain(&Kind::ALL);
        let set = kinds.find_map(|kind| found_set(layout, found, &entry, *kind));
        let set = set.unwrap_or(home);
        for kind in &layout.kinds {
            slots.extend(set.iter().map(|(region, weight)| {
                let (entry, region) = (entry.clone(), region.clone());
                (Slot::Weighted { entry, region, kind: *kind }, Some(weight))
            }));
        }
    }
    slots.extend(layout.aliases().into_iter().map(|slot| (slot, None)));
    slots
}

/// Weights of an entry in one kind, as found; `None` when there are none that may stay.
fn found_set(
    layout: &Layout,
    found: &[ResourceRecordSet],
    entry: &EntryId,
    kind: Kind,
) -> Option<WeightedSet> {
    let name = layout.set_name(entry);
    let of_set = found
        .iter()
        .filter(|record| plain_name(&record.name) == name && Kind::of(&record.r#type) == Some(kind));
    let weights = of_set.filter_map(|record| {
        let region = layout.has_region(record.set_identifier.as_deref()?)?;
        Some((region.clone(), Weight::new(u8::try_from(record.weight?).ok()?)?))
    });
    WeightedSet::new(weights.collect())
}
