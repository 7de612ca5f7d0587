//! The shell of nodes: threads, sockets, sessions, timers; joins the topology and shows metrics.
//!
//! One node is one thread:
//!
//! ```text
//! start ──▶ thread "node 7001": current-thread runtime + LocalSet
//!             ├─ accept loop ──▶ one task a connection: read → Node::call … → one write
//!             ├─ timers: expiry, freeing, deadlines, samples of the machine
//!             └─ join: LARDER JOIN to the topology every second
//! ```
//!
//! What a command means is known by the engine alone. State is `Rc<RefCell<..>>`, never borrowed across an await.
#![forbid(unsafe_code)]

mod acl_host;
mod append;
mod backup_stream;
mod clocks;
mod config;
mod connection;
mod feed_source;
mod feed_target;
mod identity;
mod join;
mod load;
mod machine;
pub mod metrics;
mod replicate_source;
mod replicate_target;
mod save;
mod shared;
mod stream_in;
mod stream_out;
mod thread;
mod timers;
mod waiting;

pub use config::{ShardConfig, StartError};
pub use thread::{Handle, NodeEnd, NodeInfo, start};
