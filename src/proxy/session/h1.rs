//! A client's HTTP/1 connection: heads in, one request after the other.
//!
//! A head has a deadline for the whole of it, counted from its first byte, so
//! that no client holds a connection by sending slowly. Pipelined requests wait
//! in the connection's input: nothing is read past a request while it runs,
//! which is how the kernel slows such a client down.

use super::super::h1::{BodyReader, BodyWriter, Framing, Got, Limits, Malformed, RequestHead, Scan};
use super::super::h1::{Reuse, request, write_response};
use super::super::io::{BODY_READ, Conn, HEAD_READ, Timer};
use super::{ClientError, Piece, REST_BYTES, REST_PATIENCE};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, StatusCode, Version, response};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Input that is kept while nobody reads it, before the client is no longer listened to.
const AHEAD_BYTES: usize = 16 * 1024;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How the wait for a request's head ended.
pub(in super::super) enum Next {
    Head(Box<RequestHead>),
    /// To be answered with its status, and closed.
    Malformed(Malformed),
    /// It began and did not end in time.
    Slow,
    /// The client left, or did not begin in time.
    End,
}

/// How long a head is waited for.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Patience {
    /// To the first byte; on a new connection to the end of the head.
    pub(in super::super) first: Duration,
    /// From the first byte to the end of the head.
    pub(in super::super) head: Duration,
    /// As `first`, once the edge closes.
    pub(in super::super) closing: Duration,
    /// As `head`, once the edge closes.
    pub(in super::super) closing_head: Duration,
}

/// Ready once the edge closes.
pub(in super::super) type Closed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Waits for the next request.
///
/// `scan`: one for all requests of a connection.
/// `closed`: ready once the edge closes; `None` once it was.
pub(in super::super) async fn next(
    conn: &mut Conn,
    scan: &mut Scan,
    (scheme, limits): (&Scheme, &Limits),
    patience: Patience,
    timer: &mut Timer,
    closed: &mut Option<Closed>,
) -> Next {
    let began = Instant::now();
    let mut deadline = began + patience.first;
    let mut begun = false;
    loop {
        match scan.take(&mut conn.input, limits) {
            Ok(Some(raw)) => {
                return match request(&raw, limits, scheme) {
                    Ok(head) => Next::Head(Box::new(head)),
                    Err(malformed) => Next::Malformed(malformed),
                };
            }
            Ok(None) => {}
            Err(malformed) => return Next::Malformed(malformed),
        }
        if !begun && !conn.input.is_empty() {
            begun = true;
            deadline = Instant::now() + if closed.is_some() { patience.head } else { patience.closing_head };
        }
        let filled = poll_fn(|context| {
            let filled = if begun { conn.poll_fill(context, HEAD_READ) } else { conn.poll_first(context) };
            if filled.is_ready() {
                return filled.map(Some);
            }
            if closed.as_mut().is_some_and(|closed| closed.as_mut().poll(context).is_ready()) {
                *closed = None;
                let left = if begun { patience.closing_head } else { patience.closing };
                deadline = deadline.min(Instant::now() + left);
            }
            timer.poll(context, deadline).map(|()| None)
        });
        match filled.await {
            Some(Ok(1..)) => {}
            Some(Ok(0) | Err(_)) => return Next::End,
            None if begun => return Next::Slow,
            None => return Next::End,
        }
    }
}

/// Answers what was no request; the connection has to end after it.
pub(in super::super) fn refuse(conn: &mut Conn, parts: &response::Parts, body: &[u8]) {
    let framing = Framing::Length(body.len() as u64);
    write_response(parts, framing, Reuse::Close, Version::HTTP_11, &mut conn.output);
    conn.output.extend_from_slice(body);
}

/// One request on a connection, from its head to the end of its answer.
#[derive(Debug)]
pub(in super::super) struct Request<'c> {
    conn: &'c mut Conn,
    version: Version,
    reader: BodyReader,
    writer: BodyWriter,
    /// The client waits for a 100 before it sends its body.
    waits: bool,
    /// May serve another request after this one.
    persistent: bool,
    answer: Answer,
    /// Of the answer, until its end is written.
    trailers: Option<HeaderMap>,
    takes_trailers: bool,
}

/// How far the answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    None,
    Begun,
    Whole,
}

impl<'c> Request<'c> {
    pub(in super::super) fn new(conn: &'c mut Conn, head: &RequestHead) -> Self {
        Self {
            conn,
            version: head.parts.version,
            reader: BodyReader::of_request(head.framing, &Limits::REQUEST),
            writer: BodyWriter::new(Framing::None),
            waits: head.expects_continue && head.framing != Framing::None,
            persistent: head.persistent,
            answer: Answer::None,
            trailers: None,
            takes_trailers: head.te_trailers,
        }
    }

    /// The next piece of the body; a client that waits for leave to send it gets it now.
    pub(in super::super) fn poll_body(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Piece, ClientError>> {
        loop {
            match self.reader.next(&mut self.conn.input)? {
                Got::Data(data) => return Poll::Ready(Ok(Piece::Data(data))),
                Got::Trailers(trailers) => return Poll::Ready(Ok(Piece::Trailers(trailers))),
                Got::Done => return Poll::Ready(Ok(Piece::End)),
                Got::NeedMore => {}
            }
            if self.waits {
                self.waits = false;
                if self.answer == Answer::None {
                    self.conn.output.extend_from_slice(CONTINUE);
                }
            }
            // What is not written yet may be what the client waits for. That it does not read
            // now says nothing about whether it sends.
            let _waits = self.conn.poll_flush(context)?;
            if ready!(self.conn.poll_fill(context, BODY_READ))? == 0 {
                return Poll::Ready(Err(ClientError::Gone));
            }
        }
    }

    /// Ready when the client has left while nothing is read from it.
    pub(in super::super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.conn.input.len() < AHEAD_BYTES {
            match ready!(self.conn.poll_first(context)) {
                // A client that has sent more and shut its side down may still read.
                Ok(0) if !self.conn.input.is_empty() => return Poll::Pending,
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    /// An interim answer, which HTTP/1.0 does not know.
    pub(in super::super) fn informational(&mut self, parts: &response::Parts) {
        let own = parts.status == StatusCode::CONTINUE && !self.waits;
        if self.version >= Version::HTTP_11 && !own {
            self.waits = false;
            write_response(parts, Framing::None, Reuse::KeepAlive, self.version, &mut self.conn.output);
        }
    }

    /// Whether the client means to ask on after this request.
    pub(in super::super) const fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// The head of the answer; `keep`: the connection may serve on after it.
    pub(in super::super) fn start(&mut self, parts: &response::Parts, framing: Framing, keep: bool) {
        let framing = framing.for_version(self.version);
        // A client that was never told to go on may send its body or not: nobody can tell.
        self.persistent &= keep && framing != Framing::Close && !self.waits;
        let reuse = if self.persistent { Reuse::KeepAlive } else { Reuse::Close };
        self.writer = BodyWriter::new(framing);
        self.answer = Answer::Begun;
        write_response(parts, framing, reuse, self.version, &mut self.conn.output);
    }

    pub(in super::super) fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        self.conn.poll_room(context).map_err(ClientError::from)
    }

    /// Takes a piece of the answer's body.
    pub(in super::super) fn put(&mut self, piece: Piece) -> Result<(), ClientError> {
        match piece {
            Piece::Data(data) => self.writer.put(&data, &mut self.conn.output)?,
            Piece::Trailers(map) => self.trailers = Some(map),
            Piece::End => {
                let trailers = self.trailers.take().filter(|_| self.takes_trailers);
                self.writer.end(trailers.as_ref(), &mut self.conn.output)?;
                self.answer = Answer::Whole;
            }
        }
        Ok(())
    }

    pub(in super::super) fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ClientError>> {
        self.conn.poll_flush(context).map_err(ClientError::from)
    }

    /// Bytes written on the connection so far.
    pub(in super::super) const fn written(&self) -> u64 {
        self.conn.written()
    }

    /// The 101 that ends HTTP on the connection.
    pub(in super::super) fn switch(&mut self, parts: &response::Parts, protocol: &HeaderValue) -> &mut Conn {
        self.persistent = false;
        self.answer = Answer::Whole;
        let reuse = Reuse::Upgrade(protocol);
        write_response(parts, Framing::None, reuse, self.version, &mut self.conn.output);
        self.conn
    }

    pub(in super::super) const fn close_after(&mut self) {
        self.persistent = false;
    }

    /// Whether the connection may serve another request.
    fn reusable(&self) -> bool {
        self.persistent && self.answer == Answer::Whole && self.reader.is_done()
    }

    /// Whether so little of the body is left that reading it away is cheaper than a new connection.
    pub(in super::super) fn rest_is_short(&self) -> bool {
        self.reader.remaining().is_some_and(|left| left <= REST_BYTES)
    }

    /// Reads the short rest of a body away; whether the connection may serve another request.
    pub(in super::super) async fn finish(&mut self) -> bool {
        if self.persistent && self.answer == Answer::Whole && !self.reader.is_done() && self.rest_is_short() {
            let reading = timeout(REST_PATIENCE, async {
                while poll_fn(|context| self.poll_body(context)).await? != Piece::End {}
                Ok::<(), ClientError>(())
            });
            if !matches!(reading.await, Ok(Ok(()))) {
                return false;
            }
        }
        self.reusable()
    }
}
