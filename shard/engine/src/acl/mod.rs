//! Users, and what each may do (`ACL`).
//!
//! A connection holds its [`User`]; a change of a user's rules changes them for all its connections at once. The default user
//! with all rights costs each command one branch ([`User::may_all`]). Control commands (`LARDER …`) are none of the users' business:
//! they go by the cluster's secret alone, and are absent from every rule.
//!
//! ```text
//! rules.rs ── one rule ──▶ selector.rs, user.rs ◀── may it? ── check.rs
//!                              │                                 │ no
//!                describe.rs ◀─┴─▶ users.rs, file.rs          log.rs
//! ```

mod check;
mod describe;
mod file;
mod log;
mod redact;
mod rules;
mod selector;
mod user;
mod users;

pub use check::Denied;
pub use file::AclHost;
pub use log::{Context, Entry, Log, Reason};
pub use redact::is_secret;
pub use selector::{KeyPattern, Selector};
pub use user::{PasswordHash, Rules, Sanitize, User};
pub use users::{Acl, Removed};

use larder_wire::command::CommandId;

use crate::call::is_control;

/// The commands that rules are about: all but the control protocol.
fn commands() -> impl Iterator<Item = CommandId> {
    CommandId::ALL.iter().copied().filter(|id| !is_control(*id))
}

/// White space as C has it, and the zero byte: neither belongs in a name or a pattern.
fn has_space_or_zero(text: &[u8]) -> bool {
    text.iter()
        .any(|byte| matches!(byte, b' ' | b'\t'..=b'\r' | 0))
}

/// What is left of a text up to its first zero byte.
fn until_zero(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| *byte == 0);
    &text[..end.unwrap_or(text.len())]
}
