//! A table of names, each with a tail of bytes: the large form of hashes and sets, and a sorted set's scores.
//!
//! Sorted by a keyed hash. So a cursor is a place in hash order that growth does not move, an element is
//! picked at random by its position, and growing is splitting one leaf.

use std::cmp::Ordering;

use super::settings::Hasher;
use super::sorted::{Key, Record, Sorted};
use super::tree::Tree;

/// The top half of an element's hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HashPlace(pub(super) u32);

impl Key for HashPlace {
    const COMES_IN_ORDER: bool = false;
    const HAS_TAILS: bool = true;

    fn order(&self, other: &HashPlace) -> Ordering {
        self.cmp(other)
    }
}

/// Names with tails, in hash order.
#[derive(Clone)]
pub struct Table {
    hasher: Hasher,
    tree: Tree<Sorted<HashPlace>>,
}

impl Table {
    pub fn new(hasher: &Hasher) -> Table {
        Table {
            hasher: hasher.clone(),
            tree: Tree::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.tree.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    pub fn heap_bytes(&self) -> usize {
        self.tree.heap_bytes()
    }

    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.tree.tail(self.place(name), name)
    }

    pub fn contains(&self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    /// Gives `name` this tail; true when the name was not there.
    pub fn set(&mut self, name: &[u8], tail: &[u8]) -> bool {
        self.put(name, tail, |old| old.is_none())
    }

    /// Gives `name` this tail; `old` looks at the tail that it had.
    pub fn put<R>(&mut self, name: &[u8], tail: &[u8], old: impl FnOnce(Option<&[u8]>) -> R) -> R {
        self.tree.put(self.place(name), name, tail, old)
    }

    /// Takes `name` out; false when it was not there.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        self.tree.take_out(self.place(name), name)
    }

    /// Element `at` in hash order.
    pub fn at(&self, at: usize) -> (&[u8], &[u8]) {
        pair(self.tree.get(at))
    }

    /// The elements from `from` on, in hash order.
    pub fn iter_from(&self, from: usize) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.tree.iter_from(from).map(pair)
    }

    /// The names at one place.
    pub(super) fn names_at(&self, place: HashPlace) -> impl Iterator<Item = &[u8]> {
        let from = self.tree.count_keys(|other| *other < place);
        let here = self.tree.iter_from(from);
        here.take_while(move |record| record.key == place)
            .map(|record| record.name)
    }

    /// Shows about `count` elements from `cursor` on and returns the cursor that goes on; 0 begins and ends. Elements
    /// of one hash are shown together, so that whatever stays is shown however the table grows.
    pub fn scan<'a>(
        &'a self,
        cursor: u64,
        count: usize,
        mut show: impl FnMut(&'a [u8], &'a [u8]),
    ) -> u64 {
        let from = self.tree.count_keys(|place| u64::from(place.0) < cursor);
        let mut last = None;
        for (shown, record) in self.tree.iter_from(from).enumerate() {
            if shown >= count && last != Some(record.key) {
                return u64::from(record.key.0);
            }
            show(record.name, record.tail);
            last = Some(record.key);
        }
        0
    }

    /// Throws away about `limit` elements; true once nothing is left.
    pub fn free_some(&mut self, limit: usize) -> bool {
        self.tree.free_some(limit)
    }

    /// Where a name belongs, whether or not it is there.
    pub(super) fn place(&self, name: &[u8]) -> HashPlace {
        HashPlace((self.hasher.hash(name) >> 32) as u32)
    }
}

fn pair(record: Record<'_, HashPlace>) -> (&[u8], &[u8]) {
    (record.name, record.tail)
}

#[cfg(test)]
impl Table {
    pub(super) fn survey(&self) -> (usize, usize) {
        self.tree.survey()
    }
}
