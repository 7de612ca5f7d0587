//! The table of one slot: entries in buckets of one cache line, in the order of their hashes.
//!
//! 1. Bucket `h * n >> 64` is the home of hash `h`: buckets ascend with the hash whatever their number `n` is. A *place* is
//!    a hash; whoever walks from a place meets exactly the keys with that hash or a greater one, across any growth between two steps.
//! 2. A bucket has 7 entries with one tag byte each (7 bits of the hash, 1 bit for "expires") and a count of the entries that passed over
//!    it because it was full. Such an entry lies in one of the next buckets (around the end to the first); a search goes
//!    on only while that count is not 0.
//! 3. A table that is too full or too empty gets a second array. Each insertion and removal then moves a few old buckets, in order,
//!    so all hashes below `Growth::place` live in the new array and all others in the old one: a search looks into one of them.
//!
//! Knows neither time nor what an entry holds, apart from its key.

use crate::entry::Entry;
use crate::key_hash::KeyHash;
use crate::size_class::{aligned_class, size_class};

const BUCKET_ENTRIES: usize = 7;
/// Old buckets moved by one insertion or removal.
const MOVED_PER_CHANGE: usize = 4;
/// Tables with at most so many buckets are grown in one go.
const SMALL_BUCKETS_MAX: usize = 16;
/// Fill at which a table grows, in 64ths of its entries' places.
const FULL_64THS: usize = 58;
/// Fill that a table is given when it grows or shrinks, at least.
const COMFORTABLE_64THS: usize = 42;
/// Chance adds to it when a table grows: were all slots' tables to grow at the same fill and by as much, they would do so all at once.
const COMFORTABLE_SPREAD_64THS: usize = 11;
/// Fill below which it shrinks.
const SPARSE_64THS: usize = 18;

const TAG_BITS: u64 = 0x007f_7f7f_7f7f_7f7f;
const EXPIRES_BIT: u8 = 0x80;
/// A count that stays: so many entries passed over the bucket that nobody counts them any more.
const OVERFLOW_STICKY: u8 = u8::MAX;

#[repr(C, align(64))]
struct Bucket {
    /// 0 is an empty place.
    tags: [u8; BUCKET_ENTRIES],
    overflow: u8,
    entries: [Option<Entry>; BUCKET_ENTRIES],
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    const fn empty() -> Bucket {
        Bucket {
            tags: [0; BUCKET_ENTRIES],
            overflow: 0,
            entries: [const { None }; BUCKET_ENTRIES],
        }
    }

    #[inline]
    fn word(&self) -> u64 {
        let [a, b, c, d, e, f, g] = self.tags;
        u64::from_le_bytes([a, b, c, d, e, f, g, 0])
    }

    /// Places whose tag is `tag`, one bit each (the highest of their byte).
    #[inline]
    fn matches(&self, tag: u8) -> u64 {
        let differing = (self.word() & TAG_BITS) ^ (u64::from(tag) * 0x0001_0101_0101_0101);
        !(differing + TAG_BITS) & !TAG_BITS & 0x0080_8080_8080_8080
    }

    fn free_place(&self) -> Option<usize> {
        let free = self.matches(0);
        (free != 0).then(|| free.trailing_zeros() as usize / 8)
    }

    fn pass_over(&mut self) {
        self.overflow = self.overflow.saturating_add(1);
    }

    fn pass_back(&mut self) {
        if self.overflow != OVERFLOW_STICKY {
            self.overflow -= 1;
        }
    }
}

#[inline]
fn tag_of(hash: u64) -> u8 {
    (hash as u8 & !EXPIRES_BIT).max(1)
}

#[inline]
fn home(hash: u64, buckets: usize) -> usize {
    ((u128::from(hash) * buckets as u128) >> 64) as usize
}

/// The first hash whose home is bucket `index` of `buckets`; `None` past the last.
fn first_hash(index: usize, buckets: usize) -> Option<u64> {
    let scaled = (index as u128) << 64;
    u64::try_from(scaled.div_ceil(buckets as u128)).ok()
}

/// Buckets of one array; the operations of step 2.
#[derive(Default)]
struct Array {
    buckets: Box<[Bucket]>,
}

impl Array {
    fn new(buckets: usize) -> Array {
        Array {
            buckets: std::iter::repeat_with(Bucket::empty)
                .take(buckets)
                .collect(),
        }
    }

    #[inline]
    fn len(&self) -> usize {
        self.buckets.len()
    }

    fn bytes(&self) -> usize {
        match self.len() {
            0 => 0,
            len => aligned_class::<{ align_of::<Bucket>() }>(len * size_of::<Bucket>()),
        }
    }

    #[inline]
    fn after(&self, bucket: usize) -> usize {
        if bucket + 1 == self.len() {
            0
        } else {
            bucket + 1
        }
    }

    #[inline]
    fn find(&self, hash: u64, key: &[u8]) -> Option<(usize, usize)> {
        if self.buckets.is_empty() {
            return None;
        }
        let tag = tag_of(hash);
        let mut at = home(hash, self.len());
        for _ in 0..self.len() {
            let bucket = &self.buckets[at];
            let mut matches = bucket.matches(tag);
            while matches != 0 {
                let index = matches.trailing_zeros() as usize / 8;
                if let Some(entry) = &bucket.entries[index]
                    && entry.key() == key
                {
                    return Some((at, index));
                }
                matches &= matches - 1;
            }
            if bucket.overflow == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// The caller has made sure that a place is free.
    fn insert(&mut self, hash: u64, entry: Entry, expires: bool) -> (usize, usize) {
        let mut at = home(hash, self.len());
        loop {
            let after = self.after(at);
            let bucket = &mut self.buckets[at];
            if let Some(index) = bucket.free_place() {
                bucket.tags[index] = tag_of(hash) | if expires { EXPIRES_BIT } else { 0 };
                bucket.entries[index] = Some(entry);
                return (at, index);
            }
            bucket.pass_over();
            at = after;
        }
    }

    fn remove(&mut self, hash: u64, (at, index): (usize, usize)) -> Entry {
        let mut passed = home(hash, self.len());
        while passed != at {
            self.buckets[passed].pass_back();
            passed = self.after(passed);
        }
        let bucket = &mut self.buckets[at];
        bucket.tags[index] = 0;
        bucket.entries[index]
            .take()
            .expect("a place that was found holds an entry")
    }

    /// Calls `f` with the place of every entry whose home is `bucket`, with its hash.
    fn residents(&self, bucket: usize, hashes: &KeyHash, mut f: impl FnMut((usize, usize), u64)) {
        let mut at = bucket;
        for _ in 0..self.len() {
            let here = &self.buckets[at];
            for (index, entry) in here.entries.iter().enumerate() {
                if let Some(entry) = entry {
                    let hash = hashes.of(entry.key());
                    if home(hash, self.len()) == bucket {
                        f((at, index), hash);
                    }
                }
            }
            if here.overflow == 0 {
                return;
            }
            at = self.after(at);
        }
    }
}

/// A second array on its way out.
struct Growth {
    old: Array,
    /// Old buckets whose residents have all moved.
    moved: usize,
    /// Hashes below live in the new array.
    place: u64,
}

/// Where an entry lies; true until the table is changed.
#[derive(Clone, Copy)]
pub(crate) struct At {
    old: bool,
    bucket: usize,
    index: usize,
}

/// The keys of one slot.
#[derive(Default)]
pub(crate) struct Table {
    array: Array,
    keys: u32,
    expiring: u32,
    growth: Option<Box<Growth>>,
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.keys as usize
    }

    /// Keys that have an expiry.
    pub(crate) fn expiring(&self) -> usize {
        self.expiring as usize
    }

    /// Bytes of the arrays.
    pub(crate) fn bytes(&self) -> usize {
        let old = self.growth.as_ref().map_or(0, |growth| {
            growth.old.bytes() + size_class(size_of::<Growth>())
        });
        self.array.bytes() + old
    }

    pub(crate) fn is_growing(&self) -> bool {
        self.growth.is_some()
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64, key: &[u8]) -> Option<At> {
        let (old, array) = match &self.growth {
            Some(growth) if hash >= growth.place => (true, &growth.old),
            Some(_) | None => (false, &self.array),
        };
        let (bucket, index) = array.find(hash, key)?;
        Some(At { old, bucket, index })
    }

    /// Reads the table itself.
    #[inline]
    pub(crate) fn touch(&self) -> u64 {
        u64::from(self.keys)
    }

    /// Reads the home of `hash`.
    #[inline]
    pub(crate) fn touch_home(&self, hash: u64) -> u64 {
        let buckets = &self.array.buckets;
        if buckets.is_empty() {
            return 0;
        }
        buckets[home(hash, buckets.len())].word()
    }

    /// Reads the first bytes of an entry at the home of `hash` that may be the one searched for.
    #[inline]
    pub(crate) fn touch_entry(&self, hash: u64) -> u64 {
        let buckets = &self.array.buckets;
        if buckets.is_empty() {
            return 0;
        }
        let bucket = &buckets[home(hash, buckets.len())];
        let matches = bucket.matches(tag_of(hash));
        if matches == 0 {
            return 0;
        }
        let entry = &bucket.entries[matches.trailing_zeros() as usize / 8];
        entry.as_ref().map_or(0, |entry| u64::from(entry.access()))
    }

    #[inline]
    pub(crate) fn entry(&self, at: At) -> &Entry {
        let array = match &self.growth {
            Some(growth) if at.old => &growth.old,
            Some(_) | None => &self.array,
        };
        array.buckets[at.bucket].entries[at.index]
            .as_ref()
            .expect("a place that was found holds an entry")
    }

    #[inline]
    fn bucket_mut(&mut self, at: At) -> &mut Bucket {
        let array = match &mut self.growth {
            Some(growth) if at.old => &mut growth.old,
            Some(_) | None => &mut self.array,
        };
        &mut array.buckets[at.bucket]
    }

    #[inline]
    pub(crate) fn entry_mut(&mut self, at: At) -> &mut Entry {
        self.bucket_mut(at).entries[at.index]
            .as_mut()
            .expect("a place that was found holds an entry")
    }

    /// True when the tag of the entry says that it expires; kept by [`Table::mark_expiring`].
    #[inline]
    pub(crate) fn is_expiring(&self, at: At) -> bool {
        let array = match &self.growth {
            Some(growth) if at.old => &growth.old,
            Some(_) | None => &self.array,
        };
        array.buckets[at.bucket].tags[at.index] & EXPIRES_BIT != 0
    }

    /// Says whether the entry has an expiry, after it was given or lost one.
    pub(crate) fn mark_expiring(&mut self, at: At, expires: bool) {
        let tag = &mut self.bucket_mut(at).tags[at.index];
        let before = *tag & EXPIRES_BIT != 0;
        if before != expires {
            *tag ^= EXPIRES_BIT;
            if expires {
                self.expiring += 1;
            } else {
                self.expiring -= 1;
            }
        }
    }

    /// Adds a key that is not in the table.
    pub(crate) fn insert(&mut self, hash: u64, entry: Entry, hashes: &KeyHash) -> At {
        self.advance(MOVED_PER_CHANGE, hashes);
        self.make_place(hash, hashes);
        let expires = entry.expires().is_some();
        self.keys += 1;
        self.expiring += u32::from(expires);
        let (old, array) = match &mut self.growth {
            Some(growth) if hash >= growth.place => (true, &mut growth.old),
            Some(_) | None => (false, &mut self.array),
        };
        let (bucket, index) = array.insert(hash, entry, expires);
        At { old, bucket, index }
    }

    /// Takes the entry at a place that was found.
    pub(crate) fn remove(&mut self, hash: u64, at: At, hashes: &KeyHash) -> Entry {
        let expires = self.is_expiring(at);
        let array = match &mut self.growth {
            Some(growth) if at.old => &mut growth.old,
            Some(_) | None => &mut self.array,
        };
        let entry = array.remove(hash, (at.bucket, at.index));
        self.keys -= 1;
        self.expiring -= u32::from(expires);
        self.shrink_when_sparse();
        self.advance(MOVED_PER_CHANGE, hashes);
        entry
    }

    /// Makes the table large enough for `keys`, when it is empty: an import knows what is coming.
    pub(crate) fn reserve(&mut self, keys: usize) {
        if self.keys == 0 && self.growth.is_none() {
            self.array = Array::new(buckets_for(keys, COMFORTABLE_64THS));
        }
    }

    fn make_place(&mut self, hash: u64, hashes: &KeyHash) {
        let fill = self.keys as usize * 64;
        let full = fill >= self.array.len() * BUCKET_ENTRIES * FULL_64THS;
        if !full {
            return;
        }
        // A growth under way has always ended by the time that its new array is full: each insertion moves more than its share.
        // Were it not so, it would end here.
        self.advance(usize::MAX, hashes);
        // Low bits of the hash: they have no part in where a key lies.
        let chance = (hash >> 8) as usize % COMFORTABLE_SPREAD_64THS;
        let buckets = buckets_for(self.keys as usize + 1, COMFORTABLE_64THS + chance);
        self.resize(buckets.max(self.array.len() + 1));
        self.advance(0, hashes);
    }

    fn shrink_when_sparse(&mut self) {
        if self.keys == 0 {
            self.array = Array::default();
            self.growth = None;
        } else if self.growth.is_none()
            && self.keys as usize * 64 < self.array.len() * BUCKET_ENTRIES * SPARSE_64THS
        {
            let buckets = buckets_for(self.keys as usize, COMFORTABLE_64THS);
            if buckets < self.array.len() {
                self.resize(buckets);
            }
        }
    }

    fn resize(&mut self, buckets: usize) {
        let old = std::mem::replace(&mut self.array, Array::new(buckets));
        if old.len() > 0 {
            self.growth = Some(Box::new(Growth {
                old,
                moved: 0,
                place: 0,
            }));
        }
    }

    /// Moves up to `buckets` old buckets (a small table all at once). True while there are more.
    pub(crate) fn advance(&mut self, buckets: usize, hashes: &KeyHash) -> bool {
        let Some(growth) = &mut self.growth else {
            return false;
        };
        let old = &mut growth.old;
        let budget = if old.len() <= SMALL_BUCKETS_MAX {
            old.len()
        } else {
            buckets.min(old.len() - growth.moved)
        };
        for bucket in growth.moved..(growth.moved + budget).min(old.len()) {
            // One at a time, since each removal changes what the next search passes over.
            loop {
                let mut found = None;
                old.residents(bucket, hashes, |at, hash| found = Some((at, hash)));
                let Some((at, hash)) = found else { break };
                let expires = old.buckets[at.0].tags[at.1] & EXPIRES_BIT != 0;
                let entry = old.remove(hash, at);
                self.array.insert(hash, entry, expires);
            }
        }
        growth.moved = (growth.moved + budget).min(old.len());
        match first_hash(growth.moved, growth.old.len()) {
            Some(place) => {
                growth.place = place;
                true
            }
            None => {
                self.growth = None;
                false
            }
        }
    }

    /// Calls `f` with the entries from hash `from` on, at least until `limit` of them were met (buckets are never cut), and returns
    /// the place to go on from; `None` at the end.
    pub(crate) fn walk(
        &self,
        from: u64,
        limit: usize,
        hashes: &KeyHash,
        mut f: impl FnMut(At, u64, &Entry),
    ) -> Option<u64> {
        let mut place = from;
        let mut met = 0;
        let mut steps = limit.saturating_mul(4).max(16);
        if self.keys == 0 {
            return None;
        }
        while met < limit && steps > 0 {
            steps -= 1;
            let (old, array, end) = match &self.growth {
                Some(growth) if place >= growth.place => (true, &growth.old, None),
                Some(growth) => (false, &self.array, Some(growth.place)),
                None => (false, &self.array, None),
            };
            let home_bucket = home(place, array.len());
            array.residents(home_bucket, hashes, |(bucket, index), hash| {
                if hash >= place
                    && let Some(entry) = &array.buckets[bucket].entries[index]
                {
                    met += 1;
                    f(At { old, bucket, index }, hash, entry);
                }
            });
            let next = first_hash(home_bucket + 1, array.len());
            place = match (next, end) {
                (Some(next), Some(end)) => next.min(end),
                (Some(only), None) | (None, Some(only)) => only,
                (None, None) => return None,
            };
        }
        Some(place)
    }

    /// The entries that lie in the buckets from hash `from` on, without hashing them, in no exact order: for sampling. Entries without
    /// expiry are passed over when `expiring_only`. Returns the place to go on from.
    pub(crate) fn sample(
        &self,
        from: u64,
        limit: usize,
        expiring_only: bool,
        mut f: impl FnMut(At, &Entry),
    ) -> Option<u64> {
        let mut place = from;
        let mut met = 0;
        let mut steps = limit.saturating_mul(4).max(16);
        if self.keys == 0 || (expiring_only && self.expiring == 0) {
            return None;
        }
        while met < limit && steps > 0 {
            steps -= 1;
            let (old, array, end) = match &self.growth {
                Some(growth) if place >= growth.place => (true, &growth.old, None),
                Some(growth) => (false, &self.array, Some(growth.place)),
                None => (false, &self.array, None),
            };
            let bucket = home(place, array.len());
            let here = &array.buckets[bucket];
            for (index, entry) in here.entries.iter().enumerate() {
                if let Some(entry) = entry
                    && (!expiring_only || here.tags[index] & EXPIRES_BIT != 0)
                {
                    met += 1;
                    f(At { old, bucket, index }, entry);
                }
            }
            let next = first_hash(bucket + 1, array.len());
            place = match (next, end) {
                (Some(next), Some(end)) => next.min(end),
                (Some(only), None) | (None, Some(only)) => only,
                (None, None) => return None,
            };
        }
        Some(place)
    }

    /// The table's entries, to be dropped bit by bit.
    pub(crate) fn into_remains(self) -> Remains {
        let old = self.growth.map(|growth| growth.old.buckets.into_vec());
        Remains {
            arrays: [Some(self.array.buckets.into_vec()), old]
                .into_iter()
                .flatten()
                .collect(),
        }
    }
}

/// What is left of a table that nobody uses any more.
pub(crate) struct Remains {
    arrays: Vec<Vec<Bucket>>,
}

impl Remains {
    /// Bytes of the arrays, which are freed as they run empty.
    pub(crate) fn bytes(&self) -> usize {
        self.arrays
            .iter()
            .filter(|array| array.capacity() > 0)
            .map(|array| {
                aligned_class::<{ align_of::<Bucket>() }>(array.capacity() * size_of::<Bucket>())
            })
            .sum()
    }

    /// Gives up to about `limit` entries to `f`; false when none are left.
    pub(crate) fn drain_some(&mut self, limit: usize, mut f: impl FnMut(Entry)) -> bool {
        let mut taken = 0;
        while let Some(array) = self.arrays.last_mut() {
            while let Some(mut bucket) = array.pop() {
                // An empty bucket is work, too.
                taken += 1;
                for entry in bucket.entries.iter_mut().filter_map(Option::take) {
                    taken += 1;
                    f(entry);
                }
                if taken >= limit {
                    return true;
                }
            }
            self.arrays.pop();
        }
        false
    }
}

/// Buckets for `keys` at a fill, as many as the allocator gives anyway.
fn buckets_for(keys: usize, fill_64ths: usize) -> usize {
    const BYTES: usize = size_of::<Bucket>();
    let buckets = (keys * 64).div_ceil(BUCKET_ENTRIES * fill_64ths).max(1);
    let class = aligned_class::<{ align_of::<Bucket>() }>(buckets * BYTES);
    let most = class / BYTES;
    if aligned_class::<{ align_of::<Bucket>() }>(most * BYTES) == class {
        most
    } else {
        // Its last bytes are what aligning the first bucket takes.
        most - 1
    }
}
