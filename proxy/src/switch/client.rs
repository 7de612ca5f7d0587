//! One client as its thread knows it: the places of its unanswered requests in their order, and the
//! replies that wait to be written.
//!
//! A reply of the oldest unanswered request goes straight to the output; one that comes before its turn
//! is stashed in one buffer for all of them, and flows when its turn comes.

use std::collections::VecDeque;
use std::sync::Arc;

use larder_runtime::Trust;
use larder_runtime::protect::Admission;
use larder_wire::Slot;
use larder_wire::resp::{Protocol, ReplyWriter};

use super::LinkKey;
use super::park::Parked;
use super::pubsub::Subscriptions;
use super::transaction::{Multi, Watch};
use crate::limits::{
    BUFFER_KEEP_BYTES, CLIENT_OUT_BYTES_MAX, CLIENT_OUT_BYTES_PAUSE, PIPELINE_DEPTH_MAX,
    PIPELINE_DEPTH_SURE, SUBSCRIBER_OUT_BYTES_MAX,
};
use crate::registry::ClientInfo;

/// What CLIENT REPLY asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyMode {
    On,
    Off,
    /// The next request is not answered; from then on all are.
    SkipNext,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// In the stash.
    start: u32,
    len: u32,
    mute: bool,
}

const UNANSWERED: u32 = u32::MAX;

/// What the shortest reply and its place cost, in bytes.
const REPLY_BYTES_LEAST: usize = 32;

pub(crate) struct Client {
    pub(crate) info: Arc<ClientInfo>,
    pub(crate) protocol: Protocol,
    pub(crate) trust: Trust,
    pub(crate) admission: Admission,
    /// What it may do before it has authenticated.
    pub(crate) arrival: Admission,
    pub(crate) reply_mode: ReplyMode,
    pub(crate) multi: Option<Box<Multi>>,
    pub(crate) watch: Option<Watch>,
    /// What it listens to; `None`: nothing.
    pub(super) subscriptions: Option<Box<Subscriptions>>,
    /// The command in which it waits.
    pub(super) parked: Option<Box<Parked>>,
    /// The servers, by number of turns, that its cursors of SCAN are of.
    pub(crate) scan_turn: u32,
    /// No request is taken until all before it have been answered.
    pub(crate) until_answered: bool,
    /// Close once everything has been answered and written.
    pub(crate) closing: bool,
    /// Its session waits to be woken by the next change.
    pub(crate) waiting: bool,
    /// It is in the switch's list of clients whose output grew.
    pub(crate) touched: bool,
    pub(crate) spread: Spread,
    /// Replies to be written; `out_at` bytes of them are.
    pub(crate) out: Vec<u8>,
    pub(crate) out_at: usize,
    base: u64,
    places: VecDeque<Place>,
    stash: Vec<u8>,
    stashed: usize,
    /// About the largest of its latest replies, in bytes; 0 before the first.
    reply_bytes: usize,
}

impl Client {
    pub(crate) fn new(info: Arc<ClientInfo>, admission: Admission) -> Client {
        Client {
            info,
            protocol: Protocol::Resp2,
            trust: Trust::Stranger,
            admission,
            arrival: admission,
            reply_mode: ReplyMode::On,
            multi: None,
            watch: None,
            subscriptions: None,
            parked: None,
            scan_turn: 0,
            until_answered: false,
            closing: false,
            waiting: false,
            touched: false,
            spread: Spread::default(),
            out: Vec::new(),
            out_at: 0,
            base: 0,
            places: VecDeque::new(),
            stash: Vec::new(),
            stashed: 0,
            reply_bytes: 0,
        }
    }

    /// Takes a place for the reply of one more request.
    #[inline]
    pub(crate) fn open_place(&mut self) -> u64 {
        let mute = match self.reply_mode {
            ReplyMode::On => false,
            ReplyMode::Off => true,
            ReplyMode::SkipNext => {
                self.reply_mode = ReplyMode::On;
                true
            }
        };
        self.places.push_back(Place {
            start: 0,
            len: UNANSWERED,
            mute,
        });
        self.base + self.places.len() as u64 - 1
    }

    /// As [`Client::open_place`], of a reply that CLIENT REPLY does not silence.
    pub(crate) fn open_sure_place(&mut self) -> u64 {
        let mode = std::mem::replace(&mut self.reply_mode, ReplyMode::On);
        let seq = self.open_place();
        self.reply_mode = mode;
        seq
    }

    /// A node's push, in RESP3, as the client understands it.
    pub(crate) fn push(&mut self, push: &[u8]) {
        match (self.protocol, push.split_first()) {
            (Protocol::Resp2, Some((_, rest))) => {
                self.out.push(b'*');
                self.out.extend_from_slice(rest);
            }
            (Protocol::Resp2 | Protocol::Resp3, _) => self.out.extend_from_slice(push),
        }
    }

    /// Most bytes that may wait for it to read.
    pub(crate) fn out_bytes_max(&self) -> usize {
        match self.subscriptions {
            Some(_) => SUBSCRIBER_OUT_BYTES_MAX,
            None => CLIENT_OUT_BYTES_MAX,
        }
    }

    #[inline]
    pub(crate) fn answer(&mut self, seq: u64, reply: &[u8]) {
        self.answer_with(seq, |out| out.extend_from_slice(reply));
    }

    /// `write` appends the reply of request `seq`.
    #[inline]
    pub(crate) fn answer_with(&mut self, seq: u64, write: impl FnOnce(&mut Vec<u8>)) {
        let index = (seq - self.base) as usize;
        if index == 0 {
            let before = self.out.len();
            write(&mut self.out);
            self.keep_size(self.out.len() - before);
            if self.places[0].mute {
                self.out.truncate(before);
            }
            self.places.pop_front();
            self.base += 1;
            if self.stashed > 0 {
                self.flow();
            }
            return;
        }
        let start = self.stash.len();
        write(&mut self.stash);
        self.keep_size(self.stash.len() - start);
        let place = &mut self.places[index];
        debug_assert_eq!(place.len, UNANSWERED, "request {seq} is answered twice");
        if place.mute {
            self.stash.truncate(start);
        }
        place.start = start as u32;
        place.len = (self.stash.len() - start) as u32;
        self.stashed += 1;
    }

    /// Moves stashed replies whose turn has come to the output.
    fn flow(&mut self) {
        while let Some(place) = self.places.front() {
            if place.len == UNANSWERED {
                break;
            }
            let start = place.start as usize;
            self.out
                .extend_from_slice(&self.stash[start..start + place.len as usize]);
            self.places.pop_front();
            self.base += 1;
            self.stashed -= 1;
        }
        if self.stashed == 0 {
            self.stash.clear();
            if self.stash.capacity() > BUFFER_KEEP_BYTES {
                self.stash = Vec::new();
            }
        } else if let Some(first) = self.first_stashed()
            && first > BUFFER_KEEP_BYTES
            && first > self.stash.len() / 2
        {
            self.stash.drain(..first);
            for place in &mut self.places {
                place.start = place.start.saturating_sub(first as u32);
            }
        }
    }

    /// Where in the stash the first byte lies that is still wanted.
    fn first_stashed(&self) -> Option<usize> {
        let stashed = self.places.iter().filter(|place| place.len != UNANSWERED);
        stashed.map(|place| place.start as usize).min()
    }

    /// Answers a request in its turn with what `write` writes.
    pub(crate) fn reply(&mut self, write: impl FnOnce(&mut ReplyWriter<'_>)) {
        let seq = self.open_place();
        let protocol = self.protocol;
        self.answer_with(seq, |out| write(&mut ReplyWriter::new(out, protocol)));
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.places.is_empty()
    }

    #[inline]
    fn keep_size(&mut self, reply_bytes: usize) {
        self.reply_bytes = reply_bytes.max(self.reply_bytes - self.reply_bytes / 8);
    }

    /// Whether it has as many requests under way as it may have: so many that their replies, if they are like the
    /// latest ones, fit into the output. A client that asks for much and reads little is thus not read from,
    /// long before it would have to be cut off.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        let unanswered = self.places.len();
        unanswered >= PIPELINE_DEPTH_SURE
            && (self.reply_bytes == 0
                || unanswered >= PIPELINE_DEPTH_MAX
                || unanswered * self.reply_bytes.max(REPLY_BYTES_LEAST) > CLIENT_OUT_BYTES_PAUSE)
    }

    /// Replies that wait to be written or for their turn, in bytes.
    pub(crate) fn unread_bytes(&self) -> usize {
        self.out.len() - self.out_at + self.stash.len()
    }

    /// `n` more bytes of the output have been written.
    pub(crate) fn wrote(&mut self, n: usize) {
        self.out_at += n;
        if self.out_at == self.out.len() {
            self.out.clear();
            self.out_at = 0;
            if self.out.capacity() > BUFFER_KEEP_BYTES {
                self.out = Vec::new();
            }
        }
    }

    /// Whether the next request has to be looked at more closely than an ordinary one.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.multi.is_none()
            && !self.until_answered
            && !self.closing
            && self.subscriptions.is_none()
            && self.admission == Admission::Open
    }

    /// Connections that are of no use to anybody else.
    pub(crate) fn take_links(&mut self) -> impl Iterator<Item = LinkKey> + use<> {
        let watching = self.watch.take().map(|watch| watch.link);
        let parked = self.parked.take().map(|parked| parked.links());
        let parked = parked.unwrap_or_default();
        watching.into_iter().chain(parked)
    }

    /// Whether a command of it waits at a node for what may never come.
    pub(crate) fn is_parked(&self) -> bool {
        self.parked.is_some()
    }
}

/// Which slots the client's unanswered requests of several slots may touch. Such a request can come back and
/// be split anew, so a later command on one of its slots waits for it.
#[derive(Default)]
pub(crate) struct Spread {
    unanswered: u32,
    /// One bit for sixteen slots; made when first needed.
    bits: Option<Box<[u64; 16]>>,
}

impl Spread {
    #[inline]
    pub(crate) fn may_touch(&self, slot: Slot) -> bool {
        self.unanswered > 0
            && self.bits.as_ref().is_some_and(|bits| {
                let bit = slot.index() % 1024;
                bits[bit / 64] >> (bit % 64) & 1 == 1
            })
    }

    pub(crate) fn begin(&mut self) {
        self.unanswered += 1;
    }

    pub(crate) fn add(&mut self, slot: Slot) {
        let bits = self.bits.get_or_insert_with(|| Box::new([0; 16]));
        let bit = slot.index() % 1024;
        bits[bit / 64] |= 1 << (bit % 64);
    }

    pub(crate) fn end(&mut self) {
        self.unanswered -= 1;
        if self.unanswered == 0
            && let Some(bits) = &mut self.bits
        {
            bits.fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client::new(ClientInfo::for_tests(1), Admission::Open)
    }

    #[test]
    fn replies_that_come_in_any_order_leave_in_the_order_of_the_requests() {
        let mut client = client();
        let seqs: Vec<u64> = (0..5).map(|_| client.open_place()).collect();
        for index in [3, 1, 0, 4, 2] {
            client.answer(seqs[index], format!(":{index}\r\n").as_bytes());
        }
        assert_eq!(client.out, b":0\r\n:1\r\n:2\r\n:3\r\n:4\r\n");
        assert!(client.is_idle() && client.stash.is_empty());
    }

    #[test]
    fn a_local_reply_waits_for_the_requests_before_it() {
        let mut client = client();
        let seq = client.open_place();
        client.reply(|reply| reply.simple("PONG"));
        assert!(client.out.is_empty());
        client.answer(seq, b":1\r\n");
        assert_eq!(client.out, b":1\r\n+PONG\r\n");
    }

    #[test]
    fn a_skipped_reply_leaves_nothing_and_its_neighbours_stay() {
        let mut client = client();
        let first = client.open_place();
        client.reply_mode = ReplyMode::SkipNext;
        let skipped = client.open_place();
        let last = client.open_place();
        client.answer(last, b":3\r\n");
        client.answer(skipped, b":2\r\n");
        client.answer(first, b":1\r\n");
        assert_eq!(client.out, b":1\r\n:3\r\n");
    }
}
