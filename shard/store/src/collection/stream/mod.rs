//! A stream: entries of fields and values by id, and the consumer groups that read them.
//!
//! Entries lie in the counted tree in the order of their ids, so that the place of an id, a range and a trim
//! are a few nodes' work at any size. A stream without entries is still a stream: it knows its last id.

mod commands;
mod group;
mod id;
mod names;
mod nodes;

pub use commands::{CLAIM_DELETED, entries_read_text};
pub use group::{Consumer, Group, Pending};
pub use id::{ID_TEXT_BYTES_MAX, StreamId, parse_part};
pub use names::NameMap;
pub use nodes::{NODE_ENTRIES, NodeMax};

use super::sorted::{Record, Sorted};
use super::tree::Tree;

/// What an approximate trim takes: entries in runs as long as Redis' nodes.
#[derive(Clone, Copy, Debug)]
pub struct WholeNodes {
    pub node_max: NodeMax,
    /// Most entries that go; 0 is no limit.
    pub limit: u64,
}

#[derive(Clone, Default)]
pub struct Stream {
    parts: Box<Parts>,
}

#[derive(Clone, Default)]
struct Parts {
    /// By id; the tail holds fields and values.
    entries: Tree<Sorted<StreamId>>,
    last_id: StreamId,
    max_deleted_id: StreamId,
    entries_added: u64,
    groups: NameMap<Group>,
}

/// One entry.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub id: StreamId,
    fields: &'a [u8],
}

/// How much a trim leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// At most so many entries.
    MaxLen(u64),
    /// No entry below this id.
    MinId(StreamId),
}

impl Stream {
    /// Entries.
    pub fn len(&self) -> usize {
        self.parts.entries.len()
    }

    /// Never: what a stream knows of its past outlives its entries.
    pub fn is_empty(&self) -> bool {
        false
    }

    pub fn heap_bytes(&self) -> usize {
        group::boxed::<Parts>() + self.parts.entries.heap_bytes() + self.parts.groups.heap_bytes()
    }

    /// As OBJECT ENCODING names it.
    pub fn encoding(&self) -> &'static str {
        "stream"
    }

    /// The greatest id that an entry ever had.
    pub fn last_id(&self) -> StreamId {
        self.parts.last_id
    }

    /// The greatest id of an entry that was deleted.
    pub fn max_deleted_id(&self) -> StreamId {
        self.parts.max_deleted_id
    }

    /// Entries that ever were.
    pub fn entries_added(&self) -> u64 {
        self.parts.entries_added
    }

    pub fn set_last_id(&mut self, id: StreamId) {
        self.parts.last_id = id;
    }

    pub fn set_counters(&mut self, entries_added: u64, max_deleted_id: StreamId) {
        self.parts.entries_added = entries_added;
        self.parts.max_deleted_id = max_deleted_id;
    }

    pub fn groups(&self) -> &NameMap<Group> {
        &self.parts.groups
    }

    pub fn groups_mut(&mut self) -> &mut NameMap<Group> {
        &mut self.parts.groups
    }

    /// Adds an entry whose id is above the last one.
    pub fn append<'a>(
        &mut self,
        id: StreamId,
        fields: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
    ) {
        debug_assert!(id > self.parts.last_id);
        let bytes = fields.clone().map(|item| item.len() + 2).sum::<usize>() + 4;
        let mut tail = Vec::with_capacity(bytes);
        write_length(&mut tail, fields.len());
        for item in fields {
            write_length(&mut tail, item.len());
            tail.extend_from_slice(item);
        }
        let parts = &mut *self.parts;
        parts.entries.insert(parts.entries.len(), id, &[], &tail);
        parts.last_id = id;
        parts.entries_added += 1;
    }

    pub fn contains(&self, id: StreamId) -> bool {
        self.parts.entries.find(id, &[]).is_ok()
    }

    pub fn entry(&self, id: StreamId) -> Option<Entry<'_>> {
        let at = self.parts.entries.find(id, &[]).ok()?;
        Some(self.at(at))
    }

    pub fn first(&self) -> Option<Entry<'_>> {
        self.parts.entries.iter_from(0).next().map(Entry::of)
    }

    pub fn last(&self) -> Option<Entry<'_>> {
        Some(self.at(self.len().checked_sub(1)?))
    }

    /// Entries before `id`.
    pub fn count_below(&self, id: StreamId) -> usize {
        self.parts.entries.count_keys(|other| *other < id)
    }

    /// The places of the entries from `start` to `end`, both included: the first one, and how many.
    pub fn span(&self, start: StreamId, end: StreamId) -> (usize, usize) {
        let first = self.count_below(start);
        let past = self.parts.entries.count_keys(|id| *id <= end);
        (first, past.saturating_sub(first))
    }

    /// The entries from place `from` on.
    pub fn iter_from(&self, from: usize) -> impl Iterator<Item = Entry<'_>> {
        self.parts.entries.iter_from(from).map(Entry::of)
    }

    /// The entries from place `from` on, backwards.
    pub fn iter_back_from(&self, from: usize) -> impl Iterator<Item = Entry<'_>> {
        self.parts.entries.iter_back_from(from).map(Entry::of)
    }

    /// Deletes one entry; false when there is none of this id.
    pub fn delete(&mut self, id: StreamId) -> bool {
        let Ok(at) = self.parts.entries.find(id, &[]) else {
            return false;
        };
        self.parts.entries.remove(at, 1);
        self.parts.max_deleted_id = self.parts.max_deleted_id.max(id);
        true
    }

    /// Deletes the oldest entries: all that the trim asks for, or only so many of them as nodes hold. Returns how many went.
    pub fn trim(&mut self, trim: Trim, approximately: Option<WholeNodes>) -> usize {
        let len = self.len();
        let asked = match trim {
            Trim::MaxLen(max) => len.saturating_sub(usize::try_from(max).unwrap_or(usize::MAX)),
            Trim::MinId(id) => self.count_below(id),
        };
        let count = match approximately {
            None => asked,
            Some(nodes) => {
                let gone = self.parts.entries_added.saturating_sub(len as u64);
                nodes.of(len, asked, gone, || self.node_entries(nodes.node_max))
            }
        };
        self.parts.entries.remove(0, count);
        count
    }

    /// How many of the entries that ever were have ids up to `id`, where that can be told without counting.
    pub fn entries_up_to(&self, id: StreamId) -> Option<u64> {
        let parts = &*self.parts;
        if parts.entries_added == 0 {
            return Some(0);
        }
        let first = match self.first() {
            None if id <= parts.last_id => return Some(parts.entries_added),
            None => return None,
            Some(first) => first.id,
        };
        if id == parts.last_id {
            return Some(parts.entries_added);
        }
        let unbroken = parts.max_deleted_id == StreamId::MIN || parts.max_deleted_id < first;
        if id > parts.last_id || !unbroken || id > first {
            return None;
        }
        let before = parts.entries_added.wrapping_sub(self.len() as u64);
        Some(before + u64::from(id == first))
    }

    /// True when an entry from `id` on may have been deleted.
    pub fn has_gaps_from(&self, id: StreamId) -> bool {
        let deleted = self.parts.max_deleted_id;
        self.first().is_some() && deleted != StreamId::MIN && id <= deleted
    }

    /// A stream of nothing but a group, for throwing it away.
    pub fn of_group(group: Group) -> Stream {
        let mut stream = Stream::default();
        stream.parts.groups.insert(b"", group);
        stream
    }

    /// Throws away about `limit` elements; true once nothing is left.
    pub fn free_some(&mut self, limit: usize) -> bool {
        if !self.parts.entries.free_some(limit) {
            return false;
        }
        while let Some(mut group) = self.parts.groups.pop() {
            if !group.free_some(limit) {
                self.parts.groups.insert(b"", group);
                return false;
            }
        }
        true
    }

    fn at(&self, at: usize) -> Entry<'_> {
        Entry::of(self.parts.entries.get(at))
    }
}

impl<'a> Entry<'a> {
    fn of(record: Record<'a, StreamId>) -> Entry<'a> {
        Entry {
            id: record.key,
            fields: record.tail,
        }
    }

    /// Fields and values, alternating.
    pub fn items(self) -> (usize, impl Iterator<Item = &'a [u8]>) {
        let mut rest = self.fields;
        let count = read_length(&mut rest);
        let items = (0..count).map(move |_| {
            let len = read_length(&mut rest);
            let (item, after) = rest.split_at(len);
            rest = after;
            item
        });
        (count, items)
    }

    pub fn bytes(self) -> usize {
        self.fields.len()
    }
}

impl WholeNodes {
    /// How many of `len` entries are in nodes that `asked` and the limit hold wholly; the last node may be short, and the first is when
    /// some of the entries that are `gone` were in it.
    fn of(self, len: usize, asked: usize, gone: u64, node: impl FnOnce() -> usize) -> usize {
        let most = match usize::try_from(self.limit) {
            Ok(0) | Err(_) => asked,
            Ok(limit) => asked.min(limit),
        };
        if most >= len {
            return len;
        }
        if most == 0 {
            return 0;
        }
        let entries = node();
        let missing = (gone % entries as u64) as usize;
        let with_missing = most.saturating_add(missing);
        (with_missing - with_missing % entries).saturating_sub(missing)
    }
}

/// Seven bits a byte, the lowest first.
fn write_length(out: &mut Vec<u8>, mut length: usize) {
    while length > 127 {
        out.push(length as u8 | 128);
        length >>= 7;
    }
    out.push(length as u8);
}

fn read_length(rest: &mut &[u8]) -> usize {
    let (mut length, mut shift) = (0, 0);
    loop {
        let (byte, after) = rest.split_first().expect("a length is complete");
        *rest = after;
        length |= usize::from(byte & 127) << shift;
        if *byte < 128 {
            return length;
        }
        shift += 7;
    }
}

#[cfg(test)]
impl Stream {
    /// Bytes of the structure and of the entries, counted node by node.
    pub(in crate::collection) fn survey(&self) -> (usize, usize) {
        let groups = self.parts.groups.heap_bytes();
        let parts = group::boxed::<Parts>() + groups;
        (parts, self.parts.entries.survey().0)
    }
}
