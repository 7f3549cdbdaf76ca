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
}

/// A client's connection after its handshake.
pub struct Handshaken {
    pub stream: Secured,
    /// The entry that the client was served by.
    pub entry: usize,
    pub http2: bool,
    pub tls: Tls,
}

impl ServerTls {
    /// Each with the DNS names that its certificate carries; where two carry one, the first serves it.
    pub fn new(entries: Vec<(Vec<String>, ServerConfig)>) -> Self {
        let (mut configs, mut names) = (Vec::new(), Names::default());
        for (entry, (carried, config)) in entries.into_iter().enumerate() {
            carried.iter().for_each(|name| names.add(name, entry));
            configs.push(Arc::new(config));
        }
        Self { configs, names }
    }

    /// The entry that serves a host, without its port.
    pub fn entry(&self, host: &str) -> usize {
        self.names.find(host).unwrap_or_default()
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
        Ok(Handshaken { stream: Secured::new(stream), entry, http2, tls })
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
    }
}
