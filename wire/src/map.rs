//! The cluster map: which shard owns which slots, and the nodes of each shard, under an epoch.
//!
//! The topology is its only writer. On the wire it is JSON, so that a neighbour one release
//! apart reads what it knows and passes over the rest.

use serde::{Deserialize, Serialize};

use crate::id::{Epoch, NodeId, ShardId};
use crate::replication::WriteMode;
use crate::slot::{SLOT_COUNT, Slot};
use crate::slot_set::SlotSet;

/// What a node is in its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Primary,
    Replica,
}

/// One server of the map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    pub id: NodeId,
    /// `host:port` of its RESP port, as clients and neighbours reach it.
    pub addr: String,
    pub role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// On a replica: it counts for writes, for leases and as a successor (`replication.rs`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_step: bool,
}

/// The nodes that serve one set of slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEntry {
    pub id: ShardId,
    pub slots: SlotSet,
    /// The primary first.
    pub nodes: Vec<NodeEntry>,
}

impl ShardEntry {
    pub fn primary(&self) -> Option<&NodeEntry> {
        self.nodes.iter().find(|node| node.role == Role::Primary)
    }

    pub fn replicas(&self) -> impl Iterator<Item = &NodeEntry> {
        self.nodes.iter().filter(|node| node.role == Role::Replica)
    }
}

/// Which shard owns which slots. Shards ascend by id; no slot has two owners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "MapText", into = "MapText")]
pub struct ClusterMap {
    pub cluster: String,
    pub epoch: Epoch,
    /// When a write is answered.
    pub writes: WriteMode,
    shards: Vec<ShardEntry>,
    /// Per slot the index into `shards`, or `NOBODY`.
    owners: Vec<u16>,
}

const NOBODY: u16 = u16::MAX;

#[derive(Clone, Serialize, Deserialize)]
struct MapText {
    cluster: String,
    epoch: Epoch,
    #[serde(default)]
    writes: WriteMode,
    shards: Vec<ShardEntry>,
}

impl ClusterMap {
    /// Fails when two shards claim a slot or two shards share an id.
    pub fn new(
        cluster: &str,
        epoch: Epoch,
        mut shards: Vec<ShardEntry>,
    ) -> Result<ClusterMap, String> {
        shards.sort_by_key(|shard| shard.id);
        let mut owners = vec![NOBODY; SLOT_COUNT as usize];
        for (index, shard) in shards.iter().enumerate() {
            if index > 0 && shards[index - 1].id == shard.id {
                return Err(format!("shard {} stands twice in the map", shard.id));
            }
            for slot in shard.slots.iter() {
                if owners[slot.index()] != NOBODY {
                    return Err(format!("slot {slot} has two owners"));
                }
                owners[slot.index()] = index as u16;
            }
        }
        Ok(ClusterMap {
            cluster: cluster.to_string(),
            epoch,
            writes: WriteMode::default(),
            shards,
            owners,
        })
    }

    #[must_use]
    pub fn with_writes(mut self, writes: WriteMode) -> ClusterMap {
        self.writes = writes;
        self
    }

    /// The map before the first: epoch 0, no shards.
    pub fn empty(cluster: &str) -> ClusterMap {
        ClusterMap {
            cluster: cluster.to_string(),
            epoch: Epoch(0),
            writes: WriteMode::default(),
            shards: Vec::new(),
            owners: vec![NOBODY; SLOT_COUNT as usize],
        }
    }

    pub fn shards(&self) -> &[ShardEntry] {
        &self.shards
    }

    /// The shard that owns `slot`.
    #[inline]
    pub fn owner(&self, slot: Slot) -> Option<&ShardEntry> {
        self.shards.get(self.owners[slot.index()] as usize)
    }

    /// The node that takes writes for `slot`.
    pub fn primary_of(&self, slot: Slot) -> Option<&NodeEntry> {
        self.owner(slot).and_then(ShardEntry::primary)
    }

    /// The shard that `node` belongs to, and its entry.
    pub fn find_node(&self, node: NodeId) -> Option<(&ShardEntry, &NodeEntry)> {
        self.shards.iter().find_map(|shard| {
            shard
                .nodes
                .iter()
                .find(|entry| entry.id == node)
                .map(|entry| (shard, entry))
        })
    }

    /// Slots that `node` owns as a primary.
    pub fn slots_of(&self, node: NodeId) -> SlotSet {
        match self.find_node(node) {
            Some((shard, entry)) if entry.role == Role::Primary => shard.slots.clone(),
            _ => SlotSet::new(),
        }
    }

    /// Slots that no shard owns.
    pub fn unowned(&self) -> SlotSet {
        Slot::all()
            .filter(|slot| self.owners[slot.index()] == NOBODY)
            .collect()
    }
}

impl TryFrom<MapText> for ClusterMap {
    type Error = String;

    fn try_from(text: MapText) -> Result<ClusterMap, String> {
        let map = ClusterMap::new(&text.cluster, text.epoch, text.shards)?;
        Ok(map.with_writes(text.writes))
    }
}

impl From<ClusterMap> for MapText {
    fn from(map: ClusterMap) -> MapText {
        MapText {
            cluster: map.cluster,
            epoch: map.epoch,
            writes: map.writes,
            shards: map.shards,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(id: u32, slots: &str) -> ShardEntry {
        let node = NodeEntry {
            id: NodeId::from_bytes([id as u8; 20]),
            addr: format!("127.0.0.1:{}", 7000 + id),
            role: Role::Primary,
            zone: None,
            in_step: false,
        };
        ShardEntry {
            id: ShardId(id),
            slots: slots.parse().unwrap(),
            nodes: vec![node],
        }
    }

    #[test]
    fn a_map_with_two_owners_of_a_slot_cannot_be_made() {
        let made = ClusterMap::new(
            "larder",
            Epoch(1),
            vec![shard(1, "0-10"), shard(2, "10-20")],
        );
        assert_eq!(made, Err("slot 10 has two owners".to_string()));
    }

    #[test]
    fn a_map_survives_json_and_unknown_fields_are_passed_over() {
        let map = ClusterMap::new(
            "larder",
            Epoch(7),
            vec![shard(2, "11-16383"), shard(1, "0-10")],
        )
        .unwrap();
        let json = serde_json::to_string(&map).unwrap();
        assert_eq!(serde_json::from_str::<ClusterMap>(&json).unwrap(), map);
        let later = json.replacen('{', "{\"from_a_later_release\":1,", 1);
        assert_eq!(serde_json::from_str::<ClusterMap>(&later).unwrap(), map);
        assert_eq!(
            map.primary_of(Slot::new(11).unwrap()).unwrap().addr,
            "127.0.0.1:7002"
        );
        assert!(map.unowned().is_empty());
    }
}
