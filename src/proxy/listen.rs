//! Binding and accepting.

use crate::config::{Config, Listener, ListenerLimits, Protocol};
use crate::metrics::request::{ListenerKind, RequestMetrics};
use crate::proxy::connection::Server;
use crate::proxy::door::Door;
use crate::proxy::{Addresses, Bound, Error};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

/// Name of the peer listener in errors and logs.
pub(super) const PEER: &str = "peer";
/// Pause after a failed accept: out of descriptors does not end by asking again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Clients that the kernel is asked to let in before they are accepted, and that are taken at
/// the end. It cuts it to `net.core.somaxconn`; Tokio would ask for 128, a short burst.
const BACKLOG: u32 = 4096;

/// Binds the listeners of a configuration.
pub(super) fn bind(config: &Config, metrics: &RequestMetrics) -> Result<(Vec<Bound>, Addresses), Error> {
    let (mut bound, mut addresses) = (Vec::new(), Addresses::default());
    for Listener { name, address, protocol, proxy_protocol, limits } in &config.listeners {
        let kind = match protocol {
            Protocol::Http => ListenerKind::Http,
            Protocol::Https => ListenerKind::Https,
        };
        let (listener, real) = listen(name, *address)?;
        addresses.listeners.insert(name.clone(), real);
        let door = Arc::new(Door::new(kind, limits, proxy_protocol.as_ref(), metrics));
        bound.push(Bound { name: name.clone(), door, listener });
    }
    if let Some(peer) = &config.peer {
        let (listener, real) = listen(PEER, peer.address)?;
        addresses.peer = Some(real);
        let door = Arc::new(Door::new(ListenerKind::Peer, &ListenerLimits::default(), None, metrics));
        bound.push(Bound { name: PEER.to_owned(), door, listener });
    }
    Ok((bound, addresses))
}

fn listen(name: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Bind { listener: name.to_owned(), address, source };
    let listener = open(address).map_err(failed)?;
    let real = listener.local_addr().map_err(failed)?;
    info!(listener = name, address = %real, "listening");
    Ok((listener, real))
}

fn open(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of a process before this one may linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
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

/// Accepts on every listener, each in a task of its own, until the server closes.
pub(super) fn accept(bound: Vec<Bound>, server: &Arc<Server>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for bound in bound {
        tasks.spawn(accept_on(bound, Arc::clone(server)));
    }
    tasks
}

async fn accept_on(Bound { name, door, listener }: Bound, server: Arc<Server>) {
    let mut closing = server.closing.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        match accepted {
            Ok((tcp, remote)) => take(tcp, remote, &door, &server),
            Err(e) if e.kind() == ErrorKind::ConnectionAborted => left(&name, &e),
            Err(e) => {
                warn!(listener = name, error = %e, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    match listener.into_std() {
        Ok(listener) => take_backlog(&name, &door, &listener, &server),
        Err(e) => warn!(listener = name, error = %e, "clients that had just connected are reset"),
    }
    debug!(listener = name, "closed");
}

/// Takes the clients that the kernel has let in already: they may have sent a request.
///
/// Asks the kernel itself: what Tokio says at once may be "nothing" only because the task
/// has used up its turn, or because readiness was not looked at yet.
fn take_backlog(name: &str, door: &Arc<Door>, listener: &std::net::TcpListener, server: &Arc<Server>) {
    for _ in 0..BACKLOG {
        let accepted = listener.accept().and_then(|(tcp, remote)| {
            tcp.set_nonblocking(true)?;
            Ok((TcpStream::from_std(tcp)?, remote))
        });
        match accepted {
            Ok((tcp, remote)) => take(tcp, remote, door, server),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return,
            Err(e) => left(name, &e),
        }
    }
}

/// Serves a connection that the door lets in; another one is closed at once.
fn take(tcp: TcpStream, remote: SocketAddr, door: &Arc<Door>, server: &Arc<Server>) {
    match door.enter(remote.ip()) {
        Ok(inside) => {
            let (server, door) = (Arc::clone(server), Arc::clone(door));
            tokio::spawn(async move { server.serve(tcp, remote, &door, inside).await });
        }
        Err(refusal) => {
            door.refuse(refusal);
            debug!(%remote, ?refusal, "refused");
        }
    }
}

fn left(name: &str, error: &std::io::Error) {
    debug!(listener = name, %error, "a client left before it was accepted");
}
