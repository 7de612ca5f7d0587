//! Lua scripts and functions, as Redis 7.0 has them.
//!
//! ```text
//! exec/script.rs, exec/function.rs      the commands
//!            │ Scripts, Libraries: what is known by name
//!            ▼
//! run.rs     one execution: starts it, carries out the commands that it calls, goes on with it
//!            │ Ask / Answer
//!            ▼
//! machine.rs a coroutine ── host.rs: the Lua state, redis.* ── prelude.lua: the globals that scripts see
//!                           api.rs, cjson, cmsgpack, struct, bit: the libraries
//! ```
//!
//! Why `mlua` and `corosensei`: docs/decisions/scripts.md.

mod api;
mod args;
mod bit;
mod cjson;
mod cmsgpack;
mod convert;
pub(crate) mod flags;
mod host;
pub(crate) mod library;
pub(crate) mod machine;
pub(crate) mod mail;
mod number;
mod raise;
mod random;
pub(crate) mod run;
pub(crate) mod scripts;
pub(crate) mod sha1;
mod struct_;
#[cfg(test)]
mod tests;

pub(crate) use scripts::Scripts;
