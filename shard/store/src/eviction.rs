//! What eviction knows of a key: 24 bits in its entry, as Redis keeps them.
//!
//! Under an LRU policy (and without one) they are the time of the last access in seconds; under an LFU policy 16 bits of minutes
//! and 8 bits of a logarithmic counter that decays by one a minute (`lfu-decay-time`). The LRFU policies keep a mark of their own (lrfu.rs).
//! Source: Redis' evict.c, and "Using Redis as an LRU cache" of its documentation.

use larder_wire::UnixMillis;

use crate::random::Random;

/// Which keys go when memory is full (`maxmemory-policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EvictionPolicy {
    #[default]
    NoEviction,
    AllKeysLru,
    AllKeysLfu,
    AllKeysRandom,
    VolatileLru,
    VolatileLfu,
    VolatileRandom,
    VolatileTtl,
    /// Frequency and recency in one, with probation: see lrfu.rs.
    AllKeysLrfu,
    VolatileLrfu,
}

impl EvictionPolicy {
    pub const ALL: [EvictionPolicy; 10] = [
        EvictionPolicy::NoEviction,
        EvictionPolicy::AllKeysLru,
        EvictionPolicy::AllKeysLfu,
        EvictionPolicy::AllKeysRandom,
        EvictionPolicy::VolatileLru,
        EvictionPolicy::VolatileLfu,
        EvictionPolicy::VolatileRandom,
        EvictionPolicy::VolatileTtl,
        EvictionPolicy::AllKeysLrfu,
        EvictionPolicy::VolatileLrfu,
    ];

    /// As CONFIG SET maxmemory-policy has it.
    pub const fn word(self) -> &'static str {
        match self {
            EvictionPolicy::NoEviction => "noeviction",
            EvictionPolicy::AllKeysLru => "allkeys-lru",
            EvictionPolicy::AllKeysLfu => "allkeys-lfu",
            EvictionPolicy::AllKeysRandom => "allkeys-random",
            EvictionPolicy::VolatileLru => "volatile-lru",
            EvictionPolicy::VolatileLfu => "volatile-lfu",
            EvictionPolicy::VolatileRandom => "volatile-random",
            EvictionPolicy::VolatileTtl => "volatile-ttl",
            EvictionPolicy::AllKeysLrfu => "allkeys-lrfu",
            EvictionPolicy::VolatileLrfu => "volatile-lrfu",
        }
    }

    pub fn from_word(word: &[u8]) -> Option<EvictionPolicy> {
        EvictionPolicy::ALL
            .into_iter()
            .find(|policy| word.eq_ignore_ascii_case(policy.word().as_bytes()))
    }

    pub const fn is_lfu(self) -> bool {
        matches!(
            self,
            EvictionPolicy::AllKeysLfu | EvictionPolicy::VolatileLfu
        )
    }

    #[inline]
    pub const fn is_lrfu(self) -> bool {
        matches!(
            self,
            EvictionPolicy::AllKeysLrfu | EvictionPolicy::VolatileLrfu
        )
    }

    /// True when entries say how long they have been idle.
    pub const fn keeps_idle_time(self) -> bool {
        !self.is_lfu() && !self.is_lrfu()
    }

    /// True for the policies that weigh how a key was used.
    pub const fn looks_at_accesses(self) -> bool {
        matches!(
            self,
            EvictionPolicy::AllKeysLru
                | EvictionPolicy::AllKeysLfu
                | EvictionPolicy::VolatileLru
                | EvictionPolicy::VolatileLfu
                | EvictionPolicy::AllKeysLrfu
                | EvictionPolicy::VolatileLrfu
        )
    }

    /// True when only keys with an expiry may go.
    pub const fn is_volatile(self) -> bool {
        matches!(
            self,
            EvictionPolicy::VolatileLru
                | EvictionPolicy::VolatileLfu
                | EvictionPolicy::VolatileRandom
                | EvictionPolicy::VolatileTtl
                | EvictionPolicy::VolatileLrfu
        )
    }
}

const CLOCK_BITS: u32 = 0x00FF_FFFF;
/// What a new key's counter starts with, so that it is not the first to go.
const COUNTER_FRESH: u32 = 5;
const COUNTER_MAX: u32 = 255;

/// The parameters of Redis' policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvictionTuning {
    /// `maxmemory-samples`.
    pub samples: usize,
    /// `lfu-log-factor`: the greater, the more accesses a counter takes to its end.
    pub lfu_log_factor: u64,
    /// `lfu-decay-time`: minutes in which a counter decays by one; 0 is never.
    pub lfu_decay_minutes: u32,
}

impl Default for EvictionTuning {
    fn default() -> EvictionTuning {
        EvictionTuning {
            samples: 5,
            lfu_log_factor: 10,
            lfu_decay_minutes: 1,
        }
    }
}

fn seconds(now: UnixMillis) -> u32 {
    (now.0 / 1000) as u32 & CLOCK_BITS
}

fn minutes(now: UnixMillis) -> u32 {
    (now.0 / 60_000) as u32 & 0xFFFF
}

/// The bits of a key that is made.
pub(crate) fn fresh(policy: EvictionPolicy, now: UnixMillis) -> u32 {
    if policy.is_lfu() {
        minutes(now) << 8 | COUNTER_FRESH
    } else {
        seconds(now)
    }
}

/// The bits after an access.
#[inline]
pub(crate) fn touched(
    policy: EvictionPolicy,
    access: u32,
    now: UnixMillis,
    tuning: EvictionTuning,
    random: &mut Random,
) -> u32 {
    if !policy.is_lfu() {
        return seconds(now);
    }
    let counter = frequency(access, now, tuning);
    let grows = counter < COUNTER_MAX && {
        let above = u64::from(counter.saturating_sub(COUNTER_FRESH));
        // With probability 1 / (above * factor + 1).
        random.next_u64() < u64::MAX / (above * tuning.lfu_log_factor + 1)
    };
    minutes(now) << 8 | (counter + u32::from(grows))
}

/// The counter after decay, under an LFU policy.
pub(crate) fn frequency(access: u32, now: UnixMillis, tuning: EvictionTuning) -> u32 {
    let elapsed = minutes(now).wrapping_sub(access >> 8) & 0xFFFF;
    let decay = elapsed.checked_div(tuning.lfu_decay_minutes).unwrap_or(0);
    (access & 0xFF).saturating_sub(decay)
}

/// Seconds since the last access, under any other.
pub(crate) fn idle_seconds(access: u32, now: UnixMillis) -> u32 {
    seconds(now).wrapping_sub(access) & CLOCK_BITS
}

/// The bits of a key that RESTORE says was idle so long.
pub(crate) fn idle_since(idle_seconds: u64, now: UnixMillis) -> u32 {
    seconds(now).wrapping_sub(idle_seconds as u32) & CLOCK_BITS
}

/// The bits of a key that RESTORE says has this counter.
pub(crate) fn with_frequency(frequency: u8, now: UnixMillis) -> u32 {
    minutes(now) << 8 | u32::from(frequency)
}

/// How much a key deserves to go by Redis' policies: the candidate with the greatest goes.
pub(crate) fn score(
    policy: EvictionPolicy,
    access: u32,
    expires: Option<UnixMillis>,
    now: UnixMillis,
    tuning: EvictionTuning,
    random: &mut Random,
) -> u64 {
    match policy {
        EvictionPolicy::AllKeysLru | EvictionPolicy::VolatileLru => {
            u64::from(idle_seconds(access, now))
        }
        EvictionPolicy::AllKeysLfu | EvictionPolicy::VolatileLfu => {
            u64::from(COUNTER_MAX - frequency(access, now, tuning))
        }
        EvictionPolicy::AllKeysRandom | EvictionPolicy::VolatileRandom => random.next_u64(),
        EvictionPolicy::VolatileTtl => expires.map_or(0, |at| u64::MAX - at.0.max(0) as u64),
        EvictionPolicy::NoEviction | EvictionPolicy::AllKeysLrfu | EvictionPolicy::VolatileLrfu => {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    #[test]
    fn every_policy_is_found_by_its_word() {
        for policy in EvictionPolicy::ALL {
            assert_eq!(
                EvictionPolicy::from_word(policy.word().as_bytes()),
                Some(policy)
            );
        }
        assert_eq!(EvictionPolicy::from_word(b"allkeys"), None);
    }

    #[test]
    fn a_frequency_counter_grows_with_accesses_and_decays_by_one_a_minute() {
        let (policy, mut random) = (EvictionPolicy::AllKeysLfu, Random::new(1));
        let tuning = EvictionTuning::default();
        let now = UnixMillis(1_700_000_000_000);
        let mut access = fresh(policy, now);
        for _ in 0..10_000 {
            access = touched(policy, access, now, tuning, &mut random);
        }
        let counter = frequency(access, now, tuning);
        assert!((20..200).contains(&counter), "{counter}");
        assert_eq!(
            frequency(access, UnixMillis(now.0 + 10 * MINUTE), tuning),
            counter - 10
        );
        let late = UnixMillis(now.0 + 300 * MINUTE);
        assert_eq!(frequency(access, late, tuning), 0);
        let never = EvictionTuning {
            lfu_decay_minutes: 0,
            ..tuning
        };
        assert_eq!(frequency(access, late, never), counter);
    }

    #[test]
    fn idle_time_is_counted_across_the_wrap_of_the_clock() {
        let before_wrap = UnixMillis(i64::from(CLOCK_BITS) * 1000);
        let access = fresh(EvictionPolicy::NoEviction, before_wrap);
        assert_eq!(idle_seconds(access, UnixMillis(before_wrap.0 + 5000)), 5);
    }
}
