//! The certificate that probes show, and the roots that they believe.

use crate::config::Peer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A loaded identity; a new one for each load, so that connections made with an older one are told apart.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) client: Arc<ClientConfig>,
}

/// Why an identity could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum IdentityError {
    #[error("{path}: {source}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: not PEM: {source}", path = path.display())]
    Pem { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("{path}: holds no certificate", path = path.display())]
    Empty { path: PathBuf },
    #[error("certificate and key do not fit: {0}")]
    Unfit(#[from] rustls::Error),
}

impl Identity {
    /// Reads certificate, key and roots.
    ///
    /// # Errors
    /// `Read` or `Pem` names the file; `Unfit` when key and certificate are no pair.
    pub(super) async fn load(peer: &Peer) -> Result<Self, IdentityError> {
        let mut roots = RootCertStore::empty();
        for root in certificates(&peer.ca).await? {
            roots.add(root)?;
        }
        let chain = certificates(&peer.certificate).await?;
        let key = PrivateKeyDer::from_pem_slice(&read(&peer.key).await?)
            .map_err(|source| IdentityError::Pem { path: peer.key.clone(), source })?;
        // The provider is named: a library user may not have installed one for the process.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { client: Arc::new(client) })
    }
}

async fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let text = read(path).await?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|source| IdentityError::Pem { path: path.to_owned(), source })?;
    if found.is_empty() { Err(IdentityError::Empty { path: path.to_owned() }) } else { Ok(found) }
}

async fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    tokio::fs::read(path).await.map_err(|source| IdentityError::Read { path: path.to_owned(), source })
}
