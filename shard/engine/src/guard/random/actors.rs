//! One node of an invented world: the real one, its clock, what is on its way to its primary, and who has asked it something.

use larder_store::{Db, Value};
use larder_wire::control::Peer;
use larder_wire::resp::{OwnedRequest, RequestScanner, Scanned};
use larder_wire::trust::Trust;
use larder_wire::{NodeId, Offset};

use super::Planted;
use crate::clock::Clock;
use crate::node::{Node, NodeSettings};
use crate::replication::LinkId;
use crate::session::Session;
use crate::turn::Outcome;

pub(super) fn id(index: usize) -> NodeId {
    NodeId::from_bytes([index as u8 + 1; 20])
}

/// A connection of a replica to the primary that it knows.
pub(super) struct Link {
    pub(super) primary: usize,
    pub(super) number: u64,
    pub(super) at_primary: LinkId,
    pub(super) down: Vec<u8>,
    pub(super) up: Vec<u8>,
    /// Nothing more comes from the primary.
    pub(super) ended: bool,
}

/// A client's command at a node, from its first byte to its reply.
pub(super) struct Asked {
    pub(super) session: Session,
    pub(super) key: &'static str,
    /// `None`: a read. The value is chosen when it is carried out.
    pub(super) writes: Option<u64>,
    /// What was known of the key when it was sent.
    pub(super) floor: u64,
    pub(super) state: AskedState,
}

pub(super) enum AskedState {
    /// The batch has begun, with this reading of the clock.
    Begun(Clock),
    /// The reply, and what it waits for.
    Waits(String, Offset),
}

pub(super) struct Actor {
    pub(super) node: Node,
    control: Session,
    pub(super) alive: bool,
    /// The process stands still until then.
    pub(super) stopped_until: u64,
    /// The node's clock began so much earlier than the world's.
    ahead_ms: u64,
    /// Lives so far.
    pub(super) life: u8,
    pub(super) link: Option<Link>,
    /// JOINs under way: when sent by the node's clock, and whether they were answered with a lease.
    pub(super) joins: Vec<(u64, bool)>,
    pub(super) asked: Vec<Asked>,
}

impl Actor {
    pub(super) fn new(index: usize, life: u8, planted: Option<Planted>) -> Actor {
        let mut node = Node::new(NodeSettings {
            id: id(index),
            run_id: NodeId::from_bytes([10 * life + index as u8 + 1; 20]),
            standalone: false,
            addr: format!("127.0.0.1:{}", 7000 + index),
            port: 7000,
            secret: None,
            maxmemory: 0,
            hash_seed: 7,
            random_seed: u64::from(life) * 31 + index as u64,
        });
        node.guard.planted = planted;
        let clock = Clock::default();
        let mut control = node.open_session("t:1".into(), "s:1".into(), clock);
        let peer = Trust::Peer {
            peer: Peer::Topology,
            version: 1,
        };
        control.set_trust(peer, node.acl.operator());
        Actor {
            node,
            control,
            alive: true,
            stopped_until: 0,
            ahead_ms: 100 + 7 * index as u64,
            life,
            link: None,
            joins: Vec::new(),
            asked: Vec::new(),
        }
    }

    pub(super) fn clock(&self, now_ms: u64) -> Clock {
        Clock {
            unix_us: 1_700_000_000_000_000 + now_ms as i64 * 1000,
            mono_ms: now_ms + self.ahead_ms,
        }
    }

    pub(super) fn ask(&mut self, verb: &str, body: &str, clock: Clock) -> (Outcome, String) {
        let request = OwnedRequest::from_args(["LARDER", verb, body]);
        let mut out = Vec::new();
        let outcome = self
            .node
            .call(&mut self.control, request.view(), clock, &mut out);
        (outcome, String::from_utf8(out).unwrap())
    }

    /// What lies in its memory, whether it may be asked or not.
    pub(super) fn value(&self, key: &str) -> u64 {
        let space = self.node.databases.get(Db::ZERO);
        let captured = space.and_then(|space| space.capture(key.as_bytes()));
        match captured.map(|captured| captured.value) {
            None => 0,
            Some(Value::Int(value)) => value as u64,
            Some(Value::Bytes(_) | Value::Collection(_)) => panic!("{key} is no number"),
        }
    }
}

/// The bulk string of a reply; the empty one when it is none.
pub(super) fn text_of(reply: &str) -> &str {
    match reply.starts_with('$') {
        true => reply.split("\r\n").nth(1).unwrap_or_default(),
        false => "",
    }
}

/// A bulk string that is a number; nothing is 0.
pub(super) fn number_of(reply: &str) -> u64 {
    match text_of(reply) {
        "" => 0,
        text => text.parse().unwrap(),
    }
}

/// Up to so many whole frames from the front of `bytes`.
pub(super) fn take_frames(bytes: &mut Vec<u8>, frames: usize) -> Vec<OwnedRequest> {
    let mut scanner = RequestScanner::new();
    let mut taken = Vec::new();
    let mut at = 0;
    while taken.len() < frames
        && at < bytes.len()
        && let Ok(Scanned::Request { consumed }) = scanner.scan(&bytes[at..])
    {
        let request = scanner.request(&bytes[at..at + consumed]);
        taken.push(OwnedRequest::from(request));
        at += consumed;
    }
    bytes.drain(..at);
    taken
}
