//! What a backup and the primaries say to one another, over control connections.
//!
//! ```text
//! backup → node   HOLD <HoldAsk>           JSON of Held · -STALE <epoch>; writes of the node's slots wait, for so long at most
//! backup → node   SNAPSHOT <SnapshotAsk>   JSON of SnapshotBegun · -STALE <epoch> · -LETGO; then the connection is a stream
//! ```
//!
//! The stream of a snapshot is RESP. Bulk strings are, one after the other, the bytes of an RDB file; an integer: keys in it so far; `+ANEW`: what came so far is void, the file begins
//! again; `-VOID <reason>`: so is all of it, and nothing follows; an array of `END` and the JSON of a [`SnapshotEnd`]: that was the file. A stream that ends
//! otherwise was cut, and what came of it is no file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{Epoch, UnixMillis};
use crate::slot_set::SlotSet;

/// A backup makes writes of a primary's slots wait, so that all primaries can be of one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldAsk {
    /// The map by which the node owns these slots, exactly.
    pub epoch: Epoch,
    pub slots: SlotSet,
    /// Milliseconds, at most.
    pub hold_ms: u64,
}

/// Writes wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// What [`SnapshotAsk::hold`] names.
    pub hold: u64,
}

/// A backup asks a primary for what it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotAsk {
    /// The map by which the node owns these slots, exactly.
    pub epoch: Epoch,
    pub slots: SlotSet,
    /// The snapshot is of a moment within this hold, and ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<u64>,
}

/// A snapshot has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotBegun {
    /// Its moment by the node's clock.
    pub at: UnixMillis,
    /// Keys of the node, about, and bytes of its memory.
    pub keys: u64,
    pub used_memory: u64,
    /// The users' rules, each as `ACL LIST` has it.
    #[serde(default)]
    pub users: Vec<String>,
    /// Users who are not among them, because their rules are no UTF-8.
    #[serde(default)]
    pub users_left_out: u64,
    /// Settings that differ from what a node starts with, without those of its machine.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Libraries of functions, which are in the file.
    #[serde(default)]
    pub libraries: u64,
}

/// All of a snapshot was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotEnd {
    pub bytes: u64,
    pub keys: u64,
    /// Its moment: later than it began when keys changed place in bulk meanwhile.
    pub at: UnixMillis,
}
