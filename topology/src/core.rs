//! One term of the service around the plan: every event goes through `Core::event`, every action is handed to whoever
//! carries it out. Nothing here waits: links, awaits and the store work on their own and report back as events.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc as thread_mpsc;
use std::time::{Duration, Instant};

use larder_plan::{Action, Answer, Event, Level, Order, Plan, RequestId, State};
use larder_runtime::http::Readiness;
use larder_runtime::{Backoff, Secret, entropy};
use larder_wire::{ClusterMap, NodeId};
use tokio::sync::{mpsc, oneshot, watch};

use crate::authority::Authority;
use crate::awaiting;
use crate::link::{Link, LinkOrder};
use crate::metrics::Shown;
use crate::service::Service;
use crate::start::NodeStarter;
use crate::store::{Store, StoreError};
use crate::{PROBE_MOVING_MS, PROBE_MS, PROBE_REPLICATED_MS};

/// Pause after a record that was not taken, first and longest, in milliseconds.
const SAVE_AGAIN_MS_MIN: u64 = 20;
const SAVE_AGAIN_MS_MAX: u64 = 500;

type Answered = Result<Box<Answer>, String>;

/// Shared by all tasks of the topology's thread. Its cells are never borrowed across an await.
pub(crate) struct Core {
    plan: RefCell<Plan>,
    began: Instant,
    links: RefCell<BTreeMap<NodeId, Link>>,
    requests: RefCell<BTreeMap<RequestId, oneshot::Sender<Answered>>>,
    next_request: Cell<u64>,
    store: thread_mpsc::Sender<(u64, Box<State>)>,
    pub(crate) reports: mpsc::UnboundedSender<Event>,
    maps: watch::Sender<Arc<ClusterMap>>,
    readiness: Readiness,
    shown: Arc<Shown>,
    starter: Option<Rc<NodeStarter>>,
    authority: Arc<Authority>,
    /// Whoever watches maps leaves when this becomes true.
    closed: watch::Sender<bool>,
    pub(crate) secret: Secret,
}

impl Core {
    /// The core of one term, what is reported to it, and the thread that writes its record.
    pub(crate) fn new(
        service: &Service,
        plan: Plan,
        store: Box<dyn Store>,
        authority: Arc<Authority>,
    ) -> (Rc<Core>, mpsc::UnboundedReceiver<Event>, Writer) {
        let (reports, events) = mpsc::unbounded_channel();
        let (store, writer) = store_thread(store, &service.cluster, reports.clone());
        let core = Core {
            plan: RefCell::new(plan),
            began: Instant::now(),
            links: RefCell::default(),
            requests: RefCell::default(),
            next_request: Cell::new(1),
            store,
            reports,
            maps: service.maps.clone(),
            readiness: service.readiness.clone(),
            shown: service.shown.clone(),
            starter: service.starter.clone(),
            authority,
            closed: watch::Sender::new(false),
            secret: service.door.secret.clone(),
        };
        (Rc::new(core), events, writer)
    }

    /// The end of the term: links and sessions that depend on it are let go.
    pub(crate) fn close(&self) {
        self.authority.end();
        self.links.borrow_mut().clear();
        self.requests.borrow_mut().clear();
        self.closed.send_replace(true);
    }

    /// False from the moment on when another topology may lead.
    pub(crate) fn leads(&self) -> bool {
        self.authority.holds()
    }

    /// Returns at the end of the term.
    pub(crate) async fn closed(&self) {
        // An error cannot be: the sender is held here.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// The one way into the plan. Whoever does not lead decides nothing.
    pub(crate) fn event(self: &Rc<Core>, event: Event) {
        if !self.leads() {
            return;
        }
        let now = self.began.elapsed().as_millis() as u64;
        let worth_showing = matches!(event, Event::Tick | Event::Recorded { .. });
        let actions = self.plan.borrow_mut().step(now, event);
        for action in actions {
            self.act(action);
        }
        self.follow_nodes();
        if worth_showing {
            self.show();
        }
    }

    fn act(self: &Rc<Core>, action: Action) {
        match action {
            Action::Record { seq, state } => {
                // The thread is gone only when this one is about to end.
                let _ = self.store.send((seq, state));
            }
            Action::PushMap { node, push } => self.order(node, LinkOrder::Push(push)),
            Action::Fence { node, fence } => self.order(node, LinkOrder::Fence(fence)),
            Action::Unfence { node, number } => self.order(node, LinkOrder::Unfence(number)),
            Action::Yield { node, order } => self.order(node, LinkOrder::Yield(order)),
            Action::FailedOver(done) => self.shown.failed_over(&done),
            Action::StartImport { node, import } => self.order(node, LinkOrder::Import(import)),
            Action::Abort { node, attempt } => self.order(node, LinkOrder::Abort(attempt)),
            Action::AwaitImport { node, attempt } => match self.addr_of(node) {
                Some(addr) => awaiting::spawn(self, node, addr, attempt),
                None => self.report(Event::AwaitBroken { attempt }),
            },
            Action::Broadcast(map) => {
                self.readiness.set_ready();
                self.maps.send_replace(Arc::new(*map));
            }
            Action::Reply { request, answer } => {
                if let Some(waiting) = self.requests.borrow_mut().remove(&request) {
                    // The operator may have left.
                    let _ = waiting.send(answer);
                }
            }
            Action::AskForNodes(missing) => {
                if let Some(start) = &self.starter {
                    tracing::info!("{missing} further nodes are started");
                    start(missing);
                }
            }
            Action::Moved(done) => self.shown.moved(&done),
            Action::Log { level, text } => match level {
                Level::Info => tracing::info!("{text}"),
                Level::Warn => tracing::warn!("{text}"),
                Level::Error => tracing::error!("{text}"),
            },
        }
    }

    fn order(&self, node: NodeId, order: LinkOrder) {
        let run_id = self
            .plan
            .borrow()
            .state()
            .nodes
            .get(&node)
            .map(|node| node.run_id);
        match self.links.borrow().get(&node).zip(run_id) {
            Some((link, run_id)) => link.order(run_id, order),
            None => order.fail(node, "there is no connection", &self.reports),
        }
    }

    pub(crate) fn report(&self, event: Event) {
        // The loop that reads them ends with this thread.
        let _ = self.reports.send(event);
    }

    /// One link for each node that is known, to the address that it last joined with.
    fn follow_nodes(self: &Rc<Core>) {
        let plan = self.plan.borrow();
        let nodes = &plan.state().nodes;
        let mut links = self.links.borrow_mut();
        links.retain(|id, link| {
            let node = nodes.get(id).filter(|node| !node.gone);
            node.is_some_and(|node| node.addr == link.addr)
        });
        let every = Duration::from_millis(probe_ms(plan.state()));
        for (id, node) in nodes.iter().filter(|(_, node)| !node.gone) {
            let link = links.entry(*id).or_insert_with(|| {
                Link::spawn(
                    *id,
                    &node.addr,
                    &self.secret,
                    &self.authority,
                    &self.reports,
                )
            });
            link.probe_every(every);
        }
    }

    /// A node has joined: whether that counts as a lease.
    pub(crate) fn lease(&self, node: NodeId, run_id: NodeId) -> bool {
        let now = self.began.elapsed().as_millis() as u64;
        self.leads() && self.plan.borrow_mut().lease(now, node, run_id)
    }

    fn addr_of(&self, node: NodeId) -> Option<String> {
        let plan = self.plan.borrow();
        plan.state().nodes.get(&node).map(|node| node.addr.clone())
    }

    fn show(&self) {
        let plan = self.plan.borrow();
        self.shown.show(plan.status());
    }

    pub(crate) fn plan(&self) -> std::cell::Ref<'_, Plan> {
        self.plan.borrow()
    }

    pub(crate) fn maps(&self) -> watch::Receiver<Arc<ClusterMap>> {
        self.maps.subscribe()
    }

    /// Takes an order to the plan and waits till what it decided is recorded.
    pub(crate) async fn operator(self: &Rc<Core>, order: Order) -> Answered {
        let request = RequestId(self.next_request.get());
        self.next_request.set(request.0 + 1);
        let (sender, answered) = oneshot::channel();
        self.requests.borrow_mut().insert(request, sender);
        self.event(Event::Operator { request, order });
        match answered.await {
            Ok(answer) => answer,
            Err(_) => Err("this topology leads no more: see with LARDER STATUS at the one that does whether the order was taken".into()),
        }
    }
}

/// Probes come often where something waits for what they say.
fn probe_ms(state: &State) -> u64 {
    let entries = || state.map.shards().iter().flat_map(|shard| shard.replicas());
    let unsettled = !state.attempts.is_empty()
        || !state.failovers.is_empty()
        || entries().any(|entry| !entry.in_step);
    match (unsettled, entries().next().is_some()) {
        (true, _) => PROBE_MOVING_MS,
        (false, true) => PROBE_REPLICATED_MS,
        (false, false) => PROBE_MS,
    }
}

/// The thread that writes the record.
pub(crate) struct Writer(std::thread::JoinHandle<()>);

impl Writer {
    /// Waits till what was handed over is written. Every holder of the core must be gone.
    pub(crate) fn finish(self) {
        // A panic was reported by the thread itself.
        let _ = self.0.join();
    }
}

/// Writes come one by one; of several that wait only the last, which holds all the others, is written. After a failure
/// the next waits: the plan says it again and again until one is taken.
fn store_thread(
    mut store: Box<dyn Store>,
    cluster: &str,
    reports: mpsc::UnboundedSender<Event>,
) -> (thread_mpsc::Sender<(u64, Box<State>)>, Writer) {
    let (sender, records) = thread_mpsc::channel::<(u64, Box<State>)>();
    let cluster = cluster.to_string();
    let thread = std::thread::spawn(move || {
        let mut failed = Backoff::new(
            Duration::from_millis(SAVE_AGAIN_MS_MIN),
            Duration::from_millis(SAVE_AGAIN_MS_MAX),
        );
        while let Ok(mut record) = records.recv() {
            while let Ok(later) = records.try_recv() {
                record = later;
            }
            let (seq, state) = record;
            let saved = store.save(&cluster, &state.to_json());
            let pause = match &saved {
                Ok(()) => {
                    failed.reset();
                    None
                }
                Err(StoreError::Deposed) => {
                    tracing::warn!("a late record was refused: another topology leads");
                    None
                }
                Err(_) => Some(failed.next(entropy::jitter())),
            };
            let result = saved.map_err(|error| error.to_string());
            if reports.send(Event::Recorded { seq, result }).is_err() {
                return;
            }
            if let Some(pause) = pause {
                std::thread::sleep(pause);
            }
        }
    });
    (sender, Writer(thread))
}
