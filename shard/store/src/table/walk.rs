//! Ways through all entries of a slot, in the order of hashes.

use larder_wire::Slot;

use super::Tables;
use super::arrays::{Array, At, first_hash};
use crate::entry::EntryRef;
use crate::key_hash::KeyHash;

impl Tables {
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
}
