//! What all threads of a proxy share: who its clients are, the map, its secret, and what it counts.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use larder_runtime::Secret;
use larder_runtime::http::Readiness;
use larder_runtime::metrics::Count;
use larder_wire::{ClusterMap, NodeId};
use tokio::sync::Notify;

use crate::metrics::ThreadCounts;
use crate::registry::Clients;

pub(crate) struct Shared {
    pub(crate) clients: Clients,
    pub(crate) started: Instant,
    pub(crate) id: NodeId,
    pub(crate) secret: Option<Secret>,
    pub(crate) port: u16,
    pub(crate) clients_max: usize,
    pub(crate) readiness: Readiness,
    /// Written by the accepting thread alone.
    pub(crate) rejected: Count,
    /// Someone wants a newer map.
    pub(crate) refresh: Notify,
    pub(crate) source_up: AtomicBool,
    /// Requests go to an old server.
    pub(crate) forwards: AtomicBool,
    map: ArcSwap<ClusterMap>,
    threads: OnceLock<Vec<Arc<ThreadCounts>>>,
}

impl Shared {
    pub(crate) fn new(id: NodeId, secret: Option<Secret>, port: u16, clients_max: usize) -> Shared {
        let started = Instant::now();
        Shared {
            clients: Clients::new(started),
            started,
            id,
            secret,
            port,
            clients_max,
            readiness: Readiness::waiting_for("the first slot map"),
            rejected: Count::new(),
            refresh: Notify::new(),
            source_up: AtomicBool::new(false),
            forwards: AtomicBool::new(false),
            map: ArcSwap::from_pointee(ClusterMap::empty("larder")),
            threads: OnceLock::new(),
        }
    }

    /// Once, before anything is served.
    pub(crate) fn set_threads(&self, threads: Vec<Arc<ThreadCounts>>) {
        let set = self.threads.set(threads);
        assert!(set.is_ok(), "a proxy's threads start once");
    }

    pub(crate) fn threads(&self) -> &[Arc<ThreadCounts>] {
        self.threads.get().map_or(&[], Vec::as_slice)
    }

    pub(crate) fn map(&self) -> Arc<ClusterMap> {
        self.map.load_full()
    }

    pub(crate) fn set_map(&self, map: Arc<ClusterMap>) {
        self.map.store(map);
    }

    pub(crate) fn source_is_up(&self) -> bool {
        self.source_up.load(Relaxed)
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }
}
