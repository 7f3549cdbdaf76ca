//! Metrics of a configuration that is read from a bucket.

use prometheus::{Gauge, IntCounterVec, IntGauge, Opts, Registry};
use std::time::Duration;

/// How looking for a new version ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    New,
    Unchanged,
    /// It is not there; the one in force stays.
    Missing,
    Failed,
}

impl Look {
    const ALL: [Self; 4] = [Self::New, Self::Unchanged, Self::Missing, Self::Failed];

    /// The result as the metric spells it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Unchanged => "unchanged",
            Self::Missing => "missing",
            Self::Failed => "failed",
        }
    }
}

/// Handles of the metrics of one object; clones share them.
#[derive(Debug, Clone)]
pub struct ConfigObjectMetrics {
    looks: IntCounterVec,
    confirmed: Gauge,
    from_disk: IntGauge,
}

impl ConfigObjectMetrics {
    /// # Errors
    /// None that can happen: the names are right.
    pub fn new() -> Result<Self, prometheus::Error> {
        let looks = IntCounterVec::new(
            Opts::new(
                "proxima_config_looks_total",
                "Looks for a new version of the configuration in its bucket, by result: new, unchanged, missing or failed.",
            ),
            &["result"],
        )?;
        for look in Look::ALL {
            looks.with_label_values(&[look.as_str()]);
        }
        Ok(Self {
            looks,
            confirmed: Gauge::new(
                "proxima_config_confirmed_timestamp_seconds",
                "When the bucket last said which version of the configuration is current, in seconds since 1970; \
                 0: not since the start.",
            )?,
            from_disk: IntGauge::new(
                "proxima_config_from_disk",
                "1 while the configuration in force is the last good one that was kept on disk, because the bucket's \
                 was away or refused at the start.",
            )?,
        })
    }

    /// # Errors
    /// `prometheus::Error` when a name is registered already.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.looks.clone()))?;
        registry.register(Box::new(self.confirmed.clone()))?;
        registry.register(Box::new(self.from_disk.clone()))
    }

    pub fn looked(&self, look: Look) {
        self.looks.with_label_values(&[look.as_str()]).inc();
    }

    /// The bucket answered, at `wall` since 1970.
    pub fn confirmed(&self, wall: Duration) {
        self.confirmed.set(wall.as_secs_f64());
    }

    /// Whether the configuration in force is from the disk.
    pub fn from_disk(&self, from_disk: bool) {
        self.from_disk.set(i64::from(from_disk));
    }
}
