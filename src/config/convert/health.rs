//! How the endpoints of a service are asked whether they are well.

use super::routes::matching::{field, only_one};
use super::routes::pattern;
use crate::config::file::{HealthSection, Placed, ServiceSection};
use crate::config::health::HealthKind;
use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::config::units::spell;
use crate::config::{BodyTest, Health, HttpMethod, HttpQuestion, Probes, Question, UpstreamProtocol};
use crate::domain::name::ServiceId;
use std::ops::Range;
use std::time::Duration;

const PATH: &str = "/healthz";

pub(super) fn health(
    id: &ServiceId,
    service: &ServiceSection,
    probes: &Probes,
    report: &mut Report,
) -> Health {
    let none = HealthSection::default();
    let section = service.health.as_ref().map_or(&none, |section| section.get_ref());
    let kind = section.kind.as_ref().map_or(HealthKind::Http, |placed| placed.value);
    strangers(kind, section, report);
    let question = match kind {
        HealthKind::Http => Question::Http(http(section, report)),
        HealthKind::Tcp => Question::Tcp,
        HealthKind::Tls => {
            needs_tls(id, service, section, report);
            Question::Tls
        }
        HealthKind::Grpc => {
            needs_http2(id, service, section, report);
            Question::Grpc(section.service.as_ref().map(|placed| placed.value.0.clone()).unwrap_or_default())
        }
    };
    let path = |key: &str| format!("services.{id}.health.{key}");
    let port = section.port.is_some().then(|| {
        let most = u32::from(u16::MAX);
        u16::try_from(report.whole(&path("port"), &section.port, 1..=most, most)).unwrap_or(u16::MAX)
    });
    let range = Duration::from_millis(20)..=Duration::from_secs(600);
    let interval = report.duration(&path("interval"), &section.interval, range, probes.interval);
    let range = Duration::from_millis(5)..=Duration::from_secs(60);
    let timeout = report.duration(&path("timeout"), &section.timeout, range, probes.timeout);
    if let Some(stated) = section.timeout.as_ref().or(section.interval.as_ref())
        && timeout >= interval
    {
        let wrong = format!(
            "probes of service `{id}` have a timeout ({}) that is not shorter than their interval ({})",
            spell(timeout),
            spell(interval)
        );
        let problem = Problem::at(&stated.span, wrong).here("with this");
        report.add(problem.right(format!("expected a timeout below {}", spell(interval))));
    }
    let (interval, timeout) =
        (section.interval.as_ref().map(|_| interval), section.timeout.as_ref().map(|_| timeout));
    Health { question, port, interval, timeout }
}

fn http(section: &HealthSection, report: &mut Report) -> HttpQuestion {
    let statuses = section.status.iter().flat_map(|list| list.get_ref());
    let mut status: Vec<_> = statuses.map(|placed| placed.value.0.clone()).collect();
    if status.is_empty() {
        status.push(200..=299);
    }
    let headers = section.headers.iter().flat_map(|list| list.get_ref());
    let headers = headers.filter_map(|header| field(header, report)).collect();
    if let (Some(body), Some(regex)) = (&section.body, &section.body_regex) {
        let stated = [("body", &body.span), ("body_regex", &regex.span)];
        only_one("a body is compared in one way", &stated, report);
    }
    let body = match (&section.body, &section.body_regex) {
        (Some(body), _) => Some(BodyTest::Contains(body.value.0.clone())),
        (None, Some(regex)) => pattern(&regex.value.0, &regex.span, report).map(BodyTest::Matches),
        (None, None) => None,
    };
    let method = section.method.as_ref().map_or(HttpMethod::Get, |placed| placed.value);
    let tested = section.body.as_ref().or(section.body_regex.as_ref());
    if let Some(placed) = tested.filter(|_| method == HttpMethod::Head) {
        let problem = Problem::at(&placed.span, "the answer to a HEAD has no body").here("never holds");
        report.add(problem.right("expected `method = \"GET\"`, or no test of the body"));
    }
    HttpQuestion {
        method,
        path: section.path.as_ref().map_or_else(|| PATH.to_owned(), |placed| placed.value.0.clone()),
        host: section.host.as_ref().map(|placed| placed.value.as_str().to_owned()),
        status,
        headers,
        body,
    }
}

/// Keys of another kind of probe: what they ask for would not happen.
fn strangers(kind: HealthKind, section: &HealthSection, report: &mut Report) {
    fn span<T>(key: &Option<Placed<T>>) -> Option<Range<usize>> {
        key.as_ref().map(|placed| placed.span.clone())
    }
    let http = "http";
    let keys = [
        ("path", http, span(&section.path)),
        ("host", http, span(&section.host)),
        ("method", http, span(&section.method)),
        ("status", http, section.status.as_ref().map(|list| list.span())),
        ("headers", http, section.headers.as_ref().map(|list| list.span())),
        ("body", http, span(&section.body)),
        ("body_regex", http, span(&section.body_regex)),
        ("service", "grpc", span(&section.service)),
    ];
    for (key, of, place) in keys {
        if let Some(place) = place.filter(|_| kind.as_str() != of) {
            let wrong = format!("`{key}` is of probes by {of}, and these are by {}", kind.as_str());
            let problem = Problem::at(&place, wrong).here("has no effect");
            report.add(problem.right(format!("expected `kind = \"{of}\"`, or no `{key}`")));
        }
    }
}

fn needs_tls(id: &ServiceId, service: &ServiceSection, section: &HealthSection, report: &mut Report) {
    let Some(kind) = section.kind.as_ref().filter(|_| service.tls.is_none()) else { return };
    let wrong = format!("service `{id}` is probed by TLS, but does not say whom it believes");
    let problem = Problem::at(&kind.span, wrong).here("needs TLS");
    report.add(problem.right(format!("expected a table [services.{id}.tls], or `kind = \"tcp\"`")));
}

fn needs_http2(id: &ServiceId, service: &ServiceSection, section: &HealthSection, report: &mut Report) {
    let http2 = service.protocol.as_ref().is_some_and(|placed| placed.value == UpstreamProtocol::Http2);
    let Some(kind) = section.kind.as_ref().filter(|_| !http2) else { return };
    let wrong = format!("service `{id}` is asked by gRPC for its health, but does not speak HTTP/2");
    let problem = Problem::at(&kind.span, wrong).here("needs HTTP/2");
    report.add(problem.right("expected `protocol = \"http2\"` of the service"));
}
