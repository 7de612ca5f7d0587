//! What nobody uses any more and is too large to be dropped at once: tables of dropped slots, large collections.
//!
//! Memory in the trash stays counted until it is freed.

use larder_wire::{Slot, SlotSet};

use crate::field_expiry::Due;
use crate::keyspace::Keyspace;
use crate::table::Remains;
use crate::value::Collection;

#[derive(Default)]
pub(crate) struct Trash {
    tables: Vec<Remains>,
    collections: Vec<Collection>,
    /// What was known of hashes with fields that expire.
    due: Vec<Due>,
}

impl Trash {
    pub(crate) fn add(&mut self, collection: Collection) {
        self.collections.push(collection);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.collections.is_empty() && self.due.is_empty()
    }
}

impl Keyspace {
    /// Drops all keys of `slots`; they are gone at once, their memory comes back by [`Keyspace::free_some`]. Returns the number of keys.
    pub fn drop_slots(&mut self, slots: &SlotSet) -> usize {
        slots.iter().map(|slot| self.drop_slot(slot)).sum()
    }

    /// Drops all keys that commands about the whole keyspace see: FLUSHALL.
    pub fn drop_visible(&mut self) -> usize {
        match self.visible.clone() {
            Some(slots) => self.drop_slots(&slots),
            None => self.drop_slots(&SlotSet::full()),
        }
    }

    fn drop_slot(&mut self, slot: Slot) -> usize {
        let table = self.take_table(slot);
        let keys = table.len();
        let due = self.take_due_of_slot(slot);
        self.trash.due.extend(due);
        if keys > 0 {
            self.trash.tables.push(table.into_remains());
        } else {
            self.used -= table.bytes();
        }
        keys
    }

    /// True when [`Keyspace::free_some`] has something to do.
    pub fn has_trash(&self) -> bool {
        !self.trash.is_empty()
    }

    /// Frees about `limit` entries or elements of what was dropped; true when there is more.
    pub fn free_some(&mut self, limit: usize) -> bool {
        if let Some(collection) = self.trash.collections.last_mut() {
            let before = collection.heap_bytes();
            let done = collection.shed(limit);
            let after = if done { 0 } else { collection.heap_bytes() };
            self.used = self.used + after - before;
            if done {
                self.trash.collections.pop();
            }
        } else if let Some(mut remains) = self.trash.tables.pop() {
            let before = remains.bytes();
            let more = remains.drain_some(limit, |entry| self.discard(entry));
            self.used = self.used + remains.bytes() - before;
            if more {
                self.trash.tables.push(remains);
            }
        } else if let Some(mut due) = self.trash.due.pop()
            && self.free_due(&mut due, limit)
        {
            self.trash.due.push(due);
        }
        self.has_trash()
    }
}
