//! Numbers as C writes and converts them, which is what scripts see.

/// Significant digits of a number that becomes a string (`%.14g`).
pub(super) const TEXT_DIGITS: usize = 14;

/// `%.<digits>g`.
pub(super) fn general(value: f64, digits: usize) -> String {
    if value.is_nan() {
        return if value.is_sign_negative() {
            "-nan"
        } else {
            "nan"
        }
        .to_string();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_string();
    }
    let scientific = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = scientific
        .split_once('e')
        .expect("scientific notation has an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is a number");
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", without_zeros(mantissa), exponent.abs());
    }
    let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
    without_zeros(&format!("{value:.decimals$}")).to_string()
}

fn without_zeros(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

/// C's conversion on the machines that Redis runs on: what does not fit is the least number.
pub(super) fn to_i64(value: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&value) {
        value as i64
    } else {
        i64::MIN
    }
}

/// The same to 32 bits.
pub(super) fn to_i32(value: f64) -> i32 {
    to_i64(value) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_printf_writes_them() {
        for (value, digits, text) in [
            (1.0, 14, "1"),
            (0.1, 14, "0.1"),
            (0.1, 17, "0.10000000000000001"),
            (-1.5, 14, "-1.5"),
            (100_000_000_000_000.0, 14, "1e+14"),
            (12_345_678_901_234.0, 14, "12345678901234"),
            (1e100, 17, "1e+100"),
            (0.0001, 14, "0.0001"),
            (0.00001, 14, "1e-05"),
            (2.25, 3, "2.25"),
            (f64::INFINITY, 14, "inf"),
            (f64::NEG_INFINITY, 14, "-inf"),
        ] {
            assert_eq!(general(value, digits), text);
        }
    }

    #[test]
    fn what_fits_no_integer_becomes_the_least_one() {
        assert_eq!(to_i64(1.9), 1);
        assert_eq!(to_i64(-1.9), -1);
        assert_eq!(to_i64(1e300), i64::MIN);
        assert_eq!(to_i64(f64::NAN), i64::MIN);
        assert_eq!(to_i32(4_294_967_296.0), 0);
    }
}
