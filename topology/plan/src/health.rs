//! Who is there: joins, probes, silence, lives of nodes. A node that comes back under another run id has lost
//! its memory; a node whose address another has taken will not come back.

use larder_wire::control::{ImportPhase, NodeJoin, NodeState, ProxyJoin};
use larder_wire::replication::SILENCE_MS;
use larder_wire::{Epoch, NodeId};

use crate::event::{Action, Level};
use crate::soft::{NodeSoft, ProxySoft};
use crate::state::Node;
use crate::step::Plan;
use crate::{PROXY_FORGET_MS, SPARE_FORGET_MS};

/// Former run ids that are kept of a node.
const PAST_RUNS_MAX: usize = 8;

/// What a run id says about the node that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Present,
    Past,
    Next,
}

impl Plan {
    pub(crate) fn node_joined(&mut self, join: NodeJoin) {
        let now = self.soft.now;
        match self.life(join.id, join.run_id) {
            Some(Life::Past) => return,
            Some(Life::Next) => self.begin_life(&join),
            Some(Life::Present) => {}
            None => {
                self.log(Level::Info, format!("node {} has joined", join.addr));
                self.state.nodes.insert(join.id, Node::joined(&join));
            }
        }
        let fresh = Node::joined(&join);
        let node = self.state.nodes.get_mut(&join.id).expect("just looked up");
        *node = Node {
            past_runs: std::mem::take(&mut node.past_runs),
            ..fresh
        };
        let soft = self.soft.node(join.id);
        soft.seen_at = now;
        if soft.answered_at == 0 {
            soft.answered_at = now;
        }
        self.take_address(join.id, &join.addr);
    }

    /// Nodes that had this address before and no longer answer are gone.
    fn take_address(&mut self, newcomer: NodeId, addr: &str) {
        let former = self.state.nodes.iter().filter(|(id, node)| {
            **id != newcomer && node.addr == addr && !node.gone && !self.soft.reachable(**id)
        });
        let former: Vec<NodeId> = former.map(|(id, _)| *id).collect();
        for id in former {
            self.log(
                Level::Warn,
                format!("node {id} is gone: its address {addr} is another node's"),
            );
            self.state.nodes.get_mut(&id).expect("just listed").gone = true;
            self.memory_lost(id);
        }
    }

    pub(crate) fn proxy_joined(&mut self, join: ProxyJoin) {
        let seen_at = self.soft.now;
        self.soft
            .proxies
            .insert(join.id, ProxySoft { join, seen_at });
    }

    pub(crate) fn node_answered(&mut self, answer: NodeState) {
        match self.life(answer.id, answer.run_id) {
            None | Some(Life::Past) => return,
            // What it has loaded of its own it says when it joins.
            Some(Life::Next) => return self.life_is_over(answer.id),
            Some(Life::Present) => {}
        }
        let now = self.soft.now;
        let soft = self.soft.node(answer.id);
        soft.reachable = true;
        soft.process_gone = false;
        (soft.seen_at, soft.answered_at) = (now, now);
        soft.unreachable_since = None;
        soft.unreachable_why.clear();
        soft.acked = soft.acked.max(answer.epoch);
        let keep_rates_base = match &soft.state {
            Some(before) => !soft.rates.measure(before, &answer),
            None => false,
        };
        if keep_rates_base {
            // Too close to the last probe for a rate: the older one stays the base of the counters.
            let before = soft.state.take().expect("just matched");
            soft.state = Some(NodeState {
                commands: before.commands,
                cpu_us: before.cpu_us,
                uptime_ms: before.uptime_ms,
                ..answer.clone()
            });
        } else {
            soft.state = Some(answer.clone());
        }
        self.notice_newer_map(answer.id, answer.epoch);
        self.source_has_epoch(answer.id, answer.epoch);
        self.yielder_has_epoch(answer.id, answer.epoch);
        self.look_at_imports(&answer);
    }

    fn look_at_imports(&mut self, answer: &NodeState) {
        for import in &answer.imports {
            let known = self.state.attempts.get(&import.attempt);
            if known.is_some_and(|attempt| attempt.target == answer.id) {
                self.progress(import);
                match &import.phase {
                    ImportPhase::Copying | ImportPhase::Unknown => {}
                    ImportPhase::Ready { .. } | ImportPhase::Failed { .. } => self.import_ended(
                        import.attempt,
                        import.phase.clone(),
                        import.keys,
                        import.bytes,
                    ),
                }
            } else {
                self.abort_if_void(answer, import.attempt);
            }
        }
        for feed in &answer.feeds {
            let known = self.state.attempts.get(&feed.attempt);
            if known.is_none_or(|attempt| attempt.source != answer.id) {
                self.abort_if_void(answer, feed.attempt);
            }
        }
        self.miss_imports(answer);
    }

    /// A node that has the settled map and still works for an attempt that is not under way works in vain. One
    /// that has not may hold the only copy of what it was just given.
    fn abort_if_void(&mut self, answer: &NodeState, attempt: larder_wire::Attempt) {
        if answer.epoch >= self.state.map.epoch {
            let node = answer.id;
            self.soft.out.push(Action::Abort { node, attempt });
        }
    }

    /// A newer map than the record's: the record is not this cluster's, or is an old copy.
    pub(crate) fn notice_newer_map(&mut self, id: NodeId, epoch: Epoch) {
        let ours = self.state.epoch();
        let soft = self.soft.node(id);
        if epoch <= ours || soft.newer_said {
            return;
        }
        soft.newer_said = true;
        let addr = self.addr(id);
        self.log(
            Level::Error,
            format!(
                "node {addr} has map epoch {epoch}, the record only {ours}: it is not used (start the topology with the data directory of its cluster, or restart the node empty)"
            ),
        );
    }

    /// Nothing that could be trusted has come from it lately.
    pub(crate) fn is_silent(&self, id: NodeId) -> bool {
        self.soft.nodes.get(&id).is_none_or(|soft| {
            let silent_ms = self.soft.now.saturating_sub(soft.answered_at);
            soft.process_gone || silent_ms >= SILENCE_MS
        })
    }

    pub(crate) fn node_unreachable(&mut self, id: NodeId, reason: String, process_gone: bool) {
        if !self.state.nodes.contains_key(&id) {
            return;
        }
        let now = self.soft.now;
        let soft = self.soft.node(id);
        let was = std::mem::replace(&mut soft.reachable, false);
        soft.process_gone |= process_gone;
        soft.unreachable_since.get_or_insert(now);
        soft.unreachable_why = reason.clone();
        soft.pushing = None;
        soft.push_again_at = now;
        if was {
            let addr = self.addr(id);
            self.log(
                Level::Warn,
                format!("node {addr} does not answer: {reason}"),
            );
        }
    }

    fn life(&self, id: NodeId, run_id: NodeId) -> Option<Life> {
        let node = self.state.nodes.get(&id)?;
        #[cfg(test)]
        if self.planted == crate::sim::Planted::ForgetPastRuns && node.run_id != run_id {
            return Some(Life::Next);
        }
        Some(match node.run_id == run_id {
            true => Life::Present,
            false if node.past_runs.contains(&run_id) => Life::Past,
            false => Life::Next,
        })
    }

    pub(crate) fn is_present_life(&self, id: NodeId, run_id: NodeId) -> bool {
        self.life(id, run_id) == Some(Life::Present)
    }

    /// Another process answers where it was: the one that is known is no more.
    fn life_is_over(&mut self, id: NodeId) {
        self.node_unreachable(id, "it has just restarted".into(), true);
    }

    /// The node's process started again.
    fn begin_life(&mut self, join: &NodeJoin) {
        let (id, run_id) = (join.id, join.run_id);
        let history = self.soft.nodes.get(&id).and_then(NodeSoft::history);
        let node = self.state.nodes.get_mut(&id).expect("its life was asked");
        self.soft.restarted.insert(id, (node.run_id, history));
        node.data = join.data;
        let past = std::mem::replace(&mut node.run_id, run_id);
        node.past_runs.push(past);
        let surplus = node.past_runs.len().saturating_sub(PAST_RUNS_MAX);
        node.past_runs.drain(..surplus);
        node.gone = false;
        let now = self.soft.now;
        self.soft.nodes.insert(
            id,
            NodeSoft {
                seen_at: now,
                answered_at: now,
                born_at: now,
                unreachable_since: Some(now),
                unreachable_why: "it has just restarted".into(),
                began_anew: true,
                ..NodeSoft::default()
            },
        );
        self.forget_fences_of(id);
        self.memory_lost(id);
    }

    /// All that the node held is lost, or as old as the file that it has loaded: its moves are void, a handover that
    /// waits for its word is decided, and where nobody else has its data, its slots go on with what it has.
    fn memory_lost(&mut self, id: NodeId) {
        self.handover_party_lost(id);
        let parts = self.state.attempts.iter().filter(|(attempt, record)| {
            (record.source == id || record.target == id) && !self.handing_over(**attempt)
        });
        let parts: Vec<_> = parts.map(|(attempt, _)| *attempt).collect();
        let addr = self.addr(id);
        for attempt in parts {
            self.fail_attempt(attempt, format!("node {addr} restarted"));
        }
        let slots = self.state.map.slots_of(id);
        let home = self.state.map.find_node(id);
        let others = home.is_some_and(|(shard, _)| shard.nodes.len() > 1);
        let loaded = self
            .state
            .nodes
            .get(&id)
            .is_some_and(|node| node.data.is_some());
        // With others the failover says what becomes of it.
        if !slots.is_empty() && !others && !loaded {
            self.state.counts.data_losses += 1;
            self.log(
                Level::Error,
                format!(
                    "node {addr} restarted without its memory: the data of {} slots is lost, it serves them empty",
                    slots.len()
                ),
            );
        }
    }

    pub(crate) fn addr(&self, id: NodeId) -> String {
        match self.state.nodes.get(&id) {
            Some(node) => node.addr.clone(),
            None => id.to_string(),
        }
    }

    pub(crate) fn forget_the_silent(&mut self) {
        let now = self.soft.now;
        self.soft
            .proxies
            .retain(|_, proxy| now.saturating_sub(proxy.seen_at) < PROXY_FORGET_MS);
        let silent = self.state.nodes.keys().copied().filter(|&id| {
            let seen_at = self.soft.nodes.get(&id).map_or(0, |soft| soft.seen_at);
            let may_go = self.is_spare(id) && !self.soft.reachable(id);
            may_go && now.saturating_sub(seen_at) >= SPARE_FORGET_MS
        });
        for id in silent.collect::<Vec<_>>() {
            self.forget(id);
        }
    }

    pub(crate) fn forget(&mut self, id: NodeId) {
        self.state.nodes.remove(&id);
        self.soft.nodes.remove(&id);
    }
}
