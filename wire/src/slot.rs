//! Hash slots: which of 16384 slots a key belongs to.
//!
//! Source: the Redis Cluster specification, "Key distribution model" and "Hash tags".

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::crc16::{short_word, xmodem};

/// Slots in every cluster.
pub const SLOT_COUNT: u16 = 16384;

/// One of the [`SLOT_COUNT`] slots, `0..=16383`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Slot(u16);

impl Slot {
    pub const FIRST: Slot = Slot(0);
    pub const LAST: Slot = Slot(SLOT_COUNT - 1);

    /// `None` when `number` is 16384 or more.
    pub const fn new(number: u16) -> Option<Slot> {
        if number < SLOT_COUNT {
            Some(Slot(number))
        } else {
            None
        }
    }

    pub const fn number(self) -> u16 {
        self.0
    }

    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Every slot, in ascending order.
    pub fn all() -> impl DoubleEndedIterator<Item = Slot> + ExactSizeIterator {
        (0..SLOT_COUNT).map(Slot)
    }

    /// The slot after this one; `None` after the last.
    pub const fn next(self) -> Option<Slot> {
        Slot::new(self.0 + 1)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {}", self.0)
    }
}

impl From<Slot> for u16 {
    fn from(slot: Slot) -> u16 {
        slot.0
    }
}

impl TryFrom<u16> for Slot {
    type Error = String;

    fn try_from(number: u16) -> Result<Slot, String> {
        Slot::new(number).ok_or_else(|| format!("slot {number} is beyond 16383"))
    }
}

/// The slot of `key`: CRC16-XMODEM of its hash tag, or of all of it where it has none.
#[inline]
pub fn slot_of(key: &[u8]) -> Slot {
    let part = if has_brace(key) { hash_tag(key) } else { key };
    Slot(xmodem(part) % SLOT_COUNT)
}

/// Whether there is a `{` in the key.
#[inline]
fn has_brace(key: &[u8]) -> bool {
    let Some(last) = key.last_chunk::<8>() else {
        return word_has_brace(short_word(key));
    };
    // What is left behind the last whole word lies in the last eight bytes.
    let words = key.as_chunks::<8>().0.iter().chain([last]);
    words.fold(false, |has, word| {
        has | word_has_brace(u64::from_be_bytes(*word))
    })
}

/// A byte that is zero after the exclusive or borrows from its highest bit.
#[inline]
fn word_has_brace(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let differs = word ^ (ONES * b'{' as u64);
    differs.wrapping_sub(ONES) & !differs & (ONES << 7) != 0
}

/// The bytes between the first `{` and the first `}` after it, unless there are none between
/// them; else the whole key.
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&b| b == b'{') else {
        return key;
    };
    let rest = &key[open + 1..];
    match rest.iter().position(|&b| b == b'}') {
        None | Some(0) => key,
        Some(close) => &rest[..close],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        assert_eq!(slot_of(b"123456789").number(), 0x31C3 % SLOT_COUNT);
        assert_eq!(slot_of(b"foo").number(), 12182);
        assert_eq!(slot_of(b"").number(), 0);
    }

    #[test]
    fn a_brace_is_found_wherever_it_stands() {
        for len in 0..40 {
            let mut key = vec![b'z'; len];
            assert!(!has_brace(&key));
            for at in 0..len {
                key[at] = b'{';
                assert!(has_brace(&key), "{at} of {len}");
                for other in [b'{' ^ 0x80, b'{' - 1, b'{' + 1, 0, 0xFF] {
                    key[at] = other;
                    assert!(!has_brace(&key), "{other} at {at} of {len}");
                }
                key[at] = b'z';
            }
        }
    }

    #[test]
    fn a_hash_tag_is_what_stands_in_the_first_braces() {
        assert_eq!(hash_tag(b"{user1000}.following"), b"user1000");
        assert_eq!(hash_tag(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(hash_tag(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(hash_tag(b"foo{bar}{zap}"), b"bar");
        assert_eq!(hash_tag(b"foo{bar"), b"foo{bar");
        assert_eq!(hash_tag(b"foo}{bar}"), b"bar");
    }
}
