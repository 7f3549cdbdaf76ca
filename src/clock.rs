//! The process's clock: turns tokio's monotonic time into the core's plain number.

use crate::domain::time::Time;
use std::time::Duration;
use tokio::time::Instant;

/// Started once in `app` and copied to every adapter, so that all agree on the origin.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// The origin lies an hour back, so that "before the start" can be told by small spans.
    const HEAD_START: Duration = Duration::from_secs(3600);

    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub fn now(&self) -> Time {
        Time::ZERO + Self::HEAD_START + self.origin.elapsed()
    }
}
