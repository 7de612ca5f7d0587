//! Who listens to what: channels, patterns, and channels that belong to slots.
//!
//! Each subscription is held twice, by its client (to end with it) and by the register (to be found by a message); both change
//! together, here alone. A message is written once for each protocol that has listeners, and its bytes are posted to each of them. Knows
//! neither commands nor sockets.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use larder_wire::resp::{Protocol, ReplyWriter};
use larder_wire::{Slot, SlotSet, glob, slot_of};

use crate::client::Client;

/// What a subscription is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    Channel,
    Pattern,
    /// A channel that belongs to its slot, as a key does.
    Shard,
}

impl Topic {
    pub const ALL: [Topic; 3] = [Topic::Channel, Topic::Pattern, Topic::Shard];

    /// The first word of the reply to a subscription.
    pub fn subscribed(self) -> &'static str {
        match self {
            Topic::Channel => "subscribe",
            Topic::Pattern => "psubscribe",
            Topic::Shard => "ssubscribe",
        }
    }

    /// The first word of the reply to its end.
    pub fn unsubscribed(self) -> &'static str {
        match self {
            Topic::Channel => "unsubscribe",
            Topic::Pattern => "punsubscribe",
            Topic::Shard => "sunsubscribe",
        }
    }
}

type Name = Rc<[u8]>;

/// What a subscription takes beside its name, about.
const NAME_BYTES: usize = 64;
/// The clients of one topic, by id.
type Listeners = BTreeMap<u64, Rc<Client>>;

/// What one client listens to. The number orders names as they were subscribed to.
#[derive(Debug, Default)]
pub struct Subscriptions {
    names: [BTreeMap<Name, u64>; 3],
    last: u64,
    bytes: usize,
}

impl Subscriptions {
    pub fn len(&self, topic: Topic) -> usize {
        self.names[topic as usize].len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.iter().all(BTreeMap::is_empty)
    }

    /// The count that the replies about `topic` show: those of channels and patterns are one.
    pub fn shown(&self, topic: Topic) -> usize {
        match topic {
            Topic::Channel | Topic::Pattern => self.len(Topic::Channel) + self.len(Topic::Pattern),
            Topic::Shard => self.len(Topic::Shard),
        }
    }

    /// In the order of subscription.
    pub fn names(&self, topic: Topic) -> Vec<Name> {
        let mut names: Vec<_> = self.names[topic as usize].iter().collect();
        names.sort_unstable_by_key(|(_, number)| **number);
        names.into_iter().map(|(name, _)| Rc::clone(name)).collect()
    }

    /// Bytes that they hold, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn add(&mut self, topic: Topic, name: &[u8]) -> Option<Name> {
        let names = &mut self.names[topic as usize];
        if names.contains_key(name) {
            return None;
        }
        let name: Name = name.into();
        self.last += 1;
        self.bytes += name.len() + NAME_BYTES;
        names.insert(Rc::clone(&name), self.last);
        Some(name)
    }

    fn remove(&mut self, topic: Topic, name: &[u8]) -> bool {
        let removed = self.names[topic as usize].remove(name).is_some();
        if removed {
            self.bytes -= name.len() + NAME_BYTES;
        }
        removed
    }
}

/// Every subscription of a node.
#[derive(Debug, Default)]
pub struct PubSub {
    channels: HashMap<Name, Listeners>,
    patterns: BTreeMap<Name, Listeners>,
    shards: BTreeMap<Slot, HashMap<Name, Listeners>>,
}

impl PubSub {
    /// False when the client listened to it before.
    pub fn subscribe(&mut self, topic: Topic, client: &Rc<Client>, name: &[u8]) -> bool {
        let Some(name) = client.subscriptions.borrow_mut().add(topic, name) else {
            return false;
        };
        let listeners = match topic {
            Topic::Channel => self.channels.entry(name).or_default(),
            Topic::Pattern => self.patterns.entry(name).or_default(),
            Topic::Shard => {
                let of_slot = self.shards.entry(slot_of(&name)).or_default();
                of_slot.entry(name).or_default()
            }
        };
        listeners.insert(client.id, Rc::clone(client));
        true
    }

    /// False when the client did not listen to it.
    pub fn unsubscribe(&mut self, topic: Topic, client: &Client, name: &[u8]) -> bool {
        if !client.subscriptions.borrow_mut().remove(topic, name) {
            return false;
        }
        match topic {
            Topic::Channel => {
                if leave(self.channels.get_mut(name), client) {
                    self.channels.remove(name);
                }
            }
            Topic::Pattern => {
                if leave(self.patterns.get_mut(name), client) {
                    self.patterns.remove(name);
                }
            }
            Topic::Shard => {
                let slot = slot_of(name);
                let Some(of_slot) = self.shards.get_mut(&slot) else {
                    return true;
                };
                if leave(of_slot.get_mut(name), client) {
                    of_slot.remove(name);
                }
                if of_slot.is_empty() {
                    self.shards.remove(&slot);
                }
            }
        }
        true
    }

    /// All subscriptions of a client end, without a word to it.
    pub fn forget(&mut self, client: &Client) {
        if client.subscriptions.borrow().is_empty() {
            return;
        }
        for topic in Topic::ALL {
            let names = client.subscriptions.borrow().names(topic);
            for name in names {
                self.unsubscribe(topic, client, &name);
            }
        }
    }

    /// Nobody listens to channels or patterns: a message would reach no one.
    #[inline]
    pub fn is_silent(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty()
    }

    /// Returns how often the message was delivered: to a channel's listeners, and to those of each pattern that its name matches.
    pub fn publish(&self, channel: &[u8], message: &[u8]) -> usize {
        self.publish_to(|_| true, channel, message)
    }

    /// As [`PubSub::publish`], but not to proxies: they hear of the message at another node.
    pub fn publish_beside(&self, channel: &[u8], message: &[u8]) -> usize {
        self.publish_to(|client| !client.trust.get().has_control(), channel, message)
    }

    fn publish_to(&self, to: fn(&Client) -> bool, channel: &[u8], message: &[u8]) -> usize {
        let mut count = 0;
        if let Some(listeners) = self.channels.get(channel) {
            count += deliver(listeners, to, &[b"message", channel, message]);
        }
        for (pattern, listeners) in &self.patterns {
            if glob::matches(pattern, channel) {
                count += deliver(listeners, to, &[b"pmessage", pattern, channel, message]);
            }
        }
        count
    }

    /// As [`PubSub::publish`], to the listeners of a channel of a slot.
    pub fn publish_shard(&self, channel: &[u8], message: &[u8]) -> usize {
        let of_slot = self.shards.get(&slot_of(channel));
        of_slot
            .and_then(|of_slot| of_slot.get(channel))
            .map_or(0, |listeners| {
                deliver(listeners, |_| true, &[b"smessage", channel, message])
            })
    }

    /// These slots are another node's from here on: who listens to channels of them is told so.
    pub fn drop_slots(&mut self, slots: &SlotSet) {
        let gone: Vec<Slot> = self
            .shards
            .keys()
            .copied()
            .filter(|slot| slots.contains(*slot))
            .collect();
        for (name, listeners) in gone
            .iter()
            .filter_map(|slot| self.shards.remove(slot))
            .flat_map(sorted)
        {
            for client in listeners.values() {
                let mut subscriptions = client.subscriptions.borrow_mut();
                subscriptions.remove(Topic::Shard, &name);
                if subscriptions.is_empty() {
                    client.subscriber.set(false);
                }
                let left = subscriptions.shown(Topic::Shard);
                client.post(|reply| {
                    confirm(reply, Topic::Shard.unsubscribed(), Some(&name), left);
                });
            }
        }
    }

    /// The channels that somebody listens to, in order of their names.
    pub fn channels(&self) -> Vec<&[u8]> {
        let mut names: Vec<&[u8]> = self.channels.keys().map(|name| &**name).collect();
        names.sort_unstable();
        names
    }

    pub fn shard_channels(&self) -> Vec<&[u8]> {
        let names = self.shards.values().flat_map(HashMap::keys);
        let mut names: Vec<&[u8]> = names.map(|name| &**name).collect();
        names.sort_unstable();
        names
    }

    pub fn listeners(&self, channel: &[u8]) -> usize {
        self.channels.get(channel).map_or(0, BTreeMap::len)
    }

    pub fn shard_listeners(&self, channel: &[u8]) -> usize {
        let of_slot = self.shards.get(&slot_of(channel));
        of_slot
            .and_then(|of_slot| of_slot.get(channel))
            .map_or(0, BTreeMap::len)
    }

    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// Patterns, however many listen to each.
    pub fn pattern_count(&self) -> usize {
        self.patterns.len()
    }

    pub fn shard_channel_count(&self) -> usize {
        self.shards.values().map(HashMap::len).sum()
    }
}

/// True when nobody is left.
fn leave(listeners: Option<&mut Listeners>, client: &Client) -> bool {
    listeners.is_some_and(|listeners| {
        listeners.remove(&client.id);
        listeners.is_empty()
    })
}

/// One seed gives one run: what is told to many goes by the order of names.
fn sorted(of_slot: HashMap<Name, Listeners>) -> BTreeMap<Name, Listeners> {
    of_slot.into_iter().collect()
}

/// Posts a push of these parts to everyone whom `to` names; returns how many they are.
fn deliver(listeners: &Listeners, to: fn(&Client) -> bool, parts: &[&[u8]]) -> usize {
    let (mut resp2, mut resp3) = (None, None);
    let mut count = 0;
    for client in listeners.values().filter(|client| to(client)) {
        count += 1;
        let (written, protocol) = if client.resp3.get() {
            (&mut resp3, Protocol::Resp3)
        } else {
            (&mut resp2, Protocol::Resp2)
        };
        client.post_bytes(written.get_or_insert_with(|| push_of(parts, protocol)));
    }
    count
}

fn push_of(parts: &[&[u8]], protocol: Protocol) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut reply = ReplyWriter::new(&mut bytes, protocol);
    reply.push(parts.len());
    for part in parts {
        reply.bulk(part);
    }
    bytes
}

/// What a client is told of a subscription that began or ended, with the count of those that it has then.
pub fn confirm(reply: &mut ReplyWriter<'_>, word: &str, name: Option<&[u8]>, count: usize) {
    reply.push(3);
    reply.bulk(word.as_bytes());
    match name {
        Some(name) => reply.bulk(name),
        None => reply.null(),
    }
    reply.int(count as i64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::{Rules, User};
    use crate::client::Clients;

    struct Fixture {
        pubsub: PubSub,
        clients: Clients,
    }

    impl Fixture {
        fn new() -> Fixture {
            Fixture {
                pubsub: PubSub::default(),
                clients: Clients::default(),
            }
        }

        fn client(&mut self) -> Rc<Client> {
            let user = Rc::new(User::new(b"default", Rules::all()));
            self.clients.add("a:1".into(), "b:2".into(), &user, 0)
        }
    }

    fn post_of(client: &Client) -> String {
        let mut out = Vec::new();
        client.take_post(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_message_reaches_listeners_of_the_channel_and_of_each_matching_pattern() {
        let mut it = Fixture::new();
        let (one, two) = (it.client(), it.client());
        two.resp3.set(true);
        assert!(it.pubsub.subscribe(Topic::Channel, &one, b"news"));
        assert!(!it.pubsub.subscribe(Topic::Channel, &one, b"news"));
        assert!(it.pubsub.subscribe(Topic::Pattern, &two, b"n*"));
        assert!(it.pubsub.subscribe(Topic::Pattern, &two, b"x*"));
        assert_eq!(it.pubsub.publish(b"news", b"hi"), 2);
        assert_eq!(it.pubsub.publish(b"other", b"hi"), 0);
        assert_eq!(
            post_of(&one),
            "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n"
        );
        assert_eq!(
            post_of(&two),
            ">4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n$2\r\nhi\r\n"
        );
    }

    #[test]
    fn channels_of_slots_are_apart_from_others_and_go_with_their_slot() {
        let mut it = Fixture::new();
        let one = it.client();
        one.subscriber.set(true);
        it.pubsub.subscribe(Topic::Shard, &one, b"news");
        assert_eq!(it.pubsub.publish(b"news", b"hi"), 0);
        assert_eq!(it.pubsub.publish_shard(b"news", b"hi"), 1);
        post_of(&one);
        let mut slots = SlotSet::new();
        slots.insert(slot_of(b"news"));
        it.pubsub.drop_slots(&slots);
        assert_eq!(
            post_of(&one),
            "*3\r\n$12\r\nsunsubscribe\r\n$4\r\nnews\r\n:0\r\n"
        );
        assert!(!one.subscriber.get());
        assert_eq!(it.pubsub.publish_shard(b"news", b"hi"), 0);
        assert_eq!(it.pubsub.shard_channel_count(), 0);
    }

    #[test]
    fn a_client_that_goes_leaves_nothing_behind() {
        let mut it = Fixture::new();
        let one = it.client();
        for topic in Topic::ALL {
            it.pubsub.subscribe(topic, &one, b"a");
            it.pubsub.subscribe(topic, &one, b"b");
        }
        it.pubsub.forget(&one);
        assert!(it.pubsub.is_silent());
        assert_eq!(it.pubsub.shard_channel_count(), 0);
        assert!(one.subscriptions.borrow().is_empty());
        assert_eq!(Rc::strong_count(&one), 2);
    }

    #[test]
    fn names_come_in_the_order_of_subscription() {
        let mut it = Fixture::new();
        let one = it.client();
        for name in [b"c", b"a", b"b"] {
            it.pubsub.subscribe(Topic::Pattern, &one, name);
        }
        let names = one.subscriptions.borrow().names(Topic::Pattern);
        assert_eq!(
            names.iter().map(|name| &**name).collect::<Vec<_>>(),
            [b"c", b"a", b"b"]
        );
    }
}
