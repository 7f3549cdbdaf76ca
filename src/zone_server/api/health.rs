//! Health checks.

use super::zones::page_size;
use super::{Answered, Call, Document};
use crate::zone_server::checker;
use crate::zone_server::health::{HealthCheck, Outcome};
use crate::zone_server::refusal::Refusal;
use crate::zone_server::shape;
use crate::zone_server::state::State;
use crate::zone_server::wire;
use serde::Deserialize;
use std::sync::Arc;

/// Checks a page. Source: API reference, ListHealthChecks, maxitems.
const CHECKS_PAGE_MAX: usize = 1000;

/// CreateHealthCheck: starts looking at once; the same call again finds the first check.
pub fn create(state: &Arc<State>, call: &Call) -> Answered {
    let asked: wire::CreateHealthCheckRequest = call.xml()?;
    let config = shape::check_config(&asked.health_check_config)?;
    let (check, new) = state.store().create_check(asked.caller_reference, config)?;
    if new {
        checker::start(state, &check);
    }
    let location = format!("/2013-04-01/healthcheck/{}", check.id);
    Ok(one("CreateHealthCheckResponse", &check)?.created(location))
}

/// GetHealthCheck.
pub fn get(state: &Arc<State>, id: &str) -> Answered {
    one("GetHealthCheckResponse", state.store().check(id)?)
}

#[derive(Deserialize)]
struct Page {
    marker: Option<String>,
    maxitems: Option<usize>,
}

/// ListHealthChecks: by id, from the marker on.
pub fn list(state: &Arc<State>, call: &Call) -> Answered {
    let page: Page = call.query()?;
    let items = page_size(page.maxitems, CHECKS_PAGE_MAX)?;
    let marker = page.marker.unwrap_or_default();
    let store = state.store();
    let mut checks = store.checks().filter(|check| check.id >= marker);
    let health_check = checks.by_ref().take(items).map(shown).collect();
    let next = checks.next().map(|check| check.id.clone());
    Document::xml(
        "ListHealthChecksResponse",
        &wire::ListHealthChecksResponse {
            xmlns: wire::Xmlns,
            health_checks: wire::HealthChecks { health_check },
            marker,
            is_truncated: next.is_some(),
            next_marker: next,
            max_items: items,
        },
    )
}

/// UpdateHealthCheck: what is not named stays; type and interval are fixed at creation.
///
/// Source: API reference, UpdateHealthCheck (an address can be neither added nor taken away).
pub fn update(state: &Arc<State>, call: &Call, id: &str) -> Answered {
    let asked: wire::UpdateHealthCheckRequest = call.xml()?;
    let before = state.store().check(id)?.config.clone();
    if before.address.is_none() && asked.ip_address.is_some() {
        return Err(Refusal::InvalidInput("Invalid request: the check has no IPAddress".into()));
    }
    let mut config = shape::shown_config(&before);
    config.ip_address = asked.ip_address.or(config.ip_address);
    config.port = asked.port.or(config.port);
    config.resource_path = asked.resource_path.or(config.resource_path);
    config.fully_qualified_domain_name =
        asked.fully_qualified_domain_name.or(config.fully_qualified_domain_name);
    config.failure_threshold = asked.failure_threshold.or(config.failure_threshold);
    config.inverted = asked.inverted.or(config.inverted);
    config.disabled = asked.disabled.or(config.disabled);
    let config = shape::check_config(&config)?;
    let check = state.store().update_check(id, config)?;
    one("UpdateHealthCheckResponse", &check)
}

/// DeleteHealthCheck.
pub fn delete(state: &Arc<State>, id: &str) -> Answered {
    state.store().delete_check(id)?;
    Document::xml("DeleteHealthCheckResponse", &wire::DeleteHealthCheckResponse { xmlns: wire::Xmlns })
}

/// GetHealthCheckStatus: what each checker last saw; those that have not looked yet are left out.
pub fn status(state: &Arc<State>, id: &str) -> Answered {
    let store = state.store();
    let observations = store
        .check(id)?
        .checkers()
        .iter()
        .enumerate()
        .filter_map(|(index, checker)| {
            let (at, outcome) = checker.last()?;
            let (Outcome::Success(status) | Outcome::Failure(status)) = outcome;
            Some(wire::HealthCheckObservation {
                region: checker.region.clone(),
                // Addresses for documentation (RFC 5737): these checkers have none of their own.
                ip_address: format!("192.0.2.{}", index + 1),
                status_report: wire::StatusReport {
                    status: status.clone(),
                    checked_time: state.timestamp(*at),
                },
            })
        })
        .collect();
    Document::xml(
        "GetHealthCheckStatusResponse",
        &wire::GetHealthCheckStatusResponse {
            xmlns: wire::Xmlns,
            health_check_observations: wire::HealthCheckObservations {
                health_check_observation: observations,
            },
        },
    )
}

fn one(root: &str, check: &HealthCheck) -> Answered {
    Document::xml(root, &wire::HealthCheckResponse { xmlns: wire::Xmlns, health_check: shown(check) })
}

fn shown(check: &HealthCheck) -> wire::HealthCheck {
    wire::HealthCheck {
        id: check.id.clone(),
        caller_reference: check.caller_reference.clone(),
        health_check_config: shape::shown_config(&check.config),
        health_check_version: check.version,
    }
}
