//! Which servers stand behind the proxy: Larder's nodes, or for the time of an import the old server that is copied from.
//!
//! ```text
//! Larder ──the topology forwards──▶ Old ──HOLD──▶ Held ──TURN──▶ Larder
//!    ▲                              ▲  │            │
//!    └──────── END, or turned ──────┼──┘            └─ RELEASE, or the hold is over and was void
//!                                   └───────────────┘
//! ```
//!
//! Runs on the control thread and tells the workers. While it holds, requests wait with their clients, in order, and those under way
//! are answered by the old server; nothing is lost, repeated or reordered. What is promised to whom is written in
//! `larder_wire::forwarding`.

use std::sync::Arc;
use std::time::Duration;

use larder_runtime::foreign::{Foreign, Login, RedisUrl, info_field};
use larder_runtime::{Reply, Secret, Topologies, sealed};
use larder_wire::ClusterMap;
use larder_wire::control::Peer;
use larder_wire::forwarding::Forwarding;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::sleep;

use crate::foreign_map;
use crate::limits::FORWARD_HOLD_MS_MAX;
use crate::shared::Shared;
use crate::switch::Backend;
use crate::worker::Message;

/// Pause before an old server is asked again what it is, and before the topology is asked again, in milliseconds.
const RETRY_MS: u64 = 50;

/// What the workers pass on of an importer's request; answered with a line when it cannot be done.
pub(crate) struct Order {
    /// HOLD, TURN, RELEASE.
    pub(crate) verb: Vec<u8>,
    pub(crate) attempt: u64,
    /// Of a HOLD: how long.
    pub(crate) ms: u64,
    pub(crate) answer: oneshot::Sender<Result<(), String>>,
}

/// What the control thread hears.
pub(crate) enum Told {
    Larder(Arc<ClusterMap>),
    /// The map of the old server of this forwarding.
    Old(u64, Backend, Arc<ClusterMap>),
    /// What the topology has recorded.
    Recorded(Option<Forwarding>),
    Order(Order),
    /// One worker has nothing under way any more.
    Quiet(u64),
    /// The hold of this attempt is over.
    Over(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Active {
    Nothing,
    Larder,
    Old,
}

struct Hold {
    attempt: u64,
    /// Workers that have yet to become quiet.
    busy: usize,
    answer: Option<oneshot::Sender<Result<(), String>>>,
}

pub(crate) struct Turning {
    pub(crate) shared: Arc<Shared>,
    pub(crate) workers: Vec<mpsc::UnboundedSender<Message>>,
    pub(crate) topologies: Topologies,
    pub(crate) secret: Secret,
    pub(crate) tell: mpsc::UnboundedSender<Told>,
    larder: Option<Arc<ClusterMap>>,
    /// The record was heard of: before that nobody knows where requests belong.
    has_heard: bool,
    forwarding: Option<(Forwarding, JoinHandle<()>)>,
    old: Option<(Backend, Arc<ClusterMap>)>,
    active: Active,
    hold: Option<Hold>,
}

impl Turning {
    pub(crate) fn new(
        shared: Arc<Shared>,
        workers: Vec<mpsc::UnboundedSender<Message>>,
        topologies: Topologies,
        secret: Secret,
        tell: mpsc::UnboundedSender<Told>,
    ) -> Turning {
        Turning {
            shared,
            workers,
            topologies,
            secret,
            tell,
            larder: None,
            has_heard: false,
            forwarding: None,
            old: None,
            active: Active::Nothing,
            hold: None,
        }
    }

    pub(crate) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Told>) {
        while let Some(told) = inbox.recv().await {
            match told {
                Told::Larder(map)
                    if self
                        .larder
                        .as_ref()
                        .is_some_and(|known| map.epoch < known.epoch) => {}
                Told::Larder(map) => {
                    self.larder = Some(map.clone());
                    match self.active {
                        Active::Larder => self.spread(map),
                        Active::Nothing => self.turn_to_larder_if_wanted(),
                        Active::Old => {}
                    }
                }
                Told::Old(id, backend, map) => self.old_map(id, backend, map),
                Told::Recorded(record) => self.recorded(record),
                Told::Order(order) => self.order(order),
                Told::Quiet(attempt) => self.quiet(attempt),
                Told::Over(attempt) => self.over(attempt),
            }
        }
    }

    fn recorded(&mut self, record: Option<Forwarding>) {
        self.has_heard = true;
        let turned = record.as_ref().is_some_and(|record| record.turned);
        if self.hold.is_some() && !turned {
            // Whether it is turned is yet to be decided.
            return;
        }
        match record.filter(|record| !record.turned) {
            Some(record) => {
                if self
                    .forwarding
                    .as_ref()
                    .is_some_and(|(known, _)| known.id == record.id)
                {
                    return;
                }
                self.forget_old();
                match sealed::open(&record.from, &self.secret) {
                    Ok(url) => {
                        tracing::info!("requests are forwarded to {url}");
                        let following =
                            follow_old(record.id, url, self.shared.clone(), self.tell.clone());
                        self.forwarding = Some((record, spawn_local(following)));
                    }
                    Err(error) => tracing::error!("the old server's URL cannot be read: {error}"),
                }
            }
            None => {
                self.forget_old();
                self.turn_to_larder_if_wanted();
            }
        }
    }

    fn forget_old(&mut self) {
        if let Some((_, task)) = self.forwarding.take() {
            task.abort();
        }
        self.old = None;
    }

    fn turn_to_larder_if_wanted(&mut self) {
        if !self.has_heard || self.forwarding.is_some() || self.active == Active::Larder {
            return;
        }
        let Some(map) = self.larder.clone() else {
            return;
        };
        if let Some(Hold {
            answer: Some(answer),
            ..
        }) = self.hold.take()
        {
            // Whoever asked may have gone.
            let _ = answer.send(Err("it was turned before".to_string()));
        }
        self.active = Active::Larder;
        self.shared
            .forwards
            .store(false, std::sync::atomic::Ordering::Relaxed);
        self.show(&map);
        self.say(|| Message::Turn {
            backend: Backend::Larder,
            login: Login::default(),
            map: map.clone(),
        });
    }

    fn old_map(&mut self, id: u64, backend: Backend, map: Arc<ClusterMap>) {
        let Some((record, _)) = self
            .forwarding
            .as_ref()
            .filter(|(record, _)| record.id == id)
        else {
            return;
        };
        let login = sealed::open(&record.from, &self.secret).map(|url| url.login);
        self.old = Some((backend, map.clone()));
        if self.active == Active::Old {
            return self.spread(map);
        }
        self.active = Active::Old;
        self.shared
            .forwards
            .store(true, std::sync::atomic::Ordering::Relaxed);
        self.show(&map);
        let login = login.unwrap_or_default();
        self.say(|| Message::Turn {
            backend,
            login: login.clone(),
            map: map.clone(),
        });
    }

    fn order(&mut self, order: Order) {
        let Order {
            verb,
            attempt,
            ms,
            answer,
        } = order;
        let is_held = self
            .hold
            .as_ref()
            .is_some_and(|hold| hold.attempt == attempt);
        let told = match verb.as_slice() {
            b"hold" if self.active != Active::Old => Err(
                "this proxy does not forward to the old server (is the topology away from it?)"
                    .to_string(),
            ),
            b"hold" if self.hold.is_some() => {
                Err("this proxy is held by another cutover".to_string())
            }
            b"hold" => return self.begin_hold(attempt, ms, answer),
            b"turn" if is_held => {
                self.turn();
                Ok(())
            }
            b"turn" if self.active == Active::Larder => Ok(()),
            b"turn" => Err("this proxy has not waited for it".to_string()),
            b"release" if is_held => {
                self.release();
                Ok(())
            }
            b"release" => Ok(()),
            _ => Err("a proxy knows LARDER FORWARD HOLD, TURN and RELEASE".to_string()),
        };
        // Whoever asked may have gone.
        let _ = answer.send(told);
    }

    fn begin_hold(&mut self, attempt: u64, ms: u64, answer: oneshot::Sender<Result<(), String>>) {
        self.hold = Some(Hold {
            attempt,
            busy: self.workers.len(),
            answer: Some(answer),
        });
        self.say(|| Message::Hold(attempt));
        let tell = self.tell.clone();
        let hold = Duration::from_millis(ms.min(FORWARD_HOLD_MS_MAX));
        spawn_local(async move {
            sleep(hold).await;
            // The receiver ends with the proxy.
            let _ = tell.send(Told::Over(attempt));
        });
    }

    fn quiet(&mut self, attempt: u64) {
        if let Some(hold) = self.hold.as_mut().filter(|hold| hold.attempt == attempt) {
            hold.busy = hold.busy.saturating_sub(1);
            if hold.busy == 0
                && let Some(answer) = hold.answer.take()
            {
                let _ = answer.send(Ok(()));
            }
        }
    }

    /// The hold is over and nothing was heard. Whether it was turned is the topology's to say: the question itself makes
    /// the attempt void unless it was.
    fn over(&mut self, attempt: u64) {
        let Some(hold) = self.hold.as_mut().filter(|hold| hold.attempt == attempt) else {
            return;
        };
        if let Some(answer) = hold.answer.take() {
            let _ = answer.send(Err(
                "the old server has not answered everything in time".to_string()
            ));
        }
        let (topologies, secret) = (self.topologies.clone(), self.secret.clone());
        let tell = self.tell.clone();
        spawn_local(async move {
            loop {
                let asked = void(&topologies, &secret, attempt).await;
                let verb: &[u8] = match asked {
                    Some(record) if record.as_ref().is_some_and(|record| record.turned) => b"turn",
                    Some(_) => b"release",
                    None => {
                        sleep(Duration::from_millis(RETRY_MS)).await;
                        continue;
                    }
                };
                let order = Order {
                    verb: verb.to_vec(),
                    attempt,
                    ms: 0,
                    answer: oneshot::channel().0,
                };
                let _ = tell.send(Told::Order(order));
                return;
            }
        });
    }

    fn turn(&mut self) {
        self.hold = None;
        self.forget_old();
        self.has_heard = true;
        self.turn_to_larder_if_wanted();
    }

    fn release(&mut self) {
        self.hold = None;
        self.say(|| Message::Release);
    }

    fn spread(&self, map: Arc<ClusterMap>) {
        self.show(&map);
        self.say(|| Message::Map(map.clone()));
    }

    fn show(&self, map: &Arc<ClusterMap>) {
        self.shared.set_map(map.clone());
        if map.unowned().is_empty() {
            self.shared.readiness.set_ready();
        } else {
            self.shared.readiness.set_waiting("owners of all slots");
        }
    }

    fn say(&self, message: impl Fn() -> Message) {
        for worker in &self.workers {
            // A thread that has ended needs no telling.
            let _ = worker.send(message());
        }
    }
}

/// Makes an attempt void; the record after that, or `None` when it is not known whether that was done.
async fn void(
    topologies: &Topologies,
    secret: &Secret,
    attempt: u64,
) -> Option<Option<Forwarding>> {
    let mut topology = topologies.connect(secret, Peer::Proxy).await.ok()?;
    let attempt = attempt.to_string();
    let words = ["LARDER", "FORWARD", "VOID", &attempt];
    topology.request_json(words).await.ok()
}

/// Learns what the old server is and where its slots lie, as long as it is forwarded to.
async fn follow_old(
    id: u64,
    url: RedisUrl,
    shared: Arc<Shared>,
    tell: mpsc::UnboundedSender<Told>,
) {
    let told = |backend, map| {
        // The receiver ends with the proxy.
        let _ = tell.send(Told::Old(id, backend, map));
    };
    loop {
        match in_cluster(&url).await {
            Some(true) => {
                let told = |map| told(Backend::Cluster, map);
                return foreign_map::follow(&[url.addr()], &url.login, &shared, told).await;
            }
            Some(false) => {
                return told(
                    Backend::Plain,
                    Arc::new(foreign_map::one_server(url.addr())),
                );
            }
            None => sleep(Duration::from_millis(RETRY_MS)).await,
        }
    }
}

/// `None` while it does not answer.
async fn in_cluster(url: &RedisUrl) -> Option<bool> {
    let mut server = Foreign::connect(&url.addr(), &url.login).await.ok()?;
    let Reply::Bulk(info) = server.ask(["INFO", "cluster"]).await.ok()? else {
        return None;
    };
    Some(info_field(&String::from_utf8_lossy(&info), "cluster_enabled") == Some("1"))
}
