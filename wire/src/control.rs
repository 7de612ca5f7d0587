//! The control protocol: what larder processes say to one another, over RESP.
//!
//! 1. Every internal connection opens with `LARDER HELLO <version> <secret> <peer>`, answered with
//!    the JSON of a [`Welcome`]; or an ordinary client shows the secret with `AUTH larder <secret>`.
//!    Anything else of this page from a connection that has done neither gets
//!    [`Refusal::CONTROL_REFUSED`](crate::Refusal::CONTROL_REFUSED).
//! 2. A message is `LARDER <VERB> [arguments]`; bodies are JSON in one bulk string, so that a neighbour one
//!    release apart passes over fields that it does not know. Replies are `+OK`, a bulk string of
//!    JSON, or an error whose code says what is meant.
//!
//! ```text
//! node → topology   JOIN <NodeJoin>          registers, repeated every second as a sign of life
//! proxy → topology  JOIN <ProxyJoin>         the same
//! proxy → topology  WATCH                    bulk strings of ClusterMap: the present one, then each change
//! topology → node   MAP <MapPush>            +OK · -STALE <epoch> · -LETGO <attempt>
//! topology → node   IMPORT <Import>          +OK; the node asks the source for a feed
//! topology → node   AWAIT <attempt>          answered once the import is Ready, Failed or unknown: JSON of ImportState
//! topology → node   ABORT <attempt>          +OK, always, on source and on target: the attempt is void
//! topology → node   STATE                    JSON of NodeState
//! node → node       FEED <FeedAsk>           the connection becomes a feed
//!                   REPLICATE, FENCE, UNFENCE, YIELD: replication.rs
//! backup → node     HOLD, SNAPSHOT: backup.rs
//! any → topology    whatever needs the leader, said to one that stands by: -NOTLEADER <host:port of the leader, or ?>
//! operator → topology (or a proxy, which passes it on)
//!                   STATUS [JSON] · RESHARD SHARDS n [DRYRUN] [JSON] · MOVE SLOTS a-b TO node [DRYRUN] [JSON]
//!                   REBALANCE [DRYRUN] [JSON] · MOVES [JSON]
//! importer → topology and proxies   FORWARD …    as `forwarding.rs` has it
//! ```
//!
//! The handover of a move, step by step (the reason for `-LETGO`):
//! 1. The source has sent everything and holds writes of the slots; the target confirms: Ready.
//! 2. The topology records the map with epoch+1, then pushes it to the **source first**, naming the attempt.
//! 3. A source that still holds takes the map: from that moment it does not own the slots. A source that has let go
//!    (its hold is bounded) answers `-LETGO`; the topology records epoch+2, which gives the slots back, before anyone else has
//!    seen epoch+1.
//! 4. Only after the source's `+OK` is the map pushed to the target and to everyone else.
//!    The source also passes it on over the feed, so that the slots have an owner even if the topology dies in between.
//! 5. The source keeps the keys, unseen, and names the attempt in its state until `ABORT` says that it is over, or a later map comes: when its `+OK` is lost and a
//!    failover gives the slots back to its shard, they are what goes on.
//!
//! In `safe` the target is Ready when a replica of its own, in step, has everything up to the cut, and it acknowledges of the feed no more than such a replica has.
//!
//! Attempt ids only grow, and a connection may outlive what it was opened for. So IMPORT and FEED change something
//! once an attempt: said again they change nothing, and an attempt older than one that the node has on the same slots
//! comes too late and is refused. Without this rule a late IMPORT would throw away what a newer one has ready.

use serde::{Deserialize, Serialize};

use crate::Refusal;
use crate::id::{Attempt, Epoch, NodeId, Offset};
use crate::map::{ClusterMap, Role};
use crate::replication::{Place, ReplicationState};
use crate::slot_set::SlotSet;

/// The version this build speaks, and the oldest that it understands.
pub const PROTOCOL_VERSION: u32 = 1;
pub const PROTOCOL_VERSION_OLDEST: u32 = 1;

/// The user whose password is the cluster's secret, for operators with an ordinary client.
pub const OPERATOR_USER: &str = "larder";

/// Longest hold of a move in milliseconds: past it the source lets go.
pub const HOLD_MS_MAX: u64 = 1000;

/// Who opens an internal connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Peer {
    Node,
    Proxy,
    Topology,
    Operator,
}

impl Peer {
    pub const fn word(self) -> &'static str {
        match self {
            Peer::Node => "node",
            Peer::Proxy => "proxy",
            Peer::Topology => "topology",
            Peer::Operator => "operator",
        }
    }

    pub fn from_word(word: &[u8]) -> Option<Peer> {
        [Peer::Node, Peer::Proxy, Peer::Topology, Peer::Operator]
            .into_iter()
            .find(|peer| word.eq_ignore_ascii_case(peer.word().as_bytes()))
    }
}

/// The answer to `LARDER HELLO`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    pub version: u32,
    pub server: Peer,
    pub release: String,
    /// Said by a topology that does not lead. It refuses whatever needs the leader with [`not_leader`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standby: Option<Standby>,
}

/// Of several topologies one leads; the others stand by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standby {
    /// `host:port` of the one that leads, as far as is known.
    #[serde(default)]
    pub leader: Option<String>,
}

/// The code of [`not_leader`].
pub const NOT_LEADER: &str = "NOTLEADER";

/// The refusal of a topology that stands by: its second word is the leader's `host:port`, `?` while none is known.
pub fn not_leader(leader: Option<&str>) -> Refusal {
    Refusal::new(match leader {
        Some(addr) => format!("{NOT_LEADER} {addr} leads, this topology stands by (ask that one)"),
        None => format!(
            "{NOT_LEADER} ? no topology leads at the moment, this one stands by (ask again shortly)"
        ),
    })
}

/// A node registers with the topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeJoin {
    pub id: NodeId,
    /// Differs each time the node's process starts: a node that restarted has lost its memory.
    pub run_id: NodeId,
    /// `host:port` of its RESP port, as others reach it.
    pub addr: String,
    /// `host:port` of its process's HTTP port, for Prometheus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Bytes; 0 is no limit.
    #[serde(default)]
    pub maxmemory: u64,
    /// It has loaded its data from files of its own, up to this place: its memory is not lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Place>,
    pub release: String,
}

/// A proxy registers with the topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyJoin {
    pub id: NodeId,
    pub addr: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    pub release: String,
}

/// A map, and the attempts whose slots it hands over from the node that it is pushed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapPush {
    pub map: ClusterMap,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handovers: Vec<Attempt>,
    /// The planned failover by which the node that it is pushed to stops being a primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yields: Option<u64>,
}

/// The target of a move is told to take `slots` from `source`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    pub attempt: Attempt,
    pub slots: SlotSet,
    pub source: NodeId,
    /// `host:port` of the source's RESP port.
    pub source_addr: String,
}

/// A target asks its source for the feed of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedAsk {
    pub attempt: Attempt,
    pub slots: SlotSet,
    pub target: NodeId,
}

/// How far a move is, as its target sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "phase")]
pub enum ImportPhase {
    /// Keys are coming in.
    Copying,
    /// All is here up to `offset` of the source's stream, and the source holds.
    Ready { offset: Offset },
    /// The target has dropped what it took.
    Failed { reason: String },
    /// This node knows of no such attempt.
    Unknown,
}

/// One import of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportState {
    pub attempt: Attempt,
    #[serde(flatten)]
    pub phase: ImportPhase,
    /// Keys and bytes taken so far, slots walked to their end.
    #[serde(default)]
    pub keys: u64,
    #[serde(default)]
    pub bytes: u64,
    #[serde(default)]
    pub slots_done: u32,
}

/// What a node says of itself: the topology's probe, and what `status` and the scaling signals are made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    pub id: NodeId,
    pub run_id: NodeId,
    pub epoch: Epoch,
    pub role: Role,
    pub slots: SlotSet,
    pub keys: u64,
    /// Bytes.
    pub used_memory: u64,
    /// Bytes; 0 is no limit.
    pub maxmemory: u64,
    /// Commands executed since the node started.
    pub commands: u64,
    /// CPU time of the node's thread since it started, in microseconds.
    pub cpu_us: u64,
    pub clients: u64,
    /// Milliseconds since the node started, by a clock that never steps.
    pub uptime_ms: u64,
    #[serde(default)]
    pub imports: Vec<ImportState>,
    /// Keys and bytes per slot asked for by moves under way are summed by the source: attempts it feeds.
    #[serde(default)]
    pub feeds: Vec<FeedState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<ReplicationState>,
}

/// One feed that a node serves as the source of a move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedState {
    pub attempt: Attempt,
    /// Keys in the slots when the feed began, and sent so far.
    pub keys_total: u64,
    pub keys_sent: u64,
    pub bytes_sent: u64,
    /// True while the source holds writes of these slots.
    pub holding: bool,
}
