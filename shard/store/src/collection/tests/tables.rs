use std::collections::{HashMap, HashSet};

use super::super::{Budget, CollectionSettings, Hash, Set, settings::Hasher, table::Table};
use super::for_seeds;

fn contents(table: &Table) -> HashMap<Vec<u8>, Vec<u8>> {
    let all: HashMap<_, _> = table
        .iter_from(0)
        .map(|(name, tail)| (name.to_vec(), tail.to_vec()))
        .collect();
    assert_eq!(all.len(), table.len(), "a name comes twice");
    all
}

fn check_bytes(table: &Table) {
    assert_eq!(
        table.survey().0,
        table.heap_bytes(),
        "bytes are counted wrong"
    );
}

#[test]
fn a_table_is_a_map_and_captures_do_not_see_later_writes() {
    for_seeds(12, |random| {
        let mut table = Table::new(&Hasher::new(random.next_u64()));
        let mut model = HashMap::new();
        let mut captures = Vec::new();
        let names = 1 + random.below(4000);
        for step in 0..6000 {
            // Grow, then shrink, so that splits and joins both happen.
            let removes = if step < 3000 { 1 } else { 7 };
            let name = format!("name:{}", random.below(names)).into_bytes();
            if random.below(10) < removes {
                assert_eq!(table.remove(&name), model.remove(&name).is_some());
            } else {
                let len = if random.below(200) == 0 {
                    30_000
                } else {
                    random.below(40)
                };
                let tail = vec![random.next_u64() as u8; len];
                assert_eq!(
                    table.set(&name, &tail),
                    model.insert(name.clone(), tail).is_none()
                );
            }
            assert_eq!(table.get(&name), model.get(&name).map(Vec::as_slice));
            if random.below(700) == 0 {
                captures.push((table.clone(), model.clone()));
                check_bytes(&table);
            }
        }
        check_bytes(&table);
        assert_eq!(contents(&table), model);
        for (capture, then) in captures {
            assert_eq!(contents(&capture), then);
        }
    });
}

#[test]
fn a_write_after_a_capture_copies_a_handful_of_nodes() {
    let mut table = Table::new(&Hasher::new(1));
    for number in 0..200_000u32 {
        table.set(&number.to_le_bytes(), b"value");
    }
    let all = table.survey().1;
    assert!(all > 200_000 / 128, "chunks are small: {all}");
    let capture = table.clone();
    table.set(&7u32.to_le_bytes(), b"other");
    assert!(table.survey().1 <= 5, "{} nodes copied", table.survey().1);
    assert_eq!(capture.get(&7u32.to_le_bytes()), Some(&b"value"[..]));
}

#[test]
fn a_scan_shows_all_that_stays_while_the_table_grows_and_shrinks() {
    for_seeds(10, |random| {
        let mut table = Table::new(&Hasher::new(random.next_u64()));
        let stays: HashSet<Vec<u8>> = (0..3000)
            .map(|n| format!("stays{n}").into_bytes())
            .collect();
        stays.iter().for_each(|name| assert!(table.set(name, b"")));
        let (mut seen, mut cursor) = (HashSet::new(), 0);
        loop {
            cursor = table.scan(cursor, 1 + random.below(50), |name, _| {
                seen.insert(name.to_vec());
            });
            for _ in 0..random.below(400) {
                let name = format!("comes and goes{}", random.below(9000)).into_bytes();
                if !table.remove(&name) {
                    table.set(&name, b"");
                }
            }
            if cursor == 0 {
                break;
            }
        }
        assert!(stays.is_subset(&seen));
    });
}

#[test]
fn hashes_keep_their_pairs_through_both_forms_and_leave_the_packed_one_at_its_limits() {
    let settings = CollectionSettings::new(3);
    let mut hash = Hash::new();
    for number in 0..128 {
        assert!(hash.set(format!("f{number}").as_bytes(), &[b'v'; 64], &settings));
    }
    assert_eq!(hash.encoding(), "listpack");
    assert!(!hash.set(b"f0", b"12", &settings));
    assert!(hash.set(b"f128", b"", &settings));
    assert_eq!(hash.encoding(), "hashtable");
    assert_eq!(
        hash.get(b"f0").map(|item| item.to_vec()),
        Some(b"12".to_vec())
    );
    assert_eq!(hash.len(), 129);
    let mut other = Hash::new();
    other.set(b"f", &[b'v'; 65], &settings);
    assert_eq!(other.encoding(), "hashtable");
}

#[test]
fn sets_go_from_integers_to_packed_to_table() {
    let settings = CollectionSettings::new(3);
    let mut set = Set::new();
    (0..20).for_each(|n: i32| assert!(set.insert(n.to_string().as_bytes(), &settings)));
    assert_eq!(set.encoding(), "intset");
    assert!(set.insert(b"x", &settings) && !set.insert(b"19", &settings));
    assert!(matches!(set, Set::Packed(_)));
    assert!(set.insert(&[b'x'; 65], &settings));
    assert!(matches!(set, Set::Table(_)));
    assert_eq!(set.encoding(), "hashtable");
    assert_eq!(set.len(), 22);
    let mut ints = Set::new();
    (0..513).for_each(|n: i32| assert!(ints.insert(n.to_string().as_bytes(), &settings)));
    assert_eq!(ints.encoding(), "hashtable");
    assert!(ints.contains(b"512") && !ints.contains(b"513"));
}

#[test]
fn pieces_of_a_capture_put_together_are_the_whole() {
    let settings = CollectionSettings::new(3);
    for fields in [1, 100, 5000] {
        let mut hash = Hash::new();
        for number in 0..fields {
            hash.set(
                format!("f{number}").as_bytes(),
                &vec![b'v'; number % 300],
                &settings,
            );
        }
        let capture = hash.clone();
        (0..fields).for_each(|n| assert!(hash.remove(format!("f{n}").as_bytes())));
        let (mut copy, mut from, mut pieces) = (Hash::new(), Some(0), 0);
        while let Some(place) = from {
            let (mut elements, mut bytes) = (0, 0);
            from = capture.piece(place, Budget::new(50, 4000), |field, value| {
                copy.set(&field.to_vec(), &value.to_vec(), &settings);
                elements += 1;
                bytes += field.len() + value.len();
            });
            pieces += 1;
            assert!(elements > 0 && elements <= 50 && bytes <= 4000);
        }
        assert_eq!(copy.len(), fields);
        assert!(pieces >= fields / 50);
        assert!(capture.iter().all(
            |(field, value)| copy.get(&field.to_vec()).map(|v| v.to_vec()) == Some(value.to_vec())
        ));
    }
}

#[test]
fn a_large_hash_is_thrown_away_in_steps() {
    let settings = CollectionSettings::new(3);
    let mut hash = Hash::new();
    (0..20_000).for_each(|n: i32| assert!(hash.set(&n.to_le_bytes(), b"value", &settings)));
    let capture = hash.clone();
    let mut alone = capture.clone();
    assert!(alone.free_some(1000), "what a capture shares goes at once");
    drop(hash);
    let (mut last, mut steps) = (capture, 1);
    while !last.free_some(1000) {
        steps += 1;
    }
    assert!((15..=20).contains(&steps), "{steps} steps");
    assert!(last.is_empty());
}
