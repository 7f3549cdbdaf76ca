//! Asking a running edge: one GET of its admin listener.

use crate::domain::explain::Question;
use crate::domain::name::DnsName;
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::time::timeout;

/// For the whole of it.
const PATIENCE: Duration = Duration::from_secs(5);
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("expected the address of an admin listener, such as http://127.0.0.1:9901")]
    Url,
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("the connection broke")]
    Broken(#[from] hyper::Error),
    #[error("the answer broke or is too large")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("it answered {status}: {text}")]
    Refused { status: StatusCode, text: String },
    #[error("no answer within 5 s")]
    Timeout,
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
pub(super) fn get(url: &str, query: &str) -> Result<Bytes, Error> {
    let uri: Uri = url.trim_end_matches('/').parse().map_err(|_| Error::Url)?;
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http")).ok_or(Error::Url)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Connect)?;
    runtime.block_on(async {
        timeout(PATIENCE, exchange(authority.as_str(), query)).await.map_err(|_| Error::Timeout)?
    })
}

async fn exchange(authority: &str, query: &str) -> Result<Bytes, Error> {
    let address = if authority.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok()) {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    let stream = TcpStream::connect(&address).await.map_err(Error::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let request = Request::get(format!("/explain?{query}"))
            .header(header::HOST, authority)
            .body(Empty::<Bytes>::new())
            .map_err(|_| Error::Url)?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(Error::Body)?.to_bytes();
        if head.status == StatusCode::OK {
            return Ok(body);
        }
        let text = String::from_utf8_lossy(&body).trim().to_owned();
        Err(Error::Refused { status: head.status, text })
    };
    tokio::select! {
        answer = exchange => answer,
        // A connection that ends well has brought the answer, or `exchange` says that none came.
        Err(error) = connection => Err(error.into()),
    }
}
