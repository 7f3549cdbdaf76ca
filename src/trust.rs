//! Whom this edge believes over TLS, and what it shows: of services, of other regions, and (`serve`)
//! of whoever connects to a listener with TLS.
//!
//! What decides is the content of files. It has an id, which connections are
//! kept by: those that were verified by one content never serve under another,
//! and a reload that leaves the content alone keeps them. All handshakes of one
//! trust share a configuration of rustls, so that sessions are resumed.
//!
//! The provider is named, so that no process-wide default matters.

use crate::config::{ClientIdentity, Config};
use crate::domain::name::{RegionId, ServiceId};
use crate::metrics::request::Distrust;
use pem::{Identity, certificates, read, roots};
use rustls::crypto::ring;
use rustls::{CertificateError, ClientConfig};
use rustls_pki_types::ServerName;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub mod pem;
pub mod serve;

/// What is wrong with an address is told once in this time.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Addresses that are remembered as told.
const TOLD_MAX: usize = 1024;

/// Why a certificate, key or root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} holds no {what} in PEM form")]
    Pem { path: PathBuf, what: &'static str },
    #[error("{path} cannot be used")]
    Unusable { path: PathBuf, source: rustls::Error },
    #[error("the roots of {path} cannot verify clients")]
    Verifier { path: PathBuf, source: rustls::server::VerifierBuilderError },
    #[error("session tickets cannot be made")]
    Tickets { source: rustls::Error },
    #[error("`{name}` is no name that a certificate can carry")]
    Name { name: String },
}

/// Which upstream cannot be reached as it is to be, and why.
#[derive(Debug, thiserror::Error)]
#[error("{of}")]
pub struct Unreachable {
    /// "service `web`", "region `eu-west-1`".
    pub of: String,
    pub source: TlsError,
}

/// Equal exactly if files and name are: the first half of SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TrustId(u128);

/// What is spoken once the handshake is done, as ALPN (RFC 7301) asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    Http1,
    Http2,
}

/// How one upstream is known for the right one, and what it is shown.
#[derive(Debug)]
pub struct Trust {
    /// Whom it is about, for logs.
    of: String,
    id: TrustId,
    name: ServerName<'static>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    told: Mutex<HashMap<SocketAddr, Instant>>,
}

/// Why a handshake failed; the log has the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Distrusted(pub Distrust);

impl Trust {
    pub const fn id(&self) -> TrustId {
        self.id
    }

    /// Shakes hands on a connection to `at`.
    ///
    /// # Errors
    /// What of the other side was not right. It is told in the log, once in a while.
    pub async fn shake<S>(
        &self,
        stream: S,
        at: SocketAddr,
        speech: Speech,
    ) -> Result<TlsStream<S>, Distrusted>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = match speech {
            Speech::Http1 => &self.http1,
            Speech::Http2 => &self.http2,
        };
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = match connector.connect(self.name.clone(), stream).await {
            Ok(stream) => stream,
            Err(error) => return Err(self.tell(at, distrust(&error), &error)),
        };
        if speech == Speech::Http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            let error = io::Error::other("the other side does not offer HTTP/2 by ALPN");
            return Err(self.tell(at, Distrust::Other, &error));
        }
        Ok(stream)
    }

    fn tell(&self, at: SocketAddr, reason: Distrust, error: &io::Error) -> Distrusted {
        let Self { of, name, .. } = self;
        let (name, reason_told) = (name.to_str(), reason.as_str());
        if self.is_news(at, Instant::now()) {
            tracing::warn!(address = %at, %name, reason = reason_told, %error, "TLS handshake failed with {of}");
        } else {
            tracing::debug!(address = %at, %name, reason = reason_told, %error, "TLS handshake failed with {of}");
        }
        Distrusted(reason)
    }

    fn is_news(&self, at: SocketAddr, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= TOLD_MAX {
            told.retain(|_, when| now < *when + TELL_EVERY);
        }
        let old = told.get(&at).is_none_or(|when| now >= *when + TELL_EVERY);
        let news = old && told.len() < TOLD_MAX;
        if news {
            told.insert(at, now);
        }
        news
    }
}

/// What a failed handshake says of the other side.
fn distrust(error: &io::Error) -> Distrust {
    use rustls::Error as E;
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<E>()) else {
        return Distrust::Other;
    };
    match error {
        // The signature is wrong where a root of the same name has another key: a CA made anew.
        E::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            Distrust::UnknownIssuer
        }
        E::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Distrust::WrongName,
        E::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => Distrust::Expired,
        E::InvalidCertificate(_) => Distrust::BadCertificate,
        E::AlertReceived(_) => Distrust::Refused,
        _ => Distrust::Other,
    }
}

/// The trusts of a configuration.
#[derive(Debug, Clone, Default)]
pub struct Trusts {
    services: BTreeMap<ServiceId, Arc<Trust>>,
    regions: BTreeMap<RegionId, Arc<Trust>>,
}

impl Trusts {
    /// Reads every file that a configuration names for upstreams.
    ///
    /// Those of `before` whose content is still the same are kept, with their sessions.
    ///
    /// # Errors
    /// The first upstream whose files cannot be read, parsed or used.
    pub async fn load(config: &Config, before: &Self) -> Result<Self, Unreachable> {
        let mut trusts = Self::default();
        for (id, service) in &config.services {
            let Some(tls) = &service.tls else { continue };
            let of = format!("service `{id}`");
            let material = Material::read(&tls.ca, tls.identity.as_ref()).await;
            let trust = material.and_then(|m| m.trust(&of, &tls.server_name, before.services.get(id)));
            let trust = trust.map_err(|source| Unreachable { of, source })?;
            trusts.services.insert(id.clone(), trust);
        }
        let Some(peer) = &config.peer else { return Ok(trusts) };
        let shown = ClientIdentity { certificate: peer.certificate.clone(), key: peer.key.clone() };
        let material = Material::read(&peer.ca, Some(&shown)).await;
        let of = || "the other regions".to_owned();
        let material = material.map_err(|source| Unreachable { of: of(), source })?;
        for (id, region) in &config.regions {
            let Some(address) = &region.peer else { continue };
            let of = format!("region `{id}`");
            let trust = material.trust(&of, &address.server_name, before.regions.get(id));
            let trust = trust.map_err(|source| Unreachable { of, source })?;
            trusts.regions.insert(id.clone(), trust);
        }
        Ok(trusts)
    }

    /// How the endpoints of a service are reached; `None`: without TLS.
    pub fn service(&self, service: &ServiceId) -> Option<&Arc<Trust>> {
        self.services.get(service)
    }

    /// How another region is reached.
    pub fn region(&self, region: &RegionId) -> Option<&Arc<Trust>> {
        self.regions.get(region)
    }
}

/// The content of files, and what is made of it.
struct Material {
    hash: Sha256,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl Material {
    async fn read(ca: &Path, identity: Option<&ClientIdentity>) -> Result<Self, TlsError> {
        let mut hash = Sha256::new();
        let mut add = |content: &[u8]| {
            hash.update((content.len() as u64).to_be_bytes());
            hash.update(content);
        };
        let pem = read(ca).await?;
        add(&pem);
        let roots = Arc::new(roots(ca, &certificates(ca, &pem)?)?);
        let shown = match identity {
            None => None,
            Some(ClientIdentity { certificate, key }) => {
                let (chain, secret) = (read(certificate).await?, read(key).await?);
                add(&chain);
                add(&secret);
                Some(Identity::parse((certificate, &chain), (key, &secret))?)
            }
        };
        let config = |protocol: &[u8]| {
            let provider = Arc::new(ring::default_provider());
            let builder = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|source| pem::unusable(ca, source))?
                .with_root_certificates(Arc::clone(&roots));
            let mut config = match &shown {
                None => builder.with_no_client_auth(),
                Some(identity) => identity.show(builder)?,
            };
            config.alpn_protocols = vec![protocol.to_vec()];
            Ok(Arc::new(config))
        };
        let (http1, http2) = (config(b"http/1.1")?, config(b"h2")?);
        Ok(Self { hash, http1, http2 })
    }

    /// The trust in whoever carries a name; that of before, if it is the same.
    fn trust(&self, of: &str, name: &str, before: Option<&Arc<Trust>>) -> Result<Arc<Trust>, TlsError> {
        let digest = self.hash.clone().chain_update(name).finalize();
        let half = digest.iter().take(16).fold(0, |id, byte| id << 8 | u128::from(*byte));
        let id = TrustId(half);
        if let Some(same) = before.filter(|before| before.id == id) {
            return Ok(Arc::clone(same));
        }
        let name =
            ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name { name: name.to_owned() })?;
        Ok(Arc::new(Trust {
            of: of.to_owned(),
            id,
            name,
            http1: Arc::clone(&self.http1),
            http2: Arc::clone(&self.http2),
            told: Mutex::default(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_wrong_with_an_address_is_told_once_a_minute() {
        let folder = std::env::temp_dir().join(format!("proxima-trust-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let ca = folder.join("ca.pem");
        let certified = rcgen::generate_simple_self_signed(vec!["a.example.net".to_owned()]).unwrap();
        std::fs::write(&ca, certified.cert.pem()).unwrap();
        let material = Material::read(&ca, None).await.unwrap();
        let trust = material.trust("service `web`", "a.example.net", None).unwrap();
        // The same content and name are the same trust; another name is another one.
        let again = Material::read(&ca, None).await.unwrap();
        assert!(Arc::ptr_eq(&trust, &again.trust("x", "a.example.net", Some(&trust)).unwrap()));
        assert_ne!(again.trust("x", "b.example.net", Some(&trust)).unwrap().id(), trust.id());
        std::fs::remove_dir_all(&folder).unwrap();

        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let told = |port| trust.is_news(at(port), Instant::now());
        assert!(told(1) && !told(1) && told(2));
        tokio::time::advance(TELL_EVERY).await;
        assert!(told(1) && !told(1));
        // A flood of addresses takes no more room than this.
        let flood = (0..5000).filter(|port| told(*port)).count();
        assert!(flood <= TOLD_MAX && trust.told.lock().unwrap().len() <= TOLD_MAX);
    }
}
