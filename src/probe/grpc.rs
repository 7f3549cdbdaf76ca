//! gRPC's own health check: one question, one answer, as bytes. Pure.
//!
//! gRPC servers answer no GET. Source: `doc/health-checking.md` and `doc/PROTOCOL-HTTP2.md` of gRPC.

use crate::domain::fleet::EndpointAnswer;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderName, HeaderValue};
use prost::Message;

/// What is called.
pub(super) const CHECK: &str = "/grpc.health.v1.Health/Check";
/// Of the call; it stands in the head where there is no message, else in the trailers.
pub(super) const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// A flag, that it is not compressed, and four bytes of length come before each message.
const FRAME: usize = 5;
const SERVING: i32 = 1;

#[derive(Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The message that asks for a service of the server; "" is the whole server.
pub(super) fn question(service: &str) -> Bytes {
    let message = HealthCheckRequest { service: service.to_owned() }.encode_to_vec();
    let mut framed = BytesMut::with_capacity(FRAME + message.len());
    framed.put_u8(0);
    // A name of the configuration: far below 4 GiB.
    framed.put_u32(message.len() as u32);
    framed.put_slice(&message);
    framed.freeze()
}

/// What the server says of the service; `None`: no answer to the question, or that it knows no such service.
///
/// NOT_SERVING is no success, as for Kubernetes and Envoy: servers say it in the grace before they end, and
/// also while something that they need is dead.
pub(super) fn answer(status: Option<&HeaderValue>, framed: &[u8]) -> Option<EndpointAnswer> {
    let (&[0, ref length @ ..], message) = framed.split_first_chunk::<FRAME>()? else { return None };
    let whole = u32::from_be_bytes(*length) as usize == message.len();
    if !whole || status.is_none_or(|status| status != "0") {
        return None;
    }
    match HealthCheckResponse::decode(message).ok()?.status {
        SERVING => Some(EndpointAnswer::Well),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_its_service_behind_its_length() {
        assert_eq!(question("").as_ref(), [0; 5]);
        assert_eq!(question("a.B").as_ref(), *b"\0\0\0\0\x05\x0a\x03a.B");
    }

    #[test]
    fn only_a_whole_answer_of_a_call_that_went_well_says_something() {
        let (ok, not_found) = (HeaderValue::from_static("0"), HeaderValue::from_static("5"));
        let serving: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
        for (status, framed, expected) in [
            (Some(&ok), serving, Some(EndpointAnswer::Well)),
            // Not serving, unknown, and a service that the server does not know.
            (Some(&ok), &[0, 0, 0, 0, 2, 8, 2], None),
            (Some(&ok), &[0, 0, 0, 0, 0], None),
            (Some(&ok), &[0, 0, 0, 0, 2, 8, 3], None),
            (Some(&ok), &[1, 0, 0, 0, 2, 8, 1], None),
            (Some(&ok), &[0, 0, 0, 0, 3, 8, 1], None),
            (Some(&ok), &[0, 0, 0], None),
            (Some(&ok), &[], None),
            (Some(&not_found), serving, None),
            (None, serving, None),
        ] {
            assert_eq!(answer(status, framed), expected, "{status:?} {framed:?}");
        }
    }
}
