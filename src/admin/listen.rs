//! Accepts operators, with a bound on everything that one of them can hold.
//!
//! `axum::serve` has none: a client that opens connections and says nothing
//! would take descriptors from the traffic beside it until none are left.

use super::tls::Tls;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Connections at one time; more wait in the kernel. Many, so that a few idle ones leave room for
/// the probes of Kubernetes.
const CONNECTIONS_MAX: usize = 256;
/// For a handshake, and then to a whole request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest head; browsers with cookies of other ports stay below.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The whole of a connection, which has one request: a slow reader of `/metrics` is let finish.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// After the process ran out of descriptors: trying again at once would only burn the processor. Also
/// what a refused client gets to leave.
const PAUSE: Duration = Duration::from_secs(1);

/// What a connection that is refused may still send: it reads why only after that.
const FAREWELL_BYTES_MAX: u64 = 64 * 1024;

/// Who sent a request.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// Address and port.
    pub(super) from: String,
    /// The names of the certificate that it has shown, which was verified; `None`: it has shown none.
    pub(super) names: Option<Vec<String>>,
}

/// Serves until the task is dropped; `tls`: how connections are served from now on.
pub(super) async fn serve(listener: TcpListener, router: Router, tls: watch::Receiver<Tls>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // The semaphore is never closed.
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, from)) => {
                let (router, tls) = (router.clone(), tls.borrow().clone());
                drop(tokio::spawn(connection(stream, from, tls, router, permit)));
            }
            Err(error) if of_the_client(&error) => {}
            Err(error) => {
                tracing::error!(listener = "admin", %error, "connections are not accepted");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Whether only one connection failed, before it was accepted.
fn of_the_client(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(
    stream: TcpStream,
    from: SocketAddr,
    tls: Tls,
    router: Router,
    _room: OwnedSemaphorePermit,
) {
    let from = from.to_string();
    let served = async {
        match tls {
            None => speak(stream, router, Client { from, names: None }).await,
            Some(tls) => {
                if let Some((stream, names)) = handshake(stream, tls, &from).await {
                    speak(stream, router, Client { from, names }).await;
                }
            }
        }
    };
    if timeout(CONNECTION_TIMEOUT, served).await.is_err() {
        tracing::debug!(listener = "admin", "a client took too long");
    }
}

type Secured = (TlsStream<TcpStream>, Option<Vec<String>>);

/// `None`: it came to nothing, and the client was told why.
async fn handshake(stream: TcpStream, tls: Arc<ServerConfig>, from: &str) -> Option<Secured> {
    let accepting = TlsAcceptor::from(tls).accept(stream).into_fallible();
    match timeout(HEAD_TIMEOUT, accepting).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates();
            let names =
                shown.map(|chain| chain.first().map(|leaf| super::tls::names(leaf)).unwrap_or_default());
            Some((stream, names))
        }
        Ok(Err((error, stream))) => {
            tracing::debug!(listener = "admin", from, %error, "a handshake failed");
            farewell(stream).await;
            None
        }
        Err(_) => {
            tracing::debug!(listener = "admin", from, "a handshake took too long");
            None
        }
    }
}

/// Lets the alert arrive: closing over a request that was sent on trust would reset the connection
/// and take the reason with it (TLS 1.3 verifies clients after they have begun to send).
async fn farewell(mut stream: TcpStream) {
    let leaving = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(FAREWELL_BYTES_MAX), &mut tokio::io::sink()).await
    };
    if !matches!(timeout(PAUSE, leaving).await, Ok(Ok(_))) {
        tracing::debug!(listener = "admin", "a refused client did not leave by itself");
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router, client: Client) {
    let service = TowerToHyperService::new(router.layer(Extension(client)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(listener = "admin", %error, "a client left or spoke nonsense");
    }
}
