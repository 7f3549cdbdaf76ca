//! How an error of this edge itself is told: to people, to programs, to gRPC.
//!
//! It says what happened and names the request, so that it can be found in the
//! logs, and nothing of the inside. Pure.

use crate::proxy::headers::REQUEST_ID;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};

const GRPC: &str = "application/grpc";
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What whoever asked can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Text,
    Json,
    /// A status of gRPC without a body ("trailers only").
    Grpc,
}

/// An error as an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// On the wire: gRPC says 200, whatever happened.
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: String,
}

impl Style {
    /// What the head of a request asks for: gRPC by its content type over HTTP/2, JSON when
    /// `Accept` names it and prefers no text to it.
    pub fn of(version: Version, headers: &HeaderMap) -> Self {
        let content_type =
            headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if version == Version::HTTP_2 && is_grpc(content_type) {
            return Self::Grpc;
        }
        let (mut json, mut text) = (0.0_f32, 0.0_f32);
        for value in headers.get_all(ACCEPT) {
            for range in value.to_str().unwrap_or_default().split(',') {
                let (kind, weight) = weighed(range);
                if kind.eq_ignore_ascii_case("application/json") || kind.eq_ignore_ascii_case("application/*")
                {
                    json = json.max(weight);
                } else if kind.get(..5).is_some_and(|kind| kind.eq_ignore_ascii_case("text/")) {
                    text = text.max(weight);
                }
            }
        }
        if json > 0.0 && json >= text { Self::Json } else { Self::Text }
    }
}

/// `application/grpc`, `application/grpc+proto`; not gRPC-Web, whose errors stand in the body.
fn is_grpc(content_type: &str) -> bool {
    let rest = content_type.get(GRPC.len()..).unwrap_or_default();
    content_type.get(..GRPC.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(GRPC))
        && (rest.is_empty() || rest.starts_with(['+', ';']))
}

/// A media range and its weight (RFC 9110 section 12.4.2); one that cannot be read weighs nothing.
fn weighed(range: &str) -> (&str, f32) {
    let mut parts = range.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    (kind, weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0)))
}

/// Tells an error; `text` is plain ASCII of ours.
pub fn tell(status: StatusCode, text: &str, id: &HeaderValue, style: Style) -> Told {
    let name = id.to_str().unwrap_or("-");
    let mut headers = vec![(CACHE_CONTROL, HeaderValue::from_static("no-store")), (REQUEST_ID, id.clone())];
    let (content_type, body) = match style {
        Style::Text => {
            ("text/plain; charset=utf-8", format!("{}: {text}\nrequest id: {name}\n", status.as_u16()))
        }
        Style::Json => {
            let error = serde_json::json!({ "status": status.as_u16(), "error": text, "request_id": name });
            ("application/json", format!("{error}\n"))
        }
        Style::Grpc => {
            let message = format!("{text} (request id {name})").replace('%', "%25");
            headers.push((GRPC_STATUS, HeaderValue::from(grpc_status(status))));
            headers.extend(HeaderValue::from_str(&message).map(|message| (GRPC_MESSAGE, message)));
            (GRPC, String::new())
        }
    };
    headers.push((CONTENT_TYPE, HeaderValue::from_static(content_type)));
    let status = if style == Style::Grpc { StatusCode::OK } else { status };
    Told { status, headers, body }
}

/// What a status means to gRPC. Source: `doc/http-grpc-status-mapping.md` of gRPC, except that
/// what has timed out is `DEADLINE_EXCEEDED`: clients take `UNAVAILABLE` for safe to repeat.
const fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,                   // INTERNAL
        401 => 16,                   // UNAUTHENTICATED
        403 => 7,                    // PERMISSION_DENIED
        404 | 405 | 421 | 501 => 12, // UNIMPLEMENTED
        408 | 504 => 4,              // DEADLINE_EXCEEDED
        413 => 8,                    // RESOURCE_EXHAUSTED
        429 | 502 | 503 => 14,       // UNAVAILABLE
        _ => 2,                      // UNKNOWN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(version: Version, pairs: &[(HeaderName, &'static str)]) -> Style {
        let pairs = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        Style::of(version, &pairs.collect())
    }

    #[test]
    fn whoever_asks_for_json_and_no_text_gets_json() {
        for (accept, expected) in [
            ("application/json", Style::Json),
            ("Application/JSON;charset=utf-8", Style::Json),
            ("application/*", Style::Json),
            ("text/html, application/json", Style::Json),
            ("text/html, application/json;q=0.9", Style::Text),
            ("application/json;q=0", Style::Text),
            ("application/json; q=zero", Style::Text),
            ("*/*", Style::Text),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Style::Text),
            ("", Style::Text),
            ("text", Style::Text),
        ] {
            assert_eq!(style(Version::HTTP_11, &[(ACCEPT, accept)]), expected, "{accept}");
        }
    }

    #[test]
    fn grpc_is_known_by_its_content_type_over_http_2() {
        for (version, content_type, expected) in [
            (Version::HTTP_2, "application/grpc", Style::Grpc),
            (Version::HTTP_2, "application/grpc+proto", Style::Grpc),
            (Version::HTTP_2, "Application/gRPC; charset=x", Style::Grpc),
            (Version::HTTP_2, "application/grpc-web", Style::Text),
            (Version::HTTP_2, "application/grpcx", Style::Text),
            (Version::HTTP_11, "application/grpc", Style::Text),
        ] {
            assert_eq!(style(version, &[(CONTENT_TYPE, content_type)]), expected, "{content_type}");
        }
    }

    #[test]
    fn each_style_says_what_happened_and_names_the_request() {
        let id = HeaderValue::from_static("id-7");
        let header = |told: &Told, name: &str| {
            let found = told.headers.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.to_str().unwrap().to_owned())
        };
        let text = tell(StatusCode::BAD_GATEWAY, "it broke", &id, Style::Text);
        assert_eq!((text.status.as_u16(), text.body.as_str()), (502, "502: it broke\nrequest id: id-7\n"));
        let json = tell(StatusCode::BAD_GATEWAY, "it \"broke\"", &id, Style::Json);
        let read: serde_json::Value = serde_json::from_str(&json.body).unwrap();
        let expected = serde_json::json!({"status": 502, "error": "it \"broke\"", "request_id": "id-7"});
        assert_eq!((json.status.as_u16(), read), (502, expected));
        let grpc = tell(StatusCode::BAD_GATEWAY, "100% broke", &id, Style::Grpc);
        assert_eq!((grpc.status.as_u16(), grpc.body.as_str()), (200, ""));
        assert_eq!(header(&grpc, "grpc-status").as_deref(), Some("14"));
        assert_eq!(header(&grpc, "grpc-message").as_deref(), Some("100%25 broke (request id id-7)"));
        for told in [&text, &json, &grpc] {
            assert_eq!(header(told, "x-request-id").as_deref(), Some("id-7"));
            assert_eq!(header(told, "cache-control").as_deref(), Some("no-store"));
        }
    }
}
