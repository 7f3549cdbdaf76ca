//! Certificates from files to acceptors and to the identity shown to peers.
//!
//! Everything is parsed and proven usable here, so that a bad file is an error
//! with its path at start or reload, never a panic in a connection. Versions
//! 1.2 and 1.3; the provider is named, so that no process-wide default matters.

use crate::config;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::tls::CaType;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::crypto::ring;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, ProducesTickets, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Application protocols offered, best first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why a certificate, key or root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} holds no {what} in PEM form")]
    Pem { path: PathBuf, what: &'static str },
    #[error("{path} cannot be used")]
    Unusable { path: PathBuf, source: rustls::Error },
    #[error("the roots of {path} cannot verify clients")]
    Verifier { path: PathBuf, source: rustls::server::VerifierBuilderError },
    #[error("session tickets cannot be made")]
    Tickets { source: rustls::Error },
}

/// Encrypts session tickets; kept across reloads, so that clients resume.
pub fn ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    ring::Ticketer::new().map_err(|source| TlsError::Tickets { source })
}

/// The acceptor of the `https` listeners.
///
/// # Errors
/// `TlsError` when a file cannot be read, parsed or used.
pub async fn client_acceptor(
    tls: &config::Tls,
    tickets: Arc<dyn ProducesTickets>,
) -> Result<Acceptor, TlsError> {
    let identity = Identity::read(&tls.certificate, &tls.key).await?;
    let builder = server_builder()?.with_no_client_auth();
    let mut server = identity.serve(builder)?;
    server.ticketer = tickets;
    server.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    Ok(Acceptor::from_server_config(Arc::new(server)))
}

/// What a region needs to be reached by and to reach others.
pub struct PeerTls {
    pub acceptor: Acceptor,
    pub client: PeerIdentity,
}

/// What this edge shows to and expects of another region.
#[derive(Debug, Clone)]
pub struct PeerIdentity {
    pub certificate: Arc<CertKey>,
    pub roots: Arc<CaType>,
}

/// The peer listener's acceptor, which demands a certificate under the peer CA, and the client side.
///
/// Sessions are never resumed: a ticket would outlive the roots that its client was verified by.
///
/// # Errors
/// `TlsError` when a file cannot be read, parsed or used.
pub async fn peer(peer: &config::Peer) -> Result<PeerTls, TlsError> {
    let identity = Identity::read(&peer.certificate, &peer.key).await?;
    let certificates = certificates(&peer.ca).await?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|source| unusable(&peer.ca, source))?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|source| TlsError::Verifier { path: peer.ca.clone(), source })?;
    let mut server = identity.serve(server_builder()?.with_client_cert_verifier(verifier))?;
    server.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    let roots: Vec<WrappedX509> =
        certificates.iter().map(|der| WrappedX509::new(der.to_vec(), parse_x509)).collect();
    let chain = identity.chain.iter().map(|der| der.to_vec()).collect();
    let client = PeerIdentity {
        certificate: Arc::new(CertKey::new(chain, identity.key.secret_der().to_vec())),
        roots: roots.into(),
    };
    Ok(PeerTls { acceptor: Acceptor::from_server_config(Arc::new(server)), client })
}

/// A chain and its key, both usable.
struct Identity {
    path: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    async fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = certificates(certificate).await?;
        let pem = read(key).await?;
        let key = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|_| TlsError::Pem { path: key.to_owned(), what: "private key" })?;
        Ok(Self { path: certificate.to_owned(), chain, key })
    }

    /// Fails when the key is not the certificate's.
    fn serve(
        &self,
        builder: rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>,
    ) -> Result<ServerConfig, TlsError> {
        builder
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|source| unusable(&self.path, source))
    }
}

fn server_builder() -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, TlsError> {
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Tickets { source })
}

/// Every certificate of a PEM file, each parsed once: Pingora panics on one that does not parse.
async fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let none = || TlsError::Pem { path: path.to_owned(), what: "certificate" };
    let pem = read(path).await?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|_| none())?;
    if found.is_empty() {
        return Err(none());
    }
    for certificate in &found {
        ParsedCertificate::try_from(certificate).map_err(|source| unusable(path, source))?;
    }
    Ok(found)
}

async fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    tokio::fs::read(path).await.map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn unusable(path: &Path, source: rustls::Error) -> TlsError {
    TlsError::Unusable { path: path.to_owned(), source }
}
