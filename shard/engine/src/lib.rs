//! The engine: ownership, check → execute → effects → reply, transactions, feeds.
//!
//! Pure: no sockets, no clock, no randomness but parameters; above the store, below the shell that moves bytes.
//!
//! ```text
//! shell ── request, clock ──▶ Node::call ──▶ admit (ownership) ──▶ exec (store or engine) ──▶ reply
//!                                                 │ held                    │ effects
//!                                                 ▼                         ▼
//!                                         called again later         watches, feeds
//! ```
#![forbid(unsafe_code)]

pub mod access;
pub mod acl;
pub mod ahead;
pub mod append;
pub mod backup;
mod blocked;
pub mod call;
pub mod client;
pub mod clock;
pub mod config;
pub mod dispatch;
pub mod exec;
pub mod feed;
pub mod follow;
mod guard;
pub mod journal;
pub mod limits;
pub mod loading;
mod monitor;
pub mod node;
mod notify;
mod observe;
pub mod ownership;
pub mod pubsub;
pub mod replication;
mod restored;
pub mod saving;
mod script;
pub mod session;
mod sha1;
pub mod snapshot;
pub mod stats;
mod take_map;
mod timer;
pub mod timing;
pub mod tracking;
pub mod turn;
mod walk;

pub use client::Client;
pub use clock::Clock;
pub use config::Parameter;
pub use guard::Answer;
pub use node::{Machine, Node, NodeSettings};
pub use session::Session;
pub use stats::Stats;
pub use turn::Outcome;
