//! An element of a collection in a reply.

use larder_wire::resp::ReplyWriter;

use crate::collection::Item;

/// Writes an element as a bulk string.
pub(super) fn put(reply: &mut ReplyWriter<'_>, item: Item<'_>) {
    match item {
        Item::Bytes(bytes) => reply.bulk(bytes),
        Item::Int(value) => reply.bulk_int(value),
    }
}

/// Writes an element, or that there is none.
pub(super) fn put_or_null(reply: &mut ReplyWriter<'_>, item: Option<Item<'_>>) {
    match item {
        Some(item) => put(reply, item),
        None => reply.null(),
    }
}
