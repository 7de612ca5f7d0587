//! A primary that is lost, and the replica that takes its place. `wire::replication` says what makes it safe; here is
//! when it begins and what it waits for; whom it chooses is in `successor.rs`.
//!
//! ```text
//! gone, silent, or back without its memory ── record: suspected ──▶ fence all replicas, no lease for the primary
//!   ├── it answers again ───────────────────────────────────────▶ called off, replicas are let loose
//!   └── all that may be in step are fenced, lease run out (or process gone) ── record: epoch+1 ──▶ promoted first, all
//! ```
//!
//! One that lives, and reaches none of its replicas (`parted.rs`), is fenced with them; that it answers calls nothing off.
//!
//! While it is undecided, nobody of the shard is given a map: a newer one would lift the fence.

use larder_wire::replication::{Fence, Fenced, LEASE_MARGIN_MS, LEASE_MS};
use larder_wire::{Epoch, NodeId, Role, ShardEntry, ShardId};

use crate::LAST_WAIT_MS;
use crate::event::{Action, FailoverDone, Level};
use crate::soft::FailoverSoft;
use crate::state::{Failover, FailoverKind};
use crate::step::Plan;
use crate::successor::Successor;

/// A fence without an answer for this long is said again, in milliseconds.
const FENCE_AGAIN_MS: u64 = 300;

/// What a failover waits for, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    Fences(Vec<NodeId>),
    Lease(u64),
    /// Replicas that may have writes which nobody else has: only they, or an operator, can end this.
    Witnesses(Vec<NodeId>),
    /// Nodes that are down, and may have files.
    Files(Vec<NodeId>),
    Anybody,
}

impl Plan {
    pub(crate) fn failing_over(&self, shard: ShardId) -> bool {
        self.state.failovers.contains_key(&shard)
    }

    pub(crate) fn suspected(&self, shard: ShardId) -> Option<&Failover> {
        let failover = self.state.failovers.get(&shard)?;
        matches!(failover.kind, FailoverKind::Suspected { .. }).then_some(failover)
    }

    /// Its shard is being failed over, and the fence must hold.
    pub(crate) fn is_kept_from_maps(&self, node: NodeId) -> bool {
        #[cfg(test)]
        if self.planted == crate::sim::Planted::LiftFences {
            return false;
        }
        let shard = self.state.map.find_node(node);
        shard.is_some_and(|(shard, _)| self.suspected(shard.id).is_some())
    }

    /// Primaries that nothing is heard of, of shards that have somebody else.
    pub(crate) fn suspect(&mut self) {
        if !self.state.formed() {
            return;
        }
        let mut found = Vec::new();
        for shard in self.state.map.shards() {
            let alone = shard.replicas().next().is_none();
            if alone || self.suspected(shard.id).is_some() {
                continue;
            }
            let Some(primary) = shard.primary().map(|entry| entry.id) else {
                continue;
            };
            let suspected = self.why_suspected(primary).map(|why| (why, false));
            let parted = || self.why_parted(shard.id).map(|why| (why, true));
            if let Some((why, parted)) = suspected.or_else(parted) {
                found.push((shard.id, primary, why, parted));
            }
        }
        for (shard, primary, why, parted) in found {
            self.begin_failover(shard, primary, why, parted);
        }
        self.soft.restarted.clear();
    }

    fn why_suspected(&self, primary: NodeId) -> Option<String> {
        let soft = self.soft.nodes.get(&primary)?;
        let gone = self.state.nodes.get(&primary).is_none_or(|node| node.gone);
        let silent_ms = self.soft.now.saturating_sub(soft.answered_at);
        if gone {
            return Some("another node has taken its address".into());
        }
        if self.soft.restarted.contains_key(&primary) {
            return Some("it has restarted".into());
        }
        match (soft.process_gone, self.is_silent(primary)) {
            (true, _) => Some(format!("its process is gone ({})", soft.unreachable_why)),
            (false, true) => Some(format!("it has been silent for {silent_ms} ms")),
            (false, false) => None,
        }
    }

    fn begin_failover(&mut self, shard: ShardId, primary: NodeId, reason: String, parted: bool) {
        let number = self.state.take_failover_number();
        let present = self.state.nodes[&primary].run_id;
        let past = self.soft.restarted.get(&primary).copied();
        let run_id = past.map(|(run_id, _)| run_id);
        let said = self
            .soft
            .nodes
            .get(&primary)
            .and_then(|soft| soft.history());
        let reign = past.and_then(|(_, history)| history).or(said);
        self.drop_yield(shard);
        let lives = |id: &NodeId| Some((*id, self.state.nodes.get(id)?.run_id));
        let witnesses = self.state.maybe_in_step(shard);
        let failover = Failover {
            number,
            primary,
            run_id: run_id.unwrap_or(present),
            epoch: self.state.epoch(),
            witnesses: witnesses.iter().filter_map(lives).collect(),
            kind: FailoverKind::Suspected {
                reason: reason.clone(),
                parted,
            },
            forced: false,
        };
        let soft = FailoverSoft {
            reign,
            ..FailoverSoft::begun(self.soft.now)
        };
        self.soft.failovers.insert(number, soft);
        self.state.failovers.insert(shard, failover);
        self.void_attempts_of(primary, "its primary is suspected");
        let addr = self.addr(primary);
        self.log(
            Level::Warn,
            format!("failover of shard {shard} begins: primary {addr}: {reason}"),
        );
    }

    /// What was planned is overtaken. An epoch that the old primary may have been given is spent.
    pub(crate) fn drop_yield(&mut self, shard: ShardId) {
        self.state
            .yielding
            .take_if(|yielding| yielding.shard == shard);
        if let Some(planned) = self.state.failovers.remove(&shard) {
            self.soft.failovers.remove(&planned.number);
        }
    }

    pub(crate) fn void_attempts_of(&mut self, node: NodeId, why: &str) {
        let parts = self.state.attempts.iter().filter(|(attempt, record)| {
            (record.source == node || record.target == node) && !self.handing_over(**attempt)
        });
        let parts: Vec<_> = parts.map(|(attempt, _)| *attempt).collect();
        let addr = self.addr(node);
        for attempt in parts {
            self.fail_attempt(attempt, format!("node {addr}: {why}"));
        }
    }

    /// Takes every suspected shard as far as it can be taken.
    pub(crate) fn decide_failovers(&mut self) {
        let suspected: Vec<ShardId> = self.state.failovers.keys().copied().collect();
        for shard in suspected {
            let Some(failover) = self.suspected(shard).cloned() else {
                continue;
            };
            if self.answers_again(&failover) {
                self.call_off(shard, &failover);
                continue;
            }
            match self.successor(shard, &failover) {
                Err(waits) => self.say_waits(&failover, shard, waits),
                Ok(successor) if self.free_the_map() => {
                    self.promote(shard, &failover, successor);
                }
                Ok(_) => {}
            }
        }
    }

    /// The life that was suspected has answered since. One that is parted from its replicas answers all the while: its
    /// failover is over soon, or not at all.
    fn answers_again(&self, failover: &Failover) -> bool {
        let Some(soft) = self.soft.nodes.get(&failover.primary) else {
            return false;
        };
        let began_at = self
            .soft
            .failovers
            .get(&failover.number)
            .map(|soft| soft.began_at);
        let patience = match failover.is_parted() {
            true => LAST_WAIT_MS,
            false => 0,
        };
        self.is_present_life(failover.primary, failover.run_id)
            && soft.reachable
            && !self.is_silent(failover.primary)
            && began_at.is_some_and(|began| soft.answered_at > began + patience)
    }

    fn call_off(&mut self, shard: ShardId, failover: &Failover) {
        self.state.failovers.remove(&shard);
        self.soft.failovers.remove(&failover.number);
        self.state.counts.failovers_called_off += 1;
        let addr = self.addr(failover.primary);
        let why = match failover.is_parted() {
            true => {
                self.rest_from_parting(shard);
                format!("primary {addr} answers, and not all of its replicas do")
            }
            false => format!("primary {addr} answers again"),
        };
        self.log(
            Level::Info,
            format!("failover of shard {shard} is called off: {why}"),
        );
    }

    /// Whoever may take the place, once nothing can be lost by it any more.
    fn successor(&self, shard: ShardId, failover: &Failover) -> Result<Successor, Waits> {
        let soft = self
            .soft
            .failovers
            .get(&failover.number)
            .ok_or(Waits::Anybody)?;
        let dead = self.is_dead(failover);
        let safe = self.state.map.writes == larder_wire::replication::WriteMode::Safe;
        let waited = self.soft.now.saturating_sub(soft.began_at);
        self.await_fences(failover, soft, dead, safe, waited)?;
        // Fenced itself, it serves nothing, whatever lease it has.
        let told = soft.fenced.contains_key(&failover.primary);
        #[cfg(test)]
        let told =
            told || failover.is_parted() && self.planted == crate::sim::Planted::PartedUntold;
        if !dead && !told {
            let free_at = self.lease_over_at(failover, soft);
            #[cfg(test)]
            let free_at = match self.planted {
                crate::sim::Planted::IgnoreLease => 0,
                _ => free_at,
            };
            if self.soft.now < free_at {
                return Err(Waits::Lease(free_at - self.soft.now));
            }
        }
        self.choose(shard, failover, soft)
    }

    /// The life that was suspected does not run any more: no answer can leave it.
    pub(crate) fn is_dead(&self, failover: &Failover) -> bool {
        let gone = self
            .soft
            .nodes
            .get(&failover.primary)
            .is_none_or(|soft| soft.process_gone);
        gone || !self.is_present_life(failover.primary, failover.run_id)
    }

    fn await_fences(
        &self,
        failover: &Failover,
        soft: &FailoverSoft,
        dead: bool,
        safe: bool,
        waited: u64,
    ) -> Result<(), Waits> {
        #[cfg(test)]
        if self.planted == crate::sim::Planted::SkipFences {
            return Ok(());
        }
        let open = failover.witnesses.iter().filter(|(id, life)| {
            let fenced = soft.fenced.contains_key(id);
            let process_gone = self.soft.nodes.get(id).is_none_or(|soft| soft.process_gone);
            let changed = !self.is_present_life(**id, **life);
            // Without the old primary nobody listens to what they acknowledge.
            let passed_over = dead && !safe && waited >= LAST_WAIT_MS;
            !(fenced || process_gone || changed || passed_over || failover.forced)
        });
        let open: Vec<NodeId> = open.map(|(id, _)| *id).collect();
        match open.is_empty() {
            true => Ok(()),
            false => Err(Waits::Fences(open)),
        }
    }

    /// When no lease of the primary can run any more.
    fn lease_over_at(&self, failover: &Failover, soft: &FailoverSoft) -> u64 {
        let granted = self.soft.leases.get(&failover.primary).copied();
        let granted = granted.unwrap_or(0).max(self.soft.began_at);
        let answered = soft.fenced.values().map(|(fenced, heard_at)| {
            let ago = fenced.answered_ms_ago.unwrap_or(u64::MAX);
            heard_at.saturating_sub(ago)
        });
        let last = answered.max().unwrap_or(0).max(granted);
        last + LEASE_MS + LEASE_MARGIN_MS
    }

    fn promote(&mut self, shard: ShardId, failover: &Failover, successor: Successor) {
        let soft = self.soft.failovers.remove(&failover.number);
        self.state.failovers.remove(&shard);
        self.void_attempts_of(failover.primary, "its shard has another primary");
        let kept = |id: NodeId| {
            let fenced = soft.as_ref().and_then(|soft| soft.fenced.get(&id));
            let place = fenced.and_then(|(fenced, _)| fenced.place);
            // Who has less is in step again once it has caught up.
            place.is_some() && place == successor.place && failover.witnesses.contains_key(&id)
        };
        let mut shards = self.state.map.shards().to_vec();
        for entry in shards.iter_mut().filter(|entry| entry.id == shard) {
            crown(entry, successor.id, kept);
        }
        self.state.settle(shards);
        let took_ms = soft.map_or(0, |soft| self.soft.now.saturating_sub(soft.began_at));
        self.state.counts.failovers += 1;
        self.soft.leases.remove(&failover.primary);
        self.soft.out.push(Action::FailedOver(FailoverDone {
            shard,
            planned: false,
            took_ms,
        }));
        let (new, old) = (self.addr(successor.id), self.addr(failover.primary));
        let with = match successor.place {
            Some(place) => format!("at offset {}", place.offset),
            None => "empty".to_string(),
        };
        self.log(
            Level::Warn,
            format!(
                "shard {shard} goes on with {new} ({with}) instead of {old}, after {took_ms} ms"
            ),
        );
        if !successor.whole {
            self.state.counts.data_losses += 1;
            self.log(
                Level::Error,
                format!("shard {shard} has lost writes: {new} was not in step with {old}"),
            );
        }
    }

    fn say_waits(&mut self, failover: &Failover, shard: ShardId, waits: Waits) {
        let Some(soft) = self.soft.failovers.get_mut(&failover.number) else {
            return;
        };
        let long = self.soft.now.saturating_sub(soft.began_at) >= LAST_WAIT_MS;
        soft.waits = Some(waits.clone());
        if !long || soft.said {
            return;
        }
        soft.said = true;
        let text = self.waits_text(shard, &waits);
        self.log(
            Level::Error,
            format!("failover of shard {shard} waits: {text}"),
        );
    }

    pub(crate) fn waits_text(&self, shard: ShardId, waits: &Waits) -> String {
        let list = |ids: &[NodeId]| {
            let addrs: Vec<String> = ids.iter().map(|id| self.addr(*id)).collect();
            addrs.join(", ")
        };
        match waits {
            Waits::Fences(ids) => format!(
                "{} may still follow the primary and cannot be reached (larder failover {shard} --force goes on without)",
                list(ids)
            ),
            Waits::Lease(ms) => format!("the primary's lease runs for {ms} ms more"),
            Waits::Witnesses(ids) => format!(
                "{} may have writes that nobody else has (bring it back, or larder failover {shard} --force goes on without)",
                list(ids)
            ),
            Waits::Files(ids) => format!(
                "{} may have more than what is left (bring it back, or larder failover {shard} --force goes on without)",
                list(ids)
            ),
            Waits::Anybody => {
                format!("no replica has data that could serve (bring a node of shard {shard} back)")
            }
        }
    }

    // What nodes are told, and what they answer.

    /// Every replica of a suspected primary is fenced, whether in step or not; the primary, too, where it is known to hear.
    pub(crate) fn send_fences(&mut self) {
        let now = self.soft.now;
        for (shard, failover) in &self.state.failovers {
            if self.suspected(*shard).is_none() {
                continue;
            }
            let members = self.state.shard(*shard).into_iter().flat_map(|s| &s.nodes);
            let Some(soft) = self.soft.failovers.get_mut(&failover.number) else {
                continue;
            };
            let told = failover.is_parted();
            #[cfg(test)]
            let told = told && self.planted != crate::sim::Planted::PartedUntold;
            for entry in members.filter(|entry| told || entry.id != failover.primary) {
                let reachable = self
                    .soft
                    .nodes
                    .get(&entry.id)
                    .is_some_and(|node| node.reachable);
                let lately = soft.asked.get(&entry.id);
                let lately = lately.is_some_and(|at| now.saturating_sub(*at) < FENCE_AGAIN_MS);
                if !reachable || lately || soft.fenced.contains_key(&entry.id) {
                    continue;
                }
                soft.asked.insert(entry.id, now);
                self.soft.out.push(Action::Fence {
                    node: entry.id,
                    fence: Fence {
                        number: failover.number,
                        shard: *shard,
                        primary: failover.primary,
                        epoch: failover.epoch,
                    },
                });
            }
        }
    }

    pub(crate) fn fenced(&mut self, node: NodeId, number: u64, result: Result<Fenced, String>) {
        let now = self.soft.now;
        let present = |run_id| self.is_present_life(node, run_id);
        let fenced = match result {
            Ok(fenced) if fenced.number == number && present(fenced.run_id) => fenced,
            Ok(_) => return,
            Err(reason) => {
                let addr = self.addr(node);
                return self.log(Level::Warn, format!("node {addr} is not fenced: {reason}"));
            }
        };
        let known = self
            .soft
            .nodes
            .get_mut(&node)
            .and_then(|soft| soft.state.as_mut());
        if let Some(said) = known.and_then(|state| state.replication.as_mut()) {
            said.fence = Some(number);
        }
        if let Some(soft) = self.soft.failovers.get_mut(&number) {
            soft.fenced.insert(node, (fenced, now));
        }
    }

    /// A replica that started again since it was fenced has nothing of what it had.
    pub(crate) fn forget_fences_of(&mut self, node: NodeId) {
        for soft in self.soft.failovers.values_mut() {
            soft.fenced.remove(&node);
            soft.asked.remove(&node);
        }
    }

    /// Fences of failovers that were called off are lifted. A node without the settled map waits for that: it may be
    /// the very map that its fence was for.
    pub(crate) fn lift_fences(&mut self) {
        let now = self.soft.now;
        let numbers: Vec<u64> = self.state.failovers.values().map(|f| f.number).collect();
        let epoch = self.state.map.epoch;
        for (id, soft) in &mut self.soft.nodes {
            let said = soft
                .state
                .as_ref()
                .and_then(|state| state.replication.as_ref());
            let Some(number) = said.and_then(|said| said.fence) else {
                continue;
            };
            let lately = soft
                .unfenced_at
                .is_some_and(|at| now.saturating_sub(at) < FENCE_AGAIN_MS);
            if numbers.contains(&number) || !soft.reachable || soft.acked < epoch || lately {
                continue;
            }
            soft.unfenced_at = Some(now);
            self.soft.out.push(Action::Unfence { node: *id, number });
        }
    }

    /// A `JOIN` was heard. True: it counts as a lease. Primaries that are suspected get none, nor does anybody who may
    /// still take itself for a primary that it is not.
    pub fn lease(&mut self, now_ms: u64, node: NodeId, run_id: NodeId) -> bool {
        self.soft.now = now_ms.max(self.soft.now);
        if !self.state.formed() {
            return true;
        }
        #[cfg(test)]
        if self.planted == crate::sim::Planted::LeaseForAll {
            return true;
        }
        if !self.is_present_life(node, run_id) {
            return false;
        }
        let soft = self.soft.nodes.get(&node);
        let knows = soft.is_some_and(|soft| {
            let has_none = soft
                .state
                .as_ref()
                .is_some_and(|state| state.epoch == Epoch(0));
            soft.acked >= self.state.map.epoch || has_none
        });
        match self.state.map.find_node(node) {
            Some((shard, entry)) if entry.role == Role::Primary => {
                let granted = self.suspected(shard.id).is_none();
                if granted {
                    self.soft.leases.insert(node, self.soft.now);
                }
                granted
            }
            Some(_) | None => knows,
        }
    }
}

/// `successor` becomes the primary of `shard`, first in its list; of the others, `kept` stay in step.
pub(crate) fn crown(shard: &mut ShardEntry, successor: NodeId, kept: impl Fn(NodeId) -> bool) {
    for entry in &mut shard.nodes {
        entry.role = match entry.id == successor {
            true => Role::Primary,
            false => Role::Replica,
        };
        entry.in_step = entry.role == Role::Replica && kept(entry.id);
    }
    shard.nodes.sort_by_key(|entry| entry.role);
}
