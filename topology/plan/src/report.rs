//! What operators, consoles and metrics are shown of the plan: plain values, the JSON of
//! `STATUS JSON`, `MOVES JSON` and of the answers to orders. Read-only.

use larder_wire::control::FeedState;
use larder_wire::replication::{LEASE_MS, LinkPhase, SILENCE_MS, WriteMode};
use larder_wire::{Attempt, Epoch, NodeId, ShardEntry, ShardId, SlotSet};
use serde::{Deserialize, Serialize};

use crate::scale::{Load, Recommendation, recommend};
use crate::soft::Phase;
use crate::state::{Counts, FailoverKind, Finished, LostShards, Node, OperationKind, Outcome};
use crate::step::Plan;
use crate::{STALL_FAILURES, STALL_MS};

/// The answer to `RESHARD`, `MOVE` and `REBALANCE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderReport {
    /// The operation to watch in `MOVES JSON`; absent when there is nothing to do and for a dry run.
    #[serde(default)]
    pub operation: Option<u64>,
    /// The same was under way already.
    pub attached: bool,
    pub dry_run: bool,
    /// Nodes that are missing and are being started.
    pub missing_nodes: u32,
    pub moves: Vec<MovePlan>,
    pub slots: u32,
    /// Shards before and after.
    pub shards: u32,
    pub shards_after: u32,
}

/// One line of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovePlan {
    pub from: ShardId,
    pub from_addr: String,
    pub to: ShardId,
    /// Absent while no node is there for the shard.
    #[serde(default)]
    pub to_addr: Option<String>,
    pub slots: SlotSet,
    pub slot_count: u32,
    /// Guessed from the source's figures, as if its keys were spread evenly.
    pub keys: u64,
    pub bytes: u64,
}

/// The answer to `REPLICAS`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicasReport {
    /// Replicas that each shard is to have.
    pub wanted: u32,
    /// Nodes that have still to join for that.
    pub missing_nodes: u32,
    pub shards: Vec<ShardReplicas>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardReplicas {
    pub shard: ShardId,
    pub replicas: u32,
    pub in_step: u32,
}

impl ReplicasReport {
    /// Every shard has its replicas, all in step, and none too many.
    pub fn reached(&self) -> bool {
        let mut shards = self.shards.iter();
        shards.all(|shard| shard.replicas == self.wanted && shard.in_step == self.wanted)
    }
}

/// The answer to `FAILOVER`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverReport {
    pub shard: ShardId,
    pub number: u64,
    /// One was under way already.
    pub attached: bool,
    pub from: String,
    /// The heir; absent where it is still to be chosen.
    #[serde(default)]
    pub to: Option<String>,
}

/// A failover that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverState {
    pub number: u64,
    pub planned: bool,
    pub running_ms: u64,
    /// Why it began.
    pub reason: String,
    /// What it waits for.
    #[serde(default)]
    pub waits: Option<String>,
    /// It waits for what only a node's return or an operator can bring.
    #[serde(default)]
    pub stuck: bool,
}

/// The answer to `WRITES`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WritesReport {
    pub before: WriteMode,
    pub writes: WriteMode,
    pub replicas: u32,
}

/// The answer to `LOST-SHARDS`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostShardsReport {
    pub before: LostShards,
    pub lost_shards: LostShards,
    /// Shards of which every process is known to be gone: the setting decides over these at this moment.
    pub lost: Vec<ShardId>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub cluster: String,
    pub formed: bool,
    pub epoch: Epoch,
    /// Shards and replicas as the operator wants them.
    pub shards_wanted: u32,
    pub replicas_wanted: u32,
    #[serde(default)]
    pub writes: WriteMode,
    pub shards: Vec<ShardReport>,
    pub spares: Vec<NodeReport>,
    pub proxies: Vec<ProxyReport>,
    pub operation: Option<OperationReport>,
    pub finished: Vec<Finished>,
    pub counts: Counts,
    pub recommended: Recommendation,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardReport {
    pub id: ShardId,
    pub slots: SlotSet,
    pub slot_count: u32,
    /// The primary.
    pub node: NodeReport,
    #[serde(default)]
    pub replicas: Vec<ReplicaReport>,
    #[serde(default)]
    pub failover: Option<FailoverState>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicaReport {
    #[serde(flatten)]
    pub node: NodeReport,
    pub in_step: bool,
    /// How it gets its data, by its own word.
    #[serde(default)]
    pub phase: Option<LinkPhase>,
    /// Bytes that it has still to apply; absent while it does not stream.
    #[serde(default)]
    pub lag_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    pub id: NodeId,
    pub addr: String,
    pub http: Option<String>,
    pub zone: Option<String>,
    pub release: String,
    pub reachable: bool,
    /// Milliseconds of silence, and why.
    pub silent_ms: Option<u64>,
    pub silent_why: Option<String>,
    /// The epoch of the map that it has.
    pub epoch: Epoch,
    pub keys: u64,
    pub used_memory: u64,
    pub maxmemory: u64,
    pub clients: u64,
    /// Commands that it had and its shard does not: kept in files since its process started.
    #[serde(default)]
    pub lost_writes: u64,
    /// Share of one core.
    pub cpu: f64,
    pub ops_per_second: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyReport {
    pub id: NodeId,
    pub addr: String,
    pub http: Option<String>,
    pub release: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "stage")]
pub enum Stage {
    /// So many nodes have still to join.
    Waiting {
        nodes: u32,
    },
    Moving,
    /// Nothing has moved for long, and why; it is still tried.
    Stalled {
        reason: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationReport {
    pub id: u64,
    #[serde(flatten)]
    pub kind: OperationKind,
    #[serde(flatten)]
    pub stage: Stage,
    pub slots_total: u32,
    pub slots_done: u32,
    pub keys_moved: u64,
    pub bytes_moved: u64,
    pub keys_per_second: f64,
    pub bytes_per_second: f64,
    /// 0 to 1.
    pub done: f64,
    pub eta_seconds: Option<f64>,
    pub failures: u32,
    pub attempts: Vec<AttemptReport>,
    pub leaving: Vec<ShardId>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptReport {
    pub attempt: Attempt,
    pub from: ShardId,
    pub from_addr: String,
    pub to: ShardId,
    pub to_addr: String,
    pub slots: SlotSet,
    /// `asked`, `copying`, `ready` or `handover`.
    pub phase: String,
    pub keys: u64,
    pub keys_total: u64,
    pub bytes: u64,
    pub running_ms: u64,
}

/// The answer to `MOVES JSON`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MovesReport {
    pub operation: Option<OperationReport>,
    pub finished: Vec<Finished>,
}

impl OperationKind {
    /// `reshard to 5 shards`, for people.
    pub fn text(&self) -> String {
        match self {
            OperationKind::Reshard { shards: 1 } => "reshard to 1 shard".into(),
            OperationKind::Reshard { shards } => format!("reshard to {shards} shards"),
            OperationKind::Move { slots, to } => {
                format!("move of slots {slots} to node {}", &to.to_string()[..8])
            }
            OperationKind::Rebalance => "rebalance".into(),
        }
    }
}

impl MovesReport {
    /// How operation `id` ended; `None` while it is under way or when it is forgotten.
    pub fn outcome_of(&self, id: u64) -> Option<&Outcome> {
        let ended = self.finished.iter().find(|finished| finished.id == id);
        ended.map(|finished| &finished.outcome)
    }
}

impl Plan {
    pub fn status(&self) -> Status {
        let state = &self.state;
        let shards = state.map.shards().iter().filter_map(|shard| {
            let primary = shard.primary()?;
            Some(ShardReport {
                id: shard.id,
                slots: shard.slots.clone(),
                slot_count: shard.slots.len() as u32,
                node: self.node_report(primary.id, state.nodes.get(&primary.id)?),
                replicas: self.replica_reports(shard),
                failover: self.failover_state(shard.id),
            })
        });
        let spares = state.nodes.iter().filter(|(id, _)| self.is_spare(**id));
        let proxies = self.soft.proxies.values().map(|proxy| ProxyReport {
            id: proxy.join.id,
            addr: proxy.join.addr.clone(),
            http: proxy.join.http.clone(),
            release: proxy.join.release.clone(),
        });
        Status {
            cluster: state.cluster.clone(),
            formed: state.formed(),
            epoch: state.epoch(),
            shards_wanted: state.settings.shards,
            replicas_wanted: state.settings.replicas,
            writes: state.settings.writes,
            shards: shards.collect(),
            spares: spares
                .map(|(&id, node)| self.node_report(id, node))
                .collect(),
            proxies: proxies.collect(),
            operation: self.operation_report(),
            finished: state.finished.clone(),
            counts: state.counts.clone(),
            recommended: recommend(&state.settings.scale, &self.loads()),
        }
    }

    pub fn moves(&self) -> MovesReport {
        MovesReport {
            operation: self.operation_report(),
            finished: self.state.finished.clone(),
        }
    }

    /// The load of each shard, in the map's order.
    pub fn loads(&self) -> Vec<Load> {
        let primaries = self.state.map.shards().iter().filter_map(|s| s.primary());
        primaries
            .map(|primary| match self.soft.nodes.get(&primary.id) {
                Some(soft) => Load {
                    cpu: soft.rates.cpu,
                    ops: soft.rates.ops,
                    used: soft.state.as_ref().map_or(0, |state| state.used_memory),
                    maxmemory: soft.state.as_ref().map_or(0, |state| state.maxmemory),
                },
                None => Load::default(),
            })
            .collect()
    }

    fn failover_state(&self, shard: ShardId) -> Option<FailoverState> {
        let failover = self.state.failovers.get(&shard)?;
        let soft = self.soft.failovers.get(&failover.number);
        let waits = soft.and_then(|soft| soft.waits.as_ref());
        let running_ms = soft.map_or(0, |soft| self.soft.now.saturating_sub(soft.began_at));
        Some(FailoverState {
            number: failover.number,
            planned: matches!(failover.kind, FailoverKind::Planned { .. }),
            running_ms,
            reason: match &failover.kind {
                FailoverKind::Suspected { reason, .. } => reason.clone(),
                FailoverKind::Planned { to, .. } => format!("ordered, to {}", self.addr(*to)),
            },
            waits: waits.map(|waits| self.waits_text(shard, waits)),
            stuck: waits.is_some() && running_ms > crate::LAST_WAIT_MS + SILENCE_MS + LEASE_MS,
        })
    }

    fn replica_reports(&self, shard: &ShardEntry) -> Vec<ReplicaReport> {
        let reports = shard.replicas().filter_map(|entry| {
            let state = self.soft.nodes.get(&entry.id)?.state.as_ref();
            let said = state.and_then(|state| state.replication.as_ref());
            Some(ReplicaReport {
                node: self.node_report(entry.id, self.state.nodes.get(&entry.id)?),
                in_step: entry.in_step,
                phase: said.and_then(|said| said.follows.as_ref()).map(|f| f.phase),
                lag_bytes: self.lag(shard.id, entry.id),
            })
        });
        reports.collect()
    }

    fn node_report(&self, id: NodeId, node: &Node) -> NodeReport {
        let soft = self.soft.nodes.get(&id);
        let seen = soft.and_then(|soft| soft.state.as_ref());
        let reachable = self.soft.reachable(id);
        NodeReport {
            id,
            addr: node.addr.clone(),
            http: node.http.clone(),
            zone: node.zone.clone(),
            release: node.release.clone(),
            reachable,
            silent_ms: soft
                .and_then(|soft| soft.unreachable_since)
                .map(|since| self.soft.now.saturating_sub(since)),
            silent_why: soft
                .filter(|soft| !soft.reachable && !soft.unreachable_why.is_empty())
                .map(|soft| soft.unreachable_why.clone()),
            epoch: soft.map_or(Epoch(0), |soft| soft.acked),
            keys: seen.map_or(0, |state| state.keys),
            used_memory: seen.map_or(0, |state| state.used_memory),
            maxmemory: seen.map_or(node.maxmemory, |state| state.maxmemory),
            clients: seen.map_or(0, |state| state.clients),
            lost_writes: seen
                .and_then(|state| state.replication.as_ref())
                .map_or(0, |said| said.lost_writes),
            cpu: soft.map_or(0.0, |soft| soft.rates.cpu),
            ops_per_second: soft.map_or(0.0, |soft| soft.rates.ops),
        }
    }

    fn operation_report(&self) -> Option<OperationReport> {
        let operation = self.state.operation.as_ref()?;
        let attempts: Vec<AttemptReport> = self.attempt_reports();
        let (total, left) = (operation.slots_total(), operation.slots_left());
        let partly: f64 = attempts
            .iter()
            .map(|attempt| match attempt.keys_total {
                0 => 0.0,
                total => attempt.slots.len() as f64 * (attempt.keys as f64 / total as f64).min(1.0),
            })
            .sum();
        let done = match total {
            0 => 0.0,
            total => ((f64::from(total - left) + partly) / f64::from(total)).min(1.0),
        };
        let (keys_per_second, bytes_per_second) = self.move_rates();
        Some(OperationReport {
            id: operation.id,
            kind: operation.kind.clone(),
            stage: self.stage(),
            slots_total: total,
            slots_done: total - left,
            keys_moved: operation.keys_moved + attempts.iter().map(|a| a.keys).sum::<u64>(),
            bytes_moved: operation.bytes_moved + attempts.iter().map(|a| a.bytes).sum::<u64>(),
            keys_per_second,
            bytes_per_second,
            done,
            eta_seconds: self.eta_seconds(f64::from(left) - partly),
            failures: operation.failures,
            attempts,
            leaving: operation.leaving.clone(),
        })
    }

    fn attempt_reports(&self) -> Vec<AttemptReport> {
        let reports = self.state.attempts.iter().map(|(&id, attempt)| {
            let soft = self.soft.attempts.get(&id);
            let phase = match soft.map(|soft| soft.phase) {
                _ if self.handing_over(id) => "handover",
                None | Some(Phase::Asked { .. }) => "asked",
                Some(Phase::Copying { .. }) => "copying",
                Some(Phase::Ready { .. }) => "ready",
            };
            let addr = |node: NodeId| self.state.nodes.get(&node).map(|node| node.addr.clone());
            let feed = self.feed_of(attempt.source, id);
            AttemptReport {
                attempt: id,
                from: attempt.from,
                from_addr: addr(attempt.source).unwrap_or_default(),
                to: attempt.to,
                to_addr: addr(attempt.target).unwrap_or_default(),
                slots: attempt.slots.clone(),
                phase: phase.to_string(),
                keys: soft.map_or(0, |soft| soft.keys),
                keys_total: feed.map_or(0, |feed| feed.keys_total),
                bytes: soft.map_or(0, |soft| soft.bytes),
                running_ms: soft.map_or(0, |soft| self.soft.now.saturating_sub(soft.began_at)),
            }
        });
        reports.collect()
    }

    fn feed_of(&self, source: NodeId, attempt: Attempt) -> Option<&FeedState> {
        let state = self.soft.nodes.get(&source)?.state.as_ref()?;
        state.feeds.iter().find(|feed| feed.attempt == attempt)
    }

    /// Why an operation gets nowhere, if it does not.
    pub(crate) fn stalled(&self) -> Option<String> {
        let operation = self.state.operation.as_ref()?;
        let soft = &self.soft.operation;
        let silent = self.soft.now.saturating_sub(soft.advanced_at) >= STALL_MS;
        let worst = soft.backoff.values().max_by_key(|backoff| backoff.failures);
        match worst {
            Some(worst) if worst.failures >= STALL_FAILURES || silent && worst.failures > 0 => {
                Some(worst.reason.clone())
            }
            Some(_) | None if silent && self.state.attempts.is_empty() => {
                Some(match operation.planned {
                    true => self.unreachable_party().unwrap_or("nothing moves".into()),
                    false => format!("{} nodes have still to join", self.missing_nodes()),
                })
            }
            Some(_) | None => None,
        }
    }

    fn stage(&self) -> Stage {
        let planned = self.state.operation.as_ref().is_some_and(|op| op.planned);
        match (self.stalled(), planned) {
            (_, false) => Stage::Waiting {
                nodes: self.missing_nodes(),
            },
            (Some(reason), true) => Stage::Stalled { reason },
            (None, true) => Stage::Moving,
        }
    }

    fn move_rates(&self) -> (f64, f64) {
        let samples = &self.soft.operation.samples;
        match (samples.front(), samples.back()) {
            (Some(first), Some(last)) if last.0 > first.0 => {
                let seconds = (last.0 - first.0) as f64 / 1000.0;
                (
                    last.1.saturating_sub(first.1) as f64 / seconds,
                    last.2.saturating_sub(first.2) as f64 / seconds,
                )
            }
            (Some(_) | None, Some(_) | None) => (0.0, 0.0),
        }
    }

    fn eta_seconds(&self, slots_left: f64) -> Option<f64> {
        let soft = &self.soft.operation;
        let seconds = self.soft.now.saturating_sub(soft.began_at) as f64 / 1000.0;
        let moved = f64::from(soft.slots_left_at_begin) - slots_left;
        (moved > 0.0 && seconds > 0.0).then(|| slots_left * seconds / moved)
    }
}
