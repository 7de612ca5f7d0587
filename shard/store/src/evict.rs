//! Eviction: makes room when memory is full.
//!
//! A hand goes round all slots in hash order, which has nothing to do with how keys are used; of each handful of keys that it meets, the
//! one that deserves it most goes (see eviction.rs). So every key is weighed once a round, with no list to keep.

use larder_wire::{SLOT_COUNT, Slot, UnixMillis};

use crate::eviction::{self, EvictionPolicy};
use crate::keyspace::{Found, Keyspace};
use crate::random::Random;

/// Keys weighed for each that goes (`maxmemory-samples`, on the generous side).
const SAMPLES: usize = 10;

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
        let wanted = SAMPLES.min(eligible);
        let mut weighed = 0;
        let mut best: Option<(u64, Slot, u64, Box<[u8]>)> = None;
        let mut random = Random::new(self.random.next_u64());
        // Twice round is enough to meet every key from wherever the hand stands.
        let mut slots_left = 2 * usize::from(SLOT_COUNT);
        while weighed < wanted && slots_left > 0 {
            let mut hand = self.eviction_hand;
            if !self.is_visible(hand.slot) {
                hand.next_slot();
                slots_left -= 1;
                self.eviction_hand = hand;
                continue;
            }
            let table = &self.tables[hand.slot.index()];
            let next = table.sample(hand.place, wanted - weighed, volatile, |_, entry| {
                weighed += 1;
                let score =
                    eviction::score(policy, entry.access(), entry.expires(), now, &mut random);
                if best.as_ref().is_none_or(|(most, ..)| score > *most) {
                    let key = entry.key();
                    best = Some((score, hand.slot, self.hashes.of(key), key.into()));
                }
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
        let (_, slot, hash, key) = best?;
        let at = self.tables[slot.index()].find(hash, &key)?;
        Some(Found { slot, hash, at })
    }
}
