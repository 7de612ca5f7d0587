//! The arithmetic of INCRBYFLOAT and HINCRBYFLOAT: x87 extended precision (64 bits of mantissa),
//! which Redis computes with on x86-64, so that 0.1 plus 0.2 is 0.3 here too, on any machine.
//!
//! Text is read exactly and rounded once, half to even; written as C's `%.17Lf` without trailing
//! zeros. Subnormal numbers are kept at full precision: no text of 17 decimals shows them.

use std::cmp::Ordering;

/// Longest text that is read, in bytes, as in Redis.
const TEXT_BYTES_MAX: usize = 5 * 1024;
/// Decimals that are written.
const DECIMALS: usize = 17;
/// Bits of the largest finite value's integer part.
const BITS_MAX: i32 = 16384;
/// The least exponent of a value that is not zero.
const EXPONENT_MIN: i32 = -16445;

/// A finite number: `mantissa * 2^exponent`, the mantissa's top bit set unless it is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    mantissa: u64,
    exponent: i32,
}

/// What a text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    Finite(LongDouble),
    Infinite,
}

impl LongDouble {
    pub const ZERO: LongDouble = LongDouble {
        negative: false,
        mantissa: 0,
        exponent: 0,
    };

    /// Reads what Redis reads as a float: decimal with optional sign, fraction and exponent, or
    /// `inf`. `None` for all else, spaces and NaN included, and for numbers out of range.
    pub fn parse(text: &[u8]) -> Option<Parsed> {
        if text.len() >= TEXT_BYTES_MAX {
            return None;
        }
        let (negative, unsigned) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") {
            return Some(Parsed::Infinite);
        }
        let (digits, exponent) = read_decimal(unsigned)?;
        if digits.is_zero() {
            return Some(Parsed::Finite(LongDouble {
                negative,
                ..LongDouble::ZERO
            }));
        }
        from_decimal(negative, digits, exponent).map(Parsed::Finite)
    }

    /// The sum, rounded once; `None` when it is too large.
    pub fn checked_add(self, other: LongDouble) -> Option<LongDouble> {
        if self.mantissa == 0 {
            return Some(other);
        }
        if other.mantissa == 0 {
            return Some(self);
        }
        // Of numbers with full mantissas the one with the larger exponent is the larger.
        let (large, small) = match self.exponent.cmp(&other.exponent) {
            Ordering::Less => (other, self),
            Ordering::Greater => (self, other),
            Ordering::Equal if self.mantissa < other.mantissa => (other, self),
            Ordering::Equal => (self, other),
        };
        // 63 bits of room below the large one's last; what falls out below leaves its mark in
        // the lowest, which is far enough down not to change how the sum is rounded.
        const ROOM: i32 = 63;
        let down = large.exponent - small.exponent - ROOM;
        let small_bits = if down <= 0 {
            u128::from(small.mantissa) << -down
        } else if down < 64 {
            let lost = small.mantissa & ((1 << down) - 1) != 0;
            u128::from(small.mantissa >> down) | u128::from(lost)
        } else {
            1
        };
        let large_bits = u128::from(large.mantissa) << ROOM;
        let bits = if large.negative == small.negative {
            large_bits + small_bits
        } else {
            large_bits - small_bits
        };
        if bits == 0 {
            return Some(LongDouble::ZERO);
        }
        rounded(large.negative, bits, false, large.exponent - ROOM)
    }

    /// The number in plain decimals: at most 17 after the point, no trailing zeros, no exponent.
    pub fn to_text(self) -> String {
        let text = if self.exponent >= 0 {
            let mut whole = Natural::from(self.mantissa);
            whole.shift_left(self.exponent as usize);
            whole.to_decimal()
        } else {
            self.fraction_to_text()
        };
        if self.negative && text != "0" {
            format!("-{text}")
        } else {
            text
        }
    }

    fn fraction_to_text(self) -> String {
        // In units of the last decimal: 64 bits times 57 bits.
        let units = u128::from(self.mantissa) * 10u128.pow(DECIMALS as u32);
        let units = shift_right_rounded(units, self.exponent.unsigned_abs(), false);
        let digits = format!("{units:0width$}", width = DECIMALS + 1);
        let (whole, fraction) = digits.split_at(digits.len() - DECIMALS);
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() {
            whole.to_owned()
        } else {
            format!("{whole}.{fraction}")
        }
    }
}

/// `digits[.digits][e[±]digits]` as a whole number and a power of ten.
fn read_decimal(text: &[u8]) -> Option<(Natural, i32)> {
    let mut digits = Natural::default();
    let mut exponent = 0i32;
    let (mut any, mut point) = (false, false);
    let mut rest = text;
    loop {
        match rest {
            [digit @ b'0'..=b'9', after @ ..] => {
                digits.multiply_add(10, u32::from(digit - b'0'));
                exponent -= i32::from(point);
                any = true;
                rest = after;
            }
            [b'.', after @ ..] if !point => {
                point = true;
                rest = after;
            }
            [b'e' | b'E', power @ ..] if any => {
                let unsigned = power.strip_prefix(b"+").unwrap_or(power);
                let number = unsigned.strip_prefix(b"-").unwrap_or(unsigned);
                let signs = power.len() - number.len();
                if number.is_empty() || signs > 1 || !number.iter().all(u8::is_ascii_digit) {
                    return None;
                }
                // Far out of range is as good as any number of digits.
                let number = number.iter().fold(0i32, |sum, &digit| {
                    (sum * 10 + i32::from(digit - b'0')).min(100_000)
                });
                let negative = power[0] == b'-';
                exponent += if negative { -number } else { number };
                return Some((digits, exponent));
            }
            [] if any => return Some((digits, exponent)),
            _ => return None,
        }
    }
}

/// `digits * 10^exponent`, rounded; `None` out of range.
fn from_decimal(negative: bool, mut digits: Natural, exponent: i32) -> Option<LongDouble> {
    // 2^-16445 is about 10^-4951, 2^16384 about 10^4932; 3 bits are less than a digit.
    let size = digits.bits() as i32 / 3 + exponent;
    if !(-6_000..=12_000).contains(&size) {
        return None;
    }
    let mut divisor = Natural::from(1);
    let scaled = if exponent >= 0 {
        &mut digits
    } else {
        &mut divisor
    };
    for _ in 0..exponent.unsigned_abs() / 9 {
        scaled.multiply_add(1_000_000_000, 0);
    }
    scaled.multiply_add(10u32.pow(exponent.unsigned_abs() % 9), 0);
    // A quotient of 65 or 66 bits, one by one.
    let shift = 65 + divisor.bits() as i32 - digits.bits() as i32;
    if shift >= 0 {
        digits.shift_left(shift as usize);
    } else {
        divisor.shift_left(shift.unsigned_abs() as usize);
    }
    const QUOTIENT_BITS: usize = 66;
    divisor.shift_left(QUOTIENT_BITS - 1);
    let mut quotient = 0u128;
    for _ in 0..QUOTIENT_BITS {
        quotient <<= 1;
        if digits.subtract_if_not_less(&divisor) {
            quotient |= 1;
        }
        divisor.halve();
    }
    rounded(negative, quotient, !digits.is_zero(), -shift)
}

/// `bits * 2^exponent` and, with `more`, a little more, rounded to 64 bits.
fn rounded(negative: bool, bits: u128, more: bool, exponent: i32) -> Option<LongDouble> {
    let size = 128 - bits.leading_zeros() as i32;
    let (mut mantissa, mut exponent) = if size <= 64 {
        debug_assert!(!more, "rounding needs a bit below the last");
        (bits << (64 - size), exponent - (64 - size))
    } else {
        let down = (size - 64) as u32;
        (
            shift_right_rounded(bits, down, more),
            exponent + down as i32,
        )
    };
    if mantissa == 1 << 64 {
        mantissa >>= 1;
        exponent += 1;
    }
    let in_range = exponent + 64 <= BITS_MAX && exponent + 64 > EXPONENT_MIN;
    in_range.then_some(LongDouble {
        negative,
        mantissa: mantissa as u64,
        exponent,
    })
}

/// `bits / 2^down`, half to even; `more` says that a little is missing below.
fn shift_right_rounded(bits: u128, down: u32, more: bool) -> u128 {
    if down == 0 {
        return bits;
    }
    if down > 127 {
        return 0;
    }
    let (kept, lost) = (bits >> down, bits & ((1 << down) - 1));
    let half = 1u128 << (down - 1);
    let up = lost > half || (lost == half && (more || kept & 1 == 1));
    kept + u128::from(up)
}

/// A natural number of any size, least part first, no zeros at the top.
#[derive(Clone, Debug, Default)]
struct Natural(Vec<u32>);

impl From<u64> for Natural {
    fn from(value: u64) -> Natural {
        let mut natural = Natural(vec![value as u32, (value >> 32) as u32]);
        natural.trim();
        natural
    }
}

impl Natural {
    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn bits(&self) -> usize {
        match self.0.last() {
            None => 0,
            Some(top) => self.0.len() * 32 - top.leading_zeros() as usize,
        }
    }

    fn multiply_add(&mut self, factor: u32, add: u32) {
        let mut carry = u64::from(add);
        for part in &mut self.0 {
            carry += u64::from(*part) * u64::from(factor);
            *part = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    fn shift_left(&mut self, by: usize) {
        if self.is_zero() {
            return;
        }
        self.multiply_add(1 << (by % 32), 0);
        self.0.splice(0..0, std::iter::repeat_n(0, by / 32));
    }

    fn halve(&mut self) {
        let mut carry = 0;
        for part in self.0.iter_mut().rev() {
            let next = *part << 31;
            *part = *part >> 1 | carry;
            carry = next;
        }
        self.trim();
    }

    /// Subtracts `other` where it is not larger, and says whether.
    fn subtract_if_not_less(&mut self, other: &Natural) -> bool {
        let order = self
            .0
            .len()
            .cmp(&other.0.len())
            .then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()));
        if order == Ordering::Less {
            return false;
        }
        let mut borrow = false;
        for (index, part) in self.0.iter_mut().enumerate() {
            let take = other.0.get(index).copied().unwrap_or(0);
            let (less, under) = part.overflowing_sub(take);
            let (less, under_again) = less.overflowing_sub(u32::from(borrow));
            *part = less;
            borrow = under || under_again;
        }
        self.trim();
        true
    }

    fn to_decimal(mut self: Natural) -> String {
        const CHUNK: u64 = 1_000_000_000;
        let mut chunks = Vec::new();
        while !self.is_zero() {
            let mut rest = 0u64;
            for part in self.0.iter_mut().rev() {
                rest = rest << 32 | u64::from(*part);
                *part = (rest / CHUNK) as u32;
                rest %= CHUNK;
            }
            self.trim();
            chunks.push(rest);
        }
        let Some(top) = chunks.pop() else {
            return "0".to_owned();
        };
        let mut text = top.to_string();
        for chunk in chunks.iter().rev() {
            text.push_str(&format!("{chunk:09}"));
        }
        text
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finite(text: &str) -> LongDouble {
        match LongDouble::parse(text.as_bytes()) {
            Some(Parsed::Finite(value)) => value,
            other => panic!("{text} is {other:?}"),
        }
    }

    // Each sum was given by INCRBYFLOAT of redis-server 7.0.15 on x86-64.
    #[test]
    fn sums_are_those_of_redis() {
        for (value, increment, sum) in [
            ("0", "3.0e3", "3000"),
            ("10.5", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("0.1", "0.2", "0.3"),
            ("0", "1e20", "100000000000000000000"),
            ("0", "1e-20", "0"),
            ("0", "1e-17", "0.00000000000000001"),
            ("0", "1e-18", "0"),
            ("3", "-3", "0"),
            ("0", "-0.0", "0"),
            ("1", "1e-17", "1.00000000000000001"),
            ("0", "123456789.123456789", "123456789.12345678899873747"),
            ("0", "12345678901234567890", "12345678901234567890"),
            ("0", "-1.1", "-1.1"),
            ("1", "-1.1", "-0.1"),
            ("0", "0.30000000000000004", "0.30000000000000004"),
            ("0", "5e-324", "0"),
            ("0.7", "0.1", "0.8"),
            ("1e17", "0.1", "100000000000000000.1015625"),
            ("9007199254740993", "0", "9007199254740993"),
            (
                "0",
                "1e300",
                "1000000000000000000008997324079559193870523944273290747938260082321265646596180935\
                 755849152083750497190350372508614274835903592556184672983913096260520748646287327135\
                 641843653294084255107606016789726652932370030551382947620994540294772781889620606179\
                 267611627097410650567187386105690089424915104006144",
            ),
        ] {
            let result = finite(value).checked_add(finite(increment)).unwrap();
            assert_eq!(result.to_text(), sum, "{value} + {increment}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            "-",
            "+",
            ".",
            "e5",
            "1e",
            "1e+",
            "1e+-5",
            "1e5.5",
            " 1",
            "1 ",
            "1x",
            "--1",
            "nan",
            "1..2",
            "1e5000",
            "1e-5000",
            "1e999999999999",
            "-1e5000",
            "in",
            "infinit",
        ] {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(LongDouble::parse(&[b'1'; TEXT_BYTES_MAX]), None);
        for text in ["inf", "-inf", "+INF", "Infinity"] {
            assert_eq!(LongDouble::parse(text.as_bytes()), Some(Parsed::Infinite));
        }
        let largest = finite("1e4932");
        assert_eq!(largest.checked_add(largest), None);
        for text in ["1.", ".5", "+1", "0e5", "0e999999", "1E3", "1e-4900"] {
            finite(text);
        }
    }

    proptest::proptest! {
        #[test]
        fn whole_numbers_add_up(a: i32, b: i32) {
            let sum = finite(&a.to_string()).checked_add(finite(&b.to_string())).unwrap();
            proptest::prop_assert_eq!(sum.to_text(), (i64::from(a) + i64::from(b)).to_string());
        }

        /// A double's shortest decimals lie within 17 of them when it is not small.
        #[test]
        fn decimals_survive(whole in -1_000_000i64..1_000_000, fraction in 0u32..1_000_000) {
            let text = format!("{whole}.{fraction:06}");
            let expected = text.trim_end_matches('0').trim_end_matches('.');
            let expected = if expected == "-0" { "0" } else { expected };
            let written = finite(&text).to_text();
            let close: f64 = written.parse::<f64>().unwrap() - expected.parse::<f64>().unwrap();
            proptest::prop_assert!(close.abs() < 1e-9, "{} is {}", text, written);
        }
    }
}
