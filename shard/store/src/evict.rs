//! Eviction: makes room when memory is full.
//!
//! A hand goes round all slots in hash order, which has nothing to do with how keys are used; of each handful of keys that it meets, the
//! one that deserves it most goes (see eviction.rs). So every key is weighed once a round, with no list to keep.

use larder_wire::{SLOT_COUNT, Slot, UnixMillis};

use crate::entry::EntryRef;
use crate::eviction::{self, EvictionPolicy};
use crate::keyspace::{Found, Keyspace};
use crate::lrfu::Score;
use crate::random::Random;
use crate::table::At;
use crate::walk::Hand;

/// Keys weighed for each that goes, for one of `maxmemory-samples`: Redis remembers good candidates of earlier samples, which is worth as much.
const SAMPLES_PER_SAMPLE: usize = 2;
/// More of them gain nothing and cost time.
const SAMPLES_MAX: usize = 64;
/// Keys weighed for each that goes by LRFU.
const LRFU_SAMPLES: usize = 32;

/// What came of an attempt to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Memory is below its limit.
    Enough,
    /// The limit of this attempt was reached first; another goes on.
    More,
    /// There is nothing that may go: writes that need memory are refused.
    None,
}

impl Keyspace {
    /// Whether more memory than `maxmemory` is used, with `beside` bytes that other databases take of it.
    pub(crate) fn is_over_limit(&self, beside: u64) -> bool {
        self.config.maxmemory != 0 && self.used_memory() + beside > self.config.maxmemory
    }

    /// Frees memory until it is below `maxmemory`, of which other databases take `beside` bytes, by at most `limit` keys; each is
    /// reported by [`Keyspace::take_gone`].
    pub fn make_room(&mut self, now: UnixMillis, limit: usize, beside: u64) -> Room {
        const TRASH_PER_STEP: usize = 256;
        let mut evicted = 0;
        while self.is_over_limit(beside) {
            if self.has_trash() {
                self.free_some(TRASH_PER_STEP);
            } else if self.is_passive() || self.config.eviction == EvictionPolicy::NoEviction {
                return Room::None;
            } else if evicted == limit {
                return Room::More;
            } else if let Some(victim) = self.choose_victim(now) {
                self.evict(victim);
                evicted += 1;
            } else {
                return Room::None;
            }
        }
        Room::Enough
    }

    /// Keys of an import are no victims: effects that are still to come count on them.
    fn choose_victim(&mut self, now: UnixMillis) -> Option<Found> {
        let policy = self.config.eviction;
        let volatile = policy.is_volatile();
        let eligible = if volatile { self.expiring } else { self.keys };
        if eligible == 0 {
            return None;
        }
        let (slot, at) = if policy.is_lrfu() {
            self.weigh_lrfu(LRFU_SAMPLES.min(eligible), volatile, now)?
        } else {
            let samples = self.config.tuning.samples.min(SAMPLES_MAX) * SAMPLES_PER_SAMPLE;
            self.weigh(samples.min(eligible), volatile, now)?
        };
        let hash = self.hashes.of(self.tables.entry(at).key());
        Some(Found { slot, hash, at })
    }

    /// The one of `wanted` keys that deserves it most by a policy of Redis'.
    fn weigh(&mut self, wanted: usize, volatile: bool, now: UnixMillis) -> Option<(Slot, At)> {
        let (policy, tuning) = (self.config.eviction, self.config.tuning);
        let mut random = Random::new(self.random.next_u64());
        let mut best: Option<(u64, Slot, At)> = None;
        self.sweep(wanted, volatile, |slot, at, entry| {
            let score = eviction::score(
                policy,
                entry.access(),
                entry.expires(),
                now,
                tuning,
                &mut random,
            );
            if best.as_ref().is_none_or(|(most, ..)| score > *most) {
                best = Some((score, slot, at));
            }
        });
        best.map(|(_, slot, at)| (slot, at))
    }

    /// By LRFU: of the kind, young or known, that has more than its share. Whoever has expired goes before anybody.
    fn weigh_lrfu(&mut self, wanted: usize, volatile: bool, now: UnixMillis) -> Option<(Slot, At)> {
        let mut lrfu = std::mem::take(&mut self.lrfu);
        let mut due = None;
        let mut lowest: [Option<(Score, Slot, At)>; 2] = [None, None];
        self.sweep(wanted, volatile, |slot, at, entry| {
            if entry.expires().is_some_and(|expires| expires <= now) {
                due = Some((slot, at));
            }
            let (young, score) = lrfu.weigh(entry.access(), entry.footprint());
            let lowest = &mut lowest[usize::from(young)];
            if lowest.is_none_or(|(least, ..)| score < least) {
                *lowest = Some((score, slot, at));
            }
        });
        let [known, young] = lowest;
        let chosen = if lrfu.young_go_first() {
            young.or(known)
        } else {
            known.or(young)
        };
        self.lrfu = lrfu;
        due.or(chosen.map(|(_, slot, at)| (slot, at)))
    }

    /// Calls `f` with about the next `wanted` keys that the hand meets.
    fn sweep(&mut self, wanted: usize, volatile: bool, mut f: impl FnMut(Slot, At, EntryRef<'_>)) {
        let mut met = 0;
        // Twice round is enough to meet every key from wherever the hand stands.
        let mut slots_left = 2 * usize::from(SLOT_COUNT);
        while met < wanted && slots_left > 0 {
            let mut hand = self.eviction_hand;
            if !self.is_visible(hand.slot) {
                hand.next_slot();
                slots_left -= 1;
                self.eviction_hand = hand;
                continue;
            }
            let (Hand { slot, place }, left) = (hand, wanted - met);
            let next = self
                .tables
                .sample(slot, place, left, volatile, |at, entry| {
                    met += 1;
                    f(slot, at, entry);
                });
            match next {
                Some(place) => hand.place = place,
                None => {
                    hand.next_slot();
                    slots_left -= 1;
                }
            }
            self.eviction_hand = hand;
        }
    }
}
