//! The store: values, the keyspace of a slot, expiry, eviction, walks, effects and `exec/`, one
//! function a command.
//!
//! Knows no sockets, threads or clock: the time is a parameter.
#![deny(unsafe_code)]

pub mod call;
pub mod exec;
pub mod keyspace;

pub use call::{Call, Effects, Exec};
pub use keyspace::Keyspace;
