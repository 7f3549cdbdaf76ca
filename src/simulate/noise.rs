//! Randomness by place, not by order: a draw depends on its stream and number
//! only, so that leaving out one fault does not change what befalls the rest.

use std::time::Duration;

/// A source of streams and draws. Source of the mixing: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone, Copy)]
pub struct Noise(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(mix(seed.wrapping_add(GOLDEN)))
    }

    /// A stream of its own for one purpose.
    pub fn stream(self, purpose: u64) -> Self {
        Self(mix(self.0 ^ purpose.wrapping_add(1).wrapping_mul(GOLDEN)))
    }

    /// Draws one after another.
    pub fn dice(self) -> Dice {
        Dice { noise: self, drawn: 0 }
    }
}

/// A stream with a place in it.
#[derive(Debug, Clone)]
pub struct Dice {
    noise: Noise,
    drawn: u64,
}

impl Dice {
    pub fn number(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.noise.0.wrapping_add(self.drawn.wrapping_mul(GOLDEN)))
    }

    /// 0..bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound.max(1)
    }

    /// An index into something that long.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Both ends included, to the millisecond.
    pub fn between(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(from_ms + self.below(to_ms.saturating_sub(from_ms) + 1))
    }

    /// `span`, a tenth shorter or longer at most: timers that beat together hide races.
    pub fn jitter(&mut self, span: Duration) -> Duration {
        let nanos = span.as_nanos() as u64;
        Duration::from_nanos(nanos - nanos / 10 + self.below(nanos / 5 + 1))
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }
}
