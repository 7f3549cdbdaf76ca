//! `/explain`: what the core would do with a request, or holds of a DNS name, as JSON.

use super::Wiring;
use crate::domain::explain::Question;
use crate::domain::name::DnsName;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;

/// Headers of one question.
const HEADERS_MAX: usize = 64;

/// `?host=…&path=…`, with `method`, `scheme` and `header` (`name:value`, as often as wanted), or `?dns=…`.
pub(super) async fn explain(
    State(wiring): State<Arc<Wiring>>,
    Query(asked): Query<Vec<(String, String)>>,
) -> Response {
    if let Some((_, name)) = asked.iter().find(|(key, _)| key == "dns") {
        let Ok(name) = DnsName::parse(name) else { return wrong("`dns` is no DNS name") };
        return match wiring.inquiries.name(name).await {
            Ok(Some(told)) => json(&told),
            Ok(None) => (StatusCode::NOT_FOUND, "the configuration has no such name\n").into_response(),
            Err(error) => unanswered(&error),
        };
    }
    match question(&asked) {
        Ok(question) => match wiring.inquiries.request(question).await {
            Ok(told) => json(&told),
            Err(error) => unanswered(&error),
        },
        Err(why) => wrong(&why),
    }
}

fn question(asked: &[(String, String)]) -> Result<Question, String> {
    let mut question = Question::get(String::new(), String::new());
    for (key, value) in asked {
        match key.as_str() {
            "host" => question.host.clone_from(value),
            "path" => question = question.with_path(value),
            "method" => question.method.clone_from(value),
            "scheme" => question.https = value == "https",
            "header" if question.headers.len() < HEADERS_MAX => {
                question.headers.push(Question::header(value).ok_or("`header` is name:value")?);
            }
            "header" => return Err(format!("more than {HEADERS_MAX} headers")),
            other => return Err(format!("`{other}` is unknown: host, path, method, scheme, header, or dns")),
        }
    }
    if question.path.is_empty() { Err("`path` is missing".to_owned()) } else { Ok(question) }
}

fn wrong(why: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response()
}

fn unanswered(error: &crate::inquiry::Unanswered) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response()
}

fn json(told: &impl Serialize) -> Response {
    match serde_json::to_string_pretty(told) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(error) => {
            tracing::error!(%error, "an explanation can't be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
