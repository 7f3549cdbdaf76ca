//! What a call to Route 53 may end in, sorted by what its caller does next.

use crate::aws::no_credentials;
use crate::error_chain::chain;
use aws_sdk_route53::config::http::HttpResponse;
use aws_sdk_route53::error::{ProvideErrorMetadata, SdkError};
use std::error::Error;

/// A call that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{action}: {kind}: {detail}")]
pub struct ApiError {
    pub action: &'static str,
    pub kind: ErrorKind,
    /// For the log, never for a decision.
    pub detail: String,
}

/// Sorted by what the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// Too many requests, or a prior one is not complete: nothing was done, come back later.
    Throttled,
    /// The batch does not fit the records as they are; nothing was done.
    Conflict,
    /// No answer, or one that says nothing: it may have been done or not.
    Unanswered,
    /// These credentials may not.
    Denied,
    /// There are no credentials, or none that AWS still takes; nothing was done.
    Credentials,
    /// The zone, change or health check does not exist.
    Missing,
    /// It is there already, under the same caller reference.
    Exists,
    /// The server does not carry this call.
    Unsupported,
    /// Refused for another reason; the same request will be refused again.
    Refused,
}

impl ErrorKind {
    pub const ALL: [Self; 9] = [
        Self::Throttled,
        Self::Conflict,
        Self::Unanswered,
        Self::Denied,
        Self::Credentials,
        Self::Missing,
        Self::Exists,
        Self::Unsupported,
        Self::Refused,
    ];

    /// Whether a question that ended so may be answered when it is asked again.
    pub const fn may_pass(self) -> bool {
        matches!(self, Self::Throttled | Self::Unanswered)
    }

    /// The kind as metrics and logs spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Conflict => "conflict",
            Self::Unanswered => "unanswered",
            Self::Denied => "denied",
            Self::Credentials => "credentials",
            Self::Missing => "missing",
            Self::Exists => "exists",
            Self::Unsupported => "unsupported",
            Self::Refused => "refused",
        }
    }
}

impl std::fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ApiError {
    /// Sorts the SDK's error.
    pub fn of<E>(action: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let Some(response) = error.raw_response() else {
            let kind = match error {
                SdkError::ConstructionFailure(_) => ErrorKind::Refused,
                _ if no_credentials(error) => ErrorKind::Credentials,
                _ => ErrorKind::Unanswered,
            };
            return Self { action, kind, detail: chain(error) };
        };
        let status = response.status().as_u16();
        let body = response.body().bytes().map(String::from_utf8_lossy).unwrap_or_default();
        let detail = match (error.code(), error.message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            (None, _) => format!("HTTP status {status}: {}", excerpt(&body)),
        };
        Self { action, kind: kind_of(error.code(), status, &body), detail }
    }

    /// An answer without what it must hold.
    pub fn incomplete(action: &'static str, what: &str) -> Self {
        Self { action, kind: ErrorKind::Unanswered, detail: format!("the answer has no {what}") }
    }

    /// A health check that no listing has shown yet: nothing to ask by.
    pub fn no_check(check: &str) -> Self {
        let detail = format!("no health check for {check} is known");
        Self { action: "GetHealthCheckStatus", kind: ErrorKind::Missing, detail }
    }

    /// A request that could not be built.
    pub fn unbuilt(action: &'static str, error: &dyn Error) -> Self {
        Self { action, kind: ErrorKind::Refused, detail: chain(error) }
    }
}

/// Source: Route 53 API reference, "Common errors" and "Errors" of each action.
fn kind_of(code: Option<&str>, status: u16, body: &str) -> ErrorKind {
    match code {
        Some("InvalidChangeBatch") => ErrorKind::Conflict,
        Some("PriorRequestNotComplete" | "RequestLimitExceeded" | "TooManyRequestsException") => {
            ErrorKind::Throttled
        }
        Some(code) if code.starts_with("Throttling") => ErrorKind::Throttled,
        // Source: IAM, "Common errors"; STS and Route 53 spell the first in two ways.
        Some("ExpiredToken" | "ExpiredTokenException" | "InvalidClientTokenId") => ErrorKind::Credentials,
        Some(code) if code.starts_with("NoSuch") => ErrorKind::Missing,
        Some("HealthCheckAlreadyExists") => ErrorKind::Exists,
        Some(code) if code.starts_with("UnknownOperation") => ErrorKind::Unsupported,
        Some("InvalidAction" | "NotImplemented" | "UnsupportedOperation") => ErrorKind::Unsupported,
        // Route 53 has sent this document without an ErrorResponse around it;
        // the SDK finds no code in it then.
        None if status == 400 && body.contains("<InvalidChangeBatch") => ErrorKind::Conflict,
        _ => match status {
            429 => ErrorKind::Throttled,
            401 | 403 => ErrorKind::Denied,
            404 | 405 | 501 => ErrorKind::Unsupported,
            400..=499 => ErrorKind::Refused,
            // A 5xx may have been carried out; a 2xx that could not be read was.
            _ => ErrorKind::Unanswered,
        },
    }
}

fn excerpt(body: &str) -> String {
    body.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_know_every_kind() {
        assert_eq!(ErrorKind::ALL.map(ErrorKind::as_str), crate::metrics::dns::ERROR_KINDS);
    }

    #[test]
    fn answers_are_sorted_by_what_to_do_next() {
        let bare =
            "<InvalidChangeBatch xmlns=\"x\"><Messages><Message>no</Message></Messages></InvalidChangeBatch>";
        for (code, status, body, kind) in [
            (Some("InvalidChangeBatch"), 400, "", ErrorKind::Conflict),
            (None, 400, bare, ErrorKind::Conflict),
            (None, 400, "<Else/>", ErrorKind::Refused),
            (Some("Throttling"), 400, "", ErrorKind::Throttled),
            (Some("ThrottlingException"), 400, "", ErrorKind::Throttled),
            (Some("PriorRequestNotComplete"), 400, "", ErrorKind::Throttled),
            (None, 429, "", ErrorKind::Throttled),
            (Some("AccessDenied"), 403, "", ErrorKind::Denied),
            (Some("ExpiredToken"), 403, "", ErrorKind::Credentials),
            (Some("InvalidClientTokenId"), 403, "", ErrorKind::Credentials),
            (Some("NoSuchHostedZone"), 404, "", ErrorKind::Missing),
            (Some("UnknownOperationException"), 404, "", ErrorKind::Unsupported),
            (None, 404, "", ErrorKind::Unsupported),
            (Some("ServiceUnavailable"), 503, "", ErrorKind::Unanswered),
            (Some("InternalFailure"), 500, "", ErrorKind::Unanswered),
            (None, 200, "cut off", ErrorKind::Unanswered),
            (Some("InvalidInput"), 400, "", ErrorKind::Refused),
        ] {
            assert_eq!(kind_of(code, status, body), kind, "{code:?} {status} {body}");
        }
    }
}
