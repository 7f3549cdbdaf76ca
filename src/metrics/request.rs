//! What happens to requests and connections.
//!
//! Label values come from configuration only. Handles are resolved into a
//! [`Handles`] table when a configuration is applied, so that a request never
//! looks a label up.

use crate::domain::name::{RegionId, ServiceId};
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use std::collections::BTreeMap;

/// Upper bounds of the latency histogram in seconds, from 1 ms to 30 s.
const LATENCY_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Label of the region when no region answered and this edge did.
const NO_REGION: &str = "none";

/// The class of an answer, as the label spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Informational,
    Success,
    Redirection,
    ClientError,
    ServerError,
    /// No answer: the client left first.
    None,
}

impl Class {
    const ALL: [Self; 6] = [
        Self::Informational,
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
        Self::None,
    ];

    /// The class of a status code; what is none of the five classes counts as a server error.
    pub const fn of(status: u16) -> Self {
        match status {
            100..=199 => Self::Informational,
            200..=299 => Self::Success,
            300..=399 => Self::Redirection,
            400..=499 => Self::ClientError,
            _ => Self::ServerError,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::None => "none",
        }
    }
}

/// Why an attempt was followed by another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryReason {
    /// No connection; nothing was sent.
    Connect,
    /// Sent, but the upstream said that it did not process it.
    Unprocessed,
    /// Reset or closed before the head of the answer was whole.
    Closed,
    /// The peer's typed 503.
    Refused,
    /// No answer in time; only where a route says so.
    Timeout,
    /// A status that a route names.
    Status,
}

impl RetryReason {
    const ALL: [Self; 6] =
        [Self::Connect, Self::Unprocessed, Self::Closed, Self::Refused, Self::Timeout, Self::Status];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Unprocessed => "unprocessed",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Status => "status",
        }
    }
}

/// Why a forwarded request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    NoService,
    NoRoom,
    /// Not a forwarded request at all: a header is missing or wrong.
    Malformed,
}

impl RefusalReason {
    const ALL: [Self; 3] = [Self::NoService, Self::NoRoom, Self::Malformed];

    /// The reason as labels and the typed 503 spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoService => "no_service",
            Self::NoRoom => "no_room",
            Self::Malformed => "malformed",
        }
    }
}

/// Which kind of listener a connection came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerKind {
    Http,
    Https,
    Peer,
}

impl ListenerKind {
    const ALL: [Self; 3] = [Self::Http, Self::Https, Self::Peer];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Peer => "peer",
        }
    }
}

/// Every metric of the request path; clones share the counts.
#[derive(Debug, Clone)]
pub struct RequestMetrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    attempts: IntCounterVec,
    retries: IntCounterVec,
    connect_errors: IntCounterVec,
    retries_denied: IntCounterVec,
    concurrency_limit: IntGaugeVec,
    malformed: IntCounterVec,
    refused: [IntCounter; 3],
    rejected: [IntCounter; RejectReason::ALL.len()],
    connections: [IntGauge; 3],
    handshake_failures: [IntCounter; 3],
    /// Requests between their head and the end of their answer.
    pub in_flight: IntGauge,
    /// Outcomes that the core did not get, because its channel was full.
    pub outcomes_dropped: IntCounter,
    /// Requests that no route matched.
    pub unrouted: IntCounter,
    /// Requests that clients sent to this region and a route matched.
    pub entered: IntCounter,
    /// Requests that this region's own endpoints were asked for.
    pub served: IntCounter,
}

/// Why a request was not passed on, by its route's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectReason {
    /// The client's address may not ask.
    Denied,
    BodyTooLarge,
    RateLimited,
    /// Too many of the service's requests are in flight.
    Overloaded,
}

impl RejectReason {
    const ALL: [Self; 4] = [Self::Denied, Self::BodyTooLarge, Self::RateLimited, Self::Overloaded];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::BodyTooLarge => "body_too_large",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
        }
    }
}

/// What was malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    Request,
    Answer,
}

impl Message {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Answer => "answer",
        }
    }
}

impl RequestMetrics {
    /// # Errors
    /// `prometheus::Error` when a name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let new = Registrar { registry };
        let refused = new.counters(
            "proxima_forwarded_refused_total",
            "Forwarded requests that this region refused.",
            &["reason"],
        )?;
        let rejected = new.counters(
            "proxima_requests_rejected_total",
            "Requests that the rules of their route or service kept from a service.",
            &["reason"],
        )?;
        let handshake_failures = new.counters(
            "proxima_handshake_failures_total",
            "Connections that did not get through their TLS handshake.",
            &["listener"],
        )?;
        let connections = new.gauges(
            "proxima_connections_active",
            "Open connections from clients and other regions.",
            &["listener"],
        )?;
        Ok(Self {
            requests: new.counters(
                "proxima_requests_total",
                "Requests by the region that served them (none: this edge itself) and status class (none: the client left first).",
                &["service", "region", "class"],
            )?,
            duration: new.latencies(
                "proxima_request_duration_seconds",
                "Time from a request's head to the end of its answer.",
                &["service"],
            )?,
            attempts: new.counters(
                "proxima_attempts_total",
                "Attempts to have a request answered by an upstream.",
                &["service"],
            )?,
            retries: new.counters(
                "proxima_retries_total",
                "Attempts that were followed by another one, by why.",
                &["service", "reason"],
            )?,
            connect_errors: new.counters(
                "proxima_upstream_connect_errors_total",
                "Connections to endpoints of the own region or to peers that could not be made.",
                &["service", "region"],
            )?,
            retries_denied: new.counters(
                "proxima_retries_denied_total",
                "Retries that were not made because the service's retry budget was spent.",
                &["service"],
            )?,
            concurrency_limit: new.gauges(
                "proxima_concurrency_limit",
                "Requests that may be in flight at the own endpoints of a service (0: any number).",
                &["service"],
            )?,
            malformed: new.counters(
                "proxima_malformed_messages_total",
                "Messages that broke the rules of HTTP: requests of clients and answers of upstreams.",
                &["message", "reason"],
            )?,
            refused: RefusalReason::ALL.map(|reason| refused.with_label_values(&[reason.as_str()])),
            rejected: RejectReason::ALL.map(|reason| rejected.with_label_values(&[reason.as_str()])),
            connections: ListenerKind::ALL.map(|kind| connections.with_label_values(&[kind.as_str()])),
            handshake_failures: ListenerKind::ALL
                .map(|kind| handshake_failures.with_label_values(&[kind.as_str()])),
            in_flight: new.gauge(
                "proxima_requests_in_flight",
                "Requests between their head and the end of their answer.",
            )?,
            outcomes_dropped: new.counter(
                "proxima_outcomes_dropped_total",
                "Outcomes of requests that the core did not get because its channel was full.",
            )?,
            unrouted: new.counter("proxima_requests_unrouted_total", "Requests that no route matched.")?,
            entered: new.counter(
                "proxima_requests_entered_total",
                "Requests that clients sent to this region, forwarded ones not among them.",
            )?,
            served: new.counter(
                "proxima_requests_served_total",
                "Requests that this region's own endpoints were asked for, forwarded ones among them.",
            )?,
        })
    }

    /// Requests that clients have sent to this region since the start.
    pub fn entered_total(&self) -> u64 {
        self.entered.get()
    }

    /// Requests that this region's own endpoints have been asked for since the start.
    pub fn served_total(&self) -> u64 {
        self.served.get()
    }

    /// The count of refused forwarded requests.
    pub fn refused(&self, reason: RefusalReason) -> &IntCounter {
        &self.refused[reason as usize]
    }

    /// The count of requests that a route's rules forbade.
    pub fn rejected(&self, reason: RejectReason) -> &IntCounter {
        &self.rejected[reason as usize]
    }

    /// The counts of malformed messages of a kind, by their reasons; for those who know the reasons.
    pub fn malformed<const N: usize>(&self, message: Message, reasons: [&str; N]) -> [IntCounter; N] {
        reasons.map(|reason| self.malformed.with_label_values(&[message.as_str(), reason]))
    }

    /// The number of open connections.
    pub fn connections(&self, kind: ListenerKind) -> &IntGauge {
        &self.connections[kind as usize]
    }

    /// The count of failed TLS handshakes.
    pub fn handshake_failures(&self, kind: ListenerKind) -> &IntCounter {
        &self.handshake_failures[kind as usize]
    }

    /// The handles of every configured service and region.
    pub fn handles<'a>(
        &self,
        services: impl Iterator<Item = &'a ServiceId>,
        regions: impl Iterator<Item = &'a RegionId> + Clone,
    ) -> Handles {
        let classes = |service: &ServiceId, region: &str| {
            Class::ALL
                .map(|class| self.requests.with_label_values(&[service.as_str(), region, class.as_str()]))
        };
        let handles = |service: &ServiceId| ServiceHandles {
            own: classes(service, NO_REGION),
            regions: regions
                .clone()
                .map(|region| {
                    let labels = [service.as_str(), region.as_str()];
                    let handles = RegionHandles {
                        requests: classes(service, region.as_str()),
                        connect_errors: self.connect_errors.with_label_values(&labels),
                    };
                    (region.clone(), handles)
                })
                .collect(),
            duration: self.duration.with_label_values(&[service.as_str()]),
            attempts: self.attempts.with_label_values(&[service.as_str()]),
            retries: RetryReason::ALL
                .map(|reason| self.retries.with_label_values(&[service.as_str(), reason.as_str()])),
            retries_denied: self.retries_denied.with_label_values(&[service.as_str()]),
            concurrency_limit: self.concurrency_limit.with_label_values(&[service.as_str()]),
        };
        Handles { services: services.map(|service| (service.clone(), handles(service))).collect() }
    }
}

/// Handles by service, resolved when a configuration is applied.
#[derive(Debug, Default)]
pub struct Handles {
    services: BTreeMap<ServiceId, ServiceHandles>,
}

impl Handles {
    /// `None` for a service that the configuration does not name.
    pub fn service(&self, service: &ServiceId) -> Option<&ServiceHandles> {
        self.services.get(service)
    }
}

/// Handles of one service.
#[derive(Debug)]
pub struct ServiceHandles {
    own: [IntCounter; 6],
    regions: BTreeMap<RegionId, RegionHandles>,
    /// Seconds from a request's head to the end of its answer.
    pub duration: Histogram,
    pub attempts: IntCounter,
    retries: [IntCounter; RetryReason::ALL.len()],
    pub retries_denied: IntCounter,
    pub concurrency_limit: IntGauge,
}

impl ServiceHandles {
    /// The count of requests served by a region (`None`: answered by this edge itself).
    pub fn requests(&self, region: Option<&RegionId>, class: Class) -> &IntCounter {
        let counters = region.and_then(|r| self.regions.get(r)).map_or(&self.own, |r| &r.requests);
        &counters[class as usize]
    }

    /// The count of connections to a region's endpoints that could not be made.
    pub fn connect_errors(&self, region: &RegionId) -> Option<&IntCounter> {
        self.regions.get(region).map(|r| &r.connect_errors)
    }

    pub fn retries(&self, reason: RetryReason) -> &IntCounter {
        &self.retries[reason as usize]
    }
}

/// Makes metrics and registers them.
struct Registrar<'a> {
    registry: &'a Registry,
}

impl Registrar<'_> {
    fn registered<M: Collector + Clone + 'static>(
        &self,
        made: Result<M, prometheus::Error>,
    ) -> Result<M, prometheus::Error> {
        let metric = made?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.registered(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.registered(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.registered(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.registered(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn latencies(&self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, prometheus::Error> {
        let opts = HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS.to_vec());
        self.registered(HistogramVec::new(opts, labels))
    }
}

#[derive(Debug)]
struct RegionHandles {
    requests: [IntCounter; 6],
    connect_errors: IntCounter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_handle_counts_under_its_own_labels() {
        let registry = Registry::new();
        let metrics = RequestMetrics::register(&registry).unwrap();
        let (web, home) = (ServiceId::parse("web").unwrap(), RegionId::parse("home").unwrap());
        let handles = metrics.handles([&web].into_iter(), [&home].into_iter());
        let service = handles.service(&web).unwrap();
        service.requests(Some(&home), Class::of(204)).inc();
        service.requests(None, Class::of(503)).inc_by(2);
        service.requests(None, Class::None).inc_by(3);
        service.retries(RetryReason::Refused).inc_by(4);
        metrics.refused(RefusalReason::NoRoom).inc_by(5);
        metrics.connections(ListenerKind::Peer).set(6);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "proxima_requests_total{class=\"2xx\",region=\"home\",service=\"web\"} 1",
            "proxima_requests_total{class=\"5xx\",region=\"none\",service=\"web\"} 2",
            "proxima_requests_total{class=\"none\",region=\"none\",service=\"web\"} 3",
            "proxima_retries_total{reason=\"refused\",service=\"web\"} 4",
            "proxima_forwarded_refused_total{reason=\"no_room\"} 5",
            "proxima_connections_active{listener=\"peer\"} 6",
            "proxima_requests_total{class=\"1xx\",region=\"home\",service=\"web\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_service_or_region_that_is_not_configured_has_no_handle_of_its_own() {
        let metrics = RequestMetrics::register(&Registry::new()).unwrap();
        let (web, home) = (ServiceId::parse("web").unwrap(), RegionId::parse("home").unwrap());
        let handles = metrics.handles([&web].into_iter(), [&home].into_iter());
        assert!(handles.service(&ServiceId::parse("other").unwrap()).is_none());
        let elsewhere = RegionId::parse("elsewhere").unwrap();
        assert!(handles.service(&web).unwrap().connect_errors(&elsewhere).is_none());
    }
}
