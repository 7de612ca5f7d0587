//! The numbered databases of a node: keyspaces over one limit of memory.
//!
//! A database comes to be when it is first looked at and is given back when it is found empty, so that one that nobody uses costs
//! a pointer. Database 0 is always there. All have the same settings, the same order of keys and the same slots in sight. What
//! works on its own (expiry, eviction, freeing) goes round all of them. Knows no effects: what it changes is told by its callers.

use std::rc::Rc;

use larder_wire::{Slot, SlotSet, UnixMillis};

use crate::collection::CollectionSettings;
use crate::db::{DB_COUNT, Db};
use crate::events::{Classes, Event};
use crate::evict::Room;
use crate::eviction::{EvictionPolicy, EvictionTuning};
use crate::expiry::Swept;
use crate::field_expiry::GoneFields;
use crate::key::KeyPlace;
use crate::key_hash::KeyHash;
use crate::keyspace::{GoneKey, Keyspace, KeyspaceConfig, Stats};
use crate::random::Random;
use crate::resident::unseen;

/// Keys that one database gives before another is asked, when several have some.
const EVICTIONS_PER_TURN: usize = 8;
/// Bytes of entries moved at once, for each so many bytes of keys that went.
const MOVED_BESIDE_BYTES: usize = 16 << 10;
/// Entries and elements freed at once while a write waits for room.
const FREED_PER_TURN: usize = 256;

pub struct Databases {
    spaces: [Option<Box<Keyspace>>; DB_COUNT as usize],
    /// A bit for each database that there is.
    live: u16,
    hashes: KeyHash,
    /// What each database is made with.
    config: KeyspaceConfig,
    collections: Rc<CollectionSettings>,
    visible: Option<SlotSet>,
    passive: bool,
    access_time: UnixMillis,
    events: Classes,
    string_bytes_max: usize,
    /// Counts of those that were given back.
    retired: Stats,
    /// Bytes of memory that are in RAM for these data and not in their count.
    unseen: u64,
    /// Bytes of keys that went since entries were last moved.
    left_bytes: u64,
    /// Whose turn it is to expire first.
    expiry_turn: Db,
    random: Random,
}

impl Default for Databases {
    fn default() -> Databases {
        Databases::new(KeyspaceConfig::default())
    }
}

impl Databases {
    pub fn new(config: KeyspaceConfig) -> Databases {
        let first = Keyspace::new(config.clone());
        let mut databases = Databases {
            spaces: [const { None }; DB_COUNT as usize],
            live: 0,
            hashes: KeyHash::new(config.hash_seed),
            collections: first.collections(),
            visible: None,
            passive: false,
            access_time: UnixMillis::default(),
            events: Classes::NONE,
            string_bytes_max: first.string_bytes_max(),
            retired: Stats::default(),
            unseen: 0,
            left_bytes: 0,
            expiry_turn: Db::ZERO,
            random: Random::new(config.random_seed),
            config,
        };
        databases.put(Db::ZERO, Box::new(first));
        databases
    }

    fn put(&mut self, db: Db, space: Box<Keyspace>) {
        self.spaces[db.index()] = Some(space);
        self.live |= bit(db);
    }

    #[cold]
    fn make(&mut self, db: Db) {
        let mut space = Box::new(Keyspace::new(self.config.clone()));
        space.set_collections(Rc::clone(&self.collections));
        space.set_visible(self.visible.clone());
        space.set_passive(self.passive);
        space.set_access_time(self.access_time);
        space.events.set_wanted(self.events);
        space.set_string_bytes_max(self.string_bytes_max);
        self.put(db, space);
    }

    /// A database, made if there is none.
    #[inline]
    pub fn at(&mut self, db: Db) -> &mut Keyspace {
        if self.spaces[db.index()].is_none() {
            self.make(db);
        }
        match &mut self.spaces[db.index()] {
            Some(space) => space,
            None => unreachable!("it was made a line before"),
        }
    }

    /// Where `key` belongs, in whichever database.
    #[inline]
    pub fn place_of(&self, key: &[u8]) -> KeyPlace {
        KeyPlace::of(key, &self.hashes)
    }

    /// `None`: it has no keys.
    #[inline]
    pub fn get(&self, db: Db) -> Option<&Keyspace> {
        self.spaces[db.index()].as_deref()
    }

    /// Two databases at once; `None` when they are one.
    pub fn pair(&mut self, one: Db, other: Db) -> Option<(&mut Keyspace, &mut Keyspace)> {
        self.at(one);
        self.at(other);
        let spaces = [one.index(), other.index()];
        let [one, other] = self.spaces.get_disjoint_mut(spaces).ok()?;
        Some((one.as_deref_mut()?, other.as_deref_mut()?))
    }

    /// Those that there are, by number.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (Db, &Keyspace)> {
        dbs(self.live).filter_map(|db| Some((db, self.get(db)?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Keyspace> {
        self.spaces.iter_mut().filter_map(Option::as_deref_mut)
    }

    /// Each takes the other's keys. What is true of all databases needs no exchange.
    pub fn swap(&mut self, one: Db, other: Db) {
        self.spaces.swap(one.index(), other.index());
        self.live = dbs(u16::MAX)
            .filter(|db| self.get(*db).is_some())
            .fold(0, |live, db| live | bit(db));
        self.at(Db::ZERO);
    }

    /// Gives back databases that have nothing any more.
    pub fn give_back_empty(&mut self) {
        for db in dbs(self.live & !bit(Db::ZERO)) {
            let space = self.at(db);
            if space.is_empty()
                && !space.has_trash()
                && !space.has_gone()
                && !space.has_gone_fields()
                && space.events.is_empty()
            {
                let stats = space.stats();
                self.retired = self.retired.plus(stats);
                self.spaces[db.index()] = None;
                self.live &= !bit(db);
            }
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
        let settings = Rc::new(settings);
        for space in self.iter_mut() {
            space.set_collections(Rc::clone(&settings));
        }
        self.collections = settings;
    }

    /// Bytes; 0 is no limit.
    pub fn set_maxmemory(&mut self, bytes: u64) {
        self.config.maxmemory = bytes;
        self.iter_mut().for_each(|space| space.set_maxmemory(bytes));
    }

    pub fn set_eviction(&mut self, policy: EvictionPolicy, tuning: EvictionTuning) {
        self.config.eviction = policy;
        self.config.tuning = tuning;
        self.iter_mut()
            .for_each(|space| space.set_eviction(policy, tuning));
    }

    pub fn set_passive(&mut self, passive: bool) {
        self.passive = passive;
        self.iter_mut().for_each(|space| space.set_passive(passive));
    }

    /// Keys that are written by a clock of long ago count as used at this time.
    pub fn set_access_time(&mut self, now: UnixMillis) {
        self.access_time = now;
        self.iter_mut().for_each(|space| space.set_access_time(now));
    }

    /// Longest string that commands make, in bytes.
    pub fn set_string_bytes_max(&mut self, bytes: usize) {
        self.string_bytes_max = bytes;
        self.iter_mut()
            .for_each(|space| space.set_string_bytes_max(bytes));
    }

    /// Events of which classes are kept for [`Databases::take_events`].
    pub fn set_events(&mut self, classes: Classes) {
        self.events = classes;
        self.iter_mut()
            .for_each(|space| space.events.set_wanted(classes));
    }

    /// Events of one database, in order; `None` when there are none in any.
    pub fn take_events(&mut self) -> Option<(Db, Vec<Event>)> {
        let (db, _) = self.iter().find(|(_, space)| !space.events.is_empty())?;
        Some((db, self.at(db).events.take()))
    }

    /// See [`Keyspace::set_visible`].
    pub fn set_visible(&mut self, slots: Option<SlotSet>) {
        for space in self.iter_mut() {
            space.set_visible(slots.clone());
        }
        self.visible = slots;
    }

    /// Keys of all databases, those that nobody sees yet included.
    pub fn len(&self) -> usize {
        self.iter().map(|(_, space)| space.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn visible_len(&self) -> usize {
        self.iter().map(|(_, space)| space.visible_len()).sum()
    }

    /// Keys of a slot in all databases.
    pub fn slot_len(&self, slot: Slot) -> usize {
        self.iter().map(|(_, space)| space.slot_len(slot)).sum()
    }

    /// The first database from `from` on that has keys in `slot`.
    pub fn next_in_slot(&self, slot: Slot, from: Db) -> Option<Db> {
        dbs(self.live & (u16::MAX << from.number()))
            .find(|db| self.get(*db).is_some_and(|space| space.slot_len(slot) > 0))
    }

    /// Bytes of all data.
    #[inline]
    pub fn used_memory(&self) -> u64 {
        self.iter().map(|(_, space)| space.used_memory()).sum()
    }

    /// Says how many bytes are resident for these data: the limit is kept by them, where keys may go.
    pub fn weigh_resident(&mut self, bytes: u64) {
        self.unseen = if self.config.eviction == EvictionPolicy::NoEviction {
            0
        } else {
            unseen(self.config.maxmemory, self.used_memory(), bytes)
        };
    }

    #[inline]
    pub fn is_over_limit(&self) -> bool {
        self.config.maxmemory != 0 && self.used_memory() + self.unseen > self.config.maxmemory
    }

    pub fn stats(&self) -> Stats {
        self.iter()
            .fold(self.retired, |sum, (_, space)| sum.plus(space.stats()))
    }

    pub fn reset_stats(&mut self) {
        self.retired = Stats::default();
        self.iter_mut().for_each(Keyspace::reset_stats);
    }

    #[inline]
    pub fn has_gone(&self) -> bool {
        self.iter().any(|(_, space)| space.has_gone())
    }

    /// Keys of one database that went by themselves, in order; `None` when there are none in any.
    pub fn take_gone(&mut self) -> Option<(Db, Vec<GoneKey>)> {
        let (db, _) = self.iter().find(|(_, space)| space.has_gone())?;
        Some((db, self.at(db).take_gone()))
    }

    /// Fields of hashes in one database that went by themselves, in order; `None` when there are none in any.
    pub fn take_gone_fields(&mut self) -> Option<(Db, Vec<GoneFields>)> {
        let (db, _) = self.iter().find(|(_, space)| space.has_gone_fields())?;
        Some((db, self.at(db).take_gone_fields()))
    }

    /// Drops all keys of `slots`, in every database.
    pub fn drop_slots(&mut self, slots: &SlotSet) -> usize {
        self.iter_mut().map(|space| space.drop_slots(slots)).sum()
    }

    pub fn has_trash(&self) -> bool {
        self.iter().any(|(_, space)| space.has_trash())
    }

    /// Frees about `limit` entries or elements of what was dropped in each; true when there is more.
    pub fn free_some(&mut self, limit: usize) -> bool {
        let mut more = false;
        for space in self.iter_mut() {
            more |= space.free_some(limit);
        }
        more
    }

    /// Moves up to `buckets` buckets of growing tables in each; true when there are more.
    pub fn tidy(&mut self, buckets: usize) -> bool {
        let mut more = false;
        for space in self.iter_mut() {
            more |= space.tidy(buckets);
        }
        more
    }

    /// Looks at about `limit` expiring keys, beginning with another database each time.
    pub fn expire_due(&mut self, now: UnixMillis, limit: usize) -> Swept {
        let mut swept = Swept::default();
        let first = self.expiry_turn;
        let after = self.live & (u16::MAX << first.number());
        for db in dbs(after).chain(dbs(self.live & !after)) {
            if swept.examined >= limit {
                break;
            }
            let here = self.at(db).expire_due(now, limit - swept.examined);
            swept.examined += here.examined;
            swept.expired += here.expired;
            self.expiry_turn = db.next();
        }
        swept
    }

    /// Takes out up to about `limit` fields of hashes that are due.
    pub fn expire_fields(&mut self, now: UnixMillis, limit: usize) -> Swept {
        let mut swept = Swept::default();
        for space in self.iter_mut() {
            let left = limit - swept.examined.min(limit);
            let here = space.expire_fields(now, left);
            swept.examined += here.examined;
            swept.expired += here.expired;
        }
        swept
    }

    /// Frees memory until it is below `maxmemory`, by at most `limit` keys; each is reported by [`Databases::take_gone`]. What has been left
    /// scattered is moved together at the pace at which keys go, however seldom there is time for it otherwise.
    pub fn make_room(&mut self, now: UnixMillis, limit: usize) -> Room {
        let before = self.used_memory();
        let room = self.evict(now, limit);
        self.left_bytes += before.saturating_sub(self.used_memory());
        if self.left_bytes >= MOVED_BESIDE_BYTES as u64 {
            self.left_bytes = 0;
            self.defragment(MOVED_BESIDE_BYTES);
        }
        room
    }

    /// A database gives its share of the keys.
    fn evict(&mut self, now: UnixMillis, limit: usize) -> Room {
        let mut left = limit;
        // Databases that still may have something to give.
        let mut givers = self.live;
        while self.is_over_limit() {
            if self.has_trash() {
                self.free_some(FREED_PER_TURN);
                continue;
            }
            let Some(db) = self.choose_giver(givers) else {
                return Room::None;
            };
            let alone = givers == bit(db);
            let turn = if alone {
                left
            } else {
                left.min(EVICTIONS_PER_TURN)
            };
            let (all, unseen) = (self.used_memory(), self.unseen);
            let space = self.at(db);
            let beside = all - space.used_memory() + unseen;
            match space.make_room(now, turn, beside) {
                Room::Enough => return Room::Enough,
                Room::More if turn == left => return Room::More,
                Room::More => left -= turn,
                Room::None => givers &= !bit(db),
            }
        }
        Room::Enough
    }

    /// One of `givers` by chance, each as likely as it has keys that may go: as if all were of one.
    fn choose_giver(&mut self, givers: u16) -> Option<Db> {
        if givers.count_ones() < 2 {
            return dbs(givers).next();
        }
        let volatile = self.config.eviction.is_volatile();
        let keys = |db: Db, all: &Databases| match all.get(db) {
            Some(space) if volatile => space.expiring_len(),
            Some(space) => space.len(),
            None => 0,
        };
        let sum: usize = dbs(givers).map(|db| keys(db, self)).sum();
        if sum == 0 {
            return None;
        }
        let mut rest = self.random.below(sum);
        dbs(givers).find(|&db| {
            let here = rest < keys(db, self);
            if !here {
                rest -= keys(db, self);
            }
            here
        })
    }
}

fn bit(db: Db) -> u16 {
    1 << db.number()
}

/// The databases whose bits are set, by number.
#[inline]
fn dbs(mut bits: u16) -> impl Iterator<Item = Db> {
    std::iter::from_fn(move || {
        let db = Db::new(i64::from(bits.trailing_zeros()))?;
        bits &= bits - 1;
        Some(db)
    })
}
