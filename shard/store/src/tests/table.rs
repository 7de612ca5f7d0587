use std::collections::{BTreeMap, BTreeSet};

use larder_wire::Slot;

use crate::entry::{Content, Entry, EntryRef};
use crate::key_hash::KeyHash;
use crate::random::Random;
use crate::table::{At, Tables};
use crate::value::StringRef;

fn value(entry: EntryRef<'_>) -> i64 {
    match entry.string() {
        Some(StringRef::Int(int)) => int,
        Some(StringRef::Bytes(_)) | None => panic!("an integer"),
    }
}

struct Model {
    tables: Tables,
    /// Keys are of so many slots.
    slots: u16,
    hashes: KeyHash,
    keys: BTreeMap<Vec<u8>, i64>,
}

impl Model {
    fn new(seed: u64, slots: u16) -> Model {
        Model {
            tables: Tables::default(),
            slots,
            hashes: KeyHash::new(seed),
            keys: BTreeMap::new(),
        }
    }

    fn slot_of(&self, key: &[u8]) -> Slot {
        let number = (self.hashes.of(key) >> 20) as u16 % self.slots;
        Slot::new(number).expect("below the number of slots")
    }

    fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        Slot::all().take(self.slots.into())
    }

    fn find(&self, key: &[u8]) -> Option<At> {
        let (slot, hash) = (self.slot_of(key), self.hashes.of(key));
        self.tables.find(slot, hash, key).map(|(at, _)| at)
    }

    fn set(&mut self, key: &[u8], int: i64) {
        let (slot, hash) = (self.slot_of(key), self.hashes.of(key));
        match self.find(key) {
            Some(at) => self.tables.entry_mut(at).replace(Content::Int(int), None),
            None => {
                let entry = Entry::new(key, Content::Int(int), None, 0);
                let at = self.tables.insert(slot, hash, entry, &self.hashes);
                assert_eq!(self.tables.entry(at).key(), key);
            }
        }
        self.keys.insert(key.to_vec(), int);
    }

    fn remove(&mut self, key: &[u8]) {
        let (slot, hash) = (self.slot_of(key), self.hashes.of(key));
        let at = self.find(key);
        assert_eq!(at.is_some(), self.keys.remove(key).is_some());
        if let Some(at) = at {
            let entry = self.tables.remove(slot, hash, at, &self.hashes);
            assert_eq!(entry.key(), key);
        }
    }

    fn walk(&self, slot: Slot, from: u64, limit: usize, met: &mut Vec<Vec<u8>>) -> Option<u64> {
        self.tables
            .walk(slot, from, limit, &self.hashes, |at, hash, entry| {
                assert!(hash >= from);
                assert_eq!(
                    self.find(entry.key())
                        .map(|it| self.tables.entry(it).address()),
                    Some(entry.address())
                );
                assert_eq!(self.tables.entry(at).address(), entry.address());
                met.push(entry.key().to_vec());
            })
    }

    fn check(&self) {
        let len: usize = self.slots().map(|slot| self.tables.len(slot)).sum();
        assert_eq!(len, self.keys.len());
        for (key, int) in &self.keys {
            let at = self.find(key).expect("the key is there");
            assert_eq!(value(self.tables.entry(at)), *int);
        }
        let mut met = Vec::new();
        for slot in self.slots() {
            let mut place = Some(0);
            while let Some(from) = place {
                place = self.walk(slot, from, 5, &mut met);
            }
        }
        let seen: BTreeSet<&Vec<u8>> = met.iter().collect();
        assert_eq!((met.len(), seen.len()), (len, len), "a key was met twice");
    }

    fn tidy(&mut self) {
        while self.tables.tidy(64, &self.hashes) {}
    }
}

#[test]
fn a_table_holds_what_a_map_holds_through_growth_and_shrinking() {
    for seed in 0..12 {
        let mut random = Random::new(seed);
        let slots = [1, 40, 700][seed as usize % 3];
        let mut model = Model::new(seed, slots);
        let empty = model.tables.bytes();
        let range = [10, 100, 1000, 20_000][seed as usize % 4];
        for step in 0..20_000 {
            let key = format!("key:{}", random.below(range)).into_bytes();
            // Phases that mostly add and phases that mostly remove.
            let adding = if step / 4000 % 2 == 0 { 8 } else { 2 };
            if random.below(10) < adding {
                model.set(&key, step);
            } else {
                model.remove(&key);
            }
            if step % 2000 == 0 {
                if seed % 2 == 0 {
                    model.tidy();
                }
                model.check();
            }
        }
        model.check();
        let keys: Vec<_> = model.keys.keys().cloned().collect();
        for key in keys {
            model.remove(&key);
        }
        model.check();
        let left = model.tables.bytes() - empty;
        assert_eq!(left, 0, "seed {seed}: bytes without a key");
    }
}

#[test]
fn a_walk_meets_every_key_that_stays_exactly_once_while_the_table_changes() {
    for seed in 0..8 {
        let mut random = Random::new(seed);
        let mut model = Model::new(seed, 1);
        let staying: Vec<Vec<u8>> = (0..1500)
            .map(|i| format!("stay:{i}").into_bytes())
            .collect();
        for key in &staying {
            model.set(key, 0);
        }
        let mut met: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        let mut place = Some(0);
        while let Some(from) = place {
            let mut keys = Vec::new();
            place = model.walk(Slot::FIRST, from, 10, &mut keys);
            for key in keys {
                *met.entry(key).or_default() += 1;
            }
            // Growth in odd runs, removal down to a shrinking table in even ones.
            for _ in 0..100 {
                let key = format!("pass:{}", random.below(20_000)).into_bytes();
                if random.below(10) < if seed % 2 == 1 { 9 } else { 3 } {
                    model.set(&key, 1);
                } else {
                    model.remove(&key);
                }
            }
        }
        for key in &staying {
            assert_eq!(met.get(key), Some(&1), "seed {seed}");
        }
        model.check();
    }
}

#[test]
fn tables_are_dense_at_any_number_of_keys() {
    let mut model = Model::new(3, 300);
    let empty = model.tables.bytes();
    for i in 0..30_000 {
        model.set(format!("key:{i}").as_bytes(), i);
        let each = (model.tables.bytes() - empty) as f64 / (i + 1) as f64;
        assert!(i < 10_000 || each < 12.0, "{each} bytes a key at {i} keys");
    }
}

#[test]
fn a_large_table_takes_no_more_while_it_grows_than_afterwards() {
    let mut model = Model::new(3, 1);
    let empty = model.tables.bytes();
    for i in 0..60_000 {
        model.set(format!("key:{i}").as_bytes(), i);
        let each = (model.tables.bytes() - empty) as f64 / (i + 1) as f64;
        assert!(i < 25_000 || each < 12.0, "{each} bytes a key at {i} keys");
    }
    model.check();
    let slot = Slot::FIRST;
    model.tables.drop_slot(slot);
    let mut count = 0;
    while model.tables.has_dropped() {
        model.tables.drain_dropped(500, |_| count += 1);
    }
    assert_eq!((count, model.tables.bytes()), (60_000, empty));
}

#[test]
fn dropped_slots_give_out_every_entry_while_others_change() {
    for seed in 0..6 {
        let mut random = Random::new(seed);
        let mut model = Model::new(seed, 60);
        let empty = model.tables.bytes();
        for i in 0..8000 {
            model.set(format!("key:{i}").as_bytes(), i);
        }
        let dropped: BTreeSet<Slot> = model.slots().filter(|_| random.below(2) == 0).collect();
        let keys: Vec<Vec<u8>> = model.keys.keys().cloned().collect();
        let (gone, kept): (Vec<_>, Vec<_>) = keys
            .into_iter()
            .partition(|key| dropped.contains(&model.slot_of(key)));
        for key in &gone {
            model.keys.remove(key);
        }
        let mut count = 0;
        for slot in &dropped {
            count += model.tables.drop_slot(*slot).0;
        }
        assert_eq!(count, gone.len());
        let mut given = BTreeSet::new();
        let mut step = 0;
        while model.tables.has_dropped() {
            model.tables.drain_dropped(30, |entry| {
                assert!(given.insert(entry.key().to_vec()));
            });
            // Arrays move while others are being emptied.
            for _ in 0..20 {
                let key = &kept[random.below(kept.len())].clone();
                if random.below(3) == 0 {
                    model.set(key, step);
                } else if model.keys.contains_key(key) {
                    model.remove(key);
                }
                let fresh = format!("fresh:{}", random.below(1000));
                model.set(fresh.as_bytes(), step);
                step += 1;
            }
        }
        assert_eq!(given, gone.into_iter().collect(), "seed {seed}");
        model.check();
        for slot in model.slots() {
            model.tables.drop_slot(slot);
        }
        while model.tables.has_dropped() {
            model.tables.drain_dropped(1000, drop);
        }
        assert_eq!(model.tables.bytes(), empty);
    }
}

#[test]
fn samples_of_expiring_keys_meet_all_of_them_and_no_others() {
    let mut model = Model::new(4, 1);
    for i in 0..3000 {
        model.set(format!("key:{i}").as_bytes(), i);
    }
    for i in (0..3000).step_by(10) {
        let key = format!("key:{i}").into_bytes();
        let at = model.find(&key).expect("there");
        let expires = Some(larder_wire::UnixMillis(1));
        model.tables.entry_mut(at).set_expiry(expires);
        model.tables.mark_expiring(Slot::FIRST, at, true);
    }
    let mut met = BTreeSet::new();
    let mut place = Some(0);
    while let Some(from) = place {
        place = model
            .tables
            .sample(Slot::FIRST, from, 10, true, |_, entry| {
                met.insert(entry.key().to_vec());
            });
    }
    assert_eq!((met.len(), model.tables.expiring(Slot::FIRST)), (300, 300));
}
