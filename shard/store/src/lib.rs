//! The store: values, the keyspace of a slot, expiry, eviction, walks, effects and `exec/`, one
//! function a command.
//!
//! Knows no sockets, threads or clock: the time is a parameter.
#![deny(unsafe_code)]

pub mod call;
pub mod collection;
pub mod exec;
pub mod key;
pub mod keyspace;
pub mod number;
pub mod random;
pub mod value;

pub use call::{Call, Effects, Exec};
pub use key::Key;
pub use keyspace::{EvictionPolicy, Gone, Keyspace, KeyspaceConfig};
pub use random::Random;
pub use value::{Collection, Kind, StringRef, Value, ValueRef, ValueType};
