//! Proxima's own answers: what they say, and what they are counted as.

use super::{Cause, Content, OwnAnswer};
use crate::domain::name::ServiceId;
use crate::metrics::request::{RefusalReason, RejectReason};
use crate::proxy::headers;
use http::{HeaderValue, StatusCode, header};
use std::time::Duration;

/// The answer to a request that broke off: the client's fault (4xx), or this edge's.
pub fn unproxied(id: HeaderValue, status: StatusCode) -> OwnAnswer {
    let text = match status {
        StatusCode::REQUEST_TIMEOUT => "the request was not sent in time",
        status if status.is_client_error() => "the request breaks the rules of HTTP",
        _ => "the edge failed",
    };
    error(status, text, &id, Cause::Broken)
}

pub(super) fn unavailable(service: &ServiceId, id: &HeaderValue) -> OwnAnswer {
    let text = "no region can serve this now";
    error(StatusCode::SERVICE_UNAVAILABLE, text, id, Cause::Unavailable(service.clone()))
}

/// The route's rules forbid it; `status` says in which way.
pub fn rejected(reason: RejectReason, id: &HeaderValue) -> OwnAnswer {
    let (status, text) = match reason {
        RejectReason::Denied => (StatusCode::FORBIDDEN, "not from this address"),
        RejectReason::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
        RejectReason::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "too many requests"),
        RejectReason::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "the service is busy"),
        RejectReason::NoCertificate => (StatusCode::FORBIDDEN, "a client certificate is required here"),
        RejectReason::Misdirected => {
            (StatusCode::MISDIRECTED_REQUEST, "this host is served on connections of its own")
        }
    };
    error(status, text, id, Cause::Rejected(reason))
}

/// A request that comes too early: in `wait` it may come again, told in whole seconds.
pub(super) fn too_early(wait: Duration, id: &HeaderValue) -> OwnAnswer {
    let mut answer = rejected(RejectReason::RateLimited, id);
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    answer.headers.push((header::RETRY_AFTER, seconds.max(1).into()));
    answer
}

/// The typed 503: the first edge tries the next region.
pub(super) fn refused(reason: RefusalReason, id: &HeaderValue) -> OwnAnswer {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut answer = error(status, "not served in this region now", id, Cause::Refused(reason));
    answer.headers.push((headers::REFUSED, HeaderValue::from_static(reason.as_str())));
    answer
}

/// What is wrong, in words that tell nothing of the inside.
pub(super) fn error(status: StatusCode, text: &str, id: &HeaderValue, cause: Cause) -> OwnAnswer {
    let content = Content::Error(text.into());
    OwnAnswer { status, content, headers: Vec::new(), request_id: id.clone(), cause, route: None }
}

/// What was asked of this edge itself.
pub(super) fn asked(status: StatusCode, text: &str, id: &HeaderValue) -> OwnAnswer {
    let content = Content::Text(format!("{text}\n").into());
    let cause = Cause::Asked;
    OwnAnswer { status, content, headers: Vec::new(), request_id: id.clone(), cause, route: None }
}
