//! Latencies in buckets of fixed number: quantiles without a list of samples.
//!
//! Source: HdrHistogram's layout, with 16 buckets to an octave: a value is known to
//! a sixteenth of itself, and quantiles are interpolated within a bucket. Memory is 3 KiB,
//! whatever is recorded; recording is one atomic addition.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Buckets to an octave, and the microseconds below which each has its own.
const STEPS: u64 = 16;
const STEP_BITS: u32 = 4;
/// Above 2^27 us (134 s) everything is in the last bucket.
const VALUE_MAX: u64 = (1 << 27) - 1;
const BUCKETS: usize = 384;
/// A sample counts so much, so that decay can take less than one from a bucket.
const ONE: u64 = 256;

/// A histogram of latencies that many threads may add to.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Histogram {
    pub fn record(&self, latency: Duration) {
        if let Some(bucket) = self.buckets.get(index(latency)) {
            bucket.fetch_add(ONE, Relaxed);
        }
    }

    /// The latency that `share` (0..=1) of the samples are not above; `None` without at least
    /// `samples_min` samples.
    pub fn quantile(&self, share: f64, samples_min: u32) -> Option<Duration> {
        let total: u64 = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum();
        if total == 0 || total < u64::from(samples_min).saturating_mul(ONE) {
            return None;
        }
        let wanted = (total as f64 * share.clamp(0.0, 1.0)).max(1.0);
        let mut below = 0.0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            let count = bucket.load(Relaxed) as f64;
            if count > 0.0 && below + count >= wanted {
                let (from, width) = bounds(index);
                let micros = from as f64 + width as f64 * (wanted - below) / count;
                return Some(Duration::from_secs_f64(micros / 1e6));
            }
            below += count;
        }
        // Buckets changed while they were read.
        None
    }

    /// Takes an eighth from every bucket: called each second, half is gone after five.
    pub fn decay(&self) {
        for bucket in &self.buckets {
            let count = bucket.load(Relaxed);
            if count > 0 {
                // Rounded up, so that every bucket gets empty in the end.
                bucket.fetch_sub(count.div_ceil(8), Relaxed);
            }
        }
    }

    pub fn clear(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Relaxed);
        }
    }
}

fn index(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).min(VALUE_MAX);
    if micros < STEPS {
        return micros as usize;
    }
    let octave = micros.ilog2() - STEP_BITS;
    (STEPS * u64::from(octave) + (micros >> octave)) as usize
}

/// First microsecond of a bucket, and how many it has.
fn bounds(index: usize) -> (u64, u64) {
    let index = index as u64;
    if index < 2 * STEPS {
        return (index, 1);
    }
    let octave = index / STEPS - 1;
    ((index % STEPS + STEPS) << octave, 1 << octave)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_buckets_follow_one_another() {
        let mut value = 0u64;
        while value < VALUE_MAX {
            let at = index(Duration::from_micros(value));
            let (from, width) = bounds(at);
            assert!((from..from + width).contains(&value), "{value} us in bucket {at}: {from} + {width}");
            assert!(width <= (value / 16).max(1), "{value} us: {width} wide");
            value += (value / 50).max(1);
        }
        for at in 1..BUCKETS {
            let (before, width) = bounds(at - 1);
            assert_eq!(before + width, bounds(at).0);
        }
        assert_eq!(index(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_near_the_true_ones() {
        let histogram = Histogram::default();
        for n in 1..=10_000u64 {
            histogram.record(Duration::from_micros(n * 10));
        }
        for (share, millis) in [(0.5, 50.0), (0.95, 95.0), (0.99, 99.0)] {
            let quantile = histogram.quantile(share, 1).unwrap().as_secs_f64() * 1000.0;
            assert!((quantile / millis - 1.0).abs() < 0.02, "{share}: {quantile} ms");
        }
        assert_eq!(histogram.quantile(0.5, 10_001), None);
    }

    #[test]
    fn the_past_fades_and_in_the_end_nothing_is_left() {
        let histogram = Histogram::default();
        for _ in 0..1000 {
            histogram.record(Duration::from_millis(10));
        }
        for _ in 0..20 {
            histogram.decay();
        }
        for _ in 0..1000 {
            histogram.record(Duration::from_millis(100));
        }
        assert!(histogram.quantile(0.5, 1000).unwrap() > Duration::from_millis(90));
        for _ in 0..200 {
            histogram.decay();
        }
        assert_eq!(histogram.quantile(0.5, 0), None);
    }
}
