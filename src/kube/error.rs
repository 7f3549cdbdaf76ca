//! What may go wrong with the API, by what its callers do about it.

use kube::core::Status;
use std::error::Error as StdError;
use std::time::Duration;

/// Why the API has not done what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no service account here, or the kubeconfig is wrong: somebody has to do something.
    #[error("it is not known how to reach the Kubernetes API")]
    Settings(#[source] Box<dyn StdError + Send + Sync>),
    /// It may have been done all the same.
    #[error("no answer of the Kubernetes API that could be used")]
    Unreachable(#[source] Box<dyn StdError + Send + Sync>),
    /// It may have been done all the same.
    #[error("the Kubernetes API has not answered within {0:?}")]
    Timeout(Duration),
    /// By these credentials: the role lacks a right.
    #[error("the Kubernetes API denies it: {0}")]
    Denied(String),
    /// It has too much to do, or is starting; not before then, if it says so.
    #[error("the Kubernetes API is busy: {message}")]
    Busy { message: String, retry_after: Option<Duration> },
    /// Somebody else has changed the object since it was read.
    #[error("the object has changed meanwhile: {0}")]
    Conflict(String),
    #[error("not there: {0}")]
    Missing(String),
    /// The version that a watch would go on from is no longer kept: list again.
    #[error("the version is too old: {0}")]
    Expired(String),
    /// Any other answer.
    #[error("the Kubernetes API refuses it ({code}): {message}")]
    Refused { code: u16, message: String },
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let message = status.message;
        match status.code {
            401 | 403 => Self::Denied(message),
            404 => Self::Missing(message),
            409 => Self::Conflict(message),
            410 => Self::Expired(message),
            // 504: among others when a watch asks for a version that this server has not seen yet.
            429 | 500 | 503 | 504 => {
                let seconds = status.details.map_or(0, |details| details.retry_after_seconds);
                let retry_after = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
                Self::Busy { message, retry_after }
            }
            code => Self::Refused { code, message },
        }
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::from(*status),
            // The token of the service account cannot be read, for example.
            kube::Error::Auth(_)
            | kube::Error::RustlsTls(_)
            | kube::Error::InferConfig(_)
            | kube::Error::InferKubeconfig(_)
            | kube::Error::ProxyProtocolDisabled { .. }
            | kube::Error::ProxyProtocolUnsupported { .. }
            | kube::Error::TlsRequired => Self::Settings(error.into()),
            other => Self::Unreachable(other.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::response::StatusDetails;

    #[test]
    fn an_answer_is_known_by_what_is_to_be_done_about_it() {
        let of = |code| Error::from(Status { code, message: "why".to_owned(), ..Status::success() });
        for code in [401, 403] {
            assert!(matches!(of(code), Error::Denied(why) if why == "why"), "{code}");
        }
        assert!(matches!(of(404), Error::Missing(_)));
        assert!(matches!(of(409), Error::Conflict(_)));
        assert!(matches!(of(410), Error::Expired(_)));
        for code in [429, 500, 503, 504] {
            assert!(matches!(of(code), Error::Busy { retry_after: None, .. }), "{code}");
        }
        assert!(matches!(of(422), Error::Refused { code: 422, .. }));
    }

    #[test]
    fn a_busy_server_may_say_how_long() {
        let details =
            StatusDetails { retry_after_seconds: 7, ..serde_json::from_str("{}").expect("all is optional") };
        let status = Status { code: 429, details: Some(details), ..Status::success() };
        let seven = Some(Duration::from_secs(7));
        assert!(matches!(Error::from(status), Error::Busy { retry_after, .. } if retry_after == seven));
    }
}
