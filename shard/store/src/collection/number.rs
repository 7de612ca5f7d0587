//! Numbers in text as Redis reads and writes them.

/// The integer that `text` spells canonically (no sign but `-`, no leading zeros, no spaces), so that
/// spelling it again gives the same text.
#[inline]
pub fn canonical_int(text: &[u8]) -> Option<i64> {
    let (&first, negative, digits) = match text {
        [b'-', digits @ ..] => (digits.first()?, true, digits),
        digits => (digits.first()?, false, digits),
    };
    if digits.len() > 19 || (first == b'0' && (negative || digits.len() > 1)) {
        return None;
    }
    let mut value = 0u64;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    if negative {
        (value <= i64::MIN.unsigned_abs()).then(|| (value as i64).wrapping_neg())
    } else {
        i64::try_from(value).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_spelling_of_an_integer_is_one() {
        for value in [0, 7, -7, 10, 127, -4096, i64::MAX, i64::MIN, i64::MIN + 1] {
            assert_eq!(canonical_int(value.to_string().as_bytes()), Some(value));
        }
        let refused: [&str; 12] = [
            "", "-", "-0", "+1", "01", "-01", " 1", "1 ", "1.0", "9223372036854775808",
            "-9223372036854775809", "99999999999999999999",
        ];
        for text in refused {
            assert_eq!(canonical_int(text.as_bytes()), None, "{text:?}");
        }
    }
}
