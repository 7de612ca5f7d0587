//! Blocks of more than 256 bytes and up to a megabyte: the best fit, in chunks where blocks of all sizes lie side by side.
//!
//! The allocator has pages for each size, and a page that is half full is half lost: with values of all sizes in a cache that is always full, that was
//! a third of its memory. Here free neighbours become one, whole pages inside of them go back to the kernel, and what is left in sparse
//! chunks moves together (sparse.rs).
//!
//! ```text
//! chunk (from the allocator) = block · block · … · end mark (a tag of size 0)
//! block  = tag (8 bytes, see tag.rs) · room
//! free   = tag · links of its bin · links of the stale · the range of its pages that may be in memory
//! ```
//! 1. Sizes come in 32 steps to a doubling, so that a string that is appended to moves now and then, and not each time. A bin holds the free blocks
//!    of one step: any block of a bin serves a request for that bin's step. A request takes from the first bin that has one, and what it
//!    leaves becomes a free block of its own.
//! 2. A free block is *stale* while whole pages inside of it are in memory. When there are more of those than [`Heap::stale_bytes_max`], the pages of
//!    the oldest go back to the kernel.
//! 3. Free blocks below [`BINNED_BYTES_MIN`] serve nobody and are in no bin; they wait for a neighbour.
//!
//! Two heaps a thread, one for large blocks, so that small ones do not stand between them. Invariants: (1) a block is freed on the thread
//! that allocated it, which holds because its owner is not `Send`; (2) the tags of a chunk lead from its first block to its end mark and back; (3) no
//! two neighbours are free; (4) a free block is in the bin of its size, and in the list of stale ones exactly while its range is not
//! empty; free blocks of the chunk that is being emptied are in neither.

mod sparse;
mod tag;
#[cfg(test)]
mod tests;

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::ptr::{NonNull, null_mut};

use self::sparse::Emptied;
pub(super) use self::sparse::next_to_move;
#[cfg(test)]
pub(super) use self::sparse::waste;
use self::tag::{CHUNKS_END, SIZES_END, TAG_BYTES, Tag, UNIT_BYTES};
use super::kernel::{PAGE_BYTES, give_back, keep_pages_small, whole_pages};

/// Largest room of a block, in bytes.
pub(super) const ROOM_BYTES_MAX: usize = (1 << 20) - TAG_BYTES;
/// Largest block of the heap of small ones.
const SMALL_BYTES_MAX: usize = 16 << 10;
const SMALL_CHUNK_BYTES: usize = 256 << 10;
const LARGE_CHUNK_BYTES: usize = 4 << 20;
/// Smaller free blocks are in no bin.
const BINNED_BYTES_MIN: usize = 1 << BINNED_LOG;
const BINNED_LOG: u32 = 8;
const STEPS_LOG: u32 = 5;
const BINS: usize = ((LARGE_CHUNK_BYTES.ilog2() - BINNED_LOG) << STEPS_LOG) as usize;
/// Stale bytes that are always kept: they are used again sooner than the kernel could take them.
const STALE_BYTES_MIN: usize = 512 << 10;
/// Share of the blocks in use that may be stale besides.
const STALE_SHARE: usize = 256;

const _: () = assert!(LARGE_CHUNK_BYTES - UNIT_BYTES < SIZES_END);

/// A free block that is in a bin.
#[repr(C)]
struct Free {
    tag: Tag,
    bin: Links,
    stale: Links,
    /// Addresses: whole pages of the block outside of this range are not in memory.
    from: usize,
    to: usize,
}

#[repr(C)]
struct Links {
    previous: *mut Free,
    next: *mut Free,
}

const _: () = assert!(TAG_BYTES == 8 && size_of::<Free>() <= BINNED_BYTES_MIN);

struct Chunk {
    /// Null when this number is nobody's.
    base: *mut Tag,
    /// Bytes of blocks in use.
    used: usize,
    /// Bytes of pages that are not in memory.
    gone: usize,
    /// The kernel was asked for no huge pages.
    keeps_small_pages: bool,
}

struct Heap {
    chunk_bytes: usize,
    bins: [*mut Free; BINS],
    /// One bit a bin that is not empty.
    filled: [u64; BINS.div_ceil(64)],
    newest_stale: *mut Free,
    oldest_stale: *mut Free,
    /// Bytes of the ranges of all stale blocks.
    stale_bytes: usize,
    /// Sums over all chunks.
    used: usize,
    gone: usize,
    chunks: ManuallyDrop<Vec<Chunk>>,
    /// Numbers in `chunks` that are nobody's.
    vacant: ManuallyDrop<Vec<u32>>,
    /// Chunks that are one free block.
    idle: usize,
    emptied: Option<Emptied>,
    /// Where the search for sparse chunks goes on.
    hand: usize,
}

thread_local! {
    // Nothing to drop: entries may outlive other thread-locals.
    static SMALL: UnsafeCell<Heap> = const { UnsafeCell::new(Heap::new(SMALL_CHUNK_BYTES)) };
    static LARGE: UnsafeCell<Heap> = const { UnsafeCell::new(Heap::new(LARGE_CHUNK_BYTES)) };
}

/// Calls `f` with the heap of blocks of `size` bytes.
#[inline]
fn with<R>(size: usize, f: impl FnOnce(&mut Heap) -> R) -> R {
    let heap = if size <= SMALL_BYTES_MAX {
        &SMALL
    } else {
        &LARGE
    };
    // SAFETY: the heaps are this thread's, and nothing that runs in `f` comes back to them.
    heap.with(|heap| f(unsafe { &mut *heap.get() }))
}

/// Bytes of the block that serves `room` bytes, which are more than 256 and at most [`ROOM_BYTES_MAX`].
#[inline]
pub(super) fn block_bytes(room: usize) -> usize {
    let size = room + TAG_BYTES;
    let step = (1 << (size.ilog2() - STEPS_LOG)).max(UNIT_BYTES);
    size.next_multiple_of(step)
}

/// Bytes of such a block that its owner may use.
#[inline]
pub(super) fn room(room: usize) -> usize {
    block_bytes(room) - TAG_BYTES
}

/// A block for `room` bytes, aligned to 8; not initialised.
#[inline]
pub(super) fn take(room: usize) -> NonNull<u8> {
    let size = block_bytes(room);
    // SAFETY: the size is that of a block.
    with(size, |heap| unsafe { heap.take(size) })
}

/// Gives a block back.
///
/// # Safety
/// `at` came from [`take`] or [`resize`] on this thread, and nobody uses it any more.
#[inline]
pub(super) unsafe fn give(at: NonNull<u8>) {
    // SAFETY: the caller's promise; blocks in use have a tag before them.
    unsafe {
        let tag = at.as_ptr().sub(TAG_BYTES).cast::<Tag>();
        with((*tag).size(), |heap| heap.give(tag));
    }
}

/// Makes a block one for `room` bytes; it keeps its contents up to the smaller of both rooms, but not always its place.
///
/// # Safety
/// As for [`give`].
pub(super) unsafe fn resize(at: NonNull<u8>, room: usize) -> NonNull<u8> {
    let size = block_bytes(room);
    // SAFETY: as in `give`. A block that moves has the smaller of both rooms in both places.
    unsafe {
        let tag = at.as_ptr().sub(TAG_BYTES).cast::<Tag>();
        let had = (*tag).size();
        let same_heap = (had <= SMALL_BYTES_MAX) == (size <= SMALL_BYTES_MAX);
        if same_heap && with(had, |heap| heap.resize_in_place(tag, size)) {
            return at;
        }
        let moved = take(room);
        let kept = had.min(size) - TAG_BYTES;
        moved.as_ptr().copy_from_nonoverlapping(at.as_ptr(), kept);
        give(at);
        moved
    }
}

/// The bin whose blocks have `size` bytes or up to the next step.
#[inline]
fn bin_of(size: usize) -> usize {
    let log = size.ilog2();
    let step = (size >> (log - STEPS_LOG)) & ((1 << STEPS_LOG) - 1);
    (((log - BINNED_LOG) as usize) << STEPS_LOG) + step
}

/// The block behind one that is no end mark.
///
/// # Safety
/// A block lies at `tag`; so it is for all functions on tags.
#[inline]
unsafe fn after(tag: *mut Tag) -> *mut Tag {
    // SAFETY: invariant 2.
    unsafe { tag.byte_add((*tag).size()) }
}

/// Writes a tag, and what the next one says of it.
///
/// # Safety
/// A block of the tag's size lies at `at`, and is followed by another or the end mark.
#[inline]
unsafe fn write_tag(at: *mut Tag, tag: Tag) {
    // SAFETY: the caller's promise.
    unsafe {
        at.write(tag);
        let next = at.byte_add(tag.size());
        next.write((*next).with_before(tag.size()));
    }
}

impl Free {
    /// Bytes of its pages that may be in memory, and of those that are not.
    ///
    /// # Safety
    /// The block is free and in a bin.
    unsafe fn stale_and_gone(block: *mut Free) -> (usize, usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let (first, end) = Free::whole_pages(block.addr(), (*block).tag.size());
            let stale = (*block).to.saturating_sub((*block).from);
            (stale, end - first - stale)
        }
    }

    /// Whole pages of a free block behind its links.
    fn whole_pages(at: usize, size: usize) -> (usize, usize) {
        whole_pages(at + size_of::<Free>(), at + size)
    }
}

impl Heap {
    const fn new(chunk_bytes: usize) -> Heap {
        Heap {
            chunk_bytes,
            bins: [null_mut(); BINS],
            filled: [0; BINS.div_ceil(64)],
            newest_stale: null_mut(),
            oldest_stale: null_mut(),
            stale_bytes: 0,
            used: 0,
            gone: 0,
            chunks: ManuallyDrop::new(Vec::new()),
            vacant: ManuallyDrop::new(Vec::new()),
            idle: 0,
            emptied: None,
            hand: 0,
        }
    }

    fn chunk_layout(&self) -> Layout {
        Layout::from_size_align(self.chunk_bytes, PAGE_BYTES)
            .expect("the alignment is a power of two")
    }

    /// What the blocks of a chunk share.
    fn chunk_room(&self) -> usize {
        self.chunk_bytes - UNIT_BYTES
    }

    /// Adds to what is in use.
    #[inline]
    fn count_used(&mut self, chunk: u32, grown: usize) {
        self.used += grown;
        self.chunks[chunk as usize].used += grown;
    }

    #[inline]
    fn count_unused(&mut self, chunk: u32, shrunk: usize) {
        self.used -= shrunk;
        self.chunks[chunk as usize].used -= shrunk;
    }

    /// # Safety
    /// Invariants hold, and `size` is one of [`block_bytes`] in this heap; invariants hold before all functions of a heap.
    #[inline]
    unsafe fn take(&mut self, size: usize) -> NonNull<u8> {
        // SAFETY: a block in a bin is free, and in that of a request's step or a later one it is large enough.
        unsafe {
            let block = match self.first_filled(bin_of(size)) {
                Some(bin) => self.bins[bin],
                None => self.add_chunk(),
            };
            self.unlink(block);
            let at = block.cast::<Tag>();
            let (had, before, chunk) = ((*at).size(), (*at).before(), (*at).chunk());
            self.idle -= usize::from(had == self.chunk_room());
            let (from, to) = ((*block).from, (*block).to);
            write_tag(at, Tag::new(size, before, chunk, false));
            if had > size {
                self.add_free(after(at), Tag::new(had - size, size, chunk, true), from, to);
            }
            self.count_used(chunk, size);
            NonNull::new_unchecked(at.byte_add(TAG_BYTES).cast())
        }
    }

    /// # Safety
    /// The block is in use, and nobody's any more.
    #[inline]
    unsafe fn give(&mut self, at: *mut Tag) {
        // SAFETY: the caller's promise.
        unsafe {
            debug_assert!(!(*at).is_free(), "a block is given back once");
            self.count_unused((*at).chunk(), (*at).size());
            self.merge(at);
        }
        self.keep_stale_few();
    }

    /// Makes one free block of a block and its free neighbours.
    ///
    /// # Safety
    /// The block is not counted as used any more.
    unsafe fn merge(&mut self, at: *mut Tag) {
        // SAFETY: neighbours are found by the tags (invariant 2); free ones leave their lists before they end.
        unsafe {
            let (size, chunk) = ((*at).size(), (*at).chunk());
            let (mut first, mut whole) = (at, size);
            let (mut from, mut to) = (at.addr(), at.addr() + size);
            let next = at.byte_add(size);
            if (*next).is_free() {
                whole += (*next).size();
                to = self.join(next, true, to);
            }
            if (*at).before() != 0 {
                let previous = at.byte_sub((*at).before());
                if (*previous).is_free() {
                    first = previous;
                    whole += (*previous).size();
                    from = self.join(previous, false, from);
                }
            }
            let tag = Tag::new(whole, (*first).before(), chunk, true);
            if self.is_emptied(chunk) {
                self.add_emptied(first, tag, from, to);
            } else {
                self.add_free(first, tag, from, to);
                self.idle += usize::from(whole == self.chunk_room());
                if self.idle > 1 && whole == self.chunk_room() {
                    self.unlink(first.cast());
                    self.idle -= 1;
                    self.remove_chunk(first);
                }
            }
        }
    }

    /// Takes a free neighbour out of its lists. Returns `edge`, the address up to which (from which, when the neighbour lies before) pages may be
    /// in memory, moved by what may be in memory of the neighbour.
    ///
    /// # Safety
    /// The neighbour is free.
    unsafe fn join(&mut self, at: *mut Tag, lies_behind: bool, edge: usize) -> usize {
        // SAFETY: a block in a bin has links.
        unsafe {
            let (size, is_emptied) = ((*at).size(), self.is_emptied((*at).chunk()));
            if size < BINNED_BYTES_MIN {
                return if lies_behind {
                    edge + size
                } else {
                    edge - size
                };
            }
            if is_emptied {
                // Its pages have gone but for its ends.
                return if lies_behind { edge + TAG_BYTES } else { edge };
            }
            let block = at.cast::<Free>();
            self.unlink(block);
            let (from, to) = ((*block).from, (*block).to);
            match (lies_behind, from < to) {
                // Its links were written to.
                (true, false) => edge + size_of::<Free>(),
                (true, true) => to.max(edge + size_of::<Free>()),
                (false, false) => edge,
                (false, true) => from,
            }
        }
    }

    /// Puts a free block in its bin, of which pages between the addresses `from` and `to` may be in memory.
    ///
    /// # Safety
    /// The bytes are a block of the tag's size that is in no list.
    unsafe fn add_free(&mut self, at: *mut Tag, tag: Tag, from: usize, to: usize) {
        // SAFETY: the caller's promise; the bin's first block is free and of that bin.
        unsafe {
            write_tag(at, tag);
            if tag.size() < BINNED_BYTES_MIN {
                return;
            }
            let block = at.cast::<Free>();
            let (first, end) = Free::whole_pages(at.addr(), tag.size());
            (*block).from = first.max(from & !(PAGE_BYTES - 1));
            (*block).to = end.min(to.next_multiple_of(PAGE_BYTES));
            let bin = bin_of(tag.size());
            let first = self.bins[bin];
            (*block).bin = Links {
                previous: null_mut(),
                next: first,
            };
            if !first.is_null() {
                (*first).bin.previous = block;
            }
            self.bins[bin] = block;
            self.filled[bin / 64] |= 1 << (bin % 64);
            let (stale, gone) = Free::stale_and_gone(block);
            if stale > 0 {
                self.add_stale(block);
            }
            self.gone += gone;
            self.chunks[tag.chunk() as usize].gone += gone;
        }
    }

    /// Takes a block out of its bin, and out of the stale ones.
    ///
    /// # Safety
    /// The block is in a bin.
    unsafe fn unlink(&mut self, block: *mut Free) {
        // SAFETY: its neighbours in the lists are free blocks.
        unsafe {
            let tag = (*block).tag;
            let bin = bin_of(tag.size());
            let Links { previous, next } = (*block).bin;
            if previous.is_null() {
                self.bins[bin] = next;
                if next.is_null() {
                    self.filled[bin / 64] &= !(1 << (bin % 64));
                }
            } else {
                (*previous).bin.next = next;
            }
            if !next.is_null() {
                (*next).bin.previous = previous;
            }
            let (stale, gone) = Free::stale_and_gone(block);
            if stale > 0 {
                self.remove_stale(block);
            }
            self.gone -= gone;
            self.chunks[tag.chunk() as usize].gone -= gone;
        }
    }

    /// # Safety
    /// The block's range is not empty.
    unsafe fn add_stale(&mut self, block: *mut Free) {
        // SAFETY: the newest one is a free block.
        unsafe {
            self.stale_bytes += (*block).to - (*block).from;
            let newest = self.newest_stale;
            (*block).stale = Links {
                previous: null_mut(),
                next: newest,
            };
            if newest.is_null() {
                self.oldest_stale = block;
            } else {
                (*newest).stale.previous = block;
            }
            self.newest_stale = block;
        }
    }

    /// # Safety
    /// The block is in the list.
    unsafe fn remove_stale(&mut self, block: *mut Free) {
        // SAFETY: its neighbours in the list are free blocks.
        unsafe {
            self.stale_bytes -= (*block).to - (*block).from;
            let Links { previous, next } = (*block).stale;
            if previous.is_null() {
                self.newest_stale = next;
            } else {
                (*previous).stale.next = next;
            }
            if next.is_null() {
                self.oldest_stale = previous;
            } else {
                (*next).stale.previous = previous;
            }
        }
    }

    /// How many stale bytes there may be.
    fn stale_bytes_max(&self) -> usize {
        STALE_BYTES_MIN + self.used / STALE_SHARE
    }

    /// Gives pages back while there are too many: about as many as have become free since the last time.
    #[inline]
    fn keep_stale_few(&mut self) {
        while self.stale_bytes > self.stale_bytes_max() {
            let block = self.oldest_stale;
            // SAFETY: bytes were counted, so there is a block; its range lies behind its links and within it.
            unsafe {
                self.remove_stale(block);
                let (from, to) = ((*block).from, (*block).to);
                give_back(block.cast::<u8>().add(from - block.addr()), to - from);
                (*block).to = from;
                self.gone += to - from;
                let chunk = &mut self.chunks[(*block).tag.chunk() as usize];
                chunk.gone += to - from;
                if !std::mem::replace(&mut chunk.keeps_small_pages, true) {
                    keep_pages_small(chunk.base.cast(), self.chunk_bytes);
                }
            }
        }
    }

    /// The first bin from `bin` on that has a block.
    #[inline]
    fn first_filled(&self, bin: usize) -> Option<usize> {
        let mut word = bin / 64;
        let mut bits = self.filled.get(word)? & (u64::MAX << (bin % 64));
        while bits == 0 {
            word += 1;
            bits = *self.filled.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    /// Grows into a free neighbour behind, or gives an end away.
    ///
    /// # Safety
    /// The block is in use, and `size` is one of [`block_bytes`] in this heap.
    unsafe fn resize_in_place(&mut self, at: *mut Tag, size: usize) -> bool {
        // SAFETY: neighbours are found by the tags (invariant 2).
        unsafe {
            let (had, before, chunk) = ((*at).size(), (*at).before(), (*at).chunk());
            if size == had {
                return true;
            }
            if size < had {
                write_tag(at, Tag::new(size, before, chunk, false));
                let end = after(at);
                write_tag(end, Tag::new(had - size, size, chunk, false));
                self.count_unused(chunk, had - size);
                self.merge(end);
                self.keep_stale_few();
                return true;
            }
            let next = after(at);
            let (missing, next_size) = (size - had, (*next).size());
            if !(*next).is_free() || next_size < missing || self.is_emptied(chunk) {
                return false;
            }
            let (mut from, mut to) = (next.addr(), next.addr() + next_size);
            if next_size >= BINNED_BYTES_MIN {
                let block = next.cast::<Free>();
                (from, to) = ((*block).from, (*block).to);
                self.unlink(block);
            }
            write_tag(at, Tag::new(size, before, chunk, false));
            if next_size > missing {
                let rest = Tag::new(next_size - missing, size, chunk, true);
                self.add_free(after(at), rest, from, to);
            }
            self.count_used(chunk, missing);
            true
        }
    }

    #[cold]
    fn add_chunk(&mut self) -> *mut Free {
        let layout = self.chunk_layout();
        // SAFETY: the layout is not empty; the end mark lies in its last unit.
        unsafe {
            let base = alloc(layout);
            if base.is_null() {
                handle_alloc_error(layout)
            }
            let at = base.cast::<Tag>();
            let chunk = Chunk {
                base: at,
                used: 0,
                gone: 0,
                keeps_small_pages: false,
            };
            let number = match self.vacant.pop() {
                Some(number) => {
                    self.chunks[number as usize] = chunk;
                    number
                }
                None => {
                    assert!(self.chunks.len() < CHUNKS_END, "no machine has so much");
                    self.chunks.push(chunk);
                    (self.chunks.len() - 1) as u32
                }
            };
            let room = self.chunk_room();
            at.byte_add(room).write(Tag::new(0, 0, number, false));
            self.add_free(at, Tag::new(room, 0, number, true), 0, 0);
            self.idle += 1;
            at.cast()
        }
    }

    /// # Safety
    /// The chunk at `at` is one free block that is in no list.
    #[cold]
    unsafe fn remove_chunk(&mut self, at: *mut Tag) {
        // SAFETY: it came from `add_chunk` with this layout. The allocator keeps for a while what it is given: without pages.
        unsafe {
            let number = (*at).chunk();
            debug_assert_eq!(self.chunks[number as usize].used, 0);
            self.chunks[number as usize].base = null_mut();
            self.vacant.push(number);
            give_back(at.cast(), self.chunk_bytes);
            dealloc(at.cast(), self.chunk_layout());
        }
    }
}
