//! Shards of which no node is left: by default their slots wait for one of them to come back; where the operator wants it
//! (`LostShards::Empty`), spares take them over, without data.
//!
//! It refuses to guess. A node that is merely silent may be serving clients at this moment, with its replicas, where the
//! topology cannot see it; so all processes of the shard must be known to be gone, and none of them may have come back
//! meanwhile. What only an operator can know (that a silent host is dead) an operator has to say: `larder failover SHARD
//! --force`, which is then taken once nobody of the shard has been heard of for the time of a lease.

use larder_wire::replication::{LEASE_MARGIN_MS, LEASE_MS, SILENCE_MS};
use larder_wire::{NodeId, Role, ShardEntry, ShardId};

use crate::event::Level;
use crate::state::LostShards;
use crate::step::Plan;

/// Since when nothing is heard of any node of a shard, and since when all their processes are known to be gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost {
    silent_since: u64,
    gone_since: Option<u64>,
}

impl Plan {
    pub(crate) fn tend_lost_shards(&mut self) {
        self.note_lost();
        for shard in self.lost_for_good() {
            if !self.undecided() {
                self.begin_empty(shard);
            }
        }
    }

    /// Nodes that lost shards wait for: one each, so that it can serve at all.
    pub(crate) fn missing_for_lost(&self) -> u32 {
        let lost = self.lost_for_good().len();
        lost.saturating_sub(self.usable_spares().len()) as u32
    }

    fn note_lost(&mut self) {
        let now = self.soft.now;
        let mut before = std::mem::take(&mut self.soft.lost);
        for shard in self.state.map.shards() {
            let known = before.remove(&shard.id);
            let ids = || shard.nodes.iter().map(|entry| entry.id);
            if !ids().all(|id| self.is_away(id)) {
                continue;
            }
            let gone = ids().all(|id| self.is_known_gone(id));
            let gone_since = known.and_then(|lost| lost.gone_since);
            let lost = Lost {
                silent_since: known.map_or(now, |lost| lost.silent_since),
                gone_since: gone.then(|| gone_since.unwrap_or(now)),
            };
            self.soft.lost.insert(shard.id, lost);
        }
    }

    fn is_away(&self, id: NodeId) -> bool {
        let soft = self.soft.nodes.get(&id);
        let silent = soft.is_none_or(|soft| {
            !soft.reachable && self.soft.now.saturating_sub(soft.heard_at()) >= SILENCE_MS
        });
        silent || self.is_known_gone(id)
    }

    /// Its process does not run: nobody is answered by it, and what it had in memory is lost.
    fn is_known_gone(&self, id: NodeId) -> bool {
        let gone = self.state.nodes.get(&id).is_none_or(|node| node.gone);
        let soft = self.soft.nodes.get(&id);
        gone || soft.is_none_or(|soft| soft.process_gone)
    }

    /// Shards that are to come up empty.
    fn lost_for_good(&self) -> Vec<ShardId> {
        let now = self.soft.now;
        let LostShards::Empty { after_ms } = self.state.settings.lost_shards else {
            return Vec::new();
        };
        let due = self.soft.lost.iter().filter(|(shard, lost)| {
            let gone_ms = lost.gone_since.map(|since| now.saturating_sub(since));
            let by_setting = gone_ms.is_some_and(|ms| ms >= after_ms);
            let failover = self.state.failovers.get(shard);
            let silent_ms = now.saturating_sub(lost.silent_since);
            let by_order = failover.is_some_and(|failover| failover.forced)
                && silent_ms >= LEASE_MS + LEASE_MARGIN_MS;
            by_setting || by_order
        });
        due.map(|(shard, _)| *shard).collect()
    }

    /// Shards of which every process is known to be gone.
    pub(crate) fn known_lost(&self) -> Vec<ShardId> {
        let lost = self.soft.lost.iter();
        let gone = lost.filter(|(_, lost)| lost.gone_since.is_some());
        gone.map(|(shard, _)| *shard).collect()
    }

    fn begin_empty(&mut self, shard: ShardId) {
        let Some(entry) = self.state.shard(shard).cloned() else {
            return;
        };
        let wanted = 1 + self.state.settings.replicas as usize;
        let mut placement = self.placement();
        let mut nodes: Vec<NodeId> = Vec::new();
        while nodes.len() < wanted
            && let Some(spare) = placement.take(&nodes)
        {
            nodes.push(spare);
        }
        let Some(primary) = nodes.first().copied() else {
            return;
        };
        for former in &entry.nodes {
            self.void_attempts_of(former.id, "its shard is lost");
        }
        self.drop_yield(shard);
        let role = |id: NodeId| match id == primary {
            true => Role::Primary,
            false => Role::Replica,
        };
        let nodes = nodes
            .iter()
            .filter_map(|id| self.state.entry(*id, role(*id)));
        let empty = ShardEntry {
            nodes: nodes.collect(),
            ..entry.clone()
        };
        let shards = self.state.map.shards().iter();
        let shards = shards.map(|present| match present.id == shard {
            true => empty.clone(),
            false => present.clone(),
        });
        self.state.settle(shards.collect());
        self.soft.lost.remove(&shard);
        self.state.counts.data_losses += 1;
        let addr = self.addr(primary);
        let slots = entry.slots.len();
        self.log(
            Level::Error,
            format!(
                "shard {shard} has lost all its nodes: the data of {slots} slots is lost, {addr} serves them empty"
            ),
        );
    }
}
