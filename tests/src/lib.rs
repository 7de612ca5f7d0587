//! What the tests stand on: servers started as processes and ended by their handle, a small
//! synchronous RESP client, replies that can be compared.
//!
//! The tests themselves are in `tests/tests/`. Every server listens on a free port of 127.0.0.1 and
//! works in a folder of its own that goes away with it.
#![forbid(unsafe_code)]

pub mod chance;
pub mod client;
pub mod cluster;
pub mod differential;
pub mod etcd;
pub mod faults;
pub mod http;
pub mod importer;
pub mod kept;
pub mod linear;
pub mod process;
pub mod prometheus;
pub mod redis;
pub mod redis_suite;
pub mod relay;
pub mod reply;
pub mod small_disk;
pub mod standalone;
pub mod talk;
pub mod topologies;
pub mod up;
pub mod watched;
pub mod workload;

pub use chance::Chance;
pub use client::Client;
pub use cluster::Cluster;
pub use etcd::Etcd;
pub use importer::Importer;
pub use process::{Process, free_port};
pub use prometheus::Prometheus;
pub use redis::RedisServer;
pub use relay::Relay;
pub use reply::Reply;
pub use topologies::Topologies;
pub use up::Up;
