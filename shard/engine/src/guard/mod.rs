//! Whether this node may answer: what stands between a command that was carried out and its reply, and before it is carried out at all.
//!
//! ```text
//! lease.rs      a primary that nobody has heard of serves no more
//! answers.rs    replies that wait until replicas or the file have what they tell of
//! fence.rs      a replica lets go of its primary
//! yielding.rs   a primary makes way for a replica that has everything
//! waits.rs      WAIT, and how many replicas a write needs
//! ```
//!
//! Standalone nodes, and primaries of shards without replicas in `async` clusters, pay one branch a batch and one a command for all of it.

pub(crate) mod answers;
pub(crate) mod fence;
pub(crate) mod lease;
#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;
pub(crate) mod waits;
pub(crate) mod yielding;

use std::rc::Rc;

use larder_wire::command::CommandId;
use larder_wire::replication::{LinkPhase, WriteMode};
use larder_wire::{Offset, Refusal, Role};

pub use answers::Answer;
use answers::Answers;
use fence::Fences;
use lease::{Serves, Signs};
use yielding::Yields;

use crate::call::touches_keys;
use crate::client::Client;
use crate::clock::Clock;
use crate::node::Node;

/// What decides whether this node may answer.
#[derive(Default)]
pub(crate) struct Guard {
    /// A primary that serves only while it is heard of.
    needs_lease: bool,
    joined_ms: Option<u64>,
    /// When the latest ping was sent that a replica answered which is in step by the present map; its connection may be gone since.
    pinged_ms: Option<u64>,
    /// The clock's milliseconds by the last tick.
    pub(crate) seen_ms: u64,
    serves: Serves,
    pub(crate) answers: Answers,
    pub(crate) fences: Fences,
    pub(crate) yields: Yields,
    /// When this replica last said something to its primary.
    answered_primary_ms: Option<u64>,
    #[cfg(test)]
    pub(crate) planted: Option<Planted>,
}

/// Mistakes that the random test must find.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    /// The acknowledgement of a replica that is not in step counts.
    AckOfAnyone,
    /// Reads do not wait.
    ReadsAtOnce,
    LeaseForEver,
    /// A lease counts from when it was answered.
    LeaseFromAnswer,
    /// The lease is looked at now and then, not before each batch.
    StoodStill,
    /// A fenced replica goes on.
    FenceForgotten,
    /// Who waits when a primary becomes a replica is answered.
    FreedByDemotion,
    /// The topology forgets a mark that it took away while another in step has less.
    ForgottenFaded,
    /// Slots that moved here may be served though no replica has their keys.
    ReadyAtCut,
    /// A source drops what it handed over before the topology knows of it.
    DroppedAtHandover,
}

#[cfg(test)]
impl Planted {
    pub(crate) const ALL: [Planted; 10] = [
        Planted::AckOfAnyone,
        Planted::ReadsAtOnce,
        Planted::LeaseForEver,
        Planted::LeaseFromAnswer,
        Planted::StoodStill,
        Planted::FenceForgotten,
        Planted::FreedByDemotion,
        Planted::ForgottenFaded,
        Planted::ReadyAtCut,
        Planted::DroppedAtHandover,
    ];

    /// In how large a world it shows.
    pub(crate) fn shards(self) -> usize {
        match self {
            Planted::AckOfAnyone
            | Planted::ReadsAtOnce
            | Planted::LeaseForEver
            | Planted::LeaseFromAnswer
            | Planted::StoodStill
            | Planted::FenceForgotten
            | Planted::FreedByDemotion
            | Planted::ForgottenFaded => 1,
            Planted::ReadyAtCut | Planted::DroppedAtHandover => 2,
        }
    }
}

impl Guard {
    pub(crate) fn refuses_writes(&self) -> Option<Refusal> {
        self.serves.refuses_writes()
    }

    pub(crate) fn refuses_reads(&self) -> Option<Refusal> {
        self.serves.refuses_reads()
    }
}

impl Node {
    /// A JOIN was answered with a lease; `sent_ms` is when it was sent, in the node's monotonic milliseconds.
    pub fn joined(&mut self, sent_ms: u64, clock: Clock) {
        #[cfg(test)]
        let sent_ms = match self.guard.planted {
            Some(Planted::LeaseFromAnswer) => clock.mono_ms,
            _ => sent_ms,
        };
        let latest = self.guard.joined_ms.max(Some(sent_ms));
        self.guard.joined_ms = latest;
        self.settle_lease(clock);
    }

    /// Whether the node may serve as far as the lease goes.
    pub fn is_leased(&self) -> bool {
        self.guard.serves.is_leased()
    }

    /// The number of the fence that holds here.
    pub fn fence(&self) -> Option<u64> {
        self.guard.fences.number()
    }

    /// Batches of replies that wait.
    pub fn waiting_answers(&self) -> usize {
        self.guard.answers.len()
    }

    /// Before a batch is executed, with a clock that was read for it: a lease that ran out while the process stood still is noticed here.
    #[inline]
    pub fn begin_batch(&mut self, clock: Clock) {
        if self.guard.needs_lease {
            self.look_at_lease(clock);
        }
        self.guard.answers.touched = false;
    }

    /// Whether replies of this node may have to wait.
    #[inline]
    pub fn answers_may_wait(&self) -> bool {
        self.guard.answers.may_wait()
    }

    /// What is done with the replies of a client's batch that was just executed; to be asked with a clock that was read after it. Where they
    /// wait, the client is rung when they may leave, and killed when they never will.
    pub fn answer_batch(&mut self, client: &Rc<Client>, clock: Clock) -> Answer {
        match self.guard.answers.touched {
            true => self.answer(client, clock),
            false => Answer::AtOnce,
        }
    }

    /// The same for what the client was told without a batch: what was posted, and what a script answers.
    pub fn answer(&mut self, client: &Rc<Client>, clock: Clock) -> Answer {
        if client.feeding.get() {
            return Answer::AtOnce;
        }
        if self.guard.needs_lease {
            self.look_at_lease(clock);
            if self.guard.serves.refuses_reads().is_some() {
                self.stats.answers_cut_off.add(1);
                return Answer::Never;
            }
        }
        // A unit that is not closed yet ends somewhere behind the end.
        let place = Offset(self.journal.end().0 + u64::from(self.journal.has_unit()));
        if place <= self.guard.answers.reached() || self.reads_go_on(client, place) {
            return Answer::AtOnce;
        }
        let answers = &mut self.guard.answers;
        answers.enqueue(client, place, clock.mono_ms);
        Answer::At(place)
    }

    /// Whether the reply may tell of data.
    pub(crate) fn waits_for_answer(&self, id: CommandId) -> bool {
        #[cfg(test)]
        if self.guard.planted == Some(Planted::ReadsAtOnce) {
            return larder_wire::command::spec(id).is_write();
        }
        touches_keys(id) || id == CommandId::Exec
    }

    /// Replies that wait for no more than this may leave. To be asked with a clock of that moment; `None`: none may.
    pub fn answered_up_to(&mut self, clock: Clock) -> Option<Offset> {
        if self.guard.needs_lease {
            self.look_at_lease(clock);
            if self.guard.serves.refuses_reads().is_some() {
                return None;
            }
        }
        Some(self.guard.answers.reached())
    }

    /// The journal is in the file up to `place`, and replies wait for that; `None`: they do not wait for the file.
    pub fn set_in_file(&mut self, place: Option<Offset>) {
        self.guard.answers.set_in_file(place);
        self.confirm_imports();
    }

    /// What is due by the clock.
    pub(crate) fn tick_guard(&mut self, clock: Clock) {
        if self.guard.needs_lease {
            self.settle_lease(clock);
        }
        self.let_go_of_yields(clock);
        let patience_ms = match self.waits_in_vain() {
            true => answers::FULL_WAIT_MS_MAX,
            false => answers::ANSWER_WAIT_MS_MAX,
        };
        let answers = &mut self.guard.answers;
        let cut_off = answers.cut_off_overdue(clock.mono_ms, patience_ms);
        self.stats.answers_cut_off.add(cut_off as u64);
        self.guard.seen_ms = clock.mono_ms;
        self.settle_acked();
        self.settle_good_replicas();
    }

    fn look_at_lease(&mut self, clock: Clock) {
        #[cfg(test)]
        if self.guard.planted == Some(Planted::StoodStill) {
            return;
        }
        self.settle_lease(clock);
    }

    pub(crate) fn settle_lease(&mut self, clock: Clock) {
        let serves = match self.guard.needs_lease {
            false => Serves::All,
            true => {
                let mut takes_writes = false;
                for follower in self.replication.followers.iter().filter(|it| it.in_step) {
                    let answered = follower.last_ping_answered_sent_at_ms;
                    self.guard.pinged_ms = self.guard.pinged_ms.max(answered);
                    takes_writes |= follower.phase == LinkPhase::Streaming;
                }
                let signs = Signs {
                    joined_ms: self.guard.joined_ms,
                    pinged_ms: self.guard.pinged_ms,
                };
                let leased = signs.are_fresh(clock.mono_ms);
                #[cfg(test)]
                let leased = leased || self.guard.planted == Some(Planted::LeaseForEver);
                let leased = leased && !self.is_fenced_from(self.ownership.me());
                Serves::decide(self.ownership.map().writes, leased, takes_writes)
            }
        };
        if serves == self.guard.serves {
            return;
        }
        let (was_leased, is_leased) = (self.guard.serves.is_leased(), serves.is_leased());
        self.guard.serves = serves;
        if was_leased && !is_leased {
            self.stats.leases_lost.add(1);
            self.cut_off_answers();
        }
        if was_leased != is_leased {
            self.settle_passive();
        }
        self.settle_write_refusal();
    }

    fn cut_off_answers(&mut self) {
        let cut_off = self.guard.answers.cut_off();
        self.stats.answers_cut_off.add(cut_off as u64);
    }

    /// A replica has more than before, or one came or went.
    pub(crate) fn settle_acked(&mut self) {
        if self.guard.answers.waits_for_replicas() {
            let acked = self.acked();
            self.guard.answers.set_acked(Some(acked));
            self.confirm_imports();
        }
    }

    /// What a replica in step has.
    fn acked(&self) -> Offset {
        #[cfg(test)]
        if self.guard.planted == Some(Planted::AckOfAnyone) {
            let followers = self.replication.followers.iter();
            return followers.map(|it| it.acked).max().unwrap_or_default();
        }
        self.replication.followers.acked_by_in_step(1)
    }

    /// After a map was taken; `was` is the role before it.
    pub(crate) fn settle_guard(&mut self, was: Role, clock: Clock) {
        let map = self.ownership.map();
        let own = map.find_node(self.ownership.me());
        let is_primary = self.ownership.role() == Role::Primary;
        let safe = map.writes == WriteMode::Safe;
        let has_replicas = own.is_some_and(|(shard, _)| shard.replicas().next().is_some());
        let serves = own.is_some() && is_primary;
        if self.guard.fences.settle(self.ownership.epoch()) {
            self.cut_upstream();
        }
        self.settle_yields(clock);
        let ends = was == Role::Primary && !is_primary;
        #[cfg(test)]
        let ends = ends && self.guard.planted != Some(Planted::FreedByDemotion);
        if ends {
            self.cut_off_answers();
        }
        self.guard.needs_lease = serves && (has_replicas || safe);
        // Whom this map does not call in step, the topology does not ask when it last answered.
        self.guard.pinged_ms = None;
        let acked = (serves && safe).then(|| self.acked());
        self.guard.answers.set_acked(acked);
        self.settle_passive();
        self.settle_lease(clock);
    }

    /// Keys go by themselves only where this node decides: not on a replica, in a pause, while the writes wait for a successor, or without a lease.
    pub(crate) fn settle_passive(&mut self) {
        let passive = self.pause.is_some()
            || self.ownership.role() == Role::Replica
            || self.guard.yields.held().is_some()
            || !self.guard.serves.is_leased();
        self.databases.set_passive(passive);
    }
}
