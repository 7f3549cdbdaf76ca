//! What these credentials may do at Route 53, found out without doing it.
//!
//! Reads are tried. A write is tried as a batch that must fail: it deletes records
//! with a value drawn at random, which Route 53 refuses for what they hold only after
//! IAM has let the call through, and it creates the control record as it is, which
//! exists. Each of the two would fail alone, so nothing hangs on batches being atomic.

use super::api::Api;
use super::batch::{BatchError, create, delete};
use super::control_record::control_name;
use super::error::{ApiError, ErrorKind};
use super::layout::Layout;
use super::pace::Rank;
use crate::config::{Config, DnsMode};
use crate::domain::name::DnsName;
use aws_sdk_route53::types::{Change, ResourceRecord, ResourceRecordSet, RrType};
use std::collections::BTreeSet;

/// Ids that nobody has: who may ask for them hears that they do not exist.
const NO_CHECK: &str = "00000000-0000-4000-8000-000000000000";
const NO_CHANGE: &str = "C00000000000000000000";

/// A call, and whether it may be made.
#[derive(Debug)]
pub struct Right {
    pub action: &'static str,
    /// Which zone or name; empty: no one in particular.
    pub on: String,
    /// Whether a running edge is of no use without it.
    pub needed: bool,
    pub outcome: Outcome,
}

/// What asking showed.
#[derive(Debug)]
pub enum Outcome {
    Allowed,
    /// Partly seen: what was not.
    AllowedBut(&'static str),
    NotTested(&'static str),
    Failed(ApiError),
}

/// Tries every call that an edge with this configuration makes.
pub async fn rights(api: &Api, config: &Config) -> Vec<Right> {
    let Some(dns) = &config.dns else { return Vec::new() };
    let acts = dns.mode == DnsMode::Act;
    let own = config.names.values().filter_map(|name| name.zone_id.as_deref());
    let zones: BTreeSet<&str> = own.chain([dns.zone_id.as_str()]).collect();
    let mut rights = Vec::new();
    for id in zones {
        let zone = api.in_zone(id);
        let found = zone.zone().await;
        let domain = found.as_ref().map_or_else(|_| String::new(), |zone| zone.name.clone());
        let mut right =
            |action, needed, outcome| rights.push(Right { action, on: id.to_owned(), needed, outcome });
        right("GetHostedZone", false, of(found));
        let start = if domain.is_empty() { "example.com" } else { &domain };
        right("ListResourceRecordSets", true, of(zone.record(start, RrType::Soa).await));
    }
    let mut right =
        |action, needed, outcome| rights.push(Right { action, on: String::new(), needed, outcome });
    let checks = api.health_checks().await;
    let check = checks.as_ref().ok().and_then(|checks| Some(checks.first()?.id.clone()));
    right("ListHealthChecks", true, of(checks));
    let asked = api.observations(check.as_deref().unwrap_or(NO_CHECK)).await;
    right("GetHealthCheckStatus", config.regions.len() > 1, exists_or_not(asked));
    right("GetChange", acts, exists_or_not(api.in_sync(NO_CHANGE).await));
    for name in config.policy.names.keys() {
        let outcome = write(api, config, name).await;
        let on = name.to_string();
        rights.push(Right { action: "ChangeResourceRecordSets", on, needed: acts, outcome });
    }
    for action in ["CreateHealthCheck", "UpdateHealthCheck", "DeleteHealthCheck"] {
        let outcome = Outcome::NotTested("only `proxima dns bootstrap`, `apply` and `remove` make it");
        rights.push(Right { action, on: String::new(), needed: false, outcome });
    }
    rights
}

fn of<T>(answer: Result<T, ApiError>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Allowed,
        Err(error) => Outcome::Failed(error),
    }
}

/// Asked for something that need not exist.
fn exists_or_not<T>(answer: Result<T, ApiError>) -> Outcome {
    match answer {
        Err(error) if error.kind == ErrorKind::Missing => Outcome::Allowed,
        Err(error) if error.kind == ErrorKind::Unsupported => {
            Outcome::NotTested("this server does not carry the call")
        }
        // IAM's answers are of other kinds; this one is about the question.
        Err(error) if error.kind == ErrorKind::Refused => {
            Outcome::NotTested("this server takes the question for a wrong one")
        }
        other => of(other),
    }
}

/// Submits a batch that must be refused for what it holds.
async fn write(api: &Api, config: &Config, name: &DnsName) -> Outcome {
    const ACTION: &str = "ChangeResourceRecordSets";
    let layout = match Layout::of(config, name) {
        Ok(layout) => layout,
        Err(error) => return Outcome::Failed(ApiError::unbuilt(ACTION, &error)),
    };
    let api = api.in_zone(&layout.zone_id).ranked(Rank::Write);
    let control = match api.record(&control_name(name), RrType::Txt).await {
        Ok(control) => control,
        Err(_) => return Outcome::NotTested("the records cannot be read"),
    };
    let whole = control.is_some();
    let batch = match harmless(&layout, control, &format!("{:032x}", rand::random::<u128>())) {
        Ok(batch) => batch,
        Err(error) => return Outcome::Failed(ApiError::unbuilt(ACTION, &error)),
    };
    match api.change(api.turn().await, batch, "proxima doctor: to be refused").await {
        Err(error) if error.kind == ErrorKind::Conflict && whole => Outcome::Allowed,
        Err(error) if error.kind == ErrorKind::Conflict => Outcome::AllowedBut(
            "DELETE; CREATE is not tested before `proxima dns bootstrap` has made the control record",
        ),
        Err(error) => Outcome::Failed(error),
        Ok(id) => {
            let detail = format!("the server took a batch that it had to refuse (change {id}): not Route 53");
            Outcome::Failed(ApiError { action: ACTION, kind: ErrorKind::Refused, detail })
        }
    }
}

/// Deletions of what cannot be there, at every name that an edge writes, and the creation of what is.
fn harmless(
    layout: &Layout,
    control: Option<ResourceRecordSet>,
    secret: &str,
) -> Result<Vec<Change>, BatchError> {
    let text = |value: String| ResourceRecord::builder().value(value).build();
    let absent = ResourceRecordSet::builder()
        .name(control_name(&layout.name))
        .r#type(RrType::Txt)
        .ttl(60)
        .resource_records(text(format!("\"proxima-doctor {secret}\""))?)
        .build()?;
    let mut changes = vec![delete(absent)?];
    for entry in layout.entries() {
        for kind in &layout.kinds {
            let value = match kind.rr_type() {
                RrType::A => "192.0.2.1".to_owned(),
                RrType::Aaaa => "2001:db8::1".to_owned(),
                _ => format!("{secret}.invalid"),
            };
            let absent = ResourceRecordSet::builder()
                .name(layout.set_name(entry))
                .r#type(kind.rr_type())
                .set_identifier(format!("proxima-doctor-{secret}"))
                .weight(1)
                .ttl(60)
                .resource_records(text(value)?)
                .build()?;
            changes.push(delete(absent)?);
        }
    }
    if let Some(control) = control {
        changes.push(create(control)?);
    }
    Ok(changes)
}
