//! How much is going on, so that a drain ends as soon as nothing is left.

use prometheus::IntGauge;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tokio::sync::Notify;

/// Open connections and requests in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    pub connections: usize,
    pub requests: usize,
}

/// Counts what is open; shared by all listeners.
#[derive(Debug, Default)]
pub(super) struct Counter {
    connections: AtomicUsize,
    requests: AtomicUsize,
    /// Told whenever one of the two reaches zero.
    idle: Notify,
}

impl Counter {
    pub(super) fn activity(&self) -> Activity {
        Activity { connections: self.connections.load(SeqCst), requests: self.requests.load(SeqCst) }
    }

    /// Counts a connection, here and in a gauge, until the guard is dropped.
    pub(super) fn connection(self: &Arc<Self>, gauge: IntGauge) -> Guard {
        Guard::new(self, |counter| &counter.connections, gauge)
    }

    /// Counts a request, here and in a gauge, until the guard is dropped.
    pub(super) fn request(self: &Arc<Self>, gauge: IntGauge) -> Guard {
        Guard::new(self, |counter| &counter.requests, gauge)
    }

    /// Returns when there is neither a connection nor a request.
    pub(super) async fn nothing_left(&self) {
        loop {
            let notified = self.idle.notified();
            if self.activity() == (Activity { connections: 0, requests: 0 }) {
                return;
            }
            notified.await;
        }
    }
}

/// One connection or request; dropping it ends the count.
#[derive(Debug)]
pub(super) struct Guard {
    counter: Arc<Counter>,
    of: fn(&Counter) -> &AtomicUsize,
    gauge: IntGauge,
}

impl Guard {
    fn new(counter: &Arc<Counter>, of: fn(&Counter) -> &AtomicUsize, gauge: IntGauge) -> Self {
        of(counter).fetch_add(1, SeqCst);
        gauge.inc();
        Self { counter: Arc::clone(counter), of, gauge }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.gauge.dec();
        if (self.of)(&self.counter).fetch_sub(1, SeqCst) == 1 {
            self.counter.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_ends_with_the_last_guard() {
        let counter = Arc::new(Counter::default());
        counter.nothing_left().await;
        let gauge = IntGauge::new("gauge", "help").unwrap();
        let (connection, request) = (counter.connection(gauge.clone()), counter.request(gauge.clone()));
        assert_eq!(gauge.get(), 2);
        assert_eq!(counter.activity(), Activity { connections: 1, requests: 1 });
        let waiting = tokio::spawn({
            let counter = Arc::clone(&counter);
            async move { counter.nothing_left().await }
        });
        drop(connection);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "a request is left");
        drop(request);
        waiting.await.unwrap();
        assert_eq!(gauge.get(), 0);
    }
}
