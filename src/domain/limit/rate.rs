//! Requests a second by key: the generic cell rate algorithm in a table of fixed size.
//!
//! Source: ITU-T I.371 (virtual scheduling); the form with a "theoretical
//! arrival time" (TAT) is that of brandur's throttled. One number a key says all:
//! when its bucket will be full again.
//!
//! The table never grows. Keys are spread over sets of eight by a hash with a
//! secret, so nobody can aim at a set. A key that finds its set full takes the
//! place of the one that owes least, so what is forgotten is the least that can be:
//! those who are limited stay limited, and nobody is refused because of a full table. A
//! flood from more addresses than the table holds therefore passes this limit:
//! against that stands a limit by route, or a concurrency limit.
//!
//! Races between threads can forget one request of a key, or count it in two
//! places for one burst; never refuse one that has room.

use crate::domain::hash::{HashKey, siphash};
use crate::domain::time::Time;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Keys that share a set: two cache lines of slots.
const WAYS: usize = 8;
/// The most keys that one table may hold: 16 MiB of slots.
pub const KEYS_MAX: u32 = 1 << 20;

/// How many requests in how long, and how many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Time between two requests at the steady rate, in nanoseconds. At least 1.
    interval: u64,
    /// How far the theoretical arrival time may run ahead: `burst` intervals.
    tolerance: u64,
}

impl Rate {
    /// `requests` in every `per`, of which `burst` may come at once.
    ///
    /// `None` when any of them is zero, or the rate is above one a nanosecond.
    pub fn new(requests: u32, per: Duration, burst: u32) -> Option<Self> {
        let per = u64::try_from(per.as_nanos()).ok()?;
        let interval = per.checked_div(u64::from(requests)).filter(|interval| *interval > 0)?;
        let tolerance = interval.checked_mul(u64::from(burst)).filter(|tolerance| *tolerance > 0)?;
        Some(Self { interval, tolerance })
    }

    /// The next theoretical arrival time, or how long to wait.
    fn next(self, tat: u64, now: u64) -> Result<u64, Duration> {
        let next = tat.max(now).saturating_add(self.interval);
        match next.saturating_sub(now).checked_sub(self.tolerance) {
            None | Some(0) => Ok(next),
            Some(early) => Err(Duration::from_nanos(early)),
        }
    }
}

/// Whether a request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateAnswer {
    Allowed,
    /// The soonest that one more request of this key would pass; above zero.
    Limited {
        retry_after: Duration,
    },
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateKey<'a> {
    /// An IPv4 address, or the /64 of an IPv6 address: what one customer of a network has.
    Client(IpAddr),
    Header(&'a [u8]),
    /// All requests of a route, by its name.
    Route(&'a str),
}

impl RateKey<'_> {
    fn hash(self, secret: HashKey) -> u64 {
        match self {
            Self::Client(address) => match address.to_canonical() {
                IpAddr::V4(v4) => siphash(secret, &v4.octets()),
                // Nine bytes: no IPv4 address, and no other kind of key in the same table.
                IpAddr::V6(v6) => {
                    let o = v6.octets();
                    siphash(secret, &[6, o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7]])
                }
            },
            // Under another key: a client must not write a header that is another one's address.
            Self::Header(value) => siphash(HashKey::new(siphash(secret, b"header"), 0), value),
            Self::Route(name) => siphash(HashKey::new(siphash(secret, b"route"), 0), name.as_bytes()),
        }
    }
}

/// A key and its theoretical arrival time; both zero: empty.
#[derive(Debug, Default)]
struct Slot {
    key: AtomicU64,
    tat: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([Slot; WAYS]);

/// The buckets of one named limit.
#[derive(Debug)]
pub struct RateTable {
    rate: Rate,
    secret: HashKey,
    /// A power of two of them.
    sets: Box<[Set]>,
    forgotten: AtomicU64,
}

impl RateTable {
    /// A table for at least `keys` keys, up to [`KEYS_MAX`]; 16 bytes each.
    pub fn new(rate: Rate, keys: u32, secret: HashKey) -> Self {
        let sets = (keys.clamp(1, KEYS_MAX) as usize).div_ceil(WAYS).next_power_of_two();
        let sets = (0..sets).map(|_| Set::default()).collect();
        Self { rate, secret, sets, forgotten: AtomicU64::new(0) }
    }

    /// Counts a request of `key`, unless it comes too early.
    pub fn check(&self, key: RateKey<'_>, now: Time) -> RateAnswer {
        let hash = key.hash(self.secret);
        // Zero is the empty slot.
        let (hash, now) = (hash.max(1), now.as_nanos());
        let Some(set) = self.sets.get(hash as usize & (self.sets.len() - 1)) else {
            return RateAnswer::Allowed;
        };
        // Each round but the last was lost to another thread that took the same place.
        for _ in 0..WAYS {
            if let Some(slot) = set.0.iter().find(|slot| slot.key.load(Relaxed) == hash) {
                return self.count(slot, now);
            }
            if self.claim(set, hash, now) {
                return RateAnswer::Allowed;
            }
        }
        RateAnswer::Allowed
    }

    fn count(&self, slot: &Slot, now: u64) -> RateAnswer {
        let mut tat = slot.tat.load(Relaxed);
        loop {
            let next = match self.rate.next(tat, now) {
                Ok(next) => next,
                Err(retry_after) => return RateAnswer::Limited { retry_after },
            };
            match slot.tat.compare_exchange_weak(tat, next, Relaxed, Relaxed) {
                Ok(_) => return RateAnswer::Allowed,
                Err(newer) => tat = newer,
            }
        }
    }

    /// Takes the place of the key that owes least; its first request always passes.
    fn claim(&self, set: &Set, hash: u64, now: u64) -> bool {
        let Some(slot) = set.0.iter().min_by_key(|slot| slot.tat.load(Relaxed)) else { return false };
        let before = slot.key.load(Relaxed);
        let tat = slot.tat.load(Relaxed);
        if slot.key.compare_exchange(before, hash, Relaxed, Relaxed).is_err() {
            return false;
        }
        slot.tat.store(now.saturating_add(self.rate.interval), Relaxed);
        if tat > now {
            self.forgotten.fetch_add(1, Relaxed);
        }
        true
    }

    /// Keys that were forgotten while they still owed, since the last call: above zero, the table is
    /// too small for its traffic.
    pub fn take_forgotten(&self) -> u64 {
        // Nearly always zero, and then nothing is written.
        if self.forgotten.load(Relaxed) == 0 { 0 } else { self.forgotten.swap(0, Relaxed) }
    }

    /// How many keys the table holds at most.
    pub fn capacity(&self) -> usize {
        self.sets.len() * WAYS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const SECRET: HashKey = HashKey::new(7, 11);

    fn table(requests: u32, burst: u32, keys: u32) -> RateTable {
        RateTable::new(Rate::new(requests, Duration::from_secs(1), burst).unwrap(), keys, SECRET)
    }

    fn client(n: u32) -> RateKey<'static> {
        RateKey::Client(IpAddr::V4(Ipv4Addr::from(n)))
    }

    fn allowed(table: &RateTable, key: RateKey<'_>, now: Time) -> bool {
        table.check(key, now) == RateAnswer::Allowed
    }

    #[test]
    fn a_burst_passes_then_one_each_interval() {
        let table = table(10, 3, 100);
        let now = Time::from_millis(5000);
        for _ in 0..3 {
            assert!(allowed(&table, client(1), now));
        }
        let limited = RateAnswer::Limited { retry_after: Duration::from_millis(100) };
        assert_eq!(table.check(client(1), now), limited);
        assert_eq!(table.check(client(1), now), limited, "a refused request costs nothing");
        assert!(!allowed(&table, client(1), now + Duration::from_millis(99)));
        assert!(allowed(&table, client(1), now + Duration::from_millis(100)));
        assert!(!allowed(&table, client(1), now + Duration::from_millis(100)));
        assert!(allowed(&table, client(2), now), "another client is another bucket");
    }

    #[test]
    fn retry_after_is_kept_and_no_window_passes_more_than_burst_and_rate() {
        let mut random = 0x1234_5678_9abc_def0u64;
        for (requests, burst) in [(1, 1), (7, 2), (100, 50), (1000, 1)] {
            let table = table(requests, burst, 8);
            let mut passed = Vec::new();
            let mut now = Time::ZERO;
            for _ in 0..4000 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                now = now + Duration::from_nanos(random % (2_000_000_000 / u64::from(requests)));
                match table.check(client(1), now) {
                    RateAnswer::Allowed => passed.push(now),
                    RateAnswer::Limited { retry_after } if random.is_multiple_of(3) => {
                        now = now + retry_after;
                        assert!(allowed(&table, client(1), now), "{requests}/s: after waiting");
                        passed.push(now);
                    }
                    RateAnswer::Limited { .. } => {}
                }
            }
            for (index, from) in passed.iter().enumerate() {
                for (more, to) in passed.iter().enumerate().skip(index).take(200) {
                    let bound = to.since(*from).as_secs_f64() * f64::from(requests) + f64::from(burst);
                    let count = (more - index + 1) as f64;
                    assert!(count <= bound + 1e-6, "{count} in {:?} at {requests}/s", to.since(*from));
                }
            }
        }
    }

    #[test]
    fn an_ipv6_client_is_its_64_and_a_mapped_one_is_its_ipv4() {
        let table = table(1, 1, 100);
        let key = |text: &str| RateKey::Client(text.parse().unwrap());
        assert!(allowed(&table, key("2001:db8:1:2::1"), Time::ZERO));
        assert!(!allowed(&table, key("2001:db8:1:2:ffff::9"), Time::ZERO));
        assert!(allowed(&table, key("2001:db8:1:3::1"), Time::ZERO));
        assert!(allowed(&table, key("192.0.2.1"), Time::ZERO));
        assert!(!allowed(&table, key("::ffff:192.0.2.1"), Time::ZERO));
    }

    #[test]
    fn a_header_or_route_never_meets_an_address() {
        let table = table(1, 1, 100);
        assert!(allowed(&table, client(0x6162_6364), Time::ZERO));
        assert!(allowed(&table, RateKey::Header(b"abcd"), Time::ZERO));
        assert!(allowed(&table, RateKey::Route("abcd"), Time::ZERO));
        assert!(!allowed(&table, RateKey::Header(b"abcd"), Time::ZERO));
        assert!(!allowed(&table, RateKey::Route("abcd"), Time::ZERO));
    }

    #[test]
    fn a_flood_of_keys_neither_refuses_newcomers_nor_frees_who_is_limited() {
        let table = table(1, 20, 1024);
        let mut now = Time::from_millis(1000);
        while allowed(&table, client(1), now) {}
        for n in 0..200_000u32 {
            now = now + Duration::from_micros(20);
            assert!(allowed(&table, client(1000 + n), now), "newcomer {n}");
            if n % 100 == 0 {
                let again = table.check(client(1), now);
                // It may earn one request a second, like before.
                assert!(again != RateAnswer::Allowed || n >= 49_000, "freed after {n} newcomers");
            }
        }
        assert_eq!(table.capacity(), 1024);
        assert!(table.take_forgotten() > 0);
    }

    #[test]
    fn idle_keys_make_room_first() {
        let table = table(10, 1, 8);
        for n in 0..8 {
            assert!(allowed(&table, client(n), Time::ZERO));
        }
        for n in 8..16 {
            assert!(allowed(&table, client(n), Time::from_millis(500)));
        }
        assert_eq!(table.take_forgotten(), 0, "all of the first eight were full again");
    }

    #[test]
    fn threads_share_one_bucket() {
        let table = table(1, 100, 64);
        let passed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        if allowed(&table, client(1), Time::from_millis(1)) {
                            passed.fetch_add(1, Relaxed);
                        }
                    }
                });
            }
        });
        // Four threads may each have made a first entry.
        let passed = passed.load(Relaxed);
        assert!((100..=103).contains(&passed), "{passed}");
    }

    #[test]
    fn a_rate_of_nothing_is_no_rate() {
        let second = Duration::from_secs(1);
        assert!(Rate::new(0, second, 1).is_none());
        assert!(Rate::new(1, second, 0).is_none());
        assert!(Rate::new(1, Duration::ZERO, 1).is_none());
        assert!(Rate::new(60, Duration::from_secs(60), 5).is_some());
    }
}
