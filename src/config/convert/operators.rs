//! Who may act on the fleet, and where that is written down.

use crate::config::file::{AdminSection, AdminTlsSection, File, OperatorSection, Section};
use crate::config::files::{Named, NamedFile};
use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::config::{Admin, AdminTls, Credential, Operator};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Characters of an operator's name; it stands in control records.
const NAME_MAX: usize = 64;
const CERTIFICATE_RULE: &str =
    "expected the common name or an alternative name (DNS, e-mail, URI) of the operator's certificate";
const DIGEST_RULE: &str = "64 hexadecimal digits: printf %s TOKEN | sha256sum";

pub(super) fn admin(file: &File, folder: &Path, report: &mut Report) -> Admin {
    let default = Admin::default();
    let Some(section) = &file.admin else { return default };
    let AdminSection { address, tls, operators } = section.get_ref();
    let asks = tls.as_ref().is_some_and(|tls| tls.get_ref().client_ca.is_some());
    let tls = tls.as_ref().and_then(|tls| admin_tls(tls, folder, report));
    let (mut taken, mut carried) = (BTreeSet::new(), BTreeSet::new());
    let mut known = Vec::new();
    for section in operators.iter().flatten() {
        let Some(operator) = operator(section, folder, report) else { continue };
        if !taken.insert(operator.name.clone()) {
            let what = format!("the operator {:?} is there twice", operator.name);
            report.add(Problem::at(&section.span(), what).right("expected a name of their own for each"));
        }
        if let Credential::CertificateName(name) = &operator.credential
            && let Some(stated) = &section.get_ref().certificate_name
        {
            if !carried.insert(name.clone()) {
                let what = format!("two operators are known by the certificate of {name:?}");
                report.add(Problem::at(&stated.span, what).right("expected a name of their own for each"));
            }
            if !asks && !report.damaged("client_ca") && !report.damaged("tls") {
                let what = "nobody is asked for a certificate: [admin.tls] has no `client_ca`";
                let problem = Problem::at(&stated.span, what).here("would never be shown");
                report.add(problem.right("expected [admin.tls] with certificate, key and client_ca"));
            }
        }
        known.push(operator);
    }
    let address = address.as_ref().map_or(default.address, |placed| placed.value);
    Admin { address, tls, operators: known }
}

/// `None`: a problem was told.
fn admin_tls(section: &Section<AdminTlsSection>, folder: &Path, report: &mut Report) -> Option<AdminTls> {
    let (span, AdminTlsSection { certificate, key, client_ca }) = (section.span(), section.get_ref());
    let certificate = report.required(&span, "certificate", certificate, "certificate = \"tls/admin.pem\"");
    let key = report.required(&span, "key", key, "key = \"tls/admin.key\"");
    Some(AdminTls {
        certificate: folder.join(certificate?.0),
        key: folder.join(key?.0),
        client_ca: client_ca.as_ref().map(|placed| folder.join(&placed.value.0)),
    })
}

fn operator(section: &Section<OperatorSection>, folder: &Path, report: &mut Report) -> Option<Operator> {
    let (span, stated) = (section.span(), section.get_ref());
    let name = report.required(&span, "name", &stated.name, "name = \"alice\"")?.0;
    if !is_name(&name) {
        let span = stated.name.as_ref().map_or(&span, |placed| &placed.span);
        let problem =
            Problem::at(span, "this is no name of an operator").here("too long, empty or unprintable");
        report.add(problem.right(format!("expected 1 to {NAME_MAX} printable characters")));
        return None;
    }
    let credential = match (&stated.token_file, &stated.token_sha256, &stated.certificate_name) {
        (Some(file), None, None) => Credential::TokenFile(folder.join(&file.value.0)),
        (None, Some(digest), None) => {
            let Some(digest) = hex(&digest.value.0) else {
                let problem = Problem::at(&digest.span, "`token_sha256` is no SHA-256").here("not that");
                report.add(problem.right(format!("expected {DIGEST_RULE}")));
                return None;
            };
            Credential::TokenSha256(digest)
        }
        (None, None, Some(name)) => {
            if name.value.0.is_empty() || name.value.0.chars().any(char::is_control) {
                let problem = Problem::at(&name.span, "no certificate carries this name");
                report.add(problem.here("empty or unprintable").right(CERTIFICATE_RULE));
                return None;
            }
            Credential::CertificateName(name.value.0.clone())
        }
        _ => {
            let problem = Problem::at(&span, format!("the operator {name:?} needs one of three keys"));
            let right =
                "expected one of token_file = \"PATH\", token_sha256 = \"…\", certificate_name = \"NAME\"";
            report.add(problem.right(right));
            return None;
        }
    };
    Some(Operator { name, credential })
}

fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

fn hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

pub(super) fn audit(file: &File, folder: &Path, report: &mut Report) -> Option<PathBuf> {
    let section = file.audit.as_ref()?;
    let output =
        report.required(&section.span(), "output", &section.get_ref().output, "output = \"audit.log\"")?;
    Some(folder.join(output.0))
}

/// Files of tokens, and those that [admin.tls] names.
pub(super) fn named_files(file: &File, folder: &Path) -> Vec<Named> {
    let Some(admin) = file.admin.as_ref().map(|admin| admin.get_ref()) else { return Vec::new() };
    let operators = admin.operators.iter().flatten();
    let tokens = operators.filter_map(|operator| NamedFile::of(&operator.get_ref().token_file, folder));
    let tls = admin.tls.as_ref().map(|tls| tls.get_ref());
    let identity = tls.map(|tls| Named::identity(&tls.certificate, &tls.key, folder));
    let roots = tls.and_then(|tls| NamedFile::of(&tls.client_ca, folder)).map(Named::Roots);
    tokens.map(Named::Secret).chain(identity).chain(roots).collect()
}
