//! Route 53's rules for one change batch, on a copy of the zone.
//!
//! Whole or not at all: the changes are applied one after another to a working
//! copy, every broken rule is collected, and only a copy without any replaces
//! the zone. Nothing here knows time, HTTP or DNS.
//! Source: API reference, ChangeResourceRecordSets; the texts are those that
//! Route 53 is known to send.

use super::balancers::Balancers;
use super::name::Name;
use super::record::{Content, RecordKey, RecordSet, RecordType, Routing, canonical_value, value_problem};
use std::collections::{BTreeMap, BTreeSet};

/// ResourceRecord elements a batch, UPSERT counted twice.
/// Source: developer guide, "Quotas", maximums on ChangeResourceRecordSets requests.
pub const RECORDS_MAX: usize = 1000;
/// Characters of all Value elements a batch, UPSERT counted twice. Same source.
pub const VALUE_CHARACTERS_MAX: usize = 32_000;
/// Values a record set. Source: developer guide, "Quotas", on records.
pub const VALUES_PER_SET_MAX: usize = 400;

/// All record sets of a zone.
pub type Records = BTreeMap<RecordKey, RecordSet>;

/// What a change does with its record set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Create,
    Delete,
    Upsert,
}

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub action: Action,
    pub record: RecordSet,
}

/// The zone that a batch is for.
#[derive(Debug, Clone, Copy)]
pub struct ZoneRef<'a> {
    pub id: &'a str,
    pub name: &'a Name,
    pub balancers: &'a Balancers,
}

/// The zone's record sets after the batch.
///
/// # Errors
/// Every broken rule, in Route 53's words; at least one.
pub fn apply(zone: ZoneRef<'_>, before: &Records, changes: &[Change]) -> Result<Records, Vec<String>> {
    let mut problems = limits(changes);
    if problems.is_empty() {
        problems.extend(repeated(changes));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut records = before.clone();
    for change in changes {
        if let Err(problem) = apply_one(&mut records, change) {
            problems.push(problem);
        }
        if change.action != Action::Delete {
            problems.extend(record_problems(zone, &change.record));
        }
    }
    for change in changes.iter().filter(|change| change.action != Action::Delete) {
        problems.extend(group_problem(&records, &change.record));
        problems.extend(cname_problem(zone, &records, &change.record.key));
        problems.extend(alias_problem(zone, &records, &change.record));
    }
    problems.extend(apex_problems(zone, &records));
    if problems.is_empty() { Ok(records) } else { Err(problems) }
}

/// Batch limits. Source: API reference, ChangeResourceRecordSets, "Limits on
/// change batches": for UPSERT each element and character counts twice.
fn limits(changes: &[Change]) -> Vec<String> {
    let mut problems = Vec::new();
    let (mut elements, mut characters) = (0_usize, 0_usize);
    for Change { action, record } in changes {
        let times = if *action == Action::Upsert { 2 } else { 1 };
        match &record.content {
            Content::Values { values, .. } => {
                elements += times * values.len();
                characters += times * values.iter().map(|value| value.chars().count()).sum::<usize>();
            }
            Content::Alias(_) => elements += times,
        }
    }
    if elements > RECORDS_MAX {
        problems.push(format!("Number of records limit of {RECORDS_MAX} exceeded."));
    }
    if characters > VALUE_CHARACTERS_MAX {
        problems.push(format!("RDATA character limit of {VALUE_CHARACTERS_MAX} exceeded."));
    }
    problems
}

/// A record set may be changed once a batch, or deleted and then created.
///
/// Source: API reference, ChangeResourceRecordSets: deleting the same record
/// set more than once in one batch is refused; a DELETE and a CREATE together
/// are its own example.
fn repeated(changes: &[Change]) -> Vec<String> {
    let mut seen: BTreeMap<&RecordKey, Vec<Action>> = BTreeMap::new();
    for change in changes {
        seen.entry(&change.record.key).or_default().push(change.action);
    }
    seen.into_iter()
        .filter(|(_, actions)| actions.len() > 1 && actions[..] != [Action::Delete, Action::Create])
        .map(|(key, _)| {
            format!(
                "The request contains an invalid set of changes for a resource record set '{} {}'",
                key.kind, key.name
            )
        })
        .collect()
}

/// CREATE refuses what exists, DELETE what is absent or differs; UPSERT takes both.
///
/// Source: API reference, ChangeResourceRecordSets, "Create, Delete, and Upsert".
fn apply_one(records: &mut Records, change: &Change) -> Result<(), String> {
    let key = &change.record.key;
    let existing = records.get(key);
    match (change.action, existing) {
        (Action::Create, Some(_)) => {
            Err(format!("Tried to create resource record set {} but it already exists", shown(key)))
        }
        (Action::Delete, None) => {
            Err(format!("Tried to delete resource record set {} but it was not found", shown(key)))
        }
        (Action::Delete, Some(existing)) if !existing.matches(&change.record) => Err(format!(
            "Tried to delete resource record set {} but the values provided do not match the current values",
            shown(key)
        )),
        (Action::Delete, Some(_)) => {
            records.remove(key);
            Ok(())
        }
        (Action::Create | Action::Upsert, _) => {
            records.insert(key.clone(), change.record.clone());
            Ok(())
        }
    }
}

fn shown(key: &RecordKey) -> String {
    match &key.set_identifier {
        Some(id) => format!("[name='{}', type='{}', set-identifier='{id}']", key.name, key.kind),
        None => format!("[name='{}', type='{}']", key.name, key.kind),
    }
}

/// Rules that one record set breaks by itself: its place and its values.
fn record_problems(zone: ZoneRef<'_>, record: &RecordSet) -> Vec<String> {
    let key = &record.key;
    let mut problems = Vec::new();
    if !key.name.is_in(zone.name) {
        problems.push(format!("RRSet with DNS name {} is not permitted in zone {}", key.name, zone.name));
    }
    if key.kind == RecordType::Cname && &key.name == zone.name {
        problems.push(format!(
            "RRSet of type CNAME with DNS name {} is not permitted at apex in zone {}",
            key.name, zone.name
        ));
    }
    let Content::Values { values, .. } = &record.content else { return problems };
    problems.extend(values.iter().filter_map(|value| value_problem(key.kind, value)));
    let distinct: BTreeSet<String> = values.iter().map(|value| canonical_value(key.kind, value)).collect();
    if distinct.len() < values.len() {
        problems.push(format!("Duplicate Resource Record: '{}'", values.join(", ")));
    }
    if values.len() > VALUES_PER_SET_MAX {
        problems.push(format!("Cannot have more than {VALUES_PER_SET_MAX} records in a RRSet."));
    }
    if values.len() > 1 && matches!(key.kind, RecordType::Cname | RecordType::Soa) {
        problems.push(format!("RRSet of type {} with DNS name {} must have one value", key.kind, key.name));
    }
    problems
}

/// Rules on all record sets of one name and type: one routing policy, a simple
/// one alone, one TTL a weighted set, one latency record a region.
///
/// Source: API reference, ResourceRecordSet (Weight, Region, TTL: "all of the
/// resource record sets in the group must have the same TTL") and developer
/// guide, "Values specific for weighted records".
fn group_problem(records: &Records, record: &RecordSet) -> Option<String> {
    let key = &record.key;
    let mut others = group(records, &key.name, key.kind).filter(|other| other.key != *key).peekable();
    others.peek()?;
    let subject = match &key.set_identifier {
        Some(id) => format!("RRSet with DNS name {}, type {}, SetIdentifier {id}", key.name, key.kind),
        None => format!("RRSet with DNS name {}, type {}", key.name, key.kind),
    };
    for other in others {
        let word = record.routing.word();
        match (&record.routing, &other.routing) {
            (Routing::Simple, _) => {
                return Some(format!(
                    "{subject} cannot be created as other RRSets exist with the same name and type."
                ));
            }
            (Routing::Weighted(_), Routing::Weighted(_)) => {
                let ttls = (record.ttl(), other.ttl());
                if matches!(ttls, (Some(mine), Some(theirs)) if mine != theirs) {
                    return Some(format!(
                        "{subject} cannot be created as weighted sets must contain the same TTL."
                    ));
                }
            }
            (Routing::Latency(mine), Routing::Latency(theirs)) => {
                if mine == theirs {
                    return Some(format!(
                        "{subject} cannot be created as a latency record for region {mine} exists with the same name and type."
                    ));
                }
            }
            _ => {
                return Some(format!(
                    "{subject} cannot be created as a non-{word} set exists with the same name and type."
                ));
            }
        }
    }
    None
}

/// The record sets of one name and type, by set identifier.
pub fn group<'a>(records: &'a Records, name: &Name, kind: RecordType) -> impl Iterator<Item = &'a RecordSet> {
    let first = RecordKey { name: name.clone(), kind, set_identifier: None };
    let name = name.clone();
    records
        .range(first..)
        .map(|(_, record)| record)
        .take_while(move |record| record.key.name == name && record.key.kind == kind)
}

/// A CNAME stands alone under its name.
///
/// Source: developer guide, "CNAME record type" (RFC 1034, section 3.6.2).
fn cname_problem(zone: ZoneRef<'_>, records: &Records, key: &RecordKey) -> Option<String> {
    let cname = group(records, &key.name, RecordType::Cname).next().is_some();
    let first = RecordKey { name: key.name.clone(), kind: RecordType::A, set_identifier: None };
    let others = records
        .range(first..)
        .take_while(|(other, _)| other.name == key.name)
        .any(|(other, _)| other.kind != RecordType::Cname);
    if !(cname && others) {
        return None;
    }
    Some(if key.kind == RecordType::Cname {
        format!(
            "RRSet of type CNAME with DNS name {} is not permitted as it conflicts with other records with the same DNS name in zone {}",
            key.name, zone.name
        )
    } else {
        format!(
            "RRSet of type {} with DNS name {} is not permitted because a conflicting RRSet of type CNAME with the same DNS name already exists in zone {}",
            key.kind, key.name, zone.name
        )
    })
}

/// An alias names an existing record set of its own zone and type, not itself; or a load balancer.
///
/// Source: API reference, AliasTarget ("Another Route 53 record in your hosted
/// zone": same zone, same type; "ELB load balancer": the load balancer's own
/// zone and name), and developer guide, "Values specific for simple alias
/// records" (type A or AAAA for a load balancer).
fn alias_problem(zone: ZoneRef<'_>, records: &Records, record: &RecordSet) -> Option<String> {
    let Content::Alias(target) = &record.content else { return None };
    let kind = record.key.kind;
    let subject = format!(
        "Tried to create an alias that targets {}, type {kind} in zone {}",
        target.name, target.zone_id
    );
    if zone.balancers.holds(&target.zone_id, &target.name) {
        let addresses = matches!(kind, RecordType::A | RecordType::Aaaa);
        return (!addresses)
            .then(|| format!("{subject}, but the alias target is a load balancer: type A or AAAA"));
    }
    if target.zone_id != zone.id || !target.name.is_in(zone.name) {
        return Some(format!("{subject}, but the alias target name does not lie within the target zone"));
    }
    let found = target.name != record.key.name && group(records, &target.name, kind).next().is_some();
    (!found).then(|| format!("{subject}, but that target was not found"))
}

/// The apex keeps its SOA and NS.
///
/// Source: developer guide, "NS and SOA records that Amazon Route 53 creates".
fn apex_problems(zone: ZoneRef<'_>, records: &Records) -> Vec<String> {
    let mut problems = Vec::new();
    if group(records, zone.name, RecordType::Soa).count() != 1 {
        problems.push("A HostedZone must contain exactly one SOA record.".to_owned());
    }
    if group(records, zone.name, RecordType::Ns).next().is_none() {
        problems.push("A HostedZone must contain at least one NS record for the zone itself.".to_owned());
    }
    problems
}
