//! Binding and accepting.

use crate::config::{Config, Listener, Protocol};
use crate::metrics::request::ListenerKind;
use crate::proxy::connection::Server;
use crate::proxy::gateway::{CLIENT_PATIENCE, Gateway};
use crate::proxy::{Addresses, Bound, Error};
use pingora::apps::HttpServerOptions;
use pingora::protocols::http::v2::server::default_h2_options;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

/// Name of the peer listener in errors and logs.
pub(super) const PEER: &str = "peer";
/// Idle upstream connections kept in all.
const POOL_CONNECTIONS: usize = 1024;
/// A bound on attempts that no configuration reaches; the service's own budget decides.
const ATTEMPTS_MAX: usize = 1000;
/// Flow control windows that carry an upload of 10 MB/s over 100 ms a stream.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Pause after a failed accept: out of descriptors does not end by asking again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections taken at the end; what Tokio asks the kernel to queue.
const BACKLOG: usize = 1024;

/// Binds the listeners of a configuration.
pub(super) async fn bind(config: &Config) -> Result<(Vec<Bound>, Addresses), Error> {
    let (mut bound, mut addresses) = (Vec::new(), Addresses::default());
    for Listener { name, address, protocol } in &config.listeners {
        let kind = match protocol {
            Protocol::Http => ListenerKind::Http,
            Protocol::Https => ListenerKind::Https,
        };
        let (listener, real) = listen(name, *address).await?;
        addresses.listeners.insert(name.clone(), real);
        bound.push(Bound { name: name.clone(), kind, listener });
    }
    if let Some(peer) = &config.peer {
        let (listener, real) = listen(PEER, peer.address).await?;
        addresses.peer = Some(real);
        bound.push(Bound { name: PEER.to_owned(), kind: ListenerKind::Peer, listener });
    }
    Ok((bound, addresses))
}

async fn listen(name: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Bind { listener: name.to_owned(), address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let real = listener.local_addr().map_err(failed)?;
    info!(listener = name, address = %real, "listening");
    Ok((listener, real))
}

/// What of the listeners differs, in words; `None`: nothing.
pub(super) fn difference(before: &Config, after: &Config) -> Option<String> {
    if before.listeners != after.listeners {
        return Some("listeners".to_owned());
    }
    let peer = |config: &Config| config.peer.as_ref().map(|peer| peer.address);
    if peer(before) != peer(after) {
        return Some("the address of the peer listener".to_owned());
    }
    None
}

/// The Pingora application behind all listeners.
pub(super) fn application(config: &Config, gateway: Gateway) -> HttpProxy<Gateway> {
    let conf = ServerConf {
        upstream_keepalive_pool_size: POOL_CONNECTIONS,
        max_retries: ATTEMPTS_MAX,
        // Every TLS connection brings its own roots; these stand where the
        // system's would be loaded, and may be missing in a small image.
        ca_file: config.peer.as_ref().map(|peer| peer.ca.to_string_lossy().into_owned()),
        ..ServerConf::default()
    };
    let mut http = http_proxy(&Arc::new(conf), gateway);
    let mut options = HttpServerOptions::default();
    // The connection layer has seen the preface already.
    options.h2c = true;
    options.h2_idle_timeout = Some(CLIENT_PATIENCE);
    http.server_options = Some(options);
    let mut http2 = default_h2_options();
    http2.initial_window_size(STREAM_WINDOW_BYTES);
    http2.initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    http.h2_options = Some(http2);
    http
}

/// Accepts on every listener, each in a task of its own, until the server closes.
pub(super) fn accept(bound: Vec<Bound>, server: &Arc<Server>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for bound in bound {
        tasks.spawn(accept_on(bound, Arc::clone(server)));
    }
    tasks
}

async fn accept_on(bound: Bound, server: Arc<Server>) {
    let mut closing = server.closing.clone();
    loop {
        let accepted = tokio::select! {
            accepted = bound.listener.accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        take(accepted, &bound, &server).await;
    }
    // Clients that the kernel has let in already may have sent a request.
    for _ in 0..BACKLOG {
        let accepted = tokio::select! {
            biased;
            accepted = bound.listener.accept() => accepted,
            () = std::future::ready(()) => break,
        };
        take(accepted, &bound, &server).await;
    }
    debug!(listener = bound.name, "closed");
}

async fn take(accepted: std::io::Result<(TcpStream, SocketAddr)>, bound: &Bound, server: &Arc<Server>) {
    match accepted {
        Ok((tcp, remote)) => {
            let (server, kind) = (Arc::clone(server), bound.kind);
            tokio::spawn(async move { server.serve(tcp, remote, kind).await });
        }
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionAborted => {
            debug!(listener = bound.name, error = %e, "a client left before it was accepted");
        }
        Err(e) => {
            warn!(listener = bound.name, error = %e, "cannot accept");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}
