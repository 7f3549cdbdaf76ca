//! Metrics of AWS's credentials.

use prometheus::{Gauge, IntCounterVec, Opts, Registry};
use std::time::Duration;

/// How asking for credentials ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    Renewed,
    /// It failed, and those before still hold.
    Kept,
    /// It failed, and there are none.
    Failed,
}

impl Renewal {
    const ALL: [Self; 3] = [Self::Renewed, Self::Kept, Self::Failed];

    /// The result as the metric spells it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Renewed => "renewed",
            Self::Kept => "kept",
            Self::Failed => "failed",
        }
    }
}

/// Handles of every metric of AWS's credentials; clones share them.
#[derive(Debug, Clone)]
pub struct AwsMetrics {
    renewals: IntCounterVec,
    expiry: Gauge,
}

impl AwsMetrics {
    /// # Errors
    /// `prometheus::Error` when a name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let renewals = IntCounterVec::new(
            Opts::new(
                "proxima_aws_credentials_renewals_total",
                "Times that credentials for AWS were asked for, by result: renewed, kept (it failed, those before \
                 still hold) or failed.",
            ),
            &["result"],
        )?;
        let expiry = Gauge::new(
            "proxima_aws_credentials_expiry_timestamp_seconds",
            "When the credentials for AWS end, in seconds since 1970; 0: there are none, or they never do.",
        )?;
        registry.register(Box::new(renewals.clone()))?;
        registry.register(Box::new(expiry.clone()))?;
        for renewal in Renewal::ALL {
            renewals.with_label_values(&[renewal.as_str()]);
        }
        Ok(Self { renewals, expiry })
    }

    pub fn asked(&self, renewal: Renewal) {
        self.renewals.with_label_values(&[renewal.as_str()]).inc();
    }

    /// Those in use end then, since 1970; `None`: never, or there are none.
    pub fn expire(&self, at: Option<Duration>) {
        self.expiry.set(at.map_or(0.0, |at| at.as_secs_f64()));
    }
}
