use std::collections::{BTreeMap, BTreeSet};

use larder_wire::{Refusal, Slot, SlotSet, UnixMillis};

use crate::Room;
use crate::collection::{CollectionSettings, Set};
use crate::eviction::EvictionPolicy;
use crate::keyspace::{Gone, Keyspace, KeyspaceConfig};
use crate::random::Random;
use crate::strings::{SetExpiry, Store};
use crate::value::{StringRef, Value};
use crate::walk::Place;

fn text(string: StringRef<'_>) -> Vec<u8> {
    string.text(&mut [0; 20]).to_vec()
}

/// What [`Keyspace::used_memory`] must say: everything counted anew.
fn recount(keyspace: &Keyspace) -> u64 {
    let mut sum = keyspace.tables.bytes();
    for slot in Slot::all() {
        let mut place = Some(Place::START);
        while let Some(from) = place {
            place = keyspace.walk_slot(slot, from, 1000, |item| sum += item.footprint());
        }
    }
    sum as u64
}

#[test]
fn a_keyspace_holds_what_a_map_holds_and_counts_its_memory_exactly() {
    for seed in 0..4 {
        let mut random = Random::new(seed);
        let mut keyspace = Keyspace::new(KeyspaceConfig {
            hash_seed: seed,
            ..KeyspaceConfig::default()
        });
        let mut model: BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)> = BTreeMap::new();
        let mut now = 1000;
        for _ in 0..30_000 {
            now += random.below(3) as i64;
            model.retain(|_, (_, at)| at.is_none_or(|at| at > now));
            let time = UnixMillis(now);
            // Tags bring many keys into few slots.
            let key = format!("{{{}}}{}", random.below(3), random.below(400)).into_bytes();
            match random.below(9) {
                0..3 => {
                    let value = vec![b'v'; random.below(100)];
                    keyspace.set_string(&key, &value, Store::Encoded, SetExpiry::Clear, time);
                    model.insert(key, (value, None));
                }
                3 => {
                    let at = now + 1 + random.below(500) as i64;
                    let value = random.below(1000).to_string().into_bytes();
                    let expiry = SetExpiry::At(UnixMillis(at));
                    keyspace.set_string(&key, &value, Store::Encoded, expiry, time);
                    model.insert(key, (value, Some(at)));
                }
                4 => {
                    let value = b"kept".to_vec();
                    keyspace.set_string(&key, &value, Store::Plain, SetExpiry::Keep, time);
                    let at = model.get(&key).and_then(|(_, at)| *at);
                    model.insert(key, (value, at));
                }
                5 => {
                    let grown = |len: Option<usize>| Ok(Some(len.unwrap_or(0) + 30));
                    let fill = |bytes: &mut [u8]| {
                        let len = bytes.len();
                        bytes[len - 30..].fill(b'a');
                    };
                    keyspace
                        .edit_string(&key, time, grown, fill)
                        .expect("a string");
                    model.entry(key).or_default().0.extend([b'a'; 30]);
                }
                6 => {
                    let there = model.remove(&key).is_some();
                    assert_eq!(keyspace.remove(&key, time), there);
                }
                7 => {
                    let at = (random.below(2) == 0).then_some(now + 100);
                    let there = keyspace.set_expiry(&key, at.map(UnixMillis), time);
                    assert_eq!(there, model.contains_key(&key));
                    if let Some((_, expires)) = model.get_mut(&key) {
                        *expires = at;
                    }
                }
                _ => {
                    let to = format!("{{{}}}{}", random.below(3), random.below(400)).into_bytes();
                    let there = keyspace.rename(&key, &to, time);
                    assert_eq!(there, model.contains_key(&key));
                    if let Some(value) = model.remove(&key) {
                        model.insert(to, value);
                    }
                }
            }
        }
        let time = UnixMillis(now);
        for (key, (value, at)) in &model {
            let string = keyspace.string(key, time).expect("a string").map(text);
            assert_eq!(string.as_ref(), Some(value), "seed {seed}");
            assert_eq!(keyspace.expiry(key, time), Some(at.map(UnixMillis)));
        }
        while keyspace.expire_due(time, 100).expired > 0 {}
        for slot in Slot::all() {
            keyspace.expire_due(time, 100);
            assert!(keyspace.slot_len(slot) <= model.len());
        }
        assert_eq!(keyspace.len(), model.len(), "seed {seed}");
        assert_eq!(keyspace.used_memory(), recount(&keyspace), "seed {seed}");
        keyspace.drop_slots(&SlotSet::full());
        while keyspace.free_some(100) {}
        assert_eq!(keyspace.used_memory(), Keyspace::default().used_memory());
    }
}

#[test]
fn collections_are_counted_emptied_and_dropped_through_the_trash() {
    let now = UnixMillis(0);
    let mut keyspace = Keyspace::default();
    let add = |from: usize, to: usize| {
        move |set: &mut Set| {
            for member in from..to {
                set.insert(format!("m{member}").as_bytes(), &CollectionSettings::new(1));
            }
        }
    };
    keyspace
        .modify_or_create(b"a", now, add(0, 5000))
        .expect("no other type");
    keyspace
        .modify_or_create(b"b", now, add(0, 5))
        .expect("no other type");
    assert_eq!(keyspace.modify_or_create(b"c", now, |_: &mut Set| 3), Ok(3));
    assert_eq!(keyspace.len(), 2, "an empty collection leaves no key");
    assert_eq!(keyspace.used_memory(), recount(&keyspace));
    let removed = keyspace.modify(b"b", now, |set: &mut Set| {
        (0..5)
            .filter(|i| set.remove(format!("m{i}").as_bytes()))
            .count()
    });
    assert_eq!(removed, Ok(Some(5)));
    assert_eq!(keyspace.len(), 1, "a collection that ran empty is removed");
    keyspace.set_string(b"s", b"x", Store::Encoded, SetExpiry::Clear, now);
    assert_eq!(
        keyspace.read::<Set>(b"s", now).err(),
        Some(Refusal::WRONG_TYPE)
    );
    assert_eq!(keyspace.string(b"a", now).err(), Some(Refusal::WRONG_TYPE));

    let captured = keyspace.capture(b"a").expect("there");
    keyspace.set_string(b"a", b"over", Store::Encoded, SetExpiry::Clear, now);
    assert!(keyspace.has_trash());
    while keyspace.free_some(100) {}
    assert_eq!(keyspace.used_memory(), recount(&keyspace));
    match captured.value {
        Value::Collection(collection) => assert_eq!(collection.len(), 5000),
        Value::Int(_) | Value::Bytes(_) => panic!("a set was captured"),
    }
}

#[test]
fn an_expired_key_is_gone_for_every_reader_and_reported_once() {
    let mut keyspace = Keyspace::default();
    let expiry = SetExpiry::At(UnixMillis(10));
    keyspace.set_string(b"k", b"v", Store::Encoded, expiry, UnixMillis(0));
    assert!(keyspace.exists(b"k", UnixMillis(9)));
    assert!(keyspace.peek_type(b"k", UnixMillis(10)).is_none());
    assert!(!keyspace.has_gone(), "peeking changes nothing");
    assert!(!keyspace.exists(b"k", UnixMillis(10)));
    assert!(!keyspace.exists(b"k", UnixMillis(10)));
    assert_eq!(keyspace.take_gone(), [(Gone::Expired, Box::from(*b"k"))]);
    assert_eq!(keyspace.stats().expired, 1);

    keyspace.set_passive(true);
    keyspace.set_string(b"k", b"v", Store::Encoded, expiry, UnixMillis(0));
    assert!(!keyspace.exists(b"k", UnixMillis(10)));
    assert_eq!((keyspace.len(), keyspace.has_gone()), (1, false));
}

#[test]
fn the_expiry_cycle_finds_every_due_key_and_no_other() {
    let mut keyspace = Keyspace::default();
    for i in 0..5000 {
        let expiry = match i % 5 {
            0 => SetExpiry::At(UnixMillis(100)),
            1 => SetExpiry::At(UnixMillis(1000)),
            _ => SetExpiry::Clear,
        };
        let key = format!("key:{i}").into_bytes();
        keyspace.set_string(&key, b"v", Store::Encoded, expiry, UnixMillis(0));
    }
    assert_eq!(keyspace.expiring_len(), 2000);
    let (mut expired, mut turns) = (0, 0);
    while expired < 1000 {
        let swept = keyspace.expire_due(UnixMillis(100), 100);
        assert!(swept.examined <= 107, "{swept:?}");
        expired += swept.expired;
        turns += 1;
        assert!(turns < 100, "{expired} expired");
    }
    assert_eq!(
        (expired, keyspace.len(), keyspace.expiring_len()),
        (1000, 4000, 1000)
    );
    assert_eq!(keyspace.take_gone().len(), 1000);
    assert_eq!(keyspace.used_memory(), recount(&keyspace));
}

#[test]
fn eviction_keeps_what_is_used_and_stays_below_the_limit() {
    let hot: Vec<Vec<u8>> = (0..500).map(|i| format!("hot:{i}").into_bytes()).collect();
    for policy in [
        EvictionPolicy::AllKeysLru,
        EvictionPolicy::AllKeysLfu,
        EvictionPolicy::AllKeysLrfu,
    ] {
        let mut keyspace = Keyspace::new(KeyspaceConfig {
            eviction: policy,
            ..KeyspaceConfig::default()
        });
        keyspace.set_maxmemory(keyspace.used_memory() + 400_000);
        let mut now = 0;
        for i in 0..20_000 {
            now += 100;
            let time = UnixMillis(now);
            for key in hot.iter().skip(i % 10).step_by(10) {
                if i < 500 {
                    keyspace.set_string(key, &[b'h'; 50], Store::Encoded, SetExpiry::Clear, time);
                } else {
                    keyspace.exists(key, time);
                    drop(keyspace.string(key, time));
                }
            }
            let key = format!("cold:{i}").into_bytes();
            keyspace.set_string(&key, &[b'c'; 50], Store::Encoded, SetExpiry::Clear, time);
            assert_eq!(keyspace.make_room(time, 100, 0), Room::Enough);
            assert!(!keyspace.is_over_limit(0));
            if keyspace.stats().evicted > 6000 {
                break;
            }
        }
        let time = UnixMillis(now);
        let kept = hot.iter().filter(|key| keyspace.exists(*key, time)).count();
        assert!(kept > 490, "{policy:?} kept {kept} of 500");
        assert!(keyspace.stats().evicted > 3000);
        let ghosts = keyspace.lrfu.bytes() as u64;
        assert_eq!(keyspace.used_memory(), recount(&keyspace) + ghosts);
    }
}

#[test]
fn volatile_policies_evict_only_keys_that_expire_and_then_say_that_there_is_no_room() {
    for policy in [
        EvictionPolicy::VolatileLru,
        EvictionPolicy::VolatileLfu,
        EvictionPolicy::VolatileRandom,
        EvictionPolicy::VolatileTtl,
        EvictionPolicy::VolatileLrfu,
    ] {
        let mut keyspace = Keyspace::new(KeyspaceConfig {
            eviction: policy,
            ..KeyspaceConfig::default()
        });
        for i in 0..1000 {
            let expiry = match i % 2 {
                0 => SetExpiry::At(UnixMillis(1_000_000 + i)),
                _ => SetExpiry::Clear,
            };
            let key = format!("key:{i}").into_bytes();
            keyspace.set_string(&key, b"v", Store::Encoded, expiry, UnixMillis(0));
        }
        keyspace.set_maxmemory(keyspace.used_memory() - 1);
        assert_eq!(
            keyspace.make_room(UnixMillis(0), 100, 0),
            Room::Enough,
            "{policy:?}"
        );
        keyspace.set_maxmemory(1);
        assert_eq!(keyspace.make_room(UnixMillis(0), 100, 0), Room::More);
        assert_eq!(keyspace.make_room(UnixMillis(0), 10_000, 0), Room::None);
        assert_eq!(keyspace.len(), 500, "{policy:?}");
        assert_eq!(keyspace.expiring_len(), 0);
    }
}

#[test]
fn random_keys_come_from_visible_slots_and_reach_every_key() {
    let mut keyspace = Keyspace::default();
    for i in 0..50 {
        let key = format!("{{a}}{i}").into_bytes();
        keyspace.set_string(&key, b"v", Store::Encoded, SetExpiry::Clear, UnixMillis(0));
    }
    keyspace.set_string(
        b"{b}",
        b"v",
        Store::Encoded,
        SetExpiry::Clear,
        UnixMillis(0),
    );
    let pick = |keyspace: &mut Keyspace| -> BTreeSet<Box<[u8]>> {
        (0..3000)
            .filter_map(|_| keyspace.random_key(UnixMillis(0)))
            .collect()
    };
    assert_eq!(pick(&mut keyspace).len(), 51);
    let mut slots = SlotSet::new();
    slots.insert(larder_wire::slot_of(b"{b}"));
    keyspace.set_visible(Some(slots));
    assert_eq!(
        pick(&mut keyspace),
        BTreeSet::from([Box::from(&b"{b}"[..])])
    );
    assert_eq!(keyspace.visible_len(), 1);
}
