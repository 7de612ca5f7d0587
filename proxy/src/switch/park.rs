//! Commands that block (BLPOP, XREAD … BLOCK, …): the client is parked on a connection of its own until the node answers.
//!
//! ```text
//! park ─▶ send_parked ─▶ the node keeps the answer ─▶ parked_answered: the connection goes back, the client goes on
//!             ▲                    │
//!             └── sent elsewhere ──┤ (MOVED, ASK, a node that is a primary no longer): what is left of the time is waited there
//!                                  └ lost: what may have taken an element is never sent again, its client is told
//! ```
//!
//! All before it has been answered and nothing after it is taken, so a parked command needs no gate: no order is at stake. When its client
//! goes, its connection is closed at once, so that nothing is taken for nobody.

use larder_wire::command::{self, CommandId, CommandSpec, Merge};
use larder_wire::resp::{OwnedRequest, Protocol, Request, reply};
use larder_wire::{Refusal, Slot};

use super::forward::error_line;
use super::link::{Kind, Tag};
use super::own::NoLink;
use super::redirect::{self, Refused};
use super::route::Flow;
use super::split::Gather;
use super::{Action, ClientKey, LinkKey, NOBODY, Retry, Switch, patience};
use crate::limits::{HOLD_MS_MAX, PARKED_AFRESH_MS};

/// A command that may block, and where it waits.
pub(crate) struct Parked {
    /// `None` while it waits for another try.
    pub(super) link: Option<LinkKey>,
    tag: Tag,
    bytes: Vec<u8>,
    /// When its time is up, in milliseconds; `None`: never.
    until_ms: Option<u64>,
    sent_ms: u64,
    /// A node that takes its slot in, to be asked next.
    asking: Option<u16>,
    /// CLIENT UNBLOCK was asked for: true for an error.
    unblock: Option<bool>,
    copies: Option<Copies>,
}

/// WAIT and WAITAOF: every node answers for its replicas.
struct Copies {
    answers: Gather,
    /// Connections on which an answer is owed.
    links: Vec<LinkKey>,
}

impl Parked {
    pub(super) fn links(&self) -> Vec<LinkKey> {
        let copies = self.copies.iter().flat_map(|copies| &copies.links);
        self.link.iter().chain(copies).copied().collect()
    }
}

impl Switch {
    pub(super) fn park(
        &mut self,
        key: ClientKey,
        id: CommandId,
        spec: &'static CommandSpec,
        request: &Request<'_>,
    ) -> Flow {
        let slot = match self.slot_of_all(id, spec, request) {
            Ok(slot) => slot.unwrap_or(Slot::FIRST),
            Err(refusal) => return self.refuse(key, &refusal),
        };
        if let Flow::Wait = self.alone(key) {
            return Flow::Wait;
        }
        let now_ms = self.now_ms();
        let Some(client) = self.clients.get_mut(key) else {
            return Flow::Taken;
        };
        let seq = client.open_place();
        let protocol = client.protocol;
        let tag = self.tag(key, seq, Some(slot), id, protocol, Kind::Park);
        let parked = Parked {
            link: None,
            tag,
            bytes: request.bytes().to_vec(),
            until_ms: patience::millis(id, request).map(|millis| now_ms.saturating_add(millis)),
            sent_ms: 0,
            asking: None,
            unblock: None,
            copies: None,
        };
        if let Some(client) = self.clients.get_mut(key) {
            client.parked = Some(Box::new(parked));
            client.info.set_blocked(true);
        }
        self.send_parked(key, seq);
        Flow::Taken
    }

    /// WAIT and WAITAOF wait for what all clients have written so far, at every node; the least of their answers counts.
    pub(super) fn wait_for_copies(
        &mut self,
        key: ClientKey,
        id: CommandId,
        request: &Request<'_>,
    ) -> Flow {
        if let Flow::Wait = self.alone(key) {
            return Flow::Wait;
        }
        let Some(client) = self.clients.get_mut(key) else {
            return Flow::Taken;
        };
        let seq = client.open_place();
        let protocol = client.protocol;
        let tag = self.tag(key, seq, None, id, protocol, Kind::Park);
        let mut answers = self.make_gather(&tag, Merge::Least);
        let mut links = Vec::new();
        let mut failed = self
            .primaries
            .is_empty()
            .then(|| error_line(&Refusal::CLUSTER_DOWN));
        for node in self.primaries.clone() {
            match self.own_link(key, node, protocol) {
                Ok(link) => links.push(link),
                Err(NoLink::NotBefore(_)) => failed = Some(self.unreachable(node)),
                Err(NoLink::Full) => failed = Some(self.no_more_links(node)),
            }
        }
        if let Some(error) = failed {
            for link in links {
                self.close_link(link);
            }
            self.fail(
                Tag {
                    kind: Kind::Plain,
                    ..tag
                },
                &error,
            );
            return Flow::Taken;
        }
        for _ in &links {
            answers.add_share();
        }
        // By any command a redis-server learns up to where this connection has to be waited for.
        let mut bytes = b"*1\r\n$4\r\nPING\r\n".to_vec();
        bytes.extend_from_slice(request.bytes());
        for &link in &links {
            self.append(link, tag, &bytes, 1, false);
        }
        let parked = Parked {
            link: None,
            tag,
            bytes: Vec::new(),
            until_ms: None,
            sent_ms: 0,
            asking: None,
            unblock: None,
            copies: Some(Copies { answers, links }),
        };
        if let Some(client) = self.clients.get_mut(key) {
            client.parked = Some(Box::new(parked));
            client.info.set_blocked(true);
        }
        Flow::Taken
    }

    /// One of the answers that WAIT needs. False when the client waits for something else.
    fn copies_answered(&mut self, key: LinkKey, tag: &Tag, answer: &[u8]) -> bool {
        let Some(parked) = self.parked(tag.client, tag.seq) else {
            return false;
        };
        let Some(copies) = &mut parked.copies else {
            return false;
        };
        let Some(share) = copies.links.iter().position(|&link| link == key) else {
            return true;
        };
        copies.links.swap_remove(share);
        copies.answers.take(share as u32, answer);
        if copies.links.is_empty() {
            let mut all = Vec::new();
            copies.answers.write(&mut all);
            self.unpark(tag, &all);
        }
        true
    }

    fn parked(&mut self, client: ClientKey, seq: u64) -> Option<&mut Parked> {
        let parked = self.clients.get_mut(client)?.parked.as_deref_mut()?;
        (parked.tag.seq == seq).then_some(parked)
    }

    /// To the slot's owner, or to who takes the slot in.
    pub(super) fn send_parked(&mut self, client: ClientKey, seq: u64) {
        let now_ms = self.now_ms();
        let Some(parked) = self.parked(client, seq) else {
            return;
        };
        let tag = parked.tag;
        let asking = parked.asking.take();
        let mut bytes = match parked.until_ms {
            Some(until_ms) if tag.bounces > 0 => {
                let left_ms = until_ms.saturating_sub(now_ms);
                patience::with_left(tag.command, &parked.bytes, left_ms)
            }
            Some(_) | None => parked.bytes.clone(),
        };
        let before = u32::from(asking.is_some());
        if asking.is_some() {
            bytes.splice(0..0, *b"*1\r\n$6\r\nASKING\r\n");
        }
        let owner = Slot::new(tag.slot).and_then(|slot| self.node_of(slot));
        let Some(node) = asking.or(owner) else {
            self.actions.push(Action::Refresh);
            let rest_ms = now_ms + self.pause(tag.bounces);
            return self.park_again(&tag, error_line(&Refusal::CLUSTER_DOWN), rest_ms);
        };
        match self.own_link(client, node, tag.protocol) {
            Ok(link) => {
                if let Some(parked) = self.parked(client, seq) {
                    parked.link = Some(link);
                    parked.sent_ms = now_ms;
                }
                self.append(link, tag, &bytes, before, false);
                self.unblock_parked(client);
            }
            Err(NoLink::NotBefore(retry_ms)) => {
                self.actions.push(Action::Refresh);
                let error = self.unreachable(node);
                self.park_again(&tag, error, retry_ms);
            }
            Err(NoLink::Full) => {
                let error = self.no_more_links(node);
                self.end_parked(&tag, &error);
            }
        }
    }

    /// It was not carried out; there is another try after a rest, unless its slot has been served by nobody for too long.
    fn park_again(&mut self, tag: &Tag, error: Vec<u8>, rest_ms: u64) {
        let now_ms = self.now_ms();
        let Some(parked) = self.parked(tag.client, tag.seq) else {
            return;
        };
        parked.link = None;
        if parked.sent_ms > 0 && now_ms.saturating_sub(parked.sent_ms) >= PARKED_AFRESH_MS {
            parked.tag.held_ms = 0;
            parked.tag.bounces = 0;
        }
        parked.sent_ms = 0;
        let first = parked.tag.held_ms == 0;
        if first {
            parked.tag.held_ms = now_ms.max(1);
        }
        parked.tag.bounces = parked.tag.bounces.saturating_add(1);
        let waited = now_ms.saturating_sub(parked.tag.held_ms);
        if waited > HOLD_MS_MAX {
            return self.end_parked(tag, &error);
        }
        if first {
            self.counts.holds.inc();
        }
        let retry = Retry::Park {
            client: tag.client,
            seq: tag.seq,
        };
        self.later.push((rest_ms, retry));
    }

    /// The node's answer, or its word that it is no primary any more.
    pub(super) fn parked_answered(&mut self, link: LinkKey, tag: &Tag, answer: &[u8]) {
        if self.copies_answered(link, tag, answer) {
            return self.give_back(link);
        }
        if answer.starts_with(b"-UNBLOCKED force") {
            // It closes the connection behind that.
            self.close_link(link);
            self.actions.push(Action::Refresh);
            let rest_ms = self.now_ms() + self.pause(1);
            return self.park_again(tag, answer.to_vec(), rest_ms);
        }
        self.give_back(link);
        self.unpark(tag, answer);
    }

    /// The client gets this error.
    pub(super) fn end_parked(&mut self, tag: &Tag, error: &[u8]) {
        self.counts
            .error(reply::error_code(error).unwrap_or_default());
        self.unpark(tag, error);
    }

    fn unpark(&mut self, tag: &Tag, answer: &[u8]) {
        if self.parked(tag.client, tag.seq).is_none() {
            return;
        }
        if let Some(client) = self.clients.get_mut(tag.client) {
            client.parked = None;
            client.info.set_blocked(false);
            client.answer(tag.seq, answer);
        }
        self.touch(tag.client);
    }

    /// The node does not serve the slot, or not yet.
    pub(super) fn parked_refused(
        &mut self,
        key: LinkKey,
        tag: &Tag,
        verdict: &Refused<'_>,
        error: &[u8],
    ) {
        let node = self.links.get(key).map_or(NOBODY, |link| link.node);
        self.give_back(key);
        if self.copies_answered(key, tag, error) {
            return;
        }
        let mut rest_ms = self.now_ms() + self.pause(tag.bounces);
        match verdict {
            Refused::Moved { .. } => self.counts.moved.inc(),
            Refused::Ask { addr } => {
                self.counts.asked.inc();
                rest_ms = 0;
                let answered_by = self.nodes.get(node as usize).map(|node| node.addr.clone());
                let target = redirect::resolve(addr, &answered_by.unwrap_or_default());
                let target = self.node_at(&target);
                if let Some(parked) = self.parked(tag.client, tag.seq) {
                    parked.asking = Some(target);
                }
            }
            Refused::Later => self.counts.later.inc(),
            Refused::Final => debug_assert!(false, "an answer is no refusal"),
        }
        self.park_again(tag, error.to_vec(), rest_ms);
    }

    /// Its connection is lost.
    pub(super) fn parked_lost(&mut self, key: LinkKey, tag: &Tag, node: u16, unsent: bool) {
        let error = self.unreachable(node);
        if self.copies_answered(key, tag, &error) {
            return;
        }
        if unsent || !command::spec(tag.command).is_write() {
            let retry_ms = self.nodes[node as usize].retry_ms;
            self.park_again(tag, error, retry_ms);
        } else {
            let error = self.may_be_applied(node);
            self.end_parked(tag, &error);
        }
    }

    /// Other servers stand behind the proxy: nobody waits at the old ones any more.
    pub(super) fn leave_parked(&mut self) {
        for key in self.clients.keys() {
            let parked = self
                .clients
                .get(key)
                .and_then(|client| client.parked.as_deref());
            for link in parked.map(Parked::links).unwrap_or_default() {
                self.link_lost(link, "other servers have taken its place");
                self.actions.push(Action::Close(link));
            }
        }
    }

    /// CLIENT UNBLOCK of this client: its node is asked to end the wait, so that an element that is on its way is not lost.
    pub(crate) fn unblock(&mut self, key: ClientKey, with_error: bool) {
        let parked = self
            .clients
            .get_mut(key)
            .and_then(|client| client.parked.as_deref_mut());
        if let Some(parked) = parked {
            parked.unblock = Some(with_error);
            self.unblock_parked(key);
        }
    }

    /// As soon as it is known what to ask for.
    pub(super) fn unblock_parked(&mut self, key: ClientKey) {
        let parked = self
            .clients
            .get_mut(key)
            .and_then(|client| client.parked.as_deref_mut());
        let Some(parked) = parked else {
            return;
        };
        let Some(with_error) = parked.unblock else {
            return;
        };
        let links = parked.links();
        let numbered = links.iter().filter_map(|&key| {
            let link = self.links.get(key)?;
            Some((link.node, link.protocol, link.number?))
        });
        let numbered: Vec<(u16, Protocol, i64)> = numbered.collect();
        if links.is_empty() || numbered.len() < links.len() {
            return;
        }
        if let Some(parked) = self
            .clients
            .get_mut(key)
            .and_then(|client| client.parked.as_deref_mut())
        {
            parked.unblock = None;
        }
        let how: &[u8] = if with_error { b"ERROR" } else { b"TIMEOUT" };
        for (node, protocol, number) in numbered {
            let number = number.to_string();
            let args: [&[u8]; 4] = [b"CLIENT", b"UNBLOCK", number.as_bytes(), how];
            let bytes = OwnedRequest::from_args(args).into_bytes();
            let id = CommandId::ClientUnblock;
            let tag = self.tag(key, 0, None, id, protocol, Kind::Aside);
            self.send_to(node, tag, &bytes, false);
        }
    }
}
