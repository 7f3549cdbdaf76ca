//! Accepts operators, with a bound on everything that one of them can hold.
//!
//! `axum::serve` has none: a client that opens connections and says nothing
//! would take descriptors from the traffic beside it until none are left.

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

/// Connections at one time; more wait in the kernel. Many, so that a few idle ones leave room for
/// the probes of Kubernetes.
const CONNECTIONS_MAX: usize = 256;
/// To a whole request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest head; browsers with cookies of other ports stay below.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The whole of a connection, which has one request: a slow reader of `/metrics` is let finish.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// After the process ran out of descriptors: trying again at once would only burn the processor.
const PAUSE: Duration = Duration::from_secs(1);

/// Who sent a request, for the audit log.
#[derive(Debug, Clone)]
pub(super) struct From(pub(super) String);

/// Serves until the task is dropped.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // The semaphore is never closed.
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, from)) => {
                let router = router.clone().layer(Extension(From(from.to_string())));
                drop(tokio::spawn(connection(stream, TowerToHyperService::new(router), permit)));
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

async fn connection(stream: TcpStream, service: TowerToHyperService<Router>, _room: OwnedSemaphorePermit) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(listener = "admin", %error, "a client left or spoke nonsense"),
        Err(_) => tracing::debug!(listener = "admin", "a client took too long"),
    }
}
