//! Larder's side: the slot map as the topology pushes it, and one pipelined connection to each node that is written to.
//!
//! ```text
//! send(slot) ─▶ owner by the map ─▶ link: bytes out, tickets in order ─▶ replies ─▶ each ticket's ledger
//! ```
//!
//! Nothing is sent twice from here. What a node refuses, and what was under way on a lost connection, is told to the ledger of its
//! source as keys in doubt, whatever the reason (moved, asked elsewhere, failed over, half-written).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use larder_runtime::backoff::Backoff;
use larder_runtime::foreign::{Foreign, Login, info_field};
use larder_runtime::{ControlClient, Reply, Secret, entropy};
use larder_store::Db;
use larder_wire::control::{PROTOCOL_VERSION, Peer};
use larder_wire::resp::reply::{self, ReplyKind};
use larder_wire::resp::{OwnedRequest, ReplyScanner};
use larder_wire::{ClusterMap, Slot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::sleep;

use crate::ledger::{Ledger, Name};

/// Most that is under way to one node, in bytes and in requests.
const LINK_BYTES_MAX: usize = 4 * 1024 * 1024;
const LINK_REQUESTS_MAX: usize = 4096;
const DIAL_MS_MIN: u64 = 20;
const DIAL_MS_MAX: u64 = 500;
const READ_BYTES: usize = 64 * 1024;

/// A source's ledger, shared by what reads the source and what writes to nodes.
pub(crate) struct Shared {
    pub(crate) ledger: RefCell<Ledger>,
    /// Something in the ledger has changed that somebody may wait for.
    pub(crate) changed: Notify,
}

impl Shared {
    pub(crate) fn new() -> Rc<Shared> {
        Rc::new(Shared {
            ledger: RefCell::default(),
            changed: Notify::new(),
        })
    }

    pub(crate) fn fail(&self, cause: String) {
        self.ledger.borrow_mut().fail(cause);
        self.changed.notify_waiters();
        self.changed.notify_one();
    }
}

/// What the answer to a request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A command of the stream, or a piece of a large key: when it is refused, its keys are in doubt.
    Write,
    /// `EXISTS` before a command: 0 puts the command's keys in doubt.
    Guard,
    /// A key as the source had it: only a refusal that passes by itself puts it in doubt, any other ends the import.
    Whole,
    /// Of the link itself.
    Own,
}

struct Ticket {
    shared: Option<Rc<Shared>>,
    purpose: Purpose,
    names: Vec<Name>,
    bytes: usize,
}

struct Link {
    out: RefCell<Vec<u8>>,
    tickets: RefCell<VecDeque<Ticket>>,
    open_bytes: Cell<usize>,
    db: Cell<Db>,
    wake: Notify,
    room: Rc<Notify>,
    task: RefCell<Option<JoinHandle<()>>>,
}

impl Link {
    fn has_room(&self) -> bool {
        self.open_bytes.get() < LINK_BYTES_MAX && self.tickets.borrow().len() < LINK_REQUESTS_MAX
    }
}

/// All nodes.
pub(crate) struct Nodes {
    secret: Secret,
    pub(crate) map: watch::Receiver<Arc<ClusterMap>>,
    links: RefCell<BTreeMap<String, Rc<Link>>>,
    room: Rc<Notify>,
    /// The processes that were met, by address: one that started anew has lost what it was given.
    run_ids: RefCell<BTreeMap<String, String>>,
    /// What of Larder is away, for status.
    pub(crate) trouble: RefCell<Option<String>>,
}

impl Nodes {
    pub(crate) fn new(secret: Secret, map: watch::Receiver<Arc<ClusterMap>>) -> Rc<Nodes> {
        Rc::new(Nodes {
            secret,
            map,
            links: RefCell::default(),
            room: Rc::new(Notify::new()),
            run_ids: RefCell::default(),
            trouble: RefCell::default(),
        })
    }

    pub(crate) fn primaries(&self) -> Vec<String> {
        let map = self.map.borrow();
        let owning = map.shards().iter().filter(|shard| !shard.slots.is_empty());
        let primaries = owning.filter_map(|shard| shard.primary());
        primaries.map(|node| node.addr.clone()).collect()
    }

    pub(crate) fn owner(&self, slot: Slot) -> Option<String> {
        let map = self.map.borrow();
        map.primary_of(slot).map(|node| node.addr.clone())
    }

    /// Sends to the owner of `slot` once there is room.
    pub(crate) async fn send(
        self: &Rc<Nodes>,
        slot: Slot,
        db: Db,
        bytes: &[u8],
        purpose: Purpose,
        names: Vec<Name>,
        shared: &Rc<Shared>,
    ) {
        let Some(addr) = self.owner(slot) else {
            *self.trouble.borrow_mut() = Some(format!("nobody owns slot {slot}"));
            let mut ledger = shared.ledger.borrow_mut();
            ledger.counts.refused += 1;
            return names.into_iter().for_each(|name| ledger.doubt(name));
        };
        self.send_to(&addr, db, bytes, purpose, names, shared).await;
    }

    pub(crate) async fn send_to(
        self: &Rc<Nodes>,
        addr: &str,
        db: Db,
        bytes: &[u8],
        purpose: Purpose,
        names: Vec<Name>,
        shared: &Rc<Shared>,
    ) {
        let link = loop {
            let link = self.link(addr);
            if link.has_room() {
                break link;
            }
            self.room.notified().await;
        };
        if link.db.replace(db) != db {
            let select = OwnedRequest::from_args(["SELECT", &db.to_string()]).into_bytes();
            push(&link, &select, Purpose::Own, Vec::new(), None);
        }
        shared.ledger.borrow_mut().opened();
        push(&link, bytes, purpose, names, Some(shared.clone()));
        link.wake.notify_one();
    }

    fn link(self: &Rc<Nodes>, addr: &str) -> Rc<Link> {
        let mut links = self.links.borrow_mut();
        let link = links.entry(addr.to_string()).or_insert_with(|| {
            let link = Rc::new(Link {
                out: RefCell::default(),
                tickets: RefCell::default(),
                open_bytes: Cell::new(0),
                db: Cell::new(Db::ZERO),
                wake: Notify::new(),
                room: self.room.clone(),
                task: RefCell::default(),
            });
            let task = spawn_local(self.clone().serve(addr.to_string(), link.clone()));
            *link.task.borrow_mut() = Some(task);
            link
        });
        link.clone()
    }

    /// Until the connection is lost: then all that was given to the link is in doubt.
    async fn serve(self: Rc<Nodes>, addr: String, link: Rc<Link>) {
        let mut backoff = Backoff::new(
            Duration::from_millis(DIAL_MS_MIN),
            Duration::from_millis(DIAL_MS_MAX),
        );
        loop {
            let cause = match self.open(&addr).await {
                Ok((read, write)) => {
                    backoff.reset();
                    *self.trouble.borrow_mut() = None;
                    let writing = write_all(&link, write);
                    let reading = read_all(&link, read);
                    tokio::select! {
                        cause = writing => cause,
                        cause = reading => cause,
                    }
                }
                Err(Opening::Lost(cause)) => cause,
                Err(Opening::Anew(cause)) => {
                    let waiting: Vec<Ticket> = link.tickets.borrow_mut().drain(..).collect();
                    for ticket in &waiting {
                        if let Some(shared) = &ticket.shared {
                            shared.fail(cause.clone());
                        }
                    }
                    return;
                }
            };
            tracing::debug!("connection to node {addr} ended: {cause}");
            *self.trouble.borrow_mut() = Some(format!("node {addr}: {cause}"));
            link.out.borrow_mut().clear();
            link.db.set(Db::ZERO);
            let lost: Vec<Ticket> = link.tickets.borrow_mut().drain(..).collect();
            link.open_bytes.set(0);
            sleep(backoff.next(entropy::jitter())).await;
            for ticket in lost {
                settle(ticket, None);
            }
            self.room.notify_waiters();
        }
    }

    async fn open(&self, addr: &str) -> Result<(OwnedReadHalf, OwnedWriteHalf), Opening> {
        let lost = |error: &dyn std::fmt::Display| Opening::Lost(error.to_string());
        let client = ControlClient::connect(addr, &self.secret, Peer::Operator).await;
        let mut client = client.map_err(|error| lost(&error))?;
        let info = client.request(["INFO", "server"]).await;
        let info = info.map_err(|error| lost(&error))?;
        let info = String::from_utf8_lossy(info.bytes().unwrap_or(b"")).into_owned();
        let run_id = info_field(&info, "run_id").unwrap_or("").to_string();
        let mut known = self.run_ids.borrow_mut();
        match known.get(addr) {
            Some(known) if *known != run_id => {
                return Err(Opening::Anew(format!(
                    "node {addr} has started anew, and with that lost keys that it had been given (begin anew: larder import --clear)"
                )));
            }
            Some(_) => {}
            None => {
                known.insert(addr.to_string(), run_id);
            }
        }
        let (stream, _) = client.into_stream();
        Ok(stream.into_split())
    }

    /// One request to each node that owns slots, each answered, errors told.
    pub(crate) async fn ask_each(&self, words: &[&str]) -> Result<Vec<(String, Reply)>, String> {
        let mut replies = Vec::new();
        for addr in self.primaries() {
            let told = |error: larder_runtime::ControlError| format!("node {addr}: {error}");
            let client = ControlClient::connect(&addr, &self.secret, Peer::Operator).await;
            let reply = client.map_err(told)?.request(words).await.map_err(told)?;
            replies.push((addr, reply));
        }
        Ok(replies)
    }

    /// Keys of all databases.
    pub(crate) async fn keys(&self) -> Result<u64, String> {
        let replies = self.ask_each(&["INFO", "keyspace"]).await?;
        let infos = replies.iter().filter_map(|(_, reply)| reply.bytes());
        Ok(infos
            .map(|info| keys_of(&String::from_utf8_lossy(info)))
            .sum())
    }

    /// A connection to a slot's owner, for questions.
    pub(crate) async fn reader(&self, slot: Slot) -> Result<Foreign, String> {
        let addr = self
            .owner(slot)
            .ok_or_else(|| format!("nobody owns slot {slot}"))?;
        self.reader_at(&addr).await
    }

    pub(crate) async fn reader_at(&self, addr: &str) -> Result<Foreign, String> {
        let node = Foreign::connect(addr, &Login::default()).await;
        let mut node = node.map_err(|error| error.to_string())?;
        let version = PROTOCOL_VERSION.to_string();
        let hello: [&[u8]; 5] = [
            b"LARDER",
            b"HELLO",
            version.as_bytes(),
            self.secret.expose(),
            Peer::Operator.word().as_bytes(),
        ];
        node.ask(hello).await.map_err(|error| error.to_string())?;
        Ok(node)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for link in self.links.borrow().values() {
            if let Some(task) = link.task.borrow().as_ref() {
                task.abort();
            }
        }
    }
}

/// The sum of `db0:keys=…` of an INFO reply.
pub(crate) fn keys_of(info: &str) -> u64 {
    let lines = info.lines().filter(|line| line.starts_with("db"));
    let counts = lines.filter_map(|line| {
        let (_, rest) = line.split_once(":keys=")?;
        rest.split(',').next()?.parse::<u64>().ok()
    });
    counts.sum()
}

enum Opening {
    Lost(String),
    /// It is not the process that it was.
    Anew(String),
}

fn push(link: &Link, bytes: &[u8], purpose: Purpose, names: Vec<Name>, shared: Option<Rc<Shared>>) {
    link.out.borrow_mut().extend_from_slice(bytes);
    link.open_bytes.set(link.open_bytes.get() + bytes.len());
    link.tickets.borrow_mut().push_back(Ticket {
        shared,
        purpose,
        names,
        bytes: bytes.len(),
    });
}

async fn write_all(link: &Link, mut write: OwnedWriteHalf) -> String {
    loop {
        let bytes = std::mem::take(&mut *link.out.borrow_mut());
        if bytes.is_empty() {
            link.wake.notified().await;
            continue;
        }
        if let Err(error) = write.write_all(&bytes).await {
            return error.to_string();
        }
    }
}

async fn read_all(link: &Link, mut read: OwnedReadHalf) -> String {
    let mut input = Vec::new();
    let mut scanner = ReplyScanner::new();
    loop {
        input.reserve(READ_BYTES);
        match read.read_buf(&mut input).await {
            Ok(0) => return "it closed the connection".to_string(),
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
        let mut at = 0;
        loop {
            match scanner.scan(&input[at..]) {
                Ok(Some(len)) => {
                    let ticket = link.tickets.borrow_mut().pop_front();
                    let Some(ticket) = ticket else {
                        return "it sent a reply that nothing asked for".to_string();
                    };
                    link.open_bytes.set(link.open_bytes.get() - ticket.bytes);
                    settle(ticket, Some(&input[at..at + len]));
                    at += len;
                }
                Ok(None) => break,
                Err(error) => return format!("it sent garbage: {error}"),
            }
        }
        input.drain(..at);
        if at > 0 {
            link.room.notify_waiters();
        }
    }
}

/// A request has its answer; `None`: its connection was lost.
fn settle(ticket: Ticket, answer: Option<&[u8]>) {
    let Some(shared) = ticket.shared else {
        return;
    };
    let mut ledger = shared.ledger.borrow_mut();
    ledger.closed();
    let refusal = match answer {
        None => Some("the connection was lost".to_string()),
        Some(answer) if reply::kind(answer) == ReplyKind::Error => {
            let text = reply::error_text(answer).unwrap_or(b"");
            Some(String::from_utf8_lossy(text).into_owned())
        }
        Some(answer) => {
            if ticket.purpose == Purpose::Guard && reply::integer(answer) == Some(0) {
                ticket.names.into_iter().for_each(|name| ledger.doubt(name));
            }
            drop(ledger);
            return shared.changed.notify_one();
        }
    };
    if let Some(refusal) = refusal {
        ledger.counts.refused += 1;
        let code = refusal.split(' ').next().unwrap_or("");
        let shown = ticket
            .names
            .first()
            .map(|name| String::from_utf8_lossy(&name.key).into_owned());
        if code == "OOM" {
            ledger.fail(format!(
                "Larder's memory is full: {refusal} (more shards: larder reshard, or a larger --maxmemory; then begin anew with --clear)"
            ));
        } else if ticket.purpose == Purpose::Whole && answer.is_some() && !passes_by_itself(code) {
            ledger.fail(format!(
                "key {} cannot be written: {refusal}",
                shown.as_deref().unwrap_or("?")
            ));
        } else if ticket.names.is_empty() && answer.is_some() && !passes_by_itself(code) {
            ledger.fail(format!(
                "a node refuses what the source carried out: {refusal}"
            ));
        } else if ticket.names.is_empty() {
            ledger.fail(format!(
                "a node was lost while it was told what concerns all nodes: {refusal} (begin anew with --clear)"
            ));
        }
        tracing::debug!("refused: {refusal}");
        ticket.names.into_iter().for_each(|name| ledger.doubt(name));
    }
    drop(ledger);
    shared.changed.notify_one();
}

fn passes_by_itself(code: &str) -> bool {
    matches!(
        code,
        "MOVED"
            | "ASK"
            | "TRYAGAIN"
            | "CLUSTERDOWN"
            | "LOADING"
            | "READONLY"
            | "MASTERDOWN"
            | "NOREPLICAS"
            | "BUSY"
    )
}
