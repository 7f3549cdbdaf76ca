//! Route 53's calls, as few as Proxima needs, each paced, counted and with sorted errors.

use super::access::connect;
use super::error::{ApiError, ErrorKind};
use super::pace::{Pace, Rank, Turn};
use crate::aws::Session;
use crate::config::Dns;
use crate::metrics::dns::DnsMetrics;
use aws_sdk_route53::Client;
use aws_sdk_route53::types::{
    Change, ChangeBatch, ChangeStatus, HealthCheck, HealthCheckConfig, ResourceRecordSet, RrType,
};
use std::sync::Arc;
use tokio::time::Instant;

/// Record sets a page. Source: API reference, ListResourceRecordSets, `maxitems`.
const PAGE_RECORDS: i32 = 300;
/// Health checks a page. Source: API reference, ListHealthChecks, `maxitems`.
const PAGE_CHECKS: i32 = 1000;
/// Pages of one listing: beyond this something else is wrong.
const PAGES_MAX: usize = 100;

/// A zone's calls. Those of other zones and ranks share its pace.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    zone_id: String,
    rank: Rank,
    pace: Arc<Pace>,
    metrics: Arc<DnsMetrics>,
}

/// A hosted zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// As Proxima spells it.
    pub name: String,
    /// Names of its servers.
    pub servers: Vec<String>,
}

impl Api {
    /// Calls for the zone of `dns`, at the whole pace of the account.
    pub fn connect(dns: &Dns, session: &Session, metrics: Arc<DnsMetrics>) -> Self {
        let pace = Arc::new(Pace::per_second(dns.requests_per_second));
        let client = connect(dns, session);
        Self { client, zone_id: dns.zone_id.clone(), rank: Rank::Read, pace, metrics }
    }

    /// The same with another pace.
    pub fn paced(mut self, pace: Pace) -> Self {
        self.pace = Arc::new(pace);
        self
    }

    /// The same for another zone.
    #[must_use]
    pub fn in_zone(&self, zone_id: &str) -> Self {
        Self { zone_id: zone_id.to_owned(), ..self.clone() }
    }

    /// The same at another rank.
    #[must_use]
    pub fn ranked(&self, rank: Rank) -> Self {
        Self { rank, ..self.clone() }
    }

    pub fn metrics(&self) -> &DnsMetrics {
        &self.metrics
    }

    /// The record set of exactly this name and type without a set identifier.
    ///
    /// # Errors
    /// Any kind but `Conflict` and `Exists`.
    pub async fn record(&self, name: &str, kind: RrType) -> Result<Option<ResourceRecordSet>, ApiError> {
        let listing = self.list(name, Some(kind.clone()), None, 1).await?;
        let found = listing.resource_record_sets.into_iter().next();
        Ok(found.filter(|r| same_name(&r.name, name) && r.r#type == kind && r.set_identifier.is_none()))
    }

    /// Every record set of this name and of the names below it.
    ///
    /// Record sets are listed by name with the labels reversed, so these stand together.
    /// Source: API reference, ListResourceRecordSets.
    ///
    /// # Errors
    /// Any kind but `Conflict` and `Exists`.
    pub async fn subtree(&self, name: &str) -> Result<Vec<ResourceRecordSet>, ApiError> {
        let mut records = Vec::new();
        let mut next = (name.to_owned(), None, None);
        for _ in 0..PAGES_MAX {
            let (start, kind, set) = next;
            let page = self.list(&start, kind, set, PAGE_RECORDS).await?;
            let listed = page.resource_record_sets.len();
            records.extend(page.resource_record_sets.into_iter().take_while(|r| is_under(&r.name, name)));
            let more = page.is_truncated.then_some(page.next_record_name).flatten();
            match more {
                Some(start) if listed > 0 && is_under(&start, name) => {
                    next = (start, page.next_record_type, page.next_record_identifier);
                }
                _ => return Ok(records),
            }
        }
        Err(ApiError {
            action: "ListResourceRecordSets",
            kind: ErrorKind::Refused,
            detail: format!("more than {PAGES_MAX} pages under {name}"),
        })
    }

    async fn list(
        &self,
        start: &str,
        kind: Option<RrType>,
        set: Option<String>,
        items: i32,
    ) -> Result<aws_sdk_route53::operation::list_resource_record_sets::ListResourceRecordSetsOutput, ApiError>
    {
        let request = self
            .client
            .list_resource_record_sets()
            .hosted_zone_id(&self.zone_id)
            .start_record_name(start)
            .set_start_record_type(kind)
            .set_start_record_identifier(set)
            .max_items(items);
        self.turn().await;
        let answer = request.send().await;
        answer.map_err(|error| self.failed(ApiError::of("ListResourceRecordSets", &error)))
    }

    /// Waits for the turn of a request.
    pub async fn turn(&self) -> Turn {
        self.pace.turn(self.rank).await
    }

    /// The zone's name and servers.
    ///
    /// # Errors
    /// `Missing` for an unknown zone; else any but `Conflict` and `Exists`.
    pub async fn zone(&self) -> Result<Zone, ApiError> {
        const ACTION: &str = "GetHostedZone";
        self.turn().await;
        let answer = self.client.get_hosted_zone().id(&self.zone_id).send().await;
        let answer = answer.map_err(|error| self.failed(ApiError::of(ACTION, &error)))?;
        let zone = answer.hosted_zone.ok_or_else(|| ApiError::incomplete(ACTION, "HostedZone"))?;
        let servers = answer.delegation_set.map(|set| set.name_servers).unwrap_or_default();
        let servers = servers.iter().map(|server| plain_name(server)).collect();
        Ok(Zone { name: plain_name(&zone.name), servers })
    }

    /// Submits one batch at once, whole or not at all; the change's id.
    ///
    /// # Errors
    /// `Conflict` when it does not fit the records as they are; `Unanswered` when it may have been applied.
    pub async fn change(&self, _: Turn, changes: Vec<Change>, comment: &str) -> Result<String, ApiError> {
        const ACTION: &str = "ChangeResourceRecordSets";
        let batch = ChangeBatch::builder()
            .set_changes(Some(changes))
            .comment(comment)
            .build()
            .map_err(|error| ApiError::unbuilt(ACTION, &error))?;
        let request = self.client.change_resource_record_sets().hosted_zone_id(&self.zone_id);
        let answer = request.change_batch(batch).send().await;
        let answer = answer.map_err(|error| self.failed(ApiError::of(ACTION, &error)))?;
        // Accepted without a word about the change: it must be settled like a lost answer.
        let info = answer.change_info.ok_or_else(|| ApiError::incomplete(ACTION, "ChangeInfo"))?;
        Ok(info.id.trim_start_matches("/change/").to_owned())
    }

    /// Whether a change has reached all of Route 53's servers.
    ///
    /// # Errors
    /// `Missing` for an unknown change; else any but `Conflict` and `Exists`.
    pub async fn in_sync(&self, change_id: &str) -> Result<bool, ApiError> {
        self.turn().await;
        let answer = self.client.get_change().id(change_id).send().await;
        let answer = answer.map_err(|error| self.failed(ApiError::of("GetChange", &error)))?;
        let info = answer.change_info.ok_or_else(|| ApiError::incomplete("GetChange", "ChangeInfo"))?;
        Ok(info.status == ChangeStatus::Insync)
    }

    /// Every health check of the account.
    ///
    /// # Errors
    /// Any kind but `Conflict` and `Exists`.
    pub async fn health_checks(&self) -> Result<Vec<HealthCheck>, ApiError> {
        let mut checks = Vec::new();
        let mut marker = None;
        for _ in 0..PAGES_MAX {
            self.turn().await;
            let request = self.client.list_health_checks().set_marker(marker).max_items(PAGE_CHECKS);
            let page = request.send().await;
            let page = page.map_err(|error| self.failed(ApiError::of("ListHealthChecks", &error)))?;
            checks.extend(page.health_checks);
            marker = page.is_truncated.then_some(page.next_marker).flatten();
            if marker.is_none() {
                return Ok(checks);
            }
        }
        Err(ApiError {
            action: "ListHealthChecks",
            kind: ErrorKind::Refused,
            detail: format!("more than {PAGES_MAX} pages"),
        })
    }

    /// Creates a health check; its id.
    ///
    /// # Errors
    /// `Exists` when the reference was used with other settings, or by a check that was deleted.
    pub async fn create_health_check(
        &self,
        reference: &str,
        config: HealthCheckConfig,
    ) -> Result<HealthCheck, ApiError> {
        const ACTION: &str = "CreateHealthCheck";
        self.turn().await;
        let request = self.client.create_health_check().caller_reference(reference);
        let answer = request.health_check_config(config).send().await;
        let answer = answer.map_err(|error| self.failed(ApiError::of(ACTION, &error)))?;
        answer.health_check.ok_or_else(|| ApiError::incomplete(ACTION, "HealthCheck"))
    }

    /// Gives a health check the settings of `config`, but for those that are fixed at creation.
    ///
    /// # Errors
    /// `Missing` for an unknown check; else any but `Conflict` and `Exists`.
    pub async fn update_health_check(&self, id: &str, config: HealthCheckConfig) -> Result<(), ApiError> {
        self.turn().await;
        let request = self
            .client
            .update_health_check()
            .health_check_id(id)
            .set_ip_address(config.ip_address)
            .set_fully_qualified_domain_name(config.fully_qualified_domain_name)
            .set_port(config.port)
            .set_resource_path(config.resource_path)
            .set_failure_threshold(config.failure_threshold)
            .disabled(false)
            .inverted(false);
        let answer = request.send().await;
        answer.map(drop).map_err(|error| self.failed(ApiError::of("UpdateHealthCheck", &error)))
    }

    /// # Errors
    /// `Missing` for an unknown check; else any but `Conflict` and `Exists`.
    pub async fn delete_health_check(&self, id: &str) -> Result<(), ApiError> {
        self.turn().await;
        let answer = self.client.delete_health_check().health_check_id(id).send().await;
        answer.map(drop).map_err(|error| self.failed(ApiError::of("DeleteHealthCheck", &error)))
    }

    /// What each checker last said of a health check: whether it was well.
    ///
    /// # Errors
    /// `Missing` for an unknown check, `Unsupported` by servers without checkers.
    pub async fn observations(&self, check_id: &str) -> Result<Vec<bool>, ApiError> {
        self.turn().await;
        let answer = self.client.get_health_check_status().health_check_id(check_id).send().await;
        let answer = answer.map_err(|error| self.failed(ApiError::of("GetHealthCheckStatus", &error)))?;
        let said = |report: &aws_sdk_route53::types::HealthCheckObservation| {
            // "Success: HTTP Status Code 200, OK", "Failure: Connection timed out. …"
            Some(report.status_report.as_ref()?.status.as_ref()?.starts_with("Success"))
        };
        Ok(answer.health_check_observations.iter().filter_map(said).collect())
    }

    fn failed(&self, error: ApiError) -> ApiError {
        if error.kind == ErrorKind::Throttled {
            self.pace.throttled(Instant::now());
        }
        self.metrics.api_failed(error.kind.as_str());
        error
    }
}

/// A record's name as Proxima spells it: lower case, no final dot, `\ooo` undone.
///
/// Source: developer guide, "DNS domain name format": other characters come back as octal escapes.
pub fn plain_name(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    let mut rest = name.trim_end_matches('.');
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        plain.push_str(before);
        let code = escape.get(1..4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                rest = &escape[4..];
            }
            None => {
                plain.push('\\');
                rest = &escape[1..];
            }
        }
    }
    plain.push_str(rest);
    plain.to_ascii_lowercase()
}

fn same_name(found: &str, name: &str) -> bool {
    plain_name(found) == name
}

/// Whether a record's name is `name` or below it.
pub fn is_under(found: &str, name: &str) -> bool {
    let found = plain_name(found);
    found == name || found.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_in_one_spelling() {
        for (found, plain) in [
            ("www.example.com.", "www.example.com"),
            ("WWW.Example.com", "www.example.com"),
            ("\\052.example.com.", "*.example.com"),
            ("\\137proxima.www.example.com.", "_proxima.www.example.com"),
            ("a\\x.example.com", "a\\x.example.com"),
            ("a\\", "a\\"),
        ] {
            assert_eq!(plain_name(found), plain);
        }
    }

    #[test]
    fn a_subtree_ends_at_a_dot() {
        assert!(is_under("a.www.example.com.", "www.example.com"));
        assert!(is_under("www.example.com.", "www.example.com"));
        assert!(!is_under("bwww.example.com.", "www.example.com"));
        assert!(!is_under("example.com.", "www.example.com"));
    }
}
