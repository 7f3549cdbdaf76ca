//! Asking a running edge: one GET of its admin listener.

use crate::cli::admin_client::{self, AdminClient, TlsFiles};
use crate::domain::explain::Question;
use crate::domain::name::DnsName;
use bytes::Bytes;
use http::StatusCode;
use std::io;
use tokio::runtime;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Admin(#[from] admin_client::Error),
    #[error("no runtime")]
    Runtime(#[source] io::Error),
    #[error("it answered {status}: {text}")]
    Refused { status: StatusCode, text: String },
}

/// What `/explain` is asked for a request.
pub(super) fn request_query(question: &Question) -> String {
    let target = match question.query.as_str() {
        "" => question.path.clone(),
        query => format!("{}?{query}", question.path),
    };
    let scheme = if question.https { "https" } else { "http" };
    let mut pairs = vec![("host", question.host.as_str()), ("path", &target)];
    pairs.extend([("method", question.method.as_str()), ("scheme", scheme)]);
    let headers: Vec<String> =
        question.headers.iter().map(|(name, value)| format!("{name}:{value}")).collect();
    pairs.extend(headers.iter().map(|header| ("header", header.as_str())));
    query(&pairs)
}

/// What `/explain` is asked for a DNS name.
pub(super) fn name_query(name: &DnsName) -> String {
    query(&[("dns", name.as_str())])
}

fn query(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={}", escaped(value))).collect();
    pairs.join("&")
}

/// Source: RFC 3986, 2.3 (unreserved characters).
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
        escaped
    })
}

/// One GET of `/explain`; the body of a good answer.
pub(super) fn get(url: &str, files: &TlsFiles, query: &str) -> Result<Bytes, Error> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let path = format!("/explain?{query}");
    let (status, body) = runtime.block_on(async {
        AdminClient::of(url, files).await?.send("GET", &path, None, String::new()).await
    })?;
    if status == StatusCode::OK {
        return Ok(body);
    }
    Err(Error::Refused { status, text: String::from_utf8_lossy(&body).trim().to_owned() })
}
