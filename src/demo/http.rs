//! A small HTTP/1.1 client: connections from a chosen address, whole answers.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The largest answer that is read: an edge's metrics with every region and service.
const BODY_BYTES_MAX: usize = 4 << 20;

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    /// The header [`crate::demo::service::REGION_HEADER`], if any.
    pub region: Option<String>,
    pub body: Bytes,
}

/// Why there is no whole answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    #[error("the connection broke")]
    Broken(#[from] hyper::Error),
    #[error("the body broke or is too large")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("this is no request")]
    Request(#[from] http::Error),
    #[error("no answer in time")]
    Timeout,
}

/// One kept-alive connection.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Connects to `target`, from `source` if given.
    ///
    /// # Errors
    /// The address cannot be bound or the connection is refused.
    pub async fn open(source: Option<Ipv4Addr>, target: SocketAddr) -> Result<Self, Error> {
        let socket = TcpSocket::new_v4().map_err(Error::Connect)?;
        if let Some(source) = source {
            socket.bind((source, 0).into()).map_err(Error::Connect)?;
        }
        let stream = socket.connect(target).await.map_err(Error::Connect)?;
        stream.set_nodelay(true).map_err(Error::Connect)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            // Whoever waits for an answer on it gets the same error.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection of the demo broke");
            }
        });
        Ok(Self { sender, driver })
    }

    /// Sends one GET and reads the whole answer.
    ///
    /// # Errors
    /// The connection breaks before the answer is whole, or it is too large.
    pub async fn get(&mut self, host: &str, path: &str) -> Result<Answer, Error> {
        let request = Request::get(path).header(header::HOST, host).body(Empty::new())?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(Error::Body)?;
        let region = head.headers.get(super::service::REGION_HEADER);
        let region = region.and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Answer { status: head.status, region, body: body.to_bytes() })
    }
}

/// One GET on a connection of its own, within `patience`.
///
/// # Errors
/// As [`Connection::open`] and [`Connection::get`], or [`Error::Timeout`].
pub async fn fetch(target: SocketAddr, path: &str, patience: Duration) -> Result<Answer, Error> {
    let asked = async {
        let mut connection = Connection::open(None, target).await?;
        connection.get(&target.to_string(), path).await
    };
    timeout(patience, asked).await.map_err(|_| Error::Timeout)?
}
