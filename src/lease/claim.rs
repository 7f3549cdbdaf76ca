//! A pod's claim to the Lease of its region: a record in the Kubernetes API that names who speaks for it.
//!
//! Pure: what to ask the API next, and what an answer means. Times, of this pod's own monotonic clock, and answers
//! are arguments. It refuses to know how the API is asked. Source of the rule: client-go, `tools/leaderelection`.
//!
//! # The rule
//! - The lease is free when its record names nobody, or has not been seen to change for as long as it lasts. No two
//!   clocks are ever compared.
//! - Whoever wrote its name there holds it for two thirds of that, from when it *sent* the request: so it has
//!   stopped before another may take the lease, if their clocks run at one speed. Time that a process was
//!   stopped for counts, because each look at the claim is a look at the clock.
//! - A write is of the version that was seen, or it is refused: of two that take the lease one gets it.
//! - When the API has not answered for as long as the lease lasts, the siblings elect among themselves
//!   ([`super::Election`]). When it answers again, the record rules from its next change on. Whoever was
//!   elected writes it at once; the others give it the time of a lease to do so.
//!
//! # Limits
//! A Lease that is deleted by hand while a new pod starts is taken by that one, beside its holder, until the
//! holder's time is over. A machine that is suspended as a whole may not count that time (`CLOCK_MONOTONIC`). The
//! fence of the records is what makes both harmless.

use super::Holder;
use crate::domain::time::Time;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Bounds of how long a lease lasts. Longer than the upper one nobody is waited for, whatever a record says.
pub const LASTS: RangeInclusive<Duration> = Duration::from_secs(3)..=Duration::from_secs(300);
/// Requests of one turn: a write that is refused, a look at why, and the write again.
const REQUESTS_MAX: usize = 3;

/// What a pod goes by, by the word of the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ruling {
    /// There is no Lease, or none that can be asked: the siblings find out among themselves.
    #[default]
    Elect,
    /// This pod speaks for the region, before that moment.
    Hold {
        until: Time,
    },
    Follow(Holder),
    /// Nobody is known to hold the lease, or nobody that can be found.
    Wait,
}

impl Ruling {
    /// Whether a pod that believes to speak for its region may act on that now.
    pub fn permits(self, now: Time) -> bool {
        match self {
            Self::Elect => true,
            Self::Hold { until } => now < until,
            Self::Follow(_) | Self::Wait => false,
        }
    }
}

/// Who is named by the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    Nobody,
    Pod(Holder),
    /// Something that is no pod's identity.
    Stranger,
}

impl Named {
    /// Reads `holderIdentity`.
    pub fn parse(identity: Option<&str>) -> Self {
        match identity.filter(|text| !text.is_empty()) {
            None => Self::Nobody,
            Some(text) => identity_of(text).map_or(Self::Stranger, Self::Pod),
        }
    }

    fn is(self, boot: u64) -> bool {
        matches!(self, Self::Pod(holder) if holder.boot == boot)
    }
}

fn identity_of(text: &str) -> Option<Holder> {
    let (address, boot) = text.rsplit_once('_')?;
    Some(Holder { address: address.parse().ok()?, boot: u64::from_str_radix(boot, 16).ok()? })
}

/// As `holderIdentity` holds it: where siblings find the pod, and which start of it.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{:016x}", self.address, self.boot)
    }
}

/// Who shall hold the lease, and how long without renewing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    pub holder: Holder,
    pub lasts: Duration,
}

/// A request to the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    Look,
    /// There is no record yet.
    Create(Term),
    /// Takes or renews it, if it is still of that version.
    Replace {
        version: String,
        term: Term,
    },
    /// Names nobody from now on, if it is still of that version.
    Release {
        version: String,
    },
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Found {
        version: String,
        named: Named,
        /// How long the record says that it lasts; `None`: it says nothing.
        lasts: Option<Duration>,
    },
    Absent,
    /// Done as asked; the record's version from now on.
    Written {
        version: String,
    },
    /// The record is of another version, or there is one already.
    Conflict,
    /// No answer, or a refusal: nothing is known.
    Failed,
}

/// What is known of the record.
#[derive(Debug)]
struct Seen {
    /// `None`: there is no record.
    version: Option<String>,
    named: Named,
    lasts: Duration,
    /// When it was first seen to be so.
    at: Time,
}

/// How far a turn of requests has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Step {
    #[default]
    Begun,
    /// The record is known as it is now.
    Known,
    Refused,
    Over,
}

/// One pod's claim. One turn of requests in each [`Claim::retry`].
#[derive(Debug)]
pub struct Claim {
    boot: u64,
    /// Where siblings find this pod; without it nothing is claimed.
    own: Option<SocketAddr>,
    lasts: Duration,
    seen: Option<Seen>,
    /// Until when the last write of this pod's name is good.
    held: Option<Time>,
    /// Since when no request has been answered.
    failing: Option<Time>,
    /// The API was away for longer than the lease lasts, and the record has not changed since.
    outlived: bool,
    /// This pod ends, and takes nothing any more.
    leaving: bool,
    step: Step,
    asked: usize,
}

impl Claim {
    /// `lasts`: whole seconds, at least one.
    pub const fn new(boot: u64, lasts: Duration) -> Self {
        Self {
            boot,
            own: None,
            lasts,
            seen: None,
            held: None,
            failing: None,
            outlived: false,
            leaving: false,
            step: Step::Begun,
            asked: 0,
        }
    }

    /// Where siblings find this pod.
    pub const fn at(&mut self, own: SocketAddr) {
        self.own = Some(own);
    }

    /// How long the lease lasts when this pod writes it next.
    pub const fn last(&mut self, lasts: Duration) {
        self.lasts = lasts;
    }

    /// Between two turns of requests, and the longest time for one answer: four or more fit into a hold.
    pub fn retry(&self) -> Duration {
        self.lasts / 7
    }

    /// This pod ends: the lease is held no more, and given back by the next turn.
    pub const fn leave(&mut self) {
        self.leaving = true;
        self.held = None;
    }

    pub const fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// What this pod goes by now.
    pub fn ruling(&self, now: Time) -> Ruling {
        if let Some(until) = self.held.filter(|until| now < *until) {
            return Ruling::Hold { until };
        }
        if self.away(now) || self.outlived {
            return Ruling::Elect;
        }
        match &self.seen {
            Some(Seen { named: Named::Pod(holder), lasts, at, .. })
                if holder.boot != self.boot && now.since(*at) < *lasts =>
            {
                Ruling::Follow(*holder)
            }
            _ => Ruling::Wait,
        }
    }

    /// Whether the API has not answered for as long as the lease lasts.
    fn away(&self, now: Time) -> bool {
        self.failing.is_some_and(|since| now.since(since) >= self.lasts)
    }

    /// Begins a turn of requests.
    pub const fn begin(&mut self) {
        self.step = Step::Begun;
        self.asked = 0;
    }

    /// What to ask now; `None`: this turn is over.
    pub fn ask(&mut self, now: Time) -> Option<Ask> {
        let mine = self.seen.as_ref().is_some_and(|seen| seen.named.is(self.boot));
        let ask = match self.step {
            Step::Begun if mine && !self.away(now) => self.write(now).unwrap_or(Ask::Look),
            Step::Begun | Step::Refused => Ask::Look,
            Step::Known => self.write(now)?,
            Step::Over => return None,
        };
        self.asked += 1;
        (self.asked <= REQUESTS_MAX).then_some(ask)
    }

    /// Puts the own name into a record that is free or the own one, or takes it out.
    fn write(&self, now: Time) -> Option<Ask> {
        let seen = self.seen.as_ref()?;
        let mine = seen.named.is(self.boot);
        if self.leaving {
            let version = seen.version.clone().filter(|_| mine)?;
            return Some(Ask::Release { version });
        }
        // After an outage whoever was elected meanwhile comes first.
        let open = (mine || seen.named == Named::Nobody) && !self.outlived;
        let free = open || now.since(seen.at) >= seen.lasts;
        let holder = Holder { address: self.own.filter(|_| free)?, boot: self.boot };
        let term = Term { holder, lasts: self.lasts };
        Some(match seen.version.clone() {
            Some(version) => Ask::Replace { version, term },
            None => Ask::Create(term),
        })
    }

    /// What came of a request that was sent at `sent`; `elected`: the siblings follow this pod.
    pub fn answered(&mut self, ask: &Ask, sent: Time, answer: Answer, elected: bool, now: Time) {
        if answer == Answer::Failed {
            self.failing.get_or_insert(now);
            self.step = Step::Over;
            return;
        }
        self.reached(elected, now);
        match answer {
            Answer::Found { version, named, lasts } => {
                self.found(Some(version), named, lasts, now);
                self.step = Step::Known;
            }
            Answer::Absent => {
                // Whoever was named may believe so for as long as if it had renewed it just now.
                let (named, lasts) =
                    self.seen.as_ref().map_or((Named::Nobody, self.lasts), |seen| (seen.named, seen.lasts));
                self.found(None, named, Some(lasts), now);
                self.step = Step::Known;
            }
            Answer::Written { version } => {
                self.written(ask, version, sent, now);
                self.step = Step::Over;
            }
            Answer::Conflict => self.step = Step::Refused,
            Answer::Failed => {}
        }
    }

    /// The API answers, after an outage perhaps.
    fn reached(&mut self, elected: bool, now: Time) {
        let away = self.away(now);
        self.failing = None;
        if !away {
            return;
        }
        self.outlived = true;
        if let Some(seen) = self.seen.as_mut().filter(|_| !elected) {
            seen.at = now;
        }
    }

    fn found(&mut self, version: Option<String>, named: Named, lasts: Option<Duration>, now: Time) {
        if !named.is(self.boot) {
            self.held = None;
        }
        if self.seen.as_ref().is_some_and(|seen| seen.version == version) {
            return;
        }
        // The first sight of a record is no change of it.
        self.outlived &= self.seen.is_none();
        let lasts = lasts.unwrap_or(self.lasts).min(*LASTS.end());
        self.seen = Some(Seen { version, named, lasts, at: now });
    }

    fn written(&mut self, ask: &Ask, version: String, sent: Time, now: Time) {
        self.outlived = false;
        let (named, lasts) = match ask {
            Ask::Create(term) | Ask::Replace { term, .. } => (Named::Pod(term.holder), term.lasts),
            Ask::Release { .. } | Ask::Look => (Named::Nobody, self.lasts),
        };
        self.held = (named != Named::Nobody && !self.leaving).then(|| sent + lasts * 2 / 3);
        self.seen = Some(Seen { version: Some(version), named, lasts, at: now });
    }
}

#[cfg(test)]
mod tests;
