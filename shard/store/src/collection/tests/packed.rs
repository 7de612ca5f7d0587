use super::super::intset::IntSet;
use super::super::packed::{At, Packed};
use super::{any_text, for_seeds};
use std::collections::BTreeSet;

fn texts(packed: &Packed) -> Vec<Vec<u8>> {
    packed.iter().map(|item| item.to_vec()).collect()
}

fn check(packed: &Packed, model: &[Vec<u8>]) {
    assert_eq!(texts(packed), model);
    assert_eq!(packed.len(), model.len());
    assert_eq!(packed.is_empty(), model.is_empty());
    let mut back: Vec<_> = packed.iter().rev().map(|item| item.to_vec()).collect();
    back.reverse();
    assert_eq!(back, model);
    let mut blob = Vec::new();
    packed.write_listpack(&mut blob);
    assert_eq!(blob.len(), packed.byte_len());
    let again = Packed::from_listpack(&blob).expect("well-formed");
    assert!(again == *packed);
}

#[test]
fn a_packed_buffer_is_a_sequence() {
    for_seeds(60, |random| {
        let (mut packed, mut model) = (Packed::new(), Vec::<Vec<u8>>::new());
        for _ in 0..120 {
            let text = any_text(random);
            let index = random.below(model.len() + 1);
            let at: At = packed.seek(index);
            match random.below(10) {
                0..4 => {
                    packed.insert(at, &text);
                    model.insert(index, text);
                }
                4 if index < model.len() => {
                    packed.replace(at, &text);
                    model[index] = text;
                }
                5 => {
                    let count = random.below(4);
                    let removed = packed.remove(at, count);
                    assert_eq!(removed, count.min(model.len() - index));
                    model.drain(index..index + removed);
                }
                6 => {
                    let tail = packed.split_off(at);
                    let model_tail = model.split_off(index);
                    check(&packed, &model);
                    check(&tail, &model_tail);
                    packed.append(&tail);
                    model.extend(model_tail);
                }
                7 if index < model.len() => {
                    let found = packed
                        .find(packed.start(), &model[index], 0)
                        .expect("it is there");
                    let first = model.iter().position(|other| *other == model[index]);
                    assert_eq!(Some(packed.iter_to(found).count()), first);
                    assert_eq!(packed.iter_from(at).count(), model.len() - index);
                }
                8 if index < model.len() => {
                    let count = 1 + random.below(model.len() - index);
                    let behind = index + count;
                    let place = match random.below(2) {
                        0 => random.below(index + 1),
                        _ => behind + random.below(model.len() - behind + 1),
                    };
                    let moved: Vec<_> = model.drain(index..index + count).collect();
                    let to = packed.seek(place);
                    let begins = if place <= index { place } else { place - count };
                    model.splice(begins..begins, moved);
                    let shifted = packed.shift(at, count, to);
                    assert_eq!(packed.iter_to(shifted).count(), begins);
                }
                _ => {
                    packed.push_back(&text);
                    model.push(text);
                }
            }
            check(&packed, &model);
        }
    });
}

#[test]
fn a_damaged_listpack_is_refused_or_still_a_listpack() {
    for_seeds(200, |random| {
        let mut packed = Packed::new();
        for _ in 0..random.below(12) {
            packed.push_back(&any_text(random));
        }
        let mut blob = Vec::new();
        packed.write_listpack(&mut blob);
        for _ in 0..1 + random.below(3) {
            let at = random.below(blob.len());
            blob[at] = random.next_u64() as u8;
        }
        if random.below(4) == 0 {
            blob.truncate(random.below(blob.len()));
        }
        if let Some(packed) = Packed::from_listpack(&blob) {
            check(&packed, &texts(&packed));
        }
    });
}

#[test]
fn more_elements_than_the_header_counts_are_counted() {
    let mut packed = Packed::new();
    for _ in 0..65_600 {
        packed.push_back(b"1");
    }
    assert_eq!(packed.len(), 65_600);
    packed.remove(packed.start(), 100);
    assert_eq!(packed.len(), 65_500);
    packed.push_back(b"2");
    assert_eq!(packed.len(), 65_501);
}

#[test]
fn an_intset_is_a_sorted_set_of_integers() {
    for_seeds(60, |random| {
        let (mut ints, mut model) = (IntSet::new(), BTreeSet::new());
        for _ in 0..300 {
            let value = (random.next_u64() as i64) >> [60, 50, 40, 10][random.below(4)];
            match random.below(4) {
                0 => assert_eq!(ints.remove(value), model.remove(&value)),
                _ => assert_eq!(ints.insert(value), model.insert(value)),
            }
            assert_eq!(ints.contains(value), model.contains(&value));
        }
        assert!(ints.iter().eq(model.iter().copied()));
        let mut blob = Vec::new();
        ints.write_intset(&mut blob);
        assert_eq!(blob.len(), ints.intset_len());
        assert_eq!(IntSet::from_intset(&blob).as_ref(), Some(&ints));
    });
}
