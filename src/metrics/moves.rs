//! What is left of users in a region that they are led away from.

use crate::domain::name::DnsName;
use prometheus::{GaugeVec, IntCounter, IntCounterVec, Opts, Registry};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What kinds of connections are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Http1,
    Http2,
    Upgrade,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::Upgrade];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Upgrade => "upgrade",
        }
    }
}

/// Clones share the counts.
#[derive(Debug, Clone)]
pub struct MoveMetrics {
    closed: [IntCounter; Kind::ALL.len()],
    share: GaugeVec,
    shares: Arc<Mutex<BTreeMap<DnsName, f64>>>,
}

impl MoveMetrics {
    /// # Errors
    /// `prometheus::Error` when a name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Clients' connections that were closed because their region is left by DNS, by kind.";
        let closed = IntCounterVec::new(Opts::new("proxima_connections_moved_total", help), &["kind"])?;
        let help = "Requests a second that still enter here for a name whose users are led elsewhere, as a share of \
                    those before; absent while nobody is led away.";
        let share = GaugeVec::new(Opts::new("proxima_dns_moved_traffic_share", help), &["name"])?;
        registry.register(Box::new(closed.clone()))?;
        registry.register(Box::new(share.clone()))?;
        let closed = Kind::ALL.map(|kind| closed.with_label_values(&[kind.as_str()]));
        Ok(Self { closed, share, shares: Arc::default() })
    }

    /// Counts a connection that is closed.
    pub fn closed(&self, kind: Kind) {
        self.closed[kind as usize].inc();
    }

    /// What is left, by name; names that are not in it are not left.
    pub fn left(&self, left: BTreeMap<DnsName, f64>) {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        for name in shares.keys().filter(|name| !left.contains_key(*name)) {
            if let Err(error) = self.share.remove_label_values(&[name.as_str()]) {
                tracing::debug!(%name, %error, "no such series");
            }
        }
        for (name, share) in &left {
            self.share.with_label_values(&[name.as_str()]).set(*share);
        }
        *shares = left;
    }

    /// What is left of a name's traffic; `None`: it is not left, or nobody knows how much there was.
    pub fn share(&self, name: &DnsName) -> Option<f64> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }
}
