//! The topology's decisions: events in, actions out. No I/O, no clock, no chance; time is a parameter.
//!
//! ```text
//!             ┌── absorb ── what happened (health, handover, moves)
//! step(event) ├── decide ── form, repair, hand over, cut moves, finish: changes the State
//!             ├── Record ── the State goes to the store of record, if it changed
//!             └── act ───── only while the State as it stands is recorded: pushes, imports, replies
//! ```
//!
//! What holds after every step (`State::check`, in debug builds and in the simulation):
//! 1. Once formed, every slot has exactly one owner in the settled map, never two, never none.
//! 2. The epoch only grows. A map with a given epoch has one content for ever.
//! 3. At most one handover (of slots, or of a shard by plan) is undecided; until its source has answered (or has lost its memory),
//!    nobody but the source is given the map of the handover.
//! 4. Attempt and shard ids are never used twice; a node feeds at most one attempt and imports at most one.
//! 5. Nothing that depends on a decision leaves before the decision is recorded.
#![forbid(unsafe_code)]

mod act;
pub mod balance;
mod event;
mod failover;
#[cfg(test)]
mod failover_stories;
mod form;
mod handover;
mod health;
mod lost;
#[cfg(test)]
mod lost_stories;
mod moves;
mod orders;
mod parted;
mod placement;
mod planned;
#[cfg(test)]
mod replica_stories;
mod replicas;
pub mod report;
#[cfg(test)]
mod restart_stories;
pub mod scale;
#[cfg(test)]
mod sim;
mod soft;
mod state;
mod step;
#[cfg(test)]
mod stories;
mod successor;
mod wishes;

pub use event::{
    Action, Answer, Event, FailoverDone, Level, MoveDone, Order, PushResult, RequestId,
};
pub use state::{
    AttemptRecord, Counts, Failover, FailoverKind, Finished, Handover, LostShards, Move, Node,
    Operation, OperationKind, Outcome, STATE_VERSION, Settings, State, StateError, Yielding,
};
pub use step::Plan;

/// Slots of one attempt at most: what is lost of a move when it fails.
pub const SLOTS_PER_MOVE_MAX: usize = 2048;
/// Shards of one cluster at most.
pub const SHARDS_MAX: u32 = 1000;
/// Replicas of one shard at most.
pub const REPLICAS_MAX: u32 = 8;
/// Longest wait for nodes whose data would be welcome, and cannot be demanded.
pub const LAST_WAIT_MS: u64 = 2_000;
/// Longest wait, in `async`, for nodes that may have files, or memory, where all others have nothing, or something old.
pub const EMPTY_WAIT_MS: u64 = 10_000;
/// Times that a primary is asked to yield before a planned failover is given up.
pub const YIELDS_MAX: u32 = 5;
/// A replica that was not heard of for this long is replaced, where there is a spare.
pub const REPLACE_MS: u64 = 60_000;
/// In `safe`, a primary that has heard none of its replicas for this long reaches none; one of which that is known for this
/// long is replaced, if the topology reaches all.
pub const PARTED_SILENT_MS: u64 = 600;
pub const PARTED_MS: u64 = 600;
/// Where that did not help, it is not done again for this long.
pub const PARTED_REST_MS: u64 = 10_000;
/// A shard whose every process has been gone for this long comes up empty, where that is wanted, unless another time is named.
pub const LOST_SHARD_WAIT_MS: u64 = 60_000;
/// A replica this close to its primary is in step; one in step that falls back further than the second is not. In bytes.
pub const STEP_LAG_BYTES_MAX: u64 = 1 << 20;
pub const STRAY_LAG_BYTES_MAX: u64 = 64 << 20;
/// First and longest wait before a failed attempt is tried again.
pub const RETRY_MS_MIN: u64 = 100;
pub const RETRY_MS_MAX: u64 = 5_000;
/// A push or an order to a node without an answer for this long is given up and said again.
pub const ANSWER_MS_MAX: u64 = 2_000;
/// An attempt whose figures stand still for this long is void.
pub const PROGRESS_MS_MAX: u64 = 20_000;
/// An operation that gets nowhere for this long counts as stalled: another may take its place.
pub const STALL_MS: u64 = 30_000;
/// Failures in a row after which an operation counts as stalled.
pub const STALL_FAILURES: u32 = 8;
/// A spare that nobody has heard of for this long is forgotten.
pub const SPARE_FORGET_MS: u64 = 600_000;
/// A proxy that has not joined again for this long is forgotten.
pub const PROXY_FORGET_MS: u64 = 15_000;
/// How often further nodes are asked for while an operation waits for them.
pub const ASK_AGAIN_MS: u64 = 5_000;
/// Finished operations that are remembered.
pub const FINISHED_MAX: usize = 16;
