//! How far a request has come, and what its attempts tell the core.
//!
//! An attempt ends in exactly one outcome, except when the client left or this
//! edge itself failed: then nothing is learned about the upstream.

use crate::domain::fleet::{Outcome, OutcomeResult};
use crate::domain::name::RegionId;
use crate::domain::snapshot::Place;
use crate::domain::time::Time;
use crate::metrics::request::{Class, RetryReason, ServiceHandles};
use crate::proxy::Shared;
use crate::proxy::activity::Guard;
use crate::proxy::attempts::{Attempt, Body, Failure, Verdict};
use crate::proxy::headers;
use crate::proxy::policy::{Exchange, OwnAnswer};
use crate::proxy::settings::Settings;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;
use tracing::debug;

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
    _in_flight: Guard,
}

/// The current attempt.
struct Running {
    attempt: Attempt,
    began: Time,
    phase: Phase,
}

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No head of an answer yet.
    Waiting,
    /// A good head came; the outcome is told at the end.
    Answering,
    /// The outcome was told.
    Told,
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
        let exchange = self.exchange.insert(exchange);
        let Some(first) = exchange.attempts.next(rand::random(), self.began) else {
            return Some(exchange.give_up(None));
        };
        self.start(first, shared);
        None
    }

    fn start(&mut self, attempt: Attempt, shared: &Shared) {
        if let Some(handles) = self.handles() {
            handles.attempts.inc();
        }
        if attempt.place == Place::Own && !self.own_asked {
            self.own_asked = true;
            shared.wiring.metrics.served.inc();
        }
        let began = shared.wiring.clock.now();
        self.running = Some(Running { attempt, began, phase: Phase::Waiting });
    }

    /// Tells the core how the current attempt went, once.
    fn tell(&mut self, result: OutcomeResult, shared: &Shared) {
        let Some((exchange, running)) = self.exchange.as_ref().zip(self.running.as_mut()) else { return };
        if running.phase == Phase::Told {
            return;
        }
        running.phase = Phase::Told;
        let outcome = Outcome {
            service: exchange.service.clone(),
            region: running.attempt.region.clone(),
            address: running.attempt.endpoint.endpoint().address(),
            result,
        };
        if shared.wiring.outcomes.try_send(outcome).is_err() {
            shared.wiring.metrics.outcomes_dropped.inc();
        }
    }

    /// Takes in a failed attempt; `true`: the next one is current now.
    pub(super) fn failed(&mut self, failure: Failure, body: Body, shared: &Shared) -> bool {
        let now = shared.wiring.clock.now();
        if let Some(running) = &self.running {
            let endpoint = running.attempt.endpoint.endpoint();
            let took = now.since(running.began);
            match failure {
                // A refusing peer is well; it only has no room.
                Failure::Refused => endpoint.succeeded(took, now),
                _ => endpoint.failed(took, now),
            }
            debug!(address = %endpoint.address(), region = %running.attempt.region, ?failure, "attempt failed");
        }
        let refused = failure == Failure::Refused;
        self.tell(if refused { OutcomeResult::Refused } else { OutcomeResult::Failure }, shared);
        self.failure = Some(failure);
        self.retry(failure, body, now, shared).is_some()
    }

    fn retry(&mut self, failure: Failure, body: Body, now: Time, shared: &Shared) -> Option<RetryReason> {
        let attempts = &mut self.exchange.as_mut()?.attempts;
        let Verdict::Retry(reason) = attempts.failed(failure, body) else { return None };
        let next = attempts.next(rand::random(), now)?;
        if let Some(handles) = self.handles() {
            handles.retries(reason).inc();
        }
        self.start(next, shared);
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
        let Some(running) = self.running.as_mut() else { return false };
        let typed = running.attempt.place == Place::Peer
            && status == StatusCode::SERVICE_UNAVAILABLE
            && head.contains_key(headers::REFUSED);
        if typed {
            return self.failed(Failure::Refused, body, shared);
        }
        let now = shared.wiring.clock.now();
        let (endpoint, took) = (running.attempt.endpoint.endpoint(), now.since(running.began));
        self.served = Some(running.attempt.region.clone());
        if matches!(status.as_u16(), 502..=504) {
            endpoint.failed(took, now);
            self.tell(OutcomeResult::Failure, shared);
        } else {
            endpoint.succeeded(took, now);
            running.phase = Phase::Answering;
        }
        false
    }

    /// The request has ended; `status`: of the answer that the client got, if any.
    pub(super) fn ended(&mut self, status: Option<StatusCode>, shared: &Shared) {
        if self.running.as_ref().is_some_and(|running| running.phase == Phase::Answering) {
            self.tell(OutcomeResult::Success, shared);
        }
        let Some(handles) = self.handles() else { return };
        let class = status.map_or(Class::None, |status| Class::of(status.as_u16()));
        handles.requests(self.served.as_ref(), class).inc();
        handles.duration.observe(shared.wiring.clock.now().since(self.began).as_secs_f64());
    }
}
