//! The source's side of a feed: a set of slots to the target of a move, or everything to a replica.
//!
//! Invariants: each key is sent once, as it was at one moment; every later effect on it follows, in order; a key that is not sent
//! yet needs no effects, for it will be sent as it is then. After the cut nothing follows but the map.
//!
//! ```text
//! Walking ──walk done, little left──▶ Holding ──all sent──▶ Cut ──map taken──▶ (handed over)
//!    │  └──walk done, to a replica: the journal goes on──▶ Complete
//!    └────────────── aborted, lost, the hold ran out ───────┴──▶ Over
//! ```

use std::collections::VecDeque;
use std::task::Waker;

use larder_store::{Captured, Databases, Db, GoneFields, Keyspace, Tray};
use larder_wire::command::{CommandId, keys};
use larder_wire::control::{FeedAsk, FeedState, HOLD_MS_MAX};
use larder_wire::resp::Request;
use larder_wire::{Attempt, ClusterMap, NodeId, Offset, Slot, SlotSet, UnixMillis};

use super::frame::{Word, command};
use super::pieces::{self, Large};
use crate::clock::Clock;
use crate::replication::LinkId;
use crate::walk::Walk;

/// The hold begins when no more than this is between what was produced and what the target has applied, in bytes.
pub const FEED_LAG_BYTES_MAX: u64 = 256 * 1024;
/// Bytes that may be on their way to the target, applied and acknowledged by none yet.
pub const FEED_WINDOW_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Effects that wait behind a large key or a slow target, in bytes: past it the feed is given up.
pub const FEED_BACKLOG_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Effects are queued in buffers of about this many bytes, so that none takes long to send.
const QUEUED_BYTES_EACH: usize = 32 * 1024;
/// Empty slots that one step passes over.
const WALK_SLOTS_PER_STEP: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Walking,
    /// Writes of the slots wait; let go at `until_ms`.
    Holding {
        until_ms: u64,
    },
    /// The cut is written: the target has all, once it has read it.
    Cut {
        until_ms: u64,
    },
    /// A replica was sent everything.
    Complete,
    /// Void; the reason is told to the target if there is still a connection.
    Over {
        reason: String,
        told: bool,
    },
}

/// What a call of [`Feed::produce`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Produced {
    /// There is more to send at once.
    More,
    /// Nothing to send until the bell rings or the target acknowledges.
    Idle,
    /// What is in the buffer is the last.
    Over,
}

/// In the order in which it goes out.
enum Queued {
    Bytes(Vec<u8>),
    Large(Large),
}

/// Where a feed goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedTo {
    /// The target of a move, which will own the slots.
    Target { attempt: Attempt, node: NodeId },
    /// A replica of this node.
    Replica(LinkId),
}

/// One feed.
pub struct Feed {
    pub to: FeedTo,
    phase: Phase,
    /// Which keys are sent. Early are those that a command joined with one that was.
    walk: Walk,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    /// The database and the source's clock as last told to the target, by the end of the queue.
    told_db: Option<Db>,
    told_now: Option<UnixMillis>,
    produced: u64,
    acked: u64,
    keys_total: u64,
    keys_sent: u64,
    bell: Option<Waker>,
    /// Whether the effects of the command at hand go to the target.
    forwarding: bool,
    /// The last frame of a feed that was handed over.
    farewell: Option<Box<ClusterMap>>,
}

impl Feed {
    /// To the target of a move.
    pub(crate) fn begin(ask: FeedAsk, databases: &Databases) -> Feed {
        let to = FeedTo::Target {
            attempt: ask.attempt,
            node: ask.target,
        };
        Feed::over(ask.slots, to, databases)
    }

    /// Everything, to a replica: keys that are on their way in, too.
    pub(crate) fn to_replica(link: LinkId, databases: &Databases) -> Feed {
        Feed::over(SlotSet::full(), FeedTo::Replica(link), databases)
    }

    fn over(slots: SlotSet, to: FeedTo, databases: &Databases) -> Feed {
        let lens = slots.iter().map(|slot| databases.slot_len(slot) as u64);
        let keys_total = lens.sum();
        Feed {
            to,
            phase: Phase::Walking,
            walk: Walk::over(slots),
            queue: VecDeque::new(),
            queued_bytes: 0,
            told_db: Some(Db::ZERO),
            told_now: None,
            produced: 0,
            acked: 0,
            keys_total,
            keys_sent: 0,
            bell: None,
            forwarding: false,
            farewell: None,
        }
    }

    pub fn slots(&self) -> &SlotSet {
        self.walk.slots()
    }

    /// Of the move that it is for.
    pub fn attempt(&self) -> Option<Attempt> {
        match self.to {
            FeedTo::Target { attempt, .. } => Some(attempt),
            FeedTo::Replica(_) => None,
        }
    }

    /// The replica's connection that it is for.
    pub(crate) fn link(&self) -> Option<LinkId> {
        match self.to {
            FeedTo::Target { .. } => None,
            FeedTo::Replica(link) => Some(link),
        }
    }

    /// A replica was sent everything, and what was done since.
    pub(crate) fn is_complete(&self) -> bool {
        self.phase == Phase::Complete && self.queue.is_empty()
    }

    /// Writes of the slots wait.
    pub fn holds(&self) -> bool {
        match self.phase {
            Phase::Holding { .. } | Phase::Cut { .. } => true,
            Phase::Walking | Phase::Complete | Phase::Over { .. } => false,
        }
    }

    /// The target may have been told that it has all, and nothing was changed since.
    pub fn may_hand_over(&self, clock: Clock) -> bool {
        match self.phase {
            Phase::Cut { until_ms } => clock.mono_ms < until_ms,
            Phase::Walking | Phase::Holding { .. } | Phase::Complete | Phase::Over { .. } => false,
        }
    }

    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over { .. })
    }

    /// What the topology is told of a move's feed.
    pub fn state(&self) -> Option<FeedState> {
        Some(FeedState {
            attempt: self.attempt()?,
            keys_total: self.keys_total,
            keys_sent: self.keys_sent,
            bytes_sent: self.produced,
            holding: self.holds(),
        })
    }

    /// The feed is void; what it held is free. The first reason counts.
    pub(crate) fn end(&mut self, reason: impl Into<String>) {
        if !self.is_over() {
            self.phase = Phase::Over {
                reason: reason.into(),
                told: false,
            };
            self.queue.clear();
            self.queued_bytes = 0;
            self.walk.forget_early();
            self.ring();
        }
    }

    /// The slots are another node's: the feed has done its work. When they were handed to its target, that is told by the map
    /// itself: should the topology die between telling the source and telling the target, the slots have an owner all the same.
    pub(crate) fn finish(&mut self, handed_over: Option<&ClusterMap>) {
        self.end("handed over");
        if let Phase::Over { told, .. } = &mut self.phase {
            *told = true;
        }
        self.farewell = handed_over.map(|map| Box::new(map.clone()));
    }

    /// Lets go when the hold has lasted too long; true when it did.
    pub(crate) fn let_go_if_due(&mut self, clock: Clock) -> bool {
        match self.phase {
            Phase::Holding { until_ms } | Phase::Cut { until_ms } if clock.mono_ms >= until_ms => {
                self.end(format!("the source let go after {HOLD_MS_MAX} ms"));
                true
            }
            Phase::Holding { .. }
            | Phase::Cut { .. }
            | Phase::Walking
            | Phase::Complete
            | Phase::Over { .. } => false,
        }
    }

    pub(crate) fn set_bell(&mut self, bell: &Waker) {
        if !self.bell.as_ref().is_some_and(|old| old.will_wake(bell)) {
            self.bell = Some(bell.clone());
        }
    }

    fn ring(&mut self) {
        if let Some(bell) = self.bell.take() {
            bell.wake();
        }
    }

    pub(crate) fn acknowledge(&mut self, offset: Offset) {
        // A target that claims more than it was sent is not believed.
        self.acked = self.acked.max(offset.0.min(self.produced));
    }

    /// Before a write runs: decides whether its effects go to the target, and sends ahead those of its keys that have to be there
    /// for that.
    pub(crate) fn before_write(
        &mut self,
        db: Db,
        id: CommandId,
        request: &Request<'_>,
        keyspace: &Keyspace,
    ) {
        self.forwarding = false;
        if self.is_over() {
            return;
        }
        let own = |slots: &SlotSet, key: &[u8]| {
            let slot = larder_wire::slot_of(key);
            slots.contains(slot).then_some(slot)
        };
        let mut any_unsent = false;
        for at in keys::positions(id, request) {
            let key = request.arg(at.at);
            if let Some(slot) = own(self.walk.slots(), key) {
                if self.walk.has_met(db, key, slot, keyspace) {
                    self.forwarding = true;
                } else {
                    any_unsent = true;
                }
            }
        }
        if !self.forwarding || !any_unsent {
            return;
        }
        for at in keys::positions(id, request) {
            let key = request.arg(at.at);
            if let Some(slot) = own(self.walk.slots(), key)
                && !self.walk.has_met(db, key, slot, keyspace)
            {
                self.send_ahead(db, key, slot, keyspace.capture(key));
            }
        }
    }

    /// The key, as it is, goes out before the walk meets it. One that is not there yet is none the less counted as sent: the
    /// effect that makes it follows.
    fn send_ahead(&mut self, db: Db, key: &[u8], slot: Slot, captured: Option<Captured>) {
        self.walk.meet_early(db, key, slot);
        if let Some(captured) = captured {
            self.keys_sent += 1;
            self.tell_db(db);
            self.queue
                .push_back(Queued::Large(Large::new(key, captured)));
            self.ring();
        }
    }

    /// One effect of the command that [`before_write`](Self::before_write) was told of.
    pub(crate) fn forward(&mut self, db: Db, id: CommandId, effect: &Request<'_>, now: UnixMillis) {
        if !self.forwarding {
            return;
        }
        let mut inside = 0;
        let mut outside = 0;
        for at in keys::positions(id, effect) {
            if self
                .walk
                .slots()
                .contains(larder_wire::slot_of(effect.arg(at.at)))
            {
                inside += 1;
            } else {
                outside += 1;
            }
        }
        if inside == 0 {
            return;
        }
        self.tell(db, now);
        if outside == 0 {
            self.push(effect.bytes());
        } else {
            self.push_share(id, effect);
        }
    }

    /// The share of a command over several slots, which only a proxy sends: MSET in pairs, DEL and UNLINK in keys.
    fn push_share(&mut self, id: CommandId, effect: &Request<'_>) {
        let with_value = id == CommandId::Mset;
        debug_assert!(
            with_value || matches!(id, CommandId::Del | CommandId::Unlink),
            "{effect:?} spans slots"
        );
        let mut args: Vec<&[u8]> = vec![effect.name()];
        for at in keys::positions(id, effect) {
            let key = effect.arg(at.at);
            if self.walk.slots().contains(larder_wire::slot_of(key)) {
                args.push(key);
                if with_value {
                    args.push(effect.arg(at.at + 1));
                }
            }
        }
        let mut bytes = Vec::new();
        command(&mut bytes, &args);
        self.push(&bytes);
    }

    /// A key went: it expired, was evicted, or moved to another database.
    pub(crate) fn forward_gone(
        &mut self,
        db: Db,
        key: &[u8],
        now: UnixMillis,
        keyspace: &Keyspace,
    ) {
        self.forward_loss(db, key, &[b"DEL", key], now, keyspace);
    }

    /// Fields of a hash went by themselves.
    pub(crate) fn forward_gone_fields(
        &mut self,
        db: Db,
        gone: &GoneFields,
        now: UnixMillis,
        keyspace: &Keyspace,
    ) {
        let fields = gone.fields.iter().map(|field| &**field);
        let words = [&b"HDEL"[..], &gone.key];
        let args: Vec<&[u8]> = words.into_iter().chain(fields).collect();
        self.forward_loss(db, &gone.key, &args, now, keyspace);
    }

    fn forward_loss(
        &mut self,
        db: Db,
        key: &[u8],
        args: &[&[u8]],
        now: UnixMillis,
        keyspace: &Keyspace,
    ) {
        let slot = larder_wire::slot_of(key);
        let after_cut = matches!(self.phase, Phase::Cut { .. } | Phase::Over { .. });
        if after_cut
            || !self.walk.slots().contains(slot)
            || !self.walk.has_met(db, key, slot, keyspace)
        {
            return;
        }
        self.tell(db, now);
        let mut bytes = Vec::new();
        command(&mut bytes, args);
        self.push(&bytes);
    }

    /// A key came from elsewhere, in place of what was there: it goes whole, unless the walk is still to meet it.
    pub(crate) fn forward_came(
        &mut self,
        db: Db,
        key: &[u8],
        now: UnixMillis,
        keyspace: &Keyspace,
    ) {
        self.forward_gone(db, key, now, keyspace);
        let slot = larder_wire::slot_of(key);
        if !self.is_over()
            && self.walk.slots().contains(slot)
            && self.walk.has_met(db, key, slot, keyspace)
            && let Some(captured) = keyspace.capture(key)
        {
            self.queue
                .push_back(Queued::Large(Large::new(key, captured)));
            self.ring();
        }
    }

    /// All keys are gone from one database or from all, and then what waits to be sent is not wanted any more.
    pub(crate) fn forward_flush(&mut self, db: Option<Db>) {
        if self.is_over() {
            return;
        }
        if db.is_none() {
            self.queue.clear();
            self.queued_bytes = 0;
            self.walk.forget_early();
            self.told_db = None;
            self.told_now = None;
        }
        let mut bytes = Vec::new();
        Word::Flush(db).write(&mut bytes);
        self.push(&bytes);
    }

    /// To a replica: every key of these slots is gone, from one database or from all.
    pub(crate) fn forward_drop(&mut self, slots: &SlotSet, db: Option<Db>) {
        if self.is_over() || slots.is_empty() {
            return;
        }
        let mut bytes = Vec::new();
        let slots = slots.clone();
        Word::Drop { slots, db }.write(&mut bytes);
        self.push(&bytes);
    }

    /// Effects happen at the target at the time that they happened here: no key expires there before it does here.
    fn tell(&mut self, db: Db, now: UnixMillis) {
        self.tell_db(db);
        // A replica takes what its primary did for what is: nothing expires there by itself.
        if self.told_now != Some(now) && self.link().is_none() {
            self.told_now = Some(now);
            let mut bytes = Vec::new();
            Word::At(now).write(&mut bytes);
            self.push(&bytes);
        }
    }

    fn tell_db(&mut self, db: Db) {
        if self.told_db != Some(db) {
            self.told_db = Some(db);
            let mut bytes = Vec::new();
            Word::Db(db).write(&mut bytes);
            self.push(&bytes);
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        debug_assert!(
            !matches!(self.phase, Phase::Cut { .. }),
            "nothing follows the cut"
        );
        self.queued_bytes += bytes.len();
        match self.queue.back_mut() {
            Some(Queued::Bytes(tail)) if tail.len() < QUEUED_BYTES_EACH => {
                tail.extend_from_slice(bytes);
            }
            Some(Queued::Bytes(_) | Queued::Large(_)) | None => {
                self.queue.push_back(Queued::Bytes(bytes.to_vec()));
            }
        }
        if self.queued_bytes > FEED_BACKLOG_BYTES_MAX {
            self.end("the target is too slow: too many effects wait for it");
        }
        self.ring();
    }

    /// Appends at least one frame and about `limit` bytes, or whatever there is.
    pub(crate) fn produce(
        &mut self,
        limit: usize,
        clock: Clock,
        databases: &Databases,
        out: &mut Vec<u8>,
    ) -> Produced {
        let start = out.len();
        if let Phase::Over { reason, told } = &mut self.phase {
            if let Some(map) = self.farewell.take() {
                Word::Map(map).write(out);
            }
            if !std::mem::replace(told, true) {
                Word::End(reason.clone()).write(out);
            }
            return Produced::Over;
        }
        if self.produced - self.acked >= FEED_WINDOW_BYTES_MAX {
            return Produced::Idle;
        }
        while out.len() - start < limit && self.produce_step(clock, databases, start, out) {}
        self.produced += (out.len() - start) as u64;
        if out.len() > start && !matches!(self.phase, Phase::Cut { .. } | Phase::Complete) {
            Produced::More
        } else {
            Produced::Idle
        }
    }

    /// One frame or a few; false when there is nothing to do.
    fn produce_step(
        &mut self,
        clock: Clock,
        databases: &Databases,
        start: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        match self.queue.front_mut() {
            Some(Queued::Bytes(bytes)) => {
                self.queued_bytes -= bytes.len();
                out.extend_from_slice(bytes);
                self.queue.pop_front();
                return true;
            }
            Some(Queued::Large(large)) => {
                if !large.write_next(out) {
                    self.queue.pop_front();
                }
                return true;
            }
            None => {}
        }
        match self.phase {
            Phase::Walking if !self.walk.is_over() => {
                self.meet_keys(clock.now(), databases, out);
                true
            }
            Phase::Walking if self.link().is_some() => {
                self.phase = Phase::Complete;
                false
            }
            Phase::Walking => {
                let lag = self.produced + (out.len() - start) as u64 - self.acked;
                if lag > FEED_LAG_BYTES_MAX {
                    return false;
                }
                self.phase = Phase::Holding {
                    until_ms: clock.mono_ms + HOLD_MS_MAX,
                };
                true
            }
            Phase::Holding { until_ms } => {
                let offset = self.produced + (out.len() - start) as u64;
                Word::Cut(Offset(offset)).write(out);
                self.phase = Phase::Cut { until_ms };
                true
            }
            Phase::Cut { .. } | Phase::Complete | Phase::Over { .. } => false,
        }
    }

    /// Meets some keys; small ones are written at once, a large one is captured and comes next. Nothing is queued when this begins.
    fn meet_keys(&mut self, now: UnixMillis, databases: &Databases, out: &mut Vec<u8>) {
        for _ in 0..WALK_SLOTS_PER_STEP {
            let (told_db, queue, keys_sent) =
                (&mut self.told_db, &mut self.queue, &mut self.keys_sent);
            let stepped = self.walk.step(databases, |db, item| {
                if item.is_due(now) {
                    return;
                }
                if *told_db != Some(db) {
                    *told_db = Some(db);
                    Word::Db(db).write(out);
                }
                *keys_sent += 1;
                let key = item.key();
                let mut tray = Tray::default();
                let value = item.value(&mut tray);
                if pieces::is_small(&value) {
                    pieces::write_whole(key, value, item.expires(), out);
                } else {
                    queue.push_back(Queued::Large(Large::new(key, item.capture())));
                }
            });
            if let Some((slot, keys)) = stepped.slot_done {
                self.push_slot_done(slot, keys, out);
            }
            if stepped.any || self.walk.is_over() {
                return;
            }
        }
    }

    /// After the keys of the slot: behind a large one that is still to come, if there is one.
    fn push_slot_done(&mut self, slot: Slot, keys: u64, out: &mut Vec<u8>) {
        let word = Word::Slot { slot, keys };
        if self.queue.is_empty() {
            word.write(out);
        } else {
            let mut bytes = Vec::new();
            word.write(&mut bytes);
            self.push(&bytes);
        }
    }
}
