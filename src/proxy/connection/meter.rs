//! A client's HTTP/2 connection under the h2 crate, with an eye on its frames.
//!
//! When a frame is one too many, nothing is read any more and the word is left for whoever polls the
//! connection: it says GOAWAY, which is still written.

use super::frames::{Cut, Frames, Ledger};
use bytes::{Buf, Bytes};
use pingora::protocols::Stream;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// No cut yet.
const NONE: u8 = u8::MAX;

/// What was seen of a connection.
#[derive(Debug)]
pub(super) struct Seen {
    cut: AtomicU8,
    began: Instant,
    /// Milliseconds from then until a piece of an answer left last.
    data_sent: AtomicU64,
}

impl Seen {
    /// Why the connection has to end.
    pub(super) fn cut(&self) -> Option<Cut> {
        Cut::ALL.get(usize::from(self.cut.load(Relaxed))).copied()
    }

    /// When a piece of an answer left for the socket last.
    pub(super) fn data_sent(&self) -> Instant {
        self.began + Duration::from_millis(self.data_sent.load(Relaxed))
    }
}

/// A stream whose frames are counted both ways.
#[derive(Debug)]
pub(super) struct Meter {
    stream: Stream,
    /// Read already, and not by h2.
    begun: Bytes,
    received: Frames,
    sent: Frames,
    ledger: Ledger,
    seen: Arc<Seen>,
}

impl Meter {
    /// `begun`: the first bytes of the stream, which begin with the preface or a part of it.
    pub(super) fn new(stream: Stream, begun: Bytes, streams: u32) -> Self {
        let now = Instant::now();
        Self {
            stream,
            begun,
            received: Frames::after(super::PREFACE.len()),
            sent: Frames::after(0),
            ledger: Ledger::new(streams, now),
            seen: Arc::new(Seen { cut: AtomicU8::new(NONE), began: now, data_sent: AtomicU64::new(0) }),
        }
    }

    pub(super) fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen)
    }

    /// Whether all of these bytes may go on.
    fn pass(&mut self, bytes: &[u8]) -> bool {
        let (now, ledger) = (Instant::now(), &mut self.ledger);
        let mut cut = None;
        self.received.feed(bytes, |frame| cut = cut.or_else(|| ledger.received(frame, now)));
        if let Some(cut) = cut {
            self.seen.cut.store(cut as u8, Relaxed);
        }
        cut.is_none()
    }

    fn leave(&mut self, bytes: &[u8]) {
        let (ledger, mut data) = (&mut self.ledger, self.sent.inside_data());
        self.sent.feed(bytes, |frame| {
            data |= frame.is_data();
            ledger.sent(frame);
        });
        if data {
            let passed = self.seen.began.elapsed().as_millis();
            self.seen.data_sent.store(u64::try_from(passed).unwrap_or(u64::MAX), Relaxed);
        }
    }
}

impl AsyncRead for Meter {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.seen.cut().is_some() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if self.begun.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        } else {
            let length = self.begun.len().min(buffer.remaining());
            buffer.put_slice(&self.begun[..length]);
            self.begun.advance(length);
        }
        if self.pass(&buffer.filled()[before..]) {
            return Poll::Ready(Ok(()));
        }
        buffer.set_filled(before);
        Poll::Pending
    }
}

impl AsyncWrite for Meter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.leave(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        let mut left = written;
        for slice in slices {
            let part = left.min(slice.len());
            self.leave(&slice[..part]);
            left -= part;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
