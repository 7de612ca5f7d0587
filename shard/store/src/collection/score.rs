//! Scores: their order, and their text in a packed buffer.

use std::cmp::Ordering;

use larder_wire::float::{DOUBLE_TEXT_BYTES_MAX, format_double};

use super::item::Item;
use super::sorted::Key;

/// A score: never NaN. `-0` and `0` are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score(pub f64);

impl Key for Score {
    const COMES_IN_ORDER: bool = true;
    const HAS_TAILS: bool = false;

    #[inline]
    fn order(&self, other: &Score) -> Ordering {
        self.0.partial_cmp(&other.0).expect("scores are never NaN")
    }
}

/// A packed score: an integer where the score is one, else its text. `-0` becomes `0`, as in Redis.
pub fn packed_score(score: f64, room: &mut [u8; DOUBLE_TEXT_BYTES_MAX]) -> Item<'_> {
    // As far as Redis goes: half of the range of 64-bit integers.
    const INT_MAX: f64 = 4_611_686_018_427_387_904.0;
    if score.trunc() == score && score.abs() <= INT_MAX {
        return Item::Int(score as i64);
    }
    Item::Bytes(format_double(room, score))
}

/// The score that a packed element spells; `None` for anything else and for NaN.
pub fn unpacked_score(item: Item<'_>) -> Option<f64> {
    match item {
        Item::Int(value) => Some(value as f64),
        Item::Bytes(text) => {
            let score: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
            (!score.is_nan()).then_some(score)
        }
    }
}
