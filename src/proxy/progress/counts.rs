//! Counts of what became of a request, beside its attempts.

use super::Progress;

impl Progress {
    /// Too many requests are in flight: this one is not taken.
    pub(super) fn count_shed(&self) {
        if let Some((exchange, handles)) = self.exchange.as_ref().zip(self.handles()) {
            handles.shed(exchange.priority).inc();
        }
    }

    /// The current attempt answers: does its session know the place?
    pub(super) fn count_session(&self) {
        let moved = self.current().is_some_and(|(exchange, attempt)| exchange.attempts.has_moved(attempt));
        if let Some(handles) = self.handles().filter(|_| moved) {
            handles.sessions_moved.inc();
        }
    }
}
