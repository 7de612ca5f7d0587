//! How a key of an RDB file is written to a node: as one RESTORE, or, when it is large, piece by piece, so that no request
//! keeps a node from its clients for long. Nobody reads an imported key before the cutover, so half of one is seen by nobody.

use larder_store::collection::Item;
use larder_store::{Collection, Value, rdb};
use larder_wire::UnixMillis;
use larder_wire::float::{DOUBLE_TEXT_BYTES_MAX, format_double};
use larder_wire::resp::OwnedRequest;

/// A value of more bytes than this goes in pieces of about as many.
pub(crate) const PIECE_BYTES_MAX: usize = 256 * 1024;

/// The requests that write the key, in order.
pub(crate) fn requests(
    key: &[u8],
    value: &Value,
    expires: Option<UnixMillis>,
    mut take: impl FnMut(Vec<u8>),
) {
    let large = match value {
        Value::Int(_) => false,
        Value::Bytes(bytes) => bytes.len() > PIECE_BYTES_MAX,
        Value::Collection(collection) => {
            collection.heap_bytes() > PIECE_BYTES_MAX && is_divisible(collection)
        }
    };
    if !large {
        let mut payload = Vec::new();
        rdb::to_payload(value.view(), &mut payload);
        return take(restore(key, &payload, expires));
    }
    take(OwnedRequest::from_args([b"DEL", key]).into_bytes());
    match value {
        Value::Int(_) => {}
        Value::Bytes(bytes) => {
            for piece in bytes.chunks(PIECE_BYTES_MAX) {
                take(OwnedRequest::from_args([b"APPEND", key, piece]).into_bytes());
            }
        }
        Value::Collection(collection) => in_pieces(key, collection, &mut take),
    }
    if let Some(at) = expires {
        let at = at.0.to_string();
        take(OwnedRequest::from_args([b"PEXPIREAT", key, at.as_bytes()]).into_bytes());
    }
}

/// `RESTORE` of a payload, in place of whatever is there.
pub(crate) fn restore(key: &[u8], payload: &[u8], expires: Option<UnixMillis>) -> Vec<u8> {
    let at = expires.map_or(0, |at| at.0.max(1)).to_string();
    let args: [&[u8]; 6] = [
        b"RESTORE",
        key,
        at.as_bytes(),
        payload,
        b"REPLACE",
        b"ABSTTL",
    ];
    OwnedRequest::from_args(args).into_bytes()
}

/// A stream's groups and a hash's expiring fields are not to be had by commands that are as short as a payload.
fn is_divisible(collection: &Collection) -> bool {
    match collection {
        Collection::Hash(hash) => hash.next_due().is_none(),
        Collection::List(_) | Collection::Set(_) | Collection::ZSet(_) => true,
        Collection::Stream(_) => false,
    }
}

fn in_pieces(key: &[u8], collection: &Collection, take: &mut impl FnMut(Vec<u8>)) {
    let mut room = [0; DOUBLE_TEXT_BYTES_MAX];
    match collection {
        Collection::Hash(hash) => {
            let mut piece = Piece::new(b"HSET", key, take);
            for (field, value) in hash.iter() {
                piece.push([text(field), text(value)]);
            }
            piece.send();
        }
        Collection::List(list) => {
            let mut piece = Piece::new(b"RPUSH", key, take);
            for element in list.iter() {
                piece.push([text(element)]);
            }
            piece.send();
        }
        Collection::Set(set) => {
            let mut piece = Piece::new(b"SADD", key, take);
            for member in set.iter() {
                piece.push([text(member)]);
            }
            piece.send();
        }
        Collection::ZSet(zset) => {
            let mut piece = Piece::new(b"ZADD", key, take);
            for (member, score) in zset.iter() {
                let score = format_double(&mut room, score).to_vec();
                piece.push([score, text(member)]);
            }
            piece.send();
        }
        Collection::Stream(_) => {
            debug_assert!(false, "asked of what is divisible only");
        }
    }
}

fn text(item: Item<'_>) -> Vec<u8> {
    item.to_vec()
}

/// A command under construction.
struct Piece<'a, T> {
    name: &'static [u8],
    key: &'a [u8],
    args: Vec<Vec<u8>>,
    bytes: usize,
    take: &'a mut T,
}

impl<'a, T: FnMut(Vec<u8>)> Piece<'a, T> {
    fn new(name: &'static [u8], key: &'a [u8], take: &'a mut T) -> Piece<'a, T> {
        Piece {
            name,
            key,
            args: Vec::new(),
            bytes: 0,
            take,
        }
    }

    /// One element, whole.
    fn push<const N: usize>(&mut self, args: [Vec<u8>; N]) {
        self.bytes += args.iter().map(Vec::len).sum::<usize>();
        self.args.extend(args);
        if self.bytes >= PIECE_BYTES_MAX {
            self.send();
        }
    }

    fn send(&mut self) {
        if self.args.is_empty() {
            return;
        }
        let head = [self.name, self.key];
        let args: Vec<&[u8]> = head
            .into_iter()
            .chain(self.args.iter().map(Vec::as_slice))
            .collect();
        (self.take)(OwnedRequest::from_args(args).into_bytes());
        self.args.clear();
        self.bytes = 0;
    }
}
