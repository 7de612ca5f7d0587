//! The switch: all that one proxy thread decides. Requests of its clients come in as ranges of bytes and go
//! out as bytes for its connections to nodes; replies come in and go out as bytes for clients.
//!
//! ```text
//! request() ─▶ route ─▶ forward ─▶ Link (bytes to write) ─▶ the shell writes
//!                │         ▲   └ refused: Gates (hold, re-route, retry)
//!                ├▶ split ─┘
//!                └▶ answers by itself
//! reply() ─▶ in order of the link ─▶ Client (bytes to write) ─▶ the shell writes
//! ```
//!
//! Opens no socket and reads no clock: the shell tells the time, and does what `actions` ask for.

mod client;
mod demoted;
mod every;
mod forward;
mod gate;
mod link;
mod own;
mod park;
mod patience;
mod pubsub;
mod redirect;
mod route;
mod scan;
#[cfg(test)]
mod simulation;
mod split;
mod transaction;
mod turn;

use std::collections::BTreeMap;
use std::sync::Arc;

use larder_runtime::protect::Admission;
use larder_wire::resp::{OwnedRequest, Protocol};
use larder_wire::{ClusterMap, Epoch, SLOT_COUNT, Slot};

pub(crate) use client::{Client, ReplyMode};
use demoted::Demoted;
use gate::{Barrier, Gates};
pub(crate) use link::Kind;
use link::{Link, Tag};
use pubsub::PubSub;
pub(crate) use pubsub::Topic;
pub(crate) use route::{Flow, unknown_command};
use split::Gather;

use crate::limits::{HOLD_MS_MAX, LINK_BYTES_MAX};
use crate::metrics::{NodeCounts, ThreadCounts};
use crate::registry::ClientInfo;
use crate::shared::Shared;
use crate::slab::{Key, Slab};

pub(crate) type ClientKey = Key<Client>;
pub(crate) type LinkKey = Key<Link>;
pub(crate) type GatherKey = Key<Gather>;

/// What kind of servers stand behind the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// Larder's nodes: a proxy may send them commands whose keys lie in several slots, and their
    /// SCAN goes slot by slot.
    Larder,
    /// Servers in cluster mode: one slot a command.
    Cluster,
    /// Servers that each own whatever they are sent.
    Plain,
}

/// What the shell is to do.
#[derive(Debug)]
pub(crate) enum Action {
    Open {
        link: LinkKey,
        addr: String,
        /// One of Larder's own.
        is_larder: bool,
        protocol: Protocol,
    },
    Close(LinkKey),
    /// The map is out of date.
    Refresh,
    /// An importer's order, to be answered with [`Switch::complete`].
    Forward {
        client: ClientKey,
        seq: u64,
        request: OwnedRequest,
    },
    /// To be answered by the topology, with [`Switch::complete`].
    AskTopology {
        client: ClientKey,
        seq: u64,
        request: OwnedRequest,
    },
}

/// A request that waits behind a gate.
pub(crate) struct Held {
    tag: Tag,
    bytes: Vec<u8>,
    /// What its client gets when it has waited too long.
    error: Vec<u8>,
}

struct Node {
    addr: String,
    is_larder: bool,
    /// The connection that all clients share, one a protocol version.
    shared: [Option<LinkKey>; 2],
    /// Idle connections of their own, and how many there are with those in use.
    pool: Vec<LinkKey>,
    owned: usize,
    /// No new connection before this, in milliseconds.
    retry_ms: u64,
    /// Connections that failed in a row.
    failures: u32,
    /// Why the last one failed.
    failure: String,
    counts: Arc<NodeCounts>,
}

/// No node owns the slot.
const NOBODY: u16 = 0x7fff;
/// The slot has a gate.
const GATED: u16 = 0x8000;

/// What a later turn has to try again: requests that no slot's gate can hold.
enum Retry {
    Every(GatherKey),
    Watch {
        tag: Tag,
        bytes: Vec<u8>,
    },
    /// A command that blocks, of this client, under this number.
    Park {
        client: ClientKey,
        seq: u64,
    },
}

pub(crate) struct Switch {
    pub(crate) shared: Arc<Shared>,
    pub(crate) counts: Arc<ThreadCounts>,
    backend: Backend,
    now_us: u64,
    clients: Slab<Client>,
    links: Slab<Link>,
    gathers: Slab<Gather>,
    spare_gathers: Vec<Gather>,
    nodes: Vec<Node>,
    by_addr: BTreeMap<String, u16>,
    /// Slot to node, with the `GATED` bit.
    table: Box<[u16]>,
    primaries: Vec<u16>,
    demoted: Demoted,
    pubsub: PubSub,
    epoch: Epoch,
    gates: Gates<LinkKey, Held>,
    held_bytes: usize,
    later: Vec<(u64, Retry)>,
    next_expiry_ms: u64,
    /// Clients that wait for room.
    stalled: Vec<ClientKey>,
    /// A cutover is under way: clients wait.
    holding: bool,
    /// How often other servers have come to stand behind the proxy.
    turns: u32,
    chance: u64,
    /// Request bytes under construction; slots and groups of the request at hand.
    build: Vec<u8>,
    slots: Vec<u16>,
    /// Clients whose output grew, links that have something to write, sessions to wake: for the shell.
    pub(crate) touched: Vec<ClientKey>,
    pub(crate) to_write: Vec<LinkKey>,
    pub(crate) to_wake: Vec<ClientKey>,
    pub(crate) actions: Vec<Action>,
}

impl Switch {
    pub(crate) fn new(
        shared: Arc<Shared>,
        counts: Arc<ThreadCounts>,
        backend: Backend,
        seed: u64,
    ) -> Switch {
        Switch {
            shared,
            counts,
            backend,
            now_us: 0,
            clients: Slab::new(),
            links: Slab::new(),
            gathers: Slab::new(),
            spare_gathers: Vec::new(),
            nodes: Vec::new(),
            by_addr: BTreeMap::new(),
            table: vec![NOBODY; SLOT_COUNT as usize].into_boxed_slice(),
            primaries: Vec::new(),
            demoted: Demoted::default(),
            pubsub: PubSub::default(),
            epoch: Epoch(0),
            gates: Gates::new(),
            held_bytes: 0,
            later: Vec::new(),
            next_expiry_ms: 0,
            stalled: Vec::new(),
            holding: false,
            turns: 0,
            chance: seed | 1,
            build: Vec::new(),
            slots: Vec::new(),
            touched: Vec::new(),
            to_write: Vec::new(),
            to_wake: Vec::new(),
            actions: Vec::new(),
        }
    }

    /// The time of all that follows, in microseconds since the proxy started.
    pub(crate) fn set_now(&mut self, now_us: u64) {
        self.now_us = now_us;
    }

    fn now_ms(&self) -> u64 {
        self.now_us / 1000
    }

    pub(crate) fn add_client(&mut self, info: Arc<ClientInfo>, admission: Admission) -> ClientKey {
        self.counts.clients.add(1);
        self.counts.connections.inc();
        let mut client = Client::new(info, admission);
        client.scan_turn = self.turns;
        self.clients.insert(client)
    }

    /// The client is gone. What it sent still reaches its node; replies are dropped.
    pub(crate) fn remove_client(&mut self, key: ClientKey) {
        if let Some(mut client) = self.clients.remove(key) {
            self.counts.clients.add(-1);
            for link in client.take_links() {
                self.close_link(link);
            }
            if let Some(all) = client.subscriptions.take() {
                self.drop_subscriptions(client.info.id, *all);
            }
        }
    }

    #[inline]
    pub(crate) fn client(&mut self, key: ClientKey) -> Option<&mut Client> {
        self.clients.get_mut(key)
    }

    #[inline]
    fn node_of(&self, slot: Slot) -> Option<u16> {
        match self.table[slot.index()] & !GATED {
            NOBODY => None,
            node => Some(node),
        }
    }

    fn set_node(&mut self, slot: Slot, node: u16) {
        let cell = &mut self.table[slot.index()];
        *cell = *cell & GATED | node;
        if node != NOBODY && !self.primaries.contains(&node) {
            self.primaries.push(node);
        }
    }

    fn mark_gate(&mut self, slot: Slot) {
        let closed = self.gates.is_closed(slot);
        let cell = &mut self.table[slot.index()];
        *cell = if closed {
            *cell | GATED
        } else {
            *cell & !GATED
        };
    }

    fn node_at(&mut self, addr: &str) -> u16 {
        if let Some(&node) = self.by_addr.get(addr) {
            self.nodes[node as usize].is_larder = self.backend == Backend::Larder;
            return node;
        }
        let node = self.nodes.len() as u16;
        self.nodes.push(Node {
            addr: addr.to_string(),
            is_larder: self.backend == Backend::Larder,
            counts: self.counts.add_node(addr),
            shared: [None, None],
            pool: Vec::new(),
            owned: 0,
            retry_ms: 0,
            failures: 0,
            failure: String::new(),
        });
        self.by_addr.insert(addr.to_string(), node);
        node
    }

    /// A map from the topology, or from whoever tells the owners. An older one than is known changes nothing.
    pub(crate) fn take_map(&mut self, map: &ClusterMap) {
        if map.epoch < self.epoch {
            return;
        }
        self.epoch = map.epoch;
        let mut fresh = vec![NOBODY; SLOT_COUNT as usize];
        let mut primaries = Vec::new();
        for shard in map.shards() {
            let Some(primary) = shard.primary() else {
                continue;
            };
            let node = self.node_at(&primary.addr);
            for slot in shard.slots.iter() {
                fresh[slot.index()] = node;
            }
            if !shard.slots.is_empty() {
                primaries.push(node);
            }
        }
        self.primaries = primaries;
        for slot in Slot::all() {
            let new = fresh[slot.index()];
            let old = self.table[slot.index()] & !GATED;
            if new == old {
                continue;
            }
            self.set_node(slot, new);
            if old != NOBODY {
                let barriers = self.barriers(&[old]);
                self.gates.close(slot, barriers);
                self.mark_gate(slot);
            }
        }
        self.demote(map);
        self.gates.wake_all();
        self.wake_retries();
        self.retire_nodes();
        self.settle_topics();
        self.pump();
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Connections to nodes that own nothing any more are closed as soon as nothing is in flight on them.
    fn retire_nodes(&mut self) {
        for node in 0..self.nodes.len() as u16 {
            if self.primaries.contains(&node) {
                continue;
            }
            let entry = &self.nodes[node as usize];
            let links: Vec<LinkKey> = entry.shared.iter().flatten().copied().collect();
            for key in links.into_iter().chain(entry.pool.clone()) {
                if self.links.get(key).is_some_and(Link::is_idle) {
                    self.close_link(key);
                }
            }
        }
    }

    /// All that may be in flight to these nodes on connections that clients share.
    fn barriers(&self, nodes: &[u16]) -> Vec<Barrier<LinkKey>> {
        let links = nodes
            .iter()
            .flat_map(|&node| self.nodes[node as usize].shared.iter().flatten());
        links
            .filter_map(|&key| {
                let link = self.links.get(key)?;
                (!link.is_idle()).then_some(Barrier {
                    link: key,
                    sent: link.sent,
                })
            })
            .collect()
    }

    /// The shared connection to `node`, made when there is none; or when to try again.
    #[inline]
    fn shared_link(&mut self, node: u16, protocol: Protocol) -> Result<LinkKey, u64> {
        match self.nodes[node as usize].shared[protocol as usize] {
            Some(key) => Ok(key),
            None => self.open_link(node, protocol, false),
        }
    }

    fn open_link(&mut self, node: u16, protocol: Protocol, own: bool) -> Result<LinkKey, u64> {
        let now_ms = self.now_ms();
        let entry = &mut self.nodes[node as usize];
        if now_ms < entry.retry_ms {
            return Err(entry.retry_ms);
        }
        let key = self.links.insert(Link::new(node, protocol, own));
        if own {
            entry.owned += 1;
        } else {
            entry.shared[protocol as usize] = Some(key);
        }
        self.actions.push(Action::Open {
            link: key,
            addr: entry.addr.clone(),
            is_larder: entry.is_larder,
            protocol,
        });
        Ok(key)
    }

    /// Forgets a connection on which nothing is in flight.
    fn close_link(&mut self, key: LinkKey) {
        if let Some(link) = self.links.remove(key) {
            let node = &mut self.nodes[link.node as usize];
            node.pool.retain(|&pooled| pooled != key);
            node.owned -= usize::from(link.own);
            for shared in &mut node.shared {
                if *shared == Some(key) {
                    *shared = None;
                }
            }
            if link.up {
                node.counts.connections.add(-1);
            }
            self.actions.push(Action::Close(key));
        }
    }

    /// The shell has connected and opened the link.
    pub(crate) fn link_up(&mut self, key: LinkKey) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        link.up = true;
        link.woken = true;
        let entry = &mut self.nodes[link.node as usize];
        entry.counts.connections.add(1);
        entry.failures = 0;
        entry.retry_ms = 0;
        self.to_write.push(key);
    }

    #[inline]
    pub(crate) fn link(&mut self, key: LinkKey) -> Option<&mut Link> {
        self.links.get_mut(key)
    }

    /// Called after every turn in which anything came in: gates move on, clients that waited for room go on.
    pub(crate) fn pump(&mut self) {
        if self.gates.any_waiting() {
            let links = &self.links;
            self.gates.passed(|barrier| {
                links
                    .get(barrier.link)
                    .is_none_or(|link| link.answered >= barrier.sent)
            });
            for slot in self.gates.rested(self.now_us / 1000) {
                self.probe(slot);
            }
        }
        if !self.stalled.is_empty() && !self.holding {
            self.to_wake.append(&mut self.stalled);
        }
    }

    fn probe(&mut self, slot: Slot) {
        if let Some(held) = self.gates.probe(slot) {
            self.held_bytes -= held.bytes.len();
            self.forward(held.tag, &held.bytes, true);
        }
    }

    /// When [`Switch::tick`] has something to do, in milliseconds; `None` while nothing waits.
    pub(crate) fn next_tick_ms(&self) -> Option<u64> {
        let later = self.later.iter().map(|(due, _)| *due).min();
        let gates = if self.gates.len() > 0 {
            let expiry = Some(self.next_expiry_ms);
            [self.gates.next_rested(), expiry]
                .into_iter()
                .flatten()
                .min()
        } else {
            None
        };
        let demoted = self.demoted.next_due();
        let pubsub = self.pubsub.next_due();
        [later, gates, demoted, pubsub].into_iter().flatten().min()
    }

    /// Time has gone on.
    pub(crate) fn tick(&mut self) {
        let now_ms = self.now_ms();
        if self.gates.len() > 0 && now_ms >= self.next_expiry_ms {
            self.next_expiry_ms = now_ms + 100;
            let over = self
                .gates
                .expire(|held| now_ms.saturating_sub(held.tag.held_ms) > HOLD_MS_MAX);
            for held in over {
                self.held_bytes -= held.bytes.len();
                self.fail(held.tag, &held.error);
            }
        }
        self.settle_demoted();
        self.tick_pubsub();
        let mut due = Vec::new();
        let mut index = 0;
        while index < self.later.len() {
            if self.later[index].0 <= now_ms {
                due.push(self.later.remove(index).1);
            } else {
                index += 1;
            }
        }
        for retry in due {
            match retry {
                Retry::Every(gather) => self.start_every(gather),
                Retry::Watch { tag, bytes } => self.send_watch(tag, &bytes),
                Retry::Park { client, seq } => self.send_parked(client, seq),
            }
        }
        self.pump();
        self.counts.held_bytes.set(self.held_bytes as i64);
        self.counts.gates.set(self.gates.len() as i64);
    }

    fn wake_retries(&mut self) {
        for (due, _) in &mut self.later {
            *due = 0;
        }
    }

    /// The answer of something that the shell did for a client.
    pub(crate) fn complete(&mut self, client: ClientKey, seq: u64, reply: &[u8]) {
        if let Some(entry) = self.clients.get_mut(client) {
            entry.answer(seq, reply);
            self.touch(client);
        }
    }

    #[inline]
    fn touch(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key)
            && !client.touched
        {
            client.touched = true;
            self.touched.push(key);
        }
    }

    /// Nothing of any client is under way.
    pub(crate) fn is_drained(&mut self) -> bool {
        let keys = self.clients.keys();
        keys.into_iter().all(|key| {
            let client = self.clients.get(key);
            client.is_none_or(|client| client.is_idle() && client.unread_bytes() == 0)
        })
    }

    /// A number below `n`, by xorshift.
    fn below(&mut self, n: usize) -> usize {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        (self.chance % n.max(1) as u64) as usize
    }
}

const _: () = assert!(LINK_BYTES_MAX < u32::MAX as usize);
