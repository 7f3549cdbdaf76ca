//! The listener for operators: is it alive, is it ready, what does it see.
//!
//! `/ready` depends on this process alone, never on a region, an upstream or
//! AWS: readiness that follows the world takes a whole fleet out of the load
//! balancer when the world stumbles. It outlives the drain, so that the drain
//! can be watched.

use crate::clock::{Clock, Heartbeat};
use crate::config::Config;
use crate::domain::snapshot::{Gate, Snapshot};
use crate::domain::view::View;
use crate::inquiry::Inquiries;
use crate::metrics::moves::MoveMetrics;
use crate::operators::Desk;
use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

mod explain;
mod listen;
mod operator;
mod report;
pub mod tls;
mod who;

/// How long a process that has just started waits for the addresses of its services before it takes
/// traffic; bounded, so that a name which is nowhere keeps no process out.
const FIRST_LOOK_UPS: Duration = Duration::from_secs(3);

/// A listener that is bound, with the port that it really has.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Bound {
    pub name: String,
    pub address: String,
    /// `http`, `https`, `peer` or `admin`.
    pub protocol: &'static str,
}

/// What the admin listener shows.
#[derive(Clone)]
pub struct Wiring {
    pub clock: Clock,
    /// Of whoever publishes snapshots.
    pub heartbeat: Arc<Heartbeat>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// What this region says of itself to others.
    pub view: Arc<ArcSwap<View>>,
    pub registry: Registry,
    pub listeners: Arc<[Bound]>,
    /// Questions to the core.
    pub inquiries: Inquiries,
    /// Who may act, and on which names.
    pub config: watch::Receiver<Arc<Config>>,
    pub desk: Arc<Desk>,
    pub moves: MoveMetrics,
    /// True from SIGTERM on.
    pub draining: watch::Receiver<bool>,
}

/// Serves until the process ends; `tls`: what `tls::read` made of the configuration in force.
pub async fn run(listener: TcpListener, wiring: Wiring, tls: watch::Receiver<tls::Tls>) {
    let router = Router::new()
        .route("/", get(index))
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/snapshot", get(snapshot))
        .route("/explain", get(explain::explain))
        .route("/health/edge", get(|| async { "serving\n" }))
        .route("/health/gate", get(|State(wiring): State<Arc<Wiring>>| async move { gate(&wiring, None) }))
        .route(
            "/health/gate/{name}",
            get(|State(wiring): State<Arc<Wiring>>, Path(name): Path<String>| async move {
                gate(&wiring, Some(&name))
            }),
        )
        .merge(operator::routes())
        .with_state(Arc::new(wiring));
    listen::serve(listener, router, tls).await;
}

const INDEX: &str = concat!(
    "proxima ",
    env!("CARGO_PKG_VERSION"),
    "\n\n",
    "/live      200 while the process serves\n",
    "/ready     200 while it takes traffic; 503 before the first decision, before the first look-ups (3 s at most) and while draining\n",
    "/metrics   for Prometheus\n",
    "/snapshot  what requests are routed by now: regions, services, names, listeners\n",
    "/explain?host=…&path=…  what becomes of such a request, and why (method, scheme, header=name:value); /explain?dns=… of a name\n",
    "/operator  what operators have said: freezes, drains, overrides, and acts that wait to be written\n",
    "/operator/<drain|undrain|freeze|thaw|override|clear>  POST by an operator: `proxima drain --help`\n",
    "/health/edge, /health/gate, /health/gate/<name>  as on the data listeners\n",
);

async fn index() -> &'static str {
    INDEX
}

impl Wiring {
    fn unready(&self) -> Option<&'static str> {
        if *self.draining.borrow() {
            Some("draining")
        } else if self.snapshot.load().number == 0 {
            Some("starting")
        } else if self.clock.uptime() < FIRST_LOOK_UPS && self.has_nowhere_to_go() {
            Some("looking up names")
        } else {
            None
        }
    }

    /// Whether requests for some service would be refused now for want of any address.
    fn has_nowhere_to_go(&self) -> bool {
        self.snapshot.load().services.values().any(|service| service.candidates.is_empty())
    }
}

/// The same answers as on the data listeners, for a person to look at.
fn gate(wiring: &Wiring, name: Option<&str>) -> (StatusCode, &'static str) {
    match wiring.snapshot.load().gate(name, wiring.heartbeat.idle(wiring.clock.now())) {
        Gate::Open => (StatusCode::OK, "open\n"),
        Gate::Closed => (StatusCode::SERVICE_UNAVAILABLE, "closed\n"),
    }
}

async fn ready(State(wiring): State<Arc<Wiring>>) -> Response {
    match wiring.unready() {
        None => "ready\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(wiring): State<Arc<Wiring>>) -> Response {
    match TextEncoder::new().encode_to_string(&wiring.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics can't be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn snapshot(State(wiring): State<Arc<Wiring>>) -> Response {
    let report = report::Report::new(&wiring, wiring.clock.now());
    match serde_json::to_string_pretty(&report) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(error) => {
            tracing::error!(%error, "the snapshot can't be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
