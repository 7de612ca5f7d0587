//! The tables of a keyspace, one a slot: entries in buckets of one cache line, in the order of their hashes.
//!
//! 1. The home of a hash is a bucket that ascends with the hash whatever the number of buckets is (arrays.rs). A *place* is
//!    a hash; whoever walks from a place meets exactly the keys with that hash or a greater one, across any growth between two steps.
//! 2. A table that is too full or too empty gets another array. A small one moves at once. A large one has two for a while: each insertion and
//!    removal moves a few old buckets, in order, so all hashes below `Growth::place` live in the new array and all others in the old one: a
//!    search looks into one of them.
//! 3. A table that is dropped leaves its arrays to be emptied bit by bit.
//!
//! Knows neither time nor what an entry holds, apart from its key.

mod arrays;
mod bucket;
mod dropped;
mod grow;
mod owner;
mod size;
mod walk;

use larder_wire::{SLOT_COUNT, Slot};

use crate::entry::{Entry, EntryMut, EntryRef};
use crate::key_hash::KeyHash;
use crate::size_class::size_class;

pub(crate) use arrays::At;
use arrays::{Array, Arrays};
use bucket::tag_of;
use dropped::Dropped;
use grow::{Growth, MOVED_PER_CHANGE};
use owner::Owner;
use size::SizeId;

/// The table of one slot.
#[derive(Clone, Copy, Default)]
struct Table {
    keys: u32,
    expiring: u32,
    /// Which array of its size it has; while it grows, the number of its [`Growth`].
    index: u32,
    size: SizeId,
    grows: bool,
}

/// The keys of all slots.
pub(crate) struct Tables {
    tables: Box<[Table]>,
    arrays: Arrays,
    growths: Vec<Growth>,
    dropped: Vec<Dropped>,
}

impl Default for Tables {
    fn default() -> Tables {
        Tables {
            tables: vec![Table::default(); SLOT_COUNT as usize].into(),
            arrays: Arrays::default(),
            growths: Vec::new(),
            dropped: Vec::new(),
        }
    }
}

impl Tables {
    /// Keys of a slot.
    #[inline]
    pub(crate) fn len(&self, slot: Slot) -> usize {
        self.tables[slot.index()].keys as usize
    }

    /// Keys of a slot that have an expiry.
    #[inline]
    pub(crate) fn expiring(&self, slot: Slot) -> usize {
        self.tables[slot.index()].expiring as usize
    }

    /// Bytes of all tables, what is dropped included, without entries.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        let lists = [
            self.growths.capacity() * size_of::<Growth>(),
            self.dropped.capacity() * size_of::<Dropped>(),
        ];
        let lists = lists.into_iter().filter(|bytes| *bytes > 0);
        size_of_val(&*self.tables) + self.arrays.bytes() + lists.map(size_class).sum::<usize>()
    }

    /// The array of a slot in which `hash` belongs.
    #[inline]
    fn array(&self, slot: Slot, hash: u64) -> Array {
        let table = &self.tables[slot.index()];
        if table.grows {
            return self.growths[table.index as usize].array_of(hash);
        }
        Array {
            size: table.size,
            index: table.index,
        }
    }

    #[inline]
    pub(crate) fn find(&self, slot: Slot, hash: u64, key: &[u8]) -> Option<(At, EntryRef<'_>)> {
        self.arrays.find(self.array(slot, hash), hash, key)
    }

    /// Reads the table itself.
    #[inline]
    pub(crate) fn touch(&self, slot: Slot) -> u64 {
        u64::from(self.tables[slot.index()].keys)
    }

    /// Reads the home of `hash`.
    #[inline]
    pub(crate) fn touch_home(&self, slot: Slot, hash: u64) -> u64 {
        self.arrays
            .home_bucket(self.array(slot, hash), hash)
            .map_or(0, |bucket| bucket.word())
    }

    /// Reads the first bytes of an entry at the home of `hash` that may be the one searched for.
    #[inline]
    pub(crate) fn touch_entry(&self, slot: Slot, hash: u64) -> u64 {
        let Some(bucket) = self.arrays.home_bucket(self.array(slot, hash), hash) else {
            return 0;
        };
        let entry = bucket
            .matches(tag_of(hash))
            .next()
            .and_then(|index| bucket.place(index).get());
        entry.map_or(0, |entry| u64::from(entry.access()))
    }

    #[inline]
    pub(crate) fn entry(&self, at: At) -> EntryRef<'_> {
        self.arrays.entry(at)
    }

    #[inline]
    pub(crate) fn entry_mut(&mut self, at: At) -> EntryMut<'_> {
        self.arrays.entry_mut(at)
    }

    /// Gives an entry the access bits that `change` makes of its own.
    #[inline]
    pub(crate) fn update_access(
        &mut self,
        at: At,
        change: impl FnOnce(u32) -> u32,
    ) -> EntryRef<'_> {
        self.arrays.update_access(at, change)
    }

    /// Says whether an entry of a slot has an expiry, after it was given or lost one.
    #[inline]
    pub(crate) fn mark_expiring(&mut self, slot: Slot, at: At, expires: bool) {
        if self.arrays.expires(at) != expires {
            self.arrays.set_expires(at, expires);
            let table = &mut self.tables[slot.index()];
            if expires {
                table.expiring += 1;
            } else {
                table.expiring -= 1;
            }
        }
    }

    /// Adds a key that is not in the slot's table.
    pub(crate) fn insert(&mut self, slot: Slot, hash: u64, entry: Entry, hashes: &KeyHash) -> At {
        self.advance(slot, MOVED_PER_CHANGE, hashes);
        self.make_place(slot, hash, hashes);
        let expires = entry.expires().is_some();
        let table = &mut self.tables[slot.index()];
        table.keys += 1;
        table.expiring += u32::from(expires);
        let array = self.array(slot, hash);
        self.arrays.insert(array, hash, entry, expires)
    }

    /// Takes the entry at a place that was found.
    pub(crate) fn remove(&mut self, slot: Slot, hash: u64, at: At, hashes: &KeyHash) -> Entry {
        let expires = self.arrays.expires(at);
        let array = self.array(slot, hash);
        let entry = self.arrays.remove(array, hash, at);
        let table = &mut self.tables[slot.index()];
        table.keys -= 1;
        table.expiring -= u32::from(expires);
        self.shrink_when_sparse(slot, hashes);
        self.advance(slot, MOVED_PER_CHANGE, hashes);
        entry
    }

    /// Gives an empty array back; the array that takes its place is found again.
    fn give(&mut self, array: Array) {
        match self.arrays.give(array) {
            None => {}
            Some((Owner::Slot(slot), moved)) => self.tables[slot].set_array(moved),
            Some((Owner::Growing { id, old: false }, moved)) => self.growths[id].array = moved,
            Some((Owner::Growing { id, old: true }, moved)) => self.growths[id].old = moved,
            Some((Owner::Dropped(number), moved)) => self.dropped[number].array = moved,
        }
    }

    /// Takes the arrays of a table away, the new one last; it has none then.
    fn take_arrays(&mut self, slot: Slot) -> [Option<Array>; 2] {
        let table = &mut self.tables[slot.index()];
        let Table {
            index, size, grows, ..
        } = std::mem::take(table);
        if !grows {
            let array = Array { size, index };
            return [None, (size != SizeId::default()).then_some(array)];
        }
        let growth = self.remove_growth(index as usize);
        [Some(growth.old), Some(growth.array)]
    }
}

impl Table {
    #[inline]
    fn set_array(&mut self, array: Array) {
        self.index = array.index;
        self.size = array.size;
    }
}
