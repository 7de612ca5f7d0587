//! A key as commands: what makes it, on a node that does not have it. Large collections in pieces of bounded size.

use larder_store::collection::Item;
use larder_store::collection::pieces::Budget;
use larder_store::{Captured, Collection, StringRef, Value, ValueRef};
use larder_wire::UnixMillis;
use larder_wire::float::{DOUBLE_TEXT_BYTES_MAX, format_double};
use larder_wire::resp::write::{array_header, decimal};

use super::frame::{bulk, command};

/// Most elements and bytes of one piece; an element that is larger travels alone.
const PIECE_ELEMENTS_MAX: usize = 512;
const PIECE_BYTES_MAX: usize = 16 * 1024;
/// A collection of more elements or bytes than this is captured and sent in pieces.
const WHOLE_ELEMENTS_MAX: usize = 256;
const WHOLE_BYTES_MAX: usize = 16 * 1024;

/// True when `value` goes out at once; else it is captured and goes in pieces.
pub fn is_small(value: &ValueRef<'_>) -> bool {
    match value {
        ValueRef::String(_) => true,
        ValueRef::Collection(collection) => {
            collection.len() <= WHOLE_ELEMENTS_MAX && collection.heap_bytes() <= WHOLE_BYTES_MAX
        }
    }
}

/// Writes all of a key.
pub fn write_whole(
    key: &[u8],
    value: ValueRef<'_>,
    expires: Option<UnixMillis>,
    out: &mut Vec<u8>,
) {
    match value {
        ValueRef::String(string) => write_string(key, string, expires, out),
        ValueRef::Collection(collection) => {
            let mut from = Some(0);
            while let Some(place) = from {
                from = write_piece(key, collection, place, out);
            }
            write_expiry(key, expires, out);
        }
    }
}

/// A large key on its way out.
pub struct Large {
    key: Box<[u8]>,
    captured: Captured,
    /// The element to go on from.
    from: usize,
}

impl Large {
    pub fn new(key: &[u8], captured: Captured) -> Large {
        Large {
            key: key.into(),
            captured,
            from: 0,
        }
    }

    /// Writes the next piece; false when that was the last.
    pub fn write_next(&mut self, out: &mut Vec<u8>) -> bool {
        let (key, expires) = (&self.key, self.captured.expires);
        match &self.captured.value {
            Value::Int(int) => write_string(key, StringRef::Int(*int), expires, out),
            Value::Bytes(bytes) => write_string(key, StringRef::Bytes(bytes), expires, out),
            Value::Collection(collection) => {
                if let Some(next) = write_piece(key, collection, self.from, out) {
                    self.from = next;
                    return true;
                }
                write_expiry(key, expires, out);
            }
        }
        false
    }
}

fn write_string(key: &[u8], string: StringRef<'_>, expires: Option<UnixMillis>, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let text = string.text(&mut digits);
    match expires {
        None => command(out, &[b"SET", key, text]),
        Some(at) => command(
            out,
            &[b"SET", key, text, b"PXAT", decimal(&mut [0; 20], at.0)],
        ),
    }
}

/// The expiry comes last: no piece finds its key expired.
fn write_expiry(key: &[u8], expires: Option<UnixMillis>, out: &mut Vec<u8>) {
    if let Some(at) = expires {
        command(out, &[b"PEXPIREAT", key, decimal(&mut [0; 20], at.0)]);
    }
}

/// One command (of a stream: several) with the elements from `from` on; where the next one goes on.
fn write_piece(
    key: &[u8],
    collection: &Collection,
    from: usize,
    out: &mut Vec<u8>,
) -> Option<usize> {
    let budget = Budget::new(PIECE_ELEMENTS_MAX, PIECE_BYTES_MAX);
    let mut body = Vec::new();
    let mut args = 2;
    let item = |body: &mut Vec<u8>, item: Item<'_>| bulk(body, item.text(&mut [0; 20]));
    let (name, next): (&[u8], _) = match collection {
        Collection::Hash(hash) if from >= hash.len() => {
            let (at, fields, next) = hash.times_piece(from - hash.len(), budget)?;
            bulk(&mut body, decimal(&mut [0; 20], at.0));
            bulk(&mut body, b"FIELDS");
            bulk(&mut body, fields.len().to_string().as_bytes());
            fields.iter().for_each(|field| bulk(&mut body, field));
            args += 3 + fields.len();
            (b"HPEXPIREAT", next.map(|next| hash.len() + next))
        }
        Collection::Hash(hash) => {
            let next = hash.piece(from, budget, |field, value| {
                item(&mut body, field);
                item(&mut body, value);
                args += 2;
            });
            // The places after those of the fields are those of the fields that expire.
            let times = hash.next_due().map(|_| hash.len());
            (b"HSET", next.or(times))
        }
        Collection::List(list) => {
            let next = list.piece(from, budget, |element| {
                item(&mut body, element);
                args += 1;
            });
            (b"RPUSH", next)
        }
        Collection::Set(set) => {
            let next = set.piece(from, budget, |member| {
                item(&mut body, member);
                args += 1;
            });
            (b"SADD", next)
        }
        Collection::ZSet(zset) => {
            let next = zset.piece(from, budget, |member, score| {
                let mut room = [0; DOUBLE_TEXT_BYTES_MAX];
                bulk(&mut body, format_double(&mut room, score));
                item(&mut body, member);
                args += 2;
            });
            (b"ZADD", next)
        }
        Collection::Stream(stream) => {
            return stream.piece(key, from, budget, |args| command(out, args));
        }
    };
    array_header(out, args);
    bulk(out, name);
    bulk(out, key);
    out.extend_from_slice(&body);
    next
}
