//! Slots that move between the shards of an invented world, by the rules of `larder_wire::control`: the source's word decides a handover; a failover of the source
//! that cannot wait for it has the target drop what it took, unless that owns already.

use larder_wire::control::{FeedAsk, Import, ImportPhase, ImportState, MapPush};
use larder_wire::{Attempt, SlotSet};

use super::actors::{id, take_frames, text_of};
use super::{KEYS, NODES_EACH, World};
use crate::feed::Produced;
use crate::turn::Outcome;

/// One attempt.
pub(super) struct Moving {
    attempt: Attempt,
    /// Shards.
    from: usize,
    to: usize,
    source: usize,
    target: usize,
    slots: SlotSet,
    /// On its way to the target, and whether more comes; `None`: not connected.
    feed: Option<(Vec<u8>, bool)>,
    /// Its map is recorded, and not settled.
    handed: bool,
    /// Nothing is to be decided any more.
    over: bool,
}

impl World {
    fn moving(&mut self) -> Option<&mut Moving> {
        self.topology.moving.as_mut().filter(|it| !it.over)
    }

    /// The topology goes on with the attempt under way, or begins one.
    pub(super) fn go_on_moving(&mut self) {
        let Some(moving) = &self.topology.moving else {
            return self.begin_move();
        };
        match (moving.over, moving.handed) {
            (true, _) if moving.feed.is_none() => self.topology.moving = None,
            (true, _) => {}
            (false, false) => self.await_import(),
            (false, true) => self.push_handover(),
        }
    }

    fn begin_move(&mut self) {
        let shards = self.topology.shards.len();
        if shards < 2 || self.resting {
            return;
        }
        let from = self.below(shards);
        let to = (from + 1) % shards;
        let (source, target) = (
            self.topology.shards[from].primary,
            self.topology.shards[to].primary,
        );
        let well = |world: &World, shard: usize, index: usize| {
            let knows = world.topology.known[index] == world.topology.settled;
            knows && world.is_called(index) && !world.topology.fails(shard)
        };
        if !well(self, from, source) || !well(self, to, target) {
            return;
        }
        let mut slots = SlotSet::new();
        for key in KEYS {
            let slot = larder_wire::slot_of(key.as_bytes());
            if self.topology.shards[from].slots.contains(slot) && self.chance(2) {
                slots.insert(slot);
            }
        }
        if slots.is_empty() {
            return;
        }
        self.topology.attempts += 1;
        let attempt = Attempt(self.topology.attempts);
        let import = Import {
            attempt,
            slots: slots.clone(),
            source: id(source),
            source_addr: format!("127.0.0.1:{}", 7000 + source),
        };
        let body = serde_json::to_string(&import).unwrap();
        let now_ms = self.now_ms;
        let actor = &mut self.actors[target];
        let clock = actor.clock(now_ms);
        if actor.ask("IMPORT", &body, clock).0 != Outcome::Import(import) {
            return;
        }
        let mut moving = Moving {
            attempt,
            from,
            to,
            source,
            target,
            slots: slots.clone(),
            feed: None,
            handed: false,
            over: false,
        };
        if self.reaches(source, target) && self.reaches(target, source) {
            let ask = FeedAsk {
                attempt,
                slots,
                target: id(target),
            };
            let body = serde_json::to_string(&ask).unwrap();
            let actor = &mut self.actors[source];
            let clock = actor.clock(now_ms);
            if actor.ask("FEED", &body, clock).0 == Outcome::Feed(ask) {
                moving.feed = Some((Vec::new(), true));
            }
        }
        if moving.feed.is_none() {
            let node = &mut self.actors[target].node;
            node.import_lost(attempt, "the source refuses");
        }
        self.topology.moving = Some(moving);
    }

    /// Some of the feed arrives, and is acknowledged.
    pub(super) fn carry_feed(&mut self) {
        let Some(mut moving) = self.topology.moving.take() else {
            return;
        };
        let (attempt, source, target) = (moving.attempt, moving.source, moving.target);
        let mut lost = false;
        if let Some((wire, more)) = &mut moving.feed {
            if self.runs(source) && *more {
                let actor = &mut self.actors[source];
                let clock = actor.clock(self.now_ms);
                let produced = actor.node.feed_produce(attempt, 40_000, clock, wire);
                *more = produced != Produced::Over;
            }
            lost = !*more && wire.is_empty();
            if self.runs(target) && self.reaches(source, target) {
                let frames = self.frames();
                let actor = &mut self.actors[target];
                let clock = actor.clock(self.now_ms);
                for frame in take_frames(wire, frames) {
                    lost |= actor
                        .node
                        .import_apply(attempt, &frame.view(), clock)
                        .is_err();
                }
                let confirmed = actor.node.import_confirmed(attempt);
                if let Some(confirmed) = confirmed
                    && self.runs(source)
                    && self.reaches(target, source)
                {
                    self.actors[source]
                        .node
                        .feed_acknowledged(attempt, confirmed);
                }
            }
        }
        self.topology.moving = Some(moving);
        if lost {
            self.cut_feed();
        }
        self.judge_owners();
    }

    pub(super) fn cut_feed(&mut self) {
        let Some(moving) = &mut self.topology.moving else {
            return;
        };
        if moving.feed.take().is_some() {
            let (attempt, source, target) = (moving.attempt, moving.source, moving.target);
            self.actors[source].node.feed_lost(attempt);
            self.actors[target]
                .node
                .import_lost(attempt, "the connection is gone");
        }
    }

    pub(super) fn feed_is_cut_by(&mut self, index: usize) {
        let moving = self.topology.moving.as_ref();
        if moving.is_some_and(|it| it.source == index || it.target == index) {
            self.cut_feed();
        }
    }

    /// Of a shard that is failed over nothing moves, unless it is handed over already.
    pub(super) fn void_move_of(&mut self, shard: usize) {
        if let Some(moving) = self.moving()
            && (moving.from == shard || moving.to == shard)
            && !moving.handed
        {
            moving.over = true;
        }
    }

    fn await_import(&mut self) {
        let Some(moving) = self.moving() else { return };
        let (attempt, target) = (moving.attempt, moving.target);
        if !self.is_called(target) {
            return;
        }
        let now_ms = self.now_ms;
        let actor = &mut self.actors[target];
        let clock = actor.clock(now_ms);
        let (outcome, reply) = actor.ask("AWAIT", &attempt.to_string(), clock);
        if outcome == Outcome::Held {
            return;
        }
        let state: ImportState = serde_json::from_str(text_of(&reply)).unwrap();
        let ready = matches!(state.phase, ImportPhase::Ready { .. });
        let Some(moving) = self.moving() else { return };
        moving.handed = ready;
        moving.over = !ready;
        if ready {
            self.topology.epoch += 1;
        }
    }

    /// The source alone is given the map. Its answer may be lost: then it is asked again.
    fn push_handover(&mut self) {
        let Some(moving) = self.topology.moving.as_ref() else {
            return;
        };
        let (from, to, source, attempt) = (moving.from, moving.to, moving.source, moving.attempt);
        let there = self.runs(source) && self.reaches(self.nobody(), source);
        if !there || self.topology.fails(from) {
            return;
        }
        let topology = &self.topology;
        let push = MapPush {
            map: topology.map(topology.epoch, |n| match n {
                n if n == from => topology.shards[n].slots.difference(&moving.slots),
                n if n == to => topology.shards[n].slots.union(&moving.slots),
                n => topology.shards[n].slots.clone(),
            }),
            handovers: vec![attempt],
            yields: None,
        };
        let actor = &mut self.actors[source];
        let clock = actor.clock(self.now_ms);
        let took = actor.node.take_map(push, clock);
        self.judge_owners();
        // The source may vanish when it hurts most.
        if !self.resting && self.chance(4) {
            let target = self.topology.moving.as_ref().map(|it| it.target);
            for other in target.into_iter().chain([self.nobody()]) {
                self.cut[source][other] = true;
                self.cut[other][source] = true;
            }
        }
        if !self.reaches(source, self.nobody()) || self.chance(4) {
            return;
        }
        match took {
            Ok(()) => {
                self.settle_move();
                self.has_settled_map(source);
            }
            Err(refusal) => {
                assert!(refusal.text().starts_with("LETGO "), "{refusal:?}");
                self.give_back();
            }
        }
    }

    /// The target owns.
    fn settle_move(&mut self) {
        let Some(moving) = self.moving() else { return };
        moving.over = true;
        let (from, to, target) = (moving.from, moving.to, moving.target);
        let slots = moving.slots.clone();
        let topology = &mut self.topology;
        topology.settled = topology.epoch;
        let shards = &mut topology.shards;
        shards[from].slots = shards[from].slots.difference(&slots);
        shards[to].slots = shards[to].slots.union(&slots);
        self.moves += 1;
        if self.actors[target].alive {
            self.judge_heir(target, &slots, "takes slots");
        }
        // When it hurts most.
        if !self.resting && self.chance(4) && self.may_crash(target) {
            self.crash(target);
        }
    }

    /// The slots stay with the source's shard; the epoch of the handover is spent.
    fn give_back(&mut self) {
        if let Some(moving) = self.moving() {
            moving.over = true;
        }
        self.topology.epoch += 1;
        self.topology.settled = self.topology.epoch;
        self.given_back += 1;
    }

    /// A failover needs the map. True when no handover is undecided. One whose source is lost is not waited for.
    pub(super) fn free_the_map(&mut self, shard: usize) -> bool {
        if !self.topology.undecided() {
            return true;
        }
        let handed = self.topology.epoch;
        let Some(moving) = self.moving() else {
            return true;
        };
        let (attempt, target) = (moving.attempt, moving.target);
        if moving.from != shard {
            return false;
        }
        if !self.actors[target].alive {
            self.give_back();
            return true;
        }
        if !self.is_called(target) {
            return false;
        }
        self.abort(target, attempt);
        match self.actors[target].node.ownership.epoch().0 >= handed {
            true => self.settle_move(),
            false => self.give_back(),
        }
        true
    }

    fn abort(&mut self, index: usize, attempt: Attempt) {
        let actor = &mut self.actors[index];
        let clock = actor.clock(self.now_ms);
        let (_, reply) = actor.ask("ABORT", &attempt.to_string(), clock);
        assert_eq!(reply, "+OK\r\n");
    }

    /// A node that has the settled map and still works for an attempt that is not under way is told so.
    pub(super) fn abort_what_is_void(&mut self, index: usize) {
        if !self.is_called(index) || self.topology.known[index] != self.topology.settled {
            return;
        }
        let present = self.moving().map(|it| it.attempt);
        let actor = &self.actors[index];
        let state = actor.node.state(actor.clock(self.now_ms));
        let imports = state.imports.iter().map(|it| it.attempt);
        let attempts = imports.chain(state.feeds.iter().map(|it| it.attempt));
        let void: Vec<Attempt> = attempts.filter(|it| Some(*it) != present).collect();
        for attempt in void {
            self.abort(index, attempt);
        }
    }

    /// What keeps it from coming to rest.
    pub(super) fn describe(&self) -> String {
        let topology = &self.topology;
        let shards = topology.shards.iter().map(|shard| {
            let (primary, in_step) = (shard.primary, &shard.in_step);
            let fails = shard.failover.is_some();
            format!("primary {primary}, in step {in_step:?}, fails {fails}; ")
        });
        let moving = topology.moving.as_ref().map(|it| {
            let (attempt, fed) = (it.attempt, it.feed.is_some());
            let (handed, over) = (it.handed, it.over);
            format!("attempt {attempt} fed {fed} handed {handed} over {over}; ")
        });
        format!(
            "{}{}known {:?} of {}, {}",
            shards.collect::<String>(),
            moving.unwrap_or_default(),
            topology.known,
            topology.settled,
            topology.epoch
        )
    }

    /// Two shards and nothing under way between them.
    pub(super) fn is_at_rest(&self) -> bool {
        let topology = &self.topology;
        let whole = |shard: usize| {
            let state = &topology.shards[shard];
            state.failover.is_none() && state.in_step.len() == NODES_EACH - 1
        };
        topology.moving.is_none()
            && (0..topology.shards.len()).all(whole)
            && topology.known.iter().all(|it| *it == topology.settled)
    }
}
