//! What the proxy counts. Each thread has counters of its own, which it alone writes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use larder_runtime::metrics::{Count, Latency, Level, Page, Source};
use larder_wire::command::{self, Categories, CommandId};

use crate::shared::Shared;

larder_runtime::metrics! {
    /// All metrics of the proxy.
    pub DECLARED;
    REQUESTS = counter "larder_proxy_requests_total" ["family"] "Requests of clients, by family of commands.";
    ERRORS = counter "larder_proxy_errors_total" ["kind"] "Error replies that clients got, by their code.";
    REDIRECTS = counter "larder_proxy_redirects_total" ["kind"] "Refusals of nodes that the proxy dealt with itself: moved, ask or later.";
    HOLDS = counter "larder_proxy_holds_total" [] "Requests that waited for their slot to be served.";
    HELD_BYTES = gauge "larder_proxy_held_bytes" [] "Requests that wait for their slot to be served, in bytes.";
    GATED_SLOTS = gauge "larder_proxy_gated_slots" [] "Slots whose requests are held back, in all threads.";
    REQUEST_SECONDS = histogram "larder_proxy_request_seconds" ["thread"] "From a request's arrival to its reply, in seconds.";
    NODE_SECONDS = histogram "larder_proxy_node_seconds" ["node", "thread"] "From a request's sending to the node's reply, in seconds.";
    CLIENTS = gauge "larder_proxy_connected_clients" [] "Client connections that are open.";
    CONNECTIONS = counter "larder_proxy_connections_total" [] "Client connections taken.";
    REJECTED = counter "larder_proxy_rejected_connections_total" [] "Client connections turned away.";
    SLOW_READERS = counter "larder_proxy_slow_readers_total" [] "Clients cut off because they did not read their replies.";
    STALLS = counter "larder_proxy_stalls_total" [] "Times that a client was not read from for want of room.";
    RECEIVED = counter "larder_proxy_received_bytes_total" ["from"] "Bytes read, from clients or from nodes.";
    SENT = counter "larder_proxy_sent_bytes_total" ["to"] "Bytes written, to clients or to nodes.";
    WRITES = counter "larder_proxy_writes_total" ["to"] "Writes to sockets, to clients or to nodes.";
    IN_FLIGHT = gauge "larder_proxy_in_flight_requests" ["node"] "Requests given to the node's connections and not answered.";
    NODE_CONNECTIONS = gauge "larder_proxy_node_connections" ["node"] "Connections to the node that are up.";
    NODE_FAILURES = counter "larder_proxy_node_failures_total" ["node"] "Connections to the node that failed or were lost.";
    EPOCH = gauge "larder_proxy_map_epoch" [] "Epoch of the slot map that is followed.";
    FORWARDS = gauge "larder_proxy_forwards" [] "1 while requests go to the old server that is copied from, and not to Larder.";
    SOURCE_UP = gauge "larder_proxy_map_source_up" [] "1 while whoever tells the map can be reached.";
    THREADS = gauge "larder_proxy_threads" [] "Threads that serve clients.";
}

/// What errors are counted under; others are `other`.
const ERROR_KINDS: [&str; 16] = [
    "ERR",
    "WRONGTYPE",
    "CROSSSLOT",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MOVED",
    "ASK",
    "LOADING",
    "READONLY",
    "OOM",
    "NOAUTH",
    "WRONGPASS",
    "DENIED",
    "EXECABORT",
    "BUSYKEY",
    "other",
];

/// Families of commands, the first that fits.
const FAMILIES: [(&str, Categories); 13] = [
    ("string", Categories::STRING),
    ("hash", Categories::HASH),
    ("list", Categories::LIST),
    ("set", Categories::SET),
    ("sortedset", Categories::SORTEDSET),
    ("stream", Categories::STREAM),
    ("bitmap", Categories::BITMAP),
    ("hyperloglog", Categories::HYPERLOGLOG),
    ("geo", Categories::GEO),
    ("pubsub", Categories::PUBSUB),
    ("scripting", Categories::SCRIPTING),
    ("transaction", Categories::TRANSACTION),
    ("keyspace", Categories::KEYSPACE),
];

fn family(id: CommandId) -> &'static str {
    let categories = command::spec(id).categories;
    if categories.has(Categories::CONNECTION) {
        return "connection";
    }
    let fits = FAMILIES
        .iter()
        .find(|(_, category)| categories.has(*category));
    fits.map_or("server", |(name, _)| name)
}

/// One thread's counters.
#[derive(Debug)]
pub(crate) struct ThreadCounts {
    requests: Box<[Count]>,
    errors: [Count; ERROR_KINDS.len()],
    pub(crate) moved: Count,
    pub(crate) asked: Count,
    pub(crate) later: Count,
    pub(crate) holds: Count,
    pub(crate) held_bytes: Level,
    pub(crate) gates: Level,
    request_latency: Latency,
    pub(crate) clients: Level,
    pub(crate) connections: Count,
    pub(crate) slow_readers: Count,
    pub(crate) stalls: Count,
    pub(crate) from_clients: Count,
    pub(crate) from_nodes: Count,
    pub(crate) to_clients: Count,
    pub(crate) to_nodes: Count,
    pub(crate) client_writes: Count,
    pub(crate) node_writes: Count,
    nodes: Mutex<BTreeMap<String, Arc<NodeCounts>>>,
}

/// One thread's counters of one node.
#[derive(Debug, Default)]
pub(crate) struct NodeCounts {
    pub(crate) sent: Count,
    pub(crate) answered: Count,
    pub(crate) connections: Level,
    pub(crate) failures: Count,
    latency: Latency,
}

impl NodeCounts {
    #[inline]
    pub(crate) fn took(&self, us: u64) {
        self.latency.record(Duration::from_micros(us));
    }
}

impl ThreadCounts {
    pub(crate) fn new() -> ThreadCounts {
        ThreadCounts {
            requests: CommandId::ALL.iter().map(|_| Count::new()).collect(),
            errors: [const { Count::new() }; ERROR_KINDS.len()],
            moved: Count::new(),
            asked: Count::new(),
            later: Count::new(),
            holds: Count::new(),
            held_bytes: Level::new(),
            gates: Level::new(),
            request_latency: Latency::new(),
            clients: Level::new(),
            connections: Count::new(),
            slow_readers: Count::new(),
            stalls: Count::new(),
            from_clients: Count::new(),
            from_nodes: Count::new(),
            to_clients: Count::new(),
            to_nodes: Count::new(),
            client_writes: Count::new(),
            node_writes: Count::new(),
            nodes: Mutex::new(BTreeMap::new()),
        }
    }

    #[inline]
    pub(crate) fn request(&self, id: CommandId) {
        self.requests[id as usize].inc();
    }

    pub(crate) fn requests_total(&self) -> u64 {
        self.requests.iter().map(Count::get).sum()
    }

    #[inline]
    pub(crate) fn request_took(&self, us: u64) {
        self.request_latency.record(Duration::from_micros(us));
    }

    pub(crate) fn error(&self, code: &[u8]) {
        let known = ERROR_KINDS.iter().position(|kind| kind.as_bytes() == code);
        self.errors[known.unwrap_or(ERROR_KINDS.len() - 1)].inc();
    }

    pub(crate) fn add_node(&self, addr: &str) -> Arc<NodeCounts> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.entry(addr.to_string()).or_default().clone()
    }
}

/// The proxy as a source of metrics.
impl Source for Shared {
    fn collect(&self, page: &mut Page) {
        let threads = self.threads();
        let sum =
            |of: &dyn Fn(&ThreadCounts) -> u64| -> u64 { threads.iter().map(|t| of(t)).sum() };
        let level = |of: &dyn Fn(&ThreadCounts) -> i64| -> f64 {
            threads.iter().map(|t| of(t)).sum::<i64>() as f64
        };
        let mut families: BTreeMap<&str, u64> = BTreeMap::new();
        for id in CommandId::ALL {
            *families.entry(family(*id)).or_default() += sum(&|t| t.requests[*id as usize].get());
        }
        for (family, count) in families {
            page.value(&REQUESTS, &[family], count);
        }
        for (index, kind) in ERROR_KINDS.iter().enumerate() {
            page.value(&ERRORS, &[kind], sum(&|t| t.errors[index].get()));
        }
        page.value(&REDIRECTS, &["moved"], sum(&|t| t.moved.get()));
        page.value(&REDIRECTS, &["ask"], sum(&|t| t.asked.get()));
        page.value(&REDIRECTS, &["later"], sum(&|t| t.later.get()));
        page.value(&HOLDS, &[], sum(&|t| t.holds.get()));
        page.value(&HELD_BYTES, &[], level(&|t| t.held_bytes.get()));
        page.value(&GATED_SLOTS, &[], level(&|t| t.gates.get()));
        page.value(&CLIENTS, &[], level(&|t| t.clients.get()));
        page.value(&CONNECTIONS, &[], sum(&|t| t.connections.get()));
        page.value(&REJECTED, &[], self.rejected.get());
        page.value(&SLOW_READERS, &[], sum(&|t| t.slow_readers.get()));
        page.value(&STALLS, &[], sum(&|t| t.stalls.get()));
        page.value(&RECEIVED, &["clients"], sum(&|t| t.from_clients.get()));
        page.value(&RECEIVED, &["nodes"], sum(&|t| t.from_nodes.get()));
        page.value(&SENT, &["clients"], sum(&|t| t.to_clients.get()));
        page.value(&SENT, &["nodes"], sum(&|t| t.to_nodes.get()));
        page.value(&WRITES, &["clients"], sum(&|t| t.client_writes.get()));
        page.value(&WRITES, &["nodes"], sum(&|t| t.node_writes.get()));
        page.value(&EPOCH, &[], self.map().epoch.0);
        let forwards = self.forwards.load(std::sync::atomic::Ordering::Relaxed);
        page.value(&FORWARDS, &[], u64::from(forwards));
        page.value(&SOURCE_UP, &[], u64::from(self.source_is_up()));
        page.value(&THREADS, &[], threads.len() as u64);
        let mut nodes: BTreeMap<String, (i64, i64, u64)> = BTreeMap::new();
        for (index, thread) in threads.iter().enumerate() {
            let name = index.to_string();
            page.latency(&REQUEST_SECONDS, &[&name], &thread.request_latency);
            let known = thread.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            for (addr, counts) in known.iter() {
                page.latency(&NODE_SECONDS, &[addr, &name], &counts.latency);
                let entry = nodes.entry(addr.clone()).or_default();
                entry.0 += counts.sent.get().saturating_sub(counts.answered.get()) as i64;
                entry.1 += counts.connections.get();
                entry.2 += counts.failures.get();
            }
        }
        for (addr, (in_flight, connections, failures)) in nodes {
            page.value(&IN_FLIGHT, &[&addr], in_flight as f64);
            page.value(&NODE_CONNECTIONS, &[&addr], connections as f64);
            page.value(&NODE_FAILURES, &[&addr], failures);
        }
    }
}
