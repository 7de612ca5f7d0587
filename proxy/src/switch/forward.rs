//! Requests on their way to a node and replies on their way back; and what becomes of a request that comes
//! back refused, or whose connection is lost.
//!
//! A refused request was not carried out: it waits behind its slot's gate and goes out again. A read whose
//! connection was lost goes out again too; a write that may have been carried out does not.

use larder_wire::command;
use larder_wire::resp::reply::{self, ReplyKind};
use larder_wire::{Refusal, Slot};

use super::link::{InFlight, Kind, NO_SLOT, Tag};
use super::redirect::{self, Refused};
use super::split::Back;
use super::{Action, ClientKey, GATED, Held, LinkKey, NOBODY, Retry, Switch};
use crate::limits::{
    HELD_BYTES_MAX, HOLD_MS_MAX, RECONNECT_MS_MAX, RECONNECT_MS_MIN, RETRY_MS_MAX, RETRY_MS_MIN,
};

/// Why a request came back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cause {
    /// The slot has another owner, which the table already knows.
    Moved(Slot),
    /// Not before this, in milliseconds.
    NotBefore(u64),
}

impl Switch {
    /// Sends a request of one slot to its owner, or has it wait behind the slot's gate.
    pub(super) fn dispatch(&mut self, tag: Tag, bytes: &[u8]) {
        let Some(slot) = Slot::new(tag.slot) else {
            debug_assert!(false, "a request without a slot has no owner");
            return;
        };
        if self.table[slot.index()] & GATED == 0 {
            self.forward(tag, bytes, false);
        } else if self.gates.starts_probe(slot) {
            self.forward(tag, bytes, true);
        } else {
            self.hold(slot, tag, bytes);
        }
    }

    fn hold(&mut self, slot: Slot, mut tag: Tag, bytes: &[u8]) {
        if tag.held_ms == 0 {
            tag.held_ms = self.now_ms().max(1);
            self.counts.holds.inc();
        }
        self.held_bytes += bytes.len();
        let held = Held {
            tag,
            bytes: bytes.to_vec(),
            error: error_line(&Refusal::CLUSTER_DOWN),
        };
        if self.gates.arrive(slot, held) {
            self.probe(slot);
        }
    }

    /// Sends a request of one slot to its owner, whatever gate there is.
    pub(super) fn forward(&mut self, tag: Tag, bytes: &[u8], probe: bool) {
        let owner = Slot::new(tag.slot).and_then(|slot| self.node_of(slot));
        let Some(node) = owner else {
            let rest = self.now_ms() + self.pause(tag.bounces);
            self.actions.push(Action::Refresh);
            let error = error_line(&Refusal::CLUSTER_DOWN);
            self.bounce(NOBODY, tag, bytes.to_vec(), error, Cause::NotBefore(rest));
            return;
        };
        self.send_to(node, tag, bytes, probe);
    }

    /// Gives a request to the shared connection of a node.
    #[inline]
    pub(super) fn send_to(&mut self, node: u16, tag: Tag, bytes: &[u8], probe: bool) {
        match self.shared_link(node, tag.protocol) {
            Ok(link) => self.append(link, tag, bytes, 0, probe),
            Err(retry_ms) => {
                let error = self.unreachable(node);
                let cause = Cause::NotBefore(retry_ms);
                self.bounce(node, tag, bytes.to_vec(), error, cause);
            }
        }
    }

    #[inline]
    pub(super) fn append(
        &mut self,
        key: LinkKey,
        tag: Tag,
        bytes: &[u8],
        before: u32,
        probe: bool,
    ) {
        let now_us = self.now_us;
        if let Some(link) = self.links.get_mut(key) {
            let before = match tag.kind {
                Kind::Unit { commands } => commands + 1 + before,
                Kind::Plain
                | Kind::Spread
                | Kind::Share { .. }
                | Kind::Watch
                | Kind::Park
                | Kind::Identify
                | Kind::Aside
                | Kind::Unwatch
                | Kind::Scan { .. } => before,
            };
            link.push(tag, bytes, now_us, before, probe);
            self.nodes[link.node as usize].counts.sent.inc();
            if !link.woken {
                link.woken = true;
                self.to_write.push(key);
            }
        }
    }

    /// One whole reply has come in on a link. An error is the peer's fault, and ends the link.
    #[inline]
    pub(crate) fn reply(&mut self, key: LinkKey, reply: &[u8]) -> Result<(), &'static str> {
        let Some(link) = self.links.get_mut(key) else {
            return Ok(());
        };
        let kind = reply::kind(reply);
        if kind == ReplyKind::Push {
            return match link.subscriber {
                true => self.heard(key, reply),
                false => Ok(()),
            };
        }
        let Some(front) = link.front() else {
            return self.heard_refusal(key, reply);
        };
        if front.before > 0 {
            front.before -= 1;
            if kind == ReplyKind::Error && link.noted.is_none() {
                link.noted = Some(reply.to_vec());
            }
            return Ok(());
        }
        if kind == ReplyKind::Error || link.noted.is_some() {
            self.refused(key, reply);
            return Ok(());
        }
        let node = link.node;
        self.nodes[node as usize].counts.answered.inc();
        if let Some(flight) = link.pop() {
            self.settle(key, node, flight, reply);
        }
        Ok(())
    }

    /// The request was carried out, or refused for good: `reply` is its answer.
    #[inline]
    fn settle(&mut self, key: LinkKey, node: u16, flight: InFlight, reply: &[u8]) {
        let tag = flight.tag;
        if tag.kind != Kind::Park {
            let took = self.now_us - flight.sent_us;
            self.nodes[node as usize].counts.took(took);
        }
        if flight.probe {
            self.probe_accepted(tag.slot, node);
        }
        match tag.kind {
            Kind::Plain => self.deliver(&tag, reply),
            Kind::Spread => {
                self.end_spread(tag.client);
                self.deliver(&tag, reply);
            }
            Kind::Share { gather, share } => self.gathered(gather, share, reply),
            Kind::Unit { .. } => {
                self.release_own(key, tag.client);
                self.deliver(&tag, reply);
            }
            Kind::Watch => self.watched(key, &tag, reply),
            Kind::Park => self.parked_answered(key, &tag, reply),
            Kind::Identify => self.identified(key, reply),
            Kind::Aside => {}
            Kind::Unwatch => self.unwatched(key),
            Kind::Scan { end } => self.scanned(end, &tag, reply),
        }
    }

    #[inline]
    pub(super) fn deliver(&mut self, tag: &Tag, reply: &[u8]) {
        self.counts.request_took(self.now_us - tag.came_us);
        if let Some(client) = self.clients.get_mut(tag.client) {
            client.answer(tag.seq, reply);
            if !client.touched {
                client.touched = true;
                self.touched.push(tag.client);
            }
        }
    }

    pub(super) fn end_spread(&mut self, client: ClientKey) {
        if let Some(client) = self.clients.get_mut(client) {
            client.spread.end();
        }
    }

    fn probe_accepted(&mut self, slot: u16, node: u16) {
        let Some(slot) = Slot::new(slot) else {
            return;
        };
        let still_owner = self.node_of(slot) == Some(node);
        let queue = self.gates.accepted(slot, still_owner);
        self.mark_gate(slot);
        for held in queue {
            self.held_bytes -= held.bytes.len();
            self.dispatch(held.tag, &held.bytes);
        }
    }

    /// The oldest request of the link got an error, itself or one of what came before it.
    fn refused(&mut self, key: LinkKey, reply: &[u8]) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        let noted = link.noted.take();
        let bytes = link.front_bytes().to_vec();
        let (node, own) = (link.node, link.own);
        let Some(flight) = link.pop() else {
            return;
        };
        self.nodes[node as usize].counts.answered.inc();
        let mut tag = flight.tag;
        let judged = match (&noted, tag.kind) {
            // A transaction that one of its commands' redirects has aborted was not carried out.
            (Some(noted), Kind::Unit { .. }) if reply::error_code(reply) == Some(b"EXECABORT") => {
                noted.as_slice()
            }
            _ => reply,
        };
        let answered_by = self.nodes[node as usize].addr.clone();
        let verdict = if reply::kind(judged) == ReplyKind::Error {
            redirect::classify(judged)
        } else {
            Refused::Final
        };
        if own && !matches!(verdict, Refused::Final) {
            self.own_refused(key, tag, bytes, &verdict, judged);
            return;
        }
        match verdict {
            Refused::Moved { slot, addr } => {
                self.counts.moved.inc();
                self.actions.push(Action::Refresh);
                let addr = redirect::resolve(addr, &answered_by);
                let owner = self.node_at(&addr);
                let outdated = self.is_outdated(owner, tag.bounces);
                if !outdated {
                    self.set_node(slot, owner);
                }
                // Two nodes that point to one another get a pause to agree.
                let cause = if owner != node && tag.bounces <= 1 && !outdated {
                    Cause::Moved(slot)
                } else {
                    Cause::NotBefore(self.now_ms() + self.pause(tag.bounces))
                };
                self.bounce(node, tag, bytes, judged.to_vec(), cause);
            }
            Refused::Ask { addr } => {
                self.counts.asked.inc();
                let addr = redirect::resolve(addr, &answered_by);
                let target = self.node_at(&addr);
                // The owner took the request as its own: the gate need not wait for the other node.
                if flight.probe {
                    self.probe_accepted(tag.slot, node);
                }
                tag.bounces = tag.bounces.saturating_add(1);
                self.ask(target, tag, bytes);
            }
            Refused::Later => {
                self.counts.later.inc();
                let rest = self.now_ms() + self.pause(tag.bounces);
                if reply::error_code(judged) != Some(b"TRYAGAIN") {
                    self.actions.push(Action::Refresh);
                }
                self.bounce(node, tag, bytes, judged.to_vec(), Cause::NotBefore(rest));
            }
            Refused::Final => {
                if reply::kind(reply) == ReplyKind::Error {
                    self.counts.error(reply::error_code(reply).unwrap_or(b""));
                }
                self.settle(key, node, flight, reply);
            }
        }
    }

    /// Sends a request once to a node that is taking its slot in.
    fn ask(&mut self, target: u16, tag: Tag, bytes: Vec<u8>) {
        match self.shared_link(target, tag.protocol) {
            Ok(link) => {
                let mut asking = b"*1\r\n$6\r\nASKING\r\n".to_vec();
                asking.extend_from_slice(&bytes);
                self.append(link, tag, &asking, 1, false);
            }
            Err(retry_ms) => {
                let error = self.unreachable(target);
                self.bounce(target, tag, bytes, error, Cause::NotBefore(retry_ms));
            }
        }
    }

    /// A request came back without having been carried out.
    pub(super) fn bounce(
        &mut self,
        from: u16,
        mut tag: Tag,
        mut bytes: Vec<u8>,
        error: Vec<u8>,
        cause: Cause,
    ) {
        if let Some(rest) = bytes.strip_prefix(b"*1\r\n$6\r\nASKING\r\n") {
            bytes = rest.to_vec();
        }
        let now_ms = self.now_ms();
        if tag.held_ms == 0 {
            tag.held_ms = now_ms.max(1);
            self.counts.holds.inc();
        }
        tag.bounces = tag.bounces.saturating_add(1);
        if let Kind::Scan { .. } = tag.kind {
            bytes = self.narrow_scan(bytes, tag.slot);
            tag.kind = Kind::Scan { end: tag.slot };
        }
        let waited = now_ms.saturating_sub(tag.held_ms);
        if waited > HOLD_MS_MAX || self.held_bytes + bytes.len() > 2 * HELD_BYTES_MAX {
            self.fail_bounced(tag, &error);
            return;
        }
        let rest_until = match cause {
            Cause::Moved(_) => 0,
            Cause::NotBefore(ms) => ms,
        };
        match (tag.kind, Slot::new(tag.slot)) {
            (Kind::Watch, _) => {
                self.later.push((rest_until, Retry::Watch { tag, bytes }));
            }
            (Kind::Park | Kind::Identify | Kind::Aside | Kind::Unwatch, _) => {}
            (Kind::Spread | Kind::Share { .. }, None) => {
                let back = Back { from, cause, error };
                self.come_back(tag, &bytes, back);
            }
            (
                Kind::Plain | Kind::Share { .. } | Kind::Unit { .. } | Kind::Scan { .. },
                Some(slot),
            ) => {
                self.bounce_slot(from, slot, Held { tag, bytes, error }, rest_until);
            }
            (Kind::Spread, Some(_))
            | (Kind::Plain | Kind::Unit { .. } | Kind::Scan { .. }, None) => {
                debug_assert!(false, "{:?} with slot {}", tag.kind, tag.slot);
            }
        }
    }

    pub(super) fn bounce_slot(&mut self, from: u16, slot: Slot, held: Held, rest_until: u64) {
        let mut nodes = Vec::with_capacity(2);
        nodes.extend((from != NOBODY).then_some(from));
        nodes.extend(self.node_of(slot).filter(|&owner| owner != from));
        let barriers = self.barriers(&nodes);
        self.held_bytes += held.bytes.len();
        self.gates.bounced(slot, held, barriers, rest_until);
        self.mark_gate(slot);
    }

    /// Gives up on a request that came back as the probe of its gate, or otherwise.
    fn fail_bounced(&mut self, tag: Tag, error: &[u8]) {
        if let Some(slot) = Slot::new(tag.slot) {
            self.gates.probe_lost(slot, self.now_us / 1000);
        }
        self.fail(tag, error);
    }

    /// The request's client gets this error.
    pub(super) fn fail(&mut self, tag: Tag, error: &[u8]) {
        self.counts.error(reply::error_code(error).unwrap_or(b""));
        match tag.kind {
            Kind::Plain | Kind::Unit { .. } | Kind::Scan { .. } | Kind::Watch => {
                self.deliver(&tag, error)
            }
            Kind::Spread => {
                self.end_spread(tag.client);
                self.deliver(&tag, error);
            }
            Kind::Share { gather, share } => self.gathered(gather, share, error),
            Kind::Park => self.end_parked(&tag, error),
            Kind::Identify | Kind::Aside | Kind::Unwatch => {}
        }
    }

    /// A connection could not be made, or is lost. What was in flight goes out again or gets an error.
    pub(crate) fn link_lost(&mut self, key: LinkKey, cause: &str) {
        let Some(mut link) = self.links.remove(key) else {
            return;
        };
        let now_ms = self.now_ms();
        let node = link.node;
        let entry = &mut self.nodes[node as usize];
        entry.counts.failures.inc();
        entry.counts.answered.add(link.len() as u64);
        if link.up {
            entry.counts.connections.add(-1);
        }
        for shared in &mut entry.shared {
            if *shared == Some(key) {
                *shared = None;
            }
        }
        entry.pool.retain(|&pooled| pooled != key);
        entry.owned -= usize::from(link.own);
        let pause = RECONNECT_MS_MIN << entry.failures.min(8);
        entry.failures += 1;
        entry.retry_ms = now_ms + pause.min(RECONNECT_MS_MAX);
        entry.failure = cause.to_string();
        let retry_ms = entry.retry_ms;
        self.actions.push(Action::Refresh);
        if link.subscriber {
            return self.subscriber_lost(node);
        }
        if link.own {
            self.own_lost(key, link);
            return;
        }
        let error = self.unreachable(node);
        loop {
            let unsent = !link.up || link.front_is_unsent();
            let bytes = link.front_bytes().to_vec();
            let Some(flight) = link.pop() else {
                break;
            };
            let tag = flight.tag;
            let is_write =
                matches!(tag.kind, Kind::Unit { .. }) || command::spec(tag.command).is_write();
            if unsent || !is_write {
                self.bounce(node, tag, bytes, error.clone(), Cause::NotBefore(retry_ms));
                continue;
            }
            if flight.probe
                && let Some(slot) = Slot::new(tag.slot)
            {
                self.gates.probe_lost(slot, retry_ms);
            }
            let error = self.may_be_applied(node);
            self.fail(tag, &error);
        }
        self.pump();
    }

    /// The pause before try number `bounces`, in milliseconds.
    pub(super) fn pause(&self, bounces: u8) -> u64 {
        (RETRY_MS_MIN << bounces.min(16)).min(RETRY_MS_MAX)
    }

    pub(super) fn unreachable(&self, node: u16) -> Vec<u8> {
        let node = &self.nodes[node as usize];
        error_line(&Refusal::new(format!(
            "CLUSTERDOWN node {} cannot be reached: {}",
            node.addr, node.failure
        )))
    }

    pub(super) fn may_be_applied(&self, node: u16) -> Vec<u8> {
        let node = &self.nodes[node as usize];
        error_line(&Refusal::new(format!(
            "ERR the connection to node {} was lost after this write was sent: it may or may not have been applied ({})",
            node.addr, node.failure
        )))
    }

    /// A tag of a request that has just come in.
    #[inline]
    pub(super) fn tag(
        &self,
        client: ClientKey,
        seq: u64,
        slot: Option<Slot>,
        command: command::CommandId,
        protocol: larder_wire::resp::Protocol,
        kind: Kind,
    ) -> Tag {
        Tag {
            client,
            seq,
            came_us: self.now_us,
            held_ms: 0,
            slot: slot.map_or(NO_SLOT, Slot::number),
            command,
            protocol,
            bounces: 0,
            kind,
        }
    }
}

/// An error reply with all its bytes.
pub(super) fn error_line(refusal: &Refusal) -> Vec<u8> {
    format!("-{}\r\n", refusal.text()).into_bytes()
}
