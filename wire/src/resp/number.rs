//! Numbers of RESP's header lines.

/// Longest run of digits that [`short`] reads: no overflow in a `u32`.
const SHORT_DIGITS_MAX: usize = 9;

/// Reads `<digits>\r\n` at `at`, with the place behind it. `None` for everything that is not
/// plainly that: sign, leading zero, too many digits, cut off. The hot path of both scanners.
#[inline(always)]
pub(super) fn short(buf: &[u8], at: usize) -> Option<(u32, usize)> {
    let rest = buf.get(at..)?;
    let mut value = digit(*rest.first()?)?;
    let leading_zero = value == 0;
    let mut len = 1;
    loop {
        let byte = *rest.get(len)?;
        match digit(byte) {
            Some(next) if len < SHORT_DIGITS_MAX && !leading_zero => value = value * 10 + next,
            Some(_) => return None,
            None if byte == b'\r' && *rest.get(len + 1)? == b'\n' => {
                return Some((value, at + len + 2));
            }
            None => return None,
        }
        len += 1;
    }
}

#[inline(always)]
fn digit(byte: u8) -> Option<u32> {
    let value = byte.wrapping_sub(b'0');
    (value <= 9).then_some(u32::from(value))
}

/// An integer in the one spelling that Redis takes (`string2ll`): no sign but `-`, no leading
/// zero, no space, within an `i64`.
pub fn strict(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'0'] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if !matches!(digits, [b'1'..=b'9', ..]) {
        return None;
    }
    // Gathered below zero, where there is one value more.
    let mut value = 0i64;
    for &byte in digits {
        let digit = i64::from(digit(byte)?);
        value = value.checked_mul(10)?.checked_sub(digit)?;
    }
    if negative {
        Some(value)
    } else {
        value.checked_neg()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_takes_one_spelling_only() {
        for value in [
            0,
            1,
            -1,
            9,
            10,
            -10,
            65536,
            i64::MAX,
            i64::MIN,
            i64::MIN + 1,
        ] {
            assert_eq!(strict(value.to_string().as_bytes()), Some(value));
        }
        for text in [
            "",
            "-",
            "+1",
            "01",
            "-0",
            "-01",
            "00",
            " 1",
            "1 ",
            "1x",
            "x",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
            "1\r",
        ] {
            assert_eq!(strict(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn short_reads_up_to_nine_digits_and_their_line_end() {
        assert_eq!(short(b"$0\r\n", 1), Some((0, 4)));
        assert_eq!(short(b"$12\r\nab", 1), Some((12, 5)));
        assert_eq!(short(b"$999999999\r\n", 1), Some((999_999_999, 12)));
        for text in [
            "",
            "$",
            "$1",
            "$1\r",
            "$1\n",
            "$\r\n",
            "$-1\r\n",
            "$01\r\n",
            "$1234567890\r\n",
            "$1\r\r\n",
            "$1x\r\n",
        ] {
            assert_eq!(short(text.as_bytes(), 1), None, "{text:?}");
        }
    }
}
