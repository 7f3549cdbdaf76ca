//! Carries out what `policy` decided, from the head of a request to the end of its answer.
//!
//! ```text
//! head -> policy -> attempt -> (retry: next attempt) -> head of an answer -> relay -> outcome
//! ```
//!
//! One request is one future: no task and no queue of its own. It knows
//! sessions, not what they are made of; what is decided, is decided elsewhere.

use crate::domain::snapshot::Place;
use crate::metrics::request::{ListenerKind, Message};
use crate::proxy::attempts::Failure;
use crate::proxy::connection::Connection;
use crate::proxy::errors::Style;
use crate::proxy::h1::{Framing, RequestHead};
use crate::proxy::headers::{self, HeaderEdits, Scheme};
use crate::proxy::io::Timer;
use crate::proxy::policy::{self, Cause, Decision, Origin, TargetHost};
use crate::proxy::progress::Progress;
use crate::proxy::session::{ClientError, Downstream};
use crate::proxy::trace::{Step, Teller};
use crate::proxy::trail::{End, Traced, Trail};
use crate::proxy::trust;
use crate::proxy::upstream::h1::Exchange as Http1;
use crate::proxy::upstream::h2::Exchange as Http2;
use crate::proxy::upstream::{self, Head, Open, Upgrade, Upstream, UpstreamError, Upstreams};
use crate::proxy::{Shared, Wiring};
use http::uri::{Authority, Scheme as UriScheme};
use http::{HeaderValue, Method, StatusCode, Uri, request, response};
use pingora::upstreams::peer::Peer;
use replay::Replay;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};
use tracing::debug;
use transfer::{Broken, Patience, Transfer};

mod answer;
mod front;
mod replay;
mod transfer;
mod tunnel;

/// Serves requests; one for all connections.
pub(super) struct Pipeline {
    pub(super) shared: Arc<Shared>,
    pub(super) upstreams: Upstreams,
}

/// A request, and the client that waits for its answer.
pub(super) struct Call<'c> {
    pub(super) connection: &'c Connection,
    pub(super) down: Downstream<'c>,
    pub(super) timer: &'c mut Timer,
    method: Method,
    /// How an error of our own is told.
    style: Style,
    progress: Progress,
    replay: Replay,
    /// Bytes of the request's body that were read.
    received: u64,
    /// When the whole request has to be over; `None`: some time.
    deadline: Option<Instant>,
}

/// What goes to an upstream, besides the body.
struct Outgoing {
    parts: request::Parts,
    authority: Authority,
    framing: Framing,
    upgrade: Option<HeaderValue>,
    te_trailers: bool,
}

impl Pipeline {
    /// Serves one request to its end; whether the connection may serve another one.
    pub(super) async fn serve<'c>(
        &self,
        connection: &'c Connection,
        down: Downstream<'c>,
        head: RequestHead,
        timer: &'c mut Timer,
    ) -> bool {
        let mut progress = Progress::new(&self.shared);
        let method = head.parts.method.clone();
        let style = Style::of(head.parts.version, &head.parts.headers);
        let client = Self::client(connection, &head, &progress);
        let refused = front::refused(connection, client.as_ref(), &head);
        let mut decision = match refused {
            Some(answer) => Decision::Respond(answer),
            None => self.decide(client.as_ref(), &head, &progress),
        };
        let traced = self.trace(connection, &head, &mut decision, &progress);
        if traced.exported || self.is_logged(&decision, &progress) {
            let address = client.map_or(connection.remote.map(|remote| remote.ip()), |client| client.address);
            progress.trail = Some(Box::new(Trail::new(&head, address, down.written(), traced)));
        }
        let mut call = Call {
            connection,
            down,
            timer,
            method,
            style,
            progress,
            replay: Replay::new(),
            received: 0,
            deadline: None,
        };
        let status = match decision {
            Decision::Respond(answer) => Box::pin(self.respond(&mut call, answer)).await,
            Decision::Proxy(exchange) => {
                if !exchange.is_forwarded() {
                    self.shared.wiring.metrics.entered.inc();
                }
                call.deadline = exchange.timeouts.request.map(|whole| Instant::now() + whole);
                match call.progress.begin(exchange, &self.shared) {
                    Some(nowhere) => Box::pin(self.respond(&mut call, nowhere)).await,
                    None => self.proxy(&mut call, head).await,
                }
            }
        };
        call.progress.ended(status, &self.shared);
        self.log(&mut call, status);
        call.down.finish().await
    }

    /// Whether a request may be logged: health checks and probes are not.
    fn is_logged(&self, decision: &Decision, progress: &Progress) -> bool {
        let asked = matches!(decision, Decision::Respond(answer) if answer.cause == Cause::Asked);
        !asked && self.shared.wiring.access_log.is_some() && progress.settings.config.access_log.is_some()
    }

    /// Finds the place of a request in its trace, and tells the next hop.
    fn trace(
        &self,
        connection: &Connection,
        head: &RequestHead,
        decision: &mut Decision,
        progress: &Progress,
    ) -> Traced {
        let config = &progress.settings.config;
        let asked = matches!(decision, Decision::Respond(answer) if answer.cause == Cause::Asked);
        let Some(rules) = config.tracing.as_ref().filter(|_| !asked) else { return Traced::default() };
        let remote = connection.remote.map(|remote| remote.ip());
        let trusted = connection.kind == ListenerKind::Peer || config.trusted_proxies.contains(remote);
        let teller = if trusted { Teller::Trusted } else { Teller::Client };
        let step = Step::new(&head.parts.headers, teller, rules, rand::random());
        let handed_on = match (decision, step) {
            (Decision::Proxy(exchange), Some(step)) => step.edit(&mut exchange.edits),
            _ => false,
        };
        let sampled = step.is_some_and(|step| step.own.sampled);
        let exported = sampled && rules.otlp.is_some() && self.shared.wiring.spans.is_some();
        Traced { step, handed_on, exported }
    }

    fn log(&self, call: &mut Call<'_>, status: Option<StatusCode>) {
        let Some(trail) = call.progress.trail.take() else { return };
        let Wiring { access_log, spans, .. } = &self.shared.wiring;
        let rules = call.progress.settings.config.access_log.as_ref();
        let end = End {
            connection: call.connection,
            exchange: call.progress.exchange.as_deref(),
            served: call.progress.served(),
            status,
            received: call.received,
            written: call.down.written(),
            took: call.progress.age(&self.shared),
        };
        let logged = rules.is_some_and(|rules| trail.is_logged(rules, rand::random(), end));
        let (log, spans) =
            (access_log.as_ref().filter(|_| logged), spans.as_ref().filter(|_| trail.is_exported()));
        if log.is_none() && spans.is_none() {
            return;
        }
        let record = Arc::new(trail.record(rules.is_some_and(|rules| rules.query), end));
        if let Some(spans) = spans {
            spans.export(Arc::clone(&record));
        }
        if let Some(log) = log {
            log.record(record);
        }
    }

    /// Who asks; `None`: another region.
    fn client(connection: &Connection, head: &RequestHead, progress: &Progress) -> Option<trust::Client> {
        if connection.kind == ListenerKind::Peer {
            return None;
        }
        let scheme = if connection.is_secure() { Scheme::Https } else { Scheme::Http };
        let trusted = &progress.settings.config.trusted_proxies;
        let remote = connection.remote.map(|remote| remote.ip());
        Some(trust::client(remote, scheme, &head.parts.headers, trusted))
    }

    fn decide(&self, client: Option<&trust::Client>, head: &RequestHead, progress: &Progress) -> Decision {
        let parts = &head.parts;
        let origin = client.map_or(Origin::Peer, |c| Origin::Client { address: c.address, scheme: c.scheme });
        let head = policy::RequestHead {
            method: &parts.method,
            version: parts.version,
            authority: parts.uri.authority().map_or("", Authority::as_str),
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            length: head.framing.length(),
            headers: &parts.headers,
            forwarded_for: client.and_then(|client| client.forwarded_for.as_deref()),
        };
        let snapshot = self.shared.wiring.snapshot.load();
        let settings = &progress.settings;
        let world = policy::World {
            snapshot: &snapshot,
            services: &settings.config.services,
            guards: &settings.guards,
            now: self.shared.wiring.clock.now(),
        };
        let random = policy::Random { routing: rand::random(), split: rand::random(), id: rand::random() };
        policy::decide(head, origin, world, random)
    }

    /// Sends a request to one upstream after the other, and an answer back; its status.
    async fn proxy(&self, call: &mut Call<'_>, head: RequestHead) -> Option<StatusCode> {
        let Some(out) = outgoing(head, &mut call.progress) else {
            return Box::pin(self.fail(call, None)).await;
        };
        loop {
            let broken = match self.attempt(call, &out).await {
                Ok((Head::Switching { parts, upgrade: Some(protocol) }, transfer)) => {
                    self.judge(call, &parts);
                    return Box::pin(self.switch(call, parts, &protocol, transfer.into_upstream())).await;
                }
                Ok((Head::Final { parts, framing }, transfer)) => {
                    if self.judge(call, &parts) {
                        continue;
                    }
                    return self.relay(call, parts, framing, transfer).await;
                }
                Ok(_) => UpstreamError::Nonsense,
                Err(Broken::Client(e)) => return Box::pin(self.lost(call, e)).await,
                Err(Broken::Upstream(e)) => e,
            };
            if let UpstreamError::Malformed(malformed) = broken {
                self.shared.malformed(Message::Answer, malformed);
            }
            let body = call.replay.body();
            let overdue = call.deadline.is_some_and(|at| at <= Instant::now());
            let retry = broken.failure().is_some_and(|failure| {
                count_connect(failure, &call.progress);
                call.progress.failed(failure, body, &self.shared)
            });
            if !retry || overdue {
                return Box::pin(self.fail(call, Some(broken))).await;
            }
        }
    }

    /// Whether an answer is not for the client: the next attempt is current then.
    fn judge(&self, call: &mut Call<'_>, parts: &response::Parts) -> bool {
        call.progress.judge(parts.status, &parts.headers, call.replay.body(), &self.shared)
    }

    /// One attempt, to the head of its answer.
    ///
    /// A kept connection that ends before a byte of an answer was being closed while the request
    /// was on its way. That is no failure of the endpoint: a fresh connection is tried, once.
    async fn attempt(&self, call: &mut Call<'_>, out: &Outgoing) -> Result<(Head, Transfer), Broken> {
        let local = Broken::Upstream(UpstreamError::Local);
        let upgrade = if out.upgrade.is_some() { Upgrade::Asked } else { Upgrade::No };
        let (exchange, attempt) = call.progress.current().ok_or(local)?;
        let settings = &call.progress.settings;
        let target = upstream::target(attempt, exchange, settings, upgrade).ok_or(local)?;
        let mut forward = exchange.forward_edits(attempt);
        if let Some(parent) = call.progress.trail.as_ref().and_then(|trail| trail.parent_of(attempt)) {
            forward.get_or_insert_default().set.push(parent);
        }
        let patience = Patience {
            first_byte: target.first_byte,
            between_bytes: target.between_bytes,
            sender: front::sender(call),
            reader: call.connection.door.bounds.pace,
            whole: call.deadline,
        };
        let mut fresh = false;
        loop {
            let asked = Instant::now();
            let opening = self.upstreams.open(&target, fresh);
            let open = match call.deadline {
                None => opening.await,
                Some(at) => timeout_at(at, opening).await.unwrap_or(Err(UpstreamError::Deadline)),
            };
            let open = open.map_err(Broken::Upstream)?;
            let reused = matches!(open, Open::Http1 { reused: true, .. });
            if let Some(trail) = call.progress.trail.as_mut().filter(|_| open.is_new()) {
                trail.connected(asked.elapsed());
            }
            let up = begin(open, out, forward.clone()).map_err(Broken::Upstream)?;
            let mut transfer = Transfer::new(up, patience);
            match transfer.head(call).await {
                Ok(head) => return Ok((head, transfer)),
                Err(Broken::Upstream(UpstreamError::Closed))
                    if reused && !transfer.answered() && may_repeat(call) =>
                {
                    fresh = true;
                }
                Err(e) => {
                    if e == Broken::Client(ClientError::Gone) && transfer.is_sent() {
                        call.progress.left(&self.shared);
                    }
                    return Err(e);
                }
            }
        }
    }

    /// The answer's head and body to the client; its status.
    async fn relay(
        &self,
        call: &mut Call<'_>,
        mut parts: response::Parts,
        framing: Framing,
        mut transfer: Transfer,
    ) -> Option<StatusCode> {
        headers::strip_answer(&mut parts.headers);
        self.sign(call, &mut parts);
        edit_answer(call, &mut parts);
        let status = parts.status;
        let sent = match call.down.start(&parts, framing, !self.shared.draining()) {
            Ok(()) => transfer.relay(call).await,
            Err(e) => Err(Broken::Client(e)),
        };
        match sent {
            Ok(()) => self.upstreams.finish(transfer.into_upstream()),
            Err(Broken::Client(e)) => debug!(?e, "a client left in the middle of its answer"),
            Err(Broken::Upstream(e)) => {
                debug!(?e, "an upstream broke in the middle of its answer");
                call.down.abort();
                let body = call.replay.body();
                call.progress.failed(Failure::Late, body, &self.shared);
            }
        }
        Some(status)
    }

    /// A 101 to the client, and then whatever the two have to say.
    async fn switch(
        &self,
        call: &mut Call<'_>,
        mut parts: response::Parts,
        protocol: &HeaderValue,
        upstream: Upstream,
    ) -> Option<StatusCode> {
        let Upstream::H1 { exchange, .. } = upstream else { return None };
        headers::strip_answer(&mut parts.headers);
        self.sign(call, &mut parts);
        edit_answer(call, &mut parts);
        let client = call.down.switch(&parts, protocol)?;
        let mut upstream = exchange.into_conn();
        if let Err(error) = tunnel::tunnel(client, &mut upstream, call.timer).await {
            debug!(%error, "an upgraded connection broke");
        }
        Some(parts.status)
    }
}

/// What goes out: the request with its edits; `None`: it names no host that can be asked for.
fn outgoing(head: RequestHead, progress: &mut Progress) -> Option<Outgoing> {
    let RequestHead { mut parts, framing, upgrade, te_trailers, .. } = head;
    // They are for every attempt, and said once.
    std::mem::take(&mut progress.exchange.as_mut()?.edits).apply(&mut parts.headers);
    let (exchange, attempt) = progress.current()?;
    let endpoint = || attempt.endpoint.endpoint().address().to_string().parse().ok();
    let authority = match (&exchange.target.host, parts.uri.authority()) {
        (TargetHost::Fixed(authority), _) => authority.clone(),
        (TargetHost::Upstream, _) if attempt.place == Place::Own => endpoint()?,
        (_, Some(authority)) => authority.clone(),
        // HTTP/1.0 may leave it out; the next hop may not.
        (_, None) => endpoint()?,
    };
    if let Some(path_and_query) = &exchange.target.path_and_query {
        parts.uri = Uri::from(path_and_query.clone());
    }
    Some(Outgoing { parts, authority, framing, upgrade, te_trailers })
}

/// The last word on an answer is the route's.
fn edit_answer(call: &mut Call<'_>, parts: &mut response::Parts) {
    if let Some(cookie) = call.progress.set_cookie() {
        parts.headers.append(http::header::SET_COOKIE, cookie);
    }
    if let Some(exchange) = &mut call.progress.exchange {
        std::mem::take(&mut exchange.response_edits).apply(&mut parts.headers);
    }
}

/// Begins an exchange; the head is written with the first piece of the body.
fn begin(open: Open, out: &Outgoing, forward: Option<HeaderEdits>) -> Result<Upstream, UpstreamError> {
    let edited = forward.map(|edits| {
        let mut parts = out.parts.clone();
        edits.apply(&mut parts.headers);
        parts
    });
    match open {
        Open::Http1 { conn, home, .. } => {
            let outgoing = upstream::h1::Outgoing {
                parts: edited.as_ref().unwrap_or(&out.parts),
                authority: &out.authority,
                framing: out.framing,
                upgrade: out.upgrade.as_ref(),
                te_trailers: out.te_trailers,
            };
            Ok(Upstream::H1 { exchange: Http1::begin(conn, &outgoing), home })
        }
        Open::Http2 { session, peer, .. } => {
            let mut parts = edited.unwrap_or_else(|| out.parts.clone());
            let mut uri = std::mem::take(&mut parts.uri).into_parts();
            let encrypted = Peer::tls(peer.as_ref());
            uri.scheme = Some(if encrypted { UriScheme::HTTPS } else { UriScheme::HTTP });
            uri.authority = Some(out.authority.clone());
            parts.uri = Uri::from_parts(uri).map_err(|_| UpstreamError::Local)?;
            if let Framing::Length(length) = out.framing {
                parts.headers.insert(http::header::CONTENT_LENGTH, length.into());
            }
            if out.te_trailers {
                parts.headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
            }
            Ok(Upstream::H2(Box::new(Http2::begin(*session, peer, parts, out.framing)?)))
        }
    }
}

/// Whether a request that may have been carried out can be sent again.
fn may_repeat(call: &Call<'_>) -> bool {
    call.method.is_idempotent() && call.replay.body() == crate::proxy::attempts::Body::Replayable
}

/// Counts connections that failed, by region.
fn count_connect(failure: Failure, progress: &Progress) {
    if failure != Failure::Connect {
        return;
    }
    let Some((_, attempt)) = progress.current() else { return };
    if let Some(errors) = progress.handles().and_then(|handles| handles.connect_errors(&attempt.region)) {
        errors.inc();
    }
}
