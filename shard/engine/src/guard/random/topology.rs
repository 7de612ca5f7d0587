//! The topology of an invented world, by the rules of `larder_wire::replication`: leases, marks, fences, promotions.

use std::collections::BTreeMap;

use larder_wire::control::MapPush;
use larder_wire::replication::{Fence, Fenced, LEASE_MARGIN_MS, LEASE_MS, LinkPhase, WriteMode};
use larder_wire::{ClusterMap, Epoch, NodeEntry, Offset, Role, ShardEntry, ShardId, SlotSet};

use super::actors::{Actor, id, text_of};
use super::moves::Moving;
use super::{NODES_EACH, Planted, World};

pub(super) struct Topology {
    /// Of the latest map that is recorded, and of the one that is settled: between them is a handover that its source has not decided.
    pub(super) epoch: u64,
    pub(super) settled: u64,
    pub(super) number: u64,
    pub(super) attempts: u64,
    pub(super) shards: Vec<Shard>,
    pub(super) moving: Option<Moving>,
    /// The settled epoch that each node has.
    pub(super) known: Vec<u64>,
}

pub(super) struct Shard {
    pub(super) slots: SlotSet,
    pub(super) primary: usize,
    pub(super) in_step: Vec<usize>,
    /// Who may have what nobody else has: whoever the primary may still take to be in step, and whoever it did when another had less.
    maybe_in_step: Vec<usize>,
    /// The end of the primary's journal when it took the map with the present marks.
    taken_at: Option<Offset>,
    granted_ms: u64,
    pub(super) failover: Option<Failover>,
}

pub(super) struct Failover {
    number: u64,
    /// Epoch by which the primary is suspected.
    epoch: u64,
    gone: bool,
    /// The primary is fenced, too: then nobody waits for its lease.
    told: bool,
    /// Who is fenced, what each has, and when at the latest it last answered the primary.
    fenced: BTreeMap<usize, (Option<u64>, u64)>,
}

impl Topology {
    pub(super) fn new(shards: usize) -> Topology {
        let shard = |n: usize| Shard {
            slots: match n {
                0 => SlotSet::full(),
                _ => SlotSet::new(),
            },
            primary: n * NODES_EACH,
            in_step: Vec::new(),
            maybe_in_step: Vec::new(),
            taken_at: None,
            granted_ms: 0,
            failover: None,
        };
        Topology {
            epoch: 1,
            settled: 1,
            number: 0,
            attempts: 0,
            shards: (0..shards).map(shard).collect(),
            moving: None,
            known: vec![0; shards * NODES_EACH],
        }
    }

    /// Until the source's word no other map is decided.
    pub(super) fn undecided(&self) -> bool {
        self.epoch != self.settled
    }

    pub(super) fn fails(&self, shard: usize) -> bool {
        self.shards[shard].failover.is_some()
    }

    pub(super) fn map(&self, epoch: u64, slots: impl Fn(usize) -> SlotSet) -> ClusterMap {
        let shards = self.shards.iter().enumerate().map(|(n, shard)| {
            let entry = |index: usize| NodeEntry {
                id: id(index),
                addr: format!("127.0.0.1:{}", 7000 + index),
                role: match index == shard.primary {
                    true => Role::Primary,
                    false => Role::Replica,
                },
                zone: None,
                in_step: shard.in_step.contains(&index),
            };
            ShardEntry {
                id: ShardId(n as u32 + 1),
                slots: slots(n),
                nodes: (n * NODES_EACH..(n + 1) * NODES_EACH).map(entry).collect(),
            }
        });
        ClusterMap::new("larder", Epoch(epoch), shards.collect())
            .unwrap()
            .with_writes(WriteMode::Safe)
    }
}

impl World {
    pub(super) fn shard_of(&self, index: usize) -> &Shard {
        &self.topology.shards[index / NODES_EACH]
    }

    fn is_primary(&self, index: usize) -> bool {
        self.shard_of(index).primary == index
    }

    /// The topology decides for a new map.
    fn record(&mut self, shard: usize, primary: usize, in_step: Vec<usize>) {
        let topology = &mut self.topology;
        assert!(!topology.undecided());
        topology.epoch += 1;
        topology.settled = topology.epoch;
        let shard = &mut topology.shards[shard];
        if primary == shard.primary {
            shard.maybe_in_step.extend(&in_step);
        } else {
            shard.maybe_in_step = in_step.clone();
        }
        shard.primary = primary;
        shard.in_step = in_step;
        shard.taken_at = None;
    }

    /// While a failover is undecided nobody of the shard is given a map: a newer one would lift the fence.
    pub(super) fn push_map(&mut self, index: usize) {
        let topology = &self.topology;
        let has_it = topology.known[index] == topology.settled;
        if has_it || !self.is_called(index) || self.shard_of(index).failover.is_some() {
            return;
        }
        let push = MapPush {
            map: topology.map(topology.settled, |n| topology.shards[n].slots.clone()),
            handovers: vec![],
            yields: None,
        };
        let actor = &mut self.actors[index];
        let clock = actor.clock(self.now_ms);
        match actor.node.take_map(push, clock) {
            Ok(()) => self.has_settled_map(index),
            // A handover that is undecided came over the feed.
            Err(refusal) => assert!(refusal.text().starts_with("STALE "), "{refusal:?}"),
        }
        self.judge_owners();
    }

    pub(super) fn has_settled_map(&mut self, index: usize) {
        self.topology.known[index] = self.topology.settled;
        let shard = &mut self.topology.shards[index / NODES_EACH];
        if index == shard.primary {
            let end = self.actors[index].node.journal.end();
            shard.taken_at.get_or_insert(end);
        }
    }

    /// Marks that were taken away are forgotten when another has all that the primary had when it heard of it.
    pub(super) fn forget_faded(&mut self, shard: usize) {
        let Shard {
            primary, taken_at, ..
        } = self.topology.shards[shard];
        let Some(goal) = taken_at.filter(|_| self.is_called(primary)) else {
            return;
        };
        let followers = self.actors[primary].node.replication.followers.iter();
        let mut there = followers.filter(|it| it.in_step && it.acked >= goal);
        let forgets = match self.planted {
            Some(Planted::ForgottenFaded) => true,
            Some(_) | None => there.next().is_some(),
        };
        if forgets {
            let shard = &mut self.topology.shards[shard];
            shard.maybe_in_step = shard.in_step.clone();
        }
    }

    /// JOIN is sent and answered, and the answer may take its time.
    pub(super) fn join(&mut self, index: usize) {
        let clock = self.actors[index].clock(self.now_ms);
        if self.runs(index)
            && self.reaches(index, self.nobody())
            && self.actors[index].joins.len() < 4
        {
            let topology = &mut self.topology;
            let shard = &mut topology.shards[index / NODES_EACH];
            let granted = match index == shard.primary {
                true => shard.failover.is_none() && topology.known[index] > 0,
                false => topology.known[index] == topology.settled,
            };
            if granted && index == shard.primary {
                shard.granted_ms = self.now_ms;
            }
            self.actors[index].joins.push((clock.mono_ms, granted));
        }
    }

    pub(super) fn join_answered(&mut self, index: usize) {
        if !self.runs(index) || !self.reaches(self.nobody(), index) {
            return;
        }
        let actor = &mut self.actors[index];
        let clock = actor.clock(self.now_ms);
        if !actor.joins.is_empty()
            && let (sent_ms, true) = actor.joins.remove(0)
        {
            actor.node.joined(sent_ms, clock);
        }
    }

    /// Who has caught up is marked in step, who is silent is not any more.
    pub(super) fn judge_steps(&mut self, shard: usize) {
        let primary = self.topology.shards[shard].primary;
        let known = self.topology.known[primary] == self.topology.settled;
        if self.topology.undecided()
            || self.topology.fails(shard)
            || !known
            || !self.is_called(primary)
        {
            return;
        }
        let node = &self.actors[primary].node;
        let end = node.journal.end();
        let followers = node.replication.followers.iter();
        let caught_up = followers
            .filter(|it| it.phase == LinkPhase::Streaming && it.acked == end)
            .map(|it| self.index_of(it.node));
        let follows = |index: &usize| {
            let actor = &self.actors[*index];
            let follows = actor.node.following(actor.clock(self.now_ms));
            follows.is_some_and(|it| it.phase == LinkPhase::Streaming)
        };
        let caught_up: Vec<usize> = caught_up.filter(follows).collect();
        let before = self.topology.shards[shard].in_step.clone();
        let mut in_step = before.clone();
        in_step.retain(|index| caught_up.contains(index) || !self.chance(10));
        for index in caught_up {
            if !in_step.contains(&index) && index != primary {
                in_step.push(index);
            }
        }
        in_step.sort_unstable();
        if in_step != before {
            self.record(shard, primary, in_step);
            self.push_map(primary);
        }
    }

    pub(super) fn suspect(&mut self, shard: usize) {
        let state = &self.topology.shards[shard];
        if state.failover.is_some() || state.maybe_in_step.is_empty() {
            return;
        }
        let gone = !self.actors[state.primary].alive;
        let told = self.chance(8);
        self.topology.number += 1;
        self.topology.shards[shard].failover = Some(Failover {
            number: self.topology.number,
            epoch: self.topology.epoch,
            gone,
            told,
            fenced: BTreeMap::new(),
        });
        self.void_move_of(shard);
    }

    pub(super) fn suspect_if_silent(&mut self, shard: usize) {
        let primary = self.topology.shards[shard].primary;
        if !self.is_called(primary) || self.chance(10) {
            self.suspect(shard);
        }
    }

    pub(super) fn fence(&mut self, shard: usize) {
        let state = &self.topology.shards[shard];
        let Some(failover) = &state.failover else {
            return;
        };
        let fence = Fence {
            number: failover.number,
            shard: ShardId(shard as u32 + 1),
            primary: id(state.primary),
            epoch: Epoch(failover.epoch),
        };
        let body = serde_json::to_string(&fence).unwrap();
        let told = failover.told.then_some(&state.primary);
        let wanted = state.maybe_in_step.iter().chain(told);
        let open = wanted.filter(|index| !failover.fenced.contains_key(index));
        let open: Vec<usize> = open.copied().collect();
        for index in open {
            if !self.is_called(index) {
                continue;
            }
            let now_ms = self.now_ms;
            let actor = &mut self.actors[index];
            let clock = actor.clock(now_ms);
            let (_, reply) = actor.ask("FENCE", &body, clock);
            let Ok(fenced) = serde_json::from_str::<Fenced>(text_of(&reply)) else {
                continue;
            };
            let answered = fenced
                .answered_ms_ago
                .map_or(0, |ago| now_ms - ago.min(now_ms));
            let place = fenced.place.map(|place| place.offset.0);
            if let Some(failover) = &mut self.topology.shards[shard].failover {
                failover.fenced.insert(index, (place, answered));
            }
        }
        self.promote(shard);
    }

    /// Both rules hold: the one that has most takes over.
    fn promote(&mut self, shard: usize) {
        let state = &self.topology.shards[shard];
        let Some(failover) = &state.failover else {
            return;
        };
        let mut wanted = state.maybe_in_step.iter();
        if !wanted.all(|index| failover.fenced.contains_key(index)) {
            return;
        }
        let answered = failover.fenced.values().map(|(_, at)| *at).max();
        let heard = answered.unwrap_or(0).max(state.granted_ms);
        let over_at = heard + LEASE_MS + LEASE_MARGIN_MS;
        let told = failover.fenced.contains_key(&state.primary);
        if !failover.gone && !told && self.now_ms < over_at {
            return;
        }
        let places = state.maybe_in_step.iter();
        let places = places.map(|index| Some((failover.fenced.get(index)?.0?, *index)));
        // Who has nothing to show may have been alone in having it.
        let Some(places) = places.collect::<Option<Vec<_>>>() else {
            return;
        };
        let Some((_, successor)) = places.into_iter().max() else {
            return;
        };
        if !self.free_the_map(shard) {
            return;
        }
        let slots = self.topology.shards[shard].slots.clone();
        self.judge_heir(successor, &slots, "is promoted");
        self.topology.shards[shard].failover = None;
        self.promotions += 1;
        self.record(shard, successor, Vec::new());
    }

    pub(super) fn call_off(&mut self, shard: usize) {
        let undecided = self.topology.undecided();
        let state = &self.topology.shards[shard];
        let (primary, in_step) = (state.primary, state.in_step.clone());
        let may = state.failover.as_ref().is_some_and(|failover| {
            let mut fenced = failover.fenced.keys();
            !failover.gone && (!undecided || fenced.all(|index| self.is_called(*index)))
        });
        let failover = self.topology.shards[shard].failover.take_if(|_| may);
        let Some(failover) = failover else { return };
        for index in failover.fenced.into_keys() {
            if self.is_called(index) {
                let actor = &mut self.actors[index];
                let clock = actor.clock(self.now_ms);
                let (_, reply) = actor.ask("UNFENCE", &failover.number.to_string(), clock);
                assert_eq!(reply, "+OK\r\n");
            }
        }
        // Those who did not hear it are freed by the next map.
        if !undecided {
            self.record(shard, primary, in_step);
        }
    }

    /// The process is gone, and another begins with nothing.
    pub(super) fn crash(&mut self, index: usize) {
        for other in 0..self.actors.len() {
            let to_it = self.actors[other]
                .link
                .as_ref()
                .is_some_and(|link| link.primary == index);
            if to_it || other == index {
                self.break_link(other);
            }
        }
        self.feed_is_cut_by(index);
        let life = self.actors[index].life + 1;
        self.actors[index] = Actor::new(index, life, self.planted);
        self.actors[index].alive = false;
        self.topology.known[index] = 0;
        let shard = index / NODES_EACH;
        match self.is_primary(index) {
            true => {
                if let Some(failover) = &mut self.topology.shards[shard].failover {
                    failover.gone = true;
                }
                self.suspect(shard);
            }
            false => {
                // What it had is gone: it is in step no more, and cannot be fenced again with anything.
                let state = &self.topology.shards[shard];
                let mut in_step = state.in_step.clone();
                in_step.retain(|other| *other != index);
                if state.failover.is_none() {
                    self.record(shard, state.primary, in_step);
                }
            }
        }
    }

    /// The shard's primary and both replicas run, and are in step. One fault at a time: who is not up again is not joined by another.
    pub(super) fn may_crash(&self, index: usize) -> bool {
        let whole = self.actors.iter().all(|actor| actor.alive);
        let state = self.shard_of(index);
        if !whole || state.in_step.len() < NODES_EACH - 1 {
            return false;
        }
        self.is_primary(index) || (state.failover.is_none() && !self.topology.undecided())
    }

    pub(super) fn may_return(&self, index: usize) -> bool {
        !self.is_primary(index) || self.shard_of(index).failover.is_none()
    }
}
