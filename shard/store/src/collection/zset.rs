//! A sorted set: members with scores, ordered by score, then by member. Packed as member, score, member, score, … in order;
//! a structure of its own once large (`ranked.rs`).

use larder_wire::float::DOUBLE_TEXT_BYTES_MAX;

use super::either::Either;
use super::item::{Item, distinct};
use super::packed::{At, Packed};
use super::pieces::Budget;
use super::ranked::Ranked;
use super::score::{packed_score, unpacked_score};
use super::settings::CollectionSettings;

#[derive(Clone)]
pub enum Zset {
    Packed(Packed),
    Ranked(Box<Ranked>),
}

impl Default for Zset {
    fn default() -> Zset {
        Zset::Packed(Packed::new())
    }
}

impl Zset {
    pub fn new() -> Zset {
        Zset::default()
    }

    /// Later scores of a member replace earlier ones.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a [u8], f64)>,
        settings: &CollectionSettings,
    ) -> Zset {
        let mut zset = Zset::new();
        for (member, score) in pairs {
            zset.set(member, score, settings);
        }
        zset
    }

    /// A sorted set of alternating members and scores as they lie in a dump; `None` when they are not in order, a member
    /// comes twice, or something is no score.
    pub fn from_packed(packed: Packed, settings: &CollectionSettings) -> Option<Zset> {
        let len = packed.len();
        if len == 0 || !len.is_multiple_of(2) {
            return None;
        }
        let mut items = packed.iter();
        let (mut before, mut short): (Option<(Item<'_>, f64)>, bool) = (None, true);
        while let (Some(member), Some(score)) = (items.next(), items.next()) {
            let score = unpacked_score(score)?;
            let in_order = before.is_none_or(|(other, least)| {
                let text = |item: Item<'_>| item.to_vec();
                least < score || (least == score && text(other) < text(member))
            });
            if !in_order {
                return None;
            }
            short &= member.len() <= settings.zset_value_bytes_max;
            before = Some((member, score));
        }
        if !distinct(packed.iter().step_by(2)) {
            return None;
        }
        let stays = short && len / 2 <= settings.zset_entries_max;
        let mut zset = Zset::Packed(packed);
        if !stays {
            zset.unpack(settings);
        }
        Some(zset)
    }

    /// Members.
    pub fn len(&self) -> usize {
        match self {
            Zset::Packed(packed) => packed.len() / 2,
            Zset::Ranked(ranked) => ranked.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn heap_bytes(&self) -> usize {
        match self {
            Zset::Packed(packed) => packed.heap_bytes(),
            Zset::Ranked(ranked) => super::mem::block(size_of::<Ranked>()) + ranked.heap_bytes(),
        }
    }

    /// As OBJECT ENCODING names it.
    pub fn encoding(&self) -> &'static str {
        match self {
            Zset::Packed(_) => "listpack",
            Zset::Ranked(_) => "skiplist",
        }
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match self {
            Zset::Packed(packed) => {
                let at = packed.find(packed.start(), member, 1)?;
                Some(score_at(packed, packed.next(at)))
            }
            Zset::Ranked(ranked) => ranked.score(member),
        }
    }

    /// Gives `member` this score (never NaN); true when the member was not there.
    pub fn set(&mut self, member: &[u8], score: f64, settings: &CollectionSettings) -> bool {
        self.put(member, score, settings).is_none()
    }

    /// As [`Zset::set`]: the score that the member had.
    pub fn put(&mut self, member: &[u8], score: f64, settings: &CollectionSettings) -> Option<f64> {
        debug_assert!(!score.is_nan());
        match self {
            Zset::Packed(packed) => {
                if let Some(at) = packed.find(packed.start(), member, 1) {
                    let old = score_at(packed, packed.next(at));
                    if old != score {
                        rescore_packed(packed, at, member, old, score);
                    }
                    return Some(old);
                }
                insert_packed(packed, member, score);
                if member.len() > settings.zset_value_bytes_max
                    || packed.len() / 2 > settings.zset_entries_max
                {
                    self.unpack(settings);
                }
                None
            }
            Zset::Ranked(ranked) => ranked.put(member, score),
        }
    }

    /// The score that the member had.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match self {
            Zset::Packed(packed) => {
                let at = packed.find(packed.start(), member, 1)?;
                let score = score_at(packed, packed.next(at));
                packed.remove(at, 2);
                Some(score)
            }
            Zset::Ranked(ranked) => ranked.remove(member),
        }
    }

    /// How many members come before this one.
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match self {
            Zset::Packed(packed) => {
                let at = packed.find(packed.start(), member, 1)?;
                let before = packed.iter_to(at).count() / 2;
                Some((before, score_at(packed, packed.next(at))))
            }
            Zset::Ranked(ranked) => ranked.rank(member),
        }
    }

    /// How many members come first with scores that `before` is true of.
    pub fn count_scores(&self, before: impl Fn(f64) -> bool) -> usize {
        match self {
            Zset::Packed(_) => self.iter().take_while(|(_, score)| before(*score)).count(),
            Zset::Ranked(ranked) => ranked.count_scores(before),
        }
    }

    /// How many members come first that `before` is true of; for sets whose scores are all the same.
    pub fn count_members(&self, before: impl Fn(&[u8]) -> bool) -> usize {
        match self {
            Zset::Packed(_) => self
                .iter()
                .take_while(|(member, _)| before(member.text(&mut [0; 20])))
                .count(),
            Zset::Ranked(ranked) => ranked.count_members(before),
        }
    }

    /// The member at rank `at`.
    pub fn at(&self, at: usize) -> (Item<'_>, f64) {
        self.iter_from(at).next().expect("a rank below the length")
    }

    pub fn iter(&self) -> impl Iterator<Item = (Item<'_>, f64)> {
        self.iter_from(0)
    }

    /// The members from rank `from` on.
    pub fn iter_from(&self, from: usize) -> impl Iterator<Item = (Item<'_>, f64)> {
        match self {
            Zset::Packed(packed) => {
                let mut items = packed.iter_from(packed.seek(from * 2));
                Either::One(std::iter::from_fn(move || {
                    Some((items.next()?, known_score(items.next()?)))
                }))
            }
            Zset::Ranked(ranked) => Either::Other(
                ranked
                    .iter_from(from)
                    .map(|(member, score)| (Item::Bytes(member), score)),
            ),
        }
    }

    /// The members from rank `from` on, backwards.
    pub fn iter_back_from(&self, from: usize) -> impl Iterator<Item = (Item<'_>, f64)> {
        match self {
            Zset::Packed(packed) => {
                let mut items = packed.iter_to(packed.seek((from + 1) * 2)).rev();
                Either::One(std::iter::from_fn(move || {
                    let score = known_score(items.next()?);
                    Some((items.next()?, score))
                }))
            }
            Zset::Ranked(ranked) => Either::Other(
                ranked
                    .iter_back_from(from)
                    .map(|(member, score)| (Item::Bytes(member), score)),
            ),
        }
    }

    /// Takes out `count` members from rank `at` on.
    pub fn remove_ranks(&mut self, at: usize, count: usize) {
        match self {
            Zset::Packed(packed) => {
                let place = packed.seek(at * 2);
                packed.remove(place, count * 2);
            }
            Zset::Ranked(ranked) => ranked.remove_ranks(at, count),
        }
    }

    /// Shows about `count` members from `cursor` on (all of them when packed) and returns the cursor that goes on; 0
    /// begins and ends.
    pub fn scan<'a>(
        &'a self,
        cursor: u64,
        count: usize,
        mut show: impl FnMut(Item<'a>, f64),
    ) -> u64 {
        match self {
            Zset::Packed(_) => {
                self.iter().for_each(|(member, score)| show(member, score));
                0
            }
            Zset::Ranked(ranked) => ranked.scan(cursor, count, |member, score| {
                show(Item::Bytes(member), score)
            }),
        }
    }

    /// Shows the members from rank `from` on until `budget` is spent, at least one: the rank to go on from, `None` at the end.
    pub fn piece<'a>(
        &'a self,
        from: usize,
        mut budget: Budget,
        mut show: impl FnMut(Item<'a>, f64),
    ) -> Option<usize> {
        for (place, (member, score)) in (from..).zip(self.iter_from(from)) {
            if !budget.takes(member.len() + size_of::<f64>()) {
                return Some(place);
            }
            show(member, score);
        }
        None
    }

    /// Throws away about `limit` members; true once nothing is left.
    pub fn free_some(&mut self, limit: usize) -> bool {
        match self {
            Zset::Packed(packed) => {
                *packed = Packed::new();
                true
            }
            Zset::Ranked(ranked) => ranked.free_some(limit),
        }
    }

    fn unpack(&mut self, settings: &CollectionSettings) {
        let Zset::Packed(packed) = self else { return };
        let mut ranked = Ranked::new(&settings.hasher);
        let mut items = packed.iter();
        while let (Some(member), Some(score)) = (items.next(), items.next()) {
            ranked.put(member.text(&mut [0; 20]), known_score(score));
        }
        *self = Zset::Ranked(Box::new(ranked));
    }
}

/// Puts a member that is not there where it belongs.
fn insert_packed(packed: &mut Packed, member: &[u8], score: f64) {
    let at = place_of(packed, packed.start(), member, score);
    packed.insert(at, member);
    let after = packed.next(at);
    packed.insert_item(after, packed_score(score, &mut [0; DOUBLE_TEXT_BYTES_MAX]));
}

/// Gives the member at `at` another score than `old`, and moves it to where it then belongs.
fn rescore_packed(packed: &mut Packed, at: At, member: &[u8], old: f64, score: f64) {
    // The member itself is on the way of neither search.
    let from = if score < old {
        packed.start()
    } else {
        packed.next(packed.next(at))
    };
    let to = place_of(packed, from, member, score);
    let at = packed.shift(at, 2, to);
    let its_score = packed.next(at);
    packed.replace_item(
        its_score,
        packed_score(score, &mut [0; DOUBLE_TEXT_BYTES_MAX]),
    );
}

/// The first place from `from` on where a member comes that belongs behind this one.
fn place_of(packed: &Packed, from: At, member: &[u8], score: f64) -> At {
    let mut at = from;
    while let Some((other, its_score)) = packed.step(at) {
        let (theirs, next) = packed
            .step(its_score)
            .expect("a score follows every member");
        let theirs = known_score(theirs);
        if theirs > score || (theirs == score && other.text(&mut [0; 20]) > member) {
            break;
        }
        at = next;
    }
    at
}

fn score_at(packed: &Packed, at: At) -> f64 {
    known_score(packed.get(at).expect("a score follows every member"))
}

fn known_score(item: Item<'_>) -> f64 {
    unpacked_score(item).expect("a packed score is a double")
}
