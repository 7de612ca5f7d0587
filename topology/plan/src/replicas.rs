//! Replicas of shards that have their primary: which of them are in step, those that are lost are replaced, and
//! there are as many as the operator wants. It refuses to judge primaries: that is failover's.
//!
//! A mark is given when the replica and its primary both say that it streams, and it has all that the primary had when
//! it was first seen to. It is taken away when it has been silent, astray or far behind for [`SILENCE_MS`]; at once when
//! its process is gone. While the primary itself is not heard of, nobody is blamed for not following it.
//!
//! In `safe` any one of those marked acknowledges, so no one of them need have everything that was acknowledged; all
//! together have it. A mark that is taken away therefore *fades*: a failover asks its former bearer, too, until one
//! that is marked has all that the primary had when it learnt that the other counts no more.

use larder_wire::replication::{LinkPhase, Place, SILENCE_MS, WriteMode};
use larder_wire::{Epoch, NodeId, Offset, Role, ShardEntry, ShardId};

use crate::event::Level;
use crate::step::Plan;
use crate::{REPLACE_MS, STEP_LAG_BYTES_MAX, STRAY_LAG_BYTES_MAX};

impl Plan {
    /// Takes every shard one step closer to what it should be, under one further epoch.
    pub(crate) fn tend_replicas(&mut self) {
        self.forget_faded();
        if !self.state.formed() || self.undecided() {
            return;
        }
        self.note_strays();
        self.note_goals();
        let mut shards = self.state.map.shards().to_vec();
        self.fit_in(&mut shards);
        let writes = self.state.settings.writes;
        if shards != self.state.map.shards() || writes != self.state.map.writes {
            self.tell_of_marks(&shards);
            self.state.settle(shards);
        }
        let map = &self.state.map;
        for (id, soft) in &mut self.soft.nodes {
            let entry = map.find_node(*id);
            soft.began_anew &= entry.is_some_and(|(_, entry)| entry.in_step);
        }
    }

    fn fit_in(&self, shards: &mut [ShardEntry]) {
        let mut placement = self.placement();
        let wanted = self.state.settings.replicas as usize;
        for shard in shards {
            if self.failing_over(shard.id) {
                continue;
            }
            let surplus = self.surplus(shard, wanted);
            for entry in &mut shard.nodes {
                let marked = self.deserves_mark(shard.id, entry.id, entry.in_step);
                entry.in_step =
                    entry.role == Role::Replica && marked && !surplus.contains(&entry.id);
            }
            let may_go = |id: NodeId, in_step: bool| !in_step && !self.is_fading(shard.id, id);
            shard
                .nodes
                .retain(|entry| !surplus.contains(&entry.id) || !may_go(entry.id, entry.in_step));
            if self.is_leaving(shard.id) {
                continue;
            }
            let mut mates: Vec<NodeId> = shard.nodes.iter().map(|entry| entry.id).collect();
            for entry in &mut shard.nodes {
                let lost = entry.role == Role::Replica && self.is_lost(entry.id);
                if lost && may_go(entry.id, entry.in_step) {
                    mates.retain(|mate| *mate != entry.id);
                    if let Some(spare) = placement.take(&mates) {
                        mates.push(spare);
                        *entry = self
                            .state
                            .entry(spare, Role::Replica)
                            .expect("a spare is known");
                    }
                }
            }
            // Who is lost and fades is nobody's place to take, and none that stands.
            let fades = |id: NodeId| self.is_lost(id) && self.is_fading(shard.id, id);
            let waning = shard.nodes.iter().filter(|entry| fades(entry.id)).count();
            while shard.nodes.len() < 1 + wanted + waning
                && let Some(spare) = placement.take(&mates)
            {
                mates.push(spare);
                let entry = self.state.entry(spare, Role::Replica);
                shard.nodes.push(entry.expect("a spare is known"));
            }
        }
    }

    /// Replicas beyond the wanted count: the lost before the living, those out of step before those in step.
    fn surplus(&self, shard: &ShardEntry, wanted: usize) -> Vec<NodeId> {
        let mut replicas: Vec<_> = shard.replicas().enumerate().collect();
        let surplus = replicas.len().saturating_sub(wanted);
        replicas.sort_by_key(|(place, entry)| {
            let lives = !self.is_lost(entry.id);
            (lives, entry.in_step, std::cmp::Reverse(*place))
        });
        let surplus = replicas.into_iter().take(surplus);
        surplus.map(|(_, entry)| entry.id).collect()
    }

    fn is_fading(&self, shard: ShardId, id: NodeId) -> bool {
        let fading = self.state.fading.get(&shard);
        fading.is_some_and(|fading| fading.contains_key(&id))
    }

    fn is_leaving(&self, shard: ShardId) -> bool {
        let operation = self.state.operation.as_ref();
        operation.is_some_and(|operation| operation.leaving.contains(&shard))
    }

    /// Nobody has heard of it for so long that it is not waited for.
    fn is_lost(&self, id: NodeId) -> bool {
        let gone = self.state.nodes.get(&id).is_none_or(|node| node.gone);
        let soft = self.soft.nodes.get(&id);
        let silent = soft.is_none_or(|soft| {
            !soft.reachable && self.soft.now.saturating_sub(soft.heard_at()) >= REPLACE_MS
        });
        gone || silent
    }

    fn deserves_mark(&self, shard: ShardId, id: NodeId, marked: bool) -> bool {
        let Some(soft) = self.soft.nodes.get(&id) else {
            return false;
        };
        if marked {
            let silent = self.is_silent(id);
            let stray = soft
                .stray_since
                .is_some_and(|since| self.soft.now.saturating_sub(since) >= SILENCE_MS);
            return !(silent || stray || soft.began_anew);
        }
        let has_map = |id: NodeId| {
            let soft = self.soft.nodes.get(&id);
            soft.is_some_and(|soft| soft.reachable && soft.acked == self.state.map.epoch)
        };
        let Some(primary) = self.state.primary(shard) else {
            return false;
        };
        let both = !self.is_silent(id) && !self.is_silent(primary.id);
        let reached = soft.goal.is_some_and(|(_, reached)| reached);
        let lag = self.lag(shard, id).filter(|_| reached);
        both && has_map(id)
            && has_map(primary.id)
            && lag.is_some_and(|lag| lag <= STEP_LAG_BYTES_MAX)
    }

    /// Bytes that a replica has still to apply, when it and its primary agree that it streams.
    pub(crate) fn lag(&self, shard: ShardId, id: NodeId) -> Option<u64> {
        let primary = self.state.primary(shard)?.id;
        let said = |id: NodeId| {
            let state = self.soft.nodes.get(&id)?.state.as_ref()?;
            state.replication.as_ref()
        };
        let follows = said(id)?.follows.as_ref()?;
        let theirs = said(primary)?;
        let follower = theirs.followers.iter().find(|f| f.node == id)?;
        let streams = follows.primary == primary
            && follows.phase == LinkPhase::Streaming
            && follower.phase == LinkPhase::Streaming
            && follower.silent_ms < SILENCE_MS;
        let end = theirs
            .place
            .map_or(follower.offset.0, |place| place.offset.0);
        streams.then(|| follows.lag_bytes.max(end.saturating_sub(follower.offset.0)))
    }

    /// Notes since when replicas in step do not follow as they should.
    fn note_strays(&mut self) {
        let now = self.soft.now;
        let marked: Vec<(ShardId, NodeId, NodeId)> = self
            .state
            .map
            .shards()
            .iter()
            .filter_map(|shard| Some((shard, shard.primary()?.id)))
            .flat_map(|(shard, primary)| {
                let marked = shard.replicas().filter(|entry| entry.in_step);
                marked.map(move |entry| (shard.id, primary, entry.id))
            })
            .collect();
        for (shard, primary, id) in marked {
            let close = self
                .lag(shard, id)
                .is_some_and(|lag| lag <= STRAY_LAG_BYTES_MAX);
            let judged = !self.is_silent(primary) && self.soft.reachable(primary);
            let soft = self.soft.node(id);
            match close || !judged {
                true => soft.stray_since = None,
                false => {
                    soft.stray_since.get_or_insert(now);
                }
            }
        }
    }

    /// Notes how far those who are not in step have come.
    fn note_goals(&mut self) {
        let shards = self.state.map.shards().iter();
        let others: Vec<(ShardId, NodeId, NodeId)> = shards
            .filter_map(|shard| Some((shard, shard.primary()?.id)))
            .flat_map(|(shard, primary)| {
                let behind = shard.replicas().filter(|entry| !entry.in_step);
                behind.map(move |entry| (shard.id, primary, entry.id))
            })
            .collect();
        for (shard, primary, id) in others {
            let streams = self.lag(shard, id).is_some();
            let there = self.followed(primary, id).filter(|_| streams);
            let soft = self.soft.node(id);
            soft.goal = there.map(|(end, has)| match soft.goal {
                Some((goal, reached)) if goal.history == end.history => {
                    (goal, reached || has >= goal.offset)
                }
                Some(_) | None => (end, has >= end.offset),
            });
        }
    }

    /// Where the primary's journal ends, and what the replica has acknowledged of it.
    fn followed(&self, primary: NodeId, id: NodeId) -> Option<(Place, Offset)> {
        let state = self.soft.nodes.get(&primary)?.state.as_ref()?;
        let said = state.replication.as_ref()?;
        let follower = said.followers.iter().find(|f| f.node == id)?;
        Some((said.place?, follower.offset))
    }

    /// Those whose marks were taken away, and who can have nothing more that nobody else has.
    fn forget_faded(&mut self) {
        #[cfg(test)]
        if self.planted == crate::sim::Planted::ForgetFading {
            self.state.fading.clear();
        }
        self.note_faded();
        let mut fading = std::mem::take(&mut self.state.fading);
        for (shard, marks) in &mut fading {
            marks.retain(|id, epoch| !self.is_made_good(*shard, *id, *epoch));
        }
        fading.retain(|_, marks| !marks.is_empty());
        let still = |shard: &ShardId, id: &NodeId| {
            let marks = fading.get(shard);
            marks.is_some_and(|marks| marks.contains_key(id))
        };
        self.soft.faded.retain(|(shard, id), _| still(shard, id));
        self.state.fading = fading;
    }

    /// Notes what primaries had when they no longer counted those whose marks fade.
    fn note_faded(&mut self) {
        for (shard, marks) in &self.state.fading {
            let primary = self.state.primary(*shard).map(|entry| entry.id);
            let said = primary.and_then(|id| self.soft.nodes.get(&id)?.state.as_ref());
            let Some(said) = said else {
                continue;
            };
            let place = said.replication.as_ref().and_then(|said| said.place);
            for (id, epoch) in marks {
                let known = self.soft.faded.get(&(*shard, *id));
                let stands = known.is_some_and(|(of, goal)| {
                    of == epoch && place.is_some_and(|place| place.history == goal.history)
                });
                if let Some(place) = place.filter(|_| !stands && said.epoch >= *epoch) {
                    self.soft.faded.insert((*shard, *id), (*epoch, place));
                }
            }
        }
    }

    /// Its primary counts it no more, and what it alone has acknowledged is elsewhere by now, or was never promised.
    fn is_made_good(&self, shard: ShardId, id: NodeId, epoch: Epoch) -> bool {
        let Some(primary) = self.state.primary(shard).map(|entry| entry.id) else {
            return true;
        };
        let has = self.soft.nodes.get(&primary).map(|soft| soft.acked);
        if has.unwrap_or(Epoch(0)) < epoch {
            return false;
        }
        let settings = &self.state.settings;
        let promised = [settings.writes, self.state.map.writes].contains(&WriteMode::Safe);
        // Whoever wants no replicas wants none to be waited for.
        let alone = settings.replicas == 0;
        #[cfg(test)]
        let promised = promised && self.planted != crate::sim::Planted::ForgetLagging;
        if !promised || alone {
            return true;
        }
        let Some((_, goal)) = self.soft.faded.get(&(shard, id)) else {
            return false;
        };
        let entry = self.state.shard(shard);
        let marked = entry.into_iter().flat_map(ShardEntry::replicas);
        let mut marked = marked.filter(|entry| entry.in_step);
        marked.any(|entry| {
            let followed = self.followed(primary, entry.id);
            followed.is_some_and(|(end, has)| end.history == goal.history && has >= goal.offset)
        })
    }

    fn tell_of_marks(&mut self, shards: &[ShardEntry]) {
        let mut lines = Vec::new();
        for shard in shards {
            let Some(before) = self.state.shard(shard.id) else {
                continue;
            };
            for entry in shard.replicas() {
                let was = before.nodes.iter().find(|old| old.id == entry.id);
                let addr = &entry.addr;
                let text = match was.map(|was| was.in_step) {
                    None => format!("node {addr} becomes a replica of shard {}", shard.id),
                    Some(false) if entry.in_step => {
                        format!("replica {addr} of shard {} is in step", shard.id)
                    }
                    Some(true) if !entry.in_step => {
                        format!("replica {addr} of shard {} is no longer in step", shard.id)
                    }
                    Some(true | false) => continue,
                };
                lines.push((was.is_some() && !entry.in_step, text));
            }
        }
        for (bad, text) in lines {
            self.log(if bad { Level::Warn } else { Level::Info }, text);
        }
    }
}
