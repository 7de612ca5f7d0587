//! Whom a failover chooses, once the former primary can serve no more (`failover.rs` says when that is).
//!
//! What a replica in step has in its memory comes first: it answers at once, and it has all that was acknowledged. Where none
//! has anything in memory, there are files: a node that started again says when it joins what it has read, and since it is given
//! no map meanwhile, that stays so. Whoever has most of the former primary's history goes on, whatever it was before.
//!
//! Nothing is given up while it may still come. In `safe` the choice among files, or of nothing at all, waits till the primary and
//! every replica that was in step have said what they have, or an operator ends it. In `async` it waits for those who are missing,
//! too, but not for ever: [`LAST_WAIT_MS`] where something good is at hand, [`EMPTY_WAIT_MS`] where there is only something old, or nothing.

use std::collections::BTreeMap;

use larder_wire::replication::{Place, WriteMode};
use larder_wire::{Epoch, History, NodeId, ShardId};

use crate::failover::Waits;
use crate::soft::FailoverSoft;
use crate::state::Failover;
use crate::step::Plan;
use crate::{EMPTY_WAIT_MS, LAST_WAIT_MS};

/// Who takes the place.
pub(crate) struct Successor {
    pub(crate) id: NodeId,
    pub(crate) place: Option<Place>,
    /// It was the primary, or in step.
    pub(crate) whole: bool,
}

impl Successor {
    fn with((id, place): (NodeId, Place), whole: bool) -> Successor {
        Successor {
            id,
            place: Some(place),
            whole,
        }
    }
}

impl Plan {
    pub(crate) fn choose(
        &self,
        shard: ShardId,
        failover: &Failover,
        soft: &FailoverSoft,
    ) -> Result<Successor, Waits> {
        let safe = self.state.map.writes == WriteMode::Safe;
        let unheard = self.unheard(failover, soft);
        let fenced = |id: &NodeId| soft.fenced.get(id).and_then(|(fenced, _)| fenced.place);
        let mut witnesses = failover.witnesses.keys();
        let complete = witnesses.all(|id| fenced(id).is_some());
        // What one of them acknowledged may be nowhere else.
        if safe && !complete && !unheard.is_empty() && !failover.forced {
            return Err(Waits::Witnesses(unheard));
        }
        let members = self.state.shard(shard).into_iter();
        let members: Vec<NodeId> = members.flat_map(|s| &s.nodes).map(|it| it.id).collect();
        let witness = |id: &NodeId| failover.witnesses.contains_key(id);
        let was_whole = |id: &NodeId| witness(id) || *id == failover.primary;
        let in_memory: Vec<(NodeId, Place)> = members
            .iter()
            .filter(|id| **id != failover.primary)
            .filter_map(|id| Some((*id, fenced(id)?)))
            .collect();
        let on_disk: Vec<(NodeId, Place)> = members
            .iter()
            .filter(|id| fenced(id).is_none())
            .filter_map(|id| Some((*id, self.has_read(*id, failover)??)))
            // Of others who knows whose it is.
            .filter(|(id, place)| was_whole(id) || Some(place.history) == soft.reign)
            .collect();
        let all = || in_memory.iter().chain(&on_disk).copied();
        let whole = || all().filter(|(id, _)| was_whole(id));
        // Who has not followed the present primary yet was marked for having all that it began with: no place of an earlier history is
        // beyond those of the last one. What its history was called is not known after a takeover, or was said before it led.
        let marked = in_memory.iter().filter(|(id, _)| witness(id));
        let top = marked.map(|(_, place)| *place).max_by_key(|it| it.offset);
        let said = |top: Place| {
            let reaches = |place: Place| Some(place.history) == soft.reign;
            let mut whole = whole();
            let known = whole.any(|(_, place)| reaches(place) && place.offset >= top.offset);
            if known { soft.reign } else { Some(top.history) }
        };
        let reign = top.map_or(soft.reign, said);
        if top.is_some() {
            let best = self.furthest(whole(), reign, shard);
            return best
                .map(|best| Successor::with(best, true))
                .ok_or(Waits::Anybody);
        }
        let best = self.furthest(all(), reign, shard);
        let dead = self.is_dead(failover);
        let good = best.filter(|(id, place)| Some(place.history) == reign || dead && was_whole(id));
        let patience = match good {
            Some(_) => LAST_WAIT_MS,
            None => EMPTY_WAIT_MS,
        };
        let quiet = self
            .soft
            .now
            .saturating_sub(self.quiet_since(soft, &members));
        let resigned = failover.forced || !safe && quiet >= patience;
        let whole = best.is_some_and(|(id, _)| was_whole(&id));
        let others = !whole && self.may_answer(failover, soft, &members);
        if !(resigned || unheard.is_empty() && !others) {
            return Err(match unheard.is_empty() {
                true => Waits::Anybody,
                false => Waits::Files(unheard),
            });
        }
        if let Some(best) = best {
            return Ok(Successor::with(best, was_whole(&best.0)));
        }
        // Nobody has anything. A primary that may live has more than that.
        let mut empty = members
            .iter()
            .filter(|id| self.has_read(**id, failover).is_some());
        let before = empty.clone().find(|id| **id == failover.primary);
        match before.or(empty.next()).filter(|_| dead) {
            Some(id) => Ok(Successor {
                id: *id,
                place: None,
                whole: false,
            }),
            None => Err(Waits::Anybody),
        }
    }

    /// The primary and those who were in step, as far as nobody knows what they have: they may have more than all others.
    fn unheard(&self, failover: &Failover, soft: &FailoverSoft) -> Vec<NodeId> {
        #[cfg(test)]
        if self.planted == crate::sim::Planted::FirstBack {
            return Vec::new();
        }
        let witnesses = failover.witnesses.keys();
        let unheard = witnesses.filter(|id| !soft.fenced.contains_key(id));
        let unheard = unheard.chain([&failover.primary]);
        let gone = |id: &NodeId| self.state.nodes.get(id).is_none_or(|node| node.gone);
        let unheard = unheard.filter(|id| !gone(id) && self.has_read(**id, failover).is_none());
        unheard.copied().collect()
    }

    /// What a node has read from files when it started again. `None`: it has not, or something else has come to it since.
    fn has_read(&self, id: NodeId, failover: &Failover) -> Option<Option<Place>> {
        let node = self.state.nodes.get(&id)?;
        let soft = self.soft.nodes.get(&id)?;
        let past = match id == failover.primary {
            true => Some(&failover.run_id),
            false => failover.witnesses.get(&id),
        };
        let again = past.is_none_or(|life| *life != node.run_id);
        let untouched = soft.acked == Epoch(0) && soft.pushing.is_none();
        (again && untouched && soft.reachable).then_some(node.data)
    }

    /// Replicas that were not in step, and answer: for a short while they are waited for.
    fn may_answer(&self, failover: &Failover, soft: &FailoverSoft, members: &[NodeId]) -> bool {
        let waited = self.soft.now.saturating_sub(soft.began_at);
        let mut others = members.iter().filter(|id| {
            let known = soft.fenced.contains_key(id) || self.has_read(**id, failover).is_some();
            **id != failover.primary && !known && !self.is_silent(**id)
        });
        waited < LAST_WAIT_MS && others.next().is_some()
    }

    /// When the failover began, or the last of the shard's nodes has started again since.
    fn quiet_since(&self, soft: &FailoverSoft, members: &[NodeId]) -> u64 {
        let nodes = members.iter().filter_map(|id| self.soft.nodes.get(id));
        nodes.fold(soft.began_at, |last, node| last.max(node.born_at))
    }

    /// The place that is furthest in the primary's own history; ties go where there are fewer primaries.
    fn furthest(
        &self,
        places: impl Iterator<Item = (NodeId, Place)>,
        reign: Option<History>,
        shard: ShardId,
    ) -> Option<(NodeId, Place)> {
        let present = self.state.primary(shard).map(|entry| entry.id);
        let mut primaries: BTreeMap<Option<&str>, u32> = BTreeMap::new();
        for entry in self.state.map.shards().iter().filter_map(|s| s.primary()) {
            *primaries.entry(entry.zone.as_deref()).or_default() += 1;
        }
        let rank = |(id, place): &(NodeId, Place)| {
            let zone = self
                .state
                .nodes
                .get(id)
                .and_then(|node| node.zone.as_deref());
            let crowd = primaries.get(&zone).copied().unwrap_or(0);
            #[cfg(test)]
            let offset = match self.planted {
                crate::sim::Planted::PromoteBehind => u64::MAX - place.offset.0,
                _ => place.offset.0,
            };
            #[cfg(not(test))]
            let offset = place.offset.0;
            (
                reign == Some(place.history),
                offset,
                Some(*id) == present,
                std::cmp::Reverse(crowd),
                std::cmp::Reverse(*id),
            )
        };
        places.max_by_key(|candidate| rank(candidate))
    }
}
