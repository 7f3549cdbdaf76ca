//! Certificates from files to acceptors.
//!
//! Everything is proven usable here, so that a bad file is an error with its path
//! at start or reload, never a surprise in a connection. The provider is named, so
//! that no process-wide default matters.

use crate::config::{self, ClientAuth, TlsPolicy};
use crate::trust::pem::Identity;
use crate::trust::{TlsError, serve};
use rustls::crypto::ring;
use rustls::server::ProducesTickets;
use rustls_pki_types::ServerName;
use std::sync::Arc;

mod facts;
mod peer;
mod server;
mod stream;

pub use peer::{PeerHandshaken, PeerTls};
#[cfg(test)]
pub use server::Entry;
pub use server::{Handshaken, ServerTls};
pub use stream::Secured;

/// Application protocols offered, best first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Encrypts session tickets; kept across reloads, so that clients resume.
pub fn ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    ring::Ticketer::new().map_err(|source| TlsError::Tickets { source })
}

/// What the `https` listeners show, and whom they ask.
///
/// # Errors
/// `TlsError` when a file cannot be read, parsed or used.
pub async fn server(tls: &config::Tls, tickets: &Arc<dyn ProducesTickets>) -> Result<ServerTls, TlsError> {
    let mut entries = Vec::new();
    for entry in std::iter::once(&tls.default).chain(&tls.certificates) {
        let identity = Identity::read(&entry.certificate, &entry.key).await?;
        let builder = serve::builder(tls.policy)?;
        let builder = match &entry.client_auth {
            ClientAuth::Off => builder.with_no_client_auth(),
            ClientAuth::Optional { ca } => builder.with_client_cert_verifier(serve::optional(ca).await?),
            ClientAuth::Required { ca } => builder.with_client_cert_verifier(serve::required(ca).await?),
        };
        let mut server = identity.serve(builder)?;
        server.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        if entry.client_auth == ClientAuth::Off {
            server.ticketer = Arc::clone(tickets);
        } else {
            serve::never_resume(&mut server);
        }
        let closed = matches!(entry.client_auth, ClientAuth::Required { .. });
        entries.push(server::Entry { names: identity.names()?, config: server, closed });
    }
    Ok(ServerTls::new(entries))
}

/// What the peer listener shows; it demands a certificate under the peer CA.
///
/// `own`: what pods of the own region carry. Sessions are never resumed: a ticket would outlive the roots that
/// its client was verified by.
///
/// # Errors
/// `TlsError` when a file cannot be read, parsed or used.
pub async fn peer(peer: &config::Peer, own: Option<&str>) -> Result<PeerTls, TlsError> {
    let identity = Identity::read(&peer.certificate, &peer.key).await?;
    let verifier = serve::required(&peer.ca).await?;
    let builder = serve::builder(TlsPolicy::Intermediate)?;
    let mut server = identity.serve(builder.with_client_cert_verifier(verifier))?;
    server.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    serve::never_resume(&mut server);
    let name = |own: &str| ServerName::try_from(own.to_owned());
    let own =
        own.map(name).transpose().map_err(|_| TlsError::Name { name: own.unwrap_or_default().to_owned() })?;
    Ok(PeerTls::new(Arc::new(server), own))
}
