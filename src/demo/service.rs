//! The service that a region of the demo runs: says where it is.
//!
//! It thinks before the first byte, so that killing it meets requests that are
//! waiting for their answer. `?bytes=N` makes the answer large, `?delay_ms=N`
//! slow.

use axum::Router;
use axum::extract::{Query, State};
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::TcpListener;

/// On every answer: the region whose service made it.
pub const REGION_HEADER: &str = "demo-region";
/// Answers how many requests are waiting for their first byte.
pub const IN_FLIGHT_PATH: &str = "/in-flight";
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
    /// Milliseconds before the first byte of an answer.
    #[arg(long, default_value_t = 40)]
    pub think_ms: u64,
}

struct Service {
    region: String,
    header: HeaderValue,
    think: Duration,
    in_flight: AtomicU32,
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
        think: Duration::from_millis(settings.think_ms),
        in_flight: AtomicU32::new(0),
    });
    let router = Router::new()
        .route(HEALTH_PATH, get(async || "ok\n"))
        .route(IN_FLIGHT_PATH, get(in_flight))
        .fallback(answer)
        .with_state(service);
    let listener = TcpListener::bind(settings.address).await?;
    axum::serve(listener, router).await
}

async fn in_flight(State(service): State<Arc<Service>>) -> String {
    service.in_flight.load(Relaxed).to_string()
}

async fn answer(State(service): State<Arc<Service>>, Query(wish): Query<Wish>) -> Response {
    service.in_flight.fetch_add(1, Relaxed);
    let guard = InFlight(&service);
    let slow = Duration::from_millis(wish.delay_ms.unwrap_or(0).min(DELAY_MS_MAX));
    tokio::time::sleep(service.think + slow).await;
    drop(guard);
    let mut text = format!("Hello from {}.\n", service.region);
    let length = wish.bytes.unwrap_or(0).min(BYTES_MAX).max(text.len());
    text.extend(std::iter::repeat_n('.', length - text.len()));
    ([(REGION_HEADER, service.header.clone())], text).into_response()
}

/// Counts a request that waits, also when its client leaves.
struct InFlight<'a>(&'a Service);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}
