//! The access log: one JSON line a request, written by a thread of its own.
//!
//! ```text
//! request ends -> Record -> bounded queue -> writer thread -> standard output or a file
//! ```
//!
//! A request never waits for the disk: when the queue is full, its record is
//! dropped and counted. Which requests are logged is the proxy's business; this
//! module knows no socket and no HTTP beyond the words of a record.

use crate::config::AccessLogOutput;
use prometheus::{IntCounter, Registry};
use record::Line;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Duration;
use tracing::{error, warn};

pub mod record;

pub use record::{Attempt, AttemptResult, Proxied, ProxiedTls, Record, Span, Tls, wall_clock};

/// Records that may wait for the disk; a record pins the head of its request, about 4 KiB.
const QUEUE: usize = 4096;
/// Bytes that are written at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// What the writer is told.
enum Message {
    Record(Arc<Record>),
    /// From here on to this.
    Output(Output),
}

/// Where lines go, open.
#[derive(Debug)]
pub struct Output(Option<Open>);

#[derive(Debug)]
enum Open {
    Stdout,
    File { file: File, path: PathBuf },
}

impl Output {
    /// Opens an output, anew if it is a file that was open before: it may have been moved away.
    /// Blocks.
    ///
    /// # Errors
    /// `OpenError` with the file's path.
    pub fn open(output: Option<&AccessLogOutput>) -> Result<Self, OpenError> {
        Ok(Self(match output {
            None => None,
            Some(AccessLogOutput::Stdout) => Some(Open::Stdout),
            Some(AccessLogOutput::File(path)) => {
                let opened = OpenOptions::new().create(true).append(true).open(path);
                let file = opened.map_err(|source| OpenError { path: path.clone(), source })?;
                Some(Open::File { file, path: path.clone() })
            }
        }))
    }
}

/// Why an access log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the access log {path} cannot be opened")]
pub struct OpenError {
    path: PathBuf,
    source: io::Error,
}

/// What is counted of it.
#[derive(Debug, Clone)]
struct Metrics {
    written: IntCounter,
    dropped: IntCounter,
    failed: IntCounter,
}

impl Metrics {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            written: counter("proxima_access_log_lines_total", "Lines handed to the access log's output.")?,
            dropped: counter(
                "proxima_access_log_dropped_total",
                "Records that the access log lost because its queue was full.",
            )?,
            failed: counter(
                "proxima_access_log_failures_total",
                "Writes that the access log's output refused; their lines are lost.",
            )?,
        })
    }
}

/// Takes records; shared by all requests.
#[derive(Debug, Clone)]
pub struct AccessLog {
    queue: SyncSender<Message>,
    metrics: Metrics,
}

/// The thread that writes; waited for at the end of the process.
#[derive(Debug)]
pub struct Writer {
    /// Ends with the thread.
    ended: Receiver<()>,
}

impl AccessLog {
    /// Starts the writer, which writes nowhere until [`AccessLog::switch`].
    ///
    /// # Errors
    /// A name that is registered already, or no thread to be had.
    pub fn start(registry: &Registry) -> Result<(Self, Writer), StartError> {
        let metrics = Metrics::register(registry)?;
        let (queue, messages) = sync_channel(QUEUE);
        let counts = metrics.clone();
        let name = "access-log".to_owned();
        let (alive, ended) = sync_channel(0);
        std::thread::Builder::new().name(name).spawn(move || {
            write(&messages, &counts);
            drop(alive);
        })?;
        Ok((Self { queue, metrics }, Writer { ended }))
    }

    /// From here on records go to this output.
    ///
    /// Blocks while the writer lags behind: what was logged before goes where it was to go.
    pub fn switch(&self, output: Output) {
        if self.queue.send(Message::Output(output)).is_err() {
            error!("the access log's writer has ended");
        }
    }

    /// Takes a record, or drops it when the writer lags behind.
    pub fn record(&self, record: Arc<Record>) {
        match self.queue.try_send(Message::Record(record)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.metrics.dropped.inc(),
        }
    }
}

/// Why there is no access log.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the access log's metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
    #[error("the access log has no thread")]
    Thread(#[from] io::Error),
}

impl Writer {
    /// Returns when every record is written that was taken by logs which are dropped by now, or
    /// when `patience` is over: a disk that stands still does not hold the process.
    pub fn join(self, patience: Duration) {
        if self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            warn!("the access log is not written to its end");
        }
    }
}

/// Writes until every sender is gone.
fn write(messages: &Receiver<Message>, metrics: &Metrics) {
    let mut output: Option<Sink> = None;
    loop {
        let message = match messages.try_recv() {
            Ok(message) => message,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                // Nothing waits: whoever follows the log sees all of it.
                if let Some(sink) = &mut output {
                    sink.flush(metrics);
                }
                match messages.recv() {
                    Ok(message) => message,
                    Err(_) => break,
                }
            }
        };
        match message {
            Message::Record(record) => {
                if let Some(sink) = &mut output {
                    sink.line(&record, metrics);
                }
            }
            Message::Output(next) => {
                if let Some(mut before) = output.take() {
                    before.flush(metrics);
                }
                output = next.0.map(Sink::new);
            }
        }
    }
    if let Some(mut sink) = output {
        sink.flush(metrics);
    }
}

/// An output and what waits for it.
struct Sink {
    name: String,
    writer: BufWriter<Box<dyn Write>>,
    /// The last write failed: told once, not once a line.
    failing: bool,
}

impl Sink {
    fn new(output: Open) -> Self {
        let (name, writer): (String, Box<dyn Write>) = match output {
            Open::Stdout => ("standard output".to_owned(), Box::new(io::stdout())),
            Open::File { file, path } => (path.display().to_string(), Box::new(file)),
        };
        Self { name, writer: BufWriter::with_capacity(BUFFER_BYTES, writer), failing: false }
    }

    fn line(&mut self, record: &Record, metrics: &Metrics) {
        let written = serde_json::to_writer(&mut self.writer, &Line(record))
            .map_err(io::Error::from)
            .and_then(|()| self.writer.write_all(b"\n"));
        match written {
            Ok(()) => metrics.written.inc(),
            Err(e) => self.failed(&e, metrics),
        }
    }

    fn flush(&mut self, metrics: &Metrics) {
        match self.writer.flush() {
            Ok(()) => self.failing = false,
            Err(e) => self.failed(&e, metrics),
        }
    }

    fn failed(&mut self, error: &io::Error, metrics: &Metrics) {
        metrics.failed.inc();
        if !self.failing {
            warn!(output = %self.name, %error, "access log lines are lost");
        }
        self.failing = true;
    }
}

#[cfg(test)]
mod tests;
