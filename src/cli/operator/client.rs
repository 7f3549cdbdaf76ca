//! A plain HTTP client of an edge's admin listener: one request a connection.

use crate::operators::wire::Answer;
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For one request; denials are answered slowly.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest answer.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The admin listener's default.
const PORT: u16 = 9901;

/// What went wrong, in full.
#[derive(Debug)]
pub(super) struct Failure(pub(super) String);

#[derive(Debug)]
pub(super) struct Client {
    /// Host and port.
    authority: String,
    token: Option<String>,
}

impl Client {
    pub(super) fn of(url: &str, token: Option<String>) -> Result<Self, Failure> {
        let wrong = || Failure(format!("{url:?} is no address of an admin listener: want http://HOST:PORT"));
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("http") || !matches!(uri.path(), "" | "/") {
            return Err(wrong());
        }
        let host = uri.host().ok_or_else(wrong)?;
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(PORT));
        Ok(Self { authority, token: token.map(|token| token.trim().to_owned()) })
    }

    /// The text of a good answer.
    pub(super) async fn get(&self, path: &str) -> Result<String, Failure> {
        self.send("GET", path, String::new()).await
    }

    /// An act's account.
    pub(super) async fn answer(&self, method: &str, path: &str, body: String) -> Result<Answer, Failure> {
        let text = self.send(method, path, body).await?;
        serde_json::from_str(&text).map_err(|error| self.failure(&format!("an answer that is none: {error}")))
    }

    fn failure(&self, what: &str) -> Failure {
        Failure(format!("http://{}: {what}", self.authority))
    }

    async fn send(&self, method: &str, path: &str, body: String) -> Result<String, Failure> {
        let exchange = timeout(PATIENCE, self.exchange(method, path, body)).await;
        let exchange = exchange.map_err(|_| self.failure("no answer; see --admin, or --direct"))?;
        let (status, text) = exchange.map_err(|why| self.failure(&why))?;
        if status.is_success() {
            return Ok(text);
        }
        let told: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let told = told.as_ref().and_then(|told| told["error"].as_str()).unwrap_or(text.trim());
        Err(Failure(match status {
            StatusCode::UNAUTHORIZED => format!("{told}; see --token-file"),
            StatusCode::CONFLICT => format!("refused: {told}"),
            StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => told.to_owned(),
            _ => format!("{status}: {told}"),
        }))
    }

    async fn exchange(&self, method: &str, path: &str, body: String) -> Result<(StatusCode, String), String> {
        let stream = TcpStream::connect(&self.authority).await;
        let stream =
            stream.map_err(|error| format!("{error}; see --admin, or --direct if no edge is left"))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.authority);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())?;
        let asked = async {
            let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok((parts.status, String::from_utf8_lossy(&body).into_owned()))
        };
        let mut asked = std::pin::pin!(asked);
        tokio::select! {
            done = &mut asked => done,
            // The connection ends with its answer, which is then there.
            _ = connection => asked.await,
        }
    }
}
