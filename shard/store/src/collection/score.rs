//! Scores: their order, and their text in a packed buffer.

use std::cmp::Ordering;

use super::packed::Item;
use super::sorted::Key;

/// A score: never NaN. `-0` and `0` are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score(pub f64);

impl Key for Score {
    const COMES_IN_ORDER: bool = true;

    #[inline]
    fn order(&self, other: &Score) -> Ordering {
        self.0.partial_cmp(&other.0).expect("scores are never NaN")
    }
}

/// A packed score: an integer where the score is one, else its shortest text.
pub fn packed_score(score: f64, text: &mut String) -> Item<'_> {
    // 2^53 is where doubles stop telling neighbouring integers apart.
    let is_int = score.fract() == 0.0 && score.abs() < 9_007_199_254_740_992.0;
    if is_int && !(score == 0.0 && score.is_sign_negative()) {
        return Item::Int(score as i64);
    }
    use std::fmt::Write as _;
    text.clear();
    // Rust spells infinity "inf" and never uses an exponent with {}: with {:e} every double stays short.
    let written = if score.is_infinite() || score == 0.0 {
        write!(text, "{score}")
    } else if score.abs() < 1e-5 || score.abs() >= 1e17 {
        write!(text, "{score:e}")
    } else {
        write!(text, "{score}")
    };
    written.expect("a String takes everything");
    Item::Bytes(text.as_bytes())
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
