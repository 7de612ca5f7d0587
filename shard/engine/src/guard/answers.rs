//! Replies that wait for a place of the journal: until a replica in step has acknowledged it (`safe` writes), until it is in the file (`appendfsync
//! always`), or both.
//!
//! ```text
//! batch executed ──▶ the journal's end ──▶ all conditions are there already: at once
//!                                     └──▶ the shell keeps the replies, the client stands in the queue ──reached──▶ rung
//!                                                                              └── the lease or the primacy is lost ──▶ cut off
//! ```
//!
//! Places only grow within one reign, so the queue is in their order, and an acknowledgement releases its front. A reply that waited in vain is not
//! turned into an error: the write may be at a replica that is promoted, so its outcome is unknown, and a closed connection is what every client takes for that.
//!
//! Reads wait for the journal's end, though one of a key without unacknowledged writes could leave at once. That would need the place of the last change of each slot, marked by whatever
//! changes a key (commands, scripts, expiry of keys and fields, eviction, flushes, moves): one way that forgets it is a stale read that no test is sure to meet. What
//! it would save is at most the rest of one round trip to a replica, which the writes before the read wait for, too.

use std::collections::VecDeque;
use std::rc::Rc;

use larder_wire::Offset;

use crate::client::Client;

/// Longest time that replies wait, in milliseconds; then their connection is closed.
pub(crate) const ANSWER_WAIT_MS_MAX: u64 = 10_000;
/// The same while the file cannot be written: a proxy's connection carries the reads of others behind the write that waits.
pub(crate) const FULL_WAIT_MS_MAX: u64 = 1_000;

/// What is done with the replies of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    AtOnce,
    /// They are kept until [`Node::answered_up_to`](crate::Node::answered_up_to) has reached this; the client is rung then.
    At(Offset),
    /// They must not leave, and the connection is to be closed: whether what was executed lasts is unknown.
    Never,
}

struct Waiting {
    place: Offset,
    since_ms: u64,
    client: Rc<Client>,
}

/// Who waits, and what for.
#[derive(Default)]
pub(crate) struct Answers {
    /// What a replica in step has acknowledged. `None`: nobody waits for replicas.
    acked: Option<Offset>,
    /// What is in the file. `None`: nobody waits for the file.
    in_file: Option<Offset>,
    /// A command of the batch at hand read or wrote data.
    pub(crate) touched: bool,
    queue: VecDeque<Waiting>,
}

impl Answers {
    /// Whether any reply may have to wait.
    #[inline]
    pub(crate) fn may_wait(&self) -> bool {
        self.acked.is_some() || self.in_file.is_some()
    }

    pub(crate) fn waits_for_replicas(&self) -> bool {
        self.acked.is_some()
    }

    /// A replica has all up to there, or replies wait for none.
    pub(crate) fn replicas_have(&self, place: Offset) -> bool {
        self.acked.is_none_or(|acked| place <= acked)
    }

    /// Replies for places up to this one may leave.
    pub(crate) fn reached(&self) -> Offset {
        let far = Offset(u64::MAX);
        self.acked.unwrap_or(far).min(self.in_file.unwrap_or(far))
    }

    /// `None`: replies wait for no replica.
    pub(crate) fn set_acked(&mut self, acked: Option<Offset>) {
        self.acked = acked;
        self.release();
    }

    /// `None`: replies wait for no file.
    pub(crate) fn set_in_file(&mut self, in_file: Option<Offset>) {
        self.in_file = in_file;
        self.release();
    }

    pub(crate) fn enqueue(&mut self, client: &Rc<Client>, place: Offset, now_ms: u64) {
        let last = self.queue.back();
        if last.is_some_and(|last| last.place == place && last.client.id == client.id) {
            return;
        }
        self.queue.push_back(Waiting {
            place,
            since_ms: now_ms,
            client: Rc::clone(client),
        });
    }

    fn release(&mut self) {
        let reached = self.reached();
        while let Some(first) = self.queue.front()
            && first.place <= reached
        {
            first.client.ring();
            self.queue.pop_front();
        }
    }

    /// Nobody who waits will be answered; how many replies are lost.
    pub(crate) fn cut_off(&mut self) -> usize {
        let lost = self.queue.len();
        for waiting in self.queue.drain(..) {
            waiting.client.kill();
        }
        lost
    }

    /// The same for those who have waited too long.
    pub(crate) fn cut_off_overdue(&mut self, now_ms: u64, patience_ms: u64) -> usize {
        let mut lost = 0;
        while let Some(first) = self.queue.front()
            && now_ms.saturating_sub(first.since_ms) >= patience_ms
        {
            first.client.kill();
            self.queue.pop_front();
            lost += 1;
        }
        lost
    }

    /// Batches of replies that wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}
