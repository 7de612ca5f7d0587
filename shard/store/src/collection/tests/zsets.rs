use std::collections::{BTreeMap, BTreeSet};

use super::super::{CollectionSettings, Item, Zset};
use super::for_seeds;

/// Scores in steps of a half, so that they sort as the integers they are doubled to.
#[derive(Clone, Default)]
struct Model {
    scores: BTreeMap<Vec<u8>, i64>,
    order: BTreeSet<(i64, Vec<u8>)>,
}

impl Model {
    fn set(&mut self, member: &[u8], doubled: i64) -> bool {
        let old = self.remove(member);
        self.scores.insert(member.to_vec(), doubled);
        self.order.insert((doubled, member.to_vec()));
        old.is_none()
    }

    fn remove(&mut self, member: &[u8]) -> Option<i64> {
        let old = self.scores.remove(member)?;
        self.order.remove(&(old, member.to_vec()));
        Some(old)
    }
}

fn check(zset: &Zset, model: &Model) {
    assert_eq!(zset.len(), model.order.len());
    let pairs = |(member, score): (Item<'_>, f64)| ((score * 2.0) as i64, member.to_vec());
    assert!(zset.iter().map(pairs).eq(model.order.iter().cloned()));
    if let Some(last) = zset.len().checked_sub(1) {
        assert!(
            zset.iter_back_from(last)
                .map(pairs)
                .eq(model.order.iter().rev().cloned())
        );
    }
    if let Zset::Ranked(ranked) = zset {
        assert_eq!(ranked.heap_bytes(), ranked.survey());
    }
}

#[test]
fn a_sorted_set_keeps_order_and_ranks_and_captures_do_not_see_later_writes() {
    for_seeds(16, |random| {
        let settings = CollectionSettings::new(1);
        let (mut zset, mut model) = (Zset::new(), Model::default());
        let mut captures = Vec::new();
        let most = [100, 3000][random.below(2)];
        let (members, scores) = (1 + random.below(most), [1, 5, 100_000][random.below(3)]);
        for step in 0..4000 {
            let member = format!("m{}", random.below(members)).into_bytes();
            match random.below(if step < 2500 { 12 } else { 20 }) {
                0..9 => {
                    let doubled = random.below(scores) as i64 - scores as i64 / 2;
                    let added = zset.set(&member, doubled as f64 / 2.0, &settings);
                    assert_eq!(added, model.set(&member, doubled));
                }
                9 if !model.order.is_empty() => {
                    let at = random.below(model.order.len());
                    let count = random.below(20).min(model.order.len() - at);
                    zset.remove_ranks(at, count);
                    let gone: Vec<_> = model.order.iter().skip(at).take(count).cloned().collect();
                    gone.iter()
                        .for_each(|(_, member)| assert!(model.remove(member).is_some()));
                }
                10 if random.below(60) == 0 => captures.push((zset.clone(), model.clone())),
                _ => {
                    let removed = zset.remove(&member).map(|score| (score * 2.0) as i64);
                    assert_eq!(removed, model.remove(&member));
                }
            }
            assert_eq!(
                zset.score(&member).map(|score| (score * 2.0) as i64),
                model.scores.get(&member).copied()
            );
            if step % 50 == 0 {
                if let Some(&doubled) = model.scores.get(&member) {
                    let rank = model.order.range(..(doubled, member.clone())).count();
                    assert_eq!(zset.rank(&member), Some((rank, doubled as f64 / 2.0)));
                }
                let bound = random.below(scores) as i64 - scores as i64 / 2;
                let below = model
                    .order
                    .iter()
                    .filter(|(doubled, _)| *doubled < bound)
                    .count();
                assert_eq!(zset.count_scores(|score| score * 2.0 < bound as f64), below);
                let from = random.below(model.order.len() + 1);
                assert_eq!(zset.iter_from(from).count(), model.order.len() - from);
            }
        }
        check(&zset, &model);
        captures.iter().for_each(|(zset, model)| check(zset, model));
    });
}

#[test]
fn members_of_one_score_are_found_by_name_order() {
    let settings = CollectionSettings::new(1);
    for members in [100, 5000] {
        let mut zset = Zset::new();
        (0..members).for_each(|n| assert!(zset.set(format!("{n:05}").as_bytes(), 0.0, &settings)));
        for bound in [0, 1, members / 2, members] {
            let text = format!("{bound:05}");
            assert_eq!(zset.count_members(|member| member < text.as_bytes()), bound);
        }
    }
}

#[test]
fn scores_survive_their_packed_text() {
    let settings = CollectionSettings::new(1);
    let scores = [
        0.1,
        -0.1,
        1e300,
        -1e-300,
        5e-324,
        f64::MAX,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1e17,
        123456789012345680.0,
        9007199254740993.0,
        3.0,
        -4096.0,
        1.5e-7,
        0.30000000000000004,
    ];
    let mut zset = Zset::new();
    for (number, score) in scores.iter().enumerate() {
        zset.set(format!("m{number}").as_bytes(), *score, &settings);
    }
    assert_eq!(zset.encoding(), "listpack");
    for (number, score) in scores.iter().enumerate() {
        assert_eq!(zset.score(format!("m{number}").as_bytes()), Some(*score));
    }
}

#[test]
fn a_dumped_sorted_set_is_taken_only_in_order_and_without_doubles() {
    use super::super::Packed;
    let settings = CollectionSettings::new(1);
    let taken = |elements: &[&str]| {
        let packed: Packed = elements.iter().collect();
        Zset::from_packed(packed, &settings).map(|zset| zset.len())
    };
    assert_eq!(taken(&["a", "1", "b", "1", "a2", "2.5"]), Some(3));
    let refused: [&[&str]; 6] = [
        &[],
        &["a"],
        &["a", "x"],
        &["b", "1", "a", "1"],
        &["a", "2", "b", "1"],
        &["a", "1", "a", "2"],
    ];
    for elements in refused {
        assert_eq!(taken(elements), None, "{elements:?}");
    }
    let long = "m".repeat(65);
    let packed: Packed = [long.as_str(), "1"].iter().collect();
    let zset = Zset::from_packed(packed, &settings).expect("in order");
    assert_eq!(
        (zset.encoding(), zset.score(long.as_bytes())),
        ("skiplist", Some(1.0))
    );
}

#[test]
fn a_scan_shows_whatever_stays_while_scores_change() {
    for_seeds(12, |random| {
        let settings = CollectionSettings::new(1);
        let mut zset = Zset::new();
        let scores = [1, 5, 40, 100_000][random.below(4)];
        let name = |n: usize| format!("m{n}").into_bytes();
        let members = 500 + random.below(2500);
        for n in 0..members {
            zset.set(&name(n), random.below(scores) as f64, &settings);
        }
        let (mut cursor, mut shown, mut gone) = (0, BTreeSet::new(), BTreeSet::new());
        loop {
            cursor = zset.scan(cursor, 10, |member, score| {
                let member = member.to_vec();
                assert_eq!(zset.score(&member), Some(score));
                shown.insert(member);
            });
            if cursor == 0 {
                break;
            }
            for _ in 0..20 {
                let n = random.below(members * 2);
                if random.below(4) == 0 {
                    zset.remove(&name(n));
                    gone.insert(n);
                } else {
                    zset.set(&name(n), random.below(scores) as f64, &settings);
                }
            }
        }
        let missed = (0..members).find(|n| !gone.contains(n) && !shown.contains(&name(*n)));
        assert_eq!(missed, None, "of {members} members with {scores} scores");
    });
}

#[test]
fn names_are_held_twice_only_where_many_members_share_a_score() {
    let settings = CollectionSettings::new(1);
    let filled = |scores: usize| {
        let mut zset = Zset::new();
        (0..3000).for_each(|n| {
            zset.set(format!("m{n}").as_bytes(), (n % scores) as f64, &settings);
        });
        match zset {
            Zset::Ranked(ranked) => ranked.crowded_len(),
            Zset::Packed(_) => panic!("3000 members are too many for the packed form"),
        }
    };
    assert_eq!((filled(3000), filled(100), filled(30)), (0, 0, 3000));
}

#[test]
fn members_whose_hashes_are_alike_are_told_apart() {
    let settings = CollectionSettings::new(1);
    let name = |n: usize| format!("member:{n}").into_bytes();
    let mut hashes = BTreeMap::new();
    let mut pairs = Vec::new();
    for n in 0..400_000 {
        let hash = (settings.hasher.hash(&name(n)) >> 32) as u32;
        if let Some(other) = hashes.insert(hash, n) {
            pairs.push((other, n));
        }
    }
    assert!(!pairs.is_empty(), "so many names have hashes in common");
    for (one, other) in pairs {
        let (one, other) = (name(one), name(other));
        for (its_score, others) in [(1.0, 1.0), (1.0, 2.0), (0.0, -0.0)] {
            let mut zset = Zset::new();
            (0..200).for_each(|n| assert!(zset.set(&name(n), 5.0, &settings)));
            assert!(zset.set(&one, its_score, &settings));
            assert_eq!((zset.score(&other), zset.remove(&other)), (None, None));
            assert!(zset.set(&other, others, &settings));
            let seen = |zset: &Zset| {
                let mut seen = Vec::new();
                assert_eq!(
                    zset.scan(0, 1000, |member, _| seen.push(member.to_vec())),
                    0
                );
                (seen.contains(&one), seen.contains(&other), seen.len())
            };
            assert_eq!(seen(&zset), (true, true, 202));
            let scores = [&one, &other].map(|member| zset.score(member).map(f64::to_bits));
            assert_eq!(
                scores,
                [its_score, others].map(|score: f64| Some(score.to_bits()))
            );
            zset.set(&one, 7.0, &settings);
            assert_eq!(
                (zset.score(&one), zset.score(&other)),
                (Some(7.0), Some(others))
            );
            assert_eq!(zset.remove(&one), Some(7.0));
            assert_eq!(seen(&zset), (false, true, 201));
        }
    }
}
