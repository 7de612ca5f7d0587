//! What the plan is told, and what it wants done. The service carries the actions out and turns
//! each outcome into an event; an event may come late, twice or never.

use larder_wire::control::{Import, ImportPhase, MapPush, NodeJoin, NodeState, ProxyJoin};
use larder_wire::forwarding::{ForwardVerb, Forwarding};
use larder_wire::replication::{Fence, Fenced, WriteMode, Yield, Yielded};
use larder_wire::{Attempt, ClusterMap, Epoch, NodeId, ShardId, SlotSet};

use crate::report::{FailoverReport, LostShardsReport, OrderReport, ReplicasReport, WritesReport};
use crate::state::{LostShards, State};

/// Names an operator's request until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    Reshard {
        shards: u32,
        dry_run: bool,
    },
    /// `to` is a node's id, the beginning of one, or its address.
    Move {
        slots: SlotSet,
        to: String,
        dry_run: bool,
    },
    Rebalance {
        dry_run: bool,
    },
    /// Replicas of each shard; `None` asks how they are.
    Replicas {
        set: Option<u32>,
    },
    /// When writes are answered; `None` asks.
    Writes {
        set: Option<WriteMode>,
    },
    /// What becomes of shards that have no node left; `None` asks.
    LostShards {
        set: Option<LostShards>,
    },
    /// Whether proxies forward to an old server.
    Forward(ForwardVerb),
    /// Another primary for a shard, by plan; `force` lets a failover that waits go on without what it waits for.
    Failover {
        shard: ShardId,
        to: Option<String>,
        force: bool,
    },
}

/// What an order is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Slots(OrderReport),
    Replicas(ReplicasReport),
    Writes(WritesReport),
    LostShards(LostShardsReport),
    Failover(FailoverReport),
    Forward(Option<Forwarding>),
}

/// What a node answered to a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushResult {
    Accepted,
    /// The node has a map with this epoch.
    Stale(Epoch),
    /// The source of this attempt no longer holds: it keeps its slots.
    LetGo(Attempt),
    /// No answer, or one that means nothing.
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    NodeJoined(NodeJoin),
    ProxyJoined(ProxyJoin),
    /// The answer to a probe.
    NodeAnswered(Box<NodeState>),
    /// The connection to a node is lost or refused.
    NodeUnreachable {
        node: NodeId,
        reason: String,
        /// Its port is closed: nobody listens there.
        process_gone: bool,
    },
    Operator {
        request: RequestId,
        order: Order,
    },
    /// A node answered a push (or did not). `run_id` is of the process at the other end of the connection.
    Pushed {
        node: NodeId,
        run_id: NodeId,
        epoch: Epoch,
        result: PushResult,
    },
    /// A replica was fenced, or not.
    Fenced {
        node: NodeId,
        number: u64,
        result: Result<Fenced, String>,
    },
    /// A primary holds its writes and its heir has them all, or not. `run_id` as in [`Event::Pushed`].
    Yielded {
        node: NodeId,
        run_id: NodeId,
        number: u64,
        result: Result<Yielded, String>,
    },
    /// A node has taken [`Action::Abort`]; the epoch of its map after that.
    Aborted {
        node: NodeId,
        run_id: NodeId,
        attempt: Attempt,
        epoch: Epoch,
    },
    /// The target took up (or refused, or never answered) an import.
    ImportAnswered {
        attempt: Attempt,
        result: Result<(), String>,
    },
    /// `AWAIT` was answered.
    Import {
        attempt: Attempt,
        phase: ImportPhase,
        keys: u64,
        bytes: u64,
    },
    /// `AWAIT` lost its connection without an answer.
    AwaitBroken {
        attempt: Attempt,
    },
    /// The outcome of [`Action::Record`] number `seq`.
    Recorded {
        seq: u64,
        result: Result<(), String>,
    },
    /// Whether this topology can have further nodes started (`larder up` can).
    NodeStarter {
        able: bool,
    },
    Tick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// The end of a move, for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveDone {
    pub attempt: Attempt,
    pub from: ShardId,
    pub to: ShardId,
    pub slots: usize,
    pub keys: u64,
    pub bytes: u64,
    /// From the import's start to the source's `+OK`.
    pub took_ms: u64,
    /// From Ready to the source's `+OK`: the part of the hold that the topology causes.
    pub handover_ms: u64,
}

/// A shard has another primary, for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverDone {
    pub shard: ShardId,
    pub planned: bool,
    /// From the suspicion, or the order, to the decision.
    pub took_ms: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write the state to the store of record, durably, and answer with [`Event::Recorded`].
    Record {
        seq: u64,
        state: Box<State>,
    },
    PushMap {
        node: NodeId,
        push: MapPush,
    },
    StartImport {
        node: NodeId,
        import: Import,
    },
    /// Ask the target for the end of the import, on a connection of its own.
    AwaitImport {
        node: NodeId,
        attempt: Attempt,
    },
    Abort {
        node: NodeId,
        attempt: Attempt,
    },
    /// Answered with [`Event::Fenced`].
    Fence {
        node: NodeId,
        fence: Fence,
    },
    Unfence {
        node: NodeId,
        number: u64,
    },
    /// Answered with [`Event::Yielded`].
    Yield {
        node: NodeId,
        order: Yield,
    },
    FailedOver(FailoverDone),
    /// The map that proxies and watchers are to have.
    Broadcast(Box<ClusterMap>),
    Reply {
        request: RequestId,
        /// `Err`: one line for the operator, without an error code.
        answer: Result<Box<Answer>, String>,
    },
    /// So many further nodes are missing; only when a starter is able.
    AskForNodes(u32),
    Moved(MoveDone),
    Log {
        level: Level,
        text: String,
    },
}
