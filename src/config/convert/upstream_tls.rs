//! TLS towards services: whom their endpoints are believed to be, and what they are shown.

use crate::config::file::{File, Section, ServiceSection, UpstreamTlsSection};
use crate::config::files::{Named, NamedFile};
use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::config::{ClientIdentity, Host, UpstreamTls};
use crate::domain::name::{DnsName, RegionId, ServiceId};
use rustls_pki_types::ServerName;
use std::path::Path;

/// `None`: no TLS, no endpoints in the own region, or a problem was told.
pub(super) fn tls(
    id: &ServiceId,
    service: &ServiceSection,
    own: Option<&RegionId>,
    folder: &Path,
    report: &mut Report,
) -> Option<UpstreamTls> {
    let section = service.tls.as_ref()?;
    let (span, tls) = (section.span(), section.get_ref());
    let ca = report.required(&span, "ca", &tls.ca, "ca = \"tls/services-ca.pem\"");
    let identity = identity(section, folder, report);
    let server_name = server_name(id, service, section, own, report);
    Some(UpstreamTls { ca: folder.join(ca?.0), server_name: server_name?, identity: identity? })
}

/// Both files or none; the outer `None`: a problem was told.
fn identity(
    section: &Section<UpstreamTlsSection>,
    folder: &Path,
    report: &mut Report,
) -> Option<Option<ClientIdentity>> {
    let (span, tls) = (section.span(), section.get_ref());
    if tls.certificate.is_none() && tls.key.is_none() {
        return Some(None);
    }
    let certificate =
        report.required(&span, "certificate", &tls.certificate, "certificate = \"tls/edge.pem\"");
    let key = report.required(&span, "key", &tls.key, "key = \"tls/edge.key\"");
    Some(Some(ClientIdentity { certificate: folder.join(certificate?.0), key: folder.join(key?.0) }))
}

/// The stated name, or else the one that the endpoints of the own region go by.
///
/// Once they are resolved, nobody knows which name an address came from: so there has to be one
/// for all endpoints of a region. Every region is looked at, since all edges share one file.
fn server_name(
    id: &ServiceId,
    service: &ServiceSection,
    section: &Section<UpstreamTlsSection>,
    own: Option<&RegionId>,
    report: &mut Report,
) -> Option<String> {
    if let Some(stated) = &section.get_ref().server_name {
        if ServerName::try_from(stated.value.as_str()).is_err() {
            let wrong = format!("`services.{id}.tls.server_name` is no name that a certificate can carry");
            report.add(Problem::at(&stated.span, wrong).here("not in TLS").right("expected a DNS name"));
        }
        return Some(stated.value.as_str().to_owned());
    }
    if report.damaged_at(&section.span(), "server_name") {
        return None;
    }
    if let Some(of) = &service.kubernetes {
        let problem = Problem::at(&of.span, format!("`services.{id}.tls` needs `server_name`"));
        let right = "expected `server_name`, the DNS name that the certificates of all endpoints carry";
        report.add(problem.here("the cluster tells addresses only").right(right));
        return None;
    }
    let mut mine = None;
    for (region, list) in service.endpoints.iter().flat_map(|entries| &entries.get_ref().0) {
        let mut known: Option<&DnsName> = None;
        for endpoint in list.get_ref() {
            let here = match &endpoint.at.value.host {
                Host::Address(_) => "an address has no name to check its certificate by",
                Host::Name(name) if ServerName::try_from(name.as_str()).is_err() => {
                    "no certificate can carry this name"
                }
                Host::Name(name) if known.is_some_and(|known| known != name) => "another name",
                Host::Name(name) => {
                    known = Some(name);
                    continue;
                }
            };
            let wrong = format!("`services.{id}.tls` needs `server_name`");
            let right = "expected `server_name`, the DNS name that the certificates of all endpoints carry";
            report.add(Problem::at(&endpoint.at.span, wrong).here(here).right(right));
            break;
        }
        if Some(&region.value) == own {
            mine = known;
        }
    }
    mine.map(|name| name.as_str().to_owned())
}

/// The files that services name.
pub(super) fn named_files(file: &File, folder: &Path) -> Vec<Named> {
    let services = file.services.iter().flat_map(|services| &services.0);
    let sections = services.filter_map(|(_, service)| service.get_ref().tls.as_ref());
    let named = sections.flat_map(|section| {
        let tls = section.get_ref();
        let shown = tls.certificate.is_some() || tls.key.is_some();
        let identity = shown.then(|| Named::identity(&tls.certificate, &tls.key, folder));
        [NamedFile::of(&tls.ca, folder).map(Named::Roots), identity]
    });
    named.flatten().collect()
}
