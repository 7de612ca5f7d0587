//! Which entries lie in sparse places, by key and address, for those who have them in their tables.
//!
//! Between two commands every block that [`super::room::take_entry`] gave holds an entry, its header in order; only then may this be asked.

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::{EntryRef, heap, slab};

/// Bytes of larger entries in one batch, after which it ends.
const BATCH_BYTES: usize = 16 << 10;

/// Entries that are to be moved ([`super::Entry::relocate`]).
#[derive(Default)]
pub(crate) struct Batch {
    keys: Vec<u8>,
    /// Where each entry lies, and where its key ends in `keys`.
    entries: Vec<(usize, usize)>,
    bytes: usize,
}

impl Batch {
    /// Makes it the next batch; false when nothing is to be gained.
    pub(crate) fn fill(&mut self) -> bool {
        self.keys.clear();
        self.entries.clear();
        self.bytes = 0;
        // SAFETY: what is named are blocks of entries, in use.
        if slab::empty_a_page(|at| unsafe { self.add(at) }) {
            return true;
        }
        while self.bytes < BATCH_BYTES
            && let Some(at) = heap::next_to_move()
        {
            // SAFETY: as above.
            unsafe { self.add(at) };
        }
        !self.entries.is_empty()
    }

    /// # Safety
    /// An entry lies at `at`.
    unsafe fn add(&mut self, at: NonNull<u8>) {
        let entry = EntryRef {
            at,
            _entry: PhantomData,
        };
        self.keys.extend_from_slice(entry.key());
        self.entries.push((entry.address(), self.keys.len()));
        self.bytes += entry.allocated();
    }

    /// Key and address of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let mut from = 0;
        self.entries.iter().map(move |&(address, to)| {
            let key = &self.keys[from..to];
            from = to;
            (key, address)
        })
    }

    /// Bytes of all.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Bytes that are resident between entries of this thread.
#[cfg(test)]
pub(crate) fn lost_bytes() -> usize {
    heap::waste() + slab::waste()
}
