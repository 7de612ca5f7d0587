//! Walks: the keys of a slot in hash order, from a place on; samples; single keys captured for feeds.

use larder_wire::{Slot, SlotSet, UnixMillis};

use crate::entry::{EntryRef, Tray};
use crate::key::Key;
use crate::keyspace::{Found, Keyspace};
use crate::value::{Value, ValueRef, ValueType};

/// A place in the hash order of a slot's keys: keys at or after it are yet to be met. It means the same on every node of a cluster
/// and stays true while the table grows or shrinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub u64);

impl Place {
    pub const START: Place = Place(0);
}

/// One key as a walk meets it.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    entry: EntryRef<'a>,
    place: Place,
}

impl<'a> Item<'a> {
    pub fn key(&self) -> &'a [u8] {
        self.entry.key()
    }

    pub fn value<'r>(&self, tray: &'r mut Tray) -> ValueRef<'r>
    where
        'a: 'r,
    {
        self.entry.value(tray)
    }

    pub fn value_type(&self) -> ValueType {
        self.entry.value_type()
    }

    pub fn expires(&self) -> Option<UnixMillis> {
        self.entry.expires()
    }

    pub fn place(&self) -> Place {
        self.place
    }

    pub fn is_due(&self, now: UnixMillis) -> bool {
        self.expires().is_some_and(|at| at <= now)
    }

    /// Bytes that the key takes in memory, its collection's included.
    pub fn footprint(&self) -> usize {
        self.entry.footprint()
    }

    pub fn capture(&self) -> Captured {
        Captured {
            value: self.value(&mut Tray::default()).to_value(),
            expires: self.expires(),
        }
    }
}

/// A key's value as it was at one moment: a copy of a string, a clone of a collection (which shares what it can).
#[derive(Clone)]
pub struct Captured {
    pub value: Value,
    pub expires: Option<UnixMillis>,
}

/// Where a round over all slots stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hand {
    pub(crate) slot: Slot,
    pub(crate) place: u64,
}

impl Default for Hand {
    fn default() -> Hand {
        Hand {
            slot: Slot::FIRST,
            place: 0,
        }
    }
}

impl Hand {
    /// To the start of the next slot, from the last to the first.
    pub(crate) fn next_slot(&mut self) {
        self.slot = self.slot.next().unwrap_or(Slot::FIRST);
        self.place = 0;
    }
}

impl Keyspace {
    /// Keys of a slot, those that have expired and were not yet removed included.
    pub fn slot_len(&self, slot: Slot) -> usize {
        self.tables.len(slot)
    }

    /// Slots that commands about the whole keyspace (DBSIZE, SCAN, KEYS, RANDOMKEY, FLUSHALL) see; `None` is all.
    /// Keys of an import that the node does not own yet stay out of sight.
    pub fn set_visible(&mut self, slots: Option<SlotSet>) {
        self.visible = slots;
    }

    /// True when the node has a part of the slots: it is one of a cluster.
    pub fn is_partial(&self) -> bool {
        self.visible.is_some()
    }

    pub fn is_visible(&self, slot: Slot) -> bool {
        self.visible
            .as_ref()
            .is_none_or(|slots| slots.contains(slot))
    }

    /// Whether all of `slots` are visible.
    pub(crate) fn shows_all(&self, slots: &SlotSet) -> bool {
        let visible = self.visible.as_ref();
        visible.is_none_or(|visible| slots.is_subset(visible))
    }

    /// The first visible slot with keys at or after `from`.
    pub(crate) fn visible_slot_from(&self, from: Slot) -> Option<Slot> {
        let mut slot = from;
        loop {
            if self.slot_len(slot) > 0 && self.is_visible(slot) {
                return Some(slot);
            }
            slot = slot.next()?;
        }
    }

    /// Keys in visible slots: DBSIZE.
    pub fn visible_len(&self) -> usize {
        match &self.visible {
            None => self.keys,
            Some(slots) => slots.iter().map(|slot| self.slot_len(slot)).sum(),
        }
    }

    /// Where a walk of its slot meets `key`: before a walk's place when that has met it already.
    pub fn hash_place<'k>(&self, key: impl Into<Key<'k>>) -> Place {
        Place(self.hashes.of(key.into().bytes()))
    }

    /// Shows the keys of a slot from `from` on in buckets of hash order, until `limit` of them were met or a little more, and returns the
    /// place to go on from; `None` at the end. Within a bucket keys come in no order, but each is at or after the place
    /// given and before the place returned. Keys that have expired are shown, too.
    pub fn walk_slot(
        &self,
        slot: Slot,
        from: Place,
        limit: usize,
        mut show: impl FnMut(Item<'_>),
    ) -> Option<Place> {
        let next = self
            .tables
            .walk(slot, from.0, limit, &self.hashes, |_, hash, entry| {
                show(Item {
                    entry,
                    place: Place(hash),
                });
            });
        next.map(Place)
    }

    /// Up to `limit` keys of a slot, for CLUSTER GETKEYSINSLOT.
    pub fn keys_in_slot(&self, slot: Slot, limit: usize, now: UnixMillis) -> Vec<Box<[u8]>> {
        let mut keys = Vec::new();
        let mut place = Some(Place::START);
        while let Some(from) = place.filter(|_| keys.len() < limit) {
            place = self.walk_slot(slot, from, limit - keys.len(), |item| {
                if keys.len() < limit && !item.is_due(now) {
                    keys.push(item.key().into());
                }
            });
        }
        keys
    }

    /// The key as it is, for a feed that sends it before its first write; `None` when it is not there. Counts as no access.
    pub fn capture<'k>(&self, key: impl Into<Key<'k>>) -> Option<Captured> {
        let item = Item {
            entry: self.find_entry(key.into())?,
            place: Place::START,
        };
        Some(item.capture())
    }

    /// Bytes that the key takes in memory, its collection's included: MEMORY USAGE. Counts as no access.
    pub fn footprint<'k>(&self, key: impl Into<Key<'k>>, now: UnixMillis) -> Option<usize> {
        let entry = self.find_entry(key.into())?;
        let due = entry.expires().is_some_and(|at| at <= now);
        (!due).then(|| entry.footprint())
    }

    /// Some visible key that has not expired: RANDOMKEY.
    pub fn random_key(&mut self, now: UnixMillis) -> Option<Box<[u8]>> {
        const TRIES: usize = 100;
        for _ in 0..TRIES {
            let slot = match &self.visible {
                None => self.random_slot()?,
                Some(_) => self.random_visible_slot()?,
            };
            let mut found = Vec::new();
            let place = self.random.next_u64();
            let tables = &self.tables;
            let met = |found: &mut Vec<_>, at, entry: EntryRef<'_>| {
                found.push((at, self.hashes.of(entry.key())));
            };
            let next = tables.sample(slot, place, 1, false, |at, entry| {
                met(&mut found, at, entry)
            });
            if found.is_empty() && next.is_none() {
                tables.sample(slot, 0, 1, false, |at, entry| met(&mut found, at, entry));
            }
            if found.is_empty() {
                continue;
            }
            let (at, hash) = found[self.random.below(found.len())];
            let found = Found { slot, hash, at };
            if self.entry(found).expires().is_some_and(|at| at <= now) {
                self.expire(found);
                continue;
            }
            return Some(self.entry(found).key().into());
        }
        None
    }

    fn random_visible_slot(&mut self) -> Option<Slot> {
        let keys = self.visible_len();
        if keys == 0 {
            return None;
        }
        let mut rest = self.random.below(keys);
        let slots = self.visible.as_ref()?;
        slots.iter().find(|&slot| {
            let here = rest < self.slot_len(slot);
            if !here {
                rest -= self.slot_len(slot);
            }
            here
        })
    }
}
