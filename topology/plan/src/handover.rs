//! Handing slots over, as `wire::control` has it: record epoch+1, push it to the source alone; its word decides.
//!
//! ```text
//! Ready ── record E+1 ──▶ undecided ──(source took it, or has lost its memory)──▶ E+1 is settled: target, then all
//!                             └──────(source had let go)── record E+2 = as before ──▶ settled; tried again
//! ```

use larder_wire::control::MapPush;
use larder_wire::{Attempt, ClusterMap, Epoch, NodeId};

use crate::event::{Action, Level, MoveDone, PushResult};
use crate::soft::Phase;
use crate::state::Handover;
use crate::step::Plan;

/// How long after a failed push the same is pushed again, in milliseconds.
const PUSH_AGAIN_MS: u64 = 100;

impl Plan {
    /// A map is recorded that one node has to take or turn down first: until its word, no other map is decided.
    pub(crate) fn undecided(&self) -> bool {
        self.state.handover.is_some() || self.state.yielding.is_some()
    }

    pub(crate) fn handing_over(&self, attempt: Attempt) -> bool {
        let handover = self.state.handover.as_ref();
        handover.is_some_and(|handover| handover.attempt == attempt)
    }

    /// The attempt that is ready the longest begins its handover, when no other is undecided.
    pub(crate) fn begin_handover(&mut self) {
        while !self.undecided() {
            let ready = self
                .soft
                .attempts
                .iter()
                .filter_map(|(id, soft)| match soft.phase {
                    Phase::Ready { since } => Some((since, *id)),
                    Phase::Asked { .. } | Phase::Copying { .. } => None,
                });
            let Some((since, attempt)) = ready.min() else {
                return;
            };
            let source = self.state.attempts[&attempt].source;
            let waited = self.soft.now.saturating_sub(since);
            if waited > larder_wire::control::HOLD_MS_MAX {
                self.fail_attempt(attempt, format!("its turn came after {waited} ms of hold"));
            } else if !self.soft.reachable(source) {
                let addr = self.addr(source);
                self.fail_attempt(attempt, format!("source {addr} does not answer"));
            } else {
                self.state.handover = Some(self.handover_of(attempt));
            }
        }
    }

    fn handover_of(&self, attempt: Attempt) -> Handover {
        let record = &self.state.attempts[&attempt];
        let mut shards = self.state.map.shards().to_vec();
        for shard in &mut shards {
            if shard.id == record.from {
                shard.slots = shard.slots.difference(&record.slots);
            } else if shard.id == record.to {
                shard.slots = shard.slots.union(&record.slots);
            }
        }
        let map = ClusterMap::new(&self.state.cluster, self.state.epoch().next(), shards)
            .expect("slots go from one shard to another")
            .with_writes(self.state.map.writes);
        Handover {
            attempt,
            source: record.source,
            target: record.target,
            map,
            target_lost: false,
            giving_back: false,
        }
    }

    pub(crate) fn pushed(
        &mut self,
        node: NodeId,
        run_id: NodeId,
        epoch: Epoch,
        result: PushResult,
    ) {
        // A push that reached nobody has no life behind it.
        let reached = !matches!(result, PushResult::Failed(_));
        if reached && !self.is_present_life(node, run_id) || !self.state.nodes.contains_key(&node) {
            return;
        }
        let now = self.soft.now;
        let soft = self.soft.node(node);
        if soft.pushing.is_some_and(|(pushing, _)| pushing == epoch) {
            soft.pushing = None;
        }
        match result {
            PushResult::Accepted => {
                soft.acked = soft.acked.max(epoch);
                self.source_has_epoch(node, epoch);
                self.yielder_has_epoch(node, epoch);
            }
            PushResult::Stale(theirs) => {
                soft.acked = soft.acked.max(theirs);
                soft.push_again_at = now + PUSH_AGAIN_MS;
                self.notice_newer_map(node, theirs);
                self.source_has_epoch(node, theirs);
                self.yielder_has_epoch(node, theirs);
            }
            PushResult::LetGo(attempt) => {
                soft.push_again_at = now;
                if !self.yielder_let_go(node, attempt.0) {
                    self.source_let_go(node, attempt);
                }
            }
            PushResult::Failed(_) => soft.push_again_at = now + PUSH_AGAIN_MS,
        }
    }

    /// The source of the handover has its map: it no longer owns the slots.
    pub(crate) fn source_has_epoch(&mut self, node: NodeId, epoch: Epoch) {
        let decided = self
            .state
            .handover
            .as_ref()
            .is_some_and(|handover| handover.source == node && epoch == handover.map.epoch);
        if decided {
            self.settle_handover();
        }
    }

    fn source_let_go(&mut self, node: NodeId, attempt: Attempt) {
        let decided = self
            .state
            .handover
            .as_ref()
            .is_some_and(|handover| handover.source == node && handover.attempt == attempt);
        if !decided {
            return;
        }
        #[cfg(test)]
        if self.planted == crate::sim::Planted::SkipLetGo {
            return self.settle_handover();
        }
        // The epoch of the handover is spent; the same owners go on under the one after it.
        let shards = self.state.map.shards().to_vec();
        self.state.settle(shards);
        self.state.handover = None;
        self.fail_attempt(attempt, "the source had let go before the map came".into());
    }

    /// A party of the undecided handover has lost its memory. The source's word will never come: the target owns.
    /// Without the target, the source is told to let go, so that it keeps what it may still have.
    pub(crate) fn handover_party_lost(&mut self, node: NodeId) {
        let Some(handover) = &mut self.state.handover else {
            return;
        };
        if handover.source == node {
            self.settle_handover();
        } else if handover.target == node {
            self.target_lost();
        }
    }

    pub(crate) fn target_lost(&mut self) {
        let Some(handover) = &mut self.state.handover else {
            return;
        };
        handover.target_lost = true;
        let (node, attempt) = (handover.source, handover.attempt);
        self.soft.out.push(Action::Abort { node, attempt });
    }

    /// A failover is ready to be decided, and needs the map. True when no other map is undecided. A handover whose
    /// source is lost is not waited for: its target is told to drop it, and says whether that came too late.
    pub(crate) fn free_the_map(&mut self) -> bool {
        if self.state.yielding.is_some() {
            return false;
        }
        let Some(handover) = self.state.handover.clone() else {
            return true;
        };
        if !self.is_silent(handover.source) {
            return false;
        }
        let target = self.soft.nodes.get(&handover.target);
        let target_gone = handover.target_lost || target.is_none_or(|soft| soft.process_gone);
        if target_gone {
            self.give_back();
            return true;
        }
        if let Some(present) = &mut self.state.handover {
            present.giving_back = true;
        }
        false
    }

    /// The target is asked to drop what it has, until it says that it did.
    pub(crate) fn send_give_back(&mut self) {
        let Some(handover) = self.state.handover.as_ref().filter(|h| h.giving_back) else {
            return;
        };
        let (node, attempt, now) = (handover.target, handover.attempt, self.soft.now);
        let soft = self.soft.node(node);
        let lately = soft
            .abort_at
            .is_some_and(|at| now.saturating_sub(at) < PUSH_AGAIN_MS);
        if soft.reachable && !lately {
            soft.abort_at = Some(now);
            self.soft.out.push(Action::Abort { node, attempt });
        }
    }

    /// A target that has dropped the attempt will never own by it. One that has the map already got it from the
    /// source, and owns.
    pub(crate) fn aborted(&mut self, node: NodeId, run_id: NodeId, attempt: Attempt, epoch: Epoch) {
        let handover = self.state.handover.as_ref();
        let Some(handover) = handover.filter(|h| h.giving_back && h.attempt == attempt) else {
            return;
        };
        if handover.target != node || !self.is_present_life(node, run_id) {
            return;
        }
        match epoch >= handover.map.epoch {
            true => self.settle_handover(),
            false => self.give_back(),
        }
    }

    /// The slots stay with the source's shard. The epoch of the handover is spent.
    fn give_back(&mut self) {
        let Some(handover) = &self.state.handover else {
            return;
        };
        let attempt = handover.attempt;
        let shards = self.state.map.shards().to_vec();
        self.state.settle(shards);
        self.state.handover = None;
        self.fail_attempt(attempt, "its source was lost".into());
    }

    /// The handover's map becomes the settled one.
    fn settle_handover(&mut self) {
        let told = self.handover_recorded();
        let Some(handover) = self.state.handover.take() else {
            return;
        };
        let record = self.state.attempts.remove(&handover.attempt);
        let soft = self.soft.attempts.remove(&handover.attempt);
        let (record, now) = (record.expect("checked by the state"), self.soft.now);
        self.state.map = handover.map;
        if told {
            self.tell_at_once(handover.target);
        }
        let (keys, bytes) = soft.as_ref().map_or((0, 0), |soft| (soft.keys, soft.bytes));
        if let Some(operation) = &mut self.state.operation {
            for part in &mut operation.moves {
                if (part.from, part.to) == (record.from, record.to) {
                    part.slots = part.slots.difference(&record.slots);
                }
            }
            operation.keys_moved += keys;
            operation.bytes_moved += bytes;
        }
        let counts = &mut self.state.counts;
        counts.moves_finished += 1;
        counts.slots_moved += record.slots.len() as u64;
        counts.keys_moved += keys;
        counts.bytes_moved += bytes;
        self.soft.operation.advanced_at = now;
        self.soft
            .operation
            .backoff
            .remove(&(record.from, record.to));
        let since = |at: u64| now.saturating_sub(at);
        let ready_since = soft.as_ref().and_then(|soft| match soft.phase {
            Phase::Ready { since } => Some(since),
            Phase::Asked { .. } | Phase::Copying { .. } => None,
        });
        self.soft.out.push(Action::Moved(MoveDone {
            attempt: handover.attempt,
            from: record.from,
            to: record.to,
            slots: record.slots.len(),
            keys,
            bytes,
            took_ms: soft.map_or(0, |soft| since(soft.began_at)),
            handover_ms: ready_since.map_or(0, since),
        }));
        if handover.target_lost {
            self.tell_of_lost_target(handover.target, record.slots.len());
        }
    }

    /// The target has started again since it was ready, and owns. Its shard goes on with what a replica has of the slots (in `safe` it
    /// was ready only when one had all), or with what it read from its files: the failover says so, and counts what that loses.
    fn tell_of_lost_target(&mut self, target: NodeId, slots: usize) {
        let addr = self.addr(target);
        let home = self.state.map.find_node(target);
        let replicas = home.is_some_and(|(shard, _)| shard.replicas().next().is_some());
        let node = self.state.nodes.get(&target);
        let loaded = node.is_some_and(|node| node.data.is_some());
        let (level, then) = match (replicas, loaded) {
            (true, true | false) => (Level::Warn, "its shard goes on with what its replicas have"),
            (false, true) => (
                Level::Warn,
                "it goes on with what it has read from its files",
            ),
            (false, false) => (Level::Error, "their data is lost"),
        };
        self.state.counts.data_losses += u64::from(level == Level::Error);
        self.log(
            level,
            format!(
                "{slots} slots were handed to node {addr}, which has started again since: {then}"
            ),
        );
    }

    /// The map is in the record already, as that of the handover, and clients wait: target and proxies do
    /// not wait for the record of the decision, too.
    pub(crate) fn tell_at_once(&mut self, target: NodeId) {
        let map = self.state.map.clone();
        let (epoch, now) = (map.epoch, self.soft.now);
        if self.soft.reachable(target) {
            self.soft.node(target).pushing = Some((epoch, now));
            self.soft.out.push(Action::PushMap {
                node: target,
                push: MapPush {
                    map: map.clone(),
                    handovers: Vec::new(),
                    yields: None,
                },
            });
        }
        self.soft.broadcast = epoch;
        self.soft.out.push(Action::Broadcast(Box::new(map)));
    }
}
