//! Carries out decisions in Pingora's request phases.
//!
//! Everything that can be decided without Pingora is decided in `policy`,
//! `attempts` and `headers`; here requests are shown to them and their answers
//! acted on. An attempt ends in exactly one outcome for the core, except when
//! the client left or this edge itself failed.

use crate::domain::fleet::{Outcome, OutcomeResult};
use crate::domain::snapshot::Place;
use crate::domain::time::Time;
use crate::metrics::request::{Class, ListenerKind, RetryReason, ServiceHandles};
use crate::proxy::activity::Guard;
use crate::proxy::attempts::{Attempt, Body, Failure, Verdict};
use crate::proxy::connection::Connection;
use crate::proxy::headers::{self, HeaderEdits, Scheme};
use crate::proxy::policy::{self, Cause, Content, Decision, Exchange, Origin, OwnAnswer, RequestHead, World};
use crate::proxy::settings::Settings;
use crate::proxy::upstream::{self, UPGRADED_IDLE, Upgrade};
use crate::proxy::{Shared, failures};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, warn};

/// Longest pause of a client that reads an answer, and idle time of kept-alive HTTP/1.1 connections.
pub(super) const CLIENT_PATIENCE: Duration = Duration::from_secs(60);

/// The one application behind every listener.
pub(super) struct Gateway {
    pub(super) shared: Arc<Shared>,
}

/// What is known of a request between phases.
pub(super) struct Context {
    began: Time,
    settings: Arc<Settings>,
    exchange: Option<Box<Exchange>>,
    running: Option<Running>,
    /// The last failed attempt, which picks the status of our own answer.
    failure: Option<Failure>,
    /// A retry was decided on the answer's head; the error that carries it says so.
    retry_decided: bool,
    /// The attempt whose answer went to the client came from a region, not from us.
    served: Option<crate::domain::name::RegionId>,
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

impl Context {
    /// The handles of the service in question, once there is one.
    fn handles(&self) -> Option<&ServiceHandles> {
        self.settings.handles.service(&self.exchange.as_ref()?.service)
    }
}

impl Gateway {
    fn start(&self, ctx: &mut Context, attempt: Attempt) {
        if let Some(handles) = ctx.handles() {
            handles.attempts.inc();
        }
        if attempt.place == Place::Own && !ctx.own_asked {
            ctx.own_asked = true;
            self.shared.wiring.metrics.served.inc();
        }
        let began = self.shared.wiring.clock.now();
        ctx.running = Some(Running { attempt, began, phase: Phase::Waiting });
    }

    /// Tells the core how the current attempt went, once.
    fn tell(&self, ctx: &mut Context, result: OutcomeResult) {
        let Some((exchange, running)) = ctx.exchange.as_ref().zip(ctx.running.as_mut()) else { return };
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
        if self.shared.wiring.outcomes.try_send(outcome).is_err() {
            self.shared.wiring.metrics.outcomes_dropped.inc();
        }
    }

    /// Takes in a failed attempt and says whether another one follows.
    fn attempt_failed(&self, ctx: &mut Context, failure: Failure, body: Body) -> Option<RetryReason> {
        let now = self.shared.wiring.clock.now();
        if let Some(running) = &ctx.running {
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
        self.tell(ctx, if refused { OutcomeResult::Refused } else { OutcomeResult::Failure });
        ctx.failure = Some(failure);
        let exchange = ctx.exchange.as_mut()?;
        let Verdict::Retry(reason) = exchange.attempts.failed(failure, body) else { return None };
        let next = exchange.attempts.next(rand::random(), now)?;
        if let Some(handles) = ctx.handles() {
            handles.retries(reason).inc();
        }
        self.start(ctx, next);
        Some(reason)
    }

    /// Writes an answer of our own.
    async fn respond(&self, session: &mut Session, ctx: &Context, answer: OwnAnswer) -> Result<()> {
        let metrics = &self.shared.wiring.metrics;
        match &answer.cause {
            Cause::Unrouted => metrics.unrouted.inc(),
            Cause::Refused(reason) => metrics.refused(*reason).inc(),
            Cause::Unavailable(service) if ctx.exchange.is_none() => {
                if let Some(handles) = ctx.settings.handles.service(service) {
                    handles.requests(None, Class::of(answer.status.as_u16())).inc();
                }
            }
            Cause::Unavailable(_) | Cause::Asked => {}
        }
        let (content_type, body) = match answer.content {
            Content::Text(text) => ("text/plain; charset=utf-8", Bytes::from(text)),
            Content::View => ("application/json", self.view()?),
        };
        let mut head = ResponseHeader::build(answer.status, Some(8))?;
        head.insert_header(http::header::CONTENT_TYPE, content_type)?;
        head.insert_header(http::header::CONTENT_LENGTH, body.len())?;
        head.insert_header(http::header::CACHE_CONTROL, "no-store")?;
        head.insert_header(headers::REQUEST_ID, answer.request_id)?;
        for (name, value) in answer.headers {
            head.insert_header(name, value)?;
        }
        self.decorate(session, &mut head)?;
        let headless = session.req_header().method == Method::HEAD;
        session.write_response_header(Box::new(head), headless).await?;
        if !headless {
            session.write_response_body(Some(body), true).await?;
        }
        Ok(())
    }

    fn view(&self) -> Result<Bytes> {
        let view = self.shared.wiring.view.load();
        let json = serde_json::to_vec(view.as_ref());
        json.map(Bytes::from).map_err(|e| Error::because(ErrorType::InternalError, "view as JSON", e))
    }

    /// What every answer gets: the end of keep-alive while draining, headroom for peers.
    fn decorate(&self, session: &mut Session, head: &mut ResponseHeader) -> Result<()> {
        if self.shared.draining() {
            session.set_keepalive(None);
        }
        if connection(session).is_some_and(|c| c.kind == ListenerKind::Peer)
            && let Some(headroom) = self.shared.wiring.view.load().headroom_rps
        {
            head.insert_header(headers::HEADROOM, format!("{headroom:.0}"))?;
        }
        Ok(())
    }

    fn decide(&self, session: &Session, ctx: &Context) -> Result<Decision> {
        let Some(connection) = connection(session) else {
            return Error::e_explain(ErrorType::InternalError, "a session without connection facts");
        };
        let address = connection.remote.ip();
        let origin = match connection.kind {
            ListenerKind::Http => Origin::Client { address, scheme: Scheme::Http },
            ListenerKind::Https => Origin::Client { address, scheme: Scheme::Https },
            ListenerKind::Peer => Origin::Peer,
        };
        let request = session.req_header();
        let host = || request.headers.get(http::header::HOST).and_then(|value| value.to_str().ok());
        let head = RequestHead {
            method: &request.method,
            version: request.version,
            // The target's authority wins over `Host`: RFC 9112 section 3.2.2, RFC 9113 section 8.3.1.
            authority: request.uri.authority().map(|a| a.as_str()).or_else(host).unwrap_or(""),
            path: request.uri.path(),
            headers: &request.headers,
        };
        let snapshot = self.shared.wiring.snapshot.load();
        let world = World { snapshot: &snapshot, services: &ctx.settings.config.services };
        let random = policy::Random { routing: rand::random(), id: rand::random() };
        Ok(policy::decide(head, origin, world, random))
    }

    /// Takes in the head of an upstream's final answer; `Some`: it is not for the client, try again.
    fn judge(&self, session: &Session, head: &ResponseHeader, ctx: &mut Context) -> Option<RetryReason> {
        let running = ctx.running.as_ref()?;
        let typed = running.attempt.place == Place::Peer
            && head.status == StatusCode::SERVICE_UNAVAILABLE
            && head.headers.contains_key(headers::REFUSED);
        if typed {
            return self.attempt_failed(ctx, Failure::Refused, replayable(session));
        }
        let now = self.shared.wiring.clock.now();
        let (endpoint, took) = (running.attempt.endpoint.endpoint(), now.since(running.began));
        ctx.served = Some(running.attempt.region.clone());
        let down = matches!(head.status.as_u16(), 502..=504);
        if down {
            endpoint.failed(took, now);
            self.tell(ctx, OutcomeResult::Failure);
        } else {
            endpoint.succeeded(took, now);
            if let Some(running) = ctx.running.as_mut() {
                running.phase = Phase::Answering;
            }
        }
        None
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context {
            began: self.shared.wiring.clock.now(),
            settings: self.shared.settings.load_full(),
            exchange: None,
            running: None,
            failure: None,
            retry_decided: false,
            served: None,
            own_asked: false,
            _in_flight: self.shared.request(),
        }
    }

    /// No modules: answers pass unchanged.
    fn init_downstream_modules(&self, _modules: &mut pingora::modules::http::HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, _ctx: &mut Context) -> Result<()> {
        if let Some(connection) = connection(session) {
            connection.head_arrived();
        }
        // Only where keep-alive is still on: Pingora turns it off for good reasons.
        if session.get_keepalive().is_some() {
            session.set_keepalive(Some(CLIENT_PATIENCE.as_secs()));
        }
        session.set_write_timeout(Some(CLIENT_PATIENCE));
        if session.is_upgrade_req() {
            session.set_read_timeout(Some(UPGRADED_IDLE));
        }
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        let mut exchange = match self.decide(session, ctx)? {
            Decision::Respond(answer) => {
                self.respond(session, ctx, answer).await?;
                return Ok(true);
            }
            Decision::Proxy(exchange) => exchange,
        };
        if !exchange.from_peer() {
            self.shared.wiring.metrics.entered.inc();
        }
        let first = exchange.attempts.next(rand::random(), ctx.began);
        let nowhere = first.is_none().then(|| exchange.give_up(None));
        ctx.exchange = Some(exchange);
        if let Some(answer) = nowhere {
            self.respond(session, ctx, answer).await?;
            return Ok(true);
        }
        if let Some(first) = first {
            self.start(ctx, first);
        }
        Ok(false)
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        let upgrade = if session.is_upgrade_req() { Upgrade::Asked } else { Upgrade::No };
        let peer = ctx.exchange.as_ref().zip(ctx.running.as_ref()).and_then(|(exchange, running)| {
            let service = ctx.settings.config.services.get(&exchange.service)?;
            upstream::connection(&running.attempt, service, &ctx.settings, upgrade)
        });
        match peer {
            Some(peer) => Ok(Box::new(peer)),
            None => Error::e_explain(ErrorType::InternalError, "the region is not configured"),
        }
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Context,
        mut e: Box<Error>,
    ) -> Box<Error> {
        if failures::local(&e) {
            e.set_retry(false);
            return e;
        }
        if let Some(running) = &ctx.running
            && let Some(errors) = ctx.handles().and_then(|h| h.connect_errors(&running.attempt.region))
        {
            errors.inc();
        }
        let body = replayable(_session);
        let retry = self.attempt_failed(ctx, Failure::Connect, body).is_some();
        e.set_retry(retry);
        e
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        peer: &HttpPeer,
        #[cfg(unix)] _fd: std::os::unix::io::RawFd,
        _digest: Option<&Digest>,
        _ctx: &mut Context,
    ) -> Result<()> {
        debug!(%peer, reused, "connected");
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        let Some((exchange, running)) = ctx.exchange.as_ref().zip(ctx.running.as_ref()) else {
            return Error::e_explain(ErrorType::InternalError, "a request without an attempt");
        };
        edit(request, &exchange.edits)?;
        match exchange.forward_edits(&running.attempt) {
            Some(edits) => edit(request, &edits),
            None => Ok(()),
        }
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
        if self.judge(session, head, ctx).is_none() {
            return Ok(());
        }
        ctx.retry_decided = true;
        let mut e = Error::new_up(ErrorType::HTTPStatus(head.status.as_u16()));
        e.set_retry(true);
        Err(e)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        let switching = head.status == StatusCode::SWITCHING_PROTOCOLS;
        for name in headers::answer_removals(&head.headers, switching) {
            head.remove_header(&name);
        }
        if head.status.is_informational() && !switching {
            return Ok(());
        }
        if let Some(exchange) = &ctx.exchange {
            head.insert_header(headers::REQUEST_ID, exchange.request_id.clone())?;
        }
        self.decorate(session, head)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut e: Box<Error>,
        ctx: &mut Context,
        _client_reused: bool,
    ) -> Box<Error> {
        if std::mem::take(&mut ctx.retry_decided) {
            return e;
        }
        let answering = ctx.running.as_ref().is_some_and(|r| r.phase != Phase::Waiting);
        let retry = match failures::of(&e, answering) {
            Some(failure) => self.attempt_failed(ctx, failure, replayable(session)).is_some(),
            // The client left, or this edge failed: nothing is learned about the upstream.
            None => false,
        };
        e.set_retry(retry);
        e
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, ctx: &mut Context) -> FailToProxy {
        let written = session.response_written().is_some_and(|head| !head.status.is_informational());
        let from_client = *e.esource() == ErrorSource::Downstream;
        let answer = match (&ctx.exchange, from_client) {
            _ if written => None,
            (_, true) if *e.etype() != ErrorType::InvalidHTTPHeader => None,
            (Some(exchange), false) => Some(exchange.give_up(ctx.failure)),
            (exchange, from_client) => {
                let id = exchange.as_ref().map(|x| x.request_id.clone());
                Some(policy::unproxied(id.unwrap_or(HeaderValue::from_static("-")), from_client))
            }
        };
        if !from_client {
            let id = ctx.exchange.as_ref().and_then(|x| x.request_id.to_str().ok()).unwrap_or("-");
            warn!(request_id = id, error = %e, answered = written, "a request failed");
        }
        let code = answer.as_ref().map_or(0, |answer| answer.status.as_u16());
        if let Some(answer) = answer
            && let Err(e) = self.respond(session, ctx, answer).await
        {
            debug!(error = %e, "the client left before its answer");
        }
        FailToProxy { error_code: code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _e: Option<&Error>, ctx: &mut Context) {
        if ctx.running.as_ref().is_some_and(|running| running.phase == Phase::Answering) {
            self.tell(ctx, OutcomeResult::Success);
        }
        let Some(handles) = ctx.handles() else { return };
        let class = session.response_written().map_or(Class::None, |head| Class::of(head.status.as_u16()));
        handles.requests(ctx.served.as_ref(), class).inc();
        let took = self.shared.wiring.clock.now().since(ctx.began);
        handles.duration.observe(took.as_secs_f64());
    }

    /// What matters is told by `fail_to_proxy`; a client that leaves is no error.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Context, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Context,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

/// What the accept loop said of the connection.
fn connection(session: &Session) -> Option<&Arc<Connection>> {
    let proxy = session.digest()?.proxy_digest.as_ref()?;
    proxy.user_data.as_ref()?.downcast_ref()
}

fn replayable(session: &Session) -> Body {
    if session.as_ref().retry_buffer_truncated() { Body::Consumed } else { Body::Replayable }
}

fn edit(request: &mut RequestHeader, edits: &HeaderEdits) -> Result<()> {
    for name in &edits.remove {
        request.remove_header(name);
    }
    for (name, value) in &edits.set {
        request.insert_header(name.clone(), value.clone())?;
    }
    Ok(())
}
