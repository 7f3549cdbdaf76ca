//! Idle HTTP/1 connections to services, by address and trust.
//!
//! Those to other regions are HTTP/2, as `shared` keeps them. One lock for a
//! moment, never across a wait.

use super::super::io::Conn;
use super::connect::Key;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Idle connections kept to one endpoint.
const PER_ADDRESS_MAX: usize = 128;
/// Idle connections kept in all.
const CONNECTIONS_MAX: usize = 1024;
/// Idle connections to a service are closed before common servers close them:
/// Node.js and Apache keep them for 5 s, and a request sent into a closing
/// connection is lost.
const IDLE: Duration = Duration::from_secs(4);
/// How often those whose time is up are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Idle {
    conn: Conn,
    until: Instant,
}

#[derive(Debug, Default)]
struct Kept {
    /// The one used last at the end: it is the surest to live.
    by_key: HashMap<Key, Vec<Idle>>,
    count: usize,
}

/// Connections that wait for their next request.
#[derive(Debug, Default)]
pub(in super::super) struct Pool {
    kept: Mutex<Kept>,
}

impl Pool {
    /// A connection that is still there.
    pub(in super::super) fn take(&self, key: Key) -> Option<Conn> {
        loop {
            let Idle { mut conn, until } = {
                let mut kept = self.lock();
                let idle = kept.by_key.get_mut(&key)?.pop()?;
                kept.count -= 1;
                idle
            };
            if until > Instant::now() && conn.is_quiet() {
                return Some(conn);
            }
        }
    }

    /// Keeps a connection on which nothing is expected; closes it when there are enough.
    pub(in super::super) fn put(&self, key: Key, mut conn: Conn) {
        conn.release();
        let idle = Idle { conn, until: Instant::now() + IDLE };
        let mut kept = self.lock();
        if kept.count >= CONNECTIONS_MAX {
            return;
        }
        let of = kept.by_key.entry(key).or_default();
        if of.len() < PER_ADDRESS_MAX {
            of.push(idle);
            kept.count += 1;
        }
    }

    /// Closes those whose time is up, once a second; never returns.
    pub(in super::super) async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let expired = self.expired(Instant::now());
            // Closed here, outside the lock.
            drop(expired);
        }
    }

    fn expired(&self, now: Instant) -> Vec<Idle> {
        let mut kept = self.lock();
        let mut expired = Vec::new();
        kept.by_key.retain(|_, idle| {
            // The oldest stand first.
            let old = idle.partition_point(|idle| idle.until <= now);
            expired.extend(idle.drain(..old));
            !idle.is_empty()
        });
        kept.count -= expired.len();
        expired
    }

    /// What is kept is whole after every step, so a panic elsewhere does not matter.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    fn key(port: u16) -> Key {
        Key { address: ([127, 0, 0, 1], port).into(), trust: None }
    }

    fn conn() -> (Conn, DuplexStream) {
        let (near, far) = duplex(64);
        (Conn::new(Box::new(near)), far)
    }

    #[tokio::test]
    async fn a_connection_is_taken_by_its_address_once() {
        let pool = Pool::default();
        let (near, _far) = conn();
        pool.put(key(1), near);
        assert!(pool.take(key(2)).is_none());
        assert!(pool.take(key(1)).is_some());
        assert!(pool.take(key(1)).is_none());
    }

    #[tokio::test]
    async fn one_that_ended_or_spoke_unasked_is_not_taken() {
        let pool = Pool::default();
        let (ended, far) = conn();
        drop(far);
        let (spoke, mut far) = conn();
        far.write_all(b"HTTP/1.1 408 ").await.unwrap();
        pool.put(key(1), ended);
        pool.put(key(1), spoke);
        assert!(pool.take(key(1)).is_none());
        assert_eq!(pool.lock().count, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_ones_are_closed_when_their_time_is_up() {
        let pool = Pool::default();
        let (first, _one) = conn();
        pool.put(key(1), first);
        tokio::time::advance(IDLE / 2).await;
        let (second, _two) = conn();
        pool.put(key(1), second);
        tokio::time::advance(IDLE / 2).await;
        assert_eq!(pool.expired(Instant::now()).len(), 1);
        assert!(pool.take(key(1)).is_some());
        assert!(pool.take(key(1)).is_none());
    }

    #[tokio::test]
    async fn no_more_are_kept_than_the_bounds_say() {
        let pool = Pool::default();
        let mut far = Vec::new();
        for port in 1..20 {
            for _ in 0..PER_ADDRESS_MAX + 1 {
                let (near, other) = conn();
                far.push(other);
                pool.put(key(port), near);
            }
        }
        assert_eq!(pool.lock().count, CONNECTIONS_MAX);
        assert_eq!(pool.lock().by_key[&key(1)].len(), PER_ADDRESS_MAX);
    }
}
