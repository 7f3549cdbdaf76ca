//! What one configuration means to requests; replaced whole on reload.

use crate::config::Config;
use crate::domain::routing::{Action, Route};
use crate::metrics::request::{Class, Handles, RequestMetrics};
use crate::proxy::guards::Guards;
use crate::proxy::tls::PeerIdentity;
use std::sync::Arc;

/// Read by every request once.
pub(super) struct Settings {
    pub(super) config: Arc<Config>,
    pub(super) handles: Handles,
    /// `None` with a single region.
    pub(super) peer: Option<PeerIdentity>,
    pub(super) guards: Guards,
    /// Counts applied configurations, from 1: connections to peers are not shared between them.
    pub(super) generation: u64,
}

impl Settings {
    pub(super) fn new(
        config: Arc<Config>,
        metrics: &RequestMetrics,
        peer: Option<PeerIdentity>,
        guards: Guards,
        generation: u64,
    ) -> Self {
        let answering = |route: &'_ Arc<Route>| match &route.action {
            Action::Forward(_) => None,
            Action::Redirect(redirect) => Some(Class::of(redirect.status.code())),
            Action::Respond(respond) => Some(Class::of(respond.status)),
        };
        let routes = config.policy.routes.routes();
        let routes = routes.iter().filter_map(|route| Some((&route.id, answering(route)?)));
        let handles = metrics.handles(config.services.keys(), config.regions.keys(), routes);
        Self { config, handles, peer, guards, generation }
    }
}
