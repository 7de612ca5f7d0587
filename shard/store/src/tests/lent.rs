//! Packed collections in the blocks of their entries, against plain lists of their elements.

use std::panic::{AssertUnwindSafe, catch_unwind};

use larder_wire::UnixMillis;

use crate::collection::{CollectionSettings, End, Hash, List, Set, Zset};
use crate::entry::{Content, Entry, Tray};
use crate::random::Random;
use crate::value::{Collection, Kind, ValueRef, ValueType};

fn elements(collection: &Collection) -> Vec<Vec<u8>> {
    let list = List::from_ref(collection).expect("a list");
    list.iter().map(|element| element.to_vec()).collect()
}

fn elements_of(entry: &Entry) -> Vec<Vec<u8>> {
    match entry.value(&mut Tray::default()) {
        ValueRef::Collection(collection) => elements(collection),
        ValueRef::String(_) => panic!("a list became a string"),
    }
}

/// An element of a length at which headers and blocks change.
fn any_element(random: &mut Random) -> Vec<u8> {
    const LENGTHS: [usize; 8] = [0, 1, 7, 30, 64, 130, 260, 700];
    let longest = 1 + random.below(LENGTHS.len());
    vec![b'a' + random.below(26) as u8; LENGTHS[random.below(longest)]]
}

/// Puts elements in and takes elements out, the same in the model.
fn change(list: &mut List, model: &mut Vec<Vec<u8>>, random: &mut Random) {
    let settings = CollectionSettings::new(1);
    for _ in 0..random.below(4) {
        match random.below(5) {
            0 | 1 => {
                let (end, at) = match random.below(2) {
                    0 => (End::Left, 0),
                    _ => (End::Right, model.len()),
                };
                let element = any_element(random);
                list.push(end, &element, &settings);
                model.insert(at, element);
            }
            2 if !model.is_empty() => {
                let (at, element) = (random.below(model.len()), any_element(random));
                list.set(at, &element, &settings);
                model[at] = element;
            }
            _ => {
                let at = random.below(model.len() + 1);
                let count = random.below(model.len() - at + 1);
                list.remove(at, count, &settings);
                model.drain(at..at + count);
            }
        }
    }
}

#[test]
fn a_packed_collection_is_the_same_in_its_entry_and_apart() {
    for seed in 0..if cfg!(miri) { 3 } else { 300 } {
        let mut random = Random::new(seed);
        let key = vec![b'k'; [0, 1, 16, 63, 64, 65, 300][random.below(7)]];
        let (mut model, mut expires, mut access) = (Vec::new(), None, 5);
        let fresh = Content::Collection(List::new().into_collection());
        let mut entry = Entry::new(&key, fresh, expires, access);
        let mut captures = Vec::new();
        for _ in 0..150 {
            match random.below(12) {
                0 => {
                    expires = (random.below(2) == 0).then_some(UnixMillis(random.below(99) as i64));
                    entry.set_expiry(expires);
                }
                1 => {
                    access = random.below(1 << 24) as u32;
                    entry.set_access(access);
                }
                2 => {
                    let value = entry.value(&mut Tray::default()).to_value();
                    captures.push((value, model.clone()));
                }
                3 => {
                    // Out and in again, as RENAME does.
                    let Ok(collection) = entry.into_collection() else {
                        panic!("seed {seed}: a list became a string");
                    };
                    entry = Entry::new(&key, Content::Collection(collection), expires, access);
                }
                4 => {
                    let before = model.clone();
                    let panicked = catch_unwind(AssertUnwindSafe(|| {
                        entry.edit(|collection| {
                            let list = List::from_mut(collection).expect("a list");
                            change(list, &mut model, &mut random);
                            assert!(before.len() > 1 << 20, "on purpose");
                        })
                    }));
                    assert!(panicked.is_err());
                }
                _ => {
                    let before = entry.footprint();
                    let edited = entry.edit(|collection| {
                        let list = List::from_mut(collection).expect("a list");
                        change(list, &mut model, &mut random);
                    });
                    let edited = edited.expect("a collection");
                    let counted = (edited.before, edited.after);
                    assert_eq!(counted, (before, entry.footprint()), "seed {seed}");
                }
            }
            assert_eq!(elements_of(&entry), model, "seed {seed}");
            assert_eq!(entry.look().value_type(), ValueType::List);
            let head = (entry.key(), entry.expires(), entry.access());
            assert_eq!(head, (&key[..], expires, access), "seed {seed}");
            let bytes: usize = model.iter().map(Vec::len).sum();
            assert!(entry.footprint() > bytes + key.len(), "seed {seed}");
        }
        for (value, model) in captures {
            let ValueRef::Collection(collection) = value.view() else {
                panic!("seed {seed}: a capture became a string");
            };
            assert_eq!(elements(collection), model, "seed {seed}");
        }
    }
}

#[test]
fn every_packed_kind_lies_in_its_entry_and_leaves_it_when_it_is_packed_no_more() {
    let settings = CollectionSettings::new(1);
    let long = vec![b'x'; 100];
    let (mut hash, mut list, mut set, mut zset) =
        (Hash::new(), List::new(), Set::new(), Zset::new());
    hash.set(b"f", b"v", &settings);
    list.push(End::Left, b"f", &settings);
    set.insert(b"f", &settings);
    zset.set(b"f", 1.5, &settings);
    let all = [
        hash.into_collection(),
        list.into_collection(),
        set.into_collection(),
        zset.into_collection(),
    ];
    for collection in all {
        let kind = collection.value_type();
        let mut entry = Entry::new(b"key", Content::Collection(collection), None, 9);
        let lies_apart = |entry: &Entry| entry.look().collection_apart().is_some();
        assert!(!lies_apart(&entry), "{kind:?}");
        let len = entry.edit(|collection| {
            match collection {
                Collection::Hash(hash) => hash.set(&long, b"v", &settings),
                Collection::Set(set) => set.insert(&long, &settings),
                Collection::ZSet(zset) => zset.set(&long, 2.0, &settings),
                Collection::List(list) => {
                    (0..20).for_each(|_| list.push(End::Left, &long, &settings));
                    true
                }
                Collection::Stream(_) => unreachable!("none was made"),
            };
            collection.len()
        });
        let len = len.map(|edited| edited.result);
        assert_eq!(len, Some(if kind == ValueType::List { 21 } else { 2 }));
        assert!(lies_apart(&entry), "{kind:?}");
        assert_eq!((entry.key(), entry.access()), (&b"key"[..], 9));
        assert_eq!(entry.look().value_type(), kind);
    }
}

#[test]
fn a_list_that_outgrew_its_entry_comes_back() {
    let settings = CollectionSettings::new(1);
    let list = List::from_elements([&b"first"[..]], &settings);
    let mut entry = Entry::new(b"key", Content::Collection(list.into_collection()), None, 0);
    let edit = |entry: &mut Entry, change: &dyn Fn(&mut List)| {
        entry.edit(|collection| change(List::from_mut(collection).expect("a list")));
        (
            entry.look().collection_apart().is_some(),
            elements_of(entry).len(),
        )
    };
    let longer = |list: &mut List| list.push(End::Right, &[b'x'; 60], &settings);
    let mut states = Vec::new();
    (0..30).for_each(|_| states.push(edit(&mut entry, &longer)));
    assert_eq!((states[0], states[29]), ((false, 2), (true, 31)));
    let shorter = |list: &mut List| list.remove(0, 1, &settings);
    (0..28).for_each(|_| states.push(edit(&mut entry, &shorter)));
    assert_eq!(states[57], (false, 3));
}
