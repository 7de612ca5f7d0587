//! Starts nodes: binds their ports, then one thread each; a panic ends its node alone.

use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use larder_engine::acl::{Acl, AclHost};
use larder_engine::{Node, NodeSettings, Parameter};
use larder_runtime::{Registry, Shutdown, ShutdownTrigger, entropy, listen, shutdown};
use larder_wire::NodeId;
use larder_wire::control::NodeJoin;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tracing::{error, info, warn};

use crate::acl_host::Host;
use crate::config::{ShardConfig, StartError};
use crate::metrics::NodeMetrics;
use crate::shared::{EndOnPanic, Shared};
use crate::{append, clocks, connection, identity, join, load, replicate_target, save, timers};

/// Orders the tables of all nodes of all clusters alike. No secret: the hash is keyed so that one release can change the order.
const HASH_SEED: u64 = 0x6C61_7264_6572_0001;
/// How long a node whose accept fails (no more file descriptors) waits before it tries again.
const ACCEPT_RETRY: Duration = Duration::from_millis(20);

/// How a node came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeEnd {
    /// It was asked to.
    Stopped,
    /// The topology does not take it, for a reason that no retry mends.
    Refused(String),
    /// A bug; the message is in the log.
    Panicked,
}

/// One node that runs.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    pub id: NodeId,
    /// Where it listens.
    pub listen: SocketAddr,
    /// `host:port`, as others reach it.
    pub addr: String,
}

struct Running {
    info: NodeInfo,
    thread: JoinHandle<()>,
    end: watch::Receiver<Option<NodeEnd>>,
}

/// The nodes of one [`start`]. Dropping it stops them, without waiting.
pub struct Handle {
    trigger: ShutdownTrigger,
    nodes: Vec<Running>,
}

impl Handle {
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &NodeInfo> {
        self.nodes.iter().map(|node| &node.info)
    }

    /// Asks all nodes to end.
    pub fn stop(&self) {
        self.trigger.pull();
    }

    /// Returns once the first node has ended, with its address and how. Other nodes go on.
    pub async fn first_end(&mut self) -> (String, NodeEnd) {
        let waits = self.nodes.iter_mut().map(|node| {
            let addr = node.info.addr.clone();
            let mut end = node.end.clone();
            Box::pin(async move {
                let ended = end.wait_for(Option::is_some).await;
                // The sender is gone without a word: the thread died.
                let end = ended.ok().and_then(|end| end.clone());
                (addr, end.unwrap_or(NodeEnd::Panicked))
            })
        });
        let mut waits: Vec<_> = waits.collect();
        std::future::poll_fn(|cx| {
            for wait in &mut waits {
                if let std::task::Poll::Ready(end) = wait.as_mut().poll(cx) {
                    return std::task::Poll::Ready(end);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// Waits for all threads; call [`Handle::stop`] first. Blocks.
    pub fn join(self) -> Vec<NodeEnd> {
        self.nodes
            .into_iter()
            .map(|node| {
                // The thread catches its own panics: how it ended is in the channel.
                let _ = node.thread.join();
                let end = node.end.borrow().clone();
                end.unwrap_or(NodeEnd::Panicked)
            })
            .collect()
    }
}

/// Starts the nodes of `config`; their metrics are on `registry` as long as they run. All ports are bound, or nothing is started.
pub fn start(config: ShardConfig, registry: &Registry) -> Result<Handle, StartError> {
    check(&config)?;
    let listeners = bind(&config)?;
    let mut identities = Vec::new();
    for listener in &listeners {
        let listen = listener.local_addr().map_err(StartError::Thread)?;
        let id = identity::node_id(config.data_dir.as_deref(), listen.port())?;
        let addr = advertised(&config, listen);
        identities.push(NodeInfo { id, listen, addr });
    }
    let (trigger, waiter) = shutdown::channel();
    let mut nodes = Vec::new();
    for (info, listener) in identities.into_iter().zip(listeners) {
        let (sender, end) = watch::channel(None);
        let metrics = Arc::new(NodeMetrics::new(&info.addr));
        registry.add(&metrics);
        let plan = Plan {
            config: config.clone(),
            info: info.clone(),
            listener,
            metrics,
            shutdown: waiter.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("node {}", info.listen.port()))
            .spawn(move || {
                let end = run_thread(plan);
                sender.send_replace(Some(end));
            })
            .map_err(StartError::Thread)?;
        nodes.push(Running { info, thread, end });
    }
    Ok(Handle { trigger, nodes })
}

fn check(config: &ShardConfig) -> Result<(), StartError> {
    if config.topology.is_some() && config.secret.is_none() {
        return Err(StartError::NoSecret);
    }
    settings_check(config).map_err(|refusal| StartError::Setting(refusal.text().to_string()))?;
    users_check(config).map_err(StartError::Setting)
}

/// The same check that `ACL LOAD` makes.
fn users_check(config: &ShardConfig) -> Result<(), String> {
    let Some(file) = &config.aclfile else {
        return Ok(());
    };
    let name = file.display().to_string();
    let host = Host {
        file: config.aclfile.clone(),
    };
    let text = host.read().map_err(|error| {
        format!("cannot read the users in {name}: {error} (an empty file will do)")
    })?;
    Acl::default()
        .take_file(&text, &name, false)
        .map(|_| ())
        .map_err(|errors| format!("the users' file is wrong: {errors}"))
}

/// The same checks that `CONFIG SET` makes.
fn settings_check(config: &ShardConfig) -> Result<(), larder_wire::Refusal> {
    let mut probe = larder_engine::config::Config::default();
    probe.set(&settings_pairs(config))?;
    probe.set_at_start(&further_pairs(config))
}

fn further_pairs(config: &ShardConfig) -> Vec<(&[u8], &[u8])> {
    let settings = config.settings.iter();
    settings
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect()
}

fn settings_pairs(config: &ShardConfig) -> [(&[u8], &[u8]); 6] {
    [
        (b"save", config.save.as_bytes()),
        (b"appendonly", yes_no(config.appendonly)),
        (b"appendfsync", config.appendfsync.as_bytes()),
        (b"maxmemory-policy", config.maxmemory_policy.as_bytes()),
        (b"requirepass", config.password.as_bytes()),
        (b"protected-mode", yes_no(config.protected_mode)),
    ]
}

fn yes_no(yes: bool) -> &'static [u8] {
    if yes { b"yes" } else { b"no" }
}

fn bind(config: &ShardConfig) -> Result<Vec<TcpListener>, StartError> {
    let flag = config.listen_flag.as_str();
    let first = listen::resolve(&config.listen, flag)?;
    let port = first.port();
    if port != 0 && u32::from(port) + u32::from(config.nodes) > 65536 {
        let nodes = config.nodes;
        return Err(StartError::PortsBeyond { port, nodes });
    }
    let mut listeners = Vec::new();
    for index in 0..config.nodes {
        let mut addr = first;
        if port != 0 {
            addr.set_port(port + index);
        }
        listeners.push(listen::tcp_at(addr, flag)?);
    }
    Ok(listeners)
}

fn advertised(config: &ShardConfig, listen: SocketAddr) -> String {
    match &config.advertise {
        None => listen.to_string(),
        Some(host) if host.contains(':') && !host.starts_with('[') => {
            format!("[{host}]:{}", listen.port())
        }
        Some(host) => format!("{host}:{}", listen.port()),
    }
}

/// All that a thread is started with.
struct Plan {
    config: ShardConfig,
    info: NodeInfo,
    listener: TcpListener,
    metrics: Arc<NodeMetrics>,
    shutdown: Shutdown,
}

fn run_thread(plan: Plan) -> NodeEnd {
    let addr = plan.info.addr.clone();
    // Nothing of the node outlives a panic: its state is dropped with the thread.
    let end = catch_unwind(AssertUnwindSafe(|| run_node(plan))).unwrap_or(NodeEnd::Panicked);
    match &end {
        NodeEnd::Stopped => info!(node = %addr, "stopped"),
        NodeEnd::Refused(reason) => error!(node = %addr, "{reason}"),
        NodeEnd::Panicked => error!(node = %addr, "ended by a bug; other nodes go on"),
    }
    end
}

fn run_node(plan: Plan) -> NodeEnd {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a thread's runtime needs one epoll and one eventfd");
    let local = LocalSet::new();
    local.block_on(&runtime, node_main(plan))
}

async fn node_main(plan: Plan) -> NodeEnd {
    let Ok(run_id) = entropy::node_id() else {
        return NodeEnd::Refused("the system has no /dev/urandom".to_string());
    };
    let shared = match make_shared(&plan, run_id) {
        Ok(shared) => Rc::new(shared),
        Err(reason) => return NodeEnd::Refused(reason),
    };
    let listener = match tokio::net::TcpListener::from_std(plan.listener) {
        Ok(listener) => listener,
        Err(error) => return NodeEnd::Refused(format!("cannot accept connections: {error}")),
    };
    tokio::task::spawn_local(timers::run(Rc::clone(&shared)));
    tokio::task::spawn_local(timers::give_up(Rc::clone(&shared)));
    let join = NodeJoin {
        id: plan.info.id,
        run_id,
        addr: plan.info.addr.clone(),
        http: plan.config.http.clone(),
        zone: plan.config.zone.clone(),
        maxmemory: plan.config.maxmemory,
        data: None,
        release: env!("CARGO_PKG_VERSION").to_string(),
    };
    tokio::task::spawn_local(begin(Rc::clone(&shared), join));
    if plan.config.topology.is_some() {
        tokio::task::spawn_local(replicate_target::run(Rc::clone(&shared)));
    }
    let end = tokio::select! {
        () = plan.shutdown.wait() => stop(&shared),
        () = shared.ended.notified() => shared.take_end().unwrap_or(NodeEnd::Panicked),
        () = accept(&shared, listener) => NodeEnd::Panicked,
    };
    if end != NodeEnd::Panicked {
        append::finish(&shared);
    }
    end
}

/// A node begins with what it has saved. One of a cluster joins when it has that, and says how far it goes; one that does not keep its id is another node each
/// time, and has saved nothing.
async fn begin(shared: Rc<Shared>, mut join: NodeJoin) {
    let _guard = EndOnPanic(Rc::clone(&shared));
    let config = Rc::clone(&shared.config);
    if config.topology.is_none() || config.data_dir.is_some() {
        let path = shared.node.borrow().save_path();
        let saved = async || load::load(&shared, Path::new(&path)).await;
        let appends = shared.node.borrow().wants_append();
        let begun = match appends {
            true => append::begin(&shared, saved).await,
            false => saved().await,
        };
        if let Err(reason) = begun {
            shared.end_with(NodeEnd::Refused(reason));
            return;
        }
    }
    tokio::task::spawn_local(append::run(Rc::clone(&shared)));
    if let Some(topology) = config.topology.clone() {
        join.data = shared.node.borrow().restored_place();
        join::run(shared, topology, join).await;
    }
}

/// A node that was told to save now and then does so once more.
fn stop(shared: &Shared) -> NodeEnd {
    let mut node = shared.node.borrow_mut();
    if node.has_save_points()
        && node.loading().is_none()
        && let Err(refusal) = node.save_at_once(shared.clocks.clock())
    {
        error!("{}", refusal.text());
    }
    NodeEnd::Stopped
}

/// Where the node's files are; the folder of one of a cluster is made. Nothing is kept where no folder was named, but a client may save.
fn folder(plan: &Plan) -> Result<PathBuf, String> {
    let Some(dir) = &plan.config.data_dir else {
        return Ok(std::env::current_dir().unwrap_or_default());
    };
    if plan.config.topology.is_none() {
        return Ok(dir.clone());
    }
    let own = dir.join(format!("node-{}", plan.info.listen.port()));
    std::fs::create_dir_all(&own).map_err(|error| {
        let own = own.display();
        format!("cannot make {own}: {error} (choose another folder with --data-dir)")
    })?;
    Ok(own)
}

fn make_shared(plan: &Plan, run_id: NodeId) -> Result<Shared, String> {
    let config = &plan.config;
    let mut node = Node::new(NodeSettings {
        id: plan.info.id,
        run_id,
        standalone: config.topology.is_none(),
        addr: plan.info.addr.clone(),
        port: plan.info.listen.port(),
        secret: config.secret.clone(),
        maxmemory: config.maxmemory,
        hash_seed: HASH_SEED,
        random_seed: entropy::seed().unwrap_or(HASH_SEED),
    });
    node.set_stopwatch(clocks::stopwatch);
    node.config
        .fix(Parameter::Bind, plan.info.listen.ip().to_string());
    let folder = folder(plan)?;
    node.set_save_host(folder.display().to_string(), Box::new(save::Folder));
    if config.data_dir.is_none() && config.nodes > 1 {
        // Nodes of one process share a folder.
        let port = plan.info.listen.port();
        node.config
            .fix(Parameter::Dbfilename, format!("dump-{port}.rdb"));
        node.config
            .fix(Parameter::Appenddirname, format!("appendonlydir-{port}"));
    }
    let set = node
        .set_config(&settings_pairs(config))
        .and_then(|()| node.set_config_at_start(&further_pairs(config)));
    if let Err(refusal) = set {
        unreachable!("checked before the start: {}", refusal.text());
    }
    node.acl.host = Some(Box::new(Host {
        file: config.aclfile.clone(),
    }));
    if let Some(file) = &config.aclfile {
        node.config
            .fix(Parameter::Aclfile, file.display().to_string());
        node.load_acl_file()
            .map_err(|errors| format!("the users' file has become wrong: {errors}"))?;
    }
    plan.metrics.attach(Arc::clone(&node.stats));
    let config = Rc::new(config.clone());
    Ok(Shared::new(node, config, Arc::clone(&plan.metrics)))
}

async fn accept(shared: &Rc<Shared>, listener: tokio::net::TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::task::spawn_local(connection::serve(Rc::clone(shared), stream));
            }
            Err(error) => {
                warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}
