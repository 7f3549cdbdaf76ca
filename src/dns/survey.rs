//! What the configuration asks for, against what exists: health checks, and the records of each name.
//!
//! Reads only. Names are looked at one by one: what one of them, or its zone, has against
//! it is told with that name and stops no other.

use super::api::{Api, Zone, is_under};
use super::checks::{CheckSpec, Checks, Difference};
use super::control_record::{ControlRecord, control_name};
use super::diff::{Diff, Step, owned};
use super::error::{ApiError, ErrorKind};
use super::layout::{Kind, Layout, LayoutError, edges};
use super::pace::Backoff;
use super::reader::{ReadError, fetch, parse_control};
use crate::config::{Config, Dns};
use crate::domain::name::DnsName;
use crate::error_chain::chain;
use aws_sdk_route53::types::{HealthCheck, ResourceRecordSet};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::future::Future;

/// Attempts at one call that is throttled, or not answered.
pub const ATTEMPTS_MAX: usize = 10;
/// Stands in for the id of a health check that is yet to be created.
pub const NEW_CHECK: &str = "(new)";

/// Why there is no survey at all.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    #[error("there is no [dns] in the configuration")]
    NoDns,
    #[error("'{0}' is not configured")]
    Unknown(String),
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// What exists, what is missing, what differs.
#[derive(Debug)]
pub struct Survey {
    pub dns: Dns,
    pub checks: BTreeMap<CheckSpec, CheckState>,
    /// The account's checks, those to create among them by a stand-in.
    pub known: Checks,
    pub names: Vec<NameSurvey>,
    /// Whether every configured name was looked at.
    pub whole: bool,
}

/// A health check that the configuration asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckState {
    Exists(String),
    Differs { id: String, difference: Difference },
    Missing,
}

/// One name.
#[derive(Debug)]
pub struct NameSurvey {
    pub name: DnsName,
    /// Why nothing can be told or done.
    pub result: Result<Looked, String>,
}

/// A name that could be looked at.
#[derive(Debug)]
pub struct Looked {
    pub layout: Layout,
    pub control: Option<(ControlRecord, ResourceRecordSet)>,
    /// Records that Proxima has charge of, as found.
    pub owned: Vec<ResourceRecordSet>,
    /// Ids of health checks that other records under the name carry.
    pub used_elsewhere: BTreeSet<String>,
    pub diff: Diff,
}

/// Looks at everything that the configuration asks for, or at the names in `only`; changes nothing.
///
/// # Errors
/// When there is nothing to look at, or the health checks cannot be listed.
pub async fn survey(api: &Api, config: &Config, only: &[DnsName]) -> Result<Survey, SurveyError> {
    let dns = config.dns.clone().ok_or(SurveyError::NoDns)?;
    if let Some(unknown) = only.iter().find(|name| !config.names.contains_key(*name)) {
        return Err(SurveyError::Unknown(unknown.to_string()));
    }
    let wanted = config.policy.names.keys().filter(|name| only.is_empty() || only.contains(name));
    let layouts: Vec<(DnsName, Result<Layout, LayoutError>)> =
        wanted.map(|name| (name.clone(), Layout::of(config, name))).collect();
    let good = || layouts.iter().filter_map(|(_, layout)| layout.as_ref().ok());
    let mut specs: BTreeSet<CheckSpec> = good().flat_map(Layout::gates).cloned().collect();
    specs.extend(edges(config, good()));

    let mut known = patient(ErrorKind::may_pass, || Checks::read(api)).await?;
    let mut checks = BTreeMap::new();
    for spec in specs {
        let state = match known.find(&spec) {
            None => CheckState::Missing,
            Some(found) => match spec.difference(found, &dns) {
                None => CheckState::Exists(found.id.clone()),
                Some(difference) => CheckState::Differs { id: found.id.clone(), difference },
            },
        };
        if state == CheckState::Missing {
            known.add(stand_in(&spec, &dns)?);
        }
        checks.insert(spec, state);
    }
    let mut zones: BTreeMap<String, Result<Option<Zone>, ApiError>> = BTreeMap::new();
    let mut names = Vec::new();
    for (name, layout) in layouts {
        let result = match layout {
            Err(error) => Err(chain(&error)),
            Ok(layout) => {
                if !zones.contains_key(&layout.zone_id) {
                    zones.insert(layout.zone_id.clone(), zone(api, &layout.zone_id).await);
                }
                match zones.get(&layout.zone_id) {
                    Some(Err(error)) => Err(chain(error)),
                    Some(Ok(zone)) => look(api, layout, zone.as_ref(), &known, &checks).await,
                    None => look(api, layout, None, &known, &checks).await,
                }
            }
        };
        names.push(NameSurvey { name, result });
    }
    Ok(Survey { dns, checks, known, names, whole: only.is_empty() })
}

/// The zone; `None` for who may not ask about it.
async fn zone(api: &Api, id: &str) -> Result<Option<Zone>, ApiError> {
    let api = api.in_zone(id);
    match patient(ErrorKind::may_pass, || api.zone()).await {
        Err(error) if matches!(error.kind, ErrorKind::Denied | ErrorKind::Unsupported) => Ok(None),
        zone => zone.map(Some),
    }
}

async fn look(
    api: &Api,
    layout: Layout,
    zone: Option<&Zone>,
    known: &Checks,
    checks: &BTreeMap<CheckSpec, CheckState>,
) -> Result<Looked, String> {
    if let Some(zone) = zone {
        if !is_under(layout.name.as_str(), &zone.name) {
            return Err(format!("it is not in zone {}, which is {}", layout.zone_id, zone.name));
        }
        // Source: developer guide, "CNAME record type" and "Values specific for weighted alias records".
        if layout.kinds.contains(&Kind::Cname) && layout.name.as_str() == zone.name {
            return Err("there is no CNAME at the apex of a zone; an alias may stand there".to_owned());
        }
    }
    for gate in layout.gates() {
        if let Some(CheckState::Differs { difference, id }) = checks.get(gate)
            && !difference.mendable()
        {
            return Err(format!(
                "health check {id} of {gate}: {difference}, and cannot be changed; delete it"
            ));
        }
    }
    let found = patient(ErrorKind::may_pass, || fetch(api, &layout)).await.map_err(|error| chain(&error))?;
    let control = match parse_control(&control_name(&layout.name), found.control.as_ref()) {
        Ok((record, set)) => Some((record, set.clone())),
        Err(ReadError::NoControl(_)) => None,
        Err(error) => return Err(chain(&error)),
    };
    let diff = Diff::of(&layout, known, &found.records).map_err(|error| chain(&error))?;
    let owned: Vec<ResourceRecordSet> = owned(&layout, &found.records).into_iter().cloned().collect();
    let others = found.records.iter().filter(|record| !owned.contains(record));
    let used_elsewhere = others.filter_map(|record| record.health_check_id.clone()).collect();
    Ok(Looked { layout, control, owned, used_elsewhere, diff })
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

/// Repeats a call while it ends in what `passes`.
///
/// # Errors
/// Of the last attempt, or the first that does not pass.
pub async fn patient<T, F: Future<Output = Result<T, ApiError>>>(
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

/// How much is to be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub create: usize,
    pub change: usize,
    pub delete: usize,
}

impl Counts {
    pub const fn none(self) -> bool {
        self.create + self.change + self.delete == 0
    }
}

impl Survey {
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for state in self.checks.values() {
            match state {
                CheckState::Exists(_) => {}
                CheckState::Differs { .. } => counts.change += 1,
                CheckState::Missing => counts.create += 1,
            }
        }
        for looked in self.names.iter().filter_map(|name| name.result.as_ref().ok()) {
            counts.create += usize::from(looked.control.is_none());
            for step in &looked.diff.steps {
                match step {
                    Step::Create(_) => counts.create += 1,
                    Step::Delete(_) => counts.delete += 1,
                    Step::Replace { .. } => counts.change += 1,
                }
            }
        }
        counts
    }

    /// Names about which nothing can be done, and why.
    pub fn problems(&self) -> Vec<(&DnsName, &str)> {
        let problems = self.names.iter().filter_map(|name| Some((&name.name, name.result.as_ref().err()?)));
        problems.map(|(name, problem)| (name, problem.as_str())).collect()
    }

    /// Names this plan: the same id, the same changes on the same records.
    pub fn id(&self) -> String {
        use sha2::{Digest, Sha256};
        let mut text = format!("{:?}", self.checks);
        for name in &self.names {
            // Writing into a string does not fail.
            let _ = match &name.result {
                Ok(looked) => write!(text, "{}|{:?}|{:?}", name.name, looked.control, looked.diff.steps),
                Err(problem) => write!(text, "{}|{problem}", name.name),
            };
        }
        Sha256::digest(text.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }
}
