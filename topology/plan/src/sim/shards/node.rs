//! A node with a journal, by `wire::replication`: leads or follows, holds a lease, is fenced, yields. Its data are
//! registers, one for each sampled slot, that only grow; its clock runs at a rate of its own.

mod fences;
mod following;
mod leading;

use std::collections::BTreeMap;

use larder_wire::control::{HOLD_MS_MAX, MapPush, NodeJoin, NodeState};
use larder_wire::replication::{
    Fence, Fenced, Follower, Following, LEASE_MS, LinkPhase, Place, ReplicateAsk, ReplicationState,
    WriteMode, Yield, Yielded,
};
use larder_wire::{Attempt, ClusterMap, Epoch, History, NodeId, Offset, Role, ShardEntry, Slot};

use super::super::Planted;
use crate::event::{Event, PushResult};

/// A follower that was not heard for this long asks again, in milliseconds.
const ASK_AGAIN_MS: u64 = 300;

pub(crate) type Op = u64;
pub(crate) type Log = Vec<(Slot, u64)>;

/// What reaches a node.
#[derive(Clone, Debug)]
pub(crate) enum Msg {
    Probe,
    Map(MapPush),
    Fence(Fence),
    Unfence(u64),
    Yield(Yield),
    /// The answer to a `JOIN` that was sent at that time of the node's own clock.
    Joined {
        sent_at: u64,
        lease: bool,
    },
    /// With the number of the asking: an answer to another one comes late.
    Ask(ReplicateAsk, u64),
    /// The journal goes on from the follower's place, under this history.
    Continue {
        from: NodeId,
        asked: u64,
        link: u64,
        history: History,
    },
    /// All data follows.
    Full {
        from: NodeId,
        asked: u64,
        link: u64,
    },
    FullDone {
        from: NodeId,
        link: u64,
        history: History,
        log: Log,
    },
    Stream {
        from: NodeId,
        link: u64,
        at: usize,
        entries: Log,
        sent_at: u64,
    },
    Ack {
        from: NodeId,
        link: u64,
        offset: usize,
        sent_at: u64,
    },
    /// `write`: the register's new value; a read without.
    Client {
        op: Op,
        slot: Slot,
        write: Option<u64>,
    },
    /// The node's own timer.
    Renew,
    HoldEnds(u64),
}

/// What a node does.
#[derive(Clone, Debug)]
pub(crate) enum Out {
    Plan(Event),
    Join {
        join: NodeJoin,
        sent_at: u64,
    },
    Node(NodeId, Msg),
    Client {
        op: Op,
        value: u64,
    },
    /// A timer of its own, after so many milliseconds of its clock.
    After(u64, Msg),
}

#[derive(Clone, Debug)]
struct Peer {
    link: u64,
    phase: LinkPhase,
    offset: usize,
    heard_at: u64,
}

#[derive(Clone, Debug)]
struct Waiting {
    op: Op,
    value: u64,
    need: usize,
}

#[derive(Clone, Debug)]
struct Hold {
    number: u64,
    to: NodeId,
    answered: bool,
}

/// What survives a crash: a file that is as far as it had got.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) history: Option<History>,
    pub(crate) log: Log,
}

#[derive(Clone, Debug)]
pub(crate) struct ReplicaNode {
    pub(crate) id: NodeId,
    pub(crate) number: u8,
    life: u8,
    pub(crate) up: bool,
    /// Per thousand of true time.
    rate: u64,
    zone: Option<String>,
    pub(crate) map: ClusterMap,
    history: Option<History>,
    past: Option<(History, usize)>,
    pub(crate) log: Log,
    data: BTreeMap<Slot, u64>,
    loaded: Option<Place>,
    reigns: u64,
    // As a primary.
    lease_from: Option<u64>,
    peers: BTreeMap<NodeId, Peer>,
    waiting: Vec<Waiting>,
    hold: Option<Hold>,
    next_link: u64,
    // As a replica.
    link: Option<(NodeId, u64)>,
    asked: u64,
    phase: LinkPhase,
    heard_at: u64,
    answered_at: Option<u64>,
    known_end: usize,
    fence: Option<Fence>,
    last_fence: u64,
    pub(crate) planted: Planted,
}

impl ReplicaNode {
    pub(crate) fn new(number: u8, rate: u64, planted: Planted) -> ReplicaNode {
        ReplicaNode {
            id: NodeId::from_bytes([number; 20]),
            number,
            life: 1,
            up: true,
            rate,
            zone: Some(format!("zone-{}", number % 3)),
            map: ClusterMap::empty("larder"),
            history: None,
            past: None,
            log: Log::new(),
            data: BTreeMap::new(),
            loaded: None,
            reigns: 0,
            lease_from: None,
            peers: BTreeMap::new(),
            waiting: Vec::new(),
            hold: None,
            next_link: 1,
            link: None,
            asked: 0,
            phase: LinkPhase::Down,
            heard_at: 0,
            answered_at: None,
            known_end: 0,
            fence: None,
            last_fence: 0,
            planted,
        }
    }

    pub(crate) fn run_id(&self) -> NodeId {
        let mut bytes = [self.life; 20];
        bytes[0] = self.number;
        NodeId::from_bytes(bytes)
    }

    /// The process ends; the next one has what `disk` has.
    pub(crate) fn crash(&mut self, disk: Disk) {
        let life = self.life + 1;
        *self = ReplicaNode::new(self.number, self.rate, self.planted);
        self.life = life;
        self.up = false;
        self.loaded = disk.history.map(|history| Place {
            history,
            offset: Offset(disk.log.len() as u64),
        });
        self.history = disk.history;
        self.replace_log(disk.log);
    }

    /// What a file would have, were it `behind` entries behind.
    pub(crate) fn disk(&self, behind: usize) -> Disk {
        Disk {
            history: self.history.filter(|_| self.phase != LinkPhase::Full),
            log: self.log[..self.log.len().saturating_sub(behind)].to_vec(),
        }
    }

    fn replace_log(&mut self, log: Log) {
        self.data.clear();
        for (slot, value) in &log {
            self.data.insert(*slot, *value);
        }
        self.log = log;
    }

    fn clock(&self, now: u64) -> u64 {
        now * self.rate / 1000
    }

    /// True milliseconds for so many of its own.
    pub(crate) fn true_ms(&self, ms: u64) -> u64 {
        ms * 1000 / self.rate + 1
    }

    pub(crate) fn join(&self) -> NodeJoin {
        NodeJoin {
            id: self.id,
            run_id: self.run_id(),
            addr: format!("10.0.0.{}:7000", self.number),
            http: None,
            zone: self.zone.clone(),
            maxmemory: 0,
            data: self.loaded,
            release: "0.1.0".into(),
        }
    }

    fn shard(&self) -> Option<&ShardEntry> {
        self.map.find_node(self.id).map(|(shard, _)| shard)
    }

    pub(crate) fn leads(&self) -> bool {
        let entry = self.map.find_node(self.id);
        self.up && entry.is_some_and(|(_, entry)| entry.role == Role::Primary)
    }

    fn leader(&self) -> Option<NodeId> {
        let primary = self.shard()?.primary()?.id;
        (primary != self.id).then_some(primary)
    }

    fn in_step(&self, id: NodeId) -> bool {
        if self.planted == Planted::CountStrangers {
            return true;
        }
        let entry = self.map.find_node(id);
        entry.is_some_and(|(_, entry)| entry.in_step)
    }

    /// Leads, and may: its shard has nobody else, or its lease runs.
    pub(crate) fn serves(&self, now: u64) -> bool {
        let alone = self
            .shard()
            .is_some_and(|shard| shard.replicas().count() == 0);
        let now = self.clock(now);
        let leased = self
            .lease_from
            .is_some_and(|from| now.saturating_sub(from) < LEASE_MS);
        let fenced = self.fence.as_ref().is_some_and(|it| it.primary == self.id);
        self.leads() && (alone || leased) && !fenced
    }

    pub(crate) fn value(&self, slot: Slot) -> u64 {
        self.data.get(&slot).copied().unwrap_or(0)
    }

    fn place(&self) -> Option<Place> {
        let history = self.history.filter(|_| self.phase != LinkPhase::Full)?;
        Some(Place {
            history,
            offset: Offset(self.log.len() as u64),
        })
    }

    pub(crate) fn state(&self, now: u64) -> NodeState {
        let clock = self.clock(now);
        let followers = self.peers.iter().map(|(id, peer)| Follower {
            node: *id,
            phase: peer.phase,
            offset: Offset(peer.offset as u64),
            silent_ms: clock.saturating_sub(peer.heard_at),
        });
        let follows = self.leader().map(|primary| Following {
            primary,
            phase: self.phase,
            lag_bytes: self.known_end.saturating_sub(self.log.len()) as u64,
            silent_ms: clock.saturating_sub(self.heard_at),
        });
        let slots = self.map.slots_of(self.id);
        NodeState {
            id: self.id,
            run_id: self.run_id(),
            epoch: self.map.epoch,
            role: if self.leads() {
                Role::Primary
            } else {
                Role::Replica
            },
            slots,
            keys: 1,
            used_memory: 1 << 20,
            maxmemory: 0,
            commands: 0,
            cpu_us: 0,
            clients: 0,
            uptime_ms: clock,
            imports: Vec::new(),
            feeds: Vec::new(),
            replication: Some(ReplicationState {
                place: self.place(),
                follows,
                followers: followers.collect(),
                fence: self.fence.as_ref().map(|fence| fence.number),
                lost_writes: 0,
            }),
        }
    }

    pub(crate) fn hears(&mut self, now: u64, msg: Msg) -> Vec<Out> {
        let mut out = Vec::new();
        match msg {
            Msg::Probe => out.push(Out::Plan(Event::NodeAnswered(Box::new(self.state(now))))),
            Msg::Map(push) => self.take_map(now, push, &mut out),
            Msg::Fence(fence) => self.take_fence(now, fence, &mut out),
            Msg::Unfence(number) => {
                if self
                    .fence
                    .as_ref()
                    .is_some_and(|fence| fence.number == number)
                {
                    self.fence = None;
                }
            }
            Msg::Yield(order) => self.take_yield(order, &mut out),
            Msg::Joined { sent_at, lease } => {
                if lease {
                    self.lease_from = self.lease_from.max(Some(sent_at));
                }
            }
            Msg::Ask(ask, asked) => self.feed(now, &ask, asked, &mut out),
            Msg::Continue {
                from,
                asked,
                link,
                history,
            } => {
                if self.may_follow(from) && asked == self.asked {
                    self.history = Some(history);
                    self.follow(now, from, link, LinkPhase::Streaming);
                    self.asked += 1;
                }
            }
            Msg::Full { from, asked, link } => {
                if self.may_follow(from) && asked == self.asked {
                    self.follow(now, from, link, LinkPhase::Full);
                    self.asked += 1;
                }
            }
            Msg::FullDone {
                from,
                link,
                history,
                log,
            } => {
                if self.may_follow(from) && self.link == Some((from, link)) {
                    self.history = Some(history);
                    self.past = None;
                    self.replace_log(log);
                    self.follow(now, from, link, LinkPhase::Streaming);
                    self.acknowledge(now, from, link, self.clock(0), &mut out);
                }
            }
            Msg::Stream {
                from,
                link,
                at,
                entries,
                sent_at,
            } => {
                self.take_stream(now, (from, link), at, &entries, sent_at, &mut out);
            }
            Msg::Ack {
                from,
                link,
                offset,
                sent_at,
            } => {
                self.take_ack(now, from, link, offset, sent_at, &mut out);
            }
            Msg::Client { op, slot, write } => self.serve(now, op, slot, write, &mut out),
            Msg::Renew => self.renew(now, &mut out),
            Msg::HoldEnds(number) => {
                if self.hold.as_ref().is_some_and(|hold| hold.number == number) {
                    self.hold = None;
                }
            }
        }
        out
    }

    // The map.

    fn take_map(&mut self, now: u64, push: MapPush, out: &mut Vec<Out>) {
        let epoch = push.map.epoch;
        let late = self.planted == Planted::AcceptLateMaps;
        let result = if epoch < self.map.epoch && !late {
            PushResult::Stale(self.map.epoch)
        } else if epoch == self.map.epoch {
            PushResult::Accepted
        } else {
            let holds = |number| self.hold.as_ref().is_some_and(|hold| hold.number == number);
            match push.yields {
                Some(number) if !holds(number) => PushResult::LetGo(Attempt(number)),
                Some(_) | None => {
                    self.adopt(now, push.map, out);
                    PushResult::Accepted
                }
            }
        };
        out.push(Out::Plan(Event::Pushed {
            node: self.id,
            run_id: self.run_id(),
            epoch,
            result,
        }));
    }

    fn adopt(&mut self, now: u64, map: ClusterMap, out: &mut Vec<Out>) {
        let (led, leader) = (self.leads(), self.leader());
        self.map = map;
        if self
            .fence
            .as_ref()
            .is_some_and(|fence| fence.epoch < self.map.epoch)
        {
            self.fence = None;
        }
        if self.shard().is_none() {
            self.history = None;
            self.loaded = None;
            self.replace_log(Log::new());
        }
        if self.leads() && !led {
            self.begin_reign();
            self.send_join(now, out);
        }
        if !self.leads() {
            (self.hold, self.lease_from) = (None, None);
            self.peers.clear();
            self.waiting.clear();
            if self.leader() != leader || led {
                (self.link, self.known_end) = (None, 0);
                if self.phase == LinkPhase::Streaming {
                    self.phase = LinkPhase::Down;
                }
                self.ask(out);
            }
        }
        let shard = self.shard().cloned();
        self.peers.retain(|id, _| {
            let nodes = shard.iter().flat_map(|shard| &shard.nodes);
            nodes.into_iter().any(|entry| entry.id == *id)
        });
        self.answer_waiting(out);
    }

    fn begin_reign(&mut self) {
        self.past = self.history.map(|history| (history, self.log.len()));
        self.reigns += 1;
        let mut bytes = [self.reigns as u8; 20];
        (bytes[0], bytes[1]) = (self.number, self.life);
        self.history = Some(History(NodeId::from_bytes(bytes)));
        (self.link, self.phase) = (None, LinkPhase::Down);
        (self.lease_from, self.fence) = (None, None);
        self.peers.clear();
        self.waiting.clear();
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.map.epoch
    }

    pub(crate) fn follows_whom(&self) -> Option<NodeId> {
        self.leader()
    }
}
