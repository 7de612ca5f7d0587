//! How a node's replicas follow it, and how it follows its primary: the heart of it, without sockets.
//!
//! ```text
//! primary: journal ──▶ source.rs ── frame.rs ──▶ upstream.rs ──▶ apply.rs: the replica's data, and its copy of the journal
//!             acknowledged: followers.rs ◀───────────┘
//! ```
//! `followers.rs` knows who follows this node and how far each has come, `roles.rs` what a change of role is.

mod apply;
pub mod followers;
pub mod frame;
mod report;
pub mod roles;
pub mod source;
#[cfg(test)]
mod tests;
pub mod upstream;

pub use followers::{Follower, Followers, LinkId};
use larder_wire::Offset;
pub use roles::Lost;
pub use upstream::WantedLink;

use crate::clock::Clock;
use crate::node::Node;

/// What a node knows of replication.
#[derive(Default)]
pub struct Replication {
    pub followers: Followers,
    pub(crate) outgoing: Vec<source::Outgoing>,
    pub(crate) upstream: upstream::Upstream,
    /// This replica was a primary, and has followed nobody since.
    pub(crate) was_primary: bool,
    /// When, and what; until the shell has said so.
    pub(crate) lost: Vec<(u64, Lost)>,
}

impl Node {
    /// Something came from a replica: what it has, and which ping it answers.
    pub fn follower_heard(
        &mut self,
        link: LinkId,
        acked: Offset,
        ping_sent_at_ms: Option<u64>,
        clock: Clock,
    ) {
        let followers = &mut self.replication.followers;
        if followers.heard(link, acked, ping_sent_at_ms, clock.mono_ms) {
            self.acked_advanced(clock);
        }
    }

    /// A replica has on its disk all before `synced`.
    pub fn follower_synced(&mut self, link: LinkId, synced: Offset) {
        self.replication.followers.synced(link, synced);
        self.serve_waits_for_copies();
    }

    /// A replica has more of the journal than before: what waits for that looks again.
    pub(crate) fn acked_advanced(&mut self, _clock: Clock) {
        self.settle_acked();
        self.serve_waits_for_copies();
        if self.guard.yields.held().is_some() {
            self.release();
        }
    }
}
