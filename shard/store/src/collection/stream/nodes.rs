//! How many entries lie in one of Redis' nodes: what an approximate trim takes, and what a serialized stream is cut into.
//!
//! There are no nodes here. In a stream whose entries have one size Redis' nodes are as long as each other, and can be told from the first
//! entries; where sizes vary, the answer is as far off as these are from the rest.
//! Source: Redis' t_stream.c.

use super::Stream;
use crate::collection::item::{Item, item_of};
use crate::collection::listpack::element_bytes;

/// Entries and bytes of one node in a serialized stream.
pub const NODE_ENTRIES: usize = 100;
const NODE_BYTES: usize = 4096;
/// What Redis puts into one node at most, whatever it is told.
const NODE_BYTES_MAX: usize = 1 << 30;
/// Head and end of a listpack.
const FRAME_BYTES: usize = 7;

/// `stream-node-max-entries` and `stream-node-max-bytes`; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeMax {
    pub entries: usize,
    pub bytes: usize,
}

impl Default for NodeMax {
    fn default() -> NodeMax {
        NodeMax {
            entries: NODE_ENTRIES,
            bytes: NODE_BYTES,
        }
    }
}

impl Stream {
    /// Entries of a node of this stream.
    pub fn node_entries(&self, max: NodeMax) -> usize {
        let by_count = match max.entries {
            0 => usize::MAX,
            entries => entries,
        };
        let bytes = match max.bytes {
            0 => NODE_BYTES_MAX,
            bytes => bytes.min(NODE_BYTES_MAX),
        };
        let mut entries = self.iter_from(0);
        let Some(first) = entries.next() else {
            return by_count;
        };
        let entry = entries.next().unwrap_or(first);
        let int = |int: u64| element_bytes(Item::Int(int as i64));
        // The first entry's fields stand at the head of its node, those of the others are taken to be the same.
        let (count, items) = first.items();
        let fields = items.step_by(2);
        let head = FRAME_BYTES
            + int(1)
            + int(0)
            + int(count as u64 / 2)
            + fields
                .map(|field| element_bytes(item_of(field)))
                .sum::<usize>()
            + int(0);
        let (count, items) = entry.items();
        let values = items.skip(1).step_by(2);
        let each = int(0)
            + int(entry.id.ms.wrapping_sub(first.id.ms))
            + int(entry.id.seq.wrapping_sub(first.id.seq))
            + values
                .map(|value| element_bytes(item_of(value)))
                .sum::<usize>()
            + int(count as u64 / 2 + 3);
        let text = entry.items().1.map(<[u8]>::len).sum::<usize>();
        // An entry goes to a node that has others where the node's bytes and its text stay below the limit.
        let by_bytes = 1 + bytes.saturating_sub(1 + head + text) / each;
        by_count.min(by_bytes)
    }

    /// Runs of entries for a serialized form: how many there are from entry `from` on among about `entries`, and where the next begins.
    pub fn runs_len(&self, from: usize, entries: usize) -> (usize, usize) {
        let (mut runs, mut next) = (0, from);
        while next - from < entries
            && next < self.len()
            && let Some((count, _)) = self.run_from(next)
        {
            runs += 1;
            next += count;
        }
        (runs, next)
    }

    /// The run that begins with entry `from`: its entries and bytes. It has not many entries, and not many bytes unless of a single entry.
    pub fn run_from(&self, from: usize) -> Option<(usize, usize)> {
        let (mut count, mut bytes) = (0, 0);
        for entry in self.iter_from(from) {
            if count == NODE_ENTRIES || (count > 0 && bytes + entry.bytes() > NODE_BYTES) {
                break;
            }
            count += 1;
            bytes += entry.bytes();
        }
        (count > 0).then_some((count, bytes))
    }
}
