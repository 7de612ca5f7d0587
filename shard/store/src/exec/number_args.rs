//! Numbers and words among a command's arguments, and what a client is told of those that are none.

use larder_wire::Refusal;

use crate::number::parse_i64;

pub(super) fn int(arg: &[u8]) -> Result<i64, Refusal> {
    parse_i64(arg).ok_or(Refusal::NOT_AN_INTEGER)
}

/// An integer of at least `min`; anything else is told in `refusal`.
pub(super) fn at_least(min: i64, arg: &[u8], refusal: &'static str) -> Result<usize, Refusal> {
    match parse_i64(arg) {
        Some(value) if value >= min => Ok(value as usize),
        Some(_) | None => Err(Refusal::fixed(refusal)),
    }
}

/// How many elements to pop.
pub(super) fn pop_count(arg: &[u8]) -> Result<usize, Refusal> {
    at_least(0, arg, "ERR value is out of range, must be positive")
}

/// How many keys follow.
pub(super) fn key_count(arg: &[u8]) -> Result<usize, Refusal> {
    at_least(1, arg, "ERR numkeys should be greater than 0")
}

/// True when `arg` is this keyword, in whatever case.
pub(super) fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// The places that a range from `start` to `stop` means among `len`, both ends included and counted from the end when
/// negative: the first place and how many.
pub(super) fn span(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let place = |index: i64| match index {
        0.. => index,
        ..0 => index.saturating_add(len as i64),
    };
    let first = place(start).max(0);
    let last = place(stop).min(len as i64 - 1);
    if first > last {
        return (0, 0);
    }
    (first as usize, (last - first + 1) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_the_part_of_a_range_that_exists() {
        for (start, stop, len, expected) in [
            (0, -1, 5, (0, 5)),
            (-3, 10, 5, (2, 3)),
            (-100, 1, 5, (0, 2)),
            (3, 2, 5, (0, 0)),
            (5, 9, 5, (0, 0)),
            (0, -6, 5, (0, 0)),
            (0, 0, 0, (0, 0)),
            (i64::MIN, i64::MAX, 3, (0, 3)),
        ] {
            assert_eq!(span(start, stop, len), expected, "{start}..{stop} of {len}");
        }
    }
}
