//! What is left of tables that nobody uses any more: arrays to be emptied bit by bit.

use larder_wire::Slot;

use super::Tables;
use super::arrays::Array;
use super::owner::Owner;
use crate::entry::Entry;

/// An array of a table that was dropped, and how many of its buckets may still have entries.
pub(super) struct Dropped {
    pub(super) array: Array,
    buckets: usize,
}

impl Tables {
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
    /// Gives back the arrays of an empty table.
    pub(super) fn release(&mut self, slot: Slot) {
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

    pub(super) fn give_back_lists(&mut self) {
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
}
