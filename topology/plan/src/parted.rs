//! A primary that lives, and reaches none of the replicas whose word it needs, while the topology reaches all of them.
//!
//! In `safe` it answers nothing, however well it is, and a replica could: the others reach that one, perhaps. What
//! decides is the primary's own word that it has heard nobody for [`PARTED_SILENT_MS`], said over and over for
//! [`PARTED_MS`]: what they hear of it does not help it. Then the ordinary failover begins, in which the primary is told
//! (`failover.rs`).
//!
//! No shard is shifted about in vain: there must be two replicas, so that the successor has somebody to reach, all that
//! a failover waits for must answer the topology, and a successor that has not reached anybody either stays for
//! [`PARTED_REST_MS`].

use larder_wire::NodeId;
use larder_wire::ShardId;
use larder_wire::replication::{LinkPhase, ReplicationState, WriteMode};

use crate::step::Plan;
use crate::{PARTED_MS, PARTED_REST_MS, PARTED_SILENT_MS};

/// Whether a primary reaches anybody.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    primary: NodeId,
    /// Since when it is known to reach nobody.
    lost_since: Option<u64>,
    /// It is not replaced before.
    rests_until: u64,
}

/// What a primary and the replicas that it needs say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaches {
    Somebody,
    /// Nobody, and the topology reaches all.
    Nobody,
    Unknown,
}

impl Plan {
    /// Notes of every shard whether its primary reaches a replica.
    pub(crate) fn note_reach(&mut self) {
        let now = self.soft.now;
        let mut before = std::mem::take(&mut self.soft.reach);
        if self.state.map.writes != WriteMode::Safe {
            return;
        }
        for shard in self.state.map.shards() {
            let Some(primary) = shard.primary().map(|entry| entry.id) else {
                continue;
            };
            let known = before.remove(&shard.id);
            let successor = known.as_ref().is_some_and(|it| it.primary != primary);
            let mut reach = known.filter(|_| !successor).unwrap_or(Reach {
                primary,
                lost_since: None,
                rests_until: match successor {
                    true => now + PARTED_REST_MS,
                    false => 0,
                },
            });
            match self.reaches(shard.id, primary) {
                Reaches::Somebody => (reach.lost_since, reach.rests_until) = (None, 0),
                Reaches::Nobody => {
                    reach.lost_since.get_or_insert(now);
                }
                Reaches::Unknown => reach.lost_since = None,
            }
            self.soft.reach.insert(shard.id, reach);
        }
    }

    /// What is said of a primary that is to be replaced though it lives.
    pub(crate) fn why_parted(&self, shard: ShardId) -> Option<String> {
        let reach = self.soft.reach.get(&shard)?;
        let since = reach.lost_since?;
        let soft = self.soft.nodes.get(&reach.primary)?;
        // By what it said last: one that says nothing is silent, which is another matter.
        let said_for = soft.answered_at.saturating_sub(since);
        let due = said_for >= PARTED_MS && self.soft.now >= reach.rests_until;
        due.then(|| {
            let ms = said_for + PARTED_SILENT_MS;
            format!("it has heard none of its replicas for {ms} ms")
        })
    }

    /// A failover of a primary that lives came to nothing.
    pub(crate) fn rest_from_parting(&mut self, shard: ShardId) {
        let until = self.soft.now + PARTED_REST_MS;
        if let Some(reach) = self.soft.reach.get_mut(&shard) {
            (reach.lost_since, reach.rests_until) = (None, until);
        }
    }

    fn reaches(&self, shard: ShardId, primary: NodeId) -> Reaches {
        let Some(theirs) = self.says(primary) else {
            return Reaches::Unknown;
        };
        let hears = theirs.followers.iter().any(|follower| {
            follower.phase == LinkPhase::Streaming && follower.silent_ms < PARTED_SILENT_MS
        });
        if hears {
            return Reaches::Somebody;
        }
        let witnesses = self.state.maybe_in_step(shard);
        let ready = |id: &NodeId| {
            let said = self.says(*id);
            said.is_some_and(|said| {
                let loads = said.follows.as_ref();
                let loads = loads.is_some_and(|it| it.phase == LinkPhase::Full);
                said.place.is_some() && !loads
            })
        };
        let replicas = self.state.shard(shard).into_iter();
        let replicas = replicas.flat_map(|shard| shard.replicas());
        let answer = replicas.filter(|entry| self.says(entry.id).is_some());
        match !witnesses.is_empty() && witnesses.iter().all(ready) && answer.count() > 1 {
            true => Reaches::Nobody,
            false => Reaches::Unknown,
        }
    }

    /// The latest word of a node that the topology reaches.
    fn says(&self, id: NodeId) -> Option<&ReplicationState> {
        let soft = self.soft.nodes.get(&id)?;
        let state = soft.state.as_ref().filter(|_| soft.reachable)?;
        let fresh = !self.is_silent(id);
        state.replication.as_ref().filter(|_| fresh)
    }
}
