//! Certificates from files to acceptors.
//!
//! Everything is proven usable here, so that a bad file is an error with its path
//! at start or reload, never a surprise in a connection. The provider is named, so
//! that no process-wide default matters.

use crate::config::{self, ClientAuth, TlsPolicy};
use crate::trust::TlsError;
use crate::trust::pem::{self, Identity};
use rustls::crypto::ring;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientCertVerifierBuilder, NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier,
};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::ServerName;
use std::path::Path;
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
        let builder = server_builder(tls.policy)?;
        let builder = match &entry.client_auth {
            ClientAuth::Off => builder.with_no_client_auth(),
            ClientAuth::Optional { ca } => {
                let roots = believed(ca).await?;
                builder.with_client_cert_verifier(verifier(ca, |by| by.allow_unauthenticated(), roots)?)
            }
            ClientAuth::Required { ca } => {
                let roots = believed(ca).await?;
                builder.with_client_cert_verifier(verifier(ca, |by| by, roots)?)
            }
        };
        let mut server = identity.serve(builder)?;
        server.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        if entry.client_auth == ClientAuth::Off {
            server.ticketer = Arc::clone(tickets);
        } else {
            never_resume(&mut server);
        }
        let closed = matches!(entry.client_auth, ClientAuth::Required { .. });
        entries.push(server::Entry { names: identity.names()?, config: server, closed });
    }
    Ok(ServerTls::new(entries))
}

/// A ticket would outlive the roots that its client was verified by.
fn never_resume(server: &mut ServerConfig) {
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(NoServerSessionStorage {});
}

fn verifier(
    path: &Path,
    change: fn(ClientCertVerifierBuilder) -> ClientCertVerifierBuilder,
    roots: RootCertStore,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    change(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider))
        .build()
        .map_err(|source| TlsError::Verifier { path: path.to_owned(), source })
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
    let verifier = verifier(&peer.ca, |by| by, believed(&peer.ca).await?)?;
    let builder = server_builder(TlsPolicy::Intermediate)?;
    let mut server = identity.serve(builder.with_client_cert_verifier(verifier))?;
    server.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    never_resume(&mut server);
    let name = |own: &str| ServerName::try_from(own.to_owned());
    let own =
        own.map(name).transpose().map_err(|_| TlsError::Name { name: own.unwrap_or_default().to_owned() })?;
    Ok(PeerTls::new(Arc::new(server), own))
}

/// The roots in a file.
async fn believed(path: &Path) -> Result<RootCertStore, TlsError> {
    pem::roots(path, &pem::certificates(path, &pem::read(path).await?)?)
}

fn server_builder(
    policy: TlsPolicy,
) -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, TlsError> {
    let versions = match policy {
        TlsPolicy::Modern => &[&TLS13][..],
        TlsPolicy::Intermediate => &[&TLS13, &TLS12],
    };
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .map_err(|source| TlsError::Tickets { source })
}
