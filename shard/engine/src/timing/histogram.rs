//! A histogram of durations: buckets that double, each in eight parts, so that a percentile is right to an eighth.

use larder_wire::command::CommandId;

/// The first bucket ends here, in nanoseconds.
const FIRST_NANOS: u64 = 1024;
const PARTS: usize = 8;
/// 1 µs to 17 minutes.
const DOUBLINGS: usize = 30;

/// Durations of one command.
#[derive(Clone, Debug)]
pub struct Histogram {
    calls: u64,
    /// Up to [`FIRST_NANOS`], then `PARTS` for each doubling; what is longer is in the last.
    counts: [u32; 1 + PARTS * DOUBLINGS],
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            calls: 0,
            counts: [0; 1 + PARTS * DOUBLINGS],
        }
    }
}

impl Histogram {
    /// So many calls took so long each.
    #[inline]
    pub fn add(&mut self, nanos: u64, calls: u32) {
        self.calls += u64::from(calls);
        let count = &mut self.counts[bucket_of(nanos)];
        *count = count.saturating_add(calls);
    }

    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// By doubling buckets in which calls fell: the upper end in microseconds, and the calls up to it.
    pub fn doublings(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut sum = u64::from(self.counts[0]);
        let first = (sum > 0).then_some((1, sum));
        let rest = (0..DOUBLINGS).filter_map(move |doubling| {
            let parts = &self.counts[1 + doubling * PARTS..][..PARTS];
            let here: u64 = parts.iter().map(|count| u64::from(*count)).sum();
            sum += here;
            // The ends that the histograms of Redis have, which keep two digits.
            let end = ((FIRST_NANOS + 8) << (doubling + 1)) - 1;
            (here > 0).then_some((end / 1000, sum))
        });
        first.into_iter().chain(rest)
    }

    /// The duration, in nanoseconds, that `percent` of the calls do not exceed.
    pub fn percentile(&self, percent: f64) -> u64 {
        let total: u64 = self.counts.iter().map(|count| u64::from(*count)).sum();
        let wanted = ((percent / 100.0 * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut sum = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            sum += u64::from(*count);
            if sum >= wanted {
                return end_of(bucket);
            }
        }
        0
    }
}

#[inline]
fn bucket_of(nanos: u64) -> usize {
    if nanos < FIRST_NANOS {
        return 0;
    }
    let doubling = (nanos / FIRST_NANOS).ilog2() as usize;
    let part = (nanos >> (doubling + FIRST_NANOS.ilog2() as usize - PARTS.ilog2() as usize))
        as usize
        % PARTS;
    1 + (doubling * PARTS + part).min(PARTS * DOUBLINGS - 1)
}

/// The end of a bucket, in nanoseconds.
fn end_of(bucket: usize) -> u64 {
    match bucket.checked_sub(1) {
        None => FIRST_NANOS - 1,
        Some(bucket) => {
            let (doubling, part) = (bucket / PARTS, bucket % PARTS);
            ((FIRST_NANOS / PARTS as u64) * (PARTS + part + 1) as u64) << doubling
        }
    }
}

/// Of each command that was called.
#[derive(Debug, Default)]
pub struct Histograms {
    by_command: Vec<Option<Box<Histogram>>>,
}

impl Histograms {
    #[inline]
    pub fn of(&mut self, id: CommandId) -> &mut Histogram {
        if self.by_command.is_empty() {
            self.by_command.resize(CommandId::ALL.len(), None);
        }
        self.by_command[id as usize].get_or_insert_default()
    }

    pub fn get(&self, id: CommandId) -> Option<&Histogram> {
        self.by_command.get(id as usize)?.as_deref()
    }

    pub fn reset(&mut self) {
        self.by_command.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_falls_into_a_bucket_that_ends_at_or_after_it() {
        let mut nanos = 1;
        while nanos < FIRST_NANOS << (DOUBLINGS - 1) {
            for near in [nanos - 1, nanos, nanos + 1] {
                let end = end_of(bucket_of(near));
                assert!(
                    end >= near && end <= near.max(FIRST_NANOS) * 9 / 8 + 1,
                    "{near}: {end}"
                );
            }
            nanos += 1 + nanos / 7;
        }
        assert_eq!(bucket_of(u64::MAX), PARTS * DOUBLINGS);
    }

    #[test]
    fn doublings_are_cumulative_and_percentiles_near_what_they_stand_for() {
        let mut histogram = Histogram::default();
        for us in 1..=1000 {
            histogram.add(us * 1000, 1);
        }
        let last = histogram.doublings().last();
        assert_eq!(last, Some((1056, 1000)));
        for (percent, us) in [(50.0, 500), (99.0, 990), (99.9, 999)] {
            let found = histogram.percentile(percent) / 1000;
            assert!(
                found >= us && found <= us * 9 / 8 + 1,
                "p{percent}: {found}"
            );
        }
    }
}
