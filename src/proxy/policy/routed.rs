//! A client's request by its route: to a service, elsewhere, or to an answer of the route's own.

use super::{Cause, Content, Exchange, Origin, OwnAnswer, Proof, Random, RequestHead, World};
use super::{Timeouts, error, rejected, too_early, unavailable, unproxied};
use crate::domain::limit::hedge::Repeatable;
use crate::domain::routing::{
    Action, Asked, ClientCertificate, Forward, HostChange, Redirect, RedirectFrom, RequestHeaders, Respond,
    Route, RouteHedging, RoutePolicy, host_of,
};
use crate::metrics::request::RejectReason;
use crate::proxy::attempts::{Attempts, Budget};
use crate::proxy::guards::RateFacts;
use crate::proxy::headers::{self, ClientFacts, HeaderEdits, Scheme};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use std::borrow::Cow;
use std::sync::Arc;

/// What is asked for upstream instead of what the client asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// `None`: as the client wrote it.
    pub path_and_query: Option<PathAndQuery>,
    pub host: TargetHost,
}

/// The authority that a service gets to see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TargetHost {
    /// The client's.
    #[default]
    Keep,
    Fixed(Authority),
    /// That of the endpoint which gets the request; a forwarded request keeps the client's.
    Upstream,
}

impl RequestHeaders for HeaderMap {
    fn any(&self, name: &str, passes: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.get_all(name).iter().any(|value| passes(value.as_bytes()))
    }
}

/// Finds the route and computes what it says.
///
/// A path without a normal form is refused, and the normal form is what the service gets: what
/// was matched and what is served cannot be two things.
pub(super) fn decide(
    head: RequestHead<'_>,
    client: ClientFacts<'_>,
    world: World<'_>,
    id: &HeaderValue,
    random: Random,
) -> Result<Exchange, Box<OwnAnswer>> {
    let (host, port) = host_of(head.authority);
    let path =
        world.snapshot.routes.normal(head.path).map_err(|problem| bad_path(&problem.to_string(), id))?;
    let asked = Asked {
        host: &lower_case(host),
        path: &path,
        scheme: client.scheme,
        method: head.method.as_str(),
        query: head.query,
        headers: head.headers,
    };
    let Some(route) = world.snapshot.routes.find(&asked) else {
        return Err(error(StatusCode::NOT_FOUND, "no route", id, Cause::Unrouted).into());
    };
    if !route.policy.access.admits(client.address) {
        return Err(rejected(RejectReason::Denied, id).of(route).into());
    }
    let facts = RateFacts { route: &route.id, client: client.address, headers: head.headers };
    if let Some(wait) = world.guards.rated(&route.policy.rate_limits, facts, world.now) {
        return Err(too_early(wait, id).of(route).into());
    }
    let from = RedirectFrom { scheme: client.scheme, host, port, path: &path, query: head.query };
    let decided = match &route.action {
        Action::Forward(to) => forward(head, client, world, id, random, (route, to, &path)),
        Action::Redirect(redirect) => Err(redirected(redirect, from, route, id).into()),
        Action::Respond(respond) => Err(answered(respond, route, id).into()),
    };
    decided.map_err(|answer| answer.of(route).into())
}

fn forward(
    head: RequestHead<'_>,
    client: ClientFacts<'_>,
    world: World<'_>,
    id: &HeaderValue,
    random: Random,
    (route, to, path): (&Arc<Route>, &Forward, &str),
) -> Result<Exchange, Box<OwnAnswer>> {
    let RoutePolicy { timeouts, retries, max_body, .. } = &route.policy;
    if head.length.zip(*max_body).is_some_and(|(length, most)| length > most) {
        return Err(rejected(RejectReason::BodyTooLarge, id).into());
    }
    let wanted = route.policy.client_certificate == ClientCertificate::Required;
    if head.proof == Proof::Owed || wanted && head.proof == Proof::None {
        return Err(rejected(RejectReason::NoCertificate, id).into());
    }
    let service = to.to.pick(random.split);
    let found = world.services.get(service).zip(world.snapshot.services.get(service));
    let Some((config, candidates)) = found else {
        return Err(unavailable(service, id).into());
    };
    let mut edits = headers::request_edits(head.headers, Some(client), head.version, id);
    edits.then(&to.request_headers);
    let rule = world.guards.service(service).and_then(|guards| guards.sessions.as_ref());
    let secure = client.scheme == Scheme::Https;
    let sticky = rule.map(|rule| rule.of(head, client.address, secure));
    let idempotent = head.method.is_idempotent();
    let budget = Budget {
        attempts: retries.attempts.unwrap_or(config.attempts),
        idempotent,
        on_timeout: retries.on_timeout,
        on_status: retries.on_status.clone(),
    };
    Ok(Exchange {
        service: service.clone(),
        route: Some(Arc::clone(route)),
        target: target(to, head, path, id)?,
        edits,
        response_edits: response_edits(route),
        request_id: id.clone(),
        attempts: Attempts::all(Arc::clone(candidates), budget, sticky.as_ref(), random.routing),
        sticky,
        timeouts: Timeouts::new(config, *timeouts),
        max_body: *max_body,
        priority: route.policy.priority,
        hedging: match route.policy.hedging {
            RouteHedging::AsService if idempotent => Repeatable::Yes,
            RouteHedging::AsService | RouteHedging::Never => Repeatable::No,
        },
        origin: Origin::Client { address: client.address, scheme: client.scheme },
        explained: None,
        idempotent,
        own: world.snapshot.own.clone(),
    })
}

fn target(
    to: &Forward,
    head: RequestHead<'_>,
    path: &str,
    id: &HeaderValue,
) -> Result<Target, Box<OwnAnswer>> {
    let rewritten = to.rewrite.path.apply(path).map_err(|problem| bad_path(&problem.to_string(), id))?;
    let path_and_query = if rewritten == head.path {
        None
    } else {
        let mut text = rewritten.into_owned();
        if !head.query.is_empty() {
            text.push('?');
            text.push_str(head.query);
        }
        Some(PathAndQuery::try_from(text).map_err(|_| bad_path("the path cannot be rewritten", id))?)
    };
    let host = match &to.rewrite.host {
        HostChange::Keep => TargetHost::Keep,
        HostChange::Upstream => TargetHost::Upstream,
        HostChange::Fixed(name) => TargetHost::Fixed(
            name.parse().map_err(|_| unproxied(id.clone(), StatusCode::INTERNAL_SERVER_ERROR))?,
        ),
    };
    Ok(Target { path_and_query, host })
}

fn redirected(redirect: &Redirect, from: RedirectFrom<'_>, route: &Route, id: &HeaderValue) -> OwnAnswer {
    let location = match redirect.location(from) {
        Ok(location) => location,
        Err(problem) => return bad_path(&problem.to_string(), id),
    };
    let status = StatusCode::from_u16(redirect.status.code());
    let (Ok(status), Ok(location)) = (status, HeaderValue::from_bytes(location.as_bytes())) else {
        return bad_path("the path cannot be put into a location", id);
    };
    OwnAnswer {
        status,
        content: Content::Text("see the location\n".into()),
        headers: own_headers(vec![(header::LOCATION, location)], route),
        request_id: id.clone(),
        cause: Cause::Routed,
        route: None,
    }
}

fn answered(respond: &Respond, route: &Route, id: &HeaderValue) -> OwnAnswer {
    let page = StatusCode::from_u16(respond.status).ok().zip(respond.content_type.as_str().parse().ok());
    let Some((status, content_type)) = page else {
        return unproxied(id.clone(), StatusCode::INTERNAL_SERVER_ERROR);
    };
    OwnAnswer {
        status,
        content: Content::Text(respond.text.as_str().into()),
        headers: own_headers(vec![(header::CONTENT_TYPE, content_type)], route),
        request_id: id.clone(),
        cause: Cause::Routed,
        route: None,
    }
}

/// What the route makes of the headers of an answer of its own.
fn own_headers(set: Vec<(HeaderName, HeaderValue)>, route: &Route) -> Vec<(HeaderName, HeaderValue)> {
    let mut edits = HeaderEdits { set, ..HeaderEdits::default() };
    edits.then(&route.response_headers);
    edits.set.into_iter().chain(edits.add).collect()
}

fn response_edits(route: &Route) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    edits.then(&route.response_headers);
    edits
}

fn bad_path(text: &str, id: &HeaderValue) -> OwnAnswer {
    error(StatusCode::BAD_REQUEST, text, id, Cause::Unrouted)
}

fn lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests;
