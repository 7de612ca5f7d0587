//! A set of integers in one sorted buffer, all of the width that the widest needs.
//!
//! The layout is that of Redis' intset, little-endian, so that a dump is its header and this buffer.

use super::mem;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntSet {
    /// Bytes an integer: 2, 4 or 8.
    width: usize,
    bytes: Vec<u8>,
}

impl Default for IntSet {
    fn default() -> IntSet {
        IntSet {
            width: 2,
            bytes: Vec::new(),
        }
    }
}

impl IntSet {
    pub fn new() -> IntSet {
        IntSet::default()
    }

    /// A dump's intset: `<width u32><count u32>` and the integers; `None` when it is malformed or not sorted.
    pub fn from_intset(blob: &[u8]) -> Option<IntSet> {
        let width = u32::from_le_bytes(blob.get(..4)?.try_into().ok()?) as usize;
        let count = u32::from_le_bytes(blob.get(4..8)?.try_into().ok()?) as usize;
        if !matches!(width, 2 | 4 | 8) || count.checked_mul(width)? != blob.len() - 8 || count == 0
        {
            return None;
        }
        let set = IntSet {
            width,
            bytes: blob[8..].to_vec(),
        };
        let sorted = (1..set.len()).all(|at| set.at(at - 1) < set.at(at));
        sorted.then_some(set)
    }

    /// The set as a dump has it.
    pub fn write_intset(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.width as u32).to_le_bytes());
        out.extend_from_slice(&(self.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.bytes);
    }

    /// Bytes that [`IntSet::write_intset`] writes.
    pub fn intset_len(&self) -> usize {
        8 + self.bytes.len()
    }

    pub fn len(&self) -> usize {
        self.bytes.len() / self.width
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn heap_bytes(&self) -> usize {
        mem::vec(&self.bytes)
    }

    /// Integer `at` in order of size.
    pub fn at(&self, at: usize) -> i64 {
        let bytes = &self.bytes[at * self.width..(at + 1) * self.width];
        let mut wide = [0; 8];
        wide[8 - self.width..].copy_from_slice(bytes);
        i64::from_le_bytes(wide) >> (64 - 8 * self.width)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = i64> {
        (0..self.len()).map(|at| self.at(at))
    }

    pub fn contains(&self, value: i64) -> bool {
        self.find(value).is_ok()
    }

    /// False when it was there.
    pub fn insert(&mut self, value: i64) -> bool {
        let width = width_of(value);
        if width > self.width {
            self.widen(width);
        }
        let Err(at) = self.find(value) else {
            return false;
        };
        let (at, len) = (at * self.width, self.bytes.len());
        mem::reserve(&mut self.bytes, self.width);
        self.bytes.resize(len + self.width, 0);
        self.bytes.copy_within(at..len, at + self.width);
        self.bytes[at..at + self.width].copy_from_slice(&value.to_le_bytes()[..self.width]);
        true
    }

    /// False when it was not there.
    pub fn remove(&mut self, value: i64) -> bool {
        let Ok(at) = self.find(value) else {
            return false;
        };
        self.bytes.drain(at * self.width..(at + 1) * self.width);
        mem::give_back(&mut self.bytes);
        true
    }

    fn find(&self, value: i64) -> Result<usize, usize> {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from + (to - from) / 2;
            match self.at(middle).cmp(&value) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(from)
    }

    fn widen(&mut self, width: usize) {
        let mut wide = Vec::with_capacity(mem::good_size((self.len() + 1) * width));
        for value in self.iter() {
            wide.extend_from_slice(&value.to_le_bytes()[..width]);
        }
        self.width = width;
        self.bytes = wide;
    }
}

fn width_of(value: i64) -> usize {
    if i16::try_from(value).is_ok() {
        2
    } else if i32::try_from(value).is_ok() {
        4
    } else {
        8
    }
}
