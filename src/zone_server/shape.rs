//! From what a caller wrote to what the store holds, and back.
//!
//! Shape rules only: what one change or check says by itself, refused as
//! `InvalidInput` before any zone is looked at.
//! Source: API reference, ResourceRecordSet, Change and HealthCheckConfig.

use super::health::{CHECKER_REGIONS, CheckConfig, CheckKind, RequestInterval};
use super::name::Name;
use super::record::{AliasTarget, Content, RecordKey, RecordSet, RecordType, Routing};
use super::refusal::Refusal;
use super::rules::{Action, Change};
use super::wire;
use aws_sdk_route53::types::ResourceRecordSetRegion;

/// TTL in seconds. Source: API reference, ResourceRecordSet, TTL.
const TTL_MAX: i64 = 2_147_483_647;
/// Characters of a set identifier. Source: same page, SetIdentifier.
const SET_IDENTIFIER_MAX: usize = 128;

/// Reads a batch.
///
/// # Errors
/// `InvalidInput` for the first change whose shape is wrong,
/// `InvalidChangeBatch` for a bad name.
pub fn changes(batch: wire::ChangeBatch) -> Result<Vec<Change>, Refusal> {
    let changes = batch.changes.change;
    if changes.is_empty() {
        return Err(Refusal::InvalidInput(
            "1 validation error detected: Value '[]' at 'changeBatch.changes' failed to satisfy constraint: Member must have length greater than or equal to 1".into(),
        ));
    }
    changes.into_iter().enumerate().map(|(index, asked)| change(index, asked)).collect()
}

fn change(index: usize, asked: wire::Change) -> Result<Change, Refusal> {
    let action = match asked.action.as_str() {
        "CREATE" => Action::Create,
        "DELETE" => Action::Delete,
        "UPSERT" => Action::Upsert,
        other => {
            return Err(constraint(index, "action", other, "enum value set: [CREATE, DELETE, UPSERT]"));
        }
    };
    let set = asked.resource_record_set;
    ranges(index, &set)?;
    let described = format!(
        "Change with [Action={}, Name={}, Type={}, SetIdentifier={}]",
        asked.action,
        set.name,
        set.kind,
        set.set_identifier.as_deref().unwrap_or("null")
    );
    let routing = routing(&set, &described)?;
    let kind = RecordType::parse(&set.kind).ok_or_else(|| {
        constraint(
            index,
            "resourceRecordSet.type",
            &set.kind,
            "enum value set: [A, AAAA, CNAME, NS, SOA, TXT]",
        )
    })?;
    let name =
        Name::parse(&set.name).map_err(|error| Refusal::InvalidChangeBatch(vec![error.to_string()]))?;
    let content = content(&set, &described)?;
    Ok(Change {
        action,
        record: RecordSet {
            key: RecordKey { name, kind, set_identifier: set.set_identifier },
            routing,
            content,
            health_check_id: set.health_check_id,
        },
    })
}

fn constraint(index: usize, field: &str, value: &str, rule: &str) -> Refusal {
    Refusal::InvalidInput(format!(
        "1 validation error detected: Value '{value}' at 'changeBatch.changes.{}.member.{field}' failed to satisfy constraint: Member must satisfy {rule}",
        index + 1
    ))
}

/// Weight 0..=255, TTL 0..=2147483647, SetIdentifier of 1 to 128 characters, Region of AWS's list.
fn ranges(index: usize, set: &wire::ResourceRecordSet) -> Result<(), Refusal> {
    if let Some(weight) = set.weight.filter(|weight| !(0..=255).contains(weight)) {
        let rule = "value between 0 and 255";
        return Err(constraint(index, "resourceRecordSet.weight", &weight.to_string(), rule));
    }
    if let Some(ttl) = set.ttl.filter(|ttl| !(0..=TTL_MAX).contains(ttl)) {
        let rule = "value between 0 and 2147483647";
        return Err(constraint(index, "resourceRecordSet.tTL", &ttl.to_string(), rule));
    }
    if let Some(id) = &set.set_identifier
        && !(1..=SET_IDENTIFIER_MAX).contains(&id.chars().count())
    {
        return Err(constraint(index, "resourceRecordSet.setIdentifier", id, "length between 1 and 128"));
    }
    // The SDK's model of the API carries the list, so it grows with the SDK.
    let regions = ResourceRecordSetRegion::values();
    if let Some(region) = set.region.as_deref().filter(|region| !regions.contains(region)) {
        let rule = format!("enum value set: [{}]", regions.join(", "));
        return Err(constraint(index, "resourceRecordSet.region", region, &rule));
    }
    Ok(())
}

/// One policy with a set identifier, or neither.
///
/// Source: API reference, ResourceRecordSet, SetIdentifier ("For resource
/// record sets that have a routing policy other than simple").
fn routing(set: &wire::ResourceRecordSet, described: &str) -> Result<Routing, Refusal> {
    const POLICIES: &str =
        "[Weight, Region, Failover, GeoLocation, MultiValueAnswer, CidrRoutingConfig, GeoProximityLocation]";
    let uncarried = [
        set.failover.is_some(),
        set.multi_value_answer.is_some(),
        set.geo_location.is_some(),
        set.cidr_routing_config.is_some(),
        set.geo_proximity_location.is_some(),
    ]
    .into_iter()
    .filter(|present| *present)
    .count();
    let named = uncarried + usize::from(set.weight.is_some()) + usize::from(set.region.is_some());
    let refuse = |text: String| Err(Refusal::InvalidInput(format!("Invalid request: {text} in {described}")));
    if named > 1 {
        return refuse(format!("Expected exactly one of {POLICIES}, but found more than one"));
    }
    if uncarried > 0 {
        return refuse(
            "The zone server carries only simple, weighted and latency records; found another".into(),
        );
    }
    match (&set.set_identifier, set.weight, &set.region) {
        (None, None, None) => Ok(Routing::Simple),
        (Some(_), None, None) => refuse(format!("Expected exactly one of {POLICIES}, but found none")),
        (None, _, _) => refuse("Missing field 'SetIdentifier'".into()),
        (Some(_), Some(weight), _) => u8::try_from(weight)
            .map(Routing::Weighted)
            .map_err(|_| Refusal::InvalidInput(format!("Weight {weight} is above 255"))),
        (Some(_), None, Some(region)) => Ok(Routing::Latency(region.clone())),
    }
}

/// Either an alias, or a TTL and values.
///
/// Source: API reference, ResourceRecordSet: TTL and ResourceRecords are
/// required unless it is an alias, and omitted when it is.
fn content(set: &wire::ResourceRecordSet, described: &str) -> Result<Content, Refusal> {
    const FORMS: &str = "Expected exactly one of [AliasTarget, all of [TTL, and ResourceRecords], or TrafficPolicyInstanceId]";
    let values: Option<Vec<String>> = set
        .resource_records
        .as_ref()
        .map(|records| records.resource_record.iter().map(|record| record.value.clone()).collect())
        .filter(|values: &Vec<String>| !values.is_empty());
    let refuse = |found: &str| {
        Err(Refusal::InvalidInput(format!("Invalid request: {FORMS}, but found {found} in {described}")))
    };
    match (&set.alias_target, set.ttl, values) {
        (Some(target), None, None) => Ok(Content::Alias(AliasTarget {
            zone_id: bare_id(&target.hosted_zone_id).to_owned(),
            name: Name::parse(&target.dns_name)
                .map_err(|error| Refusal::InvalidChangeBatch(vec![error.to_string()]))?,
            evaluate_target_health: target.evaluate_target_health,
        })),
        (Some(_), _, _) => refuse("more than one"),
        (None, Some(ttl), Some(values)) => u32::try_from(ttl)
            .map(|ttl| Content::Values { ttl, values })
            .map_err(|_| Refusal::InvalidInput(format!("TTL {ttl} is out of range"))),
        (None, _, _) => refuse("none"),
    }
}

/// An id without the path that Route 53 puts in front.
#[must_use]
pub fn bare_id(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or(id)
}

/// A record set as a listing shows it.
#[must_use]
pub fn record_set(record: &RecordSet) -> wire::ResourceRecordSet {
    let (weight, region) = match &record.routing {
        Routing::Simple => (None, None),
        Routing::Weighted(weight) => (Some(i64::from(*weight)), None),
        Routing::Latency(region) => (None, Some(region.clone())),
    };
    let (ttl, resource_records, alias_target) = match &record.content {
        Content::Values { ttl, values } => {
            let resource_record =
                values.iter().map(|value| wire::ResourceRecord { value: value.clone() }).collect();
            (Some(i64::from(*ttl)), Some(wire::ResourceRecords { resource_record }), None)
        }
        Content::Alias(target) => {
            let alias = wire::AliasTarget {
                hosted_zone_id: target.zone_id.clone(),
                dns_name: target.name.to_string(),
                evaluate_target_health: target.evaluate_target_health,
            };
            (None, None, Some(alias))
        }
    };
    wire::ResourceRecordSet {
        name: record.key.name.to_string(),
        kind: record.key.kind.as_str().to_owned(),
        set_identifier: record.key.set_identifier.clone(),
        weight,
        region,
        ttl,
        resource_records,
        alias_target,
        health_check_id: record.health_check_id.clone(),
        ..wire::ResourceRecordSet::default()
    }
}

/// Reads a health check's configuration, defaults filled in.
///
/// Source: API reference, HealthCheckConfig (interval 10 or 30, default 30;
/// threshold 1 to 10, default 3; port 80 for HTTP; at least three regions).
///
/// # Errors
/// `InvalidInput`, for what Route 53 refuses and for types not carried here.
pub fn check_config(asked: &wire::HealthCheckConfig) -> Result<CheckConfig, Refusal> {
    let refuse = |text: String| Refusal::InvalidInput(format!("Invalid request: {text}"));
    let kind = match asked.kind.as_str() {
        "HTTP" => CheckKind::Http,
        "TCP" => CheckKind::Tcp,
        other => return Err(refuse(format!("the zone server runs HTTP and TCP checks, not {other}"))),
    };
    let address = asked
        .ip_address
        .as_deref()
        .map(|address| {
            address.parse().map_err(|_| refuse(format!("IPAddress '{address}' is not an address")))
        })
        .transpose()?;
    // Source: API reference, HealthCheckConfig, FullyQualifiedDomainName.
    if address.is_none() && asked.fully_qualified_domain_name.is_none() {
        return Err(refuse("IPAddress or FullyQualifiedDomainName is required".into()));
    }
    let port = match (asked.port, kind) {
        (Some(0), _) => return Err(refuse("Port must be between 1 and 65535".into())),
        (Some(port), _) => port,
        (None, CheckKind::Http) => 80,
        (None, CheckKind::Tcp) => return Err(refuse("Port is required for TCP checks".into())),
    };
    let interval = match asked.request_interval.unwrap_or(30) {
        10 => RequestInterval::Seconds10,
        30 => RequestInterval::Seconds30,
        other => return Err(refuse(format!("RequestInterval must be 10 or 30, not {other}"))),
    };
    let threshold = asked.failure_threshold.unwrap_or(3);
    let threshold = u8::try_from(threshold)
        .ok()
        .filter(|threshold| (1..=10).contains(threshold))
        .ok_or_else(|| refuse(format!("FailureThreshold must be between 1 and 10, not {threshold}")))?;
    let path = asked.resource_path.as_deref().unwrap_or("/");
    if path.chars().count() > 255 || path.chars().any(|char| char.is_control() || char == ' ') {
        return Err(refuse("ResourcePath must be at most 255 characters, without spaces".into()));
    }
    let host = asked.fully_qualified_domain_name.clone();
    if host.iter().any(|host| host.chars().any(|char| char.is_control() || char == ' ')) {
        return Err(refuse("FullyQualifiedDomainName must be a name".into()));
    }
    let regions = match &asked.regions {
        Some(regions) if !regions.region.is_empty() => regions.region.clone(),
        _ => CHECKER_REGIONS.map(str::to_owned).to_vec(),
    };
    if !(3..=64).contains(&regions.len()) {
        return Err(refuse("Regions must name between 3 and 64 regions".into()));
    }
    Ok(CheckConfig {
        kind,
        address,
        port,
        path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
        host,
        interval,
        threshold,
        inverted: asked.inverted.unwrap_or(false),
        disabled: asked.disabled.unwrap_or(false),
        regions,
    })
}

/// A check's configuration as GetHealthCheck shows it.
#[must_use]
pub fn shown_config(config: &CheckConfig) -> wire::HealthCheckConfig {
    let (kind, path) = match config.kind {
        CheckKind::Http => ("HTTP", Some(config.path.clone())),
        CheckKind::Tcp => ("TCP", None),
    };
    wire::HealthCheckConfig {
        ip_address: config.address.map(|address| address.to_string()),
        port: Some(config.port),
        kind: kind.to_owned(),
        resource_path: path,
        fully_qualified_domain_name: config.host.clone(),
        request_interval: Some(config.interval.seconds()),
        failure_threshold: Some(u32::from(config.threshold)),
        inverted: Some(config.inverted),
        disabled: Some(config.disabled),
        regions: (config.regions != CHECKER_REGIONS)
            .then(|| wire::Regions { region: config.regions.clone() }),
    }
}
