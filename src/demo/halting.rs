//! Connections that can stop in the middle of an answer's head.
//!
//! A service that is killed between two answers proves little, and a HTTP library
//! writes a head whole or not at all. Here the first bytes of an answer go out,
//! and the rest only after a pause: whoever is killed then dies mid-response.

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

/// Bytes of an answer that go out before the pause: part of its first line.
const BEGINNING: usize = 9;

/// Answers that have begun and are not whole, on all connections.
#[derive(Debug, Clone, Default)]
pub struct Begun(Arc<AtomicU32>);

impl Begun {
    pub fn count(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

/// Tells a connection to pause in its next answer.
#[derive(Debug, Clone, Default)]
pub struct Halt(Arc<AtomicU64>);

impl Halt {
    /// The answer that is written next stops after its first bytes for so long.
    pub fn next_answer(&self, pause: Duration) {
        self.0.store(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    fn take(&self) -> Option<Duration> {
        match self.0.swap(0, Relaxed) {
            0 => None,
            millis => Some(Duration::from_millis(millis)),
        }
    }
}

/// Accepts connections that can halt.
#[derive(Debug)]
pub struct HaltingListener {
    pub listener: TcpListener,
    pub begun: Begun,
}

impl Listener for HaltingListener {
    type Io = HaltingStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (HaltingStream, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let (halt, begun) = (Halt::default(), self.begun.clone());
        (HaltingStream { stream, halt, begun, pause: None }, address)
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, HaltingListener>> for Halt {
    fn connect_info(stream: IncomingStream<'_, HaltingListener>) -> Self {
        stream.io().halt.clone()
    }
}

/// A connection whose answers can pause.
#[derive(Debug)]
pub struct HaltingStream {
    stream: TcpStream,
    halt: Halt,
    begun: Begun,
    pause: Option<Pause>,
}

/// A pause under way; counted until it is dropped.
#[derive(Debug)]
struct Pause {
    over: Pin<Box<Sleep>>,
    begun: Begun,
}

impl Pause {
    fn begin(begun: &Begun, pause: Duration) -> Self {
        begun.0.fetch_add(1, Relaxed);
        Self { over: Box::pin(sleep(pause)), begun: begun.clone() }
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.begun.0.fetch_sub(1, Relaxed);
    }
}

impl AsyncRead for HaltingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

/// Vectored writes fall back to plain ones: what is paused is one buffer.
impl AsyncWrite for HaltingStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.over.as_mut().poll(context));
            self.pause = None;
        }
        let Some(pause) = self.halt.take() else {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        };
        let beginning = bytes.get(..BEGINNING).unwrap_or(bytes);
        let written = Pin::new(&mut self.stream).poll_write(context, beginning);
        match &written {
            Poll::Ready(Ok(_)) => self.pause = Some(Pause::begin(&self.begun, pause)),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.halt.next_answer(pause),
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
