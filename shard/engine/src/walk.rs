//! A walk over all keys of a set of slots, in steps between which commands go on, and the knowledge which keys it has met.
//!
//! It goes from slot to slot, within a slot from database to database, within that in hash order. A key that has to be met before
//! its turn, because a command is about to change it, is met early; the walk passes it over when it comes there.

use std::collections::{BTreeMap, HashSet};

use larder_store::{Databases, Db, Item, Keyspace, Place};
use larder_wire::{Slot, SlotSet};

/// Keys that one step meets, or a few more.
const KEYS_PER_STEP: usize = 64;

/// Where a walk stands: all before it is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cursor {
    At { slot: Slot, db: Db, place: Place },
    End,
}

impl Cursor {
    fn at_slot(slot: Option<Slot>) -> Cursor {
        match slot {
            Some(slot) => Cursor::At {
                slot,
                db: Db::ZERO,
                place: Place::START,
            },
            None => Cursor::End,
        }
    }
}

/// Keys by slot and database: no set is so large that growing it is felt, and each goes when its slot is passed.
#[derive(Default)]
struct KeysBySlot(BTreeMap<(Slot, Db), HashSet<Box<[u8]>>>);

impl KeysBySlot {
    fn insert(&mut self, slot: Slot, db: Db, key: &[u8]) {
        self.0.entry((slot, db)).or_default().insert(key.into());
    }

    fn contains(&self, slot: Slot, db: Db, key: &[u8]) -> bool {
        let keys = self.0.get(&(slot, db));
        keys.is_some_and(|keys| keys.contains(key))
    }

    fn get_mut(&mut self, slot: Slot, db: Db) -> Option<&mut HashSet<Box<[u8]>>> {
        self.0.get_mut(&(slot, db))
    }

    fn forget(&mut self, slot: Slot) {
        for db in Db::all() {
            self.0.remove(&(slot, db));
        }
    }
}

/// What one step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stepped {
    /// There were keys, met early or now.
    pub(crate) any: bool,
    /// A slot whose keys are all met, and how many they were.
    pub(crate) slot_done: Option<(Slot, u64)>,
}

pub(crate) struct Walk {
    slots: SlotSet,
    cursor: Cursor,
    /// Keys met in the slot at the cursor.
    slot_keys: u64,
    /// Keys at or after the cursor that are met already.
    early: KeysBySlot,
}

impl Walk {
    pub(crate) fn over(slots: SlotSet) -> Walk {
        Walk {
            cursor: Cursor::at_slot(slots.first_from(Slot::FIRST)),
            slots,
            slot_keys: 0,
            early: KeysBySlot::default(),
        }
    }

    pub(crate) fn slots(&self) -> &SlotSet {
        &self.slots
    }

    pub(crate) fn is_over(&self) -> bool {
        self.cursor == Cursor::End
    }

    /// True when the key, which is of one of the slots, was met or there was none when its turn was.
    pub(crate) fn has_met(&self, db: Db, key: &[u8], slot: Slot, keyspace: &Keyspace) -> bool {
        match self.cursor {
            Cursor::End => true,
            Cursor::At {
                slot: at,
                db: in_db,
                ..
            } if (slot, db) < (at, in_db) => true,
            Cursor::At {
                slot: at,
                db: in_db,
                place,
            } if (slot, db) == (at, in_db) => {
                keyspace.hash_place(key) < place || self.early.contains(slot, db, key)
            }
            Cursor::At { .. } => self.early.contains(slot, db, key),
        }
    }

    /// A key that is not met yet, or not there yet, is met.
    pub(crate) fn meet_early(&mut self, db: Db, key: &[u8], slot: Slot) {
        self.early.insert(slot, db, key);
    }

    /// What was met early is forgotten: all keys are gone.
    pub(crate) fn forget_early(&mut self) {
        self.early = KeysBySlot::default();
    }

    /// Shows some keys that were not met yet, or passes over one slot that has none.
    pub(crate) fn step(
        &mut self,
        databases: &Databases,
        show: impl FnMut(Db, Item<'_>),
    ) -> Stepped {
        let Cursor::At { slot, db, place } = self.cursor else {
            return Stepped {
                any: false,
                slot_done: None,
            };
        };
        let before = self.slot_keys;
        // A database that has nothing in this slot is passed over; what comes to it later has been met.
        let rest = match databases.next_in_slot(slot, db) {
            None => None,
            Some(found) => {
                let place = if found == db { place } else { Place::START };
                match self.walk_database(found, slot, place, databases, show) {
                    Some(next) => Some((found, next)),
                    None => Db::new(i64::from(found.number()) + 1).map(|db| (db, Place::START)),
                }
            }
        };
        let any = self.slot_keys > before;
        let slot_done = match rest {
            Some((db, place)) => {
                self.cursor = Cursor::At { slot, db, place };
                None
            }
            None => {
                let next = slot.next().and_then(|next| self.slots.first_from(next));
                self.cursor = Cursor::at_slot(next);
                self.early.forget(slot);
                Some((slot, std::mem::take(&mut self.slot_keys)))
            }
        };
        Stepped { any, slot_done }
    }

    /// Where to go on, `None` at the end of the database's slot.
    fn walk_database(
        &mut self,
        db: Db,
        slot: Slot,
        place: Place,
        databases: &Databases,
        mut show: impl FnMut(Db, Item<'_>),
    ) -> Option<Place> {
        let keyspace = databases.get(db)?;
        let mut early = self.early.get_mut(slot, db);
        keyspace.walk_slot(slot, place, KEYS_PER_STEP, |item| {
            self.slot_keys += 1;
            let met = early.as_mut().is_some_and(|keys| keys.remove(item.key()));
            if !met {
                show(db, item);
            }
        })
    }
}
