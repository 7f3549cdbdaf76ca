//! What users see of faults, by a running process: services that fail or are asked too much,
//! certificates that are swapped, and its end under HTTP/2 and WebSockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run_support;

#[path = "run_faults/drain.rs"]
mod drain;
#[path = "run_faults/gate.rs"]
mod gate;
#[path = "run_faults/handshakes.rs"]
mod handshakes;
#[path = "run_faults/origin.rs"]
mod origin;
#[path = "run_faults/outage.rs"]
mod outage;
#[path = "run_faults/outliers.rs"]
mod outliers;

use run_support::{Edge, eventually, get};
use std::net::SocketAddr;
use std::path::Path;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// One of these tests at a time: they measure shares of what this machine can do.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A client's connection, kept while it may be.
#[derive(Default)]
struct Client(Option<BufReader<TcpStream>>);

impl Client {
    /// One GET; the status of its answer.
    async fn ask(&mut self, at: SocketAddr, path: &str) -> std::io::Result<u16> {
        self.ask_as(at, path, "nobody").await
    }

    /// One GET of this user; the status of its answer.
    async fn ask_as(&mut self, at: SocketAddr, path: &str, user: &str) -> std::io::Result<u16> {
        let mut stream = match self.0.take() {
            Some(stream) => stream,
            None => BufReader::new(TcpStream::connect(at).await?),
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: www.example.com\r\nx-user: {user}\r\n\r\n");
        stream.get_mut().write_all(request.as_bytes()).await?;
        let (mut length, mut keep, mut line) = (0, true, String::new());
        stream.read_line(&mut line).await?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| std::io::Error::other(format!("answered {line:?}")))?;
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let text = line.trim_end().to_ascii_lowercase();
            if text.is_empty() {
                break;
            }
            if let Some(value) = text.strip_prefix("content-length: ") {
                length = value.parse().map_err(std::io::Error::other)?;
            }
            keep &= text != "connection: close";
        }
        stream.read_exact(&mut vec![0; length]).await?;
        self.0 = keep.then_some(stream);
        Ok(status)
    }
}

/// Starts an edge, and waits until so many endpoints of `web` are known to be well.
fn started(file: &Path, endpoints: usize) -> Edge {
    let edge = Edge::ready(file);
    eventually("the endpoints are known to be well", || (endpoints_of(&edge) == endpoints).then_some(()));
    edge
}

/// Endpoints of `web` that requests may go to.
fn endpoints_of(edge: &Edge) -> usize {
    let snapshot = edge.snapshot();
    let own = &snapshot["services"]["web"]["candidates"][0];
    own["endpoints"].as_array().map_or(0, Vec::len)
}

/// The sum of a metric over all its labels.
fn sum(edge: &Edge, name: &str) -> f64 {
    let text = get(edge.address("admin"), "/metrics").body;
    let mine = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|l| l.starts_with(['{', ' '])));
    mine.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}
