//! WAIT, and how many good replicas a write needs (`min-replicas-to-write`), as Redis has them.

use larder_wire::replication::LinkPhase;
use larder_wire::{Offset, Refusal, Role};

use crate::config::Parameter;
use crate::node::Node;
use crate::turn::{Outcome, Turn};

/// What a client that sent WAIT waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ForReplicas {
    pub(crate) place: Offset,
    pub(crate) count: usize,
}

const ON_REPLICA: Refusal = Refusal::fixed(
    "ERR WAIT cannot be used with replica instances. Please also note that writes to replicas are just local and are not propagated.",
);

/// How many replicas have the last write of this connection.
pub(crate) fn wait(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if turn.node.ownership.role() == Role::Replica {
        return Err(ON_REPLICA);
    }
    let wanted = turn.arg_int(1)?;
    let timeout_ms = crate::exec::blocking::timeout_of_ms(turn, 2)?;
    let place = turn.session.client.wrote_up_to.get();
    let have = turn.node.replicas_with(place);
    if have as i64 >= wanted || !turn.session.may_wait() {
        return turn.int(have as i64);
    }
    let wait = ForReplicas {
        place,
        count: wanted as usize,
    };
    turn.node.block_for_replicas(
        turn.session,
        (turn.id, turn.request),
        wait,
        timeout_ms,
        turn.clock,
    );
    Ok(Outcome::Blocked)
}

impl Node {
    pub(crate) fn replicas_with(&self, place: Offset) -> usize {
        self.replication.followers.count_that_have(place)
    }

    /// Replicas that follow and were heard of within `min-replicas-max-lag` seconds.
    pub(crate) fn good_replicas(&self) -> usize {
        let now_ms = self.guard.seen_ms;
        let lag_ms_max = self.config.int(Parameter::MinReplicasMaxLag).max(0) as u64 * 1000;
        let followers = self.replication.followers.iter();
        followers
            .filter(|it| it.phase == LinkPhase::Streaming)
            .filter(|it| now_ms.saturating_sub(it.last_heard_ms) <= lag_ms_max)
            .count()
    }

    /// Whether enough of them are there.
    pub(crate) fn settle_good_replicas(&mut self) {
        let wanted = self.config.int(Parameter::MinReplicasToWrite);
        let watched = wanted > 0 && self.config.int(Parameter::MinReplicasMaxLag) > 0;
        let lacks = watched
            && self.ownership.role() == Role::Primary
            && (self.good_replicas() as i64) < wanted;
        if lacks != self.lacks_replicas {
            self.lacks_replicas = lacks;
            self.settle_write_refusal();
        }
    }
}
