//! Which slots this node answers for: the map, and what stands in its way for a moment (holds, imports).
//!
//! Invariants: the epoch never falls; a map of another cluster is never taken; per slot exactly
//! one [`Standing`], which is all that the hot path looks at. Knows neither keys nor feeds.

use larder_wire::{ClusterMap, Epoch, NodeId, Role, SLOT_COUNT, Slot, SlotSet};

/// Whether the node is part of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Alone: owns all slots, says neither MOVED nor CROSSSLOT.
    Standalone,
    Cluster,
}

/// What this node is to a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Standing {
    /// No shard owns it, as far as this node's map tells.
    Nobody,
    /// Another shard owns it.
    Elsewhere,
    /// Another shard owns it and all its keys are here already: the map that says so is on its way.
    Arriving,
    /// This node is its primary.
    Mine,
    /// This node is its primary and writes wait for a handover.
    Held,
    /// This node is a replica of its shard.
    Replica,
}

impl Standing {
    pub const ALL: [Standing; 6] = [
        Standing::Nobody,
        Standing::Elsewhere,
        Standing::Arriving,
        Standing::Mine,
        Standing::Held,
        Standing::Replica,
    ];
}

/// What is done with a command on a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Go,
    /// Waits until the slot's standing changes.
    Hold,
    /// The owner is named to the client.
    Moved,
    /// No owner to name.
    Down,
}

/// The decision: a command that `writes` (or not), from a client that takes `stale_reads` (READONLY), on a slot.
#[inline]
pub fn admit(standing: Standing, writes: bool, stale_reads: bool) -> Verdict {
    match (standing, writes, stale_reads) {
        (Standing::Mine, _, _) => Verdict::Go,
        (Standing::Held, true, _) => Verdict::Hold,
        (Standing::Held, false, _) => Verdict::Go,
        (Standing::Arriving, _, _) => Verdict::Hold,
        (Standing::Replica, false, true) => Verdict::Go,
        (Standing::Replica, true, _) | (Standing::Replica, false, false) => Verdict::Moved,
        (Standing::Elsewhere, _, _) => Verdict::Moved,
        (Standing::Nobody, _, _) => Verdict::Down,
    }
}

/// Why a map is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapRefused {
    /// Older than the node's own, or another one of the same epoch.
    Stale {
        own: Epoch,
    },
    OtherCluster {
        own: String,
        theirs: String,
    },
    Standalone,
}

/// What the taking of a map changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapTaken {
    pub gained: SlotSet,
    pub lost: SlotSet,
}

/// The node's own view of who owns what.
#[derive(Debug)]
pub struct Ownership {
    mode: Mode,
    me: NodeId,
    map: ClusterMap,
    role: Role,
    /// Slots of this node's shard.
    slots: SlotSet,
    held: SlotSet,
    arriving: SlotSet,
    /// All data of the shard is here. A replica that is still getting it serves nothing.
    whole: bool,
    standing: Box<[Standing]>,
}

impl Ownership {
    pub fn standalone(me: NodeId) -> Ownership {
        let mut own = Ownership::cluster(me);
        own.mode = Mode::Standalone;
        own.role = Role::Primary;
        own.slots = SlotSet::full();
        own.settle();
        own
    }

    /// A node that waits for its first map, as a spare.
    pub fn cluster(me: NodeId) -> Ownership {
        Ownership {
            mode: Mode::Cluster,
            me,
            map: ClusterMap::empty(""),
            role: Role::Primary,
            slots: SlotSet::new(),
            held: SlotSet::new(),
            arriving: SlotSet::new(),
            whole: false,
            standing: vec![Standing::Nobody; SLOT_COUNT as usize].into_boxed_slice(),
        }
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    pub fn is_standalone(&self) -> bool {
        self.mode == Mode::Standalone
    }

    pub fn me(&self) -> NodeId {
        self.me
    }

    pub fn map(&self) -> &ClusterMap {
        &self.map
    }

    pub fn epoch(&self) -> Epoch {
        self.map.epoch
    }

    pub fn role(&self) -> Role {
        self.role
    }

    /// Slots of this node's shard.
    pub fn slots(&self) -> &SlotSet {
        &self.slots
    }

    #[inline]
    pub fn standing(&self, slot: Slot) -> Standing {
        self.standing[slot.index()]
    }

    /// True when some slot's commands may have to wait.
    pub fn any_waits(&self) -> bool {
        !self.held.is_empty() || !self.arriving.is_empty()
    }

    pub fn held(&self) -> &SlotSet {
        &self.held
    }

    pub fn set_held(&mut self, held: SlotSet) {
        self.held = held;
        self.settle();
    }

    pub fn set_arriving(&mut self, arriving: SlotSet) {
        self.arriving = arriving;
        self.settle();
    }

    /// On a replica: whether it has all data.
    pub fn set_whole(&mut self, whole: bool) {
        if self.whole != whole {
            self.whole = whole;
            self.settle();
        }
    }

    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// `Ok(None)`: this very map was taken before.
    pub fn check(&self, map: &ClusterMap) -> Result<Option<MapTaken>, MapRefused> {
        if self.mode == Mode::Standalone {
            return Err(MapRefused::Standalone);
        }
        if self.map.epoch != Epoch(0) && self.map.cluster != map.cluster {
            return Err(MapRefused::OtherCluster {
                own: self.map.cluster.clone(),
                theirs: map.cluster.clone(),
            });
        }
        if *map == self.map {
            return Ok(None);
        }
        if map.epoch <= self.map.epoch {
            return Err(MapRefused::Stale {
                own: self.map.epoch,
            });
        }
        let slots = shard_slots(map, self.me);
        Ok(Some(MapTaken {
            gained: slots.difference(&self.slots),
            lost: self.slots.difference(&slots),
        }))
    }

    /// Takes a map that [`check`](Self::check) let pass.
    pub fn take(&mut self, map: ClusterMap) {
        debug_assert!(map.epoch > self.map.epoch, "a map's epoch only grows");
        self.slots = shard_slots(&map, self.me);
        self.role = map
            .find_node(self.me)
            .map_or(Role::Primary, |(_, entry)| entry.role);
        self.map = map;
        self.settle();
    }

    fn settle(&mut self) {
        for slot in Slot::all() {
            self.standing[slot.index()] = self.judge(slot);
        }
    }

    fn judge(&self, slot: Slot) -> Standing {
        if self.slots.contains(slot) {
            return match self.role {
                Role::Replica if self.whole => Standing::Replica,
                Role::Replica => Standing::Elsewhere,
                Role::Primary if self.held.contains(slot) => Standing::Held,
                Role::Primary => Standing::Mine,
            };
        }
        if self.arriving.contains(slot) {
            Standing::Arriving
        } else if self.map.primary_of(slot).is_some() {
            Standing::Elsewhere
        } else {
            Standing::Nobody
        }
    }
}

fn shard_slots(map: &ClusterMap, node: NodeId) -> SlotSet {
    map.find_node(node)
        .map_or_else(SlotSet::new, |(shard, _)| shard.slots.clone())
}

#[cfg(test)]
mod tests {
    use larder_wire::{NodeEntry, ShardEntry, ShardId};

    use super::*;

    #[test]
    fn every_standing_meets_every_kind_of_command() {
        use Verdict::{Down, Go, Hold, Moved};
        // Per standing: read, read by READONLY, write, write by READONLY.
        let table = [
            (Standing::Nobody, [Down, Down, Down, Down]),
            (Standing::Elsewhere, [Moved, Moved, Moved, Moved]),
            (Standing::Arriving, [Hold, Hold, Hold, Hold]),
            (Standing::Mine, [Go, Go, Go, Go]),
            (Standing::Held, [Go, Go, Hold, Hold]),
            (Standing::Replica, [Moved, Go, Moved, Moved]),
        ];
        assert_eq!(table.map(|(standing, _)| standing), Standing::ALL);
        for (standing, verdicts) in table {
            let inputs = [(false, false), (false, true), (true, false), (true, true)];
            for ((writes, stale_reads), verdict) in inputs.into_iter().zip(verdicts) {
                assert_eq!(
                    admit(standing, writes, stale_reads),
                    verdict,
                    "{standing:?}, writes {writes}, READONLY {stale_reads}"
                );
            }
        }
    }

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes([n; 20])
    }

    fn map(cluster: &str, epoch: u64, split: u16) -> ClusterMap {
        let shard = |n: u8, slots: String| ShardEntry {
            id: ShardId(u32::from(n)),
            slots: slots.parse().unwrap(),
            nodes: vec![NodeEntry {
                id: id(n),
                addr: format!("127.0.0.1:{}", 7000 + u16::from(n)),
                role: Role::Primary,
                zone: None,
                in_step: false,
            }],
        };
        let shards = vec![
            shard(1, format!("0-{split}")),
            shard(2, format!("{}-16383", split + 1)),
        ];
        ClusterMap::new(cluster, Epoch(epoch), shards).unwrap()
    }

    #[test]
    fn an_older_map_or_one_of_another_cluster_is_refused() {
        let mut own = Ownership::cluster(id(1));
        own.take(map("larder", 5, 99));
        assert_eq!(
            own.check(&map("larder", 4, 50)),
            Err(MapRefused::Stale { own: Epoch(5) })
        );
        assert_eq!(
            own.check(&map("larder", 5, 50)),
            Err(MapRefused::Stale { own: Epoch(5) })
        );
        assert_eq!(own.check(&map("larder", 5, 99)), Ok(None));
        assert!(matches!(
            own.check(&map("other", 9, 50)),
            Err(MapRefused::OtherCluster { .. })
        ));
        assert_eq!(
            Ownership::standalone(id(1)).check(&map("larder", 1, 9)),
            Err(MapRefused::Standalone)
        );
    }

    #[test]
    fn a_map_says_what_was_gained_and_lost_and_changes_every_standing() {
        let mut own = Ownership::cluster(id(1));
        let slot = |n: u16| Slot::new(n).unwrap();
        assert_eq!(own.standing(slot(0)), Standing::Nobody);
        own.take(map("larder", 1, 99));
        own.set_held("50-60".parse().unwrap());
        assert_eq!(own.standing(slot(10)), Standing::Mine);
        assert_eq!(own.standing(slot(55)), Standing::Held);
        assert_eq!(own.standing(slot(100)), Standing::Elsewhere);
        own.set_arriving("100-110".parse().unwrap());
        assert_eq!(own.standing(slot(100)), Standing::Arriving);
        let taken = own.check(&map("larder", 2, 49)).unwrap().unwrap();
        assert_eq!(taken.lost.to_string(), "50-99");
        assert!(taken.gained.is_empty());
        own.take(map("larder", 2, 49));
        assert_eq!(own.standing(slot(55)), Standing::Elsewhere);
        assert_eq!(own.standing(slot(49)), Standing::Mine);
    }
}
