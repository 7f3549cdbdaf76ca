//! Route 53's HTTP API, version 2013-04-01: the calls that Proxima makes.
//!
//! Any signature is accepted, none is refused: what a signature would prove is
//! tested elsewhere, that one is sent is tested here.

mod health;
mod observe;
mod zones;

use super::refusal::Refusal;
use super::state::State;
use super::wire;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::response::Response;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// The longest batch that the limits allow, in XML, is well below this.
const BODY_BYTES_MAX: usize = 2 << 20;

/// What a call gets: an XML document, or a refusal.
type Answered = Result<Document, Refusal>;

/// A document to send, with where to find what it created.
struct Document {
    status: StatusCode,
    body: String,
    location: Option<String>,
    content_type: &'static str,
}

impl Document {
    /// An XML document under Route 53's name for it.
    fn xml<T: Serialize>(root: &str, document: &T) -> Answered {
        let body = quick_xml::se::to_string_with_root(root, document)
            .map_err(|error| Refusal::InvalidInput(format!("the answer has no XML form: {error}")))?;
        let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}");
        Ok(Self { status: StatusCode::OK, body, location: None, content_type: "text/xml" })
    }

    fn json<T: Serialize>(document: &T) -> Answered {
        let body = serde_json::to_string(document)
            .map_err(|error| Refusal::InvalidInput(format!("the answer has no JSON form: {error}")))?;
        Ok(Self { status: StatusCode::OK, body, location: None, content_type: "application/json" })
    }

    /// As the answer to a call that created something.
    fn created(mut self, location: String) -> Self {
        self.status = StatusCode::CREATED;
        self.location = Some(location);
        self
    }
}

/// Answers one request: finds the call by method and path.
pub async fn serve(state: Arc<State>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let answered = match to_bytes(body, BODY_BYTES_MAX).await {
        Ok(body) => {
            let call = Call {
                method: parts.method,
                uri: parts.uri,
                signed: parts.headers.contains_key(header::AUTHORIZATION),
                body,
            };
            dispatch(&state, &call).await
        }
        Err(error) => Err(Refusal::InvalidInput(format!("The request could not be read: {error}"))),
    };
    respond(answered)
}

/// One request, read.
struct Call {
    method: Method,
    uri: Uri,
    signed: bool,
    body: Bytes,
}

impl Call {
    fn query<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        axum::extract::Query::<T>::try_from_uri(&self.uri)
            .map(|query| query.0)
            .map_err(|error| Refusal::InvalidInput(error.to_string()))
    }

    fn xml<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let text = std::str::from_utf8(&self.body)
            .map_err(|_| Refusal::InvalidInput("Invalid XML ; the request is not UTF-8".into()))?;
        quick_xml::de::from_str(text).map_err(|error| Refusal::InvalidInput(format!("Invalid XML ; {error}")))
    }
}

async fn dispatch(state: &Arc<State>, call: &Call) -> Answered {
    let segments: Vec<&str> = call.uri.path().split('/').filter(|segment| !segment.is_empty()).collect();
    let method = call.method.as_str();
    if let ["zone-server", rest @ ..] = &segments[..] {
        return observe::dispatch(state, call, rest);
    }
    let ["2013-04-01", rest @ ..] = &segments[..] else { return Err(Refusal::UnknownOperation) };
    if !call.signed {
        return Err(Refusal::MissingAuthenticationToken);
    }
    state.admit()?;
    match (method, rest) {
        ("POST", ["hostedzone"]) => zones::create(state, call),
        ("GET", ["hostedzonesbyname"]) => zones::list_by_name(state, call),
        ("GET", ["hostedzone", id]) => zones::get(state, id),
        ("POST", ["hostedzone", id, "rrset"]) => zones::change_record_sets(state, call, id).await,
        ("GET", ["hostedzone", id, "rrset"]) => zones::list_record_sets(state, call, id),
        ("GET", ["change", id]) => zones::get_change(state, id),
        ("POST", ["healthcheck"]) => health::create(state, call),
        ("GET", ["healthcheck"]) => health::list(state, call),
        ("GET", ["healthcheck", id]) => health::get(state, id),
        ("POST", ["healthcheck", id]) => health::update(state, call, id),
        ("DELETE", ["healthcheck", id]) => health::delete(state, id),
        ("GET", ["healthcheck", id, "status"]) => health::status(state, id),
        _ => Err(Refusal::UnknownOperation),
    }
}

fn respond(answered: Answered) -> Response {
    let document = answered.or_else(|refusal| refused(&refusal));
    let mut response = match document {
        Ok(document) => {
            let mut response = Response::new(Body::from(document.body));
            *response.status_mut() = document.status;
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(document.content_type));
            if let Some(location) = document.location.and_then(|text| HeaderValue::from_str(&text).ok()) {
                headers.insert(header::LOCATION, location);
            }
            response
        }
        Err(refusal) => {
            let mut response = Response::new(Body::from(refusal.to_string()));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    };
    response.headers_mut().insert("x-amzn-requestid", HeaderValue::from_static(REQUEST_ID));
    response
}

/// One id for all requests: nothing here looks one up.
const REQUEST_ID: &str = "00000000-0000-4000-a000-000000000000";

/// A refusal as the document that SDKs map to their typed errors.
///
/// Route 53's own form for InvalidChangeBatch has a root of that name; the
/// Rust SDK reads the code only from an `ErrorResponse`, which Route 53 sends
/// as well, with the messages in brackets.
fn refused(refusal: &Refusal) -> Answered {
    let kind = if refusal.status() < 500 { "Sender" } else { "Receiver" };
    let body = wire::ErrorResponse {
        xmlns: wire::Xmlns,
        error: wire::ErrorBody { kind, code: refusal.code(), message: refusal.to_string() },
        request_id: REQUEST_ID.to_owned(),
    };
    let mut document = Document::xml("ErrorResponse", &body)?;
    document.status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    Ok(document)
}
