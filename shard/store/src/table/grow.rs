//! How tables get other arrays: when, of what size, and what moves when.
//!
//! A small table moves at once. A large one has two arrays for a while: each insertion and removal moves a few old buckets, in order.

use larder_wire::Slot;

use super::Tables;
use super::arrays::{Array, first_hash};
use super::bucket::BUCKET_ENTRIES;
use super::owner::Owner;
use super::size::SizeId;
use crate::key_hash::KeyHash;

/// Old buckets moved by one insertion or removal.
pub(super) const MOVED_PER_CHANGE: usize = 8;
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

/// A table with a second array on its way out.
pub(super) struct Growth {
    pub(super) slot: Slot,
    pub(super) array: Array,
    pub(super) old: Array,
    /// Old buckets whose residents have all moved.
    moved: usize,
    /// Hashes below live in the new array.
    pub(super) place: u64,
}

impl Growth {
    #[inline]
    pub(super) fn array_of(&self, hash: u64) -> Array {
        if hash >= self.place {
            self.old
        } else {
            self.array
        }
    }
}

impl Tables {
    /// Makes an empty table large enough for `keys`: an import knows what is coming.
    pub(crate) fn reserve(&mut self, slot: Slot, keys: usize) {
        if self.len(slot) == 0 {
            self.release(slot);
            let size = size_for(keys, COMFORTABLE_64THS);
            let array = self.arrays.take(size, Owner::Slot(slot.index()));
            self.tables[slot.index()].set_array(array);
        }
    }

    pub(super) fn make_place(&mut self, slot: Slot, hash: u64, hashes: &KeyHash) {
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

    pub(super) fn shrink_when_sparse(&mut self, slot: Slot, hashes: &KeyHash) {
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

    /// Moves up to `buckets` old buckets of a table that grows. True while there are more.
    pub(super) fn advance(&mut self, slot: Slot, buckets: usize, hashes: &KeyHash) -> bool {
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

    pub(super) fn remove_growth(&mut self, id: usize) -> Growth {
        let growth = self.growths.swap_remove(id);
        if let Some(moved) = self.growths.get(id) {
            self.tables[moved.slot.index()].index = id as u32;
            for (array, old) in [(moved.array, false), (moved.old, true)] {
                self.arrays.set_owner(array, Owner::Growing { id, old });
            }
        }
        growth
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
