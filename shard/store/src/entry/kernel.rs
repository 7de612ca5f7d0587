//! Whole pages inside free memory go back to the kernel, and come again, as zeros, when they are written to.
//!
//! The allocator asks for huge pages, which are faster to find one's way in. Where pages have gone back they are of no use: the kernel would put
//! a huge page in the place of the few small ones that are left.

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

/// Asks for no more huge pages around these bytes, which are one allocation: the advice changes nothing that anybody could read, so that
/// what else lies on the same huge page may be anybody's. Whole ones keep the kernel's list of areas short.
pub(super) fn keep_pages_small(at: *mut u8, bytes: usize) {
    const HUGE_BYTES: usize = 2 << 20;
    let from = at.addr() & !(HUGE_BYTES - 1);
    let to = (at.addr() + bytes).next_multiple_of(HUGE_BYTES);
    advise_small(at.with_addr(from), to - from);
}

#[cfg(target_os = "linux")]
unsafe fn forget(at: *mut u8, bytes: usize) {
    // SAFETY: see `give_back`.
    unsafe { libc::madvise(at.cast(), bytes, libc::MADV_DONTNEED) };
}

#[cfg(target_os = "linux")]
fn advise_small(at: *mut u8, bytes: usize) {
    // SAFETY: this advice leaves contents and addresses as they are, and is refused where nothing is mapped.
    unsafe { libc::madvise(at.cast(), bytes, libc::MADV_NOHUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
unsafe fn forget(_: *mut u8, _: usize) {}

#[cfg(not(target_os = "linux"))]
fn advise_small(_: *mut u8, _: usize) {}

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
        keep_pages_small(from, 5 * PAGE_BYTES);
        // SAFETY: the bytes are the vector's, and any value does for a byte.
        unsafe { give_back(from.add(1), 4 * PAGE_BYTES) };
        assert!(memory[..1].iter().all(|byte| *byte == 7));
        assert!(memory[4 * PAGE_BYTES + 1..].iter().all(|byte| *byte == 7));
        #[cfg(target_os = "linux")]
        assert!(memory.iter().filter(|byte| **byte == 0).count() >= 3 * PAGE_BYTES);
    }
}
