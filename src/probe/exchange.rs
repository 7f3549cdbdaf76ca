//! One connection and one exchange on it: HTTP/1.1 or HTTP/2, plain or TLS.

use super::grpc;
use super::prober::{Answer, Dial};
use super::verdict::judge;
use crate::config::{HttpMethod, Question};
use crate::domain::fleet::{EndpointAnswer, ProbeFailure};
use crate::trust::Speech;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Collected, Full, LengthLimitError, Limited};
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
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
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

    /// One question; the time is from sending the request to the response head.
    ///
    /// # Errors
    /// What of the answer is not as the question wants it; `Closed` or `Tls` when the connection breaks.
    pub(super) async fn exchange(&mut self, dial: &Dial) -> Result<Answer, ProbeFailure> {
        let sent = Instant::now();
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                let request = request(dial)?;
                sender.ready().await.map_err(|error| failure(&error))?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                let request = request(dial)?;
                sender.ready().await.map_err(|error| failure(&error))?;
                sender.send_request(request).await
            }
        };
        let (head, body) = response.map_err(|error| failure(&error))?.into_parts();
        let took = sent.elapsed();
        let body = whole(body, dial.body_max).await?;
        let trailers = body.as_ref().and_then(Collected::trailers).cloned();
        let body = body.map(Collected::to_bytes);
        let said = judge(&dial.question, &head, body.as_deref(), trailers.as_ref())?;
        Ok(Answer { took, warm: false, body, said })
    }
}

/// A connection, and a handshake where there is a trust: all that is asked of some endpoints.
///
/// # Errors
/// `Connect` or `Tls`.
pub(super) async fn reach(address: SocketAddr, dial: &Dial) -> Result<Answer, ProbeFailure> {
    let started = Instant::now();
    let stream = TcpStream::connect(address).await.map_err(|_| ProbeFailure::Connect)?;
    if let Some(trust) = dial.trust.as_ref().filter(|_| dial.question == Question::Tls) {
        trust.shake(stream, address, dial.speech).await.map_err(|_| ProbeFailure::Tls)?;
    }
    let (took, body) = (started.elapsed(), Some(Bytes::new()));
    Ok(Answer { took, warm: false, body, said: EndpointAnswer::Well })
}

fn request(dial: &Dial) -> Result<Request<Full<Bytes>>, ProbeFailure> {
    let (method, path, body) = match &dial.question {
        Question::Http(asked) => {
            let method = match asked.method {
                _ if dial.told.is_some() => Method::POST,
                HttpMethod::Get => Method::GET,
                HttpMethod::Head => Method::HEAD,
            };
            (method, asked.path.as_str(), dial.told.clone().unwrap_or_default())
        }
        Question::Grpc(service) => (Method::POST, grpc::CHECK, grpc::question(service)),
        // Those are not asked anything.
        Question::Tcp | Question::Tls => return Err(ProbeFailure::Malformed),
    };
    let mut request = Request::builder()
        .method(method)
        .header(header::USER_AGENT, concat!("proxima/", env!("CARGO_PKG_VERSION")));
    request = match dial.speech {
        Speech::Http1 => request.uri(path).header(header::HOST, &dial.authority),
        Speech::Http2 => {
            let scheme = if dial.trust.is_some() { "https" } else { "http" };
            request.uri(format!("{scheme}://{}{path}", dial.authority))
        }
    };
    if dial.told.is_some() {
        request = request.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Question::Grpc(_) = dial.question {
        request = request
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
            .header(header::TE, HeaderValue::from_static("trailers"));
    }
    request.body(Full::new(body)).map_err(|error| {
        tracing::error!(%error, path, "no request can be made of this health path");
        ProbeFailure::Malformed
    })
}

/// The body, or `None` when it is longer than `max`.
async fn whole(body: Incoming, max: usize) -> Result<Option<Collected<Bytes>>, ProbeFailure> {
    match Limited::new(body, max).collect().await {
        Ok(body) => Ok(Some(body)),
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
