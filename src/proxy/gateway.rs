//! Carries out decisions in Pingora's request phases.
//!
//! Everything that can be decided without Pingora is decided in `policy`,
//! `attempts` and `headers`; here requests are shown to them and their answers
//! acted on.

use crate::metrics::request::{Class, ListenerKind};
use crate::proxy::attempts::{Body, Failure};
use crate::proxy::connection::Connection;
use crate::proxy::headers::{self, HeaderEdits, Scheme};
use crate::proxy::policy::{self, Cause, Content, Decision, Origin, OwnAnswer, RequestHead, World};
use crate::proxy::progress::Progress;
use crate::proxy::upstream::{self, UPGRADED_IDLE, Upgrade};
use crate::proxy::{Shared, failures};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, warn};

/// Longest pause of a client that reads an answer, and idle time of kept-alive HTTP/1.1 connections.
pub(super) const CLIENT_PATIENCE: Duration = Duration::from_secs(60);

/// Carries a decision that was made on the head of an answer: try again.
const RETRY: ErrorType = ErrorType::new("TypedRefusal");

/// The one application behind every listener.
pub(super) struct Gateway {
    pub(super) shared: Arc<Shared>,
}

impl Gateway {
    /// Writes an answer of our own.
    async fn respond(&self, session: &mut Session, ctx: &Progress, answer: OwnAnswer) -> Result<()> {
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

    fn decide(&self, session: &Session, ctx: &Progress) -> Result<Decision> {
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
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Progress;

    fn new_ctx(&self) -> Progress {
        Progress::new(&self.shared)
    }

    /// No modules: answers pass unchanged.
    fn init_downstream_modules(&self, _modules: &mut pingora::modules::http::HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, _ctx: &mut Progress) -> Result<()> {
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

    async fn request_filter(&self, session: &mut Session, ctx: &mut Progress) -> Result<bool> {
        let exchange = match self.decide(session, ctx)? {
            Decision::Respond(answer) => {
                self.respond(session, ctx, answer).await?;
                return Ok(true);
            }
            Decision::Proxy(exchange) => exchange,
        };
        if !exchange.is_forwarded() {
            self.shared.wiring.metrics.entered.inc();
        }
        match ctx.begin(exchange, &self.shared) {
            None => Ok(false),
            Some(nowhere) => {
                self.respond(session, ctx, nowhere).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Progress) -> Result<Box<HttpPeer>> {
        let upgrade = if session.is_upgrade_req() { Upgrade::Asked } else { Upgrade::No };
        let peer = ctx.current().and_then(|(exchange, attempt)| {
            let service = ctx.settings.config.services.get(&exchange.service)?;
            upstream::connection(attempt, service, &ctx.settings, upgrade)
        });
        match peer {
            Some(peer) => Ok(Box::new(peer)),
            None => Error::e_explain(ErrorType::InternalError, "the region is not configured"),
        }
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Progress,
        mut e: Box<Error>,
    ) -> Box<Error> {
        if failures::local(&e) {
            e.set_retry(false);
            return e;
        }
        if let Some((_, attempt)) = ctx.current()
            && let Some(errors) = ctx.handles().and_then(|handles| handles.connect_errors(&attempt.region))
        {
            errors.inc();
        }
        let retry = ctx.failed(Failure::Connect, replayable(session), &self.shared);
        e.set_retry(retry);
        e
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Progress,
    ) -> Result<()> {
        let Some((exchange, attempt)) = ctx.current() else {
            return Error::e_explain(ErrorType::InternalError, "a request without an attempt");
        };
        edit(request, &exchange.edits)?;
        match exchange.forward_edits(attempt) {
            Some(edits) => edit(request, &edits),
            None => Ok(()),
        }
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Progress,
    ) -> Result<()> {
        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
        if !ctx.judge(head.status, &head.headers, replayable(session), &self.shared) {
            return Ok(());
        }
        let mut e = Error::new_up(RETRY);
        e.set_retry(true);
        Err(e)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Progress,
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
        ctx: &mut Progress,
        _client_reused: bool,
    ) -> Box<Error> {
        if *e.etype() == RETRY {
            return e;
        }
        let retry = match failures::of(&e, ctx.answering()) {
            Some(failure) => ctx.failed(failure, replayable(session), &self.shared),
            // The client left, or this edge failed: nothing is learned about the upstream.
            None => false,
        };
        e.set_retry(retry);
        e
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, ctx: &mut Progress) -> FailToProxy {
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

    async fn logging(&self, session: &mut Session, _e: Option<&Error>, ctx: &mut Progress) {
        ctx.ended(session.response_written().map(|head| head.status), &self.shared);
    }

    /// What matters is told by `fail_to_proxy`; a client that leaves is no error.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Progress, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Progress,
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
