//! Memory of buffers: what it costs, and growing and shrinking by the allocator's size classes.

pub use crate::size_class::size_class as good_size;

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

/// Returns all memory that a smaller size class would not have: for a buffer that was just cut.
pub fn fit<T>(vec: &mut Vec<T>) {
    let used = good_size(vec.len() * size_of::<T>()) / size_of::<T>();
    if used < vec.capacity() {
        vec.shrink_to(used);
    }
}
