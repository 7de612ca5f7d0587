//! Differential testing: the same random commands on a real redis-server and on a larder node, every
//! reply compared.
//!
//! `templates.rs` says which commands there are and how their arguments look, `grammar.rs` makes requests
//! of a template, `waiting.rs` has one client wait for another, `case.rs` makes a list of steps from a seed, `compare.rs` knows which replies may
//! differ and how, `run.rs` runs a case on both servers and shortens one that fails.

pub mod case;
pub mod compare;
pub mod grammar;
pub mod run;
pub mod templates;
pub mod waiting;

/// One request's arguments.
pub type Args = Vec<Vec<u8>>;
