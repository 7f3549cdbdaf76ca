//! An HTTP client of an edge's admin listener, plain or over TLS: one request a connection.

use crate::trust::TlsError;
use crate::trust::pem::{self, Identity, certificates, roots};
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::{AlertDescription, ClientConfig};
use rustls_pki_types::ServerName;
use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// For one request; denials of operators are answered slowly.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest answer.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The admin listener's default.
const PORT: u16 = 9901;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0:?} is no address of an admin listener: want http://HOST:PORT or https://HOST:PORT")]
    Url(String),
    #[error("{0} needs --ca FILE: the roots that sign the admin listener's certificate")]
    Roots(String),
    #[error("--cert is shown over TLS only: want https:// instead of {0}")]
    Plain(String),
    #[error(transparent)]
    Files(#[from] TlsError),
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error(
        "not believed: its certificate must be signed by --ca, in its time, and carry the host of the address"
    )]
    Distrusted(#[source] rustls::Error),
    #[error(
        "it takes no certificate but of a root in its admin.tls.client_ca, in its time, for clients; see --cert"
    )]
    NotTaken(#[source] rustls::Error),
    #[error("it does not speak TLS, it seems: want http://")]
    NoTls(#[source] rustls::Error),
    #[error("the handshake broke")]
    Handshake(#[source] io::Error),
    #[error("it speaks TLS, it seems: want https://")]
    OnlyTls(#[source] hyper::Error),
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
    #[error("the request has no form in HTTP")]
    Request(#[from] http::Error),
    #[error("the answer broke or is too large")]
    Body(#[source] Box<dyn StdError + Send + Sync>),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Timeout,
}

/// What an admin listener with TLS is believed by, and shown.
#[derive(Debug, Default, clap::Args)]
pub(super) struct TlsFiles {
    /// With https: PEM roots that sign the admin listener's certificate.
    #[arg(long, env = "PROXIMA_ADMIN_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// With https: the operator's certificate, a PEM chain.
    #[arg(long, env = "PROXIMA_ADMIN_CERT", value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of --cert.
    #[arg(long, env = "PROXIMA_ADMIN_KEY", value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// An admin listener by its address.
#[derive(Debug)]
pub(super) struct AdminClient {
    /// Host and port.
    authority: String,
    tls: Option<Tls>,
}

#[derive(Clone)]
struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

impl AdminClient {
    /// # Errors
    /// `Url`: another scheme than `http` and `https`, or a path. `Roots`, `Plain`, `Files`.
    pub(super) async fn of(url: &str, files: &TlsFiles) -> Result<Self, Error> {
        let wrong = || Error::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let host = uri.host().filter(|_| matches!(uri.path(), "" | "/")).ok_or_else(wrong)?;
        let tls = match uri.scheme_str() {
            Some("http") if files.cert.is_some() => return Err(Error::Plain(url.to_owned())),
            Some("http") => None,
            Some("https") => Some(Tls::of(url, host, files).await?),
            _ => return Err(wrong()),
        };
        Ok(Self { authority: format!("{host}:{}", uri.port_u16().unwrap_or(PORT)), tls })
    }

    /// Scheme, host and port.
    pub(super) fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.authority)
    }

    /// Status and body of the answer; `token`: of an operator.
    ///
    /// # Errors
    /// Any but those of `of`.
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: String,
    ) -> Result<(StatusCode, Bytes), Error> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.authority);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        timeout(PATIENCE, self.connected(request)).await.map_err(|_| Error::Timeout)?
    }

    async fn connected(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Error> {
        let stream = TcpStream::connect(&self.authority).await.map_err(Error::Connect)?;
        let Some(Tls { config, name }) = self.tls.clone() else { return exchange(stream, request).await };
        let connecting = TlsConnector::from(config).connect(name, stream);
        let stream = connecting.await.map_err(|error| match of_tls(&error) {
            Some(told) => about_tls(told),
            None => Error::Handshake(error),
        })?;
        exchange(stream, request).await
    }
}

impl Tls {
    async fn of(url: &str, host: &str, files: &TlsFiles) -> Result<Self, Error> {
        let ca = files.ca.as_ref().ok_or_else(|| Error::Roots(url.to_owned()))?;
        let roots = roots(ca, &certificates(ca, &pem::read(ca).await?)?)?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|source| pem::unusable(ca, source))?
            .with_root_certificates(roots);
        let config = match (&files.cert, &files.key) {
            (Some(cert), Some(key)) => Identity::read(cert, key).await?.show(builder)?,
            _ => builder.with_no_client_auth(),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| Error::Url(url.to_owned()))?;
        Ok(Self { config: Arc::new(config), name })
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(Error::Body)?;
        Ok((head.status, body.to_bytes()))
    };
    tokio::select! {
        answer = exchange => answer,
        // A connection that ends well has brought the answer, or `exchange` says that none came.
        Err(error) = connection => Err(broken(error)),
    }
}

/// TLS 1.3 verifies clients after they have begun to send: what it says of them comes here.
fn broken(error: hyper::Error) -> Error {
    match of_tls(&error) {
        Some(told) => about_tls(told),
        // The alert of TLS is no status line.
        None if error.is_parse() => Error::OnlyTls(error),
        None => Error::Broken(error),
    }
}

/// What rustls says somewhere in an error.
fn of_tls(error: &(dyn StdError + 'static)) -> Option<rustls::Error> {
    let mut error = Some(error);
    while let Some(one) = error {
        let inner = one.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(told) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Some(told.clone());
        }
        error = one.source();
    }
    None
}

fn about_tls(told: rustls::Error) -> Error {
    match told {
        rustls::Error::InvalidCertificate(_) => Error::Distrusted(told),
        rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError,
        ) => Error::NotTaken(told),
        rustls::Error::InvalidMessage(_) => Error::NoTls(told),
        other => Error::Handshake(io::Error::other(other)),
    }
}
