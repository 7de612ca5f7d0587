//! An import from its start to its end, and all that a person sees of it.
//!
//! ```text
//! Connecting ─▶ FullSync ─▶ Streaming ◀─▶ Verifying
//!                              │  ▲ not done: the hold was over
//!                              ▼  │
//!                          CuttingOver ─▶ CutOver          any ─▶ Aborted | Failed
//! ```

use std::cell::RefCell;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use larder_runtime::foreign::RedisUrl;
use larder_runtime::{Backoff, Secret, Topologies, entropy, sealed};
use larder_store::Db;
use larder_wire::ClusterMap;
use larder_wire::control::Peer;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::control::{self, Verb};
use crate::cutover;
use crate::discover::{discover, told};
use crate::empty::Emptied;
use crate::follow::{Failure, Follower, Mode, Order, Place};
use crate::ledger::Ledger;
use crate::nodes::{Nodes, Shared};
use crate::report::{Phase, Report, SourceReport, State, Verified};
use crate::state_file::{self, Left, LeftSource};
use crate::verify::{Extent, Side, verify};

/// How often progress is shown, in milliseconds.
const SHOW_MS: u64 = 200;
const DIAL_MS_MIN: u64 = 20;
const DIAL_MS_MAX: u64 = 1000;
/// Longest wait for the first slot map, in milliseconds.
const MAP_MS_MAX: u64 = 10_000;
/// Longest wait for all nodes to remove their keys, in milliseconds.
const CLEAR_MS_MAX: u64 = 30_000;
/// Longest wait for the followers to take in what has arrived, in milliseconds.
const STOP_MS_MAX: u64 = 30_000;

/// What becomes of keys that Larder holds when an import begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onto {
    /// There must be none.
    Nothing,
    /// They are removed.
    Cleared,
    /// They stay; those that the source has, too, are replaced.
    Whatever,
}

pub struct ImportConfig {
    pub from: RedisUrl,
    pub topology: Topologies,
    pub secret: Secret,
    /// `host:port` for `larder import status` and its like.
    pub listen: String,
    pub onto: Onto,
    pub verify: Option<Extent>,
    /// Where an import that is stopped keeps its place.
    pub state_file: PathBuf,
    /// How long a source that is away is waited for.
    pub patience: Duration,
    /// Proxies forward to the source until the cutover.
    pub forward: bool,
    /// Longest time that clients wait at the cutover.
    pub hold: Duration,
}

/// How an import ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    CutOver(Report),
    Aborted,
    /// Stopped by a signal; it goes on when it is started again.
    Left,
}

/// Runs an import. `signal` stops it; `show` is told how it is, a few times a second.
pub async fn run(
    config: ImportConfig,
    signal: impl Future,
    show: impl FnMut(&Report),
) -> Result<End, String> {
    LocalSet::new()
        .run_until(import(config, signal, show))
        .await
}

async fn import(
    config: ImportConfig,
    signal: impl Future,
    mut show: impl FnMut(&Report),
) -> Result<End, String> {
    let listener = larder_runtime::listen::tcp(&config.listen, "--listen");
    let listener = listener.map_err(|error| error.to_string())?;
    let port = listener
        .local_addr()
        .map_err(|error| error.to_string())?
        .port();
    let listener = TcpListener::from_std(listener).map_err(|error| error.to_string())?;
    let map = follow_map(&config.topology, &config.secret).await?;
    let places = discover(&config.from).await?;
    let nodes = Nodes::new(config.secret.clone(), map);
    let left = make_room(&config, &places, &nodes).await?;
    state_file::remove(&config.state_file)?;
    if config.forward {
        let topology = config
            .topology
            .connect(&config.secret, Peer::Operator)
            .await;
        let mut topology = topology.map_err(|error| error.to_string())?;
        let id = (entropy::seed().map_err(|error| error.to_string())? >> 12).to_string();
        let from = sealed::seal(&config.from, &config.secret);
        cutover::forward(&mut topology, &["BEGIN", &id, &from]).await?;
    }
    let mut run = Run::start(config, places, &nodes, left.as_ref(), port);
    let (asks, mut asked) = mpsc::unbounded_channel();
    spawn_local(control::serve(listener, run.config.secret.clone(), asks));
    let mut tick = interval(Duration::from_millis(SHOW_MS));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(signal);
    loop {
        tokio::select! {
            _ = &mut signal => return run.leave().await,
            Some(ended) = run.followers.join_next() => {
                let cause = match ended {
                    Ok(Ok(())) => continue,
                    Ok(Err(Failure::Final(cause))) => cause,
                    Ok(Err(Failure::Lost(error))) => told(error),
                    Err(error) => format!("a part of the import has ended by a bug: {error}"),
                };
                run.state.replace(State::Failed { cause: cause.clone() });
                show(&run.report());
                return Err(cause);
            }
            Some((verb, answer)) = asked.recv() => {
                if let Some(end) = run.answer(verb, answer, &mut show).await {
                    return end;
                }
            }
            _ = tick.tick() => {
                run.look();
                show(&run.report());
            }
        }
    }
}

/// The slot map, kept up to date as long as somebody reads it.
async fn follow_map(
    topology: &Topologies,
    secret: &Secret,
) -> Result<watch::Receiver<Arc<ClusterMap>>, String> {
    let (sender, mut map) = watch::channel(Arc::new(ClusterMap::empty("larder")));
    let first = topology.connect(secret, Peer::Operator).await;
    let first = first.map_err(|error| {
        format!("no topology answers at {topology}: {error} (is it running? name another with --topology)")
    })?;
    let (topology, secret) = (topology.clone(), secret.clone());
    spawn_local(async move {
        let mut backoff = Backoff::new(
            Duration::from_millis(DIAL_MS_MIN),
            Duration::from_millis(DIAL_MS_MAX),
        );
        let mut client = Some(first);
        while !sender.is_closed() {
            if let Some(mut client) = client.take()
                && client.send(["LARDER", "WATCH"]).await.is_ok()
            {
                backoff.reset();
                while let Ok(reply) = client.read_reply().await {
                    if let Ok(map) = client.parse_json::<ClusterMap>(&reply) {
                        sender.send_if_modified(|known| {
                            let newer = map.epoch >= known.epoch;
                            if newer {
                                *known = Arc::new(map);
                            }
                            newer
                        });
                    }
                }
            }
            sleep(backoff.next(entropy::jitter())).await;
            client = topology.connect(&secret, Peer::Operator).await.ok();
        }
    });
    let served = map.wait_for(|map| map.epoch.0 > 0 && map.unowned().is_empty());
    let limit = Duration::from_millis(MAP_MS_MAX);
    let waited = match timeout(limit, served).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(format!(
            "Larder does not serve all slots after {} s (see: larder status)",
            MAP_MS_MAX / 1000
        )),
    };
    waited.map(|()| map)
}

/// Removes all keys that Larder holds.
async fn remove_all(nodes: &Rc<Nodes>) -> Result<(), String> {
    let cleared = nodes.empty(Emptied::All, None, || true);
    let limit = Duration::from_millis(CLEAR_MS_MAX);
    timeout(limit, cleared).await.unwrap_or_else(|_| {
        let cause = nodes.trouble.borrow().clone();
        Err(format!(
            "Larder cannot be cleared: {}",
            cause.as_deref().unwrap_or("its nodes do not answer")
        ))
    })
}

/// What an earlier run has left, if it can be gone on from; else Larder is made ready for all keys.
async fn make_room(
    config: &ImportConfig,
    places: &[Place],
    nodes: &Rc<Nodes>,
) -> Result<Option<Left>, String> {
    if config.onto == Onto::Cleared {
        remove_all(nodes).await?;
        nodes.ask_each(&["FUNCTION", "FLUSH"]).await?;
        return Ok(None);
    }
    let left = state_file::read(&config.state_file)?.filter(|left| {
        let known = |place: &Place| {
            let mut sources = left.sources.iter();
            sources.any(|source| source.slots == place.slots && source.stopped().is_some())
        };
        left.from == config.from.to_string()
            && left.topology == config.topology.to_string()
            && left.sources.len() == places.len()
            && places.iter().all(known)
    });
    if left.is_some() {
        return Ok(left);
    }
    let held = nodes.keys().await?;
    if held > 0 && config.onto == Onto::Nothing {
        return Err(format!(
            "Larder holds {held} keys already (remove them with --clear, or keep them beside those that come with --keep)"
        ));
    }
    Ok(None)
}

/// An import under way.
pub(crate) struct Run {
    pub(crate) config: ImportConfig,
    pub(crate) nodes: Rc<Nodes>,
    pub(crate) sides: Vec<Side>,
    places: Vec<Place>,
    reports: Vec<Rc<RefCell<SourceReport>>>,
    followers: JoinSet<Result<(), Failure>>,
    pub(crate) state: Rc<RefCell<State>>,
    verified: Rc<RefCell<Option<Verified>>>,
    has_verified: bool,
}

impl Run {
    fn start(
        config: ImportConfig,
        places: Vec<Place>,
        nodes: &Rc<Nodes>,
        left: Option<&Left>,
        port: u16,
    ) -> Run {
        let seeds: Vec<String> = places.iter().map(|place| place.addr.clone()).collect();
        let (mut sides, mut reports, mut followers) = (Vec::new(), Vec::new(), JoinSet::new());
        for place in &places {
            let (orders, inbox) = mpsc::unbounded_channel();
            let report = Rc::new(RefCell::new(SourceReport {
                addr: place.addr.clone(),
                ..SourceReport::default()
            }));
            let sources = left.iter().flat_map(|left| &left.sources);
            let stopped = sources
                .filter(|source| source.slots == place.slots)
                .find_map(LeftSource::stopped);
            let shared = Shared::new();
            let db = stopped.as_ref().map_or(Db::ZERO, |stopped| stopped.db);
            let point = stopped.as_ref().map(|stopped| stopped.point.clone());
            if let Some(stopped) = stopped {
                *shared.ledger.borrow_mut() = Ledger::with_doubts(stopped.doubts);
                // What was met before is not kept.
                shared.has_timed_fields.set(true);
            }
            sides.push(Side {
                addr: place.addr.clone(),
                slots: place.slots.clone(),
                login: config.from.login.clone(),
                orders,
            });
            reports.push(report.clone());
            followers.spawn_local(
                Follower {
                    place: place.clone(),
                    seeds: seeds.clone(),
                    login: config.from.login.clone(),
                    port,
                    patience: config.patience,
                    nodes: nodes.clone(),
                    shared,
                    report,
                    orders: inbox,
                    mode: Mode::Apply,
                    last_write: point.as_ref().map_or(0, |point| point.offset),
                    point,
                    db,
                    reaching: Vec::new(),
                    aux: None,
                    refused_before: 0,
                    milestones: Vec::new(),
                }
                .run(),
            );
        }
        Run {
            config,
            nodes: nodes.clone(),
            sides,
            places,
            reports,
            followers,
            state: Rc::new(RefCell::new(State::Connecting)),
            verified: Rc::default(),
            has_verified: false,
        }
    }

    pub(crate) fn report(&self) -> Report {
        Report {
            from: self.config.from.to_string(),
            state: self.state.borrow().clone(),
            sources: self
                .reports
                .iter()
                .map(|report| report.borrow().clone())
                .collect(),
            verified: self.verified.borrow().clone(),
            trouble: self.nodes.trouble.borrow().clone(),
        }
    }

    /// Where a source is followed.
    pub(crate) fn addr_of(&self, side: &Side) -> String {
        let of = self
            .places
            .iter()
            .position(|place| place.slots == side.slots);
        of.map_or(side.addr.clone(), |index| {
            self.reports[index].borrow().addr.clone()
        })
    }

    /// The slowest source says what state the import is in.
    fn look(&mut self) {
        let phases: Vec<Phase> = self
            .reports
            .iter()
            .map(|report| report.borrow().phase)
            .collect();
        let slowest = if phases.contains(&Phase::Connecting) {
            State::Connecting
        } else if phases.contains(&Phase::FullSync) {
            State::FullSync
        } else {
            State::Streaming
        };
        let is_before = matches!(
            *self.state.borrow(),
            State::Connecting | State::FullSync | State::Streaming
        );
        if is_before {
            self.state.replace(slowest.clone());
        }
        if let Some(extent) = self.config.verify
            && slowest == State::Streaming
            && is_before
            && !std::mem::replace(&mut self.has_verified, true)
        {
            self.start_verification(extent);
        }
    }

    fn start_verification(&self, extent: Extent) {
        let (sides, nodes) = (self.sides.clone(), self.nodes.clone());
        let (state, shown) = (self.state.clone(), self.verified.clone());
        state.replace(State::Verifying { checked: 0, of: 0 });
        spawn_local(async move {
            let verified = Rc::new(RefCell::new(Verified::default()));
            let progress = |checked, of| {
                let mut state = state.borrow_mut();
                if matches!(*state, State::Verifying { .. }) {
                    *state = State::Verifying { checked, of };
                }
            };
            let result = verify(&sides, &nodes, extent, &verified, progress).await;
            if let Err(cause) = result {
                tracing::warn!("the verification has ended early: {cause}");
                verified.borrow_mut().broken = Some(cause);
            }
            shown.replace(Some(verified.borrow().clone()));
            let mut state = state.borrow_mut();
            if matches!(*state, State::Verifying { .. }) {
                *state = State::Streaming;
            }
        });
    }

    async fn answer(
        &mut self,
        verb: Verb,
        answer: oneshot::Sender<Result<String, String>>,
        show: &mut impl FnMut(&Report),
    ) -> Option<Result<End, String>> {
        let told = match verb {
            Verb::Status => {
                serde_json::to_string(&self.report()).map_err(|error| error.to_string())
            }
            Verb::Abort { clear, serve } => {
                let end = self.abort(clear, serve).await;
                let told = end
                    .as_ref()
                    .map(|_| "the import has ended, clients stay where they are".to_string());
                let _ = answer.send(told.map_err(Clone::clone));
                // Its answer leaves before the port does.
                sleep(Duration::from_millis(SHOW_MS)).await;
                show(&self.report());
                return Some(end);
            }
            Verb::Cutover => match self.cutover().await {
                Ok(line) => {
                    self.state.replace(State::CutOver);
                    let _ = answer.send(Ok(line));
                    // Its answer leaves before the port does.
                    sleep(Duration::from_millis(SHOW_MS)).await;
                    show(&self.report());
                    return Some(Ok(End::CutOver(self.report())));
                }
                Err(line) => {
                    let was_begun = *self.state.borrow() == State::CuttingOver;
                    if was_begun {
                        self.state.replace(State::Streaming);
                    }
                    Err(line)
                }
            },
        };
        // The operator may have left.
        let _ = answer.send(told);
        None
    }

    /// Proxies go on forwarding unless they are to serve Larder.
    async fn abort(&mut self, clear: bool, serve: bool) -> Result<End, String> {
        self.state.replace(State::Aborted);
        self.followers.abort_all();
        while self.followers.join_next().await.is_some() {}
        if clear {
            remove_all(&self.nodes).await?;
        }
        if serve {
            let mut topology = self.topology().await?;
            cutover::forward(&mut topology, &["END"]).await?;
        }
        Ok(End::Aborted)
    }

    /// Everything that has arrived is taken in, and the place kept.
    async fn leave(&mut self) -> Result<End, String> {
        let limit = Duration::from_millis(STOP_MS_MAX);
        let mut sources = Vec::new();
        for (side, place) in self.sides.iter().zip(&self.places) {
            let (answer, answered) = oneshot::channel();
            let gone = || {
                format!(
                    "source {} has not been copied whole: begin anew with --clear",
                    side.addr
                )
            };
            if self
                .reports
                .iter()
                .any(|report| report.borrow().phase != Phase::Streaming)
            {
                return Err(gone());
            }
            side.orders.send(Order::Stop(answer)).map_err(|_| gone())?;
            match timeout(limit, answered).await {
                Ok(Ok(stopped)) => {
                    sources.push(LeftSource::new(&side.addr, &place.slots, &stopped))
                }
                Ok(Err(_)) | Err(_) => return Err(gone()),
            }
        }
        let left = Left {
            from: self.config.from.to_string(),
            topology: self.config.topology.to_string(),
            sources,
        };
        state_file::write(Path::new(&self.config.state_file), &left)?;
        Ok(End::Left)
    }
}
