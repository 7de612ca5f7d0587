//! Small blocks in steps of 8 bytes: the allocator's own steps would waste 8 bytes of an entry on average.
//!
//! ```text
//! chunk (256 KiB, from the allocator) = 64 pages of 4 KiB; a page = its header, then blocks of one size
//! ```
//! A page is found from a block's address; it is in the list of its class (which is its blocks' size) while it has a
//! free block, and goes back to its chunk when it has no used one; any class may take it next, and so may those who want a whole page without a
//! header (pages.rs). Chunks without a used page go back to the allocator, but for one; free pages beyond a few go back to the kernel. Pages of entries of
//! which few are in use are emptied (slab/sparse.rs).
//!
//! One set of slabs a thread. Invariants: (1) a block is freed on the thread that allocated it, which holds because its owner is not
//! `Send`; (2) `Page::free` and what it leads to are free blocks of that page, each once; (3) a page is in the list of its class
//! exactly while `0 < used < capacity` and it is not being emptied.

mod sparse;

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::ptr::{NonNull, null_mut};

pub(super) use self::sparse::empty_a_page;
#[cfg(test)]
pub(super) use self::sparse::waste;
use super::kernel::{give_back, keep_pages_small};

/// Largest block, in bytes.
pub(super) const BLOCK_BYTES_MAX: usize = 256;
const STEP_BYTES: usize = 8;
const SIZES: usize = BLOCK_BYTES_MAX / STEP_BYTES;
/// A page, whose address is a multiple of it.
pub(super) const PAGE_BYTES: usize = 4096;
const CHUNK_PAGES: usize = 64;
const HEADER_BYTES: usize = size_of::<Page>();
/// Free pages that may be in memory: so many, and a share of all pages in use.
const STALE_PAGES_MIN: usize = 64;
const STALE_SHARE: usize = 256;

const _: () = assert!(HEADER_BYTES == 32 && HEADER_BYTES.is_multiple_of(STEP_BYTES));

#[repr(C)]
struct Page {
    previous: *mut Page,
    next: *mut Page,
    chunk: u32,
    /// The first free block, in steps from the page's start; 0 is none. The first two bytes of a free block lead to the next one.
    free: u16,
    /// Where blocks begin that were never used, in steps.
    untouched: u16,
    used: u16,
    /// Block size in steps.
    steps: u16,
    /// Something in it was not moved when it should have been.
    stays: bool,
}

impl Page {
    #[inline]
    fn class(&self) -> usize {
        usize::from(self.steps) - 1
    }
}

struct Chunk {
    base: *mut u8,
    /// One bit a page.
    free: u64,
    /// Those of the free ones that are not in memory.
    gone: u64,
    /// The kernel was asked for no huge pages.
    keeps_small_pages: bool,
    /// Where it stands in `Slabs::open`.
    open_at: u32,
}

/// The pages of one class.
#[derive(Clone, Copy)]
struct Class {
    /// Those with free blocks.
    partial: *mut Page,
    pages: usize,
    /// Blocks in use.
    used: usize,
}

struct Slabs {
    classes: [Class; SIZES],
    chunks: ManuallyDrop<Vec<Chunk>>,
    /// Chunks with free pages.
    open: ManuallyDrop<Vec<u32>>,
    /// Places in `chunks` that are nobody's.
    vacant: ManuallyDrop<Vec<u32>>,
    /// Chunks in `open` with nothing but free pages.
    idle: usize,
    /// Pages in use.
    pages: usize,
    /// Free pages that are in memory.
    stale: usize,
    /// The page that is being emptied, or null.
    emptied: *mut Page,
}

thread_local! {
    // Nothing to drop: entries may outlive other thread-locals.
    static SLABS: UnsafeCell<Slabs> = const { UnsafeCell::new(Slabs {
        classes: [Class { partial: null_mut(), pages: 0, used: 0 }; SIZES],
        chunks: ManuallyDrop::new(Vec::new()),
        open: ManuallyDrop::new(Vec::new()),
        vacant: ManuallyDrop::new(Vec::new()),
        idle: 0,
        pages: 0,
        stale: 0,
        emptied: null_mut(),
    }) };
}

const fn capacity(steps: usize) -> usize {
    (PAGE_BYTES - HEADER_BYTES) / (steps * STEP_BYTES)
}

/// Bytes that a block takes with its share of a full page, by block size in steps, less one.
const COSTS: [u16; SIZES] = {
    let mut costs = [0; SIZES];
    let mut at = 0;
    while at < SIZES {
        costs[at] = PAGE_BYTES.div_ceil(capacity(at + 1)) as u16;
        at += 1;
    }
    costs
};

fn chunk_layout() -> Layout {
    Layout::from_size_align(CHUNK_PAGES * PAGE_BYTES, PAGE_BYTES)
        .expect("the alignment is a power of two")
}

/// Bytes of the block that serves `size`, which is at most [`BLOCK_BYTES_MAX`].
#[inline]
pub(super) fn block_bytes(size: usize) -> usize {
    size.max(1).next_multiple_of(STEP_BYTES)
}

/// What such a block costs.
#[inline]
pub(super) fn cost(size: usize) -> usize {
    usize::from(COSTS[block_bytes(size) / STEP_BYTES - 1])
}

/// A block for an entry of `size` bytes (at most [`BLOCK_BYTES_MAX`]), aligned to 8; not initialised.
#[inline]
pub(super) fn take(size: usize) -> NonNull<u8> {
    debug_assert!(size <= BLOCK_BYTES_MAX);
    let steps = block_bytes(size) / STEP_BYTES;
    // SAFETY: the slabs are this thread's, and nothing that runs here comes back to them.
    SLABS.with(|slabs| unsafe { (*slabs.get()).take(steps) })
}

/// Gives a block back.
///
/// # Safety
/// `block` came from [`take`] on this thread, and nobody uses it any more.
#[inline]
pub(super) unsafe fn give(block: NonNull<u8>) {
    // SAFETY: as in `take`; the rest is the caller's promise.
    SLABS.with(|slabs| unsafe { (*slabs.get()).give(block.as_ptr()) });
}

/// A page of [`PAGE_BYTES`] that is all the caller's, and the chunk that it is part of; not initialised.
pub(super) fn take_page() -> (NonNull<u8>, u32) {
    // SAFETY: as in `take`; pages lie within chunks, which are not at address 0.
    SLABS.with(|slabs| unsafe {
        let (page, chunk) = (*slabs.get()).take_page();
        (NonNull::new_unchecked(page), chunk)
    })
}

/// Gives a page back.
///
/// # Safety
/// `page` and `chunk` came from [`take_page`] on this thread, and nobody uses the page any more.
pub(super) unsafe fn give_page(page: NonNull<u8>, chunk: u32) {
    // SAFETY: as in `take`; the rest is the caller's promise.
    SLABS.with(|slabs| unsafe { (*slabs.get()).give_page(page.as_ptr(), chunk) });
}

impl Slabs {
    /// # Safety
    /// `steps` is a block size in `1..=SIZES`.
    #[inline]
    unsafe fn take(&mut self, steps: usize) -> NonNull<u8> {
        let class = steps - 1;
        // SAFETY: a page in a list has a free block (invariant 3): on its free list or, when that is empty, untouched.
        unsafe {
            let mut page = self.classes[class].partial;
            if page.is_null() {
                page = self.open_page(class);
            }
            self.classes[class].used += 1;
            let block;
            if (*page).free != 0 {
                block = page
                    .cast::<u8>()
                    .add(usize::from((*page).free) * STEP_BYTES);
                (*page).free = block.cast::<u16>().read();
            } else {
                let at = usize::from((*page).untouched);
                block = page.cast::<u8>().add(at * STEP_BYTES);
                (*page).untouched = (at + steps) as u16;
            }
            (*page).used += 1;
            if usize::from((*page).used) == capacity(steps) {
                self.unlink(page);
            }
            NonNull::new_unchecked(block)
        }
    }

    /// # Safety
    /// See [`give`].
    #[inline]
    unsafe fn give(&mut self, block: *mut u8) {
        // SAFETY: blocks lie in pages that are aligned to their size, behind a header that is in place while a block is used.
        unsafe {
            let offset = block.addr() & (PAGE_BYTES - 1);
            let page = block.sub(offset).cast::<Page>();
            let steps = usize::from((*page).steps);
            let was_full = usize::from((*page).used) == capacity(steps);
            block.cast::<u16>().write((*page).free);
            (*page).free = (offset / STEP_BYTES) as u16;
            (*page).used -= 1;
            self.classes[(*page).class()].used -= 1;
            // A page that is being emptied was not full, and is in no list.
            if was_full {
                self.link(page);
            }
            if (*page).used == 0 {
                if page == self.emptied {
                    self.emptied = null_mut();
                } else {
                    self.unlink(page);
                }
                self.close_page(page);
            }
        }
    }

    /// # Safety
    /// The page is in no list.
    unsafe fn link(&mut self, page: *mut Page) {
        // SAFETY: pages in lists are alive.
        unsafe {
            let first = &mut self.classes[(*page).class()].partial;
            (*page).previous = null_mut();
            (*page).next = *first;
            if !first.is_null() {
                (**first).previous = page;
            }
            *first = page;
        }
    }

    /// # Safety
    /// The page is in the list of its class.
    unsafe fn unlink(&mut self, page: *mut Page) {
        // SAFETY: its neighbours are alive.
        unsafe {
            let (previous, next) = ((*page).previous, (*page).next);
            if previous.is_null() {
                self.classes[(*page).class()].partial = next;
            } else {
                (*previous).next = next;
            }
            if !next.is_null() {
                (*next).previous = previous;
            }
        }
    }

    /// A free page of a chunk, and which chunk that is.
    fn take_page(&mut self) -> (*mut u8, u32) {
        let id = match self.open.last() {
            Some(&id) => id,
            None => self.add_chunk(),
        };
        let chunk = &mut self.chunks[id as usize];
        self.idle -= usize::from(chunk.free == u64::MAX);
        // One that is in memory, when there is one.
        let stale = chunk.free & !chunk.gone;
        let from = if stale == 0 { chunk.free } else { stale };
        let index = from.trailing_zeros() as usize;
        chunk.free &= !(1 << index);
        chunk.gone &= !(1 << index);
        self.stale -= usize::from(stale != 0);
        self.pages += 1;
        let base = chunk.base;
        if chunk.free == 0 {
            self.shut(id);
        }
        // SAFETY: the page lies in its chunk.
        (unsafe { base.add(index * PAGE_BYTES) }, id)
    }

    /// A page of a chunk, in the list of its class.
    #[cold]
    fn open_page(&mut self, class: usize) -> *mut Page {
        let (page, id) = self.take_page();
        self.classes[class].pages += 1;
        // SAFETY: the page was free.
        unsafe {
            let page = page.cast::<Page>();
            page.write(Page {
                previous: null_mut(),
                next: null_mut(),
                chunk: id,
                free: 0,
                untouched: (HEADER_BYTES / STEP_BYTES) as u16,
                used: 0,
                steps: class as u16 + 1,
                stays: false,
            });
            self.link(page);
            page
        }
    }

    /// # Safety
    /// The page has no used block and is in no list.
    #[cold]
    unsafe fn close_page(&mut self, page: *mut Page) {
        // SAFETY: the header is in place.
        let (id, class) = unsafe { ((*page).chunk, (*page).class()) };
        self.classes[class].pages -= 1;
        self.give_page(page.cast(), id);
    }

    fn give_page(&mut self, page: *mut u8, id: u32) {
        let chunk = &mut self.chunks[id as usize];
        let index = (page.addr() - chunk.base.addr()) / PAGE_BYTES;
        if chunk.free == 0 {
            chunk.open_at = self.open.len() as u32;
            self.open.push(id);
        }
        chunk.free |= 1 << index;
        self.pages -= 1;
        self.stale += 1;
        if chunk.free == u64::MAX {
            if self.idle == 0 {
                self.idle = 1;
            } else {
                self.remove_chunk(id);
                return;
            }
        }
        if self.stale > STALE_PAGES_MIN + self.pages / STALE_SHARE {
            self.give_stale_back(id);
        }
    }

    /// Gives the free pages of a chunk back to the kernel.
    #[cold]
    fn give_stale_back(&mut self, id: u32) {
        let chunk = &mut self.chunks[id as usize];
        let mut stale = chunk.free & !chunk.gone;
        self.stale -= stale.count_ones() as usize;
        chunk.gone = chunk.free;
        if !std::mem::replace(&mut chunk.keeps_small_pages, true) {
            keep_pages_small(chunk.base, CHUNK_PAGES * PAGE_BYTES);
        }
        while stale != 0 {
            let first = stale.trailing_zeros();
            let run = (stale >> first).trailing_ones();
            stale &= !(u64::MAX >> (u64::BITS - run) << first);
            // SAFETY: the pages lie in the chunk, and are nobody's.
            unsafe {
                let at = chunk.base.add(first as usize * PAGE_BYTES);
                give_back(at, run as usize * PAGE_BYTES);
            }
        }
    }

    fn add_chunk(&mut self) -> u32 {
        let layout = chunk_layout();
        // SAFETY: the layout is not empty.
        let base = unsafe { alloc(layout) };
        if base.is_null() {
            handle_alloc_error(layout)
        }
        let chunk = Chunk {
            base,
            free: u64::MAX,
            gone: u64::MAX,
            keeps_small_pages: false,
            open_at: self.open.len() as u32,
        };
        let id = match self.vacant.pop() {
            Some(id) => {
                self.chunks[id as usize] = chunk;
                id
            }
            None => {
                self.chunks.push(chunk);
                (self.chunks.len() - 1) as u32
            }
        };
        self.open.push(id);
        self.idle += 1;
        id
    }

    fn remove_chunk(&mut self, id: u32) {
        self.shut(id);
        // The allocator keeps for a while what it is given: without pages.
        self.give_stale_back(id);
        let base = self.chunks[id as usize].base;
        self.chunks[id as usize].base = null_mut();
        self.vacant.push(id);
        // SAFETY: it came from `add_chunk` with this layout, and all of its pages are free.
        unsafe { dealloc(base, chunk_layout()) };
    }

    /// Takes a chunk out of those that have free pages.
    fn shut(&mut self, id: u32) {
        let at = self.chunks[id as usize].open_at;
        self.open.swap_remove(at as usize);
        if let Some(&moved) = self.open.get(at as usize) {
            self.chunks[moved as usize].open_at = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn blocks_never_overlap_and_chunks_go_back() {
        let mut random = Random::new(7);
        let mut held: Vec<(NonNull<u8>, usize, u8)> = Vec::new();
        for round in 0..200_000_usize {
            let grows = round < 100_000;
            if held.is_empty() || random.below(10) < if grows { 6 } else { 3 } {
                let size = 1 + random.below(BLOCK_BYTES_MAX);
                let (block, mark) = (take(size), round as u8);
                // SAFETY: the block has `size` bytes.
                unsafe { block.as_ptr().write_bytes(mark, size) };
                assert!(block.addr().get().is_multiple_of(STEP_BYTES));
                held.push((block, size, mark));
            } else {
                let at = random.below(held.len());
                let (block, size, mark) = held.swap_remove(at);
                // SAFETY: the block is held, and its bytes were written.
                unsafe {
                    let bytes = std::slice::from_raw_parts(block.as_ptr(), size);
                    assert!(bytes.iter().all(|byte| *byte == mark));
                    give(block);
                }
            }
        }
        for (block, ..) in held {
            // SAFETY: each was taken once.
            unsafe { give(block) };
        }
        // SAFETY: nothing else uses the slabs of this thread now.
        SLABS.with(|slabs| unsafe {
            let slabs = &*slabs.get();
            assert!(slabs.emptied.is_null() && slabs.pages == 0);
            for class in slabs.classes {
                assert!(class.partial.is_null() && class.pages == 0 && class.used == 0);
            }
            assert!(slabs.stale <= CHUNK_PAGES);
            assert_eq!((slabs.open.len(), slabs.idle), (1, 1));
        });
    }

    #[test]
    fn a_block_costs_its_share_of_the_page() {
        assert_eq!((cost(54), cost(56), cost(57)), (57, 57, 66));
        assert_eq!(cost(1), 9);
        assert_eq!(cost(BLOCK_BYTES_MAX), 274);
    }
}
