//! One connection and one exchange on it: HTTP/1.1 or HTTP/2, plain or TLS.

use super::prober::{Answer, Dial};
use crate::domain::fleet::ProbeFailure;
use crate::trust::Speech;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// A connection that is ready for an exchange; its driver ends with it.
#[derive(Debug)]
pub(super) struct Link {
    sender: Sender,
    driver: AbortHandle,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Link {
    /// Connects; tells how long TCP and TLS took.
    ///
    /// # Errors
    /// `Connect`, `Tls`, or `Closed` when the other side hung up in between.
    pub(super) async fn connect(address: SocketAddr, dial: &Dial) -> Result<(Self, Duration), ProbeFailure> {
        let started = Instant::now();
        let stream = TcpStream::connect(address).await.map_err(|_| ProbeFailure::Connect)?;
        stream.set_nodelay(true).map_err(|_| ProbeFailure::Connect)?;
        let Some(trust) = &dial.trust else {
            let set_up = started.elapsed();
            return Ok((Self::over(TokioIo::new(stream), dial.speech).await?, set_up));
        };
        let stream = trust.shake(stream, address, dial.speech).await.map_err(|_| ProbeFailure::Tls)?;
        let set_up = started.elapsed();
        Ok((Self::over(TokioIo::new(stream), dial.speech).await?, set_up))
    }

    async fn over<I>(io: I, speech: Speech) -> Result<Self, ProbeFailure>
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        match speech {
            Speech::Http1 => {
                let (sender, driver) = http1::handshake(io).await.map_err(|error| failure(&error))?;
                Ok(Self::driven(Sender::Http1(sender), driver))
            }
            Speech::Http2 => {
                let begun = http2::handshake(TokioExecutor::new(), io).await;
                let (sender, driver) = begun.map_err(|error| failure(&error))?;
                Ok(Self::driven(Sender::Http2(sender), driver))
            }
        }
    }

    fn driven<D>(sender: Sender, driver: D) -> Self
    where
        D: Future<Output = Result<(), hyper::Error>> + Send + 'static,
    {
        let driver = tokio::spawn(async move {
            // The exchange on the connection meets the same error and reports it.
            if let Err(error) = driver.await {
                tracing::trace!(%error, "probe connection ended");
            }
        });
        Self { sender, driver: driver.abort_handle() }
    }

    /// One GET; the time is from sending the request to the response head.
    ///
    /// # Errors
    /// `Status` for anything but 2xx; `Closed` or `Tls` when the connection breaks.
    pub(super) async fn exchange(&mut self, dial: &Dial) -> Result<Answer, ProbeFailure> {
        let sent = Instant::now();
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                let request = request(dial, dial.path.clone())?;
                sender.ready().await.map_err(|error| failure(&error))?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                let scheme = if dial.trust.is_some() { "https" } else { "http" };
                let request = request(dial, format!("{scheme}://{}{}", dial.authority, dial.path))?;
                sender.ready().await.map_err(|error| failure(&error))?;
                sender.send_request(request).await
            }
        };
        let response = response.map_err(|error| failure(&error))?;
        let took = sent.elapsed();
        if !response.status().is_success() {
            return Err(ProbeFailure::Status);
        }
        let body = whole(response.into_body(), dial.body_max).await?;
        Ok(Answer { took, warm: false, body })
    }
}

fn request(dial: &Dial, uri: String) -> Result<Request<Empty<Bytes>>, ProbeFailure> {
    let mut request =
        Request::get(uri).header(header::USER_AGENT, concat!("proxima/", env!("CARGO_PKG_VERSION")));
    if !matches!(dial.speech, Speech::Http2) {
        request = request.header(header::HOST, &dial.authority);
    }
    request.body(Empty::new()).map_err(|error| {
        tracing::error!(%error, path = dial.path, "no request can be made of this health path");
        ProbeFailure::Malformed
    })
}

/// The body, or `None` when it is longer than `max`.
async fn whole(body: Incoming, max: usize) -> Result<Option<Bytes>, ProbeFailure> {
    match Limited::new(body, max).collect().await {
        Ok(body) => Ok(Some(body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Ok(None),
        Err(error) => Err(failure(error.as_ref())),
    }
}

/// Whether TLS or the connection broke, by the chain of causes.
///
/// With TLS 1.3 a refused client certificate shows only after the handshake,
/// as an alert instead of the answer.
fn failure(error: &(dyn Error + 'static)) -> ProbeFailure {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<rustls::Error>() {
            return ProbeFailure::Tls;
        }
        // An io::Error does not count what it wraps among its sources, but its source.
        if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref)
            && inner.is::<rustls::Error>()
        {
            return ProbeFailure::Tls;
        }
        cause = error.source();
    }
    ProbeFailure::Closed
}
