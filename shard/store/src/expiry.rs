//! The expiry cycle: removes keys whose time has come and that nobody asks for.
//!
//! A hand goes round the slots that have expiring keys, in hash order, and looks at a bounded number of such keys each time. A
//! key without expiry costs nothing: a bit beside its tag says so.

use larder_wire::UnixMillis;

use crate::keyspace::{Found, Keyspace};

/// What one turn of the cycle did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Expiring keys that were looked at.
    pub examined: usize,
    /// Those of them that were due and are gone.
    pub expired: usize,
}

impl Swept {
    /// True when so many of the keys were due that another turn at once is worth it.
    pub fn is_rich(&self) -> bool {
        self.expired * 10 > self.examined
    }
}

/// A running mean, in which what was met last has the weight that it has in Redis' `avg_ttl`.
fn blend(mean_ms: u64, met_ms: u64) -> u64 {
    const WEIGHT: u64 = 50;
    match mean_ms {
        0 => met_ms,
        _ => mean_ms / WEIGHT * (WEIGHT - 1) + met_ms / WEIGHT,
    }
}

impl Keyspace {
    /// Looks at about `limit` expiring keys and removes those that are due; each is reported by [`Keyspace::take_gone`].
    pub fn expire_due(&mut self, now: UnixMillis, limit: usize) -> Swept {
        let mut swept = Swept::default();
        if self.is_passive() {
            return swept;
        }
        let mut due = Vec::new();
        let (mut staying, mut left_ms) = (0, 0);
        let mut slots_left = self.expiring_slots.len();
        while swept.examined < limit && slots_left > 0 {
            let first = self
                .expiring_slots
                .first_from(self.expiry_hand.slot)
                .or_else(|| self.expiring_slots.iter().next());
            let Some(slot) = first else { break };
            if !self.is_visible(slot) {
                // Keys of an import expire when its source says so.
                self.expiry_hand.slot = slot;
                self.expiry_hand.next_slot();
                slots_left -= 1;
                continue;
            }
            if slot != self.expiry_hand.slot {
                self.expiry_hand.slot = slot;
                self.expiry_hand.place = 0;
            }
            let budget = limit - swept.examined;
            let next =
                self.tables
                    .sample(slot, self.expiry_hand.place, budget, true, |_, entry| {
                        swept.examined += 1;
                        match entry.expires() {
                            Some(at) if at <= now => {
                                due.push((
                                    slot,
                                    self.hashes.of(entry.key()),
                                    Box::from(entry.key()),
                                ));
                            }
                            Some(at) => {
                                staying += 1;
                                left_ms += i128::from(at.0) - i128::from(now.0);
                            }
                            None => {}
                        }
                    });
            match next {
                Some(place) => self.expiry_hand.place = place,
                None => {
                    self.expiry_hand.next_slot();
                    slots_left -= 1;
                }
            }
            swept.expired += due.len();
            self.expire_all(&mut due);
        }
        if self.expiring == 0 {
            self.mean_ttl_ms = 0;
        } else if staying > 0 {
            self.mean_ttl_ms = blend(self.mean_ttl_ms, (left_ms / staying) as u64);
        }
        swept
    }

    /// How long expiring keys have yet to live, as the cycle has met them lately, in milliseconds; 0 without any.
    pub fn mean_ttl_ms(&self) -> u64 {
        self.mean_ttl_ms
    }

    fn expire_all(&mut self, due: &mut Vec<(larder_wire::Slot, u64, Box<[u8]>)>) {
        for (slot, hash, key) in due.drain(..) {
            if let Some((at, _)) = self.tables.find(slot, hash, &key) {
                self.expire(Found { slot, hash, at });
            }
        }
    }
}
