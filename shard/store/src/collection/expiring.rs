//! A hash some of whose fields expire: a plain hash, and beside it the times of those fields, earliest first.
//!
//! Whoever looks says what time it is ([`Expiring::look`]); until the next look a field that was due by then is as if gone to every
//! reader, whether or not it was taken out since. A hash none of whose fields expires is never one of these.

use std::cell::Cell;

use larder_wire::UnixMillis;

use super::item::Item;
use super::mem;
use super::pieces::Budget;
use super::settings::CollectionSettings;
use super::{Hash, Zset};

/// The latest time at which a field may expire: times are kept as scores, which are exact up to here.
pub const FIELD_EXPIRY_MAX: UnixMillis = UnixMillis((1 << 53) - 1);

#[derive(Clone)]
pub struct Expiring {
    /// Packed or a table.
    fields: Hash,
    times: Zset,
    now: Cell<UnixMillis>,
}

impl Expiring {
    pub(super) fn new(fields: Hash) -> Expiring {
        Expiring {
            fields,
            times: Zset::new(),
            now: Cell::new(UnixMillis(i64::MIN)),
        }
    }

    /// All fields, those that are due included.
    pub(super) fn all(&self) -> &Hash {
        &self.fields
    }

    /// The hash without the times.
    pub(super) fn into_plain(self) -> Hash {
        self.fields
    }

    /// No field expires any more.
    pub(super) fn is_plain(&self) -> bool {
        self.times.is_empty()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        mem::block(size_of::<Expiring>()) + self.fields.heap_bytes() + self.times.heap_bytes()
    }

    /// Fields that are not due.
    pub(super) fn live_len(&self) -> usize {
        let now = self.now.get().0 as f64;
        self.fields.len() - self.times.count_scores(|at| at <= now)
    }

    pub(super) fn look(&self, now: UnixMillis) {
        self.now.set(now);
    }

    pub(super) fn has_due(&self) -> bool {
        self.next_due().is_some_and(|at| at <= self.now.get())
    }

    /// When the first field expires.
    pub(super) fn next_due(&self) -> Option<UnixMillis> {
        let (_, at) = self.times.iter().next()?;
        Some(UnixMillis(at as i64))
    }

    /// When the field expires, whether or not it is due.
    pub(super) fn time(&self, field: &[u8]) -> Option<UnixMillis> {
        self.times.score(field).map(|at| UnixMillis(at as i64))
    }

    pub(super) fn is_gone(&self, field: &[u8]) -> bool {
        self.time(field).is_some_and(|at| at <= self.now.get())
    }

    pub(super) fn get(&self, field: &[u8]) -> Option<Item<'_>> {
        let value = self.fields.get(field)?;
        (!self.has_due() || !self.is_gone(field)).then_some(value)
    }

    /// Sets a field and leaves its time alone.
    pub(super) fn set(&mut self, field: &[u8], value: &[u8], settings: &CollectionSettings) {
        self.fields.set(field, value, settings);
    }

    /// The time of a field that is there.
    pub(super) fn set_time(&mut self, field: &[u8], at: UnixMillis, settings: &CollectionSettings) {
        let at = at.min(FIELD_EXPIRY_MAX);
        self.times.set(field, at.0 as f64, settings);
    }

    /// False when the field had no time.
    pub(super) fn clear_time(&mut self, field: &[u8]) -> bool {
        self.times.remove(field).is_some()
    }

    /// False when the field was not there.
    pub(super) fn remove(&mut self, field: &[u8]) -> bool {
        self.times.remove(field);
        self.fields.remove(field)
    }

    /// Takes out up to `limit` of the fields that are due by `now`, in the order of their times.
    pub(super) fn take_due(&mut self, now: UnixMillis, limit: usize) -> Vec<Box<[u8]>> {
        let due = |(_, at): &(Item<'_>, f64)| *at <= now.0 as f64;
        let gone: Vec<Box<[u8]>> = self
            .times
            .iter()
            .take_while(due)
            .take(limit)
            .map(|(field, _)| field.to_vec().into())
            .collect();
        self.times.remove_ranks(0, gone.len());
        for field in &gone {
            self.fields.remove(field);
        }
        gone
    }

    /// The time of the field at place `from` in the order of times, that field and those after it that share the time and fit into
    /// `budget`, and the place to go on from, `None` at the end. `None` when there are no more.
    pub(super) fn times_piece(
        &self,
        from: usize,
        mut budget: Budget,
    ) -> Option<(UnixMillis, Vec<Vec<u8>>, Option<usize>)> {
        let (_, at) = self.times.iter_from(from).next()?;
        let mut fields = Vec::new();
        for (place, (field, time)) in (from..).zip(self.times.iter_from(from)) {
            if time != at || !budget.takes(field.len()) {
                return Some((UnixMillis(at as i64), fields, Some(place)));
            }
            fields.push(field.to_vec());
        }
        Some((UnixMillis(at as i64), fields, None))
    }

    pub(super) fn free_some(&mut self, limit: usize) -> bool {
        self.fields.free_some(limit) && self.times.free_some(limit)
    }
}
