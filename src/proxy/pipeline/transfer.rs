//! One attempt's bytes: the request to the upstream, the answer back.
//!
//! Both directions run in one task without queues between them: at most one
//! piece is in hand each way, so a slow side slows the other one, and memory
//! stays flat. What was made is written before anything is waited for, so an
//! event of a stream is never held back.

use super::replay::Replay;
use super::{Call, front};
use crate::proxy::headers::strip_answer;
use crate::proxy::pace::{Pace, PaceRule};
use crate::proxy::session::{ClientError, Piece};
use crate::proxy::upstream::{Head, Upstream, UpstreamError};
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// How long each side is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For the upstream: from the end of the request to the head of its answer.
    pub(super) first_byte: Duration,
    /// For the upstream: between two pieces of its answer.
    pub(super) between_bytes: Duration,
    /// For the client, as the sender of its body.
    pub(super) sender: PaceRule,
    /// For the client, as the reader of its answer.
    pub(super) reader: PaceRule,
    /// For everything together: when it is over, and how long it is.
    pub(super) whole: Option<(Instant, Duration)>,
}

/// Why a transfer ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    Client(ClientError),
    Upstream(UpstreamError),
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// The client's, to send more of its body.
    Sender,
    /// The client's, to read more of its answer.
    Reader,
    Upstream,
}

/// How much of the request has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Part,
    /// To its last piece, which may still wait in the output.
    All,
    /// The upstream takes no more; it may still answer.
    Stopped,
}

/// An attempt under way.
pub(super) struct Transfer {
    up: Upstream,
    patience: Patience,
    /// Pieces of the body that were put.
    pieces: usize,
    sent: Sent,
    /// How long the client was waited for to send its body, and since when it is now.
    upload: Duration,
    unsent_since: Option<Instant>,
    /// Who keeps the request from being whole, and the answer.
    sending: Waiting,
    waiting: Waiting,
    /// The head of the answer has come.
    answering: bool,
    /// When something moved last.
    moved: Instant,
    written: u64,
    /// Of the client as the sender of its body, and as the reader of its answer.
    sender: Pace,
    reader: Pace,
}

impl Transfer {
    pub(super) fn new(up: Upstream, patience: Patience) -> Self {
        Self {
            up,
            patience,
            pieces: 0,
            sent: Sent::Part,
            upload: Duration::ZERO,
            unsent_since: None,
            sending: Waiting::Upstream,
            waiting: Waiting::Upstream,
            answering: false,
            moved: Instant::now(),
            written: 0,
            sender: Pace::new(patience.sender),
            reader: Pace::new(patience.reader),
        }
    }

    /// Sends the request until the head of an answer is there.
    pub(super) fn poll_answer(
        &mut self,
        call: &mut Call<'_>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Head, Broken>> {
        let _unsent = self.poll_send(call, context)?;
        loop {
            match self.up.poll_head(context) {
                Poll::Ready(Ok(Head::Informational(mut parts))) => {
                    strip_answer(&mut parts.headers);
                    call.down.informational(&parts).map_err(Broken::Client)?;
                    // It goes out with the next write at the latest; now, if it can.
                    let _unsent = call.down.poll_flush(context).map_err(Broken::Client)?;
                }
                Poll::Ready(Ok(head)) => return Poll::Ready(Ok(head)),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(Broken::Upstream(e))),
                Poll::Pending => break,
            }
        }
        self.poll_silence(call, context)
    }

    /// Passes the answer's body on to its end.
    pub(super) async fn relay(&mut self, call: &mut Call<'_>) -> Result<(), Broken> {
        call.replay = Replay::Dropped;
        (self.moved, self.answering) = (Instant::now(), true);
        let mut whole = false;
        poll_fn(|context| self.poll_relay(call, context, &mut whole)).await
    }

    fn poll_relay(
        &mut self,
        call: &mut Call<'_>,
        context: &mut Context<'_>,
        whole: &mut bool,
    ) -> Poll<Result<(), Broken>> {
        // An upstream that answers early may take no more, which is no failure of its answer.
        let _unsent = self.poll_send(call, context)?;
        while !*whole {
            self.waiting = Waiting::Reader;
            if call.down.poll_room(context).map_err(Broken::Client)?.is_pending() {
                break;
            }
            self.waiting = Waiting::Upstream;
            let Poll::Ready(piece) = self.up.poll_body(context).map_err(Broken::Upstream)? else { break };
            *whole = piece == Piece::End;
            self.moved = Instant::now();
            call.down.put(piece).map_err(Broken::Client)?;
        }
        let unsent = call.down.poll_flush(context).map_err(Broken::Client)?.is_pending();
        let written = call.down.written();
        let moved = written.wrapping_sub(std::mem::replace(&mut self.written, written));
        if moved > 0 {
            self.moved = Instant::now();
            self.reader.moved(moved, self.moved);
        }
        if unsent {
            self.waiting = Waiting::Reader;
        } else if *whole {
            return Poll::Ready(Ok(()));
        }
        self.poll_silence(call, context)
    }

    /// Sends what is left of the request; ready when all of it is on its way.
    fn poll_send(&mut self, call: &mut Call<'_>, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match self.poll_put(call, context) {
            Poll::Ready(Err(Broken::Upstream(_))) => {
                // Its answer, if any, tells more than the failed write.
                self.sent = Sent::Stopped;
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }

    fn poll_put(&mut self, call: &mut Call<'_>, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while self.sent == Sent::Part {
            self.sending = Waiting::Upstream;
            ready!(self.up.poll_room(context)).map_err(Broken::Upstream)?;
            let piece = match call.replay.piece(self.pieces) {
                Some(piece) => piece.clone(),
                None => match call.down.poll_body(context).map_err(Broken::Client)? {
                    Poll::Ready(piece) => {
                        if let Piece::Data(data) = &piece {
                            call.received += data.len() as u64;
                            if front::max_body(call).is_some_and(|most| call.received > most) {
                                return Poll::Ready(Err(Broken::Client(ClientError::TooLarge)));
                            }
                            self.sender.moved(data.len() as u64, Instant::now());
                        }
                        call.replay.push(&piece);
                        piece
                    }
                    Poll::Pending => {
                        self.sending = Waiting::Sender;
                        self.unsent_since.get_or_insert_with(Instant::now);
                        let _unsent = self.up.poll_flush(context).map_err(Broken::Upstream)?;
                        return Poll::Pending;
                    }
                },
            };
            self.pieces += 1;
            self.moved = Instant::now();
            if let Some(since) = self.unsent_since.take() {
                self.upload += self.moved - since;
            }
            if piece == Piece::End {
                self.sent = Sent::All;
            }
            self.up.put(piece).map_err(Broken::Upstream)?;
        }
        if self.sent == Sent::Stopped {
            return Poll::Ready(Ok(()));
        }
        self.up.poll_flush(context).map_err(Broken::Upstream)
    }

    /// Nothing moves now: is the client still there, and is there still time?
    fn poll_silence<T>(&mut self, call: &mut Call<'_>, context: &mut Context<'_>) -> Poll<Result<T, Broken>> {
        if self.sent != Sent::Part && call.down.poll_gone(context).is_ready() {
            return Poll::Ready(Err(Broken::Client(ClientError::Gone)));
        }
        let (silent, broken) = self.patience_now(Instant::now());
        match self.patience.whole {
            Some((over, whole)) if over < silent => {
                call.timer.poll(context, over).map(|()| Err(self.overdue(broken, whole)))
            }
            _ => call.timer.poll(context, silent).map(|()| Err(broken)),
        }
    }

    /// Until when whoever does not move is waited for, and whose fault it is then.
    ///
    /// While a client has not said all of its request, silence of both sides is no failure of the
    /// upstream: it may be waiting for more.
    fn patience_now(&mut self, now: Instant) -> (Instant, Broken) {
        let slow = Broken::Client(ClientError::Slow);
        let late = Broken::Upstream(UpstreamError::Timeout);
        let unsaid = self.sent == Sent::Part && self.sending == Waiting::Sender;
        let waiting = match self.answering {
            true => self.waiting,
            false if unsaid => Waiting::Sender,
            false => Waiting::Upstream,
        };
        if waiting != Waiting::Sender {
            self.sender.rests(now);
        }
        if waiting != Waiting::Reader {
            self.reader.rests(now);
        }
        match waiting {
            Waiting::Sender => (self.sender.waits(now), slow),
            Waiting::Reader => (self.reader.waits(now), slow),
            Waiting::Upstream if self.answering => {
                (self.moved + self.patience.between_bytes, if unsaid { slow } else { late })
            }
            Waiting::Upstream => (self.moved + self.patience.first_byte, late),
        }
    }

    /// The time for everything is over: whose fault that is.
    ///
    /// An upstream that had the request for less than half of it has not used it up.
    fn overdue(&self, broken: Broken, whole: Duration) -> Broken {
        match broken {
            Broken::Upstream(late) if !self.answering && self.moved.elapsed() >= whole / 2 => {
                Broken::Upstream(late)
            }
            Broken::Upstream(_) => Broken::Upstream(UpstreamError::Deadline),
            Broken::Client(_) if self.answering => Broken::Upstream(UpstreamError::Deadline),
            Broken::Client(e) => Broken::Client(e),
        }
    }

    /// How long the client was waited for to send its body: no time of the upstream's. An answer that began
    /// before the request was whole did not wait for the rest.
    pub(super) const fn upload(&self) -> Duration {
        match self.sent {
            Sent::All => self.upload,
            Sent::Part | Sent::Stopped => Duration::ZERO,
        }
    }

    /// Nothing came in time.
    pub(super) fn doubt(&self) {
        self.up.doubt();
    }

    /// Whether any byte of an answer has come.
    pub(super) fn answered(&self) -> bool {
        self.up.answered()
    }

    /// Whether the upstream has the whole request, as far as it took it.
    pub(super) fn is_sent(&self) -> bool {
        self.sent != Sent::Part
    }

    pub(super) fn into_upstream(self) -> Upstream {
        self.up
    }
}
