//! What all of the process has in common at AWS: its session, and the archive.

use crate::archive;
use crate::aws::Sessions;
use crate::config::Config;
use crate::metrics::archive::ArchiveMetrics;
use crate::metrics::aws::AwsMetrics;
use crate::operators::audit::Audit;
use prometheus::Registry;
use std::sync::Arc;
use tokio::sync::watch;

/// Shared by who asks AWS for something.
pub(super) struct Cloud {
    pub(super) sessions: Sessions,
    archive: ArchiveMetrics,
}

impl Cloud {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let sessions = Sessions::new(AwsMetrics::register(registry)?);
        Ok(Self { sessions, archive: ArchiveMetrics::register(registry)? })
    }

    /// What uploads what the configuration says.
    pub(super) fn archive(
        &self,
        config: watch::Receiver<Arc<Config>>,
        audit: &Arc<Audit>,
    ) -> archive::Wiring {
        let (sessions, metrics) = (self.sessions.clone(), self.archive.clone());
        archive::Wiring { config, sessions, audit: Arc::clone(audit), metrics }
    }
}
