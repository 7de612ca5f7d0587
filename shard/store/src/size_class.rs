//! The sizes that the allocator (mimalloc) hands out: what an allocation really costs.
//!
//! Source: mimalloc's `mi_bin`: multiples of 16 up to 64, then four steps in each doubling; huge blocks come in slices of 64 KiB.

const LARGE_BYTES_MIN: usize = 128 * 1024;
const SLICE_BYTES: usize = 64 * 1024;

/// Bytes that an allocation of `size` bytes takes.
#[inline]
pub fn size_class(size: usize) -> usize {
    if size <= 8 {
        8
    } else if size <= 64 {
        size.next_multiple_of(16)
    } else if size <= LARGE_BYTES_MIN {
        let step = 1usize << ((size - 1).ilog2() - 2);
        size.next_multiple_of(step)
    } else {
        // Eighths beyond, so that a huge string that is appended to is not copied for each 64 KiB.
        let step = (1usize << ((size - 1).ilog2() - 3)).max(SLICE_BYTES);
        size.next_multiple_of(step)
    }
}

/// Bytes that an allocation of `size` bytes takes when it is aligned to `ALIGN`, more than the allocator's own 16: powers of two up to 4 KiB come
/// aligned, for all others it takes as much more as an aligned place may lie behind the first.
#[inline]
pub fn aligned_class<const ALIGN: usize>(size: usize) -> usize {
    const NATURAL_BYTES_MAX: usize = 4096;
    if size.is_power_of_two() && (ALIGN..=NATURAL_BYTES_MAX).contains(&size) {
        size
    } else {
        size_class(size + ALIGN - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_blocks_take_what_the_allocator_gives_for_them() {
        for (size, class) in [
            (64, 64),
            (128, 128),
            (192, 256),
            (640, 768),
            (4096, 4096),
            (8192, 10240),
        ] {
            assert_eq!(aligned_class::<64>(size), class, "{size}");
        }
    }

    #[test]
    fn classes_are_those_of_the_allocator() {
        for (size, class) in [
            (1, 8),
            (8, 8),
            (9, 16),
            (17, 32),
            (49, 64),
            (64, 64),
            (65, 80),
            (81, 96),
            (128, 128),
            (129, 160),
            (1000, 1024),
            (1025, 1280),
            (131072, 131072),
            (131073, 196608),
        ] {
            assert_eq!(size_class(size), class, "{size}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_class_holds_its_sizes_and_is_its_own_class(size in 1usize..1 << 30) {
            let class = size_class(size);
            proptest::prop_assert!(class >= size);
            proptest::prop_assert_eq!(size_class(class), class);
        }
    }
}
