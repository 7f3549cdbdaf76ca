//! What an answer to a health check says of the endpoint. Pure.

use super::grpc;
use crate::config::{HttpQuestion, Question};
use crate::domain::fleet::{EndpointAnswer, ProbeFailure};
use http::{HeaderMap, response};

/// An endpoint says by these that it is about to end: it finishes what it has. The second one is Envoy's.
const DRAINING: [&str; 2] = ["x-proxima-draining", "x-envoy-immediate-health-check-fail"];

/// # Errors
/// What of the answer is not as it was asked for.
pub(super) fn judge(
    question: &Question,
    head: &response::Parts,
    body: Option<&[u8]>,
    trailers: Option<&HeaderMap>,
) -> Result<EndpointAnswer, ProbeFailure> {
    match question {
        Question::Http(asked) => http(asked, head, body)?,
        Question::Grpc(_) => {
            if !head.status.is_success() {
                return Err(ProbeFailure::Status);
            }
            let status = trailers.and_then(|trailers| trailers.get(grpc::STATUS));
            let status = status.or_else(|| head.headers.get(grpc::STATUS));
            return grpc::answer(status, body.unwrap_or_default()).ok_or(ProbeFailure::Status);
        }
        // There is no answer to be judged.
        Question::Tcp | Question::Tls => {}
    }
    let leaving = |name: &&str| head.headers.get(*name).is_some_and(|value| value != "0" && value != "false");
    Ok(if DRAINING.iter().any(leaving) { EndpointAnswer::Draining } else { EndpointAnswer::Well })
}

fn http(asked: &HttpQuestion, head: &response::Parts, body: Option<&[u8]>) -> Result<(), ProbeFailure> {
    if !asked.status.iter().any(|range| range.contains(&head.status.as_u16())) {
        return Err(ProbeFailure::Status);
    }
    let passes = |field: &crate::domain::routing::Field| {
        let values = head.headers.get_all(field.name.as_str());
        values.iter().any(|value| field.test.passes(value.as_bytes()))
    };
    if !asked.headers.iter().all(passes) {
        return Err(ProbeFailure::Header);
    }
    match &asked.body {
        // One that is longer than is read says nothing.
        Some(test) if !body.is_some_and(|body| test.holds(body)) => Err(ProbeFailure::Body),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BodyTest, HttpMethod};
    use crate::domain::routing::{Field, FieldName, FieldValue, Pattern, ValueTest};
    use http::Response;

    fn head(status: u16, headers: &[(&str, &str)]) -> response::Parts {
        let mut builder = Response::builder().status(status);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    #[test]
    fn an_answer_is_well_when_status_headers_and_body_are_as_asked_for() {
        let name = |name| FieldName::parse(name).unwrap();
        let role = ValueTest::Exact(FieldValue::parse("primary").unwrap());
        let asked = |body| {
            Question::Http(HttpQuestion {
                method: HttpMethod::Get,
                path: "/".to_owned(),
                host: None,
                status: vec![200..=299, 401..=401],
                headers: vec![
                    Field { name: name("x-role"), test: role.clone() },
                    Field { name: name("x-version"), test: ValueTest::Present },
                ],
                body,
            })
        };
        let good = [("x-role", "primary"), ("x-version", "7")];
        let contains = || Some(BodyTest::Contains("\"ok\"".to_owned()));
        let matches = || Some(BodyTest::Matches(Pattern::parse("(?s).*ready: [0-9]+.*").unwrap()));
        let (status, header, body) =
            (Err(ProbeFailure::Status), Err(ProbeFailure::Header), Err(ProbeFailure::Body));
        let well = Ok(EndpointAnswer::Well);
        for (what, test, head, text, expected) in [
            ("all right", None, head(204, &good), Some(""), well),
            ("a status of its own", None, head(401, &good), Some(""), well),
            ("another status", None, head(404, &good), Some(""), status),
            ("another value", None, head(200, &[("x-role", "replica"), good[1]]), Some(""), header),
            ("a header too few", None, head(200, &good[..1]), Some(""), header),
            ("the text", contains(), head(200, &good), Some("{\"state\":\"ok\"}"), well),
            ("another text", contains(), head(200, &good), Some("{\"state\":\"ill\"}"), body),
            ("the pattern", matches(), head(200, &good), Some("a\nready: 5\nb"), well),
            ("another pattern", matches(), head(200, &good), Some("ready: no"), body),
            ("too long to be read", contains(), head(200, &good), None, body),
            ("too long, but not asked for", None, head(200, &good), None, well),
        ] {
            let text = text.map(str::as_bytes);
            assert_eq!(judge(&asked(test), &head, text, None), expected, "{what}");
        }
    }

    #[test]
    fn a_good_answer_may_say_that_the_endpoint_is_about_to_end() {
        for (headers, expected) in [
            (vec![("x-proxima-draining", "1")], EndpointAnswer::Draining),
            (vec![("x-envoy-immediate-health-check-fail", "true")], EndpointAnswer::Draining),
            (vec![("x-proxima-draining", "0")], EndpointAnswer::Well),
            (vec![], EndpointAnswer::Well),
        ] {
            let answer = judge(&Question::get("/"), &head(200, &headers), Some(b""), None);
            assert_eq!(answer, Ok(expected), "{headers:?}");
        }
        let failed = judge(&Question::get("/"), &head(503, &[("x-proxima-draining", "1")]), Some(b""), None);
        assert_eq!(failed, Err(ProbeFailure::Status), "who fails is not well, whatever else it says");
    }
}
