//! A set: integers in a sorted buffer, few short members in a packed one, a table once large.

use super::either::Either;
use super::intset::IntSet;
use super::item::Item;
use super::packed::Packed;
use super::pieces::Budget;
use super::settings::CollectionSettings;
use super::table::Table;
use crate::number::parse_i64;

#[derive(Clone)]
pub enum Set {
    Ints(IntSet),
    Packed(Packed),
    Table(Table),
}

impl Default for Set {
    fn default() -> Set {
        Set::Ints(IntSet::new())
    }
}

impl Set {
    pub fn new() -> Set {
        Set::default()
    }

    pub fn from_members<'a>(
        members: impl IntoIterator<Item = &'a [u8]>,
        settings: &CollectionSettings,
    ) -> Set {
        let mut set = Set::new();
        for member in members {
            set.insert(member, settings);
        }
        set
    }

    pub fn len(&self) -> usize {
        match self {
            Set::Ints(ints) => ints.len(),
            Set::Packed(packed) => packed.len(),
            Set::Table(table) => table.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn heap_bytes(&self) -> usize {
        match self {
            Set::Ints(ints) => ints.heap_bytes(),
            Set::Packed(packed) => packed.heap_bytes(),
            Set::Table(table) => table.heap_bytes(),
        }
    }

    /// As OBJECT ENCODING names it: Redis 7.0 has one name for all that are not integers alone.
    pub fn encoding(&self) -> &'static str {
        match self {
            Set::Ints(_) => "intset",
            Set::Packed(_) | Set::Table(_) => "hashtable",
        }
    }

    pub fn contains(&self, member: &[u8]) -> bool {
        match self {
            Set::Ints(ints) => parse_i64(member).is_some_and(|value| ints.contains(value)),
            Set::Packed(packed) => packed.find(packed.start(), member, 0).is_some(),
            Set::Table(table) => table.contains(member),
        }
    }

    /// False when it was there.
    pub fn insert(&mut self, member: &[u8], settings: &CollectionSettings) -> bool {
        match self {
            Set::Ints(ints) => {
                if let Some(value) = parse_i64(member) {
                    let added = ints.insert(value);
                    if added && ints.len() > settings.set_ints_max {
                        self.outgrow_ints(settings);
                    }
                    return added;
                }
                self.outgrow_ints(settings);
                if member.len() > settings.set_value_bytes_max {
                    self.unpack(settings);
                }
                self.insert(member, settings)
            }
            Set::Packed(packed) => {
                if packed.find(packed.start(), member, 0).is_some() {
                    return false;
                }
                if member.len() > settings.set_value_bytes_max
                    || packed.len() >= settings.set_entries_max
                {
                    self.unpack(settings);
                    return self.insert(member, settings);
                }
                packed.push_back(member);
                true
            }
            Set::Table(table) => table.set(member, &[]),
        }
    }

    /// False when it was not there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self {
            Set::Ints(ints) => parse_i64(member).is_some_and(|value| ints.remove(value)),
            Set::Packed(packed) => {
                let found = packed.find(packed.start(), member, 0);
                if let Some(at) = found {
                    packed.remove(at, 1);
                }
                found.is_some()
            }
            Set::Table(table) => table.remove(member),
        }
    }

    /// The member at place `at`, for picking at random.
    pub fn at(&self, at: usize) -> Item<'_> {
        self.iter_from(at).next().expect("a place below the length")
    }

    pub fn iter(&self) -> impl Iterator<Item = Item<'_>> {
        self.iter_from(0)
    }

    /// The members from place `from` on.
    pub fn iter_from(&self, from: usize) -> impl Iterator<Item = Item<'_>> {
        match self {
            Set::Ints(ints) => {
                let places = from..ints.len();
                Either::One(places.map(|at| Item::Int(ints.at(at))))
            }
            Set::Packed(packed) => Either::Other(Either::One(packed.iter_from(packed.seek(from)))),
            Set::Table(table) => Either::Other(Either::Other(
                table.iter_from(from).map(|(member, _)| Item::Bytes(member)),
            )),
        }
    }

    /// Shows about `count` members from `cursor` on (all of them in a small form) and returns the cursor that goes on; 0
    /// begins and ends.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, mut show: impl FnMut(Item<'a>)) -> u64 {
        match self {
            Set::Ints(_) | Set::Packed(_) => {
                self.iter().for_each(show);
                0
            }
            Set::Table(table) => table.scan(cursor, count, |member, _| show(Item::Bytes(member))),
        }
    }

    /// Shows the members from place `from` on until `budget` is spent, at least one: the place to go on from, `None` at the end.
    pub fn piece<'a>(
        &'a self,
        from: usize,
        mut budget: Budget,
        mut show: impl FnMut(Item<'a>),
    ) -> Option<usize> {
        for (place, member) in (from..).zip(self.iter_from(from)) {
            if !budget.takes(member.len()) {
                return Some(place);
            }
            show(member);
        }
        None
    }

    /// Throws away about `limit` members; true once nothing is left.
    pub fn free_some(&mut self, limit: usize) -> bool {
        match self {
            Set::Ints(_) | Set::Packed(_) => {
                *self = Set::new();
                true
            }
            Set::Table(table) => table.free_some(limit),
        }
    }

    /// Packed while there are few, else a table.
    fn outgrow_ints(&mut self, settings: &CollectionSettings) {
        let Set::Ints(ints) = self else { return };
        if ints.len() < settings.set_entries_max {
            let mut packed = Packed::new();
            ints.iter()
                .for_each(|value| packed.push_back_item(Item::Int(value)));
            *self = Set::Packed(packed);
        } else {
            self.unpack(settings);
        }
    }

    fn unpack(&mut self, settings: &CollectionSettings) {
        let mut table = Table::new(&settings.hasher);
        for member in self.iter() {
            table.set(member.text(&mut [0; 20]), &[]);
        }
        *self = Set::Table(table);
    }
}
