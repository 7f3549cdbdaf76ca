//! One exchange on an HTTP/1 connection to a service: request out, answer in.

use super::super::h1::{BodyReader, BodyWriter, Framing, Got, Hop, Limits, Reuse, Scan};
use super::super::h1::{response, write_request};
use super::super::io::{BODY_READ, Conn, HEAD_READ};
use super::super::session::Piece;
use super::{Head, INFORMATIONAL_MAX, UpstreamError};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode, request};
use std::task::{Context, Poll, ready};

/// A request on its way and its answer.
#[derive(Debug)]
pub(in super::super) struct Exchange {
    conn: Conn,
    method: Method,
    scan: Scan,
    writer: BodyWriter,
    reader: BodyReader,
    trailers: Option<HeaderMap>,
    informational: u32,
    upgrade: bool,
    persistent: bool,
    /// Bytes of an answer have come.
    answered: bool,
}

/// What is sent at the beginning.
pub(in super::super) struct Outgoing<'a> {
    pub(in super::super) parts: &'a request::Parts,
    pub(in super::super) authority: &'a Authority,
    pub(in super::super) framing: Framing,
    pub(in super::super) upgrade: Option<&'a HeaderValue>,
    pub(in super::super) te_trailers: bool,
}

impl Exchange {
    /// Writes the head into the connection's output; nothing is sent yet.
    pub(in super::super) fn begin(mut conn: Conn, out: &Outgoing<'_>) -> Self {
        let reuse = out.upgrade.map_or(Reuse::KeepAlive, Reuse::Upgrade);
        let hop = Hop { reuse, te_trailers: out.te_trailers };
        write_request(out.parts, out.authority, out.framing, hop, &mut conn.output);
        Self {
            conn,
            method: out.parts.method.clone(),
            scan: Scan::responses(),
            writer: BodyWriter::new(out.framing),
            reader: BodyReader::of_response(Framing::None, &Limits::RESPONSE),
            trailers: None,
            informational: 0,
            upgrade: out.upgrade.is_some(),
            persistent: false,
            answered: false,
        }
    }

    /// Whether any byte of an answer has come.
    pub(in super::super) const fn answered(&self) -> bool {
        self.answered
    }

    pub(in super::super) fn poll_room(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), UpstreamError>> {
        self.conn.poll_room(context).map_err(|_| UpstreamError::Closed)
    }

    /// Takes a piece of the request's body.
    pub(in super::super) fn put(&mut self, piece: Piece) -> Result<(), UpstreamError> {
        let put = match piece {
            Piece::Data(data) => self.writer.put(&data, &mut self.conn.output),
            Piece::Trailers(trailers) => {
                self.trailers = Some(trailers);
                Ok(())
            }
            Piece::End => self.writer.end(self.trailers.as_ref(), &mut self.conn.output),
        };
        put.map_err(|_| UpstreamError::Local)
    }

    pub(in super::super) fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), UpstreamError>> {
        self.conn.poll_flush(context).map_err(|_| UpstreamError::Closed)
    }

    /// The next head of the answer.
    pub(in super::super) fn poll_head(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Head, UpstreamError>> {
        loop {
            let taken = self.scan.take(&mut self.conn.input, &Limits::RESPONSE);
            if let Some(raw) = taken.map_err(UpstreamError::Malformed)? {
                let head = response(&raw, &self.method).map_err(UpstreamError::Malformed)?;
                let status = head.parts.status;
                if status == StatusCode::SWITCHING_PROTOCOLS {
                    if !self.upgrade {
                        return Poll::Ready(Err(UpstreamError::Nonsense));
                    }
                    return Poll::Ready(Ok(Head::Switching { parts: head.parts, upgrade: head.upgrade }));
                }
                if status.is_informational() {
                    self.informational += 1;
                    if self.informational > INFORMATIONAL_MAX {
                        return Poll::Ready(Err(UpstreamError::Nonsense));
                    }
                    self.scan = Scan::responses();
                    return Poll::Ready(Ok(Head::Informational(head.parts)));
                }
                self.reader = BodyReader::of_response(head.framing, &Limits::RESPONSE);
                self.persistent = head.persistent && head.framing != Framing::Close;
                return Poll::Ready(Ok(Head::Final { parts: head.parts, framing: head.framing }));
            }
            match ready!(self.conn.poll_fill(context, HEAD_READ)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(UpstreamError::Closed)),
                Ok(_) => self.answered = true,
            }
        }
    }

    /// The next piece of the answer's body.
    pub(in super::super) fn poll_body(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Piece, UpstreamError>> {
        loop {
            match self.reader.next(&mut self.conn.input).map_err(UpstreamError::Malformed)? {
                Got::Data(data) => return Poll::Ready(Ok(Piece::Data(data))),
                Got::Trailers(trailers) => return Poll::Ready(Ok(Piece::Trailers(trailers))),
                Got::Done => return Poll::Ready(Ok(Piece::End)),
                Got::NeedMore => {}
            }
            match ready!(self.conn.poll_fill(context, BODY_READ)) {
                Ok(0) => self.reader.eof().map_err(|_| UpstreamError::Closed)?,
                Ok(_) => {}
                Err(_) => return Poll::Ready(Err(UpstreamError::Closed)),
            }
        }
    }

    /// The connection, if it can carry another request.
    pub(in super::super) fn into_idle(self) -> Option<Conn> {
        let reusable = self.persistent
            && self.writer.is_ended()
            && self.reader.is_done()
            && self.conn.output.is_empty()
            && self.conn.input.is_empty();
        reusable.then_some(self.conn)
    }

    pub(in super::super) fn into_conn(self) -> Conn {
        self.conn
    }
}
