//! Forming a cluster from nodes that have joined, choosing spares, and mending the map where a member
//! came back under another name or address.

use std::collections::BTreeMap;

use larder_wire::{NodeEntry, NodeId, ShardEntry, ShardId};

use crate::balance::even_ranges;
use crate::event::Level;
use crate::state::Node;
use crate::step::Plan;

impl Plan {
    /// As soon as enough nodes have joined, all slots are placed evenly, as ranges.
    pub(crate) fn form(&mut self) {
        let wanted = self.state.settings.shards;
        if self.state.formed() || self.state.settings.check().is_err() {
            return;
        }
        let spares = self.pick_spares(wanted);
        if spares.len() < wanted as usize {
            return;
        }
        let mut shards = Vec::new();
        for (slots, id) in even_ranges(wanted).into_iter().zip(spares) {
            shards.push(self.new_shard(id, slots));
        }
        self.state.settle(shards);
        self.log(
            Level::Info,
            format!("cluster {} is formed: {wanted} shards", self.state.cluster),
        );
    }

    pub(crate) fn new_shard(&mut self, primary: NodeId, slots: larder_wire::SlotSet) -> ShardEntry {
        let id = ShardId(self.state.next_shard);
        self.state.next_shard += 1;
        let entry = self.state.entry(primary).expect("a spare is a known node");
        ShardEntry {
            id,
            slots,
            nodes: vec![entry],
        }
    }

    /// Neither in the map nor gone.
    pub(crate) fn is_spare(&self, id: NodeId) -> bool {
        self.state.nodes.get(&id).is_some_and(|node| !node.gone)
            && self.state.map.find_node(id).is_none()
    }

    /// A spare that answers, is empty, and has no map from elsewhere. One that stands where a member stood is
    /// that member's successor, not a spare.
    fn is_usable(&self, id: NodeId, node: &Node) -> bool {
        let state = self
            .soft
            .nodes
            .get(&id)
            .and_then(|soft| soft.state.as_ref());
        let fits = state
            .is_some_and(|state| state.epoch <= self.state.epoch() && state.run_id == node.run_id);
        fits && self.is_spare(id) && self.soft.reachable(id) && !self.is_successor(&node.addr)
    }

    fn is_successor(&self, addr: &str) -> bool {
        let mut gone = self.state.nodes.values().filter(|node| node.gone);
        gone.any(|node| node.addr == addr)
    }

    pub(crate) fn usable_spares(&self) -> Vec<NodeId> {
        let usable = self
            .state
            .nodes
            .iter()
            .filter(|(id, node)| self.is_usable(**id, node));
        usable.map(|(id, _)| *id).collect()
    }

    /// Up to `count` spares, spread over zones and hosts, then in the order of their ports.
    pub(crate) fn pick_spares(&self, count: u32) -> Vec<NodeId> {
        let mut zones: BTreeMap<&str, u32> = BTreeMap::new();
        let mut hosts: BTreeMap<&str, u32> = BTreeMap::new();
        for shard in self.state.map.shards() {
            for entry in &shard.nodes {
                *zones
                    .entry(entry.zone.as_deref().unwrap_or(""))
                    .or_default() += 1;
                *hosts.entry(host_port(&entry.addr).0).or_default() += 1;
            }
        }
        let mut left = self.usable_spares();
        let mut picked = Vec::new();
        while picked.len() < count as usize && !left.is_empty() {
            let rank = |id: &NodeId| {
                let node = &self.state.nodes[id];
                let (host, port) = host_port(&node.addr);
                let zone = node.zone.as_deref().unwrap_or("");
                (
                    zones.get(zone).copied().unwrap_or(0),
                    hosts.get(host).copied().unwrap_or(0),
                    host,
                    port,
                    *id,
                )
            };
            let best = *left.iter().min_by_key(|id| rank(id)).expect("not empty");
            left.retain(|id| *id != best);
            let node = &self.state.nodes[&best];
            *zones.entry(node.zone.as_deref().unwrap_or("")).or_default() += 1;
            *hosts.entry(host_port(&node.addr).0).or_default() += 1;
            picked.push(best);
        }
        picked
    }

    /// Members that are gone are replaced by the node at their address; members that moved get their
    /// present address.
    pub(crate) fn repair(&mut self) {
        if !self.state.formed() || self.state.handover.is_some() {
            return;
        }
        let mut shards = self.state.map.shards().to_vec();
        let mut lost = Vec::new();
        for shard in &mut shards {
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
                    role: entry.role,
                    ..self
                        .state
                        .entry(id)
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

/// Splits `host:port`; port 0 when there is none.
fn host_port(addr: &str) -> (&str, u16) {
    match addr.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().unwrap_or(0)),
        None => (addr, 0),
    }
}
