//! A second attempt beside a slow one: when there is one, and what is made of it.

use super::{Progress, Running};
use crate::access_log::AttemptResult;
use crate::domain::limit::concurrency::{Permit, Served};
use crate::domain::limit::hedge::{Hedge, Repeatable};
use crate::domain::snapshot::Place;
use crate::domain::time::Time;
use crate::metrics::request::HedgeResult;
use crate::proxy::Shared;
use crate::proxy::attempts::{Attempt, Failure};
use crate::proxy::policy::Exchange;
use http::StatusCode;
use std::time::Duration;

/// How far the hedging of a request has come; there is one hedge at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hedging {
    Never,
    /// When an attempt has been waited for so long.
    After(Duration),
    /// A second attempt was made; what became of it is not yet counted.
    Made,
}

/// Why an attempt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// It is the first one, or the one before it failed.
    InTurn,
    /// The one before it was slow.
    Beside,
}

/// One of the attempts that run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Lane {
    /// The current one.
    Current,
    Beside,
}

impl Progress {
    fn hedge(&self) -> Option<&Hedge> {
        self.settings.guards.service(&self.exchange.as_ref()?.service)?.hedge.as_deref()
    }

    /// Every request is counted, so that hedges stay a share of all.
    pub(super) fn hedging_of(&self, exchange: &Exchange) -> Hedging {
        let guards = self.settings.guards.service(&exchange.service);
        let Some(hedge) = guards.and_then(|guards| guards.hedge.as_ref()) else { return Hedging::Never };
        let after = hedge.begin(exchange.hedging, self.began);
        if let Some(handles) = self.settings.handles.service(&exchange.service) {
            handles.hedge_delay.set(hedge.delay().unwrap_or_default().as_secs_f64());
        }
        after.map_or(Hedging::Never, Hedging::After)
    }

    /// How long an attempt is waited for before another one is made beside it.
    pub(in super::super) const fn hedge_delay(&self) -> Option<Duration> {
        match self.hedging {
            Hedging::After(delay) => Some(delay),
            Hedging::Never | Hedging::Made => None,
        }
    }

    /// The attempt of a lane, and what it is for.
    pub(in super::super) fn lane(&self, lane: Lane) -> Option<(&Exchange, &Attempt)> {
        let running = match lane {
            Lane::Current => &self.running,
            Lane::Beside => &self.beside,
        };
        self.exchange.as_deref().zip(running.as_ref().map(|running| &running.attempt))
    }

    fn running(&mut self, lane: Lane) -> Option<&mut Running> {
        match lane {
            Lane::Current => self.running.as_mut(),
            Lane::Beside => self.beside.as_mut(),
        }
    }

    /// An attempt has got a connection of its own.
    pub(in super::super) fn connected(&mut self, lane: Lane, took: Duration) {
        if let Some(running) = self.running(lane) {
            running.connect = Some(took);
        }
    }

    /// The client took so long to send its body to an attempt.
    pub(in super::super) fn uploaded(&mut self, lane: Lane, took: Duration) {
        if let Some(running) = self.running(lane) {
            running.upload = took;
        }
    }

    /// The delay is over: makes a second attempt, if there is a place and a budget for it.
    pub(in super::super) fn make_hedge(&mut self, shared: &Shared) -> bool {
        self.hedging = Hedging::Never;
        let now = shared.wiring.clock.now();
        if !self.exchange.as_ref().is_some_and(|exchange| exchange.attempts.has_beside()) {
            return false;
        }
        // A permit first: what is not admitted costs no budget.
        let permit = self.admit(Place::Own, now);
        let paid = permit.is_ok() && self.hedge().is_some_and(|hedge| hedge.try_hedge(now));
        let made = paid && permit.is_ok_and(|permit| self.start_beside(permit, now));
        if !made {
            self.count_hedge(HedgeResult::Denied);
        }
        made
    }

    fn start_beside(&mut self, permit: Option<Permit>, now: Time) -> bool {
        let Some(exchange) = self.exchange.as_mut() else { return false };
        let Some(attempt) = exchange.attempts.beside(rand::random(), now) else { return false };
        if let Some(handles) = self.handles() {
            handles.attempts.inc();
        }
        self.hedging = Hedging::Made;
        self.beside = Some(Running::new(attempt, now, Made::Beside, permit));
        true
    }

    /// Whether an answer is passed over while another attempt is under way: the request would be
    /// tried again after it. The other attempt is the current one then.
    pub(in super::super) fn passed_over(&mut self, status: StatusCode, lane: Lane, shared: &Shared) -> bool {
        if !self.exchange.as_ref().is_some_and(|exchange| exchange.attempts.is_retried(status.as_u16())) {
            return false;
        }
        if lane == Lane::Beside {
            std::mem::swap(&mut self.running, &mut self.beside);
        }
        let now = shared.wiring.clock.now();
        if let (Some(trail), Some(running)) = (&mut self.trail, &self.running) {
            let times = running.times(self.began, now);
            trail.attempt(&running.attempt, times, AttemptResult::Answered(status.as_u16()));
        }
        self.note(Failure::Status, now, shared);
        self.running = self.beside.take();
        true
    }

    /// One of two attempts failed (`None`: for a reason of this edge): the other one is the current one now.
    pub(in super::super) fn fell(&mut self, lane: Lane, failure: Option<Failure>, shared: &Shared) {
        if lane == Lane::Beside {
            std::mem::swap(&mut self.running, &mut self.beside);
        }
        if let Some(failure) = failure {
            self.note(failure, shared.wiring.clock.now(), shared);
        }
        self.running = self.beside.take();
    }

    /// One of two attempts answered first: it is the current one, and the other one is over.
    ///
    /// The slow one's time so far counts as its latency: left out, nobody would ever notice a slow
    /// endpoint that always loses.
    pub(in super::super) fn won(&mut self, lane: Lane, shared: &Shared) {
        if lane == Lane::Beside {
            std::mem::swap(&mut self.running, &mut self.beside);
        }
        let Some(mut loser) = self.beside.take() else { return };
        let now = shared.wiring.clock.now();
        let (times, latency) = (loser.times(self.began, now), loser.latency(now));
        loser.attempt.endpoint.endpoint().outpaced(latency, now);
        loser.release(Served::Left, now);
        self.learn(loser.attempt.place, latency);
        if let Some(trail) = &mut self.trail {
            trail.attempt(&loser.attempt, times, AttemptResult::Outpaced);
        }
    }

    /// A request was waited for so long, for the head of an answer: those that may be hedged set the delay.
    pub(super) fn learn(&self, place: Place, took: Duration) {
        let counts = |exchange: &Exchange| exchange.hedging == Repeatable::Yes && place == Place::Own;
        if self.exchange.as_deref().is_some_and(counts)
            && let Some(hedge) = self.hedge()
        {
            hedge.record(took);
        }
    }

    /// Counts what became of a hedge, once.
    pub(super) fn hedged(&mut self, result: HedgeResult) {
        if self.hedging == Hedging::Made {
            self.hedging = Hedging::Never;
            self.count_hedge(result);
        }
    }

    fn count_hedge(&self, result: HedgeResult) {
        if let Some(handles) = self.handles() {
            handles.hedges(result).inc();
        }
    }
}
