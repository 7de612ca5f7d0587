//! A record of an RDB file as the requests that make its key on a node that may have another of that name. Pure.

use larder_engine::feed::pieces::{Large, is_small, write_whole};
use larder_store::rdb::to_payload;
use larder_store::{Captured, Db, ValueRef};
use larder_wire::resp::{OwnedRequest, RequestScanner, Scanned};
use larder_wire::{Slot, UnixMillis, slot_of};

/// One key.
pub(crate) struct Entry {
    pub(crate) slot: Slot,
    pub(crate) db: Db,
    /// One request, or the pieces of a large value, in order.
    pub(crate) pieces: Vec<Piece>,
    /// Its time may end before it is counted.
    pub(crate) expires: bool,
}

/// Requests that are sent at once.
pub(crate) struct Piece {
    pub(crate) requests: Vec<u8>,
    /// How many they are.
    pub(crate) count: usize,
}

impl Piece {
    /// A request alone.
    pub(crate) fn one(requests: Vec<u8>) -> Piece {
        Piece { requests, count: 1 }
    }
}

impl Entry {
    /// A string is one SET, a small collection one RESTORE; of a large one what is there is removed, and its pieces follow.
    pub(crate) fn new(db: Db, key: &[u8], captured: Captured) -> Entry {
        let expires = captured.expires;
        let mut requests = Vec::new();
        let view = captured.value.view();
        let pieces = match view {
            ValueRef::String(_) => {
                write_whole(key, view, expires, &mut requests);
                vec![Piece::one(requests)]
            }
            ValueRef::Collection(_) if is_small(&view) => {
                let mut payload = Vec::new();
                to_payload(view, &mut payload);
                let UnixMillis(at) = expires.unwrap_or_default();
                let at = at.to_string();
                let words: [&[u8]; 6] = [
                    b"RESTORE",
                    key,
                    at.as_bytes(),
                    &payload,
                    b"REPLACE",
                    b"ABSTTL",
                ];
                vec![Piece::one(OwnedRequest::from_args(words).into_bytes())]
            }
            ValueRef::Collection(_) => {
                let removal: [&[u8]; 2] = [b"DEL", key];
                let mut pieces = vec![Piece::one(OwnedRequest::from_args(removal).into_bytes())];
                let mut large = Large::new(key, captured);
                let mut more = true;
                while more {
                    more = large.write_next(&mut requests);
                    let count = requests_in(&requests);
                    let requests = std::mem::take(&mut requests);
                    pieces.push(Piece { requests, count });
                }
                pieces
            }
        };
        Entry {
            slot: slot_of(key),
            db,
            pieces,
            expires: expires.is_some(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.requests.len()).sum()
    }
}

/// Requests of our own making.
fn requests_in(bytes: &[u8]) -> usize {
    let mut scanner = RequestScanner::new();
    let (mut at, mut count) = (0, 0);
    while at < bytes.len() {
        match scanner.scan(&bytes[at..]) {
            Ok(Scanned::Request { consumed }) => at += consumed,
            other => unreachable!("these are whole requests: {other:?}"),
        }
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use larder_store::Value;
    use larder_store::collection::CollectionSettings;
    use larder_store::rdb::from_payload;

    use super::*;

    fn set(elements: usize) -> Value {
        let settings = CollectionSettings::new(7);
        let mut bytes = vec![2, 0x80];
        bytes.extend_from_slice(&(elements as u32).to_be_bytes());
        for n in 0..elements {
            let text = format!("member:{n}");
            bytes.push(text.len() as u8);
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes.extend_from_slice(&10_u16.to_le_bytes());
        let crc = larder_store::rdb::crc64::crc64(0, &bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        from_payload(&bytes, &settings).expect("a set")
    }

    fn names(value: Value, expires: Option<UnixMillis>) -> Vec<String> {
        let entry = Entry::new(Db::ZERO, b"key", Captured { value, expires });
        assert_eq!(entry.slot, slot_of(b"key"));
        assert_eq!(entry.expires, expires.is_some());
        let mut names = Vec::new();
        for piece in &entry.pieces {
            assert_eq!(requests_in(&piece.requests), piece.count);
            let (mut scanner, mut at) = (RequestScanner::new(), 0);
            while at < piece.requests.len() {
                let Ok(Scanned::Request { consumed }) = scanner.scan(&piece.requests[at..]) else {
                    panic!("a whole request");
                };
                let request = scanner.request(&piece.requests[at..]);
                names.push(String::from_utf8_lossy(request.arg(0)).into_owned());
                at += consumed;
            }
        }
        names
    }

    #[test]
    fn each_kind_of_value_is_made_by_requests_of_its_own() {
        let string = Value::Bytes(b"value".to_vec().into());
        assert_eq!(names(string, Some(UnixMillis(1))), ["SET"]);
        assert_eq!(names(set(3), None), ["RESTORE"]);
        let large = names(set(2000), Some(UnixMillis(1)));
        assert_eq!(large.first().map(String::as_str), Some("DEL"));
        assert_eq!(large.last().map(String::as_str), Some("PEXPIREAT"));
        assert!(large[1..large.len() - 1].iter().all(|name| name == "SADD"));
        assert!(large.len() > 4, "{large:?}");
    }
}
