//! An HTTP client of an edge's admin listener: one request a connection.

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For one request; denials of operators are answered slowly.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest answer.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The admin listener's default.
const PORT: u16 = 9901;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0:?} is no address of an admin listener: want http://HOST:PORT")]
    Url(String),
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("the connection broke")]
    Broken(#[from] hyper::Error),
    #[error("the request has no form in HTTP")]
    Request(#[from] http::Error),
    #[error("the answer broke or is too large")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Timeout,
}

/// An admin listener by its address.
#[derive(Debug)]
pub(super) struct AdminClient {
    /// Host and port.
    authority: String,
}

impl AdminClient {
    /// # Errors
    /// `Url`: another scheme than `http`, or a path.
    pub(super) fn of(url: &str) -> Result<Self, Error> {
        let wrong = || Error::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("http") || !matches!(uri.path(), "" | "/") {
            return Err(wrong());
        }
        let host = uri.host().ok_or_else(wrong)?;
        Ok(Self { authority: format!("{host}:{}", uri.port_u16().unwrap_or(PORT)) })
    }

    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// Status and body of the answer; `token`: of an operator.
    ///
    /// # Errors
    /// Any but `Url`.
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: String,
    ) -> Result<(StatusCode, Bytes), Error> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.authority);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let exchange = self.exchange(request.body(Full::new(Bytes::from(body)))?);
        timeout(PATIENCE, exchange).await.map_err(|_| Error::Timeout)?
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Error> {
        let stream = TcpStream::connect(&self.authority).await.map_err(Error::Connect)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let exchange = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(Error::Body)?;
            Ok((head.status, body.to_bytes()))
        };
        tokio::select! {
            answer = exchange => answer,
            // A connection that ends well has brought the answer, or `exchange` says that none came.
            Err(error) = connection => Err(error.into()),
        }
    }
}
