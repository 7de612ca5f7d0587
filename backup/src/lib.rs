//! Backups: one consistent set of a whole cluster, in a folder or an object store, and the way back into a cluster of any shape.
//!
//! ```text
//! primaries ──hold, snapshot, stream──▶ take ──sums, seal──▶ place: shard-1.rdb … cluster.json, and at last manifest.json
//! place ──read: sums, seal, RDB──▶ verify, restore ──by slot──▶ primaries
//! schedule: when one is due, and which are surplus
//! ```
//!
//! `manifest`, `schedule` and `seal` are pure; the others move bytes. A set without its manifest is none.
//! This process does the transfer: nodes send RDB files over control connections and know nothing of places.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod manifest;
pub mod metrics;
pub mod place;
pub mod read;
mod receive;
mod requests;
pub mod restore;
pub mod schedule;
pub mod seal;
mod sender;
pub mod service;
pub mod sums;
pub mod take;
pub mod tally;

pub use manifest::{Manifest, SetName};
pub use place::Place;
pub use seal::Key;
pub use tally::Tally;
