//! The pace of requests: one account for all edges, a share of it for each reader, and back-off.
//!
//! Route 53 counts requests by account. An edge cannot see what others ask, so
//! it reads at its share of the account's rate; a writer may use all of it, since
//! there is seldom more than one. Writes go before reads, reads before witnesses.
//! A throttled answer halves the rate; it comes back within ten seconds.

use rand::Rng;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A throttled edge still asks at this part of its rate: else it would never hear that it may again.
const RATE_LEAST: f64 = 1.0 / 8.0;
/// From nothing to the whole rate, if nothing throttles.
const RECOVERY: Duration = Duration::from_secs(20);

/// First and longest pause before a retry.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// What a request is for; the first goes before the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Changes, and the reading that fences, settles and follows them.
    Write,
    Read,
    Witness,
}

/// The account's rate and this edge's share of it, each one second deep.
///
/// Generic cell rate algorithm: one moment is all the state of a bucket.
/// Source: ITU-T I.371, annex A.
#[derive(Debug)]
pub struct Pace {
    /// Requests a second.
    account: f64,
    share: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Part of the rates that is used now: below 1 after Throttling.
    part: f64,
    counted: Option<Instant>,
    account_full: Option<Instant>,
    share_full: Option<Instant>,
    /// Requests that wait, by rank.
    waiting: [u32; 3],
}

/// Leave for one request. Who must decide after the wait takes it first.
#[derive(Debug)]
pub struct Turn(());

/// Counts a waiting request for as long as it lives: one that is given up waits no more.
struct Waiting<'a> {
    pace: &'a Pace,
    rank: Rank,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.pace.state();
        let waiting = &mut state.waiting[self.rank as usize];
        *waiting = waiting.saturating_sub(1);
    }
}

impl Pace {
    /// All of `requests` a second, for whoever reads seldom.
    pub fn per_second(requests: u32) -> Self {
        Self::shared(requests, 1)
    }

    /// `requests` a second for the account, of which each of `edges` reads at its share.
    pub fn shared(requests: u32, edges: usize) -> Self {
        let account = f64::from(requests.max(1));
        let edges = u32::try_from(edges.max(1)).unwrap_or(u32::MAX);
        let state = State { part: 1.0, counted: None, account_full: None, share_full: None, waiting: [0; 3] };
        Self { account, share: account / f64::from(edges), state: Mutex::new(state) }
    }

    /// Waits for the next free place of this rank.
    pub async fn turn(&self, rank: Rank) -> Turn {
        self.state().waiting[rank as usize] += 1;
        let waiting = Waiting { pace: self, rank };
        while let Err(at) = self.take(rank, Instant::now()) {
            sleep_until(at).await;
        }
        drop(waiting);
        Turn(())
    }

    /// Route 53 said that it was too much.
    pub fn throttled(&self, now: Instant) {
        let mut state = self.state();
        state.recover(now);
        state.part = (state.part / 2.0).max(RATE_LEAST);
    }

    /// Takes a place, or says when to ask again.
    fn take(&self, rank: Rank, now: Instant) -> Result<(), Instant> {
        let mut state = self.state();
        state.recover(now);
        let interval = |rate: f64| Duration::from_secs(1).div_f64(rate);
        let (account, share) = (self.account * state.part, self.share * state.part);
        if state.waiting.iter().take(rank as usize).any(|waiting| *waiting > 0) {
            return Err(now + interval(account));
        }
        let mut free = free_at(state.account_full, account, now);
        if rank != Rank::Write {
            free = free.max(free_at(state.share_full, share, now));
        }
        if free > now {
            return Err(free);
        }
        state.account_full = Some(state.account_full.unwrap_or(now).max(now) + interval(account));
        if rank != Rank::Write {
            state.share_full = Some(state.share_full.unwrap_or(now).max(now) + interval(share));
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn recover(&mut self, now: Instant) {
        if let Some(counted) = self.counted {
            let passed = now.saturating_duration_since(counted);
            self.part = (self.part + passed.as_secs_f64() / RECOVERY.as_secs_f64()).min(1.0);
        }
        self.counted = Some(now);
    }
}

/// When a bucket that is full again at `full` has a place; one second of `rate` may come at once.
fn free_at(full: Option<Instant>, rate: f64, now: Instant) -> Instant {
    // A share below one a second holds one request.
    let burst = rate.floor().max(1.0);
    let tolerance = Duration::from_secs(1).mul_f64((burst - 1.0) / rate);
    full.and_then(|full| full.checked_sub(tolerance)).map_or(now, |at| at.max(now))
}

/// Growing pauses between attempts at one thing, with full jitter.
///
/// Source: AWS architecture blog, "Exponential backoff and jitter".
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next pause: evenly drawn up to a ceiling that doubles; never none, so that no loop spins.
    pub fn pause(&mut self) -> Duration {
        let ceiling = BACKOFF_MIN.saturating_mul(1 << self.attempts.min(10)).min(BACKOFF_MAX);
        self.attempts = self.attempts.saturating_add(1);
        let drawn = ceiling.mul_f64(rand::rng().random_range(0.0..=1.0));
        drawn.max(BACKOFF_MIN / 4)
    }
}

/// `interval`, a tenth longer or shorter at random: many edges must not poll in step.
pub fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(rand::rng().random_range(0.9..=1.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds from `start` until each of `count` requests has its place.
    fn waits(pace: &Pace, rank: Rank, count: usize, start: Instant) -> Vec<u128> {
        let mut now = start;
        let wait = |_| {
            while let Err(at) = pace.take(rank, now) {
                now = at;
            }
            (now - start).as_millis()
        };
        (0..count).map(wait).collect()
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let waits = waits(&Pace::per_second(5), Rank::Read, 10, Instant::now());
        assert_eq!(waits, [0, 0, 0, 0, 0, 200, 400, 600, 800, 1000]);
    }

    #[test]
    fn a_pause_earns_a_burst_but_no_more() {
        let (pace, start) = (Pace::per_second(5), Instant::now());
        waits(&pace, Rank::Write, 5, start);
        let later = start + Duration::from_secs(60);
        assert_eq!(waits(&pace, Rank::Write, 7, later), [0, 0, 0, 0, 0, 200, 400]);
    }

    #[test]
    fn a_reader_keeps_to_its_share_and_a_writer_may_use_the_whole_account() {
        let (pace, start) = (Pace::shared(5, 10), Instant::now());
        assert_eq!(waits(&pace, Rank::Read, 3, start), [0, 2000, 4000]);
        let later = start + Duration::from_secs(60);
        assert_eq!(waits(&pace, Rank::Write, 6, later), [0, 0, 0, 0, 0, 200]);
    }

    #[test]
    fn throttling_halves_the_rate_down_to_an_eighth_and_time_brings_it_back() {
        let (pace, start) = (Pace::per_second(4), Instant::now());
        for _ in 0..10 {
            pace.throttled(start);
        }
        let slow = waits(&pace, Rank::Write, 2, start)[1];
        assert!((1_000..=2_000).contains(&slow), "{slow} ms at an eighth, and rising");
        let later = start + Duration::from_secs(60);
        assert_eq!(waits(&pace, Rank::Write, 5, later), [0, 0, 0, 0, 250]);
    }

    #[tokio::test(start_paused = true)]
    async fn writes_go_before_reads_and_reads_before_witnesses() {
        let pace = std::sync::Arc::new(Pace::per_second(1));
        let order = std::sync::Arc::new(Mutex::new(Vec::new()));
        let start = Instant::now();
        pace.turn(Rank::Read).await;
        let mut tasks = tokio::task::JoinSet::new();
        for rank in [Rank::Witness, Rank::Read, Rank::Write] {
            let (pace, order) = (pace.clone(), order.clone());
            tasks.spawn(async move {
                pace.turn(rank).await;
                order.lock().unwrap().push(rank);
            });
            // Each is waiting before the next one comes.
            tokio::task::yield_now().await;
        }
        tasks.join_all().await;
        assert_eq!(*order.lock().unwrap(), [Rank::Write, Rank::Read, Rank::Witness]);
        assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut backoff = Backoff::default();
        for attempt in 0..100 {
            let pause = backoff.pause();
            assert!(pause >= BACKOFF_MIN / 4 && pause <= BACKOFF_MAX, "attempt {attempt}: {pause:?}");
        }
    }
}
