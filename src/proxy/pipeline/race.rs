//! One attempt or, when it is slow, two at once: to the head of an answer.
//!
//! Both are polled by the request's one task. The first good answer wins; dropping the other
//! attempt cancels it: its connection is closed (HTTP/1), its stream is reset (HTTP/2).

use super::transfer::{Broken, Patience, Transfer};
use super::{Call, Outgoing, Pipeline, front};
use crate::proxy::attempts::Body;
use crate::proxy::h1::Framing;
use crate::proxy::headers::HeaderEdits;
use crate::proxy::progress::Lane;
use crate::proxy::session::ClientError;
use crate::proxy::upstream::h1::Exchange as Http1;
use crate::proxy::upstream::h2::Exchange as Http2;
use crate::proxy::upstream::{self, Head, Open, Target, Upgrade, Upstream, UpstreamError};
use http::uri::Scheme as UriScheme;
use http::{HeaderValue, Uri};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::Instant;

/// How a connection comes about; owns all that it needs.
type Opening<'p> = Pin<Box<dyn Future<Output = Result<Open, UpstreamError>> + Send + 'p>>;

/// The attempts that are under way.
struct Race<'p> {
    pipeline: &'p Pipeline,
    out: &'p Outgoing,
    current: Try<'p>,
    beside: Option<Box<Try<'p>>>,
    /// When there will be a second one; `None`: not at all, or not any more.
    hedge_at: Option<Instant>,
}

/// One attempt.
struct Try<'p> {
    target: Target,
    forward: Option<HeaderEdits>,
    patience: Patience,
    asked: Instant,
    stage: Stage<'p>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the common one: a box would cost each request an allocation"
)]
enum Stage<'p> {
    Opening(Opening<'p>),
    Sending {
        transfer: Transfer,
        /// The connection has carried a request before.
        reused: bool,
    },
}

impl Pipeline {
    /// The current attempt, and one beside it if it is slow, to the head of an answer.
    pub(super) async fn attempt(
        &self,
        call: &mut Call<'_>,
        out: &Outgoing,
    ) -> Result<(Head, Transfer), Broken> {
        let current = Try::new(self, call, out, Lane::Current)?;
        let hedge_at = call.progress.hedge_delay().filter(|_| out.upgrade.is_none());
        let hedge_at = hedge_at.map(|delay| Instant::now() + delay);
        let mut race = Race { pipeline: self, out, current, beside: None, hedge_at };
        let head = poll_fn(|context| race.poll(call, context)).await?;
        match race.current.stage {
            Stage::Sending { transfer, .. } => Ok((head, transfer)),
            Stage::Opening(_) => Err(Broken::Upstream(UpstreamError::Local)),
        }
    }
}

impl Race<'_> {
    /// Ready with the first good head, which is then the current attempt's, or when nothing is left.
    fn poll(&mut self, call: &mut Call<'_>, context: &mut Context<'_>) -> Poll<Result<Head, Broken>> {
        loop {
            if let Poll::Ready(ended) =
                self.current.poll((self.pipeline, self.out, Lane::Current), call, context)
            {
                match self.end(Lane::Current, ended, call) {
                    Some(over) => return Poll::Ready(over),
                    None => continue,
                }
            }
            if let Some(beside) = &mut self.beside
                && let Poll::Ready(ended) =
                    beside.poll((self.pipeline, self.out, Lane::Beside), call, context)
            {
                match self.end(Lane::Beside, ended, call) {
                    Some(over) => return Poll::Ready(over),
                    None => continue,
                }
            }
            let due = |at| call.timer.poll(context, at).is_ready();
            if !self.hedge_at.is_some_and(due) {
                return Poll::Pending;
            }
            self.hedge_at = None;
            self.hedge(call);
        }
    }

    /// Makes a second attempt, unless the client still sends what both would have to send.
    fn hedge(&mut self, call: &mut Call<'_>) {
        let bodiless = matches!(self.out.framing, Framing::None | Framing::Length(0));
        if (bodiless || call.replay.is_whole()) && call.progress.make_hedge(&self.pipeline.shared) {
            match Try::new(self.pipeline, call, self.out, Lane::Beside) {
                Ok(beside) => self.beside = Some(Box::new(beside)),
                Err(_) => call.progress.fell(Lane::Beside, None, &self.pipeline.shared),
            }
        }
    }

    /// Takes in how one attempt ended; `None`: the other one, now the current one, goes on.
    fn end(
        &mut self,
        lane: Lane,
        ended: Result<Head, Broken>,
        call: &mut Call<'_>,
    ) -> Option<Result<Head, Broken>> {
        let shared = &self.pipeline.shared;
        let Some(mut other) = self.beside.take() else { return Some(ended) };
        match ended {
            Err(Broken::Client(e)) => return Some(Err(Broken::Client(e))),
            Err(Broken::Upstream(e)) => {
                self.pipeline.count_broken(call, e);
                call.progress.fell(lane, e.failure(), shared);
            }
            Ok(Head::Final { parts, .. }) if call.progress.passed_over(parts.status, lane, shared) => {}
            Ok(head) => {
                call.progress.won(lane, shared);
                if lane == Lane::Beside {
                    std::mem::swap(&mut self.current, &mut other);
                }
                return Some(Ok(head));
            }
        }
        if lane == Lane::Current {
            self.current = *other;
        }
        None
    }
}

impl<'p> Try<'p> {
    fn new(pipeline: &'p Pipeline, call: &Call<'_>, out: &Outgoing, lane: Lane) -> Result<Self, Broken> {
        let local = Broken::Upstream(UpstreamError::Local);
        let upgrade = if out.upgrade.is_some() { Upgrade::Asked } else { Upgrade::No };
        let (exchange, attempt) = call.progress.lane(lane).ok_or(local)?;
        let settings = &call.progress.settings;
        let target = upstream::target(attempt, exchange, settings, upgrade).ok_or(local)?;
        let mut forward = exchange.forward_edits(attempt);
        if let Some(parent) = call.progress.trail.as_ref().and_then(|trail| trail.parent_of(attempt)) {
            forward.get_or_insert_default().set.push(parent);
        }
        let patience = Patience {
            first_byte: target.first_byte,
            between_bytes: target.between_bytes,
            sender: front::sender(call),
            reader: call.connection.rules.bounds.pace,
            whole: call.deadline,
        };
        let stage = match pipeline.upstreams.kept(&target) {
            Some(open) => begin(open, out, forward.clone(), patience).map_err(Broken::Upstream)?,
            None => opening(pipeline, &target),
        };
        Ok(Self { target, forward, patience, asked: Instant::now(), stage })
    }

    /// Goes on to the head of an answer.
    ///
    /// A kept connection that ends before a byte of an answer was being closed while the request
    /// was on its way. That is no failure of the endpoint: a fresh connection is tried, once.
    fn poll(
        &mut self,
        (pipeline, out, lane): (&'p Pipeline, &Outgoing, Lane),
        call: &mut Call<'_>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Head, Broken>> {
        loop {
            match &mut self.stage {
                Stage::Opening(opening) => {
                    let Poll::Ready(opened) = opening.as_mut().poll(context) else {
                        return self.poll_deadline(call, context);
                    };
                    let open = opened.map_err(Broken::Upstream)?;
                    if open.is_new() {
                        call.progress.connected(lane, self.asked.elapsed());
                    }
                    let begun = begin(open, out, self.forward.clone(), self.patience);
                    self.stage = begun.map_err(Broken::Upstream)?;
                }
                Stage::Sending { transfer, reused } => {
                    let ended = ready!(transfer.poll_answer(call, context));
                    call.progress.uploaded(lane, transfer.upload());
                    match ended {
                        Err(Broken::Upstream(UpstreamError::Closed))
                            if *reused && !transfer.answered() && may_repeat(call) =>
                        {
                            self.asked = Instant::now();
                            self.stage = opening(pipeline, &self.target);
                        }
                        Err(Broken::Client(ClientError::Gone)) => {
                            if transfer.is_sent() {
                                call.progress.left(&pipeline.shared);
                            }
                            return Poll::Ready(Err(Broken::Client(ClientError::Gone)));
                        }
                        ended => {
                            if matches!(ended, Err(Broken::Upstream(UpstreamError::Timeout))) {
                                transfer.doubt();
                            }
                            return Poll::Ready(ended);
                        }
                    }
                }
            }
        }
    }

    /// A connection is made in its own time, and in that of the whole request.
    fn poll_deadline(&self, call: &mut Call<'_>, context: &mut Context<'_>) -> Poll<Result<Head, Broken>> {
        match self.patience.whole {
            Some((at, _)) => {
                call.timer.poll(context, at).map(|()| Err(Broken::Upstream(UpstreamError::Deadline)))
            }
            None => Poll::Pending,
        }
    }
}

fn opening<'p>(pipeline: &'p Pipeline, target: &Target) -> Stage<'p> {
    let target = target.clone();
    Stage::Opening(Box::pin(async move { pipeline.upstreams.open(&target).await }))
}

/// Begins an exchange; the head is written with the first piece of the body.
fn begin(
    open: Open,
    out: &Outgoing,
    forward: Option<HeaderEdits>,
    patience: Patience,
) -> Result<Stage<'static>, UpstreamError> {
    let reused = matches!(open, Open::Http1 { reused: true, .. });
    let transfer = Transfer::new(exchange(open, out, forward)?, patience);
    Ok(Stage::Sending { transfer, reused })
}

fn exchange(open: Open, out: &Outgoing, forward: Option<HeaderEdits>) -> Result<Upstream, UpstreamError> {
    let edited = forward.map(|edits| {
        let mut parts = out.parts.clone();
        edits.apply(&mut parts.headers);
        parts
    });
    match open {
        Open::Http1 { conn, home, .. } => {
            let outgoing = upstream::h1::Outgoing {
                parts: edited.as_ref().unwrap_or(&out.parts),
                authority: &out.authority,
                framing: out.framing,
                upgrade: out.upgrade.as_ref(),
                te_trailers: out.te_trailers,
            };
            Ok(Upstream::H1 { exchange: Http1::begin(conn, &outgoing), home })
        }
        Open::Http2 { claim, sender, encrypted, .. } => {
            let mut parts = edited.unwrap_or_else(|| out.parts.clone());
            let mut uri = std::mem::take(&mut parts.uri).into_parts();
            uri.scheme = Some(if encrypted { UriScheme::HTTPS } else { UriScheme::HTTP });
            uri.authority = Some(out.authority.clone());
            parts.uri = Uri::from_parts(uri).map_err(|_| UpstreamError::Local)?;
            if let Framing::Length(length) = out.framing {
                parts.headers.insert(http::header::CONTENT_LENGTH, length.into());
            }
            if out.te_trailers {
                parts.headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
            }
            Ok(Upstream::H2(Box::new(Http2::begin(claim, sender, parts, out.framing)?)))
        }
    }
}

/// Whether a request that may have been carried out can be sent again.
fn may_repeat(call: &Call<'_>) -> bool {
    call.method.is_idempotent() && call.replay.body() == Body::Replayable
}
