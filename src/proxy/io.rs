//! A connection with its two buffers, and the one timer of a task.
//!
//! Knows bytes and nothing of HTTP. Buffers are given back while a connection
//! idles, so that a kept-alive one costs little more than its socket.

use crate::proxy::upstream::Seat;
use bytes::{Buf, Bytes, BytesMut};
use pingora::protocols::Stream;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::io::poll_read_buf;

/// Room for a read while a head is expected.
pub(super) const HEAD_READ: usize = 4 * 1024;
/// Room for a read while a body flows; the largest piece of it.
pub(super) const BODY_READ: usize = 16 * 1024;
/// Bytes that may wait to be written before whoever makes more has to wait.
const OUTPUT_FULL: usize = 32 * 1024;
/// What an idle connection is read into: the beginning of a request.
const FIRST_READ: usize = 1024;
/// How long an ending connection listens on, and to how much: a reset would take the last
/// answer from a client that still sends.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 * 1024;

/// A stream and what has been read from it and is to be written to it.
#[derive(Debug)]
pub(super) struct Conn {
    stream: Stream,
    pub(super) input: BytesMut,
    pub(super) output: BytesMut,
    written: u64,
    /// Counts the connection to its endpoint.
    _seat: Option<Seat>,
}

impl Conn {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, input: BytesMut::new(), output: BytesMut::new(), written: 0, _seat: None }
    }

    /// One that is counted for as long as it is there.
    pub(super) fn counted(stream: Stream, seat: Seat) -> Self {
        Self { _seat: Some(seat), ..Self::new(stream) }
    }

    /// The stream, and what was read from it already; nothing may wait to be written.
    pub(super) fn into_parts(self) -> (Stream, Bytes) {
        (self.stream, self.input.freeze())
    }

    /// Bytes written so far: they tell progress from standstill.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    /// Reads more input, at most `room` bytes of it; 0: the other side has ended.
    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        self.input.reserve(room);
        poll_read_buf(Pin::new(&mut self.stream), context, &mut self.input)
    }

    /// Reads the beginning of something; holds no buffer while it waits.
    pub(super) fn poll_first(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; FIRST_READ];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        self.input.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Ready while more output may be made.
    pub(super) fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.output.len() < OUTPUT_FULL { Poll::Ready(Ok(())) } else { self.poll_flush(context) }
    }

    /// Writes everything.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
            self.written = self.written.wrapping_add(written as u64);
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Tells the other side that nothing more comes.
    pub(super) fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    /// Gives back what is empty.
    pub(super) fn release(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
    }

    /// Whether a connection that nothing is expected from is still there.
    ///
    /// `false`: it has ended, or has sent what nobody asked for.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        self.input.is_empty() && self.poll_first(&mut context).is_pending()
    }

    /// Ends it so that the other side can read what was sent.
    pub(super) async fn linger(mut self) {
        let ending = async {
            std::future::poll_fn(|context| self.poll_flush(context)).await?;
            self.stream.shutdown().await?;
            let mut dropped = 0;
            while dropped < LINGER_BYTES {
                self.input.clear();
                match std::future::poll_fn(|context| self.poll_first(context)).await? {
                    0 => break,
                    n => dropped += n,
                }
            }
            Ok::<(), io::Error>(())
        };
        // Whoever does not listen to the end has lost nothing by it.
        if let Ok(Err(error)) = timeout(LINGER, ending).await {
            tracing::trace!(%error, "a connection broke while it ended");
        }
    }
}

/// A timer that is armed anew only when it must ring earlier, or has rung too early.
#[derive(Debug, Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Ready once `at` has come.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, at: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        loop {
            ready!(sleep.as_mut().poll(context));
            if sleep.deadline() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn a_timer_rings_at_the_last_time_that_it_was_asked_for() {
        let mut timer = Timer::default();
        let begin = Instant::now();
        let after = |ms| begin + Duration::from_millis(ms);
        // Armed for the first, moved to the second; an earlier wake-up is not a ring.
        assert!(poll_fn(|context| Poll::Ready(timer.poll(context, after(10)))).await.is_pending());
        poll_fn(|context| timer.poll(context, after(50))).await;
        assert_eq!(begin.elapsed(), Duration::from_millis(50));
        assert!(poll_fn(|context| Poll::Ready(timer.poll(context, after(90)))).await.is_pending());
        poll_fn(|context| timer.poll(context, after(70))).await;
        assert_eq!(begin.elapsed(), Duration::from_millis(70));
    }

    #[tokio::test]
    async fn a_connection_is_quiet_until_it_ends_or_speaks() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut conn = Conn::new(Box::new(near));
        assert!(conn.is_quiet());
        far.write_all(b"unasked").await.unwrap();
        assert!(!conn.is_quiet());
        let (near, far) = tokio::io::duplex(64);
        drop(far);
        assert!(!Conn::new(Box::new(near)).is_quiet());
    }
}
