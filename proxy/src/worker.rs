//! One thread of the proxy: its switch, its clients' sockets, its connections to nodes.
//!
//! ```text
//! session tasks ── request() ──▶ Switch ──▶ links to write ──▶ upstream tasks
//! upstream tasks ── reply() ──▶ Switch ──▶ clients touched ──▶ one write each, from the same turn
//! timer task ── tick() ──▶ Switch
//! ```
//!
//! Everything runs on one tokio runtime of one thread; the switch is never borrowed across an await. A link that is
//! woken runs after the clients that were ready before it, so that their requests leave in one write.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use larder_runtime::Topologies;
use larder_runtime::control::{ControlError, Reply};
use larder_runtime::foreign::Login;
use larder_runtime::protect::Admission;
use larder_wire::control::Peer;
use larder_wire::resp::{OwnedRequest, Protocol, ReplyWriter};
use larder_wire::{ClusterMap, Refusal};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use crate::limits::{DRAIN_MS_MAX, READ_BYTES, SLOW_READER_MS_MAX};
use crate::registry::ClientInfo;
use crate::session::{self, Sink, Stream};
use crate::switch::{Action, Backend, ClientKey, LinkKey, Switch};
use crate::turning::{Order, Told};
use crate::upstream::{self, Opening};

/// What the proxy's other threads tell this one.
pub(crate) enum Message {
    Client {
        stream: Stream,
        info: Arc<ClientInfo>,
        admission: Admission,
    },
    Map(Arc<ClusterMap>),
    /// Other servers stand behind the proxy. What was held goes to them.
    Turn {
        backend: Backend,
        login: Login,
        map: Arc<ClusterMap>,
    },
    /// Take no more requests for now, and say when nothing is under way any more.
    Hold(u64),
    Release,
    /// Take no more requests, answer what was taken, end.
    Stop,
}

pub(crate) struct Worker {
    pub(crate) switch: RefCell<Switch>,
    /// Where sockets are read into; what is left half-read moves to its owner's buffer.
    pub(crate) scratch: RefCell<Vec<u8>>,
    pub(crate) opening: RefCell<Opening>,
    /// Where orders of a cutover go, and the news that this thread is quiet.
    control: Option<mpsc::UnboundedSender<Told>>,
    held_for: Cell<Option<u64>>,
    pub(crate) stopping: Cell<bool>,
    topology: Option<Topologies>,
    sinks: RefCell<Vec<Option<Rc<Sink>>>>,
    link_wakers: RefCell<Vec<Option<(LinkKey, Waker)>>>,
    timer: Notify,
}

impl Worker {
    /// Runs until it is told to stop.
    pub(crate) fn run(
        switch: Switch,
        opening: Opening,
        topology: Option<Topologies>,
        control: Option<mpsc::UnboundedSender<Told>>,
        inbox: mpsc::UnboundedReceiver<Message>,
    ) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let worker = Rc::new(Worker {
            switch: RefCell::new(switch),
            scratch: RefCell::new(vec![0; READ_BYTES]),
            opening: RefCell::new(opening),
            control,
            held_for: Cell::new(None),
            stopping: Cell::new(false),
            topology,
            sinks: RefCell::new(Vec::new()),
            link_wakers: RefCell::new(Vec::new()),
            timer: Notify::new(),
        });
        let local = LocalSet::new();
        local.spawn_local(worker.clone().keep_time());
        local.block_on(&runtime, worker.serve(inbox));
        Ok(())
    }

    async fn serve(self: Rc<Worker>, mut inbox: mpsc::UnboundedReceiver<Message>) {
        while let Some(message) = inbox.recv().await {
            match message {
                Message::Client {
                    stream,
                    info,
                    admission,
                } => self.clone().take_client(stream, info, admission),
                Message::Map(map) => self.turn(|switch| switch.take_map(&map)),
                Message::Turn {
                    backend,
                    login,
                    map,
                } => {
                    self.opening.borrow_mut().login = login;
                    self.held_for.set(None);
                    self.turn(|switch| switch.turn_to(backend, &map));
                }
                Message::Hold(attempt) => {
                    self.held_for.set(Some(attempt));
                    self.turn(Switch::hold_all);
                }
                Message::Release => {
                    self.held_for.set(None);
                    self.turn(Switch::release_all);
                }
                Message::Stop => break,
            }
        }
        self.stopping.set(true);
        for sink in self.sinks.borrow().iter().flatten() {
            sink.wake();
        }
        let end = Instant::now() + Duration::from_millis(DRAIN_MS_MAX);
        while Instant::now() < end && !self.switch.borrow_mut().is_drained() {
            sleep(Duration::from_millis(1)).await;
        }
    }

    fn take_client(self: Rc<Worker>, stream: Stream, info: Arc<ClientInfo>, admission: Admission) {
        let (read, write) = match stream.split() {
            Ok(halves) => halves,
            Err(error) => {
                tracing::debug!("client {} is lost: {error}", info.addr);
                self.switch.borrow().shared.clients.remove(info.id);
                return;
            }
        };
        let sink = Rc::new(Sink::new(write, info.clone()));
        let key = self.switch.borrow_mut().add_client(info, admission);
        let mut sinks = self.sinks.borrow_mut();
        if sinks.len() <= key.index() {
            sinks.resize(key.index() + 1, None);
        }
        sinks[key.index()] = Some(sink.clone());
        drop(sinks);
        tokio::task::spawn_local(session::serve(self, key, sink, read));
    }

    /// The session is over.
    pub(crate) fn drop_client(self: &Rc<Worker>, key: ClientKey, info: &ClientInfo) {
        let mut switch = self.switch.borrow_mut();
        switch.shared.clients.remove(info.id);
        if let Some(sink) = self.sinks.borrow_mut().get_mut(key.index()) {
            *sink = None;
        }
        switch.remove_client(key);
        self.after(&mut switch);
    }

    pub(crate) fn now_us(&self, switch: &Switch) -> u64 {
        switch.shared.now_us()
    }

    /// One turn of the switch at the present time, and what follows from it.
    pub(crate) fn turn(self: &Rc<Worker>, work: impl FnOnce(&mut Switch)) {
        let mut switch = self.switch.borrow_mut();
        let now = self.now_us(&switch);
        switch.set_now(now);
        work(&mut switch);
        self.after(&mut switch);
    }

    /// Writes what clients are to get, wakes whom the turn has given something to do.
    pub(crate) fn after(self: &Rc<Worker>, switch: &mut Switch) {
        let mut index = 0;
        while index < switch.touched.len() {
            let key = switch.touched[index];
            index += 1;
            self.flush(switch, key);
        }
        switch.touched.clear();
        if !switch.to_write.is_empty() {
            let wakers = self.link_wakers.borrow();
            for key in switch.to_write.drain(..) {
                if let Some(Some((owner, waker))) = wakers.get(key.index())
                    && *owner == key
                {
                    waker.wake_by_ref();
                }
            }
        }
        for index in 0..switch.to_wake.len() {
            let key = switch.to_wake[index];
            if let Some(client) = switch.client(key) {
                client.waiting = false;
                self.wake_session(key);
            }
        }
        switch.to_wake.clear();
        if !switch.actions.is_empty() {
            let actions = std::mem::take(&mut switch.actions);
            self.act_borrowed(switch, actions);
        }
        if switch.next_tick_ms().is_some() {
            self.timer.notify_one();
        }
        if let Some(attempt) = self.held_for.get()
            && switch.is_quiet()
        {
            self.held_for.set(None);
            if let Some(control) = &self.control {
                // The control thread ends first only at the end of all.
                let _ = control.send(Told::Quiet(attempt));
            }
        }
    }

    /// One write of all that waits for the client; what is left over is its session's.
    pub(crate) fn flush(&self, switch: &mut Switch, key: ClientKey) {
        let counts = switch.counts.clone();
        let Some(client) = switch.client(key) else {
            return;
        };
        client.touched = false;
        let sinks = self.sinks.borrow();
        let Some(Some(sink)) = sinks.get(key.index()) else {
            return;
        };
        let mut wake = client.waiting || client.closing || sink.is_ending();
        if client.out_at < client.out.len() && !sink.is_blocked() {
            match sink.write.try_write(&client.out[client.out_at..]) {
                Ok(n) => {
                    counts.to_clients.add(n as u64);
                    counts.client_writes.inc();
                    client.wrote(n);
                    sink.progress();
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => sink.fail(),
            }
            if client.out_at < client.out.len() {
                sink.block();
                wake = true;
            }
        }
        if client.unread_bytes() > client.out_bytes_max() {
            counts.slow_readers.inc();
            tracing::info!(
                "client {} is cut off: it has not read {} bytes of replies",
                sink.info.addr,
                client.unread_bytes()
            );
            sink.fail();
            wake = true;
        }
        if wake {
            client.waiting = false;
            sink.wake();
        }
    }

    fn wake_session(&self, key: ClientKey) {
        if let Some(Some(sink)) = self.sinks.borrow().get(key.index()) {
            sink.wake();
        }
    }

    pub(crate) fn set_link_waker(&self, key: LinkKey, waker: &Waker) {
        let mut wakers = self.link_wakers.borrow_mut();
        if wakers.len() <= key.index() {
            wakers.resize(key.index() + 1, None);
        }
        match &wakers[key.index()] {
            Some((owner, known)) if *owner == key && known.will_wake(waker) => {}
            Some(_) | None => wakers[key.index()] = Some((key, waker.clone())),
        }
    }

    fn act_borrowed(self: &Rc<Worker>, switch: &mut Switch, actions: Vec<Action>) {
        if actions
            .iter()
            .any(|action| matches!(action, Action::Refresh))
        {
            switch.shared.refresh.notify_one();
        }
        for action in actions {
            match action {
                Action::Refresh => {}
                Action::Open {
                    link,
                    addr,
                    is_larder,
                    protocol,
                } => {
                    let serving = upstream::run(self.clone(), link, addr, is_larder, protocol);
                    tokio::task::spawn_local(serving);
                }
                Action::Close(link) => self.wake_link(link),
                Action::Forward {
                    client,
                    seq,
                    request,
                } => {
                    tokio::task::spawn_local(self.clone().forward(client, seq, request));
                }
                Action::AskTopology {
                    client,
                    seq,
                    request,
                } => {
                    tokio::task::spawn_local(self.clone().ask_topology(client, seq, request));
                }
            }
        }
    }

    fn wake_link(&self, link: LinkKey) {
        if let Some(Some((owner, waker))) = self.link_wakers.borrow().get(link.index())
            && *owner == link
        {
            waker.wake_by_ref();
        }
    }

    /// Ticks the switch when something is due, and looks for clients that do not read.
    async fn keep_time(self: Rc<Worker>) {
        const IDLE_MS: u64 = 1000;
        loop {
            let (due, now_ms) = {
                let switch = self.switch.borrow();
                (switch.next_tick_ms(), self.now_us(&switch) / 1000)
            };
            let pause = due.map_or(IDLE_MS, |due| due.saturating_sub(now_ms).clamp(1, IDLE_MS));
            let idle = due.is_none();
            // Woken early only from idleness: while something is due, the pause is short anyhow.
            let nap = Duration::from_millis(pause);
            if idle {
                let _ = timeout(nap, self.timer.notified()).await;
            } else {
                sleep(nap).await;
            }
            self.turn(Switch::tick);
            for sink in self.sinks.borrow().iter().flatten() {
                if sink.is_stuck_for(Duration::from_millis(SLOW_READER_MS_MAX)) {
                    self.switch.borrow().counts.slow_readers.inc();
                    tracing::info!("client {} is cut off: it does not read", sink.info.addr);
                    sink.fail();
                    sink.wake();
                }
            }
        }
    }

    /// An operator's request goes to the topology, its answer to the client.
    async fn ask_topology(self: Rc<Worker>, client: ClientKey, seq: u64, request: OwnedRequest) {
        let answer = self.answer_of_topology(&request).await;
        let mut bytes = Vec::new();
        let mut reply = ReplyWriter::new(&mut bytes, Protocol::Resp2);
        match answer {
            Ok(answer) => write_reply(&mut reply, &answer),
            Err(ControlError::Refused { code, text }) => {
                reply.error(&Refusal::new(format!("{code} {text}")));
            }
            Err(error) => reply.error(&Refusal::new(format!(
                "ERR the topology did not answer: {error}"
            ))),
        }
        self.turn(|switch| switch.complete(client, seq, &bytes));
    }

    /// An importer's order is the control thread's to carry out, on all threads.
    async fn forward(self: Rc<Worker>, client: ClientKey, seq: u64, request: OwnedRequest) {
        let told = match (&self.control, order_of(&request)) {
            (_, None) => Err(
                "LARDER FORWARD takes HOLD attempt ms, TURN attempt or RELEASE attempt".to_string(),
            ),
            (None, _) => Err("this proxy has no topology".to_string()),
            (Some(control), Some((verb, attempt, ms))) => {
                let (answer, answered) = oneshot::channel();
                let order = Order {
                    verb,
                    attempt,
                    ms,
                    answer,
                };
                match control.send(Told::Order(order)) {
                    Ok(()) => answered
                        .await
                        .unwrap_or_else(|_| Err("it was let go of".to_string())),
                    Err(_) => Err("this proxy is ending".to_string()),
                }
            }
        };
        let mut bytes = Vec::new();
        let mut reply = ReplyWriter::new(&mut bytes, Protocol::Resp2);
        match told {
            Ok(()) => reply.ok(),
            Err(line) => reply.error(&Refusal::new(format!("ERR {line}"))),
        }
        self.turn(|switch| switch.complete(client, seq, &bytes));
    }

    async fn answer_of_topology(&self, request: &OwnedRequest) -> Result<Reply, ControlError> {
        const ANSWER_MS_MAX: u64 = 60_000;
        let nowhere = || ControlError::Unreachable {
            addr: "the topology".to_string(),
            cause: "this proxy knows of none".to_string(),
        };
        let topologies = self.topology.as_ref().ok_or_else(nowhere)?;
        let secret = self.opening.borrow().secret.clone().ok_or_else(nowhere)?;
        let mut control = topologies.connect(&secret, Peer::Proxy).await?;
        let args: Vec<&[u8]> = request.view().args_from(0).collect();
        control
            .request_within(Duration::from_millis(ANSWER_MS_MAX), args)
            .await
    }
}

/// Verb, attempt and milliseconds of `LARDER FORWARD …`.
fn order_of(request: &OwnedRequest) -> Option<(Vec<u8>, u64, u64)> {
    let request = request.view();
    let number = |at: usize| {
        std::str::from_utf8(request.get(at)?)
            .ok()?
            .parse::<u64>()
            .ok()
    };
    let verb = request.get(2)?.to_ascii_lowercase();
    let ms = if verb == b"hold" { number(4)? } else { 0 };
    Some((verb, number(3)?, ms))
}

fn write_reply(out: &mut ReplyWriter<'_>, reply: &Reply) {
    match reply {
        Reply::Simple(bytes) => out.simple(&String::from_utf8_lossy(bytes)),
        Reply::Int(value) => out.int(*value),
        Reply::Bulk(bytes) => out.bulk(bytes),
        Reply::Null => out.null(),
        Reply::Error(text) => out.error(&Refusal::new(text.clone())),
        Reply::Array(items) => {
            out.array(items.len());
            for item in items {
                write_reply(out, item);
            }
        }
    }
}
