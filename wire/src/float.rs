//! Doubles as text, as Redis 7.0 writes them: C's `%.17g`, which any reader turns back into the
//! same double.

use std::io::Write;

/// Longest text of a double, in bytes: `-1.7976931348623157e+308` and the like.
pub const DOUBLE_TEXT_BYTES_MAX: usize = 32;

/// Significant digits of `%.17g`.
const DIGITS: i32 = 17;

/// `value` as text, written to `room`: `3`, `3.1000000000000001`, `1e+20`, `inf`, `-inf`, `nan`.
///
/// ```
/// let mut room = [0; larder_wire::float::DOUBLE_TEXT_BYTES_MAX];
/// assert_eq!(larder_wire::float::format_double(&mut room, 2.5), b"2.5");
/// ```
pub fn format_double(room: &mut [u8; DOUBLE_TEXT_BYTES_MAX], value: f64) -> &[u8] {
    let len = if value.is_nan() {
        put(room, b"nan")
    } else if value.is_infinite() {
        put(room, if value > 0.0 { b"inf" } else { b"-inf" })
    } else if let Some(whole) = as_whole(value) {
        let mut digits = [0; 20];
        put(room, crate::resp::write::decimal(&mut digits, whole))
    } else {
        format_general(room, value)
    };
    &room[..len]
}

/// A whole number of at most 17 digits has these digits and no exponent.
fn as_whole(value: f64) -> Option<i64> {
    const WHOLE_MAX: f64 = 1e17;
    (value.abs() < WHOLE_MAX
        && value.trunc() == value
        && (value != 0.0 || value.is_sign_positive()))
    .then_some(value as i64)
}

/// `%.17g` from the 17 digits that `{:.16e}` has.
fn format_general(room: &mut [u8; DOUBLE_TEXT_BYTES_MAX], value: f64) -> usize {
    let mut scientific = [0; DOUBLE_TEXT_BYTES_MAX];
    let mut rest = &mut scientific[..];
    write!(rest, "{:.16e}", value.abs()).expect("17 digits and an exponent have room");
    let unused = rest.len();
    let scientific = &scientific[..DOUBLE_TEXT_BYTES_MAX - unused];
    let mark = scientific
        .iter()
        .position(|&byte| byte == b'e')
        .expect("the format has an exponent");
    let exponent: i32 = std::str::from_utf8(&scientific[mark + 1..])
        .expect("digits")
        .parse()
        .expect("an exponent of three digits");
    let mut digits = [0; DIGITS as usize];
    digits[0] = scientific[0];
    digits[1..].copy_from_slice(&scientific[2..mark]);
    let kept = digits.iter().rposition(|&digit| digit != b'0').unwrap_or(0) + 1;
    let digits = &digits[..kept];

    let mut out = Room { room, len: 0 };
    if value.is_sign_negative() {
        out.put(b"-");
    }
    if !(-4..DIGITS).contains(&exponent) {
        out.put(&digits[..1]);
        if kept > 1 {
            out.put(b".");
            out.put(&digits[1..]);
        }
        out.put(if exponent < 0 { b"e-" } else { b"e+" });
        if exponent.abs() < 10 {
            out.put(b"0");
        }
        let mut text = [0; 20];
        out.put(crate::resp::write::decimal(
            &mut text,
            i64::from(exponent.abs()),
        ));
    } else if exponent < 0 {
        out.put(b"0.");
        out.put(&b"000"[..(-exponent - 1) as usize]);
        out.put(digits);
    } else {
        let whole = exponent as usize + 1;
        out.put(&digits[..whole.min(kept)]);
        for _ in kept..whole {
            out.put(b"0");
        }
        if kept > whole {
            out.put(b".");
            out.put(&digits[whole..]);
        }
    }
    out.len
}

struct Room<'a> {
    room: &'a mut [u8; DOUBLE_TEXT_BYTES_MAX],
    len: usize,
}

impl Room<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.room[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

fn put(room: &mut [u8; DOUBLE_TEXT_BYTES_MAX], bytes: &[u8]) -> usize {
    room[..bytes.len()].copy_from_slice(bytes);
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: f64) -> String {
        let mut room = [0; DOUBLE_TEXT_BYTES_MAX];
        String::from_utf8(format_double(&mut room, value).to_vec()).unwrap()
    }

    // Each text was given by ZSCORE of redis-server 7.0.15.
    #[test]
    fn doubles_are_written_as_redis_writes_them() {
        for (value, expected) in [
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (3.1, "3.1000000000000001"),
            (0.1 + 0.2, "0.30000000000000004"),
            (0.1, "0.10000000000000001"),
            (-1.5, "-1.5"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (0.000001, "9.9999999999999995e-07"),
            (123456.789, "123456.789"),
            (1234567.1, "1234567.1000000001"),
            (3.0000000000000004, "3.0000000000000004"),
            (1e15, "1000000000000000"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (99999999999999984.0, "99999999999999984"),
            (123456789012345678.0, "1.2345678901234568e+17"),
            (9007199254740992.0, "9007199254740992"),
            (-4503599627370496.0, "-4503599627370496"),
            (9223372036854775807.0, "9.2233720368547758e+18"),
            (1e20, "1e+20"),
            (1e22, "1e+22"),
            (1.5e300, "1.5000000000000001e+300"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN, "-1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (5e-324, "4.9406564584124654e-324"),
        ] {
            assert_eq!(text(value), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_double_survives_its_text(bits: u64) {
            let value = f64::from_bits(bits);
            let text = text(value);
            if value.is_nan() {
                proptest::prop_assert_eq!(text, "nan");
            } else {
                proptest::prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits);
            }
        }
    }
}
