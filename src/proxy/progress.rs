//! How far a request has come, and what its attempts tell the core.
//!
//! An attempt ends in exactly one outcome, except when the client left or this
//! edge itself failed: then nothing is learned about the upstream.

use crate::access_log::AttemptResult;
use crate::domain::fleet::{Outcome, OutcomeResult, OutcomeRun};
use crate::domain::limit::concurrency::{Permit, Served, Shed};
use crate::domain::name::RegionId;
use crate::domain::snapshot::Place;
use crate::domain::time::Time;
use crate::metrics::request::{Class, Cut, HedgeResult, RetryReason, ServiceHandles};
use crate::proxy::Shared;
use crate::proxy::activity::Guard;
use crate::proxy::attempts::{Attempt, Body, Failure, Verdict};
use crate::proxy::headers;
use crate::proxy::policy::{Exchange, OwnAnswer};
use crate::proxy::settings::Settings;
use crate::proxy::trail::{Times, Trail};
use hedge::{Hedging, Made};
use http::{HeaderMap, HeaderValue, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tracing::debug;

mod counts;
mod hedge;

pub(super) use hedge::Lane;

/// What is known of a request on its way.
pub(super) struct Progress {
    began: Time,
    pub(super) settings: Arc<Settings>,
    pub(super) exchange: Option<Box<Exchange>>,
    running: Option<Running>,
    /// The last failed attempt, which picks the status of our own answer.
    pub(super) failure: Option<Failure>,
    /// The region whose answer goes to the client; `None`: this edge's own answer.
    served: Option<RegionId>,
    /// Own endpoints were asked for: counted once a request.
    own_asked: bool,
    /// The attempt that runs beside the current one, because that was slow.
    beside: Option<Running>,
    hedging: Hedging,
    /// `Some`: the request may be logged.
    pub(super) trail: Option<Box<Trail>>,
    _in_flight: Guard,
}

/// An attempt under way.
struct Running {
    attempt: Attempt,
    began: Time,
    /// What its connection took; `None`: a kept one, or none yet.
    connect: Option<Duration>,
    /// How long the client took to send its body: no time of the upstream's.
    upload: Duration,
    phase: Phase,
    made: Made,
    /// Counts it as in flight at the own endpoints of its service.
    permit: Option<Permit>,
}

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No head of an answer yet.
    Waiting,
    /// A good head came, after so long; the outcome is told at the end.
    Answering { latency: Duration },
    /// The outcome was told, or there is none.
    Told,
}

impl Running {
    const fn new(attempt: Attempt, began: Time, made: Made, permit: Option<Permit>) -> Self {
        let (connect, upload, phase) = (None, Duration::ZERO, Phase::Waiting);
        Self { attempt, began, connect, upload, phase, made, permit }
    }

    fn times(&self, request: Time, now: Time) -> Times {
        Times { began: self.began.since(request), connect: self.connect, took: now.since(self.began) }
    }

    /// How long the upstream had the request.
    fn latency(&self, now: Time) -> Duration {
        now.since(self.began).saturating_sub(self.upload)
    }

    fn release(&mut self, served: Served, now: Time) {
        if let Some(mut permit) = self.permit.take() {
            permit.leave_out(self.upload);
            permit.release(served, now);
        }
    }
}

impl Progress {
    /// The head of a request has arrived.
    pub(super) fn new(shared: &Shared) -> Self {
        Self {
            began: shared.wiring.clock.now(),
            settings: shared.settings.load_full(),
            exchange: None,
            running: None,
            failure: None,
            served: None,
            own_asked: false,
            beside: None,
            hedging: Hedging::Never,
            trail: None,
            _in_flight: shared.request(),
        }
    }

    /// The handles of the service in question, once there is one.
    pub(super) fn handles(&self) -> Option<&ServiceHandles> {
        self.settings.handles.service(&self.exchange.as_ref()?.service)
    }

    /// The current attempt and what it is for.
    pub(super) fn current(&self) -> Option<(&Exchange, &Attempt)> {
        self.exchange.as_deref().zip(self.running.as_ref().map(|running| &running.attempt))
    }

    /// Takes up an exchange; `Some`: there is nowhere to send the request to.
    pub(super) fn begin(&mut self, exchange: Box<Exchange>, shared: &Shared) -> Option<OwnAnswer> {
        if let Some(guards) = self.settings.guards.service(&exchange.service) {
            guards.retries.deposit(self.began);
        }
        self.hedging = self.hedging_of(&exchange);
        let exchange = self.exchange.insert(exchange);
        if !exchange.is_forwarded()
            && let Some(handles) = self.settings.handles.service(&exchange.service)
        {
            handles.entered.inc();
        }
        let Some(first) = exchange.attempts.next(rand::random(), self.began) else {
            return Some(exchange.give_up(None));
        };
        let Ok(permit) = self.admit(first.place, self.began) else {
            self.count_shed();
            return self.exchange.as_ref().map(|exchange| exchange.shed());
        };
        self.start(first, permit, shared);
        None
    }

    /// Room for another request where this attempt goes; `None`: it needs none.
    fn admit(&self, place: Place, now: Time) -> Result<Option<Permit>, Shed> {
        let Some(exchange) = self.exchange.as_ref().filter(|_| place == Place::Own) else {
            return Ok(None);
        };
        let guards = self.settings.guards.service(&exchange.service);
        let Some(limiter) = guards.and_then(|guards| guards.concurrency.as_ref()) else { return Ok(None) };
        if let Some(handles) = self.settings.handles.service(&exchange.service) {
            handles.concurrency_limit.set(limiter.limit().into());
        }
        limiter.try_acquire(exchange.priority, now).map(Some)
    }

    /// Another attempt is paid for by the traffic of the service. A peer that refused is asked
    /// for little and says so at once, a busy endpoint is not asked: going on costs nothing.
    fn may_retry(&self, failure: Failure, now: Time) -> bool {
        let guards = self.exchange.as_ref().and_then(|e| self.settings.guards.service(&e.service));
        let costs_nothing = matches!(failure, Failure::Refused | Failure::Busy);
        if costs_nothing || guards.is_none_or(|guards| guards.retries.try_withdraw(now)) {
            return true;
        }
        if let Some(handles) = self.handles() {
            handles.retries_denied.inc();
        }
        false
    }

    fn start(&mut self, attempt: Attempt, permit: Option<Permit>, shared: &Shared) {
        if let Some(handles) = self.handles() {
            handles.attempts.inc();
        }
        if attempt.place == Place::Own && !self.own_asked {
            self.own_asked = true;
            shared.wiring.metrics.served.inc();
            if let Some(handles) = self.handles() {
                handles.served.inc();
            }
        }
        let began = shared.wiring.clock.now();
        self.running = Some(Running::new(attempt, began, Made::InTurn, permit));
    }

    /// Tells the core how the current attempt went, once.
    fn tell(&mut self, result: OutcomeResult, shared: &Shared) {
        let Some((exchange, running)) = self.exchange.as_ref().zip(self.running.as_mut()) else { return };
        if running.phase == Phase::Told {
            return;
        }
        let latency = match running.phase {
            Phase::Answering { latency } if result == OutcomeResult::Success => latency,
            _ => Duration::ZERO,
        };
        running.phase = Phase::Told;
        let outcome = Outcome {
            service: exchange.service.clone(),
            region: running.attempt.region.clone(),
            address: running.attempt.endpoint.endpoint().address(),
            result,
        };
        if shared.wiring.outcomes.try_send(OutcomeRun::one(outcome, latency)).is_err() {
            shared.wiring.metrics.outcomes_dropped.inc();
        }
    }

    /// Takes in a failed attempt; `true`: the next one is current now.
    pub(super) fn failed(&mut self, failure: Failure, body: Body, shared: &Shared) -> bool {
        let now = shared.wiring.clock.now();
        self.note(failure, now, shared);
        self.retry(failure, body, now, shared).is_some()
    }

    /// Takes note of how the current attempt failed.
    fn note(&mut self, failure: Failure, now: Time, shared: &Shared) {
        self.failure = Some(failure);
        if failure == Failure::Connect {
            self.count_connect();
        }
        if let Some(running) = &mut self.running {
            let endpoint = running.attempt.endpoint.endpoint();
            let (times, latency) = (running.times(self.began, now), running.latency(now));
            match failure {
                // It had no time to fail in, or was not asked: nothing is learned, and nobody is told.
                Failure::Deadline | Failure::Busy => running.phase = Phase::Told,
                // A refusing peer is well; it only has no room.
                Failure::Refused => endpoint.succeeded(latency, now),
                _ => endpoint.failed(latency, now),
            }
            // Those whose head has come are told already.
            let told = matches!(failure, Failure::Late | Failure::Status);
            if let Some(trail) = self.trail.as_mut().filter(|_| !told) {
                trail.attempt(&running.attempt, times, AttemptResult::Failed(failure.as_str()));
            }
            debug!(address = %endpoint.address(), region = %running.attempt.region, ?failure, "attempt failed");
            running.release(load_of(failure), now);
        }
        match failure {
            Failure::Deadline | Failure::Busy => {}
            Failure::Refused => self.tell(OutcomeResult::Refused, shared),
            _ => self.tell(OutcomeResult::Failure, shared),
        }
    }

    /// The answer, which had begun, is not whole.
    pub(super) fn cut(&mut self, cut: Cut, shared: &Shared) {
        if cut == Cut::Upstream {
            self.note(Failure::Late, shared.wiring.clock.now(), shared);
        }
        if let Some(trail) = &mut self.trail {
            trail.cut(cut);
        }
        if let Some(handles) = self.handles() {
            handles.cut(cut).inc();
        }
    }

    /// Counts connections that failed, by region.
    fn count_connect(&self) {
        let Some((_, attempt)) = self.current() else { return };
        if let Some(errors) = self.handles().and_then(|handles| handles.connect_errors(&attempt.region)) {
            errors.inc();
        }
    }

    fn retry(&mut self, failure: Failure, body: Body, now: Time, shared: &Shared) -> Option<RetryReason> {
        let attempts = &mut self.exchange.as_mut()?.attempts;
        let Verdict::Retry(reason) = attempts.failed(failure, body) else { return None };
        let next = attempts.next(rand::random(), now)?;
        if !self.may_retry(failure, now) {
            return None;
        }
        let permit = self.admit(next.place, now).ok()?;
        if let Some(handles) = self.handles() {
            handles.retries(reason).inc();
        }
        self.start(next, permit, shared);
        Some(reason)
    }

    /// Takes in the head of an upstream's final answer; `true`: it is not for
    /// the client, and the next attempt is current now.
    pub(super) fn judge(
        &mut self,
        status: StatusCode,
        head: &HeaderMap,
        body: Body,
        shared: &Shared,
    ) -> bool {
        let Some(running) = &self.running else { return false };
        if is_refusal(&running.attempt, status, head) {
            return self.failed(Failure::Refused, body, shared);
        }
        let now = shared.wiring.clock.now();
        let (times, latency) = (running.times(self.began, now), running.latency(now));
        if let Some(trail) = &mut self.trail {
            trail.attempt(&running.attempt, times, AttemptResult::Answered(status.as_u16()));
        }
        if running.attempt.place == Place::Peer {
            shared.samples.first_byte(&running.attempt.region, latency);
        }
        self.learn(running.attempt.place, latency);
        let again = self.exchange.as_ref().is_some_and(|e| e.attempts.rejects(status.as_u16(), body));
        if again && self.failed(Failure::Status, body, shared) {
            return true;
        }
        let Some(running) = &self.running else { return false };
        self.served = Some(running.attempt.region.clone());
        self.count_session();
        self.hedged(match running.made {
            Made::Beside => HedgeResult::Won,
            Made::InTurn => HedgeResult::Lost,
        });
        let Some(running) = self.running.as_mut().filter(|running| running.phase != Phase::Told) else {
            return false;
        };
        let overloaded = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        let guards = self.exchange.as_ref().and_then(|e| self.settings.guards.service(&e.service));
        if guards.is_some_and(|guards| !guards.counts_to_the_end() || overloaded) {
            running.release(if overloaded { Served::Overloaded } else { Served::Answered }, now);
        }
        let endpoint = running.attempt.endpoint.endpoint();
        if matches!(status.as_u16(), 502..=504) {
            endpoint.failed(latency, now);
            self.tell(OutcomeResult::Failure, shared);
        } else {
            endpoint.succeeded(latency, now);
            running.phase = Phase::Answering { latency };
        }
        false
    }

    /// The client left while the upstream, which has the whole request, had it wait.
    pub(super) fn left(&mut self, shared: &Shared) {
        let now = shared.wiring.clock.now();
        for running in self.running.iter_mut().chain(&mut self.beside) {
            running.release(Served::Left, now);
        }
    }

    /// The request has ended; `status`: of the answer that the client got, if any.
    pub(super) fn ended(&mut self, status: Option<StatusCode>, shared: &Shared) {
        let now = shared.wiring.clock.now();
        for running in self.running.iter_mut().chain(&mut self.beside) {
            if let Some(trail) = self.trail.as_mut().filter(|_| running.phase == Phase::Waiting) {
                let times = running.times(self.began, now);
                trail.attempt(&running.attempt, times, AttemptResult::Abandoned);
            }
        }
        if self.running.as_ref().is_some_and(|running| matches!(running.phase, Phase::Answering { .. })) {
            self.tell(OutcomeResult::Success, shared);
        }
        for running in self.running.iter_mut().chain(&mut self.beside) {
            running.release(Served::Unknown, now);
        }
        self.hedged(HedgeResult::Ended);
        let Some(handles) = self.handles() else { return };
        let class = status.map_or(Class::None, |status| Class::of(status.as_u16()));
        handles.requests(self.served.as_ref(), class).inc();
        handles.duration.observe(self.age(shared).as_secs_f64());
    }

    /// The cookie that keeps the session at the own endpoint which serves it now; a peer sets its own.
    pub(super) fn set_cookie(&self) -> Option<HeaderValue> {
        let (exchange, attempt) = self.current()?;
        let sticky = exchange.sticky.as_ref().filter(|_| attempt.place == Place::Own)?;
        sticky.set_cookie(&attempt.region, attempt.endpoint.endpoint().address())
    }

    /// Since the head of the request had arrived.
    pub(super) fn age(&self, shared: &Shared) -> Duration {
        shared.wiring.clock.now().since(self.began)
    }

    /// Whose answer the client got; `None`: this edge's own.
    pub(super) const fn served(&self) -> Option<&RegionId> {
        self.served.as_ref()
    }
}

/// The typed 503 of a peer.
fn is_refusal(attempt: &Attempt, status: StatusCode, head: &HeaderMap) -> bool {
    attempt.place == Place::Peer
        && status == StatusCode::SERVICE_UNAVAILABLE
        && head.contains_key(headers::REFUSED)
}

/// What a failed attempt says of the load of whoever should have served it.
const fn load_of(failure: Failure) -> Served {
    match failure {
        Failure::Connect | Failure::Timeout => Served::Overloaded,
        _ => Served::Unknown,
    }
}
