//! Fields of hashes that expire: an index of the hashes that have some, by the time of the first, and the cycle that takes out
//! fields that nobody asks for.
//!
//! A hash without such fields is not in the index and costs nothing. Fields that go by themselves are reported by
//! [`Keyspace::take_gone_fields`].

use std::collections::{BTreeMap, BTreeSet};

use larder_wire::{Slot, UnixMillis};

use crate::events::Classes;
use crate::expiry::Swept;
use crate::keyspace::{Found, Keyspace};
use crate::size_class::size_class;
use crate::value::Collection;

/// Fields that a command takes out of the hash that it looks at; more than these wait for the cycle.
const FIELDS_PER_LOOK_MAX: usize = 256;
/// Slots whose first hash one turn of the cycle looks at.
const SLOTS_PER_TURN_MAX: usize = 2048;
/// What an ordered set takes for one of its elements, in bytes.
const ELEMENT_BYTES: usize = 40;

/// Hashes with fields that expire, by the time of the first.
pub(crate) type Due = BTreeSet<(UnixMillis, Box<[u8]>)>;

/// Fields that went by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoneFields {
    pub key: Box<[u8]>,
    pub fields: Vec<Box<[u8]>>,
    /// They were the last ones: the key went with them.
    pub emptied: bool,
}

#[derive(Default)]
pub(crate) struct FieldExpiry {
    slots: BTreeMap<Slot, Due>,
    /// The slot that the cycle looks at next.
    hand: Option<Slot>,
    pub(crate) gone: Vec<GoneFields>,
}

impl FieldExpiry {
    /// The slot at or after the hand, from the last to the first.
    fn next_slot(&self) -> Option<Slot> {
        let from = self.hand.unwrap_or(Slot::FIRST);
        let mut after = self.slots.range(from..);
        let next = after.next().or_else(|| self.slots.iter().next())?;
        Some(*next.0)
    }
}

/// Bytes that the index takes for a key.
fn index_bytes(key: &[u8]) -> usize {
    size_class(key.len().max(1)) + ELEMENT_BYTES
}

impl Keyspace {
    /// Fields that went by themselves since this was last asked, in order: their HDEL is an effect that comes before that of the
    /// command that met them.
    pub fn take_gone_fields(&mut self) -> Vec<GoneFields> {
        std::mem::take(&mut self.fields.gone)
    }

    /// Some hash has fields that expire.
    pub fn has_expiring_fields(&self) -> bool {
        !self.fields.slots.is_empty()
    }

    pub fn has_gone_fields(&self) -> bool {
        !self.fields.gone.is_empty()
    }

    /// A key's first field is due at another time than before.
    pub(crate) fn reindex(
        &mut self,
        slot: Slot,
        key: &[u8],
        before: Option<UnixMillis>,
        after: Option<UnixMillis>,
    ) {
        if before == after {
            return;
        }
        let due = self.fields.slots.entry(slot).or_default();
        if let Some(at) = before {
            let was_there = due.remove(&(at, Box::from(key)));
            debug_assert!(was_there, "a hash with fields that expire is in the index");
            self.used -= index_bytes(key);
        }
        if let Some(at) = after {
            due.insert((at, Box::from(key)));
            self.used += index_bytes(key);
        }
        if due.is_empty() {
            self.fields.slots.remove(&slot);
        }
    }

    /// A slot's keys are dropped: what the index has of them, still counted as memory.
    pub(crate) fn take_due_of_slot(&mut self, slot: Slot) -> Option<Due> {
        self.fields.slots.remove(&slot)
    }

    /// Drops up to `limit` of them; true when there are more.
    pub(crate) fn free_due(&mut self, due: &mut Due, limit: usize) -> bool {
        for _ in 0..limit {
            let Some((_, key)) = due.pop_first() else {
                return false;
            };
            self.used -= index_bytes(&key);
        }
        !due.is_empty()
    }

    /// Before a command looks into a collection: takes fields that are due out of a hash, as many as do not take long; the others
    /// are as if gone. False when the key went with the last of them.
    pub(crate) fn settle_fields(&mut self, found: Found, now: UnixMillis) -> bool {
        // One with fields that expire is never packed.
        let Some(Collection::Hash(hash)) = self.entry(found).collection_apart() else {
            return true;
        };
        hash.look(now);
        if !hash.has_due() || self.is_passive() {
            return true;
        }
        let (_, emptied) = self.take_due_fields(found, now, FIELDS_PER_LOOK_MAX);
        !emptied
    }

    /// Takes out up to `limit` fields that are due: how many, and whether the key went with the last.
    fn take_due_fields(&mut self, found: Found, now: UnixMillis, limit: usize) -> (usize, bool) {
        let mut entry = self.tables.entry_mut(found.at);
        let key: Box<[u8]> = entry.key().into();
        let edited = entry.edit(|collection| match collection {
            Collection::Hash(hash) => {
                let before = hash.next_due();
                let fields = hash.take_due(now, limit);
                Some((fields, before, hash.next_due(), hash.is_empty()))
            }
            Collection::List(_)
            | Collection::Set(_)
            | Collection::ZSet(_)
            | Collection::Stream(_) => None,
        });
        drop(entry);
        let Some(edited) = edited else {
            return (0, false);
        };
        self.used = self.used + edited.after - edited.before;
        let Some((fields, before, after, emptied)) = edited.result else {
            return (0, false);
        };
        let count = fields.len();
        self.reindex(found.slot, &key, before, after);
        if emptied {
            self.remove_found(found);
        }
        self.count_expired_fields(count);
        self.events.say(Classes::HASH, "hexpired", &key);
        if emptied {
            self.events.say(Classes::GENERIC, "del", &key);
        }
        self.fields.gone.push(GoneFields {
            key,
            fields,
            emptied,
        });
        (count, emptied)
    }

    /// Takes out up to about `limit` fields that are due, of hashes in visible slots.
    pub fn expire_fields(&mut self, now: UnixMillis, limit: usize) -> Swept {
        let mut swept = Swept::default();
        if self.is_passive() {
            return swept;
        }
        let mut slots_left = self.fields.slots.len().min(SLOTS_PER_TURN_MAX);
        while swept.examined < limit && slots_left > 0 {
            let Some(slot) = self.fields.next_slot() else {
                break;
            };
            // Fields of an import expire when its source says so.
            let first = self.fields.slots[&slot].first();
            let due = first.filter(|(at, _)| *at <= now && self.is_visible(slot));
            let Some((_, key)) = due else {
                self.fields.hand = slot.next();
                slots_left -= 1;
                continue;
            };
            let hash = self.hashes.of(key);
            let found = self.tables.find(slot, hash, key);
            let (at, _) = found.expect("the index knows only keys that are there");
            let found = Found { slot, hash, at };
            self.fields.hand = Some(slot);
            let (gone, _) = self.take_due_fields(found, now, limit - swept.examined);
            swept.examined += gone.max(1);
            swept.expired += gone;
        }
        swept
    }
}
