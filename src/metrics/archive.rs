//! Metrics of the archive.

use prometheus::{Gauge, IntCounterVec, IntGaugeVec, Opts, Registry};
use std::time::Duration;

/// What is archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Journal,
    Audit,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Journal, Self::Audit];

    /// As metrics and keys spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Audit => "audit",
        }
    }
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archived {
    Uploaded,
    /// An attempt; it is made again.
    Failed,
    /// Room was made for newer ones before it was uploaded.
    Dropped,
}

impl Archived {
    const ALL: [Self; 3] = [Self::Uploaded, Self::Failed, Self::Dropped];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Uploaded => "uploaded",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

/// Handles of every metric of the archive; clones share them.
#[derive(Debug, Clone)]
pub struct ArchiveMetrics {
    files: IntCounterVec,
    pending: IntGaugeVec,
    uploaded_at: Gauge,
}

impl ArchiveMetrics {
    /// # Errors
    /// `prometheus::Error` when a name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let files = IntCounterVec::new(
            Opts::new(
                "proxima_archive_files_total",
                "Files for the archive by what became of them: uploaded, failed (an attempt, made again) or dropped.",
            ),
            &["kind", "result"],
        )?;
        let pending = IntGaugeVec::new(
            Opts::new("proxima_archive_pending_files", "Closed files that are not in the archive yet."),
            &["kind"],
        )?;
        let uploaded_at = Gauge::new(
            "proxima_archive_uploaded_timestamp_seconds",
            "When a file was last uploaded, in seconds since 1970; 0: not since the start.",
        )?;
        registry.register(Box::new(files.clone()))?;
        registry.register(Box::new(pending.clone()))?;
        registry.register(Box::new(uploaded_at.clone()))?;
        for kind in Kind::ALL {
            pending.with_label_values(&[kind.as_str()]);
            for result in Archived::ALL {
                files.with_label_values(&[kind.as_str(), result.as_str()]);
            }
        }
        Ok(Self { files, pending, uploaded_at })
    }

    pub fn count(&self, kind: Kind, result: Archived, files: u64) {
        self.files.with_label_values(&[kind.as_str(), result.as_str()]).inc_by(files);
    }

    pub fn pending(&self, kind: Kind, files: usize) {
        self.pending.with_label_values(&[kind.as_str()]).set(i64::try_from(files).unwrap_or(i64::MAX));
    }

    /// A file arrived, at `wall` since 1970.
    pub fn uploaded(&self, wall: Duration) {
        self.uploaded_at.set(wall.as_secs_f64());
    }
}
