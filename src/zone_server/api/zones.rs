//! Hosted zones, record sets and changes.

use super::{Answered, Call, Document};
use crate::zone_server::name::Name;
use crate::zone_server::record::{RecordKey, RecordType};
use crate::zone_server::refusal::Refusal;
use crate::zone_server::shape;
use crate::zone_server::state::{Fault, State};
use crate::zone_server::store::{ChangeInfo, ChangeStatus, NewZone, Zone, name_servers};
use crate::zone_server::wire;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// Records a page; also the default. Source: API reference, ListResourceRecordSets, maxitems.
const RECORD_SETS_PAGE_MAX: usize = 300;
/// Zones a page. Source: API reference, ListHostedZonesByName, maxitems.
const ZONES_PAGE_MAX: usize = 100;
/// How long a lost answer stays away: longer than any caller waits.
const SILENCE: Duration = Duration::from_secs(60);

/// CreateHostedZone.
pub fn create(state: &Arc<State>, call: &Call) -> Answered {
    let asked: wire::CreateHostedZoneRequest = call.xml()?;
    let name = Name::parse(&asked.name).map_err(|error| Refusal::InvalidDomainName(error.to_string()))?;
    let config = asked.hosted_zone_config.unwrap_or_default();
    if config.private_zone {
        return Err(Refusal::InvalidInput("The zone server carries public zones only.".into()));
    }
    let new = NewZone { name, caller_reference: asked.caller_reference, comment: config.comment };
    let now = state.now();
    let (zone, change) = state.store().create_zone(new, now)?;
    let change = shown_change(state, &change);
    let location = format!("/2013-04-01/hostedzone/{}", zone.id);
    let body = shown_zone(&zone, Some(change));
    Ok(Document::xml("CreateHostedZoneResponse", &body)?.created(location))
}

/// GetHostedZone.
pub fn get(state: &Arc<State>, id: &str) -> Answered {
    let store = state.store();
    Document::xml("GetHostedZoneResponse", &shown_zone(store.zone(id)?, None))
}

#[derive(Deserialize)]
struct ZonesPage {
    dnsname: Option<String>,
    hostedzoneid: Option<String>,
    maxitems: Option<usize>,
}

/// ListHostedZonesByName: from the asked name and id on, in name order.
pub fn list_by_name(state: &Arc<State>, call: &Call) -> Answered {
    let page: ZonesPage = call.query()?;
    let start = match &page.dnsname {
        Some(text) => {
            let name = Name::parse(text).map_err(|error| Refusal::InvalidDomainName(error.to_string()))?;
            Some((name, page.hostedzoneid.clone().unwrap_or_default()))
        }
        None => None,
    };
    let items = page_size(page.maxitems, ZONES_PAGE_MAX)?;
    let store = state.store();
    let mut zones = store
        .zones_by_name()
        .into_iter()
        .filter(|zone| start.as_ref().is_none_or(|(name, id)| (&zone.name, &zone.id) >= (name, id)));
    let hosted_zone = zones.by_ref().take(items).map(hosted_zone).collect();
    let next = zones.next();
    Document::xml(
        "ListHostedZonesByNameResponse",
        &wire::ListHostedZonesByNameResponse {
            xmlns: wire::Xmlns,
            hosted_zones: wire::HostedZones { hosted_zone },
            dns_name: page.dnsname,
            is_truncated: next.is_some(),
            next_dns_name: next.map(|zone| zone.name.to_string()),
            next_hosted_zone_id: next.map(|zone| zone.id.clone()),
            max_items: items,
        },
    )
}

/// ChangeResourceRecordSets, with the faults that tests ask for.
pub async fn change_record_sets(state: &Arc<State>, call: &Call, zone_id: &str) -> Answered {
    let fault = state.faults().next();
    match fault {
        Some(Fault::Throttling) => return Err(Refusal::Throttling),
        Some(Fault::PriorRequestNotComplete) => return Err(Refusal::PriorRequestNotComplete),
        Some(Fault::Unavailable) => return Err(Refusal::ServiceUnavailable),
        _ => {}
    }
    let asked: wire::ChangeResourceRecordSetsRequest = call.xml()?;
    let comment = asked.change_batch.comment.clone();
    let changes = shape::changes(asked.change_batch)?;
    let now = state.now();
    let change = state.store().change(zone_id, &changes, comment, now)?;
    match fault {
        Some(Fault::AppliedThenUnavailable) => Err(Refusal::ServiceUnavailable),
        Some(Fault::AppliedThenSilent) => {
            let mut shutdown = state.shutdown.clone();
            tokio::select! {
                () = tokio::time::sleep(SILENCE) => {}
                _ = shutdown.wait_for(|stop| *stop) => {}
            }
            Err(Refusal::ServiceUnavailable)
        }
        _ => change_document("ChangeResourceRecordSetsResponse", state, &change),
    }
}

#[derive(Deserialize)]
struct RecordSetsPage {
    name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    identifier: Option<String>,
    maxitems: Option<usize>,
}

impl RecordSetsPage {
    /// Where the page begins. Source: API reference, ListResourceRecordSets,
    /// "Specifying where to start listing records".
    fn start(&self) -> Result<Option<RecordKey>, Refusal> {
        let kind = self
            .kind
            .as_deref()
            .map(|kind| {
                RecordType::parse(kind)
                    .ok_or_else(|| Refusal::InvalidInput(format!("Unknown record type '{kind}'")))
            })
            .transpose()?;
        match (&self.name, kind, &self.identifier) {
            (None, None, None) => Ok(None),
            (None, ..) => {
                Err(Refusal::InvalidInput("A record type or identifier needs a record name".into()))
            }
            (Some(_), None, Some(_)) => {
                Err(Refusal::InvalidInput("A record identifier needs a record type".into()))
            }
            (Some(name), kind, identifier) => {
                let name = Name::parse(name).map_err(|error| Refusal::InvalidInput(error.to_string()))?;
                let kind = kind.unwrap_or(RecordType::A);
                Ok(Some(RecordKey { name, kind, set_identifier: identifier.clone() }))
            }
        }
    }
}

/// ListResourceRecordSets: in Route 53's order, paged by name, type and identifier.
pub fn list_record_sets(state: &Arc<State>, call: &Call, zone_id: &str) -> Answered {
    let page: RecordSetsPage = call.query()?;
    let start = page.start()?;
    let items = page_size(page.maxitems, RECORD_SETS_PAGE_MAX)?;
    let store = state.store();
    let mut records = store
        .zone(zone_id)?
        .records()
        .values()
        .filter(|record| start.as_ref().is_none_or(|start| record.key >= *start));
    let resource_record_set = records.by_ref().take(items).map(shape::record_set).collect();
    let next = records.next().map(|record| record.key.clone());
    Document::xml(
        "ListResourceRecordSetsResponse",
        &wire::ListResourceRecordSetsResponse {
            xmlns: wire::Xmlns,
            resource_record_sets: wire::RecordSets { resource_record_set },
            is_truncated: next.is_some(),
            next_record_name: next.as_ref().map(|key| key.name.to_string()),
            next_record_type: next.as_ref().map(|key| key.kind.to_string()),
            next_record_identifier: next.and_then(|key| key.set_identifier),
            max_items: items,
        },
    )
}

/// GetChange.
pub fn get_change(state: &Arc<State>, id: &str) -> Answered {
    let change = state.store().change_info(id)?.clone();
    change_document("GetChangeResponse", state, &change)
}

/// The page size that counts: at least one, at most what Route 53 allows.
pub fn page_size(asked: Option<usize>, max: usize) -> Result<usize, Refusal> {
    match asked {
        Some(0) => Err(Refusal::InvalidInput("maxitems must be at least 1".into())),
        Some(asked) => Ok(asked.min(max)),
        None => Ok(max),
    }
}

fn change_document(root: &str, state: &State, change: &ChangeInfo) -> Answered {
    let body = wire::ChangeInfoResponse { xmlns: wire::Xmlns, change_info: shown_change(state, change) };
    Document::xml(root, &body)
}

fn shown_change(state: &State, change: &ChangeInfo) -> wire::ChangeInfo {
    wire::ChangeInfo {
        id: format!("/change/{}", change.id),
        status: match change.status(state.now()) {
            ChangeStatus::Pending => "PENDING",
            ChangeStatus::Insync => "INSYNC",
        },
        submitted_at: state.timestamp(change.submitted_at),
        comment: change.comment.clone(),
    }
}

fn hosted_zone(zone: &Zone) -> wire::HostedZone {
    wire::HostedZone {
        id: format!("/hostedzone/{}", zone.id),
        name: zone.name.to_string(),
        caller_reference: zone.caller_reference.clone(),
        config: wire::HostedZoneConfig { comment: zone.comment.clone(), private_zone: false },
        resource_record_set_count: zone.records().len(),
    }
}

fn shown_zone(zone: &Zone, change_info: Option<wire::ChangeInfo>) -> wire::HostedZoneResponse {
    wire::HostedZoneResponse {
        xmlns: wire::Xmlns,
        hosted_zone: hosted_zone(zone),
        change_info,
        delegation_set: wire::DelegationSet {
            name_servers: wire::NameServers { name_server: name_servers(&zone.name).to_vec() },
        },
    }
}
