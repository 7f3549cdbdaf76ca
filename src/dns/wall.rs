//! The wall clock: the control record's `changed_at` must mean the same to every region.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since 1970; zero for a clock before that.
#[allow(clippy::disallowed_methods)] // Regions share no monotonic clock; this is only an age and a timestamp.
pub fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
