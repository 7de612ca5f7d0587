//! SUBSCRIBE and its family: one connection a node carries the subscriptions of all clients of a thread.
//!
//! ```text
//! subscribe ─▶ Entry (listeners, homes) ─▶ settle: SUBSCRIBE to every home that has not been asked ─▶ confirmed by all ─▶ the client is told
//! a node's push ─▶ heard ─▶ Entry ─▶ every listener's output
//! a new map, a lost connection, a slot that went ─▶ settle: homes that are missing are asked, others left
//! ```
//!
//! A *home* is a node whose messages count. Larder's nodes keep a message to themselves, so a channel's homes are all primaries, and PUBLISH
//! goes to one of them (and as LARDER PUBLISH, which passes proxies by, to the others): each message comes once, wherever it was published. A Redis
//! Cluster spreads messages itself: one home. A channel of a slot has the slot's owner. Messages of a node that is no home are dropped.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use larder_wire::command::{self, CommandId, Found, Merge};
use larder_wire::resp::reply::{self, ReplyKind};
use larder_wire::resp::{OwnedRequest, Protocol, ReplyScanner, ReplyWriter, Request};
use larder_wire::{Refusal, slot_of};

use super::forward::error_line;
use super::link::{Kind, Link, Tag};
use super::redirect::{self, Refused};
use super::route::Flow;
use super::{Action, Backend, ClientKey, LinkKey, Switch};
use crate::limits::{HOLD_MS_MAX, SUBSCRIPTIONS_MAX};

/// What a subscription is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    Channel,
    Pattern,
    /// A channel that belongs to its slot, as a key does.
    Shard,
}

const TOPICS: [Topic; 3] = [Topic::Channel, Topic::Pattern, Topic::Shard];

impl Topic {
    fn begin(self) -> &'static str {
        match self {
            Topic::Channel => "subscribe",
            Topic::Pattern => "psubscribe",
            Topic::Shard => "ssubscribe",
        }
    }

    fn end(self) -> &'static str {
        match self {
            Topic::Channel => "unsubscribe",
            Topic::Pattern => "punsubscribe",
            Topic::Shard => "sunsubscribe",
        }
    }
}

type Name = Arc<[u8]>;

/// What one client listens to.
#[derive(Default)]
pub(crate) struct Subscriptions {
    names: [BTreeSet<Name>; 3],
    /// A subscription that its homes have not confirmed yet.
    beginning: Option<Beginning>,
}

struct Beginning {
    seq: u64,
    topic: Topic,
    names: Vec<Name>,
    /// What the client gets.
    bytes: Vec<u8>,
}

impl Subscriptions {
    fn count(&self, topic: Topic) -> usize {
        match topic {
            Topic::Channel | Topic::Pattern => self.names[0].len() + self.names[1].len(),
            Topic::Shard => self.names[2].len(),
        }
    }

    fn is_empty(&self) -> bool {
        self.names.iter().all(BTreeSet::is_empty) && self.beginning.is_none()
    }
}

#[derive(Default)]
struct Entry {
    /// By the clients' ids; true: it has been told that its subscription is in force.
    listeners: BTreeMap<u64, (ClientKey, bool)>,
    homes: BTreeMap<u16, Home>,
}

#[derive(Default)]
struct Home {
    wanted: bool,
    /// Confirmations that are to come.
    owed: u32,
}

impl Entry {
    fn is_confirmed(&self) -> bool {
        let mut wanted = self.homes.values().filter(|home| home.wanted).peekable();
        wanted.peek().is_some() && wanted.all(|home| home.owed == 0)
    }
}

/// The connection to one node.
struct Subscriber {
    link: LinkKey,
    /// What it was asked for and has not confirmed, in order.
    owed: VecDeque<(Topic, Name)>,
}

#[derive(Default)]
pub(super) struct PubSub {
    topics: [BTreeMap<Name, Entry>; 3],
    subscribers: BTreeMap<u16, Subscriber>,
    /// The one home of a cluster that spreads messages itself.
    home: Option<u16>,
    /// When to look for homes again, in milliseconds.
    retry_ms: Option<u64>,
    /// When clients stop to wait for a confirmation.
    due: VecDeque<(u64, ClientKey, u64)>,
}

impl PubSub {
    pub(super) fn next_due(&self) -> Option<u64> {
        let due = self.due.front().map(|(due, _, _)| *due);
        [due, self.retry_ms].into_iter().flatten().min()
    }
}

impl Switch {
    pub(crate) fn subscribe(
        &mut self,
        key: ClientKey,
        topic: Topic,
        request: &Request<'_>,
    ) -> Flow {
        if topic == Topic::Shard {
            let mut slots = request.args_from(1).map(slot_of);
            let first = slots.next();
            if slots.any(|slot| Some(slot) != first) {
                return self.refuse(key, &Refusal::CROSS_SLOT);
            }
        }
        if let Flow::Wait = self.alone(key) {
            return Flow::Wait;
        }
        let due_ms = self.now_ms() + HOLD_MS_MAX;
        let Some(client) = self.clients.get_mut(key) else {
            return Flow::Taken;
        };
        let (id, protocol) = (client.info.id, client.protocol);
        let subscriptions = client.subscriptions.get_or_insert_default();
        let held: usize = subscriptions.names.iter().map(BTreeSet::len).sum();
        if held + request.len() - 1 > SUBSCRIPTIONS_MAX {
            let refusal = format!("ERR a client has at most {SUBSCRIPTIONS_MAX} subscriptions");
            self.forget_if_empty(key);
            return self.refuse(key, &Refusal::new(refusal));
        }
        let (mut names, mut bytes) = (Vec::new(), Vec::new());
        for arg in request.args_from(1) {
            let name: Name = arg.into();
            subscriptions.names[topic as usize].insert(name.clone());
            let count = subscriptions.count(topic);
            confirm(&mut bytes, protocol, topic.begin(), Some(arg), count);
            let entry = self.pubsub.topics[topic as usize].entry(name.clone());
            let listeners = &mut entry.or_default().listeners;
            listeners.entry(id).or_insert((key, false));
            names.push(name);
        }
        let seq = client.open_sure_place();
        if let Some(subscriptions) = &mut client.subscriptions {
            subscriptions.beginning = Some(Beginning {
                seq,
                topic,
                names: names.clone(),
                bytes,
            });
        }
        self.tell_counts(key);
        self.pubsub.due.push_back((due_ms, key, seq));
        for name in &names {
            self.settle_topic(topic, name);
        }
        self.confirm_client(key);
        Flow::Taken
    }

    /// From all without arguments; there is always a reply.
    pub(crate) fn unsubscribe(
        &mut self,
        key: ClientKey,
        topic: Topic,
        request: &Request<'_>,
    ) -> Flow {
        let Some(client) = self.clients.get_mut(key) else {
            return Flow::Taken;
        };
        let of_topic = client
            .subscriptions
            .as_ref()
            .map(|all| &all.names[topic as usize]);
        let names: Vec<Name> = if request.len() > 1 {
            request.args_from(1).map(Name::from).collect()
        } else {
            of_topic.map_or_else(Vec::new, |names| names.iter().cloned().collect())
        };
        let (id, protocol) = (client.info.id, client.protocol);
        let mut bytes = Vec::new();
        let mut gone = Vec::new();
        let mut count = client
            .subscriptions
            .as_ref()
            .map_or(0, |all| all.count(topic));
        if names.is_empty() {
            confirm(&mut bytes, protocol, topic.end(), None, count);
        }
        for name in names {
            if let Some(all) = &mut client.subscriptions {
                if all.names[topic as usize].remove(&name) {
                    gone.push(name.clone());
                }
                count = all.count(topic);
            }
            confirm(&mut bytes, protocol, topic.end(), Some(&name), count);
        }
        let seq = client.open_sure_place();
        client.answer(seq, &bytes);
        self.touch(key);
        for name in gone {
            self.stop_listening(topic, &name, id);
        }
        self.forget_if_empty(key);
        Flow::Taken
    }

    /// The client listens to nothing any more, and is told nothing of it.
    pub(crate) fn end_subscriptions(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let id = client.info.id;
        if let Some(all) = client.subscriptions.take() {
            self.drop_subscriptions(id, *all);
        }
        self.tell_counts(key);
    }

    pub(super) fn drop_subscriptions(&mut self, id: u64, all: Subscriptions) {
        for (topic, names) in TOPICS.into_iter().zip(all.names) {
            for name in names {
                self.stop_listening(topic, &name, id);
            }
        }
    }

    fn stop_listening(&mut self, topic: Topic, name: &Name, id: u64) {
        if let Some(entry) = self.pubsub.topics[topic as usize].get_mut(name) {
            entry.listeners.remove(&id);
            if entry.listeners.is_empty() {
                self.settle_topic(topic, name);
            }
        }
    }

    fn forget_if_empty(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key)
            && client
                .subscriptions
                .as_ref()
                .is_some_and(|all| all.is_empty())
        {
            client.subscriptions = None;
        }
        self.tell_counts(key);
    }

    /// For CLIENT LIST.
    fn tell_counts(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key) {
            let all = client.subscriptions.as_ref();
            let counts = all.map_or([0; 3], |all| all.names.each_ref().map(BTreeSet::len));
            client.info.words().subscriptions = counts;
        }
    }

    /// What a client that subscribes by RESP2 may not send, and PING, which it gets answered as a push.
    pub(super) fn request_of_subscriber(
        &mut self,
        key: ClientKey,
        found: Found,
        request: &Request<'_>,
    ) -> Option<Flow> {
        let client = self.clients.get_mut(key)?;
        if client.protocol != Protocol::Resp2 || client.subscriptions.is_none() {
            return None;
        }
        let Found::Command(id) = found else {
            return None;
        };
        match id {
            CommandId::Ping if request.len() <= 2 => {
                let message = request.get(1).unwrap_or_default();
                client.reply(|reply| {
                    reply.array(2);
                    reply.bulk(b"pong");
                    reply.bulk(message);
                });
                Some(Flow::Taken)
            }
            CommandId::Ping
            | CommandId::Subscribe
            | CommandId::Psubscribe
            | CommandId::Ssubscribe
            | CommandId::Unsubscribe
            | CommandId::Punsubscribe
            | CommandId::Sunsubscribe
            | CommandId::Quit
            | CommandId::Reset => None,
            _ => {
                let name = command::spec(id).name;
                let refusal = Refusal::new(format!(
                    "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
                ));
                Some(self.refuse(key, &refusal))
            }
        }
    }

    /// The nodes whose messages count, as far as they are known.
    fn homes_of(&mut self, topic: Topic, name: &[u8]) -> Vec<u16> {
        if topic == Topic::Shard {
            return self.node_of(slot_of(name)).into_iter().collect();
        }
        // What nodes tell of their own keys (__keyspace@0__:…) no cluster spreads.
        if self.backend != Backend::Cluster || name.starts_with(b"__key") {
            return self.primaries.clone();
        }
        if self
            .pubsub
            .home
            .is_none_or(|home| !self.primaries.contains(&home))
        {
            let chosen = self.below(self.primaries.len());
            self.pubsub.home = self.primaries.get(chosen).copied();
        }
        self.pubsub.home.into_iter().collect()
    }

    /// Asks the homes that have not been asked, and leaves those that are none any more.
    fn settle_topic(&mut self, topic: Topic, name: &Name) {
        let Some(entry) = self.pubsub.topics[topic as usize].get(name) else {
            return;
        };
        let homes = match entry.listeners.is_empty() {
            true => Vec::new(),
            false => self.homes_of(topic, name),
        };
        for &node in &homes {
            let entry = self.pubsub.topics[topic as usize].get(name);
            if entry.is_some_and(|entry| entry.homes.get(&node).is_some_and(|home| home.wanted)) {
                continue;
            }
            if self.ask_subscriber(node, topic.begin(), name)
                && let Some(entry) = self.pubsub.topics[topic as usize].get_mut(name)
            {
                let home = entry.homes.entry(node).or_default();
                home.wanted = true;
                home.owed += 1;
                if let Some(subscriber) = self.pubsub.subscribers.get_mut(&node) {
                    subscriber.owed.push_back((topic, name.clone()));
                }
            }
        }
        let Some(entry) = self.pubsub.topics[topic as usize].get_mut(name) else {
            return;
        };
        let mut left = Vec::new();
        for (&node, home) in &mut entry.homes {
            if home.wanted && !homes.contains(&node) {
                home.wanted = false;
                left.push(node);
            }
        }
        for node in left {
            self.ask_subscriber(node, topic.end(), name);
        }
        self.tidy(topic, name);
    }

    /// Forgets what is of no use any more.
    fn tidy(&mut self, topic: Topic, name: &Name) {
        let entries = &mut self.pubsub.topics[topic as usize];
        if let Some(entry) = entries.get_mut(name) {
            entry.homes.retain(|_, home| home.wanted || home.owed > 0);
            if entry.listeners.is_empty() && entry.homes.is_empty() {
                entries.remove(name);
            }
        }
    }

    /// Sends the node's subscriber a command with this name. False when there is no connection to be had for now.
    fn ask_subscriber(&mut self, node: u16, word: &str, name: &[u8]) -> bool {
        let now_ms = self.now_ms();
        let link = match self.pubsub.subscribers.get(&node) {
            Some(subscriber) => subscriber.link,
            None => {
                let entry = &self.nodes[node as usize];
                if now_ms < entry.retry_ms {
                    self.pubsub.retry_ms = Some(entry.retry_ms);
                    return false;
                }
                let link = self.links.insert(Link::subscriber(node));
                self.actions.push(Action::Open {
                    link,
                    addr: entry.addr.clone(),
                    is_larder: entry.is_larder,
                    protocol: Protocol::Resp3,
                });
                let owed = VecDeque::new();
                self.pubsub
                    .subscribers
                    .insert(node, Subscriber { link, owed });
                link
            }
        };
        let args: [&[u8]; 2] = [word.as_bytes(), name];
        let bytes = OwnedRequest::from_args(args).into_bytes();
        if let Some(entry) = self.links.get_mut(link) {
            entry.push_unanswered(&bytes);
            if !entry.woken {
                entry.woken = true;
                self.to_write.push(link);
            }
        }
        true
    }

    /// The map has changed, or a node that was away may be back.
    pub(super) fn settle_topics(&mut self) {
        for topic in TOPICS {
            let names: Vec<Name> = self.pubsub.topics[topic as usize].keys().cloned().collect();
            for name in names {
                self.settle_topic(topic, &name);
                self.confirm_entry(topic, &name);
            }
        }
        let unneeded = self.pubsub.subscribers.keys().copied();
        let unneeded: Vec<u16> = unneeded
            .filter(|node| !self.primaries.contains(node))
            .collect();
        for node in unneeded {
            if let Some(subscriber) = self.pubsub.subscribers.remove(&node) {
                self.close_link(subscriber.link);
                self.forget_home(node);
            }
        }
    }

    fn forget_home(&mut self, node: u16) {
        for entry in self.pubsub.topics.iter_mut().flat_map(BTreeMap::values_mut) {
            entry.homes.remove(&node);
        }
    }

    /// The connection that carried the subscriptions at this node is lost.
    pub(super) fn subscriber_lost(&mut self, node: u16) {
        self.pubsub.subscribers.remove(&node);
        if self.pubsub.home == Some(node) {
            self.pubsub.home = None;
        }
        self.forget_home(node);
        self.settle_topics();
    }

    pub(super) fn tick_pubsub(&mut self) {
        let now_ms = self.now_ms();
        if self
            .pubsub
            .retry_ms
            .is_some_and(|retry_ms| retry_ms <= now_ms)
        {
            self.pubsub.retry_ms = None;
            self.settle_topics();
        }
        while let Some(&(due_ms, client, seq)) = self.pubsub.due.front() {
            if due_ms > now_ms {
                break;
            }
            self.pubsub.due.pop_front();
            let error = error_line(&Refusal::CLUSTER_DOWN);
            self.fail_beginning(client, seq, &error);
        }
    }

    /// The client's subscription does not come about.
    fn fail_beginning(&mut self, key: ClientKey, seq: u64, error: &[u8]) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let id = client.info.id;
        let Some(all) = &mut client.subscriptions else {
            return;
        };
        let Some(failed) = all.beginning.take_if(|beginning| beginning.seq == seq) else {
            return;
        };
        for name in &failed.names {
            all.names[failed.topic as usize].remove(name);
        }
        client.answer(seq, error);
        self.counts
            .error(reply::error_code(error).unwrap_or_default());
        self.touch(key);
        for name in &failed.names {
            self.stop_listening(failed.topic, name, id);
        }
        self.forget_if_empty(key);
    }

    /// Tells every client that has waited for this alone.
    fn confirm_entry(&mut self, topic: Topic, name: &Name) {
        let Some(entry) = self.pubsub.topics[topic as usize].get(name) else {
            return;
        };
        if !entry.is_confirmed() {
            return;
        }
        let waiting = entry.listeners.values().filter(|(_, told)| !told);
        let waiting: Vec<ClientKey> = waiting.map(|(client, _)| *client).collect();
        for client in waiting {
            self.confirm_client(client);
        }
    }

    /// Tells the client that its subscription is in force, as soon as it is with all its names.
    fn confirm_client(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let id = client.info.id;
        let Some(all) = &mut client.subscriptions else {
            return;
        };
        let entries = &mut self.pubsub.topics;
        let is_ready = |beginning: &mut Beginning| {
            let of_topic = &entries[beginning.topic as usize];
            let mut names = beginning.names.iter();
            names.all(|name| of_topic.get(name).is_some_and(Entry::is_confirmed))
        };
        let Some(ready) = all.beginning.take_if(is_ready) else {
            return;
        };
        for name in &ready.names {
            let entry = entries[ready.topic as usize].get_mut(name);
            if let Some((_, told)) = entry.and_then(|entry| entry.listeners.get_mut(&id)) {
                *told = true;
            }
        }
        client.answer(ready.seq, &ready.bytes);
        self.touch(key);
    }

    /// A push on a connection that carries subscriptions.
    pub(super) fn heard(&mut self, key: LinkKey, push: &[u8]) -> Result<(), &'static str> {
        const ODD: &str = "sent a push that cannot be read";
        let node = self.links.get(key).map_or(super::NOBODY, |link| link.node);
        let (_, start) = reply::array_header(push).ok_or(ODD)?;
        let (word, at) = bulk_at(push, start).ok_or(ODD)?;
        let name = bulk_at(push, at).map(|(name, _)| name);
        let topic = match word {
            b"message" => Topic::Channel,
            b"pmessage" => Topic::Pattern,
            b"smessage" => Topic::Shard,
            b"subscribe" | b"psubscribe" | b"ssubscribe" => {
                return self
                    .subscribed(node)
                    .ok_or("confirmed what nobody asked for");
            }
            b"sunsubscribe" => {
                if let Some(name) = name {
                    self.slot_went(node, &Name::from(name));
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        let entry = name.and_then(|name| self.pubsub.topics[topic as usize].get(name));
        let Some(entry) = entry.filter(|entry| entry.homes.get(&node).is_some_and(|h| h.wanted))
        else {
            return Ok(());
        };
        for (listener, told) in entry.listeners.values() {
            if *told && let Some(client) = self.clients.get_mut(*listener) {
                client.push(push);
                if !client.touched {
                    client.touched = true;
                    self.touched.push(*listener);
                }
            }
        }
        Ok(())
    }

    fn subscribed(&mut self, node: u16) -> Option<()> {
        let (topic, name) = self.pubsub.subscribers.get_mut(&node)?.owed.pop_front()?;
        let entry = self.pubsub.topics[topic as usize].get_mut(&name)?;
        entry.homes.get_mut(&node)?.owed -= 1;
        self.tidy(topic, &name);
        self.confirm_entry(topic, &name);
        Some(())
    }

    /// The node has ended the subscription by itself: the slot is another's.
    fn slot_went(&mut self, node: u16, name: &Name) {
        let entry = self.pubsub.topics[Topic::Shard as usize].get_mut(name);
        let Some(home) = entry.and_then(|entry| entry.homes.get_mut(&node)) else {
            return;
        };
        // The answer to an UNSUBSCRIBE before the subscription that is under way.
        if !home.wanted || home.owed > 0 {
            return;
        }
        home.wanted = false;
        self.tidy(Topic::Shard, name);
        self.actions.push(Action::Refresh);
        self.pubsub.retry_ms = Some(self.now_ms() + self.pause(1));
    }

    /// A node's refusal of the oldest subscription that it has not confirmed.
    pub(super) fn heard_refusal(&mut self, key: LinkKey, error: &[u8]) -> Result<(), &'static str> {
        const ODD: &str = "sent a reply that nothing asked for";
        let node = self.links.get(key).map(|link| link.node).ok_or(ODD)?;
        if reply::kind(error) != ReplyKind::Error {
            return Err(ODD);
        }
        let subscriber = self.pubsub.subscribers.get_mut(&node).ok_or(ODD)?;
        let (topic, name) = subscriber.owed.pop_front().ok_or(ODD)?;
        let entry = self.pubsub.topics[topic as usize].get_mut(&name);
        let mut waiting = Vec::new();
        if let Some(entry) = entry {
            if let Some(home) = entry.homes.get_mut(&node) {
                home.owed -= 1;
                home.wanted = false;
            }
            let untold = entry.listeners.values().filter(|(_, told)| !told);
            waiting.extend(untold.map(|(client, _)| *client));
        }
        self.tidy(topic, &name);
        self.pubsub.retry_ms = Some(self.now_ms() + self.pause(3));
        match redirect::classify(error) {
            Refused::Moved { slot, addr } => {
                let answered_by = self.nodes[node as usize].addr.clone();
                let owner = self.node_at(&redirect::resolve(addr, &answered_by));
                if self.node_of(slot) != Some(owner) && !self.is_outdated(owner, 0) {
                    self.bounce_route(slot, owner);
                }
                self.actions.push(Action::Refresh);
            }
            Refused::Ask { .. } | Refused::Later => self.actions.push(Action::Refresh),
            Refused::Final => {
                for client in waiting {
                    let all = self
                        .clients
                        .get(client)
                        .and_then(|c| c.subscriptions.as_ref());
                    if let Some(beginning) = all.and_then(|all| all.beginning.as_ref()) {
                        let seq = beginning.seq;
                        self.fail_beginning(client, seq, error);
                    }
                }
            }
        }
        Ok(())
    }

    /// PUBLISH: to one node, whose message every proxy hears; Larder's others tell those who listen to them directly.
    pub(super) fn publish(&mut self, key: ClientKey, request: &Request<'_>) -> Flow {
        let Some(client) = self.clients.get_mut(key) else {
            return Flow::Taken;
        };
        let protocol = client.protocol;
        let channel = request.arg(1);
        let home = self
            .node_of(slot_of(channel))
            .filter(|home| self.primaries.contains(home));
        let Some(home) = home.or(self.primaries.first().copied()) else {
            return self.refuse(key, &Refusal::CLUSTER_DOWN);
        };
        let mut nodes = vec![home];
        if self.backend == Backend::Larder {
            nodes.extend(self.primaries.iter().filter(|&&node| node != home));
        }
        let has_room = nodes.iter().all(|&node| {
            let link = self.nodes[node as usize].shared[protocol as usize];
            let link = link.and_then(|link| self.links.get(link));
            link.is_none_or(Link::has_room)
        });
        if !has_room {
            return self.stall(key);
        }
        let Some(client) = self.clients.get_mut(key) else {
            return Flow::Taken;
        };
        let seq = client.open_place();
        let tag = self.tag(key, seq, None, CommandId::Publish, protocol, Kind::Plain);
        let mut gather = self.make_gather(&tag, Merge::Sum);
        let shares: Vec<u32> = nodes.iter().map(|_| gather.add_share()).collect();
        let gather = self.gathers.insert(gather);
        let args: [&[u8]; 4] = [b"LARDER", b"PUBLISH", channel, request.arg(2)];
        let beside = OwnedRequest::from_args(args).into_bytes();
        for (node, share) in nodes.into_iter().zip(shares) {
            let kind = Kind::Share { gather, share };
            let bytes = if share == 0 { request.bytes() } else { &beside };
            self.send_to(node, Tag { kind, ..tag }, bytes, false);
        }
        Flow::Taken
    }

    /// A node was not reached. A message is never published twice: the client is told, unless others than the home failed.
    pub(super) fn publish_came_back(&mut self, tag: &Tag, error: &[u8]) {
        if let Kind::Share { gather, share } = tag.kind {
            let answer = if share == 0 { error } else { b":0\r\n" };
            self.gathered(gather, share, answer);
        }
    }
}

/// What a client is told of a subscription that began or ended, with the count of those that it has then.
fn confirm(out: &mut Vec<u8>, protocol: Protocol, word: &str, name: Option<&[u8]>, count: usize) {
    let mut reply = ReplyWriter::new(out, protocol);
    reply.push(3);
    reply.bulk(word.as_bytes());
    match name {
        Some(name) => reply.bulk(name),
        None => reply.null(),
    }
    reply.int(count as i64);
}

/// The bulk string at `at`, and where the next element begins.
fn bulk_at(push: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = push.get(at..)?;
    let len = ReplyScanner::new().scan(rest).ok()??;
    let start = rest.iter().position(|&byte| byte == b'\n')? + 1;
    if rest.first() != Some(&b'$') || start + 2 > len {
        return None;
    }
    Some((&rest[start..len - 2], at + len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_push_are_found() {
        let push = b">3\r\n$7\r\nmessage\r\n$2\r\na\n\r\n$0\r\n\r\n";
        let (_, start) = reply::array_header(push).unwrap();
        let (word, at) = bulk_at(push, start).unwrap();
        assert_eq!(word, b"message");
        let (name, at) = bulk_at(push, at).unwrap();
        assert_eq!(name, b"a\n");
        let (message, at) = bulk_at(push, at).unwrap();
        assert_eq!((message, at), (&b""[..], push.len()));
        assert_eq!(bulk_at(push, at), None);
        assert_eq!(bulk_at(b"$-1\r\n", 0), None);
    }
}
