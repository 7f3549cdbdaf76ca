//! Metrics of the journal.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// What became of a turn of the core that was to be journaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalResult {
    Written,
    /// The queue was full, or a gap before it made it useless.
    Dropped,
    /// The disk refused it, or had refused what it follows on.
    Failed,
}

impl JournalResult {
    const ALL: [Self; 3] = [Self::Written, Self::Dropped, Self::Failed];

    /// The result as the metric spells it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }
}

/// Handles shared by the control task and the writer; a clone is the same counters.
#[derive(Debug, Clone)]
pub struct JournalMetrics {
    records: IntCounterVec,
    bytes: IntCounter,
    kept: IntGauge,
}

impl JournalMetrics {
    /// # Errors
    /// `prometheus::Error` when a name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let records = IntCounterVec::new(
            Opts::new(
                "proxima_journal_records_total",
                "Turns of the core for the journal, by what became of them.",
            ),
            &["result"],
        )?;
        let bytes = IntCounter::new("proxima_journal_bytes_total", "Bytes written to the journal.")?;
        let kept =
            IntGauge::new("proxima_journal_kept_bytes", "Bytes of all files in the journal's folder.")?;
        registry.register(Box::new(records.clone()))?;
        registry.register(Box::new(bytes.clone()))?;
        registry.register(Box::new(kept.clone()))?;
        for result in JournalResult::ALL {
            records.with_label_values(&[result.as_str()]);
        }
        Ok(Self { records, bytes, kept })
    }

    pub fn records(&self, result: JournalResult, count: u64) {
        self.records.with_label_values(&[result.as_str()]).inc_by(count);
    }

    /// A block went to the disk, and so much is kept now.
    pub fn wrote(&self, bytes: u64, kept: u64) {
        self.bytes.inc_by(bytes);
        self.kept.set(i64::try_from(kept).unwrap_or(i64::MAX));
    }

    /// Turns that are told so, for tests and the log.
    pub fn count(&self, result: JournalResult) -> u64 {
        self.records.with_label_values(&[result.as_str()]).get()
    }
}
