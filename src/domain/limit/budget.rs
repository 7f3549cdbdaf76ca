//! A budget over all traffic of a service: how many retries (or hedges) its requests pay for.
//!
//! Retries that each request decides on alone multiply an outage: three attempts
//! make a third of the capacity of what is left. With a budget the extra load of
//! all of them together is at most `ratio` of the requests, plus a floor that
//! lets a quiet service retry at all.
//!
//! Source: Finagle's `RetryBudget` (requests of a sliding window times a ratio,
//! plus a minimum a second); Envoy's `retry_budget` has the same parts.
//!
//! State: ten slices of the window, a word each: no lock, no loop that waits.
//! A race at the edge of two slices can lose one count.

use crate::domain::time::Time;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const SLICES: u64 = 10;
const COUNT_BITS: u32 = 24;
/// A slice counts no further: 16.7 million requests in a tenth of the window.
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// What a budget grows by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetPolicy {
    /// Withdrawals that each request pays for: 0.2 is one for five requests.
    pub ratio: f64,
    /// Withdrawals a second that are there without any request.
    pub min_per_second: f64,
    /// How long a request pays.
    pub window: Duration,
}

impl Default for BudgetPolicy {
    /// Source: Finagle's defaults.
    fn default() -> Self {
        Self { ratio: 0.2, min_per_second: 10.0, window: Duration::from_secs(10) }
    }
}

/// The budget of one service.
#[derive(Debug)]
pub struct Budget {
    policy: BudgetPolicy,
    /// Length of a slice in nanoseconds. At least 1.
    slice: u64,
    slices: [AtomicU64; SLICES as usize],
}

/// A slice: which one it is (the turn of the ring), and its counts.
#[derive(Debug, Clone, Copy)]
struct Slice {
    turn: u16,
    requests: u64,
    withdrawn: u64,
}

impl Slice {
    const fn unpack(word: u64) -> Self {
        Self {
            turn: (word >> (2 * COUNT_BITS)) as u16,
            requests: (word >> COUNT_BITS) & COUNT_MAX,
            withdrawn: word & COUNT_MAX,
        }
    }

    const fn pack(self) -> u64 {
        (self.turn as u64) << (2 * COUNT_BITS) | self.requests << COUNT_BITS | self.withdrawn
    }

    /// The slice as it stands in that turn: empty when the ring has gone on.
    const fn at(self, turn: u16) -> Self {
        if self.turn == turn { self } else { Self { turn, requests: 0, withdrawn: 0 } }
    }
}

impl Budget {
    pub fn new(policy: BudgetPolicy) -> Self {
        let slice = u64::try_from(policy.window.as_nanos()).unwrap_or(u64::MAX) / SLICES;
        // Turn 0 is the past: the first turn of the clock counts from 1.
        Self { policy, slice: slice.max(1), slices: Default::default() }
    }

    pub fn policy(&self) -> &BudgetPolicy {
        &self.policy
    }

    /// A request (not a retry of one) begins.
    pub fn deposit(&self, now: Time) {
        let (place, turn) = self.place(now.as_nanos() / self.slice);
        let Some(place) = self.slices.get(place) else { return };
        let mut word = place.load(Relaxed);
        loop {
            let mut slice = Slice::unpack(word).at(turn);
            slice.requests = (slice.requests + 1).min(COUNT_MAX);
            match place.compare_exchange_weak(word, slice.pack(), Relaxed, Relaxed) {
                Ok(_) => return,
                Err(newer) => word = newer,
            }
        }
    }

    /// Pays for one retry, if the budget has it.
    pub fn try_withdraw(&self, now: Time) -> bool {
        let number = now.as_nanos() / self.slice;
        let (place, turn) = self.place(number);
        let Some(place) = self.slices.get(place) else { return false };
        let mut word = place.load(Relaxed);
        loop {
            let mut slice = Slice::unpack(word).at(turn);
            let (requests, withdrawn) = self.before(number);
            let (requests, withdrawn) = (requests + slice.requests, withdrawn + slice.withdrawn);
            let floor = self.policy.min_per_second * self.policy.window.as_secs_f64();
            if (withdrawn + 1) as f64 > self.policy.ratio * requests as f64 + floor {
                return false;
            }
            slice.withdrawn = (slice.withdrawn + 1).min(COUNT_MAX);
            // Whoever withdraws meanwhile changes the word: the sum is taken again.
            match place.compare_exchange_weak(word, slice.pack(), Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(newer) => word = newer,
            }
        }
    }

    /// Requests and withdrawals of the nine slices before that one.
    fn before(&self, number: u64) -> (u64, u64) {
        let mut sum = (0, 0);
        for earlier in number.saturating_sub(SLICES - 1)..number {
            let (place, turn) = self.place(earlier);
            let word = self.slices.get(place).map_or(0, |place| place.load(Relaxed));
            let slice = Slice::unpack(word).at(turn);
            sum = (sum.0 + slice.requests, sum.1 + slice.withdrawn);
        }
        sum
    }

    /// Where a slice of the clock stands, and in which turn of the ring.
    ///
    /// Turns are told apart over 65,535 of them: a slice untouched for exactly
    /// that long (a week, with 10 s) would count once more.
    fn place(&self, number: u64) -> (usize, u16) {
        ((number % SLICES) as usize, (number / SLICES % u64::from(u16::MAX) + 1) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(ratio: f64, min_per_second: f64) -> Budget {
        Budget::new(BudgetPolicy { ratio, min_per_second, window: Duration::from_secs(10) })
    }

    fn withdrawals(budget: &Budget, now: Time) -> u32 {
        (0..1_000_000).take_while(|_| budget.try_withdraw(now)).count() as u32
    }

    #[test]
    fn a_share_of_the_requests_may_be_retried_and_no_more() {
        let budget = budget(0.2, 0.0);
        assert_eq!(withdrawals(&budget, Time::ZERO), 0);
        for n in 0..1000 {
            budget.deposit(Time::from_millis(n));
        }
        assert_eq!(withdrawals(&budget, Time::from_millis(1000)), 200);
        assert_eq!(withdrawals(&budget, Time::from_millis(5000)), 0);
    }

    #[test]
    fn a_quiet_service_may_retry_its_floor() {
        let budget = budget(0.2, 1.0);
        assert_eq!(withdrawals(&budget, Time::from_millis(500)), 10);
        assert_eq!(withdrawals(&budget, Time::from_millis(9000)), 0);
        assert_eq!(withdrawals(&budget, Time::from_millis(11_000)), 10, "what was spent leaves the window");
    }

    #[test]
    fn requests_stop_paying_when_they_leave_the_window() {
        let budget = budget(1.0, 0.0);
        for _ in 0..50 {
            budget.deposit(Time::from_millis(100));
        }
        assert!(budget.try_withdraw(Time::from_millis(9900)));
        assert!(!budget.try_withdraw(Time::from_millis(10_100)));
    }

    #[test]
    fn an_outage_is_not_multiplied() {
        // Every attempt fails, and every request would like to try twice more.
        let budget = budget(0.2, 10.0);
        let (mut requests, mut retries) = (0u32, 0u32);
        for millis in 0..60_000u64 {
            budget.deposit(Time::from_millis(millis));
            requests += 1;
            for _ in 0..2 {
                retries += u32::from(budget.try_withdraw(Time::from_millis(millis)));
            }
        }
        let extra = f64::from(retries) / f64::from(requests);
        assert!((0.2..0.22).contains(&extra), "{extra} of extra load");
    }

    #[test]
    fn no_window_holds_more_withdrawals_than_it_paid_for() {
        let budget = budget(0.1, 2.0);
        let mut random = 99u64;
        let mut events: Vec<(u64, bool)> = Vec::new();
        let mut now = 0;
        for _ in 0..30_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            now += (random >> 33) % 5;
            if random >> 63 == 0 {
                budget.deposit(Time::from_millis(now));
                events.push((now, true));
            } else if budget.try_withdraw(Time::from_millis(now)) {
                events.push((now, false));
            }
        }
        for (index, (at, _)) in events.iter().enumerate().step_by(50) {
            let window: Vec<_> = events[..=index].iter().rev().take_while(|(t, _)| at - t < 9000).collect();
            let spent = window.iter().filter(|(_, deposit)| !deposit).count() as f64;
            // Slices are a second long: what they see lies between nine and ten seconds.
            let wider = events[..=index].iter().rev().take_while(|(t, _)| at - t < 10_000);
            let paid = wider.filter(|(_, deposit)| *deposit).count() as f64;
            assert!(spent <= 0.1 * paid + 20.0 + 1e-9, "at {at} ms: {spent} spent, {paid} paid");
        }
    }

    #[test]
    fn threads_withdraw_no_more_than_there_is() {
        let budget = budget(0.0, 10.0);
        let spent: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| withdrawals(&budget, Time::from_millis(50)))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(spent, 100);
    }
}
