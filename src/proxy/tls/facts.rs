//! What a handshake has settled, for whoever is told of its requests.

use crate::access_log::Tls;
use rustls::ServerConnection;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Version, cipher, the name asked for, and who the client has proven to be.
pub(super) fn facts(session: &ServerConnection) -> Tls {
    let version = session.protocol_version().and_then(|version| version.as_str());
    let cipher = session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    let leaf = session.peer_certificates().and_then(<[_]>::first);
    Tls {
        version: version.unwrap_or_default().to_owned(),
        cipher: cipher.unwrap_or_default().to_owned(),
        alpn: session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        server_name: session.server_name().map(str::to_owned),
        client_subject: leaf.and_then(|der| subject(der)),
    }
}

/// As RFC 4514 writes it; `None` for what is no certificate.
fn subject(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.subject().to_string())
}
