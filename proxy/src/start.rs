//! Starts a proxy and ends it.
//!
//! ```text
//! larder-proxy        control thread: accepts, follows the map, serves /metrics
//! larder-proxy-0 …    worker threads: clients and nodes
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use larder_runtime::foreign::Login;
use larder_runtime::http::{HttpPort, Readiness};
use larder_runtime::shutdown::{self, Shutdown, ShutdownTrigger};
use larder_runtime::{ListenError, Registry, Secret, entropy, listen};
use larder_wire::control::ProxyJoin;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;

use crate::accept::Acceptor;
use crate::limits::CLIENTS_MAX;
use crate::metrics::ThreadCounts;
use crate::shared::Shared;
use crate::source::{self, MapSource};
use crate::switch::{Backend, Switch};
use crate::turning::{Told, Turning};
use crate::upstream::Opening;
use crate::worker::{Message, Worker};

/// What a proxy is started with.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// `host:port`; port 0 takes a free one.
    pub listen: String,
    /// The flag that moves `listen`, for errors.
    pub listen_flag: &'static str,
    pub unix: Option<PathBuf>,
    /// Where `/metrics`, `/healthz` and `/readyz` are served, if anywhere.
    pub http: Option<String>,
    pub http_flag: &'static str,
    /// Threads that serve clients; at least one.
    pub threads: usize,
    pub source: MapSource,
    /// Who the proxy is to servers that are not Larder's.
    pub login: Login,
    /// The cluster's secret: needed with a topology.
    pub secret: Option<Secret>,
    /// False: `--protected-mode no`.
    pub protected: bool,
    pub clients_max: usize,
    /// Where `/metrics` takes its numbers from; the proxy adds its own.
    pub registry: Registry,
}

impl ProxyConfig {
    /// The usual: one thread a core, protected, nothing shared with other parts of a process.
    pub fn new(listen: &str, source: MapSource, secret: Option<Secret>) -> ProxyConfig {
        ProxyConfig {
            listen: listen.to_string(),
            listen_flag: "--listen",
            unix: None,
            http: None,
            http_flag: "--http",
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            source,
            login: Login::default(),
            secret,
            protected: true,
            clients_max: CLIENTS_MAX,
            registry: Registry::new(),
        }
    }
}

/// Why a proxy cannot start: one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("the proxy cannot start: {0}")]
    System(#[from] std::io::Error),
    #[error(
        "the proxy needs the cluster's secret to talk to the topology (set it with --secret-file or LARDER_SECRET)"
    )]
    NoSecret,
}

/// A running proxy. Dropping it ends it.
#[derive(Debug)]
pub struct Handle {
    addr: SocketAddr,
    http_addr: Option<SocketAddr>,
    readiness: Readiness,
    trigger: ShutdownTrigger,
    control: Option<JoinHandle<()>>,
    shared: SharedHandle,
}

/// Keeps the metrics on their page while the proxy runs.
struct SharedHandle(Arc<Shared>);

impl std::fmt::Debug for SharedHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Handle {
    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// Ready once there is a slot map.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Epoch of the slot map that is followed; 0 while there is none.
    pub fn epoch(&self) -> u64 {
        self.shared.0.map().epoch.0
    }

    /// True once the proxy has ended, by `stop` or by a bug.
    pub fn is_finished(&self) -> bool {
        self.control.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Takes no more requests, answers those that were taken, and ends.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.trigger.pull();
        if let Some(thread) = self.control.take() {
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

/// Binds everything, starts the threads and returns; the slot map may come later.
pub fn start(config: ProxyConfig) -> Result<Handle, StartError> {
    let (backend, topology) = match &config.source {
        MapSource::Topology(topologies) => (Backend::Larder, Some(topologies.clone())),
        MapSource::Cluster(_) => (Backend::Cluster, None),
        MapSource::Server(_) | MapSource::Fixed(_) => (Backend::Plain, None),
    };
    if backend == Backend::Larder && config.secret.is_none() {
        return Err(StartError::NoSecret);
    }
    let listener = listen::tcp(&config.listen, config.listen_flag)?;
    let addr = listener.local_addr()?;
    let unix = match &config.unix {
        Some(path) => Some((listen::unix(path, "--unix")?, path.display().to_string())),
        None => None,
    };
    let http = match &config.http {
        Some(text) => Some(HttpPort::bind(text, config.http_flag)?),
        None => None,
    };
    let http_addr = http.as_ref().map(HttpPort::addr);
    let id = entropy::node_id()?;
    let shared = Arc::new(Shared::new(
        id,
        config.secret.clone(),
        addr.port(),
        config.clients_max,
    ));
    config.registry.add(&shared);
    let readiness = shared.readiness.clone();
    let opening = Opening {
        secret: config.secret.clone(),
        login: config.login.clone(),
    };
    let (tell, told) = unbounded_channel();
    let counts: Vec<Arc<ThreadCounts>> = (0..config.threads.max(1))
        .map(|_| Arc::new(ThreadCounts::new()))
        .collect();
    shared.set_threads(counts.clone());
    let mut workers = Workers::default();
    for (index, counts) in counts.into_iter().enumerate() {
        let seed = entropy::seed()?;
        let (sender, inbox) = unbounded_channel();
        let (shared, opening, topology) = (shared.clone(), opening.clone(), topology.clone());
        let control = topology.is_some().then(|| tell.clone());
        let thread = std::thread::Builder::new().name(format!("larder-proxy-{index}"));
        let thread = thread.spawn(move || {
            let switch = Switch::new(shared, counts, backend, seed);
            if let Err(error) = Worker::run(switch, opening, topology, control, inbox) {
                tracing::error!("a proxy thread has ended: {error}");
            }
        })?;
        workers.senders.push(sender);
        workers.threads.push(thread);
    }
    let (trigger, shutdown) = shutdown::channel();
    let control = Control {
        listener,
        unix,
        http,
        join: ProxyJoin {
            id,
            addr: addr.to_string(),
            http: http_addr.map(|addr| addr.to_string()),
            release: env!("CARGO_PKG_VERSION").to_string(),
        },
        shared: shared.clone(),
        config,
        shutdown,
        tell,
        told,
    };
    let thread = std::thread::Builder::new().name("larder-proxy".to_string());
    let thread = thread.spawn(move || {
        if let Err(error) = control.run(&workers) {
            tracing::error!("the proxy has ended: {error}");
        }
        workers.stop();
    })?;
    Ok(Handle {
        addr,
        http_addr,
        readiness,
        trigger,
        control: Some(thread),
        shared: SharedHandle(shared),
    })
}

#[derive(Default)]
struct Workers {
    senders: Vec<UnboundedSender<Message>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    fn stop(self) {
        for sender in &self.senders {
            // A thread that has ended needs no telling.
            let _ = sender.send(Message::Stop);
        }
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// What the control thread owns.
struct Control {
    listener: std::net::TcpListener,
    unix: Option<(listen::UnixSocket, String)>,
    http: Option<HttpPort>,
    join: ProxyJoin,
    shared: Arc<Shared>,
    config: ProxyConfig,
    shutdown: Shutdown,
    tell: UnboundedSender<Told>,
    told: UnboundedReceiver<Told>,
}

impl Control {
    fn run(self, workers: &Workers) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        LocalSet::new().block_on(&runtime, self.serve(workers.senders.clone()))
    }

    async fn serve(self, senders: Vec<UnboundedSender<Message>>) -> std::io::Result<()> {
        let acceptor = Rc::new(Acceptor {
            shared: self.shared.clone(),
            workers: senders.clone(),
            unprotected: !self.config.protected,
            next: std::cell::Cell::new(0),
        });
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let accepting = acceptor.clone();
        tokio::task::spawn_local(async move { accepting.serve_tcp(listener).await });
        // The socket's file goes when this function returns.
        let mut _unix_file = None;
        if let Some((socket, path)) = self.unix {
            let listener = tokio::net::UnixListener::from_std(socket.listener.try_clone()?)?;
            _unix_file = Some(socket);
            let accepting = acceptor.clone();
            tokio::task::spawn_local(async move { accepting.serve_unix(listener, path).await });
        }
        if let Some(http) = self.http {
            let serving = http.serve(
                self.config.registry.clone(),
                self.shared.readiness.clone(),
                Default::default(),
                self.shutdown.clone(),
            );
            tokio::task::spawn_local(async move {
                if let Err(error) = serving.await {
                    tracing::error!("/metrics is no longer served: {error}");
                }
            });
        }
        match (self.config.source, self.config.secret) {
            (MapSource::Topology(topologies), Some(secret)) => {
                let turning = Turning::new(
                    self.shared.clone(),
                    senders,
                    topologies.clone(),
                    secret.clone(),
                    self.tell.clone(),
                );
                tokio::task::spawn_local(turning.run(self.told));
                let following =
                    source::follow_topology(topologies, secret, self.join, self.shared, self.tell);
                tokio::task::spawn_local(following);
            }
            (source, _) => {
                let shared = self.shared.clone();
                let spread = move |map: Arc<larder_wire::ClusterMap>| {
                    shared.set_map(map.clone());
                    for sender in &senders {
                        // A thread that has ended needs no map.
                        let _ = sender.send(Message::Map(map.clone()));
                    }
                    if map.unowned().is_empty() {
                        shared.readiness.set_ready();
                    } else {
                        shared.readiness.set_waiting("owners of all slots");
                    }
                };
                let following = source::follow(source, self.config.login, self.shared, spread);
                tokio::task::spawn_local(following);
            }
        }
        self.shutdown.wait().await;
        Ok(())
    }
}
