//! What a node says of replication: to the topology, and to whoever asks ROLE.

use larder_wire::replication::{Follower, ReplicationState};

use crate::clock::Clock;
use crate::node::Node;

impl Node {
    /// `None`: the node neither follows nor is followed, and keeps no journal.
    pub fn replication_state(&self, clock: Clock) -> Option<ReplicationState> {
        let followers = self.replication.followers.iter().map(|it| Follower {
            node: it.node,
            phase: it.phase,
            offset: it.acked,
            silent_ms: clock.mono_ms.saturating_sub(it.last_heard_ms),
        });
        let state = ReplicationState {
            place: self.journal.place(),
            follows: self.following(clock),
            followers: followers.collect(),
            fence: self.fence(),
            lost_writes: self.stats.lost_writes.get(),
        };
        let any = state.place.is_some() || state.follows.is_some() || state.lost_writes > 0;
        any.then_some(state)
    }
}
