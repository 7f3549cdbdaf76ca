//! Why a request went where it went, in one header of its answer: for clients that are trusted.
//!
//! Whoever may not ask gets no answer, and nobody else sees the question: words between edges are
//! stripped on the way to services, peers and clients.

use super::{Cause, Decision, OwnAnswer, Proof, RequestHead, World};
use crate::domain::explain::{Rule, rule_of};
use crate::domain::name::{RegionId, RouteId, ServiceId};
use crate::proxy::headers;
use http::HeaderValue;

/// What is told of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    route: Option<RouteId>,
    service: Option<ServiceId>,
    rule: Rule,
}

impl Explained {
    /// `route=…; service=…; region=…; rule=…`; `region`: of the last attempt.
    pub fn value(&self, region: Option<&RegionId>) -> Option<HeaderValue> {
        let name = |name: Option<&str>| name.unwrap_or("-").to_owned();
        let text = format!(
            "route={}; service={}; region={}; rule={}",
            name(self.route.as_ref().map(RouteId::as_str)),
            name(self.service.as_ref().map(ServiceId::as_str)),
            name(region.map(RegionId::as_str)),
            self.rule.as_str()
        );
        HeaderValue::try_from(text).ok()
    }

    fn of_answer(answer: &OwnAnswer) -> Option<Self> {
        let route = answer.route.as_ref().map(|route| route.id.clone());
        let (service, rule) = match &answer.cause {
            Cause::Routed | Cause::Rejected(_) => (None, Rule::RouteAnswers),
            Cause::Unrouted if answer.status == http::StatusCode::BAD_REQUEST => (None, Rule::BadPath),
            Cause::Unrouted => (None, Rule::NoRoute),
            Cause::Unavailable(service) => (Some(service.clone()), Rule::Nowhere),
            Cause::Asked | Cause::Broken | Cause::Insecure | Cause::Refused(_) => return None,
        };
        Some(Self { route, service, rule })
    }
}

/// Adds to a decision what a client that may ask is told of it.
pub(super) fn explain(decision: &mut Decision, head: &RequestHead<'_>, world: &World<'_>) {
    let asked = head.headers.get(headers::EXPLAIN).is_some_and(|value| value == "1");
    if !asked || !(head.trusted || head.proof == Proof::Shown) {
        return;
    }
    match decision {
        Decision::Respond(answer) => {
            if let Some(value) = Explained::of_answer(answer).and_then(|told| told.value(None)) {
                answer.headers.push((headers::EXPLAIN, value));
            }
        }
        Decision::Proxy(exchange) => {
            let distance =
                |region: &RegionId| world.snapshot.regions.get(region).and_then(|region| region.distance);
            let decided = world.snapshot.services.get(&exchange.service);
            exchange.explained = decided.map(|decided| Explained {
                route: exchange.route.as_ref().map(|route| route.id.clone()),
                service: Some(exchange.service.clone()),
                rule: rule_of(decided, &distance),
            });
        }
    }
}
