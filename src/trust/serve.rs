//! What listeners with TLS are made of: versions, and by whom their clients are verified.

use super::TlsError;
use super::pem::{certificates, read, roots};
use crate::config::TlsPolicy;
use rustls::crypto::ring;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientCertVerifierBuilder, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ConfigBuilder, ServerConfig, WantsVerifier};
use std::path::Path;
use std::sync::Arc;

/// A server by its versions of TLS.
///
/// # Errors
/// `TlsError::Tickets` when the provider knows no cipher of them.
pub fn builder(policy: TlsPolicy) -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, TlsError> {
    let versions = match policy {
        TlsPolicy::Modern => &[&TLS13][..],
        TlsPolicy::Intermediate => &[&TLS13, &TLS12],
    };
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .map_err(|source| TlsError::Tickets { source })
}

/// Clients show a certificate that a root of this file has signed.
///
/// # Errors
/// `TlsError` when the file cannot be read, parsed or used.
pub async fn required(ca: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    verifier(ca, |by| by).await
}

/// Clients show no certificate, or one that a root of this file has signed.
///
/// # Errors
/// `TlsError` when the file cannot be read, parsed or used.
pub async fn optional(ca: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    verifier(ca, ClientCertVerifierBuilder::allow_unauthenticated).await
}

async fn verifier(
    path: &Path,
    change: fn(ClientCertVerifierBuilder) -> ClientCertVerifierBuilder,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = roots(path, &certificates(path, &read(path).await?)?)?;
    let provider = Arc::new(ring::default_provider());
    change(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider))
        .build()
        .map_err(|source| TlsError::Verifier { path: path.to_owned(), source })
}

/// A ticket would outlive the roots that its client was verified by.
pub fn never_resume(server: &mut ServerConfig) {
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(NoServerSessionStorage {});
}
