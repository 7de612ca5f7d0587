//! Commands whose keys lie in several slots: split by node, and their replies gathered in the order
//! of the request's keys.
//!
//! 1. All keys on one node that takes several slots at once: the request goes as it came.
//! 2. Else each node gets one share; a slot that has a gate gets a share of its own, which waits there.
//! 3. A share that comes back is split anew by the table of that moment, so that a key that moved is asked for
//!    where it is: never a nil for a key that exists, never one counted twice.

use larder_wire::command::{CommandId, Merge};
use larder_wire::resp::reply::{self, ReplyKind};
use larder_wire::resp::write;
use larder_wire::resp::{Protocol, ReplyScanner, ReplyWriter, Request, RequestScanner, Scanned};
use larder_wire::{Refusal, Slot, slot_of};

use super::every::Every;
use super::forward::Cause;
use super::link::{Kind, Link, NO_SLOT, Tag};
use super::route::Flow;
use super::{Backend, ClientKey, GATED, GatherKey, Held, NOBODY, Switch};
use crate::limits::HELD_BYTES_MAX;

/// The making of one reply out of several.
pub(crate) struct Gather {
    pub(super) client: ClientKey,
    pub(super) seq: u64,
    pub(super) came_us: u64,
    pub(super) command: CommandId,
    pub(super) protocol: Protocol,
    pub(super) merge: Merge,
    /// Its command's keys lie in several slots.
    pub(super) spread: bool,
    /// Shares that are not answered.
    pub(super) left: u32,
    /// Of each share the numbers of its keys.
    pub(super) shares: Vec<Vec<u32>>,
    spare: Vec<Vec<u32>>,
    /// Bytes of elements, and where the element of each key lies in them.
    body: Vec<u8>,
    elements: Vec<(u32, u32)>,
    count: usize,
    sum: i64,
    names: Vec<(Vec<u8>, i64)>,
    least: Vec<i64>,
    pub(super) error: Option<Vec<u8>>,
    pub(super) every: Option<Every>,
}

/// Why a request of several slots came back, from which node, and what its client gets in the end.
pub(super) struct Back {
    pub(super) from: u16,
    pub(super) cause: Cause,
    pub(super) error: Vec<u8>,
}

/// Where a share goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Node(u16),
    /// Behind the slot's gate.
    Gate(Slot),
}

impl Gather {
    fn new(tag: &Tag, merge: Merge) -> Gather {
        Gather {
            client: tag.client,
            seq: tag.seq,
            came_us: tag.came_us,
            command: tag.command,
            protocol: tag.protocol,
            merge,
            spread: false,
            left: 0,
            shares: Vec::new(),
            spare: Vec::new(),
            body: Vec::new(),
            elements: Vec::new(),
            count: 0,
            sum: 0,
            names: Vec::new(),
            least: Vec::new(),
            error: None,
            every: None,
        }
    }

    /// As new, with the buffers that it has.
    fn reuse(&mut self, tag: &Tag, merge: Merge) {
        let mut fresh = Gather::new(tag, merge);
        std::mem::swap(&mut fresh.shares, &mut self.shares);
        std::mem::swap(&mut fresh.spare, &mut self.spare);
        std::mem::swap(&mut fresh.body, &mut self.body);
        std::mem::swap(&mut fresh.elements, &mut self.elements);
        *self = fresh;
        self.reset();
    }

    /// Forgets what was gathered.
    pub(super) fn reset(&mut self) {
        self.left = 0;
        self.spare.append(&mut self.shares);
        self.body.clear();
        self.elements.clear();
        self.count = 0;
        self.sum = 0;
        self.names.clear();
        self.least.clear();
        self.error = None;
    }

    pub(super) fn add_share(&mut self) -> u32 {
        let mut keys = self.spare.pop().unwrap_or_default();
        keys.clear();
        self.shares.push(keys);
        self.left += 1;
        self.shares.len() as u32 - 1
    }

    /// Takes the answer of one share in.
    pub(super) fn take(&mut self, share: u32, reply: &[u8]) {
        self.left -= 1;
        if reply::kind(reply) == ReplyKind::Error {
            self.error.get_or_insert_with(|| reply.to_vec());
            return;
        }
        let good = match self.merge {
            Merge::AllOk => {
                self.body.clear();
                self.body.extend_from_slice(reply);
                true
            }
            Merge::Sum => match reply::integer(reply) {
                Some(value) => {
                    self.sum += value;
                    true
                }
                None => false,
            },
            Merge::Concat => match reply::array_header(reply) {
                Some((count, start)) => {
                    self.count += count;
                    self.body.extend_from_slice(&reply[start..]);
                    true
                }
                None => false,
            },
            Merge::Ordered => self.take_elements(share, reply),
            Merge::Union | Merge::Counts => self.take_names(reply),
            Merge::Least => self.take_least(reply),
        };
        if !good {
            self.error.get_or_insert_with(|| {
                b"-ERR a node gave a part of this command's answer that does not fit\r\n".to_vec()
            });
        }
    }

    /// Names, or pairs of a name and a count.
    fn take_names(&mut self, reply: &[u8]) -> bool {
        let Some((count, start)) = reply::array_header(reply) else {
            return false;
        };
        let step = if self.merge == Merge::Counts { 2 } else { 1 };
        let Some(elements) = elements(&reply[start..]) else {
            return false;
        };
        if elements.len() != count || count % step != 0 {
            return false;
        }
        for element in elements.chunks(step) {
            let counted = match element.get(1).map(|count| reply::integer(count)) {
                None => 0,
                Some(Some(counted)) => counted,
                Some(None) => return false,
            };
            let known = self.names.iter_mut().find(|(name, _)| name == element[0]);
            match known {
                Some((_, sum)) => *sum += counted,
                None => self.names.push((element[0].to_vec(), counted)),
            }
        }
        true
    }

    /// An integer, or an array of them.
    fn take_least(&mut self, reply: &[u8]) -> bool {
        let numbers: Option<Vec<i64>> = match reply::array_header(reply) {
            None => reply::integer(reply).map(|number| vec![number]),
            Some((_, start)) => elements(&reply[start..])
                .and_then(|all| all.into_iter().map(reply::integer).collect()),
        };
        let Some(numbers) = numbers else {
            return false;
        };
        if self.least.is_empty() {
            self.least = numbers;
            return true;
        }
        let fits = numbers.len() == self.least.len();
        for (least, number) in self.least.iter_mut().zip(numbers) {
            *least = number.min(*least);
        }
        fits
    }

    /// One element a key, in the order of the share's keys.
    fn take_elements(&mut self, share: u32, reply: &[u8]) -> bool {
        let Some((count, mut at)) = reply::array_header(reply) else {
            return false;
        };
        let keys = &self.shares[share as usize];
        if count != keys.len() {
            return false;
        }
        let offset = self.body.len();
        self.body.extend_from_slice(reply);
        let mut scanner = ReplyScanner::new();
        for &key in keys {
            let Ok(Some(len)) = scanner.scan(&reply[at..]) else {
                return false;
            };
            self.elements[key as usize] = ((offset + at) as u32, (offset + at + len) as u32);
            at += len;
        }
        true
    }

    /// The reply of the node that answered last, where one of them is the answer.
    pub(super) fn last_reply(&self) -> &[u8] {
        &self.body
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        if let Some(error) = &self.error {
            out.extend_from_slice(error);
            return;
        }
        match self.merge {
            Merge::AllOk => out.extend_from_slice(&self.body),
            Merge::Sum => ReplyWriter::new(out, self.protocol).int(self.sum),
            Merge::Concat => {
                write::array_header(out, self.count);
                out.extend_from_slice(&self.body);
            }
            Merge::Union | Merge::Counts => {
                let mut reply = ReplyWriter::new(out, self.protocol);
                let counts = self.merge == Merge::Counts;
                reply.array(self.names.len() * (1 + usize::from(counts)));
                for (name, count) in &self.names {
                    reply.buffer().extend_from_slice(name);
                    if counts {
                        reply.int(*count);
                    }
                }
            }
            Merge::Least => {
                let mut reply = ReplyWriter::new(out, self.protocol);
                if self.command == CommandId::Waitaof {
                    reply.array(self.least.len());
                }
                for number in &self.least {
                    reply.int(*number);
                }
            }
            Merge::Ordered => {
                write::array_header(out, self.elements.len());
                for &(start, end) in &self.elements {
                    out.extend_from_slice(&self.body[start as usize..end as usize]);
                }
            }
        }
    }
}

/// The replies that lie one behind the other in `bytes`.
fn elements(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut scanner = ReplyScanner::new();
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let len = scanner.scan(bytes).ok()??;
        let (element, rest) = bytes.split_at(len);
        all.push(element);
        bytes = rest;
    }
    Some(all)
}

impl Switch {
    /// A command that may be split by its keys.
    pub(super) fn split(
        &mut self,
        key: ClientKey,
        id: CommandId,
        merge: Merge,
        request: &Request<'_>,
    ) -> Flow {
        let step = step_of(id);
        if !(request.len() - 1).is_multiple_of(step) {
            return self.refuse(
                key,
                &Refusal::wrong_arity(larder_wire::command::spec(id).name),
            );
        }
        self.slots.clear();
        let keys = request.args_from(1).step_by(step);
        self.slots.extend(keys.map(|key| slot_of(key).number()));
        let first = self.slots[0];
        if self.slots.iter().all(|&slot| slot == first) {
            let slot = Slot::new(first).unwrap_or(Slot::FIRST);
            return self.send_to_slot(key, id, slot, Kind::Plain, request.bytes());
        }
        if let Flow::Wait = self.make_room(key) {
            return Flow::Wait;
        }
        let whole = self.one_node();
        let slots = std::mem::take(&mut self.slots);
        let Some(client) = self.clients.get_mut(key) else {
            return Flow::Taken;
        };
        client.spread.begin();
        for &slot in &slots {
            client.spread.add(Slot::new(slot).unwrap_or(Slot::FIRST));
        }
        let seq = client.open_place();
        let protocol = client.protocol;
        let tag = self.tag(key, seq, None, id, protocol, Kind::Spread);
        match whole {
            Some(node) => self.send_to(node, tag, request.bytes(), false),
            None => {
                let (gather, share) = self.new_gather(&tag, merge, slots.len());
                let tag = Tag {
                    kind: Kind::Share { gather, share },
                    ..tag
                };
                self.split_share(tag, request, &slots, None);
            }
        }
        self.slots = slots;
        Flow::Taken
    }

    /// The one node that takes all of `self.slots` in one request.
    fn one_node(&self) -> Option<u16> {
        let first = self.table[self.slots[0] as usize];
        let all = first < NOBODY
            && self.backend != Backend::Cluster
            && self
                .slots
                .iter()
                .all(|&slot| self.table[slot as usize] == first);
        all.then_some(first)
    }

    /// Whether the client, the gates and every node have room for a request on `self.slots`.
    fn make_room(&mut self, key: ClientKey) -> Flow {
        let Some(client) = self.clients.get_mut(key) else {
            return Flow::Taken;
        };
        let mut slots = self.slots.iter().filter_map(|&slot| Slot::new(slot));
        if slots.any(|slot| client.spread.may_touch(slot)) {
            client.waiting = true;
            return Flow::Wait;
        }
        let protocol = client.protocol;
        let has_room = self.slots.iter().all(|&slot| {
            let cell = self.table[slot as usize];
            if cell >= NOBODY {
                return self.held_bytes <= HELD_BYTES_MAX;
            }
            let link = self.nodes[cell as usize].shared[protocol as usize];
            link.and_then(|link| self.links.get(link))
                .is_none_or(Link::has_room)
        });
        if has_room {
            Flow::Taken
        } else {
            self.stall(key)
        }
    }

    /// A gather with one share of all keys.
    fn new_gather(&mut self, tag: &Tag, merge: Merge, keys: usize) -> (GatherKey, u32) {
        let mut gather = self.make_gather(tag, merge);
        gather.spread = true;
        gather.elements.resize(keys, (0, 0));
        let share = gather.add_share();
        gather.shares[share as usize].extend(0..keys as u32);
        (self.gathers.insert(gather), share)
    }

    pub(super) fn make_gather(&mut self, tag: &Tag, merge: Merge) -> Gather {
        match self.spare_gathers.pop() {
            Some(mut gather) => {
                gather.reuse(tag, merge);
                gather
            }
            None => Gather::new(tag, merge),
        }
    }

    /// A request of several slots came back.
    pub(super) fn come_back(&mut self, mut tag: Tag, bytes: &[u8], back: Back) {
        if tag.command == CommandId::Publish {
            return self.publish_came_back(&tag, &back.error);
        }
        let mut scanner = RequestScanner::new();
        let request = match scanner.scan(bytes) {
            Ok(Scanned::Request { .. }) => scanner.request(bytes),
            Ok(Scanned::Incomplete { .. }) | Err(_) => {
                debug_assert!(false, "a forwarded request reads as it did before");
                return self.fail(tag, &back.error);
            }
        };
        if let Kind::Share { gather, .. } = tag.kind
            && self
                .gathers
                .get(gather)
                .is_some_and(|gather| gather.every.is_some())
        {
            return self.every_came_back(gather, back.error);
        }
        let step = step_of(tag.command);
        let keys = request.args_from(1).step_by(step);
        let slots: Vec<u16> = keys.map(|key| slot_of(key).number()).collect();
        if tag.kind == Kind::Spread {
            let merge = merge_of(tag.command);
            let (gather, share) = self.new_gather(&tag, merge, slots.len());
            tag.kind = Kind::Share { gather, share };
        }
        self.split_share(tag, &request, &slots, Some(&back));
    }

    /// Splits a share by the table of this moment. `back`: why it came back, if it did.
    fn split_share(&mut self, tag: Tag, request: &Request<'_>, slots: &[u16], back: Option<&Back>) {
        let Kind::Share { gather: key, share } = tag.kind else {
            return;
        };
        let Some(gather) = self.gathers.get_mut(key) else {
            return;
        };
        // Its keys go over to shares of their own; it counts as answered when these exist.
        let numbers = std::mem::take(&mut gather.shares[share as usize]);
        let mut places: Vec<(Place, u32)> = Vec::new();
        let mut share_of = Vec::with_capacity(slots.len());
        for (&slot, &number) in slots.iter().zip(&numbers) {
            let cell = self.table[slot as usize];
            let refused = match back.map(|back| back.cause) {
                None => false,
                Some(Cause::Moved(moved)) => moved.number() == slot,
                Some(Cause::NotBefore(_)) => true,
            };
            let place = match Slot::new(slot) {
                Some(slot) if refused || cell & GATED != 0 || cell == NOBODY => Place::Gate(slot),
                Some(slot) if self.backend == Backend::Cluster => {
                    // One request a slot; grouped under the slot, sent to its node.
                    Place::Gate(slot)
                }
                Some(_) | None => Place::Node(cell),
            };
            let gather = self.gathers.get_mut(key).expect("looked up just above");
            let share = match places.iter().find(|(known, _)| *known == place) {
                Some((_, share)) => *share,
                None => {
                    let share = gather.add_share();
                    places.push((place, share));
                    share
                }
            };
            gather.shares[share as usize].push(number);
            share_of.push(share);
        }
        if let Some(gather) = self.gathers.get_mut(key) {
            gather.left -= 1;
            gather.spare.push(numbers);
        }
        let step = step_of(tag.command);
        let mut build = std::mem::take(&mut self.build);
        for (place, share) in places {
            build.clear();
            let count = share_of.iter().filter(|&&of| of == share).count();
            write::array_header(&mut build, 1 + count * step);
            push_bulk(&mut build, request.name());
            for (index, _) in share_of.iter().enumerate().filter(|(_, of)| **of == share) {
                for arg in 0..step {
                    push_bulk(&mut build, request.arg(1 + index * step + arg));
                }
            }
            let mut tag = Tag {
                kind: Kind::Share { gather: key, share },
                slot: NO_SLOT,
                ..tag
            };
            match place {
                Place::Node(node) => self.send_to(node, tag, &build, false),
                Place::Gate(slot) => {
                    tag.slot = slot.number();
                    self.share_of_one_slot(tag, slot, &build, back);
                }
            }
        }
        build.clear();
        self.build = build;
    }

    fn share_of_one_slot(&mut self, tag: Tag, slot: Slot, bytes: &[u8], back: Option<&Back>) {
        let Some(back) = back else {
            return self.dispatch(tag, bytes);
        };
        let rest_until = match back.cause {
            Cause::Moved(moved) if moved == slot => 0,
            Cause::NotBefore(ms) => ms,
            Cause::Moved(_) => return self.dispatch(tag, bytes),
        };
        let held = Held {
            tag,
            bytes: bytes.to_vec(),
            error: back.error.clone(),
        };
        self.bounce_slot(back.from, slot, held, rest_until);
    }

    /// A share's answer, or its last refusal.
    pub(super) fn gathered(&mut self, key: GatherKey, share: u32, reply: &[u8]) {
        let Some(gather) = self.gathers.get_mut(key) else {
            return;
        };
        gather.take(share, reply);
        if gather.left > 0 {
            return;
        }
        if gather.every.is_some() {
            return self.every_answered(key);
        }
        self.finish(key);
    }

    /// All is there: the client gets its reply.
    pub(super) fn finish(&mut self, key: GatherKey) {
        let Some(gather) = self.gathers.remove(key) else {
            return;
        };
        self.counts.request_took(self.now_us - gather.came_us);
        if let Some(client) = self.clients.get_mut(gather.client) {
            if gather.spread {
                client.spread.end();
            }
            client.answer_with(gather.seq, |out| gather.write(out));
        }
        self.touch(gather.client);
        const SPARE_GATHERS_MAX: usize = 1024;
        if self.spare_gathers.len() < SPARE_GATHERS_MAX
            && gather.body.capacity() <= crate::limits::BUFFER_KEEP_BYTES
        {
            self.spare_gathers.push(gather);
        }
    }
}

fn push_bulk(out: &mut Vec<u8>, arg: &[u8]) {
    write::bulk_header(out, arg.len());
    out.extend_from_slice(arg);
    out.extend_from_slice(b"\r\n");
}

/// Arguments from one key to the next.
fn step_of(id: CommandId) -> usize {
    larder_wire::command::spec(id).plain_keys.step.max(1) as usize
}

fn merge_of(id: CommandId) -> Merge {
    match larder_wire::command::spec(id).route {
        larder_wire::command::Route::Split(merge) => merge,
        other => unreachable!("{id:?} goes {other:?}, it is not split"),
    }
}
