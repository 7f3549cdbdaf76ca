//! Requests without a pause, each of which must be answered well.

use crate::run_support::{Edge, get};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Users of an edge until they are asked how it was.
pub struct Load {
    gone: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    wrong: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    #[allow(clippy::disallowed_methods)] // The pace of users is real time.
    pub fn of(edge: &Edge) -> Self {
        let address = edge.address("http");
        let (gone, count, wrong) = (Arc::default(), Arc::default(), Arc::default());
        let load = Self { gone, count, wrong, thread: None };
        let (gone, count, wrong) = (load.gone.clone(), load.count.clone(), load.wrong.clone());
        let thread = thread::spawn(move || {
            while !gone.load(Ordering::SeqCst) {
                let answer = get(address, "/");
                count.fetch_add(1, Ordering::SeqCst);
                if answer.status != 200 {
                    wrong.lock().unwrap().push(format!("{} {}", answer.status, answer.body));
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        Self { thread: Some(thread), ..load }
    }

    /// Ends it; how many there were.
    pub fn without_a_failure(mut self) -> usize {
        self.gone.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        let count = self.count.load(Ordering::SeqCst);
        assert_eq!(*self.wrong.lock().unwrap(), Vec::<String>::new(), "of {count} requests");
        assert!(count > 10, "only {count} requests");
        count
    }
}
