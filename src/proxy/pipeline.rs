//! Carries out what `policy` decided, from the head of a request to the end of its answer.
//!
//! ```text
//! head -> policy -> attempt -> (retry: next attempt) -> head of an answer -> relay -> outcome
//! ```
//!
//! One request is one future: no task and no queue of its own. It knows
//! sessions, not what they are made of; what is decided, is decided elsewhere.

use crate::domain::snapshot::Place;
use crate::metrics::moves::Kind;
use crate::metrics::request::{Cut, ListenerKind, Message};
use crate::proxy::attempts::Body;
use crate::proxy::connection::Connection;
use crate::proxy::errors::Style;
use crate::proxy::h1::{Framing, RequestHead};
use crate::proxy::headers::{self, Scheme};
use crate::proxy::io::Timer;
use crate::proxy::policy::{self, Cause, Decision, Origin, TargetHost};
use crate::proxy::progress::Progress;
use crate::proxy::session::{ClientError, Downstream};
use crate::proxy::trace::{Step, Teller};
use crate::proxy::trail::{End, Traced, Trail};
use crate::proxy::trust;
use crate::proxy::upstream::{Head, Upstream, UpstreamError, Upstreams};
use crate::proxy::{Shared, Wiring};
use http::uri::Authority;
use http::{HeaderValue, Method, StatusCode, Uri, request, response};
use replay::Replay;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::debug;
use transfer::{Broken, Transfer};

mod answer;
mod front;
mod race;
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
    /// The connection is to serve nobody after it: its users are led to another region.
    leaves: bool,
    /// Of a request that may become a connection of its own: the host that it is for.
    upgrading: Option<Box<str>>,
    /// Bytes of the request's body that were read.
    received: u64,
    /// When the whole request has to be over, and how long that is; `None`: some time.
    deadline: Option<(Instant, Duration)>,
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
        let refused = front::refused(connection, client.as_ref(), &head, &progress);
        let mut decision = match refused {
            Some(answer) => Decision::Respond(answer),
            None => self.decide(connection, client.as_ref(), &head, &progress),
        };
        let traced = self.trace(connection, &head, &mut decision, &progress);
        if traced.exported || self.is_logged(&decision, &progress) {
            let address = client.map_or(connection.remote.map(|remote| remote.ip()), |client| client.address);
            progress.trail = Some(Box::new(Trail::new(&head, address, down.written(), traced)));
        }
        let host = head.parts.uri.host().unwrap_or_default();
        let leaves =
            connection.kind != ListenerKind::Peer && self.shared.parting.closes(host, connection.lot);
        let upgrading = head.upgrade.is_some().then(|| host.into());
        if matches!(&decision, Decision::Proxy(exchange) if !exchange.is_forwarded()) {
            self.shared.wiring.metrics.entered.inc();
            self.shared.parting.entered(host);
        }
        let mut call = Call {
            connection,
            down,
            timer,
            method,
            style,
            progress,
            replay: Replay::new(),
            leaves,
            upgrading,
            received: 0,
            deadline: None,
        };
        let status = match decision {
            Decision::Respond(answer) => Box::pin(self.respond(&mut call, answer)).await,
            Decision::Proxy(exchange) => {
                call.deadline = exchange.timeouts.request.map(|whole| (Instant::now() + whole, whole));
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

    fn decide(
        &self,
        connection: &Connection,
        client: Option<&trust::Client>,
        head: &RequestHead,
        progress: &Progress,
    ) -> Decision {
        let parts = &head.parts;
        let origin = client.map_or(Origin::Peer, |c| Origin::Client { address: c.address, scheme: c.scheme });
        let remote = connection.remote.map(|remote| remote.ip().to_canonical());
        let trusted = progress.settings.config.trusted_proxies.contains(remote);
        let head = policy::RequestHead {
            method: &parts.method,
            version: parts.version,
            authority: parts.uri.authority().map_or("", Authority::as_str),
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            length: head.framing.length(),
            proof: connection.proof(&parts.uri, progress.settings.tls.clients.as_deref()),
            trusted: client.is_some() && trusted,
            headers: &parts.headers,
            forwarded_for: client.and_then(|client| client.forwarded_for.as_deref()),
        };
        let snapshot = self.shared.wiring.snapshot.load();
        let settings = &progress.settings;
        let now = self.shared.wiring.clock.now();
        let world = policy::World {
            snapshot: &snapshot,
            services: &settings.config.services,
            guards: &settings.guards,
            now,
            idle: self.shared.wiring.heartbeat.idle(now),
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
            self.count_broken(call, broken);
            let overdue = call.deadline.is_some_and(|(at, _)| at <= Instant::now());
            // Nothing more can come of it in time.
            let body = if overdue { Body::Consumed } else { call.replay.body() };
            let retry =
                broken.failure().is_some_and(|failure| call.progress.failed(failure, body, &self.shared));
            if !retry {
                return Box::pin(self.fail(call, Some(broken))).await;
            }
        }
    }

    /// Counts what upstreams do wrong, by its kind.
    fn count_broken(&self, call: &Call<'_>, broken: UpstreamError) {
        match broken {
            UpstreamError::Malformed(malformed) => self.shared.malformed(Message::Answer, malformed),
            UpstreamError::Distrusted(reason) => {
                if let Some(handles) = call.progress.handles() {
                    handles.distrusted(reason).inc();
                }
            }
            _ => {}
        }
    }

    /// Whether an answer is not for the client: the next attempt is current then.
    fn judge(&self, call: &mut Call<'_>, parts: &response::Parts) -> bool {
        call.progress.judge(parts.status, &parts.headers, call.replay.body(), &self.shared)
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
        Self::sign(call, &mut parts);
        edit_answer(call, &mut parts);
        let status = parts.status;
        let sent = match call.down.start(&parts, framing, self.keeps(call)) {
            Ok(()) => transfer.relay(call).await,
            Err(e) => Err(Broken::Client(e)),
        };
        match sent {
            Ok(()) => self.upstreams.finish(transfer.into_upstream()),
            Err(broken) => {
                debug!(?broken, "an answer broke off");
                call.down.abort();
                call.progress.cut(cut_by(broken), &self.shared);
            }
        }
        Some(status)
    }

    /// Whether the connection may serve another request after this one.
    fn keeps(&self, call: &Call<'_>) -> bool {
        // Who does not mean to ask on, such as a health check, is not let go by this.
        if call.leaves && matches!(&call.down, Downstream::H1(request) if request.is_persistent()) {
            self.shared.wiring.metrics.moves.closed(Kind::Http1);
        }
        !call.leaves && !self.shared.draining()
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
        Self::sign(call, &mut parts);
        edit_answer(call, &mut parts);
        let client = call.down.switch(&parts, protocol)?;
        let mut upstream = exchange.into_conn();
        let idle = call.progress.exchange.as_ref()?.timeouts.upgrade_idle;
        let host = call.upgrading.as_deref().unwrap_or_default();
        tokio::select! {
            ended = tunnel::tunnel(client, &mut upstream, idle, call.timer) => {
                if let Err(error) = ended {
                    debug!(%error, "an upgraded connection broke");
                }
            }
            () = self.shared.parting.closed_upgrade(host, call.connection.lot) => {
                self.shared.wiring.metrics.moves.closed(Kind::Upgrade);
            }
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

/// Why an answer that had begun is not whole.
const fn cut_by(broken: Broken) -> Cut {
    match broken {
        Broken::Client(ClientError::Slow) => Cut::ClientSlow,
        // What it promised and then said are two things.
        Broken::Client(ClientError::Unfaithful) => Cut::Upstream,
        Broken::Client(_) => Cut::ClientLeft,
        Broken::Upstream(UpstreamError::Deadline) => Cut::Deadline,
        Broken::Upstream(_) => Cut::Upstream,
    }
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
