//! How many HTTP/1 connections there are to each endpoint, in use or idle.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::sleep;

/// How often endpoints without connections are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Counts of connections by endpoint.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<HashMap<SocketAddr, Arc<AtomicU32>>>);

/// One connection, counted until it is dropped.
#[derive(Debug)]
pub(in super::super) struct Seat(Arc<AtomicU32>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Seats {
    /// Counts a connection that is about to be made; `None`: there are `most` already.
    pub(super) fn take(&self, address: SocketAddr, most: Option<NonZeroU32>) -> Option<Seat> {
        let mut seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = seats.entry(address).or_default();
        if most.is_some_and(|most| count.load(Relaxed) >= most.get()) {
            return None;
        }
        count.fetch_add(1, Relaxed);
        Some(Seat(Arc::clone(count)))
    }

    /// Forgets endpoints without connections, once in a while; never returns.
    pub(super) async fn sweep(&self) {
        loop {
            sleep(SWEEP_EVERY).await;
            self.forget();
        }
    }

    fn forget(&self) {
        let mut seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seats.retain(|_, count| count.load(Relaxed) > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_seats_are_taken_than_there_are_and_each_is_free_again_once_it_is_dropped() {
        let (seats, most) = (Seats::default(), NonZeroU32::new(2));
        let [one, other] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let first = seats.take(one, most).unwrap();
        let _second = seats.take(one, most).unwrap();
        assert!(seats.take(one, most).is_none());
        assert!(seats.take(other, most).is_some(), "each endpoint has its own");
        drop(first);
        seats.forget();
        assert!(seats.take(one, most).is_some(), "one is free again");
        assert!(seats.take(one, NonZeroU32::new(1)).is_none(), "a lower bound counts those that are there");
        let unbound: Vec<_> = (0..9).map(|_| seats.take(one, None)).collect();
        assert!(unbound.iter().all(Option::is_some));
        assert_eq!(seats.0.lock().unwrap().len(), 1, "endpoints without connections are forgotten");
    }
}
