//! EndpointSlices of a Service -> the addresses that requests may go to, and their zones. Pure.
//!
//! As kube-proxy reads them (Kubernetes, "EndpointSlices" and "Topology Aware Routing"; its source,
//! `pkg/proxy/topology.go`): several slices are one list, an endpoint may stand in two of them, the first
//! address stands for the endpoint, and the ready ones are used; when there is none, those that are
//! terminating and still serve. Hints hold only when every endpoint has them and one is for the own zone.
//!
//! What hints do differs. kube-proxy knows nothing of the health of what it leaves out, and so leaves the
//! other zones out for good. Here a hint says which zone an endpoint is *for*, in place of the one it is in;
//! `domain::zones` keeps requests in the own zone while that can carry them, and a zone that dies is not the
//! service's end.

use crate::config::SlicePort;
use crate::domain::name::Zone;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Most addresses of one service, as with names: more would be probed and carried for nothing.
pub(super) const ADDRESSES_MAX: usize = 256;
/// Source: the API's own validation of a slice. What a server says beyond that is not kept.
const ENDPOINTS_MAX: usize = 1000;
const PORTS_MAX: usize = 100;

/// What is kept of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slice {
    /// The TCP ports, by their names; "" where there is only one.
    ports: Vec<(String, u16)>,
    members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    address: IpAddr,
    standing: Standing,
    zone: Option<Zone>,
    /// Zones that it is meant for.
    hints: Vec<Zone>,
}

/// Whether requests may go to an endpoint; the later, the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Not,
    /// It terminates and still serves.
    Leaving,
    Ready,
}

/// The endpoints of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Sorted, each once, at most [`ADDRESSES_MAX`].
    pub(super) addresses: Vec<SocketAddr>,
    /// Of those whose zone is known.
    pub(super) zones: BTreeMap<SocketAddr, Zone>,
    /// How many more there are.
    pub(super) left_out: usize,
}

impl Slice {
    /// `None` for a slice of names: no controller makes such, and kube-proxy skips them, too.
    pub(super) fn read(slice: &EndpointSlice) -> Option<Self> {
        if !matches!(slice.address_type.as_str(), "IPv4" | "IPv6") {
            return None;
        }
        let ports = slice.ports.iter().flatten().take(PORTS_MAX).filter_map(|port| {
            let tcp = port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
            let number = u16::try_from(port.port?).ok().filter(|number| tcp && *number > 0)?;
            Some((port.name.clone().unwrap_or_default(), number))
        });
        let members = slice.endpoints.iter().take(ENDPOINTS_MAX).filter_map(Member::read);
        Some(Self { ports: ports.collect(), members: members.collect() })
    }

    /// The number of the wanted port on these pods: a name may be another number in another slice.
    fn number(&self, wanted: &SlicePort) -> Option<u16> {
        let is = |(name, number): &&(String, u16)| match wanted {
            SlicePort::Name(wanted) => name == wanted,
            SlicePort::Number(wanted) => number == wanted,
        };
        self.ports.iter().find(is).map(|(_, number)| *number)
    }
}

impl Member {
    fn read(endpoint: &Endpoint) -> Option<Self> {
        // The others of the list mean the same endpoint.
        let address = endpoint.addresses.first()?.parse().ok()?;
        let conditions = endpoint.conditions.as_ref();
        // Not said is ready; and what says nothing of serving serves while it is ready.
        let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
        let serving = conditions.and_then(|c| c.serving).unwrap_or(ready);
        let leaving = conditions.and_then(|c| c.terminating).unwrap_or(false);
        let standing = match (ready, serving && leaving) {
            (true, _) => Standing::Ready,
            (false, true) => Standing::Leaving,
            (false, false) => Standing::Not,
        };
        let hints = endpoint.hints.iter().flat_map(|hints| hints.for_zones.iter().flatten());
        Some(Self {
            address,
            standing,
            zone: endpoint.zone.as_deref().and_then(|zone| Zone::parse(zone).ok()),
            hints: hints.filter_map(|zone| Zone::parse(&zone.name).ok()).collect(),
        })
    }
}

/// The endpoints behind a port of the service that these slices belong to, for an edge in zone `own`.
pub(super) fn merge<'a>(
    slices: impl Iterator<Item = &'a Slice>,
    port: &SlicePort,
    own: Option<&Zone>,
) -> Found {
    let mut members: BTreeMap<SocketAddr, &Member> = BTreeMap::new();
    for slice in slices {
        let Some(number) = slice.number(port) else { continue };
        for member in &slice.members {
            let kept = members.entry(SocketAddr::new(member.address, number)).or_insert(member);
            // It is on its way from one slice to another: whichever says more.
            if member.standing > kept.standing {
                *kept = member;
            }
        }
    }
    let best = members.values().map(|member| member.standing).max().unwrap_or(Standing::Not);
    members.retain(|_, member| member.standing == best && best > Standing::Not);
    let hinted = own.filter(|own| hints_hold(&members, own));
    let left_out = members.len().saturating_sub(ADDRESSES_MAX);
    members = members.into_iter().take(ADDRESSES_MAX).collect();
    let zones = members.iter().filter_map(|(address, member)| {
        let zone = match hinted {
            Some(own) => member.hints.iter().find(|zone| *zone == own).or(member.hints.first()),
            None => member.zone.as_ref(),
        };
        Some((*address, zone?.clone()))
    });
    Found { zones: zones.collect(), addresses: members.into_keys().collect(), left_out }
}

/// One without hints, or none for the own zone, and they are no longer (or not yet) what was meant.
fn hints_hold(members: &BTreeMap<SocketAddr, &Member>, own: &Zone) -> bool {
    let ready = members.values().all(|member| member.standing == Standing::Ready);
    ready
        && members.values().all(|member| !member.hints.is_empty())
        && members.values().any(|member| member.hints.contains(own))
}

#[cfg(test)]
mod tests;
