//! `math.random`: the 48-bit generator of POSIX, whose sequence after a seed is the same on every machine.
//!
//! Source: `lrand48` in POSIX; Redis has used it for scripts since 2.6.

const MULTIPLIER: u64 = 0x5_DEEC_E66D;
const INCREMENT: u64 = 0xB;
const MASK: u64 = (1 << 48) - 1;
const LOW_SEED: u64 = 0x330E;
/// Before anybody seeds it.
const FIRST_STATE: u64 = 0x1234_ABCD_330E;
/// One more than the greatest number.
const RANGE: u64 = i32::MAX as u64;

#[derive(Clone, Debug)]
pub(super) struct Random48 {
    state: u64,
}

impl Default for Random48 {
    fn default() -> Random48 {
        Random48 { state: FIRST_STATE }
    }
}

impl Random48 {
    pub(super) fn seed(&mut self, seed: i32) {
        self.state = (u64::from(seed as u32) << 16) | LOW_SEED;
    }

    /// At least 0, less than 1.
    pub(super) fn unit(&mut self) -> f64 {
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT) & MASK;
        ((self.state >> 17) % RANGE) as f64 / RANGE as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_sequence_of_posix() {
        let mut random = Random48::default();
        random.seed(0);
        // The first numbers of lrand48() after srand48(0).
        let first = [366_850_414u64, 1_610_402_240, 206_956_554];
        for expected in first {
            assert_eq!((random.unit() * RANGE as f64).round() as u64, expected);
        }
    }
}
