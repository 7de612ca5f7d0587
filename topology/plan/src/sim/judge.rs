//! The judges of the simulated world: they look at what nodes believe and at what left the topology, never at the
//! plan's own bookkeeping.

use std::collections::BTreeMap;

use larder_wire::{ClusterMap, Epoch, Slot};

use super::node::SimNode;
use crate::state::State;

#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) broken: Vec<String>,
    pub(crate) handovers: u64,
    pub(crate) fingerprint: u64,
    /// The last things that happened.
    pub(crate) tail: String,
}

#[derive(Debug, Default)]
pub(crate) struct Judge {
    pub(crate) broken: Vec<String>,
    maps: BTreeMap<Epoch, ClusterMap>,
    node_epochs: BTreeMap<larder_wire::NodeId, Epoch>,
}

impl Judge {
    fn accuse(&mut self, text: String) {
        if self.broken.len() < 5 {
            self.broken.push(text);
        }
    }

    /// No slot is owned by two nodes that live.
    pub(crate) fn one_owner(&mut self, now: u64, nodes: &[SimNode], slots: &[Slot]) {
        for &slot in slots {
            let owners: Vec<_> = nodes
                .iter()
                .filter(|node| node.up && node.slots.contains(slot))
                .map(|node| (node.id, node.epoch))
                .collect();
            if owners.len() > 1 {
                self.accuse(format!("at {now} ms {slot:?} is owned by {owners:?}"));
            }
        }
    }

    /// One epoch has one map, whoever is given it and whenever.
    pub(crate) fn saw_map(&mut self, map: &ClusterMap) {
        match self.maps.get(&map.epoch) {
            Some(known) if known != map => {
                self.accuse(format!("epoch {} has two maps", map.epoch));
            }
            Some(_) => {}
            None => {
                self.maps.insert(map.epoch, map.clone());
            }
        }
    }

    /// The epoch of a node falls only when it starts anew.
    pub(crate) fn node_epoch(&mut self, node: &SimNode) {
        let before = self.node_epochs.insert(node.run_id(), node.epoch);
        if before.is_some_and(|before| before > node.epoch) {
            self.accuse(format!("the epoch of {:?} fell", node.id));
        }
    }

    /// Once it is quiet: every slot has one owner, who has every write that was acknowledged.
    pub(crate) fn in_the_end(
        &mut self,
        nodes: &[SimNode],
        slots: &[Slot],
        acked: &BTreeMap<Slot, u64>,
        crashed: bool,
    ) {
        for &slot in slots {
            let owners: Vec<&SimNode> = nodes
                .iter()
                .filter(|node| node.slots.contains(slot))
                .collect();
            let [owner] = owners[..] else {
                self.accuse(format!("in the end {slot:?} has {} owners", owners.len()));
                continue;
            };
            if !owner.takes_writes(slot) {
                self.accuse(format!("in the end {slot:?} takes no writes"));
            }
            let here = owner.data.get(&slot).copied().unwrap_or(0);
            let expected = acked.get(&slot).copied().unwrap_or(0);
            if here > expected || here < expected && !crashed {
                self.accuse(format!("{slot:?} has {here} of {expected} writes"));
            }
        }
    }

    /// The record knows no more lives of a node than it lived: none is taken for another.
    pub(crate) fn lives(&mut self, nodes: &[SimNode], state: &State) {
        for node in nodes {
            let past = state
                .nodes
                .get(&node.id)
                .map_or(0, |known| known.past_runs.len());
            if past >= node.lives() {
                self.accuse(format!(
                    "{:?} lived {} times, {past} of them are said to be over",
                    node.id,
                    node.lives()
                ));
            }
        }
    }

    pub(crate) fn never(&mut self, what: String) {
        self.accuse(what);
    }
}
