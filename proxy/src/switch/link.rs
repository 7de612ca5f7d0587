//! One connection to a node as its thread knows it: requests that are to be written or answered, in
//! their order, with their bytes kept until the answer is there, so that a refused one can go elsewhere.

use std::collections::VecDeque;

use larder_wire::command::CommandId;
use larder_wire::resp::Protocol;

use super::{ClientKey, GatherKey};
use crate::limits::{BUFFER_KEEP_BYTES, LINK_BYTES_MAX, LINK_REQUESTS_MAX};

/// `slot` of a [`Tag`] whose request touches several slots, or none.
pub(crate) const NO_SLOT: u16 = u16::MAX;

/// What a request is to the switch, wherever its bytes are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag {
    pub(crate) client: ClientKey,
    /// The client's request that it answers, or belongs to.
    pub(crate) seq: u64,
    /// When the client's bytes arrived, in microseconds.
    pub(crate) came_us: u64,
    /// When it was first held, in milliseconds; 0: never.
    pub(crate) held_ms: u64,
    pub(crate) slot: u16,
    pub(crate) command: CommandId,
    pub(crate) protocol: Protocol,
    /// How often it came back.
    pub(crate) bounces: u8,
    pub(crate) kind: Kind,
}

/// What becomes of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is the client's.
    Plain,
    /// It is the client's; the keys lie in several slots.
    Spread,
    /// It is one part of the answer that a gather makes.
    Share { gather: GatherKey, share: u32 },
    /// It is the last of a MULTI … EXEC.
    Unit { commands: u32 },
    /// A WATCH on a connection of the client's own.
    Watch,
    /// A command that may block, on a connection of the client's own.
    Park,
    /// Asks a connection of a client's own for its number at the node.
    Identify,
    /// Nobody wants to know the answer.
    Aside,
    /// The connection goes back to the pool.
    Unwatch,
    /// The cursor has to be looked at; the node was asked for the slots up to `end`.
    Scan { end: u16 },
}

/// One request in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight {
    pub(crate) tag: Tag,
    pub(crate) sent_us: u64,
    pub(crate) len: u32,
    /// Replies that come before the one that counts.
    pub(crate) before: u32,
    /// The gate of its slot waits for this one.
    pub(crate) probe: bool,
}

pub(crate) struct Link {
    pub(crate) node: u16,
    pub(crate) protocol: Protocol,
    /// Of one client alone, or in the pool.
    pub(crate) own: bool,
    pub(crate) up: bool,
    /// It carries subscriptions, and is never answered but by pushes and refusals.
    pub(crate) subscriber: bool,
    /// Its task has been told that there is something to write.
    pub(crate) woken: bool,
    /// The first error among the replies before the one that counts.
    pub(crate) noted: Option<Vec<u8>>,
    /// Its number at the node, once that is known: CLIENT UNBLOCK needs it.
    pub(crate) number: Option<i64>,
    /// Requests ever given to it, and answered.
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    in_flight: VecDeque<InFlight>,
    log: Vec<u8>,
    /// Where in the log the oldest unanswered request starts, and the first unwritten byte.
    head: usize,
    written: usize,
}

impl Link {
    pub(crate) fn new(node: u16, protocol: Protocol, own: bool) -> Link {
        Link {
            node,
            protocol,
            own,
            up: false,
            subscriber: false,
            woken: false,
            noted: None,
            number: None,
            sent: 0,
            answered: 0,
            in_flight: VecDeque::new(),
            log: Vec::new(),
            head: 0,
            written: 0,
        }
    }

    /// One that carries the subscriptions of all clients.
    pub(crate) fn subscriber(node: u16) -> Link {
        Link {
            subscriber: true,
            ..Link::new(node, Protocol::Resp3, false)
        }
    }

    /// Whether it may be given one more request.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.log.len() - self.head < LINK_BYTES_MAX && self.in_flight.len() < LINK_REQUESTS_MAX
    }

    #[inline]
    pub(crate) fn push(&mut self, tag: Tag, bytes: &[u8], sent_us: u64, before: u32, probe: bool) {
        self.log.extend_from_slice(bytes);
        self.in_flight.push_back(InFlight {
            tag,
            sent_us,
            len: bytes.len() as u32,
            before,
            probe,
        });
        self.sent += 1;
    }

    /// A request of a subscriber: nobody waits for its answer.
    pub(crate) fn push_unanswered(&mut self, bytes: &[u8]) {
        self.log.extend_from_slice(bytes);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Whether all that is owed on it is the answer of a command that blocks.
    pub(crate) fn is_parked(&self) -> bool {
        self.in_flight
            .front()
            .is_some_and(|front| front.tag.kind == Kind::Park)
    }

    pub(crate) fn len(&self) -> usize {
        self.in_flight.len()
    }

    #[inline]
    pub(crate) fn front(&mut self) -> Option<&mut InFlight> {
        self.in_flight.front_mut()
    }

    /// The bytes of the oldest unanswered request.
    pub(crate) fn front_bytes(&self) -> &[u8] {
        let len = self.in_flight.front().map_or(0, |front| front.len as usize);
        &self.log[self.head..self.head + len]
    }

    /// The oldest request has been answered.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<InFlight> {
        let front = self.in_flight.pop_front()?;
        self.head += front.len as usize;
        self.answered += 1;
        if self.head == self.log.len() {
            self.log.clear();
            self.head = 0;
            self.written = 0;
            if self.log.capacity() > 4 * BUFFER_KEEP_BYTES {
                self.log = Vec::new();
            }
        } else if self.head > BUFFER_KEEP_BYTES && self.head > self.log.len() / 2 {
            self.log.drain(..self.head);
            self.written -= self.head;
            self.head = 0;
        }
        Some(front)
    }

    /// Bytes that are to be written.
    #[inline]
    pub(crate) fn unwritten(&self) -> &[u8] {
        if self.up {
            &self.log[self.written..]
        } else {
            &[]
        }
    }

    /// Bytes that wait to be written, whether it is up or not.
    #[cfg(test)]
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.log.len() - self.written
    }

    pub(crate) fn wrote(&mut self, n: usize) {
        self.written += n;
        if self.subscriber && self.written == self.log.len() {
            self.log.clear();
            self.written = 0;
        }
    }

    /// Whether all of the oldest request is still unwritten: the node cannot have seen it whole.
    pub(crate) fn front_is_unsent(&self) -> bool {
        let len = self.in_flight.front().map_or(0, |front| front.len as usize);
        self.written < self.head + len
    }
}
