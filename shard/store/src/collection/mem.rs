//! What the allocator really hands out for a size, so that memory is counted honestly.
//!
//! mimalloc's classes: multiples of 8 bytes up to 64, then four steps to each doubling.

/// The size of the block that a request for `bytes` gets. Asking for this much wastes nothing.
pub fn good_size(bytes: usize) -> usize {
    if bytes <= 64 {
        return bytes.next_multiple_of(8).max(8);
    }
    let step = 1 << ((bytes - 1).ilog2() - 2);
    bytes.next_multiple_of(step)
}

/// Bytes of heap behind an allocation of `bytes`; none for an empty one.
pub fn block(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { good_size(bytes) }
}

/// Bytes of heap behind the buffer of `vec`.
pub fn vec<T>(vec: &Vec<T>) -> usize {
    block(vec.capacity() * size_of::<T>())
}

/// Makes room for `more` elements without asking for more than the next size class.
pub fn reserve<T>(vec: &mut Vec<T>, more: usize) {
    let needed = vec.len() + more;
    if needed > vec.capacity() {
        let room = good_size(needed * size_of::<T>()) / size_of::<T>();
        vec.reserve_exact(room - vec.len());
    }
}

/// Returns memory once less than half of a buffer is in use.
pub fn give_back<T>(vec: &mut Vec<T>) {
    let used = good_size(vec.len() * size_of::<T>()) / size_of::<T>();
    if used * 2 < vec.capacity() {
        vec.shrink_to(used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_size_holds_what_was_asked_for_and_is_a_class_itself() {
        for bytes in 1..100_000 {
            let size = good_size(bytes);
            assert!(size >= bytes);
            assert_eq!(good_size(size), size, "for {bytes}");
            assert!(
                bytes <= 64 || size * 4 <= bytes * 5 + 4,
                "{size} for {bytes}"
            );
        }
    }
}
