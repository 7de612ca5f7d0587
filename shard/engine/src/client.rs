//! What of a connection others may see: the registry behind `CLIENT LIST`, `CLIENT KILL` and WATCH.
//!
//! A [`Client`] is shared by its session and the registry of one node (one thread), so its
//! fields are cells. It knows no socket; a kill is a flag and a wake-up of whoever serves the connection. What a client gets without
//! having asked (pushes, the reply of a command that was blocked) is posted to its outbox, which whoever serves it empties.

use std::cell::{Cell, Ref, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::rc::Rc;
use std::task::Waker;

use larder_store::Db;
use larder_wire::Offset;
use larder_wire::command::{self, CommandId};
use larder_wire::resp::{Protocol, ReplyWriter};
use larder_wire::trust::Trust;

use crate::acl::User;
use crate::limits::{Limits, REPLY_BUFFER_BYTES, backlog_of};
use crate::pubsub::{Subscriptions, Topic};
use crate::tracking::Mode;

/// One connection, as the rest of the node sees it.
#[derive(Debug)]
pub struct Client {
    pub id: u64,
    /// `host:port` of the other end and of ours.
    pub addr: String,
    pub laddr: String,
    /// Milliseconds of the node's monotonic clock.
    pub born_ms: u64,
    pub active_ms: Cell<u64>,
    pub name: RefCell<Vec<u8>>,
    pub library: RefCell<Vec<u8>>,
    pub library_version: RefCell<Vec<u8>>,
    pub trust: Cell<Trust>,
    user: RefCell<Rc<User>>,
    pub resp3: Cell<bool>,
    pub readonly: Cell<bool>,
    pub no_evict: Cell<bool>,
    pub no_touch: Cell<bool>,
    pub last_command: Cell<Option<CommandId>>,
    /// The database that was selected.
    pub db: Cell<Db>,
    /// Commands queued by MULTI; `None` outside a transaction.
    pub queued: Cell<Option<usize>>,
    /// Bytes that they hold.
    pub queued_bytes: Cell<usize>,
    pub watched: Cell<usize>,
    /// The journal's end after the last write of this client; what WAIT waits for.
    pub(crate) wrote_up_to: Cell<Offset>,
    /// A watched key was changed by somebody.
    pub watch_broken: Cell<bool>,
    pub feeding: Cell<bool>,
    /// Bytes of half-arrived requests and of replies not yet taken.
    pub query_bytes: Cell<usize>,
    pub output_bytes: Cell<usize>,
    /// Bytes that its own buffers have room for, of requests and of replies; 0 while it has none.
    pub query_room_bytes: Cell<usize>,
    pub reply_room_bytes: Cell<usize>,
    /// What its session holds beside: a queued transaction, watched keys, in bytes.
    pub session_bytes: Cell<usize>,
    /// What it may leave unread beside its class's limit, in bytes.
    pub(crate) allowed_bytes: Cell<usize>,
    /// Since when it leaves more unread than its soft limit, in monotonic milliseconds.
    pub(crate) soft_since_ms: Cell<Option<u64>>,
    /// What it was last counted for, in bytes.
    pub(crate) counted_bytes: Cell<usize>,
    pub(crate) limits: Rc<Limits>,
    killed: Cell<bool>,
    /// It has left too much unread: what there is for it is dropped.
    overrun: Cell<bool>,
    /// A command of the client waits for something to happen: no further one is executed.
    blocked: Cell<bool>,
    /// What it listens to; [`PubSub`](crate::pubsub::PubSub) alone changes them.
    pub subscriptions: RefCell<Subscriptions>,
    /// It has subscribed and not ended all subscriptions since.
    pub subscriber: Cell<bool>,
    /// How it tracks what it reads, and the prefixes that it has named; [`Tracking`](crate::tracking::Tracking) alone changes them.
    pub tracking: Cell<Mode>,
    pub prefixes: RefCell<BTreeSet<Box<[u8]>>>,
    /// It is shown every command.
    pub monitor: Cell<bool>,
    /// A request of the client waits for the end of a pause.
    pub postponed: Cell<bool>,
    outbox: RefCell<Vec<u8>>,
    bell: RefCell<Option<Waker>>,
}

impl Client {
    /// To be closed as soon as its present batch is answered; what the other end does not take then is lost.
    pub fn kill(&self) {
        self.killed.set(true);
        self.ring();
    }

    pub(crate) fn protocol(&self) -> Protocol {
        if self.resp3.get() {
            Protocol::Resp3
        } else {
            Protocol::Resp2
        }
    }

    /// Writes to the outbox, in the client's protocol, and wakes whoever serves it.
    pub fn post(&self, write: impl FnOnce(&mut ReplyWriter<'_>)) {
        if self.overrun.get() {
            return;
        }
        let protocol = self.protocol();
        write(&mut ReplyWriter::new(
            &mut self.outbox.borrow_mut(),
            protocol,
        ));
        self.limit_post();
        self.ring();
    }

    /// The same with bytes that are written already, in the client's protocol.
    pub fn post_bytes(&self, bytes: &[u8]) {
        if self.overrun.get() {
            return;
        }
        self.outbox.borrow_mut().extend_from_slice(bytes);
        self.limit_post();
        self.ring();
    }

    /// Takes back what was posted behind the first `bytes`.
    pub(crate) fn take_back_post(&self, bytes: usize) -> Vec<u8> {
        let mut outbox = self.outbox.borrow_mut();
        let at = bytes.min(outbox.len());
        outbox.split_off(at)
    }

    pub(crate) fn posted_bytes(&self) -> usize {
        self.outbox.borrow().len()
    }

    /// To be closed at once: whatever it was to get is dropped.
    pub fn overrun(&self) {
        self.overrun.set(true);
        self.outbox.replace(Vec::new());
        self.kill();
    }

    pub fn is_overrun(&self) -> bool {
        self.overrun.get()
    }

    pub fn has_post(&self) -> bool {
        !self.outbox.borrow().is_empty()
    }

    /// Appends what was posted to `out`.
    pub fn take_post(&self, out: &mut Vec<u8>) {
        out.append(&mut self.outbox.borrow_mut());
    }

    pub fn is_blocked(&self) -> bool {
        self.blocked.get()
    }

    /// As Redis counts blocked clients: those that wait for the end of a pause, too.
    pub fn is_waiting(&self) -> bool {
        (self.blocked.get() || self.postponed.get()) && !self.killed.get()
    }

    /// From a command's [`Outcome::Blocked`](crate::Outcome) to the reply that was posted for it.
    pub fn set_blocked(&self, blocked: bool) {
        self.blocked.set(blocked);
        if !blocked {
            self.ring();
        }
    }

    pub(crate) fn ring(&self) {
        if let Some(bell) = self.bell.borrow_mut().take() {
            bell.wake();
        }
    }

    /// Nobody has set a bell since it last rang.
    pub fn is_rung(&self) -> bool {
        self.bell.borrow().is_none()
    }

    pub fn is_killed(&self) -> bool {
        self.killed.get()
    }

    /// Who is woken by a kill, by post, and by the end of a blocked command.
    pub fn set_bell(&self, bell: &Waker) {
        let mut held = self.bell.borrow_mut();
        if !held.as_ref().is_some_and(|old| old.will_wake(bell)) {
            *held = Some(bell.clone());
        }
    }

    /// Whom its tracking redirects to: 0 for itself, -1 when it does not track.
    pub fn redirect(&self) -> i64 {
        match self.tracking.get() {
            Mode { on: false, .. } => -1,
            mode => mode.redirect as i64,
        }
    }

    /// The connection's kind, as `CLIENT LIST TYPE` and `CLIENT KILL TYPE` name it.
    pub fn kind(&self) -> &'static str {
        if self.feeding.get() {
            "replica"
        } else if self.subscriber.get() {
            "pubsub"
        } else {
            "normal"
        }
    }

    /// Whose connection it is.
    pub fn user(&self) -> Ref<'_, Rc<User>> {
        self.user.borrow()
    }

    pub(crate) fn set_user(&self, user: &Rc<User>) {
        self.user.replace(Rc::clone(user));
    }

    /// The line of `CLIENT LIST`, without its line break.
    pub fn describe(&self, mono_ms: u64, line: &mut String) {
        let seconds = |since: u64| mono_ms.saturating_sub(since) / 1000;
        let mut flags = String::new();
        for (set, letter) in [
            (self.feeding.get(), 'S'),
            (self.monitor.get(), 'O'),
            (self.subscriber.get(), 'P'),
            (self.queued.get().is_some(), 'x'),
            (self.is_waiting(), 'b'),
            (self.tracking.get().on, 't'),
            (self.tracking.get().broken, 'R'),
            (self.tracking.get().bcast, 'B'),
            (self.watch_broken.get(), 'd'),
            (self.readonly.get(), 'r'),
            (self.no_evict.get(), 'e'),
            (self.no_touch.get(), 'T'),
        ] {
            if set {
                flags.push(letter);
            }
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let text = |cell: &RefCell<Vec<u8>>| String::from_utf8_lossy(&cell.borrow()).into_owned();
        let command = self
            .last_command
            .get()
            .map_or("NULL", |id| command::spec(id).name);
        let subscribed = |topic| self.subscriptions.borrow().len(topic);
        let unread = self.unread_bytes();
        let backlog = backlog_of(unread, 0);
        // Writing to a String cannot fail.
        let _ = write!(
            line,
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db={} sub={} psub={} ssub={} multi={} qbuf={} qbuf-free={} argv-mem=0 multi-mem={} rbs={} rbp={} obl={} oll={} omem={} tot-mem={} events=r cmd={command} user={} redir={} resp={} watch={} lib-name={} lib-ver={}",
            self.id,
            self.addr,
            self.laddr,
            text(&self.name),
            seconds(self.born_ms),
            seconds(self.active_ms.get()),
            self.db.get(),
            subscribed(Topic::Channel),
            subscribed(Topic::Pattern),
            subscribed(Topic::Shard),
            self.queued.get().map_or(-1, |queued| queued as i64),
            self.query_bytes.get(),
            self.query_room_bytes
                .get()
                .saturating_sub(self.query_bytes.get()),
            self.queued.get().map_or(0, |_| self.queued_bytes.get()),
            self.reply_room_bytes.get(),
            // Its room is as large as the most that was ever in it.
            self.reply_room_bytes.get(),
            unread - backlog,
            backlog.div_ceil(REPLY_BUFFER_BYTES),
            backlog,
            self.memory(),
            String::from_utf8_lossy(self.user().name()),
            self.redirect(),
            if self.resp3.get() { 3 } else { 2 },
            self.watched.get(),
            text(&self.library),
            text(&self.library_version),
        );
    }
}

/// Every connection of a node, by id.
#[derive(Debug, Default)]
pub struct Clients {
    by_id: BTreeMap<u64, Rc<Client>>,
    pub(crate) limits: Rc<Limits>,
    last_id: u64,
}

impl Clients {
    pub fn add(
        &mut self,
        addr: String,
        laddr: String,
        user: &Rc<User>,
        mono_ms: u64,
    ) -> Rc<Client> {
        self.last_id += 1;
        let client = Rc::new(Client {
            id: self.last_id,
            addr,
            laddr,
            born_ms: mono_ms,
            active_ms: Cell::new(mono_ms),
            name: RefCell::default(),
            library: RefCell::default(),
            library_version: RefCell::default(),
            trust: Cell::new(Trust::Stranger),
            user: RefCell::new(Rc::clone(user)),
            resp3: Cell::new(false),
            readonly: Cell::new(false),
            no_evict: Cell::new(false),
            no_touch: Cell::new(false),
            last_command: Cell::new(None),
            db: Cell::default(),
            queued: Cell::new(None),
            queued_bytes: Cell::new(0),
            watched: Cell::new(0),
            wrote_up_to: Cell::default(),
            watch_broken: Cell::new(false),
            feeding: Cell::new(false),
            query_bytes: Cell::new(0),
            output_bytes: Cell::new(0),
            query_room_bytes: Cell::new(0),
            reply_room_bytes: Cell::new(0),
            session_bytes: Cell::new(0),
            allowed_bytes: Cell::new(0),
            soft_since_ms: Cell::new(None),
            counted_bytes: Cell::new(0),
            limits: Rc::clone(&self.limits),
            killed: Cell::new(false),
            overrun: Cell::new(false),
            blocked: Cell::new(false),
            subscriptions: RefCell::default(),
            subscriber: Cell::new(false),
            tracking: Cell::default(),
            prefixes: RefCell::default(),
            monitor: Cell::new(false),
            postponed: Cell::new(false),
            outbox: RefCell::default(),
            bell: RefCell::default(),
        });
        self.by_id.insert(self.last_id, Rc::clone(&client));
        client
    }

    pub fn remove(&mut self, id: u64) {
        if let Some(client) = self.by_id.remove(&id) {
            client.uncount_memory();
        }
    }

    /// The limits that all of them share.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn get(&self, id: u64) -> Option<&Rc<Client>> {
        self.by_id.get(&id).filter(|client| !client.is_killed())
    }

    /// By ascending id; those that were killed are left out.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<Client>> {
        self.by_id.values().filter(|client| !client.is_killed())
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}
