//! The command table: one row a command, all its facts in one place.
//!
//! `table.rs` holds the rows, `spec.rs` what a row's columns mean, `lookup.rs` finds a row by the
//! name that a client sent, `keys.rs` finds a request's keys. The store builds its dispatch from the rows'
//! last column, the proxy its routing and its own local commands from the one before.

pub mod spec;

pub use spec::{
    BeginSearch, Categories, CommandSpec, FindKeys, Flags, Home, KeyFlags, KeySpec, Merge, Route,
};
