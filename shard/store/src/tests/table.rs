use std::collections::{BTreeMap, BTreeSet};

use crate::entry::{Content, Entry};
use crate::key_hash::KeyHash;
use crate::random::Random;
use crate::table::Table;
use crate::value::{StringRef, ValueRef};

fn value(entry: &Entry) -> i64 {
    match entry.value() {
        ValueRef::String(StringRef::Int(int)) => int,
        ValueRef::String(StringRef::Bytes(_)) | ValueRef::Collection(_) => panic!("an integer"),
    }
}

struct Model {
    table: Table,
    hashes: KeyHash,
    keys: BTreeMap<Vec<u8>, i64>,
}

impl Model {
    fn new(seed: u64) -> Model {
        Model {
            table: Table::default(),
            hashes: KeyHash::new(seed),
            keys: BTreeMap::new(),
        }
    }

    fn set(&mut self, key: &[u8], int: i64) {
        let hash = self.hashes.of(key);
        match self.table.find(hash, key) {
            Some(at) => self.table.entry_mut(at).replace(Content::Int(int), None),
            None => {
                let entry = Entry::new(key, Content::Int(int), None, 0);
                let at = self.table.insert(hash, entry, &self.hashes);
                assert_eq!(self.table.entry(at).key(), key);
            }
        }
        self.keys.insert(key.to_vec(), int);
    }

    fn remove(&mut self, key: &[u8]) {
        let hash = self.hashes.of(key);
        let at = self.table.find(hash, key);
        assert_eq!(at.is_some(), self.keys.remove(key).is_some());
        if let Some(at) = at {
            assert_eq!(self.table.remove(hash, at, &self.hashes).key(), key);
        }
    }

    fn check(&self) {
        assert_eq!(self.table.len(), self.keys.len());
        for (key, int) in &self.keys {
            let at = self.table.find(self.hashes.of(key), key);
            assert_eq!(value(self.table.entry(at.expect("the key is there"))), *int);
        }
        let mut seen = BTreeSet::new();
        let mut place = Some(0);
        while let Some(from) = place {
            place = self.table.walk(from, 5, &self.hashes, |_, hash, entry| {
                assert!(hash >= from);
                assert!(seen.insert(entry.key().to_vec()), "a key was met twice");
            });
        }
        assert_eq!(seen.len(), self.keys.len());
    }
}

#[test]
fn a_table_holds_what_a_map_holds_through_growth_and_shrinking() {
    for seed in 0..6 {
        let mut random = Random::new(seed);
        let mut model = Model::new(seed);
        let range = [10, 100, 1000, 5000][seed as usize % 4];
        for step in 0..20_000 {
            let key = format!("key:{}", random.below(range)).into_bytes();
            // Phases that mostly add and phases that mostly remove.
            let adding = if step / 4000 % 2 == 0 { 8 } else { 2 };
            if random.below(10) < adding {
                model.set(&key, step);
            } else {
                model.remove(&key);
            }
            if step % 1000 == 0 {
                model.check();
            }
        }
        model.check();
        let keys: Vec<_> = model.keys.keys().cloned().collect();
        for key in keys {
            model.remove(&key);
        }
        model.check();
        assert_eq!(model.table.bytes(), 0, "seed {seed}");
    }
}

#[test]
fn a_walk_meets_every_key_that_stays_exactly_once_while_the_table_changes() {
    for seed in 0..8 {
        let mut random = Random::new(seed);
        let mut model = Model::new(seed);
        let staying: Vec<Vec<u8>> = (0..1500)
            .map(|i| format!("stay:{i}").into_bytes())
            .collect();
        for key in &staying {
            model.set(key, 0);
        }
        let mut met: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        let mut place = Some(0);
        while let Some(from) = place {
            place = model.table.walk(from, 10, &model.hashes, |_, _, entry| {
                *met.entry(entry.key().to_vec()).or_default() += 1;
            });
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
fn full_tables_are_dense_and_dropping_one_gives_out_every_entry() {
    let mut model = Model::new(3);
    for i in 0..10_000 {
        model.set(format!("key:{i}").as_bytes(), i);
    }
    while model.table.advance(64, &model.hashes) {}
    let per_key = model.table.bytes() as f64 / 10_000.0;
    assert!(per_key < 16.0, "{per_key} bytes a key");
    let mut remains = model.table.into_remains();
    let mut freed = 0;
    while remains.drain_some(100, |_| freed += 1) {}
    assert_eq!((freed, remains.bytes()), (10_000, 0));
}

#[test]
fn samples_of_expiring_keys_meet_all_of_them_and_no_others() {
    let mut model = Model::new(4);
    for i in 0..3000 {
        model.set(format!("key:{i}").as_bytes(), i);
    }
    for i in (0..3000).step_by(10) {
        let key = format!("key:{i}").into_bytes();
        let at = model
            .table
            .find(model.hashes.of(&key), &key)
            .expect("there");
        let expires = Some(larder_wire::UnixMillis(1));
        model.table.entry_mut(at).set_expiry(expires);
        model.table.mark_expiring(at, true);
    }
    let mut met = BTreeSet::new();
    let mut place = Some(0);
    while let Some(from) = place {
        place = model.table.sample(from, 10, true, |_, entry| {
            met.insert(entry.key().to_vec());
        });
    }
    assert_eq!((met.len(), model.table.expiring()), (300, 300));
}
