//! Where clients connect, and what each listener lets in.

use crate::config::file::FromFile;
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    pub address: ListenAddress,
    pub protocol: Protocol,
    /// `Some`: every connection begins with a PROXY header.
    pub proxy_protocol: Option<ProxyProtocol>,
    pub limits: ListenerLimits,
    /// `Some`: what comes without TLS is sent to the same place over TLS.
    pub https_redirect: Option<HttpsRedirect>,
}

/// A place that can be listened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    Unix(UnixAddress),
}

/// A socket in the file system; whoever may write to its file may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixAddress {
    pub path: PathBuf,
    /// Permissions of the file; `None`: those that the process's umask leaves.
    pub mode: Option<u32>,
}

/// The longest path that the kernel takes, without its final NUL. Source: unix(7).
const SOCKET_PATH_MAX: usize = 107;
/// What stands before the path of a socket.
const UNIX: &str = "unix:";

impl ListenAddress {
    /// The same, a relative path taken from a folder.
    pub(super) fn within(self, folder: &Path, mode: Option<u32>) -> Self {
        match self {
            Self::Unix(at) => Self::Unix(UnixAddress { path: folder.join(at.path), mode }),
            tcp @ Self::Tcp(_) => tcp,
        }
    }

    /// Whether the kernel cannot take it.
    pub(super) fn is_too_long(&self) -> bool {
        matches!(self, Self::Unix(at) if at.path.as_os_str().len() > SOCKET_PATH_MAX)
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(at) => write!(f, "{UNIX}{}", at.path.display()),
        }
    }
}

impl FromFile for ListenAddress {
    const RULE: &'static str = r#"an IP address and a port, such as "0.0.0.0:8080" or "[::]:8080", or the path of a socket, such as "unix:/run/proxima/edge.sock""#;

    fn from_text(text: &str) -> Option<Self> {
        let Some(path) = text.strip_prefix(UNIX) else { return text.parse().ok().map(Self::Tcp) };
        let right = !path.is_empty() && !path.contains('\0') && !path.ends_with('/');
        right.then(|| Self::Unix(UnixAddress { path: path.into(), mode: None }))
    }
}

/// Who may say for whom a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TrustedPeer {
    Network(IpNet),
    /// Whoever connects by a Unix socket.
    Unix,
}

impl FromFile for TrustedPeer {
    const RULE: &'static str = r#"a network or an address, such as "10.0.0.0/8", "2001:db8::/32" or "203.0.113.7", or "unix:" for Unix sockets"#;

    fn from_text(text: &str) -> Option<Self> {
        if text == UNIX { Some(Self::Unix) } else { IpNet::from_text(text).map(Self::Network) }
    }
}

/// Proxies in front whose word on clients is believed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustedProxies {
    pub networks: Vec<IpNet>,
    /// Whoever connects by a Unix socket is one.
    pub unix: bool,
}

impl TrustedProxies {
    /// Whether a neighbour is one; `None`: it came by a Unix socket and has no address.
    pub fn contains(&self, neighbour: Option<IpAddr>) -> bool {
        neighbour.map_or(self.unix, |address| {
            let address = address.to_canonical();
            self.networks.iter().any(|network| network.contains(&address))
        })
    }
}

/// Where a listener sends whoever came without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpsRedirect {
    pub port: u16,
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, and HTTP/2 by prior knowledge.
    Http,
    /// TLS; HTTP/2 or HTTP/1.1 by ALPN.
    Https,
}

/// Whose word about a client's address is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Networks of the load balancers; nobody else is let in. Empty for a Unix socket only: there
    /// the file's permissions say who may connect.
    pub trusted: Vec<IpNet>,
}

/// How much a listener holds and takes, and how long it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Open connections of the listener; `None`: any number.
    pub max_connections: Option<u32>,
    /// Of them, those of one client: an IPv4 address, or a /64 of IPv6.
    pub max_connections_per_client: Option<u32>,
    /// For the head of a request, from its beginning to its end; the first one counts from the connection.
    pub head_timeout: Duration,
    /// For the next request of a connection.
    pub idle_timeout: Duration,
    /// For a PROXY header, and for a TLS handshake.
    pub handshake_timeout: Duration,
    /// The longest pause of a client that has a body to send or an answer to read.
    pub client_timeout: Duration,
    /// Bytes a second that such a client moves on average; `None`: any move ends the pause.
    pub min_rate: Option<NonZeroU64>,
    /// Bytes of a request's head.
    pub max_head: usize,
    /// Bytes of a request's target; at most `max_head`.
    pub max_uri: usize,
    /// Header lines of a request.
    pub max_headers: usize,
    /// Bytes of a request's body, whatever its route allows; `None`: any.
    pub max_body: Option<u64>,
    /// Requests at once on one HTTP/2 connection.
    pub max_streams: u32,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_connections_per_client: None,
            head_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
            client_timeout: Duration::from_secs(60),
            min_rate: NonZeroU64::new(240),
            max_head: 32 * 1024,
            max_uri: 8 * 1024,
            max_headers: 100,
            max_body: None,
            max_streams: 100,
        }
    }
}
