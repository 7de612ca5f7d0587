//! Forming a cluster from nodes that have joined, and mending the map where a member came back under another name
//! or address.

use larder_wire::{NodeEntry, NodeId, Role, ShardEntry, ShardId, SlotSet};

use crate::balance::even_ranges;
use crate::event::Level;
use crate::step::Plan;

impl Plan {
    /// As soon as enough nodes have joined, all slots are placed evenly, as ranges.
    pub(crate) fn form(&mut self) {
        let settings = &self.state.settings;
        let (wanted, replicas) = (settings.shards, settings.replicas);
        if self.state.formed() || settings.check().is_err() {
            return;
        }
        if self.usable_spares().len() < settings.nodes() as usize {
            return;
        }
        let groups = self.pick_groups(wanted, replicas);
        let mut shards = Vec::new();
        for (slots, group) in even_ranges(wanted).into_iter().zip(groups) {
            shards.push(self.new_shard(&group, slots));
        }
        self.state.settle(shards);
        let with = match replicas {
            0 => String::new(),
            1 => ", each with a replica".to_string(),
            more => format!(", each with {more} replicas"),
        };
        self.log(
            Level::Info,
            format!(
                "cluster {} is formed: {wanted} shards{with}",
                self.state.cluster
            ),
        );
    }

    /// `nodes`: the primary, then its replicas.
    pub(crate) fn new_shard(&mut self, nodes: &[NodeId], slots: SlotSet) -> ShardEntry {
        let id = ShardId(self.state.next_shard);
        self.state.next_shard += 1;
        let roles = std::iter::once(Role::Primary).chain(std::iter::repeat(Role::Replica));
        let entries = nodes.iter().zip(roles);
        let entries = entries.map(|(id, role)| {
            let entry = self.state.entry(*id, role);
            entry.expect("a spare is a known node")
        });
        ShardEntry {
            id,
            slots,
            nodes: entries.collect(),
        }
    }

    /// Members that are gone are replaced by the node at their address; members that moved get their
    /// present address.
    pub(crate) fn repair(&mut self) {
        if !self.state.formed() || self.undecided() {
            return;
        }
        let mut shards = self.state.map.shards().to_vec();
        let mut lost = Vec::new();
        for shard in &mut shards {
            // The fence that holds there is for the map as it is.
            if self.suspected(shard.id).is_some() {
                continue;
            }
            for entry in &mut shard.nodes {
                let id = match self.state.nodes[&entry.id].gone {
                    true => match self.successor_of(&entry.addr) {
                        Some(successor) => successor,
                        None => continue,
                    },
                    false => entry.id,
                };
                if id != entry.id {
                    lost.push((shard.id, entry.addr.clone()));
                }
                *entry = NodeEntry {
                    in_step: entry.in_step && id == entry.id,
                    ..self
                        .state
                        .entry(id, entry.role)
                        .expect("members and successors are known")
                };
            }
        }
        if shards != self.state.map.shards() {
            self.state.settle(shards);
        }
        for (shard, addr) in lost {
            self.log(
                Level::Warn,
                format!("shard {shard} goes on with the node that stands at {addr} instead"),
            );
        }
        self.bury();
    }

    fn successor_of(&self, addr: &str) -> Option<NodeId> {
        let mut there = self
            .state
            .nodes
            .iter()
            .filter(|(id, node)| node.addr == addr && self.is_spare(**id));
        there.next().map(|(id, _)| *id)
    }

    /// Nodes that are gone and in no map are forgotten.
    fn bury(&mut self) {
        let dead = self
            .state
            .nodes
            .iter()
            .filter(|(id, node)| node.gone && self.state.map.find_node(**id).is_none());
        for id in dead.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.forget(id);
        }
    }
}
