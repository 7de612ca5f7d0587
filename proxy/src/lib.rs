//! The proxy: any client, one endpoint. It routes each command to the node that owns its slot, and deals with
//! slots that move, nodes that are away and commands that span nodes, so that the cluster looks like one Redis.
//!
//! ```text
//! accept (control thread) ──▶ worker threads: session ─▶ Switch ─▶ upstream ─▶ nodes
//! map source (control thread) ──▶ the slot map, to every worker
//! ```
//!
//! Knows the map and the commands' facts; never the store, the engine or the topology's decisions.
#![forbid(unsafe_code)]

mod accept;
mod foreign_map;
mod limits;
mod local;
mod metrics;
mod registry;
mod session;
mod shared;
mod slab;
mod source;
mod start;
mod switch;
mod turning;
mod upstream;
mod worker;

pub use metrics::DECLARED as METRICS;
pub use source::MapSource;
pub use start::{Handle, ProxyConfig, StartError, start};
