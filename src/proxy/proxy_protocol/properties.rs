//! Claims over many generated headers, each found again by its seed.

use super::tests::{IPV4, checksummed, field, v2};
use super::*;

const TEXT: &[u8] = super::text::SIGNATURE;
const BINARY: &[u8] = super::binary::SIGNATURE;

const RUNS: u64 = 2000;

/// SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn octets(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next() as u8).collect()
    }

    /// A header of either version, whole or with a byte or two changed, and something after it.
    fn nearly_a_header(&mut self) -> Vec<u8> {
        let mut bytes = match self.below(7) {
            0 => b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n".to_vec(),
            1 => b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n".to_vec(),
            2 => format!("PROXY UNKNOWN {}\r\n", "x".repeat(self.below(100))).into_bytes(),
            3 => v2(1, 0x11, &IPV4),
            4 => v2(0, 0, &self.octets(20)),
            5 => v2(1, 0x21, &self.octets(120)),
            _ => {
                let (kind, value) = (self.below(6) as u8, self.octets(60));
                checksummed(&field(kind, &value))
            }
        };
        for _ in 0..self.below(3) {
            let at = self.below(bytes.len());
            bytes[at] = self.next() as u8;
        }
        bytes.extend(self.octets(20));
        bytes
    }
}

/// Whoever scans each prefix learns at some prefix what he would of the whole, and nothing else before.
#[test]
fn the_verdict_does_not_depend_on_where_the_bytes_were_cut() {
    for seed in 0..RUNS {
        let bytes = Dice(seed).nearly_a_header();
        let verdict = scan(&bytes);
        for end in 0..bytes.len() {
            let early = scan(&bytes[..end]);
            assert!(
                early == Scan::NeedMore || early == verdict,
                "seed {seed}, {end} bytes: {early:?}, then {verdict:?}"
            );
            if let Scan::Header { length, .. } = early {
                assert!(length <= end, "seed {seed}, {end} bytes: {length}");
            }
        }
    }
}

#[test]
fn any_bytes_have_a_verdict_within_the_longest_header() {
    for seed in 0..RUNS {
        let mut bytes = Dice(seed).octets(300);
        for signature in [TEXT, BINARY, &[]] {
            let begun = [signature, &bytes].concat();
            scan(&begun);
        }
        bytes.resize(LENGTH_MAX, 0);
        for signature in [TEXT, BINARY, &[]] {
            let all = [signature, &bytes].concat();
            assert_ne!(scan(&all[..LENGTH_MAX]), Scan::NeedMore, "seed {seed}");
        }
    }
}
