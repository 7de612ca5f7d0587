//! SCAN across the cluster: one cursor that leads through all slots, or all nodes.
//!
//! Larder's nodes walk slot after slot, and their cursor is `(place in the slot << 14) | slot`: the slot says
//! which node goes on, so that a walk outlives a reshard. A node is asked for one unbroken range of slots
//! (`SLOTS a-b`, which it refuses when it does not have all of them), so that no slot is passed over.
//! Other servers have cursors of their own: theirs is the place, under the first slot of the node.

use larder_wire::command::CommandId;
use larder_wire::resp::{
    OwnedRequest, ReplyScanner, Request, RequestScanner, Scanned, reply, write,
};
use larder_wire::{Refusal, SLOT_COUNT, Slot};

use super::link::{Kind, Tag};
use super::route::Flow;
use super::{Backend, ClientKey, GATED, NOBODY, Switch};

const SLOT_BITS: u32 = 14;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

impl Switch {
    pub(super) fn scan(&mut self, key: ClientKey, id: CommandId, request: &Request<'_>) -> Flow {
        let Some(cursor) = request.get(1).and_then(number) else {
            return self.refuse(key, &Refusal::INVALID_CURSOR);
        };
        let asked = (cursor & SLOT_MASK) as u16;
        // A slot that nobody owns has no keys.
        let slot = self.owned_from(asked).unwrap_or(asked);
        // A cursor of other servers means nothing here: the slot is begun anew.
        let turns = self.turns;
        let is_of_these = self
            .clients
            .get_mut(key)
            .is_none_or(|client| std::mem::replace(&mut client.scan_turn, turns) == turns);
        let place = if slot == asked && is_of_these {
            cursor >> SLOT_BITS
        } else {
            0
        };
        let end = self.range_end(slot);
        let (theirs, range) = match self.backend {
            Backend::Larder => (
                place << SLOT_BITS | u64::from(slot),
                Some(format!("{slot}-{end}")),
            ),
            Backend::Cluster | Backend::Plain => (place, None),
        };
        let digits = theirs.to_string();
        let mut args: Vec<&[u8]> = request.args_from(0).collect();
        args[1] = digits.as_bytes();
        if let Some(range) = &range {
            args.extend([b"SLOTS", range.as_bytes()]);
        }
        let rewritten = OwnedRequest::from_args(args).into_bytes();
        let slot = Slot::new(slot).unwrap_or(Slot::FIRST);
        self.send_to_slot(key, id, slot, Kind::Scan { end }, &rewritten)
    }

    /// The request of a scan that came back, for its first slot alone: which of the others the next owner
    /// has is not known.
    pub(super) fn narrow_scan(&self, bytes: Vec<u8>, slot: u16) -> Vec<u8> {
        if self.backend != Backend::Larder {
            return bytes;
        }
        let mut scanner = RequestScanner::new();
        let Ok(Scanned::Request { .. }) = scanner.scan(&bytes) else {
            debug_assert!(false, "a forwarded request reads as it did before");
            return bytes;
        };
        let range = format!("{slot}-{slot}");
        let mut args: Vec<&[u8]> = scanner.request(&bytes).args_from(0).collect();
        let last = args.len() - 1;
        args[last] = range.as_bytes();
        OwnedRequest::from_args(args).into_bytes()
    }

    /// A node's answer; `end` is the last slot that it was asked for.
    pub(super) fn scanned(&mut self, end: u16, tag: &Tag, answer: &[u8]) {
        let Some((theirs, rest)) = cursor_of(answer) else {
            return self.deliver(tag, answer);
        };
        let next = match self.backend {
            Backend::Larder if theirs != 0 => theirs,
            Backend::Larder => self.owned_from_number(end + 1).map_or(0, u64::from),
            Backend::Cluster | Backend::Plain if theirs != 0 => {
                theirs << SLOT_BITS | u64::from(tag.slot)
            }
            Backend::Cluster | Backend::Plain => self.next_node(tag.slot).map_or(0, u64::from),
        };
        if next == theirs {
            return self.deliver(tag, answer);
        }
        let digits = next.to_string();
        let mut rewritten = Vec::with_capacity(answer.len() + digits.len());
        write::array_header(&mut rewritten, 2);
        write::bulk_header(&mut rewritten, digits.len());
        rewritten.extend_from_slice(digits.as_bytes());
        rewritten.extend_from_slice(b"\r\n");
        rewritten.extend_from_slice(rest);
        self.deliver(tag, &rewritten);
    }

    /// The first slot at or after `slot` that somebody owns.
    fn owned_from(&self, slot: u16) -> Option<u16> {
        (slot..SLOT_COUNT).find(|&slot| self.table[slot as usize] & !GATED != NOBODY)
    }

    fn owned_from_number(&self, slot: u16) -> Option<u16> {
        if slot >= SLOT_COUNT {
            return None;
        }
        self.owned_from(slot)
    }

    /// The last slot of the unbroken range from `slot` on that has the same owner.
    fn range_end(&self, slot: u16) -> u16 {
        let owner = |slot: u16| self.table[slot as usize] & !GATED;
        let same = (slot..SLOT_COUNT).take_while(|&other| owner(other) == owner(slot));
        same.last().unwrap_or(slot)
    }

    /// The first slot of the node whose first slot comes after that of the owner of `slot`.
    fn next_node(&self, slot: u16) -> Option<u16> {
        let owner = |slot: u16| self.table[slot as usize] & !GATED;
        let mut seen = Vec::new();
        for other in 0..SLOT_COUNT {
            let node = owner(other);
            if node == NOBODY || seen.contains(&node) {
                continue;
            }
            if other > slot {
                return Some(other);
            }
            seen.push(node);
        }
        None
    }
}

fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A SCAN reply's cursor, and the bytes behind it.
fn cursor_of(answer: &[u8]) -> Option<(u64, &[u8])> {
    let (2, start) = reply::array_header(answer)? else {
        return None;
    };
    let body = &answer[start..];
    let end = ReplyScanner::new().scan(body).ok()??;
    let text = body.get(..end)?.strip_suffix(b"\r\n")?;
    let at = text.iter().position(|&byte| byte == b'\n')? + 1;
    Some((number(text.get(at..)?)?, &body[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_of_a_scan_reply_is_found() {
        let reply = b"*2\r\n$3\r\n123\r\n*1\r\n$1\r\na\r\n";
        assert_eq!(cursor_of(reply), Some((123, &b"*1\r\n$1\r\na\r\n"[..])));
        assert_eq!(cursor_of(b"*1\r\n$1\r\na\r\n"), None);
        assert_eq!(cursor_of(b"*2\r\n$1\r\nx\r\n*0\r\n"), None);
    }
}
