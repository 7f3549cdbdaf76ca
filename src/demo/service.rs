//! The service that a region of the demo runs: says where it is.
//!
//! It pauses in the middle of an answer's head, so that killing it meets answers
//! that have begun. `?bytes=N` makes the answer large, `?delay_ms=N` late.

use super::halting::{Begun, Halt, HaltingListener};
use axum::Router;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// On every answer: the region whose service made it.
pub const REGION_HEADER: &str = "demo-region";
/// Answers how many other answers have begun and are not whole.
pub const BEGUN_PATH: &str = "/begun";
/// 200 while the service works.
pub const HEALTH_PATH: &str = "/healthz";

/// Largest and slowest answer that may be asked for.
const BYTES_MAX: usize = 1 << 20;
const DELAY_MS_MAX: u64 = 10_000;

/// What a service is told at its start.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// The region that it says it is in.
    #[arg(long)]
    pub region: String,
    /// Where it listens.
    #[arg(long)]
    pub address: SocketAddr,
    /// Milliseconds between the first bytes of an answer and the rest.
    #[arg(long, default_value_t = 40)]
    pub pause_ms: u64,
}

struct Service {
    region: String,
    header: HeaderValue,
    pause: Duration,
    begun: Begun,
}

#[derive(Deserialize)]
struct Wish {
    bytes: Option<usize>,
    delay_ms: Option<u64>,
}

/// Serves until the process ends.
///
/// # Errors
/// The address cannot be bound, or the region's name is no header value.
pub async fn serve(settings: Settings) -> std::io::Result<()> {
    let header = HeaderValue::from_str(&settings.region).map_err(std::io::Error::other)?;
    let service = Arc::new(Service {
        region: settings.region,
        header,
        pause: Duration::from_millis(settings.pause_ms),
        begun: Begun::default(),
    });
    let router = Router::new()
        .route(HEALTH_PATH, get(async || "ok\n"))
        .route(BEGUN_PATH, get(begun))
        .fallback(answer)
        .with_state(Arc::clone(&service));
    let listener = TcpListener::bind(settings.address).await?;
    let listener = HaltingListener { listener, begun: service.begun.clone() };
    axum::serve(listener, router.into_make_service_with_connect_info::<Halt>()).await
}

async fn begun(State(service): State<Arc<Service>>) -> String {
    service.begun.count().to_string()
}

async fn answer(
    State(service): State<Arc<Service>>,
    ConnectInfo(halt): ConnectInfo<Halt>,
    Query(wish): Query<Wish>,
) -> Response {
    let late = Duration::from_millis(wish.delay_ms.unwrap_or(0).min(DELAY_MS_MAX));
    tokio::time::sleep(late).await;
    halt.next_answer(service.pause);
    let mut text = format!("Hello from {}.\n", service.region);
    let length = wish.bytes.unwrap_or(0).min(BYTES_MAX).max(text.len());
    text.extend(std::iter::repeat_n('.', length - text.len()));
    ([(REGION_HEADER, service.header.clone())], text).into_response()
}
