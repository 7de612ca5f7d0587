//! Copying in from a live Redis or Valkey: Larder poses as a replica of one server, or of every primary of a cluster, takes the data
//! of one moment, follows what is written after, and hands the clients over.
//!
//! ```text
//! source ──PSYNC──▶ psync ──RDB──▶ load ────────────┐
//!   ▲                 └──commands──▶ translate ──────┼──▶ nodes ──▶ Larder's nodes, by the slot map
//!   └── DUMP of keys in doubt ◀── ledger ◀─refusals──┘
//! control port ◀── larder import status | cutover | abort
//! ```
//!
//! `ledger`, `translate` and `pieces` are pure. Nothing here decides about the slot map.
#![forbid(unsafe_code)]

mod compare;
mod content;
mod control;
mod cutover;
mod discover;
mod empty;
mod fetch;
mod follow;
mod ledger;
mod link;
mod load;
pub mod metrics;
mod nodes;
mod pieces;
mod psync;
mod report;
mod run;
mod state_file;
mod translate;
mod verify;
mod watch;

pub use ledger::Counts;
pub use report::{Phase, Report, SourceReport, State, Verified};
pub use run::{End, ImportConfig, Onto, run};
pub use verify::Extent;
