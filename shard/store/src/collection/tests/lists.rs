use std::collections::VecDeque;

use super::super::settings::ListPackedMax;
use super::super::{Budget, CollectionSettings, End, List};
use super::{any_text, for_seeds};

fn check(list: &List, model: &VecDeque<Vec<u8>>) {
    assert_eq!(list.len(), model.len());
    assert!(
        list.iter()
            .map(|item| item.to_vec())
            .eq(model.iter().cloned())
    );
    if let List::Chunks(chunks) = list {
        assert_eq!(
            chunks.survey().0,
            chunks.heap_bytes(),
            "bytes are counted wrong"
        );
    }
}

#[test]
fn a_list_is_a_deque_and_captures_do_not_see_later_writes() {
    for_seeds(24, |random| {
        let mut settings = CollectionSettings::new(1);
        if random.below(3) == 0 {
            settings.list_packed_max = ListPackedMax::Entries(1 + random.below(20));
        }
        let settings = &settings;
        let (mut list, mut model) = (List::new(), VecDeque::new());
        let mut captures = Vec::new();
        for step in 0..1200 {
            let text = any_text(random);
            let index = random.below(model.len() + 1);
            match random.below(if step < 800 { 10 } else { 14 }) {
                0..3 => {
                    list.push(End::Left, &text, settings);
                    model.push_front(text);
                }
                3..6 => {
                    list.push(End::Right, &text, settings);
                    model.push_back(text);
                }
                6..8 => {
                    list.insert(index, &text, settings);
                    model.insert(index, text);
                }
                8 if index < model.len() => {
                    list.set(index, &text, settings);
                    model[index] = text;
                }
                9 if index < model.len() => {
                    let (element, limit) = (model[index].clone(), 1 + random.below(3));
                    let end = [End::Left, End::Right][random.below(2)];
                    let removed = list.remove_matching(&element, limit, end, settings);
                    let mut places: Vec<_> = (0..model.len())
                        .filter(|at| model[*at] == element)
                        .collect();
                    if end == End::Right {
                        places.reverse();
                    }
                    places.truncate(limit);
                    assert_eq!(removed, places.len());
                    places.sort_unstable();
                    places.iter().rev().for_each(|at| drop(model.remove(*at)));
                }
                10.. => {
                    let count = random.below(30).min(model.len() - index);
                    list.remove(index, count, settings);
                    model.drain(index..index + count);
                }
                _ => captures.push((list.clone(), model.clone())),
            }
            let at = random.below(model.len() + 2);
            assert_eq!(
                list.get(at).map(|item| item.to_vec()),
                model.get(at).cloned()
            );
            if step % 40 == 0 {
                check(&list, &model);
                let back = list.iter_back_from(at).map(|item| item.to_vec());
                assert!(back.eq(model.iter().take(at + 1).rev().cloned()));
                assert!(
                    list.iter_from(at)
                        .map(|item| item.to_vec())
                        .eq(model.iter().skip(at).cloned())
                );
            }
        }
        check(&list, &model);
        captures.iter().for_each(|(list, model)| check(list, model));
    });
}

#[test]
fn elements_pushed_in_order_fill_their_chunks() {
    let settings = CollectionSettings::new(1);
    for end in [End::Left, End::Right] {
        let mut list = List::new();
        (0..100_000).for_each(|_| list.push(end, &[b'x'; 60], &settings));
        assert!(matches!(list, List::Chunks(_)));
        let plain = 100_000 * 63;
        assert!(
            list.heap_bytes() < plain * 5 / 4,
            "{} bytes for {plain}",
            list.heap_bytes()
        );
    }
}

#[test]
fn a_list_that_shrinks_to_half_a_chunk_is_packed_again() {
    let settings = CollectionSettings::new(1);
    let mut list = List::new();
    (0..300).for_each(|_| list.push(End::Right, &[b'x'; 60], &settings));
    assert!(matches!(list, List::Chunks(_)));
    list.remove(10, 280, &settings);
    assert!(matches!(list, List::Packed(_)));
    assert_eq!((list.encoding(), list.len()), ("quicklist", 20));
}

#[test]
fn pieces_of_a_list_put_together_are_the_list() {
    for_seeds(4, |random| {
        let settings = CollectionSettings::new(1);
        let mut list = List::new();
        (0..700).for_each(|_| list.push(End::Right, &any_text(random), &settings));
        let (mut copy, mut from) = (List::new(), Some(0));
        while let Some(place) = from {
            from = list.piece(place, Budget::new(64, 9000), |item| {
                copy.push(End::Right, &item.to_vec(), &settings)
            });
        }
        assert!(copy.iter().eq(list.iter()));
    });
}
