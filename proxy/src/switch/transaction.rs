//! MULTI … EXEC and WATCH through connections that clients share.
//!
//! - MULTI is kept here: commands are checked and answered QUEUED, and EXEC sends all of it as one unit, which
//!   a redirect aborts before anything is carried out, so it is retried as one.
//! - WATCH takes a connection of the client's own, from a pool, until EXEC, DISCARD or UNWATCH. When the
//!   watched slot moves or the connection is lost before EXEC was sent, nobody can say whether the keys changed:
//!   EXEC answers nil, as it does when they did.

use larder_wire::command::{self, CommandId, Found, Route};
use larder_wire::resp::{Protocol, Request};
use larder_wire::{Refusal, Slot};

use super::link::{Kind, Link, Tag};
use super::own::NoLink;
use super::redirect::{self, Refused};
use super::route::{Flow, not_through_the_proxy};
use super::{Action, ClientKey, LinkKey, Switch};
use crate::limits::MULTI_BYTES_MAX;
use crate::local;

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";
const UNWATCH: &[u8] = b"*1\r\n$7\r\nUNWATCH\r\n";

/// A transaction that is being queued.
pub(crate) struct Multi {
    bytes: Vec<u8>,
    commands: u32,
    slot: Option<Slot>,
    /// A command was refused: EXEC will be, too.
    dirty: bool,
}

/// A connection of the client's own that watches keys.
pub(crate) struct Watch {
    pub(crate) link: LinkKey,
    slot: Slot,
    /// Whether the keys changed can no longer be told.
    pub(super) lost: bool,
}

impl Switch {
    pub(crate) fn multi(&mut self, key: ClientKey) -> Flow {
        if let Some(client) = self.clients.get_mut(key) {
            client.multi = Some(Box::new(Multi {
                bytes: MULTI.to_vec(),
                commands: 0,
                slot: None,
                dirty: false,
            }));
            client.info.words().multi = Some(0);
            client.reply(|reply| reply.ok());
        }
        Flow::Taken
    }

    /// A request of a client that has said MULTI.
    pub(super) fn request_in_multi(
        &mut self,
        key: ClientKey,
        found: Found,
        request: &Request<'_>,
    ) -> Flow {
        let id = match self.check(found, request) {
            Ok(id) => id,
            Err(refusal) => return self.refuse_in_multi(key, &refusal),
        };
        match id {
            CommandId::Exec => return self.exec(key),
            CommandId::Discard => return self.discard(key),
            CommandId::Multi => return self.refuse(key, &Refusal::NESTED_MULTI),
            CommandId::Watch => return self.refuse(key, &Refusal::WATCH_IN_MULTI),
            CommandId::Quit | CommandId::Reset => return local::answer(self, key, id, request),
            _ => {}
        }
        match self.slot_in_multi(id, request) {
            Ok(slot) => self.queue(key, slot, request),
            Err(refusal) => self.refuse_in_multi(key, &refusal),
        }
    }

    /// The slot of a command in a transaction; `None`: any node can do it.
    fn slot_in_multi(&self, id: CommandId, request: &Request<'_>) -> Result<Option<Slot>, Refusal> {
        let spec = command::spec(id);
        match spec.route {
            Route::Key | Route::Split(_) => self.slot_of_all(id, spec, request),
            Route::Local => match id {
                CommandId::Ping | CommandId::Echo | CommandId::Time => Ok(None),
                CommandId::Select if request.get(1) == Some(b"0") => Ok(None),
                CommandId::Unwatch => Ok(None),
                _ => Err(not_in_multi(id)),
            },
            Route::EveryNode(_) | Route::AnyNode | Route::Scan | Route::Topology => {
                Err(not_in_multi(id))
            }
            Route::Refused => Err(not_through_the_proxy(spec)),
        }
    }

    fn queue(&mut self, key: ClientKey, slot: Option<Slot>, request: &Request<'_>) -> Flow {
        let Some(client) = self.clients.get_mut(key) else {
            return Flow::Taken;
        };
        let Some(multi) = &mut client.multi else {
            return Flow::Taken;
        };
        if slot.is_some() && multi.slot.is_some() && slot != multi.slot {
            return self.refuse_in_multi(key, &Refusal::CROSS_SLOT);
        }
        if multi.bytes.len() + request.bytes().len() > MULTI_BYTES_MAX {
            let refusal = Refusal::new(format!(
                "ERR this transaction is larger than {MULTI_BYTES_MAX} bytes"
            ));
            return self.refuse_in_multi(key, &refusal);
        }
        multi.slot = multi.slot.or(slot);
        multi.commands += 1;
        multi.bytes.extend_from_slice(request.bytes());
        client.info.words().multi = Some(multi.commands as usize);
        client.reply(|reply| reply.simple("QUEUED"));
        Flow::Taken
    }

    fn refuse_in_multi(&mut self, key: ClientKey, refusal: &Refusal) -> Flow {
        if let Some(multi) = self
            .clients
            .get_mut(key)
            .and_then(|client| client.multi.as_mut())
        {
            multi.dirty = true;
        }
        self.refuse(key, refusal)
    }

    fn exec(&mut self, key: ClientKey) -> Flow {
        let Some(client) = self.clients.get_mut(key) else {
            return Flow::Taken;
        };
        if client.watch.is_some() && !client.is_idle() {
            client.waiting = true;
            return Flow::Wait;
        }
        let Some(mut multi) = client.multi.take() else {
            return self.refuse(key, &Refusal::EXEC_WITHOUT_MULTI);
        };
        let watched = client
            .watch
            .as_ref()
            .map(|watch| (watch.link, watch.slot, watch.lost));
        let crosses = match (watched, multi.slot) {
            (Some((_, watched, _)), Some(slot)) => watched != slot,
            (Some(_) | None, None) | (None, Some(_)) => false,
        };
        if multi.dirty || crosses {
            let refusal = if multi.dirty {
                Refusal::EXEC_ABORT
            } else {
                Refusal::CROSS_SLOT
            };
            self.end_multi(key);
            return self.refuse(key, &refusal);
        }
        let kind = Kind::Unit {
            commands: multi.commands,
        };
        let Some((link, slot, lost)) = watched else {
            if multi.commands == 0 {
                client.reply(|reply| reply.array(0));
                self.end_multi(key);
                return Flow::Taken;
            }
            let slot = multi.slot.unwrap_or(Slot::FIRST);
            let length = multi.bytes.len();
            multi.bytes.extend_from_slice(EXEC);
            let flow = self.send_to_slot(key, CommandId::Exec, slot, kind, &multi.bytes);
            match flow {
                Flow::Taken => self.end_multi(key),
                Flow::Wait => {
                    multi.bytes.truncate(length);
                    if let Some(client) = self.clients.get_mut(key) {
                        client.multi = Some(multi);
                    }
                }
            }
            return flow;
        };
        if lost {
            client.reply(|reply| reply.null_array());
            self.end_multi(key);
            return Flow::Taken;
        }
        client.until_answered = true;
        client.info.words().multi = None;
        let seq = client.open_place();
        let protocol = client.protocol;
        multi.bytes.extend_from_slice(EXEC);
        let tag = self.tag(key, seq, Some(slot), CommandId::Exec, protocol, kind);
        self.append(link, tag, &multi.bytes, 0, false);
        Flow::Taken
    }

    pub(crate) fn discard(&mut self, key: ClientKey) -> Flow {
        let multi = self
            .clients
            .get_mut(key)
            .and_then(|client| client.multi.take());
        if multi.is_none() {
            return self.refuse(key, &Refusal::DISCARD_WITHOUT_MULTI);
        }
        self.end_multi(key);
        if let Some(client) = self.clients.get_mut(key) {
            client.reply(|reply| reply.ok());
        }
        Flow::Taken
    }

    /// The client is in no transaction and watches nothing any more.
    pub(crate) fn end_multi(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        client.multi = None;
        let watch = client.watch.take();
        {
            let mut words = client.info.words();
            words.multi = None;
            words.watching = 0;
        }
        let Some(watch) = watch.filter(|watch| !watch.lost) else {
            return;
        };
        let protocol = client.protocol;
        let tag = self.tag(key, 0, None, CommandId::Unwatch, protocol, Kind::Unwatch);
        self.append(watch.link, tag, UNWATCH, 0, false);
    }

    pub(crate) fn watch(&mut self, key: ClientKey, request: &Request<'_>) -> Flow {
        let spec = command::spec(CommandId::Watch);
        let slot = match self.slot_of_all(CommandId::Watch, spec, request) {
            Ok(slot) => slot.unwrap_or(Slot::FIRST),
            Err(refusal) => return self.refuse(key, &refusal),
        };
        if let Flow::Wait = self.alone(key) {
            return Flow::Wait;
        }
        let Some(client) = self.clients.get_mut(key) else {
            return Flow::Taken;
        };
        match &client.watch {
            Some(watch) if watch.slot != slot => return self.refuse(key, &Refusal::CROSS_SLOT),
            Some(watch) if watch.lost => {
                client.reply(|reply| reply.ok());
                return Flow::Taken;
            }
            Some(_) | None => {}
        }
        client.info.words().watching += request.len() - 1;
        let seq = client.open_place();
        let protocol = client.protocol;
        let kind = Kind::Watch;
        let tag = self.tag(key, seq, Some(slot), CommandId::Watch, protocol, kind);
        self.send_watch(tag, request.bytes());
        Flow::Taken
    }

    pub(super) fn send_watch(&mut self, tag: Tag, bytes: &[u8]) {
        let (Some(client), Some(slot)) = (self.clients.get(tag.client), Slot::new(tag.slot)) else {
            return;
        };
        if let Some(watch) = &client.watch {
            return self.append(watch.link, tag, bytes, 0, false);
        }
        let owner = self.node_of(slot);
        let opened = match owner {
            Some(node) => self.own_link(tag.client, node, tag.protocol),
            None => Err(NoLink::NotBefore(self.now_ms() + self.pause(tag.bounces))),
        };
        match opened {
            Ok(link) => {
                if let Some(client) = self.clients.get_mut(tag.client) {
                    client.watch = Some(Watch {
                        link,
                        slot,
                        lost: false,
                    });
                }
                self.append(link, tag, bytes, 0, false);
            }
            Err(NoLink::Full) => {
                if let Some(client) = self.clients.get_mut(tag.client) {
                    client.info.words().watching = 0;
                }
                let error = self.no_more_links(owner.unwrap_or(super::NOBODY));
                self.fail(tag, &error);
            }
            Err(NoLink::NotBefore(retry_ms)) => {
                let error = owner.map_or_else(
                    || super::forward::error_line(&Refusal::CLUSTER_DOWN),
                    |node| self.unreachable(node),
                );
                let from = owner.unwrap_or(super::NOBODY);
                let cause = super::forward::Cause::NotBefore(retry_ms);
                self.bounce(from, tag, bytes.to_vec(), error, cause);
            }
        }
    }

    pub(super) fn watched(&mut self, key: LinkKey, tag: &Tag, reply: &[u8]) {
        if self.clients.get(tag.client).is_none() {
            self.close_link(key);
        }
        self.deliver(tag, reply);
    }

    pub(super) fn unwatched(&mut self, key: LinkKey) {
        self.give_back(key);
    }

    /// A transaction on a connection of the client's own was answered.
    pub(super) fn release_own(&mut self, key: LinkKey, client: ClientKey) {
        if !self.links.get(key).is_some_and(|link| link.own) {
            return;
        }
        if let Some(client) = self.clients.get_mut(client) {
            client.watch = None;
            client.info.words().watching = 0;
        }
        self.give_back(key);
    }

    /// A node refused a request on a client's own connection, for now or for good reason.
    pub(super) fn own_refused(
        &mut self,
        key: LinkKey,
        tag: Tag,
        bytes: Vec<u8>,
        verdict: &Refused<'_>,
        error: &[u8],
    ) {
        self.actions.push(Action::Refresh);
        if let Refused::Moved { slot, addr } = verdict
            && let Some(link) = self.links.get(key)
        {
            let answered_by = self.nodes[link.node as usize].addr.clone();
            let owner = self.node_at(&redirect::resolve(addr, &answered_by));
            if self.node_of(*slot) != Some(owner) && !self.is_outdated(owner, tag.bounces) {
                self.bounce_route(*slot, owner);
            }
        }
        match tag.kind {
            Kind::Unit { .. } => {
                self.release_own(key, tag.client);
                self.deliver_null(&tag);
            }
            Kind::Watch => {
                // Keys that it watches already cannot be watched from elsewhere as of then.
                if self.watched_before(tag.client, &bytes) {
                    self.lose_watch(tag.client);
                    self.close_link(key);
                    return self.deliver(&tag, b"+OK\r\n");
                }
                if let Some(client) = self.clients.get_mut(tag.client) {
                    client.watch = None;
                }
                self.give_back(key);
                let rest = self.now_ms() + self.pause(tag.bounces);
                let cause = super::forward::Cause::NotBefore(rest);
                self.bounce(super::NOBODY, tag, bytes, error.to_vec(), cause);
            }
            Kind::Park => self.parked_refused(key, &tag, verdict, error),
            // It serves without a number.
            Kind::Identify => {}
            Kind::Unwatch => self.close_link(key),
            Kind::Plain | Kind::Spread | Kind::Share { .. } | Kind::Scan { .. } | Kind::Aside => {
                debug_assert!(false, "{:?} on a connection of a client's own", tag.kind);
            }
        }
    }

    /// A slot's owner turned out to be another one, by a request that does not wait behind the slot's gate.
    pub(super) fn bounce_route(&mut self, slot: Slot, owner: u16) {
        let before = self.node_of(slot);
        self.set_node(slot, owner);
        if let Some(before) = before {
            let barriers = self.barriers(&[before]);
            self.gates.close(slot, barriers);
            self.mark_gate(slot);
        }
    }

    /// Whether the client watches other keys than those of this WATCH.
    fn watched_before(&self, client: ClientKey, watch: &[u8]) -> bool {
        let client = self.clients.get(client);
        client.is_some_and(|client| client.info.words().watching > argument_count(watch))
    }

    fn lose_watch(&mut self, client: ClientKey) {
        if let Some(watch) = self
            .clients
            .get_mut(client)
            .and_then(|client| client.watch.as_mut())
        {
            watch.lost = true;
        }
    }

    fn deliver_null(&mut self, tag: &Tag) {
        let null: &[u8] = match tag.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        };
        self.deliver(tag, null);
    }

    /// A client's own connection is lost; `link` is already forgotten.
    pub(super) fn own_lost(&mut self, key: LinkKey, mut link: Link) {
        let retry_ms = self.nodes[link.node as usize].retry_ms;
        for client in self.clients.keys() {
            let watch = self
                .clients
                .get_mut(client)
                .and_then(|client| client.watch.as_mut());
            if let Some(watch) = watch.filter(|watch| watch.link == key) {
                watch.lost = true;
            }
        }
        loop {
            let unsent = !link.up || link.front_is_unsent();
            let bytes = link.front_bytes().to_vec();
            let Some(flight) = link.pop() else {
                return;
            };
            let tag = flight.tag;
            match tag.kind {
                Kind::Unit { .. } => {
                    if let Some(client) = self.clients.get_mut(tag.client) {
                        client.watch = None;
                    }
                    if unsent {
                        self.deliver_null(&tag);
                    } else {
                        let error = self.may_be_applied(link.node);
                        self.fail(tag, &error);
                    }
                }
                Kind::Watch if self.watched_before(tag.client, &bytes) => {
                    self.deliver(&tag, b"+OK\r\n");
                }
                Kind::Watch => {
                    if let Some(client) = self.clients.get_mut(tag.client) {
                        client.watch = None;
                    }
                    let error = self.unreachable(link.node);
                    let cause = super::forward::Cause::NotBefore(retry_ms);
                    self.bounce(link.node, tag, bytes, error, cause);
                }
                Kind::Park => self.parked_lost(key, &tag, link.node, unsent),
                Kind::Identify | Kind::Unwatch => {}
                Kind::Plain
                | Kind::Spread
                | Kind::Share { .. }
                | Kind::Scan { .. }
                | Kind::Aside => {
                    debug_assert!(false, "{:?} on a connection of a client's own", tag.kind);
                }
            }
        }
    }
}

/// Arguments behind the name of a request as it was forwarded.
fn argument_count(bytes: &[u8]) -> usize {
    let digits = bytes[1..].iter().take_while(|byte| byte.is_ascii_digit());
    digits
        .fold(0, |n, digit| n * 10 + usize::from(digit - b'0'))
        .saturating_sub(1)
}

fn not_in_multi(id: CommandId) -> Refusal {
    let name = command::spec(id).name.replace('|', " ").to_uppercase();
    Refusal::new(format!(
        "ERR {name} is not allowed in a transaction through the proxy"
    ))
}
