//! Arrays of buckets of all sizes, each size packed: what is given back leaves no hole.
//!
//! 1. A size has a store: a row of pages in which its arrays lie one after the other, across the pages' borders. When one is given back, the last of
//!    its size moves into its place, and the row ends a page earlier when it can. So a table takes what its buckets take, and nothing stays behind of sizes that
//!    tables have grown out of. An array of whole pages takes them as entries come to them, and gives them back as they run empty.
//! 2. Whoever has an array is told when it moves: an [`Owner`] stands beside it, and [`Arrays::give`] says whose array is elsewhere.
//!
//! Within an array: bucket `h * n >> 64` is the home of hash `h`. An entry whose home is full lies in one of the next buckets (around the end to
//! the first); a search goes on only while the bucket says that entries passed over it.

use super::bucket::{BUCKET_ENTRIES, Bucket, tag_of};
use super::owner::{Deed, Owner};
use super::size::SizeId;
use crate::entry::{Entry, EntryMut, EntryRef, PAGE_BYTES, Pages};
use crate::key_hash::KeyHash;
use crate::size_class::size_class;

const PAGE_BUCKETS: usize = PAGE_BYTES / size_of::<Bucket>();

/// One array; true until it is given back, or moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Array {
    pub(super) size: SizeId,
    /// Which of its size.
    pub(super) index: u32,
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
        match self.stores.get(array.size.number()) {
            Some(store) => store.buckets,
            None => 0,
        }
    }

    /// An array with nothing in it.
    pub(super) fn take(&mut self, size: SizeId, owner: Owner) -> Array {
        while self.stores.len() <= size.number() {
            self.stores.push(Store {
                buckets: SizeId::of_number(self.stores.len()).buckets(),
                row: Pages::default(),
                owners: Vec::new(),
            });
        }
        let store = &mut self.stores[size.number()];
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
        let store = &mut self.stores[array.size.number()];
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
        self.stores[array.size.number()].owners[array.index as usize] = Deed::new(owner);
    }

    #[inline]
    pub(super) fn home_of(&self, array: Array, hash: u64) -> usize {
        home(hash, self.buckets(array))
    }

    /// A bucket by its number in its array; `None` where nothing was put yet.
    #[inline]
    pub(super) fn bucket(&self, array: Array, number: usize) -> Option<&Bucket> {
        let store = self.stores.get(array.size.number())?;
        if number >= store.buckets {
            return None;
        }
        store.row.get(array.index as usize * store.buckets + number)
    }

    /// The home of a hash.
    #[inline]
    pub(super) fn home_bucket(&self, array: Array, hash: u64) -> Option<&Bucket> {
        let store = self.stores.get(array.size.number())?;
        if store.buckets == 0 {
            return None;
        }
        let first = array.index as usize * store.buckets;
        store.row.get(first + home(hash, store.buckets))
    }

    #[inline]
    pub(super) fn find(&self, array: Array, hash: u64, key: &[u8]) -> Option<(At, EntryRef<'_>)> {
        let store = self.stores.get(array.size.number())?;
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
                    let at = At {
                        size: array.size,
                        index: index as u8,
                        bucket: at as u32,
                    };
                    return Some((at, entry));
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
        let store = &self.stores[at.size.number()];
        let bucket = store.row.get(at.bucket as usize);
        bucket
            .and_then(|bucket| bucket.place(at.index.into()).get())
            .expect("a place that was found holds an entry")
    }

    #[inline]
    pub(super) fn update_access(
        &mut self,
        at: At,
        change: impl FnOnce(u32) -> u32,
    ) -> EntryRef<'_> {
        self.bucket_mut(at)
            .place_mut(at.index.into())
            .update_access(change)
            .expect("a place that was found holds an entry")
    }

    #[inline]
    fn bucket_mut(&mut self, at: At) -> &mut Bucket {
        let store = &mut self.stores[at.size.number()];
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
        let store = &self.stores[at.size.number()];
        let bucket = store.row.get(at.bucket as usize);
        bucket.is_some_and(|bucket| bucket.expires(at.index.into()))
    }

    pub(super) fn set_expires(&mut self, at: At, expires: bool) {
        self.bucket_mut(at)
            .set_expires(usize::from(at.index), expires);
    }

    /// The caller has made sure that a place is free.
    pub(super) fn insert(&mut self, array: Array, hash: u64, entry: Entry, expires: bool) -> At {
        let store = &mut self.stores[array.size.number()];
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
        let store = &mut self.stores[array.size.number()];
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
        let store = &mut self.stores[array.size.number()];
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
        let store = &mut self.stores[array.size.number()];
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
