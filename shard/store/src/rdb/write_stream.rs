//! Writes a stream, in pieces: what is pending may be as much as the entries are.

use super::write::{Writer, write_blob, write_length, write_text};
use crate::collection::pieces::Budget;
use crate::collection::stream::{Consumer, Group, StreamId};
use crate::collection::{Item, Packed, Stream};

/// What a head of a group or a consumer counts, and what an id of an entry.
const HEAD_BYTES: usize = 64;
const PENDING_BYTES: usize = 32;

/// Appends from place `from` on: each entry has one, and behind them each part of the stream's past. The place to go on from, `None` at the end.
pub(super) fn write_places(
    stream: &Stream,
    from: usize,
    mut budget: Budget,
    out: &mut Writer<'_>,
) -> Option<usize> {
    let mut first = from;
    while first < stream.len()
        && let Some((count, bytes)) = stream.run_from(first)
    {
        if !budget.takes(bytes) {
            return Some(first);
        }
        write_node(stream, first, count, out);
        first += count;
    }
    let mut parts = Parts {
        from: first - stream.len(),
        place: 0,
        budget,
    };
    match write_past(stream, &mut parts, out) {
        Ok(()) => None,
        Err(Full) => Some(stream.len() + parts.place),
    }
}

/// The piece is full.
struct Full;

/// Passes over what earlier pieces have, and ends the piece when its budget is spent.
struct Parts {
    from: usize,
    /// Of what comes next.
    place: usize,
    budget: Budget,
}

impl Parts {
    /// What has one place: true when it is to be written.
    fn one(&mut self) -> Result<bool, Full> {
        let due = self.place >= self.from;
        if due && !self.budget.takes(HEAD_BYTES) {
            return Err(Full);
        }
        self.place += 1;
        Ok(due)
    }

    /// What has a place for each of `len` items; `from` gives those from one on.
    fn each<I: Iterator>(
        &mut self,
        len: usize,
        from: impl FnOnce(usize) -> I,
        mut write: impl FnMut(I::Item),
    ) -> Result<(), Full> {
        let passed = self.from.saturating_sub(self.place).min(len);
        self.place += passed;
        if passed == len {
            return Ok(());
        }
        for item in from(passed) {
            if !self.budget.takes(PENDING_BYTES) {
                return Err(Full);
            }
            write(item);
            self.place += 1;
        }
        Ok(())
    }
}

/// What the stream knows of its past, and its groups.
fn write_past(stream: &Stream, parts: &mut Parts, out: &mut Writer<'_>) -> Result<(), Full> {
    if parts.one()? {
        write_length(stream.len() as u64, out);
        let first = stream.first().map_or(StreamId::MIN, |entry| entry.id);
        for id in [stream.last_id(), first, stream.max_deleted_id()] {
            write_id(id, out);
        }
        write_length(stream.entries_added(), out);
        write_length(stream.groups().len() as u64, out);
    }
    let mut groups = stream.groups().iter();
    groups.try_for_each(|(name, group)| write_group(name, group, parts, out))
}

fn write_group(
    name: &[u8],
    group: &Group,
    parts: &mut Parts,
    out: &mut Writer<'_>,
) -> Result<(), Full> {
    if parts.one()? {
        write_text(name, out);
        write_id(group.last_delivered, out);
        write_length(group.entries_read.unwrap_or(u64::MAX), out);
        write_length(group.pending_len() as u64, out);
    }
    parts.each(
        group.pending_len(),
        |at| group.pending_at(at),
        |pending| {
            write_raw_id(pending.id, out);
            out.extend_from_slice(&pending.delivered.0.to_le_bytes());
            write_length(pending.deliveries, out);
        },
    )?;
    if parts.one()? {
        write_length(group.consumers().len() as u64, out);
    }
    let mut consumers = group.consumers().iter();
    consumers.try_for_each(|(name, consumer)| write_consumer(name, consumer, parts, out))
}

fn write_consumer(
    name: &[u8],
    consumer: &Consumer,
    parts: &mut Parts,
    out: &mut Writer<'_>,
) -> Result<(), Full> {
    if parts.one()? {
        write_text(name, out);
        out.extend_from_slice(&consumer.seen.0.to_le_bytes());
        write_length(consumer.pending_len() as u64, out);
    }
    parts.each(
        consumer.pending_len(),
        |at| consumer.pending_at(at),
        |id| write_raw_id(id, out),
    )
}

/// A node's first id, and a listpack: how many entries, how many deleted, no common fields and the end of that head; then each
/// entry's flags, its id less the first, its fields and values, and how many elements to go back.
fn write_node(stream: &Stream, from: usize, count: usize, out: &mut Writer<'_>) {
    let entries = || stream.iter_from(from).take(count);
    let Some(first) = entries().next().map(|entry| entry.id) else {
        return;
    };
    write_length(16, out);
    write_raw_id(first, out);
    let mut packed = Packed::new();
    let push = |packed: &mut Packed, int: i64| packed.push_back_item(Item::Int(int));
    for head in [count as i64, 0, 0, 0] {
        push(&mut packed, head);
    }
    for entry in entries() {
        let (count, items) = entry.items();
        push(&mut packed, 0);
        push(&mut packed, entry.id.ms.wrapping_sub(first.ms) as i64);
        push(&mut packed, entry.id.seq.wrapping_sub(first.seq) as i64);
        push(&mut packed, (count / 2) as i64);
        for item in items {
            packed.push_back(item);
        }
        push(&mut packed, count as i64 + 4);
    }
    write_blob(&packed, out);
}

fn write_id(id: StreamId, out: &mut Writer<'_>) {
    write_length(id.ms, out);
    write_length(id.seq, out);
}

fn write_raw_id(id: StreamId, out: &mut Writer<'_>) {
    out.extend_from_slice(&id.ms.to_be_bytes());
    out.extend_from_slice(&id.seq.to_be_bytes());
}
