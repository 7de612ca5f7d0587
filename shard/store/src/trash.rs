//! What nobody uses any more and is too large to be dropped at once: large collections, and what was in dropped slots (which the tables keep).
//!
//! Memory in the trash stays counted until it is freed.

use larder_wire::{Slot, SlotSet};

use crate::field_expiry::Due;
use crate::keyspace::Keyspace;
use crate::value::Collection;

#[derive(Default)]
pub(crate) struct Trash {
    collections: Vec<Collection>,
    /// What was known of hashes with fields that expire.
    due: Vec<Due>,
}

impl Trash {
    pub(crate) fn add(&mut self, collection: Collection) {
        self.collections.push(collection);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.collections.is_empty() && self.due.is_empty()
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
        let keys = self.drop_table(slot);
        let due = self.take_due_of_slot(slot);
        self.trash.due.extend(due);
        keys
    }

    /// True when [`Keyspace::free_some`] has something to do.
    pub fn has_trash(&self) -> bool {
        !self.trash.is_empty() || self.tables.has_dropped()
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
        } else if self.tables.has_dropped() {
            let mut entries = Vec::new();
            self.tables
                .drain_dropped(limit, |entry| entries.push(entry));
            entries.into_iter().for_each(|entry| self.discard(entry));
        } else if let Some(mut due) = self.trash.due.pop()
            && self.free_due(&mut due, limit)
        {
            self.trash.due.push(due);
        }
        self.has_trash()
    }
}
