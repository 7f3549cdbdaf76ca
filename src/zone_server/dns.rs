//! The DNS side: hickory's server in front of the pure answer.

use super::answer::{Answer, Answered, Query, World, answer};
use super::health::HealthCheck;
use super::name::Name;
use super::record::{RecordType, Soa, parse_txt};
use super::rules::Records;
use super::state::State;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Edns, MessageType, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, NS, SOA, TXT};
use hickory_server::proto::rr::{DNSClass, Name as WireName, RData, Record};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use rand::Rng;
use std::net::IpAddr;
use std::sync::Arc;

/// Answers queries with what the store serves.
pub struct Handler {
    pub state: Arc<State>,
}

/// What goes back, before it is put on the wire.
struct Reply {
    code: ResponseCode,
    answers: Vec<Record>,
    soa: Vec<Record>,
}

impl Reply {
    fn refused(code: ResponseCode) -> Self {
        Self { code, answers: Vec::new(), soa: Vec::new() }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let subnet = client_subnet(request);
        let asker = subnet.map_or(request.src().ip(), |subnet| subnet.addr());
        let place = self.state.places.of(asker);
        let reply = self.reply(request, place.map(|(_, region)| region));
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = matches!(reply.code, ResponseCode::NoError | ResponseCode::NXDomain);
        let scope = place.map_or(0, |(block, _)| block.prefix_len());
        let edns = request.edns.as_ref().map(|asked| response_edns(asked, subnet, scope));
        let builder = MessageResponseBuilder::new(&request.queries, edns.as_ref());
        let response = builder.build(metadata, &reply.answers, &[], &reply.soa, &[]);
        match response_handle.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::warn!(%error, client = %request.src(), "a DNS answer could not be sent");
                let mut failed = Metadata::new(request.metadata.id, MessageType::Response, OpCode::Query);
                failed.response_code = ResponseCode::ServFail;
                hickory_server::proto::op::Header { metadata: failed, counts: Default::default() }.into()
            }
        }
    }
}

impl Handler {
    fn reply(&self, request: &Request, place: Option<&str>) -> Reply {
        if request.metadata.op_code != OpCode::Query {
            return Reply::refused(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else {
            return Reply::refused(ResponseCode::FormErr);
        };
        let asked = info.query.original();
        if asked.query_class() != DNSClass::IN {
            return Reply::refused(ResponseCode::Refused);
        }
        let Ok(name) = Name::parse(&asked.name().to_ascii()) else {
            return self.unspeakable(&asked.name().to_ascii());
        };
        let kind = RecordType::parse(&asked.query_type().to_string());
        let Some(found) = self.found(&name, kind, place) else {
            return Reply::refused(ResponseCode::Refused);
        };
        // The question's own spelling goes back: clients compare it.
        let spelled = |answered: &Answered| {
            if answered.name == name { Some(asked.name().clone()) } else { wire_name(&answered.name) }
        };
        match found {
            Answer::Records(all) => Reply {
                code: ResponseCode::NoError,
                answers: all.iter().flat_map(|one| records(one, spelled(one))).collect(),
                soa: Vec::new(),
            },
            Answer::NoData { soa } => negative(ResponseCode::NoError, &soa),
            Answer::NxDomain { soa } => negative(ResponseCode::NXDomain, &soa),
        }
    }

    /// A name with characters that no stored name has: absent if in a zone here.
    fn unspeakable(&self, name: &str) -> Reply {
        let store = self.state.store();
        let lower = name.to_ascii_lowercase();
        let held = store.zones_by_name().into_iter().any(|zone| lower.ends_with(&format!(".{}", zone.name)));
        Reply::refused(if held { ResponseCode::NXDomain } else { ResponseCode::Refused })
    }

    /// The answer, `None` when no zone here holds the name.
    fn found(&self, name: &Name, kind: Option<RecordType>, place: Option<&str>) -> Option<Answer> {
        let now = self.state.now();
        let mut store = self.state.store();
        store.advance(now);
        // The deepest zone that holds the name: its last label comes last in the order.
        let zones = store.zones_by_name();
        let zone = zones.into_iter().rev().find(|zone| name.is_in(&zone.name))?;
        let records: &Records = zone.served();
        let healthy = |id: &str| store.check(id).map_or(true, HealthCheck::healthy);
        let (rtts, balancers) = (&self.state.rtts, store.balancers());
        let world = World { zone: &zone.name, records, rtts, balancers, healthy: &healthy };
        let mut draws = self.state.draws();
        Some(answer(&world, Query { name, kind, place }, &mut |below| draws.random_range(0..below)))
    }
}

fn negative(code: ResponseCode, soa: &Answered) -> Reply {
    Reply { code, answers: Vec::new(), soa: records(soa, wire_name(&soa.name)) }
}

fn wire_name(name: &Name) -> Option<WireName> {
    WireName::from_ascii(name.as_str()).ok()
}

/// The records of an answer; values that passed the store's checks always have a wire form.
fn records(answered: &Answered, name: Option<WireName>) -> Vec<Record> {
    let Some(name) = name else { return Vec::new() };
    answered
        .values
        .iter()
        .filter_map(|value| rdata(answered.kind, value))
        .map(|data| Record::from_rdata(name.clone(), answered.ttl, data))
        .collect()
}

fn rdata(kind: RecordType, value: &str) -> Option<RData> {
    let name = |text: &str| Name::parse(text).ok().as_ref().and_then(wire_name);
    Some(match kind {
        RecordType::A => RData::A(A(value.parse().ok()?)),
        RecordType::Aaaa => RData::AAAA(AAAA(value.parse().ok()?)),
        RecordType::Cname => RData::CNAME(CNAME(name(value)?)),
        RecordType::Ns => RData::NS(NS(name(value)?)),
        RecordType::Txt => {
            let strings = parse_txt(value).ok()?;
            RData::TXT(TXT::from_bytes(strings.iter().map(Vec::as_slice).collect()))
        }
        RecordType::Soa => {
            let soa = Soa::parse(value)?;
            let [refresh, retry, expire, minimum] = soa.timers;
            let signed = |seconds: u32| i32::try_from(seconds).ok();
            RData::SOA(SOA::new(
                wire_name(&soa.primary)?,
                wire_name(&soa.mailbox)?,
                soa.serial,
                signed(refresh)?,
                signed(retry)?,
                signed(expire)?,
                minimum,
            ))
        }
    })
}

/// The client's own network, when its resolver says it.
///
/// Source: developer guide, "How Amazon Route 53 uses EDNS0 to estimate the
/// location of a user". A prefix of zero asks for privacy (RFC 7871, section 7.1.2).
fn client_subnet(request: &Request) -> Option<ClientSubnet> {
    let option = request.edns.as_ref()?.option(EdnsCode::Subnet)?;
    match option {
        EdnsOption::Subnet(subnet) if subnet.source_prefix() > 0 => Some(*subnet),
        _ => None,
    }
}

fn response_edns(asked: &Edns, subnet: Option<ClientSubnet>, scope: u8) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(asked.max_payload().max(512));
    edns.set_version(0);
    if let Some(subnet) = subnet {
        let address: IpAddr = subnet.addr();
        edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new(
            address,
            subnet.source_prefix(),
            scope,
        )));
    }
    edns
}
