//! `larder topology`, `shard` and `proxy`: one part in this process, until Ctrl-C.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use larder_plan::Settings;
use larder_proxy::{MapSource, ProxyConfig};
use larder_runtime::foreign::Login;
use larder_runtime::http::{HttpPort, Readiness};
use larder_runtime::secret::state_dir;
use larder_runtime::{Registry, Shutdown, process, shutdown};
use larder_shard::{NodeEnd, ShardConfig};
use larder_topology::TopologyConfig;

use crate::args::{self, RELEASE, YesNo};
use crate::operator;

/// How often it is looked whether the proxy still runs, in milliseconds: it gives no event to wait for.
pub(crate) const LOOK_MS: u64 = 500;

/// The folder of a part that was given none: in this user's state directory.
pub(crate) fn data_dir(asked: Option<PathBuf>, part: &str) -> Result<PathBuf, String> {
    asked
        .or_else(|| state_dir().map(|dir| dir.join(part)))
        .ok_or_else(|| {
            "there is no home directory to keep data in (name a folder with --data-dir)".to_string()
        })
}

pub(crate) async fn topology(
    args: args::Topology,
    secret_file: Option<PathBuf>,
) -> Result<ExitCode, String> {
    let secret = operator::secret(secret_file, &[&args.listen, &args.http])?;
    let data_dir = match args.store {
        Some(_) => PathBuf::new(),
        None => data_dir(args.data_dir, "topology")?,
    };
    let record = match &args.store {
        Some(etcd) => format!("record in {etcd}, shared with the other topologies"),
        None => format!("data in {}", data_dir.display()),
    };
    let signal = shutdown::signal().map_err(|error| error.to_string())?;
    let settings = Settings {
        shards: args.shards,
        replicas: args.replicas,
        writes: args.writes.into(),
        lost_shards: args.lost_shards,
        scale: Default::default(),
    };
    let config = TopologyConfig {
        http: Some(args.http),
        settings,
        etcd: args.store,
        announce: args.announce,
        ..TopologyConfig::new(&args.listen, data_dir, args.shards, secret)
    };
    let topology = larder_topology::start(config).map_err(|error| error.to_string())?;
    println!(
        "operators, nodes and proxies connect to {}",
        topology.addr()
    );
    if let Some(http) = topology.http_addr() {
        println!(
            "console http://{http}/  metrics http://{http}/metrics  discovery http://{http}/sd"
        );
    }
    println!("{record}");
    println!("ready");
    let mut maps = topology.maps();
    tokio::select! {
        _ = signal => {}
        // The sender goes with the topology's thread.
        () = async { while maps.changed().await.is_ok() {} } => {
            return Err("the topology has ended by a bug; its log says where".to_string());
        }
    }
    topology.stop();
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn shard(
    args: args::Shard,
    secret_file: Option<PathBuf>,
) -> Result<ExitCode, String> {
    let secret = match args.standalone {
        // A node that serves alone takes control from nobody unless a secret was given.
        true => operator::secret(secret_file, &[&args.listen]).ok(),
        false => Some(operator::secret(
            secret_file,
            &operator::also(&args.topology, &args.listen),
        )?),
    };
    let signal = shutdown::signal().map_err(|error| error.to_string())?;
    let registry = Registry::new();
    let _process = process::register(&registry, "shard", RELEASE);
    let http = HttpServer::bind(args.http.as_deref())?;
    let config = ShardConfig {
        listen: args.listen,
        nodes: args.nodes,
        topology: (!args.standalone).then_some(args.topology),
        advertise: args.announce,
        secret,
        maxmemory: args.maxmemory,
        maxmemory_policy: args.maxmemory_policy,
        aclfile: args.aclfile,
        zone: args.zone,
        data_dir: args.data_dir,
        save: args.save,
        appendonly: args.appendonly == YesNo::Yes,
        appendfsync: args.appendfsync,
        settings: args.config,
        http: http.addr(),
        protected_mode: args.protected_mode == YesNo::Yes,
        ..ShardConfig::default()
    };
    let mut nodes = larder_shard::start(config, &registry).map_err(|error| error.to_string())?;
    let (end, ended) = shutdown::channel();
    let http = http.serve(registry, ended);
    for node in nodes.nodes() {
        println!("node {} at {}", node.id, node.addr);
    }
    println!("ready");
    let alone = nodes.nodes().len() == 1;
    let failed = tokio::select! {
        _ = signal => None,
        // A client's SHUTDOWN of the only node ends the process as a signal does.
        (addr, how) = nodes.first_end() => match how {
            NodeEnd::Stopped if alone => None,
            how => Some(why(&addr, how)),
        },
    };
    if let (Some(text), false) = (&failed, alone) {
        // The others hold keys: they go on until they are told to end.
        eprintln!("larder: {text}");
        shutdown::signal().map_err(|error| error.to_string())?.await;
    }
    nodes.stop();
    nodes.join();
    end.pull();
    http.ended().await;
    match failed {
        None => Ok(ExitCode::SUCCESS),
        Some(text) => Err(text),
    }
}

pub(crate) async fn proxy(
    args: args::Proxy,
    secret_file: Option<PathBuf>,
) -> Result<ExitCode, String> {
    let (source, of, secret) = match (&args.server, args.cluster.as_slice()) {
        (Some(server), _) => (MapSource::Server(server.clone()), server.clone(), None),
        (None, []) => {
            let addrs = operator::also(&args.topology, &args.listen);
            let secret = operator::secret(secret_file, &addrs)?;
            let source = MapSource::Topology(args.topology.clone());
            (source, args.topology.to_string(), Some(secret))
        }
        (None, seeds) => (MapSource::Cluster(seeds.to_vec()), seeds.join(","), None),
    };
    let login = match &args.server_password_file {
        Some(file) => Login::new(args.server_user, Some(password_in(file)?)),
        None => Login::default(),
    };
    let signal = shutdown::signal().map_err(|error| error.to_string())?;
    let registry = Registry::new();
    let _process = process::register(&registry, "proxy", RELEASE);
    let usual = ProxyConfig::new(&args.listen, source, secret);
    let config = ProxyConfig {
        unix: args.unix,
        http: args.http,
        threads: args.threads.unwrap_or(usual.threads),
        protected: args.protected_mode == YesNo::Yes,
        registry,
        login,
        ..usual
    };
    let proxy = larder_proxy::start(config).map_err(|error| error.to_string())?;
    println!("applications connect to {}", proxy.addr());
    if let Some(http) = proxy.http_addr() {
        println!("metrics at http://{http}/metrics");
    }
    println!("waiting for the slot map of {of}");
    tokio::pin!(signal);
    let ready = proxy.readiness();
    let mut announced = false;
    loop {
        tokio::select! {
            _ = &mut signal => break,
            () = ready.wait_ready(), if !announced => {
                announced = true;
                println!("ready");
            }
            () = tokio::time::sleep(Duration::from_millis(LOOK_MS)) => {
                if proxy.is_finished() {
                    return Err("the proxy has ended by a bug; its log says where".to_string());
                }
            }
        }
    }
    proxy.stop();
    Ok(ExitCode::SUCCESS)
}

/// A file's first line.
fn password_in(file: &Path) -> Result<String, String> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| {
        format!("cannot read the password in {name}: {error} (name a readable file with --server-password-file)")
    })?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_string()),
        _ => Err(format!(
            "the first line of {name} is no password: it is empty"
        )),
    }
}

/// How a node came to an end that nobody asked for.
pub(crate) fn why(addr: &str, end: NodeEnd) -> String {
    match end {
        NodeEnd::Stopped => format!("node {addr} was stopped"),
        NodeEnd::Refused(reason) => format!("node {addr}: {reason}"),
        NodeEnd::Panicked => format!("node {addr} has ended by a bug; its log says where"),
    }
}

/// The HTTP port of a part that need not have one.
pub(crate) struct HttpServer(Option<HttpPort>);

impl HttpServer {
    pub(crate) fn bind(asked: Option<&str>) -> Result<HttpServer, String> {
        let port = asked.map(|addr| HttpPort::bind(addr, "--http")).transpose();
        port.map(HttpServer).map_err(|error| error.to_string())
    }

    /// As others reach it.
    pub(crate) fn addr(&self) -> Option<String> {
        self.0.as_ref().map(|port| port.addr().to_string())
    }

    pub(crate) fn serve(self, registry: Registry, until: Shutdown) -> Serving {
        let ready = Readiness::waiting_for("nothing");
        ready.set_ready();
        Serving(self.0.map(|port| {
            println!("metrics at http://{}/metrics", port.addr());
            tokio::spawn(port.serve(registry, ready, Default::default(), until))
        }))
    }
}

pub(crate) struct Serving(Option<tokio::task::JoinHandle<std::io::Result<()>>>);

impl Serving {
    pub(crate) async fn ended(self) {
        match self.0 {
            None => {}
            Some(task) => match task.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!("the HTTP port has failed: {error}"),
                Err(error) => tracing::error!("the HTTP port has ended by a bug: {error}"),
            },
        }
    }
}
