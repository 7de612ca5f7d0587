//! The world of shards with replicas: time, network, clients, the topology and its disk.

mod faults;
mod judges;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use larder_wire::replication::WriteMode;
use larder_wire::{ClusterMap, Epoch, NodeId, ShardId, Slot};

use super::node::{Disk, Msg, Op, Out, ReplicaNode};
use crate::event::{Action, Event, Order, RequestId};
use crate::sim::Planted;
use crate::sim::diary::{Chance, Diary};
use crate::state::{Settings, State};
use crate::step::Plan;

const SHARDS: u32 = 2;
const REPLICAS: u32 = 2;
const NODES: u8 = 7;
/// Faults happen this long; then it is quiet, at most so long. In milliseconds.
const STORM_MS: u64 = 15_000;
const QUIET_MS: u64 = 30_000;
const CLIENT_PATIENCE_MS: u64 = 300;
/// A probe without an answer for this long breaks the topology's connection.
const DEAD_LINK_MS: u64 = 600;
const SAMPLE_EVERY: usize = 2048;
/// A primary that reaches none of its replicas has a successor that serves by then.
const PARTED_MS_MAX: u64 = 3000;
/// Clocks run this many thousandths faster or slower at most.
const DRIFT: u64 = 20;

/// An end of the network.
type End = Option<NodeId>;
const TOPOLOGY: End = None;

#[derive(Clone, Debug)]
enum What {
    /// To a life of the topology.
    Plan(u64, Box<Event>),
    Join(u64, Box<larder_wire::control::NodeJoin>, u64),
    /// To a life of a node. `from`: who sent it, if it came over the network.
    Node {
        id: NodeId,
        run: NodeId,
        msg: Box<Msg>,
    },
    ClientHears(Op, u64),
    ClientMap(Box<ClusterMap>),
    ClientActs(usize, u64),
    DiskDone(u64),
    Tick(u64),
    Probes(u64),
    Fault,
    NodeStarts(NodeId),
    Heals(usize),
    Crashes(NodeId),
    /// If one replica alone is in step somewhere, its primary dies.
    Lean,
    /// The primary of this shard was parted from its replicas, in this life of the topology.
    Parted(ShardId, u64),
    Operator,
    TopologyDies,
    TopologyStarts,
}

/// Ways that are cut, till the cut with this index heals.
#[derive(Clone, Debug)]
struct Cut {
    from: BTreeSet<End>,
    to: BTreeSet<End>,
    both_ways: bool,
    /// Some of what was sent arrives when it has long healed.
    leaks: bool,
    healed: bool,
}

/// A way on which everything takes so many milliseconds more.
#[derive(Clone, Debug)]
struct Slow {
    from: NodeId,
    to: NodeId,
    ms: u64,
    until: u64,
}

#[derive(Clone, Debug)]
struct Client {
    slot: Slot,
    /// When it was last answered.
    heard_at: u64,
    op: Op,
    last_write: u64,
    write: bool,
    /// The least that the answer may be.
    floor: u64,
    done: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) broken: Vec<String>,
    pub(crate) failovers: u64,
    pub(crate) planned: u64,
    pub(crate) answered: u64,
    /// Primaries in `safe` that were parted from their replicas alone, and how many of their shards served soon.
    pub(crate) parted: u64,
    pub(crate) parted_served: u64,
    /// Times that a whole shard died.
    pub(crate) power_cuts: u64,
    pub(crate) fingerprint: u64,
    pub(crate) tail: String,
}

pub(crate) struct World {
    now: u64,
    chance: Chance,
    planted: Planted,
    writes: WriteMode,
    /// Whole shards die, too.
    power_cuts: bool,
    topology_rate: u64,
    /// Chance in a thousand that a message is lost, and late.
    lost: u64,
    late: u64,
    queue: BTreeMap<(u64, u64), What>,
    next_seq: u64,
    plan: Option<Plan>,
    life: u64,
    disk: Option<Box<State>>,
    writing: VecDeque<(u64, Box<State>)>,
    nodes: Vec<ReplicaNode>,
    frozen_until: BTreeMap<NodeId, u64>,
    unheard_since: BTreeMap<NodeId, u64>,
    cuts: Vec<Cut>,
    slow: Option<Slow>,
    clients: Vec<Client>,
    client_map: ClusterMap,
    /// Of each slot: the highest value that anybody was told of.
    known: BTreeMap<Slot, u64>,
    next_op: Op,
    next_request: u64,
    maps: BTreeMap<Epoch, ClusterMap>,
    report: Report,
    diary: Diary,
}

impl World {
    pub(crate) fn new(seed: u64, planted: Planted) -> World {
        let mut world = World {
            now: 0,
            chance: Chance::new(seed ^ 0x5851_f42d_4c95_7f2d),
            planted,
            writes: WriteMode::Safe,
            power_cuts: false,
            topology_rate: 1000,
            lost: 15,
            late: 25,
            queue: BTreeMap::new(),
            next_seq: 0,
            plan: None,
            life: 0,
            disk: None,
            writing: VecDeque::new(),
            nodes: Vec::new(),
            frozen_until: BTreeMap::new(),
            unheard_since: BTreeMap::new(),
            cuts: Vec::new(),
            slow: None,
            clients: Vec::new(),
            client_map: ClusterMap::empty("larder"),
            known: BTreeMap::new(),
            next_op: 1,
            next_request: 1,
            maps: BTreeMap::new(),
            report: Report::default(),
            diary: Diary::default(),
        };
        if world.below(4) == 0 {
            world.writes = WriteMode::Async;
        }
        world.topology_rate = world.rate();
        (world.lost, world.late) = [(5, 10), (15, 25), (30, 120)][world.below(3) as usize];
        for number in 1..=NODES {
            let rate = world.rate();
            world.nodes.push(ReplicaNode::new(number, rate, planted));
        }
        world.clients = Slot::all()
            .step_by(SAMPLE_EVERY)
            .map(|slot| Client {
                slot,
                heard_at: 0,
                op: 0,
                last_write: 0,
                write: false,
                floor: 0,
                done: true,
            })
            .collect();
        world.start_topology();
        for at in 0..world.nodes.len() {
            let (id, run) = (world.nodes[at].id, world.nodes[at].run_id());
            let ms = 1 + world.below(200);
            world.node_timer(id, run, ms, Msg::Renew);
        }
        for client in 0..world.clients.len() {
            world.after(100 + client as u64, What::ClientActs(client, 0));
        }
        for (what, at) in [
            (What::Fault, 2500),
            (What::Operator, 2000),
            (What::TopologyDies, 3000),
        ] {
            world.after(at, what);
        }
        world
    }

    pub(crate) fn with_power_cuts(mut self) -> World {
        self.power_cuts = true;
        self
    }

    pub(crate) fn run(mut self) -> Report {
        while let Some(((at, _), what)) = self.queue.pop_first() {
            self.now = at;
            if at > STORM_MS + QUIET_MS {
                let text = self.why_not_at_rest();
                self.accuse(format!("it never came to rest: {text}"));
            }
            self.happen(what);
            self.one_owner();
            let quiet = at > STORM_MS + 1500 && self.why_not_at_rest().is_empty();
            if !self.report.broken.is_empty() || quiet {
                break;
            }
        }
        if self.report.broken.is_empty() {
            self.in_the_end();
        }
        self.report.fingerprint = self.diary.fingerprint();
        self.report.tail = self.diary.tail();
        self.report
    }

    // Chance, time, network.

    fn below(&mut self, limit: u64) -> u64 {
        self.chance.below(limit)
    }

    fn chance(&mut self, per_thousand: u64) -> bool {
        self.now < STORM_MS && self.below(1000) < per_thousand
    }

    fn rate(&mut self) -> u64 {
        1000 - DRIFT + self.below(2 * DRIFT + 1)
    }

    fn after(&mut self, ms: u64, what: What) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.queue.insert((self.now + ms, seq), what);
    }

    fn node(&mut self, id: NodeId) -> &mut ReplicaNode {
        let found = self.nodes.iter_mut().find(|node| node.id == id);
        found.expect("nodes of the world are named")
    }

    fn open(&self, from: End, to: End) -> bool {
        self.cut_between(from, to).is_none()
    }

    fn cut_between(&self, from: End, to: End) -> Option<&Cut> {
        self.cuts.iter().find(|cut| {
            let along = cut.from.contains(&from) && cut.to.contains(&to);
            let back = cut.from.contains(&to) && cut.to.contains(&from);
            !cut.healed && (along || cut.both_ways && back)
        })
    }

    /// Late, twice or never, by chance; over a way that is cut never, or when it has long healed.
    fn send(&mut self, from: End, to: End, what: What) {
        if let Some(leaks) = self.cut_between(from, to).map(|cut| cut.leaks) {
            if leaks && self.below(4) == 0 {
                let ms = 500 + self.below(4000);
                self.after(ms, what);
            }
            return;
        }
        if self.chance(self.lost) {
            return;
        }
        if self.chance(20) {
            let ms = 1 + self.below(800);
            self.after(ms, what.clone());
        }
        let ms = match self.chance(self.late) {
            true => self.below(700),
            false => 1 + self.below(3),
        };
        let slow = self
            .slow
            .as_ref()
            .filter(|slow| slow.until > self.now && Some(slow.from) == from && Some(slow.to) == to);
        let more = slow.map_or(0, |slow| slow.ms);
        self.after(ms + more, what);
    }

    fn send_node(&mut self, from: End, id: NodeId, msg: Msg) {
        let run = self.node(id).run_id();
        let msg = Box::new(msg);
        self.send(from, Some(id), What::Node { id, run, msg });
    }

    fn node_timer(&mut self, id: NodeId, run: NodeId, ms: u64, msg: Msg) {
        let ms = self.node(id).true_ms(ms);
        let msg = Box::new(msg);
        self.after(ms, What::Node { id, run, msg });
    }

    fn note(&mut self, text: String) {
        self.diary.note(self.now, text);
    }

    // The topology.

    fn start_topology(&mut self) {
        self.life += 1;
        self.writing.clear();
        self.unheard_since.clear();
        let settings = Settings {
            shards: SHARDS,
            replicas: REPLICAS,
            writes: self.writes,
            lost_shards: Default::default(),
            scale: Default::default(),
        };
        let state = match &self.disk {
            Some(state) => State::from_json(&state.to_json()).expect("a record is read back"),
            None => State::new("larder", settings),
        };
        let mut plan = Plan::new(state, "10.0.0.99:7000", self.topology_clock());
        plan.planted = self.planted;
        self.plan = Some(plan);
        self.note("topology starts".into());
        self.after(1, What::Tick(self.life));
        self.after(2, What::Probes(self.life));
    }

    fn topology_clock(&self) -> u64 {
        self.now * self.topology_rate / 1000
    }

    fn step(&mut self, event: Event) {
        self.diary.note_event(self.now, &event);
        let clock = self.topology_clock();
        let Some(plan) = &mut self.plan else {
            return;
        };
        for action in plan.step(clock, event) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Record { seq, state } => {
                self.writing.push_back((seq, state));
                let ms = match self.chance(40) {
                    true => self.below(900),
                    false => 1 + self.below(5),
                };
                self.after(ms, What::DiskDone(self.life));
            }
            Action::PushMap { node, push } => {
                self.note(format!(
                    "push {} {:?} to {node:?}",
                    push.map.epoch, push.yields
                ));
                self.saw_map(&push.map);
                self.send_node(TOPOLOGY, node, Msg::Map(push));
            }
            Action::Fence { node, fence } => {
                self.note(format!("fence {} at {node:?}", fence.number));
                self.send_node(TOPOLOGY, node, Msg::Fence(fence));
            }
            Action::Unfence { node, number } => {
                self.note(format!("unfence {number} at {node:?}"));
                self.send_node(TOPOLOGY, node, Msg::Unfence(number));
            }
            Action::Yield { node, order } => {
                self.note(format!(
                    "yield {} at {node:?} to {:?}",
                    order.number, order.to
                ));
                self.send_node(TOPOLOGY, node, Msg::Yield(order));
            }
            Action::FailedOver(done) => match done.planned {
                true => self.report.planned += 1,
                false => self.report.failovers += 1,
            },
            Action::Broadcast(map) => {
                self.saw_map(&map);
                let ms = 1 + self.below(10);
                self.after(ms, What::ClientMap(map));
            }
            Action::Log { text, .. } => self.note(format!("log: {text}")),
            Action::Reply { answer, .. } => self.note(format!("reply {answer:?}")),
            Action::StartImport { .. }
            | Action::AwaitImport { .. }
            | Action::Abort { .. }
            | Action::Moved(_)
            | Action::AskForNodes(_) => self.accuse("nothing moves here".into()),
        }
    }

    fn disk_done(&mut self) {
        let Some((seq, state)) = self.writing.pop_front() else {
            return;
        };
        self.disk = Some(state);
        let result = Ok(());
        self.step(Event::Recorded { seq, result });
    }

    fn topology_dies(&mut self) {
        self.note("topology dies".into());
        self.plan = None;
        let done = self.below(self.writing.len() as u64 + 1) as usize;
        let reached = self.writing.drain(..).take(done);
        if let Some((_, state)) = reached.reduce(|_, later| later) {
            self.disk = Some(state);
        }
        let ms = 1 + self.below(1500);
        self.after(ms, What::TopologyStarts);
    }

    fn probes(&mut self, life: u64) {
        self.after(100, What::Probes(life));
        let known: Vec<NodeId> = match &self.plan {
            Some(plan) => plan.state().nodes.keys().copied().collect(),
            None => return,
        };
        for id in known {
            let way = self.open(TOPOLOGY, Some(id)) && self.open(Some(id), TOPOLOGY);
            if way && !self.node(id).up {
                self.step(Event::NodeUnreachable {
                    node: id,
                    reason: "connection refused".into(),
                    process_gone: true,
                });
                continue;
            }
            if way {
                self.unheard_since.remove(&id);
            } else {
                let since = *self.unheard_since.entry(id).or_insert(self.now);
                if self.now - since > DEAD_LINK_MS {
                    self.step(Event::NodeUnreachable {
                        node: id,
                        reason: "no answer".into(),
                        process_gone: false,
                    });
                }
            }
            self.send_node(TOPOLOGY, id, Msg::Probe);
        }
    }

    // What happens.

    fn happen(&mut self, what: What) {
        match what {
            What::Plan(life, event) if life == self.life => self.step(*event),
            What::Plan(..) => {}
            What::Join(life, join, sent_at) if life == self.life => self.joined(*join, sent_at),
            What::Join(..) => {}
            What::Node { id, run, msg } => self.node_hears(id, run, msg),
            What::ClientHears(op, value) => self.client_hears(op, value),
            What::ClientMap(map) => {
                if map.epoch > self.client_map.epoch {
                    self.client_map = *map;
                }
            }
            What::ClientActs(at, after) => self.client_acts(at, after),
            What::DiskDone(life) if life == self.life && self.plan.is_some() => self.disk_done(),
            What::DiskDone(_) => {}
            What::Tick(life) if life == self.life => {
                self.after(50, What::Tick(life));
                self.step(Event::Tick);
            }
            What::Tick(_) => {}
            What::Probes(life) if life == self.life => self.probes(life),
            What::Probes(_) => {}
            What::Fault => self.fault(),
            What::NodeStarts(id) => {
                self.node(id).up = true;
                let run = self.node(id).run_id();
                self.note(format!("{id:?} starts"));
                self.node_timer(id, run, 5, Msg::Renew);
            }
            What::Heals(at) => {
                self.cuts[at].healed = true;
                self.note("healed".into());
            }
            What::Crashes(id) => {
                if self.node(id).up && !self.node(id).leads() {
                    self.crash(id);
                }
            }
            What::Lean => {
                self.crash_lean();
            }
            What::Parted(shard, life) => self.served_after_parting(shard, life),
            What::Operator => self.operator(),
            What::TopologyDies => {
                let again = 1500 + self.below(6000);
                self.after(again, What::TopologyDies);
                if self.now < STORM_MS && self.plan.is_some() {
                    self.topology_dies();
                }
            }
            What::TopologyStarts => self.start_topology(),
        }
    }

    fn joined(&mut self, join: larder_wire::control::NodeJoin, sent_at: u64) {
        let (id, run_id) = (join.id, join.run_id);
        self.step(Event::NodeJoined(join));
        let clock = self.topology_clock();
        let Some(plan) = &mut self.plan else {
            return;
        };
        let lease = plan.lease(clock, id, run_id);
        let run = run_id;
        let msg = Box::new(Msg::Joined { sent_at, lease });
        self.send(TOPOLOGY, Some(id), What::Node { id, run, msg });
    }

    fn node_hears(&mut self, id: NodeId, run: NodeId, msg: Box<Msg>) {
        if let Some(until) = self
            .frozen_until
            .get(&id)
            .copied()
            .filter(|until| *until > self.now)
        {
            let ms = until - self.now;
            return self.after(ms, What::Node { id, run, msg });
        }
        let now = self.now;
        let node = self.node(id);
        if !node.up || node.run_id() != run {
            return;
        }
        let before = node.epoch();
        let told = matches!(*msg, Msg::Map(_));
        let out = node.hears(now, *msg);
        let after = node.epoch();
        if told {
            self.note(format!("{id:?} has epoch {after}"));
        }
        if after < before {
            self.accuse(format!("the epoch of {id:?} fell from {before} to {after}"));
        }
        for one in out {
            match one {
                Out::Plan(event) => {
                    self.send(Some(id), TOPOLOGY, What::Plan(self.life, Box::new(event)));
                }
                Out::Join { join, sent_at } => {
                    let what = What::Join(self.life, Box::new(join), sent_at);
                    self.send(Some(id), TOPOLOGY, what);
                }
                Out::Node(to, msg) => self.send_node(Some(id), to, msg),
                Out::Client { op, value } => {
                    let ms = 1 + self.below(3);
                    self.after(ms, What::ClientHears(op, value));
                }
                Out::After(ms, msg) => self.node_timer(id, run, ms, msg),
            }
        }
    }

    /// The answer to `after` came, or did not come in time.
    fn client_acts(&mut self, at: usize, after: Op) {
        let given_up = self.clients[at].op == after;
        if !given_up || self.now >= STORM_MS + 1000 {
            return;
        }
        let op = self.next_op;
        self.next_op += 1;
        let write = self.below(3) > 0;
        let client = &mut self.clients[at];
        let slot = client.slot;
        client.last_write += u64::from(write);
        (client.op, client.write, client.done) = (op, write, false);
        client.floor = self.known.get(&slot).copied().unwrap_or(0);
        let write = write.then_some(client.last_write);
        self.after(CLIENT_PATIENCE_MS, What::ClientActs(at, op));
        let owner = self.client_map.primary_of(slot).map(|entry| entry.id);
        if let Some(id) = owner {
            let run = self.node(id).run_id();
            let msg = Box::new(Msg::Client { op, slot, write });
            let ms = 1 + self.below(3);
            self.after(ms, What::Node { id, run, msg });
        }
    }

    fn operator(&mut self) {
        let again = 500 + self.below(2500);
        self.after(again, What::Operator);
        let shard = ShardId(1 + self.below(u64::from(SHARDS)) as u32);
        if self.now >= STORM_MS || self.plan.is_none() {
            return;
        }
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let order = Order::Failover {
            shard,
            to: None,
            force: false,
        };
        self.step(Event::Operator { request, order });
    }
}
