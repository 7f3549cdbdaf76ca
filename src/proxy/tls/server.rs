//! Handshakes of clients: which certificate for which name.

use super::facts::facts;
use super::stream::Secured;
use crate::access_log::Tls;
use pingora::protocols::l4::stream::Stream as TcpIo;
use rustls::ServerConfig;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use tokio_rustls::LazyConfigAcceptor;

/// What the `https` listeners show; entry 0 is for whoever asks for nothing else.
#[derive(Debug)]
pub struct ServerTls {
    configs: Vec<Arc<ServerConfig>>,
    names: Names,
    /// Which entries let in only who shows a certificate.
    closed: Vec<bool>,
}

/// What an entry is made of.
pub struct Entry {
    /// The DNS names that its certificate carries.
    pub names: Vec<String>,
    pub config: ServerConfig,
    /// Whether only who shows a certificate is let in.
    pub closed: bool,
}

/// A client's connection after its handshake.
pub struct Handshaken {
    pub stream: Secured,
    /// The entry that the client was served by.
    pub entry: usize,
    pub http2: bool,
    /// The client has shown a certificate, which was verified.
    pub proven: bool,
    pub tls: Tls,
}

impl ServerTls {
    /// Where two carry one name, the first serves it.
    pub fn new(entries: Vec<Entry>) -> Self {
        let (mut configs, mut names, mut closed) = (Vec::new(), Names::default(), Vec::new());
        for (number, entry) in entries.into_iter().enumerate() {
            entry.names.iter().for_each(|name| names.add(name, number));
            configs.push(Arc::new(entry.config));
            closed.push(entry.closed);
        }
        Self { configs, names, closed }
    }

    /// The entry that serves a host, without its port.
    pub fn entry(&self, host: &str) -> usize {
        self.names.find(host).unwrap_or_default()
    }

    /// Whether a host is served only to who has shown a certificate: those below the wildcard of such
    /// an entry are, however deep, since a route's wildcard reaches as far.
    pub fn is_closed(&self, host: &str) -> bool {
        let entries = self.names.find(host).or_else(|| self.names.above(host)).unwrap_or_default();
        self.closed.get(entries).copied().unwrap_or_default()
    }

    /// Shakes hands by the entry for the name that the client asks for.
    ///
    /// # Errors
    /// Those of the socket and of rustls.
    pub async fn accept(&self, tcp: TcpIo) -> io::Result<Handshaken> {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), tcp).await?;
        let entry = start.client_hello().server_name().map_or(0, |name| self.entry(name));
        let config = self.configs.get(entry).ok_or(io::ErrorKind::NotFound)?;
        let stream = start.into_stream(Arc::clone(config)).await?;
        let (_, session) = stream.get_ref();
        let tls = facts(session);
        let http2 = session.alpn_protocol() == Some(b"h2");
        let proven = session.peer_certificates().is_some();
        Ok(Handshaken { stream: Secured::new(stream), entry, http2, proven, tls })
    }
}

/// Entries by DNS name, in lower case.
#[derive(Debug, Default)]
struct Names {
    exact: HashMap<Box<str>, usize>,
    /// By what follows `*.`: any one label may stand before it (RFC 9525, section 6.3).
    wildcard: HashMap<Box<str>, usize>,
}

impl Names {
    fn add(&mut self, name: &str, entry: usize) {
        let name = name.to_ascii_lowercase();
        let (names, key) = match name.strip_prefix("*.") {
            Some(parent) => (&mut self.wildcard, parent),
            None => (&mut self.exact, name.as_str()),
        };
        names.entry(key.into()).or_insert(entry);
    }

    fn find(&self, host: &str) -> Option<usize> {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let parent = || self.wildcard.get(host.split_once('.')?.1);
        self.exact.get(host.as_str()).or_else(parent).copied()
    }

    /// The nearest wildcard that a host is below of, at any depth.
    fn above(&self, host: &str) -> Option<usize> {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let parents = host.match_indices('.').filter_map(|(at, _)| host.get(at + 1..));
        parents.filter_map(|parent| self.wildcard.get(parent)).next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_name_goes_before_a_wildcard_and_that_before_the_default() {
        let mut names = Names::default();
        for (entry, name) in
            ["www.example.com", "*.example.com", "API.example.com", "api.example.com"].iter().enumerate()
        {
            names.add(name, entry);
        }
        for (host, entry) in [
            ("www.example.com", Some(0)),
            ("WWW.Example.COM.", Some(0)),
            ("other.example.com", Some(1)),
            ("api.example.com", Some(2)),
            ("a.b.example.com", None),
            ("example.com", None),
            ("com", None),
            ("", None),
            ("192.0.2.1", None),
        ] {
            assert_eq!(names.find(host), entry, "{host}");
        }
        for (host, entry) in [("a.b.example.com", Some(1)), ("example.com", None), ("a.b.example.org", None)]
        {
            assert_eq!(names.above(host), entry, "{host}");
        }
    }
}
