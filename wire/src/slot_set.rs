//! A set of slots: one bit a slot, written and read as ranges (`0-5460,10923`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::slot::{SLOT_COUNT, Slot};

const WORDS: usize = SLOT_COUNT as usize / 64;

/// A set of slots. In JSON a list of inclusive pairs: `[[0,5460],[10923,10923]]`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<(Slot, Slot)>", into = "Vec<(Slot, Slot)>")]
pub struct SlotSet {
    words: Box<[u64; WORDS]>,
}

impl SlotSet {
    pub fn new() -> SlotSet {
        SlotSet {
            words: Box::new([0; WORDS]),
        }
    }

    /// Every slot.
    pub fn full() -> SlotSet {
        SlotSet {
            words: Box::new([u64::MAX; WORDS]),
        }
    }

    #[inline]
    pub fn contains(&self, slot: Slot) -> bool {
        self.words[slot.index() / 64] >> (slot.index() % 64) & 1 == 1
    }

    /// True when the slot was not in the set before.
    pub fn insert(&mut self, slot: Slot) -> bool {
        let before = self.contains(slot);
        self.words[slot.index() / 64] |= 1 << (slot.index() % 64);
        !before
    }

    /// True when the slot was in the set before.
    pub fn remove(&mut self, slot: Slot) -> bool {
        let before = self.contains(slot);
        self.words[slot.index() / 64] &= !(1 << (slot.index() % 64));
        before
    }

    /// Adds every slot of `first..=last`; nothing when `first > last`.
    pub fn insert_range(&mut self, first: Slot, last: Slot) {
        for number in first.number()..=last.number() {
            self.words[number as usize / 64] |= 1 << (number % 64);
        }
    }

    pub fn len(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// The slots, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                if rest == 0 {
                    return None;
                }
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                Slot::new((index * 64 + bit) as u16)
            })
        })
    }

    /// The inclusive ranges that make up the set, ascending and not touching.
    pub fn ranges(&self) -> Vec<(Slot, Slot)> {
        let mut ranges: Vec<(Slot, Slot)> = Vec::new();
        for slot in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if last.next() == Some(slot) => *last = slot,
                _ => ranges.push((slot, slot)),
            }
        }
        ranges
    }

    /// The first slot at or after `from`.
    pub fn first_from(&self, from: Slot) -> Option<Slot> {
        let mut index = from.index() / 64;
        let mut word = self.words[index] & (u64::MAX << (from.index() % 64));
        loop {
            if word != 0 {
                return Slot::new((index * 64) as u16 + word.trailing_zeros() as u16);
            }
            index += 1;
            word = *self.words.get(index)?;
        }
    }

    pub fn union(&self, other: &SlotSet) -> SlotSet {
        self.combine(other, |a, b| a | b)
    }

    pub fn intersection(&self, other: &SlotSet) -> SlotSet {
        self.combine(other, |a, b| a & b)
    }

    /// What is in `self` and not in `other`.
    pub fn difference(&self, other: &SlotSet) -> SlotSet {
        self.combine(other, |a, b| a & !b)
    }

    pub fn is_disjoint(&self, other: &SlotSet) -> bool {
        self.words
            .iter()
            .zip(other.words.iter())
            .all(|(a, b)| a & b == 0)
    }

    pub fn is_subset(&self, other: &SlotSet) -> bool {
        self.words
            .iter()
            .zip(other.words.iter())
            .all(|(a, b)| a & !b == 0)
    }

    fn combine(&self, other: &SlotSet, with: impl Fn(u64, u64) -> u64) -> SlotSet {
        let mut out = SlotSet::new();
        for (index, word) in out.words.iter_mut().enumerate() {
            *word = with(self.words[index], other.words[index]);
        }
        out
    }
}

impl Default for SlotSet {
    fn default() -> SlotSet {
        SlotSet::new()
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> SlotSet {
        let mut set = SlotSet::new();
        set.extend(slots);
        set
    }
}

impl Extend<Slot> for SlotSet {
    fn extend<I: IntoIterator<Item = Slot>>(&mut self, slots: I) {
        for slot in slots {
            self.insert(slot);
        }
    }
}

impl From<Vec<(Slot, Slot)>> for SlotSet {
    fn from(ranges: Vec<(Slot, Slot)>) -> SlotSet {
        let mut set = SlotSet::new();
        for (first, last) in ranges {
            set.insert_range(first, last);
        }
        set
    }
}

impl From<SlotSet> for Vec<(Slot, Slot)> {
    fn from(set: SlotSet) -> Vec<(Slot, Slot)> {
        set.ranges()
    }
}

impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.ranges().into_iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

/// Reads `0-5460,10923`; white space around numbers is allowed, an empty text is the empty set.
impl FromStr for SlotSet {
    type Err = String;

    fn from_str(text: &str) -> Result<SlotSet, String> {
        let mut set = SlotSet::new();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (slot_from_text(first)?, slot_from_text(last)?);
            if first > last {
                return Err(format!(
                    "slot range {part} runs backwards (write {last}-{first})"
                ));
            }
            set.insert_range(first, last);
        }
        Ok(set)
    }
}

fn slot_from_text(text: &str) -> Result<Slot, String> {
    let text = text.trim();
    let number = text.parse::<u16>().ok().and_then(Slot::new);
    number.ok_or_else(|| format!("'{text}' is not a slot (0 to 16383)"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_that_is_no_slot_set_is_refused_with_the_reason() {
        assert_eq!(
            "9-3".parse::<SlotSet>(),
            Err("slot range 9-3 runs backwards (write 3-9)".into())
        );
        assert_eq!(
            "16384".parse::<SlotSet>(),
            Err("'16384' is not a slot (0 to 16383)".into())
        );
        assert_eq!(
            "x".parse::<SlotSet>(),
            Err("'x' is not a slot (0 to 16383)".into())
        );
    }

    #[test]
    fn the_full_set_is_one_range() {
        assert_eq!(SlotSet::full().to_string(), "0-16383");
        assert_eq!(SlotSet::full().len(), 16384);
    }

    proptest! {
        #[test]
        fn a_set_survives_text_and_json(numbers in prop::collection::btree_set(0u16..16384, 0..200)) {
            let set: SlotSet = numbers.iter().filter_map(|&n| Slot::new(n)).collect();
            prop_assert_eq!(set.iter().map(Slot::number).collect::<Vec<_>>(), numbers.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(&set.to_string().parse::<SlotSet>().unwrap(), &set);
            let json = serde_json::to_string(&set).unwrap();
            prop_assert_eq!(&serde_json::from_str::<SlotSet>(&json).unwrap(), &set);
            for probe in [0u16, 63, 64, 5000, 16383] {
                let expected = numbers.range(probe..).next().copied();
                prop_assert_eq!(set.first_from(Slot::new(probe).unwrap()).map(Slot::number), expected);
            }
        }

        #[test]
        fn union_difference_and_intersection_agree_with_a_tree_set(
            a in prop::collection::btree_set(0u16..300, 0..100),
            b in prop::collection::btree_set(0u16..300, 0..100),
        ) {
            let make = |s: &std::collections::BTreeSet<u16>| s.iter().filter_map(|&n| Slot::new(n)).collect::<SlotSet>();
            let (sa, sb) = (make(&a), make(&b));
            prop_assert_eq!(sa.union(&sb), make(&a.union(&b).copied().collect()));
            prop_assert_eq!(sa.intersection(&sb), make(&a.intersection(&b).copied().collect()));
            prop_assert_eq!(sa.difference(&sb), make(&a.difference(&b).copied().collect()));
            prop_assert_eq!(sa.is_disjoint(&sb), a.is_disjoint(&b));
            prop_assert_eq!(sa.is_subset(&sb), a.is_subset(&b));
        }
    }
}
