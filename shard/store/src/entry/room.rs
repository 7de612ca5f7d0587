//! Where the bytes of an entry come from: by their number, a block of the slabs, of the heaps, or of the allocator.
//!
//! The size of a block is not kept by its owner: it follows from how many bytes of it are used, which the owner does know.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::ptr::NonNull;

use super::kernel::give_back;
use super::{ALIGN, heap, slab};
use crate::size_class::size_class;

/// Bytes that an entry of `used` bytes has at its disposal.
#[inline]
pub(super) fn room(used: usize) -> usize {
    if used <= slab::BLOCK_BYTES_MAX {
        slab::block_bytes(used)
    } else if used <= heap::ROOM_BYTES_MAX {
        heap::room(used)
    } else {
        size_class(used)
    }
}

/// Bytes of memory that it takes.
#[inline]
pub(super) fn cost(used: usize) -> usize {
    if used <= slab::BLOCK_BYTES_MAX {
        slab::cost(used)
    } else if used <= heap::ROOM_BYTES_MAX {
        heap::block_bytes(used)
    } else {
        size_class(used)
    }
}

/// Memory for an entry of `used` bytes; not initialised.
#[inline]
pub(super) fn take_entry(used: usize) -> NonNull<u8> {
    if used <= slab::BLOCK_BYTES_MAX {
        slab::take(used)
    } else if used <= heap::ROOM_BYTES_MAX {
        heap::take(used)
    } else {
        take_large(used)
    }
}

/// # Safety
/// `at` came from [`take_entry`] or [`resize_entry`] for the same [`room`], on this thread, and nobody uses it any more.
#[inline]
pub(super) unsafe fn give_entry(at: NonNull<u8>, used: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        if used <= slab::BLOCK_BYTES_MAX {
            slab::give(at);
        } else if used <= heap::ROOM_BYTES_MAX {
            heap::give(at);
        } else {
            // The allocator keeps for a while what it is given: without pages.
            give_back(at.as_ptr(), used);
            give_large(at, used);
        }
    }
}

/// Makes the room for `before` bytes one for `after` bytes; what is in it is kept as far as both reach.
///
/// # Safety
/// As for [`give_entry`], with `before`; the first `before` bytes are initialised.
pub(super) unsafe fn resize_entry(at: NonNull<u8>, before: usize, after: usize) -> NonNull<u8> {
    if room(before) == room(after) {
        return at;
    }
    let (least, most) = (before.min(after), before.max(after));
    // SAFETY: the caller's promise; both rooms have `least` bytes.
    unsafe {
        if least > heap::ROOM_BYTES_MAX {
            let (old, new) = (large_layout(before), large_layout(after));
            return match NonNull::new(realloc(at.as_ptr(), old, new.size())) {
                Some(at) => at,
                None => handle_alloc_error(new),
            };
        }
        if least > slab::BLOCK_BYTES_MAX && most <= heap::ROOM_BYTES_MAX {
            return heap::resize(at, after);
        }
        let moved = take_entry(after);
        moved.as_ptr().copy_from_nonoverlapping(at.as_ptr(), least);
        give_entry(at, before);
        moved
    }
}

fn large_layout(used: usize) -> Layout {
    Layout::from_size_align(size_class(used), ALIGN)
        .expect("an entry is smaller than half the address space")
}

fn take_large(used: usize) -> NonNull<u8> {
    let layout = large_layout(used);
    // SAFETY: the layout is not empty.
    match NonNull::new(unsafe { alloc(layout) }) {
        Some(at) => at,
        None => handle_alloc_error(layout),
    }
}

/// # Safety
/// `at` came from [`take_large`] for bytes of the same size class, and nobody uses it any more.
unsafe fn give_large(at: NonNull<u8>, used: usize) {
    // SAFETY: the caller's promise.
    unsafe { dealloc(at.as_ptr(), large_layout(used)) }
}
