//! Route 53's XML, version 2013-04-01: the elements of the calls carried here.
//!
//! Field order is the API's; names are its element names. Both directions share
//! the record set and health check shapes.

use serde::{Deserialize, Serialize, Serializer};

/// The namespace attribute of every answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Xmlns;

impl Serialize for Xmlns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("https://route53.amazonaws.com/doc/2013-04-01/")
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ResourceRecord {
    pub value: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ResourceRecords {
    #[serde(default)]
    pub resource_record: Vec<ResourceRecord>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AliasTarget {
    pub hosted_zone_id: String,
    #[serde(rename = "DNSName")]
    pub dns_name: String,
    pub evaluate_target_health: bool,
}

/// A record set; the policies that this server does not carry are read only to
/// be refused by name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ResourceRecordSet {
    pub name: String,
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_identifier: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(default, skip_serializing)]
    pub failover: Option<String>,
    #[serde(default, skip_serializing)]
    pub multi_value_answer: Option<String>,
    #[serde(default, skip_serializing)]
    pub geo_location: Option<Unread>,
    #[serde(default, skip_serializing)]
    pub cidr_routing_config: Option<Unread>,
    #[serde(default, skip_serializing)]
    pub geo_proximity_location: Option<Unread>,
    #[serde(rename = "TTL", default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_records: Option<ResourceRecords>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias_target: Option<AliasTarget>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_id: Option<String>,
}

/// An element whose presence is all that counts.
#[derive(Debug, Clone, Deserialize)]
pub struct Unread {}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Change {
    pub action: String,
    pub resource_record_set: ResourceRecordSet,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Changes {
    #[serde(default)]
    pub change: Vec<Change>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ChangeBatch {
    #[serde(default)]
    pub comment: Option<String>,
    pub changes: Changes,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ChangeResourceRecordSetsRequest {
    pub change_batch: ChangeBatch,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ChangeInfo {
    pub id: String,
    pub status: &'static str,
    pub submitted_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// The body of ChangeResourceRecordSets and GetChange.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ChangeInfoResponse {
    #[serde(rename = "@xmlns")]
    pub xmlns: Xmlns,
    pub change_info: ChangeInfo,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RecordSets {
    pub resource_record_set: Vec<ResourceRecordSet>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListResourceRecordSetsResponse {
    #[serde(rename = "@xmlns")]
    pub xmlns: Xmlns,
    pub resource_record_sets: RecordSets,
    pub is_truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_record_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_record_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_record_identifier: Option<String>,
    pub max_items: usize,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostedZoneConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    #[serde(default)]
    pub private_zone: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateHostedZoneRequest {
    pub name: String,
    pub caller_reference: String,
    #[serde(default)]
    pub hosted_zone_config: Option<HostedZoneConfig>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostedZone {
    pub id: String,
    pub name: String,
    pub caller_reference: String,
    pub config: HostedZoneConfig,
    pub resource_record_set_count: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NameServers {
    pub name_server: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DelegationSet {
    pub name_servers: NameServers,
}

/// The body of CreateHostedZone (with a change) and GetHostedZone (without).
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostedZoneResponse {
    #[serde(rename = "@xmlns")]
    pub xmlns: Xmlns,
    pub hosted_zone: HostedZone,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_info: Option<ChangeInfo>,
    pub delegation_set: DelegationSet,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostedZones {
    pub hosted_zone: Vec<HostedZone>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListHostedZonesByNameResponse {
    #[serde(rename = "@xmlns")]
    pub xmlns: Xmlns,
    pub hosted_zones: HostedZones,
    #[serde(rename = "DNSName", skip_serializing_if = "Option::is_none")]
    pub dns_name: Option<String>,
    pub is_truncated: bool,
    #[serde(rename = "NextDNSName", skip_serializing_if = "Option::is_none")]
    pub next_dns_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hosted_zone_id: Option<String>,
    pub max_items: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Regions {
    #[serde(default)]
    pub region: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthCheckConfig {
    #[serde(rename = "IPAddress", default, skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fully_qualified_domain_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_interval: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_threshold: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inverted: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regions: Option<Regions>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateHealthCheckRequest {
    pub caller_reference: String,
    pub health_check_config: HealthCheckConfig,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateHealthCheckRequest {
    #[serde(rename = "IPAddress", default)]
    pub ip_address: Option<String>,
    #[serde(default)]
    pub port: Option<u16>,
    #[serde(default)]
    pub resource_path: Option<String>,
    #[serde(default)]
    pub fully_qualified_domain_name: Option<String>,
    #[serde(default)]
    pub failure_threshold: Option<u32>,
    #[serde(default)]
    pub inverted: Option<bool>,
    #[serde(default)]
    pub disabled: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthCheck {
    pub id: String,
    pub caller_reference: String,
    pub health_check_config: HealthCheckConfig,
    pub health_check_version: u64,
}

/// The body of CreateHealthCheck and GetHealthCheck.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthCheckResponse {
    #[serde(rename = "@xmlns")]
    pub xmlns: Xmlns,
    pub health_check: HealthCheck,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthChecks {
    pub health_check: Vec<HealthCheck>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListHealthChecksResponse {
    #[serde(rename = "@xmlns")]
    pub xmlns: Xmlns,
    pub health_checks: HealthChecks,
    pub marker: String,
    pub is_truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
    pub max_items: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StatusReport {
    pub status: String,
    pub checked_time: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthCheckObservation {
    pub region: String,
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    pub status_report: StatusReport,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthCheckObservations {
    pub health_check_observation: Vec<HealthCheckObservation>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetHealthCheckStatusResponse {
    #[serde(rename = "@xmlns")]
    pub xmlns: Xmlns,
    pub health_check_observations: HealthCheckObservations,
}

#[derive(Debug, Serialize)]
pub struct DeleteHealthCheckResponse {
    #[serde(rename = "@xmlns")]
    pub xmlns: Xmlns,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ErrorBody {
    #[serde(rename = "Type")]
    pub kind: &'static str,
    pub code: &'static str,
    pub message: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ErrorResponse {
    #[serde(rename = "@xmlns")]
    pub xmlns: Xmlns,
    pub error: ErrorBody,
    pub request_id: String,
}
