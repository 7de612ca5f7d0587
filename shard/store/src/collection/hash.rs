//! A hash: fields with values. Packed as field, value, field, value, …; a table once large.

use super::either::Either;
use super::item::{Item, distinct};
use super::packed::{At, Packed};
use super::pieces::Budget;
use super::settings::CollectionSettings;
use super::table::Table;

#[derive(Clone)]
pub enum Hash {
    Packed(Packed),
    Table(Table),
}

impl Default for Hash {
    fn default() -> Hash {
        Hash::Packed(Packed::new())
    }
}

impl Hash {
    pub fn new() -> Hash {
        Hash::default()
    }

    /// Later values of a field replace earlier ones.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        settings: &CollectionSettings,
    ) -> Hash {
        let mut hash = Hash::new();
        for (field, value) in pairs {
            hash.set(field, value, settings);
        }
        hash
    }

    /// A hash of alternating fields and values as they lie in a dump; `None` when there is no value for the last
    /// field, or a field comes twice.
    pub fn from_packed(packed: Packed, settings: &CollectionSettings) -> Option<Hash> {
        if !packed.len().is_multiple_of(2) || packed.is_empty() {
            return None;
        }
        if !distinct(packed.iter().step_by(2)) {
            return None;
        }
        let short = |item: Item<'_>| item.len() <= settings.hash_value_bytes_max;
        let stays = packed.len() / 2 <= settings.hash_entries_max && packed.iter().all(short);
        let mut hash = Hash::Packed(packed);
        if !stays {
            hash.unpack(settings);
        }
        Some(hash)
    }

    /// Fields.
    pub fn len(&self) -> usize {
        match self {
            Hash::Packed(packed) => packed.len() / 2,
            Hash::Table(table) => table.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn heap_bytes(&self) -> usize {
        match self {
            Hash::Packed(packed) => packed.heap_bytes(),
            Hash::Table(table) => table.heap_bytes(),
        }
    }

    /// As OBJECT ENCODING names it.
    pub fn encoding(&self) -> &'static str {
        match self {
            Hash::Packed(_) => "listpack",
            Hash::Table(_) => "hashtable",
        }
    }

    pub fn get(&self, field: &[u8]) -> Option<Item<'_>> {
        match self {
            Hash::Packed(packed) => packed.get(value_of(packed, field)?),
            Hash::Table(table) => table.get(field).map(Item::Bytes),
        }
    }

    pub fn contains(&self, field: &[u8]) -> bool {
        self.get(field).is_some()
    }

    /// True when the field was not there.
    pub fn set(&mut self, field: &[u8], value: &[u8], settings: &CollectionSettings) -> bool {
        if field.len().max(value.len()) > settings.hash_value_bytes_max {
            self.unpack(settings);
        }
        let packed = match self {
            Hash::Packed(packed) => packed,
            Hash::Table(table) => return table.set(field, value),
        };
        if let Some(at) = value_of(packed, field) {
            packed.replace(at, value);
            return false;
        }
        packed.push_back(field);
        packed.push_back(value);
        if packed.len() / 2 > settings.hash_entries_max {
            self.unpack(settings);
        }
        true
    }

    /// False when the field was not there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match self {
            Hash::Packed(packed) => {
                let found = packed.find(packed.start(), field, 1);
                if let Some(at) = found {
                    packed.remove(at, 2);
                }
                found.is_some()
            }
            Hash::Table(table) => table.remove(field),
        }
    }

    /// The field at place `at`, for picking at random.
    pub fn at(&self, at: usize) -> (Item<'_>, Item<'_>) {
        self.iter_from(at).next().expect("a place below the length")
    }

    pub fn iter(&self) -> impl Iterator<Item = (Item<'_>, Item<'_>)> {
        self.iter_from(0)
    }

    /// The fields from place `from` on.
    pub fn iter_from(&self, from: usize) -> impl Iterator<Item = (Item<'_>, Item<'_>)> {
        match self {
            Hash::Packed(packed) => {
                let mut items = packed.iter_from(packed.seek(from * 2));
                Either::One(std::iter::from_fn(move || {
                    Some((items.next()?, items.next()?))
                }))
            }
            Hash::Table(table) => Either::Other(
                table
                    .iter_from(from)
                    .map(|(field, value)| (Item::Bytes(field), Item::Bytes(value))),
            ),
        }
    }

    /// Shows about `count` fields from `cursor` on (all of them when packed) and returns the cursor that goes on; 0
    /// begins and ends.
    pub fn scan<'a>(
        &'a self,
        cursor: u64,
        count: usize,
        mut show: impl FnMut(Item<'a>, Item<'a>),
    ) -> u64 {
        match self {
            Hash::Packed(_) => {
                self.iter().for_each(|(field, value)| show(field, value));
                0
            }
            Hash::Table(table) => table.scan(cursor, count, |field, value| {
                show(Item::Bytes(field), Item::Bytes(value));
            }),
        }
    }

    /// Shows the fields from place `from` on until `budget` is spent, at least one: the place to go on from, `None` at the end.
    pub fn piece<'a>(
        &'a self,
        from: usize,
        mut budget: Budget,
        mut show: impl FnMut(Item<'a>, Item<'a>),
    ) -> Option<usize> {
        for (place, (field, value)) in (from..).zip(self.iter_from(from)) {
            if !budget.takes(field.len() + value.len()) {
                return Some(place);
            }
            show(field, value);
        }
        None
    }

    /// Throws away about `limit` fields; true once nothing is left.
    pub fn free_some(&mut self, limit: usize) -> bool {
        match self {
            Hash::Packed(packed) => {
                *packed = Packed::new();
                true
            }
            Hash::Table(table) => table.free_some(limit),
        }
    }

    fn unpack(&mut self, settings: &CollectionSettings) {
        let Hash::Packed(_) = self else { return };
        let mut table = Table::new(&settings.hasher);
        for (field, value) in self.iter() {
            table.set(field.text(&mut [0; 20]), value.text(&mut [0; 20]));
        }
        *self = Hash::Table(table);
    }
}

fn value_of(packed: &Packed, field: &[u8]) -> Option<At> {
    packed
        .find(packed.start(), field, 1)
        .map(|at| packed.next(at))
}
