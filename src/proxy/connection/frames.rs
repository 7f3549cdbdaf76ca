//! HTTP/2 frames as they pass: what a client may make this edge do that is no request.
//!
//! Each frame costs its sender next to nothing and this edge a little, so each is paid for from an
//! allowance that time and real traffic fill up again. Pure: time is an argument.
//! What the h2 crate bounds itself is left to it: resets of streams that were not accepted yet, empty
//! and tiny DATA, CONTINUATION, heads that grow, requests that break the rules (CVE-2019-9516, 9518,
//! CVE-2024-27316, CVE-2025-8671). Source of the frames: RFC 9113 section 6.

use tokio::time::Instant;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const PRIORITY: u8 = 0x2;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const WINDOW_UPDATE: u8 = 0x8;
const END_STREAM: u8 = 0x1;

/// Why an HTTP/2 connection was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::proxy) enum Cut {
    /// Too many PING (CVE-2019-9512).
    Ping,
    /// Too many SETTINGS (CVE-2019-9515).
    Settings,
    Priority,
    /// Too many WINDOW_UPDATE for what was sent to the client (CVE-2019-9511).
    WindowUpdate,
    /// Too many requests were given up (CVE-2023-44487).
    Reset,
    /// Too many frames that carry nothing, or that nobody knows.
    Other,
    /// Too many requests that break the rules.
    Malformed,
    /// One of the bounds that the h2 crate has.
    Calm,
    /// What is no HTTP/2.
    Protocol,
}

impl Cut {
    pub(in crate::proxy) const ALL: [Self; 9] = [
        Self::Ping,
        Self::Settings,
        Self::Priority,
        Self::WindowUpdate,
        Self::Reset,
        Self::Other,
        Self::Malformed,
        Self::Calm,
        Self::Protocol,
    ];

    /// As the label of a metric spells it.
    pub(in crate::proxy) const fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Settings => "settings",
            Self::Priority => "priority",
            Self::WindowUpdate => "window_update",
            Self::Reset => "reset",
            Self::Other => "other",
            Self::Malformed => "malformed",
            Self::Calm => "calm",
            Self::Protocol => "protocol",
        }
    }
}

/// The head of a frame, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    length: u32,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Frame {
    pub(super) const fn is_data(self) -> bool {
        self.kind == DATA
    }
}

/// Finds the heads of frames in one direction of a connection, however its bytes are cut.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes before the next head.
    skip: usize,
    head: [u8; 9],
    /// Bytes of the head that are there.
    have: usize,
}

impl Frames {
    /// `preface`: bytes before the first frame.
    pub(super) const fn after(preface: usize) -> Self {
        Self { skip: preface, head: [0; 9], have: 0 }
    }

    /// Whether the next byte belongs to the body of a DATA frame.
    pub(super) const fn inside_data(&self) -> bool {
        self.skip > 0 && self.have == 0 && self.head[3] == DATA
    }

    /// Takes the next bytes, and hands out each head that they make whole.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (self.head.len() - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == self.head.len() {
                let [a, b, c, kind, flags, stream @ ..] = self.head;
                let length = u32::from_be_bytes([0, a, b, c]);
                (self.skip, self.have) = (length as usize, 0);
                seen(Frame { length, kind, flags, stream: u32::from_be_bytes(stream) });
            }
        }
    }
}

/// Something that can be used up, and grows again.
#[derive(Debug)]
struct Allowance {
    left: u32,
    max: u32,
    per_second: u32,
    filled: Instant,
}

impl Allowance {
    const fn new(max: u32, per_second: u32, now: Instant) -> Self {
        Self { left: max, max, per_second, filled: now }
    }

    fn give(&mut self, amount: u32) {
        self.left = self.left.saturating_add(amount).min(self.max);
    }

    /// Whether so much was left.
    fn take(&mut self, amount: u32, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_millis();
        let grown = passed.saturating_mul(u128::from(self.per_second)) / 1000;
        if grown > 0 {
            self.give(u32::try_from(grown).unwrap_or(u32::MAX));
            self.filled = now;
        }
        let rest = self.left.checked_sub(amount);
        self.left = rest.unwrap_or(self.left);
        rest.is_some()
    }
}

/// What a client may do on one connection besides asking and reading.
#[derive(Debug)]
pub(super) struct Ledger {
    control: Allowance,
    resets: Allowance,
    /// The stream that was given up last.
    reset: u32,
}

impl Ledger {
    const CONTROL_MAX: u32 = 1000;
    const CONTROL_PER_SECOND: u32 = 50;
    /// What a request brings with it: PRIORITY, WINDOW_UPDATE, SETTINGS of clients that are well.
    const CONTROL_PER_REQUEST: u32 = 10;
    /// Those that a browser gives up when its user goes elsewhere, and then some.
    const RESETS_MAX: u32 = 400;
    const RESETS_PER_SECOND: u32 = 20;
    /// Of a client that goes on asking, one request in so many may be given up.
    const REQUESTS_PER_RESET: u32 = 4;
    /// The smallest message that is worth an answer: that of gRPC has a head of 5 bytes.
    const MESSAGE_BYTES: u32 = 16;

    /// `streams`: those that may be open at once, and be given up at once.
    pub(super) fn new(streams: u32, now: Instant) -> Self {
        let resets = Self::RESETS_MAX.max(streams.saturating_mul(2));
        let each = Self::REQUESTS_PER_RESET;
        Self {
            control: Allowance::new(Self::CONTROL_MAX, Self::CONTROL_PER_SECOND, now),
            resets: Allowance::new(resets.saturating_mul(each), Self::RESETS_PER_SECOND * each, now),
            reset: 0,
        }
    }

    /// A frame of the client's; `Some`: it was one too many.
    pub(super) fn received(&mut self, frame: Frame, now: Instant) -> Option<Cut> {
        let (cost, cut) = match frame.kind {
            DATA if frame.length > 0 => {
                self.control.give(1 + frame.length / 1024);
                return None;
            }
            DATA if frame.flags & END_STREAM != 0 => return None,
            HEADERS => {
                self.control.give(Self::CONTROL_PER_REQUEST);
                self.resets.give(1);
                return None;
            }
            // Said again of a stream whose answer was still on its way, it gives nothing up.
            RST_STREAM if frame.stream == self.reset => (1, Cut::Reset),
            RST_STREAM => {
                self.reset = frame.stream;
                let paid = self.resets.take(Self::REQUESTS_PER_RESET, now);
                return (!paid).then_some(Cut::Reset);
            }
            PRIORITY => (1, Cut::Priority),
            SETTINGS => (1, Cut::Settings),
            PING => (1, Cut::Ping),
            // Two for one byte more of an answer: bytes cannot be begged for one by one.
            WINDOW_UPDATE => (2, Cut::WindowUpdate),
            _ => (1, Cut::Other),
        };
        (!self.control.take(cost, now)).then_some(cut)
    }

    /// A frame to the client: what it is sent, it may make room for, and measure its time by. There are
    /// clients that answer each message, however small, by a WINDOW_UPDATE and a PING; that single bytes
    /// are begged for one by one is another thing.
    pub(super) fn sent(&mut self, frame: Frame) {
        if frame.kind == DATA {
            let each = if frame.length >= Self::MESSAGE_BYTES { 4 } else { 1 };
            self.control.give(each + frame.length / 1024);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const fn frame(kind: u8, flags: u8, length: u32) -> Frame {
        Frame { length, kind, flags, stream: 0 }
    }

    /// Each of another stream.
    const fn reset(stream: u32) -> Frame {
        Frame { stream, ..frame(RST_STREAM, 0, 4) }
    }

    /// How many of these a client may send at once, and in a minute more.
    fn allowed(frame: Frame) -> (u32, u32, Option<Cut>) {
        let mut now = Instant::now();
        let mut ledger = Ledger::new(100, now);
        let (mut at_once, mut later) = (0, 0);
        let mut stream = 0;
        let mut next = || {
            stream += 1;
            Frame { stream, ..frame }
        };
        while at_once < 100_000 && ledger.received(next(), now).is_none() {
            at_once += 1;
        }
        for _ in 0..60_000 {
            now += Duration::from_millis(1);
            later += u32::from(ledger.received(next(), now).is_none());
        }
        (at_once, later, (0..100_000).find_map(|_| ledger.received(next(), now)))
    }

    #[test]
    fn floods_of_each_kind_end_and_a_trickle_is_let_through() {
        for (name, flood, most, cut) in [
            ("PING", frame(PING, 0, 8), 1000, Cut::Ping),
            ("PING ACK", frame(PING, 1, 8), 1000, Cut::Ping),
            ("SETTINGS", frame(SETTINGS, 0, 0), 1000, Cut::Settings),
            ("PRIORITY", frame(PRIORITY, 0, 5), 1000, Cut::Priority),
            ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 4), 500, Cut::WindowUpdate),
            ("RST_STREAM", frame(RST_STREAM, 0, 4), 400, Cut::Reset),
            ("empty DATA", frame(DATA, 0, 0), 1000, Cut::Other),
            ("unknown", frame(0x77, 0, 0), 1000, Cut::Other),
        ] {
            let (at_once, later, told) = allowed(flood);
            assert_eq!((at_once, told), (most, Some(cut)), "{name}");
            assert!((1100..=3000).contains(&later), "{name}: {later} in a minute");
        }
        assert_eq!(allowed(frame(HEADERS, 0, 40)).2, None, "requests have bounds of their own");
    }

    #[test]
    fn a_client_that_asks_and_reads_may_do_what_clients_do() {
        let now = Instant::now();
        let mut ledger = Ledger::new(100, now);
        for _ in 0..100_000 {
            let mut good = |kind, length| assert_eq!(ledger.received(frame(kind, 0, length), now), None);
            good(HEADERS, 40);
            ledger.sent(frame(DATA, 0, 16_384));
            let mut good = |kind, length| assert_eq!(ledger.received(frame(kind, 0, length), now), None);
            // For each 4 KiB of a stream and of the connection; and a measure of the round trip.
            (0..8).for_each(|_| good(WINDOW_UPDATE, 4));
            good(PING, 8);
        }
    }

    #[test]
    fn one_request_in_four_may_be_given_up_for_ever_and_one_in_three_may_not() {
        for (requests, cut) in [(4, None), (3, Some(Cut::Reset))] {
            let now = Instant::now();
            let mut ledger = Ledger::new(100, now);
            let give_up = |stream| {
                (0..requests).for_each(|_| assert_eq!(ledger.received(frame(HEADERS, 0, 9), now), None));
                let given_up = ledger.received(reset(stream), now);
                assert_eq!(ledger.received(reset(stream), now), None, "said again, it costs no request");
                given_up
            };
            assert_eq!((1..10_000).find_map(give_up), cut, "{requests}");
        }
    }

    #[test]
    fn a_byte_of_an_answer_does_not_pay_for_asking_for_it() {
        let now = Instant::now();
        let mut ledger = Ledger::new(100, now);
        let dribble = |_| {
            ledger.sent(frame(DATA, 0, 1));
            ledger.received(frame(WINDOW_UPDATE, 0, 4), now)
        };
        assert_eq!((0..10_000).find_map(dribble), Some(Cut::WindowUpdate));
    }

    #[test]
    fn heads_are_found_however_the_bytes_are_cut() {
        let mut bytes = b"preface".to_vec();
        bytes.extend([0, 0, 3, DATA, 1, 0, 0, 0, 1, 9, 9, 9]);
        bytes.extend([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]);
        bytes.extend([0, 1, 0, PING, 0, 0, 0, 0, 0]);
        bytes.extend([0; 256]);
        bytes.extend([0, 0, 0, 0x77, 5, 0, 0, 0, 0]);
        let data = Frame { stream: 1, ..frame(DATA, 1, 3) };
        let expected = [data, frame(SETTINGS, 0, 0), frame(PING, 0, 256), frame(0x77, 5, 0)];
        for size in 1..=bytes.len() {
            let (mut frames, mut found) = (Frames::after(7), Vec::new());
            bytes.chunks(size).for_each(|piece| frames.feed(piece, |frame| found.push(frame)));
            assert_eq!(found, expected, "by {size}");
        }
    }

    #[test]
    fn a_client_that_answers_each_message_by_an_update_and_a_ping_goes_on_and_one_that_begs_for_bytes_does_not()
     {
        let lasts = |bytes: u32| {
            let now = Instant::now();
            let mut ledger = Ledger::new(100, now);
            (0..100_000).find(|_| {
                ledger.sent(frame(DATA, 0, bytes));
                let update = ledger.received(frame(WINDOW_UPDATE, 0, 4), now);
                update.or_else(|| ledger.received(frame(PING, 0, 8), now)).is_some()
            })
        };
        assert_eq!(lasts(200), None);
        assert!(lasts(1).is_some_and(|after| after < 1000));
    }
}
