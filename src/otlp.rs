//! Spans of sampled requests on their way to an OpenTelemetry collector (OTLP over HTTP, protobuf).
//!
//! Requests hand their records over and never wait: a queue that is full drops them, counted. One
//! task sends batches; what a collector does not take is counted and not sent again, so that a dead
//! one costs nothing but its spans. Source: OTLP specification 1.x, section OTLP/HTTP.

use crate::access_log::Record;
use crate::config::{Config, Otlp};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use prost::Message as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

mod spans;

/// Records that may wait. Source: OpenTelemetry specification, `OTEL_BSP_MAX_QUEUE_SIZE`.
const QUEUE: usize = 2048;
/// Of a collector's answer; it is a few words long.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What the sender is told.
enum Message {
    Record(Arc<Record>),
    /// Send what there is, and say when that is done.
    Flush(oneshot::Sender<()>),
}

/// Takes the records of sampled requests; shared by all requests.
#[derive(Debug, Clone)]
pub struct Exporter {
    queue: mpsc::Sender<Message>,
    dropped: IntCounter,
}

/// What [`run`] sends.
#[derive(Debug)]
pub struct Queue {
    messages: mpsc::Receiver<Message>,
    counts: Counts,
}

/// What becomes of spans.
#[derive(Debug)]
struct Counts {
    sent: IntCounter,
    failed: IntCounter,
    dropped: IntCounter,
}

/// Why a batch was lost.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("the collector cannot be reached: {0}")]
    Connect(#[from] io::Error),
    #[error("the exchange broke: {0}")]
    Exchange(#[from] hyper::Error),
    #[error("no request can be made: {0}")]
    Request(#[from] http::Error),
    #[error("the collector's answer is too long or broke: {0}")]
    Answer(Box<dyn std::error::Error + Send + Sync>),
    #[error("the collector answered {0}")]
    Status(StatusCode),
    #[error("the collector took too long")]
    Slow,
}

impl Exporter {
    /// The two ends of the queue.
    ///
    /// # Errors
    /// A metric's name that is registered already.
    pub fn new(registry: &Registry) -> Result<(Self, Queue), prometheus::Error> {
        let help =
            "Spans for the collector: sent, failed (it did not take them) or dropped (the queue was full).";
        let spans = IntCounterVec::new(Opts::new("proxima_spans_total", help), &["result"])?;
        registry.register(Box::new(spans.clone()))?;
        let of = |result: &str| spans.with_label_values(&[result]);
        let counts = Counts { sent: of("sent"), failed: of("failed"), dropped: of("dropped") };
        let (queue, messages) = mpsc::channel(QUEUE);
        Ok((Self { queue, dropped: counts.dropped.clone() }, Queue { messages, counts }))
    }

    /// Takes a record, or drops it when the collector lags behind.
    pub fn export(&self, record: Arc<Record>) {
        let spans = spans_of(&record);
        if self.queue.try_send(Message::Record(record)).is_err() {
            self.dropped.inc_by(spans);
        }
    }

    /// Waits until what was exported before is sent, `most` at the longest.
    pub async fn flush(&self, most: Duration) {
        let at = Instant::now() + most;
        let (done, sent) = oneshot::channel();
        let asked = timeout_at(at, self.queue.send(Message::Flush(done))).await;
        if !matches!(asked, Ok(Ok(()))) || !matches!(timeout_at(at, sent).await, Ok(Ok(()))) {
            tracing::warn!("the last spans were not sent");
        }
    }
}

/// One for the request, one for each attempt.
fn spans_of(record: &Record) -> u64 {
    1 + record.attempts.len() as u64
}

/// Sends batches for ever, by the configuration in force.
pub async fn run(mut queue: Queue, config: watch::Receiver<Arc<Config>>) {
    let mut well = true;
    loop {
        let Some(first) = queue.messages.recv().await else { return };
        let otlp = config.borrow().tracing.as_ref().and_then(|tracing| tracing.otlp.clone());
        let (records, flushed) = gather(&mut queue.messages, first, otlp.as_ref()).await;
        if !records.is_empty() {
            well = queue.counts.send(&records, otlp.as_ref(), well).await;
        }
        // Whoever asked may have stopped waiting: then nobody is left to be told.
        if let Some(Err(())) = flushed.map(|done| done.send(())) {
            tracing::debug!("nobody waits for the last spans any more");
        }
    }
}

/// One batch: as many as may go together, or as have come in time.
async fn gather(
    messages: &mut mpsc::Receiver<Message>,
    first: Message,
    otlp: Option<&Otlp>,
) -> (Vec<Arc<Record>>, Option<oneshot::Sender<()>>) {
    let (most, delay) = otlp.map_or((1, Duration::ZERO), |otlp| (otlp.batch_max, otlp.batch_delay));
    let until = Instant::now() + delay;
    let (mut records, mut next) = (Vec::new(), Some(first));
    while let Some(message) = next {
        match message {
            Message::Record(record) => records.push(record),
            Message::Flush(done) => return (records, Some(done)),
        }
        if records.len() >= most {
            break;
        }
        next = timeout_at(until, messages.recv()).await.ok().flatten();
    }
    (records, None)
}

impl Counts {
    /// Sends a batch; whether that worked. `well`: whether the last one did.
    async fn send(&self, records: &[Arc<Record>], otlp: Option<&Otlp>, well: bool) -> bool {
        let count: u64 = records.iter().map(|record| spans_of(record)).sum();
        // A reload has taken the collector away.
        let Some(otlp) = otlp else {
            self.dropped.inc_by(count);
            return well;
        };
        let body = spans::request(records, &otlp.service_name).encode_to_vec();
        let sent = timeout(otlp.timeout, post(otlp, body.into())).await.unwrap_or(Err(ExportError::Slow));
        match sent {
            Ok(refused) => {
                let refused = refused.min(count);
                self.failed.inc_by(refused);
                self.sent.inc_by(count - refused);
                if !well {
                    tracing::info!(collector = otlp.authority, "spans are taken again");
                }
                true
            }
            Err(error) => {
                self.failed.inc_by(count);
                // Once, and not for every batch.
                if well {
                    tracing::warn!(collector = otlp.authority, %error, "spans are lost");
                }
                false
            }
        }
    }
}

/// One request on a connection of its own: batches are seconds apart. How many spans were refused.
async fn post(otlp: &Otlp, body: Bytes) -> Result<u64, ExportError> {
    let tcp = TcpStream::connect((otlp.host.as_str(), otlp.port)).await?;
    let (mut sender, driver) = http1::handshake(TokioIo::new(tcp)).await?;
    let request = Request::post("/v1/traces")
        .header(header::HOST, &otlp.authority)
        .header(header::CONTENT_TYPE, "application/x-protobuf")
        .header(header::USER_AGENT, concat!("proxima/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(body))?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
        if !answer.status().is_success() {
            return Err(ExportError::Status(answer.status()));
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok(body.map_err(ExportError::Answer)?.to_bytes())
    };
    tokio::pin!(exchange, driver);
    let answer = tokio::select! {
        answer = &mut exchange => answer?,
        ended = &mut driver => {
            ended?;
            exchange.await?
        }
    };
    // Some collectors answer in other words than protobuf; 2xx says enough.
    let partial = ExportTraceServiceResponse::decode(answer).ok().and_then(|told| told.partial_success);
    Ok(partial.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0)))
}
