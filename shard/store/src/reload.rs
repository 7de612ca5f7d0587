//! DEBUG's view of the keyspace: every value through its serialized form and back, and one key described.

use larder_wire::{Slot, UnixMillis};

use crate::entry::Tray;
use crate::eviction;
use crate::exec::object::encoding_of;
use crate::key::Key;
use crate::keyspace::Keyspace;
use crate::rdb::{self, FRAME_BYTES, Malformed};
use crate::value::{Collection, ValueRef};
use crate::walk::Place;

/// What `DEBUG OBJECT` shows of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Where the entry lies; the same as long as it is not moved.
    pub address: usize,
    pub encoding: &'static str,
    /// Elements of a collection, 1 for a string.
    pub elements: usize,
    /// Bytes of the serialized value, as DUMP writes it.
    pub serialized_bytes: usize,
    /// Bytes that a collection holds beside its entry.
    pub heap_bytes: usize,
    /// What eviction knows of it, and seconds since the last access.
    pub access: u32,
    pub idle_seconds: u32,
    /// Of a list that is not packed: chunks, elements and bytes of them all.
    pub chunks: Option<Chunks>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunks {
    pub chunks: usize,
    pub elements: usize,
    pub bytes: usize,
}

impl Keyspace {
    /// Saves every key in memory and loads it back: what a restart from a snapshot would make of it. Keys that have expired go.
    pub fn reload(&mut self, now: UnixMillis) -> Result<(), Malformed> {
        for slot in Slot::all() {
            if self.slot_len(slot) == 0 {
                continue;
            }
            let mut keys: Vec<Box<[u8]>> = Vec::with_capacity(self.slot_len(slot));
            let mut place = Some(Place::START);
            while let Some(from) = place {
                place = self.walk_slot(slot, from, usize::MAX, |item| keys.push(item.key().into()));
            }
            for key in keys {
                self.reload_key(Key::from(&*key), now)?;
            }
        }
        Ok(())
    }

    fn reload_key(&mut self, key: Key<'_>, now: UnixMillis) -> Result<(), Malformed> {
        let Some(entry) = self.inspect(key, now) else {
            return Ok(());
        };
        let (expires, access) = (entry.expires(), entry.access());
        let mut payload = Vec::new();
        rdb::to_payload(entry.value(&mut Tray::default()), &mut payload);
        let value = rdb::from_payload(&payload, &self.collections())?;
        self.remove(key, now);
        self.insert(key, value, expires, now);
        self.set_access(key, access, now);
        Ok(())
    }

    /// The key as `DEBUG OBJECT` shows it, be it due or not; counts as no access.
    pub fn describe<'k>(&self, key: impl Into<Key<'k>>, now: UnixMillis) -> Option<Description> {
        let settings = self.collections();
        let entry = self.find_entry(key.into())?;
        let mut payload = Vec::new();
        let mut tray = Tray::default();
        let value = entry.value(&mut tray);
        match settings.compresses_dumps {
            true => rdb::to_compressed_payload(value, &mut payload),
            false => rdb::to_payload(value, &mut payload),
        }
        let (elements, heap_bytes) = match value {
            ValueRef::Collection(collection) => (collection.len(), collection.heap_bytes()),
            ValueRef::String(_) => (1, 0),
        };
        Some(Description {
            address: entry.address(),
            encoding: encoding_of(entry, settings.names),
            elements,
            heap_bytes,
            serialized_bytes: payload.len() - FRAME_BYTES,
            access: entry.access(),
            idle_seconds: eviction::idle_seconds(entry.access(), now),
            chunks: chunks_of(value),
        })
    }
}

fn chunks_of(value: ValueRef<'_>) -> Option<Chunks> {
    match value {
        ValueRef::Collection(Collection::List(list)) => Some(Chunks {
            chunks: list.packed_chunks().count(),
            elements: list.len(),
            bytes: list.packed_chunks().map(|chunk| chunk.byte_len()).sum(),
        }),
        ValueRef::Collection(_) | ValueRef::String(_) => None,
    }
}
