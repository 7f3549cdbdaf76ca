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
use std::sync::Arc;

mod turns;

use turns::{Tried, Turns};

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
    /// Every request of a session draws alike. One that was elsewhere before goes there, while that is
    /// a candidate and the draw gives it a turn: of a region that sends a part away, or is left, the
    /// same part of the sessions goes, too.
    pub fn all(service: Arc<ServiceSnapshot>, budget: Budget, sticky: Option<&Sticky>, random: u64) -> Self {
        let random = sticky.and_then(Sticky::draws).unwrap_or(random);
        let drawn = |(index, candidate): &(usize, &Candidate)| {
            candidate.is_whole() || unit(random, *index as u64) < candidate.share
        };
        let mut turns = Turns::each(service.candidates.len());
        // Mostly all have a turn, and nothing but the first of tens is looked at.
        if !service.candidates.are_whole() {
            turns = Turns::default();
            let mut passed = Turns::default();
            for turn in service.candidates.iter().enumerate() {
                if drawn(&turn) { turns.push(turn.0) } else { passed.push(turn.0) }
            }
            passed.left().iter().for_each(|index| turns.push(usize::from(*index)));
        }
        let session = sticky.and_then(|sticky| Some((sticky.affinity, sticky.session?)));
        if let Some((affinity, session @ Session::Token(_))) = session
            && let Some(preferred) = affinity.prefer(session, &service.candidates)
            && let Some(candidate) = service.candidates.get(preferred.candidate)
            && drawn(&(preferred.candidate, candidate))
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

/// Attempts for a region that is now entered: while another region waits, one is kept for it.
fn region_budget(left: u32, more_regions: bool) -> u32 {
    if more_regions { left.saturating_sub(1).clamp(1, PER_REGION_MAX) } else { left }
}

#[cfg(test)]
mod tests;
