//! Where nodes go: spares that can be used, chosen so that a shard's nodes lie in different zones and on different
//! hosts, and primaries everywhere alike. Pure counting; who is missing is decided elsewhere.

use std::collections::BTreeMap;

use larder_wire::NodeId;

use crate::state::{Node, State};
use crate::step::Plan;

impl Plan {
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

    pub(crate) fn placement(&self) -> Placement<'_> {
        Placement::new(&self.state, self.usable_spares())
    }

    /// Up to `shards` groups of a primary and up to `replicas` replicas. Every shard has its primary before any has
    /// a replica.
    pub(crate) fn pick_groups(&self, shards: u32, replicas: u32) -> Vec<Vec<NodeId>> {
        let mut placement = self.placement();
        let mut groups = vec![Vec::new(); shards as usize];
        for _ in 0..=replicas {
            for group in &mut groups {
                let picked = placement.take(group);
                group.extend(picked);
            }
        }
        placement.spread(&mut groups);
        groups
    }
}

/// Spares that are left, and how full zones and hosts are.
pub(crate) struct Placement<'a> {
    state: &'a State,
    left: Vec<NodeId>,
    zones: BTreeMap<&'a str, u32>,
    hosts: BTreeMap<&'a str, u32>,
}

impl<'a> Placement<'a> {
    fn new(state: &'a State, left: Vec<NodeId>) -> Placement<'a> {
        let mut placement = Placement {
            state,
            left,
            zones: BTreeMap::new(),
            hosts: BTreeMap::new(),
        };
        let members = state.map.shards().iter().flat_map(|shard| &shard.nodes);
        for entry in members {
            placement.count(entry.id);
        }
        placement
    }

    fn count(&mut self, id: NodeId) {
        let (zone, host) = self.place(id);
        *self.zones.entry(zone).or_default() += 1;
        *self.hosts.entry(host).or_default() += 1;
    }

    fn place(&self, id: NodeId) -> (&'a str, &'a str) {
        let node = &self.state.nodes[&id];
        let zone = node.zone.as_deref().unwrap_or("");
        (zone, host_port(&node.addr).0)
    }

    /// Picking one after the other can leave the last shard with nothing but its own host: where two shards both gain,
    /// or one does at no loss to the other, they swap replicas.
    fn spread(&self, groups: &mut [Vec<NodeId>]) {
        let crowded = |group: &[NodeId]| -> (usize, usize) {
            let pairs = group.iter().enumerate().flat_map(|(place, one)| {
                let others = group[..place].iter();
                others.map(move |other| (self.place(*one), self.place(*other)))
            });
            pairs.fold((0, 0), |(zones, hosts), (one, other)| {
                (
                    zones + usize::from(one.0 == other.0),
                    hosts + usize::from(one.1 == other.1),
                )
            })
        };
        let sum = |one: (usize, usize), other: (usize, usize)| (one.0 + other.0, one.1 + other.1);
        for here in 0..groups.len() {
            for at in 1..groups[here].len() {
                if crowded(&groups[here]) == (0, 0) {
                    break;
                }
                for there in (0..groups.len()).filter(|there| *there != here) {
                    for to in 1..groups[there].len() {
                        let before = sum(crowded(&groups[here]), crowded(&groups[there]));
                        let (one, other) = (groups[here][at], groups[there][to]);
                        (groups[here][at], groups[there][to]) = (other, one);
                        if sum(crowded(&groups[here]), crowded(&groups[there])) >= before {
                            (groups[here][at], groups[there][to]) = (one, other);
                        }
                    }
                }
            }
        }
    }

    /// The best spare for a shard that has `mates`: first in another zone than theirs, then on another host, then
    /// where there are the fewest nodes, then in the order of ports.
    pub(crate) fn take(&mut self, mates: &[NodeId]) -> Option<NodeId> {
        let rank = |id: &NodeId| {
            let (zone, host) = self.place(*id);
            let mates = mates.iter().map(|mate| self.place(*mate));
            let (in_zone, on_host) = mates.fold((0, 0), |(zones, hosts), mate| {
                (
                    zones + u32::from(mate.0 == zone),
                    hosts + u32::from(mate.1 == host),
                )
            });
            (
                in_zone,
                on_host,
                self.zones.get(zone).copied().unwrap_or(0),
                self.hosts.get(host).copied().unwrap_or(0),
                host,
                host_port(&self.state.nodes[id].addr).1,
                *id,
            )
        };
        let best = *self.left.iter().min_by_key(|id| rank(id))?;
        self.left.retain(|id| *id != best);
        self.count(best);
        Some(best)
    }
}

/// Splits `host:port`; port 0 when there is none.
fn host_port(addr: &str) -> (&str, u16) {
    match addr.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().unwrap_or(0)),
        None => (addr, 0),
    }
}
