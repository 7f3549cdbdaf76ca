//! Certificates and keys from PEM files.
//!
//! Everything is parsed and proven usable here, so that a bad file is an error
//! with its path at start or reload, never a surprise in a connection.

use super::TlsError;
use rustls::client::WantsClientCert;
use rustls::server::{ParsedCertificate, WantsServerCert};
use rustls::{CertificateError, ClientConfig, ConfigBuilder, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};

/// The content of a file.
///
/// # Errors
/// `TlsError::Read`, with its path.
pub async fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    tokio::fs::read(path).await.map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

/// Every certificate of a PEM file, at least one, each parsed once.
///
/// # Errors
/// `TlsError::Pem` or `TlsError::Unusable`.
pub fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let none = || TlsError::Pem { path: path.to_owned(), what: "certificate" };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| none())?;
    if found.is_empty() {
        return Err(none());
    }
    for certificate in &found {
        ParsedCertificate::try_from(certificate).map_err(|source| unusable(path, source))?;
    }
    Ok(found)
}

/// Certificates as roots that others are verified by.
///
/// # Errors
/// `TlsError::Unusable`.
pub fn roots(path: &Path, certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).map_err(|source| unusable(path, source))?;
    }
    Ok(roots)
}

/// A chain and its key.
#[derive(Debug)]
pub struct Identity {
    path: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// # Errors
    /// `TlsError` when a file cannot be read or parsed.
    pub async fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let (chain, secret) = (read(certificate).await?, read(key).await?);
        Self::parse((certificate, &chain), (key, &secret))
    }

    /// From the contents of two files.
    ///
    /// # Errors
    /// `TlsError` when one cannot be parsed.
    pub fn parse(certificate: (&Path, &[u8]), key: (&Path, &[u8])) -> Result<Self, TlsError> {
        let chain = certificates(certificate.0, certificate.1)?;
        let secret = PrivateKeyDer::from_pem_slice(key.1)
            .map_err(|_| TlsError::Pem { path: key.0.to_owned(), what: "private key" })?;
        Ok(Self { path: certificate.0.to_owned(), chain, key: secret })
    }

    /// DNS names of the first certificate, wildcards among them.
    ///
    /// # Errors
    /// `TlsError::Unusable`.
    pub fn names(&self) -> Result<Vec<String>, TlsError> {
        let leaf = self.chain.first().and_then(|der| webpki::EndEntityCert::try_from(der).ok());
        let leaf = leaf.ok_or_else(|| unusable(&self.path, CertificateError::BadEncoding.into()))?;
        Ok(leaf.valid_dns_names().map(str::to_owned).collect())
    }

    /// As a server.
    ///
    /// # Errors
    /// `TlsError::Unusable` when the key is not the certificate's.
    pub fn serve(
        &self,
        builder: ConfigBuilder<ServerConfig, WantsServerCert>,
    ) -> Result<ServerConfig, TlsError> {
        builder
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|source| unusable(&self.path, source))
    }

    /// As a client.
    ///
    /// # Errors
    /// `TlsError::Unusable` when the key is not the certificate's.
    pub fn show(
        &self,
        builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    ) -> Result<ClientConfig, TlsError> {
        builder
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|source| unusable(&self.path, source))
    }
}

/// An error with the file that it comes from.
pub fn unusable(path: &Path, source: rustls::Error) -> TlsError {
    TlsError::Unusable { path: path.to_owned(), source }
}
