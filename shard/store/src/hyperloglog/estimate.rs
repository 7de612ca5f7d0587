//! From the values of registers to a count: Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017).

use super::{REGISTERS, VALUE_BITS};

/// 0.5 / ln 2.
const ALPHA_INFINITE: f64 = 0.721_347_520_444_481_7;

/// How many registers have each value. A register has six bits, though no hash gives it more than 51.
pub(super) struct Histogram([u32; 64]);

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram([0; 64])
    }
}

impl Histogram {
    pub(super) fn add(&mut self, value: u8, registers: usize) {
        self.0[usize::from(value)] += registers as u32;
    }

    pub(super) fn estimate(&self) -> u64 {
        let all = REGISTERS as f64;
        let full = f64::from(self.0[VALUE_BITS as usize + 1]);
        let mut sum = all * tau((all - full) / all);
        for value in (1..=VALUE_BITS as usize).rev() {
            sum += f64::from(self.0[value]);
            sum *= 0.5;
        }
        sum += all * sigma(f64::from(self.0[0]) / all);
        (ALPHA_INFINITE * all * all / sum).round() as u64
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut sum) = (1.0, x);
    loop {
        let before = sum;
        x *= x;
        sum += x * y;
        y += y;
        if sum == before {
            return sum;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut sum) = (1.0, 1.0 - x);
    loop {
        let before = sum;
        x = x.sqrt();
        y *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * y;
        if sum == before {
            return sum / 3.0;
        }
    }
}
