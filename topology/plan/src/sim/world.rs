//! The simulated world: a queue of what happens when, a network, the topology's disk, and chance from one seed.

use std::collections::{BTreeMap, VecDeque};

use larder_wire::control::{HOLD_MS_MAX, Import, ImportPhase, MapPush};
use larder_wire::{Attempt, Epoch, NodeId, Slot};

use super::Planted;
use super::diary::{Chance, Diary};
use super::judge::{Judge, Verdict};
use super::node::{Data, Feeding, SimNode};
use crate::event::{Action, Answer, Event, Order, PushResult, RequestId};
use crate::state::{Settings, State};
use crate::step::Plan;

/// How bad the world is; chances are per thousand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    lost: u64,
    doubled: u64,
    late: u64,
    topology_crashes: bool,
    node_crashes: bool,
}

impl Faults {
    pub(crate) const NONE: Faults = Faults {
        lost: 0,
        doubled: 0,
        late: 0,
        topology_crashes: false,
        node_crashes: false,
    };
    pub(crate) const MESSAGES_AND_TOPOLOGY: Faults = Faults {
        lost: 30,
        doubled: 50,
        late: 80,
        topology_crashes: true,
        node_crashes: false,
    };
    pub(crate) const ALL: Faults = Faults {
        node_crashes: true,
        ..Faults::MESSAGES_AND_TOPOLOGY
    };
}

const NODES: u8 = 6;
/// Faults and orders happen this long; then it is quiet, at most so long. In milliseconds.
const STORM_MS: u64 = 12_000;
const QUIET_MS: u64 = 90_000;
/// The slots that are looked at.
const SAMPLE_EVERY: usize = 128;

/// What reaches a node.
#[derive(Clone, Debug)]
enum ToNode {
    Probe,
    Map(MapPush),
    Import(Import),
    Await(Attempt),
    Abort(Attempt),
    /// From the target of an attempt.
    Feed(Import, NodeId),
    /// From its source: all data and the cut, or the end of the feed.
    Cut(Attempt, Data),
    FeedOver(Attempt),
}

#[derive(Clone, Debug)]
enum What {
    /// To a life of the topology.
    Plan(u64, Box<Event>),
    /// From a life of the topology, or from a node.
    /// Connections end with the process: what was on its way to a life of a node does not reach the next.
    Node {
        id: NodeId,
        run: NodeId,
        message: ToNode,
        life: u64,
    },
    DiskDone(u64),
    HoldBegins(NodeId, NodeId, Attempt),
    HoldEnds(NodeId, NodeId, Attempt),
    Tick(u64),
    Probes(u64),
    Joins,
    Write,
    Operator,
    TopologyDies,
    TopologyStarts,
    NodeDies,
    NodeStarts(NodeId),
    LinkBreaks,
}

pub(crate) struct World {
    now: u64,
    chance: Chance,
    faults: Faults,
    planted: Planted,
    queue: BTreeMap<(u64, u64), What>,
    next_seq: u64,
    plan: Option<Plan>,
    /// Counts the lives of the topology.
    life: u64,
    disk: Option<Box<State>>,
    writing: VecDeque<(u64, Box<State>)>,
    nodes: Vec<SimNode>,
    sample: Vec<Slot>,
    acked: BTreeMap<Slot, u64>,
    crashed: bool,
    judge: Judge,
    handovers: u64,
    next_request: u64,
    diary: Diary,
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults, planted: Planted) -> World {
        let mut world = World {
            now: 0,
            chance: Chance::new(seed ^ 0x9e37_79b9_7f4a_7c15),
            faults,
            planted,
            queue: BTreeMap::new(),
            next_seq: 0,
            plan: None,
            life: 0,
            disk: None,
            writing: VecDeque::new(),
            nodes: (1..=NODES).map(SimNode::new).collect(),
            sample: Slot::all().step_by(SAMPLE_EVERY).collect(),
            acked: BTreeMap::new(),
            crashed: false,
            judge: Judge::default(),
            handovers: 0,
            next_request: 1,
            diary: Diary::default(),
        };
        world.start_topology();
        for (what, at) in [
            (What::Joins, 1),
            (What::Write, 5),
            (What::Operator, 600),
            (What::LinkBreaks, 900),
            (What::TopologyDies, 800),
            (What::NodeDies, 1000),
        ] {
            world.after(at, what);
        }
        world
    }

    pub(crate) fn run(&mut self) -> Verdict {
        while let Some(((at, _), what)) = self.queue.pop_first() {
            self.now = at;
            if at > STORM_MS + QUIET_MS {
                self.judge.never("it never came to rest".into());
                break;
            }
            let owners_may_change = matches!(
                &what,
                What::Node {
                    message: ToNode::Map(_),
                    ..
                }
            );
            self.happen(what);
            if owners_may_change {
                self.judge.one_owner(self.now, &self.nodes, &self.sample);
            }
            if !self.judge.broken.is_empty() || at > STORM_MS + 1000 && self.at_rest() {
                break;
            }
        }
        if self.judge.broken.is_empty() {
            self.judge
                .in_the_end(&self.nodes, &self.sample, &self.acked, self.crashed);
        }
        if let Some(plan) = &self.plan {
            self.judge.lives(&self.nodes, plan.state());
        }
        Verdict {
            broken: std::mem::take(&mut self.judge.broken),
            handovers: self.handovers,
            fingerprint: self.diary.fingerprint(),
            tail: self.diary.tail(),
        }
    }

    fn storm(&self) -> bool {
        self.now < STORM_MS
    }

    /// Nothing is under way and everyone has the last map.
    fn at_rest(&self) -> bool {
        let Some(plan) = &self.plan else {
            return false;
        };
        let state = plan.state();
        state.operation.is_none()
            && state.handover.is_none()
            && plan.recorded()
            && self.nodes.iter().all(|node| {
                node.up
                    && node.epoch == state.map.epoch
                    && node.feeds.is_empty()
                    && node.imports.is_empty()
            })
    }

    // Chance.

    fn below(&mut self, limit: u64) -> u64 {
        self.chance.below(limit)
    }

    fn chance(&mut self, per_thousand: u64) -> bool {
        self.storm() && self.below(1000) < per_thousand
    }

    fn some_node(&mut self) -> usize {
        self.below(self.nodes.len() as u64) as usize
    }

    fn node(&mut self, id: NodeId) -> &mut SimNode {
        let found = self.nodes.iter_mut().find(|node| node.id == id);
        found.expect("nodes of the world are named")
    }

    // Time and the network.

    fn after(&mut self, ms: u64, what: What) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.queue.insert((self.now + ms, seq), what);
    }

    /// Delivered late, twice or never, by chance.
    fn send(&mut self, what: What) {
        if self.chance(self.faults.lost) {
            return;
        }
        if self.chance(self.faults.doubled) {
            let delay = 1 + self.below(800);
            self.after(delay, what.clone());
        }
        let delay = match self.chance(self.faults.late) {
            true => self.below(2500),
            false => 1 + self.below(4),
        };
        self.after(delay, what);
    }

    fn tell_node(&mut self, node: NodeId, message: ToNode) {
        let (run, life) = (self.node(node).run_id(), self.life);
        self.send(What::Node {
            id: node,
            run,
            message,
            life,
        });
    }

    fn tell_plan(&mut self, life: u64, event: Event) {
        self.send(What::Plan(life, Box::new(event)));
    }

    // The topology.

    fn start_topology(&mut self) {
        self.life += 1;
        let state = match &self.disk {
            Some(state) => State::from_json(&state.to_json()).expect("a record is readable"),
            None => State::new(
                "sim",
                Settings {
                    shards: 3,
                    replicas: 0,
                    writes: Default::default(),
                    lost_shards: Default::default(),
                    scale: Default::default(),
                },
            ),
        };
        let mut plan = Plan::new(state, "10.0.0.100:7000", self.now);
        plan.planted = self.planted;
        self.plan = Some(plan);
        self.after(1, What::Tick(self.life));
        self.after(2, What::Probes(self.life));
    }

    fn step(&mut self, event: Event) {
        self.diary.note_event(self.now, &event);
        let Some(plan) = &mut self.plan else {
            return;
        };
        let actions = plan.step(self.now, event);
        for action in actions {
            self.act(action);
        }
    }

    fn note(&mut self, text: String) {
        self.diary.note(self.now, text);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Record { seq, state } => {
                self.writing.push_back((seq, state));
                let ms = match self.chance(50) {
                    true => self.below(1500),
                    false => 1 + self.below(6),
                };
                self.after(ms, What::DiskDone(self.life));
            }
            Action::PushMap { node, push } => {
                self.note(format!(
                    "push {} {:?} to {node:?}",
                    push.map.epoch, push.handovers
                ));
                self.judge.saw_map(&push.map);
                self.tell_node(node, ToNode::Map(push));
            }
            Action::StartImport { node, import } => {
                self.note(format!(
                    "import {} at {node:?} from {:?}",
                    import.attempt, import.source
                ));
                self.tell_node(node, ToNode::Import(import));
            }
            Action::AwaitImport { node, attempt } => self.tell_node(node, ToNode::Await(attempt)),
            Action::Abort { node, attempt } => {
                self.note(format!("abort {attempt} at {node:?}"));
                self.tell_node(node, ToNode::Abort(attempt));
            }
            Action::Broadcast(map) => self.judge.saw_map(&map),
            Action::Moved(_) => self.handovers += 1,
            Action::Fence { .. }
            | Action::Unfence { .. }
            | Action::Yield { .. }
            | Action::FailedOver(_) => {}
            Action::Reply { answer, .. } => {
                let answer = answer.map(|report| match *report {
                    Answer::Slots(report) => report.slots,
                    Answer::Replicas(report) => report.wanted,
                    Answer::Writes(report) => report.replicas,
                    Answer::LostShards(report) => report.lost.len() as u32,
                    Answer::Failover(report) => report.shard.0,
                    // Nobody forwards here.
                    Answer::Forward(_) => 0,
                });
                self.note(format!("reply {answer:?}"));
            }
            Action::AskForNodes(_) => self.judge.never("nobody can start nodes here".into()),
            Action::Log { text, .. } => self.note(format!("log: {text}")),
        }
    }

    fn topology_dies(&mut self) {
        self.note("topology dies".into());
        self.plan = None;
        // Of what was being written, some has reached the disk.
        let done = self.below(self.writing.len() as u64 + 1) as usize;
        let reached = self.writing.drain(..).take(done);
        if let Some((_, state)) = reached.reduce(|_, later| later) {
            self.disk = Some(state);
        }
        let ms = 1 + self.below(1500);
        self.after(ms, What::TopologyStarts);
    }

    // What happens.

    fn happen(&mut self, what: What) {
        match what {
            What::Plan(life, event) if life == self.life => self.step(*event),
            What::Plan(_, _) => {}
            What::Node {
                id,
                run,
                message,
                life,
            } => {
                if self.node(id).run_id() == run && self.node(id).up {
                    self.node_hears(id, message, life);
                }
            }
            What::DiskDone(life) if life == self.life && self.plan.is_some() => self.disk_done(),
            What::DiskDone(_) => {}
            What::HoldBegins(node, run, attempt) => self.hold_begins(node, run, attempt),
            What::HoldEnds(node, run, attempt) => self.hold_ends(node, run, attempt),
            What::Tick(life) if life == self.life => {
                self.after(50, What::Tick(life));
                self.step(Event::Tick);
            }
            What::Tick(_) => {}
            What::Probes(life) if life == self.life => self.probes(life),
            What::Probes(_) => {}
            What::Joins => self.joins(),
            What::Write => self.write(),
            What::Operator => self.operator(),
            What::TopologyDies => {
                let again = 500 + self.below(4000);
                self.after(again, What::TopologyDies);
                if self.storm() && self.faults.topology_crashes && self.plan.is_some() {
                    self.topology_dies();
                }
            }
            What::TopologyStarts => self.start_topology(),
            What::NodeDies => self.node_dies(),
            What::NodeStarts(id) => self.node(id).up = true,
            What::LinkBreaks => self.link_breaks(),
        }
    }

    fn disk_done(&mut self) {
        let Some((seq, state)) = self.writing.pop_front() else {
            return;
        };
        if self.chance(10) {
            let result = Err("no space left".into());
            return self.step(Event::Recorded { seq, result });
        }
        self.disk = Some(state);
        self.step(Event::Recorded {
            seq,
            result: Ok(()),
        });
    }

    fn probes(&mut self, life: u64) {
        self.after(150, What::Probes(life));
        let known: Vec<NodeId> = match &self.plan {
            Some(plan) => plan.state().nodes.keys().copied().collect(),
            None => return,
        };
        for id in known {
            match self.node(id).up {
                true => self.tell_node(id, ToNode::Probe),
                false => self.step(Event::NodeUnreachable {
                    node: id,
                    reason: "connection refused".into(),
                    process_gone: true,
                }),
            }
        }
    }

    fn joins(&mut self) {
        let again = 200 + self.below(300);
        self.after(again, What::Joins);
        let joins: Vec<_> = self
            .nodes
            .iter()
            .filter(|node| node.up)
            .map(SimNode::join)
            .collect();
        for join in joins {
            self.tell_plan(self.life, Event::NodeJoined(join));
        }
    }

    fn write(&mut self) {
        if !self.storm() {
            return;
        }
        let again = 1 + self.below(12);
        self.after(again, What::Write);
        let at = self.below(self.sample.len() as u64) as usize;
        let slot = self.sample[at];
        let taker = self.nodes.iter_mut().find(|node| node.takes_writes(slot));
        if let Some(node) = taker {
            *node.data.entry(slot).or_default() += 1;
            *self.acked.entry(slot).or_default() += 1;
        }
    }

    fn operator(&mut self) {
        if !self.storm() {
            return;
        }
        let again = 100 + self.below(2500);
        self.after(again, What::Operator);
        let order = match self.below(5) {
            0 => Order::Rebalance { dry_run: false },
            1 => {
                let first = self.below(16_000) as u16;
                let to = self.some_node();
                Order::Move {
                    slots: format!("{first}-{}", first + 300).parse().expect("a range"),
                    to: self.nodes[to].id.to_string(),
                    dry_run: false,
                }
            }
            _ => Order::Reshard {
                shards: 1 + self.below(u64::from(NODES)) as u32,
                dry_run: false,
            },
        };
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.step(Event::Operator { request, order });
    }

    fn node_dies(&mut self) {
        let again = 1000 + self.below(5000);
        self.after(again, What::NodeDies);
        let victim = self.some_node();
        if self.storm() && self.faults.node_crashes && self.nodes[victim].up {
            self.nodes[victim].crash();
            self.crashed = true;
            let id = self.nodes[victim].id;
            self.note(format!("{id:?} dies"));
            let ms = 1 + self.below(1500);
            self.after(ms, What::NodeStarts(id));
            self.feeds_break(id);
        }
    }

    /// Whoever feeds the dead node, or is fed by it, learns it from the connection.
    fn feeds_break(&mut self, dead: NodeId) {
        let mut over = Vec::new();
        for node in &mut self.nodes {
            let fed = node.feeds.iter().filter(|(_, feed)| feed.target == dead);
            let gone: Vec<Attempt> = fed.map(|(attempt, _)| *attempt).collect();
            for attempt in gone {
                node.let_go(attempt);
            }
            let taken = node
                .imports
                .iter()
                .filter(|(_, taking)| taking.import.source == dead);
            over.extend(taken.map(|(attempt, _)| (node.id, *attempt)));
        }
        for (id, attempt) in over {
            self.tell_node(id, ToNode::FeedOver(attempt));
        }
    }

    fn link_breaks(&mut self) {
        let again = 300 + self.below(3000);
        self.after(again, What::LinkBreaks);
        let at = self.some_node();
        let node = self.nodes[at].id;
        if self.storm() && self.faults.lost > 0 {
            let reason = "connection reset".into();
            self.step(Event::NodeUnreachable {
                node,
                reason,
                process_gone: false,
            });
        }
    }

    // Nodes.

    fn node_hears(&mut self, id: NodeId, message: ToNode, life: u64) {
        let now = self.now;
        match message {
            ToNode::Probe => {
                let state = self.node(id).state(now);
                self.tell_plan(life, Event::NodeAnswered(Box::new(state)));
            }
            ToNode::Map(push) => self.node_takes_map(id, &push, life),
            ToNode::Import(import) => {
                let attempt = import.attempt;
                self.node(id).import(import.clone());
                self.tell_plan(
                    life,
                    Event::ImportAnswered {
                        attempt,
                        result: Ok(()),
                    },
                );
                self.tell_node(import.source, ToNode::Feed(import, id));
                // A feed that does not end is given up by its target.
                let ms = 1500 + self.below(1500);
                let (run, message) = (self.node(id).run_id(), ToNode::FeedOver(attempt));
                self.after(
                    ms,
                    What::Node {
                        id,
                        run,
                        message,
                        life,
                    },
                );
            }
            ToNode::Await(attempt) => {
                let node = self.node(id);
                let over = node
                    .imports
                    .get(&attempt)
                    .is_none_or(|taking| taking.failed || taking.ready.is_some());
                if !node.awaited.contains(&attempt) {
                    node.awaited.push(attempt);
                }
                if over {
                    self.tell_awaiting(id, attempt);
                }
            }
            ToNode::Abort(attempt) => {
                let node = self.node(id);
                node.imports.remove(&attempt);
                node.let_go(attempt);
            }
            ToNode::Feed(import, target) => {
                let walk = 5 + self.below(150);
                let run = self.node(id).run_id();
                match self.node(id).feed(&import, target, now + walk) {
                    Feeding::Begun => self.after(walk, What::HoldBegins(id, run, import.attempt)),
                    Feeding::NotMine => self.tell_node(target, ToNode::FeedOver(import.attempt)),
                    Feeding::Late => {}
                }
            }
            ToNode::Cut(attempt, data) => {
                if let Some(taking) = self.node(id).imports.get_mut(&attempt)
                    && !taking.failed
                {
                    taking.ready = Some(data);
                    self.tell_awaiting(id, attempt);
                }
            }
            ToNode::FeedOver(attempt) => {
                // One that is ready waits for the topology's word: a map, or an abort.
                if let Some(taking) = self.node(id).imports.get_mut(&attempt)
                    && taking.ready.is_none()
                {
                    taking.failed = true;
                    self.tell_awaiting(id, attempt);
                }
            }
        }
    }

    fn node_takes_map(&mut self, id: NodeId, push: &MapPush, life: u64) {
        let node = self.node(id);
        let result = node.take_map(push);
        let (run_id, epoch) = (node.run_id(), push.map.epoch);
        let node = self.node(id).clone();
        self.judge.node_epoch(&node);
        self.note(format!("{id:?} takes {epoch}: {result:?}"));
        if let PushResult::LetGo(_) = result {
            assert!(epoch > Epoch(0));
        }
        self.tell_plan(
            life,
            Event::Pushed {
                node: id,
                run_id,
                epoch,
                result,
            },
        );
    }

    fn tell_awaiting(&mut self, id: NodeId, attempt: Attempt) {
        let node = self.node(id);
        if !node.awaited.contains(&attempt) {
            return;
        }
        node.awaited.retain(|awaited| *awaited != attempt);
        let phase = node
            .imports
            .get(&attempt)
            .map_or(ImportPhase::Unknown, |taking| taking.phase());
        self.tell_plan(
            self.life,
            Event::Import {
                attempt,
                phase,
                keys: 1,
                bytes: 1,
            },
        );
    }

    fn hold_begins(&mut self, id: NodeId, run: NodeId, attempt: Attempt) {
        let now = self.now;
        let hold = match self.chance(300) {
            true => 1 + self.below(60),
            false => HOLD_MS_MAX,
        };
        let node = self.node(id);
        let due = node
            .feeds
            .get(&attempt)
            .is_some_and(|feed| feed.holds_at <= now);
        if !node.up || node.run_id() != run || !due {
            return;
        }
        if let Some((target, data)) = self.node(id).hold(attempt, now, hold) {
            self.tell_node(target, ToNode::Cut(attempt, data));
            self.after(hold, What::HoldEnds(id, run, attempt));
        }
    }

    fn hold_ends(&mut self, id: NodeId, run: NodeId, attempt: Attempt) {
        let now = self.now;
        let node = self.node(id);
        let due = node
            .feeds
            .get(&attempt)
            .is_some_and(|feed| feed.holding_until.is_some_and(|until| until <= now));
        if !node.up || node.run_id() != run || !due {
            return;
        }
        if let Some(feed) = node.let_go(attempt) {
            self.tell_node(feed.target, ToNode::FeedOver(attempt));
        }
    }
}
