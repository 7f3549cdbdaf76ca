//! From Pingora's errors to what they say about an attempt.

use crate::proxy::attempts::Failure;
use pingora::{Error, ErrorSource, ErrorType};

/// What an error after the connection says about the upstream; `None`: nothing.
///
/// `answering`: the head of an answer has come already.
pub(super) fn of(e: &Error, answering: bool) -> Option<Failure> {
    if *e.esource() != ErrorSource::Upstream {
        return None;
    }
    if answering {
        return Some(Failure::Late);
    }
    Some(match e.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Failure::Timeout,
        ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 | ErrorType::H2Downgrade => Failure::Malformed,
        _ if refused_stream(e) => Failure::Unprocessed,
        _ => Failure::Closed,
    })
}

/// RFC 9113 section 8.7: a refused stream was not processed.
///
/// A graceful GOAWAY says the same of later streams, but the error of a stream
/// that was processed when the connection then broke looks alike: it counts as closed.
fn refused_stream(e: &Error) -> bool {
    let h2 = e.root_cause().downcast_ref::<h2::Error>();
    h2.is_some_and(|e| e.is_reset() && e.is_remote() && e.reason() == Some(h2::Reason::REFUSED_STREAM))
}

/// Whether a connection could not be made for reasons of this process: no descriptors, no address.
pub(super) fn local(e: &Error) -> bool {
    matches!(e.etype(), ErrorType::BindError | ErrorType::SocketError | ErrorType::InternalError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_s_errors_say_what_may_be_tried_again() {
        for (etype, expected) in [
            (ErrorType::ConnectionClosed, Failure::Closed),
            (ErrorType::ReadError, Failure::Closed),
            (ErrorType::WriteError, Failure::Closed),
            (ErrorType::H2Error, Failure::Closed),
            (ErrorType::ReadTimedout, Failure::Timeout),
            (ErrorType::WriteTimedout, Failure::Timeout),
            (ErrorType::InvalidHTTPHeader, Failure::Malformed),
        ] {
            assert_eq!(of(&Error::new_up(etype.clone()), false), Some(expected), "{etype:?}");
            assert_eq!(of(&Error::new_up(etype.clone()), true), Some(Failure::Late), "{etype:?}");
            assert_eq!(of(&Error::new_down(etype.clone()), false), None, "{etype:?}: the client's");
            assert_eq!(of(&Error::new_in(etype), false), None);
        }
    }

    #[test]
    fn a_refused_stream_was_not_processed() {
        let refused: h2::Error = h2::Reason::REFUSED_STREAM.into();
        // An error made here is a local one: only the remote's word counts.
        let e = Error::because(ErrorType::H2Error, "reading the head", refused).into_up();
        assert_eq!(of(&e, false), Some(Failure::Closed));
    }
}
