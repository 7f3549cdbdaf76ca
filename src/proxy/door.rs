//! Who comes in by a listener: caps on open connections, and the PROXY header before anything else.
//!
//! ```text
//! accept -> trusted? -> room? -> PROXY header -> room for this client? -> TLS, HTTP
//! ```

use crate::config::{HttpsRedirect, Listener, ListenerLimits, ProxyProtocol};
use crate::metrics::request::{ListenerKind, RequestMetrics};
use crate::proxy::connection::{Cut, Deadlines};
use crate::proxy::h1::Limits;
use crate::proxy::pace::PaceRule;
use crate::proxy::proxy_protocol::{self, Malformed, Scan};
use arc_swap::ArcSwap;
use ipnet::IpNet;
use pingora::protocols::l4::stream::Stream as Socket;
use prometheus::IntCounter;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::AsyncReadExt;

/// Bytes that are read at a time while a PROXY header is expected; most are shorter.
const HEADER_READ: usize = 256;

/// Why a connection is closed before it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// As many connections as the listener holds are open.
    Full,
    /// As many of this client's are.
    ClientFull,
    /// A PROXY header would come from whom nobody trusts.
    Untrusted,
    /// The PROXY header did not come in time.
    Late,
    Malformed(Malformed),
}

impl Refusal {
    /// Those that are not the header's fault.
    const OWN: usize = 4;
    const COUNT: usize = Self::OWN + Malformed::ALL.len();

    const fn index(self) -> usize {
        match self {
            Self::Full => 0,
            Self::ClientFull => 1,
            Self::Untrusted => 2,
            Self::Late => 3,
            Self::Malformed(malformed) => Self::OWN + malformed as usize,
        }
    }

    /// By index.
    fn labels() -> [&'static str; Self::COUNT] {
        let mut labels = [""; Self::COUNT];
        for (refusal, label) in [
            (Self::Full, "full"),
            (Self::ClientFull, "client_full"),
            (Self::Untrusted, "proxy_untrusted"),
            (Self::Late, "proxy_late"),
        ] {
            labels[refusal.index()] = label;
        }
        for malformed in Malformed::ALL {
            labels[Self::Malformed(malformed).index()] = malformed.as_str();
        }
        labels
    }
}

/// A listener's door: its rules, and who is inside; shared by its connections.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) kind: ListenerKind,
    /// For connections from now on; a reload changes them.
    rules: ArcSwap<Rules>,
    open: AtomicU32,
    /// Open connections of each client, where they are limited; as many entries as connections, at most.
    clients: Mutex<HashMap<IpAddr, u32>>,
    refused: [IntCounter; Refusal::COUNT],
    cuts: [IntCounter; Cut::ALL.len()],
}

/// What a listener asks of connections. Each keeps those that it came in under.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) deadlines: Deadlines,
    pub(super) bounds: Bounds,
    /// `Some`: requests without TLS are sent there.
    pub(super) https_redirect: Option<HttpsRedirect>,
    /// `Some`: a PROXY header is read, from these networks only.
    trusted: Option<Vec<IpNet>>,
    max_connections: u32,
    max_connections_per_client: Option<u32>,
}

impl Rules {
    pub(super) fn new(limits: &ListenerLimits, proxy_protocol: Option<&ProxyProtocol>) -> Self {
        Self {
            deadlines: Deadlines::new(limits),
            bounds: Bounds::new(limits),
            https_redirect: None,
            trusted: proxy_protocol.map(|proxy_protocol| proxy_protocol.trusted.clone()),
            max_connections: limits.max_connections.unwrap_or(u32::MAX),
            max_connections_per_client: limits.max_connections_per_client,
        }
    }

    /// Those of a listener for clients.
    pub(super) fn of(listener: &Listener) -> Self {
        let rules = Self::new(&listener.limits, listener.proxy_protocol.as_ref());
        Self { https_redirect: listener.https_redirect, ..rules }
    }

    /// Whether the client is known by a PROXY header only.
    pub(super) const fn reads_header(&self) -> bool {
        self.trusted.is_some()
    }
}

/// How much a client may ask for, and at which pace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) head: Limits,
    pub(super) max_body: Option<u64>,
    pub(super) max_streams: u32,
    pub(super) pace: PaceRule,
}

impl Bounds {
    const fn new(limits: &ListenerLimits) -> Self {
        Self {
            head: Limits::sized(limits.max_head, limits.max_uri, limits.max_headers),
            max_body: limits.max_body,
            max_streams: limits.max_streams,
            pace: PaceRule { patience: limits.client_timeout, rate: limits.min_rate },
        }
    }
}

impl Door {
    pub(super) fn new(kind: ListenerKind, rules: Rules, metrics: &RequestMetrics) -> Self {
        Self {
            kind,
            rules: ArcSwap::from_pointee(rules),
            open: AtomicU32::new(0),
            clients: Mutex::default(),
            refused: metrics.connections_refused(kind, Refusal::labels()),
            cuts: metrics.http2_cut(kind, Cut::ALL.map(Cut::as_str)),
        }
    }

    /// Takes other rules, for whoever comes from now on.
    pub(super) fn change(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
    }

    /// Counts an HTTP/2 connection that was ended.
    pub(super) fn cut(&self, cut: Cut) {
        if let Some(count) = self.cuts.get(cut as usize) {
            count.inc();
        }
    }

    /// Counts a refused connection.
    pub(super) fn refuse(&self, refusal: Refusal) {
        if let Some(count) = self.refused.get(refusal.index()) {
            count.inc();
        }
    }

    /// Lets a connection in, unless it is one too many or from the wrong side.
    ///
    /// # Errors
    /// `Untrusted`, `Full` or `ClientFull`.
    pub(super) fn enter(self: &Arc<Self>, socket: Option<IpAddr>) -> Result<Inside, Refusal> {
        let rules = self.rules.load_full();
        let socket = socket.map(|address| address.to_canonical());
        // Who may open a Unix socket, the permissions of its file have said.
        if let (Some(trusted), Some(socket)) = (&rules.trusted, socket)
            && !trusted.iter().any(|net| net.contains(&socket))
        {
            return Err(Refusal::Untrusted);
        }
        let max = rules.max_connections;
        let room = |open: u32| (open < max).then_some(open + 1);
        self.open.fetch_update(Relaxed, Relaxed, room).map_err(|_| Refusal::Full)?;
        let reads_header = rules.reads_header();
        let mut inside = Inside { door: Arc::clone(self), rules, client: None };
        if !reads_header {
            inside.name(socket)?;
        }
        Ok(inside)
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        // Counts are whole whenever the lock is free.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that was let in; dropping it makes room for another one.
#[derive(Debug)]
pub(super) struct Inside {
    door: Arc<Door>,
    /// Those that it came in under.
    pub(super) rules: Arc<Rules>,
    /// Set where connections are limited by client.
    client: Option<IpAddr>,
}

impl Inside {
    /// Says whose connection it is; `None`: nobody's that is known, and no client's share.
    ///
    /// # Errors
    /// `ClientFull`.
    pub(super) fn name(&mut self, client: Option<IpAddr>) -> Result<(), Refusal> {
        let Some((max, client)) = self.rules.max_connections_per_client.zip(client) else { return Ok(()) };
        let client = network(client);
        let mut clients = self.door.clients();
        let open = clients.entry(client).or_insert(0);
        if *open >= max {
            return Err(Refusal::ClientFull);
        }
        *open += 1;
        drop(clients);
        self.client = Some(client);
        Ok(())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.door.open.fetch_sub(1, Relaxed);
        let Some(client) = self.client else { return };
        if let Entry::Occupied(mut open) = self.door.clients().entry(client) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

/// Who counts as one client: whoever has one address of a /64 has all of them.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// Takes the PROXY header from a connection; what follows it is left to be read.
///
/// # Errors
/// Those of the socket; `UnexpectedEof` when the connection ends before the header does.
pub(super) async fn header(socket: &mut Socket) -> io::Result<Result<proxy_protocol::Header, Malformed>> {
    let mut bytes = Vec::new();
    loop {
        let known = bytes.len();
        bytes.resize(known + HEADER_READ, 0);
        let n = socket.read(&mut bytes[known..]).await?;
        bytes.truncate(known + n);
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match proxy_protocol::scan(&bytes) {
            Scan::NeedMore => {}
            Scan::Header { header, length } => {
                socket.rewind(bytes.get(length..).unwrap_or_default());
                return Ok(Ok(header));
            }
            Scan::Malformed(malformed) => return Ok(Err(malformed)),
        }
    }
}

#[cfg(test)]
mod tests;
