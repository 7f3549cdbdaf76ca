//! TLS of the admin listener, and whose a client's certificate is.

use crate::config::{self, TlsPolicy};
use crate::trust::pem::Identity;
use crate::trust::{TlsError, serve};
use rustls::ServerConfig;
use std::sync::Arc;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How connections are served; `None`: as plain HTTP.
pub type Tls = Option<Arc<ServerConfig>>;

/// What the listener shows. Clients may show a certificate and need none: probes and scrapers have none.
///
/// # Errors
/// `TlsError` when a file cannot be read, parsed or used.
pub async fn read(admin: &config::Admin) -> Result<Tls, TlsError> {
    let Some(tls) = &admin.tls else { return Ok(None) };
    let identity = Identity::read(&tls.certificate, &tls.key).await?;
    let builder = serve::builder(TlsPolicy::Intermediate)?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => builder.with_client_cert_verifier(serve::optional(ca).await?),
    };
    let mut server = identity.serve(builder)?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    serve::never_resume(&mut server);
    Ok(Some(Arc::new(server)))
}

/// The names that a certificate carries: common names first, then alternative names (DNS, e-mail, URI).
/// Each once; none for what cannot be parsed.
pub(super) fn names(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let alternative = alternative.iter().flat_map(|extension| &extension.value.general_names);
    let alternative = alternative.filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => Some(*name),
        _ => None,
    });
    let mut names: Vec<String> = Vec::new();
    for name in common.chain(alternative) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    #[test]
    fn a_certificate_is_known_by_its_common_name_and_its_alternative_names() {
        let names_of_dns = ["carol.example.net", "carol"].map(str::to_owned);
        let mut params = CertificateParams::new(names_of_dns).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "example");
        params.distinguished_name.push(DnType::CommonName, "carol");
        for name in [
            SanType::Rfc822Name("carol@example.net".try_into().unwrap()),
            SanType::URI("spiffe://example.net/carol".try_into().unwrap()),
            SanType::IpAddress([192, 0, 2, 1].into()),
        ] {
            params.subject_alt_names.push(name);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let expected = ["carol", "carol.example.net", "carol@example.net", "spiffe://example.net/carol"];
        assert_eq!(names(certificate.der()), expected);
        assert!(names(b"no certificate").is_empty());
    }
}
