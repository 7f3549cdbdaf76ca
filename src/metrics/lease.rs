//! Metrics of the Lease of the region's pods.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

/// What came of a request for the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseRequest {
    Read,
    Written,
    /// Somebody else has written it first.
    Conflict,
    Missing,
    Denied,
    Failed,
}

impl LeaseRequest {
    const ALL: [Self; 6] =
        [Self::Read, Self::Written, Self::Conflict, Self::Missing, Self::Denied, Self::Failed];

    /// The result as the metric spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Written => "written",
            Self::Conflict => "conflict",
            Self::Missing => "missing",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// Handles of the lease's task; a clone is the same counters.
#[derive(Debug, Clone)]
pub struct LeaseMetrics {
    requests: IntCounterVec,
    rules: IntGauge,
}

impl LeaseMetrics {
    /// # Errors
    /// `prometheus::Error` when a name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new(
                "proxima_lease_requests_total",
                "Requests to the Kubernetes API for the Lease, by result.",
            ),
            &["result"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        LeaseRequest::ALL.iter().for_each(|result| drop(requests.with_label_values(&[result.as_str()])));
        let rules = IntGauge::new(
            "proxima_lease_rules",
            "1 while the Kubernetes Lease says who speaks for the region; 0: the pods elect one among themselves.",
        )?;
        registry.register(Box::new(rules.clone()))?;
        Ok(Self { requests, rules })
    }

    pub fn asked(&self, result: LeaseRequest) {
        self.requests.with_label_values(&[result.as_str()]).inc();
    }

    pub fn rules(&self, rules: bool) {
        self.rules.set(rules.into());
    }
}
