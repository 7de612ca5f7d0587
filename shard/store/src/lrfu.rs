//! LRFU with probation: what `allkeys-lrfu` and `volatile-lrfu` know of keys.
//!
//! Every access of a key counts 1 and halves with each half-life that passes since; a half-life is as long as it takes to insert twice as many keys
//! as there are. The logarithm of that sum orders keys, and moves on with time for all alike: so it is kept as a *mark*, the place in time at
//! which it would be 0, and nothing has to be aged. Two things are added:
//!
//! 1. **Probation.** A key that was met once only is *young*. Young keys have a share of the memory; above it the oldest of them go, below it the known
//!    keys with the lowest marks. So what is read once does not drive out what is read again and again.
//! 2. **Ghosts.** The marks of keys that went are remembered for a while, by a fingerprint: who comes back is known at once.
//!
//! Large values go a little earlier than small ones with the same mark: their memory serves more keys.
//! Sources: Lee et al., "LRFU: A Spectrum of Policies", 2001; Yang et al., "FIFO queues are all you need for cache eviction" (S3-FIFO), 2023.
//! The constants are those that lose least on the traces of `larder-bench replay` without standing out on any.

/// Marks count in these parts of a half-life.
const TICKS: i32 = 1 << 10;
/// Insertions of so many times the keys that there are pass in one half-life.
const HALF_LIFE_TURNOVERS: u64 = 2;
/// Fewer keys than this do not shorten it further.
const HALF_LIFE_KEYS_MIN: u64 = 100;
/// Of an access word (24 bits) the lower ones are the mark.
const MARK_BITS: u32 = 23;
const KNOWN: u32 = 1 << MARK_BITS;
/// Share of the memory that young keys have, in 64ths.
const YOUNG_64THS: u64 = 10;
/// Ticks that twice the size costs a young key, and one that is known.
const YOUNG_SIZE_TICKS: i32 = TICKS / 10;
const KNOWN_SIZE_TICKS: i32 = TICKS / 5;
/// Bytes of `maxmemory` for each byte of ghosts.
const MEMORY_PER_GHOST_BYTE: u64 = 100;
/// Most memory that ghosts take.
const GHOST_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Ghosts of one cache line: a key's ghost is in one of these.
const GHOST_WAYS: usize = 16;
/// What a ghost's mark leaves out: the lowest bits.
const GHOST_SHIFT: u32 = 4;
/// The share of young keys is averaged over so many looks.
const LOOKS: u64 = 64;

/// A candidate: the lower, the sooner it goes.
pub(crate) type Score = i32;

/// The state of the policy; empty until the first key goes.
#[derive(Default)]
pub(crate) struct Lrfu {
    /// Ticks, with 32 bits of fraction.
    clock: u64,
    /// Sums over the last looks, in bytes: young keys', and all keys'.
    young_bytes: u64,
    met_bytes: u64,
    /// Fingerprint (16 bits, never 0) and mark (16 bits); 0 is nobody.
    ghosts: Box<[[u32; GHOST_WAYS]]>,
}

impl Lrfu {
    /// Bytes of the ghosts.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.ghosts)
    }

    /// Gives ghosts their part of `maxmemory`, once.
    pub(crate) fn prepare(&mut self, maxmemory: u64) {
        if self.ghosts.is_empty() {
            let bytes = (maxmemory / MEMORY_PER_GHOST_BYTE).min(GHOST_BYTES_MAX) as usize;
            let sets = (bytes / size_of::<[u32; GHOST_WAYS]>()).max(1);
            self.ghosts = vec![[0; GHOST_WAYS]; sets].into_boxed_slice();
        }
    }

    /// Forgets everybody who went: `maxmemory` or the policy has changed.
    pub(crate) fn forget(&mut self) {
        self.ghosts = Box::default();
    }

    fn now(&self) -> u32 {
        (self.clock >> 32) as u32
    }

    /// Ticks from now to the mark.
    #[inline]
    fn ahead(&self, access: u32) -> i32 {
        const SPARE: u32 = u32::BITS - MARK_BITS;
        (access.wrapping_sub(self.now()) << SPARE) as i32 >> SPARE
    }

    #[inline]
    fn mark(&self, ahead: i32) -> u32 {
        self.now().wrapping_add(ahead as u32) & (KNOWN - 1)
    }

    /// The access word of a key that is made, when there are `keys`.
    pub(crate) fn fresh(&mut self, hash: u64, keys: usize) -> u32 {
        let turnover = HALF_LIFE_TURNOVERS * (keys as u64).max(HALF_LIFE_KEYS_MIN);
        self.clock = self.clock.wrapping_add(((TICKS as u64) << 32) / turnover);
        match self.take_ghost(hash) {
            Some(ahead) => KNOWN | self.mark(one_more(ahead)),
            None => self.mark(0),
        }
    }

    /// The access word after an access.
    #[inline]
    pub(crate) fn touched(&self, access: u32) -> u32 {
        KNOWN | self.mark(one_more(self.ahead(access)))
    }

    /// Weighs a key that the hand meets.
    #[inline]
    pub(crate) fn weigh(&mut self, access: u32, bytes: usize) -> (bool, Score) {
        let young = access & KNOWN == 0;
        self.met_bytes += bytes as u64;
        if young {
            self.young_bytes += bytes as u64;
        }
        let size_ticks = if young {
            YOUNG_SIZE_TICKS
        } else {
            KNOWN_SIZE_TICKS
        };
        (young, self.ahead(access) - log2_times(bytes, size_ticks))
    }

    /// True when young keys have more than their share, by the keys that were met lately.
    pub(crate) fn young_go_first(&mut self) -> bool {
        let first = self.young_bytes * 64 > self.met_bytes * YOUNG_64THS;
        self.young_bytes -= self.young_bytes / LOOKS;
        self.met_bytes -= self.met_bytes / LOOKS;
        first
    }

    /// Remembers a key that goes; in place of a ghost of its cache line with the lowest mark.
    pub(crate) fn remember(&mut self, hash: u64, access: u32) {
        let ahead = self.ahead(access);
        let word = fingerprint(hash) | self.ghost_mark(ahead);
        let Some(set) = self.set_of(hash) else { return };
        let oldest = (0..GHOST_WAYS).min_by_key(|&way| match self.ghosts[set][way] {
            0 => i32::MIN,
            word => self.ghost_ahead(word),
        });
        if let Some(way) = oldest {
            self.ghosts[set][way] = word;
        }
    }

    fn take_ghost(&mut self, hash: u64) -> Option<i32> {
        let set = self.set_of(hash)?;
        let print = fingerprint(hash);
        let way = self.ghosts[set]
            .iter()
            .position(|word| word & 0xFFFF_0000 == print)?;
        let word = std::mem::take(&mut self.ghosts[set][way]);
        Some(self.ghost_ahead(word))
    }

    fn set_of(&self, hash: u64) -> Option<usize> {
        let sets = self.ghosts.len();
        (sets != 0).then(|| ((u128::from(hash) * sets as u128) >> 64) as usize)
    }

    fn ghost_mark(&self, ahead: i32) -> u32 {
        self.now().wrapping_add(ahead as u32) >> GHOST_SHIFT & 0xFFFF
    }

    fn ghost_ahead(&self, word: u32) -> i32 {
        let apart = (word as u16).wrapping_sub((self.now() >> GHOST_SHIFT) as u16) as i16;
        i32::from(apart) << GHOST_SHIFT
    }
}

fn fingerprint(hash: u64) -> u32 {
    ((hash as u32) << 16).max(1 << 16)
}

/// `log2(2^ahead + 1)`, in ticks: one access more, now. The smaller power adds about 2^-distance, with straight lines between whole half-lives.
#[inline]
fn one_more(ahead: i32) -> i32 {
    let distance = ahead.abs();
    let whole = distance / TICKS;
    if whole > 10 {
        return ahead.max(0);
    }
    let added = (TICKS - (distance % TICKS) / 2) >> whole;
    ahead.max(0) + added
}

/// `log2(bytes) * ticks`, with straight lines between powers of two.
#[inline]
fn log2_times(bytes: usize, ticks: i32) -> i32 {
    let bytes = (bytes as u64).max(1);
    let whole = bytes.ilog2();
    let rest = ((u128::from(bytes - (1 << whole)) << 10) >> whole) as i32;
    whole as i32 * ticks + ((rest * ticks) >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inserted(lrfu: &mut Lrfu, keys: usize) {
        for hash in 0..keys as u64 {
            lrfu.fresh(hash.wrapping_mul(0x9E37_79B9_7F4A_7C15), keys);
        }
    }

    #[test]
    fn a_key_that_is_read_often_outlives_one_that_was_read_last() {
        let mut lrfu = Lrfu::default();
        let mut often = lrfu.fresh(1, 1000);
        for _ in 0..8 {
            often = lrfu.touched(often);
        }
        inserted(&mut lrfu, 1000);
        let fresh = lrfu.fresh(2, 1000);
        let once_more = lrfu.touched(fresh);
        assert!(lrfu.ahead(often) > lrfu.ahead(once_more));
        for _ in 0..10 {
            inserted(&mut lrfu, 1000);
        }
        assert!(lrfu.ahead(often) < lrfu.ahead(lrfu.mark(0)));
    }

    #[test]
    fn time_goes_on_by_a_half_life_for_two_turnovers() {
        let mut lrfu = Lrfu::default();
        let access = lrfu.fresh(1, 1000);
        let before = lrfu.ahead(access);
        inserted(&mut lrfu, 1000);
        inserted(&mut lrfu, 1000);
        let passed = before - lrfu.ahead(access);
        assert!((passed - TICKS).abs() <= 1, "{passed}");
    }

    #[test]
    fn who_went_and_comes_back_is_known() {
        let mut lrfu = Lrfu::default();
        lrfu.prepare(1 << 20);
        let (hash, other) = (0x1234_5678_9ABC_DEF0, 0x8234_5678_9ABC_DEF1);
        let access = lrfu.fresh(hash, 1000);
        assert_eq!(access & KNOWN, 0);
        lrfu.remember(hash, access);
        assert_eq!(lrfu.fresh(other, 1000) & KNOWN, 0);
        let again = lrfu.fresh(hash, 1000);
        assert_ne!(again & KNOWN, 0);
        assert!((TICKS - 20..=TICKS).contains(&lrfu.ahead(again)));
        assert_eq!(lrfu.fresh(hash, 1000) & KNOWN, 0, "a ghost serves once");
    }

    #[test]
    fn a_full_line_of_ghosts_loses_its_lowest_mark() {
        let mut lrfu = Lrfu::default();
        lrfu.prepare(0);
        for hash in 1..=GHOST_WAYS as u64 + 1 {
            let access = lrfu.fresh(hash, 10);
            lrfu.remember(hash, access);
        }
        assert_eq!(lrfu.take_ghost(1), None);
        for hash in 2..=GHOST_WAYS as u64 + 1 {
            assert!(lrfu.take_ghost(hash).is_some(), "{hash}");
        }
    }

    #[test]
    fn young_keys_go_first_while_they_have_more_than_their_share() {
        let mut lrfu = Lrfu::default();
        let young = lrfu.fresh(1, 10);
        let known = lrfu.touched(young);
        for _ in 0..9 {
            lrfu.weigh(known, 100);
        }
        lrfu.weigh(young, 100);
        assert!(!lrfu.young_go_first());
        lrfu.weigh(young, 100);
        assert!(lrfu.young_go_first());
    }

    #[test]
    fn of_two_keys_with_one_mark_the_larger_goes() {
        let mut lrfu = Lrfu::default();
        let access = lrfu.fresh(1, 10);
        assert!(lrfu.weigh(access, 10_000).1 < lrfu.weigh(access, 100).1);
    }

    #[test]
    fn adding_accesses_is_close_to_the_logarithm_of_their_count() {
        let mut ahead = 0;
        for count in 2..=256 {
            ahead = one_more(ahead);
            let exact = f64::from(count).log2() * f64::from(TICKS);
            assert!(
                (f64::from(ahead) - exact).abs() < f64::from(TICKS),
                "{count}: {ahead}, {exact}"
            );
        }
    }
}
