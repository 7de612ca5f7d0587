//! What the plan knows and may forget: who answers, what is on its way, how far feeds are. After a
//! restart of the topology all of it is learnt again.

use std::collections::{BTreeMap, VecDeque};

use larder_wire::control::{NodeState, ProxyJoin};
use larder_wire::replication::{Fenced, Place};
use larder_wire::{Attempt, Epoch, History, NodeId, ShardId};

use crate::event::{Action, Answer, RequestId};
use crate::failover::Waits;
use crate::lost::Lost;
use crate::parted::Reach;
use crate::scale::Rates;
use crate::state::Operation;

/// What is known of a node beyond its record.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeSoft {
    /// True from an answered probe to a lost connection.
    pub(crate) reachable: bool,
    /// When it was last heard of, and since when it has been silent, in milliseconds of the plan's clock.
    pub(crate) seen_at: u64,
    pub(crate) unreachable_since: Option<u64>,
    pub(crate) unreachable_why: String,
    /// When it last answered a probe; nothing, when it has not yet: then it counts from when it was first known.
    pub(crate) answered_at: u64,
    /// Its port is closed, or it has started again without having joined yet: the process that is known is no more.
    pub(crate) process_gone: bool,
    /// A replica in step: since when it does not follow as it should.
    pub(crate) stray_since: Option<u64>,
    /// A replica that is not: where its primary's journal ended when it was first seen to stream, and whether it has
    /// come so far.
    pub(crate) goal: Option<(Place, bool)>,
    /// When it started again, as far as it was seen.
    pub(crate) born_at: u64,
    /// It has started again, and what it had as a replica is lost: marks of before count no more.
    pub(crate) began_anew: bool,
    /// When it was last told that its fence is lifted.
    pub(crate) unfenced_at: Option<u64>,
    /// When it was last told to drop the attempt of a handover that goes back.
    pub(crate) abort_at: Option<u64>,
    pub(crate) state: Option<NodeState>,
    pub(crate) rates: Rates,
    /// The epoch that it is known to have taken, in its present life.
    pub(crate) acked: Epoch,
    /// A push that is not answered yet: its epoch, and when it went.
    pub(crate) pushing: Option<(Epoch, u64)>,
    pub(crate) push_again_at: u64,
    /// It has a newer map than the record: said once.
    pub(crate) newer_said: bool,
}

impl NodeSoft {
    /// Whose stream of effects it has, by its last word.
    pub(crate) fn history(&self) -> Option<History> {
        let said = self.state.as_ref()?.replication.as_ref()?;
        said.place.map(|place| place.history)
    }

    /// When there was the last sign of it.
    pub(crate) fn heard_at(&self) -> u64 {
        self.seen_at.max(self.answered_at)
    }
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Recorded; the import is not asked for yet.
    Asked { sent: Option<u64> },
    /// The target works; `awaiting` is true while an AWAIT is out.
    Copying { awaiting: bool },
    /// All is at the target, the source holds since about `since`.
    Ready { since: u64 },
}

#[derive(Clone, Debug)]
pub(crate) struct AttemptSoft {
    pub(crate) phase: Phase,
    pub(crate) began_at: u64,
    pub(crate) keys: u64,
    pub(crate) bytes: u64,
    pub(crate) slots_done: u32,
    pub(crate) progress_at: u64,
}

impl AttemptSoft {
    pub(crate) fn asked(now: u64) -> AttemptSoft {
        AttemptSoft {
            phase: Phase::Asked { sent: None },
            began_at: now,
            keys: 0,
            bytes: 0,
            slots_done: 0,
            progress_at: now,
        }
    }

    /// An attempt of the record that a former topology may have asked for: its target is asked how it stands.
    /// One that is being handed over has been ready.
    pub(crate) fn found(now: u64, handed_over: bool) -> AttemptSoft {
        AttemptSoft {
            phase: match handed_over {
                true => Phase::Ready { since: now },
                false => Phase::Copying { awaiting: false },
            },
            ..AttemptSoft::asked(now)
        }
    }
}

/// Why and until when a pair of shards waits before its next attempt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    pub(crate) failures: u32,
    pub(crate) until: u64,
    pub(crate) reason: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct OperationSoft {
    pub(crate) began_at: u64,
    pub(crate) slots_left_at_begin: u32,
    /// The last time that slots arrived.
    pub(crate) advanced_at: u64,
    pub(crate) backoff: BTreeMap<(ShardId, ShardId), Backoff>,
    pub(crate) asked_at: Option<u64>,
    /// When, keys and bytes, for rates.
    pub(crate) samples: VecDeque<(u64, u64, u64)>,
}

impl OperationSoft {
    pub(crate) fn begun(now: u64, operation: Option<&Operation>) -> OperationSoft {
        OperationSoft {
            began_at: now,
            advanced_at: now,
            slots_left_at_begin: operation.map_or(0, Operation::slots_left),
            ..OperationSoft::default()
        }
    }
}

/// How far a failover is.
#[derive(Clone, Debug, Default)]
pub(crate) struct FailoverSoft {
    pub(crate) began_at: u64,
    /// The stream of effects of the primary that is suspected.
    pub(crate) reign: Option<History>,
    /// Who was told to fence (or to yield), and when.
    pub(crate) asked: BTreeMap<NodeId, u64>,
    /// What the fenced have, and when they said so.
    pub(crate) fenced: BTreeMap<NodeId, (Fenced, u64)>,
    /// The primary of a planned one holds its writes.
    pub(crate) yielded: bool,
    pub(crate) waits: Option<Waits>,
    /// That it waits was said.
    pub(crate) said: bool,
}

impl FailoverSoft {
    pub(crate) fn begun(now: u64) -> FailoverSoft {
        FailoverSoft {
            began_at: now,
            ..FailoverSoft::default()
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ProxySoft {
    pub(crate) join: ProxyJoin,
    pub(crate) seen_at: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Soft {
    pub(crate) now: u64,
    pub(crate) nodes: BTreeMap<NodeId, NodeSoft>,
    pub(crate) proxies: BTreeMap<NodeId, ProxySoft>,
    pub(crate) attempts: BTreeMap<Attempt, AttemptSoft>,
    pub(crate) operation: OperationSoft,
    /// By their numbers.
    pub(crate) failovers: BTreeMap<u64, FailoverSoft>,
    /// Which primaries reach their replicas, in `safe`.
    pub(crate) reach: BTreeMap<ShardId, Reach>,
    /// Shards that nobody is heard of, and since when.
    pub(crate) lost: BTreeMap<ShardId, Lost>,
    /// Where primaries' journals ended when they were first seen to have the map of that epoch, which took a mark
    /// away from this replica.
    pub(crate) faded: BTreeMap<(ShardId, NodeId), (Epoch, Place)>,
    /// When this topology began: one before it may have granted leases until then.
    pub(crate) began_at: u64,
    /// When leases were last granted.
    pub(crate) leases: BTreeMap<NodeId, u64>,
    /// Primaries that started again in this step: their former lives, and whose effects they had.
    pub(crate) restarted: BTreeMap<NodeId, (NodeId, Option<History>)>,
    pub(crate) starter: bool,
    pub(crate) broadcast: Epoch,
    /// Replies that wait for the record.
    pub(crate) replies: Vec<(RequestId, Result<Box<Answer>, String>)>,
    /// Actions of this step that depend on no record.
    pub(crate) out: Vec<Action>,
    /// Highest epoch that any step left behind.
    pub(crate) epoch_seen: Epoch,
}

impl Soft {
    pub(crate) fn node(&mut self, id: NodeId) -> &mut NodeSoft {
        self.nodes.entry(id).or_default()
    }

    pub(crate) fn reachable(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.reachable)
    }
}
