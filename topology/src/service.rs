//! The topology's life: it leads for good when the record is its own, else for one term after the other, and
//! stands by in between.
//!
//! ```text
//!            ┌── Turn::Follow ── stands by: sessions are told who leads
//! election ──┤
//!            └── Turn::Lead ──── one term: plan from the record, links, writer
//!                                ends with its authority, the next turn, or the process
//! ```

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use larder_plan::{Event, Plan, State};
use larder_runtime::http::{HttpPort, Readiness};
use larder_runtime::shutdown::Shutdown;
use larder_wire::ClusterMap;
use tokio::sync::{mpsc, watch};

use crate::authority::Authority;
use crate::core::{Core, Writer};
use crate::door::Door;
use crate::election::{Election, Term, Turn};
use crate::metrics::Shown;
use crate::start::{NodeStarter, TopologyConfig, with_settings};
use crate::store::{EtcdAddress, LeaderRecord, Store};
use crate::{TICK_MS, session, web};

/// How long HTTP requests under way may hold up the end, in milliseconds.
const HTTP_END_MS_MAX: u64 = 500;

/// Where the record is.
pub(crate) enum Record {
    /// In a file of this process.
    Own {
        store: Box<dyn Store>,
        state: Box<State>,
    },
    /// In etcd, for several.
    Shared(EtcdAddress),
}

/// What `start` prepared.
pub(crate) struct Parts {
    pub(crate) record: Record,
    pub(crate) maps: watch::Sender<Arc<ClusterMap>>,
    pub(crate) readiness: Readiness,
    pub(crate) shown: Arc<Shown>,
    pub(crate) addr: SocketAddr,
    pub(crate) http_addr: Option<SocketAddr>,
    /// How others reach this one.
    pub(crate) me: LeaderRecord,
    pub(crate) config: TopologyConfig,
}

/// What lasts as long as the process.
pub(crate) struct Service {
    pub(crate) door: Rc<Door>,
    pub(crate) maps: watch::Sender<Arc<ClusterMap>>,
    pub(crate) readiness: Readiness,
    pub(crate) shown: Arc<Shown>,
    pub(crate) starter: Option<Rc<NodeStarter>>,
    pub(crate) cluster: String,
    me: LeaderRecord,
    settings: larder_plan::Settings,
}

/// What has to be waited for once all tasks are gone.
pub(crate) enum Last {
    /// Every record that was decided is written.
    Writer(Writer),
    /// The lead has been given back.
    Election(Election),
}

impl Last {
    pub(crate) fn finish(self) {
        match self {
            Last::Writer(writer) => writer.finish(),
            Last::Election(election) => election.finish(),
        }
    }
}

/// Runs until `shutdown`.
pub(crate) async fn serve(
    parts: Parts,
    listener: std::net::TcpListener,
    http: Option<HttpPort>,
    shutdown: Shutdown,
) -> std::io::Result<Last> {
    let http_done = web::spawn(http, &parts, &shutdown);
    let config = parts.config;
    let door = Door::new(
        &config.cluster,
        &config.secret,
        config.protected,
        parts.addr,
    );
    let service = Service {
        door: Rc::new(door),
        maps: parts.maps,
        readiness: parts.readiness,
        shown: parts.shown,
        starter: config.node_starter.map(Rc::new),
        cluster: config.cluster,
        me: parts.me,
        settings: config.settings,
    };
    let sessions = tokio::task::spawn_local(session::accept(listener, service.door.clone()));
    let last = match parts.record {
        Record::Own { store, state } => {
            let (_turns, mut no_turns) = mpsc::unbounded_channel();
            let authority = Arc::new(Authority::for_ever());
            let began = service.begin(*state, store, authority);
            let (writer, _) = service.lead(began, &mut no_turns, &shutdown).await;
            Last::Writer(writer)
        }
        Record::Shared(address) => {
            let (teller, mut turns) = mpsc::unbounded_channel();
            let me = service.me.clone();
            let election = Election::begin(&address, &service.cluster, me, teller)?;
            service.take_turns(&mut turns, &shutdown).await;
            election.resign();
            Last::Election(election)
        }
    };
    sessions.abort();
    if let Some(done) = http_done {
        // Its error, if any, was logged by the task; a request that hangs is cut off.
        let _ = tokio::time::timeout(Duration::from_millis(HTTP_END_MS_MAX), done).await;
    }
    Ok(last)
}

/// A term that has begun.
pub(crate) struct Begun {
    core: Rc<Core>,
    events: mpsc::UnboundedReceiver<Event>,
    writer: Writer,
}

impl Service {
    /// One turn after the other, until `shutdown`.
    async fn take_turns(&self, turns: &mut mpsc::UnboundedReceiver<Turn>, shutdown: &Shutdown) {
        let mut next = None;
        loop {
            let turn = match next.take() {
                Some(turn) => turn,
                None => tokio::select! {
                    () = shutdown.wait() => return,
                    turn = turns.recv() => match turn {
                        Some(turn) => turn,
                        // The election has ended by a bug, which it has reported: nothing is left to do here.
                        None => return,
                    },
                },
            };
            match turn {
                Turn::Follow { leader, trouble } => self.follow(leader, trouble),
                Turn::Lead(term) => {
                    if let Some(begun) = self.take_term(term) {
                        // A save that is under way at the term's end ends by itself, one way or the other.
                        let (_writer, turn) = self.lead(begun, turns, shutdown).await;
                        next = turn;
                        if next.is_none() && !shutdown.is_pulled() {
                            self.follow(None, None);
                        }
                    }
                }
            }
        }
    }

    fn follow(&self, leader: Option<LeaderRecord>, trouble: Option<String>) {
        let (addr, http) = match leader {
            Some(leader) => (Some(leader.addr), leader.http),
            None => (None, None),
        };
        let waiting = match (&addr, trouble) {
            (Some(addr), _) => format!("its turn: {addr} leads"),
            (None, Some(trouble)) => {
                tracing::warn!("{trouble} (changes wait; clients are served)");
                format!("the record: {trouble}")
            }
            (None, None) => "a leader to be chosen".to_string(),
        };
        tracing::info!("this topology stands by, waiting for {waiting}");
        self.readiness.set_waiting(&waiting);
        self.shown.stand_by(http);
        self.door.close(addr);
    }

    /// `None`: the record cannot be used by this topology. The term ends before it began.
    fn take_term(&self, term: Term) -> Option<Begun> {
        let state = match &term.state {
            Some(json) => State::from_json(json),
            None => Ok(State::new(&self.cluster, self.settings.clone())),
        };
        match state {
            Ok(state) => {
                tracing::info!(
                    "this topology leads, term {}, epoch {}",
                    term.number,
                    state.epoch()
                );
                Some(self.begin(state, term.store, term.authority))
            }
            Err(error) => {
                tracing::error!("this topology cannot lead: {error}");
                self.readiness
                    .set_waiting(&format!("a record that it can read: {error}"));
                term.authority.end();
                None
            }
        }
    }

    fn begin(&self, state: State, store: Box<dyn Store>, authority: Arc<Authority>) -> Begun {
        let state = with_settings(state, &self.settings);
        let plan = Plan::new(state, &self.me.addr, 0);
        // What an earlier term left is older than the record, perhaps.
        self.maps
            .send_replace(Arc::new(ClusterMap::empty(&self.cluster)));
        self.readiness.set_waiting("nodes to form the cluster");
        self.shown.lead(plan.status());
        let (core, events, writer) = Core::new(self, plan, store, authority);
        self.door.open(&core);
        Begun {
            core,
            events,
            writer,
        }
    }

    /// Until the term or the process ends; gives the turn that ended it, if one did.
    async fn lead(
        &self,
        begun: Begun,
        turns: &mut mpsc::UnboundedReceiver<Turn>,
        shutdown: &Shutdown,
    ) -> (Writer, Option<Turn>) {
        let Begun {
            core,
            mut events,
            writer,
        } = begun;
        let able = self.starter.is_some();
        core.event(Event::NodeStarter { able });
        let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut turn = None;
        while core.leads() {
            tokio::select! {
                biased;
                () = shutdown.wait() => break,
                next = turns.recv() => {
                    turn = next;
                    break;
                }
                event = events.recv() => match event {
                    Some(event) => core.event(event),
                    None => break,
                },
                _ = tick.tick() => core.event(Event::Tick),
            }
        }
        self.door.close(None);
        core.close();
        (writer, turn)
    }
}
