//! Starting and stopping a topology: everything that can fail for an operator fails here, before the
//! thread starts.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use larder_plan::{Settings, State, StateError};
use larder_runtime::http::{HttpPort, Readiness};
use larder_runtime::shutdown::{self, Shutdown, ShutdownTrigger};
use larder_runtime::{ListenError, Registry, Secret, listen};
use larder_wire::ClusterMap;
use tokio::sync::watch;

use crate::metrics::Shown;
use crate::service::{self, Parts, Record};
use crate::store::{Embedded, Etcd, EtcdAddress, LeaderRecord, Store, StoreError};

/// How long etcd is waited for at the start, in milliseconds.
const LOOK_MS_MAX: u64 = 1_000;

/// Called with the number of nodes that are missing, on the topology's thread: it must not block.
pub type NodeStarter = Box<dyn Fn(u32) + Send>;

/// What the flags are called, for errors.
#[derive(Clone, Copy, Debug)]
pub struct Flags {
    pub listen: &'static str,
    pub http: &'static str,
    pub data_dir: &'static str,
}

impl Default for Flags {
    fn default() -> Flags {
        Flags {
            listen: "--listen",
            http: "--http",
            data_dir: "--data-dir",
        }
    }
}

pub struct TopologyConfig {
    /// The cluster's name.
    pub cluster: String,
    /// `host:port`; port 0 takes a free one.
    pub listen: String,
    pub http: Option<String>,
    /// Where the record is kept, unless `etcd` says where.
    pub data_dir: PathBuf,
    /// The record that several topologies share, of which one leads.
    pub etcd: Option<EtcdAddress>,
    /// The host under which others reach this process; `None` is the host of `listen`.
    pub announce: Option<String>,
    /// For a cluster that is not formed yet; later the record's count.
    pub settings: Settings,
    pub secret: Secret,
    /// `--protected-mode`: strangers from other machines are refused.
    pub protected: bool,
    /// Where `/metrics` takes its numbers from; the topology adds its own.
    pub registry: Registry,
    /// What the process is called in `/sd`: `topology`, or `up` when it hosts more.
    pub part: &'static str,
    /// Set where further nodes can be started without an operator.
    pub node_starter: Option<NodeStarter>,
    pub flags: Flags,
}

impl TopologyConfig {
    /// The usual: cluster `larder`, protected, nothing shared with other parts of a process.
    pub fn new(listen: &str, data_dir: PathBuf, shards: u32, secret: Secret) -> TopologyConfig {
        TopologyConfig {
            cluster: "larder".to_string(),
            listen: listen.to_string(),
            http: None,
            data_dir,
            etcd: None,
            announce: None,
            settings: Settings {
                shards,
                replicas: 0,
                writes: Default::default(),
                lost_shards: Default::default(),
                scale: Default::default(),
            },
            secret,
            protected: true,
            registry: Registry::new(),
            part: "topology",
            node_starter: None,
            flags: Flags::default(),
        }
    }
}

impl fmt::Debug for TopologyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopologyConfig")
            .field("cluster", &self.cluster)
            .field("listen", &self.listen)
            .field("http", &self.http)
            .field("data_dir", &self.data_dir)
            .field("etcd", &self.etcd)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Why it did not start: one line for an operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Settings(String),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(
        "--listen {0} says not where others reach this topology, which the others must know (name its host with --announce)"
    )]
    Nowhere(SocketAddr),
    #[error("cannot start the topology's thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A topology that runs. Dropping it ends it, too.
#[derive(Debug)]
pub struct Handle {
    addr: SocketAddr,
    http_addr: Option<SocketAddr>,
    recorded_nodes: Vec<String>,
    maps: watch::Receiver<Arc<ClusterMap>>,
    readiness: Readiness,
    trigger: ShutdownTrigger,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Where nodes, proxies and operators connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// Addresses of the nodes that own slots according to the record, as it was at the start: whoever hosts them
    /// starts them at these again.
    pub fn recorded_nodes(&self) -> &[String] {
        &self.recorded_nodes
    }

    /// The settled map and its changes; epoch 0 until the cluster is formed.
    pub fn maps(&self) -> watch::Receiver<Arc<ClusterMap>> {
        self.maps.clone()
    }

    /// Ready once the cluster is formed.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// True once the thread has ended, by `stop` or by a bug.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends it and waits for the end. The cluster goes on serving.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.trigger.pull();
        if let Some(thread) = self.thread.take() {
            // A panic was reported by the thread itself.
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}

/// Binds the ports, opens the record and starts the thread.
pub fn start(config: TopologyConfig) -> Result<Handle, StartError> {
    config.settings.check().map_err(StartError::Settings)?;
    let listener = listen::tcp(&config.listen, config.flags.listen)?;
    let addr = listener.local_addr()?;
    let http = match &config.http {
        Some(text) => Some(HttpPort::bind(text, config.flags.http)?),
        None => None,
    };
    let http_addr = http.as_ref().map(HttpPort::addr);
    let me = LeaderRecord {
        addr: reached_at(addr, config.announce.as_deref()),
        http: http_addr.map(|http| reached_at(http, config.announce.as_deref())),
    };
    let mut recorded_nodes = Vec::new();
    let record = match &config.etcd {
        None => {
            let store = Embedded::open(&config.data_dir, config.flags.data_dir)?;
            let state = match store.load(&config.cluster)? {
                Some(json) => State::from_json(&json)?,
                None => State::new(&config.cluster, config.settings.clone()),
            };
            let members = state.map.shards().iter().flat_map(|shard| &shard.nodes);
            recorded_nodes = members.map(|node| node.addr.clone()).collect();
            Record::Own {
                store: Box::new(store),
                state: Box::new(state),
            }
        }
        Some(_) if addr.ip().is_unspecified() && config.announce.is_none() => {
            return Err(StartError::Nowhere(addr));
        }
        Some(address) => {
            look_at(address, &config.cluster)?;
            Record::Shared(address.clone())
        }
    };
    let readiness = Readiness::waiting_for("a leader to be chosen");
    let (trigger, shutdown) = shutdown::channel();
    let (maps_in, maps) = watch::channel(Arc::new(ClusterMap::empty(&config.cluster)));
    let shown = Arc::new(Shown::new(&config.cluster));
    config.registry.add(&shown);
    let parts = Parts {
        record,
        maps: maps_in,
        readiness: readiness.clone(),
        shown,
        addr,
        http_addr,
        me,
        config,
    };
    let thread = std::thread::Builder::new()
        .name("topology".into())
        .spawn(move || run(parts, listener, http, shutdown))?;
    Ok(Handle {
        addr,
        http_addr,
        recorded_nodes,
        maps,
        readiness,
        trigger,
        thread: Some(thread),
    })
}

/// A record that this release cannot read is told to the operator at once. An etcd that does not answer may do so later.
fn look_at(address: &EtcdAddress, cluster: &str) -> Result<(), StateError> {
    let limit = Duration::from_millis(LOOK_MS_MAX);
    match Etcd::new(address, cluster).state(limit) {
        Ok(Some(json)) => State::from_json(&json).map(drop),
        Ok(None) => Ok(()),
        Err(trouble) => {
            tracing::warn!("{trouble} (waiting for it)");
            Ok(())
        }
    }
}

fn reached_at(addr: SocketAddr, announce: Option<&str>) -> String {
    match announce {
        Some(host) if host.contains(':') && !host.starts_with('[') => {
            format!("[{host}]:{}", addr.port())
        }
        Some(host) => format!("{host}:{}", addr.port()),
        None => addr.to_string(),
    }
}

/// The scaling targets are those of this start. Shards, replicas and write mode of a formed cluster are the record's:
/// they change by operators' orders alone.
pub(crate) fn with_settings(mut state: State, asked: &Settings) -> State {
    state.settings.scale = asked.scale.clone();
    if !state.formed() {
        state.settings = asked.clone();
    } else if state.settings.shards != asked.shards {
        tracing::info!(
            "the record has {} shards, {} were asked for at the start: the record counts (larder reshard changes it)",
            state.settings.shards,
            asked.shards
        );
    } else if state.settings.replicas != asked.replicas {
        tracing::info!(
            "the record has {} replicas of each shard, {} were asked for at the start: the record counts (larder replicas changes it)",
            state.settings.replicas,
            asked.replicas
        );
    } else if state.settings.lost_shards != asked.lost_shards {
        tracing::info!(
            "lost shards are {} by the record, {} at the start: the record counts (larder lost-shards changes it)",
            state.settings.lost_shards,
            asked.lost_shards
        );
    }
    state
}

fn run(parts: Parts, listener: std::net::TcpListener, http: Option<HttpPort>, shutdown: Shutdown) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only an epoll descriptor");
    let tasks = tokio::task::LocalSet::new();
    let last = tasks.block_on(&runtime, service::serve(parts, listener, http, shutdown));
    // With the tasks goes the last sender of records: the writer ends, and the file is free.
    drop(tasks);
    drop(runtime);
    match last {
        Ok(last) => last.finish(),
        Err(error) => tracing::error!("the topology cannot serve: {error}"),
    }
}
