//! The ground that everything stands on: ids, slots, slot sets, the cluster map, error replies,
//! RESP parse and write, the command table and the words of the control protocol.
//!
//! Pure: no I/O, no clock, no randomness, no threads.
#![forbid(unsafe_code)]

pub mod backup;
pub mod command;
pub mod control;
mod crc16;
pub mod float;
pub mod forwarding;
pub mod glob;
pub mod id;
pub mod long_double;
pub mod map;
pub mod refusal;
pub mod replication;
pub mod resp;
pub mod slot;
pub mod slot_set;
pub mod trust;

pub use id::{Attempt, Epoch, History, NodeId, Offset, ShardId, UnixMillis};
pub use map::{ClusterMap, NodeEntry, Role, ShardEntry};
pub use refusal::Refusal;
pub use slot::{SLOT_COUNT, Slot, slot_of};
pub use slot_set::SlotSet;
pub use trust::Secret;
