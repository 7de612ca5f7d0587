//! The bytes of a packed collection: in a buffer of their own, or behind their key in the block of an entry.
//!
//! An entry with a small packed collection is one block: header, key, bytes. Whoever changes such a collection is lent the block as it is, the bytes before the
//! collection's own included ([`super::Entry::edit`]); whoever reads it sees the bytes through a [`Tray`].
//!
//! Invariant: a `Block` came from `take_entry` for what it says is used, and all of these bytes are initialised. It is freed by its drop, unless it
//! lies on a `Tray`: there it is a view of an entry's block, never changed and never dropped.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use super::room::{cost, give_entry, resize_entry};
use crate::collection::mem;
use crate::value::Collection;

/// Bytes that grow and shrink.
pub(crate) struct PackedBytes(Storage);

enum Storage {
    Own(Vec<u8>),
    Block(Block),
}

/// A block whose bytes begin behind `skip` others.
pub(super) struct Block {
    pub(super) at: NonNull<u8>,
    pub(super) skip: u32,
    pub(super) len: u32,
}

impl PackedBytes {
    /// An empty buffer with room for `bytes`.
    pub(crate) fn with_room(bytes: usize) -> PackedBytes {
        PackedBytes(Storage::Own(Vec::with_capacity(mem::good_size(bytes))))
    }

    pub(super) fn from_block(block: Block) -> PackedBytes {
        PackedBytes(Storage::Block(block))
    }

    #[inline]
    pub(super) fn as_block(&self) -> Option<&Block> {
        match &self.0 {
            Storage::Block(block) => Some(block),
            Storage::Own(_) => None,
        }
    }

    /// In a buffer of its own.
    pub(crate) fn standing_alone(self) -> PackedBytes {
        match self.0 {
            Storage::Own(_) => self,
            Storage::Block(_) => self.clone(),
        }
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Storage::Own(bytes) => bytes,
            // SAFETY: the module's invariant.
            Storage::Block(block) => unsafe {
                std::slice::from_raw_parts(block.start(), block.len as usize)
            },
        }
    }

    #[inline]
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Storage::Own(bytes) => bytes,
            // SAFETY: the module's invariant; `&mut self` makes the slice the only one.
            Storage::Block(block) => unsafe {
                std::slice::from_raw_parts_mut(block.start(), block.len as usize)
            },
        }
    }

    /// Bytes of memory behind it.
    pub(crate) fn heap_bytes(&self) -> usize {
        match &self.0 {
            Storage::Own(bytes) => mem::vec(bytes),
            Storage::Block(block) => cost(block.used()),
        }
    }

    /// Makes the `old` bytes at `at` into `new` bytes of any content and moves what follows them.
    pub(crate) fn open(&mut self, at: usize, old: usize, new: usize) {
        match &mut self.0 {
            Storage::Own(bytes) => {
                let len = bytes.len();
                if new > old {
                    mem::reserve(bytes, new - old);
                    bytes.resize(len + new - old, 0);
                    bytes.copy_within(at + old..len, at + new);
                } else if new < old {
                    bytes.copy_within(at + old.., at + new);
                    bytes.truncate(len - (old - new));
                    mem::give_back(bytes);
                }
            }
            Storage::Block(block) => block.open(at, old, new),
        }
    }

    pub(crate) fn extend(&mut self, more: &[u8]) {
        let len = self.as_slice().len();
        self.open(len, 0, more.len());
        self.as_mut_slice()[len..].copy_from_slice(more);
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        let gone = self.as_slice().len() - len;
        self.open(len, gone, 0);
    }
}

/// A clone has a buffer of its own.
impl Clone for PackedBytes {
    fn clone(&self) -> PackedBytes {
        let mut clone = PackedBytes::with_room(self.as_slice().len());
        clone.extend(self.as_slice());
        clone
    }
}

impl Block {
    fn start(&self) -> *mut u8 {
        // SAFETY: the block has at least `skip` bytes.
        unsafe { self.at.as_ptr().add(self.skip as usize) }
    }

    fn used(&self) -> usize {
        self.skip as usize + self.len as usize
    }

    fn open(&mut self, at: usize, old: usize, new: usize) {
        let len = self.len as usize;
        assert!(at + old <= len, "a place within the bytes");
        let len_after = len - old + new;
        let short = u32::try_from(len_after).expect("packed collections are far below 4 GB");
        let (before, after) = (self.used(), self.skip as usize + len_after);
        let (from, tail) = (self.skip as usize + at, len - at - old);
        // SAFETY: `from + old + tail` is `before` and `from + new + tail` is `after`: all bytes lie in the room that there is while they are moved, and those
        // opened are written, too.
        unsafe {
            if new > old {
                self.at = resize_entry(self.at, before, after);
            }
            let place = self.at.as_ptr().add(from);
            place.add(new).copy_from(place.add(old), tail);
            place.write_bytes(0, new);
            if new < old {
                self.at = resize_entry(self.at, before, after);
            }
        }
        self.len = short;
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: the module's invariant: the block is this one's alone.
        unsafe { give_entry(self.at, self.used()) }
    }
}

/// Where a look at a packed collection is laid out, for as long as the look lasts.
pub struct Tray(MaybeUninit<Collection>);

impl Default for Tray {
    #[inline]
    fn default() -> Tray {
        Tray(MaybeUninit::uninit())
    }
}

impl Tray {
    /// Lays out a collection that is a view of bytes that live as long as the tray is borrowed: nobody drops it.
    #[inline]
    pub(super) fn lay(&mut self, view: Collection) -> &Collection {
        self.0.write(view)
    }
}
