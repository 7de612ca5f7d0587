//! WAIT and WAITAOF, and how many good replicas a write needs (`min-replicas-to-write`), as Redis has them.

use larder_wire::replication::LinkPhase;
use larder_wire::resp::ReplyWriter;
use larder_wire::{Offset, Refusal, Role};

use crate::config::Parameter;
use crate::exec::blocking::timeout_of_ms;
use crate::node::Node;
use crate::turn::{Outcome, Turn};

/// What a client that sent WAIT or WAITAOF waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ForCopies {
    /// Everything before it counts.
    pub(crate) place: Offset,
    pub(crate) replicas: usize,
    pub(crate) copies: Copies,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    /// WAIT: in replicas' memory.
    InMemory,
    /// WAITAOF: on replicas' disks, and on this node's where that is asked for.
    OnDisk { here: bool },
}

const NOT_POSITIVE: Refusal = Refusal::fixed("ERR value is out of range, must be positive");

/// How many replicas have the last write of this connection.
pub(crate) fn wait(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    refuse_on_replica(turn, "WAIT")?;
    let wanted = turn.arg_int(1)?;
    let timeout_ms = timeout_of_ms(turn, 2)?;
    let wait = ForCopies {
        place: place_of(turn),
        replicas: wanted.max(0) as usize,
        copies: Copies::InMemory,
    };
    wait_for(turn, wait, timeout_ms)
}

/// On how many disks the last write of this connection is: this node's, and replicas'.
pub(crate) fn waitaof(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let local = turn.arg_int(1)?;
    if !(0..=1).contains(&local) {
        return Err(Refusal::fixed(
            "ERR value is out of range, value must between 0 and 1",
        ));
    }
    let replicas = turn.arg_int(2).map_err(|_| NOT_POSITIVE)?;
    let replicas = usize::try_from(replicas).map_err(|_| NOT_POSITIVE)?;
    let timeout_ms = timeout_of_ms(turn, 3)?;
    refuse_on_replica(turn, "WAITAOF")?;
    if local > 0 && !turn.node.wants_append() {
        return Err(Refusal::fixed(
            "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
        ));
    }
    let wait = ForCopies {
        place: place_of(turn).min(turn.node.journal.end()),
        replicas,
        copies: Copies::OnDisk { here: local > 0 },
    };
    wait_for(turn, wait, timeout_ms)
}

/// Everything before it is waited for: what this connection wrote; for a proxy, whose clients write on another connection, all there is.
fn place_of(turn: &Turn<'_>) -> Offset {
    if turn.session.trust.has_control() {
        turn.node.journal.end()
    } else {
        turn.session.client.wrote_up_to.get()
    }
}

fn refuse_on_replica(turn: &Turn<'_>, command: &str) -> Result<(), Refusal> {
    match turn.node.ownership.role() {
        Role::Primary => Ok(()),
        Role::Replica => Err(Refusal::new(format!(
            "ERR {command} cannot be used with replica instances. Please also note that writes to replicas are just local and are not propagated."
        ))),
    }
}

fn wait_for(turn: &mut Turn<'_>, wait: ForCopies, timeout_ms: u64) -> Result<Outcome, Refusal> {
    if turn.node.has_copies(&wait) || !turn.session.may_wait() {
        turn.node.tell_copies(&wait, &mut turn.reply);
        return Ok(Outcome::Done);
    }
    turn.node.block_for_copies(
        turn.session,
        (turn.id, turn.request),
        wait,
        timeout_ms,
        turn.clock,
    );
    Ok(Outcome::Blocked)
}

impl Node {
    /// Met, or more than met.
    pub(crate) fn has_copies(&self, wait: &ForCopies) -> bool {
        let followers = &self.replication.followers;
        match wait.copies {
            Copies::InMemory => followers.count_that_have(wait.place) >= wait.replicas,
            Copies::OnDisk { here } => {
                followers.count_that_synced(wait.place) >= wait.replicas
                    && (!here || self.has_on_disk(wait.place))
            }
        }
    }

    /// How many there are, be they enough or not.
    pub(crate) fn tell_copies(&self, wait: &ForCopies, reply: &mut ReplyWriter<'_>) {
        let followers = &self.replication.followers;
        match wait.copies {
            Copies::InMemory => reply.int(followers.count_that_have(wait.place) as i64),
            Copies::OnDisk { .. } => {
                reply.array(2);
                reply.int(self.has_on_disk(wait.place).into());
                reply.int(followers.count_that_synced(wait.place) as i64);
            }
        }
    }

    fn has_on_disk(&self, place: Offset) -> bool {
        self.append.is_whole() && self.append.written().synced >= place
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
