//! How replicas follow a primary and how one of them takes its place: messages, times and the rules that they keep.
//!
//! ```text
//! replica → primary   REPLICATE <ReplicateAsk>   the connection becomes a stream: all data first (`LARDER FULL`) or only what is
//!                                                missing (`LARDER CONTINUE`), then the journal as it grows
//! topology → node     FENCE <Fence>              JSON of Fenced: from then on it neither takes nor acknowledges anything of that primary;
//!                                                the primary itself serves nothing from then on
//! topology → node     UNFENCE <number>           +OK: the failover was called off
//! topology → node     YIELD <Yield>              a planned change: the primary holds its writes until `to` has them all.
//!                                                JSON of Yielded · an error: it does not hold (any more)
//! node → topology     JOIN <NodeJoin>            every RENEW_MS. `+OK` is a lease · -FENCED: joined, but no lease
//! ```
//!
//! **The journal.** A primary writes what every write did into one stream of bytes: commands as Redis sends them to its replicas (`SELECT`,
//! effects, `MULTI` … `EXEC` around what belongs together). A [`Place`] in it is a history and an offset. A replica keeps the same bytes
//! under the same history. A node that is promoted begins a history of its own at the offset that it has, and remembers where it left the one before:
//! whoever has less than that of the old history can go on with the new one; whoever has more has writes that nobody else has, keeps them in a file and starts over.
//!
//! **The lease.** A primary whose shard has replicas serves only while it has heard of the topology or of a replica that is in step: a `JOIN` or a ping
//! that it *sent* less than [`LEASE_MS`] ago was answered. The topology promotes another only when
//! 1. it has fenced every replica that is in step with the primary, and
//! 2. [`LEASE_MS`] and [`LEASE_MARGIN_MS`] have passed since it last granted the lease, and since each of those replicas last answered the primary;
//!    or the primary's process is known to be gone (its port is closed, or it has started again under another run id), or it has been fenced itself.
//!
//! In a cluster that writes `safe`, a primary answers only what a replica in step has, any one of them; rule 1 then means that no answer can leave the old primary
//! which the fenced do not know of, and of those the one that has most is promoted.
//!
//! **A primary parted from its replicas alone** answers nothing in `safe`, and lives. The topology, which reaches all, fences it like its replicas and promotes one of them.
//!
//! **In step** (`NodeEntry::in_step` in the map): the replica has once caught up with this primary since it was last told otherwise. Only replicas in step count for
//! `safe` writes and leases, and only they are promoted. The topology takes the mark away when a replica is silent or falls behind; it still counts the replica as possibly in step until the primary has
//! that map and, in `safe`, until another in step has all that the primary had then: the one that lost its mark may have been alone in acknowledging some of it.
//!
//! **A planned change** is a handover as of moves (`control.rs`): `YIELD` holds the writes and is answered when `to` has all; the map with epoch+1, which names the
//! failover in `MapPush::yields`, goes to the old primary first, which takes it only while it holds (`-LETGO` otherwise).

use serde::{Deserialize, Serialize};

use crate::id::{Epoch, History, NodeId, Offset, ShardId};

/// How long a primary serves after the last sign that it was heard of, in milliseconds.
pub const LEASE_MS: u64 = 1200;
/// What the topology waits beyond that, for clocks that do not run alike, in milliseconds.
pub const LEASE_MARGIN_MS: u64 = 120;
/// How often a node joins again and a primary pings its replicas, in milliseconds.
pub const RENEW_MS: u64 = 250;
/// A node that has answered nothing for this long is suspected, in milliseconds.
pub const SILENCE_MS: u64 = 1000;

/// When a write is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WriteMode {
    /// At once.
    #[default]
    Async,
    /// When a replica that is in step has it.
    Safe,
}

impl WriteMode {
    pub const fn word(self) -> &'static str {
        match self {
            WriteMode::Async => "async",
            WriteMode::Safe => "safe",
        }
    }

    pub fn from_word(word: &str) -> Option<WriteMode> {
        let modes = [WriteMode::Async, WriteMode::Safe];
        modes
            .into_iter()
            .find(|mode| word.eq_ignore_ascii_case(mode.word()))
    }
}

/// How much of which stream of effects a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    pub history: History,
    pub offset: Offset,
}

/// A replica asks its primary for the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicateAsk {
    pub node: NodeId,
    /// Of the map by which it is this primary's replica: a primary with an older one does not know yet that it is.
    pub epoch: Epoch,
    /// `None`: it has nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// The topology suspects a primary: its replicas are to let go of it, and where it is alive and parted from them, it is to serve no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// Numbers only grow; a fence with a number lower than one that was heard is refused. It lasts until a map with a higher epoch than
    /// `epoch` is taken, or `UNFENCE` with this number.
    pub number: u64,
    pub shard: ShardId,
    pub primary: NodeId,
    /// Of the map by which it is suspected.
    pub epoch: Epoch,
}

/// What a fenced node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fenced {
    pub number: u64,
    pub run_id: NodeId,
    /// `None`: nothing that could serve (it was never in step, or is loading all data anew).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Milliseconds since it last answered the primary in any way; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_ms_ago: Option<u64>,
}

/// A primary is to let a replica take its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Yield {
    pub number: u64,
    pub to: NodeId,
}

/// `to` has everything up to `place`, and writes are held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Yielded {
    pub number: u64,
    pub place: Place,
}

/// How a replica gets its data at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkPhase {
    /// No connection to the primary.
    Down,
    /// All data is coming in; what is here cannot serve.
    Full,
    /// The journal comes in as it grows.
    Streaming,
}

/// What a node says of replication, in its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicationState {
    /// The end of its journal. `None`: it keeps none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// On a replica: whom it follows, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Following>,
    /// On a primary: who follows it.
    #[serde(default)]
    pub followers: Vec<Follower>,
    /// The number of the fence that holds here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    /// Commands that this node had and its shard does not: kept in files since the process started.
    #[serde(default)]
    pub lost_writes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Following {
    pub primary: NodeId,
    pub phase: LinkPhase,
    /// Bytes of the primary's journal, as far as is known, that are not applied here.
    pub lag_bytes: u64,
    /// Milliseconds since the last byte from the primary.
    pub silent_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follower {
    pub node: NodeId,
    pub phase: LinkPhase,
    /// What it has acknowledged.
    pub offset: Offset,
    /// Milliseconds since it last acknowledged something.
    pub silent_ms: u64,
}
