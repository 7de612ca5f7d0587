//! The store: values, the keyspace of a slot, expiry, eviction, walks, effects and `exec/`, one
//! function a command.
//!
//! Knows no sockets, threads or clock: the time is a parameter.
#![deny(unsafe_code)]

pub mod call;
pub mod collection;
pub mod databases;
pub mod db;
mod defragment;
mod entry;
pub mod events;
mod evict;
pub mod eviction;
pub mod exec;
mod expiry;
mod field_expiry;
pub mod float;
mod geohash;
mod hyperloglog;
pub mod key;
mod key_hash;
pub mod keyspace;
mod lrfu;
pub mod number;
pub mod random;
pub mod rdb;
mod reload;
mod resident;
pub mod size_class;
pub mod strings;
mod table;
#[cfg(test)]
mod tests;
mod trash;
pub mod value;
mod walk;

pub use call::{Call, Effects, Exec};
pub use databases::Databases;
pub use db::{DB_COUNT, Db};
pub use entry::Tray;
pub use events::{Classes, Event, Events};
pub use evict::Room;
pub use eviction::{EvictionPolicy, EvictionTuning};
pub use expiry::Swept;
pub use field_expiry::GoneFields;
pub use key::{Key, KeyPlace};
pub use keyspace::{Gone, Keyspace, KeyspaceConfig, Stats, WARM_KEYS_MAX};
pub use random::Random;
pub use reload::{Chunks, Description};
pub use strings::{SetExpiry, Store};
pub use value::{Apart, Collection, Kind, StringRef, Value, ValueRef, ValueType};
pub use walk::{Captured, Item, Place};
