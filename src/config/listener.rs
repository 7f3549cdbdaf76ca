//! Where clients connect, and what each listener lets in.

use ipnet::IpNet;
use std::net::SocketAddr;
use std::time::Duration;

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    pub address: SocketAddr,
    pub protocol: Protocol,
    /// `Some`: every connection begins with a PROXY header.
    pub proxy_protocol: Option<ProxyProtocol>,
    pub limits: ListenerLimits,
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
    /// Networks of the load balancers; nobody else is let in. Not empty.
    pub trusted: Vec<IpNet>,
}

/// How many connections a listener holds, and how long it waits on each.
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
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_connections_per_client: None,
            head_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
        }
    }
}
