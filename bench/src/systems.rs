//! The systems under test: how each is started, and when it is ready to be driven.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::Failure;
use crate::process::{Cores, Server, free_addrs};

/// Where the programs are.
#[derive(Clone, Debug, Args)]
pub(crate) struct Programs {
    /// The larder binary [default: the one beside larder-bench]
    #[arg(long, value_name = "FILE")]
    pub(crate) larder: Option<PathBuf>,
    /// The redis-server to compare with
    #[arg(long, value_name = "FILE", default_value = "redis-server")]
    pub(crate) redis: String,
    /// Twemproxy
    #[arg(long, value_name = "FILE", default_value = "nutcracker")]
    pub(crate) nutcracker: String,
}

impl Programs {
    pub(crate) fn larder(&self) -> Result<String, Failure> {
        let path = match &self.larder {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("larder"),
        };
        if !path.exists() {
            let path = path.display();
            return Err(format!("{path} is missing (cargo build --release -p larder)").into());
        }
        Ok(path.display().to_string())
    }
}

/// A server, or several behind a front, that clients drive through one address.
pub(crate) struct System {
    pub(crate) addr: SocketAddr,
    front: Vec<Server>,
    nodes: Vec<Server>,
    /// Neither front nor node: not measured.
    _others: Vec<Server>,
}

/// CPU time used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuTimes {
    pub(crate) front: Duration,
    pub(crate) nodes: Duration,
}

impl System {
    pub(crate) fn cpu(&self) -> Result<CpuTimes, Failure> {
        let sum = |servers: &[Server]| servers.iter().map(Server::cpu).sum::<Result<_, Failure>>();
        Ok(CpuTimes {
            front: sum(&self.front)?,
            nodes: sum(&self.nodes)?,
        })
    }
}

impl System {
    /// Resident memory of its nodes, in bytes.
    pub(crate) fn rss(&self) -> Result<u64, Failure> {
        self.nodes.iter().map(Server::rss).sum()
    }

    /// How long its nodes have stood ready while others had the cores.
    pub(crate) fn waited(&self) -> Result<Duration, Failure> {
        self.nodes.iter().map(Server::waited).sum()
    }
}

/// Nodes of a proxied system.
const NODES: usize = 3;
/// A question that fronts answer without an error only once the nodes behind can be reached.
const QUESTION: [&str; 2] = ["GET", "ready?"];

/// redis-server as a cache: nothing goes to disk.
pub(crate) async fn redis(
    programs: &Programs,
    cores: &Cores,
    folder: &Path,
) -> Result<System, Failure> {
    let [addr] = free_addrs()?;
    Ok(System {
        addr,
        front: Vec::new(),
        nodes: vec![redis_node("redis", programs, addr, cores, folder).await?],
        _others: Vec::new(),
    })
}

/// One larder node on its own.
pub(crate) async fn larder_node(
    programs: &Programs,
    cores: &Cores,
    folder: &Path,
) -> Result<System, Failure> {
    let [addr, http] = free_addrs()?;
    let command = words(&[
        &programs.larder()?,
        "shard",
        "--standalone",
        "--listen",
        &addr.to_string(),
        "--http",
        &http.to_string(),
    ]);
    let mut node = Server::start("larder-node", &command, cores, folder)?;
    node.ready(addr, &QUESTION).await?;
    Ok(System {
        addr,
        front: Vec::new(),
        nodes: vec![node],
        _others: Vec::new(),
    })
}

/// Twemproxy in front of redis-servers.
pub(crate) async fn twemproxy(
    programs: &Programs,
    front_cores: &Cores,
    node_cores: &Cores,
    folder: &Path,
) -> Result<System, Failure> {
    let [addr, stats, node_addrs @ ..] = free_addrs::<{ 2 + NODES }>()?;
    let mut nodes = Vec::new();
    let mut config = format!(
        "bench:\n  listen: {addr}\n  hash: fnv1a_64\n  distribution: ketama\n  redis: true\n  \
         preconnect: true\n  servers:\n"
    );
    for (index, node_addr) in node_addrs.into_iter().enumerate() {
        let name = format!("redis-{index}");
        nodes.push(redis_node(&name, programs, node_addr, node_cores, folder).await?);
        config.push_str(&format!("    - {node_addr}:1 {name}\n"));
    }
    let file = folder.join("nutcracker.yml");
    std::fs::write(&file, config)?;
    let command = words(&[
        &programs.nutcracker,
        "-c",
        &file.display().to_string(),
        "-a",
        "127.0.0.1",
        "-s",
        &stats.port().to_string(),
    ]);
    let mut front = Server::start("nutcracker", &command, front_cores, folder)?;
    front.ready(addr, &QUESTION).await?;
    Ok(System {
        addr,
        front: vec![front],
        nodes,
        _others: Vec::new(),
    })
}

/// A larder proxy in front of larder nodes, each a process of its own.
pub(crate) async fn larder_cluster(
    programs: &Programs,
    front_cores: &Cores,
    node_cores: &Cores,
    folder: &Path,
) -> Result<System, Failure> {
    let [addr, http, nodes_and_topology @ ..] = free_addrs::<{ 4 + 2 * NODES }>()?;
    let cluster = larder_nodes::<NODES>(programs, node_cores, folder, &nodes_and_topology).await?;
    let command = words(&[
        &programs.larder()?,
        "proxy",
        "--topology",
        &cluster.topology_addr.to_string(),
        "--listen",
        &addr.to_string(),
        "--threads",
        "1",
        "--http",
        &http.to_string(),
    ]);
    let mut front = Server::start("larder-proxy", &command, front_cores, folder)?;
    front.ready(addr, &QUESTION).await?;
    Ok(System {
        addr,
        front: vec![front],
        nodes: cluster.nodes,
        _others: vec![cluster.topology],
    })
}

/// A topology and its nodes, without a front.
pub(crate) struct LarderNodes {
    pub(crate) topology: Server,
    pub(crate) topology_addr: SocketAddr,
    pub(crate) nodes: Vec<Server>,
    pub(crate) node_addrs: Vec<SocketAddr>,
}

/// `addrs`: two for the topology, two for each node.
pub(crate) async fn larder_nodes<const COUNT: usize>(
    programs: &Programs,
    cores: &Cores,
    folder: &Path,
    addrs: &[SocketAddr],
) -> Result<LarderNodes, Failure> {
    let [topology_addr, topology_http, rest @ ..] = addrs else {
        return Err("a topology takes two addresses".into());
    };
    let larder = programs.larder()?;
    let command = words(&[
        &larder,
        "topology",
        "--listen",
        &topology_addr.to_string(),
        "--http",
        &topology_http.to_string(),
        "--data-dir",
        &folder.join("topology").display().to_string(),
        "--shards",
        &COUNT.to_string(),
    ]);
    let mut topology = Server::start("larder-topology", &command, cores, folder)?;
    topology.ready(*topology_addr, &["PING"]).await?;
    let mut system = LarderNodes {
        topology,
        topology_addr: *topology_addr,
        nodes: Vec::new(),
        node_addrs: Vec::new(),
    };
    for pair in rest.chunks_exact(2).take(COUNT) {
        let addrs = [pair[0], pair[1]];
        system.add(programs, cores, folder, addrs).await?;
    }
    Ok(system)
}

impl LarderNodes {
    /// Another node: its address, and that of its metrics.
    pub(crate) async fn add(
        &mut self,
        programs: &Programs,
        cores: &Cores,
        folder: &Path,
        [addr, http]: [SocketAddr; 2],
    ) -> Result<(), Failure> {
        let index = self.nodes.len();
        let command = words(&[
            &programs.larder()?,
            "shard",
            "--topology",
            &self.topology_addr.to_string(),
            "--listen",
            &addr.to_string(),
            "--http",
            &http.to_string(),
            "--data-dir",
            &folder.join(format!("node-{index}")).display().to_string(),
        ]);
        let name = format!("larder-node-{index}");
        let mut node = Server::start(&name, &command, cores, folder)?;
        node.ready(addr, &["PING"]).await?;
        self.nodes.push(node);
        self.node_addrs.push(addr);
        Ok(())
    }
}

async fn redis_node(
    name: &str,
    programs: &Programs,
    addr: SocketAddr,
    cores: &Cores,
    folder: &Path,
) -> Result<Server, Failure> {
    let command = words(&[
        &programs.redis,
        "--port",
        &addr.port().to_string(),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--daemonize",
        "no",
        "--dir",
        &folder.display().to_string(),
    ]);
    let mut server = Server::start(name, &command, cores, folder)?;
    server.ready(addr, &["PING"]).await?;
    Ok(server)
}

pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
