//! What the access log will say of a request, gathered on its way.

use crate::access_log::{Attempt, AttemptResult, Record, Span, wall_clock};
use crate::config::AccessLog as Rules;
use crate::domain::endpoint::unit;
use crate::domain::name::{RegionId, RouteId};
use crate::domain::trace::TraceParent;
use crate::metrics::request::Cut;
use crate::proxy::attempts::{self, Failure};
use crate::proxy::connection::Connection;
use crate::proxy::h1::RequestHead;
use crate::proxy::policy::{Exchange, OwnAnswer};
use crate::proxy::trace::{self, Step};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// A request's words, kept past its head, and its attempts so far.
#[derive(Debug)]
pub(super) struct Trail {
    began: SystemTime,
    client: Option<IpAddr>,
    method: Method,
    uri: Uri,
    version: Version,
    user_agent: Option<HeaderValue>,
    /// What is known of its trace.
    trace: Option<TraceParent>,
    /// The span of this edge that is exported.
    span: Option<Step>,
    /// The next hop is told of it.
    handed_on: bool,
    attempts: Vec<Attempt>,
    /// The last attempt's answer was still coming when it was told.
    answering: bool,
    /// Of an answer of our own.
    request_id: Option<HeaderValue>,
    route: Option<RouteId>,
    /// What that route says of its share.
    sample: Option<u32>,
    /// Why the answer is not (wholly) an upstream's.
    cause: Option<&'static str>,
    cut: Option<Cut>,
    /// Bytes of the connection's output when the request began.
    written: u64,
}

/// The trace of a request, and what becomes of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traced {
    /// `None`: it is left alone.
    pub(super) step: Option<Step>,
    /// The next hop is told of it.
    pub(super) handed_on: bool,
    /// It is sampled, and its spans have a place to go to.
    pub(super) exported: bool,
}

/// When an attempt was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Since the request began.
    pub(super) began: Duration,
    /// Until there was a connection; `None`: a kept one, or none yet.
    pub(super) connect: Option<Duration>,
    /// So far.
    pub(super) took: Duration,
}

/// How a request has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct End<'a> {
    pub(super) connection: &'a Connection,
    pub(super) exchange: Option<&'a Exchange>,
    pub(super) served: Option<&'a RegionId>,
    pub(super) status: Option<StatusCode>,
    pub(super) received: u64,
    pub(super) written: u64,
    pub(super) took: Duration,
}

impl Trail {
    pub(super) fn new(head: &RequestHead, client: Option<IpAddr>, written: u64, trace: Traced) -> Self {
        let parts = &head.parts;
        Self {
            began: wall_clock(),
            client,
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            user_agent: parts.headers.get(header::USER_AGENT).cloned(),
            trace: trace.step.map(|step| step.own).or_else(|| trace::told(&parts.headers)),
            span: trace.step.filter(|_| trace.exported),
            handed_on: trace.handed_on,
            attempts: Vec::new(),
            answering: false,
            request_id: None,
            route: None,
            sample: None,
            cause: None,
            cut: None,
            written,
        }
    }

    /// An attempt has its answer's head, has failed, or is given up.
    pub(super) fn attempt(&mut self, attempt: &attempts::Attempt, times: Times, result: AttemptResult) {
        let (region, address) = (attempt.region.clone(), attempt.endpoint.endpoint().address());
        let Times { began, connect, took } = times;
        self.answering = matches!(result, AttemptResult::Answered(_));
        let first_byte = self.answering.then_some(took);
        self.attempts.push(Attempt { region, address, began, connect, first_byte, took, result });
    }

    /// What an attempt whose span is exported tells the next hop.
    pub(super) fn parent_of(&self, attempt: &attempts::Attempt) -> Option<(HeaderName, HeaderValue)> {
        self.span.filter(|_| self.handed_on)?.of_attempt(attempt.endpoint.endpoint().address())
    }

    pub(super) const fn is_exported(&self) -> bool {
        self.span.is_some()
    }

    /// This edge answers itself.
    pub(super) fn own_answer(&mut self, answer: &OwnAnswer, failure: Option<Failure>) {
        self.request_id = Some(answer.request_id.clone());
        self.route = answer.route.as_ref().map(|route| route.id.clone());
        self.sample = answer.route.as_ref().and_then(|route| route.policy.log_per_million);
        self.cause = Some(answer.cause.as_str(failure));
    }

    /// The answer, which had begun, is not whole.
    pub(super) fn cut(&mut self, cut: Cut) {
        self.cause = Some(cut.as_str());
        self.cut = Some(cut);
        if let Some(last) = self.attempts.last_mut().filter(|_| cut == Cut::Upstream) {
            last.result = AttemptResult::Failed(cut.as_str());
        }
    }

    /// Whether this request is one to be logged; `random` is uniform.
    pub(super) fn is_logged(&self, rules: &Rules, random: u64, end: End<'_>) -> bool {
        // Clients leave all the time; whatever else cut an answer is a failure.
        let cut = self.cut.is_some_and(|cut| cut != Cut::ClientLeft);
        let failed = cut || end.status.is_none_or(|status| status.is_server_error());
        let route = end.exchange.and_then(|exchange| exchange.route.as_ref());
        let of_route = route.map_or(self.sample, |route| route.policy.log_per_million);
        let sample = of_route.map_or(rules.sample, |share| f64::from(share) / 1e6);
        failed || sample >= 1.0 || unit(random, 0) < sample
    }

    /// The record; `query`: whether that may be told.
    pub(super) fn record(mut self, query: bool, end: End<'_>) -> Record {
        let route = end.exchange.and_then(|exchange| exchange.route.as_ref());
        if let Some(last) = self.attempts.last_mut().filter(|_| self.answering) {
            last.took = end.took.saturating_sub(last.began);
        }
        Record {
            began: self.began,
            listener: end.connection.kind.as_str(),
            client: self.client,
            remote: end.connection.remote,
            tls: end.connection.tls.clone(),
            proxied: end.connection.proxied.clone(),
            method: self.method,
            uri: self.uri,
            query,
            version: self.version,
            user_agent: self.user_agent,
            trace: self.trace,
            span: self.span.map(|step| Span { before: step.before }),
            request_id: end.exchange.map(|exchange| exchange.request_id.clone()).or(self.request_id),
            route: route.map(|route| route.id.clone()).or(self.route),
            service: end.exchange.map(|exchange| exchange.service.clone()),
            region: end.served.cloned(),
            attempts: self.attempts,
            cause: self.cause.or_else(|| end.status.is_none().then_some("client_left")),
            status: end.status.map(|status| status.as_u16()),
            received: end.received,
            sent: end.written.wrapping_sub(self.written),
            took: end.took,
        }
    }
}
