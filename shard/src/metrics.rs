//! The metrics of a node: each declared once, under redis_exporter's name where it has one.
//!
//! Counters are read where the engine counts them; gauges are published by the node's thread a few times a second. A scrape never waits
//! for a node.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use larder_engine::{Clock, Node, Stats};
use larder_runtime::metrics::{Count, Page, Source};
use larder_store::{DB_COUNT, Db, Keyspace};
use larder_wire::command::{self, CommandId};
use larder_wire::replication::LinkPhase;
use larder_wire::{SLOT_COUNT, Slot};

larder_runtime::metrics! {
    /// What every node shows.
    pub DECLARED;
    UP = gauge "redis_up" ["node"] "1 while the node runs.";
    UPTIME = gauge "redis_uptime_in_seconds" ["node"] "Seconds since the node started.";
    CLIENTS = gauge "redis_connected_clients" ["node"] "Connections that are open.";
    CONNECTIONS = counter "redis_connections_received_total" ["node"] "Connections accepted.";
    CONNECTIONS_REJECTED = counter "redis_rejected_connections_total" ["node"] "Connections closed at once, by maxclients or protected mode.";
    MEMORY_USED = gauge "redis_memory_used_bytes" ["node"] "Memory of the data, in bytes.";
    MEMORY_PEAK = gauge "redis_memory_used_peak_bytes" ["node"] "Most memory that the data ever took, in bytes.";
    MEMORY_MAX = gauge "redis_memory_max_bytes" ["node"] "Limit of the data's memory, in bytes; 0 is none.";
    HITS = counter "redis_keyspace_hits_total" ["node"] "Lookups that found their key.";
    MISSES = counter "redis_keyspace_misses_total" ["node"] "Lookups that found no key.";
    COMMANDS_PROCESSED = counter "redis_commands_processed_total" ["node"] "Commands executed.";
    COMMANDS = counter "redis_commands_total" ["node", "cmd"] "Commands executed, by name.";
    COMMAND_SECONDS = counter "redis_commands_duration_seconds_total" ["node", "cmd"] "Time that commands took, by name, in seconds.";
    COMMANDS_REJECTED = counter "redis_commands_rejected_calls_total" ["node", "cmd"] "Commands refused before they ran, by name.";
    COMMANDS_FAILED = counter "redis_commands_failed_calls_total" ["node", "cmd"] "Commands that answered with an error, by name.";
    ERRORS = counter "redis_error_replies_total" ["node"] "Error replies sent.";
    EXPIRED = counter "redis_expired_keys_total" ["node"] "Keys that went because their time had come.";
    EVICTED = counter "redis_evicted_keys_total" ["node"] "Keys that went because memory was full.";
    KEYS = gauge "redis_db_keys" ["node", "db"] "Keys.";
    KEYS_EXPIRING = gauge "redis_db_keys_expiring" ["node", "db"] "Keys with an expiry.";
    INPUT = counter "redis_net_input_bytes_total" ["node"] "Bytes read from clients.";
    OUTPUT = counter "redis_net_output_bytes_total" ["node"] "Bytes written to clients.";
    CPU_USER = counter "redis_cpu_user_seconds_total" ["node"] "CPU time of the node's thread in user mode, in seconds.";
    CPU_SYSTEM = counter "redis_cpu_sys_seconds_total" ["node"] "CPU time of the node's thread in the kernel, in seconds.";
    EPOCH = gauge "larder_node_map_epoch" ["node"] "Epoch of the map that the node has.";
    SLOTS = gauge "larder_node_slots_owned" ["node"] "Slots that the node owns.";
    HOT = gauge "larder_node_hot_slots" ["node", "slot"] "Commands a second on the busiest slots, over the last ten seconds.";
    HELD = counter "larder_node_held_requests_total" ["node"] "Requests that waited for a handover of their slot.";
    HOLDING = gauge "larder_node_slots_held" ["node"] "Slots whose writes wait for a handover.";
    FEED_KEYS = gauge "larder_node_feed_keys" ["node"] "Keys in the slots that the node is feeding to others, when the feeds began.";
    FEED_SENT = gauge "larder_node_feed_keys_sent" ["node"] "Keys of them that are sent.";
    FEED_BYTES = gauge "larder_node_feed_bytes_sent" ["node"] "Bytes sent by the feeds that are under way.";
    IMPORT_KEYS = gauge "larder_node_import_keys" ["node"] "Keys taken by the imports that are under way.";
    IMPORT_BYTES = gauge "larder_node_import_bytes" ["node"] "Bytes taken by the imports that are under way.";
    LEASED = gauge "larder_node_leased" ["node"] "1 while the node may serve as far as its lease goes.";
    LEASES_LOST = counter "larder_node_leases_lost_total" ["node"] "Times that a primary had heard of nobody for the lease time and stopped serving.";
    ANSWERS_WAITING = gauge "larder_node_answers_waiting" ["node"] "Batches of replies that wait for a replica or for the file.";
    ANSWERS_CUT_OFF = counter "larder_node_answers_cut_off_total" ["node"] "Batches of replies that waited in vain: their connections were closed, and whether their writes last is unknown to the client.";
    YIELDS = counter "larder_node_yields_total" ["node"] "Times that writes were held for a planned change of primary.";
    YIELD_SECONDS = counter "larder_node_yield_hold_seconds_total" ["node"] "Time for which they were held, in seconds.";
    MOVES_OUT = counter "larder_node_moves_out_total" ["node"] "Moves of slots that this node gave away.";
    MOVES_IN = counter "larder_node_moves_in_total" ["node"] "Moves of slots that this node took over.";
    JOURNAL_END = gauge "larder_node_journal_offset" ["node"] "Where the node's journal ends, in bytes since it began.";
    JOURNAL_KEPT = gauge "larder_node_journal_kept_bytes" ["node"] "Bytes of the journal that are kept for replicas.";
    FOLLOWERS = gauge "larder_node_followers" ["node"] "Replicas that follow this node and have all data.";
    FOLLOWERS_LAG = gauge "larder_node_followers_lag_bytes" ["node"] "Bytes of the journal that the slowest of them has not acknowledged.";
    LAG_BYTES = gauge "larder_node_lag_bytes" ["node"] "On a replica: bytes of its primary's journal, as far as is known, that are not applied.";
    LAG_SECONDS = gauge "larder_node_silent_seconds" ["node"] "On a replica: seconds since anything came from its primary, which pings several times a second.";
    FULL_SYNCS = counter "larder_node_full_syncs_total" ["node"] "Replicas that were sent all data.";
    PARTIAL_SYNCS = counter "larder_node_partial_syncs_total" ["node"] "Replicas that came back and were sent only what they lacked.";
    LOST_WRITES = counter "larder_node_lost_writes_total" ["node"] "Commands that this node had and its shard has not, kept in files.";
    LOST_UNKNOWN = counter "larder_node_lost_writes_unknown_total" ["node"] "How often nobody knows how many such commands there were.";
}

/// How many of the busiest slots are shown.
const HOT_SLOTS: usize = 10;

/// One node's numbers.
#[derive(Debug)]
pub struct NodeMetrics {
    /// The value of the label `node`.
    addr: String,
    stats: OnceLock<Arc<Stats>>,
    uptime_ms: Count,
    clients: Count,
    memory_used: Count,
    memory_peak: Count,
    memory_max: Count,
    /// By database.
    keys: [Count; DB_COUNT as usize],
    keys_expiring: [Count; DB_COUNT as usize],
    cpu_user_us: Count,
    cpu_system_us: Count,
    epoch: Count,
    slots: Count,
    holding: Count,
    leased: Count,
    answers_waiting: Count,
    feed_keys: Count,
    feed_sent: Count,
    feed_bytes: Count,
    import_keys: Count,
    import_bytes: Count,
    journal_end: Count,
    journal_kept: Count,
    followers: Count,
    followers_lag: Count,
    lag_bytes: Count,
    silent_ms: Count,
    /// Written every ten seconds; a scrape waits for no more than that.
    hot: Mutex<Vec<(Slot, f64)>>,
}

impl NodeMetrics {
    pub(crate) fn new(addr: &str) -> NodeMetrics {
        let zero = Count::new;
        NodeMetrics {
            addr: addr.to_string(),
            stats: OnceLock::new(),
            uptime_ms: zero(),
            clients: zero(),
            memory_used: zero(),
            memory_peak: zero(),
            memory_max: zero(),
            keys: std::array::from_fn(|_| zero()),
            keys_expiring: std::array::from_fn(|_| zero()),
            cpu_user_us: zero(),
            cpu_system_us: zero(),
            epoch: zero(),
            slots: zero(),
            holding: zero(),
            leased: zero(),
            answers_waiting: zero(),
            feed_keys: zero(),
            feed_sent: zero(),
            feed_bytes: zero(),
            import_keys: zero(),
            import_bytes: zero(),
            journal_end: zero(),
            journal_kept: zero(),
            followers: zero(),
            followers_lag: zero(),
            lag_bytes: zero(),
            silent_ms: zero(),
            hot: Mutex::default(),
        }
    }

    /// The node's counters, once it has some.
    pub(crate) fn attach(&self, stats: Arc<Stats>) {
        // A node is made once.
        let _ = self.stats.set(stats);
    }

    /// By the node's thread: what only it can read.
    pub(crate) fn publish(&self, node: &Node, clock: Clock) {
        self.uptime_ms.set(clock.mono_ms);
        self.clients.set(node.clients.len() as u64);
        self.memory_used.set(node.databases.used_memory());
        self.memory_peak.set(node.memory_peak());
        self.memory_max.set(node.databases.config().maxmemory);
        for db in Db::all() {
            let space = node.databases.get(db);
            let keys = space.map_or(0, Keyspace::visible_len);
            let expiring = space.map_or(0, Keyspace::expiring_len);
            self.keys[db.index()].set(keys as u64);
            self.keys_expiring[db.index()].set(expiring as u64);
        }
        self.cpu_user_us.set(node.machine.cpu_user_us);
        self.cpu_system_us.set(node.machine.cpu_system_us);
        self.epoch.set(node.ownership.epoch().0);
        self.slots.set(node.ownership.slots().len() as u64);
        self.holding.set(node.ownership.held().len() as u64);
        self.leased.set(u64::from(node.is_leased()));
        self.answers_waiting.set(node.waiting_answers() as u64);
        let (mut keys, mut sent, mut bytes) = (0, 0, 0);
        for feed in node.feeds().iter().filter(|feed| !feed.is_over()) {
            let Some(state) = feed.state() else { continue };
            keys += state.keys_total;
            sent += state.keys_sent;
            bytes += state.bytes_sent;
        }
        self.feed_keys.set(keys);
        self.feed_sent.set(sent);
        self.feed_bytes.set(bytes);
        let (mut keys, mut bytes) = (0, 0);
        for incoming in node.imports().iter().filter(|it| !it.is_failed()) {
            let state = incoming.state();
            keys += state.keys;
            bytes += state.bytes;
        }
        self.import_keys.set(keys);
        self.import_bytes.set(bytes);
        self.publish_replication(node, clock);
    }

    fn publish_replication(&self, node: &Node, clock: Clock) {
        let end = node.journal.end().0;
        self.journal_end.set(end);
        self.journal_kept.set(node.journal.kept_bytes() as u64);
        let followers = node.replication.followers.iter();
        let streaming = followers.filter(|it| it.phase == LinkPhase::Streaming);
        let lags: Vec<u64> = streaming.map(|it| end.saturating_sub(it.acked.0)).collect();
        self.followers.set(lags.len() as u64);
        self.followers_lag.set(lags.into_iter().max().unwrap_or(0));
        let following = node.following(clock);
        self.lag_bytes
            .set(following.as_ref().map_or(0, |it| it.lag_bytes));
        self.silent_ms.set(following.map_or(0, |it| it.silent_ms));
    }

    pub(crate) fn publish_heat(&self, hot: Vec<(Slot, f64)>) {
        *self.hot.lock().unwrap_or_else(PoisonError::into_inner) = hot;
    }

    fn commands(&self, stats: &Stats, page: &mut Page) {
        let node = self.addr.as_str();
        for &id in CommandId::ALL {
            let counts = stats.of(id);
            if counts.calls.get() + counts.rejected.get() == 0 {
                continue;
            }
            let labels = [node, command::spec(id).name];
            let seconds = counts.nanos.get() as f64 / 1e9;
            page.value(&COMMANDS, &labels, counts.calls.get());
            page.value(&COMMAND_SECONDS, &labels, seconds);
            page.value(&COMMANDS_REJECTED, &labels, counts.rejected.get());
            page.value(&COMMANDS_FAILED, &labels, counts.failed.get());
        }
    }
}

impl Source for NodeMetrics {
    fn collect(&self, page: &mut Page) {
        let node = [self.addr.as_str()];
        let Some(stats) = self.stats.get() else {
            page.value(&UP, &node, 0_u64);
            return;
        };
        page.value(&UP, &node, 1_u64);
        page.value(&UPTIME, &node, self.uptime_ms.get() / 1000);
        for (metric, count) in [
            (&CLIENTS, &self.clients),
            (&MEMORY_USED, &self.memory_used),
            (&MEMORY_PEAK, &self.memory_peak),
            (&MEMORY_MAX, &self.memory_max),
            (&EPOCH, &self.epoch),
            (&SLOTS, &self.slots),
            (&HOLDING, &self.holding),
            (&LEASED, &self.leased),
            (&ANSWERS_WAITING, &self.answers_waiting),
            (&FEED_KEYS, &self.feed_keys),
            (&FEED_SENT, &self.feed_sent),
            (&FEED_BYTES, &self.feed_bytes),
            (&IMPORT_KEYS, &self.import_keys),
            (&IMPORT_BYTES, &self.import_bytes),
            (&JOURNAL_END, &self.journal_end),
            (&JOURNAL_KEPT, &self.journal_kept),
            (&FOLLOWERS, &self.followers),
            (&FOLLOWERS_LAG, &self.followers_lag),
            (&LAG_BYTES, &self.lag_bytes),
        ] {
            page.value(metric, &node, count.get());
        }
        let silent = self.silent_ms.get() as f64 / 1000.0;
        page.value(&LAG_SECONDS, &node, silent);
        for db in Db::all() {
            let name = format!("db{db}");
            let labels = [node[0], name.as_str()];
            page.value(&KEYS, &labels, self.keys[db.index()].get());
            page.value(
                &KEYS_EXPIRING,
                &labels,
                self.keys_expiring[db.index()].get(),
            );
        }
        for (metric, micros) in [
            (&CPU_USER, &self.cpu_user_us),
            (&CPU_SYSTEM, &self.cpu_system_us),
        ] {
            page.value(metric, &node, micros.get() as f64 / 1e6);
        }
        for (metric, count) in [
            (&CONNECTIONS, &stats.connections_received),
            (&CONNECTIONS_REJECTED, &stats.connections_rejected),
            (&HITS, &stats.keyspace_hits),
            (&MISSES, &stats.keyspace_misses),
            (&COMMANDS_PROCESSED, &stats.commands_processed),
            (&ERRORS, &stats.errors),
            (&EXPIRED, &stats.expired_keys),
            (&EVICTED, &stats.evicted_keys),
            (&INPUT, &stats.net_input_bytes),
            (&OUTPUT, &stats.net_output_bytes),
            (&HELD, &stats.held_requests),
            (&LEASES_LOST, &stats.leases_lost),
            (&ANSWERS_CUT_OFF, &stats.answers_cut_off),
            (&YIELDS, &stats.yields),
            (&MOVES_OUT, &stats.moves_out),
            (&MOVES_IN, &stats.moves_in),
            (&FULL_SYNCS, &stats.full_syncs),
            (&PARTIAL_SYNCS, &stats.partial_syncs),
            (&LOST_WRITES, &stats.lost_writes),
            (&LOST_UNKNOWN, &stats.lost_unknown),
        ] {
            page.value(metric, &node, count.get());
        }
        let held_seconds = stats.yield_hold_ms.get() as f64 / 1e3;
        page.value(&YIELD_SECONDS, &node, held_seconds);
        self.commands(stats, page);
        let hot = self.hot.lock().unwrap_or_else(PoisonError::into_inner);
        for (slot, rate) in hot.iter() {
            page.value(&HOT, &[node[0], &slot.to_string()], *rate);
        }
    }
}

/// Finds the busiest slots from one look at their counters to the next.
pub(crate) struct Heat {
    before: Box<[u64]>,
}

impl Heat {
    pub(crate) fn new() -> Heat {
        Heat {
            before: vec![0; SLOT_COUNT as usize].into_boxed_slice(),
        }
    }

    /// The busiest slots of the last `seconds`, busiest first; quiet slots are none of them.
    pub(crate) fn hottest(&mut self, stats: &Stats, seconds: f64) -> Vec<(Slot, f64)> {
        let mut counts: Vec<(Slot, u64)> = Vec::new();
        for slot in Slot::all() {
            let count = stats.of_slot(slot).get();
            let grown = count.saturating_sub(self.before[slot.index()]);
            self.before[slot.index()] = count;
            if grown > 0 {
                counts.push((slot, grown));
            }
        }
        counts.sort_by_key(|&(slot, count)| (std::cmp::Reverse(count), slot));
        counts.truncate(HOT_SLOTS);
        counts
            .into_iter()
            .map(|(slot, count)| (slot, count as f64 / seconds))
            .collect()
    }
}
