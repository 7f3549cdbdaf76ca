//! Logs and the access log.

use crate::config::file::File;
use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::config::{AccessLog, AccessLogOutput, Log};
use std::path::Path;

pub(super) fn log(file: &File) -> Log {
    let filter = file.log.as_ref().and_then(|log| log.get_ref().filter.as_ref());
    filter.map_or_else(Log::default, |placed| Log { filter: placed.value.0.clone() })
}

/// Relative paths are taken from the configuration's folder, as everywhere.
pub(super) fn access_log(file: &File, folder: &Path, report: &mut Report) -> Option<AccessLog> {
    let Some(section) = &file.access_log else {
        unlogged(file, report);
        return None;
    };
    let (span, log) = (section.span(), section.get_ref());
    let output = report.required(&span, "output", &log.output, "output = \"stdout\"");
    let sample = report.number("access_log.sample", &log.sample, 0.0..=1.0, 1.0);
    let output = match output?.0 {
        path if path.as_os_str() == "stdout" => AccessLogOutput::Stdout,
        path => AccessLogOutput::File(folder.join(path)),
    };
    Some(AccessLog { output, sample, query: log.query.as_ref().is_some_and(|query| query.value) })
}

/// Routes that say how much of them is logged while nothing is.
fn unlogged(file: &File, report: &mut Report) {
    let mut routes = file.routes.iter().flatten().filter_map(|route| route.get_ref().sample.as_ref());
    if let Some(placed) = routes.next().filter(|_| !report.damaged("access_log")) {
        let note = Problem::note(&placed.span, "`sample` without [access_log]: nothing is logged");
        report.add(note.here("of no use").right("expected an [access_log] section with output"));
    }
}
