//! Health of one thing: a service in a region, or an endpoint.
//!
//! Two sources, kept apart: *active* (probes, and the target's own word) and
//! *passive* (outcomes of requests of this edge). Votes read the active side
//! only: one poison path must not take the world down.
//!
//! A target that flaps waits longer before each return, on either side. That keeps
//! requests away, and is no ground of a vote: what probes say is what is said.

use crate::domain::limit::outlier::OutlierPolicy;
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What requests may do with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not heard of yet: used only when nothing healthy is left.
    Unknown,
    Healthy,
    /// Back after an ejection: gets a growing share.
    Probation,
    Ejected,
    /// Taken out by an operator or by its own word: finishes what it has, gets nothing new.
    Draining,
}

impl State {
    pub const ALL: [Self; 5] = [Self::Unknown, Self::Healthy, Self::Probation, Self::Ejected, Self::Draining];

    /// The state as metrics and logs spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Probation => "probation",
            Self::Ejected => "ejected",
            Self::Draining => "draining",
        }
    }

    /// Whether new requests may go there (in probation: a share of them).
    pub const fn usable(self) -> bool {
        matches!(self, Self::Healthy | Self::Probation)
    }
}

/// What a probe or the target's own word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    Unknown,
    Up,
    Down,
}

/// On what ground a target is in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ground {
    /// Nothing was heard of it yet.
    Unheard,
    /// Probes, or its own word.
    Probes,
    /// Requests of this edge: they ejected it, or it comes back from that.
    Outcomes,
    /// An operator, or its own word that it is leaving.
    Drain,
}

/// Why a target was ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EjectionReason {
    /// Probes in a row failed.
    Probes,
    /// Requests in a row failed.
    ConsecutiveFailures,
    /// Too large a share of its requests failed.
    FailureShare,
    /// More of its requests failed than of the others'.
    SuccessRate,
    /// It was slower than the others.
    Latency,
}

impl EjectionReason {
    pub const ALL: [Self; 5] =
        [Self::Probes, Self::ConsecutiveFailures, Self::FailureShare, Self::SuccessRate, Self::Latency];

    /// The reason as metrics and logs spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Probes => "probes",
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureShare => "failure_share",
            Self::SuccessRate => "success_rate",
            Self::Latency => "latency",
        }
    }
}

/// Whether one more target may be ejected by outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    Free,
    /// Too many of its kind are.
    Full,
}

/// The rules of ejection and return.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthPolicy {
    /// Failed probes in a row that eject. At least 1.
    pub fall: u32,
    /// Good probes in a row that readmit. At least 1.
    pub rise: u32,
    /// Failed requests in a row that eject in this edge. At least 1.
    pub consecutive_failures: u32,
    /// Share of failed requests, 0..=1, that ejects once `failure_volume` were seen in the window.
    pub failure_share: f64,
    pub failure_volume: u32,
    pub failure_window: Duration,
    /// First ejection by outcomes, and least time away after a second fall; each further one
    /// doubles it, up to `ejection_max`.
    pub ejection: Duration,
    pub ejection_max: Duration,
    /// Time in probation, over which the share grows from a tenth to all.
    pub probation: Duration,
    /// Endpoints that do worse than the others, looked for once in `failure_window`.
    pub outlier: OutlierPolicy,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self {
            fall: 3,
            rise: 2,
            consecutive_failures: 3,
            failure_share: 0.5,
            failure_volume: 20,
            failure_window: Duration::from_secs(10),
            ejection: Duration::from_secs(10),
            ejection_max: Duration::from_secs(300),
            probation: Duration::from_secs(20),
            outlier: OutlierPolicy::default(),
        }
    }
}

/// The share of requests that a target in probation starts with.
const PROBATION_START: f64 = 0.1;
/// Failed requests that end a probation, whatever the volume: one alone may be bad luck.
const PROBATION_FAILURES: u32 = 2;
/// A fall is forgiven after so many times the probation without another one.
const QUIET: u32 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Active {
    Unknown,
    Up,
    Down,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Passive {
    /// Serving; counts of the current window.
    Open { window: Time, good: u32, bad: u32, in_a_row: u32 },
    /// Ejected by outcomes until then.
    Ejected { until: Time },
}

/// The health of one target.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Health {
    active: Active,
    /// When `active` last changed.
    since: Time,
    good_in_a_row: u32,
    bad_in_a_row: u32,
    passive: Passive,
    /// Ejections by outcomes without a full probation in between: the exponent of the back-off.
    ejections: u32,
    probation: Option<Time>,
    /// Times that it went down, less those forgiven since: the exponent of the back-off.
    falls: u32,
    fell_at: Time,
    /// Up again, but kept away until then.
    held: Option<Time>,
    /// By an operator.
    draining: bool,
    /// By its own word.
    says_draining: bool,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            active: Active::Unknown,
            since: Time::ZERO,
            good_in_a_row: 0,
            bad_in_a_row: 0,
            passive: open(Time::ZERO),
            ejections: 0,
            probation: None,
            falls: 0,
            fell_at: Time::ZERO,
            held: None,
            draining: false,
            says_draining: false,
        }
    }
}

/// How long a target stays away the `n`th time, from 0.
fn backed_off(n: u32, policy: &HealthPolicy) -> Duration {
    policy.ejection.saturating_mul(1u32 << n.min(16)).min(policy.ejection_max)
}

const fn open(window: Time) -> Passive {
    Passive::Open { window, good: 0, bad: 0, in_a_row: 0 }
}

impl Health {
    /// A probe answered well (or the target says "up").
    pub fn probe_succeeded(&mut self, now: Time, policy: &HealthPolicy) {
        self.bad_in_a_row = 0;
        self.good_in_a_row = self.good_in_a_row.saturating_add(1);
        match self.active {
            // The first word counts at once: a booting edge must not wait to be useful.
            Active::Unknown => self.turn(Active::Up, now),
            Active::Down if self.good_in_a_row >= policy.rise => {
                self.come_back(now, policy);
            }
            Active::Down | Active::Up => {}
        }
    }

    /// A probe failed (or the target says "down").
    pub fn probe_failed(&mut self, now: Time, policy: &HealthPolicy) {
        self.good_in_a_row = 0;
        self.bad_in_a_row = self.bad_in_a_row.saturating_add(1);
        if self.active != Active::Down && self.bad_in_a_row >= policy.fall {
            self.fall(now, policy);
        }
    }

    /// The target itself says that it is down: believed at once, there is no one better to ask.
    pub fn declared_down(&mut self, now: Time, policy: &HealthPolicy) {
        self.good_in_a_row = 0;
        if self.active != Active::Down {
            self.fall(now, policy);
        }
    }

    /// What the target is made of is up again: counted already where it was probed.
    pub fn declared_up(&mut self, now: Time, policy: &HealthPolicy) {
        match self.active {
            Active::Down => self.come_back(now, policy),
            Active::Unknown => self.turn(Active::Up, now),
            Active::Up => {}
        }
    }

    /// The target says that it is about to end, or no longer does. It is as well as it was.
    pub fn says_draining(&mut self, draining: bool) {
        self.says_draining = draining;
    }

    /// Counts the fall, and forgives earlier ones for the quiet time before it.
    fn fall(&mut self, now: Time, policy: &HealthPolicy) {
        if self.active == Active::Up {
            let quiet = policy.probation.saturating_mul(QUIET).as_nanos().max(1);
            let forgiven = now.since(self.since).as_nanos() / quiet;
            let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
            self.falls = self.falls.saturating_sub(forgiven).saturating_add(1);
        }
        self.fell_at = now;
        self.held = None;
        self.probation = None;
        self.turn(Active::Down, now);
    }

    /// Up again: in probation at once after a first fall, later after each further one.
    fn come_back(&mut self, now: Time, policy: &HealthPolicy) {
        self.turn(Active::Up, now);
        let until = match self.falls {
            0 | 1 => now,
            falls => self.fell_at + backed_off(falls - 2, policy),
        };
        if until > now {
            self.held = Some(until);
        } else {
            self.begin_probation(now);
        }
    }

    /// Only outcomes from now on count; an ejection by outcomes runs on, and its end begins anew.
    fn begin_probation(&mut self, now: Time) {
        self.probation = Some(now);
        if matches!(self.passive, Passive::Open { .. }) {
            self.passive = open(now);
        }
    }

    fn turn(&mut self, active: Active, now: Time) {
        self.active = active;
        self.since = now;
    }

    /// The outcome of a request of this edge. Never read by votes.
    pub fn outcome(&mut self, success: bool, now: Time, policy: &HealthPolicy) {
        self.outcome_with(Room::Free, success, now, policy);
    }

    /// Like [`Health::outcome`], but ejects only where there is room; until then failures add up.
    /// `Some`: it was ejected now.
    pub fn outcome_with(
        &mut self,
        room: Room,
        success: bool,
        now: Time,
        policy: &HealthPolicy,
    ) -> Option<EjectionReason> {
        self.advance(now, policy);
        let Passive::Open { window, good, bad, in_a_row } = self.passive else { return None };
        let (window, good, bad) =
            if now.since(window) > policy.failure_window { (now, 0, 0) } else { (window, good, bad) };
        if success {
            self.passive = Passive::Open { window, good: good.saturating_add(1), bad, in_a_row: 0 };
            return None;
        }
        let (bad, in_a_row) = (bad.saturating_add(1), in_a_row.saturating_add(1));
        let volume = good.saturating_add(bad);
        // In probation the share counts at a small volume: two failures are enough, two in
        // hundreds are not.
        let relapse = self.probation.is_some() && bad >= PROBATION_FAILURES;
        let enough = volume >= policy.failure_volume || relapse;
        let share_reached = enough && f64::from(bad) >= policy.failure_share * f64::from(volume);
        let reason = if in_a_row >= policy.consecutive_failures {
            Some(EjectionReason::ConsecutiveFailures)
        } else {
            share_reached.then_some(EjectionReason::FailureShare)
        };
        let reason = reason.filter(|_| room == Room::Free);
        match reason {
            Some(_) => self.eject(now, policy),
            None => self.passive = Passive::Open { window, good, bad, in_a_row },
        }
        reason
    }

    /// Ejects by outcomes; again before a full probation, for twice as long.
    pub fn eject(&mut self, now: Time, policy: &HealthPolicy) {
        let pause = backed_off(self.ejections, policy);
        self.ejections = self.ejections.saturating_add(1);
        self.probation = None;
        self.passive = Passive::Ejected { until: now + pause };
    }

    /// Fails in a row, and serves on only because there is no room to eject it.
    pub fn failing(&self, policy: &HealthPolicy) -> bool {
        matches!(self.passive, Passive::Open { in_a_row, .. } if in_a_row >= policy.consecutive_failures)
    }

    /// Whether outcomes hold it ejected, whatever probes say.
    pub fn ejected_by_outcomes(&self) -> bool {
        matches!(self.passive, Passive::Ejected { .. })
    }

    /// An operator's drain begins or ends.
    pub fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// Lets time pass: ejections end in probation, probations end in full health.
    pub fn advance(&mut self, now: Time, policy: &HealthPolicy) {
        if let Passive::Ejected { until } = self.passive
            && now >= until
        {
            self.passive = open(now);
            self.probation = Some(now);
        }
        if self.held.is_some_and(|until| now >= until) {
            self.held = None;
            self.begin_probation(now);
        }
        // An ejected target shows nothing: its probation begins when it gets requests again.
        if let Some(began) = self.probation
            && matches!(self.passive, Passive::Open { .. })
            && now.since(began) >= policy.probation
        {
            self.probation = None;
            self.ejections = 0;
        }
    }

    /// On what ground it is in its state.
    pub fn ground(&self) -> Ground {
        match (self.state(), self.active, self.passive) {
            (State::Draining, _, _) => Ground::Drain,
            (State::Unknown, _, _) => Ground::Unheard,
            (State::Ejected, Active::Up, _) => Ground::Outcomes,
            (State::Probation, _, _) if self.ejections > 0 => Ground::Outcomes,
            _ => Ground::Probes,
        }
    }

    /// Whether time alone may change its state or its share.
    pub fn is_restless(&self) -> bool {
        self.probation.is_some() || self.held.is_some() || self.ejected_by_outcomes()
    }

    pub fn state(&self) -> State {
        if self.draining || self.says_draining && self.active == Active::Up {
            return State::Draining;
        }
        if self.held.is_some() {
            return State::Ejected;
        }
        match (self.active, self.passive, self.probation) {
            (Active::Unknown, _, _) => State::Unknown,
            (Active::Down, _, _) | (_, Passive::Ejected { .. }, _) => State::Ejected,
            (Active::Up, Passive::Open { .. }, Some(_)) => State::Probation,
            (Active::Up, Passive::Open { .. }, None) => State::Healthy,
        }
    }

    /// The share of its requests that the target should get now, 0..=1.
    pub fn share(&self, now: Time, policy: &HealthPolicy) -> f64 {
        match self.state() {
            State::Healthy => 1.0,
            State::Probation => {
                let began = self.probation.unwrap_or(now);
                let done = now.since(began).as_secs_f64() / policy.probation.as_secs_f64().max(1e-9);
                (PROBATION_START + (1.0 - PROBATION_START) * done).clamp(PROBATION_START, 1.0)
            }
            State::Unknown | State::Ejected | State::Draining => 0.0,
        }
    }

    /// What probes alone say, and since when: the ground of a vote.
    pub fn word(&self) -> (Word, Time) {
        let word = match self.active {
            Active::Unknown => Word::Unknown,
            Active::Up => Word::Up,
            Active::Down => Word::Down,
        };
        (word, self.since)
    }
}

#[cfg(test)]
mod tests;
