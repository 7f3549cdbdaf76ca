//! Which endpoint: power of two choices over peak-EWMA latency x in-flight.
//!
//! Statistics are atomics shared by the snapshots that hold the endpoint: they
//! are carried over by address, and no reader ever waits for a writer. Races
//! between two updates lose one sample, never more.

use crate::domain::latency::peak_ewma;
use crate::domain::snapshot::Candidate;
use crate::domain::time::Time;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Time constant of an endpoint's latency average. Source: Finagle's default of 10 s.
pub const DECAY: Duration = Duration::from_secs(10);
/// What a failure counts as, so that a fast-failing endpoint is not the fastest one.
pub const FAILURE_PENALTY: Duration = Duration::from_secs(1);

/// One address that serves requests: a pod of a service, or a node of a region's peer listener.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    in_flight: AtomicU32,
    /// Peak EWMA in nanoseconds as `f64` bits; zero before the first sample.
    average: AtomicU64,
    updated: AtomicU64,
    /// Share of its requests that it should get, `f64` bits.
    share: AtomicU64,
}

/// Endpoints are told apart by address; what they have seen does not count.
impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address
    }
}

/// What it has seen is not written: nothing that the core decides hangs on it.
impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.address.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        SocketAddr::deserialize(from).map(Self::new)
    }
}

impl Endpoint {
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            in_flight: AtomicU32::new(0),
            average: AtomicU64::new(0f64.to_bits()),
            updated: AtomicU64::new(0),
            share: AtomicU64::new(1f64.to_bits()),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Counts a request in flight until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight { endpoint: Arc::clone(self) }
    }

    /// Adds the latency of an answered request (time to the response head).
    pub fn succeeded(&self, latency: Duration, now: Time) {
        self.add(latency, now);
    }

    /// An attempt was given up after so long, because another one had answered: it costs at least that.
    pub fn outpaced(&self, latency: Duration, now: Time) {
        self.add(latency, now);
    }

    /// Share of its requests that it should get, 0..=1: below 1 while it starts or returns.
    pub fn share(&self) -> f64 {
        f64::from_bits(self.share.load(Relaxed))
    }

    /// Slow start: a share below 1 passes that part of its turns on to others.
    pub fn set_share(&self, share: f64) {
        self.share.store(share.to_bits(), Relaxed);
    }

    /// Adds a failed attempt: its latency or the penalty, whichever is more.
    pub fn failed(&self, latency: Duration, now: Time) {
        self.add(latency.max(FAILURE_PENALTY), now);
    }

    fn add(&self, latency: Duration, now: Time) {
        let before = Time::from_nanos(self.updated.swap(now.as_nanos(), Relaxed));
        let average = f64::from_bits(self.average.load(Relaxed));
        let next = peak_ewma(average, latency.as_nanos() as f64, now.since(before), DECAY);
        self.average.store(next.to_bits(), Relaxed);
    }

    /// Expected cost of one more request: latency, decayed since the last sample, x (in-flight + 1).
    pub fn cost(&self, now: Time) -> f64 {
        let idle = now.since(Time::from_nanos(self.updated.load(Relaxed)));
        let average = peak_ewma(f64::from_bits(self.average.load(Relaxed)), 0.0, idle, DECAY);
        // The floor of 1 us keeps in-flight counting while latency is unknown.
        average.max(1_000.0) * f64::from(self.in_flight().saturating_add(1))
    }
}

/// A request in flight on an endpoint; dropping it ends the count.
#[derive(Debug)]
pub struct InFlight {
    endpoint: Arc<Endpoint>,
}

impl InFlight {
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Relaxed);
    }
}

/// The cheaper of two endpoints drawn by `random`, leaving out those already tried.
///
/// `None` when every endpoint was tried. Source: Mitzenmacher, "The Power of
/// Two Choices in Randomized Load Balancing" (2001).
pub fn pick<'a>(
    endpoints: &'a [Arc<Endpoint>],
    tried: &[SocketAddr],
    random: u64,
    now: Time,
) -> Option<&'a Arc<Endpoint>> {
    // Most requests have tried none, and need not look at all of them.
    let untried = || endpoints.iter().filter(|e| !tried.contains(&e.address));
    let left = if tried.is_empty() { endpoints.len() } else { untried().count() } as u64;
    if left == 0 {
        return None;
    }
    let nth = |n: u64| if tried.is_empty() { endpoints.get(n as usize) } else { untried().nth(n as usize) };
    let first = (random & 0xffff_ffff) % left;
    if left == 1 {
        return nth(0);
    }
    let second = (first + 1 + (random >> 32) % (left - 1)) % left;
    let (a, b) = (nth(first)?, nth(second)?);
    let (better, other) = if b.cost(now) < a.cost(now) { (b, a) } else { (a, b) };
    // An endpoint without samples costs least of all: its share keeps a stampede from it.
    let share = better.share();
    let passes_on = share < 1.0 && share < other.share() && unit(random, 0) >= share;
    Some(if passes_on { other } else { better })
}

/// Like [`pick`] among all endpoints of a candidate: a zone is drawn by its part of the requests, and
/// left only when all its endpoints were tried.
pub fn pick_by_zone<'a>(
    candidate: &'a Candidate,
    tried: &[SocketAddr],
    random: u64,
    now: Time,
) -> Option<&'a Arc<Endpoint>> {
    let draw = unit(random, 1);
    let mut begin = 0;
    for share in candidate.zones.iter() {
        if draw < share.up_to {
            let zone = candidate.endpoints.get(begin..share.end).unwrap_or_default();
            if let Some(endpoint) = pick(zone, tried, random, now) {
                return Some(endpoint);
            }
            break;
        }
        begin = share.end;
    }
    pick(&candidate.endpoints, tried, random, now)
}

/// A number in 0..1 that does not follow the draw, another one for each index. Source: the finalizer
/// of SplitMix64.
pub fn unit(random: u64, index: u64) -> f64 {
    let mut z = random.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(n: u8) -> Vec<Arc<Endpoint>> {
        (1..=n).map(|i| Arc::new(Endpoint::new(SocketAddr::from(([127, 0, 0, i], 80))))).collect()
    }

    #[test]
    fn the_slower_of_two_is_not_picked() {
        let all = endpoints(2);
        let now = Time::from_millis(1);
        all[0].succeeded(Duration::from_millis(50), now);
        all[1].succeeded(Duration::from_millis(5), now);
        for random in 0..100u64 {
            assert_eq!(pick(&all, &[], random << 31 | random, now).unwrap().address(), all[1].address());
        }
    }

    #[test]
    fn busy_endpoints_cost_more_and_a_dropped_guard_frees_them() {
        let all = endpoints(2);
        let guard = all[0].begin();
        assert_eq!(pick(&all, &[], 0, Time::ZERO).unwrap().address(), all[1].address());
        drop(guard);
        assert_eq!(all[0].in_flight(), 0);
    }

    #[test]
    fn every_endpoint_is_drawn_and_tried_ones_never() {
        let all = endpoints(4);
        let mut seen = std::collections::BTreeSet::new();
        for random in 0..1000u64 {
            let random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            seen.insert(pick(&all, &[all[0].address()], random, Time::ZERO).unwrap().address());
        }
        assert_eq!(seen.len(), 3);
        let tried: Vec<_> = all.iter().map(|e| e.address()).collect();
        assert!(pick(&all, &tried, 7, Time::ZERO).is_none());
    }

    #[test]
    fn a_newcomer_gets_its_share_of_the_turns_it_would_win() {
        let all = endpoints(4);
        for old in &all[1..] {
            old.succeeded(Duration::from_millis(20), Time::from_millis(1));
        }
        let turns = |share: f64| {
            all[0].set_share(share);
            let won = |random: &u64| {
                let random = random.wrapping_mul(0xbf58_476d_1ce4_e5b9);
                pick(&all, &[], random, Time::from_millis(2)).unwrap().address() == all[0].address()
            };
            (0..10_000u64).filter(won).count()
        };
        // It is one of the two drawn in half of the cases, and the cheaper one each time.
        assert!((4700..5300).contains(&turns(1.0)), "{}", turns(1.0));
        assert!((430..570).contains(&turns(0.1)), "{}", turns(0.1));
        assert_eq!(pick(&all[..1], &[], 7, Time::from_millis(2)).unwrap().address(), all[0].address());
    }

    #[test]
    fn a_fast_failure_is_not_the_fastest() {
        let all = endpoints(2);
        all[0].failed(Duration::from_micros(100), Time::from_millis(1));
        all[1].succeeded(Duration::from_millis(40), Time::from_millis(1));
        assert!(all[0].cost(Time::from_millis(2)) > all[1].cost(Time::from_millis(2)));
    }
}
