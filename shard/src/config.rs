//! What a shard process is started with, and why it may not start.

use std::io;
use std::path::PathBuf;

use larder_runtime::{ListenError, Topologies};
use larder_wire::Secret;

/// Plain values: flags are read by the command line.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// `host:port` of the first node; port 0 takes free ones.
    pub listen: String,
    /// Nodes on consecutive ports.
    pub nodes: u16,
    /// Where the topologies listen; `None` is a standalone node that owns all slots.
    pub topology: Option<Topologies>,
    /// The host by which others reach the nodes; `None` is the host of `listen`.
    pub advertise: Option<String>,
    /// The cluster's secret. A standalone node does without one.
    pub secret: Option<Secret>,
    /// Bytes of each node; 0 is no limit.
    pub maxmemory: u64,
    /// `maxmemory-policy`.
    pub maxmemory_policy: String,
    /// The password of ordinary clients (`requirepass`); empty is none.
    pub password: String,
    /// Where users are kept (`aclfile`); `None` keeps them in memory alone.
    pub aclfile: Option<PathBuf>,
    pub zone: Option<String>,
    /// Keeps the nodes' ids and what they save, so that a node that restarts is the same one: a standalone node's files in the folder itself,
    /// those of a cluster's node in `node-PORT/`.
    pub data_dir: Option<PathBuf>,
    /// When a node saves by itself (`save`): seconds and changes, `3600 1 300 100`; empty is never.
    pub save: String,
    /// `appendonly`.
    pub appendonly: bool,
    /// `appendfsync`.
    pub appendfsync: String,
    /// Further parameters of CONFIG SET and their values, and the names of files that only a start decides.
    pub settings: Vec<(String, String)>,
    /// `host:port` of this process's HTTP port, told to the topology.
    pub http: Option<String>,
    /// Refuses strangers beyond loopback where no password is set.
    pub protected_mode: bool,
    /// The flag that moves the port, for errors.
    pub listen_flag: String,
}

impl Default for ShardConfig {
    fn default() -> ShardConfig {
        ShardConfig {
            listen: "127.0.0.1:7001".to_string(),
            nodes: 1,
            topology: None,
            advertise: None,
            secret: None,
            maxmemory: 0,
            maxmemory_policy: "noeviction".to_string(),
            password: String::new(),
            aclfile: None,
            zone: None,
            data_dir: None,
            save: String::new(),
            appendonly: false,
            appendfsync: "everysec".to_string(),
            settings: Vec::new(),
            http: None,
            protected_mode: true,
            listen_flag: "--listen".to_string(),
        }
    }
}

/// Why nothing was started. One line that a person can act on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("cannot keep node ids in {path}: {error} (choose another folder with --data-dir)", path = path.display())]
    DataDir { path: PathBuf, error: io::Error },
    #[error("{path} holds no node id: {cause} (remove the file to start as a new node)", path = path.display())]
    BadId { path: PathBuf, cause: String },
    #[error(
        "{nodes} nodes from port {port} on go beyond port 65535 (choose another with --listen)"
    )]
    PortsBeyond { port: u16, nodes: u16 },
    #[error("{0}")]
    Setting(String),
    #[error("a node of a cluster needs its secret (--secret-file FILE or LARDER_SECRET)")]
    NoSecret,
    #[error("cannot start a node's thread: {0}")]
    Thread(io::Error),
}
