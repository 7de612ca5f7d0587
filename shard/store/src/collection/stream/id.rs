//! Ids of stream entries: a time in milliseconds and a number within it.

use std::cmp::Ordering;
use std::fmt;

use super::super::sorted::Key;
use crate::number::parse_i64;

/// Longest text of an id: two numbers of twenty digits and what stands between them.
pub const ID_TEXT_BYTES_MAX: usize = 41;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    pub ms: u64,
    pub seq: u64,
}

impl Key for StreamId {
    const COMES_IN_ORDER: bool = true;
    const HAS_TAILS: bool = true;

    fn order(&self, other: &StreamId) -> Ordering {
        self.cmp(other)
    }
}

impl StreamId {
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    pub const MAX: StreamId = StreamId {
        ms: u64::MAX,
        seq: u64::MAX,
    };

    /// The id right after this one.
    pub fn next(self) -> Option<StreamId> {
        match (self.ms, self.seq) {
            (u64::MAX, u64::MAX) => None,
            (ms, u64::MAX) => Some(StreamId { ms: ms + 1, seq: 0 }),
            (ms, seq) => Some(StreamId { ms, seq: seq + 1 }),
        }
    }

    /// The id right before this one.
    pub fn previous(self) -> Option<StreamId> {
        match (self.ms, self.seq) {
            (0, 0) => None,
            (ms, 0) => Some(StreamId {
                ms: ms - 1,
                seq: u64::MAX,
            }),
            (ms, seq) => Some(StreamId { ms, seq: seq - 1 }),
        }
    }

    /// `<ms>` or `<ms>-<seq>`; `seq` is taken where the text has none.
    pub fn parse(text: &[u8], seq: u64) -> Option<StreamId> {
        match text.iter().position(|byte| *byte == b'-') {
            None => Some(StreamId {
                ms: parse_part(text)?,
                seq,
            }),
            Some(at) => Some(StreamId {
                ms: parse_part(&text[..at])?,
                seq: parse_part(&text[at + 1..])?,
            }),
        }
    }

    /// Its text, written to `room`.
    pub fn text(self, room: &mut [u8; ID_TEXT_BYTES_MAX]) -> &[u8] {
        use std::io::Write;
        let mut rest = &mut room[..];
        write!(rest, "{self}").expect("the longest id fits");
        let left = rest.len();
        &room[..ID_TEXT_BYTES_MAX - left]
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// As Redis' `string2ull`: the one spelling of a number, or what `strtoull` makes of it.
pub fn parse_part(text: &[u8]) -> Option<u64> {
    if let Some(int) = parse_i64(text) {
        return u64::try_from(int).ok();
    }
    let text = text.trim_ascii_start();
    std::str::from_utf8(text).ok()?.parse().ok()
}
