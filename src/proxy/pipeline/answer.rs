//! Answers of this edge itself.

use super::{Call, Pipeline, front};
use crate::metrics::request::{Class, Message, RejectReason, Told};
use crate::peer::LOAD_BYTES_MAX;
use crate::proxy::Wiring;
use crate::proxy::errors::{self, Style};
use crate::proxy::h1::Framing;
use crate::proxy::headers;
use crate::proxy::policy::{self, Cause, Content, OwnAnswer};
use crate::proxy::session::{ClientError, Downstream, Piece};
use crate::proxy::upstream::UpstreamError;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, response};
use serde::Serialize;
use std::future::poll_fn;
use tokio::time::timeout;
use tracing::{debug, warn};

impl Pipeline {
    /// Writes an answer of our own; the status that the client got.
    pub(super) async fn respond(&self, call: &mut Call<'_>, answer: OwnAnswer) -> Option<StatusCode> {
        self.count(call, &answer);
        if answer.content == Content::Sibling && call.method == Method::POST {
            Box::pin(self.hear(call)).await;
        }
        if let Some(trail) = &mut call.progress.trail {
            trail.own_answer(&answer, call.progress.failure);
        }
        let status = answer.status;
        let (mut parts, body) = self.page(answer, call);
        let headless = call.method == Method::HEAD;
        let empty = matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        // A status of gRPC is a head alone.
        let bodiless = headless || empty || call.style == Style::Grpc && body.is_empty();
        let framing = if bodiless { Framing::None } else { Framing::Length(body.len() as u64) };
        if headless && !empty {
            parts.headers.insert(header::CONTENT_LENGTH, body.len().into());
        }
        let keep = self.keeps(call) && call.down.rest_is_short();
        let body = (!bodiless && !body.is_empty()).then_some(Piece::Data(body));
        let sent = timeout(call.connection.rules.bounds.pace.patience, async {
            call.down.start(&parts, framing, keep)?;
            for piece in body.into_iter().chain([Piece::End]) {
                poll_fn(|context| call.down.poll_room(context)).await?;
                call.down.put(piece)?;
            }
            poll_fn(|context| call.down.poll_flush(context)).await
        });
        match sent.await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => debug!("a client left before its answer"),
        }
        Some(status)
    }

    /// Head and body of an answer of our own.
    fn page(&self, answer: OwnAnswer, call: &Call<'_>) -> (response::Parts, Bytes) {
        let mut parts = Response::new(()).into_parts().0;
        parts.status = answer.status;
        front::insist(call, &mut parts);
        front::explain(call, &mut parts);
        let plain = |content_type| {
            vec![
                (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
                (headers::REQUEST_ID, answer.request_id.clone()),
            ]
        };
        let (head, body) = match answer.content {
            Content::Text(text) => (plain("text/plain; charset=utf-8"), Bytes::from(String::from(text))),
            Content::View => (plain("application/json"), json(self.shared.wiring.view.load().as_ref())),
            Content::Sibling => (plain("application/json"), self.sibling()),
            Content::Error(text) => {
                let told = errors::tell(answer.status, &text, &answer.request_id, call.style);
                parts.status = told.status;
                (told.headers, Bytes::from(told.body))
            }
        };
        parts.headers.extend(head);
        // What is true of this edge now need not be so later; what a route says on purpose may be kept.
        if answer.cause == Cause::Asked {
            parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        for (name, _) in &answer.headers {
            parts.headers.remove(name);
        }
        parts.headers.extend(answer.headers);
        (parts, body)
    }

    fn count(&self, call: &Call<'_>, answer: &OwnAnswer) {
        let metrics = &self.shared.wiring.metrics;
        match &answer.cause {
            Cause::Unrouted => metrics.unrouted.inc(),
            Cause::Rejected(reason) => metrics.rejected(*reason).inc(),
            Cause::Refused(reason) => metrics.refused(*reason).inc(),
            Cause::Unavailable(service) if call.progress.exchange.is_none() => {
                if let Some(handles) = call.progress.settings.handles.service(service) {
                    handles.requests(None, Class::of(answer.status.as_u16())).inc();
                }
            }
            Cause::Routed => {
                let handles = &call.progress.settings.handles;
                if let Some(count) = answer.route.as_ref().and_then(|route| handles.route(&route.id)) {
                    count.inc();
                }
            }
            Cause::Insecure => metrics.https_redirects.inc(),
            Cause::Unavailable(_) | Cause::Asked | Cause::Broken => {}
        }
    }

    /// Takes what a pod tells of its load. What is not to be believed changes nothing, neither here nor in the
    /// answer: it is counted.
    async fn hear(&self, call: &mut Call<'_>) {
        let patience = call.connection.rules.bounds.pace.patience;
        let told = timeout(patience, told(&mut call.down)).await.ok().flatten();
        let Wiring { board, clock, metrics, .. } = &self.shared.wiring;
        let load = told.and_then(|body| serde_json::from_slice(&body).ok());
        let result = match load.filter(|_| call.connection.sibling).map(|load| board.hear(load, clock.now()))
        {
            Some(true) => Told::Taken,
            Some(false) => Told::Refused,
            None if call.connection.sibling => Told::Malformed,
            None => Told::Stranger,
        };
        metrics.sibling_told(result).inc();
        if result != Told::Taken {
            let (remote, result) = (call.connection.remote, result.as_str());
            debug!(?remote, result, "what a pod tells of its load is not taken");
        }
    }

    fn sibling(&self) -> Bytes {
        let Wiring { board, view, clock, .. } = &self.shared.wiring;
        json(&board.word(&view.load(), clock.now()))
    }

    /// What every passed-on answer gets.
    pub(super) fn sign(call: &Call<'_>, parts: &mut response::Parts) {
        if let Some(exchange) = &call.progress.exchange {
            parts.headers.insert(headers::REQUEST_ID, exchange.request_id.clone());
        }
        front::insist(call, parts);
        front::explain(call, parts);
    }

    /// The answer when no attempt is left, or this edge itself failed.
    pub(super) async fn fail(&self, call: &mut Call<'_>, error: Option<UpstreamError>) -> Option<StatusCode> {
        let own = error.is_none_or(|e| e.failure().is_none());
        let answer = match &call.progress.exchange {
            Some(exchange) if !own => exchange.give_up(call.progress.failure),
            exchange => policy::unproxied(id(exchange.as_deref()), StatusCode::INTERNAL_SERVER_ERROR),
        };
        let request_id = answer.request_id.to_str().unwrap_or("-");
        let route = call.progress.exchange.as_ref().and_then(|exchange| exchange.route.as_ref());
        let route = route.map_or("-", |route| route.id.as_str());
        debug!(request_id, route, ?error, status = answer.status.as_u16(), "a request failed");
        self.respond(call, answer).await
    }

    /// The client is gone, too slow, or breaks the rules in its body.
    pub(super) async fn lost(&self, call: &mut Call<'_>, error: ClientError) -> Option<StatusCode> {
        debug!(?error, "a client's request broke");
        let status = match error {
            ClientError::Gone | ClientError::Unfaithful => return None,
            ClientError::Malformed(malformed) => {
                self.shared.malformed(Message::Request, malformed);
                malformed.status()
            }
            ClientError::Slow => StatusCode::REQUEST_TIMEOUT,
            // Told in its own words below.
            ClientError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        };
        call.down.close_after();
        let id = id(call.progress.exchange.as_deref());
        let answer = match error {
            ClientError::TooLarge => policy::rejected(RejectReason::BodyTooLarge, &id),
            _ => policy::unproxied(id, status),
        };
        self.respond(call, answer).await
    }
}

/// The body of a pod's question; `None`: it is too long, or broke off.
async fn told(down: &mut Downstream<'_>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        match poll_fn(|context| down.poll_body(context)).await.ok()? {
            Piece::Data(data) if body.len() + data.len() <= LOAD_BYTES_MAX => body.extend_from_slice(&data),
            Piece::Data(_) => return None,
            Piece::Trailers(_) => {}
            Piece::End => return Some(body),
        }
    }
}

fn id(exchange: Option<&policy::Exchange>) -> HeaderValue {
    exchange.map_or(HeaderValue::from_static("-"), |exchange| exchange.request_id.clone())
}

fn json(content: &impl Serialize) -> Bytes {
    serde_json::to_vec(content).map_or_else(
        |e| {
            // A probe that reads nothing counts as failed, which is right.
            warn!(error = %e, "an answer to a probe cannot be written");
            Bytes::new()
        },
        Bytes::from,
    )
}
