//! Reads streams, in the three forms that versions 9 to 12 have: nodes of entries, what the stream knows of its past, its groups.

use std::collections::BTreeMap;

use larder_wire::UnixMillis;

use super::read::{Reader, Source};
use crate::collection::stream::{Group, Pending, StreamId};
use crate::collection::{Item, Packed, Stream};

/// Flags of an entry in a node.
const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;
/// How a group says that nobody can tell how many entries it has read.
const UNKNOWN: u64 = u64::MAX;

/// A stream whose type is of the given form: 1 of Redis 5, 2 of Redis 7.0, 3 of Redis 7.2.
pub(super) fn read_stream<'a>(reader: &mut Reader<impl Source<'a>>, form: u8) -> Option<Stream> {
    let mut stream = Stream::default();
    for _ in 0..reader.length()? {
        let first = raw_id(&reader.string()?)?;
        let node = Packed::from_listpack(&reader.string()?)?;
        read_node(&mut stream, first, &node)?;
    }
    let length = reader.length()?;
    (length == stream.len()).then_some(())?;
    let last = id(reader)?;
    stream
        .last()
        .is_none_or(|entry| entry.id <= last)
        .then_some(())?;
    stream.set_last_id(last);
    if form == 1 {
        stream.set_counters(length as u64, StreamId::MIN);
    } else {
        let _first = id(reader)?;
        let deleted = id(reader)?;
        stream.set_counters(reader.length()? as u64, deleted);
    }
    for _ in 0..reader.length()? {
        let name = reader.string()?;
        let group = read_group(reader, form, &stream)?;
        stream.groups_mut().insert(&name, group).then_some(())?;
    }
    Some(stream)
}

/// A node's listpack: how many entries, how many deleted, common fields, then the entries.
fn read_node(stream: &mut Stream, first: StreamId, node: &Packed) -> Option<()> {
    let mut items = node.iter();
    let mut int = || items.next()?.int();
    let (there, deleted, common) = (int()?, int()?, int()?);
    let entries = there.checked_add(deleted)?;
    let common = usize::try_from(common).ok()?;
    let fields = take_texts(&mut items, common)?;
    (items.next()?.int()? == 0).then_some(())?;
    let mut live = 0;
    for _ in 0..entries {
        let mut int = || items.next()?.int();
        let (flags, ms, seq) = (int()?, int()?, int()?);
        let entry = StreamId {
            ms: first.ms.wrapping_add(ms as u64),
            seq: first.seq.wrapping_add(seq as u64),
        };
        let texts = if flags & SAME_FIELDS != 0 {
            let values = take_texts(&mut items, common)?;
            fields
                .iter()
                .cloned()
                .zip(values)
                .flat_map(|(field, value)| [field, value])
                .collect()
        } else {
            let count = usize::try_from(items.next()?.int()?).ok()?;
            take_texts(&mut items, count.checked_mul(2)?)?
        };
        // How many elements to go back.
        items.next()?.int()?;
        if flags & DELETED == 0 {
            let follows = stream.last().is_none_or(|last| last.id < entry);
            (follows && entry > StreamId::MIN && !texts.is_empty()).then_some(())?;
            stream.append(entry, texts.iter().map(Vec::as_slice));
            live += 1;
        }
    }
    (live == there && items.next().is_none()).then_some(())
}

/// The next `count` elements; `None` when there are not so many.
fn take_texts<'p>(
    items: &mut impl Iterator<Item = Item<'p>>,
    count: usize,
) -> Option<Vec<Vec<u8>>> {
    let mut texts = Vec::new();
    for _ in 0..count {
        texts.push(items.next()?.to_vec());
    }
    Some(texts)
}

fn read_group<'a>(
    reader: &mut Reader<impl Source<'a>>,
    form: u8,
    stream: &Stream,
) -> Option<Group> {
    let last_delivered = id(reader)?;
    let entries_read = match form {
        1 => stream.entries_up_to(last_delivered),
        _ => Some(reader.length()? as u64).filter(|read| *read != UNKNOWN),
    };
    let mut group = Group::new(last_delivered, entries_read);
    let mut pending = BTreeMap::new();
    for _ in 0..reader.length()? {
        let id = raw_id(&reader.array::<16>()?)?;
        let delivered = UnixMillis(i64::from_le_bytes(reader.array()?));
        let deliveries = reader.length()? as u64;
        let twice = pending.insert(id, (delivered, deliveries)).is_some();
        (!twice).then_some(())?;
    }
    for _ in 0..reader.length()? {
        let name = reader.string()?;
        let seen = UnixMillis(i64::from_le_bytes(reader.array()?));
        if form == 3 {
            let _active: [u8; 8] = reader.array()?;
        }
        group.create_consumer(&name, seen).then_some(())?;
        for _ in 0..reader.length()? {
            let id = raw_id(&reader.array::<16>()?)?;
            let (delivered, deliveries) = pending.remove(&id)?;
            group.deliver(Pending {
                id,
                consumer: &name,
                delivered,
                deliveries,
            });
        }
    }
    // Whatever is pending is pending for somebody.
    pending.is_empty().then_some(group)
}

fn id<'a>(reader: &mut Reader<impl Source<'a>>) -> Option<StreamId> {
    let (ms, seq) = (reader.length()? as u64, reader.length()? as u64);
    Some(StreamId { ms, seq })
}

fn raw_id(bytes: &[u8]) -> Option<StreamId> {
    let (ms, seq) = bytes.split_first_chunk::<8>()?;
    Some(StreamId {
        ms: u64::from_be_bytes(*ms),
        seq: u64::from_be_bytes(seq.try_into().ok()?),
    })
}
