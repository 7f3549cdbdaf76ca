//! Which connection a probe uses, when it is replaced, and when the next probe is due.

use super::exchange::{Link, reach};
use crate::config::{Probes, Question};
use crate::domain::fleet::{EndpointAnswer, ProbeFailure};
use crate::domain::snapshot::ProbePace;
use crate::trust::{Speech, Trust, TrustId};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// Where and how to ask.
#[derive(Debug, Clone)]
pub(super) struct Dial {
    /// Taken in turn by fresh connections.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) speech: Speech,
    /// `None`: without TLS.
    pub(super) trust: Option<Arc<Trust>>,
    pub(super) authority: String,
    pub(super) question: Question,
    /// JSON that a question by HTTP tells: then it is a POST.
    pub(super) told: Option<Bytes>,
    /// Longest body in bytes that is read.
    pub(super) body_max: usize,
    pub(super) probes: Probes,
    /// Endpoints and siblings: full.
    pub(super) pace: ProbePace,
}

impl Dial {
    /// How connections are made; those made in another way are not used on.
    fn manner(&self) -> (Speech, Option<TrustId>) {
        (self.speech, self.trust.as_ref().map(|trust| trust.id()))
    }
}

impl PartialEq for Dial {
    fn eq(&self, other: &Self) -> bool {
        self.manner() == other.manner()
            && (&self.addresses, &self.authority, &self.question)
                == (&other.addresses, &other.authority, &other.question)
            && (&self.told, self.body_max, &self.probes, self.pace)
                == (&other.told, other.body_max, &other.probes, other.pace)
    }
}

/// A good answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// From sending the request to the response head.
    pub(super) took: Duration,
    /// Whether the connection had answered before.
    pub(super) warm: bool,
    /// `None` when it is longer than `Dial::body_max`.
    pub(super) body: Option<Bytes>,
    pub(super) said: EndpointAnswer,
}

/// The probes of one target: the connection that is kept, and whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Prober {
    kept: Option<Kept>,
    turn: usize,
}

#[derive(Debug)]
struct Kept {
    link: Link,
    address: SocketAddr,
    manner: (Speech, Option<TrustId>),
    until: Instant,
}

impl Kept {
    fn fits(&self, dial: &Dial, now: Instant) -> bool {
        now < self.until && dial.addresses.contains(&self.address) && self.manner == dial.manner()
    }
}

impl Prober {
    /// One probe; also how long a fresh connection took, if one was made.
    ///
    /// Set-up and exchange are each bounded by the timeout, because at 300 ms
    /// of distance the three round trips of a fresh connection would never fit
    /// one; the whole, a retry included, by twice the timeout.
    pub(super) async fn probe(&mut self, dial: &Dial) -> (Result<Answer, ProbeFailure>, Option<Duration>) {
        if let Question::Tcp | Question::Tls = dial.question {
            let Some(address) = dial.addresses.first() else { return (Err(ProbeFailure::Connect), None) };
            let reached = timeout(dial.probes.timeout, reach(*address, dial)).await;
            return (reached.unwrap_or(Err(ProbeFailure::Timeout)), None);
        }
        let now = Instant::now();
        let deadline = now + dial.probes.timeout * 2;
        if let Some(mut kept) = self.kept.take().filter(|kept| kept.fits(dial, now)) {
            match timeout(dial.probes.timeout, kept.link.exchange(dial)).await {
                Ok(Ok(answer)) => {
                    if answer.body.is_some() {
                        self.kept = Some(kept);
                    }
                    return (Ok(Answer { warm: true, ..answer }), None);
                }
                // Silence is what a dead region sounds like: it counts at once.
                Err(_) => return (Err(ProbeFailure::Timeout), None),
                // The other side may just have closed an idle connection, or be one bad node of many.
                Ok(Err(_)) => {}
            }
        }
        match timeout_at(deadline, self.fresh(dial)).await {
            Ok(result) => result,
            Err(_) => (Err(ProbeFailure::Timeout), None),
        }
    }

    async fn fresh(&mut self, dial: &Dial) -> (Result<Answer, ProbeFailure>, Option<Duration>) {
        let Some(address) = dial.addresses.get(self.turn % dial.addresses.len().max(1)).copied() else {
            return (Err(ProbeFailure::Connect), None);
        };
        self.turn = self.turn.wrapping_add(1);
        let (mut link, took) = match timeout(dial.probes.timeout, Link::connect(address, dial)).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(failure)) => return (Err(failure), None),
            Err(_) => return (Err(ProbeFailure::Timeout), None),
        };
        let result = timeout(dial.probes.timeout, link.exchange(dial)).await;
        let result = result.unwrap_or(Err(ProbeFailure::Timeout));
        if result.as_ref().is_ok_and(|answer| answer.body.is_some()) {
            let until = Instant::now() + jittered(dial.probes.fresh_connection, 0.8, 1.0);
            self.kept = Some(Kept { link, address, manner: dial.manner(), until });
        }
        (result, Some(took))
    }
}

/// When the next probe is due.
#[derive(Debug)]
pub(super) struct Pace {
    next: Instant,
    hurried: bool,
}

impl Pace {
    /// Part of an interval after which an answer without a round trip is followed up.
    const FOLLOW_UP: u32 = 10;

    /// The first probe comes almost at once; spread, because everything may start together.
    pub(super) fn start(probes: &Probes) -> Self {
        Self { next: Instant::now() + jittered(probes.interval / Self::FOLLOW_UP, 0.0, 1.0), hurried: false }
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Plans the probe after the one that began at `started`.
    ///
    /// `soon` hurries it, but never twice in a row: a peer that closes every
    /// connection must not be asked ten times as often.
    pub(super) fn advance(&mut self, started: Instant, dial: &Dial, soon: bool) {
        // A sparse look is for whether the path works; round trips come from the holder of the lease.
        self.hurried = soon && !self.hurried && dial.pace == ProbePace::Full;
        self.next = started
            + match dial.pace {
                ProbePace::Full if self.hurried => jittered(dial.probes.interval / Self::FOLLOW_UP, 0.9, 1.1),
                ProbePace::Full => jittered(dial.probes.interval, 0.9, 1.1),
                // Widely, because all pods of a region became sparse at about the same time.
                ProbePace::Sparse => jittered(dial.probes.sparse_interval, 0.8, 1.2),
            };
    }

    /// How the target is asked has changed: at full pace the next probe is at most an interval away.
    pub(super) fn adjust(&mut self, dial: &Dial) {
        if dial.pace == ProbePace::Full {
            self.next = self.next.min(Instant::now() + jittered(dial.probes.interval, 0.0, 1.0));
        }
    }
}

pub(super) fn jittered(span: Duration, from: f64, to: f64) -> Duration {
    span.mul_f64(rand::random_range(from..=to))
}
