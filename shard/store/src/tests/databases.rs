//! Numbered databases over one limit of memory: what each holds, what goes round all of them.

use std::collections::BTreeMap;

use larder_wire::{SlotSet, UnixMillis};

use crate::databases::Databases;
use crate::db::{DB_COUNT, Db};
use crate::evict::Room;
use crate::eviction::EvictionPolicy;
use crate::keyspace::{Gone, Keyspace, KeyspaceConfig};
use crate::random::Random;
use crate::strings::{SetExpiry, Store};

const NOW: UnixMillis = UnixMillis(1_000);

fn db(number: i64) -> Db {
    Db::new(number).expect("a database")
}

fn set(space: &mut Keyspace, key: &str, value: &[u8], expiry: SetExpiry) {
    space.set_string(key.as_bytes(), value, Store::Encoded, expiry, NOW);
}

fn has(databases: &Databases, number: i64, key: &str) -> bool {
    let space = databases.get(db(number));
    space.is_some_and(|space| space.peek_type(key.as_bytes(), NOW).is_some())
}

#[test]
fn a_database_comes_to_be_when_it_is_used_and_is_given_back_when_it_is_empty() {
    let mut databases = Databases::default();
    let alone = databases.used_memory();
    assert!(databases.get(db(3)).is_none());
    set(databases.at(db(3)), "a", b"1", SetExpiry::Clear);
    set(databases.at(db(0)), "a", b"0", SetExpiry::Clear);
    assert!(databases.used_memory() > alone);
    assert_eq!(databases.len(), 2);
    databases.give_back_empty();
    assert!(has(&databases, 3, "a"));
    assert!(databases.at(db(3)).remove(&b"a"[..], NOW));
    assert!(databases.at(db(0)).remove(&b"a"[..], NOW));
    let lookups = databases.stats();
    databases.give_back_empty();
    assert!(databases.get(db(3)).is_none() && databases.get(db(0)).is_some());
    assert_eq!(databases.used_memory(), alone);
    // What was counted there is not forgotten.
    assert_eq!(databases.stats(), lookups);
}

#[test]
fn databases_hold_what_as_many_maps_hold_whatever_is_swapped_and_moved() {
    for seed in 0..3 {
        let mut random = Random::new(seed);
        let mut databases = Databases::default();
        let mut model: Vec<BTreeMap<String, Vec<u8>>> = vec![BTreeMap::new(); DB_COUNT as usize];
        for _ in 0..1_000 {
            let (one, other) = (random.below(5) as i64, random.below(5) as i64);
            let key = format!("k{}", random.below(40));
            match random.below(8) {
                0 => {
                    databases.swap(db(one), db(other));
                    model.swap(one as usize, other as usize);
                }
                1 | 2 => {
                    if let Some((source, target)) = databases.pair(db(one), db(other)) {
                        if let Some(captured) = source.extract(key.as_bytes(), NOW) {
                            target.insert(key.as_bytes(), captured.value, captured.expires, NOW);
                        }
                        if let Some(value) = model[one as usize].remove(&key) {
                            model[other as usize].insert(key, value);
                        }
                    } else {
                        assert_eq!(one, other);
                    }
                }
                3 => {
                    databases.at(db(one)).drop_visible();
                    model[one as usize].clear();
                }
                4 => databases.give_back_empty(),
                _ => {
                    let value = random.below(1000).to_string().into_bytes();
                    set(databases.at(db(one)), &key, &value, SetExpiry::Clear);
                    model[one as usize].insert(key, value);
                }
            }
        }
        while databases.free_some(1000) {}
        for (number, model) in model.iter().enumerate() {
            let space = databases.at(db(number as i64));
            assert_eq!(space.len(), model.len(), "seed {seed}, database {number}");
            for (key, value) in model {
                let found = space.capture(key.as_bytes()).expect("it is there");
                let found = match found.value {
                    crate::Value::Int(int) => int.to_string().into_bytes(),
                    crate::Value::Bytes(bytes) => bytes.to_vec(),
                    crate::Value::Collection(_) => unreachable!("only strings were set"),
                };
                assert_eq!(&found, value, "seed {seed}, database {number}, {key}");
            }
        }
    }
}

#[test]
fn one_limit_of_memory_holds_over_all_databases_and_each_gives_its_share() {
    let mut databases = Databases::new(KeyspaceConfig {
        eviction: EvictionPolicy::AllKeysLru,
        ..KeyspaceConfig::default()
    });
    let value = [b'v'; 1000];
    for key in 0..2_000 {
        for number in [0, 3, 15] {
            let space = databases.at(db(number));
            set(space, &format!("k{key}"), &value, SetExpiry::Clear);
        }
    }
    let most = databases.used_memory() - 1_500_000;
    databases.set_maxmemory(most);
    assert!(databases.is_over_limit());
    assert_eq!(databases.make_room(NOW, 10), Room::More);
    assert_eq!(databases.make_room(NOW, 10_000), Room::Enough);
    assert!(databases.used_memory() <= most);
    let mut evicted = BTreeMap::new();
    while let Some((db, gone)) = databases.take_gone() {
        assert!(gone.iter().all(|(why, _)| *why == Gone::Evicted));
        *evicted.entry(db).or_insert(0) += gone.len();
    }
    assert_eq!(evicted.len(), 3);
    let (fewest, most) = (evicted.values().min(), evicted.values().max());
    assert!(fewest.unwrap() * 2 > *most.unwrap(), "{evicted:?}");
    assert_eq!(
        evicted.values().sum::<usize>() as u64,
        databases.stats().evicted
    );
}

#[test]
fn a_policy_that_spares_one_databases_keys_takes_those_of_another() {
    let mut databases = Databases::new(KeyspaceConfig {
        eviction: EvictionPolicy::VolatileLru,
        ..KeyspaceConfig::default()
    });
    for key in 0..500 {
        let name = format!("k{key}");
        set(databases.at(db(0)), &name, &[b'v'; 500], SetExpiry::Clear);
        let later = SetExpiry::At(UnixMillis(1_000_000));
        set(databases.at(db(7)), &name, &[b'v'; 500], later);
    }
    databases.set_maxmemory(databases.used_memory() - 20_000);
    assert_eq!(databases.make_room(NOW, 10_000), Room::Enough);
    assert_eq!(databases.at(db(0)).len(), 500);
    assert!(databases.at(db(7)).len() < 500);
    databases.set_maxmemory(1);
    assert_eq!(databases.make_room(NOW, 10_000), Room::None);
    assert_eq!(databases.at(db(7)).len(), 0);
}

#[test]
fn keys_expire_in_every_database_and_are_told_with_it() {
    let mut databases = Databases::default();
    for number in 0..i64::from(DB_COUNT) {
        for key in 0..100 {
            let name = format!("k{key}");
            let at = SetExpiry::At(UnixMillis(1_500));
            set(databases.at(db(number)), &name, b"v", at);
        }
    }
    assert_eq!(databases.at(db(4)).expire_due(NOW, 1000).expired, 0);
    assert_eq!(databases.at(db(4)).mean_ttl_ms(), 500);
    let mut rounds = 0;
    while !databases.is_empty() {
        databases.expire_due(UnixMillis(2_000), 50);
        rounds += 1;
        assert!(rounds < 200, "{} keys are left", databases.len());
    }
    let mut told = BTreeMap::new();
    while let Some((db, gone)) = databases.take_gone() {
        *told.entry(db.number()).or_insert(0) += gone.len();
    }
    assert!(
        told.len() == 16 && told.values().all(|keys| *keys == 100),
        "{told:?}"
    );
    databases.expire_due(UnixMillis(2_000), 50);
    assert_eq!(databases.at(db(4)).mean_ttl_ms(), 0);
}

#[test]
fn slots_are_dropped_and_hidden_in_all_databases_those_to_come_included() {
    let mut databases = Databases::default();
    set(databases.at(db(0)), "a", b"v", SetExpiry::Clear);
    set(databases.at(db(2)), "a", b"v", SetExpiry::Clear);
    let slot = larder_wire::slot_of(b"a");
    assert_eq!(databases.slot_len(slot), 2);
    assert_eq!(databases.next_in_slot(slot, db(0)), Some(db(0)));
    assert_eq!(databases.next_in_slot(slot, db(1)), Some(db(2)));
    assert_eq!(databases.next_in_slot(slot, db(3)), None);
    databases.set_visible(Some(SlotSet::new()));
    set(databases.at(db(9)), "a", b"v", SetExpiry::Clear);
    assert_eq!((databases.visible_len(), databases.len()), (0, 3));
    databases.drop_slots(&SlotSet::full());
    assert_eq!(databases.len(), 0);
}
