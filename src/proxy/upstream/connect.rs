//! New connections: TCP, and TLS where the upstream is to be trusted.

use super::super::tls::Secured;
use super::UpstreamError;
use crate::trust::{Speech, Trust, TrustId};
use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as TcpIo;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What connections are kept by: none serves under another trust than its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in super::super) struct Key {
    pub(super) address: SocketAddr,
    /// `None`: without TLS.
    pub(super) trust: Option<TrustId>,
}

/// Where a connection leads to.
#[derive(Debug, Clone)]
pub(super) struct Goal {
    pub(super) address: SocketAddr,
    /// `None`: without TLS.
    pub(super) trust: Option<Arc<Trust>>,
}

impl Goal {
    pub(super) fn key(&self) -> Key {
        Key { address: self.address, trust: self.trust.as_ref().map(|trust| trust.id()) }
    }

    /// Connects; TCP alone gets `patience`.
    ///
    /// # Errors
    /// `Connect`, `Distrusted` or `Local`.
    pub(super) async fn connect(&self, speech: Speech, patience: Duration) -> Result<Stream, UpstreamError> {
        let tcp = match timeout(patience, TcpStream::connect(self.address)).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(e)) if is_local(&e) => return Err(UpstreamError::Local),
            Ok(Err(_)) | Err(_) => return Err(UpstreamError::Connect),
        };
        tcp.set_nodelay(true).map_err(|_| UpstreamError::Connect)?;
        let tcp = TcpIo::from(tcp);
        let Some(trust) = &self.trust else { return Ok(Box::new(tcp)) };
        // What goes wrong in a handshake is the other side's, its silence included.
        let stream = trust.shake(tcp, self.address, speech).await;
        let stream = stream.map_err(|distrusted| UpstreamError::Distrusted(distrusted.0))?;
        Ok(Box::new(Secured::new(stream)))
    }
}

/// Reasons of this process, not of the other side.
fn is_local(error: &std::io::Error) -> bool {
    // ENFILE and EMFILE have no kind of their own.
    matches!(error.raw_os_error(), Some(23 | 24)) || error.kind() == ErrorKind::AddrNotAvailable
}
