//! Sparse chunks are emptied: what lies in them is moved by its owners to where it fits, a few blocks at a time.
//!
//! When values of other sizes than before come into a full cache, what has stayed of the old ones lies scattered, and no choice of a place for the
//! new ones mends that. So, while more is lost between blocks than [`WASTE_SHARE`] allows, a chunk that loses much is closed (its free blocks
//! leave their bins), its blocks are named one after the other to be moved, and it goes back when the last one has left. One that cannot be
//! emptied, because an owner was not found, is opened again.

use std::ptr::NonNull;

use super::*;

/// Share of the blocks in use that may be lost between them before anything is moved.
const WASTE_SHARE: usize = 20;
/// A chunk is worth being emptied when it loses so large a share of what is used of it.
const CHUNK_WASTE_SHARE: usize = 16;
/// Chunks looked at to find a sparse one.
const LOOKS: usize = 256;

/// A chunk that is closed.
pub(super) struct Emptied {
    chunk: u32,
    /// The block that is looked at next.
    cursor: *mut Tag,
}

/// The next block that is to be moved; `None` when nothing is to be gained, or not at once.
pub(in crate::entry) fn next_to_move() -> Option<NonNull<u8>> {
    // SAFETY: invariants hold.
    let next = |size| with(size, |heap| unsafe { heap.next_to_move() });
    next(LARGE_CHUNK_BYTES).or_else(|| next(SMALL_BYTES_MAX))
}

/// Bytes in memory that are not in use, in both heaps.
#[cfg(test)]
pub(in crate::entry) fn waste() -> usize {
    [LARGE_CHUNK_BYTES, SMALL_BYTES_MAX]
        .map(|size| with(size, |heap| heap.waste()))
        .into_iter()
        .sum()
}

impl Heap {
    /// Bytes in memory that are not in use.
    pub(super) fn waste(&self) -> usize {
        (self.chunks.len() - self.vacant.len()) * self.chunk_bytes - self.gone - self.used
    }

    #[inline]
    pub(super) fn is_emptied(&self, chunk: u32) -> bool {
        self.emptied.as_ref().is_some_and(|it| it.chunk == chunk)
    }

    /// # Safety
    /// Invariants hold; so it is for all functions here.
    pub(super) unsafe fn next_to_move(&mut self) -> Option<NonNull<u8>> {
        if self.emptied.is_none() {
            let chunk = self.find_sparse()?;
            // SAFETY: the chunk is in use.
            unsafe { self.close(chunk) };
        }
        let emptied = self.emptied.as_mut()?;
        // SAFETY: the cursor is at a tag: `add_emptied` moves it out of blocks that grow over it.
        unsafe {
            while (*emptied.cursor).is_free() {
                emptied.cursor = after(emptied.cursor);
            }
            let at = emptied.cursor;
            if (*at).size() == 0 {
                self.open();
                return None;
            }
            emptied.cursor = after(at);
            Some(NonNull::new_unchecked(at.byte_add(TAG_BYTES).cast()))
        }
    }

    /// The chunk that loses most for what it holds, of the next few.
    fn find_sparse(&mut self) -> Option<u32> {
        let allowed = self.used / WASTE_SHARE + self.stale_bytes_max() + self.chunk_bytes;
        if self.waste() <= allowed {
            return None;
        }
        let mut best: Option<(usize, usize, usize)> = None;
        for _ in 0..LOOKS.min(self.chunks.len()) {
            self.hand = (self.hand + 1) % self.chunks.len();
            let chunk = &self.chunks[self.hand];
            if chunk.base.is_null() || chunk.used == 0 {
                continue;
            }
            let waste = self.chunk_bytes - chunk.used - chunk.gone;
            let is_worse = |(most, used, _): (usize, usize, usize)| {
                waste as u128 * used as u128 > most as u128 * chunk.used as u128
            };
            if waste > chunk.used / CHUNK_WASTE_SHARE && best.is_none_or(is_worse) {
                best = Some((waste, chunk.used, self.hand));
            }
        }
        best.map(|(.., number)| number as u32)
    }

    /// Takes the free blocks of a chunk out of all lists.
    unsafe fn close(&mut self, number: u32) {
        let base = self.chunks[number as usize].base;
        let mut at = base;
        // SAFETY: tags lead to the end mark (invariant 2).
        unsafe {
            while (*at).size() != 0 {
                if (*at).is_free() && (*at).size() >= BINNED_BYTES_MIN {
                    let block = at.cast::<Free>();
                    let (from, to) = ((*block).from, (*block).to);
                    self.unlink(block);
                    self.give_back_large(at, from, to);
                }
                at = after(at);
            }
        }
        self.emptied = Some(Emptied {
            chunk: number,
            cursor: base,
        });
    }

    /// Ends the emptying of a chunk that has blocks which stayed.
    unsafe fn open(&mut self) {
        let Some(emptied) = self.emptied.take() else {
            return;
        };
        let mut at = self.chunks[emptied.chunk as usize].base;
        // SAFETY: tags lead to the end mark (invariant 2); free blocks are in no list.
        unsafe {
            while (*at).size() != 0 {
                let tag = *at;
                if tag.is_free() {
                    self.add_free(at, tag, at.addr(), at.addr() + tag.size());
                }
                at = after(at);
            }
        }
    }

    /// A free block of the chunk that is emptied, of which pages between `from` and `to` may be in memory.
    ///
    /// # Safety
    /// As for [`Heap::add_free`].
    pub(super) unsafe fn add_emptied(&mut self, at: *mut Tag, tag: Tag, from: usize, to: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            write_tag(at, tag);
            if tag.size() == self.chunk_room() {
                self.emptied = None;
                self.remove_chunk(at);
                return;
            }
            let end = after(at);
            if let Some(emptied) = &mut self.emptied
                && (at..end).contains(&emptied.cursor)
            {
                emptied.cursor = end;
            }
            self.give_back_large(at, from, to);
        }
    }

    /// Gives back pages of a free block at once where a chunk is large.
    unsafe fn give_back_large(&self, at: *mut Tag, from: usize, to: usize) {
        if self.chunk_bytes <= SMALL_CHUNK_BYTES {
            return;
        }
        // SAFETY: the pages given back lie within the block, behind its tag.
        unsafe {
            let inside = whole_pages(at.addr() + TAG_BYTES, at.addr() + (*at).size());
            let from = inside.0.max(from & !(PAGE_BYTES - 1));
            let to = inside.1.min(to.next_multiple_of(PAGE_BYTES));
            if from < to {
                give_back(at.cast::<u8>().add(from - at.addr()), to - from);
            }
        }
    }
}
