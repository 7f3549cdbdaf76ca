//! Users who ask an edge all the time, and count what they get.

use crate::run_support::{eventually, get};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Between one's answer and the next request.
const PAUSE: Duration = Duration::from_millis(20);

/// They go when this value does.
pub struct Users {
    gone: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
}

impl Users {
    #[allow(clippy::disallowed_methods)] // The pace of a plain thread.
    pub fn of(edge: SocketAddr) -> Self {
        let users = Self { gone: Arc::default(), served: Arc::default(), failed: Arc::default() };
        let (gone, served, failed) =
            (Arc::clone(&users.gone), Arc::clone(&users.served), Arc::clone(&users.failed));
        thread::spawn(move || {
            while !gone.load(Ordering::SeqCst) {
                let count = if get(edge, "/").status == 200 { &served } else { &failed };
                count.fetch_add(1, Ordering::SeqCst);
                thread::sleep(PAUSE);
            }
        });
        users
    }

    /// Requests that were not answered well, after some more that were.
    pub fn failed(&self) -> usize {
        let before = self.served.load(Ordering::SeqCst);
        eventually("users are served", || (self.served.load(Ordering::SeqCst) > before + 10).then_some(()));
        self.failed.load(Ordering::SeqCst)
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::SeqCst);
    }
}
