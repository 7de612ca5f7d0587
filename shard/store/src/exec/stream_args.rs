//! Ids among a stream command's arguments, and entries in its reply.

use larder_wire::Refusal;
use larder_wire::resp::ReplyWriter;

use crate::collection::stream::{Entry, ID_TEXT_BYTES_MAX, StreamId};

pub(super) const INVALID_ID: Refusal =
    Refusal::fixed("ERR Invalid stream ID specified as stream command argument");

/// An id that is written out; `seq` where it has no second part.
pub(super) fn strict_id(arg: &[u8], seq: u64) -> Result<StreamId, Refusal> {
    StreamId::parse(arg, seq).ok_or(INVALID_ID)
}

/// Where a range starts: `-`, `+`, an id, or `(` and an id.
pub(super) fn range_start(arg: &[u8]) -> Result<StreamId, Refusal> {
    match arg {
        [b'(', id @ ..] => strict_id(id, 0)?
            .next()
            .ok_or(Refusal::fixed("ERR invalid start ID for the interval")),
        arg => range_end_of(arg, 0),
    }
}

/// Where a range ends.
pub(super) fn range_end(arg: &[u8]) -> Result<StreamId, Refusal> {
    match arg {
        [b'(', id @ ..] => strict_id(id, u64::MAX)?
            .previous()
            .ok_or(Refusal::fixed("ERR invalid end ID for the interval")),
        arg => range_end_of(arg, u64::MAX),
    }
}

fn range_end_of(arg: &[u8], seq: u64) -> Result<StreamId, Refusal> {
    match arg {
        b"-" => Ok(StreamId::MIN),
        b"+" => Ok(StreamId::MAX),
        id => strict_id(id, seq),
    }
}

pub(super) fn put_id(reply: &mut ReplyWriter<'_>, id: StreamId) {
    reply.bulk(id.text(&mut [0; ID_TEXT_BYTES_MAX]));
}

pub(super) fn put_entry(reply: &mut ReplyWriter<'_>, entry: Entry<'_>) {
    reply.array(2);
    put_id(reply, entry.id);
    let (count, items) = entry.items();
    reply.array(count);
    items.for_each(|item| reply.bulk(item));
}
