//! Metrics of the DNS side: weights, changes, conflicts, time to INSYNC.
