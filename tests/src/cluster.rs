//! A cluster of real processes on 127.0.0.1: a topology, shard processes of one node each, a proxy.
//! Any of them can be killed, and started again at its old address.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::client::Client;
use crate::process::{Process, free_port, local};

/// The secret of every cluster that tests start.
pub const SECRET: &str = "the-secret-of-the-tests-0123456789";
/// Longest wait for a cluster to come to a wanted state, in seconds.
pub const STATE_WAIT_S_MAX: u64 = 60;
const LOOK_EVERY_MS: u64 = 20;

pub struct Cluster {
    // Dropped before the folder.
    pub topology: Option<Process>,
    pub nodes: Vec<Option<Process>>,
    pub proxy: Option<Process>,
    topology_addr: SocketAddr,
    /// What `--topology` is given.
    topologies: String,
    http_addr: SocketAddr,
    node_addrs: Vec<SocketAddr>,
    proxy_addr: SocketAddr,
    shards: usize,
    /// Further flags of the topology, and of all nodes.
    topology_flags: Vec<String>,
    node_flags: Vec<String>,
    folder: TempDir,
}

impl Cluster {
    /// A cluster of `shards` shards behind a proxy, with `spares` nodes beside, all slots served.
    pub fn start(shards: usize, spares: usize) -> Cluster {
        Cluster::start_with(shards, spares, &[])
    }

    /// With nodes that keep their data in the cluster's folder and come back as the same ones; with further flags, `["--appendonly", "yes"]`.
    pub fn start_keeping(shards: usize, spares: usize, node_flags: &[&str]) -> Cluster {
        let flags = [&["--data-dir", "data"], node_flags].concat();
        Cluster::start_with(shards, spares, &flags)
    }

    /// With further flags of the topology, `["--lost-shards", "empty:1"]`.
    pub fn start_flagged(shards: usize, spares: usize, topology_flags: &[&str]) -> Cluster {
        let mut cluster = Cluster::prepare(shards, spares);
        cluster.topology_flags = topology_flags
            .iter()
            .map(|flag| (*flag).to_owned())
            .collect();
        cluster.start_topology();
        cluster.start_members();
        cluster
    }

    fn start_with(shards: usize, spares: usize, node_flags: &[&str]) -> Cluster {
        let mut cluster = Cluster::prepare(shards, spares);
        cluster.node_flags = node_flags.iter().map(|flag| (*flag).to_owned()).collect();
        cluster.start_topology();
        cluster.start_members();
        cluster
    }

    /// Nodes and proxy that join topologies of the test's own: `a:1,b:2`, which form clusters of `shards` shards.
    pub fn join(topologies: &str, shards: usize, spares: usize) -> Cluster {
        let mut cluster = Cluster::prepare(shards, spares);
        cluster.topologies = topologies.to_owned();
        cluster.start_members();
        cluster
    }

    fn prepare(shards: usize, spares: usize) -> Cluster {
        let (nodes, topology_addr) = (shards + spares, local(free_port()));
        Cluster {
            topology: None,
            nodes: (0..nodes).map(|_| None).collect(),
            proxy: None,
            topology_addr,
            topologies: topology_addr.to_string(),
            http_addr: local(free_port()),
            node_addrs: (0..nodes).map(|_| local(free_port())).collect(),
            proxy_addr: local(free_port()),
            shards,
            topology_flags: Vec::new(),
            node_flags: Vec::new(),
            folder: tempfile::tempdir().expect("a folder for the cluster"),
        }
    }

    fn start_members(&mut self) {
        let nodes = self.nodes.len();
        for index in 0..nodes {
            self.start_node(index);
        }
        self.start_proxy();
        self.wait_until("all nodes have joined and all slots are served", |status| {
            let shards = array(status, "shards");
            let slots = shards
                .iter()
                .filter_map(|shard| shard["slot_count"].as_u64());
            let primaries = shards.iter().map(|shard| &shard["node"]);
            let mut joined = primaries.chain(array(status, "spares"));
            let replicas = shards.iter().flat_map(|shard| array(shard, "replicas"));
            slots.sum::<u64>() == 16384
                && shards.len() + replicas.count() + array(status, "spares").len() == nodes
                && array(status, "proxies").len() == 1
                && joined.all(|node| node["reachable"] == true && node["epoch"] == status["epoch"])
        });
    }

    pub fn start_topology(&mut self) {
        let shards = self.shards.to_string();
        let (listen, http) = (self.topology_addr.to_string(), self.http_addr.to_string());
        let data = self.folder.path().join("topology").display().to_string();
        let mut args = vec![
            "topology",
            "--listen",
            &listen,
            "--http",
            &http,
            "--shards",
            &shards,
            "--data-dir",
            &data,
        ];
        args.extend(self.topology_flags.iter().map(String::as_str));
        self.topology = Some(self.start_larder("topology", &args, self.topology_addr));
    }

    pub fn start_node(&mut self, index: usize) {
        let listen = self.node_addrs[index].to_string();
        let mut args = vec!["shard", "--topology", &self.topologies, "--listen", &listen];
        args.extend(self.node_flags.iter().map(String::as_str));
        self.nodes[index] =
            Some(self.start_larder(&format!("node-{index}"), &args, self.node_addrs[index]));
    }

    pub fn start_proxy(&mut self) {
        let listen = self.proxy_addr.to_string();
        let args = ["proxy", "--topology", &self.topologies, "--listen", &listen];
        self.proxy = Some(self.start_larder("proxy", &args, self.proxy_addr));
    }

    fn start_larder(&self, name: &str, args: &[&str], addr: SocketAddr) -> Process {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let envs = [("LARDER_SECRET", SECRET)];
        let mut process = Process::start(name, &larder_bin(), &args, &envs, self.folder.path())
            .expect("larder is built (cargo build --profile quick)");
        process.wait_listening(addr);
        process
    }

    pub fn proxy_addr(&self) -> SocketAddr {
        self.proxy_addr
    }

    pub fn topology_addr(&self) -> SocketAddr {
        self.topology_addr
    }

    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    pub fn node_addr(&self, index: usize) -> SocketAddr {
        self.node_addrs[index]
    }

    /// The index of the node that listens at `host:port`.
    pub fn node_at(&self, addr: &str) -> Option<usize> {
        self.node_addrs
            .iter()
            .position(|known| known.to_string() == addr)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client of the proxy.
    pub fn client(&self) -> Client {
        Client::to(self.proxy_addr)
    }

    /// `larder <args> --topology …`, to be started by the caller.
    pub fn operator(&self, args: &[&str]) -> Command {
        let mut command = Command::new(larder_bin());
        command
            .args(args)
            .args(["--topology", &self.topologies])
            .env("LARDER_SECRET", SECRET)
            .stdin(Stdio::null());
        command
    }

    /// Runs `larder <args> --topology …` to its end.
    pub fn larder(&self, args: &[&str]) -> Output {
        self.operator(args).output().expect("larder runs")
    }

    /// `larder status --json`; `None` while the topology does not answer.
    pub fn status(&self) -> Option<Value> {
        let output = self.larder(&["status", "--json"]);
        output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).expect("status --json prints JSON"))
    }

    /// Waits until the status is as wanted, and gives it back.
    ///
    /// # Panics
    /// When it takes too long; with the last status.
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let give_up = Instant::now() + Duration::from_secs(STATE_WAIT_S_MAX);
        let mut last = None;
        while Instant::now() < give_up {
            if let Some(status) = self.status() {
                if wanted(&status) {
                    return status;
                }
                last = Some(status);
            }
            thread::sleep(Duration::from_millis(LOOK_EVERY_MS));
        }
        panic!("it did not come true that {what}; the last status: {last:#?}");
    }
}

/// A list of the status; empty when it has none of that name.
pub fn array<'s>(status: &'s Value, name: &str) -> &'s [Value] {
    status[name].as_array().map_or(&[], Vec::as_slice)
}

/// The binary under test: `$LARDER_BIN`, or what `cargo build --profile quick` made.
pub fn larder_bin() -> PathBuf {
    if let Some(path) = std::env::var_os("LARDER_BIN") {
        return PathBuf::from(path);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    target.join("quick/larder")
}
