//! Which endpoint to try, and whether to try another one.
//!
//! Walks the candidates of a service in their order: endpoint by endpoint, then
//! region by region, within the service's budget. Decides from what happened;
//! knows no connection. The rules of retrying:
//!
//! - Nothing was sent (no connection, or none may be made), or the upstream says that it processed
//!   nothing (HTTP/2 REFUSED_STREAM or a graceful GOAWAY; the peer's typed 503):
//!   any method may be tried again, since no effect can have happened.
//! - Reset or closed before the head of the answer was whole, so that the client has
//!   got nothing of it: the request may have
//!   had its effect, so only idempotent methods (RFC 9110 section 9.2.2).
//! - Timeouts and answers with a status of 500 and above: only where a route says so, and only
//!   idempotent methods. A slow request tried again is load on top of load.
//! - Malformed answers and anything after the head: never.
//! - Whatever the reason, only if the body can be sent again from its start.

use crate::domain::endpoint::{InFlight, pick_by_zone, unit};
use crate::domain::limit::affinity::{Affinity, Session};
use crate::domain::name::RegionId;
use crate::domain::snapshot::{Candidate, Place, ServiceSnapshot};
use crate::domain::time::Time;
use crate::metrics::request::RetryReason;
use crate::proxy::policy::Sticky;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

/// Endpoints tried in one region while another region is left to try.
const PER_REGION_MAX: u32 = 2;

/// The attempts at one request.
#[derive(Debug)]
pub struct Attempts {
    service: Arc<ServiceSnapshot>,
    /// Candidates still to try; the first one is the current one.
    turns: Turns,
    /// Endpoints tried in the current region.
    tried: Tried,
    /// Attempts left in the current region; `None` before the first one there.
    region_left: Option<u32>,
    left: u32,
    budget: Budget,
    /// The session that picks endpoints of the own region.
    session: Option<(Affinity, Session)>,
}

/// One attempt: where to send the request.
#[derive(Debug)]
pub struct Attempt {
    pub place: Place,
    pub region: RegionId,
    /// Counts the request in flight on its endpoint until dropped.
    pub endpoint: InFlight,
}

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection; nothing was sent.
    Connect,
    /// Sent, but the upstream says that it processed nothing.
    Unprocessed,
    /// Reset or closed before the head of the answer was whole.
    Closed,
    /// The peer's typed 503.
    Refused,
    /// The endpoint has as many connections as it may: it was not even asked.
    Busy,
    Timeout,
    /// The time for the whole request was over before this attempt had had its share of it.
    Deadline,
    /// An answer with a status that the route tries again after.
    Status,
    /// An answer that is no HTTP.
    Malformed,
    /// After the head of the answer.
    Late,
}

impl Failure {
    /// As logs say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Unprocessed => "unprocessed",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::Deadline => "deadline",
            Self::Status => "status",
            Self::Malformed => "malformed",
            Self::Late => "cut",
        }
    }
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// [`Attempts::next`] may be asked for another one.
    Retry(RetryReason),
    GiveUp,
}

/// Whether the part of the body that was read can be sent again from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    Replayable,
    /// It outgrew the retry buffer.
    Consumed,
}

/// What sets the bounds of the attempts.
#[derive(Debug, Clone)]
pub struct Budget {
    /// Attempts in all.
    pub attempts: u32,
    pub idempotent: bool,
    /// Idempotent requests are tried again after a timeout.
    pub on_timeout: bool,
    /// Idempotent requests are tried again after these statuses.
    pub on_status: Vec<u16>,
}

impl Budget {
    /// Only what is always right.
    pub const fn new(attempts: u32, idempotent: bool) -> Self {
        Self { attempts, idempotent, on_timeout: false, on_status: Vec::new() }
    }
}

impl Attempts {
    /// Attempts in the snapshot's order; a candidate whose share is below 1 takes its turn
    /// with that probability, and is kept as a last resort otherwise.
    ///
    /// A session goes where it was before, while that is a candidate; one that is known by a key
    /// takes the same turns each time.
    pub fn all(service: Arc<ServiceSnapshot>, budget: Budget, sticky: Option<&Sticky>, random: u64) -> Self {
        let random = sticky.and_then(Sticky::key).unwrap_or(random);
        let drawn = |(index, candidate): &(usize, &Candidate)| {
            candidate.share >= 1.0 || unit(random, *index as u64) < candidate.share
        };
        let mut turns = Turns::default();
        let mut passed = Turns::default();
        for turn in service.candidates.iter().enumerate() {
            if drawn(&turn) { turns.push(turn.0) } else { passed.push(turn.0) }
        }
        passed.left().iter().for_each(|index| turns.push(usize::from(*index)));
        let session = sticky.and_then(|sticky| Some((sticky.affinity, sticky.session?)));
        if let Some((affinity, session @ Session::Token(_))) = session
            && let Some(preferred) = affinity.prefer(session, &service.candidates)
        {
            turns.prefer(preferred.candidate);
        }
        Self::new(service, turns, budget, session)
    }

    /// Attempts in the own region only: what a forwarded request gets.
    pub fn own(service: Arc<ServiceSnapshot>, budget: Budget, sticky: Option<&Sticky>) -> Self {
        let mut turns = Turns::default();
        service.candidates.own_index().into_iter().for_each(|own| turns.push(own));
        let session = sticky.and_then(|sticky| Some((sticky.affinity, sticky.session?)));
        Self::new(service, turns, budget, session)
    }

    fn new(
        service: Arc<ServiceSnapshot>,
        turns: Turns,
        budget: Budget,
        session: Option<(Affinity, Session)>,
    ) -> Self {
        Self {
            service,
            turns,
            tried: Tried::default(),
            region_left: None,
            left: budget.attempts,
            budget,
            session,
        }
    }

    /// The next place to try; `None` when everything or the budget was used up.
    pub fn next(&mut self, random: u64, now: Time) -> Option<Attempt> {
        // Ends: each round returns or drops a candidate.
        while self.left > 0 {
            let candidate = self.service.candidates.get(self.turns.first()?)?;
            let region_left = match self.region_left {
                Some(left) => left,
                None => region_budget(self.left, self.turns.left().len() > 1),
            };
            let endpoint = match self.session.filter(|_| candidate.place == Place::Own) {
                Some((affinity, session)) => affinity
                    .endpoint(session, &candidate.endpoints, self.tried.all())
                    .and_then(|index| candidate.endpoints.get(index)),
                None => pick_by_zone(candidate, self.tried.all(), random, now),
            };
            let Some(endpoint) = endpoint.filter(|_| region_left > 0) else {
                self.next_region();
                continue;
            };
            let attempt = Attempt {
                place: candidate.place,
                region: candidate.region.clone(),
                endpoint: endpoint.begin(),
            };
            self.tried.push(attempt.endpoint.endpoint().address());
            self.region_left = Some(region_left - 1);
            self.left -= 1;
            return Some(attempt);
        }
        None
    }

    /// A second place for a request that is under way; `None`: there is none, or the budget is used up.
    ///
    /// Another own endpoint only: a region that is asked hedges for itself, and a session stays
    /// where it is.
    pub fn beside(&mut self, random: u64, now: Time) -> Option<Attempt> {
        let (candidate, region_left) = self.room_beside()?;
        let endpoint = pick_by_zone(candidate, self.tried.all(), random, now)?;
        let attempt =
            Attempt { place: candidate.place, region: candidate.region.clone(), endpoint: endpoint.begin() };
        self.tried.push(attempt.endpoint.endpoint().address());
        self.region_left = Some(region_left - 1);
        self.left -= 1;
        Some(attempt)
    }

    /// Whether the session was elsewhere before; asked where own endpoints serve.
    pub fn has_moved(&self, to: &Attempt) -> bool {
        let known = self.service.endpoints.iter().map(|known| known.endpoint.address());
        let place = (&to.region, to.endpoint.endpoint().address());
        let session = self.session.filter(|_| to.place == Place::Own);
        session.is_some_and(|(affinity, session)| affinity.is_elsewhere(session, place, known))
    }

    /// Whether [`Attempts::beside`] has a place now.
    pub fn has_beside(&self) -> bool {
        let untried = |candidate: &Candidate| {
            candidate.endpoints.iter().any(|endpoint| !self.tried.all().contains(&endpoint.address()))
        };
        self.room_beside().is_some_and(|(candidate, _)| untried(candidate))
    }

    /// The region of the current attempt, if that is the own one and its budget allows another one.
    fn room_beside(&self) -> Option<(&Candidate, u32)> {
        let candidate = self.service.candidates.get(self.turns.first()?)?;
        let region_left = self.region_left.filter(|left| *left > 0 && self.left > 0)?;
        (candidate.place == Place::Own && self.session.is_none()).then_some((candidate, region_left))
    }

    /// Whether an answer with this status is worth another attempt, and one is left.
    pub fn rejects(&self, status: u16, body: Body) -> bool {
        self.is_retried(status) && self.left > 0 && body == Body::Replayable
    }

    /// Whether an answer with this status is not what the client should get, if there is a better one.
    pub fn is_retried(&self, status: u16) -> bool {
        self.budget.idempotent && self.budget.on_status.contains(&status)
    }

    /// Whether the request may be tried again after a failure.
    pub fn failed(&mut self, failure: Failure, body: Body) -> Verdict {
        let reason = match failure {
            Failure::Connect => RetryReason::Connect,
            Failure::Busy => RetryReason::Busy,
            Failure::Unprocessed => RetryReason::Unprocessed,
            Failure::Refused => {
                // Another node of that region would say the same.
                self.next_region();
                RetryReason::Refused
            }
            Failure::Closed if self.budget.idempotent => RetryReason::Closed,
            Failure::Timeout if self.budget.idempotent && self.budget.on_timeout => RetryReason::Timeout,
            Failure::Status if self.budget.idempotent => RetryReason::Status,
            Failure::Status
            | Failure::Closed
            | Failure::Timeout
            | Failure::Deadline
            | Failure::Malformed
            | Failure::Late => return Verdict::GiveUp,
        };
        self.save_the_last_for_home();
        match body {
            Body::Replayable => Verdict::Retry(reason),
            Body::Consumed => Verdict::GiveUp,
        }
    }

    /// The last attempt is the own region's while that waits behind others: what serves here
    /// refuses nobody.
    fn save_the_last_for_home(&mut self) {
        if self.left == 1
            && let Some(own) = self.service.candidates.own_index()
            && let Some(at) = self.turns.place(own).filter(|at| *at > 0)
        {
            (0..at).for_each(|_| self.turns.next());
            self.tried.clear();
            self.region_left = None;
        }
    }

    fn next_region(&mut self) {
        self.turns.next();
        self.tried.clear();
        self.region_left = None;
    }
}

/// Candidates in the order of their turns, by index. In place: every request has one, and none needs
/// to allocate for it.
#[derive(Debug)]
struct Turns {
    list: [u8; Self::MAX],
    begin: usize,
    end: usize,
}

impl Turns {
    /// Most candidates that have a turn: the nearest ones.
    const MAX: usize = 64;

    fn push(&mut self, index: usize) {
        if let (Some(turn), Ok(index)) = (self.list.get_mut(self.end), u8::try_from(index)) {
            *turn = index;
            self.end += 1;
        }
    }

    fn left(&self) -> &[u8] {
        self.list.get(self.begin..self.end).unwrap_or_default()
    }

    fn first(&self) -> Option<usize> {
        self.left().first().map(|index| usize::from(*index))
    }

    fn next(&mut self) {
        self.begin = (self.begin + 1).min(self.end);
    }

    /// How many turns come before that of a candidate.
    fn place(&self, index: usize) -> Option<usize> {
        self.left().iter().position(|turn| usize::from(*turn) == index)
    }

    /// Puts a candidate first.
    fn prefer(&mut self, index: usize) {
        if let Some(at) = self.place(index)
            && let Some(turns) = self.list.get_mut(self.begin..=self.begin + at)
        {
            turns.rotate_right(1);
        }
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self { list: [0; Self::MAX], begin: 0, end: 0 }
    }
}

/// Endpoints that were tried, in place as well.
#[derive(Debug)]
struct Tried {
    list: [SocketAddr; Self::MAX],
    count: usize,
}

impl Tried {
    /// As many as `attempts` may be at most in the configuration.
    const MAX: usize = 10;

    fn push(&mut self, address: SocketAddr) {
        if let Some(place) = self.list.get_mut(self.count) {
            *place = address;
            self.count += 1;
        }
    }

    fn all(&self) -> &[SocketAddr] {
        self.list.get(..self.count).unwrap_or_default()
    }

    fn clear(&mut self) {
        self.count = 0;
    }
}

impl Default for Tried {
    fn default() -> Self {
        let nowhere = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
        Self { list: [nowhere; Self::MAX], count: 0 }
    }
}

/// Attempts for a region that is now entered: while another region waits, one is kept for it.
fn region_budget(left: u32, more_regions: bool) -> u32 {
    if more_regions { left.saturating_sub(1).clamp(1, PER_REGION_MAX) } else { left }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::endpoint::Endpoint;
    use crate::domain::name::ServiceId;
    use crate::domain::snapshot::{RoomStatus, States};

    /// Candidates named `a`, `b`, ...: the first one is the own region.
    fn service(candidates: &[(f64, u8)]) -> Arc<ServiceSnapshot> {
        let candidate = |(index, (share, endpoints)): (usize, &(f64, u8))| {
            let subnet = u8::try_from(index).unwrap();
            let endpoints = (1..=*endpoints)
                .map(|n| Arc::new(Endpoint::new(SocketAddr::from(([127, 0, subnet, n], 80)))))
                .collect();
            Candidate {
                region: RegionId::parse(&char::from(b'a' + subnet).to_string()).unwrap(),
                place: if index == 0 { Place::Own } else { Place::Peer },
                share: *share,
                endpoints,
                zones: Arc::new([]),
            }
        };
        Arc::new(ServiceSnapshot {
            id: ServiceId::parse("web").unwrap(),
            candidates: candidates.iter().enumerate().map(candidate).collect(),
            panic: false,
            accepts_forwarded: true,
            endpoints: Arc::new([]),
            states: States::default(),
            room: RoomStatus::default(),
        })
    }

    fn budget(attempts: u32) -> Budget {
        Budget::new(attempts, true)
    }

    /// Regions tried when every attempt fails in the same way.
    fn walk(mut attempts: Attempts, failure: Failure) -> String {
        let mut regions = String::new();
        while let Some(attempt) = attempts.next(u64::MAX / 3, Time::ZERO) {
            regions.push_str(attempt.region.as_str());
            if attempts.failed(failure, Body::Replayable) == Verdict::GiveUp {
                break;
            }
        }
        regions
    }

    #[test]
    fn a_budget_of_two_or_more_reaches_another_region_when_all_own_endpoints_are_dead() {
        for (attempts, candidates, expected) in [
            (1, vec![(1.0, 5), (1.0, 1)], "a"),
            (2, vec![(1.0, 5), (1.0, 1)], "ab"),
            (3, vec![(1.0, 5), (1.0, 1)], "aab"),
            (4, vec![(1.0, 5), (1.0, 5)], "aabb"),
            (4, vec![(1.0, 5), (1.0, 5), (1.0, 5)], "aabc"),
            (9, vec![(1.0, 5), (1.0, 5), (1.0, 5)], "aabbccccc"),
            (3, vec![(1.0, 1), (1.0, 1)], "ab"),
            (9, vec![(1.0, 3)], "aaa"),
            (3, vec![], ""),
        ] {
            let walked =
                walk(Attempts::all(service(&candidates), budget(attempts), None, 0), Failure::Connect);
            assert_eq!(walked, expected, "{attempts} attempts at {candidates:?}");
        }
    }

    #[test]
    fn a_refusal_leaves_the_region_at_once() {
        let walked = walk(
            Attempts::all(service(&[(1.0, 5), (1.0, 5), (1.0, 5)]), budget(9), None, 0),
            Failure::Refused,
        );
        assert_eq!(walked, "abc");
    }

    #[test]
    fn the_last_attempt_is_the_own_regions_while_it_waits_behind_others() {
        let candidates = [(0.0, 2), (1.0, 5), (1.0, 5), (1.0, 5), (1.0, 5)];
        for (attempts, expected) in [(1, "b"), (2, "ba"), (3, "bca"), (9, "bcdea")] {
            let walked =
                walk(Attempts::all(service(&candidates), budget(attempts), None, 0), Failure::Refused);
            assert_eq!(walked, expected, "{attempts} attempts");
        }
    }

    #[test]
    fn no_endpoint_is_tried_twice() {
        let mut attempts = Attempts::all(service(&[(1.0, 4)]), budget(9), None, 0);
        let mut seen = std::collections::BTreeSet::new();
        while let Some(attempt) = attempts.next(seen.len() as u64 * 77, Time::ZERO) {
            assert!(seen.insert(attempt.endpoint.endpoint().address()));
        }
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn what_may_be_tried_again() {
        let retry = |reason| Verdict::Retry(reason);
        for (failure, idempotent, other) in [
            (Failure::Connect, retry(RetryReason::Connect), retry(RetryReason::Connect)),
            (Failure::Busy, retry(RetryReason::Busy), retry(RetryReason::Busy)),
            (Failure::Unprocessed, retry(RetryReason::Unprocessed), retry(RetryReason::Unprocessed)),
            (Failure::Refused, retry(RetryReason::Refused), retry(RetryReason::Refused)),
            (Failure::Closed, retry(RetryReason::Closed), Verdict::GiveUp),
            (Failure::Timeout, Verdict::GiveUp, Verdict::GiveUp),
            (Failure::Malformed, Verdict::GiveUp, Verdict::GiveUp),
            (Failure::Late, Verdict::GiveUp, Verdict::GiveUp),
        ] {
            for (is_idempotent, expected) in [(true, idempotent), (false, other)] {
                let of = Budget::new(3, is_idempotent);
                let attempts = || Attempts::all(service(&[(1.0, 2)]), of.clone(), None, 0);
                let what = format!("{failure:?}, idempotent: {is_idempotent}");
                assert_eq!(attempts().failed(failure, Body::Replayable), expected, "{what}");
                assert_eq!(attempts().failed(failure, Body::Consumed), Verdict::GiveUp, "{what}, consumed");
            }
        }
    }

    #[test]
    fn a_route_may_have_idempotent_requests_tried_again_after_timeouts_and_statuses() {
        for (idempotent, after_timeout) in
            [(true, Verdict::Retry(RetryReason::Timeout)), (false, Verdict::GiveUp)]
        {
            let of = Budget { on_timeout: true, on_status: vec![503], ..Budget::new(2, idempotent) };
            let mut attempts = Attempts::all(service(&[(1.0, 2)]), of, None, 0);
            attempts.next(0, Time::ZERO).unwrap();
            assert_eq!(attempts.rejects(503, Body::Replayable), idempotent);
            assert!(!attempts.rejects(502, Body::Replayable), "not named");
            assert!(!attempts.rejects(503, Body::Consumed));
            assert_eq!(attempts.failed(Failure::Timeout, Body::Replayable), after_timeout);
            attempts.next(0, Time::ZERO).unwrap();
            assert!(!attempts.rejects(503, Body::Replayable), "none is left: the answer is the client's");
        }
    }

    #[test]
    fn a_share_is_the_part_of_requests_and_the_rest_goes_to_the_next() {
        let of = service(&[(0.25, 1), (1.0, 1)]);
        let first = |random: u64| {
            let mut attempts = Attempts::all(Arc::clone(&of), budget(3), None, random);
            attempts.next(0, Time::ZERO).unwrap().region.as_str().to_owned()
        };
        let own = (0..10_000u64).filter(|random| first(random.wrapping_mul(0x1234_5678_9abc)) == "a").count();
        assert!((2300..2700).contains(&own), "{own} of 10000");
    }

    #[test]
    fn a_candidate_that_was_not_drawn_is_still_the_last_resort() {
        for random in 0..100 {
            let walked = walk(
                Attempts::all(service(&[(0.0, 1), (1.0, 1)]), budget(3), None, random),
                Failure::Connect,
            );
            assert_eq!(walked, "ba");
        }
        assert_eq!(walk(Attempts::all(service(&[(0.0, 1)]), budget(3), None, 1), Failure::Connect), "a");
    }

    #[test]
    fn a_forwarded_request_stays_in_the_own_region() {
        let walked = walk(Attempts::own(service(&[(0.1, 3), (1.0, 3)]), budget(9), None), Failure::Connect);
        assert_eq!(walked, "aaa");
    }

    #[test]
    fn an_attempt_counts_in_flight_until_it_is_dropped() {
        let of = service(&[(1.0, 1)]);
        let mut attempts = Attempts::all(Arc::clone(&of), budget(3), None, 0);
        let attempt = attempts.next(0, Time::ZERO).unwrap();
        assert_eq!(of.candidates[0].endpoints[0].in_flight(), 1);
        drop(attempt);
        assert_eq!(of.candidates[0].endpoints[0].in_flight(), 0);
    }
}
