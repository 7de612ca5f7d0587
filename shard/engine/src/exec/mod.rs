//! The engine's command functions, one file a family.

pub mod acl;
pub mod blocking;
pub mod client;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod control;
pub mod databases;
pub mod debug;
pub mod function;
pub mod info;
pub mod latency;
pub mod memory;
pub mod pubsub;
pub mod replication;
pub mod save;
pub mod script;
pub mod server;
pub mod slowlog;
pub mod tracking;
pub mod transaction;

pub use crate::follow;
pub(crate) use crate::guard::{fence, waits, yielding};
