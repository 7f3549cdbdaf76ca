//! Logs, the access log and traces.

use crate::config::file::{File, OtlpSection, Section};
use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::config::{AccessLog, AccessLogOutput, ClientTraces, Journal, Log, Otlp, Tracing};
use std::path::Path;
use std::time::Duration;

/// Of the traces begun here.
const SAMPLE: f64 = 0.1;
/// Source: OpenTelemetry specification, OTLP exporter, `OTEL_EXPORTER_OTLP_TIMEOUT`.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Source: OpenTelemetry specification, batch span processor, `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`.
const BATCH_MAX: u32 = 512;
/// Source: the same, `OTEL_BSP_SCHEDULE_DELAY`.
const BATCH_DELAY: Duration = Duration::from_secs(5);
/// Source: OTLP specification, OTLP/HTTP default port.
const PORT: u16 = 4318;

/// A few days of an edge of a small fleet.
const JOURNAL_BYTES: u64 = 1024 * 1024 * 1024;
const JOURNAL_FILE_BYTES: u64 = 64 * 1024 * 1024;
const JOURNAL_BYTES_MIN: u64 = 64 * 1024;
const JOURNAL_BYTES_MAX: u64 = 1024 * 1024 * 1024 * 1024;

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

pub(super) fn journal(file: &File, folder: &Path, report: &mut Report) -> Option<Journal> {
    let section = file.journal.as_ref()?;
    let (span, stated) = (section.span(), section.get_ref());
    let range = JOURNAL_BYTES_MIN..=JOURNAL_BYTES_MAX;
    let max_bytes = report.bytes("journal.max_bytes", &stated.max_bytes, range.clone(), JOURNAL_BYTES);
    let file_bytes = report.bytes("journal.file_bytes", &stated.file_bytes, range, JOURNAL_FILE_BYTES);
    let path = report.required(&span, "path", &stated.path, "path = \"/var/lib/proxima/journal\"")?;
    // With room for one file alone nothing of before the last rotation would be left.
    if file_bytes > max_bytes / 2 {
        let place =
            stated.file_bytes.as_ref().map(|p| &p.span).or(stated.max_bytes.as_ref().map(|p| &p.span));
        let problem =
            Problem::at(place.unwrap_or(&span), "`journal.file_bytes` is more than half of `max_bytes`");
        report
            .add(problem.here("a whole file before this one must fit").right("expected half of it at most"));
    }
    Some(Journal { path: folder.join(path.0), max_bytes, file_bytes })
}

pub(super) fn tracing(file: &File, report: &mut Report) -> Option<Tracing> {
    let tracing = file.tracing.as_ref()?.get_ref();
    Some(Tracing {
        sample: report.number("tracing.sample", &tracing.sample, 0.0..=1.0, SAMPLE),
        clients: tracing.clients.as_ref().map_or(ClientTraces::Keep, |placed| placed.value),
        otlp: tracing.otlp.as_ref().and_then(|section| otlp(section, report)),
    })
}

fn otlp(section: &Section<OtlpSection>, report: &mut Report) -> Option<Otlp> {
    let (span, stated) = (section.span(), section.get_ref());
    let (tenth, minute) = (Duration::from_millis(100), Duration::from_secs(60));
    let timeout = report.duration("tracing.otlp.timeout", &stated.timeout, tenth..=minute, TIMEOUT);
    let batch_max = report.whole("tracing.otlp.batch_max", &stated.batch_max, 1..=4096, BATCH_MAX);
    let batch_delay =
        report.duration("tracing.otlp.batch_delay", &stated.batch_delay, tenth..=minute, BATCH_DELAY);
    let right = "endpoint = \"http://127.0.0.1:4318\"";
    let url = report.required(&span, "endpoint", &stated.endpoint, right)?.0;
    let endpoint = stated.endpoint.as_ref()?;
    let Some(authority) = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/')) else {
        let problem = Problem::at(&endpoint.span, "spans are sent by plain http").here("not http");
        let right =
            "expected a collector on this node, such as \"http://127.0.0.1:4318\"; it may go on by TLS";
        report.add(problem.right(right));
        return None;
    };
    let uri: http::Uri = url.parse().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    let service_name = stated.service_name.as_ref().map_or("proxima", |placed| placed.value.0.as_str());
    Some(Otlp {
        host,
        port: uri.port_u16().unwrap_or(PORT),
        authority: authority.to_owned(),
        service_name: service_name.to_owned(),
        timeout,
        batch_max: usize::try_from(batch_max).unwrap_or(usize::MAX),
        batch_delay,
    })
}
