//! The keyspace of a node: one table a slot, typed access to values, lazy expiry.
//!
//! Knows no clock: whoever asks says what time it is. Knows no effects: a key that expires on access is reported in
//! [`Keyspace::take_gone`], for feeds and replicas.

use std::collections::HashMap;
use std::rc::Rc;

use larder_wire::{Refusal, Slot, UnixMillis};

use crate::collection::CollectionSettings;
use crate::key::Key;
use crate::value::{Kind, StringRef, Value, ValueRef, ValueType};

/// What a keyspace is made with.
#[derive(Clone, Debug, Default)]
pub struct KeyspaceConfig {
    /// Keys the hash that orders tables. The same on all nodes of a cluster, so that a place in hash order means the same everywhere.
    pub hash_seed: u64,
    /// Bytes; 0 is no limit.
    pub maxmemory: u64,
    pub eviction: EvictionPolicy,
}

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
}

/// Why a key went without a command asking for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    Expired,
    Evicted,
}

struct Record {
    value: Value,
    expires: Option<UnixMillis>,
}

/// All keys of a node.
pub struct Keyspace {
    config: KeyspaceConfig,
    slots: Vec<HashMap<Box<[u8]>, Record>>,
    keys: usize,
    gone: Vec<(Gone, Box<[u8]>)>,
    collections: Rc<CollectionSettings>,
}

impl Default for Keyspace {
    fn default() -> Keyspace {
        Keyspace::new(KeyspaceConfig::default())
    }
}

impl Keyspace {
    pub fn new(config: KeyspaceConfig) -> Keyspace {
        Keyspace {
            collections: Rc::new(CollectionSettings::new(config.hash_seed)),
            config,
            slots: Slot::all().map(|_| HashMap::new()).collect(),
            keys: 0,
            gone: Vec::new(),
        }
    }

    pub fn config(&self) -> &KeyspaceConfig {
        &self.config
    }

    /// When collections change their form: for whoever writes to one.
    pub fn collections(&self) -> Rc<CollectionSettings> {
        Rc::clone(&self.collections)
    }

    pub fn set_collections(&mut self, settings: CollectionSettings) {
        self.collections = Rc::new(settings);
    }

    /// All keys, those that have expired and were not yet removed included.
    pub fn len(&self) -> usize {
        self.keys
    }

    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    pub fn slot_len(&self, slot: Slot) -> usize {
        self.slots[slot.index()].len()
    }

    /// Keys that went by themselves since this was last asked: their DEL is an effect that comes before that of the command that
    /// met them.
    pub fn take_gone(&mut self) -> Vec<(Gone, Box<[u8]>)> {
        std::mem::take(&mut self.gone)
    }

    /// The collection under `key`; refused when the key holds another type.
    pub fn read<'k, T: Kind>(
        &mut self,
        key: impl Into<Key<'k>>,
        now: UnixMillis,
    ) -> Result<Option<&T>, Refusal> {
        match self.value(key, now) {
            None => Ok(None),
            Some(ValueRef::Collection(collection)) => {
                T::from_ref(collection).map(Some).ok_or(Refusal::WRONG_TYPE)
            }
            Some(ValueRef::String(_)) => Err(Refusal::WRONG_TYPE),
        }
    }

    /// As [`Keyspace::read`], without touching the key (an expired one is absent, not removed): so that several can be held at once.
    pub fn peek<'k, T: Kind>(
        &self,
        key: impl Into<Key<'k>>,
        now: UnixMillis,
    ) -> Result<Option<&T>, Refusal> {
        match self.peek_value(key, now) {
            None => Ok(None),
            Some(ValueRef::Collection(collection)) => {
                T::from_ref(collection).map(Some).ok_or(Refusal::WRONG_TYPE)
            }
            Some(ValueRef::String(_)) => Err(Refusal::WRONG_TYPE),
        }
    }

    /// Changes the collection under `key`, counts its memory again, and removes the key when it is empty afterwards. `None`
    /// when there is no such key.
    pub fn modify<'k, T: Kind, R>(
        &mut self,
        key: impl Into<Key<'k>>,
        now: UnixMillis,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<Option<R>, Refusal> {
        let key = key.into();
        self.expire_if_due(key, now);
        let slot = key.slot().index();
        let Some(record) = self.slots[slot].get_mut(key.bytes()) else {
            return Ok(None);
        };
        let Value::Collection(collection) = &mut record.value else {
            return Err(Refusal::WRONG_TYPE);
        };
        let result = change(T::from_mut(collection).ok_or(Refusal::WRONG_TYPE)?);
        if collection.is_empty() {
            self.slots[slot].remove(key.bytes());
            self.keys -= 1;
        }
        Ok(Some(result))
    }

    /// As [`Keyspace::modify`], beginning with an empty collection when there is no such key. A collection that is still empty
    /// afterwards leaves no key.
    pub fn modify_or_create<'k, T: Kind + Default, R>(
        &mut self,
        key: impl Into<Key<'k>>,
        now: UnixMillis,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<R, Refusal> {
        let key = key.into();
        self.expire_if_due(key, now);
        if self.slots[key.slot().index()].contains_key(key.bytes()) {
            return Ok(self
                .modify(key, now, change)?
                .expect("the key is there: it was looked up a line before"));
        }
        let mut fresh = T::default();
        let result = change(&mut fresh);
        if !fresh.is_empty() {
            self.insert(key, Value::Collection(fresh.into_collection()), None);
        }
        Ok(result)
    }

    /// Puts `value` under `key` in place of what was there, its expiry included.
    pub fn insert<'k>(
        &mut self,
        key: impl Into<Key<'k>>,
        value: Value,
        expires: Option<UnixMillis>,
    ) {
        let key = key.into();
        let record = Record { value, expires };
        let before = self.slots[key.slot().index()].insert(key.bytes().into(), record);
        self.keys += usize::from(before.is_none());
    }

    /// [`Keyspace::insert`] of a collection without expiry; an empty one removes the key.
    pub fn insert_collection<'k, T: Kind>(&mut self, key: impl Into<Key<'k>>, collection: T) {
        let key = key.into();
        if collection.is_empty() {
            self.delete(key);
        } else {
            self.insert(key, Value::Collection(collection.into_collection()), None);
        }
    }

    /// Removes the key; false when there was none (or it had expired).
    pub fn remove<'k>(&mut self, key: impl Into<Key<'k>>, now: UnixMillis) -> bool {
        let key = key.into();
        self.expire_if_due(key, now);
        self.delete(key)
    }

    pub fn exists<'k>(&mut self, key: impl Into<Key<'k>>, now: UnixMillis) -> bool {
        self.value(key, now).is_some()
    }

    pub fn type_of<'k>(&mut self, key: impl Into<Key<'k>>, now: UnixMillis) -> Option<ValueType> {
        self.value(key, now).map(|value| value.value_type())
    }

    /// The value under `key`, removed first when it has expired.
    pub fn value<'k>(&mut self, key: impl Into<Key<'k>>, now: UnixMillis) -> Option<ValueRef<'_>> {
        let key = key.into();
        self.expire_if_due(key, now);
        self.peek_value(key, now)
    }

    pub fn peek_value<'k>(&self, key: impl Into<Key<'k>>, now: UnixMillis) -> Option<ValueRef<'_>> {
        let key = key.into();
        let record = self.slots[key.slot().index()].get(key.bytes())?;
        if record.expires.is_some_and(|at| at <= now) {
            return None;
        }
        Some(match &record.value {
            Value::Int(int) => ValueRef::String(StringRef::Int(*int)),
            Value::Bytes(bytes) => ValueRef::String(StringRef::Bytes(bytes)),
            Value::Collection(collection) => ValueRef::Collection(collection),
        })
    }

    /// When the key expires: `None` without such a key, `Some(None)` when it stays.
    pub fn expiry<'k>(
        &mut self,
        key: impl Into<Key<'k>>,
        now: UnixMillis,
    ) -> Option<Option<UnixMillis>> {
        let key = key.into();
        self.expire_if_due(key, now);
        let record = self.slots[key.slot().index()].get(key.bytes())?;
        Some(record.expires)
    }

    /// False when there is no such key.
    pub fn set_expiry<'k>(
        &mut self,
        key: impl Into<Key<'k>>,
        expires: Option<UnixMillis>,
        now: UnixMillis,
    ) -> bool {
        let key = key.into();
        self.expire_if_due(key, now);
        match self.slots[key.slot().index()].get_mut(key.bytes()) {
            None => false,
            Some(record) => {
                record.expires = expires;
                true
            }
        }
    }

    fn expire_if_due(&mut self, key: Key<'_>, now: UnixMillis) {
        let due = |record: &Record| record.expires.is_some_and(|at| at <= now);
        if self.slots[key.slot().index()]
            .get(key.bytes())
            .is_some_and(due)
        {
            self.delete(key);
            self.gone.push((Gone::Expired, key.bytes().into()));
        }
    }

    fn delete(&mut self, key: Key<'_>) -> bool {
        let found = self.slots[key.slot().index()].remove(key.bytes()).is_some();
        self.keys -= usize::from(found);
        found
    }
}
