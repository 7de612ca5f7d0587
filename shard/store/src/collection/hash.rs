//! A hash: fields with values. Packed as field, value, field, value, …; a table once large. Either has the times of its fields
//! beside it while some of them expire.

use larder_wire::UnixMillis;

use super::either::Either;
use super::expiring::Expiring;
use super::item::{Item, distinct};
use super::packed::{At, Packed};
use super::pieces::Budget;
use super::settings::CollectionSettings;
use super::table::Table;

#[derive(Clone)]
pub enum Hash {
    Packed(Packed),
    Table(Table),
    Expiring(Box<Expiring>),
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

    /// Fields, those that are due and not yet taken out included.
    pub fn len(&self) -> usize {
        match self {
            Hash::Packed(packed) => packed.len() / 2,
            Hash::Table(table) => table.len(),
            Hash::Expiring(expiring) => expiring.all().len(),
        }
    }

    /// Fields that are not due.
    pub fn live_len(&self) -> usize {
        match self {
            Hash::Packed(_) | Hash::Table(_) => self.len(),
            Hash::Expiring(expiring) => expiring.live_len(),
        }
    }

    /// True when not even a field that is due is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All fields as a packed buffer or a table.
    pub fn plain(&self) -> &Hash {
        match self {
            Hash::Packed(_) | Hash::Table(_) => self,
            Hash::Expiring(expiring) => expiring.all(),
        }
    }

    pub fn heap_bytes(&self) -> usize {
        match self {
            Hash::Packed(packed) => packed.heap_bytes(),
            Hash::Table(table) => table.heap_bytes(),
            Hash::Expiring(expiring) => expiring.heap_bytes(),
        }
    }

    /// As OBJECT ENCODING names it; as Valkey does for a hash with fields that expire.
    pub fn encoding(&self) -> &'static str {
        match self {
            Hash::Packed(_) => "listpack",
            Hash::Table(_) | Hash::Expiring(_) => "hashtable",
        }
    }

    pub fn get(&self, field: &[u8]) -> Option<Item<'_>> {
        match self {
            Hash::Packed(packed) => packed.get(value_of(packed, field)?),
            Hash::Table(table) => table.get(field).map(Item::Bytes),
            Hash::Expiring(expiring) => expiring.get(field),
        }
    }

    pub fn contains(&self, field: &[u8]) -> bool {
        self.get(field).is_some()
    }

    /// Sets a field, which then does not expire. True when it was not there.
    pub fn set(&mut self, field: &[u8], value: &[u8], settings: &CollectionSettings) -> bool {
        if let Hash::Expiring(expiring) = self {
            let fresh = expiring.get(field).is_none();
            expiring.set(field, value, settings);
            expiring.clear_time(field);
            self.settle();
            return fresh;
        }
        if field.len().max(value.len()) > settings.hash_value_bytes_max {
            self.unpack(settings);
        }
        let packed = match self {
            Hash::Packed(packed) => packed,
            Hash::Table(table) => return table.set(field, value),
            Hash::Expiring(_) => unreachable!("it was none a moment ago"),
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
            Hash::Expiring(expiring) => {
                let found = expiring.get(field).is_some();
                expiring.remove(field);
                self.settle();
                found
            }
        }
    }

    /// Sets a field that goes on to expire when it did before.
    pub fn update(&mut self, field: &[u8], value: &[u8], settings: &CollectionSettings) {
        match self {
            Hash::Expiring(expiring) if !expiring.is_gone(field) => {
                expiring.set(field, value, settings);
            }
            Hash::Expiring(_) | Hash::Packed(_) | Hash::Table(_) => {
                self.set(field, value, settings);
            }
        }
    }

    /// When a field expires: `None` without such a field, `Some(None)` when it stays.
    pub fn expiry(&self, field: &[u8]) -> Option<Option<UnixMillis>> {
        self.get(field)?;
        Some(match self {
            Hash::Packed(_) | Hash::Table(_) => None,
            Hash::Expiring(expiring) => expiring.time(field),
        })
    }

    /// Lets a field that is there expire.
    pub fn set_expiry(&mut self, field: &[u8], at: UnixMillis, settings: &CollectionSettings) {
        if !matches!(self, Hash::Expiring(_)) {
            let plain = match std::mem::take(self) {
                Hash::Packed(packed) => Hash::Packed(packed.standing_alone()),
                other => other,
            };
            *self = Hash::Expiring(Box::new(Expiring::new(plain)));
        }
        if let Hash::Expiring(expiring) = self {
            expiring.set_time(field, at, settings);
        }
    }

    /// Lets a field stay; false when it was not there or stays already.
    pub fn persist(&mut self, field: &[u8]) -> bool {
        let Hash::Expiring(expiring) = self else {
            return false;
        };
        let persisted = !expiring.is_gone(field) && expiring.clear_time(field);
        self.settle();
        persisted
    }

    /// Fields that are due by `now` are as if gone from here on.
    #[inline]
    pub fn look(&self, now: UnixMillis) {
        if let Hash::Expiring(expiring) = self {
            expiring.look(now);
        }
    }

    /// Some field was due at the last look, and is still in the way of those who pick by place.
    pub fn has_due(&self) -> bool {
        match self {
            Hash::Packed(_) | Hash::Table(_) => false,
            Hash::Expiring(expiring) => expiring.has_due(),
        }
    }

    /// When the first field expires.
    #[inline]
    pub fn next_due(&self) -> Option<UnixMillis> {
        match self {
            Hash::Packed(_) | Hash::Table(_) => None,
            Hash::Expiring(expiring) => expiring.next_due(),
        }
    }

    /// Takes out up to `limit` of the fields that are due by `now`.
    pub fn take_due(&mut self, now: UnixMillis, limit: usize) -> Vec<Box<[u8]>> {
        let Hash::Expiring(expiring) = self else {
            return Vec::new();
        };
        let gone = expiring.take_due(now, limit);
        self.settle();
        gone
    }

    /// All fields with their times, those that are due included.
    pub fn iter_timed(&self) -> impl Iterator<Item = (Item<'_>, Item<'_>, Option<UnixMillis>)> {
        let fields = self.plain().plain_iter_from(0);
        fields.map(|(field, value)| (field, value, self.time_of(field)))
    }

    fn time_of(&self, field: Item<'_>) -> Option<UnixMillis> {
        match self {
            Hash::Packed(_) | Hash::Table(_) => None,
            Hash::Expiring(expiring) => expiring.time(field.text(&mut [0; 20])),
        }
    }

    /// As [`Hash::piece`], with the fields' times.
    pub fn timed_piece<'a>(
        &'a self,
        from: usize,
        budget: Budget,
        mut show: impl FnMut(Item<'a>, Item<'a>, Option<UnixMillis>),
    ) -> Option<usize> {
        self.piece(from, budget, |field, value| {
            show(field, value, self.time_of(field));
        })
    }

    /// Becomes a plain hash once no field expires any more.
    fn settle(&mut self) {
        if let Hash::Expiring(expiring) = self
            && expiring.is_plain()
        {
            let empty = Box::new(Expiring::new(Hash::new()));
            *self = std::mem::replace(expiring, empty).into_plain();
        }
    }

    /// The field at place `at`, for picking at random; to be asked only when no field is due.
    pub fn at(&self, at: usize) -> (Item<'_>, Item<'_>) {
        self.iter_from(at).next().expect("a place below the length")
    }

    pub fn iter(&self) -> impl Iterator<Item = (Item<'_>, Item<'_>)> {
        self.iter_from(0)
    }

    /// The fields from place `from` on.
    pub fn iter_from(&self, from: usize) -> impl Iterator<Item = (Item<'_>, Item<'_>)> {
        let due = match self {
            Hash::Expiring(expiring) if expiring.has_due() => Some(expiring),
            Hash::Expiring(_) | Hash::Packed(_) | Hash::Table(_) => None,
        };
        let all = self.plain().plain_iter_from(from);
        all.filter(move |(field, _)| {
            due.is_none_or(|expiring| !expiring.is_gone(field.text(&mut [0; 20])))
        })
    }

    /// As [`Hash::iter_from`] for a packed buffer or a table.
    fn plain_iter_from(&self, from: usize) -> impl Iterator<Item = (Item<'_>, Item<'_>)> {
        match self {
            Hash::Expiring(_) => unreachable!("only a plain hash is walked"),
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
            Hash::Expiring(expiring) => match expiring.all() {
                Hash::Table(table) => table.scan(cursor, count, |field, value| {
                    if !expiring.is_gone(field) {
                        show(Item::Bytes(field), Item::Bytes(value));
                    }
                }),
                Hash::Packed(_) | Hash::Expiring(_) => {
                    self.iter().for_each(|(field, value)| show(field, value));
                    0
                }
            },
        }
    }

    /// Shows the fields from place `from` on until `budget` is spent, at least one: the place to go on from, `None` at the end. Fields
    /// that are due are shown, too.
    pub fn piece<'a>(
        &'a self,
        from: usize,
        mut budget: Budget,
        mut show: impl FnMut(Item<'a>, Item<'a>),
    ) -> Option<usize> {
        for (place, (field, value)) in (from..).zip(self.plain().plain_iter_from(from)) {
            if !budget.takes(field.len() + value.len()) {
                return Some(place);
            }
            show(field, value);
        }
        None
    }

    /// Fields that share the time of the one at place `from` in the order of times, as many as fit into `budget`, and the place to go
    /// on from, `None` at the end. `None` when no more fields expire.
    pub fn times_piece(
        &self,
        from: usize,
        budget: Budget,
    ) -> Option<(UnixMillis, Vec<Vec<u8>>, Option<usize>)> {
        match self {
            Hash::Packed(_) | Hash::Table(_) => None,
            Hash::Expiring(expiring) => expiring.times_piece(from, budget),
        }
    }

    /// Throws away about `limit` fields; true once nothing is left.
    pub fn free_some(&mut self, limit: usize) -> bool {
        match self {
            Hash::Packed(packed) => {
                *packed = Packed::new();
                true
            }
            Hash::Table(table) => table.free_some(limit),
            Hash::Expiring(expiring) => expiring.free_some(limit),
        }
    }

    fn unpack(&mut self, settings: &CollectionSettings) {
        let Hash::Packed(_) = self else { return };
        let mut table = Table::new(&settings.hasher);
        for (field, value) in self.plain_iter_from(0) {
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
