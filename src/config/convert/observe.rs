//! Logs, the access log and traces.

use crate::config::file::{File, Section, TracingSection};
use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::config::{AccessLog, AccessLogOutput, ClientTraces, Export, Log, Tracing};
use std::collections::BTreeMap;
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
    let mut routes = file.routes.iter().flatten().filter_map(|route| route.get_ref().log_sample.as_ref());
    if let Some(placed) = routes.next().filter(|_| !report.damaged("access_log")) {
        let note = Problem::note(&placed.span, "`log_sample` without [access_log]: nothing is logged");
        report.add(note.here("of no use").right("expected an [access_log] section with output"));
    }
}

pub(super) fn tracing(file: &File, report: &mut Report) -> Option<Tracing> {
    let section = file.tracing.as_ref()?;
    let tracing = section.get_ref();
    Some(Tracing {
        sample: report.number("tracing.sample", &tracing.sample, 0.0..=1.0, SAMPLE),
        clients: tracing.clients.as_ref().map_or(ClientTraces::Keep, |placed| placed.value),
        export: export(section, report),
    })
}

fn export(section: &Section<TracingSection>, report: &mut Report) -> Option<Export> {
    let tracing = section.get_ref();
    let (tenth, minute) = (Duration::from_millis(100), Duration::from_secs(60));
    let timeout = report.duration("tracing.timeout", &tracing.timeout, tenth..=minute, TIMEOUT);
    let batch_max = report.whole("tracing.batch_max", &tracing.batch_max, 1..=4096, BATCH_MAX);
    let delay = report.duration("tracing.batch_delay", &tracing.batch_delay, tenth..=minute, BATCH_DELAY);
    let Some(endpoint) = &tracing.endpoint else {
        nowhere(section, report);
        return None;
    };
    let url = &endpoint.value.0;
    let Some(authority) = url.strip_prefix("http://") else {
        let problem = Problem::at(&endpoint.span, "spans are sent by plain http").here("not http");
        let right = "expected a collector on this node, such as \"http://127.0.0.1:4318\"; it may go on by TLS";
        report.add(problem.right(right));
        return None;
    };
    let uri: http::Uri = url.parse().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    let name = tracing.service_name.as_ref().map_or("proxima", |placed| placed.value.0.as_str());
    let mut resource = BTreeMap::from([("service.name".to_owned(), name.to_owned())]);
    for (key, value) in tracing.attributes.iter().flat_map(|attributes| &attributes.0) {
        resource.insert(key.value.0.clone(), value.value.0.clone());
    }
    Some(Export {
        host,
        port: uri.port_u16().unwrap_or(PORT),
        authority: authority.to_owned(),
        resource: resource.into_iter().collect(),
        timeout,
        batch_max: usize::try_from(batch_max).unwrap_or(usize::MAX),
        batch_delay: delay,
    })
}

/// Settings of an export that has no place to go to.
fn nowhere(section: &Section<TracingSection>, report: &mut Report) {
    let tracing = section.get_ref();
    let spans = [
        ("service_name", tracing.service_name.as_ref().map(|placed| &placed.span)),
        ("timeout", tracing.timeout.as_ref().map(|placed| &placed.span)),
        ("batch_max", tracing.batch_max.as_ref().map(|placed| &placed.span)),
        ("batch_delay", tracing.batch_delay.as_ref().map(|placed| &placed.span)),
    ];
    if report.damaged_at(&section.span(), "endpoint") {
        return;
    }
    for (key, span) in spans {
        if let Some(span) = span {
            let problem = Problem::at(span, format!("`tracing.{key}` without `endpoint`: nothing is exported"));
            let right = "expected a line such as endpoint = \"http://127.0.0.1:4318\", too";
            report.add(problem.here("of no use").right(right));
        }
    }
}
