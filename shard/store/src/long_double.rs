//! The 80-bit extended doubles that Redis computes INCRBYFLOAT and HINCRBYFLOAT in, where its `long double` is x87's: 64 bits
//! of mantissa, rounded to the nearest even. Read as `strtold` reads them, written as `%.17Lf` without trailing zeros.

use crate::float::{HexFloat, sign, signed_digits};

/// Longest text that is read, in bytes (Redis' `MAX_LONG_DOUBLE_CHARS`, less its terminator).
const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;
/// Digits after the point in text.
const FRACTION_DIGITS: usize = 17;
/// Values of two to this power and above are infinite.
const EXPONENT_END: i64 = 16_384;
/// Values below two to this power round to zero.
const EXPONENT_MIN: i64 = -16_446;

/// `mantissa` times two to the `exponent`; the mantissa's top bit is set, but for zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    mantissa: u64,
    exponent: i64,
    infinite: bool,
}

impl LongDouble {
    pub const ZERO: LongDouble = LongDouble {
        negative: false,
        mantissa: 0,
        exponent: 0,
        infinite: false,
    };

    /// The number that all of `text` spells; `None` for NaN, for what is too large or too small, and for anything else.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        let (negative, magnitude) = sign(text);
        if magnitude.is_empty() || text.len() > TEXT_BYTES_MAX {
            return None;
        }
        if magnitude.eq_ignore_ascii_case(b"inf") || magnitude.eq_ignore_ascii_case(b"infinity") {
            return Some(LongDouble::infinity(negative));
        }
        if let Some(hex) = HexFloat::parse(magnitude) {
            let value = LongDouble::rounded(negative, hex.mantissa, hex.exponent);
            return value.in_range(hex.mantissa == 0);
        }
        let (digits, power) = decimal(magnitude)?;
        let is_zero = digits.iter().all(|digit| *digit == 0);
        if is_zero {
            return Some(LongDouble {
                negative,
                ..LongDouble::ZERO
            });
        }
        // Far beyond either end nothing needs to be computed.
        let size = digits.len() as i64 + power;
        if !(-5100..=5100).contains(&size) {
            return None;
        }
        from_decimal(negative, &digits, power).in_range(false)
    }

    pub fn is_finite(self) -> bool {
        !self.infinite
    }

    pub fn plus(self, other: LongDouble) -> LongDouble {
        if self.infinite || other.infinite {
            return LongDouble::infinity(if self.infinite {
                self.negative
            } else {
                other.negative
            });
        }
        if self.mantissa == 0 || other.mantissa == 0 {
            let both_negative = self.negative && other.negative;
            return match (self.mantissa, other.mantissa) {
                (0, 0) => LongDouble {
                    negative: both_negative,
                    ..LongDouble::ZERO
                },
                (0, _) => other,
                _ => self,
            };
        }
        let (large, small) = if (self.exponent, self.mantissa) >= (other.exponent, other.mantissa) {
            (self, other)
        } else {
            (other, self)
        };
        let apart = large.exponent - small.exponent;
        let one = u128::from(large.mantissa) << 63;
        let whole = u128::from(small.mantissa) << 63;
        let two = match u32::try_from(apart) {
            Ok(shift @ 0..=126) => whole >> shift | u128::from(whole << (127 - shift) << 1 != 0),
            Ok(_) | Err(_) => 1,
        };
        let sum = if large.negative == small.negative {
            one + two
        } else {
            one - two
        };
        if sum == 0 {
            return LongDouble::ZERO;
        }
        LongDouble::rounded(large.negative, sum, large.exponent - 63)
    }

    /// `%.17Lf` without trailing zeros; of a finite number.
    pub fn human_text(self) -> String {
        let scale = 10u128.pow(FRACTION_DIGITS as u32);
        // The number times 10^17, rounded to the nearest even integer, as decimal digits.
        let scaled = u128::from(self.mantissa) * scale;
        let mut digits = match self.exponent {
            0.. => {
                let mut big = Big::from(scaled);
                big.shift_left(self.exponent as usize);
                big.into_decimal()
            }
            -127..0 => {
                let shift = self.exponent.unsigned_abs() as u32;
                let (floor, rest, half) = (
                    scaled >> shift,
                    scaled & ((1 << shift) - 1),
                    1u128 << (shift - 1),
                );
                let up = rest > half || (rest == half && floor & 1 == 1);
                (floor + u128::from(up)).to_string()
            }
            // Less than 2^121 / 2^128: it rounds to nothing.
            ..-127 => "0".to_string(),
        };
        if digits.len() <= FRACTION_DIGITS {
            digits.insert_str(0, &"0".repeat(FRACTION_DIGITS + 1 - digits.len()));
        }
        digits.insert(digits.len() - FRACTION_DIGITS, '.');
        let kept = digits.trim_end_matches('0').trim_end_matches('.');
        if self.negative && kept != "0" {
            format!("-{kept}")
        } else {
            kept.to_string()
        }
    }

    fn infinity(negative: bool) -> LongDouble {
        LongDouble {
            negative,
            infinite: true,
            ..LongDouble::ZERO
        }
    }

    /// `mantissa` times two to the `exponent`, to the nearest even.
    fn rounded(negative: bool, mantissa: u128, exponent: i64) -> LongDouble {
        if mantissa == 0 {
            return LongDouble {
                negative,
                ..LongDouble::ZERO
            };
        }
        let top = mantissa << mantissa.leading_zeros();
        let mut exponent = exponent - i64::from(mantissa.leading_zeros()) + 64;
        let (mut kept, rest, half) = ((top >> 64) as u64, top as u64, 1u64 << 63);
        if rest > half || (rest == half && kept & 1 == 1) {
            let (up, carried) = kept.overflowing_add(1);
            kept = if carried { half } else { up };
            exponent += i64::from(carried);
        }
        if exponent + 64 > EXPONENT_END {
            return LongDouble::infinity(negative);
        }
        if exponent + 64 < EXPONENT_MIN {
            return LongDouble {
                negative,
                ..LongDouble::ZERO
            };
        }
        LongDouble {
            negative,
            mantissa: kept,
            exponent,
            infinite: false,
        }
    }

    /// Refuses what was rounded away to infinity or, unless it was spelt so, to zero.
    fn in_range(self, is_zero: bool) -> Option<LongDouble> {
        (!self.infinite && (is_zero || self.mantissa != 0)).then_some(self)
    }
}

/// `12.5e3` as its digits and the power of ten that they are times.
fn decimal(text: &[u8]) -> Option<(Vec<u8>, i64)> {
    let split = text.iter().position(|byte| matches!(byte, b'e' | b'E'));
    let (number, mut power) = match split {
        Some(at) => (&text[..at], signed_digits(&text[at + 1..])?),
        None => (text, 0),
    };
    let (mut digits, mut point) = (Vec::with_capacity(number.len()), false);
    for byte in number {
        match byte {
            b'.' if !point => point = true,
            b'0'..=b'9' => {
                digits.push(byte - b'0');
                power -= i64::from(point);
            }
            _ => return None,
        }
    }
    (!digits.is_empty()).then_some((digits, power))
}

/// `digits` times ten to the `power`, to the nearest even.
fn from_decimal(negative: bool, digits: &[u8], power: i64) -> LongDouble {
    let mut number = Big::default();
    digits
        .iter()
        .for_each(|digit| number.multiply_add(10, u64::from(*digit)));
    if power >= 0 {
        (0..power).for_each(|_| number.multiply_add(10, 0));
        let (mantissa, exponent) = number.top_bits();
        return LongDouble::rounded(negative, mantissa, exponent);
    }
    let mut divisor = Big::from(1);
    (0..power.unsigned_abs()).for_each(|_| divisor.multiply_add(10, 0));
    // A quotient of at least 100 bits leaves enough to round by; what is left over counts as one more bit.
    let shift = (100 + divisor.bits() as i64 - number.bits() as i64).max(0) as usize;
    number.shift_left(shift);
    let (quotient, is_exact) = number.divide(&divisor);
    let (mantissa, exponent) = quotient.top_bits();
    LongDouble::rounded(
        negative,
        mantissa | u128::from(!is_exact),
        exponent - shift as i64,
    )
}

/// A natural number, lowest limb first, without zero limbs on top.
#[derive(Clone, Default)]
struct Big(Vec<u64>);

impl From<u128> for Big {
    fn from(value: u128) -> Big {
        let mut big = Big(vec![value as u64, (value >> 64) as u64]);
        big.trim();
        big
    }
}

impl Big {
    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn bits(&self) -> usize {
        self.0
            .last()
            .map_or(0, |top| self.0.len() * 64 - top.leading_zeros() as usize)
    }

    fn multiply_add(&mut self, factor: u64, more: u64) {
        let mut carry = more;
        for limb in &mut self.0 {
            let product = u128::from(*limb) * u128::from(factor) + u128::from(carry);
            *limb = product as u64;
            carry = (product >> 64) as u64;
        }
        if carry != 0 {
            self.0.push(carry);
        }
    }

    fn shift_left(&mut self, bits: usize) {
        if self.0.is_empty() {
            return;
        }
        self.multiply_add(1 << (bits % 64), 0);
        self.0.splice(0..0, std::iter::repeat_n(0, bits / 64));
    }

    /// The top 128 bits, the lowest of them set when any bit below is, and the power of two that they are times.
    fn top_bits(&self) -> (u128, i64) {
        let limb = |at: usize| u128::from(self.0.get(at).copied().unwrap_or(0));
        let Some(low) = self.0.len().checked_sub(2) else {
            return (limb(0), 0);
        };
        let below = &self.0[..low];
        let shift = self.0[low + 1].leading_zeros();
        let mut top = (limb(low + 1) << 64 | limb(low)) << shift;
        let mut sticky = below.iter().any(|limb| *limb != 0);
        if shift > 0
            && let Some(next) = below.last()
        {
            top |= u128::from(next >> (64 - shift));
            sticky = next << shift != 0 || below[..low - 1].iter().any(|limb| *limb != 0);
        }
        (top | u128::from(sticky), low as i64 * 64 - i64::from(shift))
    }

    /// The quotient, and whether nothing was left. Bit by bit: quotients here have some hundred bits.
    fn divide(mut self, divisor: &Big) -> (Big, bool) {
        let steps = (self.bits() + 1).saturating_sub(divisor.bits());
        let mut part = divisor.clone();
        part.shift_left(steps);
        let mut quotient = Big::default();
        for _ in 0..=steps {
            let fits = self.at_least(&part);
            if fits {
                self.subtract(&part);
            }
            quotient.multiply_add(2, u64::from(fits));
            part.halve();
        }
        (quotient, self.0.is_empty())
    }

    fn at_least(&self, other: &Big) -> bool {
        self.0
            .len()
            .cmp(&other.0.len())
            .then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
            .is_ge()
    }

    fn subtract(&mut self, other: &Big) {
        let mut borrow = false;
        for (at, limb) in self.0.iter_mut().enumerate() {
            let (one, first) = limb.overflowing_sub(other.0.get(at).copied().unwrap_or(0));
            let (two, second) = one.overflowing_sub(u64::from(borrow));
            *limb = two;
            borrow = first || second;
        }
        self.trim();
    }

    fn halve(&mut self) {
        let mut carry = 0;
        for limb in self.0.iter_mut().rev() {
            (*limb, carry) = (*limb >> 1 | carry << 63, *limb & 1);
        }
        self.trim();
    }

    fn into_decimal(mut self) -> String {
        const CHUNK: u64 = 1_000_000_000_000_000_000;
        let mut chunks = Vec::new();
        while !self.0.is_empty() {
            let mut rest = 0u128;
            for limb in self.0.iter_mut().rev() {
                let value = rest << 64 | u128::from(*limb);
                *limb = (value / u128::from(CHUNK)) as u64;
                rest = value % u128::from(CHUNK);
            }
            self.trim();
            chunks.push(rest as u64);
        }
        let mut text = chunks.pop().unwrap_or(0).to_string();
        chunks
            .iter()
            .rev()
            .for_each(|chunk| text.push_str(&format!("{chunk:018}")));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(one: &str, other: &str) -> Option<String> {
        let (one, other) = (
            LongDouble::parse(one.as_bytes())?,
            LongDouble::parse(other.as_bytes())?,
        );
        let sum = one.plus(other);
        Some(if sum.is_finite() {
            sum.human_text()
        } else {
            "inf".to_string()
        })
    }

    #[test]
    fn sums_are_those_that_redis_answers() {
        // Answers of redis-server 7.0.15 on x86-64 to SET k one, INCRBYFLOAT k other.
        let cases: [(&str, &str, &str); 60] = [
            (
                "55358e9",
                "-0.2600896669038415",
                "55357999999999.73991012573242188",
            ),
            ("-0", "-49735e20", "-4973500000000000000000000"),
            (
                "-0.5361559892466568",
                "0.7360906142865935",
                "0.1999346250399367",
            ),
            (
                "0x1410645d51c6f8da3e.15e87p7",
                "686",
                "47374854794531952205824",
            ),
            (
                "-5.450182266906637e+16",
                "0x3893b05a04cd085b71.44af3p23",
                "8754852721211782159199633408",
            ),
            ("-92.823", "5.0", "-87.823"),
            (
                "9.30960277796406e+17",
                "0x1d959186946856e45b.ac6c7p-63",
                "930960277796406059.1875",
            ),
            (
                "9.819792897376302e+17",
                "0.3972317406630148",
                "981979289737630200.375",
            ),
            (
                "10498180515300617903.30538791252427322959",
                "-4.300850760275896e+17",
                "10068095439273028303",
            ),
            ("-3.600", "0.2", "-3.4"),
            (
                "56569006996264833203.2781130343219468315",
                "-1.4571647690546688e+17",
                "56423290519359366324",
            ),
            (
                "-9.855345327113466e+17",
                "19.953",
                "-985534532711346580.0625",
            ),
            ("943", "6939e-7", "943.00069390000000003"),
            ("-6.876020179728707e+17", "777", "-687602017972869923"),
            (
                "62290065516196711345.64933885435396044282",
                "24.025",
                "62290065516196711368",
            ),
            ("-1.3761689313813453e+17", "-21071e2", "-137616893140241630"),
            (
                "4.225458656241203e+16",
                "69883580020507467947.47591957996132493695",
                "69925834607069879976",
            ),
            ("-229", "-0.879838978744554", "-229.879838978744554"),
            (
                "98743868816703107132.80290873686319608779",
                "4.760685785040686e+17",
                "99219937395207175736",
            ),
            ("207", "955", "1162"),
            (
                "972",
                "66924222047058496691.84719842687987183027",
                "66924222047058497664",
            ),
            (
                "25160530539469043419.50878096368290443049",
                "-3.991920532688214e+17",
                "24761338486200222020",
            ),
            (
                "0x10bc344f4baf091db4.9eba8p58",
                "71370e-8",
                "88979442838841643517967134804064337920",
            ),
            (
                "-14072e-14",
                "0xcb2b47ae7a6482fe6.34249p12",
                "959438771218102242639872",
            ),
            (
                "-5.499443145542304e+17",
                "-93.218",
                "-549944314554230493.21875",
            ),
            (
                "-17387e11",
                "0.7274552029161474",
                "-1738699999999999.2725830078125",
            ),
            (
                "-1.604576324174962e+17",
                "0x34ebad40d009196da4.4fdefp-19",
                "-158595653900221284.828125",
            ),
            (
                "-23",
                "0x1cb79e4444ed6897d8.108c0p46",
                "37277133043607359224651586883026944",
            ),
            ("8.772209794921728e+16", "-82156e12", "5566097949217280"),
            (
                "-7.600073544652481e+17",
                "-88183e-23",
                "-760007354465248100",
            ),
            ("12693e11", "-974", "1269299999999026"),
            ("1e17", "-65.636", "99999999999999934.3671875"),
            ("-5.2190758790230605e+17", "75", "-521907587902305975"),
            (
                "0x2b1d140ed89cb6c63d.40352p-6",
                "0.5",
                "12426645487807027994",
            ),
            ("-280", "-48270e-18", "-280.00000000000004827"),
            ("-65.740", "8.43533022547264e+17", "843533022547263934.25"),
            ("0.6469975251071616", "-2", "-1.3530024748928384"),
            (
                "0x22c1a9425a0cc85574.7f1bcp-2",
                "0x29790ff9b20d0c8ea7.ed1p-56",
                "160286014095259483872",
            ),
            ("-0.9076302927043105", "-860", "-860.9076302927043105"),
            ("0.1", "3.081", "3.181"),
            (
                "0.30000000000000001",
                "-0.3708403993878493",
                "-0.07084039938784929",
            ),
            (
                "67273682138985371994.42503479049340077830",
                "-6.178359987136312e+17",
                "66655846140271740796",
            ),
            ("0.1", "-42682e9", "-42681999999999.90000152587890625"),
            ("3.903382955476946e+17", "60.627", "390338295547694660.625"),
            ("11636e-17", "917", "917.00000000000011635"),
            (
                "0xb86f6ff960b581672.32d76p26",
                "0.6388929340762997",
                "14269990338998051911464124416",
            ),
            (
                "15722170945347969046.15568005259711547605",
                "1.5e-17",
                "15722170945347969046",
            ),
            ("1.5815283804211174e+17", "-92.746", "158152838042111647.25"),
            ("-72017e10", "86.912", "-720169999999913.0880126953125"),
            (
                "126",
                "28850289903657974606.19873373986402054729",
                "28850289903657974732",
            ),
            (
                "3.0e3",
                "0x13e336d0f4e5bc175c.533e2p-46",
                "5216403.26494735115329604",
            ),
            ("1e17", "18446744073709551616", "18546744073709551616"),
            (
                "-61581e12",
                "97691441087082634992.71117624269085915386",
                "97629860087082634992",
            ),
            (
                "7.788182678461801e+17",
                "-9.537504871473665e+17",
                "-174932219301186400",
            ),
            (
                "0.5",
                "0x293d23a8475c47c906.f716cp-34",
                "44279851538.34011758863925934",
            ),
            (
                "0x3db292c157fdc0754a.6958fp49",
                "-15",
                "640704008857566632077927239460585472",
            ),
            (
                "71.330",
                "0x3b0bbc963df5d38680.758e5p-10",
                "1063675406613050664.9375",
            ),
            (
                "91.743",
                "-5.1581639215093357e+17",
                "-515816392150933478.25",
            ),
            ("-32203e-17", "0.24381619251868591", "0.24381619251836388"),
            ("842", "-6.60581084115819e+17", "-660581084115818158"),
        ];
        for (one, other, expected) in cases {
            assert_eq!(
                sum(one, other).as_deref(),
                Some(expected),
                "{one} + {other}"
            );
        }
    }

    #[test]
    fn what_is_no_number_or_none_that_fits_is_refused() {
        for text in [
            "", "-", "nan", "1 ", " 1", "1e", "e1", ".", "1.2.3", "1e5000", "1e-5000", "0x", "abc",
        ] {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
        assert!(
            !LongDouble::parse(b"-inf")
                .expect("infinity is a number")
                .is_finite()
        );
    }
}
