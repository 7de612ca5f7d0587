//! The frames of a feed: RESP arrays, each a command that the target applies, or one of the feed's own words.
//!
//! ```text
//! source → target   SET … · HSET … · PEXPIREAT …   keys (large ones in several frames) and effects, in order
//!                   LARDER DB <n>                  the database of what follows; 0 until this is said
//!                   LARDER AT <ms>                 the source's clock for what follows
//!                   LARDER SLOT <slot> <keys>      a slot was walked to its end
//!                   LARDER FLUSH [<n>]             every key of the feed's slots is gone, from one database or all
//!                   LARDER DROP <slots> [<n>]      to a replica, in its primary's journal, too: every key of these slots is gone
//!                   LARDER CUT <offset>            all is sent: so many bytes before this frame; the source holds
//!                   LARDER MAP <json>              after the cut: the map by which the slots are the target's
//!                   LARDER END <reason>            the feed is void
//! target → source   LARDER ACK <offset>            so many bytes have been applied
//! ```
//!
//! The stream's version is that of the connection's `LARDER HELLO`.

use larder_store::Db;
use larder_wire::resp::Request;
use larder_wire::resp::write::{array_header, bulk_header, decimal};
use larder_wire::{ClusterMap, Offset, Slot, SlotSet, UnixMillis};

/// One of the feed's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    Db(Db),
    At(UnixMillis),
    Slot {
        slot: Slot,
        keys: u64,
    },
    /// `None`: all databases.
    Flush(Option<Db>),
    /// `None`: all databases.
    Drop {
        slots: SlotSet,
        db: Option<Db>,
    },
    Cut(Offset),
    Map(Box<ClusterMap>),
    End(String),
    Ack(Offset),
}

impl Word {
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Word::Db(db) => words(out, &[b"DB", number(&mut [0; 20], i64::from(db.number()))]),
            Word::At(now) => words(out, &[b"AT", number(&mut [0; 20], now.0)]),
            Word::Slot { slot, keys } => {
                let slot = i64::from(slot.number());
                let keys = *keys as i64;
                words(
                    out,
                    &[
                        b"SLOT",
                        number(&mut [0; 20], slot),
                        number(&mut [0; 20], keys),
                    ],
                );
            }
            Word::Flush(None) => words(out, &[b"FLUSH"]),
            Word::Flush(Some(db)) => words(
                out,
                &[b"FLUSH", number(&mut [0; 20], i64::from(db.number()))],
            ),
            Word::Drop { slots, db } => {
                let (slots, db) = (slots.to_string(), db.map(|db| db.to_string()));
                let args = [&b"DROP"[..], slots.as_bytes()].into_iter();
                let args: Vec<&[u8]> = args.chain(db.as_deref().map(str::as_bytes)).collect();
                words(out, &args);
            }
            Word::Cut(offset) => words(out, &[b"CUT", number(&mut [0; 20], offset.0 as i64)]),
            Word::Map(map) => {
                let json = serde_json::to_vec(map).expect("a map is JSON");
                words(out, &[b"MAP", &json]);
            }
            Word::End(reason) => words(out, &[b"END", reason.as_bytes()]),
            Word::Ack(offset) => words(out, &[b"ACK", number(&mut [0; 20], offset.0 as i64)]),
        }
    }

    /// `None`: the frame is a command. `Some(Err)`: a word that this release does not know.
    pub fn read(request: &Request<'_>) -> Option<Result<Word, String>> {
        if !request.name().eq_ignore_ascii_case(b"LARDER") {
            return None;
        }
        let parsed = match (request.get(1), request.get(2), request.get(3)) {
            (Some(b"DB"), Some(db), None) => parse(db).and_then(Db::new).map(Word::Db),
            (Some(b"AT"), Some(ms), None) => parse(ms).map(|ms| Word::At(UnixMillis(ms))),
            (Some(b"SLOT"), Some(slot), Some(keys)) => parse(slot)
                .and_then(|slot| Slot::new(u16::try_from(slot).ok()?))
                .zip(parse(keys))
                .map(|(slot, keys)| Word::Slot {
                    slot,
                    keys: keys as u64,
                }),
            (Some(b"FLUSH"), None, None) => Some(Word::Flush(None)),
            (Some(b"FLUSH"), Some(db), None) => {
                parse(db).and_then(Db::new).map(|db| Word::Flush(Some(db)))
            }
            (Some(b"DROP"), Some(slots), None) => {
                parse_slots(slots).map(|slots| Word::Drop { slots, db: None })
            }
            (Some(b"DROP"), Some(slots), Some(db)) => parse_slots(slots)
                .zip(parse(db).and_then(Db::new))
                .map(|(slots, db)| Word::Drop {
                    slots,
                    db: Some(db),
                }),
            (Some(b"CUT"), Some(offset), None) => {
                parse(offset).map(|offset| Word::Cut(Offset(offset as u64)))
            }
            (Some(b"MAP"), Some(json), None) => serde_json::from_slice(json).ok().map(Word::Map),
            (Some(b"END"), Some(reason), None) => {
                Some(Word::End(String::from_utf8_lossy(reason).into_owned()))
            }
            (Some(b"ACK"), Some(offset), None) => {
                parse(offset).map(|offset| Word::Ack(Offset(offset as u64)))
            }
            _ => None,
        };
        Some(parsed.ok_or_else(|| format!("a feed has no word {request:?}")))
    }
}

fn parse(text: &[u8]) -> Option<i64> {
    larder_store::number::parse_i64(text)
}

fn parse_slots(text: &[u8]) -> Option<SlotSet> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn number(digits: &mut [u8; 20], value: i64) -> &[u8] {
    decimal(digits, value)
}

pub(crate) fn words(out: &mut Vec<u8>, args: &[&[u8]]) {
    array_header(out, args.len() + 1);
    bulk(out, b"LARDER");
    for arg in args {
        bulk(out, arg);
    }
}

/// A command of `args`.
pub(super) fn command(out: &mut Vec<u8>, args: &[&[u8]]) {
    array_header(out, args.len());
    for arg in args {
        bulk(out, arg);
    }
}

pub(super) fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    bulk_header(out, bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use larder_wire::resp::{RequestScanner, Scanned};

    use super::*;

    #[test]
    fn every_word_is_read_back_as_it_was_written() {
        for word in [
            Word::At(UnixMillis(1_700_000_000_123)),
            Word::Slot {
                slot: Slot::LAST,
                keys: 7,
            },
            Word::Db(Db::new(15).unwrap()),
            Word::Flush(None),
            Word::Flush(Db::new(3)),
            Word::Drop {
                slots: "0-5,77".parse().unwrap(),
                db: None,
            },
            Word::Drop {
                slots: "9".parse().unwrap(),
                db: Db::new(2),
            },
            Word::Cut(Offset(12)),
            Word::Map(Box::new(
                ClusterMap::new("larder", larder_wire::Epoch(3), Vec::new()).unwrap(),
            )),
            Word::End("the hold was let go".to_string()),
            Word::Ack(Offset(u64::MAX >> 1)),
        ] {
            let mut bytes = Vec::new();
            word.write(&mut bytes);
            let mut scanner = RequestScanner::new();
            let consumed = bytes.len();
            assert_eq!(scanner.scan(&bytes), Ok(Scanned::Request { consumed }));
            assert_eq!(Word::read(&scanner.request(&bytes)), Some(Ok(word)));
        }
    }

    #[test]
    fn a_word_of_a_later_release_is_named_and_a_command_is_none() {
        let later = larder_wire::resp::OwnedRequest::from_args(["LARDER", "ZIP", "1"]);
        let error = Word::read(&later.view()).unwrap().unwrap_err();
        assert!(error.contains("ZIP"), "{error}");
        let command = larder_wire::resp::OwnedRequest::from_args(["SET", "a", "1"]);
        assert_eq!(Word::read(&command.view()), None);
    }
}
