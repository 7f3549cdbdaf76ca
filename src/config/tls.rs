//! Certificates: of the `https` listeners, and towards services.

use http::HeaderValue;
use std::path::PathBuf;

/// What the `https` listeners show, and whom they let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// For clients that ask for no name, or for one that no other certificate has.
    pub default: ServerCertificate,
    /// Each for the names that it carries.
    pub certificates: Vec<ServerCertificate>,
    pub policy: TlsPolicy,
    /// `Strict-Transport-Security` on answers by TLS, unless they say their own (RFC 6797).
    pub hsts: Option<HeaderValue>,
}

/// A certificate, its key, and who may connect under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerCertificate {
    /// PEM files: chain, then private key.
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub client_auth: ClientAuth,
}

/// Whether clients show a certificate; `ca`: PEM roots that sign theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAuth {
    Off,
    /// None, or one that is right.
    Optional {
        ca: PathBuf,
    },
    Required {
        ca: PathBuf,
    },
}

/// Versions of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsPolicy {
    /// 1.3 only.
    Modern,
    /// 1.2 and 1.3.
    Intermediate,
}

/// How the endpoints of a service are reached over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// PEM roots that sign the certificates of the endpoints. No others are believed.
    pub ca: PathBuf,
    /// Name that their certificates must carry, and that they are asked by.
    pub server_name: String,
    /// What this edge shows, if it is to show anything.
    pub identity: Option<ClientIdentity>,
}

/// PEM files: chain, then private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}
