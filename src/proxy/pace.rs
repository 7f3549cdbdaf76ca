//! How long a client is waited for while it has a body to send or an answer to read. Pure.
//!
//! A client has some patience of this edge to spend. Waiting for it uses that up, what it moves
//! brings some back: so a pause ends a request as a trickle does, and a client that keeps the rate
//! stays as long as it likes. Time in which an upstream is waited for does not count.

use std::num::NonZeroU64;
use std::time::Duration;
use tokio::time::Instant;

/// What is asked of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PaceRule {
    /// The longest pause.
    pub(super) patience: Duration,
    /// Bytes a second on average; `None`: any move brings all patience back.
    pub(super) rate: Option<NonZeroU64>,
}

/// The patience that one direction of one request has left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    rule: PaceRule,
    left: Duration,
    /// Since when the client is waited for.
    since: Option<Instant>,
}

impl Pace {
    pub(super) const fn new(rule: PaceRule) -> Self {
        Self { rule, left: rule.patience, since: None }
    }

    /// The client is waited for; when that will have been long enough.
    pub(super) fn waits(&mut self, now: Instant) -> Instant {
        *self.since.get_or_insert(now) + self.left
    }

    /// Something else is waited for.
    pub(super) fn rests(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.left = self.left.saturating_sub(now.saturating_duration_since(since));
        }
    }

    /// The client has moved so many bytes.
    pub(super) fn moved(&mut self, bytes: u64, now: Instant) {
        self.rests(now);
        let Some(rate) = self.rule.rate else {
            self.left = self.rule.patience;
            return;
        };
        let earned = Duration::from_micros(bytes.saturating_mul(1_000_000) / rate);
        self.left = self.left.saturating_add(earned).min(self.rule.patience);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: PaceRule = PaceRule { patience: Duration::from_secs(60), rate: NonZeroU64::new(100) };
    const WHENEVER: PaceRule = PaceRule { rate: None, ..RULE };

    /// How long a client lasts that moves so many bytes after each pause; at most an hour.
    fn lasts(rule: PaceRule, bytes: u64, pause: Duration) -> Duration {
        let begin = Instant::now();
        let (mut pace, mut now) = (Pace::new(rule), begin);
        while now < begin + Duration::from_secs(3600) {
            let end = pace.waits(now);
            if end <= now + pause {
                return end - begin;
            }
            now += pause;
            pace.moved(bytes, now);
        }
        now - begin
    }

    #[test]
    fn a_pause_ends_it_and_so_does_a_trickle_but_not_a_slow_line() {
        let secs = Duration::from_secs;
        for (name, rule, bytes, pause, lasted) in [
            ("silence", RULE, 0, secs(100), secs(60)),
            ("silence without a rate", WHENEVER, 0, secs(100), secs(60)),
            ("a byte every 50 s", RULE, 1, secs(50), Duration::from_millis(60_010)),
            ("a byte every 50 s without a rate", WHENEVER, 1, secs(50), secs(3600)),
            ("half of the rate", RULE, 50, secs(1), secs(119)),
            ("just the rate", RULE, 100, secs(1), secs(3600)),
            ("bursts with long pauses", RULE, 5000, secs(50), secs(3600)),
        ] {
            assert_eq!(lasts(rule, bytes, pause), lasted, "{name}");
        }
    }

    #[test]
    fn what_was_fast_once_cannot_be_slow_for_ever() {
        let now = Instant::now();
        let mut pace = Pace::new(RULE);
        pace.moved(1 << 40, now);
        assert_eq!(pace.waits(now), now + RULE.patience);
    }

    #[test]
    fn time_in_which_another_is_waited_for_does_not_count() {
        let begin = Instant::now();
        let mut pace = Pace::new(RULE);
        let after = |s| begin + Duration::from_secs(s);
        assert_eq!(pace.waits(begin), after(60));
        pace.rests(after(10));
        pace.rests(after(3000));
        assert_eq!(pace.waits(after(4000)), after(4050));
        assert_eq!(pace.waits(after(4020)), after(4050), "asked again, nothing has changed");
    }
}
