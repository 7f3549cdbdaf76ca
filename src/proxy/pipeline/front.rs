//! What the listener of a connection says of its requests, before and besides their routes.

use super::Call;
use crate::metrics::request::{ListenerKind, RejectReason};
use crate::proxy::connection::Connection;
use crate::proxy::errors::Style;
use crate::proxy::h1::RequestHead;
use crate::proxy::headers::{self, Scheme};
use crate::proxy::pace::PaceRule;
use crate::proxy::policy::{self, OwnAnswer};
use crate::proxy::progress::Progress;
use crate::proxy::trust::Client;
use http::{header, response};

/// The answer to a request that no route is looked for; `None`: its route decides.
pub(super) fn refused(
    connection: &Connection,
    client: Option<&Client>,
    head: &RequestHead,
    progress: &Progress,
) -> Option<OwnAnswer> {
    let id = || headers::request_id(&head.parts.headers, rand::random());
    if connection.misdirects(&head.parts.uri, progress.settings.tls.clients.as_deref()) {
        return Some(policy::rejected(RejectReason::Misdirected, &id()));
    }
    let redirect = connection.rules.https_redirect;
    // Behind a proxy that speaks TLS, it is its word that counts: here all of it is plain.
    let insecure = client.is_some_and(|client| client.scheme == Scheme::Http);
    if let Some(answer) =
        redirect.filter(|_| insecure).and_then(|to| policy::to_https(&head.parts, to.port, &id()))
    {
        return Some(answer);
    }
    let most = connection.rules.bounds.max_body;
    let over = head.framing.length().zip(most).is_some_and(|(length, most)| length > most);
    over.then(|| policy::rejected(RejectReason::BodyTooLarge, &id()))
}

/// Bytes of a request's body that its listener and its route let through; `None`: any.
pub(super) fn max_body(call: &Call<'_>) -> Option<u64> {
    let of_route = call.progress.exchange.as_ref().and_then(|exchange| exchange.max_body);
    let of_listener = call.connection.rules.bounds.max_body;
    of_route.into_iter().chain(of_listener).min()
}

/// How fast a body has to come. A call of gRPC may say little for long before it is answered.
pub(super) fn sender(call: &Call<'_>) -> PaceRule {
    let pace = call.connection.rules.bounds.pace;
    if call.style == Style::Grpc { PaceRule { rate: None, ..pace } } else { pace }
}

/// Tells a client that may know and wants to why its request went where it went.
pub(super) fn explain(call: &Call<'_>, parts: &mut response::Parts) {
    let Some(exchange) = &call.progress.exchange else { return };
    let region = call.progress.current().map(|(_, attempt)| &attempt.region);
    if let Some(value) = exchange.explained.as_ref().and_then(|told| told.value(region)) {
        parts.headers.insert(headers::EXPLAIN, value);
    }
}

/// Tells a client that came by TLS to come by TLS only, unless the answer says something of its own.
pub(super) fn insist(call: &Call<'_>, parts: &mut response::Parts) {
    let tls = call.progress.settings.config.tls.as_ref();
    let hsts = tls.and_then(|tls| tls.hsts.as_ref()).filter(|_| call.connection.kind == ListenerKind::Https);
    if let Some(hsts) = hsts {
        parts.headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert_with(|| hsts.clone());
    }
}
