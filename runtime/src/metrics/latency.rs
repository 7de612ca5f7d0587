//! A histogram of durations for hot paths: two buckets an octave from 16 µs to 4 s, one writer,
//! recorded with a few shifts and two plain stores.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus::proto;

/// The first bucket ends at `1 << FIRST_BITS` microseconds.
const FIRST_BITS: u32 = 4;
const OCTAVES: u32 = 18;
/// The last bucket is for all that is longer.
const BUCKETS: usize = (OCTAVES as usize) * 2 + 2;

/// Durations seen so far. One thread records, any thread reads.
#[derive(Debug)]
pub struct Latency {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl Default for Latency {
    fn default() -> Latency {
        Latency::new()
    }
}

impl Latency {
    pub const fn new() -> Latency {
        Latency {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum_us: AtomicU64::new(0),
        }
    }

    #[inline]
    pub fn record(&self, took: Duration) {
        self.record_many(took, 1);
    }

    /// `times` requests that each took `took`: one call for a batch.
    #[inline]
    pub fn record_many(&self, took: Duration, times: u64) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = &self.buckets[bucket_of(us)];
        bucket.store(bucket.load(Relaxed).wrapping_add(times), Relaxed);
        let sum = self
            .sum_us
            .load(Relaxed)
            .wrapping_add(us.wrapping_mul(times));
        self.sum_us.store(sum, Relaxed);
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    pub(super) fn to_proto(&self) -> proto::Histogram {
        let mut histogram = proto::Histogram::default();
        let mut buckets = Vec::with_capacity(BUCKETS);
        let mut so_far = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            so_far += bucket.load(Relaxed);
            // The encoder adds the `+Inf` bucket from the count.
            if index + 1 < BUCKETS {
                let mut shown = proto::Bucket::default();
                shown.set_upper_bound(end_us(index) as f64 / 1e6);
                shown.set_cumulative_count(so_far);
                buckets.push(shown);
            }
        }
        histogram.set_bucket(buckets);
        histogram.set_sample_count(so_far);
        histogram.set_sample_sum(self.sum_us.load(Relaxed) as f64 / 1e6);
        histogram
    }
}

/// Buckets end at 16, 24, 32, 48, 64, … µs, the end belonging to the bucket (`le`).
#[inline]
fn bucket_of(us: u64) -> usize {
    let last = us.saturating_sub(1);
    let bits = 63 - (last | 1).leading_zeros();
    if bits < FIRST_BITS {
        return 0;
    }
    let half = (last >> (bits - 1)) & 1;
    let bucket = ((bits - FIRST_BITS) * 2) as usize + half as usize + 1;
    bucket.min(BUCKETS - 1)
}

/// The greatest number of microseconds that bucket `index` takes.
fn end_us(index: usize) -> u64 {
    let base = 1_u64 << (FIRST_BITS + index as u32 / 2);
    if index.is_multiple_of(2) {
        base
    } else {
        base + base / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lands_in_the_first_bucket_that_ends_at_or_after_it() {
        let interesting =
            (0..200).chain((0..BUCKETS - 1).flat_map(|i| end_us(i) - 1..=end_us(i) + 1));
        for us in interesting {
            let expected = (0..BUCKETS - 1)
                .find(|&index| us <= end_us(index))
                .unwrap_or(BUCKETS - 1);
            assert_eq!(bucket_of(us), expected, "{us} µs");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_histogram_counts_and_sums_what_was_recorded() {
        let latency = Latency::new();
        latency.record(Duration::from_micros(20));
        latency.record_many(Duration::from_secs(60), 2);
        let shown = latency.to_proto();
        assert_eq!((shown.get_sample_count(), latency.count()), (3, 3));
        assert!((shown.get_sample_sum() - 120.000_02).abs() < 1e-9);
        let last = shown.get_bucket().last().unwrap();
        assert_eq!((last.cumulative_count(), last.upper_bound()), (1, 4.194304));
    }
}
