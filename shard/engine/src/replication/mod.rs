//! How a node's replicas follow it, and how it follows its primary: the heart of it, without sockets.
//!
//! `followers.rs` knows who follows this node and how far each has come.

pub mod followers;

pub use followers::{Follower, Followers, LinkId};
use larder_wire::Offset;

use crate::clock::Clock;
use crate::node::Node;

/// What a node knows of replication.
#[derive(Default)]
pub struct Replication {
    pub followers: Followers,
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

    /// A replica has more of the journal than before: what waits for that looks again.
    pub(crate) fn acked_advanced(&mut self, _clock: Clock) {
        self.settle_acked();
        self.serve_waits_for_replicas();
        if self.guard.yields.held().is_some() {
            self.release();
        }
    }
}
