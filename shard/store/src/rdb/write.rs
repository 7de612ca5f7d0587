//! Writes values. Texts are compressed for those who keep what is written; what a neighbour reads at once is not.

use super::crc64::crc64;
use super::lzf::Lzf;
use super::{LIBRARY, Type, VERSION_VALKEY, VERSION_WRITTEN, write_stream};
use crate::collection::pieces::Budget;
use crate::collection::{Hash, Item, Packed, Set, Zset};
use crate::number::parse_i64;
use crate::value::{Collection, StringRef, ValueRef};

/// Longest text that is looked at for an integer.
const INT_TEXT_BYTES_MAX: usize = 11;
/// The time of a field that does not expire.
pub(super) const STAYS: i64 = -1;
/// A quicklist's node that is a listpack.
const NODE_PACKED: u64 = 2;

/// Stands before a compressed text's two lengths.
const COMPRESSED: u8 = 0xC3;
/// Longest text that is not worth compressing, in bytes.
const PLAIN_BYTES_MAX: usize = 20;

/// Appends the payload of `value`, nothing compressed.
pub fn to_payload(value: ValueRef<'_>, out: &mut Vec<u8>) {
    write_payload(value, &mut Writer::plain(out));
}

/// Appends the payload of `value`, its texts compressed where that makes them shorter.
pub fn to_compressed_payload(value: ValueRef<'_>, out: &mut Vec<u8>) {
    write_payload(value, &mut Writer::new(out, Some(&mut Lzf::default())));
}

fn write_payload(value: ValueRef<'_>, out: &mut Writer<'_>) {
    let start = out.bytes.len();
    out.push(type_of(value) as u8);
    write_value(value, out);
    let version = match out.bytes[start] == Type::HashTimes as u8 {
        true => VERSION_VALKEY,
        false => VERSION_WRITTEN,
    };
    write_footer(version, start, out.bytes);
}

/// The payload of libraries of functions, by their sources (`FUNCTION DUMP`).
pub fn libraries_to_payload<'s>(
    sources: impl IntoIterator<Item = &'s [u8]>,
    compress: bool,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut lzf = compress.then(Lzf::default);
    let mut out = Writer::new(&mut bytes, lzf.as_mut());
    for source in sources {
        out.push(LIBRARY);
        write_text(source, &mut out);
    }
    write_footer(VERSION_WRITTEN, 0, &mut bytes);
    bytes
}

/// Where is written to, and what compresses.
pub(super) struct Writer<'o> {
    bytes: &'o mut Vec<u8>,
    lzf: Option<&'o mut Lzf>,
}

impl<'o> Writer<'o> {
    pub(super) fn new(bytes: &'o mut Vec<u8>, lzf: Option<&'o mut Lzf>) -> Writer<'o> {
        Writer { bytes, lzf }
    }

    fn plain(bytes: &'o mut Vec<u8>) -> Writer<'o> {
        Writer::new(bytes, None)
    }

    pub(super) fn push(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    pub(super) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

/// Version and checksum of what begins at `start`.
fn write_footer(version: u16, start: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&version.to_le_bytes());
    let crc = crc64(0, &out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// As what a value is written.
pub(super) fn type_of(value: ValueRef<'_>) -> Type {
    let ValueRef::Collection(collection) = value else {
        return Type::String;
    };
    match collection {
        Collection::Hash(Hash::Packed(_)) => Type::HashListpack,
        Collection::Hash(Hash::Table(_)) => Type::Hash,
        Collection::Hash(Hash::Expiring(_)) => Type::HashTimes,
        Collection::List(_) => Type::ListQuicklist2,
        Collection::Set(Set::Ints(_)) => Type::SetIntset,
        // Version 10 has no packed set.
        Collection::Set(Set::Packed(_) | Set::Table(_)) => Type::Set,
        Collection::ZSet(Zset::Packed(_)) => Type::ZsetListpack,
        Collection::ZSet(_) => Type::Zset2,
        Collection::Stream(_) => Type::StreamListpacks2,
    }
}

/// Appends the value, whose type is written.
pub(super) fn write_value(value: ValueRef<'_>, out: &mut Writer<'_>) {
    match value {
        ValueRef::String(StringRef::Int(int)) => write_int(int, out),
        ValueRef::String(StringRef::Bytes(bytes)) => write_text(bytes, out),
        ValueRef::Collection(collection) => {
            let everything = Budget::new(usize::MAX, usize::MAX);
            let mut next = write_head(collection, out);
            while let Some(from) = next {
                next = write_elements(collection, from, everything, out);
            }
        }
    }
}

/// Appends what stands before a collection's elements: how many they are. Of one that is a single buffer, all of it. Returns the place of the first
/// element to be written.
pub(super) fn write_head(collection: &Collection, out: &mut Writer<'_>) -> Option<usize> {
    let count = match collection {
        Collection::Hash(Hash::Packed(packed)) | Collection::ZSet(Zset::Packed(packed)) => {
            write_blob(packed, out);
            return None;
        }
        Collection::Set(Set::Ints(ints)) => {
            let mut bytes = Vec::with_capacity(ints.intset_len());
            ints.write_intset(&mut bytes);
            write_bytes(&bytes, out);
            return None;
        }
        Collection::List(list) => list.packed_chunks_from(0).count(),
        Collection::Stream(stream) => stream.runs_len(0, usize::MAX).0,
        Collection::Hash(_) | Collection::Set(_) | Collection::ZSet(_) => collection.len(),
    };
    write_length(count as u64, out);
    Some(0)
}

/// Appends elements from place `from` on, as many as `budget` allows: the place to go on from, `None` at the end.
pub(super) fn write_elements(
    collection: &Collection,
    from: usize,
    mut budget: Budget,
    out: &mut Writer<'_>,
) -> Option<usize> {
    match collection {
        Collection::Hash(hash) => {
            let timed = matches!(hash, Hash::Expiring(_));
            hash.timed_piece(from, budget, |field, value, time| {
                write_item(field, out);
                write_item(value, out);
                if timed {
                    let time = time.map_or(STAYS, |at| at.0);
                    out.extend_from_slice(&time.to_le_bytes());
                }
            })
        }
        Collection::List(list) => {
            let mut place = from;
            for chunk in list.packed_chunks_from(from) {
                if !budget.takes(chunk.byte_len()) {
                    return Some(place);
                }
                write_length(NODE_PACKED, out);
                write_blob(chunk, out);
                place += chunk.len();
            }
            None
        }
        Collection::Set(set) => set.piece(from, budget, |member| write_item(member, out)),
        // From the greatest on, as Redis does it so that each insertion is at the start.
        Collection::ZSet(zset) => {
            let greatest = zset.len() - 1 - from;
            for (place, (member, score)) in (from..).zip(zset.iter_back_from(greatest)) {
                if !budget.takes(member.len() + size_of::<f64>()) {
                    return Some(place);
                }
                write_item(member, out);
                out.extend_from_slice(&score.to_le_bytes());
            }
            None
        }
        Collection::Stream(stream) => write_stream::write_places(stream, from, budget, out),
    }
}

pub(super) fn write_blob(packed: &Packed, out: &mut Writer<'_>) {
    let mut blob = Vec::with_capacity(packed.byte_len());
    packed.write_listpack(&mut blob);
    write_bytes(&blob, out);
}

fn write_item(item: Item<'_>, out: &mut Writer<'_>) {
    match item {
        Item::Int(int) => write_int(int, out),
        Item::Bytes(bytes) => write_text(bytes, out),
    }
}

pub(super) fn write_text(bytes: &[u8], out: &mut Writer<'_>) {
    if bytes.len() <= INT_TEXT_BYTES_MAX
        && let Some(int) = parse_i64(bytes)
    {
        return write_int(int, out);
    }
    write_bytes(bytes, out);
}

/// Compressed when that was asked for and saves something.
fn write_bytes(bytes: &[u8], out: &mut Writer<'_>) {
    let lzf = out.lzf.as_mut().filter(|_| bytes.len() > PLAIN_BYTES_MAX);
    match lzf.and_then(|lzf| lzf.compress(bytes)) {
        Some(compressed) => {
            out.push(COMPRESSED);
            write_length(compressed.len() as u64, out);
            write_length(bytes.len() as u64, out);
            out.extend_from_slice(&compressed);
        }
        None => {
            write_length(bytes.len() as u64, out);
            out.extend_from_slice(bytes);
        }
    }
}

/// In 1, 2 or 4 bytes, or as text when that is not enough.
fn write_int(int: i64, out: &mut Writer<'_>) {
    if let Ok(byte) = i8::try_from(int) {
        out.push(0xC0);
        out.extend_from_slice(&byte.to_le_bytes());
    } else if let Ok(short) = i16::try_from(int) {
        out.push(0xC1);
        out.extend_from_slice(&short.to_le_bytes());
    } else if let Ok(word) = i32::try_from(int) {
        out.push(0xC2);
        out.extend_from_slice(&word.to_le_bytes());
    } else {
        let mut digits = [0; 20];
        let text = larder_wire::resp::write::decimal(&mut digits, int);
        write_length(text.len() as u64, out);
        out.extend_from_slice(text);
    }
}

/// 6 bits, 14 bits, or a marker with 32 or 64 bits, big-endian.
pub(super) fn write_length(len: u64, out: &mut Writer<'_>) {
    if len < 1 << 6 {
        out.push(len as u8);
    } else if len < 1 << 14 {
        out.extend_from_slice(&(len as u16 | 0x4000).to_be_bytes());
    } else if let Ok(len) = u32::try_from(len) {
        out.push(0x80);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(0x81);
        out.extend_from_slice(&len.to_be_bytes());
    }
}
