//! Certificates from files to acceptors and to the identity shown to peers.
//!
//! Everything is parsed and proven usable here, so that a bad file is an error
//! with its path at start or reload, never a panic in a connection. The provider
//! is named, so that no process-wide default matters.

use crate::config::{self, ClientAuth, TlsPolicy};
use pingora::listeners::tls::Acceptor;
use pingora::protocols::tls::CaType;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::crypto::ring;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientCertVerifierBuilder, NoServerSessionStorage, ParsedCertificate, ProducesTickets,
    WebPkiClientVerifier,
};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod facts;
mod server;
mod stream;

pub use server::{Handshaken, ServerTls};

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
                let roots = roots(ca, &certificates(ca).await?)?;
                builder.with_client_cert_verifier(verifier(ca, |by| by.allow_unauthenticated(), roots)?)
            }
            ClientAuth::Required { ca } => {
                let roots = roots(ca, &certificates(ca).await?)?;
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
        entries.push((identity.names()?, server));
    }
    Ok(ServerTls::new(entries))
}

/// A ticket would outlive the roots that its client was verified by.
fn never_resume(server: &mut ServerConfig) {
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(NoServerSessionStorage {});
}

fn roots(path: &Path, certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).map_err(|source| unusable(path, source))?;
    }
    Ok(roots)
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
    let verifier = verifier(&peer.ca, |by| by, roots(&peer.ca, &certificates)?)?;
    let builder = server_builder(TlsPolicy::Intermediate)?;
    let mut server = identity.serve(builder.with_client_cert_verifier(verifier))?;
    server.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    never_resume(&mut server);
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

    /// DNS names of the first certificate, wildcards among them.
    fn names(&self) -> Result<Vec<String>, TlsError> {
        let leaf = self.chain.first().and_then(|der| webpki::EndEntityCert::try_from(der).ok());
        let leaf = leaf.ok_or_else(|| unusable(&self.path, CertificateError::BadEncoding.into()))?;
        Ok(leaf.valid_dns_names().map(str::to_owned).collect())
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
