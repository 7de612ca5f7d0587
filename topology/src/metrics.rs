//! The topology's metrics, and the snapshot that HTTP shows: taken by the topology's thread, read by scrapes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use larder_plan::report::{NodeReport, OperationReport, ReplicaReport, Stage, Status};
use larder_plan::scale::Reason;
use larder_plan::{FailoverDone, MoveDone};
use larder_runtime::metrics::{Latency, Page, Source};
use larder_wire::replication::WriteMode;

use crate::text::all_nodes;

larder_runtime::metrics! {
    /// All that the topology shows.
    pub DECLARED;
    LEADER = gauge "larder_topology_leader" ["cluster"] "1 on the topology that leads, 0 on one that stands by; all others of the topology's metrics are the leader's.";
    TERMS = counter "larder_topology_terms_total" ["cluster"] "Times that this topology has begun to lead.";
    EPOCH = gauge "larder_topology_epoch" ["cluster"] "Epoch of the slot map.";
    FORMED = gauge "larder_topology_formed" ["cluster"] "1 once the cluster has been formed.";
    SHARDS = gauge "larder_topology_shards" ["cluster"] "Shards in the slot map.";
    SHARDS_WANTED = gauge "larder_topology_shards_wanted" ["cluster"] "Shards that the operator last asked for.";
    NODES = gauge "larder_topology_nodes" ["cluster", "state"] "Nodes by state: serving (owns or awaits slots), replica, spare, or silent (does not answer).";
    PROXIES = gauge "larder_topology_proxies" ["cluster"] "Proxies that have joined lately.";
    SLOTS_UNSERVED = gauge "larder_topology_slots_unserved" ["cluster"] "Slots whose node does not answer.";
    UNDER_WAY = gauge "larder_topology_moves_in_progress" ["cluster"] "Attempts to move slots that are under way.";
    FINISHED = counter "larder_topology_moves_finished_total" ["cluster"] "Attempts to move slots that succeeded.";
    FAILED = counter "larder_topology_moves_failed_total" ["cluster"] "Attempts to move slots that failed and were tried again.";
    SLOTS_MOVED = counter "larder_topology_slots_moved_total" ["cluster"] "Slots moved.";
    KEYS_MOVED = counter "larder_topology_keys_moved_total" ["cluster"] "Keys moved with their slots.";
    BYTES_MOVED = counter "larder_topology_bytes_moved_total" ["cluster"] "Bytes moved with their slots.";
    PROGRESS = gauge "larder_topology_operation_progress_ratio" ["cluster"] "How much of the operation under way is done, 0 to 1; 1 when there is none.";
    SLOTS_LEFT = gauge "larder_topology_operation_slots_left" ["cluster"] "Slots that the operation under way has still to move.";
    STALLED = gauge "larder_topology_operation_stalled" ["cluster"] "1 while an operation gets nowhere.";
    DATA_LOSS = counter "larder_topology_data_losses_total" ["cluster"] "Times that a node which owned slots came back without its memory.";
    MOVE_TIME = histogram "larder_topology_move_duration_seconds" ["cluster"] "Time of a successful attempt, from the import to the handover.";
    HANDOVER_TIME = histogram "larder_topology_move_handover_seconds" ["cluster"] "Time from a move's Ready to the source's consent: writes of its slots are held meanwhile.";
    FAILOVERS = counter "larder_topology_failovers_total" ["cluster", "kind"] "Failovers by kind: lost (the primary was), planned (by order), or off (begun and not carried out).";
    FAILOVER_TIME = histogram "larder_topology_failover_duration_seconds" ["cluster"] "Time from the suspicion of a primary, or the order, to the decision for another.";
    FAILING_OVER = gauge "larder_topology_failovers_in_progress" ["cluster"] "Failovers that are under way.";
    STUCK = gauge "larder_topology_failovers_stuck" ["cluster"] "Failovers that wait for what only a node's return or an operator can bring.";
    LOST_WRITES = gauge "larder_topology_lost_writes" ["cluster"] "Writes that replaced primaries had not passed on, kept in files by processes that run.";
    REPLICAS_WANTED = gauge "larder_topology_replicas_wanted" ["cluster"] "Replicas that each shard is to have.";
    SAFE_WRITES = gauge "larder_topology_safe_writes" ["cluster"] "1 where writes are answered when a replica has them, 0 where they are answered at once.";
    SHARD_REPLICAS = gauge "larder_topology_shard_replicas" ["cluster", "shard", "state"] "Replicas of a shard by state: in_step, behind (not in step), or silent.";
    REPLICA_LAG = gauge "larder_topology_replica_lag_bytes" ["cluster", "shard", "node"] "Bytes that a replica has still to apply; absent while it does not stream.";
    SHARD_SLOTS = gauge "larder_topology_shard_slots" ["cluster", "shard", "node"] "Slots of a shard.";
    SHARD_KEYS = gauge "larder_topology_shard_keys" ["cluster", "shard", "node"] "Keys of a shard.";
    SHARD_CPU = gauge "larder_topology_shard_cpu_ratio" ["cluster", "shard", "node"] "Share of one core that a shard's primary uses, 0 to 1.";
    SHARD_MEMORY = gauge "larder_topology_shard_memory_ratio" ["cluster", "shard", "node"] "Share of maxmemory that a shard's primary uses, 0 to 1; 0 without a limit.";
    SHARD_OPS = gauge "larder_topology_shard_ops_per_second" ["cluster", "shard", "node"] "Commands a second of a shard's primary.";
    RECOMMENDED = gauge "larder_topology_recommended_shards" ["cluster", "reason"] "Shards that the load asks for, with the reason: cpu, memory, ops, idle, or steady.";
}

/// What is shown: the last status, and what is counted beside it.
#[derive(Debug)]
pub(crate) struct Shown {
    cluster: String,
    now: Mutex<Now>,
    terms: AtomicU64,
    move_time: Latency,
    handover_time: Latency,
    failover_time: Latency,
}

/// What this topology is at the moment.
#[derive(Clone, Debug)]
pub(crate) enum Now {
    Leads(Arc<Status>),
    StandsBy {
        /// `host:port` of the leader's console.
        leader_http: Option<String>,
    },
}

impl Shown {
    pub(crate) fn new(cluster: &str) -> Shown {
        Shown {
            cluster: cluster.to_string(),
            now: Mutex::new(Now::StandsBy { leader_http: None }),
            terms: AtomicU64::new(0),
            move_time: Latency::new(),
            handover_time: Latency::new(),
            failover_time: Latency::new(),
        }
    }

    pub(crate) fn lead(&self, status: Status) {
        self.terms.fetch_add(1, Ordering::Relaxed);
        self.show(status);
    }

    pub(crate) fn show(&self, status: Status) {
        *self.lock() = Now::Leads(Arc::new(status));
    }

    pub(crate) fn stand_by(&self, leader_http: Option<String>) {
        *self.lock() = Now::StandsBy { leader_http };
    }

    pub(crate) fn now(&self) -> Now {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn failed_over(&self, done: &FailoverDone) {
        self.failover_time
            .record(Duration::from_millis(done.took_ms));
    }

    pub(crate) fn moved(&self, done: &MoveDone) {
        self.move_time.record(Duration::from_millis(done.took_ms));
        self.handover_time
            .record(Duration::from_millis(done.handover_ms));
    }
}

impl Source for Shown {
    fn collect(&self, page: &mut Page) {
        let leads = self.now();
        let name = [self.cluster.as_str()];
        page.value(&LEADER, &name, matches!(leads, Now::Leads(_)));
        page.value(&TERMS, &name, self.terms.load(Ordering::Relaxed));
        let Now::Leads(status) = leads else {
            return;
        };
        cluster(page, &status);
        operation(page, &status.cluster, status.operation.as_ref());
        shards(page, &status);
        page.latency(&MOVE_TIME, &[&status.cluster], &self.move_time);
        page.latency(&HANDOVER_TIME, &[&status.cluster], &self.handover_time);
        replication(page, &status);
        page.latency(&FAILOVER_TIME, &[&status.cluster], &self.failover_time);
    }
}

fn cluster(page: &mut Page, status: &Status) {
    let name = [status.cluster.as_str()];
    page.value(&EPOCH, &name, status.epoch.0);
    page.value(&FORMED, &name, status.formed);
    page.value(&SHARDS, &name, status.shards.len());
    page.value(&SHARDS_WANTED, &name, status.shards_wanted);
    page.value(&PROXIES, &name, status.proxies.len());
    let primaries = status.shards.iter().map(|shard| &shard.node);
    let primaries: Vec<&NodeReport> = primaries.collect();
    let replicas = status.shards.iter().flat_map(|shard| &shard.replicas);
    let replicas: Vec<&NodeReport> = replicas.map(|replica| &replica.node).collect();
    let up = |nodes: &[&NodeReport]| nodes.iter().filter(|node| node.reachable).count();
    let all = primaries.iter().chain(&replicas).copied();
    let all: Vec<&NodeReport> = all.chain(&status.spares).collect();
    let counts = [
        ("serving", up(&primaries)),
        ("replica", up(&replicas)),
        (
            "spare",
            status.spares.iter().filter(|node| node.reachable).count(),
        ),
        ("silent", all.iter().filter(|node| !node.reachable).count()),
    ];
    for (state, count) in counts {
        page.value(&NODES, &[name[0], state], count);
    }
    let unserved = status.shards.iter().filter(|shard| !shard.node.reachable);
    page.value(
        &SLOTS_UNSERVED,
        &name,
        unserved.map(|shard| shard.slot_count).sum::<u32>(),
    );
    let counts = &status.counts;
    page.value(&FINISHED, &name, counts.moves_finished);
    page.value(&FAILED, &name, counts.moves_failed);
    page.value(&SLOTS_MOVED, &name, counts.slots_moved);
    page.value(&KEYS_MOVED, &name, counts.keys_moved);
    page.value(&BYTES_MOVED, &name, counts.bytes_moved);
    page.value(&DATA_LOSS, &name, counts.data_losses);
    // One series, whose reason changes: every reason is shown, those that do not count as 0.
    for reason in Reason::ALL {
        let shards = match reason == status.recommended.reason && status.formed {
            true => status.recommended.shards,
            false => 0,
        };
        page.value(&RECOMMENDED, &[name[0], reason.word()], shards);
    }
}

fn replication(page: &mut Page, status: &Status) {
    let name = status.cluster.as_str();
    let counts = &status.counts;
    for (kind, count) in [
        ("lost", counts.failovers),
        ("planned", counts.failovers_planned),
        ("off", counts.failovers_called_off),
    ] {
        page.value(&FAILOVERS, &[name, kind], count);
    }
    let failovers = || {
        let shards = status.shards.iter();
        shards.filter_map(|shard| shard.failover.as_ref())
    };
    page.value(&FAILING_OVER, &[name], failovers().count());
    let stuck = failovers().filter(|failover| failover.stuck).count();
    page.value(&STUCK, &[name], stuck);
    let lost: u64 = all_nodes(status).map(|node| node.lost_writes).sum();
    page.value(&LOST_WRITES, &[name], lost);
    page.value(&REPLICAS_WANTED, &[name], status.replicas_wanted);
    let safe = status.writes == WriteMode::Safe;
    page.value(&SAFE_WRITES, &[name], safe);
    for shard in &status.shards {
        let id = shard.id.to_string();
        let count = |state: &str| {
            let alike = shard
                .replicas
                .iter()
                .filter(|replica| state_of(replica) == state);
            alike.count()
        };
        for state in ["in_step", "behind", "silent"] {
            page.value(&SHARD_REPLICAS, &[name, &id, state], count(state));
        }
        for replica in &shard.replicas {
            if let Some(lag) = replica.lag_bytes {
                page.value(&REPLICA_LAG, &[name, &id, &replica.node.addr], lag);
            }
        }
    }
}

fn state_of(replica: &ReplicaReport) -> &'static str {
    match (replica.node.reachable, replica.in_step) {
        (false, _) => "silent",
        (true, true) => "in_step",
        (true, false) => "behind",
    }
}

fn operation(page: &mut Page, cluster: &str, operation: Option<&OperationReport>) {
    let stalled = operation.is_some_and(|operation| match operation.stage {
        Stage::Stalled { .. } => true,
        Stage::Waiting { .. } | Stage::Moving => false,
    });
    page.value(
        &UNDER_WAY,
        &[cluster],
        operation.map_or(0, |o| o.attempts.len()),
    );
    page.value(&PROGRESS, &[cluster], operation.map_or(1.0, |o| o.done));
    page.value(
        &SLOTS_LEFT,
        &[cluster],
        operation.map_or(0, |o| o.slots_total - o.slots_done),
    );
    page.value(&STALLED, &[cluster], stalled);
}

fn shards(page: &mut Page, status: &Status) {
    for shard in &status.shards {
        let id = shard.id.to_string();
        let labels = [
            status.cluster.as_str(),
            id.as_str(),
            shard.node.addr.as_str(),
        ];
        let memory = match shard.node.maxmemory {
            0 => 0.0,
            most => shard.node.used_memory as f64 / most as f64,
        };
        page.value(&SHARD_SLOTS, &labels, shard.slot_count);
        page.value(&SHARD_KEYS, &labels, shard.node.keys);
        page.value(&SHARD_CPU, &labels, shard.node.cpu);
        page.value(&SHARD_MEMORY, &labels, memory);
        page.value(&SHARD_OPS, &labels, shard.node.ops_per_second);
    }
}
