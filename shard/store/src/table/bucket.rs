//! One cache line of a table: nine entries, a tag byte for each, and how many passed over it.

use crate::entry::{Entry, EntryPlace};

pub(super) const BUCKET_ENTRIES: usize = 9;

pub(super) const EXPIRES_BIT: u8 = 0x80;
/// A count that stays: so many entries passed over the bucket that nobody counts them any more.
const OVERFLOW_STICKY: u8 = u8::MAX;

const TAG_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const EACH_BYTE: u64 = 0x0101_0101_0101_0101;
/// Times this, the lowest bit of each byte of a word is in its highest byte.
const GATHER: u64 = 0x0102_0408_1020_4080;

#[repr(C, align(64))]
pub(super) struct Bucket {
    /// 7 bits of the hash, never all 0 of them, and a bit that says that the entry expires; 0 is an empty place.
    tags: [u8; BUCKET_ENTRIES],
    overflow: u8,
    entries: [EntryPlace; BUCKET_ENTRIES],
}

const _: () = assert!(size_of::<Bucket>() == 64);

#[inline]
pub(super) fn tag_of(hash: u64) -> u8 {
    (hash as u8 & !EXPIRES_BIT).max(1)
}

/// Places of a bucket, one bit each.
#[derive(Clone, Copy)]
pub(super) struct Places(u32);

impl Iterator for Places {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let at = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        (at < BUCKET_ENTRIES).then_some(at)
    }
}

impl Bucket {
    pub(super) const fn empty() -> Bucket {
        Bucket {
            tags: [0; BUCKET_ENTRIES],
            overflow: 0,
            entries: [EntryPlace::EMPTY; BUCKET_ENTRIES],
        }
    }

    /// The first eight tags.
    #[inline]
    pub(super) fn word(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, _] = self.tags;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// Places whose tag is `tag`, whether they expire or not.
    #[inline]
    pub(super) fn matches(&self, tag: u8) -> Places {
        let differing = (self.word() & TAG_BITS) ^ (u64::from(tag) * EACH_BYTE);
        let equal = !(differing + TAG_BITS) & !TAG_BITS;
        let first = (equal >> 7).wrapping_mul(GATHER) >> 56;
        let last = self.tags[BUCKET_ENTRIES - 1] & !EXPIRES_BIT == tag;
        Places(first as u32 | u32::from(last) << 8)
    }

    /// Places that hold an entry; those of entries that expire alone when `expiring_only`.
    #[inline]
    pub(super) fn taken(&self, expiring_only: bool) -> Places {
        let mut places = 0;
        for (at, tag) in self.tags.iter().enumerate() {
            let wanted = if expiring_only {
                tag & EXPIRES_BIT != 0
            } else {
                *tag != 0
            };
            places |= u32::from(wanted) << at;
        }
        Places(places)
    }

    pub(super) fn free_place(&self) -> Option<usize> {
        self.matches(0).next()
    }

    #[inline]
    pub(super) fn place(&self, at: usize) -> &EntryPlace {
        &self.entries[at]
    }

    #[inline]
    pub(super) fn place_mut(&mut self, at: usize) -> &mut EntryPlace {
        &mut self.entries[at]
    }

    #[inline]
    pub(super) fn expires(&self, at: usize) -> bool {
        self.tags[at] & EXPIRES_BIT != 0
    }

    pub(super) fn set_expires(&mut self, at: usize, expires: bool) {
        let bit = if expires { EXPIRES_BIT } else { 0 };
        self.tags[at] = self.tags[at] & !EXPIRES_BIT | bit;
    }

    pub(super) fn put(&mut self, at: usize, hash: u64, entry: Entry, expires: bool) {
        self.entries[at].put(entry);
        self.tags[at] = tag_of(hash);
        self.set_expires(at, expires);
    }

    pub(super) fn take(&mut self, at: usize) -> Option<Entry> {
        self.tags[at] = 0;
        self.entries[at].take()
    }

    /// True when entries that belong here may lie further on.
    #[inline]
    pub(super) fn is_passed_over(&self) -> bool {
        self.overflow != 0
    }

    /// True when it is as it was at first.
    pub(super) fn is_blank(&self) -> bool {
        self.overflow == 0 && self.tags == [0; BUCKET_ENTRIES]
    }

    pub(super) fn pass_over(&mut self) {
        self.overflow = self.overflow.saturating_add(1);
    }

    pub(super) fn pass_back(&mut self) {
        if self.overflow != OVERFLOW_STICKY {
            self.overflow -= 1;
        }
    }

    /// Forgets who passed over it.
    pub(super) fn clear_overflow(&mut self) {
        self.overflow = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Content;

    #[test]
    fn matches_are_the_places_of_a_tag_and_no_others() {
        for taken in 0..1_u32 << BUCKET_ENTRIES {
            let mut bucket = Bucket::empty();
            for at in (0..BUCKET_ENTRIES).filter(|at| taken >> at & 1 != 0) {
                // Three tags, some of them neighbours in value.
                let hash = [1, 2, 0x7f][at % 3];
                let entry = Entry::new(b"k", Content::Int(at as i64), None, 0);
                bucket.put(at, hash, entry, at % 2 == 0);
            }
            for (which, tag) in [1, 2, 0x7f].into_iter().enumerate() {
                let found: Vec<usize> = bucket.matches(tag).collect();
                let there = (0..BUCKET_ENTRIES).filter(|at| taken >> at & 1 != 0);
                let expected: Vec<usize> = there.filter(|at| at % 3 == which).collect();
                assert_eq!(found, expected);
            }
            let free = (0..BUCKET_ENTRIES).find(|at| taken >> at & 1 == 0);
            assert_eq!(bucket.free_place(), free);
            let all = bucket.taken(false).count();
            assert_eq!(all as u32, taken.count_ones());
            assert!(bucket.taken(true).all(|at| at % 2 == 0));
        }
    }
}
