//! Metrics by service, and the handles that requests count with.

use super::Registrar;
use super::labels::{Class, Cut, Distrust, HedgeResult, RetryReason};
use crate::domain::limit::concurrency::Priority;
use crate::domain::name::{RegionId, RouteId, ServiceId};
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};
use std::collections::BTreeMap;

/// Label of the region when no region answered and this edge did.
const NO_REGION: &str = "none";

/// Every family that has a service for a label.
#[derive(Debug, Clone)]
pub(super) struct ServiceFamilies {
    entered: IntCounterVec,
    served: IntCounterVec,
    requests: IntCounterVec,
    duration: HistogramVec,
    upstream: UpstreamFamilies,
    cut: IntCounterVec,
    concurrency_limit: IntGaugeVec,
    shed: IntCounterVec,
    sessions_moved: IntCounterVec,
}

/// What is counted at attempts to reach an upstream.
#[derive(Debug, Clone)]
struct UpstreamFamilies {
    attempts: IntCounterVec,
    retries: IntCounterVec,
    connect_errors: IntCounterVec,
    distrusted: IntCounterVec,
    retries_denied: IntCounterVec,
    hedges: IntCounterVec,
    hedge_delay: GaugeVec,
}

impl UpstreamFamilies {
    fn register(new: &Registrar<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
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
            distrusted: new.counters(
                "proxima_upstream_handshake_failures_total",
                "TLS handshakes with endpoints of the own region or with peers that failed, by why.",
                &["service", "reason"],
            )?,
            retries_denied: new.counters(
                "proxima_retries_denied_total",
                "Retries that were not made because the service's retry budget was spent.",
                &["service"],
            )?,
            hedges: new.counters(
                "proxima_hedges_total",
                "Requests that were slow enough for a second attempt beside the first, by what became of it.",
                &["service", "result"],
            )?,
            hedge_delay: new.seconds(
                "proxima_hedge_delay_seconds",
                "How long requests of a service are waited for before they are hedged (0: none are).",
                &["service"],
            )?,
        })
    }
}

impl ServiceFamilies {
    pub(super) fn register(new: &Registrar<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            entered: new.counters(
                "proxima_service_entered_total",
                "Requests for a service that clients sent to this region, wherever they were served.",
                &["service"],
            )?,
            served: new.counters(
                "proxima_service_served_total",
                "Requests for a service that this region's own endpoints were asked for, forwarded ones among them.",
                &["service"],
            )?,
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
            upstream: UpstreamFamilies::register(new)?,
            cut: new.counters(
                "proxima_answers_cut_total",
                "Answers that had begun and did not reach their end, by why.",
                &["service", "reason"],
            )?,
            concurrency_limit: new.gauges(
                "proxima_concurrency_limit",
                "Requests that may be in flight at the own endpoints of a service (0: any number).",
                &["service"],
            )?,
            shed: new.counters(
                "proxima_requests_shed_total",
                "Requests that were shed because too many were in flight, by the priority of their route.",
                &["service", "priority"],
            )?,
            sessions_moved: new.counters(
                "proxima_sessions_moved_total",
                "Requests of a session that own endpoints answered elsewhere than the session was before.",
                &["service"],
            )?,
        })
    }

    /// What a service has done since the start.
    pub(super) fn totals(&self, service: &ServiceId) -> ServiceTotals {
        let of = |priority: &Priority| self.shed.with_label_values(&[service.as_str(), priority.as_str()]);
        ServiceTotals {
            entered: self.entered.with_label_values(&[service.as_str()]).get(),
            served: self.served.with_label_values(&[service.as_str()]).get(),
            // The lowest class is shed while there is room for the others.
            shed: [Priority::Critical, Priority::Normal].iter().map(|priority| of(priority).get()).sum(),
        }
    }

    /// The handles of every configured service and region.
    pub(super) fn handles<'a>(
        &self,
        services: impl Iterator<Item = &'a ServiceId>,
        regions: impl Iterator<Item = &'a RegionId> + Clone,
        routes: BTreeMap<RouteId, (Class, IntCounter)>,
    ) -> Handles {
        let classes = |service: &ServiceId, region: &str| {
            Class::ALL
                .map(|class| self.requests.with_label_values(&[service.as_str(), region, class.as_str()]))
        };
        let handles = |service: &ServiceId| ServiceHandles {
            entered: self.entered.with_label_values(&[service.as_str()]),
            served: self.served.with_label_values(&[service.as_str()]),
            own: classes(service, NO_REGION),
            regions: regions
                .clone()
                .map(|region| {
                    let labels = [service.as_str(), region.as_str()];
                    let handles = RegionHandles {
                        requests: classes(service, region.as_str()),
                        connect_errors: self.upstream.connect_errors.with_label_values(&labels),
                    };
                    (region.clone(), handles)
                })
                .collect(),
            duration: self.duration.with_label_values(&[service.as_str()]),
            attempts: self.upstream.attempts.with_label_values(&[service.as_str()]),
            retries: RetryReason::ALL
                .map(|reason| self.upstream.retries.with_label_values(&[service.as_str(), reason.as_str()])),
            distrusted: Distrust::ALL.map(|reason| {
                self.upstream.distrusted.with_label_values(&[service.as_str(), reason.as_str()])
            }),
            retries_denied: self.upstream.retries_denied.with_label_values(&[service.as_str()]),
            cut: Cut::ALL.map(|cut| self.cut.with_label_values(&[service.as_str(), cut.as_str()])),
            hedges: HedgeResult::ALL
                .map(|result| self.upstream.hedges.with_label_values(&[service.as_str(), result.as_str()])),
            hedge_delay: self.upstream.hedge_delay.with_label_values(&[service.as_str()]),
            concurrency_limit: self.concurrency_limit.with_label_values(&[service.as_str()]),
            shed: Priority::ALL.map(|class| self.shed.with_label_values(&[service.as_str(), class.as_str()])),
            sessions_moved: self.sessions_moved.with_label_values(&[service.as_str()]),
        };
        Handles { services: services.map(|service| (service.clone(), handles(service))).collect(), routes }
    }
}

/// Requests for one service since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServiceTotals {
    /// Sent by clients to this region.
    pub entered: u64,
    /// That own endpoints were asked for.
    pub served: u64,
    /// Turned away because too many were in flight, of those that are not the first to give way.
    pub shed: u64,
}

/// Handles by service and route, resolved when a configuration is applied.
#[derive(Debug, Default)]
pub struct Handles {
    services: BTreeMap<ServiceId, ServiceHandles>,
    /// Of routes that answer themselves.
    routes: BTreeMap<RouteId, (Class, IntCounter)>,
}

impl Handles {
    /// `None` for a service that the configuration does not name.
    pub fn service(&self, service: &ServiceId) -> Option<&ServiceHandles> {
        self.services.get(service)
    }

    /// The count of a route that answers itself; `None` for any other.
    pub fn route(&self, route: &RouteId) -> Option<&IntCounter> {
        self.routes.get(route).map(|(_, count)| count)
    }

    /// Routes that do not answer themselves any more, or by another class.
    pub(super) fn routes_gone<'a>(&'a self, now: &'a Self) -> impl Iterator<Item = (&'a RouteId, Class)> {
        let same = |route: &RouteId, class: Class| now.routes.get(route).is_some_and(|(c, _)| *c == class);
        let gone = self.routes.iter().filter(move |(route, (class, _))| !same(route, *class));
        gone.map(|(route, (class, _))| (route, *class))
    }
}

/// Handles of one service.
#[derive(Debug)]
pub struct ServiceHandles {
    /// Sent by clients to this region.
    pub entered: IntCounter,
    /// That own endpoints were asked for.
    pub served: IntCounter,
    own: [IntCounter; 6],
    regions: BTreeMap<RegionId, RegionHandles>,
    /// Seconds from a request's head to the end of its answer.
    pub duration: Histogram,
    pub attempts: IntCounter,
    retries: [IntCounter; RetryReason::ALL.len()],
    distrusted: [IntCounter; Distrust::ALL.len()],
    pub retries_denied: IntCounter,
    cut: [IntCounter; Cut::ALL.len()],
    hedges: [IntCounter; HedgeResult::ALL.len()],
    /// In seconds.
    pub hedge_delay: Gauge,
    pub concurrency_limit: IntGauge,
    /// In the order of [`Priority`].
    shed: [IntCounter; Priority::ALL.len()],
    pub sessions_moved: IntCounter,
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

    pub fn cut(&self, cut: Cut) -> &IntCounter {
        &self.cut[cut as usize]
    }

    pub fn hedges(&self, result: HedgeResult) -> &IntCounter {
        &self.hedges[result as usize]
    }

    /// The count of requests of a class that were shed.
    pub fn shed(&self, priority: Priority) -> &IntCounter {
        &self.shed[priority as usize]
    }

    /// The count of TLS handshakes with upstreams that failed.
    pub fn distrusted(&self, reason: Distrust) -> &IntCounter {
        &self.distrusted[reason as usize]
    }

    pub fn retries(&self, reason: RetryReason) -> &IntCounter {
        &self.retries[reason as usize]
    }
}

#[derive(Debug)]
struct RegionHandles {
    requests: [IntCounter; 6],
    connect_errors: IntCounter,
}
