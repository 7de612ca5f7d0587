//! Clients whose command waits: for keys, by [`Wait`], or for replicas. Who waits for what, since when and until when.
//!
//! ```text
//! command, nothing to take ─▶ block ─▶ by key, in order of arrival ◀── signal: a write, a key that went
//!                               │             │
//!                               ▼             ▼ after each command, transaction or script
//!                           deadlines      serve: the reply is posted, the next command of the client may run
//! ```
//!
//! Keys are served in the order in which they became ready, the clients of one in the order in which they came. What serving
//! makes ready (BLMOVE) is served after that. Knows no clock: the shell calls when a deadline is due.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

use larder_store::Db;
use larder_store::exec::blocking::{Wait, WaitKey, type_under};
use larder_wire::command::{self, CommandId, keys};
use larder_wire::resp::{OwnedRequest, ReplyWriter, Request};
use larder_wire::{Refusal, slot_of};

use crate::client::Client;
use crate::clock::Clock;
use crate::guard::waits::ForCopies;
use crate::journal::Unit;
use crate::node::Node;
use crate::ownership::{Verdict, admit};
use crate::session::{ReplyMode, Session};

/// What a waiter is told when CLIENT UNBLOCK ends its wait with an error.
const UNBLOCKED: Refusal = Refusal::fixed("UNBLOCKED client unblocked via CLIENT UNBLOCK");
/// What a consumer is told whose stream was deleted or has become something else.
const STREAM_GONE: Refusal = Refusal::fixed("UNBLOCKED the stream key no longer exists");

/// Writes what a command answers whose time is up.
pub(crate) type GiveUp = fn(&mut ReplyWriter<'_>);

/// The order of arrival of waiters.
type Ticket = u64;

/// A client and what it waits for.
struct Waiter {
    ticket: Ticket,
    client: Rc<Client>,
    command: CommandId,
    /// As the client sent it.
    request: OwnedRequest,
    db: Db,
    /// In milliseconds of the node's monotonic clock.
    deadline_ms: Option<u64>,
    /// The client wants no reply (CLIENT REPLY).
    silent: bool,
    give_up: GiveUp,
    /// `None`: for no key, only for time to pass, or for copies.
    wait: Option<Wait>,
    copies: Option<ForCopies>,
}

impl Waiter {
    fn keys(&self) -> &[WaitKey] {
        self.wait.as_ref().map_or(&[], |wait| &wait.keys)
    }
}

/// A key that somebody waits for.
#[derive(Default)]
struct Awaited {
    /// Clients in order of arrival.
    queue: BTreeMap<Ticket, u64>,
    /// Its turn to be served will come.
    ready: bool,
}

/// All waiters of a node.
#[derive(Default)]
pub(crate) struct Blocked {
    last_ticket: Ticket,
    by_client: BTreeMap<u64, Waiter>,
    by_key: BTreeMap<Db, HashMap<Box<[u8]>, Awaited>>,
    deadlines: BTreeSet<(u64, u64)>,
    /// Clients that wait for replicas.
    for_copies: BTreeSet<u64>,
    /// Keys that somebody waits for and that were changed.
    ready: VecDeque<(Db, Box<[u8]>)>,
}

impl Blocked {
    /// Somebody waits for a key.
    #[inline]
    pub(crate) fn waits_for_keys(&self) -> bool {
        !self.by_key.is_empty()
    }

    /// Keys that somebody waits for.
    pub(crate) fn key_count(&self) -> usize {
        self.by_key.values().map(HashMap::len).sum()
    }

    #[inline]
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The key may hold what its waiters want, or has gone.
    pub(crate) fn signal(&mut self, db: Db, key: &[u8]) {
        let awaited = self.by_key.get_mut(&db);
        if let Some(awaited) = awaited.and_then(|keys| keys.get_mut(key))
            && !awaited.ready
        {
            awaited.ready = true;
            self.ready.push_back((db, key.into()));
        }
    }

    /// Any key of the database may have changed.
    pub(crate) fn signal_all(&mut self, db: Db) {
        let mut awaited: Vec<_> = match self.by_key.get(&db) {
            Some(keys) => keys.keys().cloned().collect(),
            None => return,
        };
        awaited.sort_unstable();
        for key in awaited {
            self.signal(db, &key);
        }
    }

    fn add(&mut self, mut waiter: Waiter) {
        self.last_ticket += 1;
        waiter.ticket = self.last_ticket;
        let client = waiter.client.id;
        for WaitKey { key, .. } in waiter.keys() {
            let keys = self.by_key.entry(waiter.db).or_default();
            let awaited = keys.entry(key.clone()).or_default();
            awaited.queue.insert(waiter.ticket, client);
        }
        if let Some(deadline_ms) = waiter.deadline_ms {
            self.deadlines.insert((deadline_ms, client));
        }
        let earlier = self.by_client.insert(client, waiter);
        debug_assert!(earlier.is_none(), "a blocked client calls nothing");
    }

    fn remove(&mut self, client: u64) -> Option<Waiter> {
        let waiter = self.by_client.remove(&client)?;
        if let Some(deadline_ms) = waiter.deadline_ms {
            self.deadlines.remove(&(deadline_ms, client));
        }
        self.for_copies.remove(&client);
        if let Some(keys) = self.by_key.get_mut(&waiter.db) {
            for WaitKey { key, .. } in waiter.keys() {
                if let Some(awaited) = keys.get_mut(key) {
                    awaited.queue.remove(&waiter.ticket);
                    if awaited.queue.is_empty() {
                        keys.remove(key);
                    }
                }
            }
            if keys.is_empty() {
                self.by_key.remove(&waiter.db);
            }
        }
        Some(waiter)
    }

    fn next_ready(&mut self) -> Option<(Db, Box<[u8]>)> {
        let (db, key) = self.ready.pop_front()?;
        let awaited = self.by_key.get_mut(&db);
        if let Some(awaited) = awaited.and_then(|keys| keys.get_mut(&key)) {
            awaited.ready = false;
        }
        Some((db, key))
    }

    /// The first who waits for a key and came after `ticket`.
    fn next_for(&self, db: Db, key: &[u8], ticket: Ticket) -> Option<(Ticket, u64)> {
        let awaited = self.by_key.get(&db)?.get(key)?;
        let (ticket, client) = awaited.queue.range(ticket + 1..).next()?;
        Some((*ticket, *client))
    }
}

/// Whether a command that changed a key can be what somebody waited for. What only adds to what is known of a stream, or of
/// any key, is not: a reader is served by the next entry, and by nothing before it.
fn makes_ready(id: CommandId) -> bool {
    !matches!(
        id,
        CommandId::Xsetid
            | CommandId::Xdel
            | CommandId::Xtrim
            | CommandId::Xack
            | CommandId::Xclaim
            | CommandId::Xautoclaim
            | CommandId::XgroupCreate
            | CommandId::XgroupCreateconsumer
            | CommandId::XgroupDelconsumer
            | CommandId::XgroupSetid
            | CommandId::Expire
            | CommandId::Expireat
            | CommandId::Pexpire
            | CommandId::Pexpireat
            | CommandId::Persist
    )
}

impl Node {
    /// The session's command waits from here on: for `wait`'s keys, or only until `timeout_ms` have passed (0: for ever).
    pub(crate) fn block(
        &mut self,
        session: &Session,
        (command, request): (CommandId, Request<'_>),
        wait: Option<Wait>,
        timeout_ms: u64,
        give_up: GiveUp,
        clock: Clock,
    ) {
        session.client.set_blocked(true);
        // A millisecond more, because the one at hand has begun already.
        let deadline_ms =
            (timeout_ms > 0).then(|| clock.mono_ms.saturating_add(timeout_ms).saturating_add(1));
        self.blocked.add(Waiter {
            ticket: 0,
            client: Rc::clone(&session.client),
            command,
            request: OwnedRequest::from(request),
            db: session.db,
            deadline_ms,
            silent: session.reply_mode != ReplyMode::On,
            give_up,
            wait,
            copies: None,
        });
    }

    /// The same until there are so many copies of what the client wrote, or the time is up.
    pub(crate) fn block_for_copies(
        &mut self,
        session: &Session,
        asked: (CommandId, Request<'_>),
        copies: ForCopies,
        timeout_ms: u64,
        clock: Clock,
    ) {
        self.block(session, asked, None, timeout_ms, |_| (), clock);
        let client = session.client.id;
        if let Some(waiter) = self.blocked.by_client.get_mut(&client) {
            waiter.copies = Some(copies);
            self.blocked.for_copies.insert(client);
        }
    }

    /// A replica has more than before, or a disk.
    pub(crate) fn serve_waits_for_copies(&mut self) {
        if self.blocked.for_copies.is_empty() {
            return;
        }
        let served: Vec<u64> = self
            .blocked
            .for_copies
            .iter()
            .filter(|client| {
                let waiter = self.blocked.by_client.get(client);
                let waits = waiter.and_then(|waiter| waiter.copies);
                waits.is_some_and(|waits| self.has_copies(&waits))
            })
            .copied()
            .collect();
        for client in served {
            self.give_up_waiting(client);
        }
    }

    /// The client is gone.
    pub(crate) fn forget_blocked(&mut self, client: u64) {
        self.blocked.remove(client);
    }

    /// When [`Node::give_up_due`] has something to do next, in milliseconds of the node's monotonic clock.
    #[inline]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.blocked.deadlines.first().map(|(at, _)| *at)
    }

    /// Waiters that will not wait for ever.
    pub(crate) fn waiting_with_deadline(&self) -> usize {
        self.blocked.deadlines.len()
    }

    /// Answers those whose time is up.
    pub fn give_up_due(&mut self, clock: Clock) {
        while let Some((at, client)) = self.blocked.deadlines.first().copied()
            && at <= clock.mono_ms
        {
            self.give_up_waiting(client);
        }
    }

    /// CLIENT UNBLOCK: false when the client waits for nothing.
    pub(crate) fn unblock(&mut self, client: u64, with_error: bool) -> bool {
        let Some(waiter) = self.blocked.by_client.get(&client) else {
            return false;
        };
        if waiter.client.is_killed() {
            return false;
        }
        if with_error {
            self.refuse_waiting(client, &UNBLOCKED);
        } else {
            let command = waiter.command;
            self.stats.of(command).failed.add(1);
            self.give_up_waiting(client);
        }
        true
    }

    fn give_up_waiting(&mut self, client: u64) {
        let Some(waiter) = self.blocked.remove(client) else {
            return;
        };
        match waiter.copies {
            // Met or not, the answer is how many there are.
            Some(waits) => answer(&waiter, |reply| self.tell_copies(&waits, reply)),
            None => answer(&waiter, waiter.give_up),
        }
    }

    fn refuse_waiting(&mut self, client: u64, refusal: &Refusal) {
        let Some(waiter) = self.blocked.remove(client) else {
            return;
        };
        self.stats.of(waiter.command).failed.add(1);
        self.count_error(refusal);
        answer(&waiter, |reply| reply.error(refusal));
    }

    /// A command changed a key, of which its waiters are to hear once it is over.
    pub(crate) fn signal_effect(&mut self, db: Db, id: CommandId, effect: &Request<'_>) {
        if self.blocked.waits_for_keys() && makes_ready(id) {
            for key in keys::positions(id, effect) {
                self.blocked.signal(db, effect.arg(key.at));
            }
        }
    }

    /// After a command, a transaction or a script: serves those whose keys became ready.
    pub(crate) fn serve_blocked(&mut self, clock: Clock) {
        let mut room = Vec::new();
        self.close_unit(Unit::Whole);
        while let Some((db, key)) = self.blocked.next_ready() {
            let mut after = 0;
            while let Some((ticket, client)) = self.blocked.next_for(db, &key, after) {
                after = ticket;
                self.serve_one(client, db, &key, clock, &mut room);
                self.close_unit(Unit::Whole);
            }
        }
    }

    /// Serves a waiter from a key, if the key has what it waits for.
    fn serve_one(&mut self, client: u64, db: Db, key: &[u8], clock: Clock, room: &mut Vec<u8>) {
        // A key that has expired goes, and whoever follows is told.
        let there = self.databases.at(db).is_there(key, clock.now());
        self.settle_gone(clock);
        let found = type_under(self.databases.at(db), key, clock.now()).filter(|_| there);
        let Some(waiter) = self.blocked.by_client.get(&client) else {
            return;
        };
        let Some(wait) = &waiter.wait else { return };
        // Who was killed takes nothing with it.
        if waiter.client.is_killed() {
            return;
        }
        if found != Some(wait.value_type) {
            if wait.of_group {
                self.refuse_waiting(client, &STREAM_GONE);
            }
            return;
        }
        let Some(own) = wait.keys.iter().find(|own| *own.key == *key) else {
            return;
        };
        let (serve, command) = (wait.serve, waiter.command);
        let mut session = Session::new(Rc::clone(&waiter.client), true);
        session.db = db;
        session.protocol = waiter.client.protocol();
        let request = own.request.clone();
        let request = request.view();
        room.clear();
        let posted = session.client.posted_bytes();
        let started = self.now_nanos();
        let served = self.run_store(serve, command, &session, request, None, clock, room);
        // What it is told of its own write comes behind the reply.
        let behind = session.client.take_back_post(posted);
        match served {
            Ok(_) if room.is_empty() => {}
            Ok(_) => {
                if let Some(waiter) = self.blocked.remove(client) {
                    self.note_served(&session, command, &waiter.request.view(), started, clock);
                    answer(&waiter, |reply| reply.buffer().extend_from_slice(room));
                }
            }
            Err(refusal) => self.refuse_waiting(client, &refusal),
        }
        if !behind.is_empty() {
            session.client.post_bytes(&behind);
        }
    }

    /// After a change of who owns what: waiters for keys that are not served here any more are told where to go.
    pub(crate) fn redirect_blocked(&mut self) {
        let moved: Vec<(u64, Refusal)> = self
            .blocked
            .by_client
            .iter()
            .filter_map(|(client, waiter)| {
                let slot = slot_of(&waiter.keys().first()?.key);
                let writes = command::spec(waiter.command).is_write();
                let readonly = waiter.client.readonly.get();
                match admit(self.ownership.standing(slot), writes, readonly) {
                    Verdict::Go | Verdict::Hold => None,
                    Verdict::Moved => Some((*client, self.moved_to(slot))),
                    Verdict::Down => Some((*client, Refusal::CLUSTER_DOWN)),
                }
            })
            .collect();
        for (client, refusal) in moved {
            self.refuse_waiting(client, &refusal);
        }
    }
}

/// Posts the reply, and lets the client's next command run.
fn answer(waiter: &Waiter, write: impl FnOnce(&mut ReplyWriter<'_>)) {
    if !waiter.silent {
        waiter.client.post(write);
    }
    waiter.client.set_blocked(false);
}

#[cfg(test)]
mod tests {
    use larder_wire::control::MapPush;
    use larder_wire::resp::OwnedRequest;
    use larder_wire::{ClusterMap, Epoch, NodeEntry, NodeId, Role, ShardEntry, ShardId, SlotSet};

    use super::*;
    use crate::node::NodeSettings;
    use crate::turn::Outcome;

    const OWN: NodeId = NodeId::from_bytes([1; 20]);
    const OTHER: NodeId = NodeId::from_bytes([2; 20]);

    struct Stage {
        node: Node,
        clock: Clock,
    }

    impl Stage {
        fn new(standalone: bool) -> Stage {
            let node = Node::new(NodeSettings {
                id: OWN,
                run_id: OWN,
                standalone,
                addr: "127.0.0.1:7001".to_string(),
                port: 7001,
                secret: None,
                maxmemory: 0,
                hash_seed: 7,
                random_seed: 7,
            });
            let clock = Clock {
                unix_us: 1_700_000_000_000_000,
                mono_ms: 1000,
            };
            Stage { node, clock }
        }

        fn enter(&mut self) -> Session {
            self.node
                .open_session("c:1".into(), "s:1".into(), self.clock)
        }

        fn call(&mut self, session: &mut Session, line: &str) -> (Outcome, String) {
            let request = OwnedRequest::from_args(line.split(' ').collect::<Vec<_>>());
            let mut out = Vec::new();
            let outcome = self
                .node
                .call(session, request.view(), self.clock, &mut out);
            (outcome, String::from_utf8(out).unwrap())
        }

        fn run(&mut self, session: &mut Session, line: &str) {
            assert_eq!(self.call(session, line).0, Outcome::Done, "{line}");
        }

        fn block(&mut self, session: &mut Session, line: &str) {
            assert_eq!(
                self.call(session, line),
                (Outcome::Blocked, String::new()),
                "{line}"
            );
            assert!(session.client.is_blocked());
        }

        /// The map of this epoch: all slots are `owner`'s.
        fn take_map(&mut self, epoch: u64, owner: NodeId) {
            let shard = |id: u32, node: NodeId| ShardEntry {
                id: ShardId(id),
                slots: match node == owner {
                    true => SlotSet::full(),
                    false => SlotSet::new(),
                },
                nodes: vec![NodeEntry {
                    id: node,
                    addr: format!("127.0.0.1:{}", 7000 + id),
                    role: Role::Primary,
                    zone: None,
                    in_step: false,
                }],
            };
            let shards = vec![shard(1, OWN), shard(2, OTHER)];
            let push = MapPush {
                map: ClusterMap::new("larder", Epoch(epoch), shards).unwrap(),
                handovers: vec![],
                yields: None,
            };
            self.node.take_map(push, self.clock).unwrap();
        }
    }

    fn post(session: &Session) -> String {
        let mut out = Vec::new();
        session.client.take_post(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_deadline_is_kept_by_the_clock_and_forgotten_with_its_waiter() {
        let mut stage = Stage::new(true);
        let (mut early, mut late) = (stage.enter(), stage.enter());
        stage.block(&mut late, "BLPOP k 2");
        stage.block(&mut early, "BLPOP k 0.5");
        assert_eq!(stage.node.next_deadline_ms(), Some(1501));
        stage.clock.mono_ms = 1500;
        stage.node.give_up_due(stage.clock);
        assert!(early.client.is_blocked());
        stage.clock.mono_ms = 1501;
        stage.node.give_up_due(stage.clock);
        assert_eq!(post(&early), "*-1\r\n");
        assert!(!early.client.is_blocked() && late.client.is_blocked());
        stage.run(&mut early, "RPUSH k x");
        assert_eq!(post(&late), "*2\r\n$1\r\nk\r\n$1\r\nx\r\n");
        assert_eq!(stage.node.next_deadline_ms(), None);
        assert!(!stage.node.blocked.waits_for_keys());
    }

    #[test]
    fn a_client_that_is_gone_or_killed_is_passed_over() {
        let mut stage = Stage::new(true);
        let mut waiters: Vec<Session> = (0..3).map(|_| stage.enter()).collect();
        let mut other = stage.enter();
        for waiter in &mut waiters {
            stage.block(waiter, "BLPOP k 0");
        }
        stage.node.close_session(&mut waiters[0]);
        waiters[1].client.kill();
        stage.run(&mut other, "RPUSH k x");
        assert_eq!(post(&waiters[1]), "");
        assert_eq!(post(&waiters[2]), "*2\r\n$1\r\nk\r\n$1\r\nx\r\n");
    }

    #[test]
    fn who_waits_for_a_slot_that_moves_away_is_told_its_owner() {
        let mut stage = Stage::new(false);
        stage.take_map(1, OWN);
        let (mut popper, mut reader, mut waiter) = (stage.enter(), stage.enter(), stage.enter());
        stage.block(&mut popper, "BLPOP foo 0");
        stage.block(&mut reader, "XREAD BLOCK 0 STREAMS foo $");
        stage.block(&mut waiter, "WAIT 1 0");
        stage.take_map(2, OTHER);
        assert_eq!(post(&popper), "-MOVED 12182 127.0.0.1:7002\r\n");
        assert_eq!(post(&reader), "-MOVED 12182 127.0.0.1:7002\r\n");
        assert!(!popper.client.is_blocked() && waiter.client.is_blocked());
    }

    #[test]
    fn databases_keep_their_waiters_apart() {
        let mut stage = Stage::new(true);
        let (mut first, mut second) = (stage.enter(), stage.enter());
        let mut other = stage.enter();
        stage.run(&mut second, "SELECT 2");
        stage.block(&mut first, "BLPOP k 0");
        stage.block(&mut second, "BLPOP k 0");
        stage.run(&mut other, "RPUSH k x y");
        stage.run(&mut other, "MOVE k 2");
        assert_eq!(post(&first), "*2\r\n$1\r\nk\r\n$1\r\nx\r\n");
        assert_eq!(post(&second), "*2\r\n$1\r\nk\r\n$1\r\ny\r\n");
        stage.block(&mut second, "BLPOP k 0");
        stage.run(&mut other, "RPUSH k z");
        stage.run(&mut other, "SWAPDB 0 2");
        assert_eq!(post(&second), "*2\r\n$1\r\nk\r\n$1\r\nz\r\n");
    }
}
