//! A consumer group: how far it has read, and what was delivered to which consumer and not yet acknowledged.

use larder_wire::UnixMillis;

use super::super::mem;
use super::super::sorted::{Record, Sorted};
use super::super::tree::Tree;
use super::id::StreamId;
use super::names::{NameMap, Named};

/// Bytes of a pending entry's record before the consumer's name: when it was delivered, and how often.
const RECORD_HEAD_BYTES: usize = 16;

#[derive(Clone, Default)]
pub struct Group {
    pub last_delivered: StreamId,
    /// How many of all entries that ever were the group has read; `None` when nobody can tell.
    pub entries_read: Option<u64>,
    /// By id; the tail says when, how often and to whom.
    pending: Tree<Sorted<StreamId>>,
    consumers: NameMap<Consumer>,
}

#[derive(Clone)]
pub struct Consumer {
    /// When it last asked for something.
    pub seen: UnixMillis,
    pending: Tree<Sorted<StreamId>>,
}

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending<'a> {
    pub id: StreamId,
    pub consumer: &'a [u8],
    pub delivered: UnixMillis,
    pub deliveries: u64,
}

impl Named for Group {
    fn heap_bytes(&self) -> usize {
        self.pending.heap_bytes() + self.consumers.heap_bytes()
    }
}

impl Named for Consumer {
    fn heap_bytes(&self) -> usize {
        self.pending.heap_bytes()
    }
}

impl Consumer {
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// Ids from `from` on that wait for its acknowledgement.
    pub fn pending_from(&self, from: StreamId) -> impl Iterator<Item = StreamId> {
        self.pending_at(self.pending.count_keys(|id| *id < from))
    }

    /// The same from place `at` on.
    pub fn pending_at(&self, at: usize) -> impl Iterator<Item = StreamId> {
        self.pending.iter_from(at).map(|record| record.key)
    }
}

impl Group {
    pub fn new(last_delivered: StreamId, entries_read: Option<u64>) -> Group {
        Group {
            last_delivered,
            entries_read,
            ..Group::default()
        }
    }

    pub fn consumers(&self) -> &NameMap<Consumer> {
        &self.consumers
    }

    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    pub fn pending(&self, id: StreamId) -> Option<Pending<'_>> {
        let at = self.pending.find(id, &[]).ok()?;
        Some(pending_of(self.pending.get(at)))
    }

    /// What is pending from place `at` on, by id.
    pub fn pending_at(&self, at: usize) -> impl Iterator<Item = Pending<'_>> {
        self.pending.iter_from(at).map(pending_of)
    }

    /// What is pending from `from` on, by id.
    pub fn pending_from(&self, from: StreamId) -> impl Iterator<Item = Pending<'_>> {
        self.pending_at(self.pending.count_keys(|id| *id < from))
    }

    pub fn last_pending(&self) -> Option<StreamId> {
        let last = self.pending.len().checked_sub(1)?;
        Some(self.pending.get(last).key)
    }

    /// Makes a consumer; false when it is there.
    pub fn create_consumer(&mut self, name: &[u8], now: UnixMillis) -> bool {
        let consumer = Consumer {
            seen: now,
            pending: Tree::default(),
        };
        self.consumers.insert(name, consumer)
    }

    /// Notes that a consumer asked for something.
    pub fn see_consumer(&mut self, name: &[u8], now: UnixMillis) {
        self.consumers.edit(name, |consumer| consumer.seen = now);
    }

    /// Removes a consumer and what was pending for it: how many entries that were, `None` without such a consumer. What lies side by
    /// side goes in one step: a consumer that was given millions is gone in milliseconds.
    pub fn delete_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let consumer = self.consumers.remove(name)?;
        let mut ids = consumer.pending_from(StreamId::MIN);
        while let Some(id) = ids.next() {
            let Ok(at) = self.pending.find(id, &[]) else {
                debug_assert!(false, "what is pending for a consumer is pending");
                continue;
            };
            let own = |pending: &Pending<'_>| pending.consumer == name;
            let run = self.pending_at(at).take_while(own).count();
            self.pending.remove(at, run);
            if run > 1 {
                ids.nth(run - 2);
            }
        }
        Some(consumer.pending.len())
    }

    /// Notes a delivery to a consumer that exists, whoever had the entry before.
    pub fn deliver(&mut self, delivery: Pending<'_>) {
        let Pending { id, consumer, .. } = delivery;
        let mut tail = Vec::with_capacity(RECORD_HEAD_BYTES + consumer.len());
        tail.extend_from_slice(&delivery.delivered.0.to_le_bytes());
        tail.extend_from_slice(&delivery.deliveries.to_le_bytes());
        tail.extend_from_slice(consumer);
        let moved = match self.pending.find(id, &[]) {
            Ok(at) => {
                let before = pending_of(self.pending.get(at)).consumer;
                let moved = before != consumer;
                if moved {
                    self.consumers
                        .edit(before, |old| take_key(&mut old.pending, id));
                }
                self.pending.set_tail(at, &tail);
                moved
            }
            Err(at) => {
                self.pending.insert(at, id, &[], &tail);
                true
            }
        };
        if moved {
            let put = self.consumers.edit(consumer, |own| {
                let place = own.pending.find(id, &[]);
                let at = place.expect_err("an id that another consumer had, or none");
                own.pending.insert(at, id, &[], &[]);
            });
            put.expect("deliveries are to consumers that exist");
        }
    }

    /// Takes an entry out of those that are pending; false when it was not among them.
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        let Some(pending) = self.pending(id) else {
            return false;
        };
        let name = pending.consumer.to_vec();
        self.consumers
            .edit(&name, |consumer| take_key(&mut consumer.pending, id));
        self.take_out(id);
        true
    }

    fn take_out(&mut self, id: StreamId) {
        take_key(&mut self.pending, id);
    }

    /// Throws away about `limit` elements; true once nothing is left. Nothing else may be asked of it in between.
    pub fn free_some(&mut self, limit: usize) -> bool {
        if !self.pending.free_some(limit) {
            return false;
        }
        while let Some(mut consumer) = self.consumers.pop() {
            if !consumer.pending.free_some(limit) {
                self.consumers.insert(b"", consumer);
                return false;
            }
        }
        true
    }
}

fn take_key(tree: &mut Tree<Sorted<StreamId>>, id: StreamId) {
    if let Ok(at) = tree.find(id, &[]) {
        tree.remove(at, 1);
    }
}

fn pending_of(record: Record<'_, StreamId>) -> Pending<'_> {
    let (head, consumer) = record.tail.split_at(RECORD_HEAD_BYTES);
    let (delivered, deliveries) = head.split_at(8);
    let word = |bytes: &[u8]| <[u8; 8]>::try_from(bytes).expect("a word has eight bytes");
    Pending {
        id: record.key,
        consumer,
        delivered: UnixMillis(i64::from_le_bytes(word(delivered))),
        deliveries: u64::from_le_bytes(word(deliveries)),
    }
}

/// Bytes behind a box of `T`.
pub(super) fn boxed<T>() -> usize {
    mem::block(size_of::<T>())
}
