//! Whole pages inside free memory go back to the kernel, and come again, as zeros, when they are written to.

/// Bytes of a page of memory.
pub(super) const PAGE_BYTES: usize = 4096;

/// The whole pages within `from..to`, as addresses; empty when there are none.
#[inline]
pub(super) fn whole_pages(from: usize, to: usize) -> (usize, usize) {
    let first = from.next_multiple_of(PAGE_BYTES);
    let end = to & !(PAGE_BYTES - 1);
    (first, end.max(first))
}

/// Gives the whole pages of `bytes` bytes at `at` back. A kernel that refuses keeps them: nothing but its own count of memory depends on it.
///
/// # Safety
/// The bytes belong to one allocation of the caller's, and what they hold is not needed any more.
pub(super) unsafe fn give_back(at: *mut u8, bytes: usize) {
    let (first, end) = whole_pages(at.addr(), at.addr() + bytes);
    if first < end {
        // SAFETY: the pages lie within the caller's bytes, whose contents may become anything.
        unsafe { forget(at.add(first - at.addr()), end - first) }
    }
}

#[cfg(target_os = "linux")]
unsafe fn forget(at: *mut u8, bytes: usize) {
    // SAFETY: see `give_back`.
    unsafe { libc::madvise(at.cast(), bytes, libc::MADV_DONTNEED) };
}

#[cfg(not(target_os = "linux"))]
unsafe fn forget(_: *mut u8, _: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_that_lie_whole_in_the_range_go_back() {
        assert_eq!(whole_pages(1, 3 * PAGE_BYTES), (4096, 3 * 4096));
        assert_eq!(whole_pages(4096, 8191), (4096, 4096));
        assert_eq!(whole_pages(4097, 8191), (8192, 8192));
        let mut memory = vec![7_u8; 5 * PAGE_BYTES];
        let from = memory.as_mut_ptr();
        // SAFETY: the bytes are the vector's, and any value does for a byte.
        unsafe { give_back(from.add(1), 4 * PAGE_BYTES) };
        assert!(memory[..1].iter().all(|byte| *byte == 7));
        assert!(memory[4 * PAGE_BYTES + 1..].iter().all(|byte| *byte == 7));
        #[cfg(target_os = "linux")]
        assert!(memory.iter().filter(|byte| **byte == 0).count() >= 3 * PAGE_BYTES);
    }
}
