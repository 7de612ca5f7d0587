//! The topology's shell: sockets, the store of record, HTTP and threads around the plan.
//!
//! ```text
//! operators, nodes, proxies ──RESP──▶ session ──▶ core ──▶ larder_plan::step ──▶ actions
//!                                                  ▲                               │
//!              store thread (fsync) ◀──Record──────┤◀── link to each node ◀── push, import, abort
//!                                                  └─── watch: maps to proxies ◀── broadcast
//! ```
//!
//! One thread, one tokio runtime; the store of record writes on a thread of its own, so that an fsync holds up
//! nobody. What is decided, and when, is the plan's alone.
//!
//! With the record in etcd there are several such processes, and one leads: `leadership` decides (pure), `election` asks
//! etcd, `service` lives from term to term, `authority` is asked before anything is done in the leader's name.
#![forbid(unsafe_code)]

mod authority;
mod awaiting;
mod cluster_replies;
mod core;
mod door;
mod election;
mod leadership;
mod link;
mod metrics;
mod orders;
mod service;
mod session;
mod start;
pub mod store;
mod text;
mod web;

pub use metrics::DECLARED as METRICS;
pub use start::{Flags, Handle, NodeStarter, StartError, TopologyConfig, start};
pub use store::EtcdAddress;
pub use text::{
    failover_text, lost_shards_text, moves_text, order_text, replicas_text, status_text,
    writes_text,
};

/// How often nodes are probed, in milliseconds; in a cluster with replicas, the second; while slots move or a replica
/// is not in step, the third.
pub const PROBE_MS: u64 = 500;
pub const PROBE_REPLICATED_MS: u64 = 200;
pub const PROBE_MOVING_MS: u64 = 100;
/// How often the plan is told the time, in milliseconds.
pub const TICK_MS: u64 = 50;
/// Longest wait for a node's answer, in milliseconds; where somebody may take its place, the second.
pub const ANSWER_MS_MAX: u64 = 2_000;
pub const DIAL_ANSWER_MS_MAX: u64 = 600;
/// How long one AWAIT is waited for before it is said again, in milliseconds.
pub const AWAIT_MS_MAX: u64 = 60_000;
/// Wait before a lost node is dialled again, first and longest, in milliseconds.
pub const DIAL_MS_MIN: u64 = 20;
pub const DIAL_MS_MAX: u64 = 1_000;
/// Connections to the RESP port at most.
pub const SESSIONS_MAX: usize = 10_000;
/// Longest request on the RESP port, in bytes.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// Unsent replies of one connection at most, in bytes: one that does not read is cut off.
pub const OUT_BYTES_MAX: usize = 16 * 1024 * 1024;
