//! The keyspace of a node: one table a slot, typed access to values, lazy expiry, an honest count of memory.
//!
//! Knows no clock: whoever asks says what time it is. Knows no effects: a key that goes by itself is reported by
//! [`Keyspace::take_gone`], for feeds and replicas. Here are the ways to one key; strings have more of them in `strings.rs`. Walks, the
//! expiry cycle, eviction and the trash are in files of their own.

use std::rc::Rc;

use larder_wire::resp::limits::BULK_BYTES_MAX;
use larder_wire::{Refusal, SLOT_COUNT, Slot, SlotSet, UnixMillis};

use crate::collection::CollectionSettings;
use crate::entry::{Content, Entry, EntryRef, Tray};
use crate::events::{Classes, Events};
use crate::eviction::{self, EvictionPolicy, EvictionTuning};
use crate::field_expiry::FieldExpiry;
use crate::key::{Key, KeyPlace};
use crate::key_hash::KeyHash;
use crate::lrfu::Lrfu;
use crate::random::Random;
use crate::table::{At, Tables};
use crate::trash::Trash;
use crate::value::{Apart, Kind, Value, ValueRef, ValueType};
use crate::walk::{Captured, Hand};

/// Most keys to give [`Keyspace::warm`] at once: what a core can wait for.
pub const WARM_KEYS_MAX: usize = 16;

/// What a keyspace is made with.
#[derive(Clone, Debug, Default)]
pub struct KeyspaceConfig {
    /// Keys the hash that orders tables. The same on all nodes of a cluster, so that a place in hash order means the same everywhere.
    pub hash_seed: u64,
    /// For sampling.
    pub random_seed: u64,
    /// Bytes; 0 is no limit.
    pub maxmemory: u64,
    pub eviction: EvictionPolicy,
    pub tuning: EvictionTuning,
}

/// Why a key went without a command asking for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    Expired,
    Evicted,
}

/// A key that went by itself, and why.
pub type GoneKey = (Gone, Box<[u8]>);

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub hits: u64,
    pub misses: u64,
    pub expired: u64,
    pub evicted: u64,
    /// Fields of hashes.
    pub expired_fields: u64,
    /// Collections that went by way of the trash.
    pub lazily_freed: u64,
}

impl Stats {
    pub fn plus(self, other: Stats) -> Stats {
        Stats {
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            expired: self.expired + other.expired,
            evicted: self.evicted + other.evicted,
            expired_fields: self.expired_fields + other.expired_fields,
            lazily_freed: self.lazily_freed + other.lazily_freed,
        }
    }
}

/// Slots whose key counts are summed, so that a random key is found without looking at each slot.
const GROUP_SLOTS: usize = 128;
const GROUPS: usize = SLOT_COUNT as usize / GROUP_SLOTS;

/// Keys of a collection from which on it is not dropped at once.
const DROP_AT_ONCE_MAX: usize = 128;

/// All keys of a database.
pub struct Keyspace {
    pub(crate) config: KeyspaceConfig,
    pub(crate) hashes: KeyHash,
    pub(crate) tables: Tables,
    pub(crate) keys: usize,
    pub(crate) expiring: usize,
    /// Bytes of entries and what collections hold, the trash included; tables count themselves.
    pub(crate) used: usize,
    pub(crate) random: Random,
    pub(crate) gone: Vec<GoneKey>,
    pub events: Events,
    pub(crate) trash: Trash,
    /// Slots that commands about the whole keyspace see; `None` is all.
    pub(crate) visible: Option<SlotSet>,
    /// Slots with keys that expire.
    pub(crate) expiring_slots: SlotSet,
    pub(crate) expiry_hand: Hand,
    /// Hashes with fields that expire.
    pub(crate) fields: FieldExpiry,
    pub(crate) mean_ttl_ms: u64,
    pub(crate) eviction_hand: Hand,
    pub(crate) lrfu: Lrfu,
    group_keys: [u32; GROUPS],
    passive: bool,
    /// Accesses count as of this time at least.
    access_time: UnixMillis,
    /// Longest string that commands make, in bytes.
    string_bytes_max: usize,
    /// Reads are no accesses.
    quiet: bool,
    stats: Stats,
    collections: Rc<CollectionSettings>,
    /// For looks at collections.
    tray: Tray,
}

/// A key that is there.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    pub(crate) slot: Slot,
    pub(crate) hash: u64,
    pub(crate) at: At,
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
            hashes: KeyHash::new(config.hash_seed),
            random: Random::new(config.random_seed),
            config,
            used: 0,
            tables: Tables::default(),
            keys: 0,
            expiring: 0,
            gone: Vec::new(),
            events: Events::default(),
            trash: Trash::default(),
            visible: None,
            expiring_slots: SlotSet::new(),
            expiry_hand: Hand::default(),
            fields: FieldExpiry::default(),
            mean_ttl_ms: 0,
            eviction_hand: Hand::default(),
            lrfu: Lrfu::default(),
            group_keys: [0; GROUPS],
            passive: false,
            access_time: UnixMillis::default(),
            string_bytes_max: BULK_BYTES_MAX,
            quiet: false,
            stats: Stats::default(),
            tray: Tray::default(),
        }
    }

    pub fn config(&self) -> &KeyspaceConfig {
        &self.config
    }

    /// When collections change their form: for whoever writes to one.
    pub fn collections(&self) -> Rc<CollectionSettings> {
        Rc::clone(&self.collections)
    }

    pub fn set_collections(&mut self, settings: Rc<CollectionSettings>) {
        self.collections = settings;
    }

    /// Bytes; 0 is no limit.
    pub fn set_maxmemory(&mut self, bytes: u64) {
        if bytes != self.config.maxmemory {
            self.config.maxmemory = bytes;
            self.lrfu.forget();
        }
    }

    pub fn set_eviction(&mut self, policy: EvictionPolicy, tuning: EvictionTuning) {
        if policy != self.config.eviction {
            self.config.eviction = policy;
            self.lrfu.forget();
        }
        self.config.tuning = tuning;
    }

    /// A passive keyspace (a replica's) answers as if expired keys were gone, but leaves their removal to the effects that come in.
    pub fn set_passive(&mut self, passive: bool) {
        self.passive = passive;
    }

    pub(crate) fn set_access_time(&mut self, now: UnixMillis) {
        self.access_time = now;
    }

    pub fn set_string_bytes_max(&mut self, bytes: usize) {
        self.string_bytes_max = bytes;
    }

    pub fn string_bytes_max(&self) -> usize {
        self.string_bytes_max
    }

    pub fn is_passive(&self) -> bool {
        self.passive
    }

    /// All keys, those that have expired and were not yet removed included.
    pub fn len(&self) -> usize {
        self.keys
    }

    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// Keys with an expiry.
    pub fn expiring_len(&self) -> usize {
        self.expiring
    }

    /// Bytes of the tables alone.
    pub fn table_bytes(&self) -> u64 {
        self.tables.bytes() as u64
    }

    /// Bytes of all data: tables, entries and collections by the allocator's size classes, the trash included.
    pub fn used_memory(&self) -> u64 {
        (self.used + self.tables.bytes() + self.lrfu.bytes()) as u64
    }

    pub fn stats(&self) -> Stats {
        self.stats
    }

    pub fn reset_stats(&mut self) {
        self.stats = Stats::default();
    }

    pub fn has_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Something went by itself, or an event was said, that nobody has taken yet.
    #[inline]
    pub fn has_news(&self) -> bool {
        self.has_gone() || self.has_gone_fields() || !self.events.is_empty()
    }

    /// Keys that went by themselves since this was last asked, in order: their DEL is an effect that comes before that of
    /// the command that met them.
    pub fn take_gone(&mut self) -> Vec<GoneKey> {
        std::mem::take(&mut self.gone)
    }

    /// The collection under `key`; refused when the key holds another type.
    pub fn read<'k, T: Kind>(
        &mut self,
        key: impl Into<Key<'k>>,
        now: UnixMillis,
    ) -> Result<Option<&T>, Refusal> {
        let Some(found) = self.locate_for_read(key.into(), now) else {
            return Ok(None);
        };
        if T::ELEMENTS_EXPIRE && !self.settle_fields(found, now) {
            return Ok(None);
        }
        expect_kind(self.touched_value(found, now)).map(Some)
    }

    /// As [`Keyspace::read`], for a command that writes: neither an access nor a hit or a miss.
    pub fn look<'k, T: Kind>(
        &mut self,
        key: impl Into<Key<'k>>,
        now: UnixMillis,
    ) -> Result<Option<&T>, Refusal> {
        let Some(found) = self.locate(key.into(), now) else {
            return Ok(None);
        };
        let entry = self.tables.entry(found.at);
        expect_kind(entry.value(&mut self.tray)).map(Some)
    }

    /// As [`Keyspace::read`], without touching the key (an expired one is absent, not removed): so that several can
    /// be held at once, each with a tray of its own.
    pub fn peek_on<'r, 'k, T: Kind>(
        &'r self,
        key: impl Into<Key<'k>>,
        now: UnixMillis,
        tray: &'r mut Tray,
    ) -> Result<Option<&'r T>, Refusal> {
        let found = self
            .peek_value(key, now, tray)
            .map(expect_kind::<T>)
            .transpose()?;
        if T::ELEMENTS_EXPIRE
            && let Some(structure) = found
        {
            structure.look(now);
        }
        Ok(found)
    }

    /// As [`Keyspace::peek_on`], of a kind that needs no tray.
    pub fn peek<'k, T: Apart>(
        &self,
        key: impl Into<Key<'k>>,
        now: UnixMillis,
    ) -> Result<Option<&T>, Refusal> {
        let Some(entry) = self.peek_entry(key.into(), now) else {
            return Ok(None);
        };
        let structure = entry.collection_apart().and_then(T::from_ref);
        structure.map(Some).ok_or(Refusal::WRONG_TYPE)
    }

    /// Changes the collection under `key`, counts its memory again, and removes the key when it is empty afterwards. `None`
    /// when there is no such key.
    pub fn modify<'k, T: Kind, R>(
        &mut self,
        key: impl Into<Key<'k>>,
        now: UnixMillis,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<Option<R>, Refusal> {
        match self.locate_settled::<T>(key.into(), now) {
            None => Ok(None),
            Some(found) => self.modify_found(found, now, change).map(Some),
        }
    }

    /// Finds a key, whose elements that are due are as if gone.
    fn locate_settled<T: Kind>(&mut self, key: Key<'_>, now: UnixMillis) -> Option<Found> {
        let found = self.locate(key, now)?;
        (!T::ELEMENTS_EXPIRE || self.settle_fields(found, now)).then_some(found)
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
        if let Some(found) = self.locate_settled::<T>(key, now) {
            return self.modify_found(found, now, change);
        }
        let mut fresh = T::default();
        let result = change(&mut fresh);
        if !fresh.is_empty() {
            let content = Content::Collection(fresh.into_collection());
            self.insert_absent(key, content, None, now);
        }
        Ok(result)
    }

    fn modify_found<T: Kind, R>(
        &mut self,
        found: Found,
        now: UnixMillis,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<R, Refusal> {
        self.touch(found, now);
        let mut entry = self.tables.entry_mut(found.at);
        let edited = entry.edit(|collection| {
            let structure = T::from_mut(collection).ok_or(Refusal::WRONG_TYPE)?;
            let due_before = structure.next_due();
            let result = change(structure);
            Ok((
                result,
                due_before,
                structure.next_due(),
                structure.is_empty(),
            ))
        });
        let edited = edited.ok_or(Refusal::WRONG_TYPE)?;
        drop(entry);
        self.used = self.used + edited.after - edited.before;
        let (result, due_before, due, empty) = edited.result?;
        if T::ELEMENTS_EXPIRE && due != due_before {
            let key: Box<[u8]> = self.entry(found).key().into();
            self.reindex(found.slot, &key, due_before, due);
        }
        if empty {
            self.remove_found(found);
        }
        Ok(result)
    }

    /// Puts `value` under `key` in place of what was there, its expiry included.
    pub fn insert<'k>(
        &mut self,
        key: impl Into<Key<'k>>,
        value: Value,
        expires: Option<UnixMillis>,
        now: UnixMillis,
    ) {
        let key = key.into();
        match value {
            Value::Int(int) => self.put(key, Content::Int(int), expires, now),
            Value::Bytes(bytes) => self.put(key, Content::Bytes(&bytes), expires, now),
            Value::Collection(collection) => {
                self.put(key, Content::Collection(collection), expires, now);
            }
        }
    }

    /// [`Keyspace::insert`] of a collection without expiry; an empty one removes the key.
    pub fn insert_collection<'k, T: Kind>(
        &mut self,
        key: impl Into<Key<'k>>,
        collection: T,
        now: UnixMillis,
    ) {
        let key = key.into();
        if collection.is_empty() {
            self.remove(key, now);
        } else {
            let content = Content::Collection(collection.into_collection());
            self.put(key, content, None, now);
        }
    }

    /// Removes the key; false when there was none (or it had expired).
    pub fn remove<'k>(&mut self, key: impl Into<Key<'k>>, now: UnixMillis) -> bool {
        match self.locate(key.into(), now) {
            None => false,
            Some(found) => {
                self.remove_found(found);
                true
            }
        }
    }

    /// As [`Keyspace::exists`], without counting a hit or a miss.
    #[inline]
    pub fn is_there<'k>(&mut self, key: impl Into<Key<'k>>, now: UnixMillis) -> bool {
        self.locate(key.into(), now).is_some()
    }

    /// Whether reads leave what eviction knows of keys as it is (`CLIENT NO-TOUCH`).
    pub fn set_quiet(&mut self, quiet: bool) {
        self.quiet = quiet;
    }

    /// Counts as an access; false when there is no such key.
    pub fn touch_key<'k>(&mut self, key: impl Into<Key<'k>>, now: UnixMillis) -> bool {
        self.value(key, now).is_some()
    }

    pub fn exists<'k>(&mut self, key: impl Into<Key<'k>>, now: UnixMillis) -> bool {
        self.locate_for_read(key.into(), now).is_some()
    }

    /// Counts as no access.
    pub fn type_of<'k>(&mut self, key: impl Into<Key<'k>>, now: UnixMillis) -> Option<ValueType> {
        let found = self.locate_for_read(key.into(), now)?;
        Some(self.entry(found).value_type())
    }

    /// The value under `key`, removed first when it has expired.
    #[inline]
    pub fn value<'k>(&mut self, key: impl Into<Key<'k>>, now: UnixMillis) -> Option<ValueRef<'_>> {
        let found = self.locate_for_read(key.into(), now)?;
        Some(self.touched_value(found, now))
    }

    pub fn peek_value<'r, 'k>(
        &'r self,
        key: impl Into<Key<'k>>,
        now: UnixMillis,
        tray: &'r mut Tray,
    ) -> Option<ValueRef<'r>> {
        let entry = self.peek_entry(key.into(), now)?;
        Some(entry.value(tray))
    }

    /// The type of what is there, the key left untouched.
    pub fn peek_type<'k>(&self, key: impl Into<Key<'k>>, now: UnixMillis) -> Option<ValueType> {
        Some(self.peek_entry(key.into(), now)?.value_type())
    }

    pub(crate) fn peek_entry(&self, key: Key<'_>, now: UnixMillis) -> Option<EntryRef<'_>> {
        let entry = self.find_entry(key)?;
        let due = entry.expires().is_some_and(|at| at <= now);
        (!due).then_some(entry)
    }

    /// When the key expires: `None` without such a key, `Some(None)` when it stays.
    pub fn expiry<'k>(
        &mut self,
        key: impl Into<Key<'k>>,
        now: UnixMillis,
    ) -> Option<Option<UnixMillis>> {
        let found = self.locate_for_read(key.into(), now)?;
        Some(self.entry(found).expires())
    }

    /// As [`Keyspace::expiry`], without counting a hit or a miss.
    pub fn expiry_of<'k>(
        &mut self,
        key: impl Into<Key<'k>>,
        now: UnixMillis,
    ) -> Option<Option<UnixMillis>> {
        let found = self.locate(key.into(), now)?;
        Some(self.entry(found).expires())
    }

    /// False when there is no such key.
    pub fn set_expiry<'k>(
        &mut self,
        key: impl Into<Key<'k>>,
        expires: Option<UnixMillis>,
        now: UnixMillis,
    ) -> bool {
        match self.locate(key.into(), now) {
            None => false,
            Some(found) => {
                self.change(found, |entry| entry.set_expiry(expires));
                true
            }
        }
    }

    /// Moves a value with its expiry to another key, replacing what is there. False when there is no such key.
    pub fn rename<'k>(
        &mut self,
        from: impl Into<Key<'k>>,
        to: impl Into<Key<'k>>,
        now: UnixMillis,
    ) -> bool {
        let (from, to) = (from.into(), to.into());
        let Some(found) = self.locate(from, now) else {
            return false;
        };
        if from.bytes() == to.bytes() {
            return true;
        }
        let entry = self.take(found);
        let expires = entry.expires();
        match entry.into_collection() {
            Ok(collection) => self.put(to, Content::Collection(collection), expires, now),
            Err(entry) => {
                let string = entry.look().string().expect("it is no collection");
                self.put(to, string.into(), expires, now);
            }
        }
        true
    }

    /// Takes a key out, with its value and expiry. `None` when there is no such key.
    pub fn extract<'k>(&mut self, key: impl Into<Key<'k>>, now: UnixMillis) -> Option<Captured> {
        let found = self.locate(key.into(), now)?;
        let entry = self.take(found);
        let expires = entry.expires();
        let value = match entry.into_collection() {
            Ok(collection) => Value::Collection(collection),
            Err(entry) => entry.value(&mut Tray::default()).to_value(),
        };
        Some(Captured { value, expires })
    }

    /// A key is about to be replaced by one that counts as new.
    pub fn say_replaced<'k>(&mut self, key: impl Into<Key<'k>>, now: UnixMillis) {
        let key = key.into();
        if self.events.wants(Classes::NEW) && self.is_there(key, now) {
            self.events.say(Classes::NEW, "new", key.bytes());
        }
    }

    pub(crate) fn entry(&self, found: Found) -> EntryRef<'_> {
        self.tables.entry(found.at)
    }

    /// The entry under `key`, be it due or not.
    pub(crate) fn find_entry(&self, key: Key<'_>) -> Option<EntryRef<'_>> {
        let found = self.tables.find(key.slot(), self.hash_of(key), key.bytes());
        found.map(|(_, entry)| entry)
    }

    /// The entry under `key` for OBJECT and its like: no access, no hit, no miss.
    pub(crate) fn inspect(&mut self, key: Key<'_>, now: UnixMillis) -> Option<EntryRef<'_>> {
        let found = self.locate(key, now)?;
        Some(self.entry(found))
    }

    /// Sets what eviction knows of a key.
    pub(crate) fn set_access(&mut self, key: Key<'_>, access: u32, now: UnixMillis) {
        if let Some(found) = self.locate(key, now) {
            self.tables.entry_mut(found.at).set_access(access);
        }
    }

    /// Where `key` belongs.
    #[inline]
    pub(crate) fn place_of(&self, key: &[u8]) -> KeyPlace {
        KeyPlace::of(key, &self.hashes)
    }

    #[inline]
    fn hash_of(&self, key: Key<'_>) -> u64 {
        match key.place() {
            Some(place) => place.hash,
            None => self.hashes.of(key.bytes()),
        }
    }

    /// Reads what searches for the keys of these places will read: first the table of each, then the bucket of each,
    /// then the entry of each. Within one of these rounds no read waits for another, so that the memory
    /// serves many at once; searches that come one after the other would wait for each.
    pub fn warm(&self, places: &[KeyPlace]) {
        let mut seen = 0;
        for place in places {
            seen ^= self.tables.touch(place.slot);
        }
        for place in places {
            seen ^= self.tables.touch_home(place.slot, place.hash);
        }
        for place in places {
            seen ^= self.tables.touch_entry(place.slot, place.hash);
        }
        // Reads whose outcome nobody wants must not be left out.
        std::hint::black_box(seen);
    }

    #[inline]
    pub(crate) fn locate_for_read(&mut self, key: Key<'_>, now: UnixMillis) -> Option<Found> {
        let found = self.locate(key, now);
        match found {
            Some(_) => self.stats.hits += 1,
            None => {
                self.stats.misses += 1;
                self.events.say(Classes::MISS, "keymiss", key.bytes());
            }
        }
        found
    }

    /// Finds a key, removing it instead when it has expired.
    #[inline]
    pub(crate) fn locate(&mut self, key: Key<'_>, now: UnixMillis) -> Option<Found> {
        let slot = key.slot();
        let hash = self.hash_of(key);
        let (at, entry) = self.tables.find(slot, hash, key.bytes())?;
        let found = Found { slot, hash, at };
        if entry.expires().is_some_and(|at| at <= now) {
            self.expire(found);
            return None;
        }
        Some(found)
    }

    /// Removes a key whose time has come and reports it; a passive keyspace waits for the effect.
    pub(crate) fn expire(&mut self, found: Found) {
        if !self.passive {
            let key: Box<[u8]> = self.entry(found).key().into();
            self.stats.expired += 1;
            self.events.say(Classes::EXPIRED, "expired", &key);
            self.gone.push((Gone::Expired, key));
            self.remove_found(found);
        }
    }

    pub(crate) fn count_expired_fields(&mut self, count: usize) {
        self.stats.expired_fields += count as u64;
    }

    pub(crate) fn evict(&mut self, found: Found) {
        if self.config.eviction.is_lrfu() {
            self.lrfu.prepare(self.config.maxmemory);
            let access = self.entry(found).access();
            self.lrfu.remember(found.hash, access);
        }
        let key: Box<[u8]> = self.entry(found).key().into();
        self.stats.evicted += 1;
        self.events.say(Classes::EVICTED, "evicted", &key);
        self.gone.push((Gone::Evicted, key));
        self.remove_found(found);
    }

    /// Counts an access.
    #[inline]
    pub(crate) fn touch(&mut self, found: Found, now: UnixMillis) -> EntryRef<'_> {
        self.touch_with_tray(found, now).0
    }

    /// Counts an access to a value that is shown.
    #[inline]
    fn touched_value(&mut self, found: Found, now: UnixMillis) -> ValueRef<'_> {
        let (entry, tray) = self.touch_with_tray(found, now);
        entry.value(tray)
    }

    #[inline]
    fn touch_with_tray(&mut self, found: Found, now: UnixMillis) -> (EntryRef<'_>, &mut Tray) {
        let (lrfu, random) = (&mut self.lrfu, &mut self.random);
        let now = now.max(self.access_time);
        let KeyspaceConfig {
            eviction, tuning, ..
        } = self.config;
        let entry = if self.quiet {
            self.tables.entry(found.at)
        } else {
            self.tables.update_access(found.at, |before| {
                if eviction.is_lrfu() {
                    lrfu.touched(before)
                } else {
                    eviction::touched(eviction, before, now, tuning, random)
                }
            })
        };
        (entry, &mut self.tray)
    }

    /// Changes an entry, and counts its memory and whether it expires again.
    pub(crate) fn change<R>(&mut self, found: Found, change: impl FnOnce(&mut Entry) -> R) -> R {
        let mut entry = self.tables.entry_mut(found.at);
        let (before, had_expiry) = (entry.allocated(), entry.expires().is_some());
        let result = change(&mut entry);
        let (after, expires) = (entry.allocated(), entry.expires().is_some());
        drop(entry);
        self.used = self.used + after - before;
        if expires != had_expiry {
            let expiring = self.tables.expiring(found.slot);
            self.tables.mark_expiring(found.slot, found.at, expires);
            self.count_expiring(found.slot, expiring);
        }
        result
    }

    /// Writes `content` under `key`, whatever was there.
    pub(crate) fn put(
        &mut self,
        key: Key<'_>,
        content: Content<'_>,
        expires: Option<UnixMillis>,
        now: UnixMillis,
    ) {
        let (slot, hash) = (key.slot(), self.hash_of(key));
        if self.events.is_on() {
            // One that has expired does so before it is replaced.
            self.locate(key, now);
        }
        match self.tables.find(slot, hash, key.bytes()) {
            Some((at, _)) => self.overwrite(Found { slot, hash, at }, content, expires, now),
            None => self.insert_hashed(slot, hash, key.bytes(), content, expires, now),
        }
    }

    #[inline]
    pub(crate) fn overwrite(
        &mut self,
        found: Found,
        content: Content<'_>,
        expires: Option<UnixMillis>,
        now: UnixMillis,
    ) {
        if self.touch(found, now).is_collection() {
            self.discard_collection(found);
        }
        let due = content.next_due();
        let apart = self.change(found, |entry| {
            entry.replace(content, expires);
            entry.look().apart_bytes()
        });
        self.used += apart;
        if due.is_some() {
            let key: Box<[u8]> = self.entry(found).key().into();
            self.reindex(found.slot, &key, None, due);
        }
    }

    /// Writes another integer in place of one; false when the value is none.
    #[inline]
    pub(crate) fn set_int(&mut self, found: Found, int: i64) -> bool {
        self.tables.entry_mut(found.at).set_int(int)
    }

    /// Takes a collection away from its entry, an empty string in its place, so that a large one is dropped bit by bit.
    fn discard_collection(&mut self, found: Found) {
        let entry = self.tables.entry(found.at);
        let key: Box<[u8]> = entry.key().into();
        let (expires, access) = (entry.expires(), entry.access());
        let blank = Entry::new(&key, Content::Bytes(b""), expires, access);
        self.used += blank.allocated();
        let entry = std::mem::replace(&mut *self.tables.entry_mut(found.at), blank);
        self.reindex(found.slot, &key, entry.next_due(), None);
        self.discard(entry);
    }

    pub(crate) fn insert_absent(
        &mut self,
        key: Key<'_>,
        content: Content<'_>,
        expires: Option<UnixMillis>,
        now: UnixMillis,
    ) {
        let hash = self.hash_of(key);
        self.insert_hashed(key.slot(), hash, key.bytes(), content, expires, now);
    }

    pub(crate) fn insert_hashed(
        &mut self,
        slot: Slot,
        hash: u64,
        key: &[u8],
        content: Content<'_>,
        expires: Option<UnixMillis>,
        now: UnixMillis,
    ) {
        self.events.say(Classes::NEW, "new", key);
        if let Some(due) = content.next_due() {
            self.reindex(slot, key, None, Some(due));
        }
        let access = if self.config.eviction.is_lrfu() {
            self.lrfu.fresh(hash, self.keys)
        } else {
            eviction::fresh(self.config.eviction, now.max(self.access_time))
        };
        let entry = Entry::new(key, content, expires, access);
        self.used += entry.footprint();
        let expiring = self.tables.expiring(slot);
        self.tables.insert(slot, hash, entry, &self.hashes);
        self.keys += 1;
        self.group_keys[slot.index() / GROUP_SLOTS] += 1;
        self.count_expiring(slot, expiring);
    }

    /// Takes an entry out of its table; its memory is no longer counted.
    pub(crate) fn take(&mut self, found: Found) -> Entry {
        let Found { slot, hash, at } = found;
        let expiring = self.tables.expiring(slot);
        let entry = self.tables.remove(slot, hash, at, &self.hashes);
        self.used -= entry.footprint();
        self.keys -= 1;
        self.group_keys[found.slot.index() / GROUP_SLOTS] -= 1;
        self.count_expiring(found.slot, expiring);
        if let Some(due) = entry.next_due() {
            self.reindex(found.slot, entry.key(), Some(due), None);
        }
        entry
    }

    pub(crate) fn remove_found(&mut self, found: Found) {
        let entry = self.take(found);
        self.used += entry.footprint();
        self.discard(entry);
    }

    /// Drops an entry whose memory is still counted: small ones at once, large collections by way of the trash.
    pub(crate) fn discard(&mut self, entry: Entry) {
        let footprint = entry.footprint();
        match entry.into_collection() {
            Ok(collection) if collection.len() > DROP_AT_ONCE_MAX => {
                self.used -= footprint - collection.heap_bytes();
                self.trash.add(collection);
                self.stats.lazily_freed += 1;
            }
            Ok(_) | Err(_) => self.used -= footprint,
        }
    }

    /// Drops what was part of a collection and is counted no more, by way of the trash.
    pub(crate) fn throw_away<T: Kind>(&mut self, part: T) {
        self.used += part.heap_bytes();
        self.trash.add(part.into_collection());
    }

    /// Adjusts the sums after a table's count of expiring keys may have changed.
    #[inline]
    fn count_expiring(&mut self, slot: Slot, before: usize) {
        let after = self.tables.expiring(slot);
        if after != before {
            self.expiring = self.expiring + after - before;
            if after == 0 {
                self.expiring_slots.remove(slot);
            } else if before == 0 {
                self.expiring_slots.insert(slot);
            }
        }
    }

    /// Takes all keys of a slot away; their memory stays counted until [`Keyspace::free_some`] comes to them.
    pub(crate) fn drop_table(&mut self, slot: Slot) -> usize {
        let (keys, expiring) = self.tables.drop_slot(slot);
        self.keys -= keys;
        self.group_keys[slot.index() / GROUP_SLOTS] -= keys as u32;
        self.expiring -= expiring;
        self.expiring_slots.remove(slot);
        keys
    }

    /// Moves up to `buckets` buckets of tables that are growing; true when there are more. To be called when the node is
    /// idle: a table that is not written to would keep its old array.
    pub fn tidy(&mut self, buckets: usize) -> bool {
        self.tables.tidy(buckets, &self.hashes)
    }

    /// Makes room for `keys` in an empty slot, so that an import does not grow its table step by step.
    pub fn reserve(&mut self, slot: Slot, keys: usize) {
        self.tables.reserve(slot, keys);
    }

    /// A slot, each as likely as it has keys; `None` when there are no keys.
    pub(crate) fn random_slot(&mut self) -> Option<Slot> {
        if self.keys == 0 {
            return None;
        }
        let mut rest = self.random.below(self.keys);
        let group = self.group_keys.iter().position(|&keys| {
            let here = rest < keys as usize;
            if !here {
                rest -= keys as usize;
            }
            here
        })?;
        let first = group * GROUP_SLOTS;
        (first..first + GROUP_SLOTS)
            .filter_map(|slot| Slot::new(slot as u16))
            .find(|slot| {
                let here = rest < self.tables.len(*slot);
                if !here {
                    rest -= self.tables.len(*slot);
                }
                here
            })
    }
}

fn expect_kind<T: Kind>(value: ValueRef<'_>) -> Result<&T, Refusal> {
    match value {
        ValueRef::Collection(collection) => T::from_ref(collection).ok_or(Refusal::WRONG_TYPE),
        ValueRef::String(_) => Err(Refusal::WRONG_TYPE),
    }
}
