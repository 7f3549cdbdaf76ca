//! Metrics of what is asked of the Kubernetes API.

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use std::time::Duration;

/// Why a namespace could not be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchFailure {
    /// No service account, or a wrong kubeconfig.
    Settings,
    Unreachable,
    Timeout,
    Denied,
    Busy,
    /// The version to go on from is no longer kept; not a fault.
    Expired,
    Refused,
}

impl WatchFailure {
    const ALL: [Self; 7] = [
        Self::Settings,
        Self::Unreachable,
        Self::Timeout,
        Self::Denied,
        Self::Busy,
        Self::Expired,
        Self::Refused,
    ];

    /// The reason as the metric spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Denied => "denied",
            Self::Busy => "busy",
            Self::Expired => "expired",
            Self::Refused => "refused",
        }
    }
}

/// Handles shared by the followers of namespaces; a clone is the same counters.
#[derive(Debug, Clone)]
pub struct KubeMetrics {
    connected: IntGaugeVec,
    away: GaugeVec,
    failures: IntCounterVec,
    changes: IntCounterVec,
    slices: IntGaugeVec,
    left_out: IntGaugeVec,
}

impl KubeMetrics {
    /// # Errors
    /// `prometheus::Error` when a name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let away = GaugeVec::new(
            Opts::new(
                "proxima_kube_watch_away_seconds",
                "For how long a namespace's EndpointSlices have not been followed; 0 while they are.",
            ),
            &["namespace"],
        )?;
        registry.register(Box::new(away.clone()))?;
        Ok(Self {
            connected: gauge(
                "proxima_kube_watch_connected",
                "1 while a namespace's EndpointSlices are followed; else the last good endpoints are used.",
                &["namespace"],
            )?,
            away,
            failures: counter(
                "proxima_kube_watch_failures_total",
                "Times that a namespace's EndpointSlices could not be listed or watched, by why.",
                &["namespace", "reason"],
            )?,
            changes: counter(
                "proxima_kube_slice_changes_total",
                "EndpointSlices that changed, were made or went away, whole listings aside.",
                &["namespace"],
            )?,
            slices: gauge(
                "proxima_kube_slices",
                "EndpointSlices that are kept of a namespace.",
                &["namespace"],
            )?,
            left_out: gauge(
                "proxima_kube_addresses_left_out",
                "Endpoints of a service beyond the most that are used of it.",
                &["service"],
            )?,
        })
    }

    /// Begins the series of a namespace: it is not followed yet.
    pub fn begin(&self, namespace: &str) {
        self.connected(namespace, false);
        self.away(namespace, Duration::ZERO);
        self.changes.with_label_values(&[namespace]);
        for reason in WatchFailure::ALL {
            self.failures.with_label_values(&[namespace, reason.as_str()]);
        }
    }

    pub fn connected(&self, namespace: &str, connected: bool) {
        self.connected.with_label_values(&[namespace]).set(connected.into());
    }

    /// How long it has not been followed.
    pub fn away(&self, namespace: &str, since: Duration) {
        self.away.with_label_values(&[namespace]).set(since.as_secs_f64());
    }

    pub fn failed(&self, namespace: &str, why: WatchFailure) {
        self.failures.with_label_values(&[namespace, why.as_str()]).inc();
    }

    pub fn changed(&self, namespace: &str) {
        self.changes.with_label_values(&[namespace]).inc();
    }

    /// So many slices are kept.
    pub fn slices(&self, namespace: &str, kept: usize) {
        self.slices.with_label_values(&[namespace]).set(i64::try_from(kept).unwrap_or(i64::MAX));
    }

    /// So many endpoints of a service are not used.
    pub fn left_out(&self, service: &str, count: usize) {
        self.left_out.with_label_values(&[service]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A service is no longer told by the cluster. A series that was never there is no fault.
    pub fn forget_service(&self, service: &str) {
        drop(self.left_out.remove_label_values(&[service]));
    }

    /// A namespace is followed no longer. A series that was never there is no fault.
    pub fn forget(&self, namespace: &str) {
        drop(self.connected.remove_label_values(&[namespace]));
        drop(self.away.remove_label_values(&[namespace]));
        drop(self.changes.remove_label_values(&[namespace]));
        drop(self.slices.remove_label_values(&[namespace]));
        for reason in WatchFailure::ALL {
            drop(self.failures.remove_label_values(&[namespace, reason.as_str()]));
        }
    }
}
