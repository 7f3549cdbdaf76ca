//! Files that the configuration names: whether they are there and hold what they should.

use crate::config::file::Key;
use crate::config::problems::Problem;
use crate::config::read;
use crate::config::units::FilePath;
use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The longest chains and bundles of roots are a few hundred KiB.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// What a key of the hashes of sessions is made of.
const SECRET_BYTES_MIN: usize = 16;

/// A file and the place that names it.
#[derive(Debug)]
pub(super) struct NamedFile {
    pub(super) path: PathBuf,
    pub(super) span: Range<usize>,
}

/// Named files that belong together; what the configuration lacks is told elsewhere.
#[derive(Debug)]
pub(super) enum Named {
    /// A chain and the private key of its first certificate.
    Identity { certificate: Option<NamedFile>, key: Option<NamedFile> },
    /// Certificates to verify others by.
    Roots(NamedFile),
    /// Random bytes.
    Secret(NamedFile),
}

impl Named {
    pub(super) fn identity(certificate: &Key<FilePath>, key: &Key<FilePath>, folder: &Path) -> Self {
        Self::Identity { certificate: NamedFile::of(certificate, folder), key: NamedFile::of(key, folder) }
    }

    /// The files, in a fixed order.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let files = match self {
            Self::Identity { certificate, key } => [certificate.as_ref(), key.as_ref()],
            Self::Roots(file) | Self::Secret(file) => [Some(file), None],
        };
        files.into_iter().flatten().map(|file| file.path.as_path())
    }

    /// What is wrong with the files themselves.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let (certificate, key) = match self {
            Self::Roots(file) => return file.certificates().err().into_iter().collect(),
            Self::Secret(file) => return file.secret().err().into_iter().collect(),
            Self::Identity { certificate, key } => (certificate.as_ref(), key.as_ref()),
        };
        let (chain, der) = (certificate.map(NamedFile::certificates), key.map(NamedFile::key));
        match (chain, der, key) {
            (Some(Ok(chain)), Some(Ok(der)), Some(key)) => {
                no_pair(chain, der, certificate, key).into_iter().collect()
            }
            (chain, der, _) => {
                let chain = chain.and_then(Result::err);
                chain.into_iter().chain(der.and_then(Result::err)).collect()
            }
        }
    }
}

/// Why a chain and a key cannot be shown to anyone.
fn no_pair(
    chain: Vec<CertificateDer<'static>>,
    der: PrivateKeyDer<'static>,
    certificate: Option<&NamedFile>,
    key: &NamedFile,
) -> Option<Problem> {
    let error = CertifiedKey::from_der(chain, der, &ring::default_provider()).err()?;
    let problem = match error {
        rustls::Error::InconsistentKeys(_) => {
            Problem::at(&key.span, format!("{}: is not the key of the certificate", key.path.display()))
                .right("expected the private key that the chain's first certificate was made for")
        }
        other => Problem::at(&key.span, format!("{}: cannot be used: {other}", key.path.display()))
            .right("expected an ECDSA, Ed25519 or RSA key and a certificate made for it"),
    };
    let problem = problem.here("this key");
    Some(match certificate {
        Some(certificate) => problem.also(&certificate.span, "this certificate"),
        None => problem,
    })
}

impl NamedFile {
    /// A relative path is taken from the configuration's folder.
    pub(super) fn of(key: &Key<FilePath>, folder: &Path) -> Option<Self> {
        let placed = key.as_ref()?;
        Some(Self { path: folder.join(&placed.value.0), span: placed.span.clone() })
    }

    fn read(&self) -> Result<Vec<u8>, Problem> {
        read::bytes(&self.path, PEM_BYTES_MAX).map_err(|problem| problem.named_at(&self.span))
    }

    /// At least one, and no broken one.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Problem> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.read()?).collect();
        let all = all.ok().filter(|all| !all.is_empty());
        all.ok_or_else(|| self.holds_no("certificate", "certificates (BEGIN CERTIFICATE)"))
    }

    fn secret(&self) -> Result<(), Problem> {
        if self.read()?.len() >= SECRET_BYTES_MIN {
            return Ok(());
        }
        let problem = Problem::at(&self.span, format!("{}: is too short for a secret", self.path.display()));
        Err(problem.here("this file").right(format!("expected {SECRET_BYTES_MIN} random bytes or more")))
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, Problem> {
        let key = PrivateKeyDer::from_pem_slice(&self.read()?);
        key.map_err(|_| self.holds_no("private key", "a private key (BEGIN PRIVATE KEY)"))
    }

    fn holds_no(&self, what: &str, right: &str) -> Problem {
        Problem::at(&self.span, format!("{}: holds no {what}", self.path.display()))
            .here("this file")
            .right(format!("expected {right} in PEM"))
    }
}
