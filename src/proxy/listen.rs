//! Binding and accepting.

use crate::config::{Config, ListenAddress, Listener, ListenerLimits, Protocol};
use crate::metrics::request::{ListenerKind, RequestMetrics};
use crate::proxy::connection::Server;
use crate::proxy::door::{Door, Rules};
use crate::proxy::{Addresses, Bound, Error};
use pingora::protocols::l4::stream::Stream as Socket;
use socket2::{SockFilter, SockRef};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info, warn};
use unix::SocketFile;

mod unix;

/// Name of the peer listener in errors and logs.
pub(super) const PEER: &str = "peer";
/// Pause after a failed accept: out of descriptors does not end by asking again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Clients that the kernel is asked to let in before they are accepted, and that are taken at
/// the end. It cuts it to `net.core.somaxconn`; Tokio would ask for 128, a short burst.
const BACKLOG: u32 = 4096;

/// How long those are waited for who have begun to connect: most ways there and back, wherever they are.
const LAST_GREETINGS: Duration = Duration::from_millis(250);

/// What this edge itself may add to a forwarded request: the peer listener takes it, too.
const ADDED_BYTES: usize = 4096;
const ADDED_HEADERS: usize = 20;

/// A connection that has been accepted; `None`: its other end has no address.
type Accepted = (Socket, Option<SocketAddr>);

/// A listening socket of either kind.
pub(super) enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The same once nobody waits for it any more.
enum Ended {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Listening {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(tcp, remote)| (tcp.into(), Some(remote))),
            Self::Unix(listener, _) => listener.accept().await.map(|(unix, _)| (unix.into(), None)),
        }
    }

    /// No client finds it any more; those that did are still to be accepted.
    fn end(self) -> io::Result<Ended> {
        match self {
            Self::Tcp(listener) => listener.into_std().map(Ended::Tcp),
            Self::Unix(listener, file) => {
                drop(file);
                listener.into_std().map(Ended::Unix)
            }
        }
    }
}

impl Ended {
    fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (tcp, remote) = listener.accept()?;
                tcp.set_nonblocking(true)?;
                Ok((TcpStream::from_std(tcp)?.into(), Some(remote)))
            }
            Self::Unix(listener) => {
                let (unix, _) = listener.accept()?;
                unix.set_nonblocking(true)?;
                Ok((UnixStream::from_std(unix)?.into(), None))
            }
        }
    }
}

/// Binds the listeners of a configuration.
pub(super) async fn bind(
    config: &Config,
    metrics: &RequestMetrics,
) -> Result<(Vec<Bound>, Addresses), Error> {
    let (mut bound, mut addresses) = (Vec::new(), Addresses::default());
    for listener in &config.listeners {
        let (name, rules) = (&listener.name, Rules::of(listener));
        let kind = match listener.protocol {
            Protocol::Http => ListenerKind::Http,
            Protocol::Https => ListenerKind::Https,
        };
        let (listener, real) = listen(name, &listener.address).await?;
        match real {
            ListenAddress::Tcp(real) => drop(addresses.listeners.insert(name.clone(), real)),
            ListenAddress::Unix(real) => drop(addresses.sockets.insert(name.clone(), real.path)),
        }
        let door = Arc::new(Door::new(kind, rules, metrics));
        bound.push(Bound { name: name.clone(), door, listener });
    }
    if let Some(peer) = &config.peer {
        let (listener, real) = listen(PEER, &peer.address.into()).await?;
        if let ListenAddress::Tcp(real) = real {
            addresses.peer = Some(real);
        }
        let rules = Rules::new(&peer_limits(config), None);
        let door = Arc::new(Door::new(ListenerKind::Peer, rules, metrics));
        bound.push(Bound { name: PEER.to_owned(), door, listener });
    }
    Ok((bound, addresses))
}

/// Gives the doors, which are in the order of [`bind`], the rules of a configuration that has the same listeners.
pub(super) fn change(doors: &[Arc<Door>], config: &Config) {
    let peer = config.peer.iter().map(|_| Rules::new(&peer_limits(config), None));
    for (door, rules) in doors.iter().zip(config.listeners.iter().map(Rules::of).chain(peer)) {
        door.change(rules);
    }
}

/// What one region lets in, the others take from it: the edge that a client came to minds its pace.
fn peer_limits(config: &Config) -> ListenerLimits {
    let default = ListenerLimits { min_rate: None, ..ListenerLimits::default() };
    let widest = config.listeners.iter().fold(default, |widest, Listener { limits, .. }| ListenerLimits {
        max_head: widest.max_head.max(limits.max_head),
        max_uri: widest.max_uri.max(limits.max_uri),
        max_headers: widest.max_headers.max(limits.max_headers),
        client_timeout: widest.client_timeout.max(limits.client_timeout),
        ..widest
    });
    ListenerLimits {
        max_head: widest.max_head + ADDED_BYTES,
        max_uri: widest.max_uri + ADDED_BYTES,
        max_headers: widest.max_headers + ADDED_HEADERS,
        ..widest
    }
}

async fn listen(name: &str, address: &ListenAddress) -> Result<(Listening, ListenAddress), Error> {
    let failed = |source| Error::Bind { listener: name.to_owned(), address: address.clone(), source };
    let (listener, real) = match address {
        ListenAddress::Tcp(address) => {
            let listener = open(*address).map_err(failed)?;
            let real = listener.local_addr().map_err(failed)?.into();
            (Listening::Tcp(listener), real)
        }
        ListenAddress::Unix(at) => {
            let (listener, file) = unix::open(at).await.map_err(failed)?;
            (Listening::Unix(listener, file), address.clone())
        }
    };
    info!(listener = name, address = %real, "listening");
    Ok((listener, real))
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of a process before this one may linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What of the listeners differs, in words; `None`: nothing.
pub(super) fn difference(before: &Config, after: &Config) -> Option<String> {
    let places = |config: &Config| {
        let place =
            |Listener { name, address, protocol, .. }: &Listener| (name.clone(), address.clone(), *protocol);
        config.listeners.iter().map(place).collect::<Vec<_>>()
    };
    if places(before) != places(after) {
        return Some("the names, addresses and protocols of listeners".to_owned());
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
            Ok((socket, remote)) => take(socket, remote, &door, &server),
            Err(e) if e.kind() == ErrorKind::ConnectionAborted => left(&name, &e),
            Err(e) => {
                warn!(listener = name, error = %e, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    if greet_nobody(&listener, &name) {
        let last = Instant::now() + LAST_GREETINGS;
        while let Ok(accepted) = timeout_at(last, listener.accept()).await {
            match accepted {
                Ok((socket, remote)) => take(socket, remote, &door, &server),
                Err(e) => left(&name, &e),
            }
        }
    }
    match listener.end() {
        Ok(ended) => take_backlog(&name, &door, &ended, &server),
        Err(e) => warn!(listener = name, error = %e, "clients that had just connected are reset"),
    }
    debug!(listener = name, "closed");
}

/// Has the kernel drop what begins a new connection, and nothing else: whoever has begun one gets in, and
/// nobody is let in between the last one that is accepted and the end of the socket, only to be reset. Who
/// comes later asks again after a second and is refused by then, or let in by whoever listens instead.
///
/// Returns whether that could be done.
fn greet_nobody(listener: &Listening, name: &str) -> bool {
    let Listening::Tcp(listener) = listener else { return false };
    let attached = SockRef::from(listener).attach_filter(&NO_SYN);
    if let Err(error) = &attached {
        debug!(listener = name, %error, "clients that connect in this moment are reset");
    }
    attached.is_ok()
}

/// Drops segments with SYN and without ACK; the accumulator is loaded with the flags of the TCP header.
/// Source: Linux, Documentation/networking/filter.rst; RFC 9293 section 3.1.
const NO_SYN: [SockFilter; 5] = [
    // ldb [13]; and #(SYN | ACK); jeq #SYN; ret #0; ret #all
    SockFilter::new(0x30, 0, 0, 13),
    SockFilter::new(0x54, 0, 0, 0x12),
    SockFilter::new(0x15, 0, 1, 0x02),
    SockFilter::new(0x06, 0, 0, 0),
    SockFilter::new(0x06, 0, 0, u32::MAX),
];

/// Takes the clients that the kernel has let in already: they may have sent a request.
///
/// Asks the kernel itself: what Tokio says at once may be "nothing" only because the task
/// has used up its turn, or because readiness was not looked at yet.
fn take_backlog(name: &str, door: &Arc<Door>, ended: &Ended, server: &Arc<Server>) {
    for _ in 0..BACKLOG {
        match ended.accept() {
            Ok((socket, remote)) => take(socket, remote, door, server),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return,
            Err(e) => left(name, &e),
        }
    }
}

/// Serves a connection that the door lets in; another one is closed at once.
fn take(socket: Socket, remote: Option<SocketAddr>, door: &Arc<Door>, server: &Arc<Server>) {
    match door.enter(remote.map(|remote| remote.ip())) {
        Ok(inside) => {
            let (server, door) = (Arc::clone(server), Arc::clone(door));
            tokio::spawn(async move { server.serve(socket, remote, door, inside).await });
        }
        Err(refusal) => {
            door.refuse(refusal);
            debug!(?remote, ?refusal, "refused");
        }
    }
}

fn left(name: &str, error: &std::io::Error) {
    debug!(listener = name, %error, "a client left before it was accepted");
}
