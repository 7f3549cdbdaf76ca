//! Where other regions and operators connect, and how the edge leaves.

use super::routes::policy::network;
use crate::config::file::{File, Placed};
use crate::config::files::{Named, NamedFile};
use crate::config::listener::TrustedPeer;
use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::config::{Admin, Drain, HostPort, ListenAddress, Peer, TrustedProxies};
use crate::domain::name::RegionId;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

pub(super) fn peer(file: &File, folder: &Path, several: bool, report: &mut Report) -> Option<Peer> {
    let Some(section) = &file.peer else {
        if several {
            let right = "[peer] with address, certificate, key and ca";
            report.missing_section("peer", "several regions but no [peer]: they could not meet", right);
        }
        return None;
    };
    let (span, peer) = (section.span(), section.get_ref());
    let address = report.required(&span, "address", &peer.address, "address = \"0.0.0.0:8443\"");
    let certificate =
        report.required(&span, "certificate", &peer.certificate, "certificate = \"tls/peer.pem\"");
    let key = report.required(&span, "key", &peer.key, "key = \"tls/peer.key\"");
    let ca = report.required(&span, "ca", &peer.ca, "ca = \"tls/peer-ca.pem\"");
    Some(Peer {
        address: address?,
        certificate: folder.join(certificate?.0),
        key: folder.join(key?.0),
        ca: folder.join(ca?.0),
    })
}

/// The pods of a region meet at their peer listeners, by the name of the own region.
pub(super) fn siblings(file: &File, report: &mut Report) -> Option<HostPort> {
    let stated = file.edge.as_ref().and_then(|edge| edge.get_ref().siblings.as_ref())?;
    let regions = file.regions.iter().flat_map(|regions| &regions.0);
    let reached = regions.map(|(_, region)| region.get_ref()).all(|region| region.peer.is_some());
    if (file.peer.is_none() || !reached) && !report.damaged("peer") {
        let problem = Problem::at(&stated.span, "`edge.siblings` without the peer listeners of the regions")
            .here("they could not meet");
        let right = "expected [peer], whose listener the pods of a region ask one another at, and `peer` in \
                     each region";
        report.add(problem.right(right));
    }
    Some(stated.value.clone())
}

/// A capacity is the region's. Pods that do not know of one another each compare it with their own load.
pub(super) fn uncounted(file: &File, own: Option<&RegionId>, report: &mut Report) {
    let siblings = file.edge.as_ref().is_some_and(|edge| edge.get_ref().siblings.is_some());
    if siblings || file.peer.is_none() || report.damaged("edge") {
        return;
    }
    let regions = file.regions.iter().flat_map(|regions| &regions.0);
    let region = regions.filter(|(id, _)| Some(&id.value) == own);
    let mut of_region = region.filter_map(|(_, section)| Some(&section.get_ref().capacity.as_ref()?.span));
    let services = file.services.iter().flat_map(|services| &services.0);
    let of_services = services.filter_map(|(_, section)| section.get_ref().capacity.as_ref());
    let of_services = of_services.flat_map(|capacities| &capacities.get_ref().0);
    let mut of_services =
        of_services.filter(|(id, _)| Some(&id.value) == own).map(|(_, placed)| &placed.span);
    if let Some(span) = of_region.next().or_else(|| of_services.next()) {
        let note = Problem::note(span, "a capacity without `edge.siblings`: each pod counts itself alone")
            .here("the region's, compared with the load of one pod");
        report.add(note.right("expected `siblings` in [edge], if the region has more than one pod"));
    }
}

pub(super) fn trusted_proxies(file: &File, report: &mut Report) -> TrustedProxies {
    let mut trusted = TrustedProxies::default();
    let stated = file.edge.as_ref().and_then(|section| section.get_ref().trusted_proxies.as_ref());
    for placed in stated.iter().flat_map(|list| list.get_ref()) {
        match placed.value {
            TrustedPeer::Network(value) => trusted.networks.push(network(value, &placed.span, report)),
            TrustedPeer::Unix => trusted.unix = true,
        }
    }
    trusted
}

/// Addresses that cannot all be bound.
pub(super) fn clashes(file: &File, admin: &Admin, report: &mut Report) {
    let listeners = file.listeners.iter().flatten().filter_map(|l| l.get_ref().address.as_ref());
    let listeners: Vec<_> =
        listeners.map(|at| Placed { value: at.value.clone(), span: at.span.clone() }).collect();
    let tcp = |at: &Placed<SocketAddr>| Placed { value: at.value.into(), span: at.span.clone() };
    let peer = file.peer.as_ref().and_then(|peer| peer.get_ref().address.as_ref());
    let stated = file.admin.as_ref().and_then(|admin| admin.get_ref().address.as_ref());
    let others = peer.into_iter().chain(stated).map(tcp);
    let placed: Vec<Placed<ListenAddress>> = listeners.into_iter().chain(others).collect();
    for (index, later) in placed.iter().enumerate() {
        if let Some(first) = placed.iter().take(index).find(|first| clash(&first.value, &later.value)) {
            let wrong = format!("{} is taken twice", later.value);
            let problem = Problem::at(&later.span, wrong).here("again here").also(&first.span, "first here");
            let right = match later.value {
                ListenAddress::Tcp(_) => "expected an address and port of its own for each listener",
                ListenAddress::Unix(_) => "expected a path of its own for each listener",
            };
            report.add(problem.right(right));
        }
    }
    if stated.is_none()
        && let Some(taken) = placed.iter().find(|placed| clash(&placed.value, &admin.address.into()))
    {
        let wrong = format!("{} is the default address of [admin]", admin.address);
        let problem = Problem::at(&taken.span, wrong).here("taken twice");
        report.add(problem.right("expected another port here, or another `address` in [admin]"));
    }
}

/// Port 0 is a free port of the system's choice.
///
/// `0.0.0.0` takes its port on every IPv4 address, `[::]` on every address: no listener is IPv6-only.
fn clash(a: &ListenAddress, b: &ListenAddress) -> bool {
    let (a, b) = match (a, b) {
        (ListenAddress::Tcp(a), ListenAddress::Tcp(b)) => (a, b),
        (ListenAddress::Unix(a), ListenAddress::Unix(b)) => return a.path == b.path,
        _ => return false,
    };
    let (one, other) = (a.ip().to_canonical(), b.ip().to_canonical());
    let covers = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
    a.port() != 0 && a.port() == b.port() && (one == other || covers(one, other) || covers(other, one))
}

pub(super) fn drain(file: &File, report: &mut Report) -> Drain {
    let default = Drain::default();
    let Some(edge) = &file.edge else { return default };
    let edge = edge.get_ref();
    let (minutes, hour) = (Duration::from_secs(600), Duration::from_secs(3600));
    Drain {
        notice: report.duration(
            "edge.drain_notice",
            &edge.drain_notice,
            Duration::ZERO..=minutes,
            default.notice,
        ),
        deadline: report.duration(
            "edge.drain_deadline",
            &edge.drain_deadline,
            Duration::ZERO..=hour,
            default.deadline,
        ),
    }
}

/// Files of the listener for other regions, and secrets of services.
pub(super) fn named_files(file: &File, folder: &Path) -> Vec<Named> {
    let services = file.services.iter().flat_map(|services| &services.0);
    let secrets = services.filter_map(|(_, service)| {
        let affinity = service.get_ref().affinity.as_ref()?;
        NamedFile::of(&affinity.get_ref().secret, folder).map(Named::Secret)
    });
    let peer = file.peer.as_ref().map(|peer| peer.get_ref());
    let roots = peer.and_then(|peer| NamedFile::of(&peer.ca, folder)).map(Named::Roots);
    let peer = peer.map(|peer| Named::identity(&peer.certificate, &peer.key, folder));
    [peer, roots].into_iter().flatten().chain(secrets).collect()
}
