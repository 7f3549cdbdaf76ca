//! Who may act on the fleet, and where that is written down.

use crate::config::file::{AdminSection, File, OperatorSection, Section};
use crate::config::files::{Named, NamedFile};
use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::config::{Admin, Operator, Token};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Characters of an operator's name; it stands in control records.
const NAME_MAX: usize = 64;
const DIGEST_RULE: &str = "64 hexadecimal digits: printf %s TOKEN | sha256sum";

pub(super) fn admin(file: &File, folder: &Path, report: &mut Report) -> Admin {
    let default = Admin::default();
    let Some(section) = &file.admin else { return default };
    let AdminSection { address, operators } = section.get_ref();
    let mut taken = BTreeSet::new();
    let mut known = Vec::new();
    for section in operators.iter().flatten() {
        if let Some(operator) = operator(section, folder, report) {
            if !taken.insert(operator.name.clone()) {
                let what = format!("the operator {:?} is there twice", operator.name);
                report.add(Problem::at(&section.span(), what).right("expected a name of their own for each"));
            }
            known.push(operator);
        }
    }
    Admin { address: address.as_ref().map_or(default.address, |placed| placed.value), operators: known }
}

fn operator(section: &Section<OperatorSection>, folder: &Path, report: &mut Report) -> Option<Operator> {
    let (span, stated) = (section.span(), section.get_ref());
    let name = report.required(&span, "name", &stated.name, "name = \"alice\"")?.0;
    if !(1..=NAME_MAX).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        let span = stated.name.as_ref().map_or(&span, |placed| &placed.span);
        let problem =
            Problem::at(span, "this is no name of an operator").here("too long, empty or unprintable");
        report.add(problem.right(format!("expected 1 to {NAME_MAX} printable characters")));
        return None;
    }
    let token = match (&stated.token_file, &stated.token_sha256) {
        (Some(file), None) => Token::File(folder.join(&file.value.0)),
        (None, Some(digest)) => {
            let Some(digest) = hex(&digest.value.0) else {
                let problem = Problem::at(&digest.span, "`token_sha256` is no SHA-256").here("not that");
                report.add(problem.right(format!("expected {DIGEST_RULE}")));
                return None;
            };
            Token::Sha256(digest)
        }
        _ => {
            let problem = Problem::at(&span, format!("the operator {name:?} needs one of two keys"));
            let right = "expected token_file = \"PATH\" or token_sha256 = \"…\", and not both";
            report.add(problem.right(right));
            return None;
        }
    };
    Some(Operator { name, token })
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

/// Files of tokens.
pub(super) fn named_files(file: &File, folder: &Path) -> Vec<Named> {
    let admin = file.admin.as_ref().map(|admin| admin.get_ref());
    let operators = admin.into_iter().flat_map(|admin| admin.operators.iter().flatten());
    let tokens = operators.filter_map(|operator| NamedFile::of(&operator.get_ref().token_file, folder));
    tokens.map(Named::Secret).collect()
}
