//! A leaf whose elements are sorted by a key, then by name: a table's by hash, a sorted set's by score.
//!
//! Keys lie in an array of their own that a search reads; names and what hangs on them (a hash's value, a member's score) lie
//! one after the other in a log. Replacing writes to the log's end; the log is written afresh once a
//! third of it is dead.

use std::cmp::Ordering;
use std::ops::Range;

use super::mem;
use super::starts::Starts;
use super::tree::{First, Leaf, Side, Tree};

/// Most elements of a leaf.
const ELEMENTS_MAX: usize = 128;
/// Bytes of log from which on a leaf of several elements is split.
const LOG_BYTES_MAX: usize = 16 * 1024;

/// What elements are sorted by before their names are looked at.
pub trait Key: Copy + Default {
    /// Elements often come in order, so that a leaf filled from one end is best left full.
    const COMES_IN_ORDER: bool;
    /// Something hangs on names; else records have no tails.
    const HAS_TAILS: bool;

    fn order(&self, other: &Self) -> Ordering;
}

/// One element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a, K> {
    pub key: K,
    pub name: &'a [u8],
    pub tail: &'a [u8],
}

/// What lies beside an element that was just put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Elements with other keys.
    Others,
    /// At least one element with the same key.
    Alike,
    /// The end of its leaf: another leaf would know.
    LeafEnd,
}

/// Elements sorted by key and name.
#[derive(Clone, Default)]
pub struct Sorted<K> {
    keys: Vec<K>,
    /// Where each element's record starts in the log.
    starts: Starts,
    /// `<name's length><tail's length><name><tail>`, lengths seven bits a byte; without tails `<name's length><name>`.
    log: Vec<u8>,
    dead_bytes: usize,
}

impl<K: Key> Sorted<K> {
    pub fn get(&self, index: usize) -> Record<'_, K> {
        let (name, tail) = self.spans(index);
        Record {
            key: self.keys[index],
            name: &self.log[name],
            tail: &self.log[tail],
        }
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Record<'_, K>> + ExactSizeIterator {
        (0..self.keys.len()).map(|index| self.get(index))
    }

    /// Where the element is, or else where it would go.
    pub fn find(&self, key: &K, name: &[u8]) -> Result<usize, usize> {
        let first = self.keys.partition_point(|k| k.order(key).is_lt());
        let is_tie = |at: usize| self.keys.get(at).is_some_and(|k| k.order(key).is_eq());
        if !is_tie(first) {
            return Err(first);
        }
        // One tie is what hashes have, many are what scores have.
        let ties = if is_tie(first + 1) {
            self.keys[first..].partition_point(|k| k.order(key).is_eq())
        } else {
            1
        };
        let (mut from, mut to) = (first, first + ties);
        while from < to {
            let middle = from + (to - from) / 2;
            match self.log[self.spans(middle).0].cmp(name) {
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(from)
    }

    /// How many elements come first with keys that `before` is true of.
    pub fn count_keys(&self, before: impl Fn(&K) -> bool) -> usize {
        self.keys.partition_point(before)
    }

    /// How many elements come first that `before` is true of.
    pub fn count(&self, before: impl Fn(Record<'_, K>) -> bool) -> usize {
        let (mut from, mut to) = (0, self.keys.len());
        while from < to {
            let middle = from + (to - from) / 2;
            if before(self.get(middle)) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }

    /// The last element has this name.
    pub fn ends_with(&self, name: &[u8]) -> bool {
        let last = self.keys.len().checked_sub(1);
        last.is_some_and(|last| self.get(last).name == name)
    }

    /// What lies beside element `index`. (Its leaf starts at most with itself, so what comes before is here unless nothing does.)
    fn beside(&self, index: usize) -> Beside {
        let alike = |other: usize| self.keys[other].order(&self.keys[index]).is_eq();
        if index > 0 && alike(index - 1) {
            return Beside::Alike;
        }
        match index + 1 {
            after if after == self.keys.len() => Beside::LeafEnd,
            after if alike(after) => Beside::Alike,
            _ => Beside::Others,
        }
    }

    pub fn insert(&mut self, index: usize, key: K, name: &[u8], tail: &[u8]) {
        let start = self.write(name, tail);
        mem::reserve(&mut self.keys, 1);
        self.keys.insert(index, key);
        self.starts.insert(index, start);
    }

    /// Gives element `index` another tail.
    pub fn set_tail(&mut self, index: usize, tail: &[u8]) {
        let (name, old) = self.spans(index);
        if old.len() == tail.len() {
            self.log[old].copy_from_slice(tail);
            return;
        }
        self.dead_bytes += old.end - self.starts.get(index);
        mem::reserve(&mut self.log, record_len::<K>(name.len(), tail.len()));
        self.starts.set(index, self.log.len());
        write_lengths::<K>(&mut self.log, name.len(), tail.len());
        self.log.extend_from_within(name);
        self.log.extend_from_slice(tail);
        self.tidy();
    }

    /// Takes out `count` elements from `index` on.
    pub fn remove(&mut self, index: usize, count: usize) {
        for gone in index..index + count {
            self.dead_bytes += self.record(gone).len();
        }
        self.keys.drain(index..index + count);
        self.starts.remove(index..index + count);
        mem::give_back(&mut self.keys);
        self.tidy();
    }

    /// Where the name and the tail of element `index` lie in the log.
    #[inline]
    fn spans(&self, index: usize) -> (Range<usize>, Range<usize>) {
        let mut at = self.starts.get(index);
        let name_len = read_length(&self.log, &mut at);
        let tail_len = if K::HAS_TAILS {
            read_length(&self.log, &mut at)
        } else {
            0
        };
        let name = at..at + name_len;
        let tail = name.end..name.end + tail_len;
        (name, tail)
    }

    /// The record of element `index`, lengths included.
    fn record(&self, index: usize) -> &[u8] {
        &self.log[self.starts.get(index)..self.spans(index).1.end]
    }

    fn write(&mut self, name: &[u8], tail: &[u8]) -> usize {
        debug_assert!(K::HAS_TAILS || tail.is_empty());
        let start = self.log.len();
        mem::reserve(&mut self.log, record_len::<K>(name.len(), tail.len()));
        write_lengths::<K>(&mut self.log, name.len(), tail.len());
        self.log.extend_from_slice(name);
        self.log.extend_from_slice(tail);
        start
    }

    /// Writes the log afresh once a third of it is dead.
    fn tidy(&mut self) {
        if self.dead_bytes * 3 <= self.log.len() {
            return;
        }
        let old = std::mem::take(self);
        self.take_records(&old, 0..old.keys.len());
        self.keys = old.keys;
    }

    /// The element at which the tail that is split off starts: half of the elements, or of the bytes, stay.
    fn middle(&self) -> usize {
        let len = self.keys.len();
        if len > ELEMENTS_MAX {
            return len / 2;
        }
        let (half, mut bytes) = ((self.log.len() - self.dead_bytes) / 2, 0);
        let past = (0..len).position(|index| {
            bytes += self.record(index).len();
            bytes > half
        });
        past.unwrap_or(len).clamp(1, len - 1)
    }
}

impl<K: Key> Leaf for Sorted<K> {
    type Mark = K;

    fn len(&self) -> usize {
        self.keys.len()
    }

    fn heap_bytes(&self) -> usize {
        mem::vec(&self.keys) + self.starts.heap_bytes() + mem::vec(&self.log)
    }

    fn mark(&self) -> K {
        self.keys[0]
    }

    fn is_overfull(&self) -> bool {
        let live = self.log.len() - self.dead_bytes;
        self.keys.len() > ELEMENTS_MAX || (live > LOG_BYTES_MAX && self.keys.len() > 1)
    }

    fn split(&mut self, edited: usize) -> Sorted<K> {
        let last = self.keys.len() - 1;
        let first = match edited {
            edited if K::COMES_IN_ORDER && edited >= last => last,
            0 if K::COMES_IN_ORDER => 1,
            _ => self.middle(),
        };
        let mut tail = Sorted::default();
        mem::reserve(&mut tail.keys, last + 1 - first);
        tail.keys.extend_from_slice(&self.keys[first..]);
        tail.take_records(self, first..last + 1);
        self.remove(first, last + 1 - first);
        mem::fit(&mut self.keys);
        tail
    }

    fn joins(&self, next: &Sorted<K>) -> bool {
        let elements = self.keys.len() + next.keys.len();
        let bytes = self.log.len() + next.log.len();
        let small = |leaf: &Sorted<K>| {
            leaf.keys.len() < ELEMENTS_MAX / 4 && leaf.log.len() < LOG_BYTES_MAX / 4
        };
        (small(self) || small(next))
            && elements <= ELEMENTS_MAX * 3 / 4
            && bytes <= LOG_BYTES_MAX * 3 / 4
    }

    fn append(&mut self, next: &Sorted<K>) {
        mem::reserve(&mut self.keys, next.keys.len());
        self.keys.extend_from_slice(&next.keys);
        self.take_records(next, 0..next.keys.len());
    }
}

impl<K: Key> Sorted<K> {
    /// Copies records of another leaf behind the own ones.
    fn take_records(&mut self, other: &Sorted<K>, range: Range<usize>) {
        let bytes = range.clone().map(|index| other.record(index).len()).sum();
        mem::reserve(&mut self.log, bytes);
        self.starts.reserve(range.len());
        for index in range {
            self.starts.push(self.log.len());
            self.log.extend_from_slice(other.record(index));
        }
    }
}

impl<K: Key> Tree<Sorted<K>> {
    /// The place of the element, or else the place where it would go.
    pub fn find(&self, key: K, name: &[u8]) -> Result<usize, usize> {
        let (before, leaf) = self.descend_to(key, name);
        leaf.find(&key, name)
            .map(|at| before + at)
            .map_err(|at| before + at)
    }

    /// The tail of the element.
    pub fn tail(&self, key: K, name: &[u8]) -> Option<&[u8]> {
        Some(self.record(key, name)?.tail)
    }

    /// The element, with the key as it was given when it was put in.
    pub fn record(&self, key: K, name: &[u8]) -> Option<Record<'_, K>> {
        let leaf = self.leaf_of(starts_at_most(key, name));
        Some(leaf.get(leaf.find(&key, name).ok()?))
    }

    fn descend_to(&self, key: K, name: &[u8]) -> (usize, &Sorted<K>) {
        self.descend(starts_at_most(key, name))
    }

    /// Puts the element in, or gives it this tail; `old` looks at the tail that it had.
    pub fn put<R>(
        &mut self,
        key: K,
        name: &[u8],
        tail: &[u8],
        old: impl FnOnce(Option<&[u8]>) -> R,
    ) -> R {
        self.edit_leaf_of(starts_at_most(key, name), |leaf| {
            match leaf.find(&key, name) {
                Ok(at) => {
                    let result = old(Some(leaf.get(at).tail));
                    leaf.set_tail(at, tail);
                    (result, at)
                }
                Err(at) => {
                    leaf.insert(at, key, name, tail);
                    (old(None), at)
                }
            }
        })
    }

    /// Puts in an element that is not there, and says what lies beside it.
    pub fn put_new(&mut self, key: K, name: &[u8], tail: &[u8]) -> Beside {
        self.edit_leaf_of(starts_at_most(key, name), |leaf| {
            let at = leaf.find(&key, name).unwrap_or_else(|at| at);
            leaf.insert(at, key, name, tail);
            (leaf.beside(at), at)
        })
    }

    /// Takes the element out; false when it was not there.
    pub fn take_out(&mut self, key: K, name: &[u8]) -> bool {
        // An absent one must not make a writer copy what a capture holds.
        self.tail(key, name).is_some() && self.take_out_known(key, name)
    }

    /// As [`Tree::take_out`], of an element that somebody has just seen there.
    pub fn take_out_known(&mut self, key: K, name: &[u8]) -> bool {
        self.edit_leaf_of(starts_at_most(key, name), |leaf| {
            let found = leaf.find(&key, name);
            if let Ok(at) = found {
                leaf.remove(at, 1);
            }
            (found.is_ok(), found.unwrap_or(0))
        })
    }

    pub fn get(&self, at: usize) -> Record<'_, K> {
        let (leaf, index) = self.leaf_at(at);
        leaf.get(index)
    }

    /// How many elements come first with keys that `before` is true of.
    pub fn count_keys(&self, before: impl Fn(&K) -> bool) -> usize {
        let (passed, leaf) = self.descend(|first| before(&first.mark));
        passed + leaf.count_keys(before)
    }

    /// How many elements come first that `before` is true of.
    pub fn count(&self, before: impl Fn(Record<'_, K>) -> bool) -> usize {
        let (passed, leaf) = self.descend(|first| before(first.leaf().get(0)));
        passed + leaf.count(before)
    }

    /// Puts an element where [`Tree::find`] said that it would go.
    pub fn insert(&mut self, at: usize, key: K, name: &[u8], tail: &[u8]) {
        self.edit(at, Side::Before, |leaf, index| {
            leaf.insert(index, key, name, tail)
        });
    }

    pub fn set_tail(&mut self, at: usize, tail: &[u8]) {
        self.edit(at, Side::At, |leaf, index| leaf.set_tail(index, tail));
    }

    /// Takes out `count` elements from `at` on.
    pub fn remove(&mut self, at: usize, mut count: usize) {
        while count > 0 {
            count -= self.edit(at, Side::At, |leaf, index| {
                let here = count.min(leaf.len() - index);
                leaf.remove(index, here);
                here
            });
        }
    }

    /// The elements from `from` on.
    pub fn iter_from(&self, from: usize) -> impl Iterator<Item = Record<'_, K>> {
        self.leaves_from(from)
            .flat_map(|(leaf, first)| (first..leaf.len()).map(move |index| leaf.get(index)))
    }

    /// The elements from `from` on, backwards.
    pub fn iter_back_from(&self, from: usize) -> impl Iterator<Item = Record<'_, K>> {
        self.leaves_back_from(from)
            .flat_map(|(leaf, last)| (0..=last).rev().map(move |index| leaf.get(index)))
    }
}

/// Is true of leaves whose first element is not past this one.
fn starts_at_most<K: Key>(key: K, name: &[u8]) -> impl Fn(First<'_, Sorted<K>>) -> bool {
    move |first| match first.mark.order(&key) {
        Ordering::Less => true,
        Ordering::Greater => false,
        Ordering::Equal => first.leaf().get(0).name <= name,
    }
}

fn record_len<K: Key>(name: usize, tail: usize) -> usize {
    let of_tail = if K::HAS_TAILS { length_len(tail) } else { 0 };
    length_len(name) + of_tail + name + tail
}

fn write_lengths<K: Key>(log: &mut Vec<u8>, name: usize, tail: usize) {
    write_length(log, name);
    if K::HAS_TAILS {
        write_length(log, tail);
    }
}

fn length_len(length: usize) -> usize {
    (length.max(1).ilog2() / 7 + 1) as usize
}

fn write_length(log: &mut Vec<u8>, mut length: usize) {
    while length > 127 {
        log.push(length as u8 | 128);
        length >>= 7;
    }
    log.push(length as u8);
}

#[inline]
fn read_length(log: &[u8], at: &mut usize) -> usize {
    let first = usize::from(log[*at]);
    *at += 1;
    if first < 128 {
        return first;
    }
    let (mut length, mut shift) = (first & 127, 7);
    loop {
        let byte = usize::from(log[*at]);
        *at += 1;
        length |= (byte & 127) << shift;
        if byte < 128 {
            return length;
        }
        shift += 7;
    }
}
