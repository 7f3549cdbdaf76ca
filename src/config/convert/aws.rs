//! How AWS is reached, and what is kept there.

use crate::config::file::File;
use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::config::{Archive, Aws, Journal};
use std::time::Duration;

pub(super) fn aws(file: &File, report: &mut Report) -> Aws {
    let default = Aws::default();
    let Some(section) = &file.aws else { return default };
    let stated = section.get_ref();
    let range = Duration::from_secs(1)..=Duration::from_secs(3600);
    Aws {
        credentials: stated.credentials.as_ref().map(|placed| placed.value),
        config_poll: report.duration("aws.config_poll", &stated.config_poll, range, default.config_poll),
    }
}

/// The longest that a line of the audit log waits.
const AUDIT_EVERY: Duration = Duration::from_secs(15 * 60);
/// Of one object that is uploaded at once. Source: Amazon S3 user guide, "Uploading objects".
const OBJECT_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;

/// `journal` and whether there is an audit log: what could be archived.
pub(super) fn archive(
    file: &File,
    (journal, audited): (Option<&Journal>, bool),
    report: &mut Report,
) -> Option<Archive> {
    let section = file.archive.as_ref()?;
    let (span, stated) = (section.span(), section.get_ref());
    let to = report.required(&span, "s3", &stated.s3, "s3 = \"s3://BUCKET/archive\"");
    let range = Duration::from_secs(1)..=Duration::from_secs(86_400);
    let audit_every = report.duration("archive.audit_every", &stated.audit_every, range, AUDIT_EVERY);
    if journal.is_none() && !audited && !report.damaged("journal") && !report.damaged("audit") {
        let note =
            Problem::note(&span, "[archive] without [journal] and [audit]").here("there is nothing to keep");
        report.add(note.right("expected a [journal] with `path`, or an [audit] with `output`"));
    }
    if journal.is_some_and(|journal| journal.file_bytes > OBJECT_BYTES_MAX) {
        let problem =
            Problem::at(&span, "`journal.file_bytes` is more than S3 takes at once").here("with [archive]");
        report.add(problem.right("expected at most 5GiB"));
    }
    Some(Archive { to: to?, audit_every })
}
