//! `larder up`: topology, nodes and proxy in this process.
//!
//! ```text
//! topology ──▶ nodes (those of the record, else as many as a new cluster needs) ──▶ proxy ──▶ ready
//!    └── asks for further nodes while resharding ──▶ one more thread each, on the next free port
//! ```
//!
//! The parts talk over their ports, exactly as they would from several machines. Started again, the record says which
//! nodes there were: they come back at their ports, with their ids, and empty.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use larder_plan::Settings;
use larder_proxy::{MapSource, ProxyConfig};
use larder_runtime::{Registry, Secret, Shutdown, listen, process, shutdown};
use larder_shard::{NodeEnd, ShardConfig};
use larder_topology::{NodeStarter, TopologyConfig};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::args::{self, RELEASE, YesNo};
use crate::{operator, serve, text};

/// How many ports above the last are tried for a further node.
const PORTS_TRIED_MAX: u16 = 100;

pub(crate) async fn run(args: args::Up, secret_file: Option<PathBuf>) -> Result<ExitCode, String> {
    let began = Instant::now();
    let signal = shutdown::signal().map_err(|error| error.to_string())?;
    let secret = operator::secret(secret_file, &[&args.bind])?;
    // Before anything is started: a start that fails half-way would look like nodes that come and go.
    if look(&args.bind, 0, "--bind").is_err() {
        return Err(format!(
            "'{}' is no address of this machine (choose another with --bind)",
            args.bind
        ));
    }
    for (port, flag) in [
        (args.port, "--port"),
        (args.admin_port, "--admin-port"),
        (args.http_port, "--http-port"),
    ] {
        look(&args.bind, port, flag)?;
    }
    let data_dir = serve::data_dir(args.data_dir.clone(), "up")?;
    let registry = Registry::new();
    let _process = process::register(&registry, "up", RELEASE);

    let (ask, mut asked) = mpsc::unbounded_channel();
    let starter: NodeStarter = Box::new(move |count| {
        // The receiver goes when this process ends: then nobody needs further nodes.
        let _ = ask.send(count);
    });
    let topology = start_topology(&args, &data_dir, &secret, &registry, starter)?;
    let (end, ended) = shutdown::channel();
    let mut nodes = Nodes {
        template: node_template(&args, &data_dir, &secret, topology.addr()),
        bind: args.bind.clone(),
        registry: registry.clone(),
        next_port: args.node_port,
        running: BTreeSet::new(),
        threads: JoinSet::new(),
        ended,
    };
    nodes.start_first(topology.recorded_nodes(), args.shards * (1 + args.replicas))?;
    let proxy = start_proxy(&args, &secret, &registry, topology.addr())?;

    tokio::pin!(signal);
    let ready = proxy.readiness();
    let mut announced = false;
    let failed = loop {
        tokio::select! {
            _ = &mut signal => break None,
            () = ready.wait_ready(), if !announced => {
                announced = true;
                print!("{}", places(&args, &data_dir, &topology, &proxy, &nodes));
                println!("ready in {} ms", began.elapsed().as_millis());
            }
            Some(count) = asked.recv() => nodes.start_further(count),
            Some((addr, how)) = nodes.lost() => {
                eprintln!("larder: {}; its slots are not served (start again to have it back, empty)", serve::why(&addr, how));
            }
            () = tokio::time::sleep(Duration::from_millis(serve::LOOK_MS)) => {
                if topology.is_finished() || proxy.is_finished() {
                    break Some("a part of this process has ended by a bug; its log says where".to_string());
                }
            }
        }
    };
    // Clients first, so that they are answered; the topology last, so that nobody misses it.
    proxy.stop();
    end.pull();
    nodes.wait_ended().await;
    topology.stop();
    match failed {
        None => Ok(ExitCode::SUCCESS),
        Some(text) => Err(text),
    }
}

/// Fails when `port` is not to be had. It is given back at once: whoever needs it binds it again.
fn look(bind: &str, port: u16, flag: &str) -> Result<(), String> {
    listen::tcp(&at(bind, port), flag)
        .map(drop)
        .map_err(|error| error.to_string())
}

fn at(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn start_topology(
    args: &args::Up,
    data_dir: &std::path::Path,
    secret: &Secret,
    registry: &Registry,
    starter: NodeStarter,
) -> Result<larder_topology::Handle, String> {
    let listen = at(&args.bind, args.admin_port);
    let config = TopologyConfig {
        http: Some(at(&args.bind, args.http_port)),
        settings: Settings {
            shards: args.shards,
            replicas: args.replicas,
            writes: args.writes.into(),
            lost_shards: args.lost_shards,
            scale: Default::default(),
        },
        protected: args.protected_mode == YesNo::Yes,
        registry: registry.clone(),
        part: "up",
        node_starter: Some(starter),
        flags: larder_topology::Flags {
            listen: "--admin-port",
            http: "--http-port",
            data_dir: "--data-dir",
        },
        ..TopologyConfig::new(&listen, data_dir.to_path_buf(), args.shards, secret.clone())
    };
    larder_topology::start(config).map_err(|error| error.to_string())
}

fn start_proxy(
    args: &args::Up,
    secret: &Secret,
    registry: &Registry,
    topology: SocketAddr,
) -> Result<larder_proxy::Handle, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let source = MapSource::Topology(from_here(topology).into());
    let config = ProxyConfig {
        listen_flag: "--port",
        unix: args.unix.clone(),
        // Nodes want cores, too.
        threads: args.threads.unwrap_or((cores / 2).max(1)),
        protected: args.protected_mode == YesNo::Yes,
        registry: registry.clone(),
        ..ProxyConfig::new(&at(&args.bind, args.port), source, Some(secret.clone()))
    };
    larder_proxy::start(config).map_err(|error| error.to_string())
}

/// Where this process reaches a port of its own that is bound to every address.
fn from_here(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            (std::net::Ipv6Addr::LOCALHOST, v6.port()).into()
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => addr,
    }
}

/// A cluster with a memory limit is a cache, unless it is told otherwise.
fn policy(args: &args::Up) -> String {
    let policy = args.maxmemory_policy.as_deref();
    let default = if args.maxmemory == 0 {
        "noeviction"
    } else {
        "allkeys-lrfu"
    };
    policy.unwrap_or(default).to_string()
}

fn node_template(
    args: &args::Up,
    data_dir: &std::path::Path,
    secret: &Secret,
    topology: SocketAddr,
) -> ShardConfig {
    ShardConfig {
        topology: Some(from_here(topology).into()),
        advertise: args.announce.clone(),
        secret: Some(secret.clone()),
        maxmemory: args.maxmemory,
        maxmemory_policy: policy(args),
        data_dir: Some(data_dir.join("nodes")),
        save: args.save.clone(),
        appendonly: args.appendonly == YesNo::Yes,
        appendfsync: args.appendfsync.clone(),
        settings: args.config.clone(),
        // The topology's own port is this process's: it names that itself.
        http: None,
        protected_mode: args.protected_mode == YesNo::Yes,
        listen_flag: "--node-port".to_string(),
        ..ShardConfig::default()
    }
}

/// The nodes of this process: each started alone, so that each may end alone.
struct Nodes {
    template: ShardConfig,
    bind: String,
    registry: Registry,
    /// Further nodes take ports from here on.
    next_port: u16,
    running: BTreeSet<u16>,
    /// One task a node; gives the node's address and how it ended, or nothing when it was asked to end.
    threads: JoinSet<Option<(String, NodeEnd)>>,
    ended: Shutdown,
}

impl Nodes {
    /// The nodes that the record has; of a new cluster, as many as it needs.
    fn start_first(&mut self, recorded: &[String], needed: u32) -> Result<(), String> {
        let mut ports: Vec<u16> = recorded
            .iter()
            .filter_map(|addr| addr.rsplit_once(':')?.1.parse().ok())
            .collect();
        if ports.is_empty() {
            let last = u32::from(self.next_port) + needed.max(1) - 1;
            let last = u16::try_from(last).map_err(|_| {
                format!("{needed} nodes from port {} on go beyond port 65535 (choose another with --node-port)", self.next_port)
            })?;
            ports = (self.next_port..=last).collect();
        } else if !ports.contains(&self.next_port) {
            // Their ids go with their ports.
            tracing::warn!(
                "the nodes of this data directory keep their ports; --node-port counts for further ones"
            );
        }
        ports
            .iter()
            .try_for_each(|port| look(&self.bind, *port, &self.template.listen_flag))?;
        ports.into_iter().try_for_each(|port| self.start_one(port))
    }

    fn start_one(&mut self, port: u16) -> Result<(), String> {
        let config = ShardConfig {
            listen: at(&self.bind, port),
            ..self.template.clone()
        };
        let mut handle =
            larder_shard::start(config, &self.registry).map_err(|error| error.to_string())?;
        self.running.insert(port);
        let ended = self.ended.clone();
        self.threads.spawn(async move {
            let lost = tokio::select! {
                () = ended.wait() => None,
                end = handle.first_end() => Some(end),
            };
            handle.stop();
            // Joining blocks, for as long as the node needs for its last replies.
            if tokio::task::spawn_blocking(move || handle.join())
                .await
                .is_err()
            {
                tracing::error!("a node's end could not be waited for");
            }
            lost
        });
        Ok(())
    }

    /// For a reshard that needs more. A port that something else has is passed over.
    fn start_further(&mut self, count: u32) {
        for _ in 0..count {
            let free = (self.next_port..=u16::MAX).filter(|port| !self.running.contains(port));
            let tried: Vec<u16> = free.take(usize::from(PORTS_TRIED_MAX)).collect();
            let mut last_error = "no ports are left".to_string();
            let started = tried.into_iter().any(|port| match self.start_one(port) {
                Ok(()) => true,
                Err(error) => {
                    last_error = error;
                    false
                }
            });
            if !started {
                eprintln!("larder: a further node cannot be started: {last_error}");
                return;
            }
        }
    }

    /// The next node that ends by itself. Never returns while there is none.
    async fn lost(&mut self) -> Option<(String, NodeEnd)> {
        match self.threads.join_next().await {
            Some(Ok(lost)) => lost,
            Some(Err(_)) | None => std::future::pending().await,
        }
    }

    async fn wait_ended(&mut self) {
        while self.threads.join_next().await.is_some() {}
    }
}

/// What a person does next, and where.
fn places(
    args: &args::Up,
    data_dir: &std::path::Path,
    topology: &larder_topology::Handle,
    proxy: &larder_proxy::Handle,
    nodes: &Nodes,
) -> String {
    let here = from_here(proxy.addr());
    let cli = |addr: SocketAddr| match addr.ip().is_loopback() {
        true => format!("redis-cli -p {}", addr.port()),
        false => format!("redis-cli -h {} -p {}", addr.ip(), addr.port()),
    };
    let admin = from_here(topology.addr());
    let topology_flag = if admin.to_string() == "127.0.0.1:7000" {
        String::new()
    } else {
        format!(" --topology {admin}")
    };
    let ports: Vec<String> = nodes.running.iter().map(u16::to_string).collect();
    let mut table = format!(
        "larder {RELEASE}, {}\n",
        text::count(nodes.running.len() as u64, "node")
    );
    let mut line = |name: &str, value: String| table += &format!("  {name:<14} {value}\n");
    line(
        "applications",
        format!("{}   (or any Redis client)", cli(here)),
    );
    if let Some(path) = &args.unix {
        line("", format!("redis-cli -s {}", path.display()));
    }
    line(
        "operators",
        format!("larder status{topology_flag}   larder reshard --shards 5{topology_flag}"),
    );
    if let Some(http) = topology.http_addr().map(from_here) {
        line("console", format!("http://{http}/"));
        line(
            "metrics",
            format!("http://{http}/metrics   (Prometheus finds it at http://{http}/sd)"),
        );
    }
    line("nodes", format!("ports {}", ports.join(", ")));
    line("map kept in", data_dir.display().to_string());
    table
}
