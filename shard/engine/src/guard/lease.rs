//! The lease: whether a primary may serve, by when it was last heard of. Decisions only; times are those of the node's monotonic clock.
//!
//! A sign counts from the moment at which the question was *sent*: the topology, too, counts from when it answered, which is later. So a node that
//! is stopped between question and answer holds no lease that the topology knows nothing of.

use larder_wire::Refusal;
use larder_wire::replication::{LEASE_MS, WriteMode};

/// What a primary knows of having been heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signs {
    /// When the last JOIN was sent that the topology answered with a lease.
    pub(crate) joined_ms: Option<u64>,
    /// When the last ping was sent that a replica in step answered.
    pub(crate) pinged_ms: Option<u64>,
}

impl Signs {
    /// A lease by any of them.
    pub(crate) fn are_fresh(self, now_ms: u64) -> bool {
        let fresh = |sent: Option<u64>| sent.is_some_and(|at| now_ms.saturating_sub(at) < LEASE_MS);
        fresh(self.joined_ms) || fresh(self.pinged_ms)
    }
}

/// What a primary of a shard with replicas serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Serves {
    #[default]
    All,
    /// Reads only, for the lease has run out.
    Reads,
    /// Reads only, for no replica that is in step could take a write.
    ReadsAlone,
    Nothing,
}

impl Serves {
    /// The decision.
    pub(crate) fn decide(mode: WriteMode, leased: bool, replica_in_step: bool) -> Serves {
        match (mode, leased, replica_in_step) {
            (WriteMode::Async, true, _) => Serves::All,
            (WriteMode::Async, false, _) => Serves::Reads,
            (WriteMode::Safe, true, true) => Serves::All,
            (WriteMode::Safe, true, false) => Serves::ReadsAlone,
            (WriteMode::Safe, false, _) => Serves::Nothing,
        }
    }

    pub(crate) fn is_leased(self) -> bool {
        match self {
            Serves::All | Serves::ReadsAlone => true,
            Serves::Reads | Serves::Nothing => false,
        }
    }

    pub(crate) fn refuses_writes(self) -> Option<Refusal> {
        match self {
            Serves::All => None,
            Serves::Reads | Serves::Nothing => Some(NO_LEASE),
            Serves::ReadsAlone => Some(NO_REPLICA),
        }
    }

    pub(crate) fn refuses_reads(self) -> Option<Refusal> {
        match self {
            Serves::All | Serves::Reads | Serves::ReadsAlone => None,
            Serves::Nothing => Some(NO_LEASE),
        }
    }
}

/// The code is one that passes by itself: whoever routes commands asks again, here or at a successor.
const NO_LEASE: Refusal = Refusal::fixed(
    "CLUSTERDOWN this primary has heard neither of the topology nor of a replica for too long, and may have a successor (it serves again when it hears of them)",
);
const NO_REPLICA: Refusal = Refusal::fixed(
    "CLUSTERDOWN writes are safe in this cluster, and no replica of this shard is in step to take them (give it more replicas, or wait for one to catch up)",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_any_sign_that_was_sent_less_than_the_lease_time_ago() {
        let at = |ms: u64| Some(10_000 - ms);
        let table = [
            (None, None, false),
            (at(0), None, true),
            (at(LEASE_MS - 1), None, true),
            (at(LEASE_MS), None, false),
            (None, at(LEASE_MS - 1), true),
            (None, at(LEASE_MS), false),
            (at(LEASE_MS), at(LEASE_MS - 1), true),
            (at(LEASE_MS - 1), at(LEASE_MS), true),
            (at(LEASE_MS), at(LEASE_MS), false),
            // The clock of a thread never steps back, but a sign may be as new as the batch.
            (Some(10_001), None, true),
        ];
        for (joined_ms, pinged_ms, expected) in table {
            let signs = Signs {
                joined_ms,
                pinged_ms,
            };
            assert_eq!(signs.are_fresh(10_000), expected, "{signs:?}");
        }
    }

    #[test]
    fn what_is_served_by_mode_lease_and_replica() {
        use WriteMode::{Async, Safe};
        // Mode, leased, a replica in step; whether writes and reads are served.
        let table = [
            (Async, true, true, true, true),
            (Async, true, false, true, true),
            (Async, false, true, false, true),
            (Async, false, false, false, true),
            (Safe, true, true, true, true),
            (Safe, true, false, false, true),
            (Safe, false, true, false, false),
            (Safe, false, false, false, false),
        ];
        for (mode, leased, in_step, writes, reads) in table {
            let serves = Serves::decide(mode, leased, in_step);
            let case = format!("{mode:?}, leased {leased}, in step {in_step}");
            assert_eq!(serves.refuses_writes().is_none(), writes, "{case}");
            assert_eq!(serves.refuses_reads().is_none(), reads, "{case}");
            assert_eq!(serves.is_leased(), leased, "{case}");
        }
    }
}
