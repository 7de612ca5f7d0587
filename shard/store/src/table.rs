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

use larder_wire::{SLOT_COUNT, Slot};

use crate::entry::{Entry, EntryMut, EntryRef};
use crate::key_hash::KeyHash;
use crate::size_class::size_class;

pub(crate) use arrays::At;
use arrays::{Array, Arrays, Owner, SizeId, first_hash};
use bucket::{BUCKET_ENTRIES, tag_of};

/// Old buckets moved by one insertion or removal.
const MOVED_PER_CHANGE: usize = 8;
/// Tables with at most so many buckets are moved in one go.
const SMALL_BUCKETS_MAX: usize = 32;
/// Fill at which a table grows, in 64ths of its entries' places.
const FULL_64THS: usize = 59;
/// Fill that a table is given when it grows or shrinks, at least.
const COMFORTABLE_64THS: usize = 47;
/// Chance adds to it when a table grows: were all slots' tables to grow at the same fill and by as much, they would do so all at once.
const COMFORTABLE_SPREAD_64THS: usize = 8;
/// Fill below which it shrinks.
const SPARSE_64THS: usize = 26;

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

/// A table with a second array on its way out.
struct Growth {
    slot: Slot,
    array: Array,
    old: Array,
    /// Old buckets whose residents have all moved.
    moved: usize,
    /// Hashes below live in the new array.
    place: u64,
}

/// An array of a table that was dropped, and how many of its buckets may still have entries.
struct Dropped {
    array: Array,
    buckets: usize,
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
    pub(crate) fn find(&self, slot: Slot, hash: u64, key: &[u8]) -> Option<At> {
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
        let array = self.array(slot, hash);
        let home = self.arrays.home_of(array, hash);
        self.arrays
            .bucket(array, home)
            .map_or(0, |bucket| bucket.word())
    }

    /// Reads the first bytes of an entry at the home of `hash` that may be the one searched for.
    #[inline]
    pub(crate) fn touch_entry(&self, slot: Slot, hash: u64) -> u64 {
        let array = self.array(slot, hash);
        let home = self.arrays.home_of(array, hash);
        let Some(bucket) = self.arrays.bucket(array, home) else {
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

    /// Makes an empty table large enough for `keys`: an import knows what is coming.
    pub(crate) fn reserve(&mut self, slot: Slot, keys: usize) {
        if self.len(slot) == 0 {
            self.release(slot);
            let size = size_for(keys, COMFORTABLE_64THS);
            let array = self.arrays.take(size, Owner::Slot(slot.index()));
            self.tables[slot.index()].set_array(array);
        }
    }

    fn make_place(&mut self, slot: Slot, hash: u64, hashes: &KeyHash) {
        let buckets = self.buckets(slot);
        if !is_full(self.len(slot), buckets) {
            return;
        }
        // A growth under way has always ended by the time that its new array is full: each insertion moves more than its share.
        // Were it not so, it would end here.
        self.advance(slot, usize::MAX, hashes);
        // Low bits of the hash: they have no part in where a key lies.
        let chance = (hash >> 8) as usize % COMFORTABLE_SPREAD_64THS;
        let wanted = size_for(self.len(slot) + 1, COMFORTABLE_64THS + chance);
        let size = if wanted.buckets() > buckets {
            wanted
        } else {
            SizeId::holding(buckets + 1)
        };
        self.resize(slot, size, hashes);
    }

    /// Buckets of a slot's array, the new one of two.
    fn buckets(&self, slot: Slot) -> usize {
        let table = &self.tables[slot.index()];
        if table.grows {
            self.growths[table.index as usize].array.size.buckets()
        } else {
            table.size.buckets()
        }
    }

    fn shrink_when_sparse(&mut self, slot: Slot, hashes: &KeyHash) {
        let keys = self.len(slot);
        if keys == 0 {
            self.release(slot);
            return;
        }
        let buckets = self.buckets(slot);
        if !self.tables[slot.index()].grows && keys * 64 < buckets * BUCKET_ENTRIES * SPARSE_64THS {
            let size = size_for(keys, COMFORTABLE_64THS);
            if size.buckets() < buckets {
                self.resize(slot, size, hashes);
            }
        }
    }

    /// Gives a table that does not grow an array of another size.
    fn resize(&mut self, slot: Slot, size: SizeId, hashes: &KeyHash) {
        let old = self.array(slot, 0);
        let array = self.arrays.take(size, Owner::Slot(slot.index()));
        if self.arrays.buckets(old) <= SMALL_BUCKETS_MAX {
            self.tables[slot.index()].set_array(array);
            if old.size != SizeId::default() {
                self.arrays.move_all(old, array, hashes);
                self.give(old);
            }
            return;
        }
        let id = self.growths.len();
        self.arrays
            .set_owner(array, Owner::Growing { id, old: false });
        self.arrays.set_owner(old, Owner::Growing { id, old: true });
        self.growths.push(Growth {
            slot,
            array,
            old,
            moved: 0,
            place: 0,
        });
        let table = &mut self.tables[slot.index()];
        table.grows = true;
        table.index = id as u32;
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

    fn remove_growth(&mut self, id: usize) -> Growth {
        let growth = self.growths.swap_remove(id);
        if let Some(moved) = self.growths.get(id) {
            self.tables[moved.slot.index()].index = id as u32;
            for (array, old) in [(moved.array, false), (moved.old, true)] {
                self.arrays.set_owner(array, Owner::Growing { id, old });
            }
        }
        growth
    }

    /// Gives back the arrays of an empty table.
    fn release(&mut self, slot: Slot) {
        let [old, array] = self.take_arrays(slot);
        if let Some(old) = old {
            // As what was dropped, so that it is found again if it moves when the other is given back.
            self.drop_array(old);
        }
        if let Some(array) = array {
            self.give(array);
        }
        if old.is_some()
            && let Some(Dropped { array, .. }) = self.dropped.pop()
        {
            self.give(array);
        }
        self.give_back_lists();
    }

    fn give_back_lists(&mut self) {
        if self.growths.is_empty() {
            self.growths = Vec::new();
        }
        if self.dropped.is_empty() {
            self.dropped = Vec::new();
        }
    }

    fn drop_array(&mut self, array: Array) {
        self.arrays
            .set_owner(array, Owner::Dropped(self.dropped.len()));
        self.dropped.push(Dropped {
            array,
            buckets: self.arrays.buckets(array),
        });
    }

    /// Moves up to `buckets` old buckets of a table that grows. True while there are more.
    fn advance(&mut self, slot: Slot, buckets: usize, hashes: &KeyHash) -> bool {
        let table = &self.tables[slot.index()];
        if !table.grows {
            return false;
        }
        let id = table.index as usize;
        let Growth {
            array, old, moved, ..
        } = self.growths[id];
        let all = self.arrays.buckets(old);
        let end = moved.saturating_add(buckets).min(all);
        for number in moved..end {
            self.arrays.move_residents(old, number, array, hashes);
        }
        if let Some(place) = first_hash(end, all) {
            let growth = &mut self.growths[id];
            growth.moved = end;
            growth.place = place;
            return true;
        }
        self.remove_growth(id);
        self.tables[slot.index()].grows = false;
        self.tables[slot.index()].set_array(array);
        self.arrays.set_owner(array, Owner::Slot(slot.index()));
        self.give(old);
        self.give_back_lists();
        false
    }

    /// Moves up to `buckets` buckets of tables that grow; true when there are more. To be called when the node is
    /// idle: a table that is not written to would keep its old array.
    pub(crate) fn tidy(&mut self, buckets: usize, hashes: &KeyHash) -> bool {
        let Some(growth) = self.growths.last() else {
            return false;
        };
        self.advance(growth.slot, buckets, hashes);
        !self.growths.is_empty()
    }

    /// Calls `f` with the entries of a slot from hash `from` on, at least until `limit` of them were met (buckets are never cut), and returns
    /// the place to go on from; `None` at the end.
    pub(crate) fn walk<'a>(
        &'a self,
        slot: Slot,
        from: u64,
        limit: usize,
        hashes: &KeyHash,
        mut f: impl FnMut(At, u64, EntryRef<'a>),
    ) -> Option<u64> {
        let met = &mut 0;
        self.pass(slot, from, limit, |place, array, number| {
            self.arrays
                .residents(array, number, hashes, |at, hash, entry| {
                    if hash >= place {
                        *met += 1;
                        f(at, hash, entry);
                    }
                });
            *met
        })
    }

    /// The entries that lie in a slot's buckets from hash `from` on, without hashing them, in no exact order: for sampling. Entries without
    /// expiry are passed over when `expiring_only`. Returns the place to go on from.
    pub(crate) fn sample<'a>(
        &'a self,
        slot: Slot,
        from: u64,
        limit: usize,
        expiring_only: bool,
        mut f: impl FnMut(At, EntryRef<'a>),
    ) -> Option<u64> {
        if expiring_only && self.expiring(slot) == 0 {
            return None;
        }
        let mut met = 0;
        self.pass(slot, from, limit, |_, array, number| {
            if let Some(bucket) = self.arrays.bucket(array, number) {
                for index in bucket.taken(expiring_only) {
                    if let Some(entry) = bucket.place(index).get() {
                        met += 1;
                        f(self.arrays.at(array, number, index), entry);
                    }
                }
            }
            met
        })
    }

    /// Calls `visit` with the buckets of a slot from the home of hash `from` on, each with the place from which it counts, until it says that it
    /// has met `limit` entries, or for a bounded number of buckets. Returns the place to go on from; `None` at the end.
    fn pass(
        &self,
        slot: Slot,
        from: u64,
        limit: usize,
        mut visit: impl FnMut(u64, Array, usize) -> usize,
    ) -> Option<u64> {
        let table = &self.tables[slot.index()];
        if table.keys == 0 {
            return None;
        }
        let growth = table.grows.then(|| &self.growths[table.index as usize]);
        let mut place = from;
        let mut met = 0;
        let mut steps = limit.saturating_mul(4).max(16);
        while met < limit && steps > 0 {
            steps -= 1;
            let array = self.array(slot, place);
            let end = growth
                .filter(|growth| place < growth.place)
                .map(|growth| growth.place);
            let number = self.arrays.home_of(array, place);
            met = visit(place, array, number);
            let next = first_hash(number + 1, self.arrays.buckets(array));
            place = match (next, end) {
                (Some(next), Some(end)) => next.min(end),
                (Some(only), None) | (None, Some(only)) => only,
                (None, None) => return None,
            };
        }
        Some(place)
    }

    /// Drops the keys of a slot: they are gone at once, and are given out by [`Tables::drain_dropped`]. Returns how many they were, and how many
    /// of them had an expiry.
    pub(crate) fn drop_slot(&mut self, slot: Slot) -> (usize, usize) {
        let counts = (self.len(slot), self.expiring(slot));
        if counts.0 == 0 {
            self.release(slot);
        } else {
            for array in self.take_arrays(slot).into_iter().flatten() {
                self.drop_array(array);
            }
        }
        counts
    }

    pub(crate) fn has_dropped(&self) -> bool {
        !self.dropped.is_empty()
    }

    /// Gives up to about `limit` entries of what was dropped to `f`.
    pub(crate) fn drain_dropped(&mut self, limit: usize, mut f: impl FnMut(Entry)) {
        let mut taken = 0;
        while taken < limit
            && let Some(Dropped { array, buckets }) = self.dropped.last_mut()
        {
            if *buckets == 0 {
                let array = *array;
                self.dropped.pop();
                self.give(array);
                continue;
            }
            *buckets -= 1;
            // An empty bucket is work, too.
            taken += 1;
            self.arrays.empty_bucket(*array, *buckets, |entry| {
                taken += 1;
                f(entry);
            });
        }
        self.give_back_lists();
    }
}

impl Table {
    #[inline]
    fn set_array(&mut self, array: Array) {
        self.index = array.index;
        self.size = array.size;
    }
}

impl Growth {
    #[inline]
    fn array_of(&self, hash: u64) -> Array {
        if hash >= self.place {
            self.old
        } else {
            self.array
        }
    }
}

/// Whether a table with `keys` has to grow before it takes another. One bucket may be full to the last place: no search goes on behind it.
fn is_full(keys: usize, buckets: usize) -> bool {
    match buckets {
        0 => true,
        1 => keys == BUCKET_ENTRIES,
        _ => keys * 64 >= buckets * BUCKET_ENTRIES * FULL_64THS,
    }
}

/// The size for `keys` at a fill.
fn size_for(keys: usize, fill_64ths: usize) -> SizeId {
    let buckets = match keys {
        0..=BUCKET_ENTRIES => 1,
        _ => (keys * 64).div_ceil(BUCKET_ENTRIES * fill_64ths),
    };
    SizeId::holding(buckets)
}
