//! What the access log will say of a request, gathered on its way.

use crate::access_log::{Attempt, AttemptResult, Record, wall_clock};
use crate::config::AccessLog as Rules;
use crate::domain::name::{RegionId, RouteId};
use crate::proxy::attempts::{self, Failure, unit};
use crate::proxy::connection::Connection;
use crate::proxy::h1::RequestHead;
use crate::proxy::headers::trace_id;
use crate::proxy::policy::{Exchange, OwnAnswer};
use http::{HeaderValue, Method, StatusCode, Uri, Version, header};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// A request's words, kept past its head, and its attempts so far.
#[derive(Debug)]
pub(super) struct Trail {
    began: SystemTime,
    client: IpAddr,
    method: Method,
    uri: Uri,
    version: Version,
    user_agent: Option<HeaderValue>,
    trace_id: Option<String>,
    attempts: Vec<Attempt>,
    /// Of an answer of our own.
    request_id: Option<HeaderValue>,
    route: Option<RouteId>,
    /// Why the answer is not (wholly) an upstream's.
    cause: Option<&'static str>,
    /// Bytes of the connection's output when the request began.
    written: u64,
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
    pub(super) fn new(head: &RequestHead, client: IpAddr, written: u64) -> Self {
        let parts = &head.parts;
        Self {
            began: wall_clock(),
            client,
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            user_agent: parts.headers.get(header::USER_AGENT).cloned(),
            trace_id: trace_id(&parts.headers).map(str::to_owned),
            attempts: Vec::new(),
            request_id: None,
            route: None,
            cause: None,
            written,
        }
    }

    /// An attempt has its answer's head, has failed, or is given up.
    pub(super) fn attempt(&mut self, attempt: &attempts::Attempt, took: Duration, result: AttemptResult) {
        let (region, address) = (attempt.region.clone(), attempt.endpoint.endpoint().address());
        self.attempts.push(Attempt { region, address, took, result });
    }

    /// This edge answers itself.
    pub(super) fn own_answer(&mut self, answer: &OwnAnswer, failure: Option<Failure>) {
        self.request_id = Some(answer.request_id.clone());
        self.route = answer.route.as_ref().map(|route| route.id.clone());
        self.cause = Some(answer.cause.as_str(failure));
    }

    /// The last attempt, whose answer had begun, broke.
    pub(super) fn cut(&mut self) {
        self.cause = Some(Failure::Late.as_str());
        if let Some(last) = self.attempts.last_mut() {
            last.result = AttemptResult::Failed(Failure::Late.as_str());
        }
    }

    /// The record, if this request is one to be logged; `random` is uniform.
    pub(super) fn record(self, rules: &Rules, random: u64, end: End<'_>) -> Option<Record> {
        let failed = end.status.is_none_or(|status| status.is_server_error());
        if !failed && rules.sample < 1.0 && unit(random, 0) >= rules.sample {
            return None;
        }
        Some(Record {
            began: self.began,
            listener: end.connection.kind.as_str(),
            client: self.client,
            remote: end.connection.remote,
            tls: end.connection.tls.clone(),
            method: self.method,
            uri: self.uri,
            query: rules.query,
            version: self.version,
            user_agent: self.user_agent,
            trace_id: self.trace_id,
            request_id: end.exchange.map(|exchange| exchange.request_id.clone()).or(self.request_id),
            route: end.exchange.and_then(|exchange| Some(exchange.route.as_ref()?.id.clone())).or(self.route),
            service: end.exchange.map(|exchange| exchange.service.clone()),
            region: end.served.cloned(),
            attempts: self.attempts,
            cause: self.cause.or_else(|| end.status.is_none().then_some("client_left")),
            status: end.status.map(|status| status.as_u16()),
            received: end.received,
            sent: end.written.wrapping_sub(self.written),
            took: end.took,
        })
    }
}
