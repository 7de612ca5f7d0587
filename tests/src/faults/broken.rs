//! A cluster whose processes each have a host of their own: a topology, a proxy, nodes. Any of them can be killed, frozen, cut off and started again.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use larder_plan::report::{ShardReport, Status};
use larder_wire::replication::WriteMode;
use tempfile::TempDir;

use super::netns::{Host, Network};
use crate::client::Client;
use crate::cluster::{SECRET, larder_bin};
use crate::process::Process;
use crate::reply::Reply;
use crate::small_disk::SmallDisk;

/// Longest wait for a cluster to come to a wanted state, in seconds.
pub const STATE_WAIT_S_MAX: u64 = 30;
const LOOK_EVERY_MS: u64 = 20;

const TOPOLOGY_PORT: u16 = 7000;
const HTTP_PORT: u16 = 7080;
const NODE_PORT: u16 = 7001;
const PROXY_PORT: u16 = 6379;

/// What nodes keep in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    Nothing,
    /// Every write, by this `appendfsync`.
    Appended(&'static str),
    /// The same, each on a disk of [`SMALL_DISK_BYTES`].
    OnSmallDisks(&'static str),
}

/// A disk that can be filled in a moment, and has room for what a test writes.
const SMALL_DISK_BYTES: u64 = 24 << 20;

/// What a cluster is to be.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub shards: usize,
    pub replicas: usize,
    pub writes: WriteMode,
    pub keeps: Keeps,
}

impl Shape {
    pub fn nodes(self) -> usize {
        self.shards * (1 + self.replicas)
    }
}

/// Hosts for a cluster: made once, used by one cluster after the other.
pub struct Hosts {
    pub network: Network,
    pub topology: Host,
    pub proxy: Host,
    pub nodes: Vec<Host>,
}

impl Hosts {
    /// Fails, with the reason, where no network can be made.
    pub fn new(nodes: usize) -> Result<Hosts, String> {
        let mut network = Network::new()?;
        let (topology, proxy) = (network.add_host()?, network.add_host()?);
        let nodes = (0..nodes)
            .map(|_| network.add_host())
            .collect::<Result<_, _>>()?;
        Ok(Hosts {
            network,
            topology,
            proxy,
            nodes,
        })
    }
}

/// Processes on those hosts. Whatever faults there are end with it.
pub struct Broken<'h> {
    // Ended before the folder goes.
    pub topology: Option<Process>,
    pub proxy: Option<Process>,
    pub nodes: Vec<Option<Process>>,
    pub hosts: &'h Hosts,
    shape: Shape,
    disks: Vec<SmallDisk>,
    folder: TempDir,
}

impl<'h> Broken<'h> {
    /// All slots served, every replica in step.
    pub fn start(hosts: &'h Hosts, shape: Shape) -> Broken<'h> {
        let mut cluster = Broken {
            topology: None,
            proxy: None,
            nodes: (0..shape.nodes()).map(|_| None).collect(),
            hosts,
            shape,
            disks: Vec::new(),
            folder: tempfile::tempdir().expect("a folder for the cluster"),
        };
        cluster.mount_disks();
        cluster.start_topology();
        for index in 0..shape.nodes() {
            cluster.start_node(index);
        }
        cluster.start_proxy();
        cluster.wait_whole("it begins");
        cluster
    }

    fn mount_disks(&mut self) {
        if !matches!(self.shape.keeps, Keeps::OnSmallDisks(_)) {
            return;
        }
        for index in 0..self.shape.nodes() {
            let folder = self.folder.path().join(format!("node-{index}"));
            std::fs::create_dir(&folder).expect("a folder in the cluster's");
            let disk = SmallDisk::mount(&folder, SMALL_DISK_BYTES);
            // Whoever may make networks may mount.
            self.disks.push(disk.expect("a file system can be mounted"));
        }
    }

    /// What a node's files lie on.
    pub fn disk(&self, index: usize) -> &SmallDisk {
        &self.disks[index]
    }

    pub fn start_topology(&mut self) {
        let (shards, replicas) = (
            self.shape.shards.to_string(),
            self.shape.replicas.to_string(),
        );
        let (listen, http) = (
            self.topology_addr().to_string(),
            self.hosts
                .network
                .socket(self.hosts.topology, HTTP_PORT)
                .to_string(),
        );
        let data = self.folder.path().join("topology").display().to_string();
        let args = [
            "topology",
            "--listen",
            &listen,
            "--http",
            &http,
            "--shards",
            &shards,
            "--replicas",
            &replicas,
            "--writes",
            self.shape.writes.word(),
            "--data-dir",
            &data,
        ];
        self.topology = Some(self.larder(self.hosts.topology, "topology", &args, TOPOLOGY_PORT));
    }

    pub fn start_node(&mut self, index: usize) {
        let (topology, listen) = (
            self.topology_addr().to_string(),
            self.node_addr(index).to_string(),
        );
        let name = format!("node-{index}");
        let data = self.folder.path().join(&name).display().to_string();
        let mut args = vec![
            "shard",
            "--topology",
            &topology,
            "--listen",
            &listen,
            "--data-dir",
            &data,
            "--protected-mode",
            "no",
        ];
        if let Keeps::Appended(fsync) | Keeps::OnSmallDisks(fsync) = self.shape.keeps {
            args.extend(["--appendonly", "yes", "--appendfsync", fsync]);
        }
        self.nodes[index] = Some(self.larder(self.hosts.nodes[index], &name, &args, NODE_PORT));
    }

    pub fn start_proxy(&mut self) {
        let (topology, listen) = (
            self.topology_addr().to_string(),
            self.proxy_addr().to_string(),
        );
        let args = [
            "proxy",
            "--topology",
            &topology,
            "--listen",
            &listen,
            "--protected-mode",
            "no",
        ];
        self.proxy = Some(self.larder(self.hosts.proxy, "proxy", &args, PROXY_PORT));
    }

    fn larder(&self, host: Host, name: &str, args: &[&str], port: u16) -> Process {
        let mut all: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        all.extend(["--log".to_owned(), "info".to_owned()]);
        let envs = [("LARDER_SECRET", SECRET)];
        let network = &self.hosts.network;
        let mut process = network
            .start(host, name, &larder_bin(), &all, &envs, self.folder.path())
            .expect("larder is built (cargo build --profile quick)");
        process.wait_listening(network.socket(host, port));
        process
    }

    pub fn topology_addr(&self) -> SocketAddr {
        self.hosts
            .network
            .socket(self.hosts.topology, TOPOLOGY_PORT)
    }

    pub fn proxy_addr(&self) -> SocketAddr {
        self.hosts.network.socket(self.hosts.proxy, PROXY_PORT)
    }

    pub fn node_addr(&self, index: usize) -> SocketAddr {
        self.hosts
            .network
            .socket(self.hosts.nodes[index], NODE_PORT)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The index of the node that listens at `host:port`.
    pub fn node_at(&self, addr: &str) -> usize {
        (0..self.nodes.len())
            .find(|&index| self.node_addr(index).to_string() == addr)
            .unwrap_or_else(|| panic!("{addr} is no node of this cluster"))
    }

    /// The nodes of a shard: its primary, and its replicas.
    pub fn of_shard(&self, shard: usize) -> (usize, Vec<usize>) {
        let status = self.status().expect("the topology answers");
        let shard = &status.shards[shard];
        let replicas = shard.replicas.iter();
        (
            self.node_at(&shard.node.addr),
            replicas
                .map(|replica| self.node_at(&replica.node.addr))
                .collect(),
        )
    }

    /// Ends a node as a crash would.
    pub fn kill(&mut self, index: usize) {
        self.nodes[index].as_mut().expect("the node runs").kill();
    }

    pub fn signal(&self, index: usize, name: &str) {
        self.nodes[index]
            .as_ref()
            .expect("the node runs")
            .signal(name);
    }

    /// An operator's order to the topology; its answer.
    pub fn order(&self, words: &[&str]) -> Result<String, String> {
        let mut client =
            Client::connect(self.topology_addr()).map_err(|error| error.to_string())?;
        let wait = Duration::from_secs(STATE_WAIT_S_MAX);
        client
            .set_read_timeout(Some(wait))
            .map_err(|error| error.to_string())?;
        let mut all = vec!["LARDER"];
        all.extend(words);
        for request in [vec!["AUTH", "larder", SECRET], all] {
            match client.ask(&request).map_err(|error| error.to_string())? {
                Reply::Error(text) => return Err(text),
                reply if request[0] == "LARDER" => {
                    return reply.as_text().ok_or_else(|| reply.to_string());
                }
                _ => {}
            }
        }
        unreachable!("the last request is an order")
    }

    /// `None` while the topology does not answer.
    pub fn status(&self) -> Option<Status> {
        let json = self.order(&["STATUS", "JSON"]).ok()?;
        Some(serde_json::from_str(&json).expect("STATUS JSON is JSON"))
    }

    /// Waits until every shard has its primary and all its replicas, in step.
    pub fn wait_whole(&self, when: &str) -> Status {
        let shape = self.shape;
        self.wait_until(&format!("all replicas are in step when {when}"), |status| {
            let is_whole = |shard: &ShardReport| {
                let in_step = shard.replicas.iter().filter(|it| it.in_step);
                in_step.count() == shape.replicas
                    && shard.replicas.iter().all(|it| it.node.reachable)
                    && shard.node.reachable
                    && shard.failover.is_none()
                    && shard.node.epoch == status.epoch
            };
            status.shards.len() == shape.shards
                && !status.proxies.is_empty()
                && status.shards.iter().all(is_whole)
        })
    }

    /// Waits until the status is as wanted, and gives it back.
    ///
    /// # Panics
    /// When it takes too long; with the last status and what everybody has printed last.
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
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
        panic!(
            "it did not come true that {what}; the last status: {last:#?}\n{}",
            self.said()
        );
    }

    /// The last lines that each process has printed.
    pub fn said(&self) -> String {
        const LINES: usize = 25;
        let mut names = vec!["topology".to_owned(), "proxy".to_owned()];
        names.extend((0..self.nodes.len()).map(|index| format!("node-{index}")));
        let mut said = String::new();
        for name in names {
            let log = std::fs::read(self.folder.path().join(format!("{name}.log")));
            let text = String::from_utf8_lossy(&log.unwrap_or_default()).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            said += &format!("--- {name}\n");
            for line in &lines[lines.len().saturating_sub(LINES)..] {
                said += &format!("{line}\n");
            }
        }
        said
    }
}

impl Drop for Broken<'_> {
    fn drop(&mut self) {
        self.hosts.network.heal();
    }
}
