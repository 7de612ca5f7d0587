//! Arrays of buckets of all sizes, each size packed: what is given back leaves no hole.
//!
//! 1. A size has a store: a row of pages in which its arrays lie one after the other, across the pages' borders. When one is given back, the last of
//!    its size moves into its place, and the row ends a page earlier when it can. So a table takes what its buckets take, and nothing stays behind of sizes that
//!    tables have grown out of. An array of whole pages takes them as entries come to them, and gives them back as they run empty.
//! 2. Whoever has an array is told when it moves: an [`Owner`] stands beside it, and [`Arrays::give`] says whose array is elsewhere.
//! 3. Sizes are all numbers of buckets up to [`EXACT_BUCKETS_MAX`] and then 32 in each doubling.
//!
//! Within an array: bucket `h * n >> 64` is the home of hash `h`. An entry whose home is full lies in one of the next buckets (around the end to
//! the first); a search goes on only while the bucket says that entries passed over it.

use super::bucket::{BUCKET_ENTRIES, Bucket, tag_of};
use crate::entry::{Entry, EntryMut, EntryRef, PAGE_BYTES, Pages};
use crate::key_hash::KeyHash;
use crate::size_class::size_class;

/// Up to so many buckets, arrays have any number of them.
const EXACT_BUCKETS_MAX: usize = 128;
const SIZES_PER_DOUBLING: usize = 32;
const PAGE_BUCKETS: usize = PAGE_BYTES / size_of::<Bucket>();

/// One array; true until it is given back, or moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Array {
    pub(super) size: SizeId,
    /// Which of its size.
    pub(super) index: u32,
}

/// The number of a size; 0 is an array of no buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SizeId(u16);

impl SizeId {
    /// The smallest with room for `buckets`.
    pub(super) fn holding(buckets: usize) -> SizeId {
        if buckets <= EXACT_BUCKETS_MAX {
            return SizeId(buckets as u16);
        }
        let doublings = ((buckets - 1) / EXACT_BUCKETS_MAX).ilog2() as usize;
        let step = (EXACT_BUCKETS_MAX / SIZES_PER_DOUBLING) << doublings;
        let steps = buckets.div_ceil(step) - SIZES_PER_DOUBLING;
        SizeId((EXACT_BUCKETS_MAX + doublings * SIZES_PER_DOUBLING + steps) as u16)
    }

    pub(super) fn buckets(self) -> usize {
        let id = usize::from(self.0);
        if id <= EXACT_BUCKETS_MAX {
            return id;
        }
        let beyond = id - EXACT_BUCKETS_MAX - 1;
        let (doublings, steps) = (beyond / SIZES_PER_DOUBLING, beyond % SIZES_PER_DOUBLING);
        let step = (EXACT_BUCKETS_MAX / SIZES_PER_DOUBLING) << doublings;
        (SIZES_PER_DOUBLING + 1 + steps) * step
    }
}

/// Who has an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The table of a slot.
    Slot(usize),
    /// A table that grows, by the number of its growth.
    Growing { id: usize, old: bool },
    /// What is left of a table that was dropped, by its number.
    Dropped(usize),
}

/// An owner in 4 bytes: its kind in the lowest two bits.
#[derive(Clone, Copy)]
struct Deed(u32);

impl Deed {
    fn new(owner: Owner) -> Deed {
        let (number, kind) = match owner {
            Owner::Slot(slot) => (slot, 0),
            Owner::Growing { id, old } => (id, 1 + usize::from(old)),
            Owner::Dropped(number) => (number, 3),
        };
        debug_assert!(number < 1 << 30);
        Deed((number << 2 | kind) as u32)
    }

    fn owner(self) -> Owner {
        let number = (self.0 >> 2) as usize;
        match self.0 & 3 {
            0 => Owner::Slot(number),
            3 => Owner::Dropped(number),
            kind => Owner::Growing {
                id: number,
                old: kind == 2,
            },
        }
    }
}

/// Where an entry lies; true until an array is taken or given back.
#[derive(Clone, Copy)]
pub(crate) struct At {
    size: SizeId,
    index: u8,
    /// In the row of its size.
    bucket: u32,
}

#[inline]
fn home(hash: u64, buckets: usize) -> usize {
    ((u128::from(hash) * buckets as u128) >> 64) as usize
}

/// The first hash whose home is bucket `index` of `buckets`; `None` past the last.
pub(super) fn first_hash(index: usize, buckets: usize) -> Option<u64> {
    let scaled = (index as u128) << 64;
    u64::try_from(scaled.div_ceil(buckets as u128)).ok()
}

/// All arrays of one size.
struct Store {
    /// Of each.
    buckets: usize,
    row: Pages<Bucket>,
    owners: Vec<Deed>,
}

impl Store {
    fn has_whole_pages(&self) -> bool {
        self.buckets.is_multiple_of(PAGE_BUCKETS)
    }

    fn bytes(&self) -> usize {
        let owners = match self.owners.capacity() {
            0 => 0,
            places => size_class(places * size_of::<Deed>()),
        };
        self.row.bytes() + owners
    }
}

/// The arrays of all tables of a keyspace.
#[derive(Default)]
pub(super) struct Arrays {
    /// By [`SizeId`].
    stores: Vec<Store>,
    bytes: usize,
}

impl Arrays {
    /// Bytes of memory in all, without entries.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        let stores = match self.stores.capacity() {
            0 => 0,
            places => size_class(places * size_of::<Store>()),
        };
        self.bytes + stores
    }

    #[inline]
    pub(super) fn buckets(&self, array: Array) -> usize {
        match self.stores.get(usize::from(array.size.0)) {
            Some(store) => store.buckets,
            None => 0,
        }
    }

    /// An array with nothing in it.
    pub(super) fn take(&mut self, size: SizeId, owner: Owner) -> Array {
        while self.stores.len() <= usize::from(size.0) {
            self.stores.push(Store {
                buckets: SizeId(self.stores.len() as u16).buckets(),
                row: Pages::default(),
                owners: Vec::new(),
            });
        }
        let store = &mut self.stores[usize::from(size.0)];
        let before = store.bytes();
        let index = store.owners.len();
        let first = index * store.buckets;
        let end = first + store.buckets;
        while store.row.len() < end {
            store.row.extend();
        }
        if !store.has_whole_pages() {
            for at in first..end {
                store.row.fill(at, Bucket::empty);
            }
        }
        store.owners.push(Deed::new(owner));
        self.bytes = self.bytes + store.bytes() - before;
        Array {
            size,
            index: index as u32,
        }
    }

    /// Takes back an array that has no entries any more. Returns whose array has moved, and where to.
    pub(super) fn give(&mut self, array: Array) -> Option<(Owner, Array)> {
        let store = &mut self.stores[usize::from(array.size.0)];
        let before = store.bytes();
        let (index, last) = (array.index as usize, store.owners.len() - 1);
        let (here, there) = (index * store.buckets, last * store.buckets);
        if index != last && store.has_whole_pages() {
            for at in (0..store.buckets).step_by(PAGE_BUCKETS) {
                store.row.swap_pages(here + at, there + at);
            }
        } else if !store.has_whole_pages() {
            for at in 0..store.buckets {
                if let Some(bucket) = store.row.get_mut(here + at) {
                    bucket.clear_overflow();
                }
                store.row.swap(here + at, there + at);
            }
        }
        store.owners.swap_remove(index);
        while store.row.len() >= there + PAGE_BUCKETS {
            store.row.shrink();
        }
        if store.owners.capacity() > 4 * store.owners.len() {
            store.owners.shrink_to(2 * store.owners.len());
        }
        let moved = store.owners.get(index).map(|deed| (deed.owner(), array));
        self.bytes = self.bytes + store.bytes() - before;
        if self.bytes == 0 {
            self.stores = Vec::new();
        }
        moved
    }

    pub(super) fn set_owner(&mut self, array: Array, owner: Owner) {
        self.stores[usize::from(array.size.0)].owners[array.index as usize] = Deed::new(owner);
    }

    #[inline]
    pub(super) fn home_of(&self, array: Array, hash: u64) -> usize {
        home(hash, self.buckets(array))
    }

    /// A bucket by its number in its array; `None` where nothing was put yet.
    #[inline]
    pub(super) fn bucket(&self, array: Array, number: usize) -> Option<&Bucket> {
        let store = self.stores.get(usize::from(array.size.0))?;
        if number >= store.buckets {
            return None;
        }
        store.row.get(array.index as usize * store.buckets + number)
    }

    #[inline]
    pub(super) fn find(&self, array: Array, hash: u64, key: &[u8]) -> Option<At> {
        let store = self.stores.get(usize::from(array.size.0))?;
        let first = array.index as usize * store.buckets;
        let tag = tag_of(hash);
        let mut number = home(hash, store.buckets);
        for _ in 0..store.buckets {
            let at = first + number;
            let bucket = store.row.get(at)?;
            for index in bucket.matches(tag) {
                if let Some(entry) = bucket.place(index).get()
                    && entry.key() == key
                {
                    return Some(At {
                        size: array.size,
                        index: index as u8,
                        bucket: at as u32,
                    });
                }
            }
            if !bucket.is_passed_over() {
                return None;
            }
            number = after(number, store.buckets);
        }
        None
    }

    #[inline]
    pub(super) fn entry(&self, at: At) -> EntryRef<'_> {
        let store = &self.stores[usize::from(at.size.0)];
        let bucket = store.row.get(at.bucket as usize);
        bucket
            .and_then(|bucket| bucket.place(at.index.into()).get())
            .expect("a place that was found holds an entry")
    }

    #[inline]
    fn bucket_mut(&mut self, at: At) -> &mut Bucket {
        let store = &mut self.stores[usize::from(at.size.0)];
        store
            .row
            .get_mut(at.bucket as usize)
            .expect("a place that was found is on a page")
    }

    #[inline]
    pub(super) fn entry_mut(&mut self, at: At) -> EntryMut<'_> {
        self.bucket_mut(at)
            .place_mut(at.index.into())
            .get_mut()
            .expect("a place that was found holds an entry")
    }

    #[inline]
    pub(super) fn expires(&self, at: At) -> bool {
        let store = &self.stores[usize::from(at.size.0)];
        let bucket = store.row.get(at.bucket as usize);
        bucket.is_some_and(|bucket| bucket.expires(at.index.into()))
    }

    pub(super) fn set_expires(&mut self, at: At, expires: bool) {
        self.bucket_mut(at)
            .set_expires(usize::from(at.index), expires);
    }

    /// The caller has made sure that a place is free.
    pub(super) fn insert(&mut self, array: Array, hash: u64, entry: Entry, expires: bool) -> At {
        let store = &mut self.stores[usize::from(array.size.0)];
        let first = array.index as usize * store.buckets;
        let mut number = home(hash, store.buckets);
        loop {
            let at = first + number;
            let Some(bucket) = store.row.get_mut(at) else {
                store.row.fill(at, Bucket::empty);
                self.bytes += PAGE_BYTES;
                continue;
            };
            if let Some(index) = bucket.free_place() {
                bucket.put(index, hash, entry, expires);
                return At {
                    size: array.size,
                    index: index as u8,
                    bucket: at as u32,
                };
            }
            bucket.pass_over();
            number = after(number, store.buckets);
        }
    }

    pub(super) fn remove(&mut self, array: Array, hash: u64, at: At) -> Entry {
        let store = &mut self.stores[usize::from(array.size.0)];
        let first = array.index as usize * store.buckets;
        let mut number = home(hash, store.buckets);
        while first + number != at.bucket as usize {
            let bucket = store.row.get_mut(first + number);
            bucket.expect("it counts this entry").pass_back();
            number = after(number, store.buckets);
        }
        self.bucket_mut(at)
            .take(at.index.into())
            .expect("a place that was found holds an entry")
    }

    /// Calls `f` with the place of every entry whose home is bucket `number`, with its hash.
    pub(super) fn residents<'a>(
        &'a self,
        array: Array,
        number: usize,
        hashes: &KeyHash,
        mut f: impl FnMut(At, u64, EntryRef<'a>),
    ) {
        let buckets = self.buckets(array);
        let mut here = number;
        for _ in 0..buckets {
            let Some(bucket) = self.bucket(array, here) else {
                return;
            };
            for index in bucket.taken(false) {
                if let Some(entry) = bucket.place(index).get() {
                    let hash = hashes.of(entry.key());
                    if home(hash, buckets) == number {
                        f(self.at(array, here, index), hash, entry);
                    }
                }
            }
            if !bucket.is_passed_over() {
                return;
            }
            here = after(here, buckets);
        }
    }

    /// Moves the entries whose home is bucket `number` into another array.
    pub(super) fn move_residents(
        &mut self,
        from: Array,
        number: usize,
        to: Array,
        hashes: &KeyHash,
    ) {
        let buckets = self.buckets(from);
        let mut here = number;
        for _ in 0..buckets {
            for (index, hash) in self.hash_all(from, here, hashes).into_iter().enumerate() {
                if let Some(hash) = hash
                    && home(hash, buckets) == number
                {
                    let at = self.at(from, here, index);
                    let expires = self.expires(at);
                    let entry = self.remove(from, hash, at);
                    self.insert(to, hash, entry, expires);
                }
            }
            if !self.is_passed_over(from, here) {
                break;
            }
            here = after(here, buckets);
        }
        self.vacate_before(from, number + 1);
    }

    /// Moves all entries into another array.
    pub(super) fn move_all(&mut self, from: Array, to: Array, hashes: &KeyHash) {
        for number in 0..self.buckets(from) {
            for (index, hash) in self.hash_all(from, number, hashes).into_iter().enumerate() {
                let Some(hash) = hash else { continue };
                let at = self.at(from, number, index);
                let expires = self.expires(at);
                if let Some(entry) = self.bucket_mut(at).take(index) {
                    self.insert(to, hash, entry, expires);
                }
            }
        }
    }

    /// The hashes of a bucket's entries: together, so that memory serves the entries all at once.
    fn hash_all(
        &self,
        array: Array,
        number: usize,
        hashes: &KeyHash,
    ) -> [Option<u64>; BUCKET_ENTRIES] {
        let mut hashed = [None; BUCKET_ENTRIES];
        let Some(bucket) = self.bucket(array, number) else {
            return hashed;
        };
        for index in bucket.taken(false) {
            let entry = bucket.place(index).get();
            hashed[index] = entry.map(|entry| hashes.of(entry.key()));
        }
        hashed
    }

    /// Gives back the page that ends before bucket `end`, when nothing is in it or counted there.
    fn vacate_before(&mut self, array: Array, end: usize) {
        let store = &mut self.stores[usize::from(array.size.0)];
        if !store.has_whole_pages() || !end.is_multiple_of(PAGE_BUCKETS) {
            return;
        }
        let last = array.index as usize * store.buckets + end - 1;
        let page = store.row.page(last);
        if !page.is_empty() && page.iter().all(Bucket::is_blank) {
            store.row.vacate(last);
            self.bytes -= PAGE_BYTES;
        }
    }

    fn is_passed_over(&self, array: Array, number: usize) -> bool {
        self.bucket(array, number)
            .is_some_and(Bucket::is_passed_over)
    }

    #[inline]
    pub(super) fn at(&self, array: Array, number: usize, index: usize) -> At {
        let first = array.index as usize * self.buckets(array);
        At {
            size: array.size,
            index: index as u8,
            bucket: (first + number) as u32,
        }
    }

    /// Takes the entries of a bucket out, whoever passed over it; from the last bucket to the first.
    pub(super) fn empty_bucket(&mut self, array: Array, number: usize, mut f: impl FnMut(Entry)) {
        let at = self.at(array, number, 0);
        let store = &mut self.stores[usize::from(array.size.0)];
        if let Some(bucket) = store.row.get_mut(at.bucket as usize) {
            bucket.clear_overflow();
            for index in bucket.taken(false) {
                if let Some(entry) = bucket.take(index) {
                    f(entry);
                }
            }
        }
        if number.is_multiple_of(PAGE_BUCKETS) {
            self.vacate_before(array, number + PAGE_BUCKETS);
        }
    }
}

#[inline]
fn after(number: usize, buckets: usize) -> usize {
    if number + 1 == buckets { 0 } else { number + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_ascend_in_small_steps_and_hold_what_they_say() {
        for buckets in (1..5000).chain([70_000, 1_234_567]) {
            let size = SizeId::holding(buckets);
            let holds = size.buckets();
            assert!(
                holds >= buckets && holds <= buckets + buckets / 32,
                "{buckets}: {holds}"
            );
            assert_eq!(SizeId::holding(holds), size);
            assert!(SizeId(size.0 - 1).buckets() < buckets);
        }
        assert_eq!(SizeId::holding(0).buckets(), 0);
    }
}
