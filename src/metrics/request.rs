//! What happens to requests and connections.
//!
//! Label values come from configuration only. Handles are resolved into a
//! [`Handles`] table when a configuration is applied, so that a request never
//! looks a label up.

use crate::domain::name::{DnsName, RegionId, RouteId, ServiceId};
use crate::metrics::moves::MoveMetrics;
use prometheus::core::Collector;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};
use services::ServiceFamilies;

mod labels;
mod services;

pub use labels::{
    Class, Cut, Distrust, HedgeResult, ListenerKind, Message, RefusalReason, RejectReason, RetryReason, Told,
};
pub use services::{Handles, ServiceHandles, ServiceTotals};

/// Upper bounds of the latency histogram in seconds, from 1 ms to 30 s.
const LATENCY_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Every metric of the request path; clones share the counts.
#[derive(Debug, Clone)]
pub struct RequestMetrics {
    services: ServiceFamilies,
    routed: IntCounterVec,
    malformed: IntCounterVec,
    refused: [IntCounter; 3],
    rejected: [IntCounter; RejectReason::ALL.len()],
    connections: [IntGauge; 3],
    connections_refused: IntCounterVec,
    http2_cut: IntCounterVec,
    handshake_failures: [IntCounter; 3],
    siblings_told: [IntCounter; Told::ALL.len()],
    rates: RateFamilies,
    /// Requests between their head and the end of their answer.
    pub in_flight: IntGauge,
    /// Outcomes that the core did not get, because its channel was full.
    pub outcomes_dropped: IntCounter,
    pub samples_dropped: IntCounter,
    first_byte: HistogramVec,
    /// Requests that were sent on to TLS.
    pub https_redirects: IntCounter,
    /// Requests that no route matched.
    pub unrouted: IntCounter,
    /// Requests that clients sent to this region and a route matched.
    pub entered: IntCounter,
    entered_by_name: IntCounterVec,
    /// Requests that this region's own endpoints were asked for.
    pub served: IntCounter,
    pub moves: MoveMetrics,
}

fn handshake_failures(new: &Registrar<'_>) -> Result<IntCounterVec, prometheus::Error> {
    new.counters(
        "proxima_handshake_failures_total",
        "Connections that did not get through their TLS handshake.",
        &["listener"],
    )
}

fn entered_by_name(new: &Registrar<'_>) -> Result<IntCounterVec, prometheus::Error> {
    new.counters(
        "proxima_name_requests_entered_total",
        "Requests that clients sent to this region and asked for a DNS name of the configuration.",
        &["name"],
    )
}

fn siblings_told(new: &Registrar<'_>) -> Result<[IntCounter; Told::ALL.len()], prometheus::Error> {
    let told = new.counters(
        "proxima_sibling_loads_total",
        "Loads that other pods of the own region told this one, by what became of them.",
        &["result"],
    )?;
    Ok(Told::ALL.map(|result| told.with_label_values(&[result.as_str()])))
}

/// Of forwarded requests, and of requests by the rules of their route or service.
fn refusals(new: &Registrar<'_>) -> Result<(IntCounterVec, IntCounterVec), prometheus::Error> {
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
    Ok((refused, rejected))
}

impl RequestMetrics {
    /// # Errors
    /// `prometheus::Error` when a name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let new = Registrar { registry };
        let (refused, rejected) = refusals(&new)?;
        let handshakes = handshake_failures(&new)?;
        let connections = new.gauges(
            "proxima_connections_active",
            "Open connections from clients and other regions.",
            &["listener"],
        )?;
        Ok(Self {
            moves: MoveMetrics::register(registry)?,
            services: ServiceFamilies::register(&new)?,
            routed: new.counters(
                "proxima_requests_routed_total",
                "Requests that their route answered itself, by a redirect or an answer of its own.",
                &["route", "class"],
            )?,
            malformed: new.counters(
                "proxima_malformed_messages_total",
                "Messages that broke the rules of HTTP: requests of clients and answers of upstreams.",
                &["message", "reason"],
            )?,
            refused: RefusalReason::ALL.map(|reason| refused.with_label_values(&[reason.as_str()])),
            rejected: RejectReason::ALL.map(|reason| rejected.with_label_values(&[reason.as_str()])),
            connections: ListenerKind::ALL.map(|kind| connections.with_label_values(&[kind.as_str()])),
            handshake_failures: ListenerKind::ALL.map(|kind| handshakes.with_label_values(&[kind.as_str()])),
            siblings_told: siblings_told(&new)?,
            connections_refused: new.counters(
                "proxima_connections_refused_total",
                "Connections that were closed at once: over a limit of the listener, or without a right PROXY header.",
                &["listener", "reason"],
            )?,
            http2_cut: new.counters(
                "proxima_http2_cut_total",
                "HTTP/2 connections that were ended because their client asked for too much besides requests, or spoke no HTTP/2.",
                &["listener", "reason"],
            )?,
            https_redirects: new.counter(
                "proxima_https_redirects_total",
                "Requests that came without TLS and were sent to the same place over TLS.",
            )?,
            rates: RateFamilies::register(&new)?,
            in_flight: new.gauge(
                "proxima_requests_in_flight",
                "Requests between their head and the end of their answer.",
            )?,
            outcomes_dropped: new.counter(
                "proxima_outcomes_dropped_total",
                "Outcomes of requests that the core did not get because its channel was full.",
            )?,
            samples_dropped: new.counter(
                "proxima_samples_dropped_total",
                "Round trips of forwarded traffic that the core did not get because its channel was full.",
            )?,
            first_byte: new.latencies(
                "proxima_forward_first_byte_seconds",
                "Time from a forwarded request to the head of the other region's answer.",
                &["region"],
            )?,
            unrouted: new.counter("proxima_requests_unrouted_total", "Requests that no route matched.")?,
            entered: new.counter(
                "proxima_requests_entered_total",
                "Requests that clients sent to this region, forwarded ones not among them.",
            )?,
            entered_by_name: entered_by_name(&new)?,
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

    /// Requests that clients have sent to this region for a name since the start.
    pub fn entered_for(&self, name: &DnsName) -> IntCounter {
        self.entered_by_name.with_label_values(&[name.as_str()])
    }

    /// Requests that this region's own endpoints have been asked for since the start.
    pub fn served_total(&self) -> u64 {
        self.served.get()
    }

    /// Times from a forwarded request to the head of that region's answer.
    pub fn first_byte(&self, region: &RegionId) -> Histogram {
        self.first_byte.with_label_values(&[region.as_str()])
    }

    /// What a configured service has done since the start.
    pub fn service_totals(&self, service: &ServiceId) -> ServiceTotals {
        self.services.totals(service)
    }

    /// The count of refused forwarded requests.
    pub fn refused(&self, reason: RefusalReason) -> &IntCounter {
        &self.refused[reason as usize]
    }

    /// The count of requests that a route's rules forbade.
    pub fn rejected(&self, reason: RejectReason) -> &IntCounter {
        &self.rejected[reason as usize]
    }

    /// The counts of a named rate limit: requests that it refused, keys that it forgot.
    pub fn rate_limit(&self, name: &str) -> (IntCounter, IntCounter) {
        let of = |counts: &IntCounterVec| counts.with_label_values(&[name]);
        (of(&self.rates.refused), of(&self.rates.forgotten))
    }

    /// The counts of malformed messages of a kind, by their reasons; for those who know the reasons.
    pub fn malformed<const N: usize>(&self, message: Message, reasons: [&str; N]) -> [IntCounter; N] {
        reasons.map(|reason| self.malformed.with_label_values(&[message.as_str(), reason]))
    }

    /// The number of open connections.
    pub fn connections(&self, kind: ListenerKind) -> &IntGauge {
        &self.connections[kind as usize]
    }

    /// The counts of refused connections, by their reasons; for those who know the reasons.
    pub fn connections_refused<const N: usize>(
        &self,
        kind: ListenerKind,
        reasons: [&str; N],
    ) -> [IntCounter; N] {
        reasons.map(|reason| self.connections_refused.with_label_values(&[kind.as_str(), reason]))
    }

    /// The counts of HTTP/2 connections that were ended, by their reasons; for those who know the reasons.
    pub fn http2_cut<const N: usize>(&self, kind: ListenerKind, reasons: [&str; N]) -> [IntCounter; N] {
        reasons.map(|reason| self.http2_cut.with_label_values(&[kind.as_str(), reason]))
    }

    /// The count of failed TLS handshakes.
    pub fn handshake_failures(&self, kind: ListenerKind) -> &IntCounter {
        &self.handshake_failures[kind as usize]
    }

    /// The count of loads that pods told.
    pub fn sibling_told(&self, result: Told) -> &IntCounter {
        &self.siblings_told[result as usize]
    }

    /// The handles of every configured service and region, and of the routes that answer
    /// themselves, each with the class of its answer.
    pub fn handles<'a>(
        &self,
        services: impl Iterator<Item = &'a ServiceId>,
        regions: impl Iterator<Item = &'a RegionId> + Clone,
        routes: impl Iterator<Item = (&'a RouteId, Class)>,
    ) -> Handles {
        let count = |route: &RouteId, class: Class| {
            let count = self.routed.with_label_values(&[route.as_str(), class.as_str()]);
            (route.clone(), (class, count))
        };
        let routes = routes.map(|(route, class)| count(route, class)).collect();
        self.services.handles(services, regions, routes)
    }

    /// Ends the series of routes that are no more: names of routes come and go by the thousands.
    pub fn forget_routes(&self, before: &Handles, now: &Handles) {
        for (route, class) in before.routes_gone(now) {
            // One that was removed already needs no removing.
            drop(self.routed.remove_label_values(&[route.as_str(), class.as_str()]));
        }
    }
}

/// What named rate limits count.
#[derive(Debug, Clone)]
struct RateFamilies {
    refused: IntCounterVec,
    forgotten: IntCounterVec,
}

impl RateFamilies {
    fn register(new: &Registrar<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            refused: new.counters(
                "proxima_rate_limited_total",
                "Requests that came too early for a named limit and were answered with 429.",
                &["limit"],
            )?,
            forgotten: new.counters(
                "proxima_rate_keys_forgotten_total",
                "Keys of a named limit that were forgotten while they still counted: its `keys_max` is too small.",
                &["limit"],
            )?,
        })
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

    fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, prometheus::Error> {
        self.registered(GaugeVec::new(Opts::new(name, help), labels))
    }

    fn latencies(&self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, prometheus::Error> {
        let opts = HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS.to_vec());
        self.registered(HistogramVec::new(opts, labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_handle_counts_under_its_own_labels() {
        let registry = Registry::new();
        let metrics = RequestMetrics::register(&registry).unwrap();
        let (web, home) = (ServiceId::parse("web").unwrap(), RegionId::parse("home").unwrap());
        let handles = metrics.handles([&web].into_iter(), [&home].into_iter(), std::iter::empty());
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
    fn routes_that_answer_themselves_are_counted_while_they_are_configured() {
        let registry = Registry::new();
        let metrics = RequestMetrics::register(&registry).unwrap();
        let (old, new) = (RouteId::parse("old").unwrap(), RouteId::parse("new").unwrap());
        let handles = |routes: &[(&RouteId, Class)]| {
            metrics.handles([].into_iter(), [].into_iter(), routes.iter().copied())
        };
        let before = handles(&[(&old, Class::Redirection), (&new, Class::Success)]);
        before.route(&old).unwrap().inc();
        before.route(&new).unwrap().inc();
        let after = handles(&[(&new, Class::Success)]);
        metrics.forget_routes(&before, &after);
        after.route(&new).unwrap().inc();
        assert!(after.route(&old).is_none());
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text.contains("proxima_requests_routed_total{class=\"2xx\",route=\"new\"} 2"), "{text}");
        assert!(!text.contains("route=\"old\""), "{text}");
        metrics.forget_routes(&after, &handles(&[(&new, Class::ClientError)]));
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(
            text.contains("class=\"4xx\",route=\"new\"} 0") && !text.contains("route=\"new\"} 2"),
            "{text}"
        );
    }

    #[test]
    fn a_service_or_region_that_is_not_configured_has_no_handle_of_its_own() {
        let metrics = RequestMetrics::register(&Registry::new()).unwrap();
        let (web, home) = (ServiceId::parse("web").unwrap(), RegionId::parse("home").unwrap());
        let handles = metrics.handles([&web].into_iter(), [&home].into_iter(), std::iter::empty());
        assert!(handles.service(&ServiceId::parse("other").unwrap()).is_none());
        let elsewhere = RegionId::parse("elsewhere").unwrap();
        assert!(handles.service(&web).unwrap().connect_errors(&elsewhere).is_none());
    }
}
