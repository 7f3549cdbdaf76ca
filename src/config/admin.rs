//! The listener for operators, and who they are.

use std::net::SocketAddr;
use std::path::PathBuf;

/// The listener for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    pub address: SocketAddr,
    /// `None`: plain HTTP.
    pub tls: Option<AdminTls>,
    /// Who may act; none: nobody.
    pub operators: Vec<Operator>,
}

/// What the admin listener shows, and by whom its clients are verified. PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminTls {
    /// Chain, then private key.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Roots of the operators' certificates; `None`: nobody is asked for one.
    pub client_ca: Option<PathBuf>,
}

/// Somebody who may act on the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// As control records and the audit log name them.
    pub name: String,
    pub credential: Credential,
}

/// How an operator is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The file holds a token; read at each use, so that it can be changed under way.
    TokenFile(PathBuf),
    /// The SHA-256 of a token.
    TokenSha256([u8; 32]),
    /// A name that the client's certificate carries: common name, or alternative name (DNS, e-mail, URI).
    CertificateName(String),
}

impl Default for Admin {
    /// Loopback: who may read the admin pages is for the operator to widen.
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 9901)), tls: None, operators: Vec::new() }
    }
}
