//! Larder's side: the slot map as the topology pushes it, and one pipelined connection to each node that is written to.
//!
//! ```text
//! send(slot) ─▶ owner by the map ─▶ link: bytes out, tickets in order ─▶ replies ─▶ each ticket's ledger
//! ```
//!
//! Nothing is sent twice from here. What a node refuses, and what was under way on a lost connection, is told to the ledger of its
//! source as keys in doubt, whatever the reason (moved, asked elsewhere, failed over, half-written). So is what was sent behind it
//! before its answer was there, and builds on its keys: that took in what was wrong.
//!
//! Keys of one slot are written on one connection, in order. When the map changes, nothing is sent before all answers are there.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use larder_runtime::backoff::Backoff;
use larder_runtime::foreign::{Foreign, ForeignError, Login, info_field};
use larder_runtime::{ControlClient, Reply, Secret, entropy};
use larder_store::Db;
use larder_wire::control::{PROTOCOL_VERSION, Peer};
use larder_wire::resp::OwnedRequest;
use larder_wire::{ClusterMap, Epoch, Slot};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, watch};
use tokio::task::spawn_local;
use tokio::time::sleep;

use crate::ledger::{Ledger, Name};
use crate::link::{Link, Purpose, Ticket, push, read_all, settle, write_all};
use crate::translate::Command;

const DIAL_MS_MIN: u64 = 20;
const DIAL_MS_MAX: u64 = 500;

/// A source's ledger, shared by what reads the source and what writes to nodes.
pub(crate) struct Shared {
    pub(crate) ledger: RefCell<Ledger>,
    /// Something in the ledger has changed that somebody may wait for.
    pub(crate) changed: Notify,
    /// Whether hashes of the source may have fields that expire.
    pub(crate) has_timed_fields: Cell<bool>,
    /// The map by which this source's requests under way were sent.
    epoch: Cell<Epoch>,
}

impl Shared {
    pub(crate) fn new() -> Rc<Shared> {
        Rc::new(Shared {
            ledger: RefCell::default(),
            changed: Notify::new(),
            has_timed_fields: Cell::new(false),
            epoch: Cell::new(Epoch(0)),
        })
    }

    pub(crate) fn fail(&self, cause: String) {
        self.ledger.borrow_mut().fail(cause);
        self.changed.notify_waiters();
        self.changed.notify_one();
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

    /// Waits until every connection has room, and no request is under way that another map than the present one has sent. What is
    /// decided by the ledger and sent before the next wait is in order with all that was sent before.
    pub(crate) async fn ready(&self, shared: &Shared) {
        loop {
            let room = self.room.notified();
            let changed = shared.changed.notified();
            let epoch = self.map.borrow().epoch;
            let is_one_map = {
                let ledger = shared.ledger.borrow();
                if ledger.fatal().is_some() {
                    return;
                }
                shared.epoch.get() == epoch || ledger.open() == 0
            };
            let has_room = self.links.borrow().values().all(|link| link.has_room());
            if is_one_map && has_room {
                return shared.epoch.set(epoch);
            }
            tokio::select! {
                () = room => {}
                () = changed => {}
            }
        }
    }

    /// Sends to the owner of `slot`.
    pub(crate) fn send(
        self: &Rc<Nodes>,
        slot: Slot,
        db: Db,
        bytes: &[u8],
        purpose: Purpose,
        names: Vec<Name>,
        shared: &Rc<Shared>,
    ) {
        match self.owner(slot) {
            Some(addr) => self.send_to(&addr, db, bytes, purpose, names, shared),
            None => self.nobody_owns(slot, names, shared),
        }
    }

    /// Sends a command of the stream to the owner of its slot. Whether the keys that it builds on are there is asked in one
    /// transaction with it, so that none can expire in between.
    pub(crate) fn carry_out(self: &Rc<Nodes>, command: Command, db: Db, shared: &Rc<Shared>) {
        let Some(addr) = self.owner(command.slot) else {
            return self.nobody_owns(command.slot, command.writes, shared);
        };
        if command.needs.is_empty() && command.fields.is_empty() {
            let purpose = Purpose::Write;
            return self.send_to(&addr, db, &command.bytes, purpose, command.writes, shared);
        }
        let link = self.link_in(&addr, db);
        let own = |bytes: &[u8]| push(&link, bytes, Ticket::of_link(bytes.len()));
        own(b"*1\r\n$5\r\nMULTI\r\n");
        let keys = command.needs.iter().map(|key| &key[..]);
        let guard: Vec<&[u8]> = std::iter::once(&b"EXISTS"[..]).chain(keys).collect();
        own(&OwnedRequest::from_args(guard).into_bytes());
        for (field, name) in command.fields.iter().zip(command.writes.first()) {
            let guard: [&[u8]; 3] = [b"HEXISTS", &name.key, field];
            own(&OwnedRequest::from_args(guard).into_bytes());
        }
        own(&command.bytes);
        let exec = b"*1\r\n$4\r\nEXEC\r\n";
        let needs = command.needs.iter().map(|key| Name::new(db, key));
        let ticket = Ticket {
            shared: Some(shared.clone()),
            purpose: Purpose::Guarded(command.needs.len() + command.fields.len()),
            builds_on: match command.writes.as_slice() {
                [only] => needs.filter(|name| name != only).collect(),
                _ => needs.collect(),
            },
            names: command.writes,
            bytes: exec.len(),
        };
        shared.ledger.borrow_mut().opened();
        push(&link, exec, ticket);
        link.wake.notify_one();
    }

    pub(crate) fn send_to(
        self: &Rc<Nodes>,
        addr: &str,
        db: Db,
        bytes: &[u8],
        purpose: Purpose,
        names: Vec<Name>,
        shared: &Rc<Shared>,
    ) {
        let link = self.link_in(addr, db);
        let ticket = Ticket {
            shared: Some(shared.clone()),
            purpose,
            names,
            builds_on: Vec::new(),
            bytes: bytes.len(),
        };
        shared.ledger.borrow_mut().opened();
        push(&link, bytes, ticket);
        link.wake.notify_one();
    }

    fn nobody_owns(&self, slot: Slot, names: Vec<Name>, shared: &Shared) {
        *self.trouble.borrow_mut() = Some(format!("nobody owns slot {slot}"));
        let mut ledger = shared.ledger.borrow_mut();
        ledger.counts.refused += 1;
        names.into_iter().for_each(|name| ledger.doubt(name));
    }

    /// The connection to a node, in a database.
    fn link_in(self: &Rc<Nodes>, addr: &str, db: Db) -> Rc<Link> {
        let link = self.link(addr);
        if link.db.replace(db) != db {
            let select = OwnedRequest::from_args(["SELECT", &db.to_string()]).into_bytes();
            push(&link, &select, Ticket::of_link(select.len()));
        }
        link
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
                ended: RefCell::default(),
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
                    *link.ended.borrow_mut() = Some(cause.clone());
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
                settle(&link, ticket, None);
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
        let node = self.reader_at(&addr).await;
        node.map_err(|error| error.to_string())
    }

    pub(crate) async fn reader_at(&self, addr: &str) -> Result<Foreign, ForeignError> {
        let mut node = Foreign::connect(addr, &Login::default()).await?;
        let version = PROTOCOL_VERSION.to_string();
        let hello: [&[u8]; 5] = [
            b"LARDER",
            b"HELLO",
            version.as_bytes(),
            self.secret.expose(),
            Peer::Operator.word().as_bytes(),
        ];
        node.ask(hello).await?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::{Scene, Step, translate};
    use larder_wire::{NodeEntry, NodeId, Role, ShardEntry, ShardId, SlotSet};
    use tokio::task::LocalSet;

    fn map(epoch: u64) -> Arc<ClusterMap> {
        let node = NodeEntry {
            id: NodeId::from_bytes([1; 20]),
            addr: "node:1".to_string(),
            role: Role::Primary,
            zone: None,
            in_step: false,
        };
        let shard = ShardEntry {
            id: ShardId(0),
            slots: SlotSet::full(),
            nodes: vec![node],
        };
        Arc::new(ClusterMap::new("test", Epoch(epoch), vec![shard]).unwrap())
    }

    /// One node that is never connected to: no task runs in between.
    fn on_paper(test: impl FnOnce(&Rc<Nodes>, &Rc<Shared>, &watch::Sender<Arc<ClusterMap>>)) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(LocalSet::new().run_until(async {
            let (sender, map) = watch::channel(map(1));
            let nodes = Nodes::new(Secret::new(b"secret").unwrap(), map);
            test(&nodes, &Shared::new(), &sender);
        }));
    }

    fn carry_out(nodes: &Rc<Nodes>, shared: &Rc<Shared>, line: &str) {
        let request = OwnedRequest::from_args(line.split(' ').collect::<Vec<_>>());
        let scene = Scene {
            db: Db::ZERO,
            slots: &SlotSet::full(),
            is_level: true,
            has_timed_fields: true,
            standing: &|_| crate::ledger::Standing::Level,
        };
        let Ok(Step::Send(commands)) = translate(&request.view(), &scene) else {
            panic!("{line} is sent");
        };
        for command in commands {
            nodes.carry_out(command, Db::ZERO, shared);
        }
    }

    /// Answers the first requests that are under way.
    fn answer(nodes: &Rc<Nodes>, answers: &[&str]) {
        let link = nodes.link("node:1");
        for answer in answers {
            let ticket = link.tickets.borrow_mut().pop_front().unwrap();
            settle(&link, ticket, Some(answer.as_bytes()));
        }
    }

    fn in_doubt(shared: &Shared) -> Vec<String> {
        let names = shared.ledger.borrow().in_doubt();
        let key = |name: &Name| String::from_utf8_lossy(&name.key).into_owned();
        names.iter().map(key).collect()
    }

    const QUEUED: &str = "+QUEUED\r\n";

    #[test]
    fn a_command_goes_in_one_transaction_with_the_question_whether_what_it_builds_on_is_there() {
        let outcomes = [
            ("*2\r\n:1\r\n:6\r\n", false),
            ("*2\r\n:0\r\n:1\r\n", true),
            ("*2\r\n:1\r\n-WRONGTYPE Operation\r\n", true),
            ("-EXECABORT Transaction discarded\r\n", true),
        ];
        for (exec, is_doubted) in outcomes {
            on_paper(|nodes, shared, _| {
                carry_out(nodes, shared, "INCR a");
                let sent = String::from_utf8(nodes.link("node:1").out.borrow().clone()).unwrap();
                let words: Vec<&str> = sent
                    .split("\r\n")
                    .filter(|word| !word.is_empty() && !word.starts_with(['*', '$']))
                    .collect();
                assert_eq!(words, ["MULTI", "EXISTS", "a", "INCR", "a", "EXEC"]);
                answer(nodes, &["+OK\r\n", QUEUED, QUEUED, exec]);
                assert_eq!(!in_doubt(shared).is_empty(), is_doubted, "{exec}");
                assert_eq!(shared.ledger.borrow().open(), 0);
            });
        }
    }

    #[test]
    fn fields_are_counted_with_their_key() {
        for (exec, is_doubted) in [
            ("*3\r\n:1\r\n:1\r\n:6\r\n", false),
            ("*3\r\n:1\r\n:0\r\n:1\r\n", true),
        ] {
            on_paper(|nodes, shared, _| {
                carry_out(nodes, shared, "HINCRBY h f 1");
                answer(nodes, &["+OK\r\n", QUEUED, QUEUED, QUEUED, exec]);
                assert_eq!(!in_doubt(shared).is_empty(), is_doubted, "{exec}");
            });
        }
    }

    #[test]
    fn what_is_under_way_and_was_made_of_a_key_in_doubt_is_in_doubt_too() {
        on_paper(|nodes, shared, _| {
            carry_out(nodes, shared, "ZUNIONSTORE {a}0 1 {a}1");
            carry_out(nodes, shared, "ZADD {a}1 1 m");
            carry_out(nodes, shared, "ZUNIONSTORE {a}2 1 {a}1");
            carry_out(nodes, shared, "COPY {a}2 {a}3");
            carry_out(nodes, shared, "RENAME {a}3 {a}4");
            carry_out(nodes, shared, "COPY {a}5 {a}6");
            answer(nodes, &["+OK\r\n", QUEUED, QUEUED, "*2\r\n:1\r\n:1\r\n"]);
            assert!(in_doubt(shared).is_empty());
            answer(nodes, &["+OK\r\n", QUEUED, QUEUED, "*2\r\n:0\r\n:1\r\n"]);
            assert_eq!(in_doubt(shared), ["{a}1", "{a}2", "{a}3", "{a}4"]);
        });
    }

    #[test]
    fn what_is_to_be_sent_to_a_node_that_has_lost_what_it_was_given_ends_the_import() {
        on_paper(|nodes, shared, _| {
            carry_out(nodes, shared, "SET a 1");
            answer(nodes, &["+OK\r\n"]);
            let cause = "it has started anew".to_string();
            *nodes.link("node:1").ended.borrow_mut() = Some(cause.clone());
            assert_eq!(shared.ledger.borrow().fatal(), None);
            carry_out(nodes, shared, "SET a 2");
            assert_eq!(shared.ledger.borrow().fatal(), Some(cause.as_str()));
        });
    }

    #[test]
    fn nothing_is_sent_by_a_map_while_answers_to_what_another_has_sent_are_missing() {
        on_paper(|nodes, shared, maps| {
            let is_ready = || {
                let mut ready = std::pin::pin!(nodes.ready(shared));
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                ready.as_mut().poll(&mut context).is_ready()
            };
            assert!(is_ready());
            carry_out(nodes, shared, "SET a 1");
            assert!(is_ready(), "of one map many may be under way");
            maps.send_replace(map(2));
            assert!(!is_ready());
            answer(nodes, &["-MOVED 1 node:2\r\n"]);
            assert!(is_ready());
            assert_eq!(in_doubt(shared), ["a"]);
        });
    }
}
