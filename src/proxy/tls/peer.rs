//! Handshakes of other regions, and of the other pods of the own one.

use super::facts::facts;
use super::stream::Secured;
use crate::access_log::Tls;
use pingora::protocols::l4::stream::Stream as TcpIo;
use rustls::{ServerConfig, ServerConnection};
use rustls_pki_types::ServerName;
use std::io;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// What the peer listener shows, and how pods of the own region are known.
pub struct PeerTls {
    acceptor: TlsAcceptor,
    own: Option<ServerName<'static>>,
}

/// A connection of another region, or of a pod of the own one, after its handshake.
pub struct PeerHandshaken {
    pub stream: Secured,
    pub http2: bool,
    /// It is a pod of the own region.
    pub sibling: bool,
    pub tls: Tls,
}

impl PeerTls {
    /// `own`: the name that certificates of the own region carry.
    pub fn new(config: Arc<ServerConfig>, own: Option<ServerName<'static>>) -> Self {
        Self { acceptor: TlsAcceptor::from(config), own }
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// Those of the socket and of rustls.
    pub async fn accept(&self, tcp: TcpIo) -> io::Result<PeerHandshaken> {
        let stream = self.acceptor.accept(tcp).await?;
        let (_, session) = stream.get_ref();
        let http2 = session.alpn_protocol() == Some(b"h2");
        let (tls, sibling) = (facts(session), self.is_sibling(session));
        Ok(PeerHandshaken { stream: Secured::new(stream), http2, sibling, tls })
    }

    /// As this edge would know a server of its own region. The chain is verified already.
    fn is_sibling(&self, session: &ServerConnection) -> bool {
        let leaf = session.peer_certificates().and_then(<[_]>::first);
        let leaf = leaf.and_then(|der| webpki::EndEntityCert::try_from(der).ok());
        let carries = |own| leaf.is_some_and(|leaf| leaf.verify_is_valid_for_subject_name(own).is_ok());
        self.own.as_ref().is_some_and(carries)
    }
}
