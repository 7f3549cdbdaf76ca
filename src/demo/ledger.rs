//! What users met, kept whole, and what can be said of it.
//!
//! "Nearest healthy" is judged by measured truth: the RTT table, and which
//! services answer a direct look. Nothing here knows the script.

use super::world::{Region, World};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Requests kept; a world that is held up for long forgets the oldest.
const REQUESTS_MAX: usize = 100_000;
/// A service's death is noticed by direct looks at most so late.
const TRUTH_LAG: Duration = Duration::from_millis(300);

/// Why a user has no good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// DNS gave no address.
    Resolve,
    Connect,
    /// The connection ended before the answer was whole.
    Broken,
    Timeout,
    Status(u16),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve => f.write_str("no address"),
            Self::Connect => f.write_str("no connection"),
            Self::Broken => f.write_str("connection broke"),
            Self::Timeout => f.write_str("no answer"),
            Self::Status(status) => write!(f, "status {status}"),
        }
    }
}

/// One request of one user. Times are since the demo's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub sent: Duration,
    pub done: Duration,
    pub place: Region,
    /// By the address that was connected to; `None` without one.
    pub entered: Option<Region>,
    /// By the answer's own word.
    pub served: Option<Region>,
    pub failure: Option<Failure>,
}

impl Request {
    pub fn latency(&self) -> Duration {
        self.done.saturating_sub(self.sent)
    }
}

/// Latency of good answers: median and 99th percentile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    pub p50: Duration,
    pub p99: Duration,
}

/// Sums over some requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Sums {
    pub requests: usize,
    pub failed: usize,
    /// `None` without a good answer.
    pub latency: Option<Latency>,
    pub entered: BTreeMap<Region, usize>,
    pub served: BTreeMap<Region, usize>,
    /// Share of requests, 0..=1, that entered and were served in the region nearest to the
    /// user among those whose service answered; `None` without requests.
    pub nearest_healthy_share: Option<f64>,
}

/// Everything that was seen of users and of the services' truth.
#[derive(Debug)]
pub struct Ledger {
    world: Arc<World>,
    requests: VecDeque<Request>,
    /// Moments at which a service was seen to begin or cease answering.
    truth: BTreeMap<Region, Vec<(Duration, bool)>>,
    faults: Vec<Duration>,
}

impl Ledger {
    pub fn new(world: Arc<World>) -> Self {
        Self { world, requests: VecDeque::new(), truth: BTreeMap::new(), faults: Vec::new() }
    }

    pub fn add(&mut self, request: Request) {
        if self.requests.len() == REQUESTS_MAX {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }

    /// A direct look at a region's service found it changed at that time.
    pub fn note_truth(&mut self, region: Region, at: Duration, answers: bool) {
        self.truth.entry(region).or_default().push((at, answers));
    }

    /// A fault began at that time.
    pub fn note_fault(&mut self, began: Duration) {
        self.faults.push(began);
    }

    /// When the request was sent, or the first fault that began while it was under way:
    /// what comes of it is the fault's doing.
    fn counts_at(&self, request: &Request) -> Duration {
        let met = self.faults.iter().find(|began| (request.sent..=request.done).contains(*began));
        met.copied().unwrap_or(request.sent)
    }

    fn answered(&self, region: Region, at: Duration) -> bool {
        let changes = self.truth.get(&region);
        let last = changes.and_then(|all| all.iter().rev().find(|(since, _)| *since <= at));
        last.is_some_and(|(_, answers)| *answers)
    }

    /// Whether the request entered and was served where it should, by the truth when it
    /// was sent or when it was done.
    pub fn nearest_healthy(&self, request: &Request) -> bool {
        let (Some(entered), Some(served)) = (request.entered, request.served) else { return false };
        request.failure.is_none()
            && entered == served
            && [request.sent, request.done, request.done + TRUTH_LAG]
                .iter()
                .any(|at| self.world.nearest(request.place, |r| self.answered(r, *at)).contains(&served))
    }

    /// Requests sent within the span, `until` not included; those that met a fault on
    /// their way count as sent when it began.
    pub fn sent(&self, from: Duration, until: Duration) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(move |r| (from..until).contains(&self.counts_at(r)))
    }

    /// Requests that failed after `from`, whenever they were sent.
    pub fn failed_after(&self, from: Duration) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(move |r| r.failure.is_some() && r.done >= from)
    }

    pub fn sums<'a>(&self, requests: impl Iterator<Item = &'a Request>) -> Sums {
        let mut sums = Sums {
            requests: 0,
            failed: 0,
            latency: None,
            entered: BTreeMap::new(),
            served: BTreeMap::new(),
            nearest_healthy_share: None,
        };
        let (mut latencies, mut nearest) = (Vec::new(), 0_usize);
        for request in requests {
            sums.requests += 1;
            nearest += usize::from(self.nearest_healthy(request));
            if let Some(entered) = request.entered {
                *sums.entered.entry(entered).or_insert(0) += 1;
            }
            if request.failure.is_some() {
                sums.failed += 1;
                continue;
            }
            latencies.push(request.latency());
            if let Some(served) = request.served {
                *sums.served.entry(served).or_insert(0) += 1;
            }
        }
        sums.latency = percentiles(latencies);
        if sums.requests > 0 {
            sums.nearest_healthy_share = Some(nearest as f64 / sums.requests as f64);
        }
        sums
    }
}

/// Of the good answers among some requests; `None` without one.
pub fn latency(requests: &[Request]) -> Option<Latency> {
    percentiles(requests.iter().filter(|r| r.failure.is_none()).map(Request::latency).collect())
}

fn percentiles(mut latencies: Vec<Duration>) -> Option<Latency> {
    latencies.sort_unstable();
    // Nearest rank: the smallest value that at least the share has or undercuts.
    let rank = |share: f64| {
        let rank = (share * latencies.len() as f64).ceil() as usize;
        latencies.get(rank.saturating_sub(1)).copied()
    };
    Some(Latency { p50: rank(0.5)?, p99: rank(0.99)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn ledger() -> (Ledger, Vec<Region>) {
        let world = Arc::new(World::new(4).unwrap());
        let regions: Vec<Region> = world.regions().collect();
        let mut ledger = Ledger::new(world);
        for region in &regions {
            ledger.note_truth(*region, ms(0), true);
        }
        (ledger, regions)
    }

    fn good(sent: u64, took: u64, place: Region, entered: Region, served: Region) -> Request {
        Request {
            sent: ms(sent),
            done: ms(sent + took),
            place,
            entered: Some(entered),
            served: Some(served),
            failure: None,
        }
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let all = |n: u64| (1..=n).rev().map(ms).collect::<Vec<_>>();
        assert_eq!(percentiles(all(100)), Some(Latency { p50: ms(50), p99: ms(99) }));
        assert_eq!(percentiles(all(1)), Some(Latency { p50: ms(1), p99: ms(1) }));
        assert_eq!(percentiles(all(3)), Some(Latency { p50: ms(2), p99: ms(3) }));
        assert_eq!(percentiles(Vec::new()), None);
    }

    #[test]
    fn failed_requests_count_but_have_no_latency_and_serve_nobody() {
        let (mut ledger, r) = ledger();
        ledger.add(good(10, 40, r[0], r[0], r[0]));
        ledger.add(Request {
            failure: Some(Failure::Timeout),
            served: None,
            ..good(20, 3000, r[0], r[0], r[0])
        });
        let sums = ledger.sums(ledger.sent(ms(0), ms(100)));
        assert_eq!((sums.requests, sums.failed), (2, 1));
        assert_eq!(sums.latency.unwrap().p99, ms(40));
        assert_eq!((sums.entered[&r[0]], sums.served[&r[0]]), (2, 1));
        assert_eq!(sums.nearest_healthy_share, Some(0.5));
    }

    #[test]
    fn nearest_healthy_follows_the_services_and_not_the_script() {
        let (mut ledger, r) = ledger();
        // us-west-2 (r3) is the nearest to us-east-1 (r0).
        let elsewhere = good(5000, 100, r[0], r[3], r[3]);
        assert!(!ledger.nearest_healthy(&elsewhere), "the own region answers");
        ledger.note_truth(r[0], ms(4000), false);
        assert!(ledger.nearest_healthy(&elsewhere), "it was seen dead when this was sent");
        assert!(!ledger.nearest_healthy(&good(5000, 100, r[0], r[1], r[1])), "one is nearer");
        assert!(!ledger.nearest_healthy(&good(5000, 100, r[0], r[0], r[3])), "entered where nobody serves");
        ledger.note_truth(r[0], ms(9000), true);
        assert!(!ledger.nearest_healthy(&good(9500, 100, r[0], r[3], r[3])), "it is back");
        assert!(ledger.nearest_healthy(&good(9500, 100, r[0], r[0], r[0])));
    }

    #[test]
    fn a_request_belongs_to_the_phase_that_it_was_sent_in() {
        let (mut ledger, r) = ledger();
        ledger.add(good(990, 500, r[0], r[0], r[0]));
        assert_eq!(ledger.sent(ms(0), ms(1000)).count(), 1);
        assert_eq!(ledger.sent(ms(1000), ms(2000)).count(), 0);
        ledger.note_fault(ms(1100));
        assert_eq!(ledger.sent(ms(0), ms(1000)).count(), 0, "it met a fault");
        assert_eq!(ledger.sent(ms(1000), ms(2000)).count(), 1);
    }
}
