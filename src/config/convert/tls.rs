//! The certificates of the `https` listeners.

use crate::config::file::{CertificateSection, File, HstsSection, Key, Section, TlsSection};
use crate::config::files::{Named, NamedFile};
use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::config::units::{ClientAuthKind, FilePath};
use crate::config::{ClientAuth, ServerCertificate, Tls, TlsPolicy};
use http::HeaderValue;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// What [tls] and each of its `certificates` say alike.
#[derive(Clone, Copy)]
struct Keys<'a> {
    certificate: &'a Key<FilePath>,
    key: &'a Key<FilePath>,
    client_auth: &'a Key<ClientAuthKind>,
    client_ca: &'a Key<FilePath>,
}

impl<'a> From<&'a TlsSection> for Keys<'a> {
    fn from(section: &'a TlsSection) -> Self {
        let TlsSection { certificate, key, client_auth, client_ca, .. } = section;
        Self { certificate, key, client_auth, client_ca }
    }
}

impl<'a> From<&'a CertificateSection> for Keys<'a> {
    fn from(section: &'a CertificateSection) -> Self {
        let CertificateSection { certificate, key, client_auth, client_ca } = section;
        Self { certificate, key, client_auth, client_ca }
    }
}

pub(super) fn tls(file: &File, folder: &Path, report: &mut Report) -> Option<Tls> {
    let section = file.tls.as_ref()?;
    let tls = section.get_ref();
    let default = certificate(&section.span(), tls.into(), folder, report);
    let others = tls.certificates.iter().flatten();
    let certificates = others
        .filter_map(|section| certificate(&section.span(), section.get_ref().into(), folder, report))
        .collect();
    let policy = tls.policy.as_ref().map_or(TlsPolicy::Intermediate, |placed| placed.value);
    let hsts = tls.hsts.as_ref().and_then(|section| hsts(section, report));
    Some(Tls { default: default?, certificates, policy, hsts })
}

/// The value of `Strict-Transport-Security`: RFC 6797, section 6.1. `None`: a problem was told.
fn hsts(section: &Section<HstsSection>, report: &mut Report) -> Option<HeaderValue> {
    let (span, hsts) = (section.span(), section.get_ref());
    report.present(&span, "max_age", hsts.max_age.is_some(), "max_age = \"365d\"");
    let longest = DAY * 3650;
    let max_age = report.duration("tls.hsts.max_age", &hsts.max_age, Duration::ZERO..=longest, longest);
    let subdomains = hsts.include_subdomains.as_ref().is_some_and(|placed| placed.value);
    let preload = hsts.preload.as_ref().filter(|placed| placed.value);
    if let Some(preload) = preload
        && (!subdomains || max_age < DAY * 365)
        && !report.damaged_inside(&span)
    {
        // Browsers' lists take nothing less, and are hard to leave: https://hstspreload.org.
        let problem = Problem::at(&preload.span, "`preload` asks for more than this says");
        let right = "expected include_subdomains = true and max_age = \"365d\" or more beside it";
        report.add(problem.here("would be refused").right(right));
    }
    let mut value = format!("max-age={}", max_age.as_secs());
    for (said, directive) in [(subdomains, "; includeSubDomains"), (preload.is_some(), "; preload")] {
        value.push_str(if said { directive } else { "" });
    }
    HeaderValue::try_from(value).ok()
}

/// `None`: a problem was told.
fn certificate(
    span: &Range<usize>,
    keys: Keys<'_>,
    folder: &Path,
    report: &mut Report,
) -> Option<ServerCertificate> {
    let example = "certificate = \"tls/server.pem\"";
    let certificate = report.required(span, "certificate", keys.certificate, example);
    let key = report.required(span, "key", keys.key, "key = \"tls/server.key\"");
    let client_auth = client_auth(span, keys, folder, report);
    Some(ServerCertificate {
        certificate: folder.join(certificate?.0),
        key: folder.join(key?.0),
        client_auth: client_auth?,
    })
}

fn client_auth(
    span: &Range<usize>,
    keys: Keys<'_>,
    folder: &Path,
    report: &mut Report,
) -> Option<ClientAuth> {
    let kind = keys.client_auth.as_ref().map_or(ClientAuthKind::Off, |placed| placed.value);
    if kind == ClientAuthKind::Off {
        if let Some(ca) = keys.client_ca
            && !report.damaged_at(span, "client_auth")
        {
            let wrong = "`client_ca` has no effect: no client is asked for a certificate";
            let problem = Problem::at(&ca.span, wrong).here("whom would it verify?");
            report.add(problem.right("expected client_auth = \"optional\" or \"required\" beside it"));
        }
        return Some(ClientAuth::Off);
    }
    let ca = report.required(span, "client_ca", keys.client_ca, "client_ca = \"tls/clients-ca.pem\"");
    let ca = folder.join(ca?.0);
    Some(if kind == ClientAuthKind::Optional {
        ClientAuth::Optional { ca }
    } else {
        ClientAuth::Required { ca }
    })
}

/// The files that [tls] names.
pub(super) fn named_files(file: &File, folder: &Path) -> Vec<Named> {
    let Some(tls) = file.tls.as_ref().map(|tls| tls.get_ref()) else { return Vec::new() };
    let others = tls.certificates.iter().flatten().map(|section| Keys::from(section.get_ref()));
    let all = std::iter::once(Keys::from(tls)).chain(others);
    all.flat_map(|keys| {
        let roots = NamedFile::of(keys.client_ca, folder).map(Named::Roots);
        std::iter::once(Named::identity(keys.certificate, keys.key, folder)).chain(roots)
    })
    .collect()
}
