//! What one configuration means to requests; replaced whole on reload.

use crate::config::Config;
use crate::domain::routing::{Action, Route};
use crate::metrics::request::{Class, Handles, RequestMetrics};
use crate::proxy::guards::Guards;
use crate::proxy::tls::{PeerTls, ServerTls};
use crate::trust::Trusts;
use std::sync::Arc;

/// Read once by every handshake and by every request.
///
/// One snapshot: nobody meets the certificates of one configuration and the rules of another.
pub(super) struct Settings {
    pub(super) config: Arc<Config>,
    pub(super) handles: Handles,
    pub(super) guards: Guards,
    pub(super) tls: Tls,
}

/// What an applied configuration says in TLS, and to whom.
#[derive(Default)]
pub(super) struct Tls {
    /// To clients; `None`: no listener is `https`.
    pub(super) clients: Option<Arc<ServerTls>>,
    /// To other regions that connect here; `None` with a single region.
    pub(super) peers: Option<Arc<PeerTls>>,
    /// To upstreams: services, and other regions.
    pub(super) upstreams: Trusts,
}

impl Settings {
    pub(super) fn new(config: Arc<Config>, metrics: &RequestMetrics, guards: Guards, tls: Tls) -> Self {
        let answering = |route: &'_ Arc<Route>| match &route.action {
            Action::Forward(_) => None,
            Action::Redirect(redirect) => Some(Class::of(redirect.status.code())),
            Action::Respond(respond) => Some(Class::of(respond.status)),
        };
        let routes = config.policy.routes.routes();
        let routes = routes.iter().filter_map(|route| Some((&route.id, answering(route)?)));
        let handles = metrics.handles(config.services.keys(), config.regions.keys(), routes);
        Self { config, handles, guards, tls }
    }
}
