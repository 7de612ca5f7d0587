//! Chance as a parameter: a small seeded generator, so that one seed gives one run.
//!
//! Good for sampling (SPOP, RANDOMKEY, eviction), never for secrets.

/// SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators").
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..end`.
    ///
    /// # Panics
    /// When `end` is 0: there is nothing to choose from.
    #[inline]
    pub fn below(&mut self, end: usize) -> usize {
        assert!(end > 0, "a choice among nothing");
        ((self.next_u64() as u128 * end as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_run_and_every_choice_is_in_range() {
        let (mut a, mut b) = (Random::new(7), Random::new(7));
        let mut seen = [0; 5];
        for _ in 0..1000 {
            let choice = a.below(5);
            assert_eq!(choice, b.below(5));
            seen[choice] += 1;
        }
        assert!(seen.iter().all(|&count| count > 100), "{seen:?}");
    }
}
