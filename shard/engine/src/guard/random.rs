//! Invented worlds: one shard of three nodes, cut and slow links, stopped and killed processes, clients of whoever takes itself for the primary,
//! and a topology that promotes by the rules of `larder_wire::replication`. The nodes are the real ones.
//!
//! Judged in `safe`: whoever is promoted has every write that was answered or read, and no read is older than what was answered or read before it was
//! asked. Bugs planted in the rules must be found. `LARDER_SIM_SEEDS=2000` runs more worlds.

use std::collections::BTreeMap;

use larder_store::Random;
use larder_wire::control::{MapPush, Peer};
use larder_wire::replication::{Fence, Fenced, LEASE_MARGIN_MS, LEASE_MS, LinkPhase, WriteMode};
use larder_wire::resp::{OwnedRequest, RequestScanner, Scanned};
use larder_wire::trust::Trust;
use larder_wire::{ClusterMap, Epoch, NodeEntry, NodeId, ShardEntry, ShardId, SlotSet};

use super::*;
use crate::feed::Produced;
use crate::node::NodeSettings;
use crate::replication::LinkId;
use crate::session::Session;
use crate::turn::Outcome;

/// Worlds of the test without a bug, and most that a planted one may take to be found.
const SEEDS: u64 = 20;
const SEEDS_TO_FIND: u64 = 400;
const STEPS: usize = 4000;
const NODES: usize = 3;
const KEYS: [&str; 3] = ["a", "b", "c"];

fn id(index: usize) -> NodeId {
    NodeId::from_bytes([index as u8 + 1; 20])
}

/// A connection of a replica to the primary that it knows.
struct Link {
    primary: usize,
    number: u64,
    at_primary: LinkId,
    down: Vec<u8>,
    up: Vec<u8>,
    /// Nothing more comes from the primary.
    ended: bool,
}

/// A client's command at a node, from its first byte to its reply.
struct Asked {
    session: Session,
    key: &'static str,
    /// `None`: a read. The value is chosen when it is carried out.
    writes: Option<u64>,
    /// What was known of the key when it was sent.
    floor: u64,
    state: AskedState,
}

enum AskedState {
    /// The batch has begun, with this reading of the clock.
    Begun(Clock),
    /// The reply, and what it waits for.
    Waits(String, Offset),
}

struct Actor {
    node: Node,
    control: Session,
    alive: bool,
    /// The process stands still until then.
    stopped_until: u64,
    /// The node's clock began so much earlier than the world's.
    ahead_ms: u64,
    /// Lives so far.
    life: u8,
    link: Option<Link>,
    /// JOINs under way: when sent by the node's clock, and whether they were answered with a lease.
    joins: Vec<(u64, bool)>,
    asked: Vec<Asked>,
}

/// The topology, by the rules.
struct Topology {
    epoch: u64,
    primary: usize,
    in_step: Vec<usize>,
    /// Who may have what nobody else has: whoever the primary may still take to be in step, and whoever it did when another had less.
    maybe_in_step: Vec<usize>,
    /// The end of the primary's journal when it took the present map.
    taken_at: Option<Offset>,
    granted_ms: u64,
    number: u64,
    failover: Option<Failover>,
    /// The epoch that each node has.
    known: [u64; NODES],
}

struct Failover {
    number: u64,
    /// Epoch by which the primary is suspected.
    epoch: u64,
    gone: bool,
    /// The primary is fenced, too: then nobody waits for its lease.
    told: bool,
    /// Who is fenced, what each has, and when at the latest it last answered the primary.
    fenced: BTreeMap<usize, (Option<u64>, u64)>,
}

struct World {
    random: Random,
    now_ms: u64,
    actors: Vec<Actor>,
    topology: Topology,
    /// From whom to whom nothing gets through; the topology is the last.
    cut: [[bool; NODES + 1]; NODES + 1],
    written: u64,
    /// Per key the newest value that was answered or read.
    known: BTreeMap<&'static str, u64>,
    promotions: u32,
    answered: u32,
    planted: Option<Planted>,
}

fn make_actor(index: usize, life: u8, planted: Option<Planted>) -> Actor {
    let mut node = Node::new(NodeSettings {
        id: id(index),
        run_id: NodeId::from_bytes([10 * life + index as u8 + 1; 20]),
        standalone: false,
        addr: format!("127.0.0.1:{}", 7000 + index),
        port: 7000,
        secret: None,
        maxmemory: 0,
        hash_seed: 7,
        random_seed: u64::from(life) * 31 + index as u64,
    });
    node.guard.planted = planted;
    let clock = Clock::default();
    let mut control = node.open_session("t:1".into(), "s:1".into(), clock);
    let peer = Trust::Peer {
        peer: Peer::Topology,
        version: 1,
    };
    control.set_trust(peer, node.acl.operator());
    Actor {
        node,
        control,
        alive: true,
        stopped_until: 0,
        ahead_ms: 100 + 7 * index as u64,
        life,
        link: None,
        joins: Vec::new(),
        asked: Vec::new(),
    }
}

impl Actor {
    fn clock(&self, now_ms: u64) -> Clock {
        Clock {
            unix_us: 1_700_000_000_000_000 + now_ms as i64 * 1000,
            mono_ms: now_ms + self.ahead_ms,
        }
    }

    fn ask(&mut self, verb: &str, body: &str, clock: Clock) -> (Outcome, String) {
        let request = OwnedRequest::from_args(["LARDER", verb, body]);
        let mut out = Vec::new();
        let outcome = self
            .node
            .call(&mut self.control, request.view(), clock, &mut out);
        (outcome, String::from_utf8(out).unwrap())
    }

    fn value(&mut self, key: &str, clock: Clock) -> u64 {
        let request = OwnedRequest::from_args(["GET", key]);
        let mut out = Vec::new();
        self.control.readonly = true;
        let outcome = self
            .node
            .call(&mut self.control, request.view(), clock, &mut out);
        assert_eq!(outcome, Outcome::Done);
        number_of(std::str::from_utf8(&out).unwrap())
    }
}

/// A bulk string that is a number; nothing is 0.
fn number_of(reply: &str) -> u64 {
    match reply.split("\r\n").nth(1) {
        Some(text) if !text.is_empty() => text.parse().unwrap(),
        Some(_) | None => 0,
    }
}

impl World {
    fn new(seed: u64, planted: Option<Planted>) -> World {
        let actors = (0..NODES).map(|index| make_actor(index, 0, planted));
        let mut world = World {
            random: Random::new(seed),
            now_ms: 1000,
            actors: actors.collect(),
            topology: Topology {
                epoch: 0,
                primary: 0,
                in_step: Vec::new(),
                maybe_in_step: Vec::new(),
                taken_at: None,
                granted_ms: 0,
                number: 0,
                failover: None,
                known: [0; NODES],
            },
            cut: [[false; NODES + 1]; NODES + 1],
            written: 0,
            known: BTreeMap::new(),
            promotions: 0,
            answered: 0,
            planted,
        };
        world.record(0, Vec::new());
        world
    }

    fn below(&mut self, n: usize) -> usize {
        self.random.below(n)
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    /// The topology decides for a new map.
    fn record(&mut self, primary: usize, in_step: Vec<usize>) {
        let topology = &mut self.topology;
        topology.epoch += 1;
        if primary == topology.primary {
            topology.maybe_in_step.extend(&in_step);
        } else {
            topology.maybe_in_step = in_step.clone();
        }
        topology.primary = primary;
        topology.in_step = in_step;
        topology.taken_at = None;
    }

    fn map(&self) -> ClusterMap {
        let Topology {
            epoch,
            primary,
            in_step,
            ..
        } = &self.topology;
        let entry = |index: usize| NodeEntry {
            id: id(index),
            addr: format!("127.0.0.1:{}", 7000 + index),
            role: match index == *primary {
                true => Role::Primary,
                false => Role::Replica,
            },
            zone: None,
            in_step: in_step.contains(&index),
        };
        let shard = ShardEntry {
            id: ShardId(1),
            slots: SlotSet::full(),
            nodes: (0..NODES).map(entry).collect(),
        };
        ClusterMap::new("larder", Epoch(*epoch), vec![shard])
            .unwrap()
            .with_writes(WriteMode::Safe)
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        !self.cut[from][to]
    }

    fn runs(&self, index: usize) -> bool {
        self.actors[index].alive && self.actors[index].stopped_until <= self.now_ms
    }

    /// A call of the topology's, there and back.
    fn is_called(&self, index: usize) -> bool {
        self.runs(index) && self.reaches(NODES, index) && self.reaches(index, NODES)
    }

    fn push_map(&mut self, index: usize) {
        if !self.is_called(index) || self.topology.known[index] == self.topology.epoch {
            return;
        }
        let push = MapPush {
            map: self.map(),
            handovers: vec![],
            yields: None,
        };
        let actor = &mut self.actors[index];
        let clock = actor.clock(self.now_ms);
        actor.node.take_map(push, clock).unwrap();
        self.topology.known[index] = self.topology.epoch;
        if index == self.topology.primary {
            self.topology.taken_at = Some(self.actors[index].node.journal.end());
        }
    }

    /// Marks that were taken away are forgotten when another has all that the primary had when it heard of it.
    fn forget_faded(&mut self) {
        let Topology {
            primary, taken_at, ..
        } = self.topology;
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
            self.topology.maybe_in_step = self.topology.in_step.clone();
        }
    }

    /// JOIN is sent and answered, and the answer may take its time.
    fn join(&mut self, index: usize) {
        let clock = self.actors[index].clock(self.now_ms);
        if self.runs(index) && self.reaches(index, NODES) && self.actors[index].joins.len() < 4 {
            let topology = &mut self.topology;
            let granted = match index == topology.primary {
                true => topology.failover.is_none() && topology.known[index] > 0,
                false => topology.known[index] == topology.epoch,
            };
            if granted && index == topology.primary {
                topology.granted_ms = self.now_ms;
            }
            self.actors[index].joins.push((clock.mono_ms, granted));
        }
    }

    fn join_answered(&mut self, index: usize) {
        if !self.runs(index) || !self.reaches(NODES, index) {
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
    fn judge_steps(&mut self) {
        if self.topology.failover.is_some() || !self.is_called(self.topology.primary) {
            return;
        }
        let primary = self.topology.primary;
        if self.topology.known[primary] != self.topology.epoch {
            return;
        }
        let node = &self.actors[primary].node;
        let end = node.journal.end();
        let followers = node.replication.followers.iter();
        let caught_up: Vec<usize> = followers
            .filter(|it| it.phase == LinkPhase::Streaming && it.acked == end)
            .filter_map(|it| (0..NODES).find(|index| id(*index) == it.node))
            .collect();
        let caught_up: Vec<usize> = caught_up
            .into_iter()
            .filter(|index| {
                let actor = &self.actors[*index];
                let follows = actor.node.following(actor.clock(self.now_ms));
                follows.is_some_and(|it| it.phase == LinkPhase::Streaming)
            })
            .collect();
        let mut in_step = self.topology.in_step.clone();
        in_step.retain(|index| caught_up.contains(index) || !self.chance(10));
        for index in caught_up {
            if !in_step.contains(&index) && index != primary {
                in_step.push(index);
            }
        }
        in_step.sort_unstable();
        if in_step != self.topology.in_step {
            self.record(primary, in_step);
            self.push_map(primary);
        }
    }

    fn suspect(&mut self) {
        let primary = self.topology.primary;
        let epoch = self.topology.epoch;
        if self.topology.failover.is_some() || self.topology.maybe_in_step.is_empty() {
            return;
        }
        let told = self.chance(8);
        self.topology.number += 1;
        self.topology.failover = Some(Failover {
            number: self.topology.number,
            epoch,
            gone: !self.actors[primary].alive,
            told,
            fenced: BTreeMap::new(),
        });
    }

    fn fence(&mut self) {
        let Some(failover) = &self.topology.failover else {
            return;
        };
        let (number, epoch) = (failover.number, failover.epoch);
        let mut wanted: Vec<usize> = self.topology.maybe_in_step.clone();
        wanted.extend(failover.told.then_some(self.topology.primary));
        let open = wanted
            .iter()
            .filter(|index| !failover.fenced.contains_key(index));
        let open: Vec<usize> = open.copied().collect();
        for index in open {
            if !self.is_called(index) {
                continue;
            }
            let fence = Fence {
                number,
                shard: ShardId(1),
                primary: id(self.topology.primary),
                epoch: Epoch(epoch),
            };
            let now_ms = self.now_ms;
            let actor = &mut self.actors[index];
            let clock = actor.clock(now_ms);
            let body = serde_json::to_string(&fence).unwrap();
            let (_, reply) = actor.ask("FENCE", &body, clock);
            let Some(text) = reply
                .split("\r\n")
                .nth(1)
                .filter(|_| reply.starts_with('$'))
            else {
                continue;
            };
            let fenced: Fenced = serde_json::from_str(text).unwrap();
            let answered = fenced
                .answered_ms_ago
                .map_or(0, |ago| now_ms - ago.min(now_ms));
            let place = fenced.place.map(|place| place.offset.0);
            if let Some(failover) = &mut self.topology.failover {
                failover.fenced.insert(index, (place, answered));
            }
        }
        self.promote();
    }

    /// Both rules hold: the one that has most takes over.
    fn promote(&mut self) {
        let Some(failover) = &self.topology.failover else {
            return;
        };
        let mut wanted = self.topology.maybe_in_step.iter();
        if !wanted.all(|index| failover.fenced.contains_key(index)) {
            return;
        }
        let answered = failover.fenced.values().map(|(_, at)| *at).max();
        let heard = answered.unwrap_or(0).max(self.topology.granted_ms);
        let over_at = heard + LEASE_MS + LEASE_MARGIN_MS;
        let told = failover.fenced.contains_key(&self.topology.primary);
        if !failover.gone && !told && self.now_ms < over_at {
            return;
        }
        let places = self.topology.maybe_in_step.iter();
        let places = places.map(|index| Some((failover.fenced.get(index)?.0?, *index)));
        // Who has nothing to show may have been alone in having it.
        let Some(places) = places.collect::<Option<Vec<_>>>() else {
            return;
        };
        let Some((_, successor)) = places.into_iter().max() else {
            return;
        };
        let clock = self.actors[successor].clock(self.now_ms);
        for key in KEYS {
            let has = self.actors[successor].value(key, clock);
            let known = self.known.get(key).copied().unwrap_or(0);
            assert!(
                has >= known,
                "found: node {successor} is promoted with {key} = {has}, and {known} was answered"
            );
        }
        self.topology.failover = None;
        self.promotions += 1;
        self.record(successor, Vec::new());
    }

    fn call_off(&mut self) {
        let Some(failover) = self.topology.failover.take_if(|failover| !failover.gone) else {
            return;
        };
        for index in failover.fenced.into_keys() {
            if self.is_called(index) {
                let actor = &mut self.actors[index];
                let clock = actor.clock(self.now_ms);
                let (_, reply) = actor.ask("UNFENCE", &failover.number.to_string(), clock);
                assert_eq!(reply, "+OK\r\n");
            }
        }
        // Those who did not hear it are freed by the next map.
        let (primary, in_step) = (self.topology.primary, self.topology.in_step.clone());
        self.record(primary, in_step);
    }

    /// The process is gone, and another begins with nothing.
    fn crash(&mut self, index: usize) {
        for other in 0..NODES {
            let to_it = |link: &Link| link.primary == index || other == index;
            if self.actors[other].link.as_ref().is_some_and(to_it) {
                self.break_link(other);
            }
        }
        let life = self.actors[index].life + 1;
        self.actors[index] = make_actor(index, life, self.planted);
        self.actors[index].alive = false;
        self.topology.known[index] = 0;
        match index == self.topology.primary {
            true => {
                if let Some(failover) = &mut self.topology.failover {
                    failover.gone = true;
                }
                self.suspect();
            }
            false => {
                // What it had is gone: it is in step no more, and cannot be fenced again with anything.
                let mut in_step = self.topology.in_step.clone();
                in_step.retain(|other| *other != index);
                if self.topology.failover.is_none() {
                    let primary = self.topology.primary;
                    self.record(primary, in_step);
                }
            }
        }
    }

    fn break_link(&mut self, replica: usize) {
        let Some(link) = self.actors[replica].link.take() else {
            return;
        };
        self.actors[replica].node.upstream_lost(link.number);
        self.actors[link.primary].node.link_lost(link.at_primary);
    }

    fn connect(&mut self, replica: usize) {
        let Some(wanted) = self.actors[replica].node.wanted_link() else {
            return;
        };
        let primary = (0..NODES).find(|index| id(*index) == wanted.node).unwrap();
        let apart = !self.reaches(replica, primary) || !self.reaches(primary, replica);
        if apart || !self.runs(primary) || !self.runs(replica) {
            return;
        }
        let clock = self.actors[replica].clock(self.now_ms);
        let begun = self.actors[replica]
            .node
            .begin_upstream(wanted.number, clock);
        let Some(ask) = begun else { return };
        let actor = &mut self.actors[primary];
        let clock = actor.clock(self.now_ms);
        let body = serde_json::to_string(&ask).unwrap();
        match actor.ask("REPLICATE", &body, clock).0 {
            Outcome::Replicate(at_primary) => {
                self.actors[replica].link = Some(Link {
                    primary,
                    number: wanted.number,
                    at_primary,
                    down: Vec::new(),
                    up: Vec::new(),
                    ended: false,
                });
            }
            _ => self.actors[replica].node.upstream_lost(wanted.number),
        }
    }

    /// How many arrive at once: a few, or all that there are.
    fn frames(&mut self) -> usize {
        match self.chance(2) {
            true => 1 + self.below(4),
            false => usize::MAX,
        }
    }

    /// Some of what is on its way arrives.
    fn carry(&mut self, replica: usize) {
        let Some(mut link) = self.actors[replica].link.take() else {
            return self.connect(replica);
        };
        let primary = link.primary;
        if self.runs(primary) && !link.ended {
            let actor = &mut self.actors[primary];
            let clock = actor.clock(self.now_ms);
            for _ in 0..40 {
                let produced =
                    actor
                        .node
                        .link_produce(link.at_primary, 40_000, clock, &mut link.down);
                link.ended = produced == Produced::Over;
                if produced != Produced::More {
                    break;
                }
            }
        }
        let mut lost = link.ended && link.down.is_empty();
        if self.runs(replica) && self.reaches(primary, replica) {
            let frames = self.frames();
            let actor = &mut self.actors[replica];
            let clock = actor.clock(self.now_ms);
            for frame in take_frames(&mut link.down, frames) {
                let node = &mut actor.node;
                lost |= node
                    .upstream_apply(link.number, &frame.view(), clock)
                    .is_err();
            }
            actor.node.upstream_answer(link.number, clock, &mut link.up);
        }
        if self.runs(primary) && self.reaches(replica, primary) {
            let frames = self.frames();
            let actor = &mut self.actors[primary];
            let clock = actor.clock(self.now_ms);
            for frame in take_frames(&mut link.up, frames) {
                let heard = actor.node.link_heard(link.at_primary, &frame.view(), clock);
                lost |= heard.is_err();
            }
        }
        lost |= !self.actors[replica].node.upstream_is(link.number);
        self.actors[replica].link = Some(link);
        if lost {
            self.break_link(replica);
        }
    }

    /// A client sends a command to a node.
    fn send(&mut self, index: usize) {
        if !self.runs(index) || self.actors[index].asked.len() >= 8 {
            return;
        }
        let key = KEYS[self.below(KEYS.len())];
        let writes = self.chance(2).then_some(0);
        let floor = self.known.get(key).copied().unwrap_or(0);
        let now_ms = self.now_ms;
        let actor = &mut self.actors[index];
        let clock = actor.clock(now_ms);
        actor.node.begin_batch(clock);
        let session = actor.node.open_session("c:1".into(), "s:1".into(), clock);
        actor.asked.push(Asked {
            session,
            key,
            writes,
            floor,
            state: AskedState::Begun(clock),
        });
        // Most are executed at once; some after the process stood still.
        if !self.chance(20) {
            let last = self.actors[index].asked.len() - 1;
            self.execute(index, last);
        } else if self.chance(2) {
            let stop_ms = self.below(2 * LEASE_MS as usize) as u64;
            self.actors[index].stopped_until = self.now_ms + stop_ms;
        }
    }

    fn execute(&mut self, index: usize, at: usize) {
        let now_ms = self.now_ms;
        let actor = &mut self.actors[index];
        let fresh = actor.clock(now_ms);
        let asked = &mut actor.asked[at];
        let AskedState::Begun(clock) = asked.state else {
            return;
        };
        // In the order in which they are carried out.
        if let Some(value) = &mut asked.writes {
            self.written += 1;
            *value = self.written;
        }
        let request = match asked.writes {
            Some(value) => OwnedRequest::from_args(["SET", asked.key, &value.to_string()]),
            None => OwnedRequest::from_args(["GET", asked.key]),
        };
        let mut out = Vec::new();
        let node = &mut actor.node;
        node.guard.answers.touched = false;
        let outcome = node.call(&mut asked.session, request.view(), clock, &mut out);
        node.end_batch(&asked.session);
        assert_eq!(outcome, Outcome::Done);
        let reply = String::from_utf8(out).unwrap();
        let answer = match node.answers_may_wait() {
            true => node.answer_batch(&asked.session.client, fresh),
            false => Answer::AtOnce,
        };
        match answer {
            Answer::AtOnce => {
                let asked = actor.asked.remove(at);
                self.answered(index, asked, &reply);
            }
            Answer::At(place) => asked.state = AskedState::Waits(reply, place),
            Answer::Never => {
                actor.asked.remove(at);
            }
        }
    }

    /// As the shell does when a client is rung.
    fn look_after_waiting(&mut self, index: usize) {
        if !self.runs(index) {
            return;
        }
        let clock = self.actors[index].clock(self.now_ms);
        let mut at = 0;
        while at < self.actors[index].asked.len() {
            let actor = &mut self.actors[index];
            let asked = &actor.asked[at];
            match &asked.state {
                AskedState::Begun(_) => {
                    let before = actor.asked.len();
                    self.execute(index, at);
                    at += usize::from(self.actors[index].asked.len() == before);
                }
                AskedState::Waits(reply, place) => {
                    let (reply, place) = (reply.clone(), *place);
                    let reached = actor.node.answered_up_to(clock);
                    if actor.asked[at].session.client.is_killed() || reached.is_none() {
                        actor.asked.remove(at);
                    } else if reached >= Some(place) {
                        let asked = actor.asked.remove(at);
                        self.answered(index, asked, &reply);
                    } else {
                        at += 1;
                    }
                }
            }
        }
    }

    fn answered(&mut self, index: usize, mut asked: Asked, reply: &str) {
        self.actors[index].node.close_session(&mut asked.session);
        if reply.starts_with('-') {
            return;
        }
        let value = match asked.writes {
            Some(value) => value,
            None => number_of(reply),
        };
        assert!(
            asked.writes.is_some() || value >= asked.floor,
            "found: node {index} answers {} = {value}, and {} was known before it was asked",
            asked.key,
            asked.floor
        );
        self.answered += 1;
        let known = self.known.entry(asked.key).or_insert(0);
        *known = value.max(*known);
    }

    fn step(&mut self) {
        self.now_ms += self.below(12) as u64;
        let index = self.below(NODES);
        match self.below(100) {
            0..=24 => self.carry(index),
            25..=44 => self.send(index),
            45..=59 => self.look_after_waiting(index),
            60..=67 => self.join(index),
            68..=75 => self.join_answered(index),
            76..=82 => self.push_map(index),
            83 => self.forget_faded(),
            84..=85 => self.judge_steps(),
            86..=90 => self.fence(),
            91..=94 if self.runs(index) => {
                let clock = self.actors[index].clock(self.now_ms);
                self.actors[index].node.tick(clock);
            }
            91..=94 => {}
            95 if self.chance(2) => self.fault(),
            95 => {}
            96 => self.suspect_if_silent(),
            97 if self.chance(8) => self.call_off(),
            97 => {}
            98 => self.heal(),
            _ if self.chance(4) => self.break_link(index),
            _ => {}
        }
    }

    fn fault(&mut self) {
        let (from, to) = (self.below(NODES + 1), self.below(NODES + 1));
        match self.below(12) {
            0..=5 => self.cut[from][to] = true,
            6..=7 => {
                self.cut[from] = [true; NODES + 1];
                self.cut.iter_mut().for_each(|row| row[from] = true);
            }
            8..=10 => {
                let stop_ms = self.below(2 * LEASE_MS as usize) as u64;
                let index = self.below(NODES);
                self.actors[index].stopped_until = self.now_ms + stop_ms;
            }
            // One fault at a time: who is not up again is not joined by another.
            _ => {
                let index = self.below(NODES);
                if self.may_crash(index) {
                    self.crash(index);
                }
            }
        }
    }

    /// The primary and both replicas run, and are in step.
    fn may_crash(&self, index: usize) -> bool {
        let whole = self.actors.iter().all(|actor| actor.alive);
        if !whole || self.topology.in_step.len() < NODES - 1 {
            return false;
        }
        index == self.topology.primary || self.topology.failover.is_none()
    }

    fn heal(&mut self) {
        if self.chance(2) {
            self.cut = [[false; NODES + 1]; NODES + 1];
        }
        let index = self.below(NODES);
        let may_return = index != self.topology.primary || self.topology.failover.is_none();
        if may_return && !self.actors[index].alive {
            self.actors[index].alive = true;
        }
    }

    fn suspect_if_silent(&mut self) {
        let primary = self.topology.primary;
        if !self.is_called(primary) || self.chance(10) {
            self.suspect();
        }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            self.step();
        }
    }
}

/// Up to so many whole frames from the front of `bytes`.
fn take_frames(bytes: &mut Vec<u8>, frames: usize) -> Vec<OwnedRequest> {
    let mut scanner = RequestScanner::new();
    let mut taken = Vec::new();
    let mut at = 0;
    while taken.len() < frames
        && at < bytes.len()
        && let Ok(Scanned::Request { consumed }) = scanner.scan(&bytes[at..])
    {
        let request = scanner.request(&bytes[at..at + consumed]);
        taken.push(OwnedRequest::from(request));
        at += consumed;
    }
    bytes.drain(..at);
    taken
}

#[test]
fn whatever_fails_what_was_answered_in_safe_is_never_lost_or_undone() {
    let (mut promotions, mut answered) = (0, 0);
    let seeds = std::env::var("LARDER_SIM_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let world = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, None);
            world.run();
            (world.promotions, world.answered)
        });
        let (promoted, told) = world.unwrap_or_else(|_| panic!("seed {seed}"));
        promotions += promoted;
        answered += told;
    }
    eprintln!("{promotions} promotions, {answered} answers");
    assert!(promotions > SEEDS as u32 / 2, "{promotions} promotions");
    assert!(answered > 40 * SEEDS as u32, "{answered} answers");
}

#[test]
fn a_bug_planted_in_any_of_the_rules_is_found() {
    for planted in Planted::ALL {
        let found = (0..SEEDS_TO_FIND).find(|seed| {
            let run = std::panic::catch_unwind(|| World::new(*seed, Some(planted)).run());
            match run {
                Ok(()) => false,
                Err(why) => {
                    let text = why.downcast_ref::<String>();
                    let text = text.unwrap_or_else(|| panic!("{planted:?}, seed {seed}"));
                    assert!(
                        text.starts_with("found:"),
                        "{planted:?}, seed {seed}: {text}"
                    );
                    true
                }
            }
        });
        eprintln!("{planted:?}: found in world {found:?}");
        assert!(
            found.is_some(),
            "{planted:?} was not found in {SEEDS_TO_FIND} worlds"
        );
    }
}
