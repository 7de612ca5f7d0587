//! The command table: one row a command, all its facts in one place.
//!
//! `table.rs` holds the rows, `spec.rs` what a row's columns mean, `lookup.rs` finds a row by the
//! name that a client sent, `keys.rs` finds a request's keys. The store builds its dispatch from the rows'
//! last column, the proxy its routing and its own local commands from the one before.

#[macro_use]
mod table;

mod arguments;
mod columns;
pub mod describe;
pub mod docs;
pub mod keys;
pub mod lookup;
mod registry;
pub mod spec;
mod syntax;

pub use lookup::{Found, lookup};
pub use registry::{CommandId, missing, spec, subcommands};
pub use spec::{
    BeginSearch, Categories, CommandSpec, FindKeys, Flags, Home, KeyFlags, KeySpec, Merge,
    PlainKeys, Route,
};
