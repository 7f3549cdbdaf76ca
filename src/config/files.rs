//! Files that the configuration names: whether they are there and hold what they should.

use crate::config::problems::Problem;
use crate::config::read;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::ops::Range;
use std::path::PathBuf;

/// The longest chains and bundles of roots are a few hundred KiB.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// A file and the place that names it.
#[derive(Debug)]
pub(super) struct NamedFile {
    pub(super) path: PathBuf,
    pub(super) span: Range<usize>,
    pub(super) holds: Holds,
}

/// What a file must hold.
#[derive(Debug, Clone, Copy)]
pub(super) enum Holds {
    Certificates,
    Key,
}

impl NamedFile {
    pub(super) fn problem(&self) -> Option<Problem> {
        let bytes = match read::bytes(&self.path, PEM_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(problem) => return Some(problem.named_at(&self.span)),
        };
        let (right, what) = match self.holds {
            Holds::Certificates => (certificates(&bytes), "certificates (BEGIN CERTIFICATE)"),
            Holds::Key => {
                (PrivateKeyDer::from_pem_slice(&bytes).is_ok(), "a private key (BEGIN PRIVATE KEY)")
            }
        };
        let problem = || {
            Problem::at(&self.span, format!("{}: holds no {}", self.path.display(), self.holds.what()))
                .here("this file")
                .right(format!("expected {what} in PEM"))
        };
        (!right).then(problem)
    }
}

impl Holds {
    const fn what(self) -> &'static str {
        match self {
            Self::Certificates => "certificate",
            Self::Key => "private key",
        }
    }
}

/// At least one, and no broken one.
fn certificates(pem: &[u8]) -> bool {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.is_ok_and(|all| !all.is_empty())
}
