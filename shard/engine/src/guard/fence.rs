//! Fences: the topology suspects the primary, and this replica is to have nothing more to do with it until a map decides.
//!
//! Numbers only grow, so that a fence that comes late, or after it was called off, changes nothing. What a fenced replica has is what it may be
//! promoted with: from the moment of the answer on it takes nothing of that primary and acknowledges nothing.
//!
//! The primary itself can be fenced: it is alive, and reaches none of its replicas. From its answer on it serves nothing, whatever lease it has.
//!
//! What it said before may arrive later, from a socket's buffer, and free an answer of the old primary. That loses nothing: a journal only grows, so the place in
//! [`Fenced`] covers every acknowledgement that was written before it; a replica that has lost its journal since has no place, and a failover of a `safe` cluster waits for
//! such a one. Nor does it lengthen a lease beyond what the topology waits: a lease counts from when the ping was sent, and that was before the answer of
//! which `answered_ms_ago` tells.

use larder_wire::replication::{Fence, Fenced};
use larder_wire::{Epoch, NodeId, Refusal, Role};

use crate::clock::Clock;
use crate::exec::control::{body, json};
use crate::node::Node;
use crate::ownership::Ownership;
use crate::turn::{Outcome, Turn};

/// What was heard of fences.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    heard: u64,
    /// The last one that was called off.
    called_off: u64,
    holds: Option<Fence>,
}

impl Fences {
    /// The number of the fence that holds.
    pub(crate) fn number(&self) -> Option<u64> {
        self.holds.as_ref().map(|fence| fence.number)
    }

    /// Nothing of this primary is taken or acknowledged.
    pub(crate) fn is_against(&self, primary: NodeId) -> bool {
        self.holds
            .as_ref()
            .is_some_and(|fence| fence.primary == primary)
    }

    fn raise(&mut self, fence: Fence, ownership: &Ownership) -> Result<(), Refusal> {
        let Fence { number, epoch, .. } = fence;
        if number < self.heard || number <= self.called_off {
            let newer = self.heard.max(self.called_off);
            return Err(Refusal::new(format!(
                "ERR fence {number} comes too late: {newer} was heard of already"
            )));
        }
        if ownership.epoch() > epoch {
            return Err(Refusal::new(format!("STALE {}", ownership.epoch())));
        }
        check_shard(&fence, ownership)?;
        self.heard = number;
        self.holds = Some(fence);
        Ok(())
    }

    /// Said again, or of a fence that is over, it changes nothing.
    fn call_off(&mut self, number: u64) -> bool {
        self.called_off = self.called_off.max(number);
        let ends = self.number() == Some(number);
        if ends {
            self.holds = None;
        }
        ends
    }

    /// A map decides; true when it ends a fence.
    pub(crate) fn settle(&mut self, epoch: Epoch) -> bool {
        let ends = self.holds.as_ref().is_some_and(|fence| epoch > fence.epoch);
        if ends {
            self.holds = None;
        }
        ends
    }
}

/// The fence is about the primary of this node's shard.
fn check_shard(fence: &Fence, ownership: &Ownership) -> Result<(), Refusal> {
    let Fence { shard, primary, .. } = fence;
    let own = ownership.map().find_node(ownership.me());
    let Some((own_shard, entry)) = own else {
        return Err(Refusal::new(format!(
            "ERR this node is in no shard by its map (epoch {}), and cannot be fenced from {primary}",
            ownership.epoch()
        )));
    };
    if own_shard.id != *shard {
        return Err(Refusal::new(format!(
            "ERR this node is of shard {}, the fence is about shard {shard}",
            own_shard.id
        )));
    }
    match own_shard.primary() {
        Some(own_primary) if own_primary.id == *primary => Ok(()),
        Some(_) if entry.role == Role::Primary => Err(Refusal::new(format!(
            "ERR this node is the primary of shard {shard}, the fence is about {primary}"
        ))),
        Some(own_primary) => Err(Refusal::new(format!(
            "ERR this node follows {}, the fence is about {primary}",
            own_primary.id
        ))),
        None => Err(Refusal::new(format!(
            "ERR shard {shard} has no primary by this node's map (epoch {})",
            ownership.epoch()
        ))),
    }
}

pub(crate) fn fence(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let fence: Fence = body(turn)?;
    let fenced = turn.node.raise_fence(fence, turn.clock)?;
    json(turn, &fenced)
}

pub(crate) fn unfence(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let number = turn
        .arg_int(2)
        .ok()
        .and_then(|number| u64::try_from(number).ok())
        .ok_or(Refusal::fixed("ERR a fence is a number"))?;
    if turn.node.guard.fences.call_off(number) {
        turn.node.cut_upstream();
        turn.node.settle_lease(turn.clock);
    }
    turn.ok()
}

impl Node {
    fn raise_fence(&mut self, fence: Fence, clock: Clock) -> Result<Fenced, Refusal> {
        let Fence {
            number, primary, ..
        } = fence;
        self.guard.fences.raise(fence, &self.ownership)?;
        if self.is_fenced_from(primary) {
            self.cut_upstream();
            // That of a primary is its own.
            self.settle_lease(clock);
        }
        let answered = self.guard.answered_primary_ms;
        Ok(Fenced {
            number,
            run_id: self.settings.run_id,
            // A replica that lacks something keeps no journal.
            place: self.journal.place(),
            answered_ms_ago: answered.map(|at| clock.mono_ms.saturating_sub(at)),
        })
    }

    /// This replica has said something to its primary.
    pub(crate) fn answered_primary(&mut self, clock: Clock) {
        self.guard.answered_primary_ms = Some(clock.mono_ms);
    }

    /// Nothing of this primary may be taken, and nothing acknowledged to it.
    pub fn is_fenced_from(&self, primary: NodeId) -> bool {
        #[cfg(test)]
        if self.guard.planted == Some(crate::guard::Planted::FenceForgotten) {
            return false;
        }
        self.guard.fences.is_against(primary)
    }
}

#[cfg(test)]
mod tests {
    use larder_wire::{ClusterMap, NodeEntry, ShardEntry, ShardId, SlotSet};

    use super::*;

    const PRIMARY: NodeId = NodeId::from_bytes([1; 20]);
    const REPLICA: NodeId = NodeId::from_bytes([2; 20]);
    const STRANGER: NodeId = NodeId::from_bytes([3; 20]);

    fn map(epoch: u64) -> ClusterMap {
        let entry = |id: NodeId, role| NodeEntry {
            id,
            addr: format!("127.0.0.1:700{}", id.to_string().as_bytes()[1]),
            role,
            zone: None,
            in_step: role == Role::Replica,
        };
        let shard = ShardEntry {
            id: ShardId(1),
            slots: SlotSet::full(),
            nodes: vec![entry(PRIMARY, Role::Primary), entry(REPLICA, Role::Replica)],
        };
        ClusterMap::new("larder", Epoch(epoch), vec![shard]).unwrap()
    }

    fn ownership(me: NodeId, epoch: u64) -> Ownership {
        let mut own = Ownership::cluster(me);
        own.take(map(epoch));
        own
    }

    fn fence(number: u64) -> Fence {
        Fence {
            number,
            shard: ShardId(1),
            primary: PRIMARY,
            epoch: Epoch(5),
        }
    }

    #[test]
    fn a_fence_is_said_again_but_never_after_a_newer_one_or_its_end() {
        let own = ownership(REPLICA, 5);
        let mut fences = Fences::default();
        fences.raise(fence(3), &own).unwrap();
        fences.raise(fence(3), &own).unwrap();
        assert!(fences.raise(fence(2), &own).is_err());
        assert!(fences.is_against(PRIMARY) && !fences.is_against(STRANGER));
        assert!(!fences.call_off(2), "that one does not hold");
        assert_eq!(fences.number(), Some(3));
        assert!(fences.call_off(3));
        assert!(!fences.is_against(PRIMARY));
        assert!(fences.raise(fence(3), &own).is_err(), "it was called off");
        // Called off before it is heard: it comes too late.
        assert!(!fences.call_off(7));
        assert!(fences.raise(fence(7), &own).is_err());
        fences.raise(fence(8), &own).unwrap();
    }

    #[test]
    fn only_a_map_of_a_higher_epoch_ends_it() {
        let mut fences = Fences::default();
        fences.raise(fence(1), &ownership(REPLICA, 4)).unwrap();
        assert!(!fences.settle(Epoch(5)));
        assert!(fences.is_against(PRIMARY));
        assert!(fences.settle(Epoch(6)));
        assert!(!fences.is_against(PRIMARY));
        let late = fences.raise(fence(2), &ownership(REPLICA, 6));
        assert_eq!(late.unwrap_err().text(), "STALE 6");
    }

    #[test]
    fn who_is_no_replica_of_that_primary_says_so() {
        let refused = |me: NodeId, fence: Fence| {
            let mut fences = Fences::default();
            let refusal = fences.raise(fence, &ownership(me, 5)).unwrap_err();
            assert_eq!(fences.number(), None);
            refusal.text().to_string()
        };
        assert!(refused(STRANGER, fence(1)).contains("in no shard"));
        let other_shard = Fence {
            shard: ShardId(2),
            ..fence(1)
        };
        assert!(refused(REPLICA, other_shard).contains("of shard 1"));
        let other_primary = Fence {
            primary: STRANGER,
            ..fence(1)
        };
        assert!(refused(REPLICA, other_primary.clone()).contains("follows"));
        assert!(refused(PRIMARY, other_primary).contains("is the primary of shard 1"));
    }

    #[test]
    fn a_primary_is_fenced_from_itself() {
        let mut fences = Fences::default();
        fences.raise(fence(1), &ownership(PRIMARY, 5)).unwrap();
        assert!(fences.is_against(PRIMARY));
    }
}
