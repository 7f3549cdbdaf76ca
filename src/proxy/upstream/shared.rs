//! HTTP/2 connections, each shared by many requests.
//!
//! A request claims a place on a connection and gives it back by dropping the
//! claim. Where there is none, one request makes a connection and the others wait
//! for it, so that a burst is one handshake and not one for each request. One lock
//! for a moment, never across a wait.

use super::UpstreamError;
use super::connect::Key;
use crate::proxy::samples::{RoundTrips, Socket};
use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong};
use pingora::protocols::Stream;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

/// Streams on one connection; the common limit of servers.
const STREAMS_MAX: usize = 100;
/// A flow control window that carries 50 MB/s over 10 ms, or 5 MB/s over 100 ms, for each stream ...
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// ... and one for all together: however many readers stand still, they take nothing from the others.
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * STREAMS_MAX as u32;
/// What h2 lets wait in small frames, each counted as 256 bytes, before it takes them for a flood and ends the
/// connection: 260,000 of them. Readers that stand still have small messages wait, and must not end what others use.
const FRAME_BUDGET_BYTES: usize = 64 * 1024 * 1024;
/// Fewer frames for large answers; the default is 16 KiB.
const FRAME_BYTES_MAX: u32 = 64 * 1024;
/// The head of an answer: as much as HTTP/1 may have.
const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// How long the answer to a ping is waited for.
const PONG: Duration = Duration::from_secs(5);
/// How often idle connections are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// How a connection is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// For how long without a stream.
    pub(super) idle: Duration,
    /// How often it is asked whether the other side is still there; `None`: never.
    pub(super) ping: Option<Duration>,
}

/// One connection.
#[derive(Debug)]
struct Line {
    sender: SendRequest<Bytes>,
    usage: Mutex<Usage>,
    /// It has ended, or takes no streams any more.
    gone: Arc<AtomicBool>,
    /// Told of each head of an answer.
    heads: Arc<Notify>,
    idle: Duration,
}

#[derive(Debug)]
struct Usage {
    streams: usize,
    /// Since when there are no streams, if there are none.
    since: Instant,
}

impl Line {
    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is to be closed.
    fn is_over(&self, now: Instant) -> bool {
        let usage = self.usage();
        self.gone.load(Relaxed) || usage.streams == 0 && usage.since + self.idle <= now
    }
}

/// A place for one stream on a connection, given back when it is dropped.
#[derive(Debug)]
pub(in super::super) struct Claim(Arc<Line>);

impl Claim {
    fn of(line: &Arc<Line>) -> Option<Self> {
        if line.gone.load(Relaxed) {
            return None;
        }
        let most = STREAMS_MAX.min(line.sender.current_max_send_streams());
        let mut usage = line.usage();
        if usage.streams >= most {
            return None;
        }
        usage.streams += 1;
        Some(Self(Arc::clone(line)))
    }

    /// What a request is sent by; `None`: the connection takes none any more.
    pub(in super::super) async fn ready(&self) -> Option<SendRequest<Bytes>> {
        let ready = self.0.sender.clone().ready().await;
        if let Err(error) = &ready {
            debug!(%error, "an HTTP/2 connection takes no streams any more");
            self.0.gone.store(true, Relaxed);
        }
        ready.ok()
    }
}

impl Claim {
    /// The other side said nothing in time: others go on, and whoever comes uses another connection.
    pub(in super::super) fn doubt(&self) {
        self.0.gone.store(true, Relaxed);
    }
}

impl Claim {
    /// The head of an answer has come.
    pub(in super::super) fn head(&self) {
        self.0.heads.notify_one();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut usage = self.0.usage();
        usage.streams -= 1;
        usage.since = Instant::now();
    }
}

/// The connections that lead to one place.
#[derive(Debug, Default)]
struct Lines {
    open: Vec<Arc<Line>>,
    making: usize,
    /// Those who wait for them.
    waiting: usize,
    /// Those who wait are told that one was made, or was not.
    made: Arc<Notify>,
}

/// The duty to make a connection, given up by dropping it.
#[derive(Debug)]
pub(super) struct Making<'s> {
    shared: &'s Shared,
    key: Key,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        if let Some(lines) = self.shared.lock().get_mut(&self.key) {
            lines.making -= 1;
            lines.made.notify_waiters();
        }
    }
}

/// Somebody who waits for a place.
struct Waits<'s> {
    shared: &'s Shared,
    key: Key,
}

impl<'s> Waits<'s> {
    fn new(shared: &'s Shared, key: Key) -> Self {
        shared.lock().entry(key).or_default().waiting += 1;
        Self { shared, key }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if let Some(lines) = self.shared.lock().get_mut(&self.key) {
            lines.waiting -= 1;
        }
    }
}

/// Connections by where they lead.
#[derive(Debug, Default)]
pub(super) struct Shared {
    lines: Mutex<HashMap<Key, Lines>>,
}

impl Shared {
    /// A place on a connection, or else the duty to make one.
    ///
    /// A burst waits for the connections in the making: there are as many as those who wait would fill.
    pub(super) async fn claim(&self, key: Key) -> Result<Claim, Making<'_>> {
        let mut waits = None;
        loop {
            let made = match self.claim_now(key) {
                Ok(Some(claim)) => return Ok(claim),
                Ok(None) => return Err(Making { shared: self, key }),
                Err(made) => made,
            };
            let mut told = pin!(made.notified());
            // From here on no word is missed; that it came in between is seen by looking again.
            told.as_mut().enable();
            waits.get_or_insert_with(|| Waits::new(self, key));
            match self.claim_now(key) {
                Ok(Some(claim)) => return Ok(claim),
                Ok(None) => return Err(Making { shared: self, key }),
                Err(_) => told.await,
            }
        }
    }

    /// `Ok(None)`: whoever asks has to make one. `Err`: enough are being made.
    fn claim_now(&self, key: Key) -> Result<Option<Claim>, Arc<Notify>> {
        let mut lines = self.lock();
        let lines = lines.entry(key).or_default();
        match lines.open.iter().find_map(Claim::of) {
            Some(claim) => Ok(Some(claim)),
            None if lines.making > lines.waiting / STREAMS_MAX => Err(Arc::clone(&lines.made)),
            None => {
                lines.making += 1;
                Ok(None)
            }
        }
    }

    /// Begins HTTP/2 on a new connection; a place on it.
    ///
    /// # Errors
    /// `Connect`: the other side does not speak it, or takes no stream.
    pub(super) async fn begin(
        &self,
        key: Key,
        stream: Stream,
        manner: Manner,
        watched: Option<RoundTrips>,
    ) -> Result<Claim, UpstreamError> {
        let socket = Socket::of(&stream);
        let begun = Builder::new()
            .enable_push(false)
            .initial_max_send_streams(STREAMS_MAX)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_header_list_size(HEAD_BYTES_MAX)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .data_frame_budget(FRAME_BUDGET_BYTES)
            .handshake(stream)
            .await;
        let (sender, connection) = begun.map_err(|error| {
            debug!(address = %key.address, %error, "no HTTP/2 connection");
            UpstreamError::Connect
        })?;
        let (gone, heads) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let told = Arc::clone(&heads);
        let watch = async move {
            match watched {
                Some(watched) => watched.watch(socket, told).await,
                None => pending().await,
            }
        };
        tokio::spawn(drive(key, connection, (manner.ping, watch), Arc::clone(&gone)));
        let usage = Mutex::new(Usage { streams: 0, since: Instant::now() });
        let line = Arc::new(Line { sender, usage, gone, heads, idle: manner.idle });
        let claim = Claim::of(&line).ok_or(UpstreamError::Connect)?;
        self.lock().entry(key).or_default().open.push(line);
        Ok(claim)
    }

    /// Closes those whose time is up, once a second; never returns.
    pub(super) async fn sweep(&self) {
        loop {
            sleep(SWEEP_EVERY).await;
            let over = self.over(Instant::now());
            // Closed here, outside the lock.
            drop(over);
        }
    }

    fn over(&self, now: Instant) -> Vec<Arc<Line>> {
        let mut over = Vec::new();
        self.lock().retain(|_, lines| {
            over.extend(lines.open.extract_if(.., |line| line.is_over(now)));
            lines.making > 0 || lines.waiting > 0 || !lines.open.is_empty()
        });
        over
    }

    /// What is kept is whole after every step, so a panic elsewhere does not matter.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Lines>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves the bytes of a connection, until it has ended or the other side is silent.
async fn drive(
    key: Key,
    mut connection: Connection<Stream, Bytes>,
    (every, watch): (Option<Duration>, impl Future<Output = Infallible>),
    gone: Arc<AtomicBool>,
) {
    let pings = every.zip(connection.ping_pong());
    tokio::select! {
        ended = connection => match ended {
            Ok(()) => debug!(address = %key.address, "an HTTP/2 connection has ended"),
            Err(error) => debug!(address = %key.address, %error, "an HTTP/2 connection broke"),
        },
        // Only while the connection is there: it looks at its socket.
        never = watch => match never {},
        () = silence(pings) => {
            warn!(address = %key.address, "the other side of an HTTP/2 connection is silent: closed");
        }
    }
    gone.store(true, Relaxed);
}

/// Returns when a ping is not answered.
async fn silence(pings: Option<(Duration, PingPong)>) {
    let Some((every, mut pings)) = pings else { return pending().await };
    loop {
        sleep(every).await;
        if !matches!(timeout(PONG, pings.ping(Ping::opaque())).await, Ok(Ok(_))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    const MANNER: Manner = Manner { idle: Duration::from_secs(4), ping: Some(Duration::from_secs(2)) };

    fn key(port: u16) -> Key {
        Key { address: ([127, 0, 0, 1], port).into(), trust: None }
    }

    /// A connection to a server that serves as long as `serve` says.
    async fn begun(shared: &Shared, serve: bool) -> (Claim, Option<tokio::task::JoinHandle<()>>) {
        let (near, far) = duplex(64 * 1024);
        let server = serve.then(|| {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(far).await.unwrap();
                while let Some(Ok(_)) = connection.accept().await {}
            })
        });
        (shared.begin(key(1), Box::new(near), MANNER, None).await.unwrap(), server)
    }

    /// Whether a place could be had at once; it is given back.
    fn free(shared: &Shared, key: Key) -> bool {
        shared.lock().get(&key).is_some_and(|lines| lines.open.iter().find_map(Claim::of).is_some())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_shared_until_it_is_full_and_closed_when_it_idles() {
        let shared = Shared::default();
        let (first, server) = begun(&shared, true).await;
        assert!(!free(&shared, key(2)));
        let mut others = Vec::new();
        while let Ok(claim) = shared.claim(key(1)).await {
            others.push(claim);
        }
        assert_eq!(others.len(), STREAMS_MAX - 1, "full");
        drop(others);
        tokio::time::advance(MANNER.idle * 2).await;
        assert!(shared.over(Instant::now()).is_empty(), "one stream is left");
        drop(first);
        tokio::time::advance(MANNER.idle).await;
        assert_eq!(shared.over(Instant::now()).len(), 1);
        assert!(shared.lock().is_empty(), "nothing is left of it");
        timeout(PONG, server.unwrap()).await.expect("it is closed").unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_makes_one_connection_and_who_waits_for_one_that_fails_makes_the_next() {
        let shared = Shared::default();
        let making = shared.claim(key(1)).await.unwrap_err();
        let mut waiting: Vec<_> = (0..9).map(|_| Box::pin(shared.claim(key(1)))).collect();
        for claim in &mut waiting {
            let early = timeout(Duration::from_millis(1), claim).await;
            assert!(early.is_err(), "somebody makes one");
        }
        let (claim, _server) = begun(&shared, true).await;
        drop(making);
        for claimed in waiting {
            assert!(claimed.await.is_ok());
        }
        drop(claim);

        let making = shared.claim(key(2)).await.unwrap_err();
        let (mut second, mut third) = (Box::pin(shared.claim(key(2))), Box::pin(shared.claim(key(2))));
        assert!(timeout(Duration::from_millis(1), &mut second).await.is_err());
        assert!(timeout(Duration::from_millis(1), &mut third).await.is_err());
        drop(making);
        let duty = second.await.unwrap_err();
        assert!(timeout(Duration::from_millis(1), &mut third).await.is_err(), "one tries at a time");
        drop(duty);
        drop(third.await.unwrap_err());
        assert_eq!(shared.lock().get(&key(2)).map(|lines| (lines.making, lines.waiting)), Some((0, 0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_burst_makes_as_many_connections_as_it_fills() {
        let shared = Shared::default();
        let burst: Vec<_> = (0..1000).map(|_| Box::pin(shared.claim(key(1)))).collect();
        let mut duties = Vec::new();
        let mut waiting = Vec::new();
        for mut claim in burst {
            match timeout(Duration::from_millis(1), &mut claim).await {
                Ok(Err(making)) => duties.push(making),
                Ok(Ok(_)) => panic!("there is no connection"),
                Err(_) => waiting.push(claim),
            }
        }
        assert_eq!((duties.len(), waiting.len()), (10, 990));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_other_side_ends_or_falls_silent_is_not_claimed_again() {
        let shared = Shared::default();
        let (claim, server) = begun(&shared, true).await;
        assert!(claim.ready().await.is_some());
        server.unwrap().abort();
        while free(&shared, key(1)) {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(shared.over(Instant::now()).len(), 1);
        // Nobody reads, nobody ends: only the ping notices.
        let (near, _far) = duplex(64 * 1024);
        let _claim = shared.begin(key(1), Box::new(near), MANNER, None).await.unwrap();
        let before = Instant::now();
        while free(&shared, key(1)) {
            sleep(Duration::from_millis(100)).await;
        }
        assert!(before.elapsed() >= PONG, "{:?}", before.elapsed());
    }
}
