//! How many buckets an array may have: any number up to [`EXACT_BUCKETS_MAX`], and beyond, one of 32 in each doubling.

/// Up to so many buckets, arrays have any number of them.
const EXACT_BUCKETS_MAX: usize = 128;
const SIZES_PER_DOUBLING: usize = 32;

/// The number of a size; 0 is an array of no buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SizeId(u16);

impl SizeId {
    #[inline]
    pub(super) fn number(self) -> usize {
        usize::from(self.0)
    }

    pub(super) fn of_number(number: usize) -> SizeId {
        SizeId(number as u16)
    }

    /// The smallest with room for `buckets`.
    pub(super) fn holding(buckets: usize) -> SizeId {
        if buckets <= EXACT_BUCKETS_MAX {
            return SizeId(buckets as u16);
        }
        let doublings = ((buckets - 1) / EXACT_BUCKETS_MAX).ilog2() as usize;
        let step = (EXACT_BUCKETS_MAX / SIZES_PER_DOUBLING) << doublings;
        let steps = buckets.div_ceil(step) - SIZES_PER_DOUBLING;
        SizeId((EXACT_BUCKETS_MAX + doublings * SIZES_PER_DOUBLING + steps) as u16)
    }

    pub(super) fn buckets(self) -> usize {
        let id = usize::from(self.0);
        if id <= EXACT_BUCKETS_MAX {
            return id;
        }
        let beyond = id - EXACT_BUCKETS_MAX - 1;
        let (doublings, steps) = (beyond / SIZES_PER_DOUBLING, beyond % SIZES_PER_DOUBLING);
        let step = (EXACT_BUCKETS_MAX / SIZES_PER_DOUBLING) << doublings;
        (SIZES_PER_DOUBLING + 1 + steps) * step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_ascend_in_small_steps_and_hold_what_they_say() {
        for buckets in (1..5000).chain([70_000, 1_234_567]) {
            let size = SizeId::holding(buckets);
            let holds = size.buckets();
            assert!(
                holds >= buckets && holds <= buckets + buckets / 32,
                "{buckets}: {holds}"
            );
            assert_eq!(SizeId::holding(holds), size);
            assert!(SizeId(size.0 - 1).buckets() < buckets);
        }
        assert_eq!(SizeId::holding(0).buckets(), 0);
    }
}
