//! Doubles in text as C's `strtod` reads them, hexadecimal ones included, with the checks that Redis puts around it
//! (`getDoubleFromObject`, `zslParseRange`).

/// A score, an increment or a weight: nothing around it, not NaN, neither too large nor too small for a double.
pub fn parse_double(text: &[u8]) -> Option<f64> {
    let value = strtod(text)?;
    let digits = text
        .iter()
        .take_while(|byte| !matches!(byte, b'e' | b'E' | b'p' | b'P'));
    let is_spelt_infinite = || text.iter().any(|byte| matches!(byte, b'i' | b'I'));
    if value.is_infinite() && !is_spelt_infinite() {
        return None;
    }
    let is_spelt_zero = || {
        !digits
            .clone()
            .any(|byte| matches!(byte, b'1'..=b'9' | b'a'..=b'f' | b'A'..=b'F'))
    };
    (value != 0.0 || is_spelt_zero()).then_some(value)
}

/// An end of a range of scores: spaces before it are passed over, nothing at all is 0, and what is too large is infinite.
pub fn parse_bound(text: &[u8]) -> Option<f64> {
    let text = text.trim_ascii_start();
    if text.is_empty() {
        Some(0.0)
    } else {
        strtod(text)
    }
}

/// Digits that a double holds exactly, whatever they are.
const EXACT_DIGITS_MAX: usize = 15;

/// The double that all of `text` spells; `None` for NaN and for anything that is no number.
fn strtod(text: &[u8]) -> Option<f64> {
    if matches!(text.len(), 1..=EXACT_DIGITS_MAX) && text.iter().all(u8::is_ascii_digit) {
        let digit = |value: u64, byte: &u8| value * 10 + u64::from(byte - b'0');
        return Some(text.iter().fold(0, digit) as f64);
    }
    if let Some(whole) = crate::number::parse_i64(text) {
        return Some(whole as f64);
    }
    let (negative, magnitude) = sign(text);
    if let Some(hex) = HexFloat::parse(magnitude) {
        let value = hex.to_double();
        return Some(if negative { -value } else { value });
    }
    // Rust reads what C reads but for hexadecimals, and rounds as C does.
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (!value.is_nan()).then_some(value)
}

/// Splits off the sign: true when it is a minus.
fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    }
}

/// `0x1.8p3`: `mantissa` times two to the `exponent`; the mantissa's lowest bit is set when bits beyond it were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HexFloat {
    mantissa: u128,
    exponent: i64,
}

impl HexFloat {
    /// Without a sign.
    fn parse(text: &[u8]) -> Option<HexFloat> {
        let rest = text
            .strip_prefix(b"0x")
            .or_else(|| text.strip_prefix(b"0X"))?;
        let split = rest.iter().position(|byte| matches!(byte, b'p' | b'P'));
        let (digits, power) = match split {
            Some(at) => (&rest[..at], signed_digits(&rest[at + 1..])?),
            None => (rest, 0),
        };
        let (mut mantissa, mut exponent, mut point, mut any) = (0u128, power, false, false);
        for byte in digits {
            if *byte == b'.' && !point {
                point = true;
                continue;
            }
            let digit = u128::from(char::from(*byte).to_digit(16)?);
            any = true;
            if mantissa >> 124 == 0 {
                mantissa = mantissa << 4 | digit;
                exponent -= if point { 4 } else { 0 };
            } else {
                mantissa |= u128::from(digit != 0);
                exponent += if point { 0 } else { 4 };
            }
        }
        any.then_some(HexFloat { mantissa, exponent })
    }

    fn to_double(self) -> f64 {
        // Halves of the power, so that neither overflows by itself.
        let exponent = self.exponent.clamp(-4000, 4000) as i32;
        let half = exponent / 2;
        self.mantissa as f64 * 2f64.powi(half) * 2f64.powi(exponent - half)
    }
}

/// An exponent; one too long for any number is as good as the longest.
fn signed_digits(text: &[u8]) -> Option<i64> {
    let (negative, digits) = sign(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0i64, |value, digit| {
        (value * 10 + i64::from(digit - b'0')).min(1_000_000)
    });
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_read_as_redis_reads_them() {
        let cases: [(&str, Option<f64>); 24] = [
            ("1", Some(1.0)),
            ("+5", Some(5.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("1e3", Some(1000.0)),
            ("-inf", Some(f64::NEG_INFINITY)),
            ("Infinity", Some(f64::INFINITY)),
            ("0x10", Some(16.0)),
            ("-0x1.8p3", Some(-12.0)),
            ("0x0", Some(0.0)),
            ("0e999", Some(0.0)),
            ("5e-324", Some(5e-324)),
            ("1e400", None),
            ("1e-400", None),
            ("nan", None),
            ("", None),
            (".", None),
            (" 1", None),
            ("1 ", None),
            ("0x", None),
            ("0x1p", None),
            ("0xg", None),
            ("1e", None),
            ("--1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_double(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn a_bound_may_be_empty_or_beyond_all_doubles() {
        assert_eq!(parse_bound(b""), Some(0.0));
        assert_eq!(parse_bound(b" 2"), Some(2.0));
        assert_eq!(parse_bound(b"1e400"), Some(f64::INFINITY));
        assert_eq!(parse_bound(b"2 "), None);
        assert_eq!(parse_bound(b"nan"), None);
    }
}
